package vnet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"lazurite.dev/internal/arrival"
)

// The ports on which names decide.
const (
	portHTTP  = 80
	portHTTPS = 443
)

// guest is a connection that was let through, until it ends.
type guest struct {
	passage
	client netip.Addr
	cut    func() // ends it at once
	free   bool   // it counts for no limit
}

// SetPolicy changes what leaves. Connections that it does not permit end at
// once; there is no moment without a policy.
func (g *Gate) SetPolicy(p *Policy) {
	if p == nil {
		p = open()
	}
	g.mu.Lock()
	g.policy = p
	var cut []*guest
	for v := range g.inside {
		if !p.permits(v.passage) {
			cut = append(cut, v)
		}
	}
	g.mu.Unlock()
	for _, v := range cut {
		v.cut()
		g.event(slog.LevelInfo, "outbound ended: it is not approved any more", v.client, v.passage, "")
	}
}

func (g *Gate) current() *Policy {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.policy
}

// enter counts one more connection, unless there are too many or the policy
// has changed and does not permit it.
func (g *Gate) enter(v *guest) (reason, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case v.free:
		if g.policy.permits(v.passage) {
			g.inside[v] = struct{}{}
			return "", ""
		}
		return ReasonClosed, "what is approved has changed meanwhile"
	case g.all >= maxOpen || g.open[v.client] >= maxOpenOf:
		return ReasonLimit, "too many connections are open"
	case !g.policy.permits(v.passage):
		return ReasonClosed, "what is approved has changed meanwhile"
	}
	g.all++
	g.open[v.client]++
	g.inside[v] = struct{}{}
	g.cfg.Metrics.opened(g.cfg.Network, 1)
	return "", ""
}

func (g *Gate) leave(v *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inside, v)
	if v.free {
		return
	}
	g.all--
	if g.open[v.client]--; g.open[v.client] == 0 {
		delete(g.open, v.client)
	}
	g.cfg.Metrics.opened(g.cfg.Network, -1)
}

// one is one connection that wants to leave.
func (g *Gate) one(ctx context.Context, in net.Conn) {
	client := addrPort(in.RemoteAddr()).Addr()
	to, err := g.cfg.Original(in)
	if err != nil {
		g.refuse(in, Refusal{Client: client, To: addrPort(in.LocalAddr()), Reason: ReasonInside, Why: "it is not known where it was going: " + err.Error()})
		return
	}
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	p := g.current()
	no := func(reason, why string) { g.refuse(in, Refusal{Client: client, To: to, Reason: reason, Why: why}) }
	if p.Mode == Closed {
		no(ReasonClosed, closedBecause(p))
		return
	}
	if e, ok := p.Endpoints[to.Addr()]; ok {
		if to.Port() != portHTTP && to.Port() != portHTTPS || g.cfg.Front == nil {
			no(ReasonAddress, "a private endpoint answers on the ports 80 and 443")
			return
		}
		g.hand(in, &guest{passage: passage{to: to, endpoint: e.ID}, client: client}, e.Arrival(client))
		return
	}
	if slices.ContainsFunc(p.Inside, func(r netip.Prefix) bool { return r.Contains(to.Addr()) }) {
		no(ReasonInside, "it is an address of the virtual network at which no private endpoint is")
		return
	}
	if p.Mode == Private {
		no(ReasonClosed, "nothing leaves this subnet but to private endpoints")
		return
	}
	if p.Mode != Approved {
		g.direct(ctx, in, client, to, p.Mode == Internet)
		return
	}
	g.approved(ctx, p, in, client, to)
}

func closedBecause(p *Policy) string {
	if p.Why != "" {
		return p.Why
	}
	return "nothing leaves this network now"
}

