package compute

import (
	"context"
	"errors"
	"fmt"
)

// Of which identities a deployment's pods get tokens is changed in the turn
// "identity UID", which nothing holds for long: what the store says counts.

// errUnstored says that a deployment is not there, or is taken away.
var errUnstored = errors.New("there is no such deployment")

// Identify makes the identities those whose tokens the pods of a deployment get,
// and no others, from now on: also in the middle of an Apply. One that is not
// there is no error.
func (c *Compute) Identify(ctx context.Context, uid string, identities []string) error {
	give, err := c.take(ctx, "identity "+uid)
	if err != nil {
		return err
	}
	defer give()
	doc, err := changeDoc(ctx, c.cfg.Store, deploymentPrefix+uid, deploymentKind, func(doc *deploymentDoc) error {
		if doc.Deployment.UID == "" || doc.Removing {
			return errUnstored
		}
		doc.Deployment.Identities = identities
		return nil
	})
	if errors.Is(err, errUnstored) {
		return nil
	} else if err != nil {
		return err
	}
	secret, err := c.secret(ctx, doc)
	switch {
	case err != nil || secret == "": // no pod has any
	case len(identities) == 0:
		err = c.cfg.Grants.Revoke(ctx, secret)
	default:
		err = c.cfg.Grants.Attach(ctx, secret, identities)
	}
	if err != nil {
		return fmt.Errorf("the identity of deployment %s: %w", doc.Deployment.display(), err)
	}
	return nil
}

// attach makes the secret good for the identities that the deployment has now.
func (c *Compute) attach(ctx context.Context, uid, secret string) error {
	give, err := c.take(ctx, "identity "+uid)
	if err != nil {
		return err
	}
	defer give()
	doc, ok, err := c.deployment(ctx, uid)
	if err != nil || !ok || len(doc.Deployment.Identities) == 0 {
		return err
	}
	return c.cfg.Grants.Attach(ctx, secret, doc.Deployment.Identities)
}

// detach ends what the secret is good for; the deployment is taken away.
func (c *Compute) detach(ctx context.Context, uid, secret string) error {
	give, err := c.take(ctx, "identity "+uid)
	if err != nil {
		return err
	}
	defer give()
	return c.cfg.Grants.Revoke(ctx, secret)
}
