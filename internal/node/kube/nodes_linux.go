package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/pull"
)

// How long things of a node may take.
const (
	drainTime = 30 * time.Second // until pods that may end by themselves are ended
	stopTime  = 10 * time.Second // until containers that were asked to end are killed
)

func (c *Cluster) nodeFolder(name string, more ...string) string {
	return filepath.Join(append([]string{c.cfg.Dir, "nodes", name}, more...)...)
}

// runFolder is the node's folder for sockets.
func (c *Cluster) runFolder(name string) string { return filepath.Join(c.cfg.Run, "n", name) }

func (c *Cluster) cgroupName(name string) string { return c.cfg.Name + "-" + name }

// node brings a node up: what needs no API server while that starts, then the
// rest. It returns when the node is Ready.
func (c *Cluster) node(ctx context.Context, s node.Cluster, n node.Node, ready <-chan struct{}, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	place, err := c.place(ctx, s, n)
	if err != nil {
		return err
	}
	start := func(name, program string, flags []string, ready func(context.Context) error) error {
		p := box.Process{
			Name: n.Name + "/" + name, Node: n.Name, Path: ViewBin + "/" + program, Args: flags,
			Stamp: place.stamps[name], Space: place.Space, Cgroup: place.cgroup, Ready: ready,
		}
		if name == "kubelet" { // containers go on without it
			p.Alive.Ask, p.Env = ready, place.kubeletEnv
		}
		return c.cfg.Supervisor.Run(ctx, p)
	}
	if err := start("containerd", "containerd", containerdFlags(), c.containerdReady(n.Name)); err != nil {
		return err
	}
	if err := c.importAll(ctx, n.Name, place.Space); err != nil {
		return err
	}
	select {
	case <-ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := c.object(ctx, n, place.Place); err != nil {
		return fmt.Errorf("its object: %w", err)
	}
	before, since := c.pid(n.Name+"/kubelet"), time.Now().Truncate(time.Second)
	component := func(name string, flags []string) []string { return append([]string{name}, flags...) }
	g := errgroup.Group{}
	g.Go(func() error {
		return start("kubelet", "kubernetes", component("kubelet", kubeletFlags(n, place.NodePlace)), kubeletReady(place.Space))
	})
	g.Go(func() error { return start("kube-proxy", "kubernetes", component("kube-proxy", proxyFlags()), nil) })
	g.Go(func() error {
		return start("lazurite-node", "kubernetes", component("lazurite-node", nodeAgentFlags(n)), nil)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if before != 0 && c.pid(n.Name+"/kubelet") == before {
		since = time.Time{} // it went on, and reports only now and then
	}
	return c.awaitReady(ctx, n.Name, since)
}

// pid is the process's number, 0 when it does not run.
func (c *Cluster) pid(name string) int {
	for _, p := range c.cfg.Supervisor.Status() {
		if p.Node+"/"+p.Name == name {
			return p.PID
		}
	}
	return 0
}

// placed is a node with all that its processes need.
type placed struct {
	Place
	NodePlace
	cgroup     *box.Cgroup
	stamps     map[string]string // by process
	kubeletEnv []string          // secret
}

// place makes the folders, files, space and cgroup of a node.
func (c *Cluster) place(ctx context.Context, s node.Cluster, n node.Node) (placed, error) {
	var p placed
	if err := c.nodeFolders(n.Name); err != nil {
		return p, err
	}
	cgroup, err := c.cfg.Root.Cgroup(c.cgroupName(n.Name))
	if err != nil {
		return p, err
	}
	if err := limit(cgroup, n); err != nil {
		return p, err
	}
	if p.cgroup, err = c.cfg.Root.Cgroup(c.cgroupName(n.Name) + "/system"); err != nil {
		return p, err
	}
	real, err := machine()
	if err != nil {
		return p, err
	}
	seen := real.pretended(n)
	larger, err := sizeMounts(c.nodeFolder(n.Name, "size"), real, seen)
	if err != nil {
		return p, err
	}
	mounts := append(c.nodeMounts(n.Name), larger...)
	if p.Place, err = c.cfg.Place(ctx, n.Name, box.SpaceSpec{Hostname: n.Name, Mounts: mounts}); err != nil {
		return p, err
	}
	c.mu.Lock()
	c.places[n.Name] = p.Place
	c.mu.Unlock()
	p.NodePlace = NodePlace{
		Address: p.Place.Address, PodCIDR: p.Place.PodCIDR, Cgroup: cgroup.Path, HostCPUs: seen.cpus, HostMiB: seen.mib,
	}
	if _, err := os.Stat(filepath.Join(c.cfg.Dist, "bin", "cni", "lazurite-policy")); err == nil {
		p.Policies = true
	}
	if p.Snapshots, err = snapshots(c.nodeFolder(n.Name)); err != nil {
		return p, err
	}
	if s.Pull != nil {
		if p.Provider = hasProvider(ctx, p.Place.Space); p.Provider {
			p.kubeletEnv = pullEnv(s)
		} else {
			c.cfg.Log.Warn("a node gets no credentials for registries until the cluster was stopped and started", "node", n.Name)
		}
	}
	p.stamps, err = c.nodeFilesOf(s, n, p.NodePlace)
	return p, err
}

// nodeFolders makes the folders of a node, and the files that are there before
// its address is known.
func (c *Cluster) nodeFolders(name string) error {
	own := []string{c.runFolder(name)}
	for _, folder := range privateFolders() {
		own = append(own, c.nodeFolder(name, folder))
	}
	for _, dir := range append([]string{c.imagesFolder(), c.nodeFolder(name, "files"), c.nodeFolder(name, "etc"), c.nodeFolder(name, "size")}, own...) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// What is above these is root's alone; a container's own root, who is
	// nobody here (hostUsers), must find its way through them.
	for _, dir := range own {
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	if err := os.Chmod(c.nodeFolder(name, "root"), 0o755); err != nil {
		return err
	}
	for file, content := range map[string]string{
		"resolv.conf": "nameserver " + c.cfg.Address.String() + "\noptions ndots:0\n", "hosts": "127.0.0.1 localhost\n",
	} {
		if err := os.WriteFile(c.nodeFolder(name, "etc", file), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// limit gives the node's size to its cgroup.
func limit(cgroup *box.Cgroup, n node.Node) error {
	version, err := box.CgroupVersion()
	if err != nil {
		return err
	}
	cpu := n.CPUMillis
	if version == 1 {
		// There a container could have no higher limit than its node, and
		// would not start; as on any node it may have one. What pods ask for
		// is bounded by the scheduler all the same.
		cpu = 0
	}
	return cgroup.Limit(cpu, n.MemoryMiB)
}

// privateFolders are the folders of a node that outlive its processes: what
// its own tree begins with, and by name what it has elsewhere.
func privateFolders() []string { return []string{"root", "containerd", "kubelet", "pods", "volumes"} }

// nodeMounts are a node's own tree: the machine's programs and kernel, and
// nothing else of it. What a pod takes from its node (hostPath) is the node's.
func (c *Cluster) nodeMounts(name string) []box.Mount {
	own := func(folder, target string, shared bool) box.Mount {
		return box.Mount{Source: c.nodeFolder(name, folder), Target: target, Shared: shared}
	}
	mounts := []box.Mount{own("root", "/", false)}
	for _, m := range hostPaths() {
		if _, err := os.Stat(m.Target); err == nil {
			m.Source = m.Target
			mounts = append(mounts, m)
		}
	}
	mounts = append(mounts,
		box.Mount{Target: "/run"},
		box.Mount{Target: "/tmp", Options: "mode=1777"},
		box.Mount{Source: c.nodeFolder(name, "etc", "resolv.conf"), Target: "/etc/resolv.conf", ReadOnly: true},
		box.Mount{Source: c.nodeFolder(name, "etc", "hosts"), Target: "/etc/hosts", ReadOnly: true},
		box.Mount{Source: filepath.Join(c.cfg.Dist, "bin"), Target: ViewBin, ReadOnly: true},
		box.Mount{Source: filepath.Join(c.cfg.Dist, "images"), Target: viewShipped, ReadOnly: true},
		box.Mount{Source: c.imagesFolder(), Target: viewLoaded, ReadOnly: true},
		box.Mount{Source: c.nodeFolder(name, "files"), Target: ViewFiles, ReadOnly: true},
		box.Mount{Source: c.runFolder(name), Target: "/run/containerd"},
		own("containerd", viewContainerd, false),
		own("kubelet", viewKubelet, true),
		own("pods", viewLogs, false),
		own("volumes", viewVolumes, true),
	)
	return append(mounts, c.providerMount()...)
}

// providerMount is this program as the kubelet's image credential provider;
// none where its file is gone.
func (c *Cluster) providerMount() []box.Mount {
	if _, err := os.Stat(c.cfg.Program); err != nil {
		return nil
	}
	return []box.Mount{{Source: c.cfg.Program, Target: path.Join(viewProviders, pull.Program), ReadOnly: true}}
}

// hasProvider reports whether a node can start the provider: one whose
// namespaces an older version of this program made has none until it is
// started again.
func hasProvider(ctx context.Context, space *box.Space) bool {
	_, err := space.Output(ctx, nil, path.Join(viewProviders, pull.Program), "version")
	return err == nil
}

// hostPaths are what a node has of the machine, where that has it: programs
// with their libraries, the kernel's folders, and how users and services are
// called.
func hostPaths() []box.Mount {
	mounts := []box.Mount{{Target: "/dev"}, {Target: "/proc"}, {Target: "/sys"}}
	for _, path := range []string{
		"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
		"/etc/alternatives", "/etc/group", "/etc/ld.so.cache", "/etc/localtime", "/etc/machine-id", "/etc/nsswitch.conf",
		"/etc/os-release", "/etc/passwd", "/etc/protocols", "/etc/services", "/etc/ssl/certs",
	} {
		mounts = append(mounts, box.Mount{Target: path, ReadOnly: true})
	}
	return mounts
}

// nodeFilesOf writes a node's certificates and configuration; the stamps say
// by process whether it must start anew.
func (c *Cluster) nodeFilesOf(s node.Cluster, n node.Node, p NodePlace) (map[string]string, error) {
	dir := c.nodeFolder(n.Name, "files")
	if err := c.creds.Node(dir, ViewFiles, n.Name, p.Address); err != nil {
		return nil, err
	}
	if err := writeMirrors(dir, s.Mirrors, cloudCA(s)); err != nil {
		return nil, fmt.Errorf("mirrors of registries: %w", err)
	}
	if _, err := c.creds.write(dir, owner{}, nil, providerFiles(s, n, c.creds.Server)); err != nil {
		return nil, fmt.Errorf("credentials for registries: %w", err)
	}
	stamps := map[string]string{}
	reader := map[string]string{"containerd.toml": "containerd", "kubelet.json": "kubelet", "kube-proxy.json": "kube-proxy"}
	for name, content := range nodeFiles(s, n, p) {
		stamp, err := c.creds.write(dir, owner{}, nil, map[string][]byte{name: content})
		if err != nil {
			return nil, err
		}
		if process, ok := reader[name]; ok {
			stamps[process] = stamp
		}
	}
	return stamps, nil
}

// containerdReady reports when containerd takes calls.
func (c *Cluster) containerdReady(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(c.runFolder(name), "containerd.sock"))
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// kubeletReady asks the kubelet itself, at an address that only its node has.
func kubeletReady(space *box.Space) func(context.Context) error {
	return func(ctx context.Context) error {
		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = space.Do(func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10248/healthz", nil)
		if err != nil {
			return err
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("the kubelet answers %s", res.Status)
		}
		return nil
	}
}

// stopNode ends the processes and containers of a node and takes its space
// away; its folder stays.
func (c *Cluster) stopNode(ctx context.Context, name string, politely bool) error {
	first := c.cfg.Supervisor.Stop(ctx, func(p box.Process) bool { return p.Node == name && !strings.HasSuffix(p.Name, "/containerd") })
	var polite error
	if politely {
		polite = c.endContainers(ctx, name)
	}
	second := c.cfg.Supervisor.Stop(ctx, func(p box.Process) bool { return p.Node == name })
	cgroup, err := c.cfg.Root.FindCgroup(c.cgroupName(name))
	if err == nil {
		err = cgroup.Remove(ctx)
	}
	if err := errors.Join(first, polite, second, err); err != nil {
		return err
	}
	if err := c.cfg.Unplace(ctx, name); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.places, name)
	delete(c.stores, name)
	c.mu.Unlock()
	return os.RemoveAll(c.runFolder(name))
}

// RemoveNode takes a node away with all it has. With drain its pods are asked
// to go first and its object is deleted: the cluster lives on.
func (c *Cluster) RemoveNode(ctx context.Context, name string, drain bool) error {
	if drain {
		dctx, cancel := context.WithTimeout(ctx, drainTime)
		err := c.drain(dctx, name)
		cancel()
		if err != nil { // it was only to be polite
			c.cfg.Log.Warn("a node was not drained", "node", name, "error", err)
		}
	}
	if err := c.stopNode(ctx, name, false); err != nil {
		return err
	}
	if drain {
		if err := c.forget(ctx, name); err != nil {
			return err
		}
	}
	return os.RemoveAll(c.nodeFolder(name))
}
