package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/kube"
	"lazurite.dev/internal/node/wire"
)

// firstUser is the first of the users that control planes run as, eight for
// each index: above all ranges that systems give to users and containers
// (systemd: UIDs, GIDs, and their ranges).
const firstUser = 1_879_050_000

// cluster is one that should be there.
type cluster struct {
	m          *machine
	uid, dir   string
	supervisor *box.Supervisor
	turn       chan struct{} // taken by who changes the cluster

	mu       sync.Mutex // guards what follows; never held while something is waited for
	rec      record
	err      error // why the last change failed
	busy     map[int]context.CancelFunc
	changes  int           // how many have begun: also numbers them
	gone     bool          // removed
	halted   bool          // the agent ends
	net      *wire.Network // nil while the cluster is not on the machine
	control  *box.Space
	parts    *kube.Cluster // nil until first needed
	renewing time.Time     // when certificates are looked at next
}

func newCluster(m *machine, r record) *cluster {
	c := &cluster{m: m, uid: r.Spec.UID, rec: r, dir: filepath.Join(m.folder(), r.Spec.UID), turn: make(chan struct{}, 1), busy: map[int]context.CancelFunc{}}
	if c.rec.Slots == nil {
		c.rec.Slots = map[string]int{}
	}
	c.supervisor = box.NewSupervisor(m.starter, filepath.Join(c.dir, "log"), m.log.With(slog.String("cluster", r.Spec.Name), slog.String("uid", c.uid)))
	return c
}

// clusterName begins the names of what a cluster has on the machine.
func clusterName(index int) string { return fmt.Sprintf("c%d", index) }

func (c *cluster) name() string { return clusterName(c.rec.Index) }

func (c *cluster) indexNow() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Index
}

// begin registers a change, so that a removal can interrupt it. done ends it.
func (c *cluster) begin(ctx context.Context) (_ context.Context, done func(error)) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	id := c.changes
	c.busy[id] = cancel
	return ctx, func(err error) {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.busy, id)
		c.err = err
	}
}

// interrupt ends the changes in progress.
func (c *cluster) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cancel := range c.busy {
		cancel()
	}
}

