package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/store"
)

// The ranges inside a workspace's cluster. Nobody outside sees them, and all
// clusters have the same.
const (
	podCIDR     = "10.244.0.0/16"
	serviceCIDR = "10.245.0.0/16"
	dnsService  = "10.245.0.10"
	maxPods     = 110
)

// Network makes the workspace's cluster, unless it is there, and returns when
// deployments can run in it. tell hears of the steps; it may be nil.
func (c *Compute) Network(ctx context.Context, w Workspace, tell func(string)) error {
	if tell == nil {
		tell = func(string) {}
	}
	if c.isUp(w.UID) {
		return nil
	}
	give, err := c.take(ctx, "network "+w.UID)
	if err != nil {
		return err
	}
	defer give()
	if c.isUp(w.UID) {
		return nil
	}
	version, err := c.version(ctx)
	if err != nil {
		return err
	}
	_, err = changeDoc(ctx, c.cfg.Store, networkPrefix+w.UID, networkKind, func(n *networkDoc) error {
		if n.Removing {
			return fmt.Errorf("the computes of workspace %s: %w", w.Name, cluster.ErrRemoved)
		}
		n.Workspace, n.ID = w, w.ID.String()
		return nil
	})
	if err != nil {
		return err
	}
	uid := ClusterUID(w.UID)
	if d, ok := c.cfg.Driver.(interface{ Readmit(uid string) }); ok {
		d.Readmit(uid) // our turns see to it that nobody asks for the one that was removed
	}
	if err := c.cfg.Issuers.EnsureHidden(ctx, uid, w.ID.String(), w.Location); err != nil {
		return err
	}
	archive := make(chan error, 1)
	go func() { // takes a while the first time, as the cluster does
		_, err := c.programArchive(ctx)
		archive <- err
	}()
	err = c.cfg.Driver.Apply(ctx, c.spec(w, version), func(p cluster.Phase) {
		if !p.Done {
			tell("computes: " + p.Name)
		}
	})
	if err := errors.Join(err, <-archive); err != nil {
		return fmt.Errorf("the computes of workspace %s: %w", w.Name, err)
	}
	tell("computes: images")
	if err := c.loadProgram(ctx, w.UID); err != nil {
		return fmt.Errorf("the computes of workspace %s: %w", w.Name, err)
	}
	c.mu.Lock()
	c.host(w.UID).up = true
	c.mu.Unlock()
	c.follow(w.UID)
	c.prepare(w)
	return nil
}

// prepare gives a cluster the images that are likely to be wanted, without having
// anybody wait.
func (c *Compute) prepare(w Workspace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks == nil || c.cfg.Likely == nil {
		return
	}
	ctx := c.work
	c.tasks.Go(func() error {
		for _, file := range c.cfg.Likely(ctx) {
			// A deployment that needs it says itself what is wrong.
			if _, err := c.loadArchive(ctx, w.UID, file); err != nil && ctx.Err() == nil {
				c.cfg.Log.Info("an image was not loaded ahead", slog.String("workspace", w.Name), slog.String("error", err.Error()))
			}
		}
		return nil
	})
}

func (c *Compute) isUp(workspaceUID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[workspaceUID]
	return h != nil && h.up
}

// spec is a workspace's cluster: one node, as large as the machine gives.
func (c *Compute) spec(w Workspace, version string) cluster.Spec {
	return cluster.Spec{
		UID: ClusterUID(w.UID), Name: "ml-" + shortened(w.Name, 60), ResourceID: w.ID.String(), Location: w.Location, Version: version, Running: true,
		PodCIDR: podCIDR, ServiceCIDR: serviceCIDR, DNSServiceIP: dnsService, Isolated: true, NetworkPolicy: true,
		Nodes: []cluster.Node{{Name: "compute", Pool: "compute", CPUMillis: c.cfg.CPUMillis, MemoryMiB: c.cfg.MemoryMiB, MaxPods: maxPods}},
	}
}

func shortened(s string, most int) string { return s[:min(len(s), most)] }

// RemoveNetwork takes the workspace's cluster away, with all that runs in it.
// Gone already is no error. It can be made again.
func (c *Compute) RemoveNetwork(ctx context.Context, workspaceUID string) error {
	docs, err := c.deployments(ctx, workspaceUID)
	if err != nil {
		return err
	}
	for _, d := range docs {
		c.interrupt(d.Deployment.UID)
	}
	give, err := c.take(ctx, "network "+workspaceUID)
	if err != nil {
		return err
	}
	defer give()
	_, _, err = store.GetJSON[networkDoc](ctx, c.cfg.Store, networkPrefix+workspaceUID)
	if errors.Is(err, store.ErrNotFound) {
		return c.forgetDeployments(ctx, docs)
	}
	if _, err = changeDoc(ctx, c.cfg.Store, networkPrefix+workspaceUID, networkKind, func(n *networkDoc) error { n.Removing = true; return nil }); err != nil {
		return err
	}
	c.unfollow(workspaceUID)
	c.mu.Lock()
	if h := c.hosts[workspaceUID]; h != nil && h.kube != nil {
		h.kube.Close()
	}
	delete(c.hosts, workspaceUID)
	c.mu.Unlock()
	uid := ClusterUID(workspaceUID)
	if err := c.cfg.Driver.Remove(ctx, uid); err != nil {
		return fmt.Errorf("removing the computes of workspace %s: %w", workspaceUID, err)
	}
	if err := errors.Join(c.cfg.Issuers.Remove(ctx, uid), c.forgetDeployments(ctx, docs)); err != nil {
		return err
	}
	c.cfg.Log.Info("computes removed", slog.String("workspace", workspaceUID))
	return c.drop(ctx, networkPrefix+workspaceUID)
}

// forgetDeployments ends what the store has of deployments that are gone with
// their cluster.
func (c *Compute) forgetDeployments(ctx context.Context, docs []deploymentDoc) error {
	var errs []error
	for _, d := range docs {
		errs = append(errs, c.forget(ctx, d))
	}
	return errors.Join(errs...)
}
