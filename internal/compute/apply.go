package compute

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/cluster"
)

const (
	look     = 200 * time.Millisecond // between looks at a rollout
	logEnd   = 40                     // lines of a log that belong to a failure
	saveTime = 5 * time.Second        // to find out why something failed
)

// Apply runs the deployment as d says, or changes it so, and returns when all
// its instances are ready and those of before get nothing new. An error that is
// a *Failure says why it does not run; what ran before still does. tell hears of
// the steps; it may be nil.
func (c *Compute) Apply(ctx context.Context, d Deployment, tell func(string)) error {
	if tell == nil {
		tell = func(string) {}
	}
	if err := d.check(); err != nil {
		return err
	}
	if err := c.Available(ctx); err != nil {
		return &Failure{Code: CodeNoSupport, Message: "Deployments can't run here: " + err.Error()}
	}
	work, done, err := c.begin(ctx, d.UID)
	if err != nil {
		return err
	}
	err = c.apply(work, d, tell)
	if gone := done(); gone && err != nil {
		return &Failure{Code: CodeWasRemoved, Message: "The deployment was deleted meanwhile."}
	}
	if errors.Is(err, cluster.ErrNotFound) {
		c.down(d.WorkspaceUID) // the next one makes it again
	}
	return err
}

// begin takes the deployment's turn for an Apply, which Remove can end. done
// gives it back, and says whether it was ended so.
func (c *Compute) begin(ctx context.Context, uid string) (work context.Context, done func() bool, err error) {
	give, err := c.take(ctx, "deployment "+uid)
	if err != nil {
		return nil, nil, err
	}
	work, cancel := context.WithCancel(ctx)
	a := &applying{cancel: cancel}
	c.mu.Lock()
	c.busy[uid] = a
	c.mu.Unlock()
	return work, func() bool {
		defer give()
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.busy, uid)
		return a.gone
	}, nil
}

// interrupt ends an Apply in progress.
func (c *Compute) interrupt(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.busy[uid]; a != nil {
		a.gone = true
		a.cancel()
	}
}

// down forgets that a cluster is there.
func (c *Compute) down(workspaceUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host(workspaceUID).up = false
}

func (c *Compute) apply(ctx context.Context, d Deployment, tell func(string)) error {
	w := Workspace{UID: d.WorkspaceUID, Name: d.Workspace.Name(), Location: d.Location, ID: d.Workspace}
	if err := c.Network(ctx, w, tell); err != nil {
		return err
	}
	doc, err := c.record(ctx, d)
	if err != nil {
		return err
	}
	revision, err := c.put(ctx, doc, tell)
	if err != nil {
		return err
	}
	return c.await(ctx, d, revision, func(v verdict) bool { return v.done }, tell)
}

// record stores what is to run, and gives its pods an identity.
func (c *Compute) record(ctx context.Context, d Deployment) (deploymentDoc, error) {
	return changeDoc(ctx, c.cfg.Store, deploymentPrefix+d.UID, deploymentKind, func(doc *deploymentDoc) error {
		if doc.Removing {
			return &Failure{Code: CodeWasRemoved, Message: "The deployment is being deleted."}
		}
		doc.Deployment, doc.ID, doc.WorkspaceID = d, d.ID.String(), d.Workspace.String()
		if doc.Secret != nil || len(d.Identities) == 0 {
			return nil
		}
		raw := make([]byte, 32)
		_, _ = rand.Read(raw) // never fails (crypto/rand)
		var err error
		doc.Secret, err = c.cfg.Seal.Seal(ctx, sealScope(d.UID), []byte(base64.RawURLEncoding.EncodeToString(raw)), []byte(d.UID))
		return err
	})
}

func sealScope(uid string) string { return "compute/" + uid }

// secret is the deployment's, "" when it has none.
func (c *Compute) secret(ctx context.Context, doc deploymentDoc) (string, error) {
	if doc.Secret == nil {
		return "", nil
	}
	uid := doc.Deployment.UID
	raw, err := c.cfg.Seal.Open(ctx, sealScope(uid), doc.Secret, []byte(uid))
	return string(raw), err
}

