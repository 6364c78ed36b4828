package router

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"lazurite.dev/internal/gate"
)

// mostCopies is how many copies of requests to one deployment may be under way
// at once; what is more is not copied.
const mostCopies = 64

// mirror sends copies of requests. Nobody waits for their answers.
type mirror struct {
	r *Router

	mu     sync.Mutex // guards what follows
	closed bool
	last   uint64
	stops  map[uint64]context.CancelFunc
	all    sync.WaitGroup
}

// drop counts a copy that is not made.
func (m *mirror) drop(a *ask, why string) {
	m.r.meter.copy(hostOf(a.c.Request), a.ep, a.copy.Name, why)
}

// send copies a's request, whose body is whole, to the deployment a.copy. It
// never waits, and never fails the request.
func (m *mirror) send(a *ask, whole []byte) {
	if len(whole) > mostCopy {
		m.drop(a, "too large")
		return
	}
	pool, size := m.r.pools.take(a.copy.UID), int64(len(whole))
	if room := m.r.ahead.Add(size) <= mostAhead; pool.copies.Add(1) <= mostCopies && room {
		if ctx, end := m.begin(a.copy.wait() + a.copy.timeout()); ctx != nil {
			go m.copy(ctx, end, pool, copied{a.ep, a.copy, a.c, m.r.passed(a.c), whole})
			return
		}
	}
	pool.copies.Add(-1)
	pool.let()
	m.r.ahead.Add(-size)
	m.drop(a, "dropped")
}

// copied is what a copy is made of.
type copied struct {
	endpoint *Endpoint
	d        *Deployment
	c        *gate.Call
	header   http.Header
	whole    []byte
}

// copy sends one, and counts what became of it.
func (m *mirror) copy(ctx context.Context, end func(), pool *pool, q copied) {
	defer end()
	defer m.r.ahead.Add(-int64(len(q.whole)))
	defer pool.let()
	defer pool.copies.Add(-1)
	result := "dropped"
	if inst, err := pool.acquire(ctx, q.d.each(), q.d.wait(), nil); err == nil {
		req := m.r.request(ctx, q.c, inst, q.header)
		if len(q.whole) > 0 {
			withBody(req, q.whole)
		}
		var reached bool
		result, reached = swallow(inst.transport, req)
		pool.release(inst, reached)
	}
	m.r.meter.copy(hostOf(q.c.Request), q.endpoint, q.d.Name, result)
}

// begin makes a context for a copy, which end ends; nil where all is to end.
func (m *mirror) begin(most time.Duration) (ctx context.Context, end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil
	}
	ctx, stop := context.WithTimeoutCause(context.Background(), most, errTimeout)
	m.last++
	n := m.last
	m.stops[n] = stop
	m.all.Add(1)
	return ctx, func() {
		stop()
		m.mu.Lock()
		delete(m.stops, n)
		m.mu.Unlock()
		m.all.Done()
	}
}

// swallow sends req and reads its answer to the end.
func swallow(t *http.Transport, req *http.Request) (result string, reached bool) {
	res, err := t.RoundTrip(req)
	if err != nil {
		return "failed", false
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		return "failed", true
	}
	return "answered", true
}

// close ends all copies.
func (m *mirror) close() {
	m.mu.Lock()
	m.closed = true
	for _, stop := range m.stops {
		stop()
	}
	m.mu.Unlock()
	m.all.Wait()
}
