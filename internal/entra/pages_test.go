package entra_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/entra"
	"lazurite.dev/internal/store"
)

const verifier = "a-verifier-of-at-least-forty-three-characters-0123"

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

var canaryField = regexp.MustCompile(`name="canary" value="([^"]+)"`)

// page opens a page and gives its canary.
func (l *lab) page(rawURL string) (canary, body string) {
	l.t.Helper()
	status, _, body := l.raw("GET", rawURL, nil)
	m := canaryField.FindStringSubmatch(body)
	if status != 200 || m == nil {
		l.t.Fatalf("GET %s: %d %s", rawURL, status, body)
	}
	return html.UnescapeString(m[1]), body
}

func authorizeURL(form ...string) string {
	base := []string{"client_id", cli, "response_type", "code", "redirect_uri", "http://localhost:54321", "scope", vault + " openid offline_access",
		"state", "st", "nonce", "no", "code_challenge", challenge(), "code_challenge_method", "S256"}
	v := values(append(base, form...)...)
	for name := range v {
		if v.Get(name) == "" {
			v.Del(name)
		}
	}
	return "https://" + ours + "/organizations/oauth2/v2.0/authorize?" + v.Encode()
}

// signIn goes through the sign-in page and gives where the browser is sent.
func (l *lab) signIn(u string) *url.URL {
	l.t.Helper()
	canary, _ := l.page(u)
	status, h, body := l.raw("POST", u, values("canary", canary, "login", "ada@contoso.example", "passwd", "correct horse"))
	if status != 302 {
		l.t.Fatalf("signing in: %d %s", status, body)
	}
	to, err := url.Parse(h.Get("Location"))
	must(l.t, err)
	return to
}

func TestAuthorizationCode(t *testing.T) {
	l := newLab(t, nil)
	l.user()
	to := l.signIn(authorizeURL())
	if to.Host != "localhost:54321" || to.Query().Get("state") != "st" || to.Query().Get("code") == "" {
		t.Fatalf("sent to %s", to)
	}
	redeem := func(form ...string) (int, map[string]any) {
		return l.token(append([]string{"grant_type", "authorization_code", "client_id", cli, "code", to.Query().Get("code"),
			"redirect_uri", "http://localhost:54321", "code_verifier", verifier}, form...)...)
	}
	status, b := redeem("code_verifier", "wrong")
	l.refused(status, b, 400, "invalid_grant", "501481")
	status, b = redeem("redirect_uri", "http://localhost:1")
	l.refused(status, b, 400, "invalid_client", "500112")
	status, b = redeem("client_id", "1950a258-227b-4e31-a9cf-717495945fc2")
	l.refused(status, b, 400, "invalid_grant", "700005")
	status, b = redeem()
	if status != 200 || decode(t, b["id_token"].(string))["nonce"] != "no" || l.claims(b)["aud"] != "https://vault.azure.net" {
		t.Fatalf("%d %v", status, b)
	}
	refresh := b["refresh_token"].(string)
	status, b = redeem()
	l.refused(status, b, 400, "invalid_grant", "54005")
	status, b = l.token("grant_type", "refresh_token", "client_id", cli, "refresh_token", refresh, "scope", vault)
	l.refused(status, b, 400, "invalid_grant", "70000") // the code came twice: what it gave is revoked
	to = l.signIn(authorizeURL())
	l.wait(11 * time.Minute)
	status, b = redeem()
	l.refused(status, b, 400, "invalid_grant", "70008")
}

// held is a store whose writes under a prefix wait, once there is one.
type held struct {
	store.Store
	prefix       atomic.Pointer[string]
	arrived, end chan struct{}
}

func (h *held) Put(ctx context.Context, d store.Doc) (int64, error) {
	if p := h.prefix.Load(); p != nil && strings.HasPrefix(d.Key, *p) {
		h.arrived <- struct{}{}
		<-h.end
	}
	return h.Store.Put(ctx, d)
}

