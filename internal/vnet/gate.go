package vnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The limits of a Gate.
const (
	maxOpen       = 2048 // connections
	maxOpenOf     = 512  // of one address
	dialTime      = 10 * time.Second
	defaultIdle   = 10 * time.Minute
	copyBufferLen = 32 << 10
	maxSaid       = 100 // refusals a second in the log; of the others their number
)

// GateConfig says whom a Gate lets out where.
type GateConfig struct {
	Network string       // name, for log and metrics
	Base    netip.Prefix // addresses of all networks: nobody gets from one into another
	Offline bool         // nobody gets out
	Public  bool         // only public addresses are reached: private ones are those of some network
	Log     *slog.Logger
	Metrics *Metrics // nil counts nothing

	// Who names an address inside the network: "node NAME". Nil, or "" from it,
	// leaves it at the address.
	Who func(netip.Addr) string

	// Original is where a connection was going before it was redirected here.
	// Nil: what the kernel says.
	Original func(net.Conn) (netip.AddrPort, error)

	// Own are the host's addresses. Nil: those of its interfaces.
	Own func() ([]netip.Addr, error)

	// Dial makes the connections. Nil: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Idle is how long a connection may carry nothing. 0 is ten minutes.
	Idle time.Duration
}

// Gate is the way out of a network: it takes the connections that the network
// redirects to it, and makes those to where they were going from the host, as
// an unprivileged program of the host would. Nothing on the host itself is
// reached through it, nor another network of ours.
type Gate struct {
	cfg     GateConfig
	buffers sync.Pool

	mu   sync.Mutex // guards the rest
	open map[netip.Addr]int
	all  int

	second time.Time // in which said lines were logged, and unsaid were not
	said   int
	unsaid int
}

// NewGate makes a Gate.
func NewGate(cfg GateConfig) *Gate {
	if cfg.Original == nil {
		cfg.Original = originalDestination
	}
	if cfg.Own == nil {
		cfg.Own = interfaceAddresses
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: dialTime}).DialContext
	}
	if cfg.Idle == 0 {
		cfg.Idle = defaultIdle
	}
	return &Gate{
		cfg: cfg, open: map[netip.Addr]int{},
		buffers: sync.Pool{New: func() any { b := make([]byte, copyBufferLen); return &b }},
	}
}

// Serve takes the connections of ln until ctx ends, then cuts those that are
// open. It closes ln.
func (g *Gate) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer closing(ctx, ln)()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before the wait: it ends the connections
	return accept(ctx, ln, func(conn net.Conn) {
		wg.Go(func() { g.one(ctx, conn) })
	})
}

// accept gives the connections of ln to take, until ctx ends or ln is closed.
func accept(ctx context.Context, ln net.Listener, take func(net.Conn)) error {
	defer ln.Close()
	for delay := time.Millisecond; ; {
		conn, err := ln.Accept()
		if err == nil {
			delay = time.Millisecond
			take(conn)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if delay > time.Second {
			return fmt.Errorf("accepting connections at %s: %w", ln.Addr(), err)
		}
		select { // such as no file descriptor left: it passes
		case <-time.After(delay):
			delay *= 2
		case <-ctx.Done():
		}
	}
}

func (g *Gate) one(ctx context.Context, in net.Conn) {
	who := addrPort(in.RemoteAddr()).Addr()
	to, err := g.cfg.Original(in)
	if err != nil {
		g.refuse(in, who, addrPort(in.LocalAddr()), "it is not known where it was going: "+err.Error())
		return
	}
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	if why := g.forbidden(to); why != "" {
		g.refuse(in, who, to, why)
		return
	}
	if !g.enter(who) {
		g.refuse(in, who, to, "too many connections are open")
		return
	}
	defer g.leave(who)
	out, err := g.cfg.Dial(ctx, "tcp", to.String())
	if err == nil && addrPort(out.LocalAddr()).Addr() == to.Addr() { // a route of the host leads back to itself
		reset(out)
		g.refuse(in, who, to, "it is an address of the host itself")
		return
	}
	if err != nil {
		g.cfg.Metrics.left(g.cfg.Network, "failed")
		g.event(slog.LevelInfo, "outbound failed", who, to, err.Error())
		reset(in)
		return
	}
	g.cfg.Metrics.left(g.cfg.Network, "passed")
	g.event(slog.LevelDebug, "outbound passed", who, to, "")
	g.join(ctx, in, out)
}

// enter counts one more connection of who, unless there are too many.
func (g *Gate) enter(who netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= maxOpen || g.open[who] >= maxOpenOf {
		return false
	}
	g.all++
	g.open[who]++
	g.cfg.Metrics.opened(g.cfg.Network, 1)
	return true
}

func (g *Gate) leave(who netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.open[who]--; g.open[who] == 0 {
		delete(g.open, who)
	}
	g.cfg.Metrics.opened(g.cfg.Network, -1)
}

// forbidden says why nobody gets to an address, "" when they do.
func (g *Gate) forbidden(to netip.AddrPort) string {
	a := to.Addr()
	switch {
	case !a.IsValid() || to.Port() == 0:
		return "it is no address"
	case a.Is4In6():
		return "it is an IPv4 address in disguise"
	case a.IsLoopback():
		return "it is a loopback address: the host's own programs listen there"
	case a.IsUnspecified() || inAny(a, "0.0.0.0/8"):
		return "it is an unspecified address, which means the host itself"
	case a.IsLinkLocalUnicast():
		return "it is a link-local address, where machines keep their metadata"
	case a.IsMulticast(), inAny(a, "240.0.0.0/4"):
		return "it is a multicast, broadcast or reserved address"
	case a.Is6() && inAny(a, "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96"):
		return "it is an IPv4 address in disguise"
	case g.cfg.Base.IsValid() && g.cfg.Base.Contains(a):
		return "it is inside a network of Lazurite's that is not this one"
	case g.cfg.Public && (a.IsPrivate() || inAny(a, "100.64.0.0/10")):
		return "it is a private address that is not of this network, nor of one that it is peered with"
	case g.cfg.Offline:
		return "Lazurite runs with --offline"
	}
	own, err := g.cfg.Own()
	if err != nil {
		return "the host's addresses can't be read: " + err.Error()
	}
	for _, o := range own {
		if o.Unmap().WithZone("") == a {
			return "it is an address of the host itself"
		}
	}
	return ""
}

func inAny(a netip.Addr, prefixes ...string) bool {
	for _, p := range prefixes {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return false
}

func interfaceAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip)
			}
		}
	}
	return out, nil
}

