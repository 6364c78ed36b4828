package endpoints

import (
	"context"
	"log/slog"
	"math"
	"time"

	"lazurite.dev/internal/arm"
)

// Load knows how many requests a deployment has, in progress and waiting;
// *router.Router is one.
type Load interface {
	Pending(deploymentUID string) int
}

// Scaler changes the number of a deployment's instances and does not wait for
// them; *compute.Compute is one.
type Scaler interface {
	Scale(ctx context.Context, deploymentUID string, instances int) error
	// Scaled is how many it should have by the last Apply or Scale; 0: it is not there.
	Scaled(ctx context.Context, deploymentUID string) (int, error)
}

// Azure's defaults. Source: Azure Machine Learning REST API,
// TargetUtilizationScaleSettings.
const (
	defaultPolling = "PT1S"
	defaultTarget  = 70 // percent
	leastPolling   = time.Second

	// calm is how long fewer instances must have been enough before some go.
	calm = time.Minute
)

// complete gives a TargetUtilization its defaults.
func (c *ScaleSettings) complete() {
	if c.Min == nil {
		c.Min = new(int)
		*c.Min = 1
	}
	if c.Max == nil {
		c.Max = new(int)
		*c.Max = max(*c.Min, 1)
	}
	if c.Target == nil {
		c.Target = new(int)
		*c.Target = defaultTarget
	}
	if c.Polling == "" {
		c.Polling = defaultPolling
	}
}

// checkTarget refuses bounds that are none.
func (c *ScaleSettings) checkTarget() error {
	const at = "properties.scaleSettings."
	switch {
	case *c.Min < 1:
		return bad(at+"minInstances", "The least number of instances is %d; a deployment has at least one.", *c.Min)
	case *c.Max < *c.Min:
		return bad(at+"maxInstances", "The greatest number of instances, %d, is less than the least, %d.", *c.Max, *c.Min)
	case *c.Max > maxInstances:
		return outOfQuota("A deployment has at most %d instances, not %d.", maxInstances, *c.Max)
	case *c.Target < 1 || *c.Target > 100:
		return bad(at+"targetUtilizationPercentage", "The target utilization of %d percent is not from 1 to 100.", *c.Target)
	}
	return within(at+"pollingInterval", c.Polling, leastPolling, time.Hour)
}

// bound is a number of instances within the settings, if they have bounds.
func (c *ScaleSettings) bound(n int) int {
	if c == nil || c.Min == nil || c.Max == nil {
		return n
	}
	return min(max(n, *c.Min), *c.Max)
}

// wanted is how many instances serve so many requests at the target.
func (c *ScaleSettings) wanted(pending, concurrent int) int {
	return c.bound(int(math.Ceil(float64(pending) * 100 / float64(concurrent**c.Target))))
}

// scaled is a deployment whose number of instances follows its load.
type scaled struct {
	uid        string
	settings   ScaleSettings
	concurrent int
	first      int // instances after a rollout

	seen    string // the revision of settings that now belongs to
	now     int
	asked   time.Time // when the load was last looked at
	enough  time.Time // since when fewer would be enough
	highest int       // of what was wanted since then
}

// look decides on the number of instances; 0 is to leave it.
func (x *scaled) look(pending int, at time.Time) int {
	want := x.settings.wanted(pending, x.concurrent)
	switch {
	case want > x.now:
		x.enough, x.now = time.Time{}, want
		return want
	case want == x.now:
		x.enough = time.Time{}
		return 0
	case x.enough.IsZero():
		x.enough, x.highest = at, want
		return 0
	}
	x.highest = max(x.highest, want)
	if at.Sub(x.enough) < calm {
		return 0
	}
	x.enough, x.now = time.Time{}, x.highest
	return x.now
}

// Autoscale lets the numbers of instances follow the load until ctx ends.
func (s *Service) Autoscale(ctx context.Context, load Load, scaler Scaler, log *slog.Logger) error {
	tick := time.NewTicker(leastPolling)
	defer tick.Stop()
	known := map[string]*scaled{}
	for {
		select {
		case <-tick.C:
			s.autoscale(ctx, known, load, scaler, log)
		case <-ctx.Done():
			return nil
		}
	}
}

// autoscale is one look at all deployments.
func (s *Service) autoscale(ctx context.Context, known map[string]*scaled, load Load, scaler Scaler, log *slog.Logger) {
	there := map[string]bool{}
	for _, next := range s.scalable() {
		x := known[next.uid]
		if x == nil || x.seen != next.seen {
			next.now = next.first
			x, known[next.uid] = next, next
		}
		there[x.uid] = true
		now := s.Now()
		if every, _ := ParseDuration(x.settings.Polling); now.Sub(x.asked) < every { // it was checked
			continue
		}
		x.asked = now
		// What was asked before a restart, or set by an update, is not remembered here.
		if have, err := scaler.Scaled(ctx, x.uid); err == nil && have > 0 {
			x.now = have
		}
		before := x.now
		n := x.look(load.Pending(x.uid), now)
		if n == 0 {
			continue
		}
		if err := scaler.Scale(ctx, x.uid, n); err != nil && ctx.Err() == nil {
			x.now = before
			log.Error("a deployment was not scaled", slog.String("deployment", x.uid), slog.Int("instances", n), slog.String("error", err.Error()))
		}
	}
	for uid := range known {
		if !there[uid] {
			delete(known, uid)
		}
	}
}

// scalable are the deployments that follow their load, and of which no
// operation changes the number of instances now.
func (s *Service) scalable() []*scaled {
	var out []*scaled
	s.docs.Range(func(_ string, e *arm.Envelope) bool {
		if e.Private[rolledKey] != "true" || e.State() != "Succeeded" {
			return true
		}
		v, err := arm.View[Deployment](e)
		if err != nil || v.Properties.Scale == nil || v.Properties.Scale.Type != scaleTarget || v.Properties.Request == nil {
			return true
		}
		out = append(out, &scaled{
			uid: endpointUID(e.Private[uidKey]), settings: *v.Properties.Scale, concurrent: v.Properties.Request.Concurrent,
			first: v.Properties.Scale.bound(instances(v)), seen: e.ETag(),
		})
		return true
	})
	return out
}