// Whoever presents a code a second time ends what it gives, however early.
func TestAuthorizationCode_ReplayedWhileItIsRedeemed(t *testing.T) {
	for name, prefix := range map[string]string{"before its refresh token is stored": "entra/refresh/", "before it is marked": "entra/code/"} {
		t.Run(name, func(t *testing.T) {
			h := &held{arrived: make(chan struct{}), end: make(chan struct{})}
			l := newLab(t, func(c *entra.Config) { h.Store, c.Store = c.Store, h })
			l.user()
			to := l.signIn(authorizeURL())
			type answer struct {
				status int
				body   map[string]any
			}
			answers := make(chan answer, 2)
			redeem := func() {
				status, b := l.token("grant_type", "authorization_code", "client_id", cli, "code", to.Query().Get("code"),
					"redirect_uri", "http://localhost:54321", "code_verifier", verifier)
				answers <- answer{status, b}
			}
			h.prefix.Store(&prefix)
			go redeem()
			<-h.arrived
			if prefix == "entra/code/" { // both have read it, one will write first
				go redeem()
				<-h.arrived
			} else {
				redeem()
			}
			close(h.end)
			first, second := <-answers, <-answers
			if first.status == 200 {
				first, second = second, first
			}
			l.refused(first.status, first.body, 400, "invalid_grant", "54005")
			refresh, _ := second.body["refresh_token"].(string)
			if second.status != 200 || refresh == "" {
				t.Fatalf("redeemed: %d %v", second.status, second.body)
			}
			status, b := l.token("grant_type", "refresh_token", "client_id", cli, "refresh_token", refresh, "scope", vault)
			l.refused(status, b, 400, "invalid_grant", "70000")
		})
	}
}

func TestAuthorize_Refusals(t *testing.T) {
	l := newLab(t, nil)
	for _, tc := range []struct {
		form   []string
		number string
	}{
		{[]string{"redirect_uri", "https://evil.example/"}, "50011"},
		{[]string{"redirect_uri", "http://localhost.evil.example:1"}, "50011"},
		{[]string{"redirect_uri", "http://user@localhost:1"}, "50011"},
		{[]string{"client_id", "nonsense"}, "700038"},
		{[]string{"client_id", ""}, "900144"},
		{[]string{"response_mode", "carrier_pigeon"}, "70007"},
	} {
		status, h, body := l.raw("GET", authorizeURL(tc.form...), nil)
		if status != 400 || h.Get("Location") != "" || !strings.Contains(body, "AADSTS"+tc.number) {
			t.Errorf("%v: %d %s", tc.form, status, h.Get("Location"))
		}
	}
	for _, tc := range []struct {
		form         []string
		word, number string
	}{
		{[]string{"response_type", "token"}, "unsupported_response_type", "700054"},
		{[]string{"code_challenge", ""}, "invalid_request", "9002325"},
		{[]string{"code_challenge_method", "plain"}, "invalid_request", "501491"},
		{[]string{"prompt", "none"}, "login_required", "50058"},
		{[]string{"scope", "https://nowhere.example/.default"}, "invalid_resource", "500011"},
	} {
		status, h, _ := l.raw("GET", authorizeURL(tc.form...), nil)
		to, _ := url.Parse(h.Get("Location"))
		if q := to.Query(); status != 302 || to.Host != "localhost:54321" || q.Get("error") != tc.word || !strings.HasPrefix(q.Get("error_description"), "AADSTS"+tc.number) || q.Get("state") != "st" {
			t.Errorf("%v: %d %s", tc.form, status, to)
		}
	}
}

func TestSignInPage_ForgedAndWrong(t *testing.T) {
	l := newLab(t, nil)
	l.user()
	canary, body := l.page(authorizeURL("login_hint", `"><script>alert(1)</script>`))
	if strings.Contains(body, "<script>alert") || !strings.Contains(body, "Microsoft Azure CLI") || !strings.Contains(body, "Contoso") {
		t.Errorf("page: %s", body)
	}
	status, _, body := l.raw("POST", authorizeURL(), values("canary", strings.Repeat("x", 43), "login", "ada@contoso.example", "passwd", "correct horse"))
	if status != 400 || !strings.Contains(body, "AADSTS165000") {
		t.Errorf("forged form: %d %s", status, body)
	}
	status, h, body := l.raw("POST", authorizeURL(), values("canary", canary, "login", "ada@contoso.example", "passwd", "wrong horse"))
	if status != 200 || h.Get("Location") != "" || !strings.Contains(body, "incorrect") {
		t.Errorf("wrong password: %d %s", status, body)
	}
	if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "form-action 'self' http://localhost:54321") {
		t.Errorf("policy %q", csp)
	}
	status, h, _ = l.raw("POST", authorizeURL(), values("canary", canary, "cancel", "1"))
	if to := h.Get("Location"); status != 302 || !strings.Contains(to, "error=access_denied") {
		t.Errorf("cancelled: %d %s", status, to)
	}
}

