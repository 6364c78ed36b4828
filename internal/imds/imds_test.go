package imds_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/imds"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

const (
	tenant = "11111111-2222-3333-4444-555555555555"
	id1    = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1"
	id2    = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id2"
	app1   = "aaaaaaaa-0000-0000-0000-000000000001"
	app2   = "aaaaaaaa-0000-0000-0000-000000000002"
	oid1   = "bbbbbbbb-0000-0000-0000-000000000001"
	oid2   = "bbbbbbbb-0000-0000-0000-000000000002"

	metadata = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
	msi      = "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net"
)

type plainSeal struct{}

func (plainSeal) Seal(_ context.Context, scope string, plain, aad []byte) ([]byte, error) {
	return append([]byte(scope+string(aad)), plain...), nil
}

func (plainSeal) Open(_ context.Context, scope string, sealed, aad []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, []byte(scope+string(aad)))
	if !ok {
		return nil, errors.New("sealed otherwise")
	}
	return plain, nil
}

type lab struct {
	t      *testing.T
	svc    *imds.Service
	tokens *token.Service
	dir    *directory.Directory
	now    time.Time
	traces []trace.Trace
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, now: time.Now()}
	clock := func() time.Time { return l.now }
	st, err := sqlstore.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "laz.db"))
	l.must(err)
	t.Cleanup(func() { _ = st.Close() })
	l.dir, err = directory.Open(context.Background(), st, tenant)
	l.must(err)
	t.Cleanup(l.dir.Close)
	for _, m := range []directory.ManagedIdentity{
		{ResourceID: id1, ClientID: app1, PrincipalID: oid1, TenantID: tenant, Name: "id1"},
		{ResourceID: id2, ClientID: app2, PrincipalID: oid2, TenantID: tenant, Name: "id2"},
	} {
		l.must(l.dir.EnsureManagedIdentity(t.Context(), m))
	}
	l.tokens, err = token.Open(t.Context(), token.Config{Store: st, Seal: plainSeal{}, TenantID: tenant, Clock: clock})
	l.must(err)
	l.svc, err = imds.New(imds.Config{Tokens: l.tokens, Directory: l.dir, Store: st, Location: "eastus", Subscription: "s", Clock: clock,
		Record: func(tr trace.Trace) { l.traces = append(l.traces, tr) }})
	l.must(err)
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) grant(ids ...string) (string, func(context.Context) error) {
	l.t.Helper()
	secret, revoke, err := l.svc.Grant(l.t.Context(), ids)
	l.must(err)
	return secret, revoke
}

