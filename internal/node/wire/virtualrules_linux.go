package wire

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/node"
)

// virtualRules are for the namespace of a virtual network: everything is
// refused but what is listed. They are written whole, as clusterRules are.
func virtualRules(n node.Network, seats map[int]Seat, peers map[string][]netip.Prefix) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %[1]s\ndelete table %[1]s\ntable %[1]s {\n", table)
	for _, c := range []string{"forged", "inward", "between"} {
		fmt.Fprintf(&b, "  counter %s { }\n", c)
	}
	uids := slices.Sorted(maps.Keys(peers))
	inside := slices.Clone(n.Space)
	for _, uid := range uids {
		inside = append(inside, peers[uid]...)
	}
	sources(&b, seats, uids, peers)
	outward(&b, seats, inside)

	endpoints := slices.Clone(n.Endpoints)
	slices.SortFunc(endpoints, netip.Addr.Compare)
	fmt.Fprintf(&b, "  chain input {\n    type filter hook input priority filter; policy drop;\n")
	fmt.Fprintf(&b, "    iifname \"lo\" accept\n    ct state established,related accept\n    ct state invalid drop\n    icmp type echo-request accept\n")
	fmt.Fprintf(&b, "    iifname \"m*\" ip daddr %s tcp dport { %d, %d, %d } accept\n", node.Platform(), node.PortDNS, node.PortHTTP, node.PortHTTPS)
	fmt.Fprintf(&b, "    iifname \"m*\" ip daddr %s udp dport %d accept\n", node.Platform(), node.PortDNS)
	fmt.Fprintf(&b, "    iifname \"m*\" ip daddr %s tcp dport %d ct status dnat accept\n", node.Platform(), node.PortGate)
	if len(endpoints) > 0 {
		fmt.Fprintf(&b, "    iifname { \"m*\", \"p*\" } ip daddr { %s } tcp dport { %d, %d } accept\n", list(endpoints), node.PortHTTP, node.PortHTTPS)
	}
	fmt.Fprintf(&b, "    counter name inward\n%s  }\n", refuse)

	// Members reach each other and those of joined networks; two joined
	// networks do not reach each other through this one.
	fmt.Fprintf(&b, "  chain forward {\n    type filter hook forward priority filter; policy drop;\n")
	fmt.Fprintf(&b, "    ct state established,related accept\n    ct state invalid drop\n")
	fmt.Fprintf(&b, "    iifname \"m*\" oifname \"m*\" ip daddr { %s } accept\n", list(n.Space))
	for _, uid := range uids {
		fmt.Fprintf(&b, "    iifname \"m*\" oifname \"%s\" ip daddr { %s } accept\n", peerLink(uid), list(peers[uid]))
		fmt.Fprintf(&b, "    iifname \"%s\" oifname \"m*\" ip daddr { %s } accept\n", peerLink(uid), list(n.Space))
	}
	fmt.Fprintf(&b, "    counter name between\n%s  }\n}\n", refuse)
	return b.String()
}

// sources drops what comes from an address that is not the sender's.
func sources(b *strings.Builder, seats map[int]Seat, uids []string, peers map[string][]netip.Prefix) {
	fmt.Fprintf(b, "  chain sources {\n    type filter hook prerouting priority mangle; policy accept;\n    iifname \"lo\" accept\n")
	for _, slot := range slices.Sorted(maps.Keys(seats)) {
		fmt.Fprintf(b, "    iifname \"%s\" ip saddr %s accept\n", memberLink(slot), seats[slot].Address)
	}
	for _, uid := range uids {
		fmt.Fprintf(b, "    iifname \"%s\" ip saddr { %s } accept\n", peerLink(uid), list(peers[uid]))
	}
	fmt.Fprintf(b, "    counter name forged drop\n  }\n")
}

// outward leads whatever is on its way out to the gate, which sees where it went.
func outward(b *strings.Builder, seats map[int]Seat, inside []netip.Prefix) {
	var open []string
	for _, slot := range slices.Sorted(maps.Keys(seats)) {
		if !seats[slot].Closed {
			open = append(open, `"`+memberLink(slot)+`"`)
		}
	}
	fmt.Fprintf(b, "  chain outward {\n    type nat hook prerouting priority dstnat; policy accept;\n")
	if len(open) > 0 {
		fmt.Fprintf(b, "    iifname { %s } ip daddr != { %s, %s } meta l4proto tcp dnat ip to %s:%d\n",
			strings.Join(open, ", "), node.Platform(), list(inside), node.Platform(), node.PortGate)
	}
	fmt.Fprintf(b, "  }\n")
}

func list[T fmt.Stringer](all []T) string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = v.String()
	}
	return strings.Join(out, ", ")
}
