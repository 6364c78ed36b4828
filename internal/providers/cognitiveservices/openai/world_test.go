package openai_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/providers/cognitiveservices/openai"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// world is a management plane, a data plane and a backend.
type world struct {
	t     testing.TB
	arm   *armtest.Plane
	data  http.Handler
	front *httptest.Server // the data plane over a connection
	reg   *prometheus.Registry

	mu       sync.Mutex // guards the rest
	may      map[string]bool
	records  []trace.Trace
	backend  http.HandlerFunc
	from     arrival.Arrival
	now      time.Time
	upstream *httptest.Server
	asked    []json.RawMessage // bodies that the backend got
}

// Verify takes tokens of the form "h.OID.s".
func (w *world) Verify(_ context.Context, raw string, audiences ...string) (*token.Claims, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || parts[1] == "expired" {
		return nil, apierr.New(apierr.Unauthorized, token.CodeExpired, "no good token")
	}
	if parts[1] == "vault" || audiences[0] != token.CognitiveServices {
		return nil, apierr.New(apierr.Unauthorized, token.CodeAudience, "wrong audience")
	}
	return &token.Claims{ObjectID: parts[1], AppID: "app", TenantID: armtest.Tenant}, nil
}

func (w *world) Check(_ context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rbac.Decision{Allowed: data && (w.may[oid+" "+action] || w.may[oid+" *"]) && scope.Type() == "Microsoft.CognitiveServices/accounts"}, nil
}

func (w *world) Record(t trace.Trace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, t)
}

func (w *world) Models() []inference.Model {
	chat := inference.Capabilities{Chat: true, Completions: true, MaxContext: 4096}
	return []inference.Model{
		{Name: "gpt-4o-mini", Version: "2024-07-18", Format: "OpenAI", Default: true, Source: inference.SourceConfig, Capabilities: chat},
		{Name: "text-embedding-3-small", Version: "1", Format: "OpenAI", Default: true, Source: inference.SourceConfig, Capabilities: inference.Capabilities{Embeddings: true}},
		{Name: "tiny", Version: "1", Format: "OpenAI", Default: true, Source: inference.SourceBuiltin, Capabilities: inference.Capabilities{Chat: true}},
		{Name: "lost", Version: "1", Format: "OpenAI", Default: true, Source: inference.SourceConfig, Capabilities: chat},
	}
}

func (w *world) Find(name, version string) (*inference.Model, bool) {
	for _, m := range w.Models() {
		if strings.EqualFold(m.Name, name) && (version == "" || version == m.Version) {
			return &m, true
		}
	}
	return nil, false
}

func (w *world) Do(ctx context.Context, model, _ string, call *inference.Call) (*inference.Answer, error) {
	if model == "lost" {
		return nil, apierr.New(apierr.NotFound, "ModelNotFound", "gone")
	}
	body, err := inference.Edit(call.Body, call.Set...)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.upstream.URL+"/v1/"+string(call.Operation), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range call.Header {
		r.Header[k] = v
	}
	resp, err := w.upstream.Client().Do(r)
	if err != nil {
		return nil, err
	}
	return &inference.Answer{Status: resp.StatusCode, Header: resp.Header, Body: resp.Body, Backend: "fake", Attempts: 1}, nil
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.mu.Lock()
	w.asked = append(w.asked, body)
	h := w.backend
	w.mu.Unlock()
	h(rw, r)
}

// answers makes the backend answer so.
func (w *world) answers(status int, contentType, body string) {
	w.backs(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", contentType)
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, body)
	})
}

func (w *world) backs(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.backend = h
}

// last is what the backend was asked last.
func (w *world) last() map[string]any {
	w.mu.Lock()
	defer w.mu.Unlock()
	var v map[string]any
	if len(w.asked) == 0 || json.Unmarshal(w.asked[len(w.asked)-1], &v) != nil {
		return nil
	}
	return v
}

