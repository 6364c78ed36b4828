package entra_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1" // x5t
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/entra"
)

const vault = "https://vault.azure.net/.default"

func TestFederated_TokenOfAManagedIdentity(t *testing.T) {
	l := newLab(t, nil)
	l.identity()
	status, b := l.federated(l.pod(nil), vault+" openid offline_access profile")
	if status != 200 || keysOf(b) != "access_token expires_in ext_expires_in refresh_in token_type" {
		t.Fatalf("%d %v", status, b)
	}
	c := l.claims(b)
	for name, want := range map[string]any{"aud": "https://vault.azure.net", "oid": miOID, "sub": miOID, "appid": miApp, "appidacr": "2",
		"xms_mirid": miID, "ver": "1.0", "idtyp": "app", "iss": "https://sts.windows.net/" + tenant + "/"} {
		if c[name] != want {
			t.Errorf("%s = %v, want %v", name, c[name], want)
		}
	}
	if b["expires_in"].(float64) != 24*3600-1 {
		t.Errorf("expires_in = %v", b["expires_in"])
	}
}

func TestFederated_SameAssertionGetsTheSameTokenUntilTheCredentialGoes(t *testing.T) {
	l := newLab(t, nil)
	l.identity()
	raw := l.pod(nil)
	_, one := l.federated(raw, vault)
	_, two := l.federated(raw, vault)
	if one["access_token"] != two["access_token"] {
		t.Error("the same assertion got another token")
	}
	if _, other := l.federated(raw, "https://storage.azure.com/.default"); l.claims(other)["aud"] != "https://storage.azure.com" {
		t.Error("another resource got the same token")
	}
	must(t, l.dir.RemoveCredential(t.Context(), miApp, "fed"))
	status, b := l.federated(raw, vault)
	l.refused(status, b, 400, "invalid_request", "70021")
	l.credential(issuer, sub, aud)
	if status, b := l.federated(raw, vault); status != 200 {
		t.Errorf("the credential is back: %d %v", status, b)
	}
	must(t, l.dir.RemoveManagedIdentity(t.Context(), miOID))
	status, b = l.federated(raw, vault)
	l.refused(status, b, 400, "unauthorized_client", "700016")
}

func TestFederated_MismatchesAreNamed(t *testing.T) {
	l := newLab(t, nil)
	l.identity()
	for _, tc := range []struct {
		name, iss, sub, aud string // of the credential
		number              string
		want                []string
	}{
		{"issuer", "https://other.example/", sub, aud, "700211", []string{"presented assertion issuer '" + issuer + "'", "expected 'https://other.example/', received '" + issuer + "'"}},
		{"slash", strings.TrimSuffix(issuer, "/"), sub, aud, "700211", []string{"they differ in a slash at the end only"}},
		{"subject", issuer, sub + "x", aud, "700213", []string{"presented assertion subject '" + sub + "'", "expected '" + sub + "x', received '" + sub + "'",
			"https://learn.microsoft.com/entra/workload-id/workload-identity-federation"}},
		{"letter case", issuer, strings.ToUpper(sub[:1]) + sub[1:], aud, "7002138", []string{"letter case only"}},
		{"audience", issuer, sub, "api://other", "700212", []string{"expected 'api://other', received '" + aud + "'"}},
	} {
		l.credential(tc.iss, tc.sub, tc.aud)
		status, b := l.federated(l.pod(nil), vault)
		text := l.refused(status, b, 401, "invalid_client", tc.number)
		for _, w := range tc.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q lacks %q", tc.name, text, w)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if subject := l.traces[len(l.traces)-3]; !strings.Contains(subject.Hops[1].Fix, "federated-credential create ") {
		t.Errorf("a credential that trusts somebody else is not left alone: %+v", subject)
	}
	last := l.traces[len(l.traces)-1]
	if last.Outcome != "AADSTS700212" || !strings.HasSuffix(last.Who, " ("+miApp+")") || !strings.Contains(last.Hops[1].Fix, "az identity federated-credential update --name fed --identity-name id1 --resource-group rg --audiences") {
		t.Errorf("trace %+v", last)
	}
}

