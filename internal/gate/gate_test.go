package gate_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

const resource = "/subscriptions/s/resourceGroups/g/providers/M.T/things/t"

// world stands in for everything around the pipeline and writes down in which
// order the pipeline asks.
type world struct {
	asked   []string
	allowed string // "action scope" that policy allows
	network gate.Network
	own     func(*gate.Call, *gate.Operation) error
	records []trace.Trace
}

func (w *world) Verify(_ context.Context, raw string, audiences ...string) (*token.Claims, error) {
	w.asked = append(w.asked, "token")
	if raw != "good" || !slices.Equal(audiences, []string{"https://thing"}) {
		return nil, apierr.New(apierr.Unauthorized, token.CodeSignature, "bad token")
	}
	return &token.Claims{ObjectID: "me", AppID: "app"}, nil
}

func (w *world) Check(_ context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	w.asked = append(w.asked, "policy")
	return rbac.Decision{Allowed: oid == "me" && data && action+" "+scope.String() == w.allowed}, nil
}

func (w *world) Record(t trace.Trace) { w.records = append(w.records, t) }

func (w *world) handler() *gate.Handler {
	op := func(method, path, action string) gate.Operation {
		return gate.Operation{Method: method, Path: path, Action: action, Body: 8,
			Scope: func(c *gate.Call) string { return "/parts/" + c.Params["name"] },
			Handle: func(c *gate.Call) (any, error) {
				w.asked = append(w.asked, "handler")
				if method != http.MethodPut {
					return map[string]string{"did": action}, nil
				}
				var v struct{ A string }
				if err := c.Decode(&v); err != nil {
					return nil, err
				}
				return &gate.Reply{Status: http.StatusCreated, Header: http.Header{"X-A": {v.A}}}, nil
			}}
	}
	return gate.New(gate.Config{Verifier: w, Authorizer: w, Recorder: w}, gate.Plane{MethodHeader: "X-HTTP-METHOD",
		Name: "thing", Audiences: []string{"https://thing"},
		Operations: []gate.Operation{op("GET", "/parts/{name}", "read"), op("PUT", "/parts/{name}", "write"), op("DELETE", "/parts/{name}", "delete")},
		Resolve: func(_ context.Context, r *http.Request) (*gate.Target, error) {
			w.asked = append(w.asked, "host")
			if r.Host != "t.thing" {
				return nil, apierr.New(apierr.NotFound, "NoThing", "no thing")
			}
			return &gate.Target{ID: rid.MustParse(resource), Network: w.network, Authorize: w.own}, nil
		},
		Version: func(c *gate.Call) error {
			w.asked = append(w.asked, "version")
			if c.Request.URL.Query().Get("api-version") == "" {
				return apierr.New(apierr.BadRequest, "NoVersion", "no version")
			}
			return nil
		},
		Challenge:  func(h http.Header, _ *gate.Target) { h.Set("WWW-Authenticate", "Bearer") },
		WriteError: func(rw http.ResponseWriter, _ *gate.Call, e *apierr.Error) { http.Error(rw, e.Code, e.Kind.Status()) },
		RefuseNetwork: func(c *gate.Call, why gate.Blocked) *apierr.Error {
			return apierr.New(apierr.Forbidden, map[gate.Blocked]string{gate.BlockedConnection: "Connection", gate.BlockedFirewall: "Firewall"}[why], "blocked")
		},
		RefuseRole: func(*gate.Call, string, rid.ID, rbac.Decision) *apierr.Error {
			return apierr.New(apierr.Forbidden, "Role", "no role")
		},
	})
}

