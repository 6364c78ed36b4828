package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"time"
)

// loginDevice is the device authorization grant (RFC 8628).
func (c *call) loginDevice(ctx context.Context) (*signIn, error) {
	scope, err := c.armScope()
	if err != nil {
		return nil, err
	}
	base, err := c.authority()
	if err != nil {
		return nil, err
	}
	tenant := firstNonEmpty(c.text("tenant"), "organizations")
	a, err := c.send(ctx, request{method: http.MethodPost, url: base + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/devicecode",
		body: url.Values{"client_id": {azClientID}, "scope": {scope + " offline_access openid profile"}}})
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, readRemote(a, dialectPlain)
	}
	var d struct {
		Code     string `json:"device_code"`
		Message  string
		Interval int
	}
	if err := json.Unmarshal(a.body, &d); err != nil {
		return nil, fmt.Errorf("read the device code: %w", err)
	}
	fmt.Fprintln(c.env.Stderr, d.Message)
	wait := time.Duration(max(d.Interval, 1)) * time.Second
	for {
		g, err := c.grant(ctx, tenant, url.Values{"client_id": {azClientID}, "device_code": {d.Code},
			"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_info": {"1"}})
		switch {
		case err == nil:
			return c.userFrom(g), nil
		case isCode(err, "slow_down"):
			wait += 5 * time.Second
		case !isCode(err, "authorization_pending"):
			return nil, err
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// loginBrowser is the authorization code grant with PKCE (RFC 7636) and a
// loopback redirect (RFC 8252 section 7.3).
func (c *call) loginBrowser(ctx context.Context) (*signIn, error) {
	base, err := c.authority()
	if err != nil {
		return nil, err
	}
	scope, err := c.armScope()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the browser: %w", err)
	}
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	redirect := fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	tenant := firstNonEmpty(c.text("tenant"), "organizations")
	authorize := c.forBrowser(base) + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/authorize?" + url.Values{
		"client_id": {azClientID}, "response_type": {"code"}, "redirect_uri": {redirect}, "state": {state},
		"scope": {scope + " offline_access openid profile"}, "code_challenge": {b64(challenge[:])},
		"code_challenge_method": {"S256"}, "prompt": {"select_account"}, "client_info": {"1"},
	}.Encode()
	fmt.Fprintf(c.env.Stderr, "Sign in at this address:\n%s\n", authorize)
	c.openBrowser(ctx, authorize)
	code, err := waitForCode(ctx, l, state)
	if err != nil {
		return nil, err
	}
	return c.userSignIn(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {redirect}, "code_verifier": {verifier}})
}

// forBrowser is where a browser of this machine finds the sign-in page: it
// knows the login hosts as Microsoft's, but for the server on this machine the
// local address has the page too.
func (c *call) forBrowser(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	p, err := c.proxyFor(u)
	if local := c.local().Proxy; err != nil || p == nil || local == "" || p.String() != local {
		return base
	}
	return c.local().Proxy
}

// pageTime is how long a browser may take to fetch the page that ends a sign-in.
const pageTime = 2 * time.Second

// waitForCode serves the redirect once and gives its code.
func waitForCode(ctx context.Context, l net.Listener, state string) (string, error) {
	got := make(chan url.Values, 1)
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, "You are signed in, or know why not from the terminal. This page can be closed.")
		select {
		case got <- q:
		default:
		}
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		// The browser has its page before the server ends, or shows a broken connection.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pageTime)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close() // the code is in hand, or given up
		}
		<-served
	}()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	select {
	case q := <-got:
		if q.Get("code") == "" {
			return "", failf("%s", firstNonEmpty(q.Get("error_description"), q.Get("error"), "the browser came back without a code"))
		}
		return q.Get("code"), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// openBrowser shows the address in a browser where there is a terminal and one.
func (c *call) openBrowser(ctx context.Context, address string) {
	if !c.env.IsTerminal(c.env.Stderr) {
		return
	}
	name, args := "xdg-open", []string{address}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", address}
	}
	if _, err := exec.LookPath(name); err == nil {
		_ = exec.CommandContext(ctx, name, args...).Start() // the address is printed too
	}
}