func TestFederated_Refusals(t *testing.T) {
	l := newLab(t, nil)
	l.identity()
	stranger := rsaKey(t)
	now := l.clock()
	for _, tc := range []struct {
		name, raw, word, number string
		status                  int
	}{
		{"another key", sign(t, stranger, "RS256", map[string]any{"kid": "k"}, decode(t, l.pod(nil))), "invalid_client", "700027", 401},
		{"PS256", sign(t, l.cluster.key, "PS256", map[string]any{"kid": "k"}, decode(t, l.pod(nil))), "invalid_client", "50027", 401},
		{"expired", l.pod(func(c map[string]any) { c["exp"] = now.Add(-time.Hour).Unix() }), "invalid_client", "700024", 401},
		{"two audiences", l.pod(func(c map[string]any) { c["aud"] = []string{aud, "x"} }), "invalid_client", "700212", 401},
		{"nonsense", "abc", "invalid_client", "50027", 401},
	} {
		status, b := l.federated(tc.raw, vault)
		l.refused(status, b, tc.status, tc.word, tc.number)
	}
	_, own := l.federated(l.pod(nil), vault)
	status, b := l.federated(own["access_token"].(string), vault)
	l.refused(status, b, 401, "invalid_client", "700222")
}

func TestFederated_ExpressionAndDelay(t *testing.T) {
	l := newLab(t, func(c *entra.Config) { c.CredentialDelay = time.Minute })
	l.identity()
	_, err := l.dir.SetCredential(t.Context(), miApp, directory.FederatedCredential{Name: "fed", Issuer: issuer, Audiences: []string{aud},
		ClaimsMatchingExpression: &directory.ClaimsMatchingExpression{Value: "claims['sub'] matches 'system:serviceaccount:default:*'", LanguageVersion: 1}})
	must(t, err)
	status, b := l.federated(l.pod(nil), vault)
	l.refused(status, b, 400, "invalid_request", "70021")
	l.wait(2 * time.Minute)
	if status, b = l.federated(l.pod(nil), vault); status != 200 {
		t.Errorf("after the delay: %d %v", status, b)
	}
	status, b = l.federated(l.pod(func(c map[string]any) { c["sub"] = "system:serviceaccount:other:app" }), vault)
	l.refused(status, b, 401, "invalid_client", "700213")
}

func TestClientSecret(t *testing.T) {
	l := newLab(t, nil)
	app := l.app(directory.App{IdentifierURIs: []string{"api://own"}})
	secret, _, err := l.dir.AddSecret(t.Context(), app.ObjectID, "s", time.Time{}, time.Time{})
	must(t, err)
	base := []string{"grant_type", "client_credentials", "client_id", app.AppID}
	with := func(form ...string) []string { return append(append([]string(nil), base...), form...) }
	status, b := l.token(with("client_secret", secret, "scope", "https://management.core.windows.net//.default", "client_info", "1",
		"claims", `{"access_token":{"xms_cc":{"values":["cp1"]}}}`)...)
	if status != 200 || keysOf(b) != "access_token expires_in ext_expires_in token_type" || b["expires_in"].(float64) != 3599 {
		t.Errorf("%d %v", status, b)
	}
	if c := l.claims(b); c["aud"] != "https://management.core.windows.net/" || c["appidacr"] != "1" || c["xms_cc"] == nil || c["xms_mirid"] != nil {
		t.Errorf("claims %v", c)
	}
	if _, b := l.token(with("client_secret", secret, "scope", "api://own/.default")...); l.claims(b)["aud"] != app.AppID || l.claims(b)["ver"] != "2.0" {
		t.Errorf("own audience: %v", b)
	}
	for _, tc := range []struct {
		form         []string
		status       int
		word, number string
	}{
		{with("client_secret", "wrong", "scope", vault), 401, "invalid_client", "7000215"},
		{with("scope", vault), 401, "invalid_client", "7000218"},
		{with("client_secret", secret), 400, "invalid_request", "900144"},
		{with("client_secret", secret, "scope", "https://nowhere.example/.default"), 400, "invalid_resource", "500011"},
		{with("client_secret", secret, "scope", "https://vault.azure.net/user_impersonation"), 400, "invalid_scope", "1002012"},
		{with("client_secret", secret, "scope", vault+" https://storage.azure.com/.default"), 400, "invalid_scope", "28000"},
		{with("client_secret", secret, "scope", vault, "claims", "{"), 400, "invalid_request", "9002313"},
		{with("client_assertion", "x", "scope", vault), 400, "invalid_request", "900144"},
		{with("client_assertion", "x", "client_assertion_type", "saml", "scope", vault), 400, "invalid_request", "900193"},
		{[]string{"grant_type", "client_credentials", "client_id", "nonsense"}, 400, "unauthorized_client", "700038"},
		{[]string{"grant_type", "client_credentials", "client_id", "cccccccc-0000-0000-0000-000000000000"}, 400, "unauthorized_client", "700016"},
		{[]string{"grant_type", "client_credentials"}, 400, "invalid_request", "900144"},
		{[]string{"client_id", app.AppID}, 400, "invalid_request", "900144"},
		{[]string{"grant_type", "magic", "client_id", app.AppID}, 400, "unsupported_grant_type", "70003"},
		{[]string{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "client_id", app.AppID}, 400, "unsupported_grant_type", "70003"},
	} {
		status, b := l.token(tc.form...)
		l.refused(status, b, tc.status, tc.word, tc.number)
	}
}