// ask sends "METHOD url", with a token unless it is "".
func (w *world) ask(t *testing.T, from arrival.Arrival, line, tok, body string) (status int, answer string, header http.Header) {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r = r.WithContext(arrival.With(r.Context(), from))
	if tok != "" {
		r.Header.Set("Authorization", "Bearer "+tok)
	}
	w.asked = nil
	rec := httptest.NewRecorder()
	w.handler().ServeHTTP(rec, r)
	b, err := io.ReadAll(rec.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Code, strings.TrimSpace(string(b)), rec.Header()
}

func public(addr string) arrival.Arrival {
	return arrival.Arrival{Kind: arrival.Public, Client: netip.MustParseAddr(addr)}
}

func open() *world {
	return &world{allowed: "read " + resource + "/parts/p", network: gate.Network{Public: true, DefaultAllow: true}}
}

func TestPipeline_EachStepRefusesBeforeTheNextIsAsked(t *testing.T) {
	closed := gate.Network{}
	tests := []struct {
		name, line, tok string
		network         *gate.Network
		allowed         string
		status          int
		answer          string
		asked           string
	}{
		{"unknown host", "GET https://x.thing/parts/p?api-version=1", "good", nil, "", 404, "NoThing", "host"},
		{"network before token", "GET https://t.thing/parts/p?api-version=1", "", &closed, "", 403, "Connection", "host"},
		{"no token", "GET https://t.thing/parts/p", "", nil, "", 401, token.CodeMissing, "host"},
		{"bad token", "GET https://t.thing/parts/p", "bad", nil, "", 401, token.CodeSignature, "host token"},
		{"no operation", "GET https://t.thing/other/p", "good", nil, "", 404, "NotFound", "host token"},
		{"no such method", "PATCH https://t.thing/parts/p", "good", nil, "", 405, "MethodNotAllowed", "host token"},
		{"no api-version", "GET https://t.thing/parts/p", "good", nil, "", 400, "NoVersion", "host token version"},
		{"no role", "GET https://t.thing/parts/p?api-version=1", "good", nil, "write " + resource + "/parts/p", 403, "Role", "host token version policy"},
		{"a role elsewhere", "GET https://t.thing/parts/q?api-version=1", "good", nil, "", 403, "Role", "host token version policy"},
		{"all is well", "GET https://t.thing/parts/p?api-version=1", "good", nil, "", 200, `{"did":"read"}`, "host token version policy handler"},
		{"case of fixed segments", "GET https://t.thing/PARTS/p?api-version=1", "good", nil, "", 200, `{"did":"read"}`, "host token version policy handler"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := open()
			if tt.network != nil {
				w.network = *tt.network
			}
			if tt.allowed != "" {
				w.allowed = tt.allowed
			}
			status, answer, _ := w.ask(t, public("203.0.113.9"), tt.line, tt.tok, "")
			if status != tt.status || answer != tt.answer || strings.Join(w.asked, " ") != tt.asked {
				t.Errorf("%d %q after %v, want %d %q after %q", status, answer, w.asked, tt.status, tt.answer, tt.asked)
			}
		})
	}
}

func TestPipeline_ChallengesWithoutReadingTheBody(t *testing.T) {
	w := open()
	status, _, h := w.ask(t, public("203.0.113.9"), "PUT https://t.thing/parts/p?api-version=1", "", "not json")
	if status != 401 || h.Get("WWW-Authenticate") != "Bearer" || len(w.records) != 0 {
		t.Fatalf("%d %v, %d records: the first request of a client is no refusal", status, h, len(w.records))
	}
}

func TestPipeline_RecordsRefusalsWithTheirHops(t *testing.T) {
	w := open()
	w.allowed = ""
	w.ask(t, public("203.0.113.9"), "GET https://t.thing/parts/p?api-version=1", "good", "")
	w.ask(t, public("203.0.113.9"), "GET https://t.thing/parts/p?api-version=1", "bad", "")
	if len(w.records) != 2 || !strings.HasPrefix(w.records[0].Who, "app (me)") || w.records[0].Hops[0].Step != "network" || w.records[1].Who != "" {
		t.Fatalf("%+v", w.records)
	}
}

func TestPipeline_ATargetsOwnPolicyReplacesRoles(t *testing.T) {
	w := open()
	w.own = func(c *gate.Call, op *gate.Operation) error {
		if op.Action != "delete" {
			return apierr.New(apierr.Forbidden, "Own", "no")
		}
		return nil
	}
	for line, want := range map[string]int{"GET https://t.thing/parts/p?api-version=1": 403, "DELETE https://t.thing/parts/p?api-version=1": 200} {
		if status, answer, _ := w.ask(t, public("203.0.113.9"), line, "good", ""); status != want || slices.Contains(w.asked, "policy") {
			t.Errorf("%s: %d %s after %v", line, status, answer, w.asked)
		}
	}
}

func TestPipeline_BodyHasALimit(t *testing.T) {
	w := open()
	w.allowed = "write " + resource + "/parts/p"
	const line = "PUT https://t.thing/parts/p?api-version=1"
	if status, _, h := w.ask(t, public("203.0.113.9"), line, "good", `{"A":1}`); status != 400 {
		t.Errorf("a wrong type: %d %v", status, h)
	}
	if status, _, _ := w.ask(t, public("203.0.113.9"), line, "good", `{"A":"123456789"}`); status != 413 {
		t.Errorf("too large: %d", status)
	}
	if status, _, _ := w.ask(t, public("203.0.113.9"), line, "good", `{}`); status != 201 {
		t.Errorf("small enough: %d", status)
	}
}

