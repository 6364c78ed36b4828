package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// drainTime is how long the pods of a node that goes away may take to end.
// Azure waits up to half an hour for each node.
const drainTime = 30 * time.Second

// kubeNode is what is read of a node.
type kubeNode struct {
	Metadata struct {
		Name        string
		Labels      map[string]string
		Annotations map[string]string
	}
	Spec struct {
		Unschedulable bool
		Taints        []kubeTaint
	}
}

type kubeTaint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

const nodesPath = "/api/v1/nodes"

func (k *KubeAPI) nodes(ctx context.Context) ([]kubeNode, error) {
	var list struct{ Items []kubeNode }
	return list.Items, k.Get(ctx, nodesPath, &list)
}

// drain empties the nodes that the cluster has and the spec no longer has. A
// cluster that does not answer has nothing to drain.
func (d *Embedded) drain(ctx context.Context, s Spec, tell func(Phase)) error {
	access, err := d.cfg.Agent.Admin(ctx, s.UID)
	if err != nil {
		return nil //nolint:nilerr // there is none yet; the agent's Apply will say what is wrong
	}
	k, err := OpenKube(access)
	if err != nil {
		return err
	}
	defer k.Close()
	quick, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	have, err := k.nodes(quick)
	if err != nil {
		return ctx.Err()
	}
	for _, n := range have {
		if slices.ContainsFunc(s.Nodes, func(w Node) bool { return w.Name == n.Metadata.Name }) {
			continue
		}
		err := step(tell, "drain "+n.Metadata.Name, func() error { return k.drain(ctx, n.Metadata.Name) })
		if err != nil {
			return err
		}
	}
	return nil
}

// drain cordons a node and evicts its pods, as far as disruption budgets let
// it and as long as the time goes; then the node goes anyway, as its owner said.
func (k *KubeAPI) drain(ctx context.Context, node string) error {
	err := k.Patch(ctx, nodesPath+"/"+node, map[string]any{"spec": map[string]any{"unschedulable": true}})
	if kubeCode(err) == http.StatusNotFound {
		return nil
	} else if err != nil {
		return fmt.Errorf("cordon node %s: %w", node, err)
	}
	err = until(ctx, drainTime, lookAgain, func(ctx context.Context) (bool, error) {
		left, err := k.evict(ctx, node)
		return left == 0, err
	}, nil)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return nil //nolint:nilerr // time is over: what is left ends with the node
}

// evict asks the pods of a node to go and says how many are left.
func (k *KubeAPI) evict(ctx context.Context, node string) (int, error) {
	var pods struct {
		Items []struct {
			Metadata struct {
				Name, Namespace, DeletionTimestamp string
				Annotations                        map[string]string
				OwnerReferences                    []struct{ Kind string }
			}
			Status struct{ Phase string }
		}
	}
	if err := k.Get(ctx, "/api/v1/pods?fieldSelector="+url.QueryEscape("spec.nodeName="+node), &pods); err != nil {
		return 0, err
	}
	left := 0
	for _, p := range pods.Items {
		m := p.Metadata
		if p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" || m.Annotations["kubernetes.io/config.mirror"] != "" ||
			slices.ContainsFunc(m.OwnerReferences, func(o struct{ Kind string }) bool { return o.Kind == "DaemonSet" }) {
			continue
		}
		left++
		if m.DeletionTimestamp != "" {
			continue
		}
		err := k.Create(ctx, "/api/v1/namespaces/"+m.Namespace+"/pods/"+m.Name+"/eviction", "", Object{
			"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]any{"name": m.Name, "namespace": m.Namespace},
		}, nil)
		if code := kubeCode(err); err != nil && code != http.StatusTooManyRequests && code != http.StatusNotFound {
			return left, err
		}
	}
	return left, nil
}

// ownLabels remembers on a node which labels and taints its pool gave it.
const ownLabels = "lazurite.dev/pool-labels"

// nodes takes away nodes that are no more, and gives the others the labels and
// taints of their pools: a kubelet sets them at its first start only.
func (d *Embedded) nodes(ctx context.Context, k *KubeAPI, s Spec) error {
	have, err := k.nodes(ctx)
	if err != nil {
		return fmt.Errorf("list the nodes of cluster %s: %w", s.Name, err)
	}
	for _, n := range have {
		i := slices.IndexFunc(s.Nodes, func(w Node) bool { return w.Name == n.Metadata.Name })
		path := nodesPath + "/" + n.Metadata.Name
		if i < 0 {
			err = k.Delete(ctx, path)
		} else if patch := s.Nodes[i].patch(n); patch != nil {
			err = k.Patch(ctx, path, patch)
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", n.Metadata.Name, err)
		}
	}
	return nil
}

// patch is what has to change at a node, nil when nothing.
func (w Node) patch(n kubeNode) map[string]any {
	labels, gone := map[string]any{}, strings.Split(n.Metadata.Annotations[ownLabels], ",")
	for _, key := range gone {
		if _, still := w.Labels[key]; !still && key != "" {
			if _, there := n.Metadata.Labels[key]; there {
				labels[key] = nil
			}
		}
	}
	for key, v := range w.Labels {
		if n.Metadata.Labels[key] != v {
			labels[key] = v
		}
	}
	patch := map[string]any{}
	meta := map[string]any{}
	if len(labels) > 0 {
		meta["labels"] = labels
	}
	if own := strings.Join(slices.Sorted(maps.Keys(w.Labels)), ","); own != n.Metadata.Annotations[ownLabels] {
		meta["annotations"] = map[string]any{ownLabels: own}
	}
	if len(meta) > 0 {
		patch["metadata"] = meta
	}
	if want, changed := w.taints(n.Spec.Taints); changed {
		patch["spec"] = map[string]any{"taints": want}
	}
	if len(patch) == 0 {
		return nil
	}
	return patch
}

// taints are the pool's and those that Kubernetes itself put on the node.
func (w Node) taints(have []kubeTaint) (want []kubeTaint, changed bool) {
	for _, t := range w.Taints {
		key, effect, _ := strings.Cut(t, ":")
		key, value, _ := strings.Cut(key, "=")
		want = append(want, kubeTaint{key, value, effect})
	}
	mine := len(want)
	for _, t := range have {
		if strings.HasPrefix(t.Key, "node.kubernetes.io/") || strings.HasPrefix(t.Key, "node.cloudprovider.kubernetes.io/") {
			want = append(want, t)
		}
	}
	if len(want) != len(have) {
		return want, true
	}
	return want, slices.ContainsFunc(want[:mine], func(t kubeTaint) bool { return !slices.Contains(have, t) })
}
