package cluster_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/token"
)

const (
	strangersIssuer = "https://kubernetes.default.svc.cluster.local"
	otherUID        = "44444444-4444-4444-4444-444444444444"
	corednsPath     = "/api/v1/namespaces/kube-system/configmaps/coredns"
	spacePath       = "/api/v1/namespaces/azure-workload-identity-system"
)

// stranger is a server as somebody else runs it.
type stranger struct {
	*server
	issuer string
	admin  bool
	key    *rsa.PrivateKey
	keys   atomic.Int32 // how often they were asked for
	down   atomic.Bool
}

func strangersCluster(t *testing.T) *stranger {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &stranger{server: &server{t: t, objects: map[string]map[string]any{}}, issuer: strangersIssuer, admin: true, key: key}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	s.objects[corednsPath] = map[string]any{"metadata": map[string]any{"resourceVersion": "7"}, "data": map[string]any{"Corefile": ".:53 {\n    reload\n}\n"}}
	return s
}

func (s *stranger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var answer any
	switch {
	case r.URL.Path == "/version":
		answer = map[string]any{"gitVersion": "v1.33.5+k3s1"}
	case r.URL.Path == "/.well-known/openid-configuration":
		answer = map[string]any{"issuer": s.issuer}
	case r.URL.Path == "/openid/v1/jwks":
		s.keys.Add(1)
		answer = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &s.key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}}
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		answer = map[string]any{"status": map[string]any{"allowed": s.admin}}
	case r.URL.Path == "/api/v1/configmaps":
		answer = map[string]any{"items": []any{
			map[string]any{"metadata": map[string]any{"name": "lazurite-ca-bundle", "namespace": "shop", "labels": map[string]any{"app.kubernetes.io/managed-by": "azure-workload-identity"}}},
			map[string]any{"metadata": map[string]any{"name": "lazurite-ca-bundle", "namespace": "theirs"}},
		}}
	case r.URL.Path == corednsPath && r.Method == http.MethodPatch:
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
			s.t.Error(err)
		}
		s.objects[corednsPath] = answer.(map[string]any)
	default:
		s.server.ServeHTTP(w, r)
		return
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.t.Error(err)
	}
}

func (s *stranger) kubeconfig(t *testing.T) []byte {
	t.Helper()
	b, err := s.access().Kubeconfig("theirs", "admin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *stranger) has(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path] != nil
}

func (s *stranger) corefile() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, _ := s.objects[corednsPath]["data"].(map[string]any)["Corefile"].(string)
	return text
}

func existing(s *system) *cluster.Existing {
	return cluster.NewExisting(cluster.ExistingConfig{
		Store: s.store, Seal: s.ring, Issuers: s.one, Clock: func() time.Time { return s.now }, AllowPrivate: []string{"idp.corp.example"},
		Settings: func() (cluster.Values, error) {
			return cluster.Values{TenantID: tenant, AuthorityHost: "https://login.microsoftonline.com/", CABundle: "PEM"}, nil
		},
		Names: func() []string {
			return []string{"login.microsoftonline.com", "*.vault.azure.net", "**.inference.ml.azure.com"}
		},
	})
}

func attach(t *testing.T, e *cluster.Existing, s *stranger, uid, door string) error {
	t.Helper()
	f, err := e.Look(t.Context(), uid, s.kubeconfig(t), "")
	if err != nil {
		t.Fatal(err)
	}
	f.FrontDoor, f.WebhookImage = door, "registry.example/webhook:v1"
	return e.Apply(t.Context(), cluster.Spec{UID: uid, Name: "mine", ResourceID: resource + uid[:1], WorkloadIdentity: true, Attached: &f.Attached}, nil)
}

