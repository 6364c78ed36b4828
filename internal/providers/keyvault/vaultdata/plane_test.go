package vaultdata_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/keyvault"
	"lazurite.dev/internal/providers/keyvault/vaultdata"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
)

// checker verifies tokens whose text is the caller's object id, and keeps data
// roles: object id and scope to actions.
type checker struct {
	mu  sync.Mutex // guards may
	may map[string]string
}

func (c *checker) Verify(_ context.Context, raw string, audiences ...string) (*token.Claims, error) {
	if raw == "expired" {
		return nil, apierr.New(apierr.Unauthorized, token.CodeExpired, "The access token expired.")
	}
	if audiences[0] != "https://vault.azure.net" {
		return nil, apierr.New(apierr.Unauthorized, token.CodeAudience, "wrong audience")
	}
	return &token.Claims{ObjectID: raw, AppID: "app-" + raw, TenantID: armtest.Tenant}, nil
}

func (c *checker) Check(_ context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.may[oid+" "+strings.ToLower(action)]
	return rbac.Decision{Allowed: data && ok && strings.HasPrefix(scope.Key(), strings.ToLower(at))}, nil
}

func (c *checker) allow(oid, action, scope string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.may[oid+" "+strings.ToLower("Microsoft.KeyVault/vaults/"+action)] = scope
}

// site is a management plane and a data plane on one store.
type site struct {
	t     testing.TB
	arm   *armtest.Plane
	data  http.Handler
	check *checker
	from  arrival.Arrival
}

func newSite(t testing.TB) *site { return newSiteWith(t, false) }

