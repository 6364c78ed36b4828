package router

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A deployment's pool gives each request the least busy of its instances, and
// lets those that find all busy wait in line.
const (
	dialTime   = 2 * time.Second        // for a connection to an instance
	cooling    = 500 * time.Millisecond // others are asked first after a connection could not be made
	idleConn   = time.Second            // Python's servers close idle connections after two
	mostIdle   = 64                     // kept connections to an instance
	headerSize = 64 << 10               // of an instance's answer, in bytes
	forgetting = 10 * time.Minute       // a pool that nobody used is dropped
)

var (
	errWaited      = errors.New("no instance became free in the time that a request may wait")
	errNoInstances = errors.New("no instance is ready")
)

// instance is one that runs, with what is kept for it.
type instance struct {
	Instance
	transport *http.Transport
	busy      int       // requests; guarded by the pool
	cools     time.Time // until then others are asked first; guarded by the pool
}

// pool is the instances of one deployment.
type pool struct {
	uid     string
	from    Instances
	version *atomic.Uint64 // of all instances
	pending atomic.Int64   // requests that have their body, until their answer has come
	copies  atomic.Int64   // of other deployments' requests, under way
	served  atomic.Uint64  // requests that came, from a number that no other pool begins with
	told    atomic.Int64   // when a refusal was last kept for explanations, unix seconds
	users   atomic.Int64   // requests and copies that will, or do, use it; dropped: nobody may any more

	mu        sync.Mutex // guards what follows
	seen      uint64     // version of the list below
	instances []*instance
	line      []*waiter
	turn      int
	each      int // requests at once in one instance, as was last asked
	used      time.Time
}

// waiter is a request in line; its channel gets one instance.
type waiter struct {
	got chan *instance
	not *instance // which it had before
}

// refresh takes over what instances there are. The pool is locked.
func (p *pool) refresh() {
	v := p.version.Load()
	if v == p.seen {
		return
	}
	p.seen = v
	var next []*instance
	for _, i := range p.from.Of(p.uid) {
		at := slices.IndexFunc(p.instances, func(have *instance) bool { return have.ID == i.ID && have.Address == i.Address })
		if at < 0 {
			next = append(next, &instance{Instance: i, transport: transport(p.from, i)})
			continue
		}
		p.instances[at].Ready, p.instances[at].Draining = i.Ready, i.Draining
		next = append(next, p.instances[at])
	}
	for _, old := range p.instances {
		if old.Draining || !slices.Contains(next, old) {
			old.Draining = true // what it has begun, it ends
			old.transport.CloseIdleConnections()
		}
	}
	p.instances = next
}

// transport keeps connections to one instance.
func transport(from Instances, i Instance) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTime)
			defer cancel()
			conn, err := from.Dial(ctx, i)
			if err != nil {
				return nil, &dialError{err}
			}
			return conn, nil
		},
		DisableCompression: true, MaxIdleConns: mostIdle, MaxIdleConnsPerHost: mostIdle, IdleConnTimeout: idleConn, MaxResponseHeaderBytes: headerSize,
	}
}

// dialError is a connection that was not made: nothing was sent.
type dialError struct{ cause error }

// Error says what it is.
func (e *dialError) Error() string { return "connecting to the instance: " + e.cause.Error() }

// Unwrap gives the cause.
func (e *dialError) Unwrap() error { return e.cause }

// pick is the least busy instance that can take one more request; nil where
// there is none. One that could not be reached a moment ago, or not, is asked
// where there is no other, and not because others are busy: it never is. The
// pool is locked.
func (p *pool) pick(not *instance) *instance {
	p.turn++
	now := time.Now()
	var best, last *instance
	others := false
	for n := range p.instances {
		i := p.instances[(n+p.turn)%len(p.instances)]
		if !i.Ready || i.Draining {
			continue
		}
		choice := &best
		if i == not || i.cools.After(now) {
			choice = &last
		} else {
			others = true
		}
		if i.busy < p.each && (*choice == nil || i.busy < (*choice).busy) {
			*choice = i
		}
	}
	if !others {
		best = last
	}
	if best != nil {
		best.busy++
	}
	return best
}

// up is any for who has not locked the pool.
func (p *pool) up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refresh()
	return p.any()
}

// any reports whether some instance takes requests. The pool is locked.
func (p *pool) any() bool {
	return slices.ContainsFunc(p.instances, func(i *instance) bool { return i.Ready && !i.Draining })
}

