package server

import (
	"context"
	"errors"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/providers/network"
	"lazurite.dev/internal/providers/operationalinsights"
)

// machineLearning is the management of Machine Learning workspaces.
func (s *system) machineLearning(ctx context.Context) error {
	var err error
	if s.workspaces, err = machinelearningservices.Open(ctx, s.Store, s.links); err != nil {
		return err
	}
	s.ends(s.workspaces.Close)
	cfg := machinelearningservices.Config{
		Workspaces: s.workspaces, Sealer: s.keyring, Authorizer: s.policy, TenantID: s.in.Tenant, Assign: s.policy.Assign,
		Machine: managed{wire: s.Wire},
	}
	s.learning = machinelearningservices.New(cfg, s.Config.scoringHost)
	s.worker(func(ctx context.Context) error {
		s.hourly(ctx, func(ctx context.Context) error { return machinelearningservices.Sweep(ctx, cfg) })
		return nil
	})
	return nil
}

// scoringHost is where "ENDPOINT.REGION" is scored.
func (c *Config) scoringHost(label string) string { return c.Host(Scoring, strings.ToLower(label)) }

// managed makes managed networks on this machine.
type managed struct {
	wire network.Wire
}

// Available implements machinelearningservices.Machine.
func (m managed) Available(ctx context.Context) error {
	if m.wire == nil {
		return errors.New("this server makes no networks")
	}
	return m.wire.Available(ctx)
}

// Network implements machinelearningservices.Machine.
func (m managed) Network(context.Context, *machinelearningservices.Workspace) error {
	return errors.New("this server runs no deployments")
}

// RemoveNetwork implements machinelearningservices.Machine.
func (m managed) RemoveNetwork(context.Context, string) error { return nil }

// logSinks are the workspaces into which logs are said to go.
func (s *system) logSinks() arm.Provider { return operationalinsights.New(s.keyring) }
