package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/node"
)

// poll is how often the state of something is asked for.
const poll = 100 * time.Millisecond

// taintsNote is the annotation with the taints that came from the
// specification: others are the cluster's.
const taintsNote = "lazurite.dev/taints"

// nodeObject is what we read of a Node.
type nodeObject struct {
	Metadata struct {
		Name            string            `json:"name"`
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Taints []taint `json:"taints"`
	} `json:"spec"`
	Status struct {
		Conditions []struct {
			Type, Status, Reason, Message string
			LastHeartbeatTime             time.Time
		} `json:"conditions"`
	} `json:"status"`
}

type taint struct {
	Key       string `json:"key"`
	Value     string `json:"value,omitempty"`
	Effect    string `json:"effect"`
	TimeAdded string `json:"timeAdded,omitempty"`
}

func nodePath(name string) string { return "/api/v1/nodes/" + name }

// object makes the node's object before its kubelet comes: with its labels,
// also those that no kubelet may give itself, its range of pods and its taints.
func (c *Cluster) object(ctx context.Context, n node.Node, p Place) error {
	cidr := p.PodCIDR.String()
	err := c.client.apply(ctx, nodePath(n.Name), obj{
		"apiVersion": "v1", "kind": "Node", "metadata": obj{"name": n.Name, "labels": n.Labels},
		"spec": obj{"podCIDR": cidr, "podCIDRs": []string{cidr}},
	})
	if err != nil {
		return err
	}
	return c.taint(ctx, n)
}

// taint leaves the taints of the specification on the node, takes away those
// that an earlier one put there, and lets others be.
func (c *Cluster) taint(ctx context.Context, n node.Node) error {
	for {
		var now nodeObject
		if err := c.client.get(ctx, nodePath(n.Name), &now); err != nil {
			return err
		}
		want := make([]taint, 0, len(n.Taints))
		for _, t := range n.Taints {
			want = append(want, parseTaint(t))
		}
		next := mergeTaints(now.Spec.Taints, now.Metadata.Annotations[taintsNote], want)
		note := strings.Join(n.Taints, ",")
		if slices.Equal(next, now.Spec.Taints) && note == now.Metadata.Annotations[taintsNote] {
			return nil
		}
		err := c.client.merge(ctx, nodePath(n.Name), obj{
			"metadata": obj{"resourceVersion": now.Metadata.ResourceVersion, "annotations": obj{taintsNote: note}},
			"spec":     obj{"taints": next},
		})
		if !is(err, http.StatusConflict) {
			return err
		}
	}
}

// parseTaint reads KEY=VALUE:EFFECT or KEY:EFFECT, which was validated.
func parseTaint(s string) taint {
	left, effect, _ := strings.Cut(s, ":")
	key, value, _ := strings.Cut(left, "=")
	return taint{Key: key, Value: value, Effect: effect}
}

func mergeTaints(now []taint, note string, want []taint) []taint {
	same := func(a taint) func(taint) bool {
		return func(b taint) bool { return a.Key == b.Key && a.Effect == b.Effect }
	}
	var old []taint
	for s := range strings.SplitSeq(note, ",") {
		old = append(old, parseTaint(s))
	}
	next := []taint{}
	for _, t := range now {
		if !slices.ContainsFunc(want, same(t)) && !slices.ContainsFunc(old, same(t)) {
			next = append(next, t)
		}
	}
	return append(next, want...)
}

// condition is whether the node is ready, and else why not. A report from
// before since does not count.
func (o nodeObject) condition(since time.Time) (bool, string) {
	for _, c := range o.Status.Conditions {
		if c.Type != "Ready" {
			continue
		}
		if c.LastHeartbeatTime.Before(since) {
			return false, "its kubelet has not reported yet"
		}
		return c.Status == "True", c.Message
	}
	return false, "its kubelet has not registered yet"
}

// awaitReady returns when the node has said after since that it is ready.
func (c *Cluster) awaitReady(ctx context.Context, name string, since time.Time) error {
	why := ""
	for {
		var o nodeObject
		err := c.client.get(ctx, nodePath(name), &o)
		if err == nil {
			var ok bool
			if ok, why = o.condition(since); ok {
				return nil
			}
		} else if ctx.Err() == nil {
			why = err.Error()
		}
		if !pause(ctx, poll) {
			return fmt.Errorf("waiting until it is ready: %w (%s)", ctx.Err(), why)
		}
	}
}