// put makes the deployment's objects as they should be, and gives the revision
// of its pods.
func (c *Compute) put(ctx context.Context, doc deploymentDoc, tell func(string)) (revision string, err error) {
	d, err := doc.deployment()
	if err != nil {
		return "", err
	}
	s := site{deadline: c.cfg.Deadline, diskMiB: c.cfg.DiskMiB / diskShare}
	if s.secret, err = c.secret(ctx, doc); err != nil {
		return "", fmt.Errorf("the identity of deployment %s: %w", d.display(), err)
	}
	if len(d.Identities) == 0 {
		s.secret = ""
	} else if err := c.attach(ctx, d.UID, s.secret); err != nil {
		return "", fmt.Errorf("the identity of deployment %s: %w", d.display(), err)
	}
	if d.Archive != "" {
		tell("loading the image")
		if s.archive, err = c.loadArchive(ctx, d.WorkspaceUID, d.Archive); err != nil {
			return "", err
		}
	}
	if s.trust, err = c.cfg.Trust(); err != nil {
		return "", fmt.Errorf("what pods trust: %w", err)
	}
	if s.program, err = c.programImage(); err != nil {
		return "", err
	}
	k, door, err := c.kube(ctx, d.WorkspaceUID)
	if err != nil {
		return "", err
	}
	s.door = door
	list, revision, err := objects(d, s)
	if err != nil {
		return "", err
	}
	tell("creating instances")
	return revision, k.ApplyAll(ctx, list)
}

// reapply makes the objects of a stored deployment be there, and waits for nothing.
func (c *Compute) reapply(ctx context.Context, uid string) error {
	give, err := c.take(ctx, "deployment "+uid)
	if err != nil {
		return err
	}
	defer give()
	doc, ok, err := c.deployment(ctx, uid)
	if err != nil || !ok {
		return err
	}
	_, err = c.put(ctx, doc, func(string) {})
	return err
}

