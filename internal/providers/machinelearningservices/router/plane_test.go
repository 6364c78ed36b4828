package router_test

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/trace"
)

func TestNetwork(t *testing.T) {
	w := newWorld(t)
	i, _ := w.runs("a", says("ok"))
	w.fleetOf("blue", i)
	const pe = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.Network/privateEndpoints/pe"
	through := func(id string) { w.from = arrival.Arrival{Kind: arrival.PrivateEndpoint, Endpoint: id} }
	w.wants("public access to a public endpoint", w.score("{}"), 200, "ok")
	w.change(func(ep *router.Endpoint) { ep.Public = false })
	got := w.score("{}")
	w.wants("public access to a private endpoint", got, 403, "Public network access is disabled")
	w.wants("the network comes before the credential", w.score("{}", "Authorization", ""), 403, "Public network access is disabled")
	through(pe)
	w.wants("an endpoint that is not approved", w.score("{}"), 403, "disabled")
	w.approved["other "+pe] = true
	w.wants("another workspace's endpoint", w.score("{}"), 403, "disabled")
	w.approved["ws "+pe] = true
	w.wants("an approved endpoint", w.score("{}"), 200, "ok")
	w.wants("an approved endpoint and a wrong key", w.score("{}", "Authorization", "Bearer nope"), 401, "key_auth_access_denied")
	w.from = arrival.Arrival{Kind: arrival.TrustedService}
	w.wants("a trusted service, which no bypass lets in", w.score("{}"), 403, "disabled")
	if len(w.records) == 0 || w.records[0].Hops[0].Step != "network" || w.records[0].Hops[0].OK {
		t.Errorf("what is told of the refusal: %+v", w.records)
	}
}

func TestCredentials(t *testing.T) {
	w := newWorld(t)
	i, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "authorization="+r.Header.Get("Authorization"))
	})
	w.fleetOf("blue", i)
	w.may["scorer "+router.Action+" "+resource] = true
	w.may["elsewhere "+router.Action+" "+workspace+"/onlineEndpoints/other"] = true
	mode := func(m string) { w.change(func(ep *router.Endpoint) { ep.AuthMode = m }) }
	for _, c := range []struct {
		mode, given string
		status      int
		text        string
	}{
		{router.AuthKey, "Bearer " + key, 200, "authorization="},
		{router.AuthKey, "bearer   " + key, 200, "authorization="},
		{router.AuthKey, "Bearer nope", 401, "key_auth_access_denied"},
		{router.AuthKey, "Bearer h.scorer.s", 401, "key_auth_access_denied"},
		{router.AuthKey, key, 401, "key_auth_bad_header_format"},
		{router.AuthKey, "Basic " + key, 401, "key_auth_bad_header_format"},
		{router.AuthKey, "Bearer " + key + ", Bearer x", 401, "key_auth_bad_header_format"},
		{router.AuthKey, "", 401, "key_auth_bad_header_format"},
		{router.AuthAML, "Bearer own.token", 200, "authorization="},
		{router.AuthAML, "Bearer old.token", 401, "token_auth_access_denied"},
		{router.AuthAML, "Bearer " + key, 401, "token_auth_access_denied"},
		{router.AuthAML, "", 401, "token_auth_bad_header_format"},
		{router.AuthAAD, "Bearer h.scorer.s", 200, "authorization="},
		{router.AuthAAD, "Bearer h.nobody.s", 401, "token_auth_access_denied: The principal nobody has no role with the action '" + router.Action},
		{router.AuthAAD, "Bearer h.elsewhere.s", 401, "token_auth_access_denied"},
		{router.AuthAAD, "Bearer rubbish", 401, "token_auth_access_denied"},
		{router.AuthAAD, "Bearer " + key, 401, "token_auth_access_denied"},
		{router.AuthAAD, "", 401, "token_auth_bad_header_format"},
	} {
		mode(c.mode)
		got := w.score("{}", "Authorization", c.given)
		w.wants(c.mode+" "+c.given, got, c.status, c.text)
		if got.status == 200 && got.body != "authorization=" {
			t.Errorf("%s: the container got the credential: %s", c.mode, got.body)
		}
	}
	w.change(func(ep *router.Endpoint) { ep.AuthMode, ep.Key, ep.Token = router.AuthKey, nil, nil })
	w.wants("an endpoint without keys", w.score("{}"), 401, "key_auth_access_denied")
	if n := w.metric("laz_scoring_refused_total", "endpoint=ep", "status=401"); n != 15 {
		t.Errorf("%v refusals were counted, want 15", n)
	}
}

