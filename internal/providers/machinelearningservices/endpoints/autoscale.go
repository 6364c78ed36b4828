package endpoints

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/compute"
)

// Load knows how many requests a deployment has, in progress and waiting;
// *router.Router is one.
type Load interface {
	Pending(deploymentUID string) int
	// Served is a number that is another one after each request; 0 says nothing.
	Served(deploymentUID string) uint64
}

// Scaler changes the number of a deployment's instances and does not wait for
// them; *compute.Compute is one.
type Scaler interface {
	// Scale makes it so many where it should have from: compute.ErrBusy where that
	// is no longer so, or somebody else changes the deployment.
	Scale(ctx context.Context, deploymentUID string, from, to int) error
	// Scaled is how many it should have by the last Apply, Scale or Start, which
	// may be none; ok is false where it is not there.
	Scaled(ctx context.Context, deploymentUID string) (instances int, ok bool, err error)
}

// Azure's defaults. Source: Azure Machine Learning REST API,
// TargetUtilizationScaleSettings.
const (
	defaultPolling = "PT1S"
	defaultTarget  = 70 // percent
	leastPolling   = time.Second

	// calm is how long fewer instances must have been enough before some go.
	calm = time.Minute

	// idlePolls is how many polling intervals without a request end in no
	// instance, where minInstances is 0.
	idlePolls = 60

	// mostPause is how long at most after one that failed the next change is tried.
	mostPause = 30 * time.Second
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
	case *c.Min < 0:
		return bad(at+"minInstances", "The least number of instances is %d; it is 0, which lets the deployment go to zero when nobody asks, or more.", *c.Min)
	case *c.Max < 1:
		return bad(at+"maxInstances", "The greatest number of instances is %d; a deployment that is asked has at least one.", *c.Max)
	case *c.Max < *c.Min:
		return bad(at+"maxInstances", "The greatest number of instances, %d, is less than the least, %d.", *c.Max, *c.Min)
	case *c.Max > maxInstances:
		return outOfQuota("A deployment has at most %d instances, not %d.", maxInstances, *c.Max)
	case *c.Target < 1 || *c.Target > 100:
		return bad(at+"targetUtilizationPercentage", "The target utilization of %d percent is not from 1 to 100.", *c.Target)
	}
	return within(at+"pollingInterval", c.Polling, leastPolling, time.Hour)
}

// toZero reports whether there may be no instance.
func (c *ScaleSettings) toZero() bool {
	return c != nil && c.Type == scaleTarget && c.Min != nil && *c.Min == 0
}

// every is how often the load is looked at, which was checked.
func (c *ScaleSettings) every() time.Duration {
	d, _ := ParseDuration(c.Polling)
	return max(d, leastPolling)
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
	first      int  // instances after a rollout
	changing   bool // an update is under way, and is to be verified: there is an instance
	ahead      bool // settings are those of an update under way, not of what runs: none goes

	seen string      // the revision of settings that the rest belongs to
	busy atomic.Bool // a look at it is under way: the rest is that one's

	stand
	asked  time.Time // when the load was last looked at
	served uint64    // as Load has it
	active time.Time // when there was last something to do, as far as was seen

	again time.Time // before then nothing is changed
	fails int       // one after the other
	said  string    // the last failure that was logged
}

// stand is what a deployment has, and what it has needed.
type stand struct {
	now     int
	enough  time.Time // since when fewer would be enough
	highest int       // of what was wanted since then
}

// look decides on the number of instances; change is false to leave it.
func (x *scaled) look(pending int, served uint64, at time.Time) (n int, change bool) {
	if pending > 0 || served != 0 && served != x.served || x.active.IsZero() {
		x.active = at
	}
	if served != 0 {
		x.served = served
	}
	want := x.settings.wanted(pending, x.concurrent)
	if want == 0 && x.now > 0 {
		if at.Sub(x.active) >= idlePolls*x.settings.every() {
			x.enough, x.now = time.Time{}, 0
			return 0, true
		}
		want = 1
	}
	switch {
	case want > x.now:
		x.enough, x.now = time.Time{}, want
		return want, true
	case want == x.now:
		x.enough = time.Time{}
		return 0, false
	case x.enough.IsZero():
		x.enough, x.highest = at, want
		return 0, false
	}
	x.highest = max(x.highest, want)
	if at.Sub(x.enough) < calm {
		return 0, false
	}
	x.enough, x.now = time.Time{}, x.highest
	return x.now, true
}

