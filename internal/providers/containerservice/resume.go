package containerservice

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	resumeLook   = 2 * time.Second // between looks for the driver
	resumeAtOnce = 2               // clusters: each takes seconds of processor time
)

// Resume makes the clusters that should run do so, once, after the server
// started: what ended with the machine starts again. It waits for their driver.
func (s *Service) Resume(ctx context.Context, log *slog.Logger) error {
	list, err := s.resumable(ctx)
	if err != nil || len(list) == 0 {
		return err
	}
	g := errgroup.Group{}
	g.SetLimit(resumeAtOnce)
	for _, r := range list {
		if !s.ready(ctx, r, log) {
			break
		}
		g.Go(func() error {
			if err := s.again(ctx, r.ID); err != nil && ctx.Err() == nil && !errors.Is(err, cluster.ErrRemoved) {
				log.Error("a cluster was not started again", slog.String("cluster", r.ID.String()), slog.String("error", err.Error()))
			}
			return nil
		})
	}
	return g.Wait()
}

// resumable are the clusters that the embedded driver runs.
func (s *Service) resumable(ctx context.Context) ([]*resource, error) {
	var out []*resource
	for after := ""; ; {
		page, err := s.res.List(ctx, rid.ID{}, Namespace+"/managedClusters", after, 1000)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			r, err := arm.View[Cluster](e)
			if err != nil {
				return nil, err
			}
			if driverName(r) == embedded && (r.Properties.PowerState == nil || r.Properties.PowerState.Code != stopped) {
				out = append(out, r)
			}
		}
		if len(page) < 1000 {
			return out, nil
		}
		after = page[len(page)-1].ID
	}
}

// ready waits for the cluster's driver; false when ctx ended.
func (s *Service) ready(ctx context.Context, r *resource, log *slog.Logger) bool {
	tick := time.NewTicker(resumeLook)
	defer tick.Stop()
	for look := 0; ; look++ {
		_, err := s.offerOf(ctx, r)
		if err == nil {
			return true
		}
		if look == 1 && ctx.Err() == nil { // at the first one it may still be starting, as we are
			log.Warn("clusters wait for their driver", slog.String("error", err.Error()))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// again applies a cluster as it is stored now, unless an operation does.
func (s *Service) again(ctx context.Context, id rid.ID) error {
	e, err := s.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && !oneOf(e.State(), "Succeeded", "Failed", "Canceled") {
		return nil
	} else if err != nil {
		return err
	}
	r, err := arm.View[Cluster](e)
	if err != nil {
		return err
	}
	if err := s.apply(ctx, r); err != nil || e.State() == "Succeeded" {
		return err
	}
	e.Properties["provisioningState"] = "Succeeded" // it is now as was asked for
	if err := s.res.Put(ctx, e); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil // somebody changed it, and says how that ended
}