// refuse ends a connection such that its program learns it at once, and says why.
func (g *Gate) refuse(in net.Conn, who netip.Addr, to netip.AddrPort, why string) {
	reset(in)
	g.cfg.Metrics.left(g.cfg.Network, "refused")
	more, ok := g.mayLog()
	if !ok {
		return
	}
	if more > 0 {
		why = fmt.Sprintf("%s (and %d that are not shown)", why, more)
	}
	g.event(slog.LevelWarn, "outbound refused", who, to, why)
}

// mayLog keeps a program that tries without end from filling the log.
func (g *Gate) mayLog() (more int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now().Truncate(time.Second); !now.Equal(g.second) {
		more, g.unsaid = g.unsaid, 0
		g.second, g.said = now, 0
	}
	if g.said >= maxSaid {
		g.unsaid++
		return 0, false
	}
	g.said++
	return more, true
}

func (g *Gate) event(level slog.Level, what string, who netip.Addr, to netip.AddrPort, why string) {
	attrs := []slog.Attr{slog.String("network", g.cfg.Network), slog.String("client", who.String())}
	if g.cfg.Who != nil {
		if name := g.cfg.Who(who); name != "" {
			attrs = append(attrs, slog.String("who", name))
		}
	}
	attrs = append(attrs, slog.String("to", to.String()))
	if why != "" {
		attrs = append(attrs, slog.String("error", why))
	}
	g.cfg.Log.LogAttrs(context.Background(), level, what, attrs...)
}

// reset closes c with a TCP reset: its peer is not left waiting.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0) // then Close ends it in the common way
	}
	_ = c.Close()
}

// join copies both ways until both ends have finished, one has broken off,
// nothing came for too long, or ctx ends.
func (g *Gate) join(ctx context.Context, in, out net.Conn) {
	var broken atomic.Bool
	cut := func() {
		broken.Store(true)
		reset(in)
		reset(out)
	}
	defer context.AfterFunc(ctx, cut)()
	var last atomic.Int64 // when something came, either way
	last.Store(time.Now().UnixNano())
	one := func(dst, src net.Conn, direction string) {
		n, err := g.copy(dst, src, &last)
		g.cfg.Metrics.passed(g.cfg.Network, direction, n)
		if half, ok := dst.(interface{ CloseWrite() error }); err != nil || !ok || half.CloseWrite() != nil {
			cut()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { one(in, out, "in") })
	one(out, in, "out")
	wg.Wait()
	if !broken.Load() {
		_ = in.Close()
		_ = out.Close()
	}
}

// copy is io.Copy that ends when nothing came for too long, either way.
func (g *Gate) copy(dst io.Writer, src net.Conn, last *atomic.Int64) (n int64, err error) {
	buf := g.buffers.Get().(*[]byte)
	defer g.buffers.Put(buf)
	for {
		until := time.Unix(0, last.Load()).Add(g.cfg.Idle)
		if err := src.SetReadDeadline(until); err != nil {
			return n, err
		}
		got, err := src.Read(*buf)
		if got > 0 {
			last.Store(time.Now().UnixNano())
			put, err := dst.Write((*buf)[:got])
			n += int64(put)
			if err != nil {
				return n, err
			}
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			if time.Since(time.Unix(0, last.Load())) < g.cfg.Idle {
				continue // the other way is busy
			}
			return n, err
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
