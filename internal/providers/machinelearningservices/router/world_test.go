package router_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

const (
	workspace = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
	resource  = workspace + "/onlineEndpoints/ep"
	host      = "ep.eastus.inference.ml.azure.com"
	key       = "the-primary-key"
)

// world is an endpoint, its instances, and a router in front of them.
type world struct {
	t      testing.TB
	reg    *prometheus.Registry
	router *router.Router
	front  *httptest.Server // HTTP/1.1
	client *http.Client

	mu       sync.Mutex // guards the rest
	endpoint *router.Endpoint
	others   map[string]*router.Endpoint // by host
	fleet    map[string][]router.Instance
	changes  []func()
	from     arrival.Arrival
	approved map[string]bool
	may      map[string]bool
	records  []trace.Trace
	dials    int
	wrap     func(net.Conn) net.Conn // what connections to instances are; nil: as they are
}

type option func(*router.Config)

// newWorld makes an endpoint with the deployment blue, which has all traffic.
func newWorld(t testing.TB, options ...option) *world {
	w := &world{
		t: t, reg: prometheus.NewRegistry(), fleet: map[string][]router.Instance{}, may: map[string]bool{}, approved: map[string]bool{},
		from: arrival.Arrival{Client: netip.MustParseAddr("203.0.113.9")},
	}
	w.endpoint = &router.Endpoint{
		ID: rid.MustParse(resource), Workspace: rid.MustParse(workspace), Name: "ep", Location: "eastus", Public: true, AuthMode: router.AuthKey,
		Traffic: map[string]int{"blue": 100}, Deployments: map[string]*router.Deployment{"blue": deployment("blue"), "green": deployment("green")},
		Key: func(given string) (string, bool) { return "primary", given == key },
		Token: func(_ context.Context, raw string) error {
			if raw != "own.token" {
				return apierr.New(apierr.Unauthorized, "TokenExpired", "it has expired")
			}
			return nil
		},
	}
	cfg := router.Config{
		Gate: gate.Config{Verifier: w, Authorizer: w, Recorder: w}, Catalog: w, Instances: w, Metrics: w.reg, Stall: 2 * time.Second,
		Approved: func(_ context.Context, ws rid.ID, endpoint string) (bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.approved[ws.Name()+" "+endpoint], nil
		},
	}
	for _, o := range options {
		o(&cfg)
	}
	var err error
	if w.router, err = router.New(cfg); err != nil {
		t.Fatal(err)
	}
	f, err := web.NewFront(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), nil)
	if err != nil {
		t.Fatal(err)
	}
	surface := &web.Surface{Name: "scoring", Handler: w.router, IDs: web.KeyVault, MaxBody: router.MaxBody, Timeout: -1, Error: router.WriteError}
	w.front = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		from := w.from
		w.mu.Unlock()
		f.Serve(surface, rw, r.WithContext(arrival.With(r.Context(), from)))
	}))
	w.front.EnableHTTP2 = true
	w.front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.front.StartTLS()
	w.client = w.front.Client()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.router.Run(ctx) }()
	t.Cleanup(func() {
		w.front.CloseClientConnections()
		w.front.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

func deployment(name string) *router.Deployment {
	return &router.Deployment{
		ID: rid.MustParse(resource + "/deployments/" + name), Name: name, UID: "uid-" + name, Ready: true, MaxConcurrent: 4, Instances: 1,
		QueueWait: 200 * time.Millisecond, Timeout: 2 * time.Second, ScoringPath: "/score",
	}
}

// http1 is a client that speaks HTTP/1.1.
func (w *world) http1() *http.Client {
	tr := w.client.Transport.(*http.Transport).Clone()
	tr.ForceAttemptHTTP2, tr.MaxIdleConnsPerHost = false, 200
	tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// change replaces what the endpoint says.
func (w *world) change(f func(*router.Endpoint)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ep := *w.endpoint
	ep.Deployments = map[string]*router.Deployment{}
	for n, d := range w.endpoint.Deployments {
		c := *d
		ep.Deployments[n] = &c
	}
	f(&ep)
	w.endpoint = &ep
}

func (w *world) Find(_ context.Context, name string) (*router.Endpoint, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ep := w.others[name]; ep != nil {
		return ep, nil
	}
	if name != host || w.endpoint == nil {
		return nil, router.ErrNotFound
	}
	return w.endpoint, nil
}

func (w *world) Of(uid string) []router.Instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.fleet[uid])
}

func (w *world) OnChange(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, f)
}

func (w *world) Dial(ctx context.Context, i router.Instance) (net.Conn, error) {
	w.mu.Lock()
	w.dials++
	wrap := w.wrap
	w.mu.Unlock()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", i.Address.String())
	if err == nil && wrap != nil {
		conn = wrap(conn)
	}
	return conn, err
}

// fleetOf says which instances a deployment has.
func (w *world) fleetOf(name string, list ...router.Instance) {
	w.mu.Lock()
	w.fleet["uid-"+name] = list
	changes := slices.Clone(w.changes)
	w.mu.Unlock()
	for _, f := range changes {
		f()
	}
}

// runs starts a server that is an instance.
func (w *world) runs(id string, h http.HandlerFunc) (router.Instance, *httptest.Server) {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	w.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return router.Instance{ID: id, Address: netip.MustParseAddrPort(s.Listener.Addr().String()), Ready: true}, s
}

// says is an instance that answers so.
func says(text string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(rw, text)
	}
}

// Verify takes tokens "h.OID.s".
func (w *world) Verify(_ context.Context, raw string, audiences ...string) (*token.Claims, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || audiences[0] != token.MachineLearning {
		return nil, apierr.New(apierr.Unauthorized, token.CodeExpired, "no good token")
	}
	return &token.Claims{ObjectID: parts[1]}, nil
}

// Check implements gate.Authorizer.
func (w *world) Check(_ context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rbac.Decision{Allowed: !data && w.may[oid+" "+action+" "+scope.String()]}, nil
}

// Record implements gate.Recorder.
func (w *world) Record(t trace.Trace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, t)
}

// request makes one with the key; headers come in pairs, of which an empty one
// is left out.
func (w *world) request(method, path, body string, headers ...string) *http.Request {
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.front.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	return r
}

// answer is what a caller got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func do(c *http.Client, r *http.Request) answer {
	res, err := c.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(b), err}
}

func (w *world) score(body string, headers ...string) answer {
	return do(w.client, w.request("POST", "/score", body, headers...))
}

// wants checks status and a part of the text.
func (w *world) wants(what string, got answer, status int, text string) {
	w.t.Helper()
	if got.err != nil || got.status != status || !strings.Contains(got.body, text) {
		w.t.Errorf("%s: %d %.200q (%v), want %d %q", what, got.status, got.body, got.err, status, text)
	}
}

// eventually polls until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// metric is the sum of a metric's series that have the labels, "name=value".
func (w *world) metric(name string, labels ...string) float64 {
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
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetName()+"="+l.GetValue()] = true
			}
			if !slices.ContainsFunc(labels, func(l string) bool { return !have[l] }) {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
