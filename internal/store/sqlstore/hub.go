package sqlstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"lazurite.dev/internal/store"
)

// hub hands committed changes to the followers of this process, each of which
// runs in the goroutine of its Follow.
type hub struct {
	mu        sync.Mutex // guards what follows
	head      int64      // the newest change that was published
	tail      *batch     // the last one published
	followers map[*follower]struct{}
	advanced  chan struct{} // closed by the next publish
	closed    bool          // nothing will be published any more
}

// batch is a run of changes on its way to the followers.
type batch struct {
	changes []store.Change
	pending atomic.Int32  // followers that haven't finished it
	done    chan struct{} // closed when none is left
}

// follower is one Follow in progress.
type follower struct {
	queue []*batch      // guarded by hub.mu
	idle  bool          // guarded by hub.mu: confirmed up to the end of queue
	err   error         // guarded by hub.mu: ends the follower
	wake  chan struct{} // holds one
}

func newHub(head int64) *hub {
	b := &batch{done: make(chan struct{})}
	close(b.done)
	return &hub{head: head, tail: b, followers: map[*follower]struct{}{}, advanced: make(chan struct{})}
}

func (f *follower) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (b *batch) finish() {
	if b.pending.Add(-1) == 0 {
		close(b.done)
	}
}

// publish queues the changes for all followers. Those that were published
// before are left out; it refuses, with false, changes that would leave a gap.
func (h *hub) publish(changes []store.Change) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(changes) > 0 && changes[0].Seq <= h.head {
		changes = changes[1:]
	}
	if len(changes) == 0 {
		return true
	}
	if changes[0].Seq != h.head+1 {
		return false
	}
	b := &batch{changes: changes, done: make(chan struct{})}
	h.head = changes[len(changes)-1].Seq
	h.tail = b
	b.pending.Store(int32(len(h.followers)) + 1)
	for f := range h.followers {
		f.queue = append(f.queue, b)
		f.idle = false
		f.signal()
	}
	b.finish()
	close(h.advanced)
	h.advanced = make(chan struct{})
	return true
}

// wait returns when every follower has been given the change seq, or ctx ends.
func (h *hub) wait(ctx context.Context, seq int64) {
	for {
		h.mu.Lock()
		head, tail, advanced, closed := h.head, h.tail, h.advanced, h.closed
		h.mu.Unlock()
		if head >= seq || closed {
			select {
			case <-tail.done:
			case <-ctx.Done():
			}
			return
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return
		}
	}
}

// confirm tells the followers that everything up to head has been published.
func (h *hub) confirm() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.followers {
		f.idle = true
		f.signal()
	}
}

// reset ends all followers with err and goes on from head.
func (h *hub) reset(head int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.head = head
	h.closed = h.closed || errors.Is(err, store.ErrClosed)
	for f := range h.followers {
		f.err = err
		f.signal()
	}
	close(h.advanced)
	h.advanced = make(chan struct{})
}

func (h *hub) now() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.head
}

// join adds a follower; it will be queued everything after the head returned.
func (h *hub) join() (f *follower, head int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, 0, store.ErrClosed
	}
	f = &follower{wake: make(chan struct{}, 1)}
	h.followers[f] = struct{}{}
	return f, h.head, nil
}

func (h *hub) leave(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers, f)
	for _, b := range f.queue {
		b.finish()
	}
	f.queue = nil
}

// next takes the oldest batch; nil if there is none, and idle says whether
// that is known to be all.
func (h *hub) next(f *follower) (b *batch, idle bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(f.queue) > 0 {
		b = f.queue[0]
		f.queue[0] = nil
		f.queue = f.queue[1:]
		return b, false, nil
	}
	idle, f.idle = f.idle, false
	return nil, idle, f.err
}

// run gives fn what is queued for f, skipping changes up to seq.
func (h *hub) run(ctx context.Context, f *follower, prefix string, seq int64, fn func(store.Change) error, idle func()) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, quiet, err := h.next(f)
		switch {
		case b != nil:
			err := b.give(prefix, seq, fn)
			b.finish()
			if err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case quiet && idle != nil:
			idle()
			continue
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
		}
	}
}

// give gives fn what is after seq and under prefix, except what was erased and
// so has no key.
func (b *batch) give(prefix string, seq int64, fn func(store.Change) error) error {
	for _, c := range b.changes {
		if c.Seq > seq && c.Doc.Key != "" && strings.HasPrefix(c.Doc.Key, prefix) {
			if err := fn(c); err != nil {
				return err
			}
		}
	}
	return nil
}