func TestAttachAndDetach(t *testing.T) {
	s, theirs := start(t), strangersCluster(t)
	e := existing(s)
	f, err := e.Look(t.Context(), uid, theirs.kubeconfig(t), "theirs")
	if err != nil || f.Version != "1.33.5" || f.Issuer != strangersIssuer || f.Keys != cluster.KeysServed || f.Context != "theirs" || strings.Contains(string(f.Sealed), "t0ken") {
		t.Fatalf("got %+v, %v", f, err)
	}
	if len(theirs.log) != 0 {
		t.Errorf("a look changes: %v", theirs.log)
	}
	if err := attach(t, e, theirs, uid, "10.1.2.3"); err != nil {
		t.Fatal(err)
	}
	deployment := "/apis/apps/v1/namespaces/azure-workload-identity-system/deployments/azure-wi-webhook-controller-manager"
	if !theirs.has(deployment) || !theirs.has(spacePath) || !strings.Contains(fmt.Sprint(theirs.objects[deployment]), "registry.example/webhook:v1") {
		t.Errorf("got %v", theirs.log)
	}
	if c := theirs.corefile(); !strings.Contains(c, "login.microsoftonline.com:53 vault.azure.net:53 inference.ml.azure.com:53 {") ||
		!strings.Contains(c, `match ^[^.]+\.vault\.azure\.net\.$`) || !strings.Contains(c, "30 IN A 10.1.2.3") || !strings.HasPrefix(c, ".:53 {\n    reload\n}\n") {
		t.Errorf("got %s", c)
	}
	if a, err := e.Access(t.Context(), uid); err != nil || a.Token != "t0ken" {
		t.Errorf("got %v, %v", a, err)
	}
	if err := e.Remove(t.Context(), uid); err != nil {
		t.Fatal(err)
	}
	for path := range theirs.objects {
		if path != corednsPath {
			t.Errorf("left: %s", path)
		}
	}
	if c := theirs.corefile(); c != ".:53 {\n    reload\n}\n" {
		t.Errorf("got %q", c)
	}
	if _, err := e.Access(t.Context(), uid); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := e.Remove(t.Context(), uid); err != nil {
		t.Errorf("gone already: %v", err)
	}
}

func TestAttachedKeys(t *testing.T) {
	s, theirs := start(t), strangersCluster(t)
	e := existing(s)
	if _, ok, err := e.Keys(t.Context(), strangersIssuer); ok || err != nil {
		t.Errorf("trusted before it is attached: %v", err)
	}
	if err := attach(t, e, theirs, uid, ""); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		set, ok, err := e.Keys(t.Context(), strangersIssuer)
		if !ok || err != nil || len(set.Key("k")) != 1 {
			t.Errorf("got %v, %v, %v", set, ok, err)
		}
	}
	if n := theirs.keys.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if _, ok, err := e.Keys(t.Context(), strangersIssuer+"/"); ok || err != nil {
		t.Errorf("another issuer: %v", err)
	}
	theirs.down.Store(true)
	s.now = s.now.Add(30 * time.Minute)
	if _, ok, err := e.Keys(t.Context(), strangersIssuer); !ok || err != nil {
		t.Errorf("the last known ones hold for a while: %v", err)
	}
	s.now = s.now.Add(time.Hour)
	if _, ok, err := e.Keys(t.Context(), strangersIssuer); !ok || err == nil {
		t.Errorf("and no longer: %v", err)
	}
	theirs.down.Store(false)
	if err := e.Remove(t.Context(), uid); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := e.Keys(t.Context(), strangersIssuer); ok || err != nil {
		t.Errorf("trusted after it is detached: %v", err)
	}
}

