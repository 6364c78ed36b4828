package token_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
)

const tenant = "11111111-2222-3333-4444-555555555555"

// xorSeal stands for the keyring: it shows that what is stored isn't the key,
// and that scope and aad are the same on both ways.
type xorSeal struct{}

func (xorSeal) Seal(_ context.Context, scope string, plain, aad []byte) ([]byte, error) {
	out := append([]byte(scope+"|"+string(aad)+"|"), plain...)
	for i := range out {
		out[i] ^= 0x5a
	}
	return out, nil
}

func (xorSeal) Open(_ context.Context, scope string, sealed, aad []byte) ([]byte, error) {
	out := bytes.Clone(sealed)
	for i := range out {
		out[i] ^= 0x5a
	}
	plain, ok := bytes.CutPrefix(out, []byte(scope+"|"+string(aad)+"|"))
	if !ok {
		return nil, errors.New("sealed under another scope or aad")
	}
	return plain, nil
}

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newStore(t testing.TB) store.Store {
	t.Helper()
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func open(t testing.TB, st store.Store, c *clock) *token.Service {
	t.Helper()
	s, err := token.Open(t.Context(), token.Config{Store: st, Seal: xorSeal{}, TenantID: tenant, Clock: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t testing.TB) (*token.Service, *clock) {
	c := &clock{time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	return open(t, newStore(t), c), c
}

func resource(t testing.TB, s *token.Service, name string) token.Resource {
	t.Helper()
	r, ok := s.Resource(name)
	if !ok {
		t.Fatalf("no resource %q", name)
	}
	return r
}

func issue(t testing.TB, s *token.Service, r token.Request) string {
	t.Helper()
	raw, _, err := s.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func appRequest(t testing.TB, s *token.Service) token.Request {
	return token.Request{Resource: resource(t, s, token.Vault), ObjectID: "oid-1", AppID: "app-1", Auth: token.AuthCertificate}
}

func parts(t testing.TB, raw string) (header, payload map[string]any) {
	t.Helper()
	p := strings.Split(raw, ".")
	for i, m := range []*map[string]any{&header, &payload} {
		b, err := base64.RawURLEncoding.DecodeString(p[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, m); err != nil {
			t.Fatal(err)
		}
	}
	return header, payload
}

func code(err error) string {
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		return e.Code
	}
	return ""
}

func TestIssue_ShapesAndLifetimes(t *testing.T) {
	s, c := start(t)
	own := token.Resource{Name: "api", AppID: "aaaaaaaa-0000-0000-0000-000000000001", Audience: "api://own"}
	for _, tc := range []struct {
		name string
		req  token.Request
		want map[string]any // nil value: absent
		life time.Duration
	}{
		{"application, platform", token.Request{Resource: resource(t, s, "https://vault.azure.net"), ObjectID: "o", AppID: "a", Auth: token.AuthSecret, CAE: true},
			map[string]any{"ver": "1.0", "aud": "https://vault.azure.net", "iss": "https://sts.windows.net/" + tenant + "/", "appid": "a", "appidacr": "1",
				"idtyp": "app", "oid": "o", "sub": "o", "tid": tenant, "scp": nil, "azp": nil, "xms_mirid": nil, "idp": "https://sts.windows.net/" + tenant + "/"}, time.Hour},
		{"managed identity, two slashes", token.Request{Resource: resource(t, s, "https://management.core.windows.net/"), ObjectID: "o", AppID: "a", MIRID: "/subscriptions/x", Auth: "2"},
			map[string]any{"aud": "https://management.core.windows.net/", "xms_mirid": "/subscriptions/x", "idtyp": "app"}, 24 * time.Hour},
		{"own application", token.Request{Resource: own, ObjectID: "o", AppID: "a", Auth: "2", MIRID: "/x"},
			map[string]any{"ver": "2.0", "aud": own.AppID, "azp": "a", "azpacr": "2", "iss": "https://login.microsoftonline.com/" + tenant + "/v2.0",
				"idtyp": nil, "appid": nil, "xms_mirid": nil}, 24 * time.Hour},
		{"user", token.Request{Resource: resource(t, s, token.ARM), ObjectID: "o", AppID: "a", Auth: "0", UPN: "me@x", Name: "Me", Scopes: []string{"user_impersonation"}},
			map[string]any{"upn": "me@x", "unique_name": "me@x", "name": "Me", "scp": "user_impersonation", "idtyp": nil, "groups": nil}, 0},
	} {
		raw := issue(t, s, tc.req)
		h, p := parts(t, raw)
		if h["alg"] != "RS256" || h["typ"] != "JWT" || h["kid"] == nil || (h["x5t"] != nil) != (p["ver"] == "1.0") {
			t.Errorf("%s: header %v", tc.name, h)
		}
		for claim, want := range tc.want {
			if p[claim] != want {
				t.Errorf("%s: %s = %v, want %v", tc.name, claim, p[claim], want)
			}
		}
		life := time.Unix(int64(p["exp"].(float64)), 0).Sub(c.t)
		if tc.life != 0 && life != tc.life || tc.life == 0 && (life < 60*time.Minute || life > 90*time.Minute) {
			t.Errorf("%s: lives %v, want %v", tc.name, life, tc.life)
		}
		aud := tc.req.Resource.Audience
		if !tc.req.Resource.FirstParty {
			aud = own.AppID
		}
		claims, err := s.Verify(t.Context(), raw, aud)
		if err != nil || claims.ObjectID != "o" || claims.AppID != "a" || claims.AppOnly != (tc.req.UPN == "") {
			t.Errorf("%s: Verify = %+v, %v", tc.name, claims, err)
		}
	}
}

func TestVerify_FormsOfOneAudienceAreOne(t *testing.T) {
	s, _ := start(t)
	for _, aud := range []string{"https://management.azure.com", "https://management.azure.com/", "https://management.core.windows.net/", "797f4846-ba00-4fd7-ba43-dac1f8f63013"} {
		raw := issue(t, s, token.Request{Resource: resource(t, s, aud), ObjectID: "o", AppID: "a"})
		if _, p := parts(t, raw); p["aud"] != aud {
			t.Errorf("aud = %v, want %v", p["aud"], aud)
		}
		for range 2 { // the second from the cache
			if _, err := s.Verify(t.Context(), raw, token.ARM); err != nil {
				t.Errorf("Verify of %s: %v", aud, err)
			}
			if _, err := s.Verify(t.Context(), raw, token.Vault); code(err) != token.CodeAudience {
				t.Errorf("Verify of %s for vault = %v", aud, err)
			}
		}
	}
}

func resign(t testing.TB, raw string, key *rsa.PrivateKey, edit func(header, payload map[string]any)) string {
	t.Helper()
	h, p := parts(t, raw)
	if edit != nil {
		edit(h, p)
	}
	return encode(t, h, p, key)
}

func encode(t testing.TB, h, p any, key *rsa.PrivateKey) string {
	t.Helper()
	hb, _ := json.Marshal(h)
	pb, _ := json.Marshal(p)
	signed := base64.RawURLEncoding.EncodeToString(hb) + "." + base64.RawURLEncoding.EncodeToString(pb)
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// stolen gives the service's own private key, to make tokens that are well
// signed and wrong otherwise.
func stolen(t testing.TB, st store.Store) *rsa.PrivateKey {
	t.Helper()
	docs, err := st.List(t.Context(), store.Query{Prefix: "token/keys/"})
	if err != nil || len(docs) == 0 {
		t.Fatalf("keys: %v, %v", docs, err)
	}
	var d struct{ Sealed []byte }
	if err := json.Unmarshal(docs[0].Value, &d); err != nil {
		t.Fatal(err)
	}
	der, err := xorSeal{}.Open(t.Context(), "token", d.Sealed, []byte(docs[0].Key))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

func TestVerify_Refuses(t *testing.T) {
	st := newStore(t)
	c := &clock{time.Now()}
	s := open(t, st, c)
	good := issue(t, s, appRequest(t, s))
	key := stolen(t, st)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := float64(c.t.Unix())
	with := func(name string, v any) func(h, p map[string]any) {
		return func(_, p map[string]any) { p[name] = v }
	}
	p := strings.Split(good, ".")
	for _, tc := range []struct{ name, raw, code string }{
		{"none at all", "", token.CodeMissing},
		{"not a token", "abc", token.CodeMalformed},
		{"oversized", strings.Repeat("a", token.MaxTokenBytes+1), token.CodeMalformed},
		{"alg none", algNone(t, good), token.CodeSignature},
		{"HS256 with the public key", hs256(t, good, &key.PublicKey), token.CodeSignature},
		{"another's key", resign(t, good, other, nil), token.CodeSignature},
		{"a kid nobody has", resign(t, good, key, func(h, _ map[string]any) { h["kid"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAA" }), token.CodeSignature},
		{"no kid", resign(t, good, key, func(h, _ map[string]any) { delete(h, "kid") }), token.CodeSignature},
		{"changed payload", p[0] + "." + strings.Split(resign(t, good, key, with("oid", "x")), ".")[1] + "." + p[2], token.CodeSignature},
		{"expired", resign(t, good, key, with("exp", now-301)), token.CodeExpired},
		{"not yet valid", resign(t, good, key, with("nbf", now+301)), token.CodeNotYetValid},
		{"no exp", resign(t, good, key, with("exp", nil)), token.CodeMalformed},
		{"exp as text", resign(t, good, key, with("exp", "99999999999")), token.CodeMalformed},
		{"two audiences", resign(t, good, key, with("aud", []string{token.Vault, token.ARM})), token.CodeAudience},
		{"audience in a list", resign(t, good, key, with("aud", []string{token.Vault})), token.CodeAudience},
		{"wrong audience", resign(t, good, key, with("aud", token.Graph)), token.CodeAudience},
		{"foreign issuer", resign(t, good, key, with("iss", "https://evil/")), token.CodeIssuer},
		{"foreign tenant", resign(t, good, key, with("tid", "x")), token.CodeIssuer},
		{"v1 that says v2", resign(t, good, key, with("ver", "2.0")), token.CodeMalformed},
		{"id token", mustSign(t, s, map[string]any{"iss": s.Issuer("", "2.0"), "tid": tenant, "aud": token.Vault, "exp": now + 60, "nbf": now, "iat": now, "oid": "o", "ver": "2.0"}), token.CodeMalformed},
		{"no version", mustSign(t, s, map[string]any{"iss": s.Issuer("", "2.0"), "tid": tenant, "aud": "a", "exp": now + 60, "nbf": now, "iat": now, "oid": "o"}), token.CodeMalformed},
	} {
		_, err := s.Verify(t.Context(), tc.raw, token.Vault)
		if code(err) != tc.code || !apierr.Is(err, apierr.Unauthorized) {
			t.Errorf("%s: Verify = %v, want %s", tc.name, err, tc.code)
		}
	}
	if _, err := s.Verify(t.Context(), resign(t, good, key, with("exp", now-299)), token.Vault); err != nil {
		t.Errorf("within the skew: %v", err)
	}
}

func mustSign(t testing.TB, s *token.Service, claims any) string {
	t.Helper()
	raw, err := s.Sign(t.Context(), claims)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func algNone(t testing.TB, good string) string {
	h, p := parts(t, good)
	h["alg"] = "none"
	hb, _ := json.Marshal(h)
	pb, _ := json.Marshal(p)
	return base64.RawURLEncoding.EncodeToString(hb) + "." + base64.RawURLEncoding.EncodeToString(pb) + "."
}

func hs256(t testing.TB, good string, pub *rsa.PublicKey) string {
	h, p := parts(t, good)
	h["alg"] = "HS256"
	hb, _ := json.Marshal(h)
	pb, _ := json.Marshal(p)
	signed := base64.RawURLEncoding.EncodeToString(hb) + "." + base64.RawURLEncoding.EncodeToString(pb)
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestVerify_CachedTokenDiesWithItsExp(t *testing.T) {
	s, c := start(t)
	raw := issue(t, s, appRequest(t, s))
	if _, err := s.Verify(t.Context(), raw, token.Vault); err != nil {
		t.Fatal(err)
	}
	c.t = c.t.Add(time.Hour + 5*time.Minute)
	if _, err := s.Verify(t.Context(), raw, token.Vault); code(err) != token.CodeExpired {
		t.Errorf("after its end: %v, want %s", err, token.CodeExpired)
	}
}

func TestRotateKeys_NewIsPublishedBeforeItSignsAndOldUntilItsTokensAreDead(t *testing.T) {
	s, c := start(t)
	raw := issue(t, s, token.Request{Resource: resource(t, s, token.Vault), ObjectID: "o", AppID: "a", MIRID: "/x"})
	h, _ := parts(t, raw)
	old := h["kid"]
	kid, err := s.RotateKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := kids(t, s); len(got) != 2 {
		t.Errorf("published after rotation: %v, want both", got)
	}
	if h, _ := parts(t, issue(t, s, appRequest(t, s))); h["kid"] != old {
		t.Errorf("signs with %v at once, want still %v", h["kid"], old)
	}
	c.t = c.t.Add(time.Hour + time.Second)
	if h, _ := parts(t, issue(t, s, appRequest(t, s))); h["kid"] != kid {
		t.Errorf("signs with %v after an hour, want %v", h["kid"], kid)
	}
	c.t = c.t.Add(22 * time.Hour)
	if _, err := s.Verify(t.Context(), raw, token.Vault); err != nil {
		t.Errorf("old token: %v", err)
	}
	c.t = c.t.Add(3 * time.Hour)
	if got := kids(t, s); len(got) != 1 || got[0] != kid {
		t.Errorf("published when all old tokens are dead: %v, want %v", got, kid)
	}
}

func TestRotateKeysAt_NowSignsAtOnceAndOldTokensStayGood(t *testing.T) {
	s, c := start(t)
	raw := issue(t, s, appRequest(t, s))
	c.t = c.t.Add(time.Second)
	kid, from, err := s.RotateKeysAt(t.Context(), true)
	if err != nil || from.IsZero() {
		t.Fatal(from, err)
	}
	fresh := issue(t, s, token.Request{Resource: resource(t, s, token.Vault), ObjectID: "o", AppID: "a", MIRID: "/x"})
	if h, _ := parts(t, fresh); h["kid"] != kid {
		t.Errorf("signs with %v, want %v", h["kid"], kid)
	}
	for what, raw := range map[string]string{"old": raw, "new": fresh} {
		if _, err := s.Verify(t.Context(), raw, token.Vault, token.Graph, token.ARM); err != nil {
			t.Errorf("%s token: %v", what, err)
		}
	}
	if got := kids(t, s); len(got) != 2 {
		t.Errorf("published: %v, want both", got)
	}
}

func kids(t testing.TB, s *token.Service) []string {
	t.Helper()
	set, err := s.JWKS(t.Context(), "", "2.0")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, k := range set.Keys {
		out = append(out, k.Kid)
		if k.N == "" || k.E != "AQAB" || len(k.X5c) != 1 || k.Issuer == "" {
			t.Errorf("published key %+v", k)
		}
	}
	return out
}

func TestReplicas_EachTakesTheOthersTokens(t *testing.T) {
	st := newStore(t)
	c := &clock{time.Now()}
	a, b := open(t, st, c), open(t, st, c)
	raw := issue(t, a, appRequest(t, a)) // a makes the first key; b has never seen it
	if _, err := b.Verify(t.Context(), raw, token.Vault); err != nil {
		t.Errorf("the other replica: %v", err)
	}
	if h, _ := parts(t, issue(t, b, appRequest(t, b))); h["kid"] != kids(t, a)[0] {
		t.Errorf("the other replica made a key of its own: %v", h["kid"])
	}
}

func TestIssue_ReusesWhileMoreThanHalfAlive(t *testing.T) {
	s, c := start(t)
	r := appRequest(t, s)
	r.ReuseKey = "assertion"
	first := issue(t, s, r)
	if again := issue(t, s, r); again != first {
		t.Error("an equal request got another token")
	}
	changed := r
	changed.Roles = []string{"x"}
	if issue(t, s, changed) == first {
		t.Error("a request with other roles got the same token")
	}
	c.t = c.t.Add(31 * time.Minute)
	if issue(t, s, r) == first {
		t.Error("a token less than half alive was given again")
	}
}

func TestRun_MakesTheFirstKeyAndEndsWithItsContext(t *testing.T) {
	st := newStore(t)
	s := open(t, st, &clock{time.Now()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); ; {
		docs, err := st.List(t.Context(), store.Query{Prefix: "token/keys/"})
		if err != nil {
			t.Fatal(err)
		}
		if len(docs) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no key was made")
		}
		<-time.After(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func BenchmarkIssue(b *testing.B) {
	s, _ := start(b)
	r := appRequest(b, s)
	for b.Loop() {
		if _, _, err := s.Issue(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s, _ := start(b)
	raw := issue(b, s, appRequest(b, s))
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Verify(b.Context(), raw, token.Vault); err != nil {
				b.Fatal(err)
			}
		}
	})
}
