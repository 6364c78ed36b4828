package telemetry

import (
	"sync"

	"lazurite.dev/internal/apierr"
)

const (
	mostAsks = 4 // queries and requests for events that run at once
)

// turns are the queries that run now.
type turns struct {
	mu  sync.Mutex
	all int
}

// begin takes a turn, which end gives back, or refuses.
func (t *turns) begin() (end func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= mostAsks {
		e := apierr.New(apierr.TooManyRequests, codeBusy, "%d queries run already. Try again in a moment.", mostAsks)
		e.RetryAfter = 1e9
		return nil, e
	}
	t.all++
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all--
	}), nil
}