// approved goes on with a connection of a network out of which only what is
// approved leads.
func (g *Gate) approved(ctx context.Context, p *Policy, in net.Conn, client netip.Addr, to netip.AddrPort) {
	no := func(reason, why string) { g.refuse(in, Refusal{Client: client, To: to, Reason: reason, Why: why}) }
	if why := g.forbidden(to, true); why != "" {
		if to.Addr().IsPrivate() {
			why += "; a resource that is private is reached by an outbound rule of the type private_endpoint"
		}
		no(ReasonInside, why)
		return
	}
	_, denied, ok := p.address(to)
	switch {
	case denied != "":
		no(ReasonDenied, fmt.Sprintf("the rule %s forbids it", denied))
	case ok:
		g.direct(ctx, in, client, to, true)
	case to.Port() == portHTTPS, to.Port() == portHTTP:
		g.named(ctx, in, client, to)
	default:
		no(ReasonAddress, fmt.Sprintf("no outbound rule of the network has the address %s and port %d, and names are approved on the ports 80 and 443 alone", to.Addr(), to.Port()))
	}
}

// runsOffline is why what is approved is not reached either.
const runsOffline = "Lazurite runs with --offline"

// direct goes on to where a connection was going.
func (g *Gate) direct(ctx context.Context, in net.Conn, client netip.Addr, to netip.AddrPort, public bool) {
	why, reason := g.forbidden(to, public || g.cfg.Public), ReasonInside
	if why == "" && g.cfg.Offline {
		why, reason = runsOffline, ReasonOffline
	}
	if why != "" {
		g.refuse(in, Refusal{Client: client, To: to, Reason: reason, Why: why})
		return
	}
	g.connect(ctx, in, &guest{passage: passage{to: to}, client: client}, []netip.Addr{to.Addr()}, nil)
}

// asked is what a client said before anybody answered.
type asked struct {
	name string
	raw  []byte        // as it came
	more *bufio.Reader // what follows; nil: nothing of it was read
	head *head         // of an HTTP request
}

// listen hears by name where a client wants to go.
func (g *Gate) listen(in net.Conn, client netip.Addr, port uint16) (asked, error) {
	defer g.hears(client, -1)
	if !g.hears(client, 1) {
		return asked{}, errUnsure
	}
	began := time.Now()
	if err := in.SetReadDeadline(began.Add(g.cfg.Say)); err != nil {
		return asked{}, err
	}
	var first [1]byte
	if _, err := io.ReadFull(in, first[:]); err != nil {
		return asked{}, err
	}
	if err := in.SetReadDeadline(began.Add(5 * g.cfg.Say)); err != nil {
		return asked{}, err
	}
	all := io.MultiReader(bytes.NewReader(first[:]), in)
	if port == portHTTPS {
		name, raw, err := readHello(all)
		return asked{name: name, raw: raw}, errors.Join(err, in.SetReadDeadline(time.Time{}))
	}
	r := bufio.NewReaderSize(all, copyBufferLen)
	h, err := readHead(r)
	return asked{name: h.host, raw: h.raw, more: r, head: &h}, errors.Join(err, in.SetReadDeadline(time.Time{}))
}

var errUnsure = errors.New("too many connections have not said yet by which name they want to go")

// hears counts those that are listened to; false: too many, or too many of one client.
func (g *Gate) hears(client netip.Addr, n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unsure += n
	if g.unsureOf[client] += n; g.unsureOf[client] == 0 {
		delete(g.unsureOf, client)
	}
	return g.unsure <= maxUnsure && g.unsureOf[client] <= maxUnsureOf
}

// unheard says why a client's name is not known. ok is false for one that went
// away without a word.
func unheard(err error) (reason, why string, ok bool) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonNoName, "it did not say in time by which name it wants to go", true
	case errors.Is(err, io.EOF):
		return "", "", false
	case errors.Is(err, errUnsure):
		return ReasonLimit, err.Error(), true
	case errors.Is(err, errHidden):
		return ReasonHidden, err.Error(), true
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ReasonNoName, "it ended before it said by which name it wants to go", true
	}
	if _, ok := errors.AsType[net.Error](err); ok { // it broke
		return "", "", false
	}
	return ReasonNoName, err.Error(), true
}

