package compute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/turns"
)

// Agent is the part of the node agent that is needed: node.Agent is one.
type Agent interface {
	Status(ctx context.Context) ([]node.ClusterStatus, error)
	LoadImage(ctx context.Context, uid string, archive io.Reader) ([]string, error)
	DialPod(ctx context.Context, uid string, at netip.AddrPort) (net.Conn, error)
}

// Issuers keep the keys with which clusters sign: *cluster.Issuers.
type Issuers interface {
	EnsureHidden(ctx context.Context, uid, resourceID, region string) error
	Remove(ctx context.Context, uid string) error
}

// Sealer encrypts what is kept at rest: *seal.Keyring.
type Sealer interface {
	Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, scope string, ciphertext, aad []byte) ([]byte, error)
	Destroy(ctx context.Context, scope string) error
}

// Grants let who has a secret get tokens of identities at the endpoint for
// managed identities: *imds.Service.
type Grants interface {
	// Attach makes the secret be good for the identities, and for no others, until
	// Revoke. The first is the one that a request without a name means.
	Attach(ctx context.Context, secret string, identities []string) error
	Revoke(ctx context.Context, secret string) error
}

// Config is what Compute needs.
type Config struct {
	Driver  cluster.Driver
	Agent   Agent
	Issuers Issuers
	Store   store.Store
	Seal    Sealer
	Grants  Grants
	Log     *slog.Logger

	// Trust is what pods trust: certificates, PEM.
	Trust func() ([]byte, error)

	// Likely are archives of images that deployments will probably want: a new
	// cluster gets them while nobody waits yet. nil: none.
	Likely func(ctx context.Context) []string

	// Program is this program: an executable with everything in it, which pods
	// run as their first container. Folder is where its image is kept.
	Program, Folder string

	// CPUMillis and MemoryMiB are the size of a workspace's node. DiskMiB is that
	// of the disk that all nodes share; 0 is not known.
	CPUMillis, MemoryMiB, DiskMiB int

	// Deadline is how long a rollout may go on without progress where the
	// deployment doesn't say; 0 is ten minutes.
	Deadline time.Duration
}

// Workspace is whose cluster it is.
type Workspace struct {
	UID      string `json:"uid"` // GUID in lower case
	Name     string `json:"name"`
	Location string `json:"location"`
	ID       rid.ID `json:"-"`
}

// Compute runs deployments. Run it as a worker of the server.
type Compute struct {
	cfg   Config
	turns turns.Turns

	mu    sync.Mutex           // guards what follows
	hosts map[string]*host     // by workspace UID
	feeds map[string]*feed     // by workspace UID
	heard []func()             // called when instances change
	tasks *errgroup.Group      // of Run; nil while it does not run
	work  context.Context      // of Run
	busy  map[string]*applying // by deployment UID
	// builds are the names of builds' pods, by workspace UID and address.
	builds   map[string]map[netip.Addr]string
	building map[string]bool // by name: builds that run
	sum      string          // of the program; "" until it was needed
}

// host is a workspace's cluster as this process knows it.
type host struct {
	up     bool // Apply came to its end since this process began
	access cluster.Access
	kube   *cluster.KubeAPI
}

// applying is an Apply in progress.
type applying struct {
	cancel context.CancelFunc
	gone   bool // it was ended by Remove
}

// DefaultDeadline is how long a rollout may go on without progress.
const DefaultDeadline = 10 * time.Minute

// New makes the service; it does nothing until it is asked or Run.
func New(cfg Config) *Compute {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = DefaultDeadline
	}
	return &Compute{cfg: cfg, hosts: map[string]*host{}, feeds: map[string]*feed{}, busy: map[string]*applying{}, builds: map[string]map[netip.Addr]string{}, building: map[string]bool{}}
}

// Available says why this machine runs no deployments; nil when it does. The
// error is cluster.ErrUnavailable then.
func (c *Compute) Available(ctx context.Context) error {
	_, err := c.version(ctx)
	return err
}

