// Package wire is the network of a cluster on this machine: its addresses, the
// links between host, cluster and nodes, the routes, and the filters that say
// who may reach what. Nothing of the host is touched but one link and one
// route; all rules live in the cluster's and the nodes' own network namespaces.
//
// An index N, unique on the machine, gives a cluster the range 198.18.N.0/24:
//
//	.1         the host's end of the link          .2         the cluster's: API server, front door, resolver, gate
//	.16-.127   nodes, each on a link of its own    .128-.255  load balancers, routed to the nodes
//
// Pod and service ranges exist only inside, so clusters may have the same.
package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// DefaultRange is where clusters get their addresses from: the benchmarking
// range of RFC 2544, which is used by nobody on a network.
const DefaultRange = "198.18.0.0/15"

// The slots of nodes, which are the last part of their addresses.
const (
	FirstSlot = 16
	LastSlot  = 127
)

// Layout is who has which address.
type Layout struct {
	Base           netip.Prefix // of all clusters: at most a /16 less one of /24s
	Index          int
	Pods, Services netip.Prefix
	Isolated       bool // pods reach the front door, the resolver and the gate alone
}

// Indexes is how many clusters the base range has room for, at most 512.
func Indexes(base netip.Prefix) int {
	if !base.Addr().Is4() || base.Bits() > 24 {
		return 0
	}
	return min(1<<(24-base.Bits()), 512)
}

// CheckRange reports what makes base unfit for clusters.
func CheckRange(base netip.Prefix) error {
	if Indexes(base) == 0 || base.Masked() != base || base.Bits() < 8 {
		return fmt.Errorf("the range of clusters, %s, is no IPv4 range of /8 to /24", base)
	}
	return nil
}

// Network is everything of the cluster that the host reaches.
func (l Layout) Network() netip.Prefix {
	return netip.PrefixFrom(plus(l.Base.Addr(), l.Index<<8), 24)
}

func (l Layout) at(last int) netip.Addr { return plus(l.Network().Addr(), last) }

// Host is the host's address on the link.
func (l Layout) Host() netip.Addr { return l.at(1) }

// Cluster is the address of what serves the cluster.
func (l Layout) Cluster() netip.Addr { return l.at(2) }

// LoadBalancers are the addresses for services.
func (l Layout) LoadBalancers() netip.Prefix { return netip.PrefixFrom(l.at(128), 25) }

// nodes are the addresses of nodes; the first 16 of the range are none.
func (l Layout) nodes() netip.Prefix { return netip.PrefixFrom(l.at(0), 25) }

// Node is the address of the node in a slot.
func (l Layout) Node(slot int) netip.Addr { return l.at(slot) }

// PodBits is how large the range of one node's pods is: a /24, or where the
// cluster's is small what gives every slot one of at least 16 addresses.
func (l Layout) podBits() int { return max(24, min(l.Pods.Bits()+7, 28)) }

// Slots is how many nodes have room.
func (l Layout) Slots() int { return min(LastSlot-FirstSlot+1, 1<<(l.podBits()-l.Pods.Bits())) }

// PodCIDR is the range of the pods on the node in a slot.
func (l Layout) PodCIDR(slot int) netip.Prefix {
	bits := l.podBits()
	return netip.PrefixFrom(plus(l.Pods.Addr(), (slot-FirstSlot)<<(32-bits)), bits)
}

// nodeLink is the cluster's end of the link to the node in a slot.
func nodeLink(slot int) string { return fmt.Sprintf("n%d", slot) }

func plus(a netip.Addr, n int) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
	return netip.AddrFrom4(b)
}
