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

// startError is a start that came to nothing for a request.
type startError struct {
	after   error // the pool's: the request's time was over before; nil: the start failed
	zero    bool  // the deployment was scaled to zero
	because error // why it failed, or has not been made so far; nil: that is not known
}

// Error says what it is.
func (e *startError) Error() string {
	text := "starting the deployment"
	for _, err := range []error{e.after, e.because} {
		if err != nil {
			text += ": " + err.Error()
		}
	}
	return text
}

// Unwrap gives the causes.
func (e *startError) Unwrap() error { return errors.Join(e.after, e.because) }

// reason is what callers may know of why a start came to nothing; "" is nothing.
func (e *startError) reason() string {
	if known, ok := errors.AsType[*apierr.Error](e.because); ok {
		return known.Message
	}
	if e.after == nil {
		return "what it runs on does not answer."
	}
	return ""
}

// instance is one for the request, which waits in line for it. A deployment that
// may have none because nobody asked is started, and the request may wait as long
// as an instance might take to answer it.
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
	ended := make(chan *startError, 1)
	go func() {
		zero, err := a.r.cfg.Starter.Start(ctx, a.dep.UID)
		e := &startError{zero: zero, because: err}
		if err != nil && ctx.Err() == nil {
			cancel(e)
		}
		ended <- e
	}()
	i, err := a.pool.acquire(ctx, a.dep.each(), max(wait, a.dep.timeout()), not)
	cancel(nil)
	started := <-ended
	if errors.Is(err, errNoInstances) || errors.Is(err, errWaited) {
		return nil, &startError{after: err, zero: started.zero, because: started.because}
	}
	return i, err
}

// startWord is the refusal of a request whose deployment was started for it;
// found is for explanations.
func (a *ask) startWord(e *startError) (out *apierr.Error, found string) {
	name, ms := a.dep.Name, a.dep.timeout().Milliseconds()
	why := e.reason()
	if why != "" {
		why = " " + why
	}
	switch {
	case e.after != nil && e.zero:
		out = apierr.New(apierr.Unavailable, codeTimeout, "The deployment '%s' is being started, since it was scaled to zero, and did not answer within the %d ms that its request_timeout_ms gives it.%s Try again in a moment.", name, ms, why)
		found = "the deployment was scaled to zero, and its start takes longer than request_timeout_ms"
	case e.after != nil:
		out = apierr.New(apierr.Unavailable, codeTimeout, "The deployment '%s' has no instance that is ready yet, and did not get one within the %d ms of its request_timeout_ms.%s Try again in a moment.", name, ms, why)
		found = "the deployment has no instance that is ready, and did not get one within request_timeout_ms"
	case e.zero:
		out = apierr.New(apierr.Unavailable, codeUnready, "The deployment '%s' was scaled to zero, and could not be started:%s", name, why)
		return out, "the deployment was scaled to zero, and could not be started:" + why
	default:
		out = apierr.New(apierr.Unavailable, codeUnready, "The deployment '%s' has no instance that is ready, and could not be started:%s", name, why)
		return out, "the deployment has no instance that is ready, and could not be started:" + why
	}
	out.RetryAfter = startAgain
	if why != "" {
		found += ":" + why
	}
	return out, found
}
