package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"lazurite.dev/internal/proxy"
)

// start runs a proxy that owns owned.test, whose front door says "front".
func start(t *testing.T, cfg proxy.Config) *httptest.Server {
	t.Helper()
	cfg.Owns = func(h string) bool { return strings.HasPrefix(h, "owned.test") }
	cfg.Front = func(c net.Conn) {
		_, _ = io.WriteString(c, "front")
		_ = c.Close()
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	p := proxy.New(cfg)
	srv := httptest.NewServer(p)
	t.Cleanup(func() {
		p.Close()
		srv.Close()
	})
	return srv
}

// ask sends raw to the proxy and returns all that comes back.
func ask(t *testing.T, srv *httptest.Server, raw string) string {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestConnect_OwnedNameIsTheFrontDoors(t *testing.T) {
	srv := start(t, proxy.Config{Offline: true})
	got := ask(t, srv, "CONNECT owned.test:443 HTTP/1.1\r\nHost: owned.test:443\r\n\r\n")
	if want := "HTTP/1.1 200 Connection established\r\n\r\nfront"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestConnect_OtherNamesPass(t *testing.T) {
	target := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "outside") }))
	defer target.Close()
	srv := start(t, proxy.Config{})
	proxyURL, _ := url.Parse(srv.URL)
	pool := x509.NewCertPool()
	pool.AddCert(target.Certificate())
	client := &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyURL(proxyURL), TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true,
	}}
	resp, err := client.Get(target.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); string(got) != "outside" {
		t.Errorf("got %q, want outside", got)
	}
}

// TestOffline_NetworksOfThisMachinePass: an API server of a cluster here is not
// outside.
func TestOffline_NetworksOfThisMachinePass(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "inside") }))
	defer target.Close()
	host := strings.TrimPrefix(target.URL, "http://")
	for inside, want := range map[string]string{"127.0.0.0/8": "inside", "198.18.0.0/15": " 403 "} {
		srv := start(t, proxy.Config{Offline: true, Inside: netip.MustParsePrefix(inside)})
		if got := ask(t, srv, "GET http://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); !strings.Contains(got, want) {
			t.Errorf("%s: plain: got %q", inside, got)
		}
		tunnel := "CONNECT " + host + " HTTP/1.1\r\nHost: " + host + "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		if got := ask(t, srv, tunnel); !strings.Contains(got, want) {
			t.Errorf("%s: tunnel: got %q", inside, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	noRoute := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }
	for _, c := range []struct {
		name    string
		cfg     proxy.Config
		request string
		want    []string
	}{
		{"offline connect", proxy.Config{Offline: true}, "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n", []string{" 403 ", "--offline", "other.test"}},
		{"offline http", proxy.Config{Offline: true}, "GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n", []string{" 403 ", "--offline"}},
		{"unreachable", proxy.Config{Dial: noRoute}, "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n", []string{" 502 ", "no route"}},
		{"unreachable http", proxy.Config{Dial: noRoute}, "GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n", []string{" 502 ", "no route"}},
		{"no port", proxy.Config{}, "CONNECT other.test HTTP/1.1\r\nHost: other.test\r\n", []string{" 400 ", "HOST:PORT"}},
		{"owned over http", proxy.Config{}, "GET http://owned.test/ HTTP/1.1\r\nHost: owned.test\r\n", []string{" 403 ", "https only"}},
		{"https url", proxy.Config{}, "GET https://other.test/ HTTP/1.1\r\nHost: other.test\r\n", []string{" 400 "}},
		{"no metadata", proxy.Config{}, "GET http://169.254.169.254/metadata HTTP/1.1\r\nHost: 169.254.169.254\r\n", []string{" 404 "}},
		{"metadata by host alone", proxy.Config{}, "GET /metadata HTTP/1.1\r\nHost: 169.254.169.254\r\n", []string{" 404 "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, start(t, c.cfg), c.request+"Connection: close\r\n\r\n")
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("got %q, want %q in it", got, w)
				}
			}
		})
	}
}

func TestServeHTTP_OtherMachinesAreRefused(t *testing.T) {
	p := proxy.New(proxy.Config{Log: slog.New(slog.DiscardHandler), Owns: func(string) bool { return true }})
	for _, from := range []string{"203.0.113.9:1", "[2001:db8::1]:1", "nonsense"} {
		r := httptest.NewRequest("GET", "http://169.254.169.254/", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != 403 {
			t.Errorf("from %s: got %d, want 403", from, w.Code)
		}
	}
}

func TestMetadata_CarriesTheRunsSecret(t *testing.T) {
	var got, header string
	srv := start(t, proxy.Config{IMDS: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, header = proxy.Credential(r.Context()), r.Header.Get("Proxy-Authorization")
	})})
	proxyURL, _ := url.Parse(strings.Replace(srv.URL, "http://", "http://run:s3cret@", 1))
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxyURL), DisableKeepAlives: true}}
	resp, err := client.Get("http://169.254.169.254/metadata/identity/oauth2/token")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got != "s3cret" || header != "" {
		t.Errorf("got credential %q and header %q, want s3cret and none", got, header)
	}
}

func TestPlainHTTP_Passes(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+" "+r.Header.Get("Proxy-Authorization"))
	}))
	defer target.Close()
	host := strings.TrimPrefix(target.URL, "http://")
	got := ask(t, start(t, proxy.Config{}), "GET "+target.URL+"/a HTTP/1.1\r\nHost: "+host+"\r\nProxy-Authorization: Basic eDp5\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.HasSuffix(got, host+" ") {
		t.Errorf("got %q", got)
	}
}

func TestClose_EndsTunnels(t *testing.T) {
	far, near := net.Pipe()
	defer far.Close()
	p := proxy.New(proxy.Config{
		Owns: func(string) bool { return false }, Log: slog.New(slog.DiscardHandler),
		Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil },
	})
	srv := httptest.NewServer(p)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\nearly")
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("got %q, %v", line, err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "early" {
		t.Fatalf("the far end got %q, %v", got, err)
	}
	p.Close()
	if _, err := io.ReadAll(r); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}