func newSiteWith(t testing.TB, azureLike bool) *site {
	s := &site{t: t, check: &checker{may: map[string]string{}}, from: arrival.Arrival{Client: netip.MustParseAddr("9.9.9.9")}}
	root, err := seal.OpenFileRoot(filepath.Join(t.TempDir(), "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	s.arm = armtest.New(t, func(st store.Store) []arm.Provider {
		ring := seal.NewKeyring(st, root)
		objects := vaultdata.New(vaultdata.Config{Store: st, Sealer: ring})
		names, err := keyvault.OpenRegistry(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(names.Close)
		s.data = vaultdata.NewPlane(vaultdata.PlaneConfig{
			Gate: gate.Config{Verifier: s.check, Authorizer: s.check}, Names: names, Objects: objects,
			AzureLike: azureLike,
			Groups:    func(oid string) ([]string, error) { return []string{oid, "group-of-" + oid}, nil },
			Families: []vaultdata.Family{
				{Suffix: ".vault.azure.net", Authority: "https://login.microsoftonline.com", Resource: "https://vault.azure.net"},
				{Suffix: ".vault.laz.test", Authority: "https://login.laz.test:8443", Resource: "https://vault.laz.test:8443"},
			},
		})
		return []arm.Provider{keyvault.New(keyvault.Config{
			Store: st, Authorizer: &armtest.Policy{}, TenantID: armtest.Tenant, Destroy: objects.Destroy,
			URI:    func(name string) string { return "https://" + name + ".vault.azure.net" },
			Rewrap: func(ctx context.Context, uid string) error { return ring.Rewrap(ctx, vaultdata.SealScope(uid)) },
		})}
	}, nil)
	s.arm.Group("g")
	return s
}

const vaultID = armtest.Base + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/"

// vault makes a vault with further properties.
func (s *site) vault(name, props string) string {
	s.t.Helper()
	id := vaultID + name
	s.arm.Do("DELETE", id+"?api-version=2024-11-01", "")
	if props != "" {
		props = "," + props
	}
	s.arm.Want(201, "PUT", id+"?api-version=2024-11-01", `{"location":"westus2","properties":{"tenantId":"`+armtest.Tenant+`","sku":{"name":"standard"}`+props+`}}`)
	return id
}

// do sends a request; as is the caller's token, "" sends none.
func (s *site) do(as, method, url, body string, headers ...string) *armtest.Answer {
	s.t.Helper()
	r := httptest.NewRequestWithContext(arrival.With(s.t.Context(), s.from), method, url, strings.NewReader(body))
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.data.ServeHTTP(w, r)
	a := &armtest.Answer{Status: w.Code, Header: w.Result().Header, Raw: w.Body.Bytes()}
	if json.Unmarshal(a.Raw, &a.JSON) != nil {
		a.JSON = nil
	}
	return a
}

func (s *site) want(status int, inner, as, method, url, body string, headers ...string) *armtest.Answer {
	s.t.Helper()
	a := s.do(as, method, url, body, headers...)
	if a.Status != status || a.Text("error", "innererror", "code") != inner {
		s.t.Fatalf("%s %s: got %d %s, want %d %s", method, url, a.Status, a.Raw, status, inner)
	}
	return a
}

const v76 = "?api-version=7.6"

func TestPlane_ChallengeBeforeTheBody(t *testing.T) {
	s := newSite(t)
	s.vault("kvx", `"enableRbacAuthorization":true`)
	a := s.want(401, "", "", "PUT", "https://kvx.vault.azure.net/secrets/s"+v76, "")
	if got, want := a.Header.Get("WWW-Authenticate"), `Bearer authorization="https://login.microsoftonline.com/`+armtest.Tenant+`", resource="https://vault.azure.net"`; got != want {
		t.Errorf("challenge %s\nwant %s", got, want)
	}
	if a.Text("error", "code") != "Unauthorized" || a.Text("error", "message") != "AKV10000: Request is missing a Bearer or PoP token." {
		t.Errorf("body %s", a.Raw)
	}
	a = s.want(401, "", "", "GET", "https://kvx.vault.laz.test:8443/secrets/s"+v76, "")
	if got, want := a.Header.Get("WWW-Authenticate"), `Bearer authorization="https://login.laz.test:8443/`+armtest.Tenant+`", resource="https://vault.laz.test:8443"`; got != want {
		t.Errorf("challenge %s\nwant %s", got, want)
	}
	a = s.want(401, "", "expired", "GET", "https://kvx.vault.azure.net/secrets/s"+v76, "")
	if a.Header.Get("WWW-Authenticate") == "" {
		t.Error("no challenge after an expired token")
	}
	for header, want := range map[string]string{"Cache-Control": "no-cache", "Expires": "-1", "x-ms-keyvault-region": "westus2", "X-Content-Type-Options": "nosniff"} {
		if got := a.Header.Get(header); got != want {
			t.Errorf("%s: %q", header, got)
		}
	}
	if !strings.Contains(a.Header.Get("x-ms-keyvault-network-info"), "addr=9.9.9.9;act_addr_fam=InterNetwork;") {
		t.Errorf("network info %q", a.Header.Get("x-ms-keyvault-network-info"))
	}
	if a = s.do("", "GET", "https://absent.vault.azure.net/secrets"+v76, ""); a.Status != 404 || a.Text("error", "code") != "VaultNotFound" {
		t.Errorf("no vault: %d %s", a.Status, a.Raw)
	}
}

func TestPlane_RolesByScope(t *testing.T) {
	s := newSite(t)
	id := s.vault("kvx", `"enableRbacAuthorization":true`)
	url := "https://kvx.vault.azure.net/secrets/s"
	a := s.want(403, "ForbiddenByRbac", "me", "PUT", url+v76, `{"value":"x"}`)
	want := "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\nCaller: appid=app-me;oid=me;iss=https://sts.windows.net/" + armtest.Tenant +
		"/\r\nAction: 'Microsoft.KeyVault/vaults/secrets/setSecret/action'\r\nResource: '" + strings.ToLower(id) + "/secrets/s'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: kvx;location=westus2\r\n"
	if got := a.Text("error", "message"); got != want {
		t.Errorf("message\n%q\nwant\n%q", got, want)
	}
	s.check.allow("me", "secrets/setSecret/action", id)
	s.check.allow("me", "secrets/getSecret/action", id+"/secrets/s")
	s.want(200, "", "me", "PUT", url+v76, `{"value":"x"}`)
	s.want(200, "", "me", "PUT", "https://kvx.vault.azure.net/secrets/other"+v76, `{"value":"y"}`)
	if got := s.want(200, "", "me", "GET", url+"/"+v76, "").Text("value"); got != "x" {
		t.Errorf("value %q", got)
	}
	s.want(403, "ForbiddenByRbac", "me", "GET", "https://kvx.vault.azure.net/secrets/other"+v76, "")
	s.want(403, "ForbiddenByRbac", "me", "GET", "https://kvx.vault.azure.net/secrets"+v76, "")
}

func TestPlane_AccessPolicies(t *testing.T) {
	s := newSite(t)
	s.vault("kvx", `"accessPolicies":[`+
		`{"tenantId":"`+armtest.Tenant+`","objectId":"me","permissions":{"secrets":["Get"],"keys":["all"]}},`+
		`{"tenantId":"`+armtest.Tenant+`","objectId":"group-of-me","permissions":{"secrets":["set"]}},`+
		`{"tenantId":"`+armtest.Tenant+`","objectId":"me","applicationId":"another","permissions":{"secrets":["purge"]}}]`)
	url := "https://kvx.vault.azure.net"
	s.check.allow("me", "secrets/delete", vaultID) // a role that does not count
	s.want(200, "", "me", "PUT", url+"/secrets/s"+v76, `{"value":"x"}`)
	s.want(200, "", "me", "GET", url+"/secrets/s"+v76, "")
	s.want(200, "", "me", "POST", url+"/keys/k/create"+v76, `{"kty":"EC"}`)
	s.want(403, "ForbiddenByPolicy", "me", "DELETE", url+"/secrets/s"+v76, "")
	a := s.want(403, "ForbiddenByPolicy", "me", "DELETE", url+"/deletedsecrets/s"+v76, "")
	want := "The user, group or application 'appid=app-me;oid=me;numgroups=1;iss=https://sts.windows.net/" + armtest.Tenant + "/' does not have secrets purge permission on key vault 'kvx;location=westus2'. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287"
	if got := a.Text("error", "message"); got != want {
		t.Errorf("message %q", got)
	}
	s.want(403, "ForbiddenByPolicy", "stranger", "GET", url+"/secrets/s"+v76, "")
}

func TestPlane_NetworkComesBeforeTheToken(t *testing.T) {
	s := newSite(t)
	url := "https://kvx.vault.azure.net/secrets" + v76
	s.vault("kvx", `"enableRbacAuthorization":true,"networkAcls":{"defaultAction":"Deny","bypass":"None","ipRules":[{"value":"8.8.8.0/24"}]}`)
	a := s.want(403, "ForbiddenByFirewall", "", "GET", url, "")
	if m := a.Text("error", "message"); !strings.HasPrefix(m, "Client address is not authorized and caller is not a trusted service.\r\nClient address: 9.9.9.9\r\n") || !strings.HasSuffix(m, "\r\nVault: kvx;location=westus2") {
		t.Errorf("message %q", m)
	}
	if m := s.want(403, "ForbiddenByFirewall", "me", "GET", url, "").Text("error", "message"); !strings.Contains(m, "\r\nCaller: appid=app-me;oid=me;iss=") {
		t.Errorf("message %q", m)
	}
	s.from.Kind = arrival.TrustedService
	s.want(403, "ForbiddenByFirewall", "me", "GET", url, "")
	s.from = arrival.Arrival{Client: netip.MustParseAddr("8.8.8.8")}
	s.want(401, "", "", "GET", url, "")

	patch := func(body string) {
		s.arm.Want(200, "PATCH", vaultID+"kvx?api-version=2024-11-01", `{"properties":`+body+`}`)
	}
	patch(`{"publicNetworkAccess":"disabled"}`)
	a = s.want(403, "ForbiddenByConnection", "me", "GET", url, "")
	if m := a.Text("error", "message"); !strings.HasPrefix(m, "Public network access is disabled and request is not from a trusted service nor via an approved private link.\r\nCaller: appid=") {
		t.Errorf("message %q", m)
	}
	patch(`{"publicNetworkAccess":"Enabled","networkAcls":{"defaultAction":"Allow"}}`)
	s.want(401, "", "", "GET", url, "")
}

func TestPlane_APIVersions(t *testing.T) {
	s := newSite(t)
	id := s.vault("kvx", `"enableRbacAuthorization":true`)
	s.check.allow("me", "secrets/readMetadata/action", id)
	url := "https://kvx.vault.azure.net/secrets"
	for query, status := range map[string]int{
		"": 400, "?api-version=": 400, "?api-version=6.0": 400, "?api-version=2016-10-01": 400, "?api-version=x": 400, "?api-version=2099-13-01": 400,
		"?api-version=7.0": 200, "?api-version=7.6-preview.2": 200, "?api%2Dversion=2025-07-01": 200, "?api-version=2026-04-01": 200, "?API-Version=7.4": 200,
	} {
		if a := s.do("me", "GET", url+query, ""); a.Status != status || a.Header.Get("x-laz-served-api-version") != "" {
			t.Errorf("%q: %d %s", query, a.Status, a.Raw)
		}
	}
	if a := s.want(200, "", "me", "GET", url+"?api-version=2031-01-01", ""); a.Header.Get("x-laz-served-api-version") != "2026-04-01" {
		t.Errorf("served %q", a.Header.Get("x-laz-served-api-version"))
	}
}

func TestPlane_WholeLifeOverHTTP(t *testing.T) {
	s := newSite(t)
	s.vault("kvx", `"accessPolicies":[{"tenantId":"`+armtest.Tenant+`","objectId":"me","permissions":{"secrets":["all"],"keys":["all"],"certificates":["all"]}}]`)
	base := "https://kvx.vault.azure.net"
	first := s.want(200, "", "me", "PUT", base+"/secrets/s?api-version=2026-04-01", `{"value":"a","tags":{"k":"v"}}`)
	second := s.want(200, "", "me", "PUT", base+"/secrets/s?api-version=2026-04-01", `{"value":"b"}`)
	if second.Text("previousVersion") == "" || !strings.HasSuffix(first.Text("id"), second.Text("previousVersion")) {
		t.Errorf("previous version %s", second.Raw)
	}
	if a := s.want(200, "", "me", "GET", base+"/secrets/s?api-version=7.4", ""); a.Text("previousVersion") != "" {
		t.Errorf("an old api-version shows %s", a.Raw)
	}
	for range 2 {
		s.want(200, "", "me", "PUT", base+"/secrets/other"+v76, `{"value":"a"}`)
	}
	a := s.want(200, "", "me", "GET", base+"/secrets"+v76+"&maxresults=1", "")
	next, _ := a.JSON["nextLink"].(string)
	if !strings.HasPrefix(next, base+"/secrets?") || !strings.Contains(next, "maxresults=1") {
		t.Fatalf("nextLink %q", next)
	}
	a = s.want(200, "", "me", "GET", next, "")
	if v := a.At("value").([]any); len(v) != 1 || v[0].(map[string]any)["id"] != base+"/secrets/s" || a.JSON["nextLink"] != nil {
		t.Errorf("second page %s", a.Raw)
	}
	s.want(200, "", "me", "POST", base+"/secrets/s"+v76, "", "X-HTTP-METHOD", "DELETE")
	s.want(204, "", "me", "DELETE", base+"/deletedsecrets/s"+v76, "")

	s.want(200, "", "me", "POST", base+"/keys/k/create"+v76, `{"kty":"EC","crv":"P-256"}`)
	s.want(200, "", "me", "POST", base+"/keys/k//sign"+v76, `{"alg":"ES256","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`)
	s.want(403, "KeyNotExportable", "me", "POST", base+"/keys/k/release"+v76, `{"target":"x"}`)
	s.want(200, "", "me", "POST", base+"/rng"+v76, `{"count":8}`)

	a = s.want(202, "", "me", "POST", base+"/certificates/c/create"+v76, `{"policy":{"issuer":{"name":"Self"},"key_props":{"kty":"EC","crv":"P-256"},"x509_props":{"subject":"CN=x"}}}`)
	if a.Header.Get("Location") == "" || a.Text("status") != "inProgress" || a.Text("status_details") == "" {
		t.Errorf("creation %s", a.Raw)
	}
	if a = s.want(200, "", "me", "GET", base+"/certificates/c/pending"+v76, ""); a.Text("status") != "completed" {
		t.Errorf("operation %s", a.Raw)
	}
	s.want(200, "", "me", "PATCH", base+"/certificates/c/"+v76, `{"attributes":{"enabled":false}}`)
	s.want(403, "SecretDisabled", "me", "GET", base+"/secrets/c"+v76, "")
	s.want(400, "", "me", "PUT", base+"/secrets/s"+v76, `{"value":`)
	if a = s.do("me", "TRACE", base+"/secrets/s"+v76, ""); a.Status != 405 {
		t.Errorf("TRACE: %d", a.Status)
	}
}

func TestPlane_AzureLikeThrottles(t *testing.T) {
	s := newSiteWith(t, true)
	id := s.vault("kvx", `"enableRbacAuthorization":true`)
	s.check.allow("me", "keys/create/action", id)
	last := 0
	for range 21 {
		a := s.do("me", "POST", "https://kvx.vault.azure.net/keys/k/create"+v76, `{"kty":"EC"}`)
		if last = a.Status; last == 429 && (a.Text("error", "code") != "Throttled" || a.Header.Get("Retry-After") == "") {
			t.Errorf("throttled %v %s", a.Header, a.Raw)
		}
	}
	if last != 429 {
		t.Errorf("the 21st creation in ten seconds got %d", last)
	}
}

// TestPlane_RecreatedIsNotRecovered deletes a vault and makes it again both ways.
func TestPlane_RecreatedIsNotRecovered(t *testing.T) {
	s := newSite(t)
	rights := `"accessPolicies":[{"tenantId":"` + armtest.Tenant + `","objectId":"me","permissions":{"secrets":["all"]}}]`
	id := s.vault("kvx", rights)
	url := "https://kvx.vault.azure.net/secrets/s" + v76
	s.want(200, "", "me", "PUT", url, `{"value":"x"}`)
	const v = "?api-version=2024-11-01"
	s.arm.Want(200, "DELETE", id+v, "")
	if a := s.do("me", "GET", url, ""); a.Status != 404 || a.Text("error", "code") != "VaultNotFound" {
		t.Errorf("deleted vault: %d %s", a.Status, a.Raw)
	}
	s.arm.Want(201, "PUT", id+v, `{"location":"westus2","properties":{"tenantId":"`+armtest.Tenant+`","sku":{"name":"standard"},"createMode":"recover"}}`)
	s.want(200, "", "me", "GET", url, "")
	s.arm.Want(200, "POST", id+"/rewrap"+v, "")
	s.want(200, "", "me", "GET", url, "")

	s.arm.Want(200, "DELETE", id+v, "")
	s.arm.Want(200, "POST", armtest.Base+"/providers/Microsoft.KeyVault/locations/westus2/deletedVaults/kvx/purge"+v, "")
	s.vault("kvx", rights)
	s.want(404, "", "me", "GET", url, "")
}

// BenchmarkPlane_GetSecret is the whole request but for TLS, the check of the
// token's signature and the policy engine.
func BenchmarkPlane_GetSecret(b *testing.B) {
	s := newSite(b)
	id := s.vault("kvx", `"enableRbacAuthorization":true`)
	s.check.allow("me", "secrets/setSecret/action", id)
	s.check.allow("me", "secrets/getSecret/action", id)
	s.want(200, "", "me", "PUT", "https://kvx.vault.azure.net/secrets/s"+v76, `{"value":"a value of some length, such as a connection string has"}`)
	r := httptest.NewRequestWithContext(arrival.With(b.Context(), s.from), "GET", "https://kvx.vault.azure.net/secrets/s"+v76, nil)
	r.Header.Set("Authorization", "Bearer me")
	for b.Loop() {
		w := httptest.NewRecorder()
		if s.data.ServeHTTP(w, r); w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}