func TestNetwork_JudgesTheArrival(t *testing.T) {
	rules := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	private := func(endpoint string) arrival.Arrival {
		return arrival.Arrival{Kind: arrival.PrivateEndpoint, Client: netip.MustParseAddr("10.0.0.4"), Endpoint: endpoint}
	}
	subnet := func(services string) arrival.Arrival {
		return arrival.Arrival{Client: netip.MustParseAddr("198.51.100.7"), Network: "/net", Subnet: "/net/sub", Services: services}
	}
	only := func(one string) func(context.Context, string) (bool, error) {
		return func(_ context.Context, endpoint string) (bool, error) { return endpoint == one, nil }
	}
	trusted := arrival.Arrival{Kind: arrival.TrustedService, Client: netip.MustParseAddr("10.0.0.5")}
	tests := []struct {
		name    string
		network gate.Network
		from    arrival.Arrival
		want    string // "" lets it in
	}{
		{"public, open", gate.Network{Public: true, DefaultAllow: true}, public("203.0.113.9"), ""},
		{"public, no rule", gate.Network{Public: true, IPRules: rules}, public("203.0.113.9"), "Firewall"},
		{"public, a rule", gate.Network{Public: true, IPRules: rules}, public("198.51.100.7"), ""},
		{"public, a rule, IPv4 in IPv6", gate.Network{Public: true, IPRules: rules}, public("::ffff:198.51.100.7"), ""},
		{"public is off, a rule", gate.Network{DefaultAllow: true, IPRules: rules}, public("198.51.100.7"), "Connection"},
		{"from nowhere", gate.Network{Public: true, IPRules: rules}, arrival.Arrival{}, "Firewall"},
		{"a subnet, no rule", gate.Network{Public: true, Service: "S"}, subnet(",s,"), "Firewall"},
		{"a subnet, its rule", gate.Network{Public: true, Service: "S", Subnets: []string{"/NET/SUB"}}, subnet(",s,"), ""},
		{"a subnet, its rule, no service endpoint", gate.Network{Public: true, Service: "S", Subnets: []string{"/net/sub"}}, subnet(""), "Firewall"},
		{"a subnet, a rule with its address", gate.Network{Public: true, Service: "S", IPRules: rules}, subnet(",s,"), "Firewall"},
		{"a subnet, its rule, public is off", gate.Network{Service: "S", Subnets: []string{"/net/sub"}}, subnet(",s,"), "Connection"},
		{"an endpoint that is approved now", gate.Network{Approved: only("/pe/1")}, private("/pe/1"), ""},
		{"an endpoint that is not", gate.Network{Public: true, DefaultAllow: true, Approved: only("/pe/1")}, private("/pe/2"), "Connection"},
		{"approved endpoint", gate.Network{Endpoints: []string{"/pe/1"}}, private("/PE/1"), ""},
		{"another endpoint, all open", gate.Network{Public: true, DefaultAllow: true, Endpoints: []string{"/pe/1"}}, private("/pe/2"), "Connection"},
		{"trusted, bypass", gate.Network{Trusted: true}, trusted, ""},
		{"trusted, no bypass", gate.Network{Public: true}, trusted, "Firewall"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := open()
			w.network = tt.network
			status, answer, _ := w.ask(t, tt.from, "GET https://t.thing/parts/p?api-version=1", "good", "")
			if tt.want == "" && status != 200 || tt.want != "" && answer != tt.want {
				t.Errorf("%d %s, want %q", status, answer, tt.want)
			}
		})
	}
}

func TestPreview_SaysWhatWouldBeAskedFor(t *testing.T) {
	w := open()
	w.network = gate.Network{}
	u, err := url.Parse("https://t.thing/parts/p")
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.handler().Preview(arrival.With(t.Context(), public("203.0.113.9")), "DELETE", u)
	if err != nil || p.Action != "delete" || p.Scope.String() != resource+"/parts/p" || p.Network.OK {
		t.Fatalf("%+v %v", p, err)
	}
	u.Path = "/nothing"
	if _, err := w.handler().Preview(t.Context(), "GET", u); !apierr.Is(err, apierr.NotFound) {
		t.Fatalf("a path without an operation: %v", err)
	}
}

