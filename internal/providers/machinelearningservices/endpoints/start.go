package endpoints

import (
	"context"
	"errors"
	"sync"

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

// starting reports whether a deployment is being started.
func (l *flights) starting(uid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[uid] != nil && l.of[uid].start
}

// Start implements router.Starter: it has a deployment that is scaled to zero
// started once, however many ask.
func (s *Service) Start(ctx context.Context, uid string) error {
	uid = endpointUID(uid)
	if s.Runner == nil {
		return s.available(ctx)
	}
	for {
		f, mine := s.flights.begin(uid, true)
		if mine {
			go func() { s.flights.end(uid, f, s.startOne(uid)) }()
		}
		select {
		case <-f.done:
			if f.start {
				return f.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// startOne is one start, which does not end with who asked for it.
func (s *Service) startOne(uid string) error {
	if err := s.available(s.work); err != nil {
		return err
	}
	err := s.Runner.Start(s.work, uid)
	if f, ok := errors.AsType[*compute.Failure](err); ok {
		return apierr.New(apierr.Conflict, f.Code, "%s", f.Message).WithCause(err)
	}
	return err
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
