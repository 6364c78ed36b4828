package vnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// The limits of a Resolver.
const (
	maxAsking     = 256              // questions that wait for other resolvers
	maxStreams    = 64               // TCP connections
	streamIdle    = 10 * time.Second // RFC 7766 section 6.2.3: on the order of a few seconds
	ownTTL        = 30               // seconds; the address of a network's front door does not change
	refusedTTL    = 5                // seconds for which "no" may be kept where everything is refused
	maxDatagram   = 1232             // bytes that pass everywhere: DNS flag day 2020
	plainDatagram = 512              // without EDNS, RFC 1035 section 2.3.4
	warnEvery     = 10 * time.Second
)

// ResolverConfig says what a Resolver answers.
type ResolverConfig struct {
	Network string                 // name, for log and metrics
	Owns    func(host string) bool // whether the front door answers for a name
	Front   netip.Addr             // where: the IPv4 address of the front door
	Base    netip.Prefix           // addresses of all networks; nobody outside is asked for names of those
	Offline bool                   // nobody is asked: what is not owned does not exist
	Names   func() *Names          // private zones and names, as they are now; nil: none
	Log     *slog.Logger
	Metrics *Metrics // nil counts nothing

	// Policy says which names are answered until another one is set. Nil: the
	// mode Open. Refused is told of each question that it refuses, by clients
	// that Who names, and logs it; it must not wait. Nil: the resolver logs them.
	Policy  *Policy
	Refused func(Refusal)
	Who     func(netip.Addr) string

	// Ask are the resolvers of names that are not owned, best first. Nil: those
	// of /etc/resolv.conf, as it is at the time.
	Ask func() ([]netip.AddrPort, error)
}

// Resolver answers the names' questions of one network. Questions for an owned
// name are answered whether or not there is such a resource: it is the front
// door that says what is wrong.
type Resolver struct {
	cfg     ResolverConfig
	asking  chan struct{}
	streams chan struct{}
	policy  atomic.Pointer[Policy]
	looked  lookups

	mu     sync.Mutex // guards the rest
	warned time.Time
	unsaid int // warnings left out since

	second   time.Time // in which so many names were refused
	refusals int
}

// NewResolver makes a Resolver.
func NewResolver(cfg ResolverConfig) *Resolver {
	if cfg.Ask == nil {
		cfg.Ask = (&hostResolvers{path: "/etc/resolv.conf", base: cfg.Base}).list
	}
	r := &Resolver{cfg: cfg, asking: make(chan struct{}, maxAsking), streams: make(chan struct{}, maxStreams)}
	r.SetPolicy(cfg.Policy)
	return r
}

// ServePacket answers questions that come in at conn until ctx ends, and closes it.
func (r *Resolver) ServePacket(ctx context.Context, conn net.PacketConn) error {
	defer closing(ctx, conn)()
	defer conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || isRefusal(err) {
				continue
			}
			return fmt.Errorf("reading questions of %s: %w", r.cfg.Network, err)
		}
		q, now := r.parse(buf[:n], addrPort(from).Addr(), true)
		if q == nil {
			r.send(conn, from, now)
			continue
		}
		select {
		case r.asking <- struct{}{}:
		default:
			r.send(conn, from, r.tooMany(q).pack(true))
			continue
		}
		wg.Go(func() {
			defer func() { <-r.asking }()
			r.send(conn, from, r.forward(ctx, q).pack(true))
		})
	}
}

// isRefusal reports an ICMP error about an earlier answer: its asker is gone.
func isRefusal(err error) bool { return strings.Contains(err.Error(), "connection refused") }

func (r *Resolver) send(conn net.PacketConn, to net.Addr, raw []byte) {
	if raw != nil {
		_, _ = conn.WriteTo(raw, to) // whoever gets no answer asks again
	}
}

// ServeStream answers questions over the connections of ln until ctx ends, and closes it.
func (r *Resolver) ServeStream(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer closing(ctx, ln)()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before the wait: it ends the connections
	return accept(ctx, ln, func(conn net.Conn) {
		select {
		case r.streams <- struct{}{}:
		default:
			_ = conn.Close() // it asks again
			return
		}
		wg.Go(func() {
			defer func() { <-r.streams }()
			r.stream(ctx, conn)
		})
	})
}