func newWorld(t testing.TB, adjust ...func(*openai.Config)) *world {
	w := &world{t: t, may: map[string]bool{"me *": true}, from: arrival.Arrival{Client: netip.MustParseAddr("203.0.113.9")}, now: time.Unix(1e9, 0), reg: prometheus.NewRegistry()}
	w.upstream = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.upstream.Close)
	w.answers(200, "application/json", `{"id":"chatcmpl-1","object":"chat.completion","model":"real-name","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}`)
	dir := t.TempDir()
	w.arm = armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		ring := seal.NewKeyring(s, root)
		accounts, err := cognitiveservices.Open(t.Context(), s, ring)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(accounts.Close)
		cfg := openai.Config{
			Gate: gate.Config{Verifier: w, Authorizer: w, Recorder: w}, Accounts: accounts, Models: w, Metrics: w.reg,
			Suffixes: []string{".openai.azure.com", ".openai.laz.test"}, Regional: []string{".api.cognitive.microsoft.com"},
			Audiences: []string{token.CognitiveServices, token.AI},
			Now: func() time.Time {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.now
			},
		}
		for _, f := range adjust {
			f(&cfg)
		}
		if w.data, err = openai.New(cfg); err != nil {
			t.Fatal(err)
		}
		return []arm.Provider{cognitiveservices.New(cognitiveservices.Config{
			Store: s, Sealer: ring, Catalog: w,
			URL: func(_ cognitiveservices.Endpoint, label string) string {
				return "https://" + label + ".openai.azure.com"
			},
		})}
	}, nil)
	w.arm.Group("g")
	w.front = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		from := w.from
		w.mu.Unlock()
		w.data.ServeHTTP(rw, r.WithContext(arrival.With(r.Context(), from)))
	}))
	t.Cleanup(w.front.Close)
	return w
}

const (
	accountID = armtest.Base + "/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/"
	mgmt      = "?api-version=2025-06-01"
	ver       = "?api-version=2024-10-21"
	chat      = "https://acc.openai.azure.com/openai/deployments/dd/chat/completions" + ver
	hello     = `{"messages":[{"role":"user","content":"hello"}]}`
)

// account makes an account with further properties and gives a key.
func (w *world) account(name, props string) (key string) {
	w.t.Helper()
	if props == "" {
		props = `"customSubDomainName":"` + name + `"`
	}
	w.arm.Want(201, "PUT", accountID+name+mgmt, `{"location":"eastus","kind":"OpenAI","sku":{"name":"S0"},"properties":{`+props+`}}`)
	return w.arm.Want(200, "POST", accountID+name+"/listKeys"+mgmt, "").Text("key1")
}

func (w *world) deploy(account, name, model, version string, capacity int, tags string) {
	w.t.Helper()
	w.arm.Want(201, "PUT", accountID+account+"/deployments/"+name+mgmt,
		fmt.Sprintf(`{"sku":{"name":"Standard","capacity":%d},"tags":{%s},"properties":{"model":{"format":"OpenAI","name":%q,"version":%q}}}`, capacity, tags, model, version))
}

// standard is an account "acc" with the deployment "dd", and its key.
func (w *world) standard() string {
	w.t.Helper()
	key := w.account("acc", "")
	w.deploy("acc", "dd", "gpt-4o-mini", "2024-07-18", 100, "")
	return key
}

const me = "Bearer h.me.s"

// do asks the data plane; credential is a key, or the Authorization header
// where it has a blank in it.
func (w *world) do(credential, method, url, body string, headers ...string) *armtest.Answer {
	w.t.Helper()
	w.mu.Lock()
	from := w.from
	w.mu.Unlock()
	r := httptest.NewRequestWithContext(arrival.With(w.t.Context(), from), method, url, strings.NewReader(body))
	authenticate(r, credential)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.data.ServeHTTP(rec, r)
	a := &armtest.Answer{Status: rec.Code, Header: rec.Result().Header, Raw: rec.Body.Bytes()}
	if json.Unmarshal(a.Raw, &a.JSON) != nil {
		a.JSON = nil
	}
	return a
}

func authenticate(r *http.Request, credential string) {
	switch {
	case strings.Contains(credential, " "):
		r.Header.Set("Authorization", credential)
	case credential != "":
		r.Header.Set("api-key", credential)
	}
}

func (w *world) want(status int, code, credential, method, url, body string, headers ...string) *armtest.Answer {
	w.t.Helper()
	a := w.do(credential, method, url, body, headers...)
	if a.Status != status || a.Text("error", "code") != code {
		w.t.Fatalf("%s %s: got %d %s, want %d %s", method, url, a.Status, a.Raw, status, code)
	}
	return a
}

// recorded is the last trace that was kept, and none is kept after it.
func (w *world) recorded() trace.Trace {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.records) == 0 {
		return trace.Trace{}
	}
	t := w.records[len(w.records)-1]
	w.records = nil
	return t
}

// fix is the command of the last hop.
func fix(t trace.Trace) string {
	if len(t.Hops) == 0 {
		return ""
	}
	return t.Hops[len(t.Hops)-1].Fix
}

// over asks over a connection and reads the answer as far as it comes.
func (w *world) over(credential, url, body string) (*http.Response, []byte) {
	w.t.Helper()
	resp, raw, err := w.try(w.t.Context(), credential, url, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, raw
}

func (w *world) try(ctx context.Context, credential, url, body string) (*http.Response, []byte, error) {
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.front.URL+"/"+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	r.Host = host
	authenticate(r, credential)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp, raw, err
}

// metric is the sum of a counter's series that have all the label values.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(values, l) }) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// eventually waits until f is content.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

var errNot = errors.New("not yet")
