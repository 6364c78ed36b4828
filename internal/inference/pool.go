package inference

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
)

const (
	// tripAfter is how many failures in a row take a backend out: for everybody,
	// unless all of them were one caller's and its requests may be the cause.
	tripAfter = 3

	// A backend that was taken out is tried again with one call after minCooldown,
	// and after each further failure after twice the time, up to maxCooldown.
	minCooldown = 5 * time.Second
	maxCooldown = 2 * time.Minute

	// maxLimited bounds how long a backend's Retry-After keeps it aside.
	maxLimited = time.Minute

	// queueTime is how long a call waits for a backend that is full, and queueLength
	// how many do: when there are so many, who has most waiting makes room.
	queueTime   = 30 * time.Second
	queueLength = 1000
)

// pool shares a model's calls among its backends.
type pool struct {
	model    string
	log      *slog.Logger
	backends []*backend // at most maxBackends

	mu      sync.Mutex // guards what follows, and the state of each backend
	waiting turns
}

const maxBackends = 32

// tried is a set of a pool's backends.
type tried uint32

func (t tried) has(b *backend) bool   { return t&(1<<b.index) != 0 }
func (t tried) with(b *backend) tried { return t | 1<<b.index }

// state is what a pool knows of a backend.
type state struct {
	inFlight int
	turn     int // of the smooth weighted round robin

	failures int       // in a row
	by       string    // who called when the first of them came
	many     bool      // they are no one caller's: others called, too, or no request can be the cause
	open     bool      // taken out, for by alone unless many: no calls until retryAt, then one at a time
	trial    bool      // that one is on its way
	silent   bool      // the last failure was that nobody answered there at all
	retryAt  time.Time // when it is tried again
	cooldown time.Duration
	limited  time.Time // until then it wants no calls

	calls, failed uint64
	lastError     string
	lastErrorAt   time.Time
	lastGoodAt    time.Time
	firstByte     time.Duration // a moving average
	probe         time.Duration // how long it took to list its models, the last time
}

// outFor reports whether b was taken out for a caller.
func (b *backend) outFor(key string) bool {
	return b.state.open && (b.state.many || b.state.by == key)
}

// available reports whether b may get a call of key, but for its being full; if not, when.
func (b *backend) available(now time.Time, key string) (bool, time.Time) {
	s := &b.state
	out := b.outFor(key)
	switch {
	case now.Before(s.limited):
		return false, s.limited
	case out && now.Before(s.retryAt):
		return false, s.retryAt
	case out && s.trial:
		return false, now.Add(time.Second)
	default:
		return true, now
	}
}

func (b *backend) full() bool {
	return b.concurrency > 0 && b.state.inFlight >= b.concurrency
}

// pick takes a slot of the backend whose turn it is: by weight among those that
// may have a call, a reserve only where there is no other. It gives nil where
// there is none; busy says that one is only full. mu is held.
func (p *pool) pick(now time.Time, key string, but tried) (chosen *backend, busy bool) {
	total := 0
	for _, reserve := range []bool{false, true} {
		for _, b := range p.backends {
			if ok, _ := b.available(now, key); !ok || but.has(b) || (b.weight == 0) != reserve {
				continue
			}
			if b.full() {
				busy = true
				continue
			}
			weight := max(b.weight, 1)
			total += weight
			b.state.turn += weight
			if chosen == nil || b.state.turn > chosen.state.turn {
				chosen = b
			}
		}
		if chosen != nil {
			break
		}
	}
	if chosen != nil {
		chosen.state.turn -= total
		chosen.state.inFlight++
		chosen.state.calls++
		if chosen.outFor(key) {
			chosen.state.trial = true
		}
	}
	return chosen, busy
}

