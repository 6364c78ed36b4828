package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/wire"
)

// machine is all clusters of one state folder.
type machine struct {
	opt     Options
	root    box.Root
	log     *slog.Logger
	starter *box.Starter
	loaded  chan struct{} // closed when what there was is known
	ended   chan struct{} // closed when the agent is to end
	virtual *virtuals

	stopping context.Context // ends when the agent begins to stop
	stop     context.CancelFunc
	erase    bool // set before ended is closed

	mu       sync.Mutex // guards what follows
	clusters map[string]*cluster
	ending   bool
	dist     distribution // that was found first; others are not looked for any more
	missing  error        // why clusters can't run here; nil when they can
	uncopied error        // why no distribution was taken over at the start
}

func newMachine(o Options, root box.Root, log *slog.Logger) *machine {
	m := &machine{opt: o, root: root, log: log, starter: box.NewStarter(), loaded: make(chan struct{}), ended: make(chan struct{}), clusters: map[string]*cluster{}}
	m.virtual = newVirtuals(m)
	m.stopping, m.stop = context.WithCancel(context.Background())
	return m
}

func (m *machine) folder() string { return filepath.Join(m.root.State, "clusters") }

// load reads what clusters should be, and takes away what belongs to none of
// them: a crash may have come in the middle of anything.
func (m *machine) load(ctx context.Context) error {
	m.look(true)
	entries, err := os.ReadDir(m.folder())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading what clusters there are: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(m.folder(), e.Name())
		r, err := readRecord(dir)
		if errors.Is(err, os.ErrNotExist) { // half removed
			err = os.RemoveAll(dir)
			if err == nil {
				continue
			}
		}
		if err != nil {
			// Without its record nothing can be done with it, and it must not
			// keep the others from starting.
			m.log.Error("a cluster's record can't be read", slog.String("uid", e.Name()), slog.String("error", err.Error()))
			continue
		}
		m.mu.Lock()
		m.clusters[r.Spec.UID] = newCluster(m, r)
		m.mu.Unlock()
	}
	return errors.Join(m.virtual.load(), m.sweepStrangers(ctx))
}

// sweepStrangers takes away namespaces, cgroups and links that no running
// cluster has.
func (m *machine) sweepStrangers(ctx context.Context) error {
	known := m.virtual.names()
	for _, c := range m.all() {
		if c.rec.Spec.Running {
			known[c.name()] = true
		}
	}
	strange := func(name string) bool {
		first, _, _ := strings.Cut(name, "-")
		return !known[first]
	}
	cgroups, err := m.root.Cgroups()
	errs := []error{err}
	for _, name := range cgroups {
		if strange(name) {
			c, err := m.root.FindCgroup(name)
			if err == nil {
				err = c.Remove(ctx)
			}
			errs = append(errs, err)
		}
	}
	spaces, err := m.root.Spaces()
	errs = append(errs, err)
	for _, name := range spaces {
		if strange(name) {
			errs = append(errs, m.root.FindSpace(m.starter, name).Remove(ctx))
		}
	}
	errs = append(errs, wire.Forget(m.root, func(index int) bool { return known[clusterName(index)] }))
	if left, err := m.root.Spaces(); err == nil && len(left) == 0 { // nothing runs from older copies
		errs = append(errs, dropCopies(m.copies(), m.dist.dir))
	}
	return errors.Join(errs...)
}

// copies is where distributions are that root had to copy.
func (m *machine) copies() string { return filepath.Join(m.root.State, "kube") }

// look finds the distribution, if it was not found before, and what else
// clusters need here.
func (m *machine) look(copying bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.missing = wire.Available(); m.missing != nil {
		return
	}
	if _, m.missing = box.CgroupVersion(); m.missing != nil || m.dist.dir != "" {
		return
	}
	m.dist, m.missing = findDistribution(m.opt.Kube, m.copies(), copying)
	if copying {
		m.uncopied = m.missing
	} else if errors.Is(m.missing, errNotCopied) && m.uncopied != nil && !errors.Is(m.uncopied, errNoDistribution) {
		m.missing = m.uncopied // it was there, and why it was not taken is what helps
	}
}

