package telemetry_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/providers/insights/telemetry"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
)

const (
	group       = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/"
	componentID = group + "Microsoft.Insights/components/app1"
	workspaceID = group + "Microsoft.MachineLearningServices/workspaces/ws"
	appID       = "0aaaaaaa-1111-2222-3333-444444444444"
)

// world is a component, a workspace that has it, and the API.
type world struct {
	t     *testing.T
	store store.Store
	s     *telemetry.Service
	plane *telemetry.Plane
	reg   *prometheus.Registry
	stop  func()

	mu  sync.Mutex // guards the rest
	now time.Time
	may map[string]bool // "OID ACTION"
}

func newWorld(t *testing.T, options ...func(*telemetry.Config)) *world {
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: st, reg: prometheus.NewRegistry(), now: time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC), may: map[string]bool{}}
	w.may["reader "+insights.ActionQuery], w.may["reader "+insights.ActionEvents] = true, true
	w.resource(componentID, map[string]any{"AppId": appID, "RetentionInDays": 30})
	w.resource(workspaceID, map[string]any{"applicationInsights": componentID})
	cfg := telemetry.Config{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: w.reg, Now: w.clock, Every: time.Hour, Look: 10 * time.Millisecond}
	for _, o := range options {
		o(&cfg)
	}
	if w.s, err = telemetry.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	w.plane = telemetry.NewPlane(w.s, gate.Config{Verifier: w, Authorizer: w}, token.ApplicationInsights)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.s.Close()
	})
	t.Cleanup(func() {
		w.stop()
		_ = st.Close()
	})
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// resource stores one, or changes it.
func (w *world) resource(id string, properties map[string]any) {
	w.t.Helper()
	r := rid.MustParse(id)
	b, err := json.Marshal(arm.Envelope{ID: id, Name: r.Name(), Type: r.Type(), Location: "eastus", Properties: properties})
	if err != nil {
		w.t.Fatal(err)
	}
	key := arm.ResourceKey(r)
	old, _ := w.store.Get(context.Background(), key)
	if _, err := w.store.Put(context.Background(), store.Doc{Key: key, Rev: old.Rev, Kind: strings.ToLower(r.Type()), Value: b}); err != nil {
		w.t.Fatal(err)
	}
}

// Verify takes tokens that are an object id.
func (w *world) Verify(_ context.Context, raw string, audiences ...string) (*token.Claims, error) {
	if raw == "foreign" || audiences[0] != token.ApplicationInsights {
		return nil, apierr.New(apierr.Unauthorized, token.CodeAudience, "The token is for another resource.")
	}
	return &token.Claims{ObjectID: raw}, nil
}

// Check implements gate.Authorizer.
func (w *world) Check(_ context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rbac.Decision{Allowed: !data && w.may[oid+" "+action] && scope.String() == componentID}, nil
}

func source() telemetry.Source {
	return telemetry.Source{Workspace: rid.MustParse(workspaceID), Endpoint: "ep", Deployment: "blue", Instance: "pod-1"}
}

// score takes a request at the time of the world's clock.
func (w *world) score(id string, status int, took time.Duration) {
	w.s.Request(telemetry.Request{Source: source(), ID: id, Time: w.clock(), Duration: took, Method: "POST", Host: "ep.eastus.inference.ml.azure.com", Path: "/score", Status: status, ModelStatus: 200})
}

func (w *world) line(text string) {
	w.s.Line(telemetry.Line{Source: source(), UID: "uid", Time: w.clock(), Text: text})
}

type reply struct {
	status int
	text   string
	json   map[string]any
}

func (w *world) request(as, method, path, body string) *http.Request {
	r := httptest.NewRequest(method, "https://api.applicationinsights.io"+path, strings.NewReader(body))
	r = r.WithContext(arrival.With(r.Context(), arrival.Arrival{Client: netip.MustParseAddr("203.0.113.9")}))
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	return r
}

func (w *world) do(as, method, path, body string) reply {
	w.t.Helper()
	r := w.request(as, method, path, body)
	rec := httptest.NewRecorder()
	w.plane.ServeHTTP(rec, r)
	b, _ := io.ReadAll(rec.Body)
	out := reply{rec.Code, string(b), nil}
	if err := json.Unmarshal(b, &out.json); err != nil {
		w.t.Fatalf("%s %s: %d %s", method, path, rec.Code, b)
	}
	return out
}

// ask runs a query and gives its rows.
func (w *world) ask(query string) []any {
	w.t.Helper()
	r := w.do("reader", http.MethodGet, "/v1/apps/"+appID+"/query?query="+url.QueryEscape(query), "")
	if r.status != http.StatusOK {
		w.t.Fatalf("%s: %d %s", query, r.status, r.text)
	}
	return r.json["tables"].([]any)[0].(map[string]any)["rows"].([]any)
}

// eventually polls until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// counted is a metric's sum over the series with a result.
func (w *world) counted(result string) (sum float64) {
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "result" && l.GetValue() == result {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