// await waits until enough of the revision runs, or it does not.
func (c *Compute) await(ctx context.Context, d Deployment, revision string, enough func(verdict) bool, tell func(string)) error {
	deadline := d.Deadline
	if deadline == 0 {
		deadline = c.cfg.Deadline
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	began := time.Now()
	last, since := "", began
	for {
		v, err := c.see(ctx, d, revision, began)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case isGone(err):
			return &Failure{Code: CodeWasRemoved, Message: "The deployment was deleted meanwhile."}
		case err != nil && time.Since(since) > deadline:
			return err
		case err == nil && enough(v):
			return nil
		case err == nil && v.failure != nil:
			return c.explained(ctx, d, v)
		case err == nil && v.progress != last:
			last, since = v.progress, time.Now()
			tell(last)
		case time.Since(since) > deadline:
			return c.late(ctx, d, revision, began, deadline)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isGone reports that the API server no longer has what was applied.
func isGone(err error) bool {
	e, ok := errors.AsType[*cluster.KubeError](err)
	return ok && e.Code == http.StatusNotFound
}

// see looks at a rollout.
func (c *Compute) see(ctx context.Context, d Deployment, revision string, began time.Time) (verdict, error) {
	k, _, err := c.kube(ctx, d.WorkspaceUID)
	if err != nil {
		return verdict{}, err
	}
	var r rollout
	if err := k.Get(ctx, "/apis/apps/v1/namespaces/"+d.namespace()+"/deployments/"+d.UID, &r); err != nil {
		return verdict{}, err
	}
	pods, err := podsOf(ctx, k, d)
	if err != nil {
		return verdict{}, err
	}
	return judge(r, ofRevision(pods, revision, began), time.Now()), nil
}

// ofRevision are the pods by which a rollout that began then is judged. One that
// was evicted before stays on the books, and another has its place.
func ofRevision(pods []pod, revision string, began time.Time) []pod {
	began = began.Truncate(time.Second) // as Kubernetes tells the time
	var out []pod
	for _, p := range pods {
		past := p.Status.Phase == "Failed" && p.Metadata.CreationTimestamp.Before(began)
		if p.Metadata.Labels[labelRevision] == revision && !p.draining() && !past {
			out = append(out, p.since(began))
		}
	}
	return out
}

// since is the pod without the failures of its containers that were before, as
// when all was stopped, and after which they are started again. One that fails
// again and again says so by waiting.
func (p pod) since(began time.Time) pod {
	fresh := func(all []containerStatus) []containerStatus {
		all = slices.Clone(all)
		for i := range all {
			s := &all[i]
			past := func(e *terminated) bool {
				return e != nil && e.ExitCode != 0 && !e.FinishedAt.IsZero() && e.FinishedAt.Before(began)
			}
			if reason, _ := s.waiting(); reason == "CrashLoopBackOff" {
				continue
			}
			if past(s.LastState.Terminated) {
				s.LastState.Terminated = nil
			}
			if past(s.State.Terminated) {
				s.State.Terminated = nil
			}
		}
		return all
	}
	p.Status.InitContainerStatuses, p.Status.ContainerStatuses = fresh(p.Status.InitContainerStatuses), fresh(p.Status.ContainerStatuses)
	return p
}

// explained adds to a failure what the container's own log says.
func (c *Compute) explained(ctx context.Context, d Deployment, v verdict) *Failure {
	f := *v.failure
	if v.container == "" {
		return &f
	}
	ctx, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	if k, _, err := c.kube(ctx, d.WorkspaceUID); err == nil {
		f.Log = lastLog(ctx, k, d.namespace(), v.pod, v.container, logEnd)
	}
	if reason := reasonIn(f.Log); reason != "" && v.container == InferenceServer {
		f.Message += " Its log says: " + strings.TrimSuffix(reason, ".") + "."
	}
	f.Message += fmt.Sprintf(" See its log: az ml online-deployment get-logs --endpoint-name %s --name %s --container %s", d.Endpoint, d.Name, v.container)
	return &f
}

// late is the failure of a rollout that does not go on.
func (c *Compute) late(ctx context.Context, d Deployment, revision string, began time.Time, deadline time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	v := verdict{container: InferenceServer, failure: &Failure{Code: CodeNotReady, Message: fmt.Sprintf("The deployment made no progress for %s.", deadline)}}
	k, _, err := c.kube(ctx, d.WorkspaceUID)
	if err != nil {
		return v.failure
	}
	pods, err := podsOf(ctx, k, d)
	if err != nil {
		return v.failure
	}
	for _, p := range ofRevision(pods, revision, began) {
		if p.condition("Ready").Status == "True" {
			continue
		}
		v.pod = p.Metadata.Name
		if step := p.judge(time.Now()).progress; step != "" {
			v.failure.Message += " It was " + step + "."
		}
		if s, ok := p.status(StorageInitializer); ok && (s.State.Terminated == nil || s.State.Terminated.ExitCode != 0) {
			v.container = StorageInitializer
		}
		events, _ := eventsOf(ctx, k, p) // without them it is said a little less well
		for _, e := range events {
			if e.Reason == "Unhealthy" || e.Reason == "Failed" || e.Reason == "FailedScheduling" {
				v.failure.Message += " " + e.Message
				break
			}
		}
		break
	}
	if v.pod == "" {
		v.container = ""
	}
	return c.explained(ctx, d, v)
}

// Remove takes the deployment away, and ends an Apply of it. It returns when no
// instance gets anything new; those that answer something still do. Gone already
// is no error.
func (c *Compute) Remove(ctx context.Context, uid string) error {
	c.interrupt(uid)
	give, err := c.take(ctx, "deployment "+uid)
	if err != nil {
		return err
	}
	defer give()
	doc, ok, err := c.deployment(ctx, uid)
	if err != nil || !ok && !doc.Removing {
		return err
	}
	doc, err = changeDoc(ctx, c.cfg.Store, deploymentPrefix+uid, deploymentKind, func(doc *deploymentDoc) error { doc.Removing = true; return nil })
	if err != nil {
		return err
	}
	d := doc.Deployment
	k, _, err := c.kube(ctx, d.WorkspaceUID)
	if err == nil {
		err = errors.Join(k.Delete(ctx, "/apis/apps/v1/namespaces/"+d.namespace()+"/deployments/"+uid), k.Delete(ctx, "/api/v1/namespaces/"+d.namespace()+"/secrets/"+uid))
	}
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		return fmt.Errorf("removing deployment %s: %w", d.display(), err)
	}
	return c.forget(ctx, doc)
}

// forget ends what the store has of a deployment.
func (c *Compute) forget(ctx context.Context, doc deploymentDoc) error {
	uid := doc.Deployment.UID
	secret, err := c.secret(ctx, doc)
	if err == nil && secret != "" {
		err = c.detach(ctx, uid, secret)
	}
	if err != nil {
		return fmt.Errorf("the identity of deployment %s: %w", doc.Deployment.display(), err)
	}
	if doc.Secret != nil {
		if err := c.cfg.Seal.Destroy(ctx, sealScope(uid)); err != nil {
			return err
		}
	}
	return c.drop(ctx, deploymentPrefix+uid)
}

// RemoveEndpoint takes an endpoint's namespace away, with what runs in it. Gone
// already is no error.
func (c *Compute) RemoveEndpoint(ctx context.Context, workspaceUID, endpointUID string) error {
	docs, err := c.deployments(ctx, workspaceUID)
	if err != nil {
		return err
	}
	var errs []error
	for _, doc := range docs {
		if doc.Deployment.EndpointUID == endpointUID {
			errs = append(errs, c.Remove(ctx, doc.Deployment.UID))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !uidForm().MatchString(endpointUID) {
		return nil // it never had anything
	}
	all, err := c.networks(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		if n.UID != workspaceUID || n.Removing {
			continue
		}
		k, _, err := c.kube(ctx, workspaceUID)
		if err == nil {
			err = k.Delete(ctx, "/api/v1/namespaces/"+Deployment{EndpointUID: endpointUID}.namespace())
		}
		if err != nil && !errors.Is(err, cluster.ErrNotFound) {
			return fmt.Errorf("removing the namespace of an endpoint: %w", err)
		}
	}
	return nil
}
