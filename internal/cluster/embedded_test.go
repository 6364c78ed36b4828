package cluster_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/cluster"
)

// server answers as far as the driver asks an API server: it takes what is
// applied, and says that it runs.
type server struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex // guards what follows
	objects map[string]map[string]any
	log     []string // of changes: "PATCH /apis/…"
	busy    int      // how many applies are answered with 500 first
}

func serve(t *testing.T) *server {
	s := &server{t: t, objects: map[string]map[string]any{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) access() cluster.Access {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return cluster.Access{Server: s.URL, CA: ca, Token: "t0ken"}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Authorization") != "Bearer t0ken" {
		s.t.Errorf("%s %s: %v, %v", r.Method, r.URL, r.Header, err)
	}
	if r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "" {
		s.log = append(s.log, r.Method+" "+r.URL.Path)
	}
	status, answer := s.answer(r, body)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.t.Error(err)
	}
}

func (s *server) answer(r *http.Request, body []byte) (int, any) {
	refusal := func(code int, reason string) (int, any) {
		return code, map[string]any{"kind": "Status", "reason": reason, "message": "because of " + reason}
	}
	var o map[string]any
	switch r.Method {
	case http.MethodPatch:
		if s.busy--; s.busy >= 0 {
			return refusal(http.StatusInternalServerError, "InternalError")
		}
		if err := json.Unmarshal(body, &o); err != nil || r.URL.RawQuery != "fieldManager=lazurite&force=true" || r.Header.Get("Content-Type") != "application/apply-patch+yaml" {
			s.t.Errorf("PATCH %s: %v, %v", r.URL, r.Header, err)
		}
		if strings.HasSuffix(r.URL.Path, "/invalid") {
			return refusal(http.StatusUnprocessableEntity, "Invalid")
		}
		s.objects[r.URL.Path] = o
		return http.StatusOK, o
	case http.MethodDelete:
		if s.objects[r.URL.Path] == nil {
			return refusal(http.StatusNotFound, "NotFound")
		}
		delete(s.objects, r.URL.Path)
		return http.StatusOK, map[string]any{}
	case http.MethodPost:
		return s.dryRun(r)
	}
	if o := s.objects[r.URL.Path]; o != nil {
		o["status"] = map[string]any{"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "updatedNumberScheduled": 1, "desiredNumberScheduled": 1, "numberAvailable": 1}
		return http.StatusOK, o
	}
	return refusal(http.StatusNotFound, "NotFound")
}

// dryRun treats pods and policies as what was applied says.
func (s *server) dryRun(r *http.Request) (int, any) {
	if r.URL.Query().Get("dryRun") != "All" {
		s.t.Errorf("POST %s", r.URL)
	}
	has := func(part string) bool {
		for path := range s.objects {
			if strings.Contains(path, part) {
				return true
			}
		}
		return false
	}
	if strings.HasSuffix(r.URL.Path, "/networkpolicies") {
		if has("validatingadmissionpolicybindings") {
			return http.StatusUnprocessableEntity, map[string]any{"reason": "Invalid"}
		}
		return http.StatusCreated, map[string]any{}
	}
	env := []any{}
	if has("azure-wi-webhook-mutating") {
		env = append(env, map[string]any{"name": "AZURE_FEDERATED_TOKEN_FILE"})
	}
	return http.StatusCreated, map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"env": env}}}}
}

func (s *server) changes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.log
	s.log = nil
	return out
}

// agent is a node agent without machines.
type agent struct {
	*server
	mu    sync.Mutex
	plans []cluster.Plan
	gone  []string
	hold  chan struct{}
	err   error
}

func (a *agent) Info(context.Context) (string, error) { return "1.37.2", nil }

