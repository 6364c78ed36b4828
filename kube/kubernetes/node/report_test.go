package node

import (
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"lazurite.dev/kube/kubernetes/policy"
)

func TestExplain_NamesPodsAndPolicies(t *testing.T) {
	web, client := netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("10.244.0.3")
	deny := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "deny"}}
	deny.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	w := &policy.World{
		Pods:     []policy.Pod{{Namespace: "shop", Name: "web", Address: web}, {Namespace: "tools", Name: "client", Address: client}},
		Policies: []*networkingv1.NetworkPolicy{deny},
	}
	pod, text := explain(w, policy.Refusal{Ingress: true, Source: client, Destination: web, Protocol: "tcp", Port: 80, Packets: 3})
	if want := "Refused 3 packets from 10.244.0.3 (pod tools/client) to TCP port 80: no ingress rule of shop/deny allows them"; pod == nil || pod.Name != "web" || text != want {
		t.Errorf("got %v, %q", pod, text)
	}
	pod, text = explain(w, policy.Refusal{Source: web, Destination: netip.MustParseAddr("192.0.2.1"), Protocol: "udp", Port: 53, Packets: 1})
	if pod == nil || pod.Name != "web" || !strings.Contains(text, "to 192.0.2.1, UDP port 53: no egress rule of shop/deny") {
		t.Errorf("got %v, %q", pod, text)
	}
	if pod, _ := explain(w, policy.Refusal{Source: netip.MustParseAddr("10.9.9.9"), Destination: web}); pod != nil {
		t.Errorf("an unknown source is %v", pod)
	}
}
