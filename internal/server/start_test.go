package server_test

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// browser is one of this machine: no proxy, no trust, its own cookies.
type browser struct {
	t *testing.T
	c *http.Client
}

func newBrowser(t *testing.T) browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{t, &http.Client{Jar: jar, Transport: &http.Transport{Proxy: nil}}}
}

// send gives status, header and body; header are pairs.
func (b browser) send(method, u string, form url.Values, header ...string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, u, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := b.c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(body)
}

func TestLocal_StartPage(t *testing.T) {
	r := start(t, config(t))
	b, at := newBrowser(t), "http://"+r.cfg.Local+"/"
	w := r.Welcome()
	resp, page := b.send("GET", at, nil, "Accept", "text/html,*/*;q=0.8")
	for _, want := range []string{"Lazurite is running", w.Owner, `eval "$(laz env)"`, "login.microsoftonline.com", "Key Vault", `href="/device"`, "laz explain"} {
		if !strings.Contains(page, want) && !strings.Contains(page, html.EscapeString(want)) {
			t.Errorf("no %q in the page", want)
		}
	}
	if strings.Contains(page, w.Password) || strings.Contains(page, "<script") {
		t.Error("the page has a password or a script")
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", resp.Header)
	}
	resp, text := b.send("GET", at, nil)
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || !strings.Contains(text, w.Owner) || !strings.Contains(text, `eval "$(laz env)"`) || strings.Contains(text, w.Password) {
		t.Errorf("for curl: %v\n%s", resp.Header, text)
	}
	if resp, _ := b.send("GET", at, nil, "Host", "rebound.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another name: %s", resp.Status)
	}
}

const azCLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

var canary = regexp.MustCompile(`name="canary" value="([^"]+)"`)

func TestLocal_ABrowserApprovesADevice(t *testing.T) {
	r := start(t, config(t))
	login := "https://login.microsoftonline.com/organizations/oauth2/v2.0"
	ask := func(path string, form url.Values) map[string]any {
		resp, err := r.client(t).PostForm(login+path, form)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var v map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	d := ask("/devicecode", url.Values{"client_id": {azCLI}, "scope": {"https://management.azure.com/.default"}})
	page, _ := d["verification_uri"].(string)
	if page != "http://"+r.cfg.Local+"/device" || !strings.Contains(d["message"].(string), page) {
		t.Fatalf("the person is sent to %q: %v", page, d["message"])
	}
	b := newBrowser(t)
	resp, body := b.send("GET", page, nil)
	m := canary.FindStringSubmatch(body)
	if m == nil || resp.Header.Get("Strict-Transport-Security") != "" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Fatalf("%s %v\n%s", resp.Status, resp.Header, body)
	}
	form := url.Values{"canary": {html.UnescapeString(m[1])}, "otc": {d["user_code"].(string)}, "login": {r.Welcome().Owner}, "passwd": {r.Welcome().Password}}
	for name, header := range map[string][]string{
		"from another site":        {"Sec-Fetch-Site", "cross-site"},
		"from another port":        {"Sec-Fetch-Site", "same-site"},
		"from another old browser": {"Origin", "http://127.0.0.1:1"},
	} {
		if resp, body := b.send("POST", page, form, header...); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "AADSTS165000") {
			t.Errorf("a form %s: %s", name, resp.Status)
		}
	}
	if resp, _ := newBrowser(t).send("POST", page, form); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a form without the cookie: %s", resp.Status)
	}
	if _, body := b.send("POST", page, form, "Sec-Fetch-Site", "same-origin", "Origin", "http://"+r.cfg.Local); !strings.Contains(body, "You have signed in") {
		t.Fatalf("not signed in:\n%s", body)
	}
	if got := ask("/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {azCLI}, "device_code": {d["device_code"].(string)}}); got["access_token"] == nil {
		t.Errorf("no token: %v", got)
	}
}

func TestLocal_SignInPageAndNothingElseOfTheLoginHosts(t *testing.T) {
	r := start(t, config(t))
	at, b := "http://"+r.cfg.Local, newBrowser(t)
	b.c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	u := at + "/organizations/oauth2/v2.0/authorize?" + url.Values{"client_id": {azCLI}, "response_type": {"code"}, "redirect_uri": {"http://localhost:54321"},
		"scope": {"https://management.azure.com/.default"}, "code_challenge": {strings.Repeat("a", 43)}, "code_challenge_method": {"S256"}}.Encode()
	_, body := b.send("GET", u, nil)
	m := canary.FindStringSubmatch(body)
	if m == nil {
		t.Fatal(body)
	}
	form := url.Values{"canary": {html.UnescapeString(m[1])}, "login": {r.Welcome().Owner}, "passwd": {r.Welcome().Password}}
	resp, _ := b.send("POST", u, form)
	if to := resp.Header.Get("Location"); !strings.HasPrefix(to, "http://localhost:54321?code=") {
		t.Errorf("signed in, and sent to %q (%s)", to, resp.Status)
	}
	for _, path := range []string{"/organizations/oauth2/v2.0/token", "/organizations/oauth2/v2.0/devicecode", "/common/discovery/instance", "/devicelogin"} {
		if resp, _ := b.send("POST", at+path, url.Values{}); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if resp, _ := b.send("GET", u, nil, "Host", "rebound.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another name: %s", resp.Status)
	}
}