// kubernetes is the distribution, or why there is none.
func (m *machine) kubernetes() (string, error) {
	m.look(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.missing != nil {
		return "", fmt.Errorf("%w: %w", node.ErrUnavailable, m.missing)
	}
	return m.dist.dir, nil
}

func (m *machine) info() node.Info {
	m.look(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	i := node.Info{
		Version: m.opt.Version, PID: os.Getpid(), Instance: m.root.Instance, Range: m.opt.Range, Kube: m.dist.dir, Versions: m.dist.versions,
	}
	if err := wire.Available(); err != nil {
		i.NoWires = err.Error()
	}
	i.Cgroup, _ = box.CgroupVersion() // what it lacks is in missing
	if m.missing != nil {
		i.Missing = m.missing.Error()
	}
	return i
}

// cluster is the one with the uid; ErrNotFound when there is none.
func (m *machine) cluster(uid string) (*cluster, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.clusters[uid]
	if c == nil {
		return nil, fmt.Errorf("%w: %q", node.ErrNotFound, uid)
	}
	return c, nil
}

// claim is the cluster of the specification, made if there is none.
func (m *machine) claim(spec node.Cluster) (*cluster, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ending {
		return nil, fmt.Errorf("%w: the node agent is stopping", node.ErrUnavailable)
	}
	c := m.clusters[spec.UID]
	if c == nil {
		c = newCluster(m, record{Index: -1, Spec: spec})
		m.clusters[spec.UID] = c
	}
	return c, nil
}

func (m *machine) forget(c *cluster) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clusters[c.uid] == c {
		delete(m.clusters, c.uid)
	}
}

func (m *machine) all() []*cluster {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*cluster
	for _, c := range m.clusters {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *cluster) int { return strings.Compare(a.uid, b.uid) })
	return out
}

// index chooses an index that nobody on the machine has: wish if it is free,
// else one that hangs on the uid, so that a cluster made again mostly gets its
// old addresses. The caller holds the lock of lockNetworks until the range is
// routed.
func (m *machine) index(uid string, wish int) (int, error) {
	taken := map[int]bool{}
	for _, c := range m.all() {
		if i := c.indexNow(); c.uid != uid && i >= 0 {
			taken[i] = true
		}
	}
	if wish < 0 {
		h := fnv.New32a()
		fmt.Fprintf(h, "%s/%s", m.root.Instance, uid)
		wish = int(h.Sum32() % uint32(wire.Indexes(m.opt.Range)))
	}
	return wire.FreeIndex(m.opt.Range, wish, func(i int) bool { return taken[i] })
}

// lockNetworks keeps the agents of other state folders from choosing an index
// at the same time, until the file is closed.
func lockNetworks(ctx context.Context) (*os.File, error) {
	dir, err := os.Open("/run")
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return dir, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for other agents: %w", ctx.Err()), dir.Close())
		case <-tick.C:
		}
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// care looks after all clusters and networks until ctx ends.
func (m *machine) care(ctx context.Context) {
	var wait sync.WaitGroup
	defer wait.Wait()
	busy := map[string]chan struct{}{}
	tick := time.NewTicker(careEvery)
	defer tick.Stop()
	for {
		if done := busy[""]; done == nil || isClosed(done) {
			done := make(chan struct{})
			busy[""] = done
			wait.Go(func() { defer close(done); m.virtual.care(ctx) })
		}
		for _, c := range m.all() {
			if done := busy[c.uid]; done != nil {
				select {
				case <-done:
				default:
					continue
				}
			}
			done := make(chan struct{})
			busy[c.uid] = done
			wait.Go(func() { defer close(done); c.care(ctx) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// end stops all clusters in order (erasing: at once), takes everything off the
// machine, and ends the agent.
func (m *machine) end(ctx context.Context, erasing bool) error {
	m.mu.Lock()
	if m.ending {
		m.mu.Unlock()
		return errors.New("the node agent is stopping already")
	}
	m.ending = true
	m.mu.Unlock()
	m.stop()
	if give, err := m.virtual.take(ctx); err == nil { // whoever changes a network has finished
		defer give()
	}
	var wait sync.WaitGroup
	var mu sync.Mutex // guards errs
	var errs []error
	for _, c := range m.all() {
		wait.Go(func() {
			if err := c.halt(ctx, erasing); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		m.log.Warn("clusters did not stop in order", slog.String("error", err.Error()))
	}
	m.erase = erasing
	sweep, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err := m.root.Sweep(sweep) // also what did not stop in order
	if erasing {
		err = errors.Join(err, box.Erase(m.opt.Home))
	}
	close(m.ended)
	return err
}

// record is what is kept of a cluster, in its folder.
type record struct {
	Spec  node.Cluster
	Index int // -1: none yet
	Slots map[string]int
	// Removing is set before anything is taken away for good.
	Removing bool `json:",omitempty"`
}

const recordFile = "cluster.json"

func readRecord(dir string) (record, error) {
	var r record
	raw, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err == nil {
		err = r.Spec.Validate()
	}
	if err == nil && r.Spec.UID != filepath.Base(dir) {
		err = fmt.Errorf("it is of %q", r.Spec.UID)
	}
	return r, err
}

// writeRecord writes it whole or not at all.
func writeRecord(dir string, r record) error { return writeFile(dir, recordFile, r) }