func TestUnknownHost(t *testing.T) {
	w := newWorld(t)
	r := w.request("POST", "/score", "{}")
	r.Host = "nobody.eastus.inference.ml.azure.com"
	w.wants("an unknown endpoint", do(w.client, r), 404, "EndpointNotFound")
	r = w.request("POST", "/score", "{}")
	r.Host = strings.ToUpper(host) + ":443"
	w.wants("a name in upper case, with a port", do(w.client, r), 424, "model_not_ready")
}

func TestChoice(t *testing.T) {
	w := newWorld(t)
	blue, _ := w.runs("b", says("blue"))
	green, _ := w.runs("g", says("green"))
	w.fleetOf("blue", blue)
	w.fleetOf("green", green)
	got := w.score("{}")
	w.wants("by traffic", got, 200, "blue")
	if d := got.header.Get("azureml-model-deployment"); d != "blue" {
		t.Errorf("azureml-model-deployment: %q", d)
	}
	w.wants("by name", w.score("{}", "azureml-model-deployment", "green"), 200, "green")
	w.wants("by name, in another case", w.score("{}", "azureml-model-deployment", "GREEN"), 200, "green")
	w.wants("by a name that is none", w.score("{}", "azureml-model-deployment", "red"), 404, "has no deployment 'red'")
	w.change(func(ep *router.Endpoint) { ep.Traffic = map[string]int{"blue": 0} })
	w.wants("without traffic", w.score("{}"), 404, "no deployment with traffic")
	w.wants("by name, without traffic", w.score("{}", "azureml-model-deployment", "blue"), 200, "blue")
	w.change(func(ep *router.Endpoint) { ep.Traffic = map[string]int{"gone": 100} })
	w.wants("traffic of a deployment that is not there", w.score("{}"), 404, "no deployment with traffic")
	var last trace.Trace
	for _, r := range w.records {
		last = r
	}
	if h := last.Hops[len(last.Hops)-1]; h.Step != "traffic" || !strings.Contains(h.Fix, "--traffic") {
		t.Errorf("what is told of it: %+v", last.Hops)
	}
}

// TestWire: what an instance gets, and what the caller gets of its answer.
func TestWire(t *testing.T) {
	w := newWorld(t)
	var seen http.Header
	var line string
	i, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		seen, line = r.Header.Clone(), r.Method+" "+r.RequestURI+" "+r.Host
		h := rw.Header()
		h.Set("Server", "uvicorn")
		h.Set("X-Request-Id", "its own")
		h.Set("Connection", "X-Inner")
		h.Set("X-Inner", "secret")
		h.Set("X-Ms-Run-Function-Failed", "False")
		body, _ := io.ReadAll(r.Body)
		_, _ = rw.Write(body)
	})
	w.fleetOf("blue", i)
	got := do(w.http1(), w.request("POST", "/score?x=%2F&y=1", `{"a":1}`, "Content-Type", "application/json", "Connection", "X-Gone, keep-alive", "X-Gone", "1", "X-Kept", "2",
		"X-Forwarded-For", "10.0.0.1", "Forwarded", "for=10.0.0.1", "X-Ms-Client-Request-Id", "mine", "Te", "trailers", "Upgrade", "websocket", "azureml-model-deployment", "blue", "X-Request-Id", "forged"))
	w.wants("an echo", got, 200, `{"a":1}`)
	if want := "POST /score?x=%2F&y=1 " + host; line != want {
		t.Errorf("the instance got %q, want %q", line, want)
	}
	for _, name := range []string{"Authorization", "X-Gone", "Connection", "X-Forwarded-For", "Forwarded", "Upgrade", "Te", "Azureml-Model-Deployment"} {
		if v, ok := seen[name]; ok {
			t.Errorf("the instance got %s: %q", name, v)
		}
	}
	id := got.header.Get("x-request-id")
	for name, want := range map[string]string{"X-Kept": "2", "X-Ms-Client-Request-Id": "mine", "X-Request-Id": id, "X-Ms-Request-Id": "", "Content-Type": "application/json"} {
		if v := seen.Get(name); v != want {
			t.Errorf("the instance got %s %q, want %q", name, v, want)
		}
	}
	if len(id) != 36 || got.header.Get("x-ms-request-id") != id || got.header.Get("x-inner") != "" || got.header.Get("server") != "uvicorn" || got.header.Get("x-ms-run-function-failed") != "False" || got.header.Get("ms-azureml-model-time") == "" {
		t.Errorf("the answer's header: %v", got.header)
	}
	if a := do(w.client, w.request("GET", "/swagger.json?version=3", "")); a.status != 200 || line != "GET /swagger.json?version=3 "+host {
		t.Errorf("swagger: %d, %s", a.status, line)
	}
	if a := do(w.client, w.request("GET", "//a%2Fb/../c", "")); a.status != 200 || line != "GET //a%2Fb/../c "+host {
		t.Errorf("a path that looks odd: %d, %s", a.status, line)
	}
}