func TestTokenEndpoint_TenantsQueryAndV1(t *testing.T) {
	l := newLab(t, nil)
	app := l.app(directory.App{})
	secret, _, err := l.dir.AddSecret(t.Context(), app.ObjectID, "s", time.Time{}, time.Time{})
	must(t, err)
	form := values("grant_type", "client_credentials", "client_id", app.AppID, "client_secret", secret, "scope", vault)
	for _, host := range []string{ours, "login.windows.net", "sts.windows.net", "westus2.login.microsoft.com", "login.lab.test"} {
		if status, b := l.do("POST", "https://"+host+"/contoso.example/oauth2/v2.0/token?client-request-id=x", form); status != 200 {
			t.Errorf("%s: %d %v", host, status, b)
		}
	}
	if status, b := l.do("POST", "https://"+ours+"/"+tenant+"/oauth2/v2.0/token?"+form.Encode(), values()); status != 200 {
		t.Errorf("parameters in the query: %d %v", status, b)
	}
	for tn, number := range map[string]string{"nope.example": "90002", "common": "90019", "organizations": "90019"} {
		status, b := l.do("POST", "https://"+ours+"/"+tn+"/oauth2/v2.0/token", form)
		l.refused(status, b, 400, "invalid_request", number)
	}
	status, b := l.do("POST", "https://"+ours+"/"+tenant+"/oauth2/token", values("grant_type", "client_credentials", "client_id", app.AppID, "client_secret", secret,
		"resource", "https://vault.azure.net"))
	if status != 200 || keysOf(b) != "access_token expires_in expires_on ext_expires_in not_before resource token_type" || b["expires_in"] != "3599" {
		t.Errorf("v1: %d %v", status, b)
	}
	status, b = l.do("POST", "https://"+ours+"/"+tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"a", "b"}})
	l.refused(status, b, 400, "invalid_request", "9000411")
	status, b = l.do("GET", "https://"+ours+"/"+tenant+"/oauth2/v2.0/token", nil)
	l.refused(status, b, 405, "invalid_request", "900561")
	status, b = l.do("POST", "https://"+ours+"/"+tenant+"/oauth2/v2.0/token", url.Values{"a": {strings.Repeat("x", 200<<10)}})
	l.refused(status, b, 413, "invalid_request", "9000410")
}

func TestErrors_OneLineWithIds(t *testing.T) {
	l := newLab(t, nil)
	const id = "00000000-1111-2222-3333-444444444444"
	_, b := l.do("POST", "https://"+ours+"/"+tenant+"/oauth2/v2.0/token?client-request-id="+id, values("client_id", cli))
	want := regexp.MustCompile(`^AADSTS900144: The request body must contain the following parameter: 'grant_type'\. Trace ID: [0-9a-f-]{36} Correlation ID: ` + id +
		` Timestamp: \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$`)
	if text := b["error_description"].(string); !want.MatchString(text) {
		t.Errorf("description %q", text)
	}
	if b["correlation_id"] != id || b["error_codes"].([]any)[0] != float64(900144) || b["error_uri"] != "https://"+ours+"/error?code=900144" || b["trace_id"] == "" {
		t.Errorf("%v", b)
	}
}

