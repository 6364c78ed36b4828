package vnet

import (
	"context"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Zone is a private zone that a network is linked to. All names are in lower case.
type Zone struct {
	Name    string   // without a dot at the end
	Records []dns.RR // the SOA among them
}

// Names is what a network's resolver knows beside the owned names: it does not
// change once it is made.
type Names struct {
	zones   map[string]*zoneIndex
	aliases map[string]string
}

// AddressZone is a zone of one name, given in lower case, with one address.
func AddressZone(name string, a netip.Addr) Zone {
	hdr := dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ownTTL}
	return Zone{Name: name, Records: []dns.RR{&dns.A{Hdr: hdr, A: a.AsSlice()}}}
}

type zoneIndex struct {
	apex  string
	soa   dns.RR
	names map[string][]dns.RR // by owner
	above map[string]bool     // names that have names below them: they exist, empty
}

// maxChain is how many CNAMEs are followed.
const maxChain = 8

// NewNames indexes zones. aliases are public names of resources and the private
// names that they are other names for, without dots at the end.
func NewNames(zones []Zone, aliases map[string]string) *Names {
	n := &Names{zones: map[string]*zoneIndex{}, aliases: aliases}
	for _, z := range zones {
		apex := dns.Fqdn(strings.ToLower(z.Name))
		x := &zoneIndex{apex: apex, soa: soa(apex, ownTTL), names: map[string][]dns.RR{}, above: map[string]bool{apex: true}}
		for _, rr := range z.Records {
			owner := strings.ToLower(rr.Header().Name)
			if rr.Header().Rrtype == dns.TypeSOA {
				x.soa = rr
			}
			x.names[owner] = append(x.names[owner], rr)
			for up := owner; up != apex && dns.IsSubDomain(apex, up); {
				i, end := dns.NextLabel(up, 0)
				if end {
					break
				}
				up = up[i:]
				x.above[up] = true
			}
		}
		n.zones[apex] = x
	}
	return n
}

// zone is the innermost zone that has name.
func (n *Names) zone(name string) *zoneIndex {
	for i, end := 0, false; !end; i, end = dns.NextLabel(name, i) {
		if z := n.zones[name[i:]]; z != nil {
			return z
		}
	}
	return nil
}

// alias is the private name behind a public one, "" where there is none.
func (n *Names) alias(name string) string {
	if a := n.aliases[strings.TrimSuffix(name, ".")]; a != "" {
		return dns.Fqdn(a)
	}
	return ""
}

// private reports whether name is the private name of a resource.
func (n *Names) private(name string) bool {
	for _, a := range n.aliases {
		if dns.Fqdn(a) == name {
			return true
		}
	}
	return false
}

// find gives the records of a name in the zone; exists is false where there is
// no such name. A star stands for one or more labels. Source: RFC 4592.
func (z *zoneIndex) find(name string) (rrs []dns.RR, exists bool) {
	if rrs := z.names[name]; rrs != nil {
		return rrs, true
	}
	if z.above[name] {
		return nil, true
	}
	for up := name; up != z.apex; {
		i, end := dns.NextLabel(up, 0)
		if end {
			break
		}
		up = up[i:]
		if star := z.names["*."+up]; star != nil {
			for _, rr := range star {
				c := dns.Copy(rr)
				c.Header().Name = name
				rrs = append(rrs, c)
			}
			return rrs, true
		}
		if z.names[up] != nil || z.above[up] { // the closest encloser has no star
			break
		}
	}
	return nil, false
}

// found is what a resolver makes of a question.
type found struct {
	answer []dns.RR
	ns     []dns.RR
	rcode  int
	more   string // the name at which the answer goes on outside of the zones; "" ends it
}

// look answers a question out of the zones, beginning at name. ok is false
// where no zone has the name.
func (n *Names) look(name string, typ uint16) (f found, ok bool) {
	for range maxChain {
		z := n.zone(name)
		if z == nil {
			f.more = name
			return f, ok
		}
		ok = true
		rrs, exists := z.find(name)
		if !exists {
			f.rcode, f.ns = dns.RcodeNameError, []dns.RR{z.soa}
			return f, true
		}
		next := ""
		count := len(f.answer)
		for _, rr := range rrs {
			t := rr.Header().Rrtype
			if t == typ || typ == dns.TypeANY {
				f.answer = append(f.answer, rr)
			} else if c, is := rr.(*dns.CNAME); is {
				f.answer = append(f.answer, rr)
				next = strings.ToLower(c.Target)
			}
		}
		if next == "" {
			if len(f.answer) == count {
				f.ns = []dns.RR{z.soa}
			}
			return f, true
		}
		name = next
	}
	f.rcode = dns.RcodeServerFailure
	return f, true
}

// Answer answers a question as the resolver does that came in a datagram.
func (r *Resolver) Answer(ctx context.Context, q *dns.Msg) *dns.Msg {
	if m := r.answer(q, netip.Addr{}); m != nil {
		return m
	}
	return r.forward(ctx, q).m
}