// take waits for the turn.
func (c *cluster) take(ctx context.Context) (give func(), err error) {
	select {
	case c.turn <- struct{}{}:
		return func() { <-c.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keep changes the record and writes it.
func (c *cluster) keep(f func(*record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.rec)
	return writeRecord(c.dir, c.rec)
}

// apply makes the cluster what spec says.
func (c *cluster) apply(ctx context.Context, spec node.Cluster, tell func(node.Phase)) error {
	ctx, done := c.begin(ctx)
	err := c.change(ctx, spec, tell)
	done(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.gone {
		return fmt.Errorf("%w: %s has been removed meanwhile", node.ErrNotFound, spec.Name)
	}
	if _, there := os.Stat(c.dir); err != nil && there != nil { // it never began to be
		defer c.m.forget(c)
	}
	return err
}

func (c *cluster) change(ctx context.Context, spec node.Cluster, tell func(node.Phase)) error {
	give, err := c.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	c.mu.Lock()
	gone, halted := c.gone, c.halted
	c.mu.Unlock()
	if gone {
		return node.ErrNotFound
	}
	if halted {
		return fmt.Errorf("%w: the node agent is stopping", node.ErrUnavailable)
	}
	dist, err := "", error(nil)
	if spec.Running {
		if dist, err = c.m.kubernetes(); err != nil {
			return err
		}
	}
	if err := c.keep(func(r *record) { r.Spec = spec }); err != nil {
		return err
	}
	if !spec.Running {
		return c.stop(ctx, tell)
	}
	if err := phase(tell, "network", func() error { return c.connect(ctx) }); err != nil {
		return err
	}
	parts, err := c.components(dist)
	if err != nil {
		return err
	}
	return parts.Apply(ctx, spec, tell)
}

// phase tells a step of the agent's own.
func phase(tell func(node.Phase), name string, f func() error) error {
	if tell == nil {
		tell = func(node.Phase) {}
	}
	began := time.Now()
	tell(node.Phase{Name: name})
	err := f()
	p := node.Phase{Name: name, Done: true, Took: time.Since(began)}
	if err != nil {
		p.Err = err.Error()
		err = fmt.Errorf("%s: %w", name, err)
	}
	tell(p)
	return err
}

// layout is where the cluster is with an index.
func (c *cluster) layout(index int) wire.Layout {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wire.Layout{
		Base: c.m.opt.Range, Index: index, Isolated: c.rec.Spec.Isolated,
		Pods: netip.MustParsePrefix(c.rec.Spec.PodCIDR), Services: netip.MustParsePrefix(c.rec.Spec.ServiceCIDR), // they were validated
	}
}

// connect makes the network, or repairs it.
func (c *cluster) connect(ctx context.Context) error {
	lock, err := lockNetworks(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	c.mu.Lock()
	network, index, isolated := c.net, c.rec.Index, c.rec.Spec.Isolated
	c.mu.Unlock()
	if network != nil {
		network.Isolate(isolated)
		return network.Up(ctx)
	}
	if index < 0 || !wire.Has(c.m.root, c.m.opt.Range, index) {
		wish := index
		if index, err = c.m.index(c.uid, wish); err != nil {
			return err
		}
		if wish >= 0 && wish != index {
			if err := c.sweep(ctx, clusterName(wish)); err != nil {
				return err
			}
		}
		if err := c.keep(func(r *record) { r.Index = index }); err != nil {
			return err
		}
		c.mu.Lock()
		c.parts = nil // it has the old addresses
		c.mu.Unlock()
	}
	layout := c.layout(index)
	if layout.Base.Overlaps(layout.Pods) || layout.Base.Overlaps(layout.Services) {
		return fmt.Errorf("%w: the cluster's own ranges overlap %s, where clusters are on this machine", node.ErrInvalid, layout.Base)
	}
	space, _, err := c.m.root.Space(c.m.starter, clusterName(index), box.SpaceSpec{Hostname: clusterName(index)})
	if err != nil {
		return err
	}
	network = wire.New(c.m.root, space, layout)
	c.mu.Lock()
	c.net, c.control = network, space
	for _, slot := range c.rec.Slots {
		network.Know(slot) // nodes that a crashed agent left work on
	}
	c.mu.Unlock()
	return network.Up(ctx)
}

// components are the cluster's Kubernetes.
func (c *cluster) components(dist string) (*kube.Cluster, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parts != nil {
		return c.parts, nil
	}
	if c.rec.Index < 0 {
		return nil, fmt.Errorf("%w: the cluster has never run", node.ErrUnavailable)
	}
	l := wire.Layout{Base: c.m.opt.Range, Index: c.rec.Index}
	dir, run := filepath.Join(c.dir, "kube"), filepath.Join(c.m.root.Run, c.name())
	for _, d := range []string{dir, run} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	parts, err := kube.New(kube.Config{
		Name: c.name(), Dir: dir, Run: run, Dist: dist, Program: program, Root: c.m.root, Supervisor: c.supervisor, Log: c.m.log,
		Address: l.Cluster(), LoadBalancers: l.LoadBalancers(), UID: firstUser + 8*c.rec.Index,
		Control: func(context.Context) (*box.Space, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.control == nil {
				return nil, errors.New("the cluster has no network")
			}
			return c.control, nil
		},
		Place: c.place, Unplace: c.unplace,
	})
	if err == nil && dist != "" {
		c.parts = parts
	}
	return parts, err
}

// place gives a node its namespaces and its link.
func (c *cluster) place(ctx context.Context, name string, spec box.SpaceSpec) (kube.Place, error) {
	slot, err := c.slot(name)
	if err != nil {
		return kube.Place{}, err
	}
	c.mu.Lock()
	network := c.net
	c.mu.Unlock()
	space, _, err := c.m.root.Space(c.m.starter, c.name()+"-"+name, spec)
	if err == nil {
		err = network.AddNode(ctx, slot, space)
	}
	return kube.Place{Space: space, Address: network.Node(slot), PodCIDR: network.PodCIDR(slot)}, err
}

// slot is the node's, which it keeps as long as it is one of the cluster's: its
// address and the range of its pods hang on it.
func (c *cluster) slot(name string) (slot int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slot, ok := c.rec.Slots[name]; ok {
		return slot, nil
	}
	taken := map[int]bool{}
	for _, s := range c.rec.Slots {
		taken[s] = true
	}
	for slot := wire.FirstSlot; slot < wire.FirstSlot+c.net.Slots(); slot++ {
		if !taken[slot] {
			c.rec.Slots[name] = slot
			return slot, writeRecord(c.dir, c.rec)
		}
	}
	return 0, fmt.Errorf("%w: %d nodes are all that the pod range %s has room for", node.ErrInvalid, c.net.Slots(), c.rec.Spec.PodCIDR)
}

// unplace takes a node's link and namespaces away.
func (c *cluster) unplace(ctx context.Context, name string) error {
	c.mu.Lock()
	slot, ok := c.rec.Slots[name]
	network := c.net
	c.mu.Unlock()
	if ok && network != nil {
		if err := network.RemoveNode(ctx, slot); err != nil {
			return err
		}
	}
	if space := c.m.root.FindSpace(c.m.starter, c.name()+"-"+name); space != nil {
		if err := space.Remove(ctx); err != nil {
			return err
		}
	}
	return c.keep(func(r *record) {
		if !slices.ContainsFunc(r.Spec.Nodes, func(n node.Node) bool { return n.Name == name }) {
			delete(r.Slots, name)
		}
	})
}

// stop ends the cluster's processes in order and takes it off the machine; its
// data stays.
func (c *cluster) stop(ctx context.Context, tell func(node.Phase)) error {
	c.mu.Lock()
	parts, index := c.parts, c.rec.Index
	c.mu.Unlock()
	var err error
	if parts != nil {
		err = parts.Stop(ctx, tell)
	}
	if index < 0 {
		return err
	}
	return errors.Join(err, phase(tell, "network", func() error { return c.sweep(ctx, clusterName(index)) }))
}

// sweep takes everything called name off the machine, however it came there.
func (c *cluster) sweep(ctx context.Context, name string) error {
	killed, cancel := context.WithCancel(ctx)
	cancel()
	errs := []error{c.supervisor.Stop(killed, nil)}
	c.mu.Lock()
	c.net, c.control = nil, nil
	c.mu.Unlock()
	ctx = context.WithoutCancel(ctx) // each step has a limit of its own
	own := func(s string) bool { return s == name || strings.HasPrefix(s, name+"-") }
	cgroups, err := c.m.root.Cgroups()
	errs = append(errs, err)
	for _, s := range cgroups {
		if own(s) {
			g, err := c.m.root.FindCgroup(s)
			if err == nil {
				err = g.Remove(ctx)
			}
			errs = append(errs, err)
		}
	}
	spaces, err := c.m.root.Spaces()
	errs = append(errs, err)
	for _, s := range spaces {
		if own(s) {
			errs = append(errs, c.m.root.FindSpace(c.m.starter, s).Remove(ctx))
		}
	}
	errs = append(errs, wire.Forget(c.m.root, func(index int) bool { return clusterName(index) != name }))
	errs = append(errs, os.RemoveAll(filepath.Join(c.m.root.Run, name)))
	return errors.Join(errs...)
}

// remove takes the cluster away for good.
func (c *cluster) remove(ctx context.Context) error {
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	c.interrupt()
	give, err := c.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	// From here on a crash leaves one that the next agent takes away.
	if err := c.keep(func(r *record) { r.Removing, r.Spec.Running = true, false }); err != nil {
		return err
	}
	return c.erase(ctx)
}

// erase does the work of remove.
func (c *cluster) erase(ctx context.Context) error {
	c.mu.Lock()
	parts, index := c.parts, c.rec.Index
	c.mu.Unlock()
	if parts != nil {
		if err := parts.Remove(ctx, nil); err != nil {
			c.m.log.Warn("a cluster was not removed in order", slog.String("uid", c.uid), slog.String("error", err.Error()))
		}
	}
	if index >= 0 {
		if err := c.sweep(ctx, clusterName(index)); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return err
	}
	c.m.forget(c)
	return nil
}

// halt stops the cluster with the agent: what it should be stays on record.
func (c *cluster) halt(ctx context.Context, atOnce bool) error {
	c.mu.Lock()
	c.halted = true
	c.mu.Unlock()
	c.interrupt()
	give, err := c.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	if atOnce { // the rest of the instance is swept
		killed, cancel := context.WithCancel(ctx)
		cancel()
		return c.supervisor.Stop(killed, nil)
	}
	return c.stop(ctx, nil)
}

// admin are an administrator's credentials.
func (c *cluster) admin() (node.Credentials, error) {
	c.m.mu.Lock()
	dist := c.m.dist.dir
	c.m.mu.Unlock()
	parts, err := c.components(dist)
	if err != nil {
		return node.Credentials{}, err
	}
	return parts.Admin()
}

// running are the components of a cluster that is on the machine.
func (c *cluster) running() (*kube.Cluster, *wire.Network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.net == nil || c.parts == nil {
		return nil, nil, fmt.Errorf("%w: cluster %s does not run", node.ErrUnavailable, c.rec.Spec.Name)
	}
	return c.parts, c.net, nil
}

func (c *cluster) listen(network string, port int) (*os.File, error) {
	c.mu.Lock()
	n := c.net
	c.mu.Unlock()
	if n == nil {
		return nil, fmt.Errorf("%w: the cluster has no network now", node.ErrUnavailable)
	}
	return n.Listen(network, port)
}

func (c *cluster) dial(ctx context.Context, at netip.AddrPort) (*os.File, error) {
	c.mu.Lock()
	n := c.net
	c.mu.Unlock()
	if n == nil {
		return nil, fmt.Errorf("%w: the cluster has no network now", node.ErrUnavailable)
	}
	return n.Dial(ctx, at)
}

func (c *cluster) loadImage(ctx context.Context, archive io.Reader) ([]string, error) {
	parts, _, err := c.running()
	if err != nil {
		return nil, err
	}
	return parts.LoadImage(ctx, archive)
}

func (c *cluster) images(ctx context.Context) ([]node.Image, error) {
	parts, _, err := c.running()
	if err != nil {
		return nil, err
	}
	return parts.Images(ctx)
}

func (c *cluster) removeImage(ctx context.Context, name string) error {
	parts, _, err := c.running()
	if err != nil {
		return err
	}
	return parts.RemoveImage(ctx, name)
}
