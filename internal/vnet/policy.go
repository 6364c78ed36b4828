package vnet

import (
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/arrival"
)

// Mode is how much a Policy lets out.
type Mode int

// The modes. The zero Mode lets nothing out.
const (
	Closed   Mode = iota // nothing, and no name is answered
	Approved             // what a rule says, and the endpoints
	Private              // the endpoints, and names
	Internet             // whatever is public, and the endpoints
	Open                 // whatever an unprivileged program of the host reaches, and the endpoints
)

// Policy says what leaves a network. It does not change once it is given to a
// [Gate] or a [Resolver]: another one takes its place.
type Policy struct {
	Mode  Mode
	Rules []Rule // of the mode Approved
	// Endpoints are addresses at which the front door takes connections as
	// private endpoints.
	Endpoints map[netip.Addr]Endpoint
	// Inside are ranges of which nothing is reached but the endpoints.
	Inside []netip.Prefix
	// Names are private names, those of the endpoints among them; nil: those of
	// the resolver's configuration.
	Names func() *Names
	// Why says in a sentence why a Closed network is; "" leaves it at that.
	Why string
}

// Rule lets connections out, by name or by address.
type Rule struct {
	Name     string   // for messages
	Hosts    []string // names in lower case; "*.x" is whatever is below x. On the ports 80 and 443
	Prefixes []netip.Prefix
	Ports    []Ports // none: all; of Hosts those of 80 and 443 that are in it
	Owned    bool    // Hosts count only for names that the front door answers for
	Deny     bool    // refused, whatever other rules say
}

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// Endpoint is a private endpoint.
type Endpoint struct {
	ID string
	// Arrival is what the front door learns of a connection from a client.
	Arrival func(client netip.Addr) arrival.Arrival
}

func (r Rule) port(p uint16) bool {
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(x Ports) bool { return x.First <= p && p <= x.Last })
}

// MatchHost reports whether a name, in lower case without a dot at the end, fits
// a pattern: itself, or "*.x" for whatever is below x.
func MatchHost(pattern, name string) bool {
	if below, ok := strings.CutPrefix(pattern, "*"); ok && strings.HasPrefix(below, ".") {
		return len(name) > len(below) && strings.HasSuffix(name, below)
	}
	return pattern == name
}

// host finds the rule by which a name may be reached at a port; 0 is any port
// of names. denied is the rule that forbids it.
func (p *Policy) host(name string, owned bool, port uint16) (rule, denied string, ok bool) {
	for _, r := range p.Rules {
		if r.Owned && !owned || !slices.ContainsFunc(r.Hosts, func(h string) bool { return MatchHost(h, name) }) {
			continue
		}
		if port == 0 && !r.port(80) && !r.port(443) || port != 0 && !r.port(port) {
			continue
		}
		if r.Deny {
			if port == 0 { // the other port may be open
				continue
			}
			return "", r.Name, false
		}
		if !ok {
			rule, ok = r.Name, true
		}
	}
	return rule, "", ok
}

// address finds the rule by which an address may be reached.
func (p *Policy) address(to netip.AddrPort) (rule, denied string, ok bool) {
	for _, r := range p.Rules {
		if !r.port(to.Port()) || !slices.ContainsFunc(r.Prefixes, func(x netip.Prefix) bool { return x.Contains(to.Addr()) }) {
			continue
		}
		if r.Deny {
			return "", r.Name, false
		}
		if !ok {
			rule, ok = r.Name, true
		}
	}
	return rule, "", ok
}

// passage is a connection as policies judge it.
type passage struct {
	to       netip.AddrPort // where it was going
	name     string         // that it asked for, where names decide
	owned    bool           // the front door answers for the name
	endpoint string         // id of the private endpoint that it came to
}

// permits reports whether a connection may stay open.
func (p *Policy) permits(c passage) bool {
	switch {
	case p.Mode == Closed:
		return false
	case c.endpoint != "":
		return p.Endpoints[c.to.Addr()].ID == c.endpoint
	case c.owned && c.name == "" && p.Mode == Approved: // without TLS the front door has nothing but the pods' identities
		return c.to.Port() == portHTTP
	case c.name != "" && p.Mode == Approved:
		_, _, ok := p.host(c.name, c.owned, c.to.Port())
		return ok
	case p.Mode != Approved:
		return p.Mode != Private || c.owned
	}
	_, _, ok := p.address(c.to)
	return ok
}

// The reasons of refusals, as metrics count them.
const (
	ReasonClosed  = "closed"  // nothing leaves this network now
	ReasonInside  = "inside"  // a private, local or other network's address
	ReasonAddress = "address" // no rule has the address and port
	ReasonName    = "name"    // no rule has the name
	ReasonNoName  = "no-name" // neither SNI nor Host, or one that can't be read
	ReasonHidden  = "hidden"  // an encrypted SNI
	ReasonPrivate = "private" // an approved name that leads to an address inside
	ReasonDenied  = "denied"  // a rule forbids it
	ReasonChanged = "changed" // a kept connection went on to another name
	ReasonLimit   = "limit"   // too many connections
	ReasonOffline = "offline"
)

// Refusal is one connection or question that was refused.
type Refusal struct {
	Network  string
	Client   netip.Addr
	Who      string         // the client, as GateConfig.Who names it
	To       netip.AddrPort // where the connection was going; of a question the zero one
	Name     string         // that was asked for, "" where none is known
	Reason   string
	Why      string // a sentence
	Question bool   // it was a question for the name
}

// open is the policy of a network that has none.
func open() *Policy { return &Policy{Mode: Open} }
