package router

import (
	"context"
	"errors"
	"time"

	"lazurite.dev/internal/apierr"
)

// startAgain is when a caller may ask again whose time was over before the
// deployment ran.
const startAgain = 5 * time.Second

var (
	errNotStarted = errors.New("the deployment was scaled to zero, and did not start in the time that a request may take")
	errCrowded    = errors.New("the deployment was started from zero, and its instance did not become free in the time that a request may take")
)

// startError is a start that came to nothing.
type startError struct{ cause error }

// Error says what it is.
func (e *startError) Error() string { return "starting the deployment: " + e.cause.Error() }

// Unwrap gives the cause.
func (e *startError) Unwrap() error { return e.cause }

func isStart(err error) bool {
	_, ok := errors.AsType[*startError](err)
	return ok
}

// reason is what callers may know of why a start came to nothing.
func reason(err error) string {
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		return e.Message
	}
	return "what it runs on does not answer."
}

// instance is one for the request, which waits in line for it. A deployment that
// has none because nobody asked is started, and the request may wait as long as
// an instance might take to answer it.
func (a *ask) instance(ctx context.Context, wait time.Duration, not *instance) (*instance, error) {
	if !a.dep.ToZero || a.r.cfg.Starter == nil {
		return a.pool.acquire(ctx, a.dep.each(), wait, not)
	}
	if a.pool.up() {
		i, err := a.pool.acquire(ctx, a.dep.each(), wait, not)
		if !errors.Is(err, errNoInstances) {
			return i, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if err := a.r.cfg.Starter.Start(ctx, a.dep.UID); err != nil && ctx.Err() == nil {
			cancel(&startError{err})
		}
	}()
	i, err := a.pool.acquire(ctx, a.dep.each(), max(wait, a.dep.timeout()), not)
	switch {
	case errors.Is(err, errNoInstances):
		return nil, errNotStarted
	case errors.Is(err, errWaited):
		return nil, errCrowded
	}
	return i, err
}
