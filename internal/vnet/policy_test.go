package vnet_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/vnet"
)

// border is a gate of which the test says where a connection was going, with a
// world behind it.
type border struct {
	*vnet.Gate
	t    *testing.T
	addr string

	mu      sync.Mutex // guards the rest
	to      netip.AddrPort
	dialled []string
	refused []vnet.Refusal
	front   []arrival.Arrival
}

// world says where names are; every address answers "hello" to whoever said
// something, and to HTTP with the Host that came.
var world = map[string][]string{
	"ok.example": {"203.0.113.1"}, "www.wide.example": {"203.0.113.2", "203.0.113.3"}, "wide.example": {"203.0.113.4"},
	"inward.example": {"203.0.113.1", "10.0.0.5"}, "loop.example": {"127.0.0.1"}, "meta.example": {"169.254.169.254"}, "ours.example": {"198.18.3.2"}, "shared.example": {"100.64.0.4"},
	"none.example": nil, "platform.example": {"168.63.129.16"},
}

func approvedPolicy() *vnet.Policy {
	return &vnet.Policy{
		Mode: vnet.Approved,
		Rules: []vnet.Rule{
			{Name: "ok", Hosts: []string{"ok.example", "inward.example", "loop.example", "meta.example", "ours.example", "shared.example", "none.example", "platform.example", "denied.example"}},
			{Name: "wide", Hosts: []string{"*.wide.example"}},
			{Name: "login", Hosts: []string{"mine.vault.azure.net"}, Ports: []vnet.Ports{{443, 443}}},
			{Name: "range", Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.64/26")}, Ports: []vnet.Ports{{8000, 9000}}},
			{Name: "not", Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.65/32")}, Hosts: []string{"denied.example"}, Deny: true},
		},
		Endpoints: map[netip.Addr]vnet.Endpoint{netip.MustParseAddr("100.64.0.4"): {ID: "/pe", Arrival: func(c netip.Addr) arrival.Arrival {
			return arrival.Arrival{Kind: arrival.PrivateEndpoint, Endpoint: "/pe", Client: c}
		}}},
	}
}

func newBorder(t *testing.T, p *vnet.Policy) *border { return newBorderOf(t, p, false) }

func newBorderOf(t *testing.T, p *vnet.Policy, offline bool) *border {
	t.Helper()
	b := &border{t: t}
	hello := server(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if first, err := r.Peek(1); err != nil || first[0] == 22 {
			_, _ = fmt.Fprint(c, "hello")
			_, _ = io.Copy(io.Discard, r)
			return
		}
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(q.Host), q.Host)
		}
	})
	b.Gate = vnet.NewGate(vnet.GateConfig{
		Network: "ws", Base: netip.MustParsePrefix("198.18.0.0/15"), Log: slog.New(slog.DiscardHandler), Policy: p, Say: 200 * time.Millisecond, Offline: offline,
		Own: func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("203.0.113.250")}, nil },
		Who: func(netip.Addr) string { return "endpt/blue" },
		Original: func(net.Conn) (netip.AddrPort, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.to, nil
		},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			b.mu.Lock()
			b.dialled = append(b.dialled, addr)
			b.mu.Unlock()
			if strings.HasPrefix(addr, "203.0.113.2:") {
				return nil, errors.New("this one is down")
			}
			return (&net.Dialer{}).DialContext(ctx, network, hello)
		},
		Refused: func(r vnet.Refusal) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refused = append(b.refused, r)
		},
		Owns: owns,
		Front: func(c net.Conn, port uint16, a arrival.Arrival) {
			b.mu.Lock()
			b.front = append(b.front, a)
			b.mu.Unlock()
			defer c.Close()
			_, _ = c.Read(make([]byte, 1)) // what was read before is still there
			_, _ = fmt.Fprintf(c, "front %d", port)
		},
		Arrival: func(c netip.Addr) arrival.Arrival { return arrival.Arrival{Network: "/ws", Client: c} },
		Resolve: func(_ context.Context, name string) (out []netip.Addr, err error) {
			list, ok := world[name]
			if !ok {
				return nil, errors.New("no such host")
			}
			for _, a := range list {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		},
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// call opens a connection that was going to an address.
func (b *border) call(to string) net.Conn {
	b.t.Helper()
	b.mu.Lock()
	b.to, b.dialled, b.refused, b.front = netip.MustParseAddrPort(to), nil, nil, nil
	b.mu.Unlock()
	c, err := net.Dial("tcp", b.addr)
	if errors.Is(err, syscall.ECONNRESET) { // it may come that soon
		return broken{}
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// broken was reset while it connected.
type broken struct{ net.Conn }

func (broken) Read([]byte) (int, error)  { return 0, syscall.ECONNRESET }
func (broken) Write([]byte) (int, error) { return 0, syscall.ECONNRESET }

// tls says a name and gives the first words of the answer, or "reset".
func (b *border) tls(to, name string) string {
	c := b.call(to)
	return b.hear(speak(c, name))
}

func (b *border) hear(c net.Conn) string {
	b.t.Helper()
	began := time.Now()
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if took := time.Since(began); took > 1500*time.Millisecond {
		b.t.Errorf("it took %s", took)
	}
	switch {
	case n > 0:
		return string(buf[:n])
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	}
	if w, ok := c.(*writer); ok && w.reset.Load() { // the one who wrote has heard of it
		return "reset"
	}
	return fmt.Sprint(err)
}

// speak begins TLS for a name, and leaves what comes back to the test.
func speak(c net.Conn, name string) net.Conn {
	w := &writer{Conn: c}
	go func() {
		_ = tls.Client(mute{w}, &tls.Config{ServerName: name}).HandshakeContext(context.Background())
	}()
	return w
}

type writer struct {
	net.Conn
	reset atomic.Bool
}

func (w *writer) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if errors.Is(err, syscall.ECONNRESET) {
		w.reset.Store(true)
	}
	return n, err
}

type mute struct{ net.Conn }

func (mute) Read([]byte) (int, error) { return 0, io.EOF }

// last is the last refusal's reason, once it is the one that is wanted, and
// where connections were made to.
func (b *border) last(want string) (reason string, dialled []string) {
	b.t.Helper()
	eventually(b.t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return (want == "") == (len(b.refused) == 0)
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.refused); n > 0 {
		reason = b.refused[n-1].Reason
		if b.refused[n-1].Who != "endpt/blue" || b.refused[n-1].Why == "" {
			b.t.Errorf("the refusal lacks something: %+v", b.refused[n-1])
		}
	}
	return reason, b.dialled
}

func TestGate_ApprovedNames(t *testing.T) {
	b := newBorder(t, approvedPolicy())
	for _, c := range []struct {
		what, to, name, want, reason, dialled string
	}{
		{"an approved name", "203.0.113.1:443", "ok.example", "hello", "", "203.0.113.1:443"},
		{"an approved name at another address", "203.0.113.99:443", "OK.example", "hello", "", "203.0.113.1:443"}, // where it was going does not count
		{"an approved address with another name", "203.0.113.1:443", "evil.example", "reset", vnet.ReasonName, ""},
		{"below a wildcard, the first address down", "203.0.113.2:443", "www.wide.example", "hello", "", "203.0.113.2:443 203.0.113.3:443"},
		{"the wildcard's own name", "203.0.113.4:443", "wide.example", "reset", vnet.ReasonName, ""},
		{"a name that ends alike", "203.0.113.4:443", "www.notwide.example", "reset", vnet.ReasonName, ""},
		{"a name that leads to one private address", "203.0.113.1:443", "inward.example", "reset", vnet.ReasonPrivate, ""},
		{"a name that leads to loopback", "203.0.113.1:443", "loop.example", "reset", vnet.ReasonPrivate, ""},
		{"a name that leads to metadata", "203.0.113.1:443", "meta.example", "reset", vnet.ReasonPrivate, ""},
		{"a name that leads to a network of ours", "203.0.113.1:443", "ours.example", "reset", vnet.ReasonPrivate, ""},
		{"a name that leads to a managed endpoint", "203.0.113.1:443", "shared.example", "reset", vnet.ReasonPrivate, ""},
		{"a name that leads to the platform", "203.0.113.1:443", "platform.example", "reset", vnet.ReasonPrivate, ""},
		{"a name without addresses", "203.0.113.1:443", "none.example", "reset", "", ""},
		{"no name", "203.0.113.1:443", "192.0.2.1", "reset", vnet.ReasonNoName, ""},
		{"a denied name", "203.0.113.1:443", "denied.example", "reset", vnet.ReasonDenied, ""},
		{"an owned name that is approved", "203.0.113.1:443", "mine.vault.azure.net", "front 443", "", ""},
		{"an owned name that is not", "203.0.113.1:443", "other.vault.azure.net", "reset", vnet.ReasonName, ""},
		{"a private endpoint", "100.64.0.4:443", "whoever.example", "front 443", "", ""},
		{"no private endpoint", "100.64.0.5:443", "ok.example", "reset", vnet.ReasonInside, ""},
		{"a private address", "10.0.0.5:443", "ok.example", "reset", vnet.ReasonInside, ""},
		{"the host's loopback", "127.0.0.1:443", "ok.example", "reset", vnet.ReasonInside, ""},
		{"the host itself", "203.0.113.250:443", "ok.example", "reset", vnet.ReasonInside, ""},
		{"metadata", "169.254.169.254:80", "", "reset", vnet.ReasonInside, ""},
		{"the platform", "168.63.129.16:80", "", "reset", vnet.ReasonInside, ""},
		{"another cluster's API server", "198.18.3.2:6443", "ok.example", "reset", vnet.ReasonInside, ""},
		{"a port of no names", "203.0.113.1:22", "ok.example", "reset", vnet.ReasonAddress, ""},
		{"a private endpoint's other port", "100.64.0.4:22", "", "reset", vnet.ReasonAddress, ""},
		{"an approved range", "203.0.113.70:8443", "whoever.example", "hello", "", "203.0.113.70:8443"},
		{"an approved range, another port", "203.0.113.70:22", "", "reset", vnet.ReasonAddress, ""},
		{"a denied address of it", "203.0.113.65:8443", "whoever.example", "reset", vnet.ReasonDenied, ""},
	} {
		got := b.tls(c.to, c.name)
		reason, dialled := b.last(c.reason)
		if got != c.want || reason != c.reason || strings.Join(dialled, " ") != c.dialled {
			t.Errorf("%s: got %q, reason %q, to %v; want %q, %q, %q", c.what, got, reason, dialled, c.want, c.reason, c.dialled)
		}
	}
}

// TestGate_ApprovedOffline: nothing is reached then, and what is missing besides is said all the same.
func TestGate_ApprovedOffline(t *testing.T) {
	b := newBorderOf(t, approvedPolicy(), true)
	for _, c := range []struct{ what, to, name, reason, why string }{
		{"an approved name", "203.0.113.1:443", "ok.example", vnet.ReasonOffline, "--offline"},
		{"an approved range", "203.0.113.70:8443", "", vnet.ReasonOffline, "--offline"},
		{"a name that no rule has", "203.0.113.1:443", "evil.example", vnet.ReasonName, "evil.example"},
		{"an address that no rule has", "203.0.113.1:22", "", vnet.ReasonAddress, "203.0.113.1"},
		{"a private address", "10.0.0.5:5432", "", vnet.ReasonInside, "private_endpoint"},
	} {
		got := b.tls(c.to, c.name)
		reason, dialled := b.last(c.reason)
		if got != "reset" || reason != c.reason || len(dialled) != 0 {
			t.Errorf("%s: got %q, reason %q, to %v; want %q", c.what, got, reason, dialled, c.reason)
		}
		b.mu.Lock()
		if n := len(b.refused); n > 0 && !strings.Contains(b.refused[n-1].Why, c.why) {
			t.Errorf("%s: got %q, want %q", c.what, b.refused[n-1].Why, c.why)
		}
		b.mu.Unlock()
	}
}

func TestGate_ApprovedArrivals(t *testing.T) {
	b := newBorder(t, approvedPolicy())
	for to, want := range map[string]arrival.Arrival{
		"100.64.0.4:443":  {Kind: arrival.PrivateEndpoint, Endpoint: "/pe", Client: netip.MustParseAddr("127.0.0.1")},
		"203.0.113.1:443": {Network: "/ws", Client: netip.MustParseAddr("127.0.0.1")},
	} {
		if got := b.tls(to, "mine.vault.azure.net"); got != "front 443" {
			t.Fatal(got)
		}
		b.mu.Lock()
		if !slices.Equal(b.front, []arrival.Arrival{want}) {
			t.Errorf("%s: got %+v", to, b.front)
		}
		b.mu.Unlock()
	}
}

func TestGate_ApprovedRequests(t *testing.T) {
	b := newBorder(t, approvedPolicy())
	ask := func(c net.Conn, r *bufio.Reader, host, more string) string {
		if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\n%s", host, more); err != nil {
			return "reset"
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return "reset"
		}
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	for _, c := range []struct {
		what   string
		hosts  []string
		want   []string
		reason string
	}{
		{"one", []string{"ok.example"}, []string{"ok.example"}, ""},
		{"kept alive", []string{"ok.example", "OK.example:80", "ok.example"}, []string{"ok.example", "OK.example:80", "ok.example"}, ""},
		{"not approved", []string{"evil.example"}, []string{"reset"}, vnet.ReasonName},
		{"then another", []string{"ok.example", "evil.example"}, []string{"ok.example", "reset"}, vnet.ReasonName},
		{"then another that is approved", []string{"ok.example", "www.wide.example"}, []string{"ok.example", "reset"}, vnet.ReasonChanged},
	} {
		conn := b.call("203.0.113.77:80")
		r := bufio.NewReader(conn)
		for i, host := range c.hosts {
			if got := ask(conn, r, host, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"); got != c.want[i] {
				t.Errorf("%s, %s: got %q", c.what, host, got)
			}
		}
		reason, dialled := b.last(c.reason)
		if reason != c.reason {
			t.Errorf("%s: reason %q", c.what, reason)
		}
		if c.want[0] != "reset" && !slices.Equal(dialled, []string{"203.0.113.1:80"}) {
			t.Errorf("%s: went to %v", c.what, dialled)
		}
	}
	for what, raw := range map[string]string{
		"two hosts":  "GET / HTTP/1.1\r\nHost: ok.example\r\nHost: evil.example\r\n\r\n",
		"smuggling":  "POST / HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
		"CONNECT":    "CONNECT evil.example:443 HTTP/1.1\r\nHost: ok.example\r\n\r\n",
		"HTTP/2":     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"no request": "\x16\x03\x01\x00\x05hello\r\n",
	} {
		conn := b.call("203.0.113.1:80")
		if _, err := io.WriteString(conn, raw); err != nil {
			t.Fatal(err)
		}
		if got := b.hear(conn); got != "reset" {
			t.Errorf("%s: got %q", what, got)
		}
		if reason, _ := b.last(vnet.ReasonNoName); reason != vnet.ReasonNoName {
			t.Errorf("%s: reason %q", what, reason)
		}
	}
	if got := b.hear(b.call("203.0.113.1:80")); got != "reset" { // nothing is said
		t.Errorf("silence: got %q", got)
	}
}

func TestGate_PolicyChanges(t *testing.T) {
	b := newBorder(t, &vnet.Policy{Why: "not ready yet"})
	if got := b.tls("203.0.113.1:443", "ok.example"); got != "reset" {
		t.Errorf("closed: got %q", got)
	}
	b.SetPolicy(approvedPolicy())
	open := b.call("203.0.113.1:443")
	if got := b.hear(speak(open, "ok.example")); got != "hello" {
		t.Fatal(got)
	}
	same := approvedPolicy()
	same.Rules = append(same.Rules, vnet.Rule{Name: "more", Hosts: []string{"more.example"}})
	b.SetPolicy(same)
	_ = open.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := open.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("a connection that stays approved: %v", err)
	}
	_ = open.SetReadDeadline(time.Now().Add(5 * time.Second))
	fewer := approvedPolicy()
	fewer.Rules = fewer.Rules[1:]
	b.SetPolicy(fewer)
	if got := b.hear(open); got != "reset" {
		t.Errorf("a connection that is not approved any more: got %q", got)
	}
	if got := b.tls("203.0.113.1:443", "ok.example"); got != "reset" {
		t.Errorf("a new one: got %q", got)
	}
	b.SetPolicy(&vnet.Policy{Mode: vnet.Internet, Inside: []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25")}})
	for to, want := range map[string]string{"203.0.113.1:8443": "hello", "10.0.0.5:443": "reset", "100.64.0.4:443": "reset", "169.254.169.254:80": "reset", "203.0.113.200:443": "reset"} {
		if got := b.tls(to, "evil.example"); got != want {
			t.Errorf("the internet, %s: got %q", to, got)
		}
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

func TestGate_Admit(t *testing.T) {
	b := newBorder(t, approvedPolicy())
	for _, c := range []struct {
		name string
		port uint16
		mode vnet.Mode
		want string
	}{
		{"mine.vault.azure.net", 443, vnet.Approved, "taken"},
		{"other.vault.azure.net", 443, vnet.Approved, "reset"},
		{"", 443, vnet.Approved, "reset"},
		{"other.vault.azure.net", 443, vnet.Internet, "taken"},
		{"mine.vault.azure.net", 443, vnet.Closed, "reset"},
		{"mine.vault.azure.net", 80, vnet.Closed, "reset"},
		{"mine.vault.azure.net", 80, vnet.Approved, "taken"},
	} {
		p := approvedPolicy()
		p.Mode = c.mode
		b.SetPolicy(p)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		conn := dial(t, ln.Addr().String())
		in, err := ln.Accept()
		_ = ln.Close()
		if err != nil {
			t.Fatal(err)
		}
		talker := speak(conn, c.name)
		b.Admit(t.Context(), in, c.port, func(got net.Conn) {
			defer got.Close()
			first := make([]byte, 1)
			if _, err := io.ReadFull(got, first); err == nil && first[0] == 22 {
				_, _ = io.WriteString(got, "taken")
			}
		})
		if got := b.hear(talker); got != c.want {
			t.Errorf("%s at %d, mode %d: got %q", c.name, c.port, c.mode, got)
		}
	}
}

func TestResolver_ApprovedNames(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	var flags string
	up := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		heard = append(heard, fmt.Sprintf("%s %s", q.Question[0].Name, dns.TypeToString[q.Question[0].Qtype]))
		opt := q.IsEdns0()
		flags = fmt.Sprint(q.RecursionDesired, q.CheckingDisabled, q.AuthenticatedData, opt != nil && opt.Do())
		mu.Unlock()
		m := new(dns.Msg)
		m.SetReply(q)
		m.Answer = []dns.RR{rr(t, q.Question[0].Name+" 60 IN A 203.0.113.1"), rr(t, q.Question[0].Name+" 60 IN TXT hello")}
		_ = w.WriteMsg(m)
	})
	var refused []vnet.Refusal
	p := approvedPolicy()
	names := vnet.NewNames([]vnet.Zone{{Name: "acc.privatelink.blob.core.windows.net", Records: []dns.RR{rr(t, "acc.privatelink.blob.core.windows.net. 30 IN A 100.64.0.4")}}},
		map[string]string{"acc.blob.core.windows.net": "acc.privatelink.blob.core.windows.net"})
	p.Names = func() *vnet.Names { return names }
	at := serve(t, vnet.ResolverConfig{Policy: p, Ask: asks(up), Who: func(netip.Addr) string { return "endpt/blue" }, Refused: func(r vnet.Refusal) {
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, r)
	}})
	for _, c := range []struct {
		name  string
		typ   uint16
		rcode int
		want  string
	}{
		{"ok.example.", dns.TypeA, dns.RcodeSuccess, "203.0.113.1"},
		{"OK.Example.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"ok.example.", dns.TypeTXT, dns.RcodeSuccess, ""},
		{"ok.example.", dns.TypeHTTPS, dns.RcodeSuccess, ""},
		{"a.b.wide.example.", dns.TypeA, dns.RcodeSuccess, "203.0.113.1"},
		{"wide.example.", dns.TypeA, dns.RcodeNameError, ""},
		{"c2VjcmV0.tunnel.example.", dns.TypeA, dns.RcodeNameError, ""},
		{"c2VjcmV0.tunnel.example.", dns.TypeTXT, dns.RcodeNameError, ""},
		{"mine.vault.azure.net.", dns.TypeA, dns.RcodeSuccess, "198.18.7.2"},
		{"other.vault.azure.net.", dns.TypeA, dns.RcodeNameError, ""},
		{"acc.blob.core.windows.net.", dns.TypeA, dns.RcodeSuccess, "100.64.0.4"},
		{"1.113.0.203.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
	} {
		m := ask(t, "udp", at, question(c.name, c.typ))
		got := ""
		for _, r := range m.Answer {
			if a, ok := r.(*dns.A); ok {
				got = a.A.String()
			} else if r.Header().Rrtype != dns.TypeCNAME {
				t.Errorf("%s: %v came through", c.name, r)
			}
		}
		if m.Rcode != c.rcode || got != c.want {
			t.Errorf("%s %s: got %s %q", c.name, dns.TypeToString[c.typ], dns.RcodeToString[m.Rcode], got)
		}
	}
	mu.Lock()
	slices.Sort(heard)
	if want := []string{"a.b.wide.example. A", "ok.example. A"}; !slices.Equal(heard, want) {
		t.Errorf("asked outside: %q", heard)
	}
	if len(refused) != 4 || refused[1].Name != "c2vjcmv0.tunnel.example" || refused[1].Who != "endpt/blue" || !refused[1].Question {
		t.Errorf("refusals: %+v", refused)
	}
	heard = nil
	mu.Unlock()

	q := question("oK.eXaMpLe.", dns.TypeA) // letters and flags are the asker's to choose, and carry nothing out
	q.CheckingDisabled, q.AuthenticatedData, q.RecursionDesired = true, true, false
	q.SetEdns0(4096, true)
	if m := ask(t, "tcp", at, q); m.Id != q.Id || len(m.Question) != 1 || m.Question[0] != q.Question[0] || len(m.Answer) != 1 {
		t.Errorf("got %v", m)
	}
	mu.Lock()
	if want := []string{"ok.example. A"}; !slices.Equal(heard, want) || flags != "true false false false" {
		t.Errorf("asked outside: %q with %s", heard, flags)
	}
	heard = nil
	mu.Unlock()
	closed := serve(t, vnet.ResolverConfig{Policy: &vnet.Policy{}, Ask: asks(up)})
	for _, name := range []string{"ok.example.", "mine.vault.azure.net."} {
		if m := ask(t, "udp", closed, question(name, dns.TypeA)); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("closed, %s: got %v", name, m)
		}
	}
	if len(heard) > 0 {
		t.Errorf("closed, and asked outside: %q", heard)
	}
}
