package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"lazurite.dev/internal/image"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/server"
)

const (
	netUID = "11111111-2222-3333-4444-555555555555"
	netID  = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/c1"
)

// sockets is a node agent with one cluster, whose network is this machine's
// loopback.
type sockets struct {
	node.Agent // what the server does not ask for in these tests

	mu      sync.Mutex // guards the rest
	space   uint64
	running bool
	opened  int
	at      map[string]string // by "tcp/443"
	loaded  int               // archives of images
}

func newSockets() *sockets { return &sockets{space: 1, running: true, at: map[string]string{}} }

func (a *sockets) Info(context.Context) (node.Info, error) { return node.Info{PID: 1}, nil }

func (a *sockets) Status(context.Context) ([]node.ClusterStatus, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return []node.ClusterStatus{{
		UID: netUID, Name: "c1", ResourceID: netID, Running: a.running, Address: netip.MustParseAddr("198.18.3.2"), Space: a.space,
		Nodes: []node.NodeStatus{{Name: "pool-0", Address: netip.MustParseAddr("127.0.0.1"), Ready: true}},
	}}, nil
}

func (a *sockets) Networks(context.Context) ([]node.NetworkStatus, error) { return nil, nil }

func (a *sockets) Listen(_ context.Context, uid, network string, port int) (*os.File, error) {
	if uid != netUID || !node.ListenPort(network, port) {
		return nil, node.ErrNotFound
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened++
	key := fmt.Sprintf("%s/%d", network, port)
	if network == "udp" {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer pc.Close()
		a.at[key] = pc.LocalAddr().String()
		return pc.(*net.UDPConn).File()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	a.at[key] = ln.Addr().String()
	return ln.(*net.TCPListener).File()
}

// socket waits until the server serves at a port, and gives its address.
func (a *sockets) socket(t *testing.T, key string, after int) string {
	t.Helper()
	var at string
	eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		at = a.at[key]
		return a.opened >= after+5 && at != ""
	})
	return at
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		<-tick.C
	}
}

// withNetwork is a server with a cluster's network.
func withNetwork(t *testing.T) (*running, *sockets) {
	t.Helper()
	a := newSockets()
	cfg := config(t)
	cfg.Nodes = a
	return start(t, cfg), a
}

// pod is a client inside the network: it finds every name at the front door.
func (r *running) pod(t *testing.T, a *sockets) *http.Client {
	t.Helper()
	doors := map[string]string{"443": a.socket(t, "tcp/443", 0), "80": a.socket(t, "tcp/80", 0)}
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: r.roots(t)},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, network, doors[port])
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestNetworks_PodsReachTheFrontDoor(t *testing.T) {
	r, a := withNetwork(t)
	c := r.pod(t, a)
	for _, host := range []string{"login.microsoftonline.com", "kv1.vault.azure.net", "kv1.vault.lazurite.test"} {
		resp, _ := get(t, c, "https://"+host+"/nothing/here")
		if resp.Header.Get("X-Ms-Request-Id") == "" || resp.ProtoMajor != 2 {
			t.Errorf("%s: got %s %s", host, resp.Proto, resp.Status)
		}
	}
	if !strings.Contains(r.log.String(), `"network":"`+netID+`"`) {
		t.Errorf("the log does not say which network: %s", r.log)
	}
	resp, body := get(t, c, "http://kv1.vault.azure.net/secrets/s")
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "https only") {
		t.Errorf("without TLS: got %s %s", resp.Status, body)
	}
}

func TestNetworks_NamesAndTheWayOut(t *testing.T) {
	r, a := withNetwork(t)
	q := new(dns.Msg)
	q.SetQuestion("any.vault.azure.net.", dns.TypeA)
	for network, key := range map[string]string{"udp": "udp/53", "tcp": "tcp/53"} {
		m, _, err := (&dns.Client{Net: network}).Exchange(q, a.socket(t, key, 0))
		if err != nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "198.18.3.2" {
			t.Errorf("%s: got %v, %v", network, m, err)
		}
	}
	// Nobody redirected this connection: it goes nowhere.
	if conn, err := net.Dial("tcp", a.socket(t, "tcp/15001", 0)); err == nil {
		_, err = conn.Read(make([]byte, 1))
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the gate took it: %v", err)
		}
		_ = conn.Close()
	}
	eventually(t, func() bool { return strings.Contains(r.log.String(), "outbound refused") })
	if !strings.Contains(r.log.String(), `"who":"node pool-0"`) || !strings.Contains(r.log.String(), `"network":"rg/c1"`) {
		t.Errorf("the log does not say who: %s", r.log)
	}
}