// stream answers the questions of one connection, one after another.
// Source: RFC 1035 section 4.2.2, RFC 7766.
func (r *Resolver) stream(ctx context.Context, conn net.Conn) {
	defer closing(ctx, conn)()
	defer conn.Close()
	var size [2]byte
	buf := make([]byte, dns.MaxMsgSize)
	for {
		if conn.SetDeadline(time.Now().Add(streamIdle)) != nil {
			return
		}
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		raw := buf[:binary.BigEndian.Uint16(size[:])]
		if _, err := io.ReadFull(conn, raw); err != nil {
			return
		}
		q, out := r.parse(raw, addrPort(conn.RemoteAddr()).Addr(), false)
		if q != nil {
			select {
			case r.asking <- struct{}{}:
				out = r.forward(ctx, q).pack(false)
				<-r.asking
			default:
				out = r.tooMany(q).pack(false)
			}
		}
		if out == nil || len(out) > dns.MaxMsgSize-1 {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}

// reply is an answer and the question that it is for.
type reply struct {
	q, m *dns.Msg
}

// pack is the answer as it is sent, cut to what the asker can take when it
// came in one datagram. Nil when it can't be written.
func (a reply) pack(datagram bool) []byte {
	a.m.Compress = true
	if opt := a.q.IsEdns0(); opt != nil && a.m.IsEdns0() == nil {
		a.m.SetEdns0(maxDatagram, opt.Do())
	}
	if datagram {
		size := plainDatagram
		if opt := a.q.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), plainDatagram), maxDatagram)
		}
		a.m.Truncate(size)
	}
	raw, err := a.m.Pack()
	if err != nil {
		m := new(dns.Msg)
		m.SetRcode(a.q, dns.RcodeServerFailure)
		if raw, err = m.Pack(); err != nil {
			return nil
		}
	}
	return raw
}

// parse reads a question. What can be answered without asking anybody is
// answered; else the question is given back. Both are nil for what deserves no
// answer.
func (r *Resolver) parse(raw []byte, client netip.Addr, datagram bool) (*dns.Msg, []byte) {
	q := new(dns.Msg)
	if err := q.Unpack(raw); err != nil {
		return nil, r.malformed(raw)
	}
	if q.Response {
		return nil, nil // an answer is not to be answered
	}
	if m := r.answer(q, client); m != nil {
		return nil, reply{q, m}.pack(datagram)
	}
	return q, nil
}

