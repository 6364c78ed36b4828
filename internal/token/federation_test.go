package token_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/token"
)

// idp is an issuer elsewhere.
type idp struct {
	*httptest.Server
	key    *rsa.PrivateKey
	kid    string
	fetchs atomic.Int32
	issuer string           // what its document says; "" is the truth
	keys   http.HandlerFunc // instead of its own
	doc    http.HandlerFunc
}

func newIDP(t testing.TB) *idp {
	t.Helper()
	p := &idp{key: newKey(t), kid: "k1"}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/.well-known/openid-configuration" && p.doc != nil:
			p.doc(w, r)
		case r.URL.Path == "/.well-known/openid-configuration":
			iss := p.issuer
			if iss == "" {
				iss = p.URL
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": iss, "jwks_uri": p.URL + "/keys"})
		case r.URL.Path == "/keys" && p.keys != nil:
			p.keys(w, r)
		case r.URL.Path == "/keys":
			p.fetchs.Add(1)
			_, _ = io.WriteString(w, jwks(p.kid, &p.key.PublicKey))
		default:
			http.NotFound(w, r)
		}
	}))
	p.Config.ErrorLog = nil
	t.Cleanup(p.Close)
	return p
}

func newKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func jwks(kid string, pub *rsa.PublicKey) string {
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":%q,"n":%q,"e":"AQAB"}]}`,
		kid, base64.RawURLEncoding.EncodeToString(pub.N.Bytes()))
}

func (p *idp) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Certificate())
	return pool
}