// TestNetworks_PodsReachNothingOfTheOwner tries what only programs of this
// machine, or only the user of the state folder, may.
func TestNetworks_PodsReachNothingOfTheOwner(t *testing.T) {
	r, a := withNetwork(t)
	c := r.pod(t, a)
	for _, scheme := range []string{"https", "http"} {
		for _, host := range []string{"login.microsoftonline.com", "management.azure.com", "localhost", "127.0.0.1", "laz"} {
			for _, path := range []string{"/v1/status", "/v1/clusters", "/v1/images", "/v1/run-secret", "/v1/serviceaccount-token", "/v1/rotate/root-key", "/metrics", "/msi/token", "/device", "/",
				"/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"} {
				for _, method := range []string{"GET", "POST"} {
					ask(t, r, c, scheme, host, method, path)
				}
			}
		}
	}
	// A cluster that is no workspace's has no tokens there.
	if resp := raw(t, r, a.socket(t, "tcp/80", 0), false, "GET /msi/token?resource=https://vault.azure.net HTTP/1.1\r\nHost: 198.18.0.2\r\n\r\n"); resp.StatusCode != 404 && resp.StatusCode != 403 {
		t.Errorf("tokens for pods: got %s", resp.Status)
	}
	for _, line := range []string{
		"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
		"CONNECT management.azure.com:443 HTTP/1.1\r\nHost: management.azure.com:443\r\n\r\n",
		"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
		"GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=r HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\n\r\n",
		"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET http://" + r.cfg.Local + "/metrics HTTP/1.1\r\nHost: " + r.cfg.Local + "\r\n\r\n",
	} {
		for _, port := range []string{"tcp/80", "tcp/443"} {
			if resp := raw(t, r, a.socket(t, port, 0), port == "tcp/443", line); resp.StatusCode < 400 {
				t.Errorf("%s: %q: got %s", port, line, resp.Status)
			}
		}
	}
}