// malformed answers what can't be read, as far as its header can.
func (r *Resolver) malformed(raw []byte) []byte {
	const header = 12
	if len(raw) < header || raw[2]&0x80 != 0 {
		return nil
	}
	r.cfg.Metrics.query(r.cfg.Network, "malformed")
	m := new(dns.Msg)
	m.Id, m.Response, m.Rcode = binary.BigEndian.Uint16(raw), true, dns.RcodeFormatError
	m.Opcode = int(raw[2]>>3) & 0xF
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// answer answers what needs nobody else; nil for other questions.
func (r *Resolver) answer(q *dns.Msg, client netip.Addr) *dns.Msg {
	m := new(dns.Msg)
	done := func(rcode int, kind string) *dns.Msg {
		m.SetRcode(q, rcode)
		m.RecursionAvailable = true
		r.cfg.Metrics.query(r.cfg.Network, kind)
		return m
	}
	if q.Opcode != dns.OpcodeQuery {
		return done(dns.RcodeNotImplemented, "refused")
	}
	if len(q.Question) != 1 {
		return done(dns.RcodeFormatError, "malformed")
	}
	if opt := q.IsEdns0(); opt != nil && opt.Version() != 0 {
		m = done(dns.RcodeBadVers, "malformed") // RFC 6891 section 6.1.3
		m.SetEdns0(maxDatagram, false)
		m.IsEdns0().SetExtendedRcode(dns.RcodeBadVers)
		return m
	}
	one := q.Question[0]
	if one.Qclass != dns.ClassINET || one.Qtype == dns.TypeAXFR || one.Qtype == dns.TypeIXFR {
		return done(dns.RcodeRefused, "refused")
	}
	p := r.policy.Load()
	if p.Mode == Closed {
		done(dns.RcodeServerFailure, "refused")
		r.because(q, m, dns.ExtendedErrorCodeNotReady, closedBecause(p))
		return m
	}
	switch f := r.chain(q); {
	case f.answer != nil || f.ns != nil || f.rcode != 0:
		if f.more != "" {
			return nil // goes on at the others'
		}
		done(f.rcode, "private")
		m.Authoritative, m.Answer, m.Ns = true, f.answer, f.ns
		return m
	case p.Mode == Approved && !r.inside(one.Name) && !r.approved(p, one.Name):
		done(dns.RcodeNameError, "refused")
		m.Ns = []dns.RR{soa(".", refusedTTL)}
		r.because(q, m, dns.ExtendedErrorCodeProhibited, r.refused(p, one.Name, client))
		return m
	case r.cfg.Owns(strings.TrimSuffix(one.Name, ".")):
		done(dns.RcodeSuccess, "owned")
		m.Authoritative = true
		if one.Qtype == dns.TypeA || one.Qtype == dns.TypeANY {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: one.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ownTTL}, A: r.cfg.Front.AsSlice()}}
		} else {
			m.Ns = []dns.RR{soa(one.Name, ownTTL)}
		}
		return m
	case r.inside(one.Name):
		done(dns.RcodeNameError, "owned")
		m.Ns = []dns.RR{soa(one.Name, ownTTL)}
		return m
	case p.Mode == Approved && one.Qtype != dns.TypeA: // the gate asks for addresses itself; nothing else need leave
		done(dns.RcodeSuccess, "empty")
		m.Ns = []dns.RR{soa(one.Name, refusedTTL)}
		return m
	case r.cfg.Offline:
		done(dns.RcodeNameError, "offline")
		m.Ns = []dns.RR{soa(".", refusedTTL)}
		r.because(q, m, dns.ExtendedErrorCodeBlocked, "Lazurite runs with --offline")
		return m
	}
	return nil
}

// chain answers out of private zones, and goes through the private name that a
// public one is another name for. Its more is a name that others know; it is ""
// where the answer is whole, and nothing is set where no private name is asked for.
func (r *Resolver) chain(q *dns.Msg) found {
	names := r.cfg.Names
	if p := r.policy.Load(); p.Names != nil {
		names = p.Names
	}
	if names == nil {
		return found{}
	}
	n := names()
	if n == nil {
		return found{}
	}
	one := q.Question[0]
	name := strings.ToLower(one.Name)
	f, ok := n.look(name, one.Qtype)
	if !ok {
		private := n.alias(name)
		if private == "" && !n.private(name) {
			return found{}
		}
		if private != "" {
			f.answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: one.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ownTTL}, Target: private}}
			name = private
			if one.Qtype == dns.TypeCNAME {
				return f
			}
			if g, ok := n.look(name, one.Qtype); ok {
				f.answer, f.ns, f.rcode, f.more = append(f.answer, g.answer...), g.ns, g.rcode, g.more
				return r.ours(f, one.Qtype)
			}
		}
		f.more = name
		return r.front(f, one.Qtype)
	}
	return r.ours(f, one.Qtype)
}

// ours ends a chain at the front door where it came to an owned name.
func (r *Resolver) ours(f found, typ uint16) found {
	if f.more != "" && r.cfg.Owns(strings.TrimSuffix(f.more, ".")) {
		return r.front(f, typ)
	}
	if f.more != "" && r.cfg.Offline {
		f.more, f.rcode, f.ns = "", dns.RcodeNameError, []dns.RR{soa(".", refusedTTL)}
	}
	return f
}

