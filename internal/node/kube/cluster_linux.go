package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
)

// Config is what a cluster is given.
type Config struct {
	Name       string // of it in the names of cgroups; unique in Root
	Dir        string // its folder, root's alone, kept
	Run        string // a folder of root's with a short path, gone after a restart of the machine: for sockets
	Dist       string // the distribution's folder
	Program    string // this program's file: what kubelets get credentials from
	Root       box.Root
	Supervisor *box.Supervisor
	Log        *slog.Logger

	Address       netip.Addr   // of the API server, in the cluster's network and from the host
	LoadBalancers netip.Prefix // addresses for services of that type
	UID           int          // first of five users (and groups) that nobody else has
	Life          time.Duration
	Now           func() time.Time

	// Control is the space of the control plane. It is asked for when the
	// first process starts in it.
	Control func(ctx context.Context) (*box.Space, error)
	// Place makes the space of a node with its links and routes, or finds it.
	Place func(ctx context.Context, name string, spec box.SpaceSpec) (Place, error)
	// Unplace takes it away. Nothing runs in it any more.
	Unplace func(ctx context.Context, name string) error
}

// Place is where a node lives.
type Place struct {
	Space   *box.Space
	Address netip.Addr
	PodCIDR netip.Prefix
}

// Cluster is one cluster's components on this machine. Apply, Stop and Remove
// come one after the other; the rest may be called at any time.
type Cluster struct {
	cfg    Config
	creds  *Credentials
	client *client
	images sync.Mutex // one at a time changes what is kept of images

	mu     sync.Mutex // guards what follows
	spec   node.Cluster
	places map[string]Place
	stores map[string]*box.Space // of nodes whose images are complete
}

// New opens the cluster in cfg.Dir: its credentials are made if it has none.
func New(cfg Config) (*Cluster, error) {
	creds, err := OpenCredentials(CredentialsConfig{Dir: cfg.Dir, Server: cfg.Address, Life: cfg.Life, Now: cfg.Now, UID: cfg.UID})
	if err != nil {
		return nil, err
	}
	admin, err := newClient(creds.Admin)
	if err != nil {
		return nil, err
	}
	return &Cluster{cfg: cfg, creds: creds, client: admin, places: map[string]Place{}, stores: map[string]*box.Space{}}, nil
}

// Admin are credentials of an administrator.
func (c *Cluster) Admin() (node.Credentials, error) { return c.creds.Admin() }

// Server is the URL of the API server.
func (c *Cluster) Server() string { return c.creds.Server }

// Apply starts what s asks for and is not running, starts again what s wants
// otherwise, takes away nodes that s has no more, and returns when the API
// server and all nodes are ready.
func (c *Cluster) Apply(ctx context.Context, s node.Cluster, tell func(node.Phase)) error {
	t := teller{tell: tell}
	var stamps map[string]string
	err := t.phase("certificates", "", func() (err error) {
		stamps, err = c.creds.ControlPlane(s)
		return err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.spec = s
	c.mu.Unlock()
	ready := make(chan struct{}) // closed when the API server is
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.control(gctx, s, stamps, &t, ready) })
	slots := make(chan struct{}, nodesAtOnce)
	for _, n := range s.Nodes {
		g.Go(func() error {
			return t.phase("node "+n.Name, "", func() error { return c.node(gctx, s, n, ready, slots) })
		})
	}
	for _, name := range c.strangers(s) {
		g.Go(func() error {
			select {
			case <-ready:
			case <-gctx.Done():
				return gctx.Err()
			}
			return t.phase("node "+name, "removing", func() error { return c.RemoveNode(gctx, name, true) })
		})
	}
	return g.Wait()
}

// nodesAtOnce is how many nodes start at the same time: each takes seconds of
// processor time.
const nodesAtOnce = 4

// strangers are nodes that are there and not in the specification.
func (c *Cluster) strangers(s node.Cluster) []string {
	var out []string
	entries, _ := os.ReadDir(filepath.Join(c.cfg.Dir, "nodes")) // none: no nodes
	for _, e := range entries {
		if !slices.ContainsFunc(s.Nodes, func(n node.Node) bool { return n.Name == e.Name() }) {
			out = append(out, e.Name())
		}
	}
	return out
}

// control brings up the control plane and closes ready when it answers.
func (c *Cluster) control(ctx context.Context, s node.Cluster, stamps map[string]string, t *teller, ready chan<- struct{}) error {
	space, err := c.cfg.Control(ctx)
	if err != nil {
		return err
	}
	if err := c.socketFolder(); err != nil {
		return err
	}
	cgroup, err := c.cfg.Root.Cgroup(c.cfg.Name + "-control")
	if err != nil {
		return err
	}
	run := func(ctx context.Context, phase, component string, flags []string, ready func(context.Context) error) error {
		return t.phase(phase, "", func() error {
			return c.cfg.Supervisor.Run(ctx, c.process(component, space, cgroup, flags, stamps[component], ready))
		})
	}
	first, fctx := errgroup.WithContext(ctx)
	first.Go(func() error { return run(fctx, "etcd", etcd, etcdFlags(), nil) })
	first.Go(func() error {
		return run(fctx, "api server", apiServer, c.creds.apiServerFlags(s), c.client.ready)
	})
	if err := first.Wait(); err != nil {
		return err
	}
	if err := c.client.rules(ctx); err != nil {
		return fmt.Errorf("the cluster's rules: %w", err)
	}
	close(ready)
	return t.phase("controllers", "", func() error {
		for component, flags := range map[string][]string{
			manager: c.creds.managerFlags(s), scheduler: schedulerFlags(), controller: controllerFlags(c.cfg.LoadBalancers.String()),
		} {
			if err := c.cfg.Supervisor.Run(ctx, c.process(component, space, cgroup, flags, stamps[component], nil)); err != nil {
				return err
			}
		}
		return nil
	})
}