// ask sends a request; only pages that everybody may see may succeed.
func ask(t *testing.T, r *running, c *http.Client, scheme, host, method, path string) {
	t.Helper()
	at := host
	if host != "login.microsoftonline.com" && host != "management.azure.com" {
		at = "management.azure.com" // for the certificate
	}
	req, err := http.NewRequestWithContext(t.Context(), method, scheme+"://"+at+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Metadata", "true")
	req.Header.Set("X-Identity-Header", "x")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if host == "login.microsoftonline.com" && path == "/device" && scheme == "https" {
		return // the page on which people sign in with a password
	}
	if resp.StatusCode < 400 || strings.Contains(string(body), r.cfg.Home) {
		t.Errorf("%s %s://%s%s: got %s %.200s", method, scheme, host, path, resp.Status, body)
	}
}

func raw(t *testing.T, r *running, addr string, secure bool, text string) *http.Response {
	t.Helper()
	var conn net.Conn
	var err error
	if secure {
		conn, err = tls.Dial("tcp", addr, &tls.Config{RootCAs: r.roots(t), ServerName: "management.azure.com"})
	} else {
		conn, err = net.Dial("tcp", addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}

func TestNetworks_AreJoinedAnew(t *testing.T) {
	r, a := withNetwork(t)
	first := a.socket(t, "tcp/443", 0)
	a.mu.Lock()
	a.space, a.opened = 2, 0 // the cluster was stopped and started
	a.mu.Unlock()
	second := a.socket(t, "tcp/443", 0)
	if _, err := net.Dial("tcp", first); err == nil {
		t.Error("the old socket still listens")
	}
	held, err := net.Dial("tcp", second)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := held.SetReadDeadline(time.Now().Add(8 * time.Second)); err != nil { // sooner than the door loses patience
		t.Fatal(err)
	}
	a.mu.Lock()
	a.running = false
	a.mu.Unlock()
	eventually(t, func() bool { return strings.Count(r.log.String(), "network left") == 2 })
	if _, err := net.Dial("tcp", second); err == nil {
		t.Error("the socket of a stopped cluster still listens")
	}
	if _, err := held.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a connection from a stopped cluster is open: %v", err)
	}
}

// LoadImage takes any archive but one that says "bad".
func (a *sockets) LoadImage(_ context.Context, uid string, archive io.Reader) ([]string, error) {
	raw, err := io.ReadAll(archive)
	switch {
	case err != nil:
		return nil, err
	case uid != netUID:
		return nil, node.ErrNotFound
	case string(raw) == "bad":
		return nil, fmt.Errorf("%w: it is no archive", node.ErrInvalid)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.loaded++
	return []string{fmt.Sprintf("image-of-%d-bytes", len(raw))}, nil
}

// Images gives one.
func (a *sockets) Images(context.Context, string) ([]node.Image, error) {
	return []node.Image{{Names: []string{"lazurite.dev/pause:3.10"}, Digest: "sha256:x", Size: 7, Nodes: []string{"pool-0"}}}, nil
}

// owner asks the admin socket.
func (r *running) owner(t *testing.T, method, path string, body io.Reader) (int, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", server.Home(r.cfg.Home).Socket())
	}}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://laz"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestImages(t *testing.T) {
	r, _ := withNetwork(t)
	path := "/v1/clusters/" + netUID + "/images"
	long := io.LimitReader(zeros{}, 20<<20) // longer than what other requests may send
	for _, c := range []struct {
		method, path string
		body         io.Reader
		status       int
		want         string
	}{
		{"POST", path, long, 200, fmt.Sprintf("image-of-%d-bytes", 20<<20)},
		{"POST", path, strings.NewReader("bad"), 400, "it is no archive"},
		{"POST", "/v1/clusters/other/images", strings.NewReader("x"), 404, "knows no such cluster"},
		{"GET", path, nil, 200, `"lazurite.dev/pause:3.10"`},
		{"GET", "/v1/status", nil, 200, `"nodeAgent":{"running":true`},
	} {
		if status, got := r.owner(t, c.method, c.path, c.body); status != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s %s: got %d %.300s", c.method, c.path, status, got)
		}
	}
}

// TestImages_ForAll: an archive that names no cluster goes to all, once each, and stays.
func TestImages_ForAll(t *testing.T) {
	r, a := withNetwork(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "app"), []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := image.Build(t.Context(), folder, image.Config{Name: "app:v1", Entrypoint: []string{"/app"}}, &archive); err != nil {
		t.Fatal(err)
	}
	if status, got := r.owner(t, "POST", "/v1/images", strings.NewReader("bad")); status != 400 || !strings.Contains(got, "the archive is neither a docker archive") {
		t.Errorf("no archive: %d %s", status, got)
	}
	for range 2 {
		if status, got := r.owner(t, "POST", "/v1/images", bytes.NewReader(archive.Bytes())); status != 200 || !strings.Contains(got, `"names":["app:v1"],"clusters":["c1"]`) {
			t.Fatalf("%d %s", status, got)
		}
	}
	a.mu.Lock()
	if a.loaded != 2 {
		t.Errorf("loaded %d times, want once for each request", a.loaded)
	}
	a.running = false
	a.mu.Unlock()
	if status, got := r.owner(t, "POST", "/v1/images", bytes.NewReader(archive.Bytes())); status != 200 || strings.Contains(got, "clusters") {
		t.Errorf("with no cluster that runs: %d %s", status, got)
	}
	if kept, err := filepath.Glob(filepath.Join(server.Home(r.cfg.Home).Images(), "*.tar")); err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
}

// zeros never ends.
type zeros struct{}

// Read gives zeros.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
