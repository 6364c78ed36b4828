package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Rules are the objects of the node's table, as nft writes them.
type Rules struct {
	Chains map[string][]string // name → rules, or the chain's base line first
	Sets   map[string]Set
}

// Set is a set or a map of the table.
type Set struct {
	Type     string // "ipv4_addr", "ipv4_addr : verdict", …
	Elements []string
}

// isMap says whether the set's elements carry verdicts.
func (s Set) isMap() bool { return strings.Contains(s.Type, " : ") }

const (
	addressType = "ipv4_addr"
	verdictType = "ipv4_addr : verdict"
	portType    = "ipv4_addr . inet_proto . inet_service"
)

// direction is one of the two ways in which a policy is read.
type direction struct {
	kind         networkingv1.PolicyType
	tag          string // in the names of chains and sets
	self, other  string // the header fields of the pod's and of the peer's address
	allow        string // the verdict of what a policy allows
	verdicts     string // the map from a pod's address to its chain
	refusalChain string
}

func ingress() direction {
	return direction{networkingv1.PolicyTypeIngress, "in", "daddr", "saddr", "accept", "ingress", "refuse-in"}
}

func egress() direction {
	return direction{networkingv1.PolicyTypeEgress, "out", "saddr", "daddr", "goto to-pod", "egress", "refuse-out"}
}

