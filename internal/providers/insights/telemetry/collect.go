package telemetry

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrNotAsked says of a pod that it was made for a deployment that is not
// collected of.
var ErrNotAsked = errors.New("the pod's lines are not collected")

// Collected is a deployment whose printed lines are wanted.
type Collected struct {
	Source
	UID string // names it for good
}

// Pods knows the instances of deployments, and what they print.
type Pods interface {
	// Of are the names of a deployment's pods, out of memory.
	Of(uid string) []string
	// Follow calls line with each line that the inference server of a pod printed
	// after since, and goes on until the server ends, which is no error, or ctx
	// does. ErrNotAsked says that there will never be any.
	Follow(ctx context.Context, uid, pod string, since time.Time, line func(at time.Time, text string)) error
}

// collecting is one Collect.
type collecting struct {
	s     *Service
	list  func() []Collected
	pods  Pods
	tasks *errgroup.Group

	known  map[string]time.Time // deployments by uid: before when their pods' lines are not wanted
	follow map[string]*following
	ended  chan string
	first  bool
}

type following struct {
	uid, pod string
	cancel   context.CancelFunc
	done     bool // it is not followed again
}

// Collect records what the pods of the listed deployments print, until ctx ends.
// One that joins the list later has nothing of before taken from pods that it
// had then.
func (s *Service) Collect(ctx context.Context, list func() []Collected, pods Pods) error {
	c := &collecting{s: s, list: list, pods: pods, tasks: &errgroup.Group{}, known: map[string]time.Time{}, follow: map[string]*following{}, ended: make(chan string), first: true}
	tick := time.NewTicker(s.cfg.Look)
	defer tick.Stop()
	for {
		c.look(ctx)
		select {
		case <-tick.C:
		case key := <-c.ended:
			if f := c.follow[key]; f != nil {
				f.done = true
			}
		case <-ctx.Done():
			return c.tasks.Wait()
		}
	}
}

// look begins to follow new pods, and ends what is not wanted any more.
func (c *collecting) look(ctx context.Context) {
	wanted, there := map[string]bool{}, map[string]bool{}
	for _, d := range c.list() {
		wanted[d.UID] = true
		names := c.pods.Of(d.UID)
		from, ok := c.known[d.UID]
		if !ok {
			if !c.first && len(names) > 0 {
				from = c.s.cfg.Now()
			}
			c.known[d.UID] = from
		}
		for _, pod := range names {
			key := d.UID + "/" + pod
			there[key] = true
			if c.follow[key] == nil {
				c.start(ctx, key, d, pod, from)
			}
		}
	}
	for uid := range c.known {
		if !wanted[uid] {
			delete(c.known, uid)
		}
	}
	for key, f := range c.follow {
		if !wanted[f.uid] { // at once; of a pod that goes away the end is still read
			f.cancel()
		}
		if f.done && !there[key] || !wanted[f.uid] {
			delete(c.follow, key)
		}
	}
	c.first = false
}

// start follows one pod.
func (c *collecting) start(ctx context.Context, key string, d Collected, pod string, from time.Time) {
	own, cancel := context.WithCancel(ctx)
	c.follow[key] = &following{uid: d.UID, pod: pod, cancel: cancel}
	c.tasks.Go(func() error {
		defer cancel()
		c.s.followPod(own, c.pods, d, pod, from)
		select {
		case c.ended <- key:
		case <-own.Done():
		}
		return nil
	})
}

// followPod records the lines of a pod until it is gone.
func (s *Service) followPod(ctx context.Context, pods Pods, d Collected, pod string, from time.Time) {
	d.Instance = pod
	last, said := from, ""
	if at, err := s.since(ctx, d.UID, pod); err == nil && at.After(last) {
		last = at
	}
	for ctx.Err() == nil {
		err := pods.Follow(ctx, d.UID, pod, last, func(at time.Time, text string) {
			if ctx.Err() != nil || !at.After(last) {
				return
			}
			last = at
			if text != "" {
				s.Line(Line{Source: d.Source, UID: d.UID, Time: at, Text: text})
			}
		})
		if errors.Is(err, ErrNotAsked) {
			return
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			s.cfg.Log.Debug("collecting what a pod prints", "pod", pod, "error", err)
		}
		if !slices.Contains(pods.Of(d.UID), pod) {
			return
		}
		select {
		case <-time.After(2 * s.cfg.Look): // its server begins anew, or the cluster does
		case <-ctx.Done():
		}
	}
}