// TestAttachedTokens: the token service takes a service account's token of an
// attached cluster, one that another key has signed it does not, and none when
// the cluster is detached.
func TestAttachedTokens(t *testing.T) {
	s, theirs, rogue := start(t), strangersCluster(t), strangersCluster(t)
	e := existing(s)
	f, err := token.NewFederation(token.FederationConfig{Issuers: []token.IssuerKeys{s.one, e}, Clock: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	signed := func(by *stranger) error {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: by.key, KeyID: "k"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := json.Marshal(map[string]any{
			"iss": strangersIssuer, "sub": "system:serviceaccount:shop:reader", "aud": []string{cluster.DefaultAudience},
			"iat": s.now.Unix(), "nbf": s.now.Unix(), "exp": s.now.Add(time.Hour).Unix(),
		})
		if err != nil {
			t.Fatal(err)
		}
		j, err := signer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := j.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		a, err := f.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return f.VerifyAssertion(t.Context(), a, nil)
	}
	if err := attach(t, e, theirs, uid, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := signed(theirs); err != nil {
			t.Error(err)
		}
	}
	if err := signed(rogue); err == nil {
		t.Error("another key counts")
	}
	if err := e.Remove(t.Context(), uid); err != nil {
		t.Fatal(err)
	}
	if err := signed(theirs); err == nil {
		t.Error("a detached cluster's token counts")
	}
}

// TestWhoseIssuer: a cluster's own word counts only where nobody else's could.
func TestWhoseIssuer(t *testing.T) {
	s, theirs := start(t), strangersCluster(t)
	s.ensure(t)
	e := existing(s)
	for claimed, want := range map[string]string{
		"https://token.actions.githubusercontent.com":    cluster.KeysPublished,
		"https://oidc.eks.eu-west-1.amazonaws.com/id/X":  cluster.KeysPublished,
		"https://kubernetes.default.svc":                 cluster.KeysServed,
		"https://10.1.2.3:6443":                          cluster.KeysServed,
		"https://8.8.8.8":                                cluster.KeysPublished,
		"https://idp.corp.example/x":                     cluster.KeysServed,
		"https://evil.idp.corp.example":                  cluster.KeysPublished,
		issuer:                                           cluster.KeysOwn,
		"https://kubernetes.default.svc.cluster.local/x": cluster.KeysServed,
	} {
		theirs.issuer = claimed
		if f, err := e.Look(t.Context(), otherUID, theirs.kubeconfig(t), ""); err != nil || f.Keys != want {
			t.Errorf("%s: got %s, %v, want %s", claimed, f.Keys, err, want)
		}
	}
	for _, bad := range []string{"http://kubernetes.default.svc", "", "kubernetes/serviceaccount", "https://eastus.oic.prod-aks.azure.com/" + tenant + "/" + otherUID + "/"} {
		theirs.issuer = bad
		if _, err := e.Look(t.Context(), otherUID, theirs.kubeconfig(t), ""); !errors.Is(err, cluster.ErrInvalid) {
			t.Errorf("%s: got %v", bad, err)
		}
	}
	theirs.issuer = "https://token.actions.githubusercontent.com"
	if err := attach(t, e, theirs, otherUID, ""); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := e.Keys(t.Context(), theirs.issuer); ok || err != nil {
		t.Errorf("a cluster speaks for somebody else's issuer: %v", err)
	}
}

func TestOneIssuerOneCluster(t *testing.T) {
	s, a, b := start(t), strangersCluster(t), strangersCluster(t)
	e := existing(s)
	if err := attach(t, e, a, uid, ""); err != nil {
		t.Fatal(err)
	}
	if err := attach(t, e, b, otherUID, ""); !errors.Is(err, cluster.ErrInvalid) || !strings.Contains(err.Error(), "could not be told apart") {
		t.Errorf("got %v", err)
	}
	if len(b.log) != 0 {
		t.Errorf("it was changed: %v", b.log)
	}
	if err := e.Forget(t.Context(), uid); err != nil {
		t.Fatal(err)
	}
	if err := attach(t, e, b, otherUID, ""); err != nil {
		t.Errorf("it is free again: %v", err)
	}
}

func TestNotToTake(t *testing.T) {
	s, theirs := start(t), strangersCluster(t)
	e := existing(s)
	theirs.objects[spacePath] = map[string]any{"metadata": map[string]any{"name": "azure-workload-identity-system"}}
	if err := attach(t, e, theirs, uid, ""); !errors.Is(err, cluster.ErrInvalid) || !strings.Contains(err.Error(), "not by this") {
		t.Errorf("got %v", err)
	}
	if err := e.Remove(t.Context(), uid); err != nil || !theirs.has(spacePath) {
		t.Errorf("what is not ours was taken away: %v", err)
	}
	if len(theirs.log) != 0 {
		t.Errorf("it was changed: %v", theirs.log)
	}
	theirs.admin = false
	if _, err := e.Look(t.Context(), uid, theirs.kubeconfig(t), ""); !errors.Is(err, cluster.ErrInvalid) || !strings.Contains(err.Error(), "cluster-admin") {
		t.Errorf("got %v", err)
	}
	theirs.Close()
	if _, err := e.Look(t.Context(), uid, theirs.kubeconfig(t), ""); !errors.Is(err, cluster.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestDetachUnreachable(t *testing.T) {
	s, theirs := start(t), strangersCluster(t)
	e := existing(s)
	if err := attach(t, e, theirs, uid, ""); err != nil {
		t.Fatal(err)
	}
	theirs.down.Store(true)
	if err := e.Remove(t.Context(), uid); err == nil || !strings.Contains(err.Error(), theirs.URL) {
		t.Errorf("got %v", err)
	}
	if _, ok, _ := e.Keys(t.Context(), strangersIssuer); ok {
		t.Error("its tokens still count")
	}
	if err := e.Forget(t.Context(), uid); err != nil {
		t.Error(err)
	}
	if _, err := e.Access(t.Context(), uid); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestReadKubeconfig(t *testing.T) {
	s := serve(t)
	good, err := s.access().Kubeconfig("c", "u")
	if err != nil {
		t.Fatal(err)
	}
	if a, name, err := cluster.ReadKubeconfig(good, ""); err != nil || name != "c" || a.Server != s.URL || a.Token != "t0ken" || len(a.CA) == 0 {
		t.Errorf("got %v, %v", a, err)
	}
	user := func(y string) string {
		return "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: https://h}}]\nusers: [{name: u, user: {" + y + "}}]"
	}
	at := func(y string) string {
		return "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {" + y + "}}]\nusers: [{name: u, user: {token: t}}]"
	}
	if a, _, err := cluster.ReadKubeconfig([]byte(at("server: https://h:1/path, tls-server-name: n")), ""); err != nil || a.ServerName != "n" {
		t.Errorf("got %v, %v", a, err)
	}
	for text, want := range map[string]string{
		"":                             "has no context",
		"[":                            "no kubeconfig",
		"current-context: c":           "has no context",
		at("server: http://h"):         "no plain https URL",
		at(`server: "https://u:p@h"`):  "no plain https URL",
		at(`server: "https://h/?q=1"`): "no plain https URL",
		at("server: https://h, insecure-skip-tls-verify: true"):       "insecure-skip-tls-verify",
		at("server: https://h, proxy-url: http://p"):                  "proxy-url",
		at("server: https://h, certificate-authority: /etc/passwd"):   "names a file",
		at("server: https://h, certificate-authority-data: x"):        "no base64",
		at("server: https://h, certificate-authority-data: aGFsbG8="): "no certificate",
		user("exec: {command: rm}"):                                   "signs in with a program",
		user("auth-provider: {name: oidc}"):                           "signs in with a program",
		user("username: a, password: s3cret"):                         "passwords",
		user("token: t, as: root"):                                    "impersonation",
		user("tokenFile: /etc/shadow"):                                "names files",
		user("client-certificate: /etc/shadow"):                       "names files",
		user(""):                                                      "neither a token nor a client certificate",
		user("client-certificate-data: x"):                            "no base64",
		user("client-certificate-data: aGFsbG8=, token: s3cret"):      "don't fit",
		strings.Replace(user("token: t"), "name: u", "name: v", 1):    "not there",
		strings.Repeat(" ", 1<<20+1):                                  "larger than",
	} {
		_, _, err := cluster.ReadKubeconfig([]byte(text), "")
		if !errors.Is(err, cluster.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.80s: got %v, want %s", text, err, want)
		}
	}
}

func FuzzReadKubeconfig(f *testing.F) {
	cert := base64.StdEncoding.EncodeToString([]byte("x"))
	f.Add([]byte("current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: https://h}}]\nusers: [{name: u, user: {token: t}}]"))
	f.Add([]byte("current-context: c\ncontexts: [{name: c}]\nclusters: [{}]\nusers: [{user: {client-certificate-data: " + cert + "}}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, _, err := cluster.ReadKubeconfig(b, "")
		if err != nil {
			return
		}
		if !strings.HasPrefix(a.Server, "https://") || a.Token == "" && len(a.Cert) == 0 {
			t.Errorf("took %q", b)
		}
		k, err := cluster.OpenKube(a)
		if err != nil {
			t.Fatalf("can't be opened: %v", err)
		}
		k.Close()
	})
}
