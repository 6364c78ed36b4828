package telemetry

import (
	"context"
	"errors"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/kql"
)

const (
	mostAsks = 4 // queries and requests for events that run at once
	mostOwn  = 2 // of them of one component, those included whose answer is still written
	mostTime = 30 * time.Second
)

// turns are the queries that run now.
type turns struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by application id
}

// turn is one query's.
type turn struct {
	ran func() // gives it to another component's; may be called twice
	end func() // gives it back; may be called twice
}

// begin takes a turn for a component, or refuses.
func (t *turns) begin(app string) (*turn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	busy := func(format string, args ...any) error {
		e := apierr.New(apierr.TooManyRequests, codeBusy, format, args...)
		e.RetryAfter = time.Second
		return e
	}
	switch {
	case t.of[app] >= mostOwn:
		return nil, busy("%d queries of this component run already. Try again in a moment.", mostOwn)
	case t.all >= mostAsks:
		return nil, busy("%d queries run already. Try again in a moment.", mostAsks)
	}
	if t.of == nil {
		t.of = map[string]int{}
	}
	t.all++
	t.of[app]++
	ran := sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all--
	})
	return &turn{ran, sync.OnceFunc(func() {
		ran()
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.of[app]--; t.of[app] == 0 {
			delete(t.of, app)
		}
	})}, nil
}

// timed says what a query's error is where it took too long.
func timed(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return bad(kql.LimitError, "The query takes longer than %v. Ask for less: a shorter timespan, where, take.", mostTime)
	}
	return err
}
