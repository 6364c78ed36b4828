package vnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// How long others may take. Who asks us gives up after two seconds (CoreDNS) or
// five (the C library).
const (
	askNext  = 600 * time.Millisecond // then the next is asked beside the one before
	askTotal = 4 * time.Second
	askTurns = 2 // times that each is asked
	maxAsked = 3 // resolvers, as many as the C library uses
)

var (
	errNoResolvers = errors.New("the host has no resolvers")
	errOtherAnswer = errors.New("the answer is for another question")
)

// ask gives the first good answer of the host's resolvers; one that is no
// answer (SERVFAIL, REFUSED) when there is nothing better.
func (r *Resolver) ask(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	servers, err := r.cfg.Ask()
	if err != nil {
		return nil, err
	}
	if len(servers) == 0 {
		return nil, errNoResolvers
	}
	ctx, cancel := context.WithTimeout(ctx, askTotal)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	type outcome struct {
		m   *dns.Msg
		err error
	}
	turns := len(servers) * askTurns
	results := make(chan outcome, turns)
	next := time.NewTimer(0)
	defer next.Stop()
	var poor *dns.Msg
	var errs []error
	for asked, heard := 0, 0; heard < turns; {
		select {
		case <-next.C:
			if asked == turns {
				continue
			}
			server := servers[asked%len(servers)]
			asked++
			next.Reset(askNext)
			wg.Go(func() {
				m, err := exchange(ctx, question(q), server)
				if err != nil {
					err = fmt.Errorf("%s: %w", server, err)
				}
				results <- outcome{m, err}
			})
		case o := <-results:
			heard++
			switch {
			case o.err != nil:
				errs = append(errs, o.err)
			case o.m.Rcode == dns.RcodeSuccess || o.m.Rcode == dns.RcodeNameError:
				return restore(o.m, q), nil
			default:
				poor = o.m
			}
			next.Reset(0) // no need to wait for the next turn
		case <-ctx.Done():
			heard = turns
		}
	}
	if poor != nil {
		return restore(poor, q), nil
	}
	return nil, errors.Join(append(errs, ctx.Err())...)
}

// question is q as we ask it ourselves: its options are between the asker and us.
func question(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.Id = dns.Id()
	m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = q.RecursionDesired, q.CheckingDisabled, q.AuthenticatedData
	m.Question = q.Question
	opt := q.IsEdns0()
	m.SetEdns0(maxDatagram, opt != nil && opt.Do())
	return m
}

// restore makes m the answer to q.
func restore(m, q *dns.Msg) *dns.Msg {
	m.Id, m.Authoritative, m.RecursionAvailable = q.Id, false, true
	m.Question = q.Question // in the asker's letter case
	extra := m.Extra[:0]
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			extra = append(extra, rr)
		}
	}
	m.Extra = extra
	m.Rcode &= 0xF // what is beyond is in the option that was taken away
	return m
}

// exchange asks one resolver, over TCP when the answer does not fit a datagram.
func exchange(ctx context.Context, q *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	raw, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("writing the question: %w", err)
	}
	m, err := overUDP(ctx, q, raw, server)
	if err == nil && m.Truncated {
		if whole, err := overTCP(ctx, q, raw, server); err == nil {
			return whole, nil
		} // else the part that came
	}
	return m, err
}

func dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, func(), error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, nil, err
	}
	stop := closing(ctx, conn)
	return conn, func() {
		stop()
		_ = conn.Close() // nothing is left to send
	}, nil
}

func overUDP(ctx context.Context, q *dns.Msg, raw []byte, server netip.AddrPort) (*dns.Msg, error) {
	conn, done, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, err := conn.Write(raw); err != nil {
		return nil, err
	}
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, timeout(ctx, err)
		}
		if m, err := fits(buf[:n], q); err == nil {
			return m, nil
		} // else somebody guesses: the real answer may still come
	}
}

func overTCP(ctx context.Context, q *dns.Msg, raw []byte, server netip.AddrPort) (*dns.Msg, error) {
	conn, done, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)); err != nil {
		return nil, timeout(ctx, err)
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, timeout(ctx, err)
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, timeout(ctx, err)
	}
	return fits(buf, q)
}

// timeout is ctx's error where that is why a connection was closed.
func timeout(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// fits reads an answer and makes sure that it is one to q. Source: RFC 5452 section 9.1.
func fits(raw []byte, q *dns.Msg) (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		return nil, err
	}
	if !m.Response || m.Id != q.Id || len(m.Question) > 1 {
		return nil, errOtherAnswer
	}
	if len(m.Question) == 0 { // some refuse without repeating it
		if m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError {
			return nil, errOtherAnswer
		}
		return m, nil
	}
	a, b := m.Question[0], q.Question[0]
	if a.Qtype != b.Qtype || a.Qclass != b.Qclass || !strings.EqualFold(a.Name, b.Name) {
		return nil, errOtherAnswer
	}
	return m, nil
}

// hostResolvers reads a resolv.conf again whenever it has changed.
type hostResolvers struct {
	path string
	base netip.Prefix // addresses that are ourselves

	mu      sync.Mutex // guards the rest
	changed time.Time
	size    int64
	servers []netip.AddrPort
}

func (h *hostResolvers) list() ([]netip.AddrPort, error) {
	fi, err := os.Stat(h.path)
	if err != nil {
		return nil, fmt.Errorf("looking for the host's resolvers: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.servers != nil && fi.ModTime().Equal(h.changed) && fi.Size() == h.size {
		return h.servers, nil
	}
	conf, err := dns.ClientConfigFromFile(h.path)
	if err != nil {
		return nil, fmt.Errorf("reading the host's resolvers: %w", err)
	}
	port, err := strconv.ParseUint(conf.Port, 10, 16)
	if err != nil {
		port = 53
	}
	servers := []netip.AddrPort{}
	for _, s := range conf.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil || h.base.IsValid() && h.base.Contains(a.Unmap()) {
			continue // the C library passes over it too; or we would ask ourselves
		}
		if servers = append(servers, netip.AddrPortFrom(a, uint16(port))); len(servers) == maxAsked {
			break
		}
	}
	h.changed, h.size, h.servers = fi.ModTime(), fi.Size(), servers
	return servers, nil
}