func TestModelStatus(t *testing.T) {
	w := newWorld(t)
	i, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(number(r.Header.Get("X-Answer")))
		if r.Header.Get("X-Answer") != "204" {
			_, _ = io.WriteString(rw, `{"message":"why"}`)
		}
	})
	w.fleetOf("blue", i)
	for status, want := range map[string]int{"200": 200, "201": 424, "204": 424, "400": 424, "404": 424, "429": 424, "500": 424, "503": 424} {
		got := w.score("{}", "X-Answer", status)
		text := "why"
		if status == "204" {
			text = ""
		}
		w.wants("the model answers "+status, got, want, text)
		code, reason := got.header.Get("ms-azureml-model-error-statuscode"), got.header.Get("ms-azureml-model-error-reason")
		if want == 424 && (code != status || reason != "model_error") || want == 200 && code+reason != "" {
			t.Errorf("the model answers %s: statuscode %q, reason %q", status, code, reason)
		}
	}
	w.wants("a path that the container does not know", do(w.client, w.request("POST", "/other", "{}", "X-Answer", "404")), 404, "why")
	if n := w.metric("laz_scoring_requests_total", "endpoint=ep", "deployment=blue", "status=424"); n != 7 {
		t.Errorf("%v requests were counted as 424, want 7", n)
	}
}

func TestBodyLimits(t *testing.T) {
	w := newWorld(t)
	i, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(rw, http.StatusText(200)+" "+strconv.FormatInt(n, 10))
	})
	w.fleetOf("blue", i)
	for _, size := range []int{0, 1, 100 << 10, 4 << 20, 5 << 20, 20 << 20} {
		w.wants("a body", w.score(strings.Repeat("x", size)), 200, "OK "+strconv.Itoa(size))
		r := w.request("POST", "/score", "")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", size))), -1
		w.wants("a body of unknown length", do(w.client, r), 200, "OK "+strconv.Itoa(size))
		r = w.request("POST", "/score", "")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", size))), -1
		w.wants("a body of unknown length over HTTP/1.1", do(w.http1(), r), 200, "OK "+strconv.Itoa(size))
	}
	if a := w.score(strings.Repeat("x", router.MaxBody+1)); a.status != 413 && a.err == nil {
		t.Errorf("a body too large: %d %s", a.status, a.body)
	}
	r := w.request("POST", "/score", "")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", router.MaxBody+1))), -1
	if a := do(w.client, r); a.status != 413 && a.err == nil {
		t.Errorf("a body too large, of unknown length: %d %s", a.status, a.body)
	}
}

// TestPreview: what a request would ask for is known before anyone sends it.
func TestPreview(t *testing.T) {
	w := newWorld(t)
	u, err := url.Parse("https://" + host + "/score")
	if err != nil {
		t.Fatal(err)
	}
	ctx := arrival.With(t.Context(), w.from)
	p, err := w.router.Preview(ctx, "", u)
	if err != nil || p.Action != router.Action || !p.Manage || p.Scope.String() != resource || !p.Network.OK {
		t.Errorf("%+v %v", p, err)
	}
	w.change(func(ep *router.Endpoint) { ep.Public = false })
	if p, err = w.router.Preview(ctx, "POST", u); err != nil || p.Network.OK {
		t.Errorf("without public access: %+v %v", p, err)
	}
}