func TestAuthorize_ApplicationsOfTheTenantAndModes(t *testing.T) {
	l := newLab(t, nil)
	l.user()
	app := l.app(directory.App{DisplayName: "Web", RedirectURIs: directory.RedirectURIs{Web: []string{"https://web.example/cb"}}})
	secret, _, err := l.dir.AddSecret(t.Context(), app.ObjectID, "s", time.Time{}, time.Time{})
	must(t, err)
	u := authorizeURL("client_id", app.AppID, "redirect_uri", "https://web.example/cb", "code_challenge", "", "code_challenge_method", "", "response_mode", "form_post")
	canary, _ := l.page(u)
	status, _, body := l.raw("POST", u, values("canary", canary, "login", "ada@contoso.example", "passwd", "correct horse"))
	m := regexp.MustCompile(`name="code" value="([^"]+)"`).FindStringSubmatch(body)
	if status != 200 || m == nil || !strings.Contains(body, `action="https://web.example/cb"`) {
		t.Fatalf("form_post: %d %s", status, body)
	}
	form := []string{"grant_type", "authorization_code", "client_id", app.AppID, "code", m[1], "redirect_uri", "https://web.example/cb"}
	st, b := l.token(form...)
	l.refused(st, b, 401, "invalid_client", "7000218")
	if st, b := l.token(append(form, "client_secret", secret)...); st != 200 {
		t.Errorf("redeemed: %d %v", st, b)
	}
	if _, h, _ := l.raw("POST", authorizeURL("response_mode", "fragment"), values("canary", canary, "login", "ada@contoso.example", "passwd", "correct horse")); !strings.HasPrefix(h.Get("Location"), "http://localhost:54321#") {
		t.Errorf("fragment: %s", h.Get("Location"))
	}
}

func TestDeviceCode(t *testing.T) {
	l := newLab(t, nil)
	u := l.user()
	begin := func() map[string]any {
		status, b := l.do("POST", "https://"+ours+"/organizations/oauth2/v2.0/devicecode", values("client_id", cli, "scope", vault+" offline_access"))
		if status != 200 || b["verification_uri"] != "https://"+ours+"/device" || !strings.Contains(b["message"].(string), b["user_code"].(string)) {
			t.Fatalf("%d %v", status, b)
		}
		return b
	}
	poll := func(b map[string]any) (int, map[string]any) {
		return l.do("POST", "https://"+ours+"/organizations/oauth2/v2.0/token", values("grant_type", "urn:ietf:params:oauth:grant-type:device_code", "client_id", cli,
			"device_code", b["device_code"].(string)))
	}
	d := begin()
	status, b := poll(d)
	l.refused(status, b, 400, "authorization_pending", "70016")
	canary, _ := l.page("https://" + ours + "/device")
	post := func(form ...string) (int, string) {
		status, _, body := l.raw("POST", "https://"+ours+"/device", values(append(form, "canary", canary)...))
		return status, body
	}
	if _, body := post("otc", "AAAAAAAAA"); !strings.Contains(body, "didn&#39;t work") {
		t.Errorf("unknown code: %s", body)
	}
	code := d["user_code"].(string)
	if _, body := post("otc", strings.ToLower(code)); !strings.Contains(body, "Microsoft Azure CLI") {
		t.Errorf("approve page: %s", body)
	}
	if _, body := post("otc", code, "login", u.UPN, "passwd", "wrong horse"); !strings.Contains(body, "incorrect") {
		t.Errorf("wrong password: %s", body)
	}
	if _, body := post("otc", code, "login", u.UPN, "passwd", "correct horse"); !strings.Contains(body, "You have signed in") {
		t.Errorf("approved: %s", body)
	}
	status, b = poll(d)
	if status != 200 || l.claims(b)["upn"] != u.UPN || b["refresh_token"] == nil {
		t.Errorf("%d %v", status, b)
	}
	status, b = poll(d)
	l.refused(status, b, 400, "bad_verification_code", "70019")

	d = begin()
	post("otc", d["user_code"].(string), "cancel", "1")
	status, b = poll(d)
	l.refused(status, b, 400, "authorization_declined", "70018")
	d = begin()
	l.wait(16 * time.Minute)
	status, b = poll(d)
	l.refused(status, b, 400, "expired_token", "70020")
}

