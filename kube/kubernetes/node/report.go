package node

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"lazurite.dev/kube/kubernetes/policy"
)

const (
	reportEvery = 10 * time.Second
	reportMost  = 20 // events a turn; the counters stay
)

// report tells what the rules refused as events of the pods whose policies
// refused it, and notices a table that something else removed.
func (e *enforcer) report(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	told := map[policy.Refusal]uint64{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		e.kernelMu.Lock()
		all, err := e.kernel.Refusals(ctx)
		e.kernelMu.Unlock()
		if err != nil {
			e.log.Error("the rules of network policies are written anew", "error", err)
			e.changed()
			continue
		}
		now := map[policy.Refusal]uint64{}
		var fresh []policy.Refusal
		for _, r := range all {
			key := r
			key.Packets = 0
			now[key] = r.Packets
			if r.Packets > told[key] {
				r.Packets -= told[key]
				fresh = append(fresh, r)
			}
		}
		told = now
		e.tell(fresh)
	}
}

func (e *enforcer) tell(fresh []policy.Refusal) {
	if len(fresh) == 0 {
		return
	}
	w, err := e.world()
	if err != nil {
		return
	}
	for i, r := range fresh {
		if i == reportMost {
			e.log.Warn("more was refused than is told", "kinds", len(fresh)-reportMost)
			return
		}
		if pod, text := explain(w, r); pod != nil {
			e.events.Event(&corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: types.UID(pod.UID)},
				corev1.EventTypeWarning, "NetworkPolicyRefused", text)
		}
	}
}

// explain says what was refused and by which policies, and which pod is asked
// about.
func explain(w *policy.World, r policy.Refusal) (*policy.Pod, string) {
	find := func(address netip.Addr) *policy.Pod {
		for i := range w.Pods {
			if w.Pods[i].Address == address {
				return &w.Pods[i]
			}
		}
		return nil
	}
	name := func(pod *policy.Pod) string {
		if pod == nil {
			return ""
		}
		return " (pod " + pod.Namespace + "/" + pod.Name + ")"
	}
	source, destination := find(r.Source), find(r.Destination)
	if r.Ingress {
		if destination == nil {
			return nil, ""
		}
		return destination, fmt.Sprintf("Refused %d packets from %s%s to %s port %d: no ingress rule of %s allows them", r.Packets,
			r.Source, name(source), strings.ToUpper(r.Protocol), r.Port, strings.Join(w.Selecting(destination, networkingv1.PolicyTypeIngress), ", "))
	}
	if source == nil {
		return nil, ""
	}
	return source, fmt.Sprintf("Refused %d packets to %s%s, %s port %d: no egress rule of %s allows them", r.Packets,
		r.Destination, name(destination), strings.ToUpper(r.Protocol), r.Port, strings.Join(w.Selecting(source, networkingv1.PolicyTypeEgress), ", "))
}