// Autoscale lets the numbers of instances follow the load until ctx ends.
func (s *Service) Autoscale(ctx context.Context, load Load, scaler Scaler, log *slog.Logger) error {
	tick := time.NewTicker(leastPolling)
	defer tick.Stop()
	l := newScaling(s, load, scaler, log)
	defer l.looks.Wait()
	for {
		select {
		case <-tick.C:
			l.all(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// scaling is what one Autoscale remembers.
type scaling struct {
	s      *Service
	load   Load
	scaler Scaler
	log    *slog.Logger
	known  map[string]*scaled // by uid
	looks  sync.WaitGroup     // that are under way
}

func newScaling(s *Service, load Load, scaler Scaler, log *slog.Logger) *scaling {
	return &scaling{s: s, load: load, scaler: scaler, log: log, known: map[string]*scaled{}}
}

// all begins a look at all deployments, but at those of which the last one goes
// on: none waits for another.
func (l *scaling) all(ctx context.Context) {
	there := map[string]bool{}
	for _, next := range l.s.scalable() {
		there[next.uid] = true
		x := l.known[next.uid]
		if x != nil && x.busy.Load() {
			continue
		}
		switch {
		case x != nil && next.changing:
			x.changing = true // what runs has the settings of before until the update is done
		case x == nil || x.changing || x.seen != next.seen:
			next.now, next.ahead = next.first, next.changing
			x, l.known[next.uid] = next, next
		}
		if now := l.s.Now(); now.Sub(x.asked) >= x.settings.every() {
			x.asked = now
			x.busy.Store(true)
			l.looks.Go(func() {
				defer x.busy.Store(false)
				l.one(ctx, x)
			})
		}
	}
	for uid, x := range l.known {
		if !there[uid] && !x.busy.Load() {
			delete(l.known, uid)
		}
	}
}

// one is a look at one.
func (l *scaling) one(ctx context.Context, x *scaled) {
	// What was asked before a restart, or set by an update or a start, is not
	// remembered here.
	if have, ok, err := l.scaler.Scaled(ctx, x.uid); err == nil && ok {
		x.now = have
	}
	if l.s.flights.start(x.uid) != nil {
		x.active = x.asked
	}
	before := x.stand
	n, change := x.look(l.load.Pending(x.uid), l.load.Served(x.uid), x.asked)
	if !change {
		return
	}
	if n == 0 && x.changing || n < before.now && x.ahead {
		x.stand = before
		return
	}
	err := errPause
	if !x.asked.Before(x.again) {
		if n > 0 {
			err = l.scaler.Scale(ctx, x.uid, before.now, n)
		} else {
			err = l.sink(ctx, x, before.now)
		}
	}
	switch {
	case err == nil:
		l.worked(x)
		return
	case errors.Is(err, errAwake):
		x.active = x.asked
	case !errors.Is(err, errPause) && !errors.Is(err, compute.ErrBusy) && ctx.Err() == nil:
		l.failed(x, n, err)
	}
	x.stand = before
}

// failed has the next change wait, longer each time, and says why once.
func (l *scaling) failed(x *scaled, n int, err error) {
	x.again = l.s.Now().Add(min(x.settings.every()<<min(x.fails, 10), mostPause))
	x.fails++
	if text := err.Error(); text != x.said {
		x.said = text
		l.log.Error("a deployment was not scaled, which is tried again", slog.String("deployment", x.uid), slog.Int("instances", n), slog.String("error", text))
	}
}

// worked ends that.
func (l *scaling) worked(x *scaled) {
	if x.fails > 0 {
		l.log.Info("a deployment is scaled again", slog.String("deployment", x.uid), slog.Int("instances", x.now))
	}
	x.again, x.fails, x.said = time.Time{}, 0, ""
}

var (
	errAwake = errors.New("somebody has asked meanwhile")
	errPause = errors.New("the last change came to nothing a moment ago")
)

// sink scales a deployment to zero, unless somebody asked in the last moment:
// whoever asks from now on has it started when that is done.
func (l *scaling) sink(ctx context.Context, x *scaled, from int) error {
	f, mine := l.s.flights.begin(x.uid, false)
	if !mine {
		return errAwake
	}
	defer l.s.flights.end(x.uid, f, nil)
	if served := l.load.Served(x.uid); l.load.Pending(x.uid) > 0 || served != 0 && served != x.served {
		return errAwake
	}
	return l.scaler.Scale(ctx, x.uid, from, 0)
}

// scalable are the deployments that follow their load: also while an update is
// prepared, which may build an image for long.
func (s *Service) scalable() []*scaled {
	var out []*scaled
	s.docs.Range(func(_ string, e *arm.Envelope) bool {
		state := e.State()
		changing := state == "Updating" || state == "Scaling"
		if e.Private[rolledKey] != "true" || state != "Succeeded" && !changing {
			return true
		}
		v, err := arm.View[Deployment](e)
		if err != nil || v.Properties.Scale == nil || v.Properties.Scale.Type != scaleTarget || v.Properties.Request == nil {
			return true
		}
		out = append(out, &scaled{
			uid: endpointUID(e.Private[uidKey]), settings: *v.Properties.Scale, concurrent: v.Properties.Request.Concurrent,
			first: v.Properties.Scale.bound(instances(v)), changing: changing, seen: e.ETag(),
		})
		return true
	})
	return out
}
