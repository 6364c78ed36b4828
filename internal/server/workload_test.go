package server

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/imds"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
)

const (
	testTenant = "11111111-1111-1111-1111-111111111111"
	testGroup  = "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/g"
)

// parts is a system with what `laz run` asks for, and no front door.
func parts(t *testing.T) *system {
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
	s := &system{Base: &Base{Config: &Config{Names: NamesAzure}, Store: st}, in: &installation{Tenant: testTenant}}
	if s.dir, err = directory.Open(context.Background(), st, testTenant); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.dir.Close)
	s.keyring = seal.NewKeyring(st, root)
	s.issuers = cluster.New(cluster.Config{
		Store: st, Seal: s.keyring, Tenant: testTenant, URL: func(region string) string { return s.Config.URL(OIDC, region) },
	})
	if s.tokens, err = token.Open(t.Context(), token.Config{Store: st, Seal: s.keyring, TenantID: testTenant}); err != nil {
		t.Fatal(err)
	}
	if s.metadata, err = imds.New(imds.Config{Tokens: s.tokens, Store: st, Directory: s.dir}); err != nil {
		t.Fatal(err)
	}
	return s
}

// put stores a resource of the group.
func (s *system) put(t *testing.T, typ, name string, properties map[string]any) string {
	t.Helper()
	e := &arm.Envelope{ID: testGroup + "/providers/" + typ + "/" + name, Name: name, Type: typ, Properties: properties}
	if err := (arm.Resources{Store: s.Store}).Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return e.ID
}

