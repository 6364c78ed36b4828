package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/providers/insights/telemetry"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/web"
)

// observe is what components of Application Insights collect, and the API that
// gives it.
func (s *system) observe(ctx context.Context) error {
	var err error
	s.telemetry, err = telemetry.Open(ctx, telemetry.Config{Store: s.Store, Log: s.Config.Log, MiB: s.Config.TelemetryMiB, Metrics: s.Metrics})
	if err != nil {
		return err
	}
	s.ends(s.telemetry.Close)
	s.worker(s.telemetry.Run)
	plane := telemetry.NewPlane(s.telemetry, s.gate(), token.ApplicationInsights)
	s.planes[Insights] = plane
	s.out.Surfaces[Insights] = web.Surface{Handler: plane, MaxBody: telemetry.MaxBody, Error: telemetry.WriteError}
	return nil
}

// scored records a request.
func (s *system) scored(r router.Scored) {
	s.telemetry.Request(telemetry.Request{
		Source: telemetry.Source{Workspace: r.Workspace, Endpoint: r.Endpoint, Deployment: r.Deployment, Instance: r.Instance},
		ID:     r.RequestID, Time: r.Time, Duration: r.Duration, Method: r.Method, Host: r.Host, Path: r.Path, Status: r.Status, ModelStatus: r.ModelStatus,
	})
}

// collected are the deployments whose lines are wanted.
func (s *system) collected() []telemetry.Collected {
	var out []telemetry.Collected
	for _, d := range s.online.Observed() {
		out = append(out, telemetry.Collected{UID: d.UID, Source: telemetry.Source{Workspace: d.Workspace, Endpoint: d.Endpoint, Deployment: d.Deployment}})
	}
	return out
}

// printing is what the pods of deployments print.
type printing struct{ computes *compute.Compute }

// Of implements telemetry.Pods.
func (p printing) Of(uid string) []string {
	var names []string
	for _, one := range p.computes.Of(uid) {
		names = append(names, one.ID)
	}
	return names
}

// Follow implements telemetry.Pods.
func (p printing) Follow(ctx context.Context, uid, pod string, since time.Time, line func(time.Time, string)) error {
	err := p.computes.Follow(ctx, uid, pod, since, line)
	if errors.Is(err, compute.ErrNotInsights) {
		return telemetry.ErrNotAsked
	}
	return err
}

// checkTelemetry says what is wrong with how much is kept.
func (c *Config) checkTelemetry() error {
	if c.TelemetryMiB < 1 || c.TelemetryMiB > 16<<10 {
		return fmt.Errorf("%d is not a number of MiB from 1 to %d", c.TelemetryMiB, 16<<10)
	}
	return nil
}