func TestDeviceCode_AnAddressMayNotFillTheStore(t *testing.T) {
	l := newLab(t, nil)
	var status int
	var b map[string]any
	for range 61 {
		status, b = l.do("POST", "https://"+ours+"/organizations/oauth2/v2.0/devicecode", values("client_id", cli, "scope", vault))
	}
	l.refused(status, b, 429, "temporarily_unavailable", "50196")
	l.wait(6 * time.Minute)
	if status, b = l.do("POST", "https://"+ours+"/organizations/oauth2/v2.0/devicecode", values("client_id", cli, "scope", vault)); status != 200 {
		t.Errorf("later: %d %v", status, b)
	}
}

func TestAuthorizationCode_AChallengeThatWasTakenOutIsNoticed(t *testing.T) {
	l := newLab(t, nil)
	l.user()
	app := l.app(directory.App{DisplayName: "Web", RedirectURIs: directory.RedirectURIs{Web: []string{"https://web.example/cb"}}})
	secret, _, err := l.dir.AddSecret(t.Context(), app.ObjectID, "s", time.Time{}, time.Time{})
	must(t, err)
	to := l.signIn(authorizeURL("client_id", app.AppID, "redirect_uri", "https://web.example/cb", "code_challenge", "", "code_challenge_method", ""))
	status, b := l.token("grant_type", "authorization_code", "client_id", app.AppID, "client_secret", secret, "code", to.Query().Get("code"),
		"redirect_uri", "https://web.example/cb", "code_verifier", verifier)
	l.refused(status, b, 400, "invalid_grant", "501481")
}

func TestRun_ForgetsWhatHasExpired(t *testing.T) {
	l := newLab(t, nil)
	l.user()
	l.signIn(authorizeURL())
	if n := l.count("entra/"); n != 1 {
		t.Fatalf("%d records", n)
	}
	l.wait(time.Hour)
	ctx, cancel := contextFor(t)
	done := make(chan error, 1)
	go func() { done <- l.svc.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); l.count("entra/") != 0; {
		if time.Now().After(deadline) {
			t.Fatal("still there")
		}
		<-time.After(5 * time.Millisecond)
	}
	cancel()
	must(t, <-done)
}

func TestAuthorize_AServerNeedsItsSecretAlsoWhenTheApplicationIsPublicToo(t *testing.T) {
	l := newLab(t, nil)
	l.user()
	app := l.app(directory.App{DisplayName: "Both", FallbackPublic: true, RedirectURIs: directory.RedirectURIs{
		Web: []string{"https://web.example/cb"}, Public: []string{"http://localhost/cb"}, SPA: []string{"https://spa.example/"}}})
	for redirect, want := range map[string]int{"https://web.example/cb": 401, "http://localhost:8765/cb": 200, "https://spa.example/": 200} {
		to := l.signIn(authorizeURL("client_id", app.AppID, "redirect_uri", redirect))
		status, b := l.token("grant_type", "authorization_code", "client_id", app.AppID, "code", to.Query().Get("code"), "redirect_uri", redirect, "code_verifier", verifier)
		if status != want {
			t.Errorf("%s: %d %v, want %d", redirect, status, b, want)
		}
	}
	if status, h, _ := l.raw("OPTIONS", "https://"+ours+"/"+tenant+"/oauth2/v2.0/token", nil); status != 204 || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("preflight: %d %v", status, h)
	}
}
