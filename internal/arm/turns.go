package arm

import (
	"context"
	"sync"
)

// turns lets writers of one resource go one after the other in this process,
// so that they don't undo each other's acts or fail for nothing. Between
// replicas the compare-and-swap of the store decides.
type turns struct {
	mu   sync.Mutex // guards busy
	busy map[string]*turn
}

type turn struct {
	free    chan struct{} // holds one value while nobody has it
	waiting int
}

// take waits for the key's turn; done gives it up.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	t.mu.Lock()
	if t.busy == nil {
		t.busy = map[string]*turn{}
	}
	x := t.busy[key]
	if x == nil {
		x = &turn{free: make(chan struct{}, 1)}
		x.free <- struct{}{}
		t.busy[key] = x
	}
	x.waiting++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if x.waiting--; x.waiting == 0 {
			delete(t.busy, key)
		}
	}
	select {
	case <-x.free:
		return func() {
			x.free <- struct{}{}
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
