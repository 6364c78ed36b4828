package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Networks makes virtual networks: each is a network namespace of its own, out
// of which nothing leads but what the server takes at the sockets that it asks
// for, and the links to the networks that it is joined with.
type Networks interface {
	// ApplyNetwork makes the network as n says, or changes it so. It is
	// idempotent by UID. A peer counts once its own specification names this one.
	ApplyNetwork(ctx context.Context, n Network) error
	// RemoveNetwork takes the network away, and ends the programs in it. Gone
	// already is no error.
	RemoveNetwork(ctx context.Context, uid string) error
	// Networks is the state of all, by UID.
	Networks(ctx context.Context) ([]NetworkStatus, error)
	// ListenNetwork opens a socket inside the network, at the platform's address
	// or at an endpoint's: see NetworkPort. The file is the caller's to close.
	ListenNetwork(ctx context.Context, uid, protocol string, at netip.AddrPort) (*os.File, error)
	// Join makes a place in a subnet for a program, until the Place is closed.
	Join(ctx context.Context, uid, subnet string) (*Place, error)
}

// Platform is the address of resolver, front door and way out in every network,
// as in Azure's. Source: "What is IP address 168.63.129.16?".
func Platform() netip.Addr { return netip.AddrFrom4([4]byte{168, 63, 129, 16}) }

// NetworkPort reports whether ListenNetwork opens a port: at the platform's
// address, or at an endpoint's.
func NetworkPort(protocol string, port int, platform bool) bool {
	if platform {
		return ListenPort(protocol, port)
	}
	return protocol == "tcp" && (port == PortHTTP || port == PortHTTPS)
}

// Network is what a virtual network should be. All ranges are IPv4.
type Network struct {
	UID, Name, ResourceID string
	Space                 []netip.Prefix
	Subnets               []Subnet
	Endpoints             []netip.Addr // of private endpoints
	Peers                 []Peer
}

// Subnet is a part of a network.
type Subnet struct {
	Name   string
	Ranges []netip.Prefix
	Closed bool // nothing leaves it to the internet
}

// Peer is a network that a network is joined with.
type Peer struct {
	UID   string
	Space []netip.Prefix
}

// NetworkStatus is the state of a network.
type NetworkStatus struct {
	Network
	Err     string // why the last change failed; "" when it did not
	Space   uint64 // as ClusterStatus.Space
	Joined  []string
	Members []Member
	Dropped map[string]uint64 // packets that were refused since the rules were last set, by why: "forged", "inward", "between"
}

// Member is a program's place in a network.
type Member struct {
	Address netip.Addr
	Subnet  string
}

// Place is where a program can be put. The program ends with it.
type Place struct {
	Member
	Space *os.File // the network namespace
	end   func() error
}

// Close gives the place back, and ends what runs there.
func (p *Place) Close() error { return p.end() }

// The limits of a network.
const (
	maxSubnets   = 3000
	maxEndpoints = 1000
	maxPeers     = 500
)

// DecodeNetwork reads a specification as it comes over the wire and validates
// it. Unknown members are refused.
func DecodeNetwork(raw []byte) (Network, error) {
	var n Network
	if len(raw) > maxSpec {
		return n, fmt.Errorf("%w: the specification has %d bytes, at most %d are taken", ErrInvalid, len(raw), maxSpec)
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		return Network{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d.More() {
		return Network{}, fmt.Errorf("%w: more after the specification", ErrInvalid)
	}
	return n, n.Validate()
}

// Validate joins everything that is wrong with the specification; the error is ErrInvalid.
func (n Network) Validate() error {
	var p problems
	p.check(uidName().MatchString(n.UID), "uid %q", n.UID)
	p.check(n.Name != "" && len(n.Name) <= 200 && !strings.ContainsAny(n.Name, "\n\r\x00"), "name %q", n.Name)
	p.check(resourceID().MatchString(n.ResourceID), "resource id %q", n.ResourceID)
	p.check(len(n.Space) > 0 && len(n.Space) <= maxPeers, "%d ranges", len(n.Space))
	p.spaces("address space", n.Space)
	p.check(len(n.Subnets) <= maxSubnets, "%d subnets", len(n.Subnets))
	p.check(len(n.Endpoints) <= maxEndpoints, "%d endpoints", len(n.Endpoints))
	p.check(len(n.Peers) <= maxPeers, "%d peers", len(n.Peers))
	for _, s := range n.Subnets {
		p.check(displaySubnet().MatchString(s.Name), "subnet name %q", s.Name)
		p.check(len(s.Ranges) > 0, "subnet %q has no range", s.Name)
		for _, r := range s.Ranges {
			p.check(within(r, n.Space), "range %s of subnet %q is not in the network", r, s.Name)
		}
	}
	seen := map[netip.Addr]bool{}
	for _, a := range n.Endpoints {
		p.check(a.Is4() && !seen[a] && within(netip.PrefixFrom(a, 32), n.Space), "endpoint address %s", a)
		seen[a] = true
	}
	all := append([]netip.Prefix(nil), n.Space...)
	for _, o := range n.Peers {
		p.check(uidName().MatchString(o.UID) && o.UID != n.UID, "peer %q", o.UID)
		all = append(all, o.Space...)
	}
	p.spaces("address spaces of network and peers", all)
	return p.join()
}

var displaySubnet = pattern(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$`)

func within(r netip.Prefix, space []netip.Prefix) bool {
	for _, s := range space {
		if s.Bits() <= r.Bits() && s.Contains(r.Addr()) {
			return true
		}
	}
	return false
}

// spaces refuses ranges that overlap each other, or what is never a network's.
func (p *problems) spaces(what string, list []netip.Prefix) {
	no := append(unroutable(), netip.PrefixFrom(Platform(), 32))
	for i, r := range list {
		ok := r.IsValid() && r.Addr().Is4() && r.Masked() == r && r.Bits() >= 8 && r.Bits() <= 29
		p.check(ok, "%s: %s is no IPv4 range of /8 to /29", what, r)
		if !ok {
			continue
		}
		for _, x := range no {
			p.check(!x.Overlaps(r), "%s: %s overlaps %s", what, r, x)
		}
		for _, o := range list[:i] {
			p.check(!o.Overlaps(r), "%s: %s overlaps %s", what, r, o)
		}
	}
}

// unroutable are ranges that no network has.
func unroutable() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
	}
}
