// Package laztest starts the whole of Lazurite inside a Go test: its own state
// folder, its own ports, nothing beyond loopback, gone when the test ends.
//
//	cloud := laztest.New(t)
//	client := cloud.Client() // reaches https://management.azure.com and the rest
package laztest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/server"
)

// azureCLI is the client id of az, a public client that every tenant knows.
const azureCLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

// Cloud is a running system.
type Cloud struct {
	Home         string // state folder
	Proxy        string // "http://127.0.0.1:PORT"
	CA           string // PEM file of the local authority
	Tenant       string
	Subscription string
	Owner        string // e-mail
	Password     string

	server *server.Server
	mu     sync.Mutex        // guards tokens
	tokens map[string]string // the owner's, by resource
}

// Option changes the configuration before the start.
type Option func(*server.Config)

// AzureLike brings Azure's delays, throttles and limits.
func AzureLike() Option { return func(c *server.Config) { c.AzureLike = true } }

// Propagation is AzureLike with role assignments and federated credentials that
// count after d.
func Propagation(d time.Duration) Option {
	return func(c *server.Config) { c.AzureLike, c.Propagation = true, d }
}

// New starts a Cloud and stops it when the test ends.
func New(t testing.TB, opts ...Option) *Cloud {
	t.Helper()
	log := &logged{}
	cfg := server.Config{
		Home: filepath.Join(t.TempDir(), "laz"), Listen: "127.0.0.1:0", Names: server.NamesAzure, Offline: true,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	cfg.Local = cfg.Listen
	for _, o := range opts {
		o(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	s, err := server.New(ctx, cfg)
	if err != nil {
		stop()
		t.Fatalf("start: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("start: %v", err)
	}
	c := &Cloud{Home: s.Config().Home, Proxy: "http://" + s.Config().Local, CA: filepath.Join(string(server.Home(s.Config().Home).CA()), "ca.pem"), server: s, tokens: map[string]string{}}
	if w := s.Welcome(); w != nil {
		c.Tenant, c.Subscription, c.Owner, c.Password = w.Tenant, w.Subscription, w.Owner, w.Password
	}
	return c
}

// logged keeps the server's log until the test ends.
type logged struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Client reaches the Cloud by its public names: through its proxy, trusting
// its authority.
func (c *Cloud) Client() *http.Client {
	pool := x509.NewCertPool()
	if pem, err := os.ReadFile(c.CA); err == nil {
		pool.AppendCertsFromPEM(pem)
	}
	proxy, err := url.Parse(c.Proxy)
	if err != nil {
		panic(err) // made from a bound address
	}
	return &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// OwnerToken is an access token of the owner for a resource such as
// "https://management.azure.com" or "https://vault.azure.net".
func (c *Cloud) OwnerToken(t testing.TB, resource string) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if tok := c.tokens[resource]; tok != "" {
		return tok
	}
	form := url.Values{
		"grant_type": {"password"}, "client_id": {azureCLI}, "username": {c.Owner}, "password": {c.Password}, "scope": {resource + "/.default"},
	}
	res, err := c.Client().PostForm("https://login.microsoftonline.com/"+c.Tenant+"/oauth2/v2.0/token", form)
	if err != nil {
		t.Fatalf("token: %v", err)
	}
	defer res.Body.Close()
	var ans struct {
		AccessToken string `json:"access_token"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(res.Body).Decode(&ans); err != nil || ans.AccessToken == "" {
		t.Fatalf("token: %d %v %s", res.StatusCode, err, ans.Description)
	}
	c.tokens[resource] = ans.AccessToken
	return ans.AccessToken
}

// ARM sends a request to the management plane as the owner. path begins at
// the root; "{sub}" in it stands for the subscription. It gives status and body.
func (c *Cloud) ARM(t testing.TB, method, path, body string) (int, map[string]any) {
	t.Helper()
	return c.Send(t, c.OwnerToken(t, "https://management.azure.com"), method, "https://management.azure.com"+strings.ReplaceAll(path, "{sub}", c.Subscription), body)
}

// Send makes a request with a bearer token, or without one when it is "".
func (c *Cloud) Send(t testing.TB, token, method, url, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Client().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	if len(raw) == 0 {
		return res.StatusCode, nil
	}
	m := map[string]any{}
	if err := json.Unmarshal(raw, &m); err != nil {
		m["raw"] = string(raw)
	}
	return res.StatusCode, m
}

// Environ is what a process needs to reach the Cloud, as `laz env` gives it.
func (c *Cloud) Environ() []string {
	bundle := filepath.Join(filepath.Dir(c.CA), "ca-bundle.pem")
	return []string{
		"LAZ_HOME=" + c.Home,
		"HTTPS_PROXY=" + c.Proxy, "https_proxy=" + c.Proxy, "HTTP_PROXY=" + c.Proxy, "http_proxy=" + c.Proxy, "NO_PROXY=localhost,127.0.0.1,::1,198.18.0.0/15",
		"SSL_CERT_FILE=" + bundle, "REQUESTS_CA_BUNDLE=" + bundle, "CURL_CA_BUNDLE=" + bundle, "NODE_EXTRA_CA_CERTS=" + c.CA,
		fmt.Sprintf("AZURE_CONFIG_DIR=%s", filepath.Join(c.Home, "azure")),
	}
}

// OwnerID is the owner's object id, as its token says.
func (c *Cloud) OwnerID(t testing.TB) string {
	t.Helper()
	parts := strings.Split(c.OwnerToken(t, "https://management.azure.com"), ".")
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		ObjectID string `json:"oid"`
	}
	if err == nil {
		err = json.Unmarshal(b, &claims)
	}
	if err != nil {
		t.Fatalf("the owner's token: %v", err)
	}
	return claims.ObjectID
}

// Admin calls the socket that only the server's user can open, as laz does.
func (c *Cloud) Admin(t testing.TB, path, body string) (int, map[string]any) {
	t.Helper()
	socket, done, err := server.Home(c.Home).SocketPath()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://laz"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	m := map[string]any{}
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, m
}

// OwnNames makes resources show names under domain, as `laz serve` does, with
// the port of the front door.
func OwnNames(domain string) Option {
	return func(c *server.Config) { c.Names, c.Domain = server.NamesOwn, domain }
}
