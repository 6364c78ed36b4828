// Package proxy is how clients on the host get in: an HTTP proxy on loopback.
// A CONNECT to a name that Lazurite owns becomes a connection of its front
// door, on the same socket; any other is let through, or refused at once when
// the system runs offline. Plain requests to 169.254.169.254 are the instance
// metadata service's.
package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// metadataHost is where Azure's virtual machines find the instance metadata service.
const metadataHost = "169.254.169.254"

const dialTimeout = 10 * time.Second

// Config says what a Proxy does with whom.
type Config struct {
	Owns    func(host string) bool // whether the front door answers for a name
	Front   func(net.Conn)         // takes over a connection whose client begins TLS next
	IMDS    http.Handler           // nil: metadata requests are refused
	Local   http.Handler           // requests to the proxy's own address; nil: 404
	Offline bool                   // nothing passes but Inside
	Inside  netip.Prefix           // addresses of networks on this machine; the zero Prefix is none
	Log     *slog.Logger

	// Dial reaches the outside; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Proxy is an http.Handler for the proxy's port.
type Proxy struct {
	cfg  Config
	pass *httputil.ReverseProxy

	wg     sync.WaitGroup
	mu     sync.Mutex // guards the rest
	open   map[net.Conn]struct{}
	closed bool
}

// New makes a Proxy.
func New(cfg Config) *Proxy {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	p := &Proxy{cfg: cfg, open: map[net.Conn]struct{}{}}
	p.pass = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host }, // the URL is whole already
		Transport: &http.Transport{
			DialContext: cfg.Dial, ResponseHeaderTimeout: time.Minute, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		},
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			p.unreachable(w, r.URL.Host, err)
		},
	}
	return p
}

type credentialKey struct{}

// Credential is the password of the proxy credentials that the request of ctx
// came with: `laz run --identity` puts a secret of the run there, so that the
// metadata service knows which identity asks. "" when there was none.
func Credential(ctx context.Context) string {
	s, _ := ctx.Value(credentialKey{}).(string)
	return s
}

// ServeHTTP answers one request, or takes over its connection for a tunnel.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !fromLoopback(r) {
		p.refuse(w, r.Host, http.StatusForbidden, "Lazurite's proxy serves this machine only.")
		return
	}
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.Host == "":
		p.local(w, r)
	case isMetadata(r.URL.Host):
		p.metadata(w, r)
	case p.cfg.Owns(r.URL.Host):
		p.refuse(w, r.URL.Host, http.StatusForbidden, fmt.Sprintf("Lazurite answers for %s over https only.", r.URL.Hostname()))
	case r.URL.Scheme != "http":
		p.refuse(w, r.URL.Host, http.StatusBadRequest, "Lazurite's proxy takes http URLs and CONNECT.")
	case p.cfg.Offline && !p.inside(r.URL.Hostname()):
		p.refuse(w, r.URL.Host, http.StatusForbidden, offline(r.URL.Host))
	default:
		p.pass.ServeHTTP(w, r)
	}
}

// inside reports whether host is an address on this machine that clients who
// know no NO_PROXY of prefixes ask us for: an API server's, a load balancer's.
func (p *Proxy) inside(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && p.cfg.Inside.IsValid() && p.cfg.Inside.Contains(a)
}