// federation trusts p's certificate and allows its address.
func (p *idp) federation(t testing.TB, c *clock, edit func(*token.FederationConfig)) *token.Federation {
	t.Helper()
	u, _ := url.Parse(p.URL)
	cfg := token.FederationConfig{Roots: p.roots(), AllowPrivateIssuers: []string{u.Host}, Clock: c.now}
	if edit != nil {
		edit(&cfg)
	}
	f, err := token.NewFederation(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func claims(iss string, now time.Time) map[string]any {
	return map[string]any{"iss": iss, "sub": "system:serviceaccount:default:app", "aud": []string{"api://AzureADTokenExchange"},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
}

func (p *idp) assertion(t testing.TB, now time.Time, edit func(h, c map[string]any)) string {
	t.Helper()
	h, c := map[string]any{"alg": "RS256", "kid": p.kid}, claims(p.URL, now)
	if edit != nil {
		edit(h, c)
	}
	return encode(t, h, c, p.key)
}

func inner(err error) string {
	if err == nil {
		return ""
	}
	return apierr.From(err).Inner
}

func TestVerifyAssertion_ExternalIssuer(t *testing.T) {
	p, c := newIDP(t), &clock{time.Now()}
	f := p.federation(t, c, nil)
	a, err := verifyAssertion(t, f, p.assertion(t, c.t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Issuer != p.URL || a.Subject != "system:serviceaccount:default:app" || a.Audience() != "api://AzureADTokenExchange" {
		t.Errorf("assertion %+v", a)
	}
}

func TestVerifyAssertion_Refuses(t *testing.T) {
	p, c := newIDP(t), &clock{time.Now()}
	own := open(t, newStore(t), c)
	f := p.federation(t, c, func(cfg *token.FederationConfig) { cfg.Own = own })
	other := newKey(t)
	set := func(name string, v any) func(h, c map[string]any) { return func(_, c map[string]any) { c[name] = v } }
	now := c.t.Unix()
	good := p.assertion(t, c.t, nil)
	for _, tc := range []struct{ name, raw, inner string }{
		{"alg none", algNone(t, good), token.AADMalformed},
		{"HS256 with the public key", hs256(t, good, &p.key.PublicKey), token.AADMalformed},
		{"ES256", p.assertion(t, c.t, func(h, _ map[string]any) { h["alg"] = "ES256" }), token.AADMalformed},
		{"no kid", p.assertion(t, c.t, func(h, _ map[string]any) { delete(h, "kid") }), token.AADMalformed},
		{"another issuer's key", resign(t, good, other, nil), token.AADSignature},
		{"a kid of another issuer", p.assertion(t, c.t, func(h, _ map[string]any) { h["kid"] = "k2" }), token.AADSignature},
		{"expired", p.assertion(t, c.t, set("exp", now-301)), token.AADTime},
		{"not yet valid", p.assertion(t, c.t, set("nbf", now+301)), token.AADTime},
		{"issued in the future", p.assertion(t, c.t, set("iat", now+301)), token.AADTime},
		{"no exp", p.assertion(t, c.t, func(_, c map[string]any) { delete(c, "exp") }), token.AADMalformed},
		{"exp as text", p.assertion(t, c.t, set("exp", "99999999999")), token.AADMalformed},
		{"two audiences", p.assertion(t, c.t, set("aud", []string{"a", "b"})), token.AADAudience},
		{"no audience", p.assertion(t, c.t, set("aud", []string{})), token.AADAudience},
		{"audience of numbers", p.assertion(t, c.t, set("aud", []int{1})), token.AADMalformed},
		{"no subject", p.assertion(t, c.t, set("sub", "")), token.AADMalformed},
		{"doubled claim", doubled(t, p), token.AADMalformed},
		{"oversized", p.assertion(t, c.t, set("pad", strings.Repeat("x", 17<<10))), token.AADMalformed},
		{"a token of our own", issue(t, own, appRequest(t, own)), token.AADOwnToken},
		{"http issuer", p.assertion(t, c.t, set("iss", "http://"+p.Listener.Addr().String())), token.AADIssuerFailed},
		{"issuer with another slash", p.assertion(t, c.t, set("iss", p.URL+"/")), token.AADIssuerFailed},
	} {
		for range 2 {
			if _, err := verifyAssertion(t, f, tc.raw, nil); inner(err) != tc.inner {
				t.Errorf("%s: %v (%s), want %s", tc.name, err, inner(err), tc.inner)
			}
		}
	}
	if _, err := verifyAssertion(t, f, p.assertion(t, c.t, set("exp", now-299)), nil); err != nil {
		t.Errorf("within the skew: %v", err)
	}
}

func doubled(t testing.TB, p *idp) string {
	t.Helper()
	e := base64.RawURLEncoding.EncodeToString
	now := time.Now().Unix()
	return e([]byte(`{"alg":"RS256","kid":"k1"}`)) + "." +
		e(fmt.Appendf(nil, `{"iss":%q,"sub":"a","sub":"b","aud":"x","exp":%d}`, p.URL, now+60)) + "." + e([]byte("sig"))
}

func TestVerifyAssertion_IssuersThatMisbehave(t *testing.T) {
	c := &clock{time.Now()}
	for name, tc := range map[string]struct {
		edit func(*idp)
		want string // in the message
	}{
		"redirects":         {func(p *idp) { p.doc = http.RedirectHandler(p.URL+"/keys", http.StatusFound).ServeHTTP }, "redirects"},
		"key set redirects": {func(p *idp) { p.keys = http.RedirectHandler(p.URL+"/x", http.StatusFound).ServeHTTP }, "redirects"},
		"hangs": {func(p *idp) {
			p.doc = func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				panic(http.ErrAbortHandler) // returning would answer 200, which may still arrive
			}
		}, "no answer within"},
		"trickles":            {func(p *idp) { p.keys = trickle }, "within"},
		"sends 1 GB":          {func(p *idp) { p.keys = flood }, "longer than"},
		"claims another name": {func(p *idp) { p.issuer = "https://other" }, "expected '"},
		"answers 500":         {func(p *idp) { p.doc = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) } }, "500"},
		"sends no JSON": {func(p *idp) {
			p.keys = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }
		}, "not JSON"},
		"jwks_uri is http": {func(p *idp) {
			p.doc = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://127.0.0.1/keys"}`, p.URL)
			}
		}, "is not https"},
		"jwks_uri is inside": {func(p *idp) {
			p.doc = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"https://169.254.169.254/keys"}`, p.URL)
			}
		}, "not a public address"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIDP(t)
			tc.edit(p)
			f := p.federation(t, c, func(cfg *token.FederationConfig) {
				cfg.Timeout = time.Minute // not to be reached, however busy the machine is
				if strings.Contains(tc.want, "within") {
					cfg.Timeout = 300 * time.Millisecond
				}
			})
			_, err := verifyAssertion(t, f, p.assertion(t, c.t, nil), nil)
			if inner(err) != token.AADIssuerFailed || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v (%s), want %s with %q", err, inner(err), token.AADIssuerFailed, tc.want)
			}
		})
	}
}

func trickle(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		_, _ = io.WriteString(w, " ")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func flood(w http.ResponseWriter, r *http.Request) {
	chunk := []byte(strings.Repeat(" ", 64<<10))
	for i := 0; i < 16<<10 && r.Context().Err() == nil; i++ {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestVerifyAssertion_PrivateAddressesNeedTheOperator(t *testing.T) {
	p, c := newIDP(t), &clock{time.Now()}
	u, _ := url.Parse(p.URL)
	for _, tc := range []struct {
		allow []string
		ok    bool
	}{
		{nil, false}, {[]string{"10.0.0.0/8", "other.example"}, false}, {[]string{"127.0.0.1:1"}, false},
		{[]string{u.Host}, true}, {[]string{"127.0.0.1"}, true}, {[]string{"127.0.0.0/8"}, true},
	} {
		f := p.federation(t, c, func(cfg *token.FederationConfig) { cfg.AllowPrivateIssuers = tc.allow })
		_, err := verifyAssertion(t, f, p.assertion(t, c.t, nil), nil)
		if (err == nil) != tc.ok || err != nil && !strings.Contains(err.Error(), "not a public address") {
			t.Errorf("allowed %v: %v, want ok %v", tc.allow, err, tc.ok)
		}
	}
	f := p.federation(t, c, func(cfg *token.FederationConfig) { cfg.AllowPrivateIssuers = nil })
	byName := p.assertion(t, c.t, func(_, c map[string]any) { c["iss"] = "https://localhost:" + u.Port() })
	if _, err := verifyAssertion(t, f, byName, nil); err == nil || !strings.Contains(err.Error(), "not a public address") {
		t.Errorf("a name that resolves to a private address: %v", err)
	}
}

func TestVerifyAssertion_OfflineNobodyIsAskedButWhomTheOperatorNamed(t *testing.T) {
	p, c := newIDP(t), &clock{time.Now()}
	for _, tc := range []struct {
		issuer string
		allow  []string
		ok     bool
	}{
		{p.URL, []string{"127.0.0.0/8"}, true}, {p.URL, []string{"127.0.0.1"}, true},
		{p.URL, []string{"10.0.0.0/8"}, false}, {"https://8.8.8.8", nil, false}, {"https://token.actions.githubusercontent.com", []string{"127.0.0.0/8"}, false},
	} {
		f := p.federation(t, c, func(cfg *token.FederationConfig) { cfg.AllowPrivateIssuers, cfg.Offline = tc.allow, true })
		_, err := verifyAssertion(t, f, p.assertion(t, c.t, func(_, c map[string]any) { c["iss"] = tc.issuer }), nil)
		if (err == nil) != tc.ok || err != nil && !strings.Contains(err.Error(), "runs offline") {
			t.Errorf("%s, allowed %v: %v, want ok %v", tc.issuer, tc.allow, err, tc.ok)
		}
	}
}

func TestVerifyAssertion_TrustIsAskedBeforeAnythingIsFetched(t *testing.T) {
	p, c := newIDP(t), &clock{time.Now()}
	f := p.federation(t, c, nil)
	no := func(*token.Assertion) error {
		return apierr.New(apierr.Unauthorized, "invalid_client", "no").WithInner("700211")
	}
	if _, err := verifyAssertion(t, f, p.assertion(t, c.t, nil), no); inner(err) != "700211" {
		t.Errorf("got %v", err)
	}
	if n := p.fetchs.Load(); n != 0 {
		t.Errorf("the issuer was asked %d times", n)
	}
	raw := p.assertion(t, c.t, nil)
	if _, err := verifyAssertion(t, f, raw, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := verifyAssertion(t, f, raw, no); inner(err) != "700211" {
		t.Errorf("trust withdrawn, and a known assertion gives %v", err)
	}
}

func TestKeySets_SingleFlightFloorAndStale(t *testing.T) {
	p, c := newIDP(t), &clock{time.Now()}
	f := p.federation(t, c, nil)
	raw := p.assertion(t, c.t, func(_, cl map[string]any) { cl["exp"] = c.t.Add(100 * time.Hour).Unix() })
	verify := func(raw string) error { _, err := verifyAssertion(t, f, raw, nil); return err }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := verify(raw); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.fetchs.Load(); n != 1 {
		t.Errorf("8 at once made %d fetches, want 1", n)
	}
	old := p.key
	p.key, p.kid = newKey(t), "k2" // the issuer rotates
	fresh := p.assertion(t, c.t, nil)
	if err := verify(fresh); inner(err) != token.AADSignature {
		t.Errorf("an unknown kid within the floor: %v", err)
	}
	c.t = c.t.Add(31 * time.Second)
	if err := verify(fresh); err != nil {
		t.Errorf("after the floor: %v", err)
	}
	if err := verify(raw); inner(err) != token.AADSignature {
		t.Errorf("a key that the issuer withdrew, assertion seen before: %v", err)
	}
	p.key, p.kid = old, "k1"
	c.t = c.t.Add(61 * time.Minute)
	if err := verify(raw); err != nil {
		t.Errorf("after the set's age: %v", err)
	}
	p.keys = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
	c.t = c.t.Add(61 * time.Minute)
	if err := verify(raw); err != nil {
		t.Errorf("the issuer is away, the set an hour old: %v", err)
	}
	c.t = c.t.Add(61 * time.Minute)
	if err := verify(raw); inner(err) != token.AADIssuerFailed {
		t.Errorf("the issuer is away, the set two hours old: %v", err)
	}
}

// local is an issuer in this process.
type local struct {
	issuer, kid string
	pub         *rsa.PublicKey
}

func (l local) Keys(_ context.Context, issuer string) (jose.JSONWebKeySet, bool, error) {
	if issuer != l.issuer {
		return jose.JSONWebKeySet{}, false, nil
	}
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: l.pub, KeyID: l.kid, Use: "sig", Algorithm: "RS256"}}}, true, nil
}

func TestVerifyAssertion_IssuerInProcess(t *testing.T) {
	key := newKey(t)
	iss := "https://westeurope.oic.prod-aks.azure.com/" + tenant + "/x/"
	f, err := token.NewFederation(token.FederationConfig{Issuers: []token.IssuerKeys{local{iss, "k", &key.PublicKey}}})
	if err != nil {
		t.Fatal(err)
	}
	raw := encode(t, map[string]any{"alg": "RS256", "kid": "k"}, claims(iss, time.Now()), key)
	if _, err := verifyAssertion(t, f, raw, nil); err != nil {
		t.Error(err)
	}
	raw = encode(t, map[string]any{"alg": "RS256", "kid": "z"}, claims(iss, time.Now()), key)
	if _, err := verifyAssertion(t, f, raw, nil); inner(err) != token.AADSignature {
		t.Errorf("unknown kid: %v", err)
	}
}

func TestNewFederation_RefusesEntriesThatMeanNothing(t *testing.T) {
	for _, entry := range []string{"https://idp.example", "10.0.0.0/99"} {
		if _, err := token.NewFederation(token.FederationConfig{AllowPrivateIssuers: []string{entry}}); err == nil {
			t.Errorf("%q was taken", entry)
		}
	}
}

func BenchmarkFederatedExchange(b *testing.B) {
	key := newKey(b)
	iss := "https://westeurope.oic.prod-aks.azure.com/" + tenant + "/x/"
	f, err := token.NewFederation(token.FederationConfig{Issuers: []token.IssuerKeys{local{iss, "k", &key.PublicKey}}})
	if err != nil {
		b.Fatal(err)
	}
	s, _ := start(b)
	r := appRequest(b, s)
	r.MIRID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
	exchange := func(b *testing.B, raw string) {
		a, err := verifyAssertion(b, f, raw, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.ReuseKey = raw + a.Subject
		if _, _, err := s.Issue(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	n := big.NewInt(0)
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			c := claims(iss, time.Now())
			c["jti"] = n.Add(n, big.NewInt(1)).String()
			raw := encode(b, map[string]any{"alg": "RS256", "kid": "k"}, c, key)
			b.StartTimer()
			exchange(b, raw)
		}
	})
	b.Run("again", func(b *testing.B) {
		raw := encode(b, map[string]any{"alg": "RS256", "kid": "k"}, claims(iss, time.Now()), key)
		for b.Loop() {
			exchange(b, raw)
		}
	})
}

// verifyAssertion parses and verifies.
func verifyAssertion(t testing.TB, f *token.Federation, raw string, trusts func(*token.Assertion) error) (*token.Assertion, error) {
	a, err := f.Parse(raw)
	if err != nil {
		return nil, err
	}
	return a, f.VerifyAssertion(t.Context(), a, trusts)
}