func TestPipeline_MethodOverrideOnlyOnPOST(t *testing.T) {
	w := open()
	w.allowed = "delete " + resource + "/parts/p"
	for method, want := range map[string]int{"POST": 200, "GET": 403} {
		r := httptest.NewRequest(method, "https://t.thing/parts/p?api-version=1", nil)
		r = r.WithContext(arrival.With(r.Context(), public("203.0.113.9")))
		r.Header.Set("Authorization", "Bearer good")
		r.Header.Set("X-HTTP-METHOD", "DELETE")
		rec := httptest.NewRecorder()
		w.handler().ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("%s with an override: %d, want %d", method, rec.Code, want)
		}
	}
}

// keyed is a world whose resource has a key, a limit, and an answer that writes
// itself.
func keyed(w *world) *gate.Handler {
	return gate.New(gate.Config{Verifier: w, Authorizer: w, Recorder: w}, gate.Plane{
		Name: "keyed", Audiences: []string{"https://thing"},
		Operations: []gate.Operation{{Method: "POST", Path: "/do", Action: "do", Handle: func(c *gate.Call) (any, error) {
			w.asked = append(w.asked, "handler")
			return gate.Answer(func(rw http.ResponseWriter) error {
				_, err := io.WriteString(rw, "streamed for "+c.Key)
				if c.Request.URL.RawQuery == "cut" {
					return errors.New("cut")
				}
				return err
			}), nil
		}}},
		Resolve: func(context.Context, *http.Request) (*gate.Target, error) {
			return &gate.Target{ID: rid.MustParse(resource), Network: w.network}, nil
		},
		Key: func(c *gate.Call) (string, error) {
			switch c.Request.Header.Get("api-key") {
			case "":
				return "", nil
			case "right":
				w.asked = append(w.asked, "key")
				return "key1", nil
			}
			return "", apierr.New(apierr.Unauthorized, "Key", "wrong key")
		},
		Version: func(*gate.Call) error { w.asked = append(w.asked, "version"); return nil },
		Limit: func(c *gate.Call) error {
			w.asked = append(w.asked, "limit")
			if raw, err := c.Body(); err != nil || string(raw) == "much" {
				return apierr.New(apierr.TooManyRequests, "Much", "too much")
			}
			return nil
		},
		Keep:       func(_ *gate.Call, e *apierr.Error) bool { return e.Code == "Much" },
		WriteError: func(rw http.ResponseWriter, _ *gate.Call, e *apierr.Error) { http.Error(rw, e.Code, e.Kind.Status()) },
		RefuseNetwork: func(*gate.Call, gate.Blocked) *apierr.Error {
			return apierr.New(apierr.Forbidden, "Network", "blocked")
		},
		RefuseRole: func(*gate.Call, string, rid.ID, rbac.Decision) *apierr.Error {
			return apierr.New(apierr.Forbidden, "Role", "no role")
		},
		OpenFirewall: func(id rid.ID, a netip.Addr) string { return "open " + id.Name() + " to " + a.String() },
	})
}

func TestPipeline_AKeyPassesTheSameSteps(t *testing.T) {
	tests := []struct {
		name, key, tok, body string
		closed               bool
		status               int
		answer, asked        string
		records              int
	}{
		{"a key needs no role", "right", "", "", false, 200, "streamed for key1", "key version limit handler", 0},
		{"a wrong key", "wrong", "good", "", false, 401, "Key", "", 1},
		{"neither", "", "", "", false, 401, token.CodeMissing, "", 1},
		{"a token needs a role", "", "good", "", false, 403, "Role", "token version policy", 1},
		{"network before the key", "right", "", "", true, 403, "Network", "", 1},
		{"limits before the handler", "right", "", "much", false, 429, "Much", "key version limit", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{network: gate.Network{Public: true, DefaultAllow: !tt.closed}}
			r := httptest.NewRequest("POST", "https://t.thing/do", strings.NewReader(tt.body))
			r = r.WithContext(arrival.With(r.Context(), public("203.0.113.9")))
			r.Header.Set("api-key", tt.key)
			if tt.tok != "" {
				r.Header.Set("Authorization", "Bearer "+tt.tok)
			}
			rec := httptest.NewRecorder()
			keyed(w).ServeHTTP(rec, r)
			if got := strings.TrimSpace(rec.Body.String()); rec.Code != tt.status || got != tt.answer || strings.Join(w.asked, " ") != tt.asked || len(w.records) != tt.records {
				t.Errorf("%d %q after %v, %d records", rec.Code, got, w.asked, len(w.records))
			}
			if tt.closed && w.records[0].Hops[0].Fix != "open t to 203.0.113.9" {
				t.Errorf("%+v", w.records[0].Hops)
			}
		})
	}
}