// get asks with headers given as name, value, …; the header "grant" marks the
// connection instead.
func (l *lab) get(path string, headers ...string) (int, map[string]any) {
	l.t.Helper()
	r := httptest.NewRequestWithContext(l.t.Context(), http.MethodGet, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "grant" {
			r = r.WithContext(imds.WithGrant(r.Context(), headers[i+1]))
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	l.svc.ServeHTTP(w, r)
	var b map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &b); err != nil {
		l.t.Fatalf("%s: %d, not JSON: %s", path, w.Code, w.Body)
	}
	return w.Code, b
}

func (l *lab) oid(b map[string]any) string {
	l.t.Helper()
	raw, _ := b["access_token"].(string)
	c, err := l.tokens.Verify(l.t.Context(), raw, token.Vault)
	if err != nil {
		l.t.Fatalf("%v: %v", b, err)
	}
	if c.Resource == "" || !c.AppOnly {
		l.t.Errorf("claims %+v", c)
	}
	return c.ObjectID
}

func TestMetadata_TokenInStrings(t *testing.T) {
	l := newLab(t)
	secret, _ := l.grant(id1)
	status, b := l.get(metadata, "Metadata", "true", "grant", secret)
	if status != 200 || l.oid(b) != oid1 {
		t.Fatalf("%d %v", status, b)
	}
	var names []string
	for name, v := range b {
		if _, isText := v.(string); !isText {
			t.Errorf("%s is %T, want a string", name, v)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"access_token", "client_id", "expires_in", "expires_on", "ext_expires_in", "not_before", "refresh_token", "resource", "token_type"}
	if !slices.Equal(names, want) || b["expires_in"] != "86399" || b["resource"] != "https://vault.azure.net" {
		t.Errorf("%v, want %v", b, want)
	}
	if _, again := l.get(metadata, "Metadata", "true", "grant", secret); again["access_token"] != b["access_token"] {
		t.Error("asked again, another token")
	}
}

func TestMetadata_Refusals(t *testing.T) {
	l := newLab(t)
	one, _ := l.grant(id1)
	both, _ := l.grant(id1, id2)
	for _, tc := range []struct {
		name, path string
		headers    []string
		status     int
		word       string
	}{
		{"probe", metadata, []string{"grant", one}, 400, "bad_request_102"},
		{"forwarded", metadata, []string{"Metadata", "true", "grant", one, "X-Forwarded-For", "1.2.3.4"}, 400, "invalid_request"},
		{"no grant", metadata, []string{"Metadata", "true"}, 400, "invalid_request"},
		{"wrong grant", metadata, []string{"Metadata", "true", "grant", "x"}, 400, "invalid_request"},
		{"identity of another", metadata + "&client_id=" + app2, []string{"Metadata", "true", "grant", one}, 400, "invalid_request"},
		{"names that differ", metadata + "&client_id=" + app1 + "&object_id=" + oid2, []string{"Metadata", "true", "grant", both}, 400, "invalid_request"},
		{"which of two", metadata, []string{"Metadata", "true", "grant", both}, 400, "invalid_request"},
		{"no resource", "/metadata/identity/oauth2/token?api-version=2018-02-01", []string{"Metadata", "true", "grant", one}, 400, "invalid_request"},
		{"unknown resource", "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://nowhere", []string{"Metadata", "true", "grant", one}, 400, "invalid_resource"},
		{"doubled", metadata + "&resource=x", []string{"Metadata", "true", "grant", one}, 400, "invalid_request"},
		{"no version", "/metadata/identity/oauth2/token?resource=https://vault.azure.net", []string{"Metadata", "true", "grant", one}, 400, "invalid_request"},
		{"old version", "/metadata/identity/oauth2/token?api-version=2016-01-01&resource=https://vault.azure.net", []string{"Metadata", "true", "grant", one}, 400, "invalid_request"},
		{"elsewhere", "/metadata/scheduledevents", []string{"Metadata", "true"}, 404, "invalid_request"},
	} {
		if status, b := l.get(tc.path, tc.headers...); status != tc.status || b["error"] != tc.word || b["access_token"] != nil {
			t.Errorf("%s: %d %v, want %d %s", tc.name, status, b, tc.status, tc.word)
		}
	}
	if len(l.traces) != 12 {
		t.Errorf("%d refusals recorded, want all but the probe", len(l.traces))
	}
}

func TestSelection_ByEveryName(t *testing.T) {
	l := newLab(t)
	secret, _ := l.grant(id1, id2)
	for _, q := range []string{"client_id=" + app2, "object_id=" + oid2, "principal_id=" + oid2, "msi_res_id=" + id2, "mi_res_id=" + id2, "clientid=" + app2} {
		if status, b := l.get(msi+"&"+q, "X-IDENTITY-HEADER", secret); status != 200 || l.oid(b) != oid2 || b["client_id"] != app2 {
			t.Errorf("%s: %d %v", q, status, b)
		}
	}
}

func TestAppServiceAndMachineLearning(t *testing.T) {
	l := newLab(t)
	secret, revoke := l.grant(id1)
	if status, b := l.get(msi, "X-IDENTITY-HEADER", secret); status != 200 || l.oid(b) != oid1 {
		t.Errorf("App Service: %d %v", status, b)
	}
	if status, b := l.get("/msi/token?api-version=2017-09-01&resource=https://vault.azure.net&clientid="+app1, "secret", secret); status != 200 || l.oid(b) != oid1 {
		t.Errorf("Azure ML: %d %v", status, b)
	}
	for name, headers := range map[string][]string{"none": nil, "wrong": {"X-IDENTITY-HEADER", "x"}, "of the connection": {"grant", secret}} {
		if status, b := l.get(msi, headers...); status != 401 {
			t.Errorf("secret %s: %d %v", name, status, b)
		}
	}
	l.must(revoke(t.Context()))
	if status, b := l.get(msi, "X-IDENTITY-HEADER", secret); status != 401 {
		t.Errorf("revoked: %d %v", status, b)
	}
}

func TestAttach(t *testing.T) {
	l := newLab(t)
	const secret = "0123456789abcdef0123456789abcdef"
	l.must(l.svc.Attach(t.Context(), secret, []string{id2, id1}))
	l.must(l.svc.Attach(t.Context(), secret, []string{id2, id1}))
	l.now = l.now.Add(400 * 24 * time.Hour) // without use
	for q, want := range map[string]string{"": oid2, "&client_id=" + app1: oid1, "&clientid=" + app2: oid2} {
		if status, b := l.get(msi+q, "X-IDENTITY-HEADER", secret); status != 200 || l.oid(b) != want {
			t.Errorf("%q: %d %v, want %s", q, status, b, want)
		}
	}
	if status, b := l.get("/msi/token?api-version=2017-09-01&resource=https://vault.azure.net", "secret", secret); status != 200 || l.oid(b) != oid2 {
		t.Errorf("Azure ML: %d %v", status, b)
	}
	l.must(l.svc.Attach(t.Context(), secret, []string{id1}))
	if status, b := l.get(msi, "X-IDENTITY-HEADER", secret); status != 200 || l.oid(b) != oid1 {
		t.Errorf("another one: %d %v", status, b)
	}
	if status, b := l.get(msi+"&client_id="+app2, "X-IDENTITY-HEADER", secret); status != 400 {
		t.Errorf("one that it lost: %d %v", status, b)
	}
	for _, bad := range []struct {
		secret string
		ids    []string
	}{{"short", []string{id1}}, {secret, nil}} {
		if err := l.svc.Attach(t.Context(), bad.secret, bad.ids); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	l.must(l.svc.Revoke(t.Context(), secret))
	if status, _ := l.get(msi, "X-IDENTITY-HEADER", secret); status != 401 {
		t.Errorf("revoked: %d", status)
	}
}

func TestGrant_EndsWithTheIdentityAndWithTime(t *testing.T) {
	l := newLab(t)
	secret, _ := l.grant(id1)
	l.now = l.now.Add(29 * 24 * time.Hour)
	if status, _ := l.get(msi, "X-IDENTITY-HEADER", secret); status != 200 {
		t.Errorf("after 29 days: %d", status)
	}
	l.now = l.now.Add(29 * 24 * time.Hour)
	if status, _ := l.get(msi, "X-IDENTITY-HEADER", secret); status != 200 {
		t.Errorf("29 days after its last use: %d", status)
	}
	l.must(l.dir.RemoveManagedIdentity(t.Context(), oid1))
	if status, b := l.get(msi, "X-IDENTITY-HEADER", secret); status != 400 {
		t.Errorf("the identity is gone: %d %v", status, b)
	}
	l.now = l.now.Add(31 * 24 * time.Hour)
	if status, b := l.get(msi, "X-IDENTITY-HEADER", secret); status != 401 {
		t.Errorf("a month unused: %d %v", status, b)
	}
	if _, _, err := l.svc.Grant(t.Context(), []string{id1}); err == nil {
		t.Error("a grant of an identity that isn't there")
	}
	if _, _, err := l.svc.Grant(t.Context(), nil); err == nil {
		t.Error("a grant of nothing")
	}
}

func TestInstance_SaysTheRegion(t *testing.T) {
	l := newLab(t)
	status, b := l.get("/metadata/instance/compute?api-version=2021-02-01", "Metadata", "true")
	if status != 200 || b["location"] != "eastus" {
		t.Errorf("%d %v", status, b)
	}
	if status, _ := l.get("/metadata/instance/compute?api-version=2021-02-01"); status != 400 {
		t.Errorf("without the header: %d", status)
	}
	if status, _ := l.get("/metadata/instance/nothing?api-version=2021-02-01", "Metadata", "true"); status != 404 {
		t.Errorf("nothing there: %d", status)
	}
}
