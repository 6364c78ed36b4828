package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/store"
)

const (
	watchTime = 4 * time.Minute // of one watch; then credentials and list are fresh again
	watchSoon = 500 * time.Millisecond
	watchLate = 5 * time.Second
	looked    = 3 * time.Minute // after that the kubelet has looked at every pod
)

// feed is what a workspace's cluster says of its pods. What it said last counts
// while its API server does not answer: pods serve without it.
type feed struct {
	cancel context.CancelFunc

	lists map[string][]Instance // by deployment UID
	names map[netip.Addr]string // who has an address
}

// seen is a pod as the feed knows it.
type seen struct {
	deployment string // UID
	name       string // "ENDPOINT/DEPLOYMENT (pod NAME)"
	instance   Instance
}

// follow looks at a workspace's pods from now on, if Run does and it is not looked
// at yet.
func (c *Compute) follow(workspaceUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks == nil || c.feeds[workspaceUID] != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.work)
	f := &feed{cancel: cancel}
	c.feeds[workspaceUID] = f
	c.tasks.Go(func() error { c.feed(ctx, workspaceUID, f); return nil })
}

// unfollow ends that.
func (c *Compute) unfollow(workspaceUID string) {
	c.mu.Lock()
	if f := c.feeds[workspaceUID]; f != nil {
		f.cancel()
		delete(c.feeds, workspaceUID)
	}
	c.mu.Unlock()
	c.changed()
}

// feed lists and watches until ctx ends.
func (c *Compute) feed(ctx context.Context, workspaceUID string, f *feed) {
	pause, said := watchSoon, ""
	for ctx.Err() == nil {
		err := c.watch(ctx, workspaceUID, f)
		if err == nil {
			pause, said = watchSoon, ""
			continue
		}
		if text := err.Error(); text != said && ctx.Err() == nil && pause >= watchLate {
			c.cfg.Log.Warn("looking at instances", slog.String("workspace", workspaceUID), slog.String("error", text))
			said = text
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, watchLate)
	}
}

// watch lists the pods, and takes over each change until the watch ends.
func (c *Compute) watch(ctx context.Context, workspaceUID string, f *feed) error {
	ctx, cancel := context.WithTimeout(ctx, watchTime+time.Minute)
	defer cancel()
	k, _, err := c.kube(ctx, workspaceUID)
	if err != nil {
		return err
	}
	selector := "labelSelector=" + url.QueryEscape(labelDeployment)
	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []pod
	}
	if err := k.Get(ctx, "/api/v1/pods?"+selector, &list); err != nil {
		return err
	}
	since, err := c.since(ctx, workspaceUID)
	if err != nil {
		return err
	}
	all := map[string]seen{}
	for _, p := range list.Items {
		see(all, workspaceUID, p, since)
	}
	c.show(f, all)
	path := fmt.Sprintf("/api/v1/pods?watch=true&%s&timeoutSeconds=%d&resourceVersion=%s", selector, int(watchTime.Seconds()), url.QueryEscape(list.Metadata.ResourceVersion))
	err = k.Watch(ctx, path, func(event string, raw json.RawMessage) error {
		var p pod
		if err := json.Unmarshal(raw, &p); err != nil {
			return fmt.Errorf("decode a pod: %w", err)
		}
		next := maps.Clone(all)
		if delete(next, p.Metadata.Namespace+"/"+p.Metadata.Name); event != "DELETED" {
			see(next, workspaceUID, p, since)
		}
		if !maps.Equal(next, all) {
			all = next
			c.show(f, all)
		}
		return nil
	})
	if e, ok := errors.AsType[*cluster.KubeError](err); ok && e.Code == http.StatusGone {
		return nil // listed again at once
	}
	return err
}

// since is when the cluster's network was made. After everything was stopped, or
// lost with the machine, the API server still says of each pod that it is ready,
// at an address that may be another's by now, until the kubelet has looked.
func (c *Compute) since(ctx context.Context, workspaceUID string) (time.Time, error) {
	all, err := c.cfg.Agent.Status(ctx)
	if err != nil {
		return time.Time{}, err
	}
	i := slices.IndexFunc(all, func(st node.ClusterStatus) bool { return st.UID == ClusterUID(workspaceUID) })
	if i < 0 || all[i].Space == 0 {
		return time.Time{}, fmt.Errorf("the computes of workspace %s: %w", workspaceUID, cluster.ErrNotFound)
	}
	key := networkPrefix + workspaceUID
	doc, _, err := store.GetJSON[networkDoc](ctx, c.cfg.Store, key)
	if err != nil || doc.Space == all[i].Space {
		return doc.Since, err
	}
	began := time.Now()
	for _, p := range all[i].Processes { // the first of them began when the network was there
		if !p.Since.IsZero() && p.Since.Before(began) {
			began = p.Since
		}
	}
	doc, err = changeDoc(ctx, c.cfg.Store, key, networkKind, func(n *networkDoc) error {
		if n.UID == "" {
			return cluster.ErrNotFound // taken away meanwhile
		}
		n.Space, n.Since = all[i].Space, began.UTC()
		return nil
	})
	return doc.Since, err
}

// see adds a pod that has an address. One whose server began before the network
// was made is gone, whatever is said of it.
func see(all map[string]seen, workspaceUID string, p pod, since time.Time) {
	if i, ok := p.instance(ClusterUID(workspaceUID)); ok {
		s, _ := p.status(InferenceServer)
		stale := s.State.Running == nil || s.State.Running.StartedAt.Before(since.Truncate(time.Second))
		i.Ready = i.Ready && (!stale || time.Since(since) > looked)
		all[p.Metadata.Namespace+"/"+p.Metadata.Name] = seen{
			deployment: p.Metadata.Labels[labelDeployment], instance: i,
			name: fmt.Sprintf("%s (pod %s)", p.Metadata.Annotations[noteName], p.Metadata.Name),
		}
	}
}

// show makes all what Of gives.
func (c *Compute) show(f *feed, all map[string]seen) {
	lists, names := map[string][]Instance{}, map[netip.Addr]string{}
	for _, one := range all {
		lists[one.deployment] = append(lists[one.deployment], one.instance)
		names[one.instance.Address.Addr()] = one.name
	}
	for _, l := range lists {
		slices.SortFunc(l, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
	}
	c.mu.Lock()
	f.lists, f.names = lists, names
	c.mu.Unlock()
	c.changed()
}

// changed calls who wants to know.
func (c *Compute) changed() {
	c.mu.Lock()
	heard := slices.Clone(c.heard)
	c.mu.Unlock()
	for _, f := range heard {
		f()
	}
}

// OnChange has f called after instances have changed. It must not wait.
func (c *Compute) OnChange(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, f)
}

// Of are the instances of a deployment that have an address, by id, out of
// memory. The caller does not change them.
func (c *Compute) Of(deploymentUID string) []Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.feeds {
		if l := f.lists[deploymentUID]; l != nil {
			return l
		}
	}
	return nil
}

// Who names the pod of a workspace that has an address: "ENDPOINT/DEPLOYMENT
// (pod NAME)"; "" when none has. It asks memory alone.
func (c *Compute) Who(workspaceUID string, a netip.Addr) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name := c.builds[workspaceUID][a]; name != "" {
		return name
	}
	if f := c.feeds[workspaceUID]; f != nil {
		return f.names[a]
	}
	return ""
}

// Dial connects to an instance.
func (c *Compute) Dial(ctx context.Context, i Instance) (net.Conn, error) {
	return c.cfg.Agent.DialPod(ctx, i.Cluster, i.Address)
}
