package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const embeddedName = "embedded"

// Embedded is the driver "embedded": real Kubernetes on this machine. The node
// agent makes networks and processes; what runs inside the cluster is put there
// through its API server.
type Embedded struct {
	cfg EmbeddedConfig

	mu      sync.Mutex       // guards what follows
	turns   map[string]*turn // by uid; those in use
	removed map[string]bool  // uids that are being removed or have been: they never come back
}

// EmbeddedConfig is what Embedded needs.
type EmbeddedConfig struct {
	Agent   Agent
	Issuers *Issuers
	Log     *slog.Logger

	// Settings are the values of add-ons that are the same for all clusters.
	Settings func() (Values, error)

	// Joined runs when a cluster's network is there and before anything runs
	// inside it that needs the front door; Left when the cluster is gone or
	// stopped. Both may be called again. nil is nothing to do.
	Joined func(ctx context.Context, uid string) error
	Left   func(uid string)

	// Pulls makes nodes able to pull with an identity, Spec.Kubelet; PullsNot is
	// that they never do again, as the cluster is gone. Both may be called again.
	// nil: no nodes pull with identities.
	Pulls    func(ctx context.Context, uid, identity string) (*Pull, error)
	PullsNot func(ctx context.Context, uid string) error
}

// turn lets one change a cluster at a time, and end the one before.
type turn struct {
	lock   chan struct{} // holds one value while somebody works
	users  int
	cancel context.CancelFunc // of the Apply that goes on
}

// NewEmbedded makes the driver.
func NewEmbedded(cfg EmbeddedConfig) *Embedded {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Embedded{cfg: cfg, turns: map[string]*turn{}, removed: map[string]bool{}}
}

// Name implements Driver.
func (d *Embedded) Name() string { return embeddedName }

// Offer implements Driver: the only version is the distribution's.
func (d *Embedded) Offer(ctx context.Context) ([]string, error) {
	v, err := d.cfg.Agent.Info(ctx)
	if err != nil {
		return nil, err
	}
	return []string{v}, nil
}

// take waits for the turn to change a cluster. interrupt ends the Apply that
// has it.
func (d *Embedded) take(ctx context.Context, uid string, interrupt bool) (context.Context, func(), error) {
	d.mu.Lock()
	t := d.turns[uid]
	if t == nil {
		t = &turn{lock: make(chan struct{}, 1)}
		d.turns[uid] = t
	}
	t.users++
	if interrupt && t.cancel != nil {
		t.cancel()
	}
	d.mu.Unlock()
	leave := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(d.turns, uid)
		}
	}
	select {
	case t.lock <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, nil, ctx.Err()
	}
	work, cancel := context.WithCancel(ctx)
	if !interrupt {
		d.mu.Lock()
		t.cancel = cancel
		d.mu.Unlock()
	}
	return work, func() {
		d.mu.Lock()
		t.cancel = nil
		d.mu.Unlock()
		cancel()
		<-t.lock
		leave()
	}, nil
}

// Apply implements Driver.
func (d *Embedded) Apply(ctx context.Context, s Spec, tell func(Phase)) error {
	if tell == nil {
		tell = func(Phase) {}
	}
	work, done, err := d.take(ctx, s.UID, false)
	if err != nil {
		return err
	}
	defer done()
	d.mu.Lock()
	gone := d.removed[s.UID]
	d.mu.Unlock()
	if gone {
		return fmt.Errorf("cluster %s: %w", s.Name, ErrRemoved)
	}
	err = d.apply(work, s, tell)
	if err != nil && work.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("cluster %s: %w", s.Name, ErrRemoved)
	}
	return err
}

