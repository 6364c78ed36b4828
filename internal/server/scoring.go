package server

import (
	"context"
	"net"

	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/web"
)

// scoring is the data plane of online endpoints.
func (s *system) scoring(context.Context) error {
	plane, err := router.New(router.Config{
		Gate: s.gate(), Catalog: s.online, Instances: instances{s.compute}, Starter: s.online, Approved: s.links.Approved,
		AzureLike: s.Config.AzureLike, Answers: s.answers, Scored: s.scored, Metrics: s.Metrics,
	})
	if err != nil {
		return err
	}
	s.worker(plane.Run)
	s.worker(func(ctx context.Context) error {
		return s.telemetry.Collect(ctx, s.collected, printing{s.compute})
	})
	s.worker(func(ctx context.Context) error { return s.online.Autoscale(ctx, plane, s.compute, s.Config.Log) })
	s.planes[Scoring] = plane
	s.out.Surfaces[Scoring] = web.Surface{Handler: plane, IDs: web.KeyVault, MaxBody: router.MaxBody, Timeout: -1, Error: router.WriteError}
	return nil
}

// instances are the pods of deployments, as the router sees them.
type instances struct{ computes *compute.Compute }

// Of implements router.Instances.
func (i instances) Of(deploymentUID string) []router.Instance {
	list := i.computes.Of(deploymentUID)
	out := make([]router.Instance, len(list))
	for n, one := range list {
		out[n] = router.Instance(one)
	}
	return out
}

// OnChange implements router.Instances.
func (i instances) OnChange(fn func()) { i.computes.OnChange(fn) }

// Dial implements router.Instances.
func (i instances) Dial(ctx context.Context, one router.Instance) (net.Conn, error) {
	return i.computes.Dial(ctx, compute.Instance(one))
}