func TestCertificate(t *testing.T) {
	l := newLab(t, nil)
	key := rsaKey(t)
	der := selfSigned(t, key, time.Now().Add(time.Hour))
	cert, err := directory.NewCertificate(der, "c")
	must(t, err)
	app := l.app(directory.App{Certificates: []directory.Certificate{cert}})
	s1, s256 := sha1.Sum(der), sha256.Sum256(der)
	b64 := base64.RawURLEncoding.EncodeToString
	endpoint := "https://" + ours + "/" + tenant + "/oauth2/v2.0/token"
	claims := func(edit func(map[string]any)) map[string]any {
		now := l.clock()
		c := map[string]any{"iss": app.AppID, "sub": app.AppID, "aud": endpoint, "jti": "j", "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
		if edit != nil {
			edit(c)
		}
		return c
	}
	ask := func(raw string) (int, map[string]any) {
		return l.token("grant_type", "client_credentials", "client_id", app.AppID, "scope", vault,
			"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", raw)
	}
	for name, raw := range map[string]string{
		"x5t, RS256":      sign(t, key, "RS256", map[string]any{"x5t": b64(s1[:])}, claims(nil)),
		"x5t#S256, PS256": sign(t, key, "PS256", map[string]any{"x5t#S256": b64(s256[:])}, claims(nil)),
		"domain":          sign(t, key, "RS256", map[string]any{"x5t": b64(s1[:])}, claims(func(c map[string]any) { c["aud"] = "https://" + ours + "/contoso.example/v2.0" })),
	} {
		if status, b := ask(raw); status != 200 || l.claims(b)["appidacr"] != "2" {
			t.Errorf("%s: %d %v", name, status, b)
		}
	}
	other := rsaKey(t)
	h := func() map[string]any { return map[string]any{"x5t": b64(s1[:])} }
	for _, tc := range []struct{ name, raw, number string }{
		{"unregistered", sign(t, key, "RS256", map[string]any{"x5t": b64(make([]byte, 20))}, claims(nil)), "700027"},
		{"no thumbprint", sign(t, key, "RS256", map[string]any{}, claims(nil)), "700027"},
		{"another key", sign(t, other, "RS256", h(), claims(nil)), "700027"},
		{"audience", sign(t, key, "RS256", h(), claims(func(c map[string]any) { c["aud"] = "https://evil.example/token" })), "700023"},
		{"subject", sign(t, key, "RS256", h(), claims(func(c map[string]any) { c["sub"] = "x" })), "700021"},
		{"expired", sign(t, key, "RS256", h(), claims(func(c map[string]any) { c["exp"] = 1 })), "700024"},
	} {
		status, b := ask(tc.raw)
		l.refused(status, b, 401, "invalid_client", tc.number)
	}
	l.wait(2 * time.Hour) // the certificate's end
	status, b := ask(sign(t, key, "RS256", h(), claims(nil)))
	if text := l.refused(status, b, 401, "invalid_client", "700027"); !strings.Contains(text, "expired") {
		t.Errorf("expired certificate: %s", text)
	}
}

func selfSigned(t testing.TB, key *rsa.PrivateKey, end time.Time) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(nil, c, c, &key.PublicKey, key)
	must(t, err)
	return der
}

func TestPasswordAndRefresh(t *testing.T) {
	l := newLab(t, nil)
	u := l.user()
	const scope = "https://management.core.windows.net//.default offline_access openid profile"
	sign := func(pass string) (int, map[string]any) {
		return l.do("POST", "https://"+ours+"/organizations/oauth2/v2.0/token", values("grant_type", "password", "client_id", cli, "client_info", "1",
			"username", "Ada@contoso.example", "password", pass, "scope", scope))
	}
	status, b := sign("wrong horse")
	l.refused(status, b, 400, "invalid_grant", "50126")
	status, b = sign("correct horse")
	if status != 200 || keysOf(b) != "access_token client_info expires_in ext_expires_in id_token refresh_token scope token_type" {
		t.Fatalf("%d %v", status, b)
	}
	for _, s := range strings.Fields(scope) {
		if !strings.Contains(b["scope"].(string), s) {
			t.Errorf("scope %q lacks %q, which MSAL takes for declined", b["scope"], s)
		}
	}
	if c := l.claims(b); c["upn"] != u.UPN || c["scp"] != "user_impersonation" || c["appid"] != cli || c["appidacr"] != "0" {
		t.Errorf("claims %v", c)
	}
	if c := decode(t, b["id_token"].(string)); c["aud"] != cli || c["oid"] != u.ObjectID || c["preferred_username"] != u.UPN {
		t.Errorf("id token %v", c)
	}
	info, _ := base64.RawURLEncoding.DecodeString(b["client_info"].(string))
	if string(info) != `{"uid":"`+u.ObjectID+`","utid":"`+tenant+`"}` {
		t.Errorf("client_info %s", info)
	}
	refresh := func(raw, client string) (int, map[string]any) {
		return l.token("grant_type", "refresh_token", "client_id", client, "refresh_token", raw, "scope", vault+" openid")
	}
	first := b["refresh_token"].(string)
	status, b = refresh(first, cli)
	if status != 200 || b["refresh_token"] == first || l.claims(b)["aud"] != "https://vault.azure.net" {
		t.Errorf("refreshed: %d %v", status, b)
	}
	second := b["refresh_token"].(string)
	status, b = refresh(first, "1950a258-227b-4e31-a9cf-717495945fc2")
	l.refused(status, b, 400, "invalid_grant", "70000")
	status, b = refresh("1.nonsense", cli)
	l.refused(status, b, 400, "invalid_grant", "70000")
	l.wait(25 * time.Hour)
	status, b = refresh(first, cli)
	l.refused(status, b, 400, "invalid_grant", "700082")
	must(t, l.dir.SetPassword(t.Context(), u.ObjectID, "another horse"))
	status, b = refresh(second, cli)
	l.refused(status, b, 400, "invalid_grant", "50173")
}

