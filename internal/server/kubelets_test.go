package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/ca"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/web"
)

const kubeletIdentity = "/subscriptions/s/resourceGroups/mc/providers/Microsoft.ManagedIdentity/userAssignedIdentities/c-agentpool"

// kubelets is a system with a cluster's kubelet identity.
func kubelets(t *testing.T) *system {
	t.Helper()
	s := parts(t)
	s.Config.Domain = "lazurite.test"
	var err error
	if s.CA, err = ca.Open(ca.Config{Dir: t.TempDir(), Owned: func(string) bool { return true }}); err != nil {
		t.Fatal(err)
	}
	err = s.dir.EnsureManagedIdentity(t.Context(), directory.ManagedIdentity{
		ResourceID: kubeletIdentity, Name: "c-agentpool", TenantID: testTenant,
		ClientID: "aaaaaaaa-0000-0000-0000-000000000001", PrincipalID: "bbbbbbbb-0000-0000-0000-000000000001",
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// doorOf is the front door with the tokens of kubelets, on nothing.
func doorOf(t *testing.T, s *system) http.Handler {
	t.Helper()
	front, err := web.NewFront(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), func(context.Context) []slog.Attr { return nil })
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := s.Config.hosts(nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := &Server{front: front, hosts: hosts, system: &Assembly{MSI: s.metadata}}
	return srv.kubeletTokens(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
}

func askToken(t *testing.T, door http.Handler, url, network, secret string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(arrival.With(t.Context(), arrival.Arrival{Network: network}), http.MethodGet,
		url+"?api-version=2019-08-01&resource=https://containerregistry.azure.net", nil)
	if secret != "" {
		r.Header.Set("X-IDENTITY-HEADER", secret)
	}
	w := httptest.NewRecorder()
	door.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestKubelets_Pull(t *testing.T) {
	s := kubelets(t)
	p, err := s.pulls(t.Context(), "uid-1", kubeletIdentity)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"*.azurecr.io", "*.registry.lazurite.test"}, p.Registries); diff != "" || p.TokenURL != "https://login.microsoftonline.com/msi/token" || !strings.HasPrefix(string(p.CA), "-----BEGIN CERTIFICATE") {
		t.Errorf("%s%+v", diff, p)
	}
	again, err := s.pulls(t.Context(), "uid-1", kubeletIdentity)
	if err != nil || again.Secret != p.Secret {
		t.Errorf("a second time: another secret, or %v: kubelets would start again", err)
	}
	other, err := s.pulls(t.Context(), "uid-2", kubeletIdentity)
	if err != nil || other.Secret == p.Secret {
		t.Errorf("two clusters have one secret, or %v", err)
	}
	kept := ""
	err = store.All(t.Context(), s.Store, store.Query{Prefix: kubeletPrefix}, func(d store.Doc) error { kept += string(d.Value); return nil })
	if err != nil || !strings.Contains(kept, "secret") || strings.Contains(kept, p.Secret) {
		t.Errorf("stored in the clear, or not at all: %s, %v", kept, err)
	}

	door := doorOf(t, s)
	if code, body := askToken(t, door, p.TokenURL, "/c1", p.Secret); code != http.StatusOK || !strings.Contains(body, `"client_id":"aaaaaaaa-0000-0000-0000-000000000001"`) {
		t.Errorf("a kubelet: %d %s", code, body)
	}
	if err := s.pullsNot(t.Context(), "uid-1"); err != nil {
		t.Fatal(err)
	}
	if code, body := askToken(t, door, p.TokenURL, "/c1", p.Secret); code != http.StatusUnauthorized {
		t.Errorf("after the cluster: %d %s", code, body)
	}
	if code, _ := askToken(t, door, p.TokenURL, "/c2", other.Secret); code != http.StatusOK {
		t.Errorf("another cluster's kubelet: %d", code)
	}
	if err := s.pullsNot(t.Context(), "uid-1"); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := s.pullsNot(t.Context(), "never"); err != nil {
		t.Errorf("a cluster that never was: %v", err)
	}
	if _, _, err := store.GetJSON[kubeletDoc](t.Context(), s.Store, kubeletPrefix+"uid-1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("left: %v", err)
	}
}

// TestKubelets_NobodyElse: without the secret there is no token, and away from
// clusters' networks and the name of sign-in not even the endpoint.
func TestKubelets_NobodyElse(t *testing.T) {
	s := kubelets(t)
	p, err := s.pulls(t.Context(), "uid-1", kubeletIdentity)
	if err != nil {
		t.Fatal(err)
	}
	door := doorOf(t, s)
	for _, tt := range []struct {
		url, network, secret string
		want                 int
	}{
		{p.TokenURL, "/c1", "", http.StatusUnauthorized},
		{p.TokenURL, "/c1", p.Secret[1:], http.StatusUnauthorized},
		{p.TokenURL, "", p.Secret, http.StatusTeapot},
		{"https://management.azure.com/msi/token", "/c1", p.Secret, http.StatusTeapot},
		{"https://198.18.0.2/msi/token", "/c1", p.Secret, http.StatusTeapot},
		{"https://login.microsoftonline.com/msi", "/c1", p.Secret, http.StatusTeapot},
	} {
		if code, body := askToken(t, door, tt.url, tt.network, tt.secret); code != tt.want || strings.Contains(body, "access_token") {
			t.Errorf("%+v: got %d %s", tt, code, body)
		}
	}
}