// named lets a connection go by the name that it asks for. Where it was going
// does not count: the name's addresses are asked for here.
func (g *Gate) named(ctx context.Context, in net.Conn, client netip.Addr, to netip.AddrPort) {
	defer context.AfterFunc(ctx, func() { reset(in) })()
	said, err := g.listen(in, client, to.Port())
	if err != nil {
		reason, why, tell := unheard(err)
		if !tell {
			reset(in)
			return
		}
		g.refuse(in, Refusal{Client: client, To: to, Name: said.name, Reason: reason, Why: why})
		return
	}
	no := func(reason, why string) {
		g.refuse(in, Refusal{Client: client, To: to, Name: said.name, Reason: reason, Why: why})
	}
	p := g.current()
	owned := g.owns(said.name)
	if reason, why := p.refuses(said.name, owned, to.Port()); reason != "" {
		no(reason, why)
		return
	}
	v := &guest{passage: passage{to: to, name: said.name, owned: owned}, client: client}
	if owned {
		g.hand(replay(in, said), v, g.arrival(client))
		return
	}
	if g.cfg.Offline {
		no(ReasonOffline, runsOffline)
		return
	}
	list, err := g.addresses(ctx, said.name)
	if err != nil {
		g.failed(in, v, err)
		return
	}
	for _, a := range list {
		if why := g.forbidden(netip.AddrPortFrom(a, to.Port()), true); why != "" {
			no(ReasonPrivate, fmt.Sprintf("the name leads to %s: %s", a, why))
			return
		}
	}
	g.connect(ctx, in, v, list[:min(len(list), maxTried)], &said)
}

// refuses says why a name may not be reached, "" where it may.
func (p *Policy) refuses(name string, owned bool, port uint16) (reason, why string) {
	_, denied, ok := p.host(name, owned, port)
	switch {
	case p.Mode == Closed:
		return ReasonClosed, closedBecause(p)
	case p.Mode != Approved || ok:
		return "", ""
	case denied != "":
		return ReasonDenied, fmt.Sprintf("the rule %s forbids it", denied)
	}
	return ReasonName, fmt.Sprintf("no outbound rule of the network has the name %s", name)
}

func (g *Gate) owns(name string) bool {
	return g.cfg.Owns != nil && g.cfg.Front != nil && g.cfg.Owns(name)
}

func (g *Gate) arrival(client netip.Addr) arrival.Arrival {
	if g.cfg.Arrival == nil {
		return arrival.Arrival{Client: client}
	}
	return g.cfg.Arrival(client)
}

func (g *Gate) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if g.cfg.Resolve == nil {
		return nil, errNoResolvers
	}
	list, err := g.cfg.Resolve(ctx, name)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s has no address", name)
	}
	return list, err
}

func (g *Gate) failed(in net.Conn, v *guest, err error) {
	g.cfg.Metrics.left(g.cfg.Network, "failed")
	g.event(slog.LevelInfo, "outbound failed", v.client, v.passage, err.Error())
	reset(in)
}

// connect joins a connection with the first of the addresses that answers: each
// was judged. said is what was read of it already.
func (g *Gate) connect(ctx context.Context, in net.Conn, v *guest, list []netip.Addr, said *asked) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	v.cut = stop
	if reason, why := g.enter(v); reason != "" {
		g.refuse(in, Refusal{Client: v.client, To: v.to, Name: v.name, Reason: reason, Why: why})
		return
	}
	defer g.leave(v)
	out, err := g.dial(ctx, list, v.to.Port())
	if err != nil {
		if errors.Is(err, errOurselves) {
			g.refuse(in, Refusal{Client: v.client, To: v.to, Name: v.name, Reason: ReasonInside, Why: err.Error()})
			return
		}
		g.failed(in, v, err)
		return
	}
	g.cfg.Metrics.left(g.cfg.Network, "passed")
	g.event(slog.LevelDebug, "outbound passed", v.client, v.passage, "")
	g.join(ctx, in, out, v, said)
}

var errOurselves = errors.New("it is an address of the host itself")