func TestPipeline_AnAnswerThatFailsIsCut(t *testing.T) {
	srv := httptest.NewServer(keyed(&world{network: gate.Network{Public: true, DefaultAllow: true}}))
	defer srv.Close()
	for query, whole := range map[string]bool{"": true, "?cut": false} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/do"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("api-key", "right")
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if (err == nil) != whole {
			t.Errorf("%q: %v", query, err)
		}
	}
}

func TestPreview_TakesTheMethodThatThePathHas(t *testing.T) {
	u, err := url.Parse("https://t.thing/do")
	if err != nil {
		t.Fatal(err)
	}
	h := keyed(open())
	if p, err := h.Preview(t.Context(), "", u); err != nil || p.Action != "do" {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := h.Preview(t.Context(), "GET", u); !apierr.Is(err, apierr.MethodNotAllowed) {
		t.Errorf("%v", err)
	}
}

// TestOperation_WhatNoOtherHas: a row without a path takes all that is left, and
// one without a method every method; the header of another method counts only
// where the plane knows one.
func TestOperation_WhatNoOtherHas(t *testing.T) {
	var got string
	row := func(method, path string) gate.Operation {
		return gate.Operation{Method: method, Path: path, Action: "a", Handle: func(c *gate.Call) (any, error) {
			got = c.Request.Method + " " + c.Operation.Path
			return nil, nil
		}}
	}
	w := open()
	h := gate.New(gate.Config{Verifier: w, Authorizer: w, Recorder: w}, gate.Plane{
		Name: "any", Audiences: []string{"https://thing"}, Operations: []gate.Operation{row("GET", "/known"), row("", "")},
		Resolve: func(context.Context, *http.Request) (*gate.Target, error) {
			return &gate.Target{ID: rid.MustParse(resource), Network: gate.Network{Public: true, DefaultAllow: true}, Authorize: func(*gate.Call, *gate.Operation) error { return nil }}, nil
		},
		Version:    func(*gate.Call) error { return nil },
		WriteError: func(w http.ResponseWriter, _ *gate.Call, e *apierr.Error) { w.WriteHeader(e.Kind.Status()) },
	})
	for _, row := range [][3]string{{"GET", "/known", "GET /known"}, {"POST", "/known", "POST "}, {"POST", "/", "POST "}, {"PUT", "/a/b", "PUT "}} {
		r := httptest.NewRequest(row[0], "https://t.thing"+row[1], nil)
		r.Header.Set("Authorization", "Bearer good")
		r.Header.Set("X-HTTP-METHOD", "DELETE")
		rec := httptest.NewRecorder()
		got = ""
		h.ServeHTTP(rec, r)
		if got != row[2] {
			t.Errorf("%s %s: %d, %q", row[0], row[1], rec.Code, got)
		}
	}
}

// TestNetwork_AddressesOfOtherNetworksMeanNothing: many networks have the same
// ones, so a rule for one's own lets none of them in.
func TestNetwork_AddressesOfOtherNetworksMeanNothing(t *testing.T) {
	w := open()
	w.allowed = "read " + resource + "/parts/p"
	w.network = gate.Network{Public: true, IPRules: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for local, want := range map[bool]int{false: 200, true: 403} {
		r := httptest.NewRequest("GET", "https://t.thing/parts/p?api-version=1", nil)
		r = r.WithContext(arrival.With(r.Context(), arrival.Arrival{Client: netip.MustParseAddr("10.244.0.7"), Local: local, Network: "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"}))
		r.Header.Set("Authorization", "Bearer good")
		rec := httptest.NewRecorder()
		w.handler().ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("local %v: got %d, want %d", local, rec.Code, want)
		}
		if local && (len(w.records) != 1 || !strings.Contains(w.records[0].Hops[0].Fix, "outbound-rule set --workspace-name w --resource-group g ") || !strings.Contains(w.records[0].Hops[0].Fix, resource)) {
			t.Errorf("recorded %+v", w.records)
		}
	}
}