// process is a component of the control plane: an ordinary user in the
// cluster's network, that sees its own files and the programs.
func (c *Cluster) process(component string, space *box.Space, cgroup *box.Cgroup, flags []string, stamp string, ready func(context.Context) error) box.Process {
	uid, gid := c.creds.Owner(component)
	mounts := []box.Mount{
		{Target: "/run", Options: "mode=0755,size=1m"},
		{Source: filepath.Join(c.cfg.Dist, "bin"), Target: ViewBin, ReadOnly: true},
		{Source: c.creds.Folder(component), Target: ViewFiles},
	}
	if component == etcd || component == apiServer {
		mounts = append(mounts, box.Mount{Source: c.creds.Folder("socket"), Target: ViewSocket})
	}
	var stop time.Duration
	if component == apiServer {
		// It would wait for its clients' watches, which come back anyway; what
		// it has answered is with etcd.
		stop = 2 * time.Second
	}
	var alive box.Liveness
	if component == apiServer {
		alive.Ask = c.client.alive
	}
	return box.Process{
		Alive: alive,
		Name:  component, Path: ViewBin + "/kubernetes", Args: append([]string{component}, flags...),
		Stamp: stamp, Space: space, Cgroup: cgroup, Mounts: mounts, UID: uid, GID: gid, Ready: ready, Stop: stop,
	}
}

// socketFolder is for etcd's socket, and for the user of etcd and the API
// server alone.
func (c *Cluster) socketFolder() error {
	_, _, err := c.creds.folder("socket") // as etcd's: the first user
	return err
}

// Stop ends all processes and containers of the cluster, with time to end by
// themselves. Its data stays.
func (c *Cluster) Stop(ctx context.Context, tell func(node.Phase)) error {
	t := teller{tell: tell}
	g := errgroup.Group{}
	for _, name := range c.nodeNames() {
		g.Go(func() error {
			return t.phase("node "+name, "stopping", func() error { return c.stopNode(ctx, name, true) })
		})
	}
	errs := []error{g.Wait()}
	errs = append(errs, t.phase("control plane", "stopping", func() error { return c.stopControl(ctx) }))
	return errors.Join(errs...)
}

func (c *Cluster) stopControl(ctx context.Context) error {
	var errs []error
	for _, group := range [][]string{{controller, scheduler, manager}, {apiServer}, {etcd}} {
		errs = append(errs, c.cfg.Supervisor.Stop(ctx, func(p box.Process) bool { return p.Node == "" && slices.Contains(group, p.Name) }))
	}
	c.client.close()
	cgroup, err := c.cfg.Root.FindCgroup(c.cfg.Name + "-control")
	if err == nil {
		err = cgroup.Remove(ctx)
	}
	return errors.Join(append(errs, err)...)
}

// Remove ends the cluster and takes away everything of it, its folder
// included. What it finds gone is no error.
func (c *Cluster) Remove(ctx context.Context, tell func(node.Phase)) error {
	t := teller{tell: tell}
	g := errgroup.Group{}
	for _, name := range c.nodeNames() {
		g.Go(func() error {
			return t.phase("node "+name, "removing", func() error { return c.RemoveNode(ctx, name, false) })
		})
	}
	errs := []error{g.Wait()}
	errs = append(errs, t.phase("control plane", "removing", func() error { return c.stopControl(ctx) }))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(c.cfg.Dir)
}

func (c *Cluster) nodeNames() []string {
	entries, _ := os.ReadDir(filepath.Join(c.cfg.Dir, "nodes")) // none: no nodes
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// RenewEvery is how often Renew is due.
func (c *Cluster) RenewEvery() time.Duration { return c.creds.RenewEvery() }

// Renew makes new certificates for those that have a third of their life left
// or less. The components notice by themselves.
func (c *Cluster) Renew() error {
	c.mu.Lock()
	s, places := c.spec, maps.Clone(c.places)
	c.mu.Unlock()
	if s.UID == "" {
		return nil // not applied yet
	}
	_, err := c.creds.ControlPlane(s)
	for name, p := range places {
		err = errors.Join(err, c.creds.Node(c.nodeFolder(name, "files"), ViewFiles, name, p.Address))
	}
	return err
}

// teller says how far things are.
type teller struct {
	tell func(node.Phase)
	mu   sync.Mutex // one at a time
}

func (t *teller) phase(name, detail string, do func() error) error {
	began := time.Now()
	t.say(node.Phase{Name: name, Detail: detail})
	err := do()
	done := node.Phase{Name: name, Detail: detail, Done: true, Took: time.Since(began)}
	if err != nil {
		done.Err = err.Error()
		err = fmt.Errorf("%s: %w", name, err)
	}
	t.say(done)
	return err
}

func (t *teller) say(p node.Phase) {
	if t.tell == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tell(p)
}
