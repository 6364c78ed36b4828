package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
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

	"lazurite.dev/internal/ca"
	"lazurite.dev/internal/server"
)

// running is a server in this process.
type running struct {
	*server.Server
	cfg  server.Config
	log  *buffer
	stop func() error
}

type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func config(t *testing.T) server.Config {
	return server.Config{Home: filepath.Join(t.TempDir(), "state"), Listen: "127.0.0.1:0", Local: "127.0.0.1:0", Names: server.NamesAzure, Offline: true}
}

func start(t *testing.T, cfg server.Config) *running {
	t.Helper()
	log := &buffer{}
	cfg.Log = slog.New(slog.NewJSONHandler(log, nil))
	s, err := server.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	return &running{s, s.Config(), log, stop}
}

// roots holds the local authority.
func (r *running) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	bundle, err := os.ReadFile(ca.CertFile(server.Home(r.cfg.Home).CA()))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	return pool
}

// client goes in by the proxy, as programs under `laz run` do.
func (r *running) client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{
		Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: r.cfg.Local}),
		TLSClientConfig:   &tls.Config{RootCAs: r.roots(t)},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestRun_EveryOwnedNameAnswers(t *testing.T) {
	r := start(t, config(t))
	c := r.client(t)
	for _, host := range []string{
		"login.microsoftonline.com", "management.azure.com", "kv1.vault.azure.net", "portal.azure.com", "x.azurecr.io",
		"e1.westeurope.inference.ml.azure.com", "login.lazurite.test", "kv1.vault.lazurite.test",
	} {
		resp, _ := get(t, c, "https://"+host+"/nothing/here")
		if resp.StatusCode < 400 || resp.Header.Get("X-Ms-Request-Id") == "" || resp.ProtoMajor != 2 {
			t.Errorf("%s: got %s %s with ids %q", host, resp.Proto, resp.Status, resp.Header.Get("X-Ms-Request-Id"))
		}
	}
	if _, err := c.Get("https://example.com/"); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("a foreign name while offline: got %v, want a refusal", err)
	}
	if !strings.Contains(r.log.String(), `"client":"127.0.0.1"`) {
		t.Errorf("the log does not say who asked: %s", r.log)
	}
}

func TestRun_OnePortForBoth(t *testing.T) {
	r := start(t, config(t))
	if r.cfg.Listen != r.cfg.Local {
		t.Fatalf("got %s and %s, want one address", r.cfg.Listen, r.cfg.Local)
	}
	plain := &http.Client{Timeout: 5 * time.Second}
	for path, want := range map[string]string{"/healthz": "ok", "/metrics": "go_goroutines", "/": "laz env"} {
		if resp, body := get(t, plain, "http://"+r.cfg.Local+path); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: got %s %q", path, resp.Status, body)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+r.cfg.Local+"/metrics", nil)
	req.Host = "rebound.example.com"
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("another host name: got %s, want 403", resp.Status)
	}
}

func TestRun_TwoPorts(t *testing.T) {
	cfg := config(t)
	cfg.Local, cfg.Listen = "127.0.0.1:0", "localhost:0"
	r := start(t, cfg)
	if r.cfg.Listen == r.cfg.Local {
		t.Fatal("one address for both")
	}
	if resp, _ := get(t, r.client(t), "https://management.azure.com/x"); resp.StatusCode < 400 {
		t.Errorf("got %s", resp.Status)
	}
	conn, err := net.Dial("tcp", r.cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "CONNECT management.azure.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if got, _ := io.ReadAll(conn); strings.Contains(string(got), "200") {
		t.Errorf("the front door's port is a proxy: %q", got)
	}
}

