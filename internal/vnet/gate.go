package vnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"lazurite.dev/internal/arrival"
)

// The limits of a Gate.
const (
	maxOpen       = 2048 // connections
	maxUnsure     = 1024 // that have not said yet by which name they go
	maxUnsureOf   = 128  // of one address
	maxOpenOf     = 512  // of one address
	dialTime      = 10 * time.Second
	defaultIdle   = 10 * time.Minute
	copyBufferLen = 32 << 10
	maxSaid       = 100 // refusals a second in the log; of the others their number
	defaultSay    = 2 * time.Second
	maxTried      = 4 // addresses of a name
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

	// Policy says what leaves until another one is set. Nil: the mode Open.
	Policy *Policy

	// Refused is told of each refusal, and logs it; it must not wait. Nil: the
	// gate logs them itself.
	Refused func(Refusal)

	// Owns says for which names the front door answers, and Front takes their
	// connections and those to private endpoints, with the port that they came
	// to. Arrival is what the front door learns of one that came to no endpoint.
	// All nil: no names are owned, and there are no endpoints.
	Owns    func(host string) bool
	Front   func(conn net.Conn, port uint16, a arrival.Arrival)
	Arrival func(client netip.Addr) arrival.Arrival

	// Resolve gives the addresses of a name that is not owned. Nil: names lead
	// nowhere.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)

	// Say is how long a client may take to say where it wants to go: for the
	// first byte, and five times as long in all. 0 is two seconds.
	Say time.Duration
}

// Gate is the way out of a network: it takes the connections that the network
// redirects to it, and makes those to where they were going from the host, as
// an unprivileged program of the host would. Nothing on the host itself is
// reached through it, nor another network of ours.
type Gate struct {
	cfg     GateConfig
	buffers sync.Pool
	ranges  ranges

	mu       sync.Mutex // guards the rest
	policy   *Policy
	open     map[netip.Addr]int
	all      int
	inside   map[*guest]struct{} // connections that were let through
	unsure   int                 // connections that have not said yet where they go
	unsureOf map[netip.Addr]int

	own   map[netip.Addr]bool // the host's addresses, as they were at ownAt; replaced, never changed
	ownAt time.Time

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
	if cfg.Say == 0 {
		cfg.Say = defaultSay
	}
	if cfg.Policy == nil {
		cfg.Policy = open()
	}
	return &Gate{
		cfg: cfg, policy: cfg.Policy, open: map[netip.Addr]int{}, unsureOf: map[netip.Addr]int{}, inside: map[*guest]struct{}{},
		ranges:  newRanges(),
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

// forbidden says why nobody gets to an address, whatever is approved; "" when
// they do.
func (g *Gate) forbidden(to netip.AddrPort, public bool) string {
	a := to.Addr()
	switch {
	case !a.IsValid() || to.Port() == 0:
		return "it is no address"
	case a.Is4In6():
		return "it is an IPv4 address in disguise"
	case a.IsLoopback():
		return "it is a loopback address: the host's own programs listen there"
	case a.IsUnspecified() || g.ranges.this.Contains(a):
		return "it is an unspecified address, which means the host itself"
	case a.IsLinkLocalUnicast():
		return "it is a link-local address, where machines keep their metadata"
	case a.IsMulticast(), g.ranges.reserved.Contains(a):
		return "it is a multicast, broadcast or reserved address"
	case a.Is6() && inAny(a, g.ranges.disguises):
		return "it is an IPv4 address in disguise"
	case g.cfg.Base.IsValid() && g.cfg.Base.Contains(a):
		return "it is inside a network of Lazurite's that is not this one"
	case a == platform():
		return "it is the platform's address, which each network has for itself"
	case public && (a.IsPrivate() || inAny(a, g.ranges.private)):
		return "it is a private address that is not of this network, nor of one that it is peered with"
	}
	own, err := g.hosts()
	if err != nil {
		return "the host's addresses can't be read: " + err.Error()
	}
	if own[a] {
		return "it is an address of the host itself"
	}
	return ""
}

// ranges are those that are nobody's on the internet.
type ranges struct {
	this, reserved     netip.Prefix
	disguises, private []netip.Prefix
}

func newRanges() ranges {
	list := func(texts ...string) (out []netip.Prefix) {
		for _, s := range texts {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	return ranges{
		this: netip.MustParsePrefix("0.0.0.0/8"), reserved: netip.MustParsePrefix("240.0.0.0/4"),
		disguises: list("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96"), private: list("100.64.0.0/10", "192.0.0.0/24"),
	}
}

func inAny(a netip.Addr, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ownFresh is for how long the host's addresses are not looked at again.
const ownFresh = time.Second

// hosts are the addresses of the host. The map must not be changed.
func (g *Gate) hosts() (map[netip.Addr]bool, error) {
	g.mu.Lock()
	own, at := g.own, g.ownAt
	g.mu.Unlock()
	now := time.Now()
	if own != nil && now.Sub(at) < ownFresh {
		return own, nil
	}
	list, err := g.cfg.Own()
	if err != nil {
		return nil, err
	}
	own = map[netip.Addr]bool{}
	for _, a := range list {
		own[a.Unmap().WithZone("")] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own, g.ownAt = own, now
	return own, nil
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
func (g *Gate) refuse(in net.Conn, r Refusal) {
	reset(in)
	g.tell(r)
}

// tell says why something was refused.
func (g *Gate) tell(r Refusal) {
	g.cfg.Metrics.left(g.cfg.Network, "refused")
	g.cfg.Metrics.refused(g.cfg.Network, r.Reason)
	if g.cfg.Refused != nil {
		r.Network, r.Who = g.cfg.Network, g.who(r.Client)
		g.cfg.Refused(r)
		return
	}
	more, ok := g.mayLog()
	if !ok {
		return
	}
	why := r.Why
	if more > 0 {
		why = fmt.Sprintf("%s (and %d that are not shown)", why, more)
	}
	g.event(slog.LevelWarn, "outbound refused", r.Client, passage{to: r.To, name: r.Name}, why)
}

func (g *Gate) who(client netip.Addr) string {
	if g.cfg.Who == nil {
		return ""
	}
	return g.cfg.Who(client)
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

func (g *Gate) event(level slog.Level, what string, client netip.Addr, c passage, why string) {
	if !g.cfg.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("network", g.cfg.Network), slog.String("client", client.String())}
	if who := g.who(client); who != "" {
		attrs = append(attrs, slog.String("who", who))
	}
	attrs = append(attrs, slog.String("to", c.to.String()))
	if c.name != "" {
		attrs = append(attrs, slog.String("name", c.name))
	}
	if why != "" {
		attrs = append(attrs, slog.String("error", why))
	}
	g.cfg.Log.LogAttrs(context.Background(), level, what, attrs...)
}
