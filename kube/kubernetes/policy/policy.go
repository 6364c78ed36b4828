// Package policy turns the NetworkPolicies of a cluster into the nftables rules
// of one node, and sets them with the nft program, each change in one
// transaction.
//
// Every packet from or to a pod crosses the forward hook of its node: the
// pods' links are routed, not bridged. What kube-proxy translates (services,
// node ports) is translated before that hook, so the rules see the addresses
// of pods on both ends. What the node itself sends to its pods (probes of the
// kubelet) leaves by the output hook and is never judged, as the API of
// NetworkPolicy wants it. Answers pass by their connection, not by an address;
// what opens a connection is judged with every packet of it, so that a new
// policy takes hold of connections that were open before.
//
//	forward ─ answer? ─→ accept
//	   └ the source is a pod here with egress policies ─→ out-…
//	        └ allowed ─→ to-pod          else refuse-out
//	to-pod ─ the destination is a pod here with ingress policies ─→ in-…
//	   │    └ allowed ─→ accept          else refuse-in
//	   └ accept
//
// A refused packet is answered at once (a reset for TCP, an ICMP error for the
// rest) and counted by source, destination, protocol and port.
//
// Addresses are IPv4; a cluster of Lazurite has no others inside. An ipBlock
// matches the addresses that packets carry at the hook, those of pods
// included. Pods of the host's network are neither selected nor peers.
package policy

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Pod is what the rules need to know of one pod with an address of its own.
type Pod struct {
	UID       string
	Namespace string
	Name      string
	Labels    map[string]string
	Address   netip.Addr
	Here      bool // it runs on the node whose rules are made
	Ports     []Port
}

// Port is a named port of a pod's container.
type Port struct {
	Name     string
	Protocol corev1.Protocol
	Number   int32
}

// World is what the rules follow from.
type World struct {
	Pods       []Pod
	Namespaces map[string]map[string]string // name → labels
	Policies   []*networkingv1.NetworkPolicy
}

// FromPod returns what the rules need to know of a pod on the node that is
// named, or false for a pod without an IPv4 address of its own: one of the
// host's network, one that has ended, one whose address is not known yet.
func FromPod(p *corev1.Pod, node string) (Pod, bool) {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return Pod{}, false
	}
	address, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil || !address.Is4() {
		return Pod{}, false
	}
	out := Pod{UID: string(p.UID), Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Address: address, Here: p.Spec.NodeName == node}
	out.Ports = NamedPorts(&p.Spec)
	return out, true
}

// NamedPorts lists the named ports of a pod's containers, those of sidecars
// (init containers that go on running) included.
func NamedPorts(spec *corev1.PodSpec) []Port {
	var out []Port
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for _, container := range list {
			for _, port := range container.Ports {
				if port.Name != "" {
					out = append(out, Port{Name: port.Name, Protocol: cmp.Or(port.Protocol, corev1.ProtocolTCP), Number: port.ContainerPort})
				}
			}
		}
	}
	return out
}

// Selecting names the policies (namespace/name) that select the pod in one
// direction, sorted.
func (w *World) Selecting(pod *Pod, direction networkingv1.PolicyType) []string {
	var out []string
	for _, p := range w.Policies {
		if has(p, direction) && selects(p, pod) {
			out = append(out, p.Namespace+"/"+p.Name)
		}
	}
	slices.Sort(out)
	return out
}

// has says whether a policy is about a direction: as its policyTypes say or,
// without any, ingress always and egress where it has egress rules.
func has(p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType) bool {
	if len(p.Spec.PolicyTypes) > 0 {
		return slices.Contains(p.Spec.PolicyTypes, direction)
	}
	return direction == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
}

func selects(p *networkingv1.NetworkPolicy, pod *Pod) bool {
	return p.Namespace == pod.Namespace && matches(&p.Spec.PodSelector, pod.Labels)
}

// matches evaluates a selector. One that can't be parsed (the API server lets
// none in) selects nothing.
func matches(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(set))
}

// peers lists the pods that a peer of a policy in a namespace means: those
// that its selectors select; none for an ipBlock.
func (w *World) peers(namespace string, peer *networkingv1.NetworkPolicyPeer) []*Pod {
	if peer.PodSelector == nil && peer.NamespaceSelector == nil {
		return nil
	}
	var out []*Pod
	for i := range w.Pods {
		pod := &w.Pods[i]
		if peer.NamespaceSelector == nil {
			if pod.Namespace != namespace {
				continue
			}
		} else if set, known := w.Namespaces[pod.Namespace]; !known || !matches(peer.NamespaceSelector, set) {
			continue
		}
		if peer.PodSelector == nil || matches(peer.PodSelector, pod.Labels) {
			out = append(out, pod)
		}
	}
	return out
}

// merged returns the IPv4 prefixes among cidrs, without those that another
// contains, in order: nft refuses a set whose ranges overlap.
func merged(cidrs []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range cidrs {
		if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Addr().Is4() {
			all = append(all, prefix.Masked())
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr()))
	})
	var out []netip.Prefix
	for _, prefix := range all {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Contains(prefix.Addr()) }) {
			out = append(out, prefix)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out
}