func (c *Compute) version(ctx context.Context) (string, error) {
	all, err := c.cfg.Driver.Offer(ctx)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", cluster.Unavailable("the driver offers no version of Kubernetes")
	}
	return all[0], nil
}

// take waits for the turn of key.
func (c *Compute) take(ctx context.Context, key string) (give func(), err error) {
	return c.turns.Take(ctx, key)
}

// tryTake takes the turn of key where nobody has it, or waits for it.
func (c *Compute) tryTake(key string) (give func(), ok bool) { return c.turns.TryTake(key) }

// kube is how to speak to a workspace's API server, and the address at which its
// pods find the front door.
func (c *Compute) kube(ctx context.Context, workspaceUID string) (*cluster.KubeAPI, netip.Addr, error) {
	a, err := c.cfg.Driver.Access(ctx, ClusterUID(workspaceUID))
	if err != nil {
		return nil, netip.Addr{}, err
	}
	u, err := url.Parse(a.Server)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("the API server's URL: %w", err)
	}
	door, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("the API server's address: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.host(workspaceUID)
	if h.kube != nil && h.access.Server == a.Server && h.access.Token == a.Token && bytes.Equal(h.access.Cert, a.Cert) && bytes.Equal(h.access.CA, a.CA) {
		return h.kube, door, nil
	}
	k, err := cluster.OpenKube(a)
	if err != nil {
		return nil, door, err
	}
	if h.kube != nil {
		h.kube.Close()
	}
	h.access, h.kube = a, k
	return k, door, nil
}

// host is what is known of a workspace's cluster; c.mu is held.
func (c *Compute) host(workspaceUID string) *host {
	h := c.hosts[workspaceUID]
	if h == nil {
		h = &host{}
		c.hosts[workspaceUID] = h
	}
	return h
}

// Run brings back what should run, after the server started, and keeps looking
// at the instances, until ctx ends.
func (c *Compute) Run(ctx context.Context) error {
	g := &errgroup.Group{}
	c.mu.Lock()
	c.tasks, c.work = g, ctx
	c.mu.Unlock()
	all, err := c.networks(ctx)
	if err != nil {
		return fmt.Errorf("the clusters of workspaces: %w", err)
	}
	for _, n := range all {
		if !n.Removing {
			c.follow(n.UID)
		}
	}
	g.Go(func() error { return c.resume(ctx, all) })
	<-ctx.Done()
	c.mu.Lock()
	c.tasks = nil
	c.mu.Unlock()
	return g.Wait()
}

const (
	resumeLook   = 2 * time.Second // between looks for the driver
	resumeAtOnce = 2               // clusters: each takes seconds of processor time
)

// resume makes clusters and deployments that should run do so.
func (c *Compute) resume(ctx context.Context, all []networkDoc) error {
	if len(all) == 0 {
		return nil
	}
	tick := time.NewTicker(resumeLook)
	defer tick.Stop()
	for c.Available(ctx) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	g := errgroup.Group{}
	g.SetLimit(resumeAtOnce)
	for _, n := range all {
		g.Go(func() error {
			if err := c.again(ctx, n); err != nil && ctx.Err() == nil {
				c.cfg.Log.Error("a workspace's deployments were not started again", slog.String("workspace", n.Name), slog.String("error", err.Error()))
			}
			return nil
		})
	}
	return g.Wait()
}

// again does for one cluster what was begun, or makes it run.
func (c *Compute) again(ctx context.Context, n networkDoc) error {
	if n.Removing {
		return c.RemoveNetwork(ctx, n.UID)
	}
	w, err := n.workspace()
	if err != nil {
		return err
	}
	if err := c.Network(ctx, w, nil); err != nil {
		return err
	}
	k, _, err := c.kube(ctx, n.UID)
	if err != nil {
		return err
	}
	c.sweep(ctx, k, n.UID)
	docs, err := c.deployments(ctx, n.UID)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range docs {
		if d.Removing {
			errs = append(errs, c.Remove(ctx, d.Deployment.UID))
		} else {
			errs = append(errs, c.reapply(ctx, d.Deployment.UID))
		}
	}
	return errors.Join(errs...)
}
