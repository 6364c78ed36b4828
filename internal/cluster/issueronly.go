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

// Apply implements Driver: there is nothing to start.
func (IssuerOnly) Apply(context.Context, Spec) error { return nil }

// Remove implements Driver.
func (IssuerOnly) Remove(context.Context, string) error { return nil }

// Kubeconfig implements Driver: it gives ErrNoAPIServer.
func (IssuerOnly) Kubeconfig(_ context.Context, uid string, _ bool) ([]byte, error) {
	return nil, fmt.Errorf("cluster %s: %w", uid, ErrNoAPIServer)
}