// Compile makes the rules of a node. The same world gives the same rules, in
// whatever order its parts come; of two pods with one address here, the first
// has it.
func Compile(w *World) *Rules {
	r := &Rules{Chains: fixed(), Sets: map[string]Set{
		"ingress": {Type: verdictType},
		"egress":  {Type: verdictType},
	}}
	policies := slices.Clone(w.Policies)
	slices.SortFunc(policies, func(a, b *networkingv1.NetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, d := range []direction{ingress(), egress()} {
		used, seen := map[string]bool{}, map[netip.Addr]bool{}
		for i := range w.Pods {
			if w.Pods[i].Here && !seen[w.Pods[i].Address] {
				seen[w.Pods[i].Address] = true
				r.pod(&w.Pods[i], policies, d, used)
			}
		}
		for _, p := range policies {
			if name := policyChain(p, d); used[name] {
				r.policy(w, p, d, name)
			}
		}
	}
	for name, set := range r.Sets {
		slices.Sort(set.Elements)
		set.Elements = slices.Compact(set.Elements)
		r.Sets[name] = set
	}
	return r
}

// fixed are the chains that every node has. The first drops what comes from an
// interface that doesn't lead back to its source: a pod can't take another's
// address to pass a policy.
func fixed() map[string][]string {
	refuse := func(set string) []string {
		return []string{
			"meta l4proto { tcp, udp, sctp } update @" + set + " { ip saddr . ip daddr . meta l4proto . th dport }",
			"meta l4proto tcp counter reject with tcp reset",
			"counter reject with icmp admin-prohibited",
		}
	}
	return map[string][]string{
		"spoofed": {
			"type filter hook prerouting priority raw; policy accept;",
			`iifname != "lo" fib saddr . iif oif 0 counter drop`,
		},
		"forward": {
			"type filter hook forward priority filter; policy accept;",
			"ct direction reply ct state established accept",
			"ct state related accept",
			"ip saddr vmap @egress",
			"goto to-pod",
		},
		"to-pod":     {"ip daddr vmap @ingress", "accept"},
		"refuse-in":  refuse("refused-in"),
		"refuse-out": refuse("refused-out"),
	}
}

// pod adds the chain of a pod that policies select in a direction: what each
// of them allows, and then the refusal. A pod always reaches itself.
func (r *Rules) pod(pod *Pod, policies []*networkingv1.NetworkPolicy, d direction, used map[string]bool) {
	var rules []string
	for _, p := range policies {
		if has(p, d.kind) && selects(p, pod) {
			chain := policyChain(p, d)
			used[chain] = true
			rules = append(rules, "jump "+chain)
		}
	}
	if len(rules) == 0 {
		return
	}
	name := chainName(d.tag+"-pod", pod.Namespace, pod.Name, pod.UID)
	r.Chains[name] = slices.Concat(
		[]string{fmt.Sprintf("ip %s %s %s", d.other, pod.Address, d.allow)},
		rules,
		[]string{"counter goto " + d.refusalChain})
	verdicts := r.Sets[d.verdicts]
	verdicts.Elements = append(verdicts.Elements, pod.Address.String()+" : goto "+name)
	r.Sets[d.verdicts] = verdicts
}

// policy adds the chain of what a policy allows in a direction.
func (r *Rules) policy(w *World, p *networkingv1.NetworkPolicy, d direction, chain string) {
	rules := []string{}
	allow := func(i int, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
		part := rulePart{w: w, policy: p, d: d, suffix: fmt.Sprintf("-%d", i), rules: r}
		from := part.peers(peers)
		to := part.ports(peers, ports)
		for _, a := range from {
			for _, b := range to {
				rules = append(rules, strings.Join(slices.DeleteFunc([]string{a, b, d.allow}, func(s string) bool { return s == "" }), " "))
			}
		}
	}
	if d.kind == networkingv1.PolicyTypeIngress {
		for i, rule := range p.Spec.Ingress {
			allow(i, rule.From, rule.Ports)
		}
	} else {
		for i, rule := range p.Spec.Egress {
			allow(i, rule.To, rule.Ports)
		}
	}
	r.Chains[chain] = rules
}

// rulePart makes the matches of one rule of a policy.
type rulePart struct {
	w      *World
	policy *networkingv1.NetworkPolicy
	d      direction
	suffix string // of the names of its sets
	rules  *Rules
}

// peers returns the alternatives of the peer's address, "" for any. None at
// all allow nothing.
func (part rulePart) peers(peers []networkingv1.NetworkPolicyPeer) []string {
	if len(peers) == 0 {
		return []string{""}
	}
	var out, elements []string
	selectors := false
	for i := range peers {
		if block := peers[i].IPBlock; block != nil {
			if match, ok := blockMatch(part.d.other, block); ok {
				out = append(out, match)
			}
			continue
		}
		selectors = true
		for _, pod := range part.w.peers(part.policy.Namespace, &peers[i]) {
			elements = append(elements, pod.Address.String())
		}
	}
	if selectors {
		name := part.set("peers", Set{Type: addressType, Elements: elements})
		out = append(out, fmt.Sprintf("ip %s @%s", part.d.other, name))
	}
	return out
}

// ports returns the alternatives of protocol and port, "" for any.
func (part rulePart) ports(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	ranges := map[string][][2]int32{}
	var named []networkingv1.NetworkPolicyPort
	for _, port := range ports {
		protocol := protocolOf(port.Protocol)
		switch {
		case protocol == "": // none that nft could match: allows nothing
		case port.Port == nil:
			ranges[protocol] = append(ranges[protocol], [2]int32{0, 65535})
		case port.Port.Type == intstr.String:
			named = append(named, port)
		default:
			last := port.Port.IntVal
			if port.EndPort != nil {
				last = *port.EndPort
			}
			ranges[protocol] = append(ranges[protocol], [2]int32{port.Port.IntVal, last})
		}
	}
	var out []string
	for _, protocol := range []string{"tcp", "udp", "sctp"} {
		if match := rangesMatch(protocol, ranges[protocol]); match != "" {
			out = append(out, match)
		}
	}
	if len(named) > 0 {
		name := part.set("ports", Set{Type: portType, Elements: part.named(peers, named)})
		out = append(out, fmt.Sprintf("ip daddr . meta l4proto . th dport @%s", name))
	}
	return out
}

// named resolves named ports on the pods that the packets go to: those that
// the policy selects (ingress) or its peers (egress).
func (part rulePart) named(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) []string {
	var targets []*Pod
	switch {
	case part.d.kind == networkingv1.PolicyTypeIngress:
		for i := range part.w.Pods {
			if pod := &part.w.Pods[i]; pod.Here && selects(part.policy, pod) {
				targets = append(targets, pod)
			}
		}
	case len(peers) == 0:
		for i := range part.w.Pods {
			targets = append(targets, &part.w.Pods[i])
		}
	default:
		for i := range peers {
			targets = append(targets, part.targets(&peers[i])...)
		}
	}
	var out []string
	for _, pod := range targets {
		for _, have := range pod.Ports {
			for _, want := range ports {
				protocol := protocolOf(want.Protocol)
				if have.Name == want.Port.StrVal && protocol == strings.ToLower(string(have.Protocol)) {
					out = append(out, fmt.Sprintf("%s . %s . %d", pod.Address, protocol, have.Number))
				}
			}
		}
	}
	return out
}

// targets are the pods that an egress peer means, those within an ipBlock
// included.
func (part rulePart) targets(peer *networkingv1.NetworkPolicyPeer) []*Pod {
	if peer.IPBlock == nil {
		return part.w.peers(part.policy.Namespace, peer)
	}
	block, err := netip.ParsePrefix(peer.IPBlock.CIDR)
	if err != nil {
		return nil
	}
	var out []*Pod
	for i := range part.w.Pods {
		if block.Contains(part.w.Pods[i].Address) { // what it excepts, the rule's other half refuses
			out = append(out, &part.w.Pods[i])
		}
	}
	return out
}

// set adds a set of the rule under a name of its own and returns the name.
func (part rulePart) set(kind string, set Set) string {
	name := chainName(part.d.tag+"-"+kind, part.policy.Namespace, part.policy.Name, "") + part.suffix
	part.rules.Sets[name] = set
	return name
}

// protocolOf returns nft's word for a protocol; TCP where none is given, ""
// for one that has no ports in nftables.
func protocolOf(p *corev1.Protocol) string {
	if p == nil || *p == "" {
		return "tcp"
	}
	switch *p {
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		return strings.ToLower(string(*p))
	}
	return ""
}

// blockMatch matches an ipBlock, or says that it holds no IPv4 address.
func blockMatch(field string, block *networkingv1.IPBlock) (string, bool) {
	in := merged([]string{block.CIDR})
	if len(in) == 0 {
		return "", false
	}
	match := ""
	if in[0].Bits() > 0 {
		match = fmt.Sprintf("ip %s %s", field, in[0])
	}
	except := merged(block.Except)
	if len(except) == 0 {
		return match, true
	}
	if except[0].Bits() == 0 {
		return "", false
	}
	parts := make([]string, len(except))
	for i, prefix := range except {
		parts[i] = prefix.String()
	}
	return strings.TrimSpace(fmt.Sprintf("%s ip %s != { %s }", match, field, strings.Join(parts, ", "))), true
}

// rangesMatch matches ports of a protocol, overlapping ranges joined.
func rangesMatch(protocol string, ranges [][2]int32) string {
	slices.SortFunc(ranges, func(a, b [2]int32) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	var joined [][2]int32
	for _, r := range ranges {
		if r[1] < r[0] || r[0] < 0 || r[1] > 65535 {
			continue
		}
		if n := len(joined); n > 0 && r[0] <= joined[n-1][1]+1 {
			joined[n-1][1] = max(joined[n-1][1], r[1])
			continue
		}
		joined = append(joined, r)
	}
	if len(joined) == 0 {
		return ""
	}
	if joined[0] == [2]int32{0, 65535} {
		return "meta l4proto " + protocol
	}
	parts := make([]string, len(joined))
	for i, r := range joined {
		parts[i] = fmt.Sprint(r[0])
		if r[1] > r[0] {
			parts[i] = fmt.Sprintf("%d-%d", r[0], r[1])
		}
	}
	return fmt.Sprintf("%s dport { %s }", protocol, strings.Join(parts, ", "))
}

func policyChain(p *networkingv1.NetworkPolicy, d direction) string {
	return chainName(d.tag+"-policy", p.Namespace, p.Name, "")
}

// chainName makes a name that nft accepts and a reader knows: a hash makes it
// unique, because names of Kubernetes are longer than nft's may be.
func chainName(kind, namespace, name, uid string) string {
	sum := sha256.Sum256([]byte(namespace + "/" + name + "/" + uid))
	readable := namespace + "/" + name
	if len(readable) > 60 {
		readable = readable[:60]
	}
	return kind + "-" + hex.EncodeToString(sum[:5]) + "-" + readable
}