func (g *Gate) dial(ctx context.Context, list []netip.Addr, port uint16) (net.Conn, error) {
	var errs []error
	for i, a := range list {
		limit := dialTime
		if i+1 < len(list) {
			limit = dialTime / maxTried
		}
		try, done := context.WithTimeout(ctx, limit)
		out, err := g.cfg.Dial(try, "tcp", netip.AddrPortFrom(a, port).String())
		done()
		if err == nil && addrPort(out.LocalAddr()).Addr() == a { // a route of the host leads back to itself
			reset(out)
			return nil, errOurselves
		}
		if err == nil {
			return out, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// hand gives a connection to the front door; it counts until that closes it.
func (g *Gate) hand(in net.Conn, v *guest, a arrival.Arrival) {
	v.cut = func() { reset(in) }
	if reason, why := g.enter(v); reason != "" {
		g.refuse(in, Refusal{Client: v.client, To: v.to, Name: v.name, Reason: reason, Why: why})
		return
	}
	g.cfg.Metrics.left(g.cfg.Network, "front door")
	g.cfg.Front(&handed{Conn: in, left: sync.OnceFunc(func() { g.leave(v) })}, v.to.Port(), a)
}

// handed is a connection that is counted until it is closed.
type handed struct {
	net.Conn
	left func()
}

// Close implements net.Conn.
func (h *handed) Close() error {
	h.left()
	return h.Conn.Close()
}

// Admit gives a connection to the network's own front door to take, at once or
// once it said by an approved name where it wants to go. In a Closed network,
// or to another name, it is refused.
func (g *Gate) Admit(ctx context.Context, in net.Conn, port uint16, take func(net.Conn)) {
	p := g.current()
	client, to := addrPort(in.RemoteAddr()).Addr(), addrPort(in.LocalAddr())
	to = netip.AddrPortFrom(to.Addr(), port)
	switch {
	case p.Mode == Closed:
		g.refuse(in, Refusal{Client: client, To: to, Reason: ReasonClosed, Why: closedBecause(p)})
	case p.Mode != Approved, port != portHTTPS: // without TLS the front door has nothing but the pods' identities
		v := &guest{passage: passage{to: to, owned: true}, client: client, cut: func() { reset(in) }, free: true}
		if reason, why := g.enter(v); reason != "" {
			g.refuse(in, Refusal{Client: client, To: to, Reason: reason, Why: why})
			return
		}
		take(&handed{Conn: in, left: sync.OnceFunc(func() { g.leave(v) })})
	default:
		go g.admit(ctx, in, client, to, take)
	}
}

func (g *Gate) admit(ctx context.Context, in net.Conn, client netip.Addr, to netip.AddrPort, take func(net.Conn)) {
	stop := context.AfterFunc(ctx, func() { reset(in) })
	defer stop()
	said, err := g.listen(in, client, to.Port())
	reason, why := "", ""
	if err != nil {
		var tell bool
		if reason, why, tell = unheard(err); !tell {
			reset(in)
			return
		}
	} else {
		reason, why = g.current().refuses(said.name, true, to.Port())
	}
	v := &guest{passage: passage{to: to, name: said.name, owned: true}, client: client, cut: func() { reset(in) }}
	if reason == "" {
		reason, why = g.enter(v)
	}
	if reason != "" {
		g.refuse(in, Refusal{Client: client, To: to, Name: said.name, Reason: reason, Why: why})
		return
	}
	take(&handed{Conn: replay(in, said), left: sync.OnceFunc(func() { g.leave(v) })})
}

// replayed is a connection of which something was read already.
type replayed struct {
	net.Conn
	r io.Reader
}

// Read implements net.Conn.
func (c *replayed) Read(b []byte) (int, error) { return c.r.Read(b) }

// SetLinger is that of the connection.
func (c *replayed) SetLinger(sec int) error {
	if t, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return t.SetLinger(sec)
	}
	return nil
}

func replay(in net.Conn, said asked) net.Conn {
	rest := io.Reader(in)
	if said.more != nil {
		rest = said.more
	}
	return &replayed{Conn: in, r: io.MultiReader(bytes.NewReader(said.raw), rest)}
}
