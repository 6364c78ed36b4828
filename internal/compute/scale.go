package compute

import (
	"context"
	"fmt"
)

// Scale changes the number of a deployment's instances, and waits for none of
// them. One that is not there, or that goes away, is left alone.
func (c *Compute) Scale(ctx context.Context, deploymentUID string, instances int) error {
	if instances < 1 {
		return fmt.Errorf("scale deployment %s to %d instances", deploymentUID, instances)
	}
	give, err := c.take(ctx, "deployment "+deploymentUID)
	if err != nil {
		return err
	}
	defer give()
	doc, ok, err := c.deployment(ctx, deploymentUID)
	if err != nil || !ok || doc.Removing || doc.Deployment.Instances == instances {
		return err
	}
	doc, err = changeDoc(ctx, c.cfg.Store, deploymentPrefix+deploymentUID, deploymentKind, func(doc *deploymentDoc) error {
		doc.Deployment.Instances = instances
		return nil
	})
	if err != nil {
		return err
	}
	_, err = c.put(ctx, doc, func(string) {})
	return err
}