func (d *Embedded) apply(ctx context.Context, s Spec, tell func(Phase)) error {
	plan, err := d.plan(ctx, s)
	if err != nil {
		return err
	}
	switch {
	case !s.Running && d.cfg.Left != nil:
		d.cfg.Left(s.UID)
	case s.Running && !s.WorkloadIdentity && !s.Isolated:
		d.stopInjecting(ctx, s, plan)
	}
	if err := d.cfg.Agent.Apply(ctx, plan, tell); err != nil {
		return err
	}
	if !s.Running {
		return nil
	}
	if d.cfg.Joined != nil {
		if err := d.cfg.Joined(ctx, s.UID); err != nil {
			return fmt.Errorf("open the front door in the network of cluster %s: %w", s.Name, err)
		}
	}
	access, err := d.cfg.Agent.Admin(ctx, s.UID)
	if err != nil {
		return err
	}
	k, err := OpenKube(access)
	if err != nil {
		return err
	}
	defer k.Close()
	return d.addons(ctx, k, s, plan, access, tell)
}

// quickTime is for what is worth no waiting.
const quickTime = 2 * time.Second

// stopInjecting takes the webhook's configuration away before anything else is
// done to a cluster that answers; of one that doesn't, addons will.
func (d *Embedded) stopInjecting(ctx context.Context, s Spec, p Plan) {
	ctx, cancel := context.WithTimeout(ctx, quickTime)
	defer cancel()
	access, err := d.cfg.Agent.Admin(ctx, s.UID)
	if err != nil {
		return
	}
	k, err := OpenKube(access)
	if err != nil {
		return
	}
	defer k.Close()
	v, err := d.values(s, p, access)
	if err != nil {
		return
	}
	if list, err := v.render(webhookAddon); err == nil {
		_ = k.DeleteAll(ctx, list) // it is only early
	}
}

func (d *Embedded) plan(ctx context.Context, s Spec) (Plan, error) {
	p := Plan{Spec: s}
	if s.FQDN != "" {
		p.Names = []string{strings.ToLower(s.FQDN)}
	}
	var err error
	if p.Issuer, p.Keys, err = d.cfg.Issuers.Signing(ctx, s.UID); err != nil {
		return p, err
	}
	p.JWKSURI = p.Issuer + jwksPath
	if s.Kubelet != "" && d.cfg.Pulls != nil {
		if p.Pull, err = d.cfg.Pulls(ctx, s.UID, s.Kubelet); err != nil {
			return p, fmt.Errorf("the identity of the kubelets of cluster %s: %w", s.Name, err)
		}
	}
	return p, nil
}

// addons puts what runs inside the cluster there, and takes away what is off.
func (d *Embedded) addons(ctx context.Context, k *KubeAPI, s Spec, p Plan, access Access, tell func(Phase)) error {
	v, err := d.values(s, p, access)
	if err != nil {
		return err
	}
	var rolling []Object
	for _, a := range addons(v) {
		list, err := v.render(a.name)
		if err != nil {
			return err
		}
		if !a.on {
			if err := k.DeleteAll(ctx, list); err != nil {
				return err
			}
			continue
		}
		if err := step(tell, "add-on "+a.name, func() error { return k.ApplyAll(ctx, list) }); err != nil {
			return err
		}
		rolling = append(rolling, list...)
	}
	if len(s.Nodes) > 0 {
		if err := step(tell, "add-ons ready", func() error { return k.Rolled(ctx, rolling) }); err != nil {
			return err
		}
	}
	return step(tell, "admission", func() error { return k.admits(ctx, s, injecting(addons(v))) })
}

func (d *Embedded) values(s Spec, p Plan, access Access) (Values, error) {
	var v Values
	if d.cfg.Settings != nil {
		var err error
		if v, err = d.cfg.Settings(); err != nil {
			return v, err
		}
	}
	u, err := url.Parse(access.Server)
	if err != nil {
		return v, fmt.Errorf("the address of cluster %s: %w", s.Name, err)
	}
	v.FrontDoor = u.Hostname()
	v.Cluster, v.ResourceID, v.Location, v.Version = s.Name, s.ResourceID, s.Location, s.Version
	v.PodCIDR, v.ServiceCIDR, v.DNSServiceIP, v.Issuer = s.PodCIDR, s.ServiceCIDR, s.DNSServiceIP, p.Issuer
	v.WebhookImage = WebhookImage
	v.Replicas = min(max(len(s.Nodes), 1), 2)
	v.Published, v.WorkloadIdentity, v.NetworkPolicy, v.Isolated = s.Published, s.WorkloadIdentity, s.NetworkPolicy, s.Isolated
	return v, nil
}

