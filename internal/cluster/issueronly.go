package cluster

import (
	"context"
	"fmt"
)

// IssuerOnly is the driver "issuer": a cluster is its issuer and nothing else,
// which is all that workload identity asks of one.
type IssuerOnly struct{}

// Name implements Driver.
func (IssuerOnly) Name() string { return "issuer" }

// Offer implements Driver: a version is a label here, so these are the ones
// that Kubernetes maintains.
func (IssuerOnly) Offer(context.Context) ([]string, error) {
	return []string{"1.37.2", "1.36.5", "1.35.8"}, nil
}

// Apply implements Driver: there is nothing to start.
func (IssuerOnly) Apply(context.Context, Spec, func(Phase)) error { return nil }

// Remove implements Driver.
func (IssuerOnly) Remove(context.Context, string) error { return nil }

// Access implements Driver: it gives ErrNoAPIServer.
func (IssuerOnly) Access(_ context.Context, uid string) (Access, error) {
	return Access{}, fmt.Errorf("cluster %s: %w", uid, ErrNoAPIServer)
}
