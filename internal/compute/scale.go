package compute

import (
	"context"
	"errors"
)

// Scaled is how many instances a deployment should have, which may be none; ok
// is false where it is not there.
func (c *Compute) Scaled(ctx context.Context, uid string) (instances int, ok bool, err error) {
	doc, ok, err := c.deployment(ctx, uid)
	return doc.Deployment.Instances, ok, err
}

// ErrBusy says that a deployment is being changed, or was a moment ago: what was
// decided on how it stood is to be decided anew.
var ErrBusy = errors.New("the deployment is being changed by somebody else")

// Scale makes a deployment have so many instances where it should have from, and
// waits for none of them. It is ErrBusy where it should have another number by
// now, or where an Apply or another change of it is in progress, for which nobody
// is to wait. With 0 it is kept, and has none until Scale, Start or Apply; what
// an instance that goes has begun, it ends. One that is not there is no error.
func (c *Compute) Scale(ctx context.Context, uid string, from, to int) error {
	if to < 0 {
		return &Failure{Code: CodeBad, Message: "A deployment has no instance or more."}
	}
	doc, ok, err := c.deployment(ctx, uid)
	if err != nil || !ok || doc.Deployment.Instances == to {
		return err
	}
	give, ok := c.tryTake("deployment " + uid)
	if !ok {
		return ErrBusy
	}
	defer give()
	_, _, err = c.scale(ctx, uid, func(now int) (int, error) {
		if now != from {
			return now, ErrBusy
		}
		return to, nil
	})
	return err
}

// scale makes the number of instances what change says, in the deployment's
// turn, which the caller has. One that is not there has the UID "".
func (c *Compute) scale(ctx context.Context, uid string, change func(now int) (int, error)) (doc deploymentDoc, revision string, err error) {
	if _, ok, err := c.deployment(ctx, uid); err != nil || !ok {
		return deploymentDoc{}, "", err
	}
	before := 0
	doc, err = changeDoc(ctx, c.cfg.Store, deploymentPrefix+uid, deploymentKind, func(d *deploymentDoc) error {
		before = d.Deployment.Instances
		next, err := change(before)
		d.Deployment.Instances = next
		return err
	})
	if err != nil {
		return doc, "", err
	}
	if revision, err = c.put(ctx, doc, func(string) {}); err == nil {
		return doc, revision, nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	_, back := changeDoc(undo, c.cfg.Store, deploymentPrefix+uid, deploymentKind, func(d *deploymentDoc) error { // whoever asks again tries again
		d.Deployment.Instances = before
		return nil
	})
	return doc, "", errors.Join(err, back)
}

// Start has a deployment that was scaled to zero run again, with one instance,
// and returns when one of its instances is ready. An error that is a *Failure
// says why none is; the deployment is left as it is then, and may still come. An
// Apply in progress comes first.
func (c *Compute) Start(ctx context.Context, uid string) error {
	doc, revision, err := c.startScale(ctx, uid)
	if err != nil {
		return err
	}
	if doc.Deployment.UID == "" {
		return &Failure{Code: CodeWasRemoved, Message: "The deployment was deleted meanwhile."}
	}
	d, err := doc.deployment()
	if err != nil {
		return err
	}
	return c.await(ctx, d, revision, func(v verdict) bool { return v.some || v.done }, func(string) {})
}

// startScale gives a deployment an instance, if it has none. Where its cluster is
// not back yet, nothing is changed.
func (c *Compute) startScale(ctx context.Context, uid string) (doc deploymentDoc, revision string, err error) {
	give, err := c.take(ctx, "deployment "+uid)
	if err != nil {
		return doc, "", err
	}
	defer give()
	doc, ok, err := c.deployment(ctx, uid)
	if err != nil || !ok {
		return deploymentDoc{}, "", err
	}
	if _, _, err := c.kube(ctx, doc.Deployment.WorkspaceUID); err != nil {
		return doc, "", err
	}
	return c.scale(ctx, uid, func(now int) (int, error) { return max(now, 1), nil })
}