// step tells of a phase around what do does.
func step(tell func(Phase), name string, do func() error) error {
	began := time.Now()
	tell(Phase{Name: name})
	if err := do(); err != nil {
		tell(Phase{Name: name, Done: true, Took: time.Since(began), Err: err.Error()})
		return err
	}
	tell(Phase{Name: name, Done: true, Took: time.Since(began)})
	return nil
}

// Remove implements Driver.
func (d *Embedded) Remove(ctx context.Context, uid string) (err error) {
	mark := func(gone bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.removed[uid] = gone; !gone {
			delete(d.removed, uid)
		}
	}
	mark(true) // before the turn: what waits for it is not to make the cluster again
	defer func() {
		if err != nil {
			mark(false)
		}
	}()
	work, done, err := d.take(ctx, uid, true)
	if err != nil {
		return err
	}
	defer done()
	if d.cfg.Left != nil {
		d.cfg.Left(uid)
	}
	if d.cfg.PullsNot != nil { // first: what nodes have is worth nothing from then on
		if err := d.cfg.PullsNot(work, uid); err != nil {
			return err
		}
	}
	return d.cfg.Agent.Remove(work, uid)
}

// Readmit lets a cluster that was removed be made again under its UID: for who
// knows that nobody still asks for the one that was.
func (d *Embedded) Readmit(uid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.removed, uid)
}

// Access implements Driver.
func (d *Embedded) Access(ctx context.Context, uid string) (Access, error) {
	return d.cfg.Agent.Admin(ctx, uid)
}

const admitTime = 2 * time.Minute // on a machine that is busy

// admits asks the API server, without making anything, until new pods and
// network policies are treated as the spec says: its configuration takes a
// moment to count.
func (k *KubeAPI) admits(ctx context.Context, s Spec, webhook bool) error {
	if webhook && (len(s.Nodes) > 0 || !s.WorkloadIdentity) { // without nodes there is nowhere for the webhook to run
		err := until(ctx, admitTime, lookAgain, func(ctx context.Context) (bool, error) { return k.injects(ctx, s.WorkloadIdentity) }, nil)
		if err != nil {
			return fmt.Errorf("whether pods get their identities: %w", err)
		}
	}
	if s.NetworkPolicy || s.Isolated {
		return nil
	}
	err := until(ctx, admitTime, lookAgain, func(ctx context.Context) (bool, error) {
		err := k.Create(ctx, "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", "dryRun=All", Object{
			"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": map[string]any{"generateName": "lazurite-probe-"},
			"spec": map[string]any{"podSelector": map[string]any{}},
		}, nil)
		switch kubeCode(err) {
		case http.StatusUnprocessableEntity, http.StatusForbidden:
			return true, nil
		}
		if err == nil {
			err = errors.New("the API server still takes them")
		}
		return false, err
	}, nil)
	if err != nil {
		return fmt.Errorf("whether network policies are refused: %w", err)
	}
	return nil
}

// injects reports whether a new pod that asks for an identity is treated as wanted.
func (k *KubeAPI) injects(ctx context.Context, want bool) (bool, error) {
	var got struct {
		Spec struct {
			Containers []struct {
				Env []struct{ Name string }
			}
		}
	}
	err := k.Create(ctx, "/api/v1/namespaces/default/pods", "dryRun=All", Object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"generateName": "lazurite-probe-", "labels": map[string]any{"azure.workload.identity/use": "true"}},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "probe", "image": "probe"}}},
	}, &got)
	if err != nil {
		return false, err
	}
	var found []string
	for _, c := range got.Spec.Containers {
		for _, e := range c.Env {
			found = append(found, e.Name)
		}
	}
	switch {
	case want && !slices.Contains(found, "AZURE_FEDERATED_TOKEN_FILE"):
		return false, errors.New("new pods are not injected yet")
	case !want && len(found) > 0:
		return false, errors.New("new pods are still injected")
	}
	return true, nil
}