// TestMetrics_OfWhatIsGoneEnd: a deployment, and an endpoint, that is deleted has
// no series any more, so that those that come later have room for theirs.
func TestMetrics_OfWhatIsGoneEnd(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"blue", "green"} {
		one, _ := w.runs(name, says(name))
		w.fleetOf(name, one)
	}
	w.change(func(ep *router.Endpoint) { ep.Mirror = map[string]int{"green": 50} })
	all := []string{"laz_scoring_requests_total", "laz_scoring_model_seconds", "laz_scoring_queue_seconds"}
	counted := func(when string, deployment string, want bool) {
		t.Helper()
		w.router.Forget(time.Now())
		for _, name := range all {
			if got := w.metric(name, "endpoint=ep", "deployment="+deployment); (got > 0) != want {
				t.Errorf("%s: %s of %s is %v", when, name, deployment, got)
			}
		}
	}
	w.wants("blue", w.score("{}"), 200, "blue")
	w.wants("blue", w.score("{}"), 200, "blue")
	w.wants("green", w.score("{}", "azureml-model-deployment", "green"), 200, "green")
	w.wants("nobody", w.score("{}", "Authorization", "Bearer wrong"), 401, "")
	eventually(t, "a copy is counted", func() bool { return w.metric("laz_scoring_mirrored_total", "deployment=green") == 1 })
	counted("all are there", "blue", true)
	counted("all are there", "green", true)
	w.change(func(ep *router.Endpoint) { delete(ep.Deployments, "green"); ep.Mirror = nil })
	counted("one is gone", "blue", true)
	counted("one is gone", "green", false)
	if n := w.metric("laz_scoring_mirrored_total", "endpoint=ep"); n != 0 {
		t.Errorf("copies to what is gone: %v", n)
	}
	if n := w.metric("laz_scoring_refused_total", "endpoint=ep"); n != 1 {
		t.Errorf("refusals: %v", n)
	}
	w.mu.Lock()
	w.endpoint = nil
	w.mu.Unlock()
	counted("the endpoint is gone", "blue", false)
	if n := w.metric("laz_scoring_refused_total", "endpoint=ep"); n != 0 {
		t.Errorf("refusals of what is gone: %v", n)
	}
}

// Endpoints have one name in two regions: each its own series.
func TestMetrics_OfOneNameInTwoRegions(t *testing.T) {
	w := newWorld(t)
	one, _ := w.runs("blue", says("ok"))
	w.fleetOf("blue", one)
	const elsewhere = "ep.westus2.inference.ml.azure.com"
	other := *w.endpoint
	other.ID, other.Location = rid.MustParse(strings.Replace(resource, "/ws/", "/ws2/", 1)), "westus2"
	w.mu.Lock()
	w.others = map[string]*router.Endpoint{elsewhere: &other}
	w.mu.Unlock()
	ask := func(status int, headers ...string) {
		t.Helper()
		r := w.request("POST", "/score", "{}", headers...)
		r.Host = elsewhere
		w.wants("the other", do(w.client, r), status, "")
	}
	w.wants("one", w.score("{}"), 200, "ok")
	ask(200)
	ask(200)
	ask(401, "Authorization", "Bearer wrong")
	has := func(when, region string, requests, refusals float64) {
		t.Helper()
		if n := w.metric("laz_scoring_requests_total", "endpoint=ep", "region="+region); n != requests {
			t.Errorf("%s, %s: %v requests, want %v", when, region, n, requests)
		}
		if n := w.metric("laz_scoring_refused_total", "endpoint=ep", "region="+region); n != refusals {
			t.Errorf("%s, %s: %v refusals, want %v", when, region, n, refusals)
		}
	}
	has("both", "eastus", 1, 0)
	has("both", "westus2", 2, 1)
	w.mu.Lock()
	w.others = nil
	w.mu.Unlock()
	w.router.Forget(time.Now())
	has("one is gone", "eastus", 1, 0)
	has("one is gone", "westus2", 0, 0)
}
