package compute

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/cluster"
)

// pod is what is read of a pod.
// Source: Kubernetes API reference, Pod v1 core.
type pod struct {
	Metadata struct {
		Name, Namespace, UID, ResourceVersion string
		CreationTimestamp                     time.Time
		DeletionTimestamp                     *time.Time
		Labels, Annotations                   map[string]string
	}
	Spec struct {
		Containers []struct {
			Name  string
			Ports []struct{ ContainerPort uint16 }
			Env   []struct{ Name, Value string }
		}
	}
	Status struct {
		Phase, Reason, Message, PodIP string
		Conditions                    []condition
		InitContainerStatuses         []containerStatus
		ContainerStatuses             []containerStatus
	}
}

type condition struct {
	Type, Status, Reason, Message string
	LastTransitionTime            time.Time
}

type containerStatus struct {
	Name             string
	RestartCount     int
	Ready            bool
	Image            string
	State, LastState struct {
		Waiting    *struct{ Reason, Message string }
		Running    *struct{ StartedAt time.Time }
		Terminated *terminated
	}
}

type terminated struct {
	ExitCode              int
	Reason, Message       string
	StartedAt, FinishedAt time.Time
}

func (p pod) condition(name string) condition {
	i := slices.IndexFunc(p.Status.Conditions, func(c condition) bool { return c.Type == name })
	if i < 0 {
		return condition{}
	}
	return p.Status.Conditions[i]
}

func (p pod) draining() bool { return p.Metadata.DeletionTimestamp != nil }

// status is that of a container of ours.
func (p pod) status(name string) (containerStatus, bool) {
	for _, s := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
		if s.Name == name {
			return s, true
		}
	}
	return containerStatus{}, false
}

// ended is how a container ended last; nil when it never did.
func (s containerStatus) ended() *terminated {
	if s.State.Terminated != nil {
		return s.State.Terminated
	}
	return s.LastState.Terminated
}

// ends is how often it has ended.
func (s containerStatus) ends() int {
	if s.State.Terminated != nil {
		return s.RestartCount + 1
	}
	return s.RestartCount
}

// waiting is the reason why it does not run; "" when it does.
func (s containerStatus) waiting() (reason, message string) {
	if s.State.Waiting == nil {
		return "", ""
	}
	return s.State.Waiting.Reason, s.State.Waiting.Message
}

// instance is the pod as the router knows it; ok is false while it has no address.
func (p pod) instance(clusterUID string) (Instance, bool) {
	a, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil || p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
		return Instance{}, false
	}
	port := uint16(defaultPort)
	for _, c := range p.Spec.Containers {
		if c.Name == InferenceServer && len(c.Ports) > 0 {
			port = c.Ports[0].ContainerPort
		}
	}
	return Instance{
		ID: p.Metadata.Name, Cluster: clusterUID, Address: netip.AddrPortFrom(a, port),
		Ready: p.condition("Ready").Status == "True", Draining: p.draining(),
	}, true
}

// podsOf are a deployment's pods, the newest first.
func podsOf(ctx context.Context, k *cluster.KubeAPI, d Deployment) ([]pod, error) {
	var list struct{ Items []pod }
	path := "/api/v1/namespaces/" + d.namespace() + "/pods?labelSelector=" + url.QueryEscape(labelDeployment+"="+d.UID)
	if err := k.Get(ctx, path, &list); err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b pod) int {
		if c := b.Metadata.CreationTimestamp.Compare(a.Metadata.CreationTimestamp); c != 0 {
			return c
		}
		return strings.Compare(a.Metadata.Name, b.Metadata.Name)
	})
	return list.Items, nil
}

// event is what Kubernetes noted of a pod.
type event struct {
	Type, Reason, Message string
	FirstTimestamp        time.Time
	LastTimestamp         time.Time
	EventTime             time.Time
	InvolvedObject        struct{ FieldPath string }
}

func (e event) time() time.Time {
	for _, t := range []time.Time{e.LastTimestamp, e.EventTime, e.FirstTimestamp} {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// eventsOf are a pod's events, the oldest first.
func eventsOf(ctx context.Context, k *cluster.KubeAPI, p pod) ([]event, error) {
	var list struct{ Items []event }
	path := "/api/v1/namespaces/" + p.Metadata.Namespace + "/events?fieldSelector=" + url.QueryEscape("involvedObject.uid="+p.Metadata.UID)
	if err := k.Get(ctx, path, &list); err != nil {
		return nil, err
	}
	slices.SortStableFunc(list.Items, func(a, b event) int { return a.time().Compare(b.time()) })
	return list.Items, nil
}
