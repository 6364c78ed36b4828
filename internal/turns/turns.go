// Package turns lets those that change one thing go one after the other, in this
// process. Between processes the compare-and-swap of the store decides.
package turns

import (
	"context"
	"sync"
)

// Turns are those of all things, by key. The zero value is ready.
type Turns struct {
	mu   sync.Mutex // guards busy
	busy map[string]*turn
}

// turn is that of one thing which somebody has or waits for.
type turn struct {
	lock  chan struct{} // holds one value while somebody has it
	users int
}

// Take waits for the turn of key; give gives it up. The error is ctx's.
func (t *Turns) Take(ctx context.Context, key string) (give func(), err error) {
	t.mu.Lock()
	x := t.of(key)
	t.mu.Unlock()
	select {
	case x.lock <- struct{}{}:
		return func() { t.give(key, x) }, nil
	case <-ctx.Done():
		t.leave(key, x)
		return nil, ctx.Err()
	}
}

// TryTake takes the turn of key where nobody has it, or waits for it.
func (t *Turns) TryTake(key string) (give func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[key] != nil {
		return nil, false
	}
	x := t.of(key)
	x.lock <- struct{}{} // nobody else knows it
	return func() { t.give(key, x) }, true
}

// Busy is how many things somebody has the turn of, or waits for.
func (t *Turns) Busy() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.busy)
}

// of is the turn of key, with one user more. mu is held.
func (t *Turns) of(key string) *turn {
	x := t.busy[key]
	if x == nil {
		if t.busy == nil {
			t.busy = map[string]*turn{}
		}
		x = &turn{lock: make(chan struct{}, 1)}
		t.busy[key] = x
	}
	x.users++
	return x
}

func (t *Turns) give(key string, x *turn) {
	<-x.lock
	t.leave(key, x)
}

func (t *Turns) leave(key string, x *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.users--; x.users == 0 {
		delete(t.busy, key)
	}
}