// acquire gives an instance to a request, each of which takes so many at once. It
// waits at most the time wait: errWaited where all stayed busy, errNoInstances
// where there was none. not is one that failed before.
func (p *pool) acquire(ctx context.Context, each int, wait time.Duration, not *instance) (*instance, error) {
	p.mu.Lock()
	p.refresh()
	p.each, p.used = each, time.Now()
	if len(p.line) == 0 {
		if i := p.pick(not); i != nil {
			p.mu.Unlock()
			return i, nil
		}
	}
	if wait <= 0 {
		defer p.mu.Unlock()
		return nil, p.none()
	}
	w := &waiter{got: make(chan *instance, 1), not: not}
	p.line = append(p.line, w)
	p.serve() // who waits may have room by now that the limit has changed
	p.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case i := <-w.got:
		return i, nil
	case <-timer.C:
		return p.leave(w, nil)
	case <-ctx.Done():
		return p.leave(w, context.Cause(ctx))
	}
}

// none says why there is no instance. The pool is locked.
func (p *pool) none() error {
	if p.any() {
		return errWaited
	}
	return errNoInstances
}

// leave takes a request out of the line. The instance that it may have got in
// the last moment is its own, unless it has gone away itself.
func (p *pool) leave(w *waiter, gone error) (*instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := slices.Index(p.line, w); n >= 0 {
		p.line = slices.Delete(p.line, n, n+1)
		if gone == nil {
			gone = p.none()
		}
		return nil, gone
	}
	i := <-w.got
	if gone == nil {
		return i, nil
	}
	i.busy--
	p.serve()
	return nil, gone
}

// serve gives instances to those who wait. The pool is locked.
func (p *pool) serve() {
	for len(p.line) > 0 {
		i := p.pick(p.line[0].not)
		if i == nil {
			return
		}
		p.line[0].got <- i
		p.line = slices.Delete(p.line, 0, 1)
	}
}

// release gives an instance back; where it could not be reached, others are
// asked first for a moment.
func (p *pool) release(i *instance, reached bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i.busy--
	if !reached {
		i.cools = time.Now().Add(cooling)
	}
	p.refresh()
	p.serve()
}

// tells reports, once a minute, that a refusal is worth keeping.
func (p *pool) tells(now time.Time) bool {
	last := p.told.Load()
	return now.Unix()-last >= 60 && p.told.CompareAndSwap(last, now.Unix())
}

// changed lets those who wait find new instances.
func (p *pool) changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refresh()
	p.serve()
}

// dropped is the number of users, more or less, of a pool that takes no more.
const dropped = -1 << 40

// hold keeps the pool from being dropped until let; false where it has been.
func (p *pool) hold() bool { return p.users.Add(1) > 0 }

func (p *pool) let() { p.users.Add(-1) }

// drop reports whether nobody has used the pool for long: nobody can from now on.
func (p *pool) drop(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(p.used) > forgetting && p.users.CompareAndSwap(0, dropped)
}

// close lets go of the kept connections.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.instances {
		i.transport.CloseIdleConnections()
	}
}

// pools are those of all deployments.
type pools struct {
	from    Instances
	version atomic.Uint64
	wake    chan struct{}
	all     sync.Map // *pool by the deployment's UID
}

func newPools(from Instances) *pools {
	ps := &pools{from: from, wake: make(chan struct{}, 1)}
	ps.version.Store(1)
	from.OnChange(func() {
		ps.version.Add(1)
		select {
		case ps.wake <- struct{}{}:
		default:
		}
	})
	return ps
}

// take is the pool of a deployment, which is there until let.
func (ps *pools) take(uid string) *pool {
	for {
		p := ps.of(uid)
		if p.hold() {
			return p
		}
		ps.all.CompareAndDelete(uid, p) // as whoever drops it does
	}
}

// of is the pool of a deployment.
func (ps *pools) of(uid string) *pool {
	if p, ok := ps.all.Load(uid); ok {
		return p.(*pool)
	}
	now := time.Now()
	next := &pool{uid: uid, from: ps.from, version: &ps.version, used: now}
	next.served.Store(uint64(now.UnixNano()))
	p, _ := ps.all.LoadOrStore(uid, next)
	return p.(*pool)
}

// run tells those who wait of changes, until ctx ends.
func (ps *pools) run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			ps.all.Range(func(_, p any) bool { p.(*pool).close(); return true })
			return
		case <-ps.wake:
			ps.all.Range(func(_, p any) bool { p.(*pool).changed(); return true })
		case now := <-tick.C:
			ps.tidy(now)
		}
	}
}

// tidy drops the pools that nobody used for long.
func (ps *pools) tidy(now time.Time) {
	ps.all.Range(func(uid, p any) bool {
		if p.(*pool).drop(now) {
			ps.all.CompareAndDelete(uid, p)
			p.(*pool).close()
		}
		return true
	})
}