// pause waits, and reports whether there is still time.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Nodes is the state of the nodes that have been placed.
func (c *Cluster) Nodes(ctx context.Context) ([]node.NodeStatus, error) {
	var list struct {
		Items []nodeObject `json:"items"`
	}
	err := c.client.get(ctx, "/api/v1/nodes", &list)
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]node.NodeStatus, 0, len(c.places))
	for name, p := range c.places {
		st := node.NodeStatus{Name: name, Address: p.Address, PodCIDR: p.PodCIDR, Message: "the API server does not know it"}
		if err != nil {
			st.Message = "the API server does not answer"
		}
		for _, o := range list.Items {
			if o.Metadata.Name == name {
				st.Ready, st.Message = o.condition(time.Time{})
			}
		}
		if st.Ready {
			st.Message = ""
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b node.NodeStatus) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// podObject is what we read of a Pod.
type podObject struct {
	Metadata struct {
		Name, Namespace string
		Annotations     map[string]string
		OwnerReferences []struct{ Kind string }
	} `json:"metadata"`
	Status struct{ Phase string } `json:"status"`
}

func (p podObject) path() string {
	return "/api/v1/namespaces/" + p.Metadata.Namespace + "/pods/" + p.Metadata.Name
}

// stays reports whether a drain leaves the pod where it is: a DaemonSet's
// would come back at once.
func (p podObject) stays() bool {
	_, mirror := p.Metadata.Annotations["kubernetes.io/config.mirror"]
	return mirror || slices.ContainsFunc(p.Metadata.OwnerReferences, func(o struct{ Kind string }) bool { return o.Kind == "DaemonSet" || o.Kind == "Node" })
}

func (c *Cluster) podsOn(ctx context.Context, name string) ([]podObject, error) {
	var list struct {
		Items []podObject `json:"items"`
	}
	q := url.Values{"fieldSelector": {"spec.nodeName=" + name}}
	err := c.client.get(ctx, "/api/v1/pods?"+q.Encode(), &list)
	return list.Items, err
}

// drain lets no new pods onto the node and asks those on it to go, within
// their budgets, until they have gone or ctx ends.
func (c *Cluster) drain(ctx context.Context, name string) error {
	err := c.client.merge(ctx, nodePath(name), obj{"spec": obj{"unschedulable": true}})
	if is(err, http.StatusNotFound) {
		return nil
	}
	for err == nil {
		var pods []podObject
		if pods, err = c.podsOn(ctx, name); err != nil {
			break
		}
		pods = slices.DeleteFunc(pods, podObject.stays)
		if len(pods) == 0 {
			return nil
		}
		err = c.evict(ctx, pods)
		if err == nil && !pause(ctx, 5*poll) {
			err = ctx.Err()
		}
	}
	return err
}

func (c *Cluster) evict(ctx context.Context, pods []podObject) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(10)
	for _, p := range pods {
		g.Go(func() error {
			err := c.client.do(ctx, http.MethodPost, p.path()+"/eviction", "application/json", obj{
				"apiVersion": "policy/v1", "kind": "Eviction", "metadata": obj{"name": p.Metadata.Name, "namespace": p.Metadata.Namespace},
			}, nil)
			if is(err, http.StatusNotFound) || is(err, http.StatusTooManyRequests) { // gone, or its budget says later
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// forget deletes the objects of a node whose containers are gone.
func (c *Cluster) forget(ctx context.Context, name string) error {
	pods, err := c.podsOn(ctx, name)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if err := c.client.remove(ctx, p.path()+"?gracePeriodSeconds=0"); err != nil {
			return err
		}
	}
	return c.client.remove(ctx, nodePath(name))
}

// endContainers asks the containers of a node to end and waits until they
// have, or their time is over.
func (c *Cluster) endContainers(ctx context.Context, name string) error {
	cgroup, err := c.cfg.Root.FindCgroup(c.cgroupName(name) + "/kubepods")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	asked := map[int]bool{}
	for {
		pids, err := cgroup.Processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if !asked[pid] && firstOfNamespace(pid) {
				asked[pid] = true
				if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("ending the containers of %s: %w", name, err)
				}
			}
		}
		if !pause(ctx, poll) {
			return nil // they are killed next
		}
	}
}

// firstOfNamespace reports whether the process is number 1 of a namespace of
// processes: a container's first.
func firstOfNamespace(pid int) bool {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return false
	}
	_, line, _ := strings.Cut(string(raw), "\nNSpid:")
	line, _, _ = strings.Cut(line, "\n")
	numbers := strings.Fields(line)
	return len(numbers) > 1 && numbers[len(numbers)-1] == "1"
}

// jsonFile reads a file of our own; without one v stays as it is.
func jsonFile(path string, v any) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