func TestRun_BehindABalancer(t *testing.T) {
	cfg := config(t)
	cfg.Local, cfg.Listen = "127.0.0.1:0", "localhost:0"
	cfg.Balancers = []string{"127.0.0.0/8", "::1"}
	r := start(t, cfg)
	say := func(header string) error {
		conn, err := net.Dial("tcp", r.cfg.Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, header); err != nil {
			t.Fatal(err)
		}
		secure := tls.Client(conn, &tls.Config{ServerName: "kv1.vault.azure.net", RootCAs: r.roots(t)})
		if err := secure.Handshake(); err != nil {
			return err
		}
		_, _ = io.WriteString(secure, "GET / HTTP/1.1\r\nHost: kv1.vault.azure.net\r\nConnection: close\r\n\r\n")
		_, err = io.ReadAll(secure)
		return err
	}
	if err := say("PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n"); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.log.String(), `"client":"203.0.113.7"`) {
		t.Errorf("the client is not the one in the header: %s", r.log)
	}
	if err := say(""); err == nil {
		t.Error("a balancer's connection without a header was taken")
	}
}

func TestNew_SecondServerOnTheFolderIsRefused(t *testing.T) {
	r := start(t, config(t))
	cfg := config(t)
	cfg.Home = r.cfg.Home
	_, err := server.New(t.Context(), cfg)
	e, ok := errors.AsType[*server.RunningError](err)
	if !ok || e.PID != os.Getpid() {
		t.Fatalf("got %v, want a RunningError with our pid", err)
	}
	if pid, on, err := server.Home(r.cfg.Home).Running(); !on || pid != os.Getpid() || err != nil {
		t.Errorf("Running: got %d, %v, %v", pid, on, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, on, err := server.Home(r.cfg.Home).Running(); on || err != nil {
		t.Errorf("Running after the end: got %v, %v", on, err)
	}
	start(t, cfg)
}

func TestNew_PortTaken(t *testing.T) {
	r := start(t, config(t))
	cfg := config(t)
	cfg.Listen, cfg.Local = r.cfg.Listen, ""
	if _, err := server.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want that the address is in use", err)
	}
}

func TestHome_IsPrivate(t *testing.T) {
	cfg := config(t)
	if err := os.MkdirAll(cfg.Home, 0o755); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	home := server.Home(r.cfg.Home)
	for path, want := range map[string]os.FileMode{cfg.Home: 0o700, home.Run(): 0o700, home.Socket(): 0o600, home.Endpoint(): 0o600} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got != want {
			t.Errorf("%s: got mode %o, want %o", path, got, want)
		}
	}
}

func TestHome_ForeignFoldersAreLeftAlone(t *testing.T) {
	cfg := config(t)
	if err := os.MkdirAll(filepath.Join(cfg.Home, "documents"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "documents") {
		t.Errorf("New: got %v, want a refusal that names what is there", err)
	}
	if err := server.Home(cfg.Home).Purge(); err == nil {
		t.Error("Purge took a folder that is not ours")
	}
	if _, err := os.Stat(filepath.Join(cfg.Home, "documents")); err != nil {
		t.Error(err)
	}
}

func TestHome_Purge(t *testing.T) {
	r := start(t, config(t))
	home := server.Home(r.cfg.Home)
	if err := home.Purge(); err == nil {
		t.Error("purged under a running server")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := home.Purge(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.cfg.Home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the folder gone", err)
	}
}

func admin(t *testing.T, home server.Home) *http.Client {
	t.Helper()
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			path, done, err := home.SocketPath()
			if err != nil {
				return nil, err
			}
			defer done()
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
}

func TestAdmin_Status(t *testing.T) {
	cfg := config(t)
	cfg.Home = filepath.Join(cfg.Home, strings.Repeat("long/", 20)) // longer than a socket's path may be
	r := start(t, cfg)
	resp, body := get(t, admin(t, server.Home(r.cfg.Home)), "http://laz/v1/status")
	var st server.Status
	if err := json.Unmarshal([]byte(body), &st); err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %s %s, %v", resp.Status, body, err)
	}
	if st.PID != os.Getpid() || st.Local != r.cfg.Local || st.Store.Bytes == 0 || len(st.Surfaces) < 5 || !st.Offline {
		t.Errorf("got %+v", st)
	}
}

func TestAdmin_BadInput(t *testing.T) {
	r := start(t, config(t))
	c := admin(t, server.Home(r.cfg.Home))
	resp, err := c.Post("http://laz/v1/nothing", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("got %s, want 404", resp.Status)
	}
}