// acquire takes a slot of a backend that isn't among but, waiting for it where
// patient. Who has a slot calls release, and before that, once, judge.
func (p *pool) acquire(ctx context.Context, key string, but tried, patient bool) (*backend, error) {
	p.mu.Lock()
	now := time.Now()
	if p.waiting.n == 0 || !patient {
		b, busy := p.pick(now, key, but)
		if b != nil || !busy {
			defer p.mu.Unlock()
			return b, p.none(b, now, key, but)
		}
	}
	if !patient || p.waiting.n >= queueLength && !p.makeRoom(key) {
		p.mu.Unlock()
		return nil, p.crowded()
	}
	w := &waiter{key: key, but: but, ready: make(chan struct{})}
	p.waiting.add(w)
	p.mu.Unlock()
	timer := time.NewTimer(queueTime)
	defer timer.Stop()
	var err error
	select {
	case <-w.ready:
		return w.got, w.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = p.crowded()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waiting.remove(w) && w.got != nil { // it came at the same moment
		w.got.state.inFlight--
		w.got.tried(key)
		p.serve()
	}
	return nil, err
}

// makeRoom sends away the last call of whoever has most of them waiting, unless
// that is key itself. mu is held.
func (p *pool) makeRoom(key string) bool {
	most := p.waiting.longest()
	list := p.waiting.byKey[most]
	if len(list) <= len(p.waiting.byKey[key])+1 {
		return false
	}
	w := list[len(list)-1]
	p.waiting.remove(w)
	w.err = p.crowded()
	close(w.ready)
	return true
}

func (p *pool) crowded() error {
	e := apierr.New(apierr.TooManyRequests, "429", "All backends of the model %s are busy. Please retry after a few seconds.", p.model)
	e.RetryAfter = 2 * time.Second
	return e
}

// none is the error where b is nil: nobody may be asked. mu is held.
func (p *pool) none(b *backend, now time.Time, key string, but tried) error {
	if b != nil {
		return nil
	}
	soonest, limited := now.Add(maxCooldown), false
	var why []string
	var causes []error
	for _, b := range p.backends {
		if but.has(b) {
			continue
		}
		_, at := b.available(now, key)
		if at.Before(soonest) {
			soonest = at
		}
		if now.Before(b.state.limited) {
			limited = true
			why = append(why, b.name+" wants fewer calls")
			continue
		}
		why = append(why, b.name+" does not answer")
		causes = append(causes, fmt.Errorf("%s: %s", b.name, b.state.lastError))
	}
	e := apierr.New(apierr.Unavailable, "ServiceUnavailable", "No backend of the model %s can be asked now: %s. `laz models list` shows their state.", p.model, strings.Join(why, "; "))
	if limited {
		e.Kind, e.Code = apierr.TooManyRequests, "429"
	}
	e.RetryAfter = max(soonest.Sub(now), time.Second)
	return e.WithCause(errors.Join(causes...))
}

// release gives b's slot back.
func (p *pool) release(b *backend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.state.inFlight--
	p.serve()
}

// serve gives free slots to those who wait, in turn, and an error to those for
// whom nothing is left. mu is held.
func (p *pool) serve() {
	if p.waiting.n == 0 {
		return
	}
	now := time.Now()
	p.waiting.each(func(w *waiter) bool {
		b, busy := p.pick(now, w.key, w.but)
		if b == nil && busy {
			return false
		}
		w.got, w.err = b, p.none(b, now, w.key, w.but)
		close(w.ready)
		return true
	})
}

// verdict is how a call to a backend went.
type verdict struct {
	by      string        // who called
	good    bool          // it answered
	err     error         // it failed
	silent  bool          // nobody answered at all
	own     bool          // whatever failed, no request can be the cause
	limited time.Duration // it wants no calls for that long
	took    time.Duration // until the first byte, where good
}

// judge notes how a call to b went; the zero verdict says nothing of b.
func (p *pool) judge(b *backend, v verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	s := &b.state
	b.tried(v.by)
	switch {
	case v.err != nil:
		p.failed(b, v, now)
	case v.limited > 0:
		s.limited = now.Add(min(v.limited, maxLimited))
		s.lastError, s.lastErrorAt = "it wants fewer calls (HTTP 429)", now
	case v.good:
		p.recovered(b)
		s.lastGoodAt = now
		if s.firstByte == 0 {
			s.firstByte = v.took
		}
		s.firstByte += (v.took - s.firstByte) / 8
	}
	p.serve()
}

// failed notes a failure of b and takes it out where there were enough. Calls
// that were on their way when it was taken out change nothing. mu is held.
func (p *pool) failed(b *backend, v verdict, now time.Time) {
	s := &b.state
	s.failed++
	s.lastError, s.lastErrorAt, s.silent = v.err.Error(), now, v.silent
	if s.failures++; s.failures == 1 {
		s.by, s.many = v.by, false
	}
	if !s.many && (v.own || v.by != s.by) { // it was out for one, if it was
		s.many, s.open, s.cooldown = true, false, 0
	}
	if s.failures < tripAfter || s.open && now.Before(s.retryAt) {
		return
	}
	s.cooldown = min(max(2*s.cooldown, minCooldown), maxCooldown)
	s.retryAt = now.Add(s.cooldown)
	if !s.open {
		p.log.Warn("a backend was taken out", slog.String("model", p.model), slog.String("backend", b.name), slog.Bool("forOneCaller", !s.many), slog.String("error", s.lastError))
	}
	s.open = true
}

// tried ends the trial of a caller for which b is out. mu is held.
func (b *backend) tried(key string) {
	if b.outFor(key) {
		b.state.trial = false
	}
}

// probed notes what asking b for its models gave. That says nothing of calls
// that hang or fail, only whether anybody is there.
func (p *pool) probed(b *backend, err error, took time.Duration) {
	if err != nil {
		p.judge(b, verdict{err: err, silent: true, own: true})
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b.state.probe = took
	if b.state.failures > 0 && b.state.silent {
		p.recovered(b)
		p.serve()
	}
}

// note keeps what is wrong with b and not counted against it.
func (p *pool) note(b *backend, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.state.lastError, b.state.lastErrorAt = err.Error(), time.Now()
}

// recovered lets b have calls again. mu is held.
func (p *pool) recovered(b *backend) {
	s := &b.state
	if s.open {
		p.log.Info("a backend is back", slog.String("model", p.model), slog.String("backend", b.name))
	}
	s.failures, s.open, s.trial, s.cooldown = 0, false, false, 0
}

// waiter is a call that waits for a slot.
type waiter struct {
	key   string
	but   tried
	ready chan struct{} // closed when got or err is there
	got   *backend
	err   error
}

// turns are waiters by key: keys take turns, so that who has many calls waiting
// delays its own alone.
type turns struct {
	n     int
	order []string // the keys, next one first
	byKey map[string][]*waiter
}

func (t *turns) add(w *waiter) {
	if t.byKey == nil {
		t.byKey = map[string][]*waiter{}
	}
	if len(t.byKey[w.key]) == 0 {
		t.order = append(t.order, w.key)
	}
	t.byKey[w.key] = append(t.byKey[w.key], w)
	t.n++
}

func (t *turns) remove(w *waiter) bool {
	list := t.byKey[w.key]
	i := slices.Index(list, w)
	if i < 0 {
		return false
	}
	t.set(w.key, slices.Delete(list, i, i+1))
	t.n--
	return true
}

// longest is the key with most waiters.
func (t *turns) longest() string {
	longest := ""
	for key, list := range t.byKey {
		if len(list) > len(t.byKey[longest]) {
			longest = key
		}
	}
	return longest
}

func (t *turns) set(key string, list []*waiter) {
	if len(list) > 0 {
		t.byKey[key] = list
		return
	}
	delete(t.byKey, key)
	t.order = slices.Delete(t.order, slices.Index(t.order, key), slices.Index(t.order, key)+1)
}

// each offers the waiters in turn to take, until each key's first one was
// refused.
func (t *turns) each(take func(*waiter) bool) {
	for refused := 0; refused < len(t.order); {
		key := t.order[0]
		t.order = append(t.order[1:], key)
		w := t.byKey[key][0]
		if !take(w) {
			refused++
			continue
		}
		refused = 0
		t.n--
		t.set(key, t.byKey[key][1:])
	}
}