// front ends a chain at the front door.
func (r *Resolver) front(f found, typ uint16) found {
	if typ == dns.TypeA || typ == dns.TypeANY {
		f.answer = append(f.answer, &dns.A{Hdr: dns.RR_Header{Name: f.more, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ownTTL}, A: r.cfg.Front.AsSlice()})
	} else {
		f.ns = []dns.RR{soa(f.more, ownTTL)}
	}
	f.more = ""
	return f
}

// because adds the reason for who asked with EDNS. Source: RFC 8914.
func (r *Resolver) because(q, m *dns.Msg, code uint16, text string) {
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(maxDatagram, opt.Do())
		o := m.IsEdns0()
		o.Option = append(o.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
	}
}

// soa says for how long a "no" may be kept. Source: RFC 2308 section 5.
func soa(zone string, ttl uint32) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "lazurite.invalid.", Mbox: "nobody.invalid.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}
}

// inside reports whether name asks for the name of an address in one of our networks.
func (r *Resolver) inside(name string) bool {
	rest, ok := strings.CutSuffix(strings.ToLower(name), ".in-addr.arpa.")
	if !ok || !r.cfg.Base.IsValid() {
		return false
	}
	f := strings.Split(rest, ".")
	if len(f) != 4 {
		return false
	}
	a, err := netip.ParseAddr(f[3] + "." + f[2] + "." + f[1] + "." + f[0])
	return err == nil && r.cfg.Base.Contains(a)
}

func (r *Resolver) tooMany(q *dns.Msg) reply {
	r.warn("too many questions wait for other resolvers", q, fmt.Errorf("%d of %d", maxAsking, maxAsking))
	return r.failure(q, "Lazurite asks for too many names at once")
}

func (r *Resolver) failure(q *dns.Msg, text string) reply {
	m := new(dns.Msg)
	m.SetRcode(q, dns.RcodeServerFailure)
	m.RecursionAvailable = true
	r.because(q, m, dns.ExtendedErrorCodeNetworkError, text)
	r.cfg.Metrics.query(r.cfg.Network, "failed")
	return reply{q, m}
}

// forward asks the others.
func (r *Resolver) forward(ctx context.Context, q *dns.Msg) reply {
	asked, before := q, []dns.RR(nil)
	if f := r.chain(q); f.more != "" { // a private name that stands for one that others know
		before = f.answer
		asked = q.Copy()
		asked.Question[0].Name = f.more
	}
	p := r.policy.Load()
	if p.Mode == Closed || p.Mode == Approved && !r.approved(p, asked.Question[0].Name) { // it changed meanwhile, or a private name leads there
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeNameError)
		m.RecursionAvailable = true
		r.cfg.Metrics.query(r.cfg.Network, "refused")
		return reply{q, m}
	}
	approved := p.Mode == Approved
	if approved {
		asked = plainly(asked)
	}
	m, err := r.ask(ctx, asked)
	if err == nil && approved {
		addressesAlone(m)
		m.Id, m.Question = q.Id, q.Question
	}
	if err == nil && before != nil {
		m.Answer, m.Question, m.Authoritative = append(before, m.Answer...), q.Question, false
	}
	if err != nil {
		if ctx.Err() == nil {
			r.warn("no resolver answered", q, err)
		}
		return r.failure(q, "none of the host's resolvers answered")
	}
	r.cfg.Metrics.query(r.cfg.Network, "asked")
	return reply{q, m}
}

// warn logs what went wrong with a question, and every ten seconds at most:
// programs ask again and again.
func (r *Resolver) warn(what string, q *dns.Msg, err error) {
	r.mu.Lock()
	if time.Since(r.warned) < warnEvery {
		r.unsaid++
		r.mu.Unlock()
		return
	}
	unsaid := r.unsaid
	r.warned, r.unsaid = time.Now(), 0
	r.mu.Unlock()
	attrs := []any{
		slog.String("network", r.cfg.Network), slog.String("name", q.Question[0].Name),
		slog.String("type", dns.TypeToString[q.Question[0].Qtype]), slog.String("error", err.Error()),
	}
	if unsaid > 0 {
		attrs = append(attrs, slog.Int("more", unsaid))
	}
	r.cfg.Log.Warn(what, attrs...)
}
