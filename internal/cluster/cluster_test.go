package cluster_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
)

const (
	tenant   = "11111111-1111-1111-1111-111111111111"
	uid      = "33333333-3333-3333-3333-333333333333"
	resource = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c"
	issuer   = "https://eastus.oic.prod-aks.azure.com/" + tenant + "/" + uid + "/"
	path     = "/" + tenant + "/" + uid + "/"
	host     = "eastus.oic.prod-aks.azure.com"
)

// system is a store and the Issuers of two replicas on it.
type system struct {
	store    store.Store
	ring     *seal.Keyring
	now      time.Time
	one, two *cluster.Issuers
}

func start(t testing.TB) *system {
	t.Helper()
	dir := t.TempDir()
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := seal.OpenFileRoot(filepath.Join(dir, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := &system{store: st, ring: seal.NewKeyring(st, root), now: time.Now()}
	issuers := func() *cluster.Issuers {
		return cluster.New(cluster.Config{
			Store: st, Seal: seal.NewKeyring(st, root), Tenant: tenant, Clock: func() time.Time { return s.now },
			URL: func(region string) string { return "https://" + region + ".oic.prod-aks.azure.com" },
		})
	}
	s.one, s.two = issuers(), issuers()
	return s
}

func (s *system) ensure(t testing.TB) {
	t.Helper()
	if got, err := s.one.Ensure(t.Context(), uid, resource, "eastus"); err != nil || got != issuer {
		t.Fatalf("ensure: %q, %v", got, err)
	}
}

func request() cluster.Request {
	return cluster.Request{Cluster: resource, Namespace: "default", ServiceAccount: "workload-identity-sa"}
}

func (s *system) token(t testing.TB, from *cluster.Issuers) cluster.Token {
	t.Helper()
	tok, err := from.Token(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// verify checks a token as the token service does.
func (s *system) verify(t testing.TB, issuers *cluster.Issuers, raw string) (*token.Assertion, error) {
	t.Helper()
	f, err := token.NewFederation(token.FederationConfig{Issuers: []token.IssuerKeys{issuers}, Clock: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := f.Parse(raw)
	if err != nil {
		return nil, err
	}
	return a, f.VerifyAssertion(t.Context(), a, nil)
}

func payload(t testing.TB, raw string) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestToken(t *testing.T) {
	s := start(t)
	s.ensure(t)
	first := s.token(t, s.one)
	if first.Issuer != issuer || first.Subject != "system:serviceaccount:default:workload-identity-sa" || !first.Expires.Equal(s.now.Truncate(time.Second).Add(time.Hour)) {
		t.Errorf("got %+v", first)
	}
	got := payload(t, first.Value)
	account := got["kubernetes.io"].(map[string]any)["serviceaccount"].(map[string]any)
	now := float64(s.now.Unix())
	want := map[string]any{
		"aud": []any{"api://AzureADTokenExchange"}, "iss": issuer, "sub": first.Subject, "iat": now, "nbf": now, "exp": now + 3600, "jti": got["jti"],
		"kubernetes.io": map[string]any{"namespace": "default", "serviceaccount": map[string]any{"name": "workload-identity-sa", "uid": account["uid"]}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	again := payload(t, s.token(t, s.two).Value)
	if again["jti"] == got["jti"] || got["jti"] == "" {
		t.Errorf("two tokens with the jti %v", got["jti"])
	}
	if diff := cmp.Diff(got["kubernetes.io"], again["kubernetes.io"]); diff != "" {
		t.Errorf("another token of the same service account:\n%s", diff)
	}
	for _, in := range []*cluster.Issuers{s.one, s.two} {
		a, err := s.verify(t, in, first.Value)
		if err != nil || a.Subject != first.Subject {
			t.Errorf("got %v, %v", a, err)
		}
	}
	r := request()
	r.Cluster, r.Audience, r.Lifetime = strings.ToUpper(resource), "https://example.com", 10*time.Minute
	tok, err := s.one.Token(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if p := payload(t, tok.Value); p["exp"] != now+600 || !slices.Equal(p["aud"].([]any), []any{"https://example.com"}) {
		t.Errorf("got %v", p)
	}
}

func TestTokenRefusals(t *testing.T) {
	s := start(t)
	s.ensure(t)
	for name, change := range map[string]func(*cluster.Request){
		"namespace empty":     func(r *cluster.Request) { r.Namespace = "" },
		"namespace upper":     func(r *cluster.Request) { r.Namespace = "Default" },
		"namespace colon":     func(r *cluster.Request) { r.Namespace = "default:x" },
		"namespace long":      func(r *cluster.Request) { r.Namespace = strings.Repeat("a", 64) },
		"namespace newline":   func(r *cluster.Request) { r.Namespace = "default\n" },
		"account empty":       func(r *cluster.Request) { r.ServiceAccount = "" },
		"account slash":       func(r *cluster.Request) { r.ServiceAccount = "a/b" },
		"account dot at end":  func(r *cluster.Request) { r.ServiceAccount = "a." },
		"account long":        func(r *cluster.Request) { r.ServiceAccount = strings.Repeat("a", 254) },
		"audience long":       func(r *cluster.Request) { r.Audience = strings.Repeat("a", 601) },
		"audience line break": func(r *cluster.Request) { r.Audience = "a\nb" },
		"too short":           func(r *cluster.Request) { r.Lifetime = 10*time.Minute - time.Second },
		"too long":            func(r *cluster.Request) { r.Lifetime = 24*time.Hour + time.Second },
		"negative":            func(r *cluster.Request) { r.Lifetime = -time.Hour },
	} {
		r := request()
		change(&r)
		if _, err := s.one.Token(t.Context(), r); !errors.Is(err, cluster.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, id := range []string{"", "/", resource + "x", strings.Repeat("x", 3000)} {
		r := request()
		r.Cluster = id
		if _, err := s.one.Token(t.Context(), r); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("the cluster %.40q: got %v", id, err)
		}
	}
	if _, err := s.one.Ensure(t.Context(), "../x", resource, "eastus"); !errors.Is(err, cluster.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestRemove(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	s.ensure(t)
	tok := s.token(t, s.two)
	if _, err := s.verify(t, s.two, tok.Value); err != nil {
		t.Fatal(err)
	}
	sealed := s.sealed(t)
	for range 2 {
		if err := s.one.Remove(ctx, uid); err != nil {
			t.Fatal(err)
		}
	}
	for _, in := range []*cluster.Issuers{s.one, s.two} {
		if _, err := s.verify(t, in, tok.Value); err == nil || !strings.Contains(err.Error(), "deleted") {
			t.Errorf("the token of a deleted cluster: got %v", err)
		}
		if _, err := in.Token(ctx, request()); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if w := get(in, "GET", host, path+"openid/v1/jwks"); w.Code != http.StatusNotFound {
			t.Errorf("got %d", w.Code)
		}
	}
	if _, err := s.ring.Open(ctx, "cluster/"+uid, sealed, nil); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("the key of a deleted cluster: got %v", err)
	}
	if err := s.one.Rotate(ctx, uid); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	// A new cluster of that name is another issuer.
	other := strings.Replace(uid, "3", "4", 1)
	got, err := s.one.Ensure(ctx, other, resource, "eastus")
	if err != nil || got == issuer {
		t.Fatalf("got %q, %v", got, err)
	}
	if next := s.token(t, s.two); next.Issuer != got {
		t.Errorf("got %q, want %q", next.Issuer, got)
	}
}

// sealed is the private key as it is stored, and nothing of it is readable.
func (s *system) sealed(t testing.TB) []byte {
	t.Helper()
	doc, _, err := store.GetJSON[struct {
		Keys []struct{ Sealed []byte }
	}](t.Context(), s.store, "cluster/issuers/"+uid)
	if err != nil || len(doc.Keys) == 0 {
		t.Fatalf("got %v, %v", doc, err)
	}
	return doc.Keys[0].Sealed
}

func TestRotate(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	s.ensure(t)
	kids := func() (ids []string) {
		set, ok, err := s.two.Keys(ctx, issuer)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		for _, k := range set.Keys {
			ids = append(ids, k.KeyID)
		}
		return ids
	}
	rotate := func() {
		t.Helper()
		if err := s.one.Rotate(ctx, uid); err != nil {
			t.Fatal(err)
		}
	}
	old := s.token(t, s.two)
	before := kids()
	rotate()
	after := kids()
	if len(before) != 1 || len(after) != 2 || after[0] != before[0] {
		t.Errorf("keys before and after: %v, %v", before, after)
	}
	fresh := s.token(t, s.two)
	for _, tok := range []cluster.Token{old, fresh} {
		if _, err := s.verify(t, s.two, tok.Value); err != nil {
			t.Error(err)
		}
	}
	s.now = s.now.Add(25 * time.Hour)
	if got := kids(); len(got) != 1 || got[0] != after[1] {
		t.Errorf("after a day: %v", got)
	}
	last := s.token(t, s.two)
	rotate()
	rotate()
	if _, err := s.verify(t, s.two, last.Value); !apierr.Is(err, apierr.Unauthorized) {
		t.Errorf("rotated twice: got %v", err)
	}
	if got := kids(); len(got) != 2 || slices.Contains(got, after[1]) {
		t.Errorf("rotated twice: %v", got)
	}
}

func get(in *cluster.Issuers, method, host, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "https://"+host+path, nil)
	in.ServeHTTP(w, r)
	return w
}

func TestDocuments(t *testing.T) {
	s := start(t)
	s.ensure(t)
	var got map[string]any
	w := get(s.two, "GET", host, path+".well-known/openid-configuration")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"issuer": issuer, "jwks_uri": issuer + "openid/v1/jwks", "response_types_supported": []any{"id_token"},
		"subject_types_supported": []any{"public"}, "id_token_signing_alg_values_supported": []any{"RS256"},
	}
	if diff := cmp.Diff(want, got); diff != "" || w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		t.Errorf("%d %v:\n%s", w.Code, w.Header(), diff)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(get(s.two, "GET", "eastus.oic.laz.example:8443", path+"openid/v1/jwks").Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 1 {
		t.Fatalf("got %v", set)
	}
	k := set.Keys[0]
	if k["kty"] != "RSA" || k["use"] != "sig" || k["alg"] != "RS256" || k["e"] != "AQAB" || k["kid"] == "" || len(k) != 6 {
		t.Errorf("got %v", k)
	}
	for _, r := range []struct {
		method, host, path string
		want               int
	}{
		{"HEAD", host, path + "openid/v1/jwks", 200},
		{"POST", host, path + "openid/v1/jwks", 405},
		{"GET", host, "/", 404},
		{"GET", host, path, 404},
		{"GET", host, path + "openid/v1/jwks/", 404},
		{"GET", host, path + "openid/v1", 404},
		{"GET", host, path + ".well-known/jwks", 404},
		{"GET", "westus.oic.prod-aks.azure.com", path + "openid/v1/jwks", 404},
		{"GET", host, strings.Replace(path, "3", "4", 1) + "openid/v1/jwks", 404},
		{"GET", host, strings.Replace(path, "1", "2", 1) + "openid/v1/jwks", 404},
		{"GET", host, "/" + tenant + "/{" + uid + "}/openid/v1/jwks", 404},
		{"GET", host, "/" + tenant + "/..%2f/openid/v1/jwks", 404},
	} {
		if w := get(s.one, r.method, r.host, r.path); w.Code != r.want {
			t.Errorf("%s %s%s: got %d, want %d", r.method, r.host, r.path, w.Code, r.want)
		}
	}
}

func TestKeysOfOthers(t *testing.T) {
	s := start(t)
	s.ensure(t)
	other := strings.Replace(uid, "3", "4", 1)
	for url, ours := range map[string]bool{
		"":                                  false,
		"https://token.actions.example.com": false,
		"http" + issuer[5:]:                 false,
		"https://sts.windows.net/" + tenant: false,
		"https://example.com" + path:        false, // our path elsewhere
		"https://eastus.oic.prod-aks.azure.com/" + other + "/" + other + "/": false, // another tenant's cluster in Azure
		strings.Replace(issuer, uid, other, 1):                               true,
		strings.TrimSuffix(issuer, "/"):                                      true,
		strings.ToUpper(host) + "/":                                          false,
		strings.Replace(issuer, "eastus", "westus", 1):                       true,
		issuer + strings.Repeat("/", 700):                                    false,
	} {
		set, ok, err := s.one.Keys(t.Context(), url)
		if ok != ours || (err != nil) != ours || len(set.Keys) != 0 {
			t.Errorf("%.100q: got %d keys, %v, %v", url, len(set.Keys), ok, err)
		}
	}
}

func TestBadDocument(t *testing.T) {
	s := start(t)
	ctx := context.Background()
	for _, bad := range []string{"{", "{}", `{"keys":[{"kid":"x","public":"AAAA"}]}`} {
		doc, err := s.store.Get(ctx, "cluster/issuers/"+uid)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := s.store.Put(ctx, store.Doc{Key: "cluster/issuers/" + uid, Kind: "clusterIssuer", Rev: doc.Rev, Value: []byte(bad)}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.one.Keys(ctx, issuer); err == nil || errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("%s: got %v", bad, err)
		}
		if w := get(s.one, "GET", host, path+"openid/v1/jwks"); w.Code != http.StatusInternalServerError {
			t.Errorf("%s: got %d", bad, w.Code)
		}
	}
}

func FuzzKeys(f *testing.F) {
	s := start(f)
	s.ensure(f)
	for _, seed := range []string{issuer, issuer[:len(issuer)-1], "https://x/", "https://eastus.oic.prod-aks.azure.com/%00/" + uid + "/", "://"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		set, ok, err := s.one.Keys(context.Background(), url)
		if has := len(set.Keys) > 0; has != (url == issuer) || has && (!ok || err != nil) {
			t.Errorf("%q: got %d keys, %v, %v", url, len(set.Keys), ok, err)
		}
	})
}