func (a *agent) Apply(ctx context.Context, p cluster.Plan, tell func(cluster.Phase)) error {
	a.mu.Lock()
	a.plans = append(a.plans, p)
	hold, err := a.hold, a.err
	a.mu.Unlock()
	tell(cluster.Phase{Name: "etcd"})
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (a *agent) Remove(_ context.Context, uid string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = append(a.gone, uid)
	return nil
}

func (a *agent) Admin(context.Context, string) (cluster.Access, error) { return a.access(), nil }

func embedded(t *testing.T) (*cluster.Embedded, *agent, *system) {
	t.Helper()
	s := start(t)
	s.ensure(t)
	a := &agent{server: serve(t)}
	return cluster.NewEmbedded(cluster.EmbeddedConfig{
		Agent: a, Issuers: s.one,
		Settings: func() (cluster.Values, error) {
			return cluster.Values{TenantID: tenant, AuthorityHost: "https://login.microsoftonline.com/", CABundle: "-----BEGIN\nx\n", CACert: "c"}, nil
		},
	}), a, s
}

func spec() cluster.Spec {
	return cluster.Spec{
		UID: uid, Name: "c", ResourceID: resource, Location: "eastus", Version: "1.37.2", Running: true, FQDN: "C-1.hcp.eastus.azmk8s.io",
		PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.0.0.0/16", DNSServiceIP: "10.0.0.10", Published: true, NetworkPolicy: true, WorkloadIdentity: true,
		Nodes: []cluster.Node{{Name: "n1"}, {Name: "n2"}},
	}
}

// TestEmbedded_Pulls: nodes pull with the kubelet's identity where there is one,
// and what they have is worth nothing before the cluster is taken away.
func TestEmbedded_Pulls(t *testing.T) {
	s := start(t)
	s.ensure(t)
	a := &agent{server: serve(t)}
	var order []string
	var refuse error
	d := cluster.NewEmbedded(cluster.EmbeddedConfig{
		Agent: a, Issuers: s.one,
		Pulls: func(_ context.Context, uid, identity string) (*cluster.Pull, error) {
			order = append(order, uid+" pulls as "+identity)
			return &cluster.Pull{Registries: []string{"*.azurecr.io"}, Secret: "hidden"}, refuse
		},
		PullsNot: func(_ context.Context, uid string) error {
			order = append(order, uid+" pulls not")
			if len(a.gone) > 0 {
				t.Error("the nodes went first")
			}
			return refuse
		},
	})
	stopped := spec()
	stopped.Running = false
	if err := d.Apply(t.Context(), stopped, nil); err != nil || a.plans[0].Pull != nil {
		t.Fatalf("without an identity: %+v, %v", a.plans[0].Pull, err)
	}
	stopped.Kubelet = "/identity"
	if err := d.Apply(t.Context(), stopped, nil); err != nil || a.plans[1].Pull == nil || a.plans[1].Pull.Secret != "hidden" {
		t.Fatalf("with an identity: %+v, %v", a.plans[1].Pull, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", a.plans[1].Pull, *a.plans[1].Pull, a.plans[1].Pull); strings.Contains(text, "hidden") {
		t.Errorf("it shows its secret: %s", text)
	}
	refuse = errors.New("no keys")
	if err := d.Apply(t.Context(), stopped, nil); !errors.Is(err, refuse) || len(a.plans) != 2 {
		t.Errorf("refused: %v", err)
	}
	if err := d.Remove(t.Context(), uid); !errors.Is(err, refuse) || len(a.gone) > 0 {
		t.Errorf("refused: %v, %v", err, a.gone)
	}
	refuse = nil
	if err := d.Remove(t.Context(), uid); err != nil || len(a.gone) != 1 {
		t.Errorf("removed: %v, %v", err, a.gone)
	}
	want := []string{uid + " pulls as /identity", uid + " pulls as /identity", uid + " pulls not", uid + " pulls not"}
	if !slices.Equal(order, want) {
		t.Errorf("got %v", order)
	}
}

func TestEmbeddedApply(t *testing.T) {
	d, a, _ := embedded(t)
	a.busy = 2
	var phases []string
	tell := func(p cluster.Phase) { phases = append(phases, p.Name) }
	if err := d.Apply(t.Context(), spec(), tell); err != nil {
		t.Fatal(err)
	}
	p := a.plans[0]
	if p.Issuer != issuer || p.JWKSURI != issuer+"openid/v1/jwks" || len(p.Keys) != 1 || p.Names[0] != "c-1.hcp.eastus.azmk8s.io" || strings.Contains(p.Keys[0].String(), "PRIVATE") {
		t.Errorf("got %+v", p)
	}
	if !slices.Contains(phases, "etcd") || !slices.Contains(phases, "admission") {
		t.Errorf("got %v", phases)
	}
	a.changes()
	s := spec()
	s.NetworkPolicy, s.WorkloadIdentity = false, false
	if err := d.Apply(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	log := strings.Join(a.changes(), "\n")
	if !strings.Contains(log, "PATCH /apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/lazurite-network-policy-none") {
		t.Errorf("got %s", log)
	}
	if err := d.Apply(t.Context(), spec(), nil); err != nil {
		t.Fatal(err)
	}
	log = strings.Join(a.changes(), "\n")
	policy, binding := strings.Index(log, "DELETE /apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/"), strings.Index(log, "DELETE /apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/")
	if policy < 0 || binding < 0 || policy < binding {
		t.Errorf("the last object goes first: got %s", log)
	}
	s.Running = false
	if err := d.Apply(t.Context(), s, nil); err != nil || len(a.changes()) != 0 {
		t.Errorf("a stopped cluster: %v", err)
	}
	a.err = errors.New("no room")
	if err := d.Apply(t.Context(), spec(), nil); !errors.Is(err, a.err) {
		t.Errorf("got %v", err)
	}
}

func TestEmbeddedRemove(t *testing.T) {
	d, a, _ := embedded(t)
	a.hold = make(chan struct{})
	began := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- d.Apply(t.Context(), spec(), func(cluster.Phase) { close(began) }) }()
	<-began
	if err := d.Remove(t.Context(), uid); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "being deleted") {
		t.Errorf("the Apply in progress: got %v", err)
	}
	close(a.hold)
	if err := d.Apply(t.Context(), spec(), nil); err == nil || len(a.plans) != 1 {
		t.Errorf("an Apply that came late made the cluster again: %v", err)
	}
	if len(a.gone) != 1 {
		t.Errorf("got %v", a.gone)
	}
}

func TestKubeAPI(t *testing.T) {
	s := serve(t)
	for name, a := range map[string]cluster.Access{
		"plain http": {Server: "http://x"}, "no URL": {Server: "x y"}, "no authority": {Server: s.URL, CA: []byte("x")}, "no key": {Server: s.URL, Cert: []byte("x"), Key: []byte("y")},
	} {
		if _, err := cluster.OpenKube(a); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	k, err := cluster.OpenKube(s.access())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	list, err := cluster.ReadObjects([]byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: invalid}\n---\n---\n# nothing\n"))
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	if err := k.ApplyAll(t.Context(), list); err == nil || !strings.Contains(err.Error(), "because of Invalid") {
		t.Errorf("got %v", err)
	}
	if strings.Contains(s.access().String(), "t0ken") {
		t.Error("an access shows its token")
	}
	if _, err := cluster.OpenKube(s.access()); err != nil {
		t.Error(err)
	}
	stranger := s.access()
	stranger.CA = nil
	if k, err = cluster.OpenKube(stranger); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := k.Get(ctx, "/x", nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server of an unknown authority: %v", err)
	}
}

func TestObjects(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: n}":                 "/api/v1/namespaces/n/pods/p",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: n}":     "/apis/apps/v1/namespaces/n/deployments/d",
		"apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: default}": "/apis/storage.k8s.io/v1/storageclasses/default",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p}":                               "",
		"apiVersion: v1\nkind: Robot\nmetadata: {name: p}":                             "",
		"kind: Pod\nmetadata: {name: p, namespace: n}":                                 "",
		"apiVersion: v1\nkind: Namespace\nmetadata: []":                                "",
		"- a list": "",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: [": "",
	} {
		list, err := cluster.ReadObjects([]byte(text))
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken", text)
			}
			continue
		}
		if got, _ := list[0].Path(); err != nil || got != want {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
}