func fromLoopback(r *http.Request) bool {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func isMetadata(host string) bool {
	return host == metadataHost || host == metadataHost+":80"
}

func offline(host string) string {
	return fmt.Sprintf("Lazurite runs with --offline: %s is not one of its names, and nothing else passes.", host)
}

func (p *Proxy) local(w http.ResponseWriter, r *http.Request) {
	if p.cfg.Local == nil {
		http.NotFound(w, r)
		return
	}
	p.cfg.Local.ServeHTTP(w, r)
}

func (p *Proxy) metadata(w http.ResponseWriter, r *http.Request) {
	if p.cfg.IMDS == nil {
		p.refuse(w, r.Host, http.StatusNotFound, "Lazurite has no metadata service here.")
		return
	}
	ctx := context.WithValue(r.Context(), credentialKey{}, password(r.Header.Get("Proxy-Authorization")))
	r = r.WithContext(ctx)
	r.Header.Del("Proxy-Authorization")
	r.Header.Del("Proxy-Connection")
	p.cfg.IMDS.ServeHTTP(w, r)
}

// password reads the password of a Basic credential (RFC 7617), "" when there is none.
func password(header string) string {
	scheme, rest, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return ""
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
	if err != nil {
		return ""
	}
	_, pass, _ := strings.Cut(string(raw), ":")
	return pass
}

// refuse answers in plain text: a proxy's client shows the body, if anything, as it is.
func (p *Proxy) refuse(w http.ResponseWriter, host string, status int, why string) {
	p.cfg.Log.Warn("proxy refused", slog.String("host", host), slog.Int("status", status), slog.String("error", why))
	http.Error(w, why, status)
}

func (p *Proxy) unreachable(w http.ResponseWriter, host string, err error) {
	status := http.StatusBadGateway
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		status = http.StatusGatewayTimeout
	}
	p.refuse(w, host, status, fmt.Sprintf("Lazurite's proxy can't reach %s: %v", host, err))
}

func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	switch {
	case err != nil || host == "":
		p.refuse(w, r.Host, http.StatusBadRequest, "CONNECT needs HOST:PORT.")
	case p.cfg.Owns(host):
		if conn, ok := p.hijack(w); ok {
			p.cfg.Front(conn)
		}
	case p.cfg.Offline && !p.inside(host):
		p.refuse(w, r.Host, http.StatusForbidden, offline(host))
	default:
		p.tunnel(w, r)
	}
}

func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	out, err := p.cfg.Dial(r.Context(), "tcp", r.Host)
	if err != nil {
		p.unreachable(w, r.Host, err)
		return
	}
	if !p.track(out) {
		_ = out.Close()
		p.refuse(w, r.Host, http.StatusServiceUnavailable, "Lazurite is stopping.")
		return
	}
	defer p.untrack(out)
	in, ok := p.hijack(w)
	if !ok {
		return
	}
	if !p.track(in) {
		_ = in.Close()
		return
	}
	defer p.untrack(in)
	p.cfg.Log.Debug("proxy passed", slog.String("host", r.Host))
	join(in, out)
}

// hijack takes the client's connection and tells the client that it stands.
func (p *Proxy) hijack(w http.ResponseWriter) (net.Conn, bool) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.refuse(w, "", http.StatusHTTPVersionNotSupported, "CONNECT needs HTTP/1.1.")
		return nil, false
	}
	head, err := buffered(rw.Reader)
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err == nil {
		_, err = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	}
	if err != nil {
		_ = conn.Close() // the client is gone
		return nil, false
	}
	if len(head) > 0 {
		return &early{conn, head}, true
	}
	return conn, true
}

// buffered is what the client sent without waiting for our answer.
func buffered(r *bufio.Reader) ([]byte, error) {
	head := make([]byte, r.Buffered())
	_, err := io.ReadFull(r, head)
	return head, err
}

// early is a connection with bytes that were read before.
type early struct {
	net.Conn
	head []byte
}

func (e *early) Read(b []byte) (int, error) {
	if len(e.head) == 0 {
		return e.Conn.Read(b)
	}
	n := copy(b, e.head)
	e.head = e.head[n:]
	return n, nil
}

// join copies both ways until both ends have finished.
func join(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
			return
		}
		_ = dst.Close() // a broken side ends the tunnel
		_ = src.Close()
	}
	wg.Go(func() { one(a, b) })
	one(b, a)
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}

func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.open[c] = struct{}{}
	p.wg.Add(1)
	return true
}

func (p *Proxy) untrack(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	p.wg.Done()
}

// Close ends all tunnels and waits for them.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		_ = c.Close() // their copies end
	}
	p.mu.Unlock()
	p.wg.Wait()
	p.pass.Transport.(*http.Transport).CloseIdleConnections()
}
