package wire

import (
	"fmt"
	"strings"

	"lazurite.dev/internal/node"
)

// Rules are written whole each time: nft applies one file in one step, so
// there is no moment without them. The order within a chain is: what answers
// is let through, then the narrow list, then everything else is refused at once
// (a reset or an ICMP message, never silence), but for forged sources, which
// get no answer.

const table = "inet lazurite"

// refuse ends a chain.
const refuse = `    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
`

// nodePorts is Kubernetes' default range of NodePort services.
const nodePorts = "30000-32767"

// clusterRules are for the cluster's namespace with nodes in the given slots.
func clusterRules(l Layout, slots []int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %[1]s\ndelete table %[1]s\ntable %[1]s {\n", table)
	fmt.Fprintf(&b, "  chain sources {\n    type filter hook prerouting priority mangle; policy accept;\n")
	fmt.Fprintf(&b, "    iifname \"lo\" accept\n    iifname \"%s\" ip saddr %s accept\n", hostLink, l.Host())
	for _, s := range slots {
		fmt.Fprintf(&b, "    iifname \"%s\" ip saddr { %s, %s } accept\n", nodeLink(s), l.Node(s), l.PodCIDR(s))
	}
	fmt.Fprintf(&b, "    iifname \"n*\" ip saddr %s ct state established ct direction reply accept\n    counter drop\n  }\n", l.LoadBalancers())

	// Whatever is on its way out is led to the gate, which sees where it went.
	fmt.Fprintf(&b, "  chain outward {\n    type nat hook prerouting priority dstnat; policy accept;\n")
	fmt.Fprintf(&b, "    iifname \"n*\" ip daddr != { %s, %s, %s } meta l4proto tcp dnat ip to %s:%d\n  }\n", l.Network(), l.Pods, l.Services, l.Cluster(), node.PortGate)

	fmt.Fprintf(&b, "  chain input {\n    type filter hook input priority filter; policy drop;\n")
	fmt.Fprintf(&b, "    iifname \"lo\" accept\n    ct state established,related accept\n    ct state invalid drop\n    icmp type echo-request accept\n")
	fmt.Fprintf(&b, "    iifname \"%s\" ip daddr %s tcp dport %d accept\n", hostLink, l.Cluster(), node.PortAPI)
	fmt.Fprintf(&b, "    iifname \"n*\" ip daddr %s tcp dport { %d, %d, %d } accept\n", l.Cluster(), node.PortDNS, node.PortHTTP, node.PortHTTPS)
	from := "" // whoever it is
	if l.Isolated {
		from = fmt.Sprintf("ip saddr %s ", l.nodes())
	}
	fmt.Fprintf(&b, "    iifname \"n*\" %sip daddr %s tcp dport %d accept\n", from, l.Cluster(), node.PortAPI)
	fmt.Fprintf(&b, "    iifname \"n*\" ip daddr %s udp dport %d accept\n", l.Cluster(), node.PortDNS)
	fmt.Fprintf(&b, "    iifname \"n*\" ip daddr %s tcp dport %d ct status dnat accept\n%s  }\n", l.Cluster(), node.PortGate, refuse)

	fmt.Fprintf(&b, "  chain forward {\n    type filter hook forward priority filter; policy drop;\n")
	fmt.Fprintf(&b, "    ct state established,related accept\n    ct state invalid drop\n")
	if !l.Isolated {
		fmt.Fprintf(&b, "    iifname \"%s\" oifname \"n*\" ip daddr %s accept\n", hostLink, l.LoadBalancers())
		fmt.Fprintf(&b, "    iifname { \"%s\", \"n*\" } oifname \"n*\" ip daddr %s meta l4proto { tcp, udp } th dport %s accept\n", hostLink, l.nodes(), nodePorts)
		fmt.Fprintf(&b, "    iifname \"n*\" oifname \"n*\" ip daddr %s accept\n", l.Pods)
	}
	fmt.Fprintf(&b, "%s  }\n", refuse)

	// The API server connects where its users tell it to: to nodes and pods,
	// never to the host.
	fmt.Fprintf(&b, "  chain output {\n    type filter hook output priority filter; policy accept;\n")
	fmt.Fprintf(&b, "    oifname != \"%s\" accept\n    ct state established,related accept\n%s  }\n}\n", hostLink, refuse)
	return b.String()
}

// nodeRules are for the namespace of the node in a slot. What Kubernetes and
// the network policies put beside them is in tables of their own.
func nodeRules(l Layout, slot int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %[1]s\ndelete table %[1]s\ntable %[1]s {\n", table)
	if l.Isolated {
		isolatedRules(&b, l)
	} else {
		fmt.Fprintf(&b, "  chain hide {\n    type nat hook postrouting priority srcnat; policy accept;\n")
		fmt.Fprintf(&b, "    oifname \"%s\" ip saddr %s ip daddr != %s masquerade\n  }\n", uplink, l.PodCIDR(slot), l.Pods)
	}
	fmt.Fprintf(&b, "  chain input {\n    type filter hook input priority filter; policy drop;\n")
	fmt.Fprintf(&b, "    iifname \"lo\" accept\n    ct state established,related accept\n    ct state invalid drop\n    icmp type echo-request accept\n")
	fmt.Fprintf(&b, "    iifname \"%s\" ip saddr %s tcp dport 10250 accept\n", uplink, l.Cluster())
	fmt.Fprintf(&b, "    iifname \"%s\" ip saddr %s tcp dport %s accept\n%s  }\n}\n", uplink, l.Host(), nodePorts, refuse)
	return b.String()
}

// isolatedRules let pods reach the front door, the resolver and, with what goes
// out, the gate, under their own addresses; and the cluster's namespace them.
func isolatedRules(b *strings.Builder, l Layout) {
	fmt.Fprintf(b, "  chain forward {\n    type filter hook forward priority filter - 1; policy drop;\n")
	fmt.Fprintf(b, "    ct state established,related accept\n    ct state invalid drop\n")
	fmt.Fprintf(b, "    iifname \"%s\" ip saddr %s accept\n", uplink, l.Cluster())
	fmt.Fprintf(b, "    oifname \"%s\" ip daddr %s tcp dport { %d, %d, %d } accept\n", uplink, l.Cluster(), node.PortDNS, node.PortHTTP, node.PortHTTPS)
	fmt.Fprintf(b, "    oifname \"%s\" ip daddr %s udp dport %d accept\n", uplink, l.Cluster(), node.PortDNS)
	fmt.Fprintf(b, "    oifname \"%s\" ip daddr != { %s, %s, %s } meta l4proto tcp accept\n%s  }\n", uplink, l.Network(), l.Pods, l.Services, refuse)
}