func FuzzReadObjects(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: n}\n---\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := cluster.ReadObjects(b)
		if err != nil {
			return
		}
		for _, o := range list {
			if _, err := o.Path(); err != nil {
				t.Errorf("%v: %v", o, err)
			}
		}
	})
}

func TestHiddenIssuer(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	for range 2 {
		if err := s.one.EnsureHidden(ctx, uid, resource, "eastus"); err != nil {
			t.Fatal(err)
		}
	}
	url, keys, err := s.two.Signing(ctx, uid)
	if err != nil || url != issuer || len(keys) != 1 {
		t.Errorf("got %q, %v, %v", url, keys, err)
	}
	if _, _, err := s.two.Keys(ctx, issuer); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("a hidden issuer is trusted: %v", err)
	}
	if w := get(s.two, "GET", host, path+"openid/v1/jwks"); w.Code != http.StatusNotFound {
		t.Errorf("a hidden issuer is published: %d", w.Code)
	}
	if _, err := s.two.Token(ctx, request()); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := s.two.Rotate(ctx, uid); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	s.ensure(t)
	if err := s.one.EnsureHidden(ctx, uid, resource, "eastus"); err != nil {
		t.Fatal(err)
	}
	if set, ok, err := s.two.Keys(ctx, issuer); !ok || err != nil || len(set.Keys) != 1 || set.Keys[0].KeyID != keys[0].ID {
		t.Errorf("got %v, %v, %v", set, ok, err)
	}
	if err := s.one.Remove(ctx, uid); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.two.Signing(ctx, uid); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestDrivers(t *testing.T) {
	d, _, _ := embedded(t)
	all := &cluster.Drivers{Mode: cluster.Auto, List: []cluster.Driver{cluster.IssuerOnly{}, d}}
	if got, why, err := all.Choose(t.Context()); err != nil || why != nil || got.Name() != "embedded" {
		t.Errorf("got %v, %v, %v", got, why, err)
	}
	all.Mode = ""
	if got, why, err := all.Choose(t.Context()); err != nil || why != nil || got.Name() != "issuer" {
		t.Errorf("got %v, %v, %v", got, why, err)
	}
	if _, err := all.Named("other"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	all.Mode, all.List = cluster.Auto, all.List[:1]
	if got, why, err := all.Choose(t.Context()); err != nil || !errors.Is(why, cluster.ErrUnavailable) || got.Name() != "issuer" {
		t.Errorf("got %v, %v, %v", got, why, err)
	}
}