// cluster makes one with an issuer and gives the issuer's URL.
func (s *system) cluster(t *testing.T, name, uid string) string {
	t.Helper()
	url, err := s.issuers.Ensure(t.Context(), uid, s.put(t, clusterType, name, map[string]any{}), "eastus")
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// identity makes one that trusts a subject of an issuer, unless that is "".
func (s *system) identity(t *testing.T, name, client, issuer, subject string) string {
	t.Helper()
	id := s.put(t, identityType, name, map[string]any{"clientId": client})
	if err := s.dir.EnsureManagedIdentity(t.Context(), directory.ManagedIdentity{
		ResourceID: id, ClientID: client, PrincipalID: "principal-" + client, TenantID: testTenant, Name: name,
	}); err != nil {
		t.Fatal(err)
	}
	if issuer != "" {
		c := directory.FederatedCredential{Name: "fed", Issuer: issuer, Subject: subject, Audiences: []string{cluster.DefaultAudience}}
		if _, err := s.dir.SetCredential(t.Context(), client, c); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

func wantRefusal(t *testing.T, err error, code string, texts ...string) {
	t.Helper()
	e := apierr.From(err)
	if e == nil || e.Code != code {
		t.Errorf("got %v, want %s", err, code)
		return
	}
	for _, s := range texts {
		if !strings.Contains(e.Message, s) {
			t.Errorf("%q does not say %q", e.Message, s)
		}
	}
}

func TestServiceAccountToken(t *testing.T) {
	s := parts(t)
	ask := func(change func(*TokenRequest)) (TokenAnswer, error) {
		r := TokenRequest{Namespace: "default", Name: "sa"}
		change(&r)
		return s.serviceAccountToken(t.Context(), r)
	}
	same := func(*TokenRequest) {}
	_, err := ask(same)
	wantRefusal(t, err, "NotFound", "az aks create")

	issuer := s.cluster(t, "one", "33333333-3333-3333-3333-333333333333")
	got, err := ask(same)
	if err != nil || got.ClientID != "" || got.TenantID != testTenant || got.AuthorityHost != "https://login.microsoftonline.com/" ||
		strings.Count(got.Token, ".") != 2 || time.Until(got.Expires) < 59*time.Minute {
		t.Errorf("got %+v, %v", got, err)
	}
	s.identity(t, "id1", "client1", issuer, "system:serviceaccount:default:sa")
	id2 := s.identity(t, "id2", "client2", issuer, "system:serviceaccount:default:other")
	s.identity(t, "id3", "client3", strings.TrimSuffix(issuer, "/"), "system:serviceaccount:default:sa") // trusts nothing
	if got, err = ask(same); err != nil || got.ClientID != "client1" {
		t.Errorf("got %q, %v, want the one that trusts", got.ClientID, err)
	}
	if got, err = ask(func(r *TokenRequest) { r.Audience = "https://example.com" }); err != nil || got.ClientID != "" {
		t.Errorf("another audience: got %q, %v", got.ClientID, err)
	}
	for _, name := range []string{"id2", "ID2", "client2", id2} {
		if got, err = ask(func(r *TokenRequest) { r.Identity = name }); err != nil || got.ClientID != "client2" {
			t.Errorf("%s: got %q, %v", name, got.ClientID, err)
		}
	}
	s.identity(t, "id4", "client4", issuer, "system:serviceaccount:default:sa")
	if got, err = ask(same); err != nil || got.ClientID != "" {
		t.Errorf("several trust it: got %q, %v", got.ClientID, err)
	}
	_, err = ask(func(r *TokenRequest) { r.Identity = "absent" })
	wantRefusal(t, err, "NotFound", "'absent'", "id1", "id4")
	_, err = ask(func(r *TokenRequest) { r.Name = "Not A Name" })
	wantRefusal(t, err, "InvalidTokenRequest", "Not A Name")
	_, err = ask(func(r *TokenRequest) { r.ExpirationSeconds = 60 })
	wantRefusal(t, err, "InvalidTokenRequest", "10m")
}

func TestServiceAccountToken_Clusters(t *testing.T) {
	s := parts(t)
	ask := func(name string) error {
		_, err := s.serviceAccountToken(t.Context(), TokenRequest{Namespace: "default", Name: "sa", Cluster: name})
		return err
	}
	s.cluster(t, "one", "33333333-3333-3333-3333-333333333333")
	off := s.put(t, clusterType, "off", map[string]any{})
	wantRefusal(t, ask(""), "Ambiguous", "off, one", "--cluster")
	wantRefusal(t, ask("absent"), "NotFound", "'absent'", "off, one")
	for _, name := range []string{"off", strings.ToUpper(off)} {
		wantRefusal(t, ask(name), "OIDCIssuerDisabled", "az aks update --name off --resource-group g --enable-oidc-issuer")
	}
	if err := ask("ONE"); err != nil {
		t.Error(err)
	}
	s.put(t, clusterType, "still", map[string]any{"powerState": map[string]any{"code": "Stopped"}})
	wantRefusal(t, ask("still"), "ClusterStopped", "az aks start --name still --resource-group g")
	// The same name in another group, of another subscription.
	e := &arm.Envelope{ID: "/subscriptions/other/resourceGroups/h/providers/" + clusterType + "/one", Name: "one", Type: clusterType}
	if err := (arm.Resources{Store: s.Store}).Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, ask("one"), "Ambiguous", "resource id", testGroup)
	if err := (arm.Resources{Store: s.Store}).Delete(t.Context(), rid.MustParse(e.ID)); err != nil {
		t.Fatal(err)
	}
}

func TestRunSecret(t *testing.T) {
	s := parts(t)
	_, err := s.runSecret(t.Context(), RunRequest{Identity: "id1"})
	wantRefusal(t, err, "NotFound", "az identity create")
	id := s.identity(t, "id1", "client1", "", "")
	s.identity(t, "id2", "client2", "", "")
	_, err = s.runSecret(t.Context(), RunRequest{Identity: "id3"})
	wantRefusal(t, err, "NotFound", "'id3'", "id1, id2")
	seen := map[string]bool{}
	for _, name := range []string{"id1", "CLIENT1", strings.ToLower(id)} {
		got, err := s.runSecret(t.Context(), RunRequest{Identity: name})
		if err != nil || got.ClientID != "client1" || got.TenantID != testTenant || len(got.Secret) < 20 || seen[got.Secret] {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		seen[got.Secret] = true
	}
	for secret := range seen {
		ask := func() int {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net", nil)
			r.Header.Set("X-IDENTITY-HEADER", secret)
			w := httptest.NewRecorder()
			s.metadata.ServeHTTP(w, r)
			return w.Code
		}
		if got := ask(); got != 200 {
			t.Errorf("during the run: %d", got)
		}
		for range 2 {
			if _, err := s.endRun(t.Context(), RunEnd{Secret: secret}); err != nil {
				t.Error(err)
			}
		}
		if got := ask(); got != 401 {
			t.Errorf("after the run its secret is good still: %d", got)
		}
	}
}