func TestNewRefreshToken_IsKept(t *testing.T) {
	l := newLab(t, nil)
	u := l.user()
	raw, err := l.svc.NewRefreshToken(t.Context(), u.ObjectID, cli)
	must(t, err)
	for range 3 {
		l.wait(60 * 24 * time.Hour)
		status, b := l.token("grant_type", "refresh_token", "client_id", cli, "refresh_token", raw, "scope", vault)
		if status != 200 || b["refresh_token"] != raw {
			t.Fatalf("%d %v", status, b)
		}
	}
	if !l.svc.Good(t.Context(), raw) || l.svc.Good(t.Context(), raw+"x") {
		t.Error("Good tells them not apart")
	}
	u.Disabled = true
	_, err = l.dir.UpdateUser(t.Context(), u)
	must(t, err)
	if l.svc.Good(t.Context(), raw) {
		t.Error("good although the user is disabled")
	}
	status, b := l.token("grant_type", "refresh_token", "client_id", cli, "refresh_token", raw, "scope", vault)
	l.refused(status, b, 400, "invalid_grant", "50057")
}

func TestPassword_ConfidentialClientsNeedTheirSecret(t *testing.T) {
	l := newLab(t, nil)
	l.user()
	app := l.app(directory.App{})
	status, b := l.token("grant_type", "password", "client_id", app.AppID, "username", "ada@contoso.example", "password", "correct horse", "scope", vault)
	l.refused(status, b, 401, "invalid_client", "7000218")
	status, b = l.token("grant_type", "password", "client_id", cli, "client_secret", "x", "username", "ada@contoso.example", "password", "correct horse", "scope", vault)
	l.refused(status, b, 401, "invalid_client", "700025")
}

func TestPassword_AnAddressThatGuessesIsThrottled(t *testing.T) {
	l := newLab(t, nil)
	canary, _ := l.page("https://" + ours + "/device")
	for range 30 {
		l.raw("POST", "https://"+ours+"/device", values("canary", canary, "otc", "GUESSED99"))
	}
	guess := func() (int, map[string]any) {
		return l.token("grant_type", "password", "client_id", cli, "username", "x@contoso.example", "password", "guess", "scope", vault)
	}
	status, b := guess()
	l.refused(status, b, 429, "temporarily_unavailable", "50196")
	l.wait(5 * time.Minute)
	status, b = guess()
	l.refused(status, b, 400, "invalid_grant", "50126")
}

// The exchange as the server runs it, against the arithmetic that it can't do
// without.
func BenchmarkFederatedExchange(b *testing.B) {
	l := newLab(b, nil)
	l.identity()
	ask := func(raw string) {
		form := values("grant_type", "client_credentials", "client_id", miApp, "scope", vault,
			"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", raw)
		r := httptest.NewRequestWithContext(b.Context(), "POST", "https://"+ours+"/"+tenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		l.svc.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
	n := 0
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			n++
			raw := l.pod(func(c map[string]any) { c["jti"] = strconv.Itoa(n) })
			b.StartTimer()
			ask(raw)
		}
	})
	b.Run("again", func(b *testing.B) {
		raw := l.pod(nil)
		for b.Loop() {
			ask(raw)
		}
	})
	b.Run("limit", func(b *testing.B) { // one RSA-2048 verify and one sign
		sum := sha256.Sum256([]byte("x"))
		sig, err := rsa.SignPKCS1v15(nil, l.cluster.key, crypto.SHA256, sum[:])
		must(b, err)
		for b.Loop() {
			if rsa.VerifyPKCS1v15(&l.cluster.key.PublicKey, crypto.SHA256, sum[:], sig) != nil {
				b.Fatal("signature")
			}
			if _, err := rsa.SignPKCS1v15(nil, l.cluster.key, crypto.SHA256, sum[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
