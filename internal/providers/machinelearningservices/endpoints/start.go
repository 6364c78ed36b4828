package endpoints

import (
	"context"
	"errors"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/compute"
)

// flights are the starts of deployments from zero, and their ways down to it,
// of which each deployment has one at a time.
type flights struct {
	all sync.WaitGroup // those that were begun

	mu     sync.Mutex // guards what follows
	closed bool
	of     map[string]*flight
}

// flight is one; done is closed after err was set.
type flight struct {
	start bool
	done  chan struct{}
	err   error

	mu   sync.Mutex // guards what follows
	zero bool       // the deployment was scaled to zero, as the start began
	why  error      // what the last try came to
}

// note keeps what a start has found out so far.
func (f *flight) note(zero bool, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zero, f.why = f.zero || zero, why
}

func (f *flight) noted() (zero bool, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.zero, f.why
}

var errClosed = errors.New("the server ends")

// begin gives the flight of a deployment: one of the caller's own, which it
// ends, or the one that is under way. After close it is one that failed.
func (l *flights) begin(uid string, start bool) (f *flight, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.of[uid]; f != nil {
		return f, false
	}
	if l.of == nil {
		l.of = map[string]*flight{}
	}
	f = &flight{start: start, done: make(chan struct{})}
	if l.closed {
		f.err = errClosed
		close(f.done)
		return f, false
	}
	l.of[uid] = f
	l.all.Add(1)
	return f, true
}

// end ends one's own.
func (l *flights) end(uid string, f *flight, err error) {
	l.mu.Lock()
	delete(l.of, uid)
	l.mu.Unlock()
	f.err = err
	close(f.done)
	l.all.Done()
}

// close begins nothing any more, and waits for what was begun.
func (l *flights) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.all.Wait()
}

// start is the start of a deployment that is under way; nil where none is.
func (l *flights) start(uid string) *flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.of[uid]; f != nil && f.start {
		return f
	}
	return nil
}

// Start implements router.Starter: it has a deployment without an instance
// started once, however many ask.
func (s *Service) Start(ctx context.Context, uid string) (zero bool, err error) {
	uid = endpointUID(uid)
	if s.Runner == nil {
		return false, s.available(ctx)
	}
	for {
		f, mine := s.flights.begin(uid, true)
		if mine {
			go func() { s.flights.end(uid, f, s.startOne(uid, f)) }()
		}
		select {
		case <-f.done:
			if f.start {
				zero, _ = f.noted()
				return zero, f.err
			}
		case <-ctx.Done():
			zero, why := f.noted()
			return zero, errors.Join(context.Cause(ctx), why)
		}
	}
}

// startRetry is how long after a try of a start that came to nothing the next one
// is made.
const startRetry = 250 * time.Millisecond

// startOne is one start, which does not end with who asked for it. After a
// restart what runs deployments may take a while to be back: all but a Failure is
// tried again, for as long as a rollout waits for that.
func (s *Service) startOne(uid string, f *flight) error {
	until := time.Now().Add(startTime)
	tick := time.NewTicker(startRetry)
	defer tick.Stop()
	for {
		if n, ok, err := s.Runner.Scaled(s.work, uid); err == nil {
			f.note(ok && n == 0, nil)
		}
		err := s.available(s.work)
		if err == nil {
			err = s.Runner.Start(s.work, uid)
		}
		if fail, ok := errors.AsType[*compute.Failure](err); ok {
			return apierr.New(apierr.Conflict, fail.Code, "%s", fail.Message).WithCause(err)
		}
		if err == nil || s.work.Err() != nil || time.Now().After(until) {
			return err
		}
		f.note(false, err)
		select {
		case <-tick.C:
		case <-s.work.Done():
			return err
		}
	}
}

// showDeployment says how many instances there should be now, where that
// follows the load.
func (s *Service) showDeployment(ctx context.Context, r *deployment) error {
	n := &r.Properties
	n.Current, n.ScaledZero = nil, false
	if s.Runner == nil || n.Scale == nil || n.Scale.Type != scaleTarget {
		return nil
	}
	if have, ok, err := s.Runner.Scaled(ctx, endpointUID(r.Private[uidKey])); err == nil && ok {
		n.Current, n.ScaledZero = &have, have == 0
	}
	return nil
}
