package endpoints

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const resumeAtOnce = 2 // deployments: each takes seconds of processor time

// Resume makes the deployments run that should, once, after the server
// started: what ended with the machine starts again. It waits for what they
// run on.
func (s *Service) Resume(ctx context.Context, log *slog.Logger) error {
	list, err := s.resumable(ctx)
	if err != nil || len(list) == 0 || !s.wait(ctx, log) {
		return err
	}
	g := errgroup.Group{}
	g.SetLimit(resumeAtOnce)
	for _, id := range list {
		g.Go(func() error {
			if err := s.again(ctx, id); err != nil && ctx.Err() == nil {
				log.Error("a deployment was not started again", slog.String("deployment", id.String()), slog.String("error", err.Error()))
			}
			return nil
		})
	}
	return g.Wait()
}

// resumable are the deployments that were rolled out.
func (s *Service) resumable(ctx context.Context) ([]rid.ID, error) {
	var out []rid.ID
	for after := ""; ; {
		page, err := s.res.List(ctx, rid.ID{}, DeploymentType, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if e.Private[rolledKey] == "true" {
				out = append(out, e.RID())
			}
		}
		if len(page) < 1000 {
			return out, nil
		}
		after = page[len(page)-1].ID
	}
}

// wait waits for what deployments run on; false when ctx ended.
func (s *Service) wait(ctx context.Context, log *slog.Logger) bool {
	tick := time.NewTicker(settle)
	defer tick.Stop()
	for look := 0; ; look++ {
		err := s.available(ctx)
		if err == nil {
			return true
		}
		if look == 1 && ctx.Err() == nil { // at the first one it may still be starting, as we are
			log.Warn("online deployments wait for what runs them", slog.String("error", err.Error()))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// again applies a deployment as it is stored now, unless an operation does.
func (s *Service) again(ctx context.Context, id rid.ID) error {
	e, err := s.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.State() != "Succeeded" && e.State() != "Failed" {
		return nil
	} else if err != nil {
		return err
	}
	r, err := arm.View[Deployment](e)
	if err != nil {
		return err
	}
	spec, err := s.spec(ctx, r)
	if apierr.Is(err, apierr.NotFound) || errors.Is(err, store.ErrNotFound) {
		return nil // its endpoint went
	}
	if err != nil {
		return err
	}
	return s.Runner.Apply(ctx, spec, func(string) {})
}
