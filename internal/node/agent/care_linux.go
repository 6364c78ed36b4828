package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/kube"
	"lazurite.dev/internal/node/wire"
)

// Times of the care for clusters.
const (
	careEvery   = 5 * time.Second
	askTime     = 2 * time.Second
	firstRetry  = 5 * time.Second
	longestWait = time.Minute
)

// resume brings the cluster up as it should be, again and again until that
// worked or somebody else changes it.
func (c *cluster) resume(ctx context.Context) {
	pause := firstRetry
	for {
		c.mu.Lock()
		spec, before, removing := c.rec.Spec, c.changes, c.rec.Removing
		c.mu.Unlock()
		var err error
		if removing {
			err = c.remove(ctx)
		} else {
			err = c.apply(ctx, spec, nil)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		c.m.log.Warn("a cluster did not come up", slog.String("uid", c.uid), slog.String("error", err.Error()), slog.Duration("again in", pause))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestWait)
		c.mu.Lock()
		others := c.changes > before+1 || c.gone && !removing || c.halted
		c.mu.Unlock()
		if others {
			return
		}
	}
}

// care looks after a cluster that nobody changes: a link that is gone or down
// is repaired, a change that failed is tried again, connections to load
// balancers go to the nodes that are Ready or have their pods, certificates are renewed.
func (c *cluster) care(ctx context.Context) {
	c.mu.Lock()
	should := (c.rec.Spec.Running && !c.gone || c.rec.Removing) && len(c.busy) == 0 && !c.halted
	failed, network, parts := c.err != nil, c.net, c.parts
	c.mu.Unlock()
	if !should {
		return
	}
	if failed || c.removing() || network == nil || parts == nil || !network.Whole() {
		c.resume(ctx)
		return
	}
	ask, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	nodes, err := parts.Nodes(ask)
	if err == nil {
		ready := map[string]bool{}
		for _, n := range nodes {
			ready[n.Name] = n.Ready
		}
		c.balance(network, ready)
		if err := c.balanceLocal(ask, network, parts); err != nil {
			c.m.log.Warn("load balancers are not routed", slog.String("uid", c.uid), slog.String("error", err.Error()))
		}
	}
	c.renew(time.Now())
}

func (c *cluster) balance(network *wire.Network, ready map[string]bool) {
	c.mu.Lock()
	slots := map[int]bool{}
	for name, slot := range c.rec.Slots {
		slots[slot] = ready[name]
	}
	c.mu.Unlock()
	for slot, takes := range slots {
		if err := network.Balance(slot, takes); err != nil {
			c.m.log.Warn("load balancers are not routed", slog.String("uid", c.uid), slog.String("error", err.Error()))
		}
	}
}

// balanceLocal routes the load balancers that only the nodes of their pods
// answer for.
func (c *cluster) balanceLocal(ctx context.Context, network *wire.Network, parts *kube.Cluster) error {
	local, err := parts.Local(ctx)
	if err != nil {
		return err
	}
	want := make(map[netip.Addr][]int, len(local))
	c.mu.Lock()
	for address, nodes := range local {
		want[address] = nil
		for _, name := range nodes {
			if slot, ok := c.rec.Slots[name]; ok {
				want[address] = append(want[address], slot)
			}
		}
	}
	c.mu.Unlock()
	return network.BalanceLocal(want)
}

// renew makes new certificates when it is time to look at them.
func (c *cluster) renew(now time.Time) {
	c.mu.Lock()
	parts, due := c.parts, !now.Before(c.renewing)
	if parts != nil && due {
		c.renewing = now.Add(parts.RenewEvery())
	}
	c.mu.Unlock()
	if parts == nil || !due {
		return
	}
	if err := parts.Renew(); err != nil {
		c.m.log.Error("certificates were not renewed", slog.String("uid", c.uid), slog.String("error", err.Error()))
	}
}

// status is what the agent knows; of nodes what their API server says.
func (c *cluster) status(ctx context.Context) node.ClusterStatus {
	c.mu.Lock()
	st := node.ClusterStatus{UID: c.uid, Name: c.rec.Spec.Name, ResourceID: c.rec.Spec.ResourceID, Running: c.rec.Spec.Running, Applying: len(c.busy) > 0}
	if c.err != nil {
		st.Err = c.err.Error()
	}
	index, network, parts := c.rec.Index, c.net, c.parts
	if c.control != nil {
		st.Space = c.control.ID()
	}
	c.mu.Unlock()
	if index >= 0 {
		l := c.layout(index)
		st.Address, st.HostAddress, st.Network, st.LoadBalancers = l.Cluster(), l.Host(), l.Network(), l.LoadBalancers()
		st.Server = "https://" + netip.AddrPortFrom(l.Cluster(), node.PortAPI).String()
	}
	st.Processes = c.supervisor.Status()
	if network != nil && parts != nil {
		ask, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		st.Nodes, _ = parts.Nodes(ask) // what can't be known stands in each node's message
	}
	return st
}

func (c *cluster) removing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Removing
}
