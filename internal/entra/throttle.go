package entra

import (
	"net/http"
	"sync"
	"time"

	"lazurite.dev/internal/arrival"
)

// The rules against guessing from one address. Names have their own, in the
// directory.
const (
	throttleAfter = 30 // failures
	devicesAfter  = 60 // wishes of devices to be signed in, which anybody may make
	throttleFor   = 5 * time.Minute
	throttleSize  = 10_000 // addresses
)

// throttle counts failed sign-ins of an address.
type throttle struct {
	now   func() time.Time
	after int

	mu    sync.Mutex // guards tries
	tries map[string]*tally
}

type tally struct {
	count int
	since time.Time
}

func newThrottle(now func() time.Time, after int) *throttle {
	return &throttle{now: now, after: after, tries: map[string]*tally{}}
}

// address is whom a request is counted against.
func address(r *http.Request) string {
	if a := arrival.From(r.Context()); a.Client.IsValid() {
		return a.Client.String()
	}
	return "unknown"
}

// check refuses an address with too many failures.
func (t *throttle) check(r *http.Request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.tries[address(r)]
	if n == nil || n.count < t.after {
		return nil
	}
	if left := throttleFor - t.now().Sub(n.since); left > 0 {
		return tooMany(left)
	}
	delete(t.tries, address(r))
	return nil
}

// failed counts a failure.
func (t *throttle) failed(r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.tries) >= throttleSize {
		clear(t.tries) // an attacker with so many addresses isn't stopped by this anyway
	}
	n := t.tries[address(r)]
	if n == nil || t.now().Sub(n.since) >= throttleFor {
		n = &tally{since: t.now()}
		t.tries[address(r)] = n
	}
	n.count++
}
