package trace

import (
	"strings"
	"sync"
)

// Recent keeps the last traces of requests that were answered, in memory and
// with their hops unmade until somebody asks for them. The nil Recent keeps
// nothing.
type Recent struct {
	mu   sync.Mutex // guards the rest
	ring []answered
	next int
}

type answered struct {
	trace Trace
	hops  *Log
}

// NewRecent keeps the last n traces.
func NewRecent(n int) *Recent { return &Recent{ring: make([]answered, 0, n)} }

// Keep takes a trace, whose hops are those of the log.
func (r *Recent) Keep(t Trace, hops *Log) {
	if r == nil {
		return
	}
	t.Answered = true
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, answered{t, hops})
		return
	}
	r.ring[r.next] = answered{t, hops}
	r.next = (r.next + 1) % len(r.ring)
}

// Find gives the newest trace that want accepts and whose request id or
// correlation id is id, compared without case, or begins with it where it has
// eight characters or more.
func (r *Recent) Find(id string, want func(Trace) bool) (Trace, bool) {
	if r == nil {
		return Trace{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	is := func(whole string) bool {
		return strings.EqualFold(whole, id) || len(id) >= 8 && len(whole) > len(id) && strings.EqualFold(whole[:len(id)], id)
	}
	for i := len(r.ring) - 1; i >= 0; i-- {
		a := r.ring[(r.next+i)%len(r.ring)]
		if (is(a.trace.ID) || is(a.trace.Correlation)) && want(a.trace) {
			a.trace.Hops = a.hops.Hops()
			return a.trace.Trimmed(), true
		}
	}
	return Trace{}, false
}
