package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// retryMirror is how long a Mirror waits before it asks a failing database
// again.
const retryMirror = 250 * time.Millisecond

// Mirror holds every document under a prefix, decoded, in memory. It follows
// the store: a write through the same Store is in it before the write
// returns, another replica's within a second. Make one with NewMirror.
type Mirror[T any] struct {
	s        Store
	prefix   string
	kinds    []string // none: all
	decode   func(Doc) (T, error)
	maxStale time.Duration
	sole     bool // see Sole

	begin     time.Time    // what confirmed counts from
	confirmed atomic.Int64 // when the mirror was last known to be complete; 0 is stale

	cancel context.CancelFunc
	done   chan struct{} // closed when the follower has ended

	mu    sync.RWMutex // guards what follows
	docs  map[string]mirrored[T]
	bad   map[string]error // documents that can't be decoded
	hooks []func(Change)
	end   error // why the follower ended
}

type mirrored[T any] struct {
	rev   int64
	value T
}

// NewMirror loads the documents of s under prefix and follows them until
// Close. decode makes the value of a document; it must be quick, must not
// write to s, and its value is shared by all readers. A document that it
// refuses makes NewMirror fail, or Fresh once the mirror runs. maxStale is how
// long the mirror counts as fresh without a confirmation of the database
// (which come every 250 ms); a Store that is Sole needs none. With kinds, documents of other kinds are left out.
func NewMirror[T any](ctx context.Context, s Store, prefix string, decode func(Doc) (T, error), maxStale time.Duration, kinds ...string) (*Mirror[T], error) {
	m := &Mirror[T]{
		s: s, prefix: prefix, kinds: kinds, decode: decode, maxStale: maxStale,
		begin: time.Now().Add(-time.Second), done: make(chan struct{}),
		docs: map[string]mirrored[T]{}, bad: map[string]error{},
	}
	if one, ok := s.(Sole); ok && maxStale > 0 {
		m.sole = one.Sole()
	}
	seq, err := m.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("mirror %s: %w", prefix, err)
	}
	if err := m.refused(); err != nil {
		return nil, fmt.Errorf("mirror %s: %w", prefix, err)
	}
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel = cancel
	ready := make(chan struct{})
	go m.run(follow, seq, sync.OnceFunc(func() { close(ready) }))
	select {
	case <-ready:
		return m, nil
	case <-m.done:
		err = m.end
	case <-ctx.Done():
		err = ctx.Err()
	}
	m.Close()
	return nil, fmt.Errorf("mirror %s: %w", prefix, err)
}

// Close ends the following and waits for it; after it the mirror is stale.
func (m *Mirror[T]) Close() {
	m.cancel()
	<-m.done
}

// Get gives the value of the document at key (the whole key, as in Doc).
func (m *Mirror[T]) Get(key string) (T, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.docs[key]
	return e.value, ok
}

// Range calls fn with each key and value, in no order, until fn says false.
// Changes wait meanwhile: fn must be quick and must not write to the store.
func (m *Mirror[T]) Range(fn func(key string, value T) bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for k, e := range m.docs {
		if !fn(k, e.value) {
			return
		}
	}
}

// OnChange has fn called after each change of the mirror, in order, and for a
// write through the same Store before that write returns. fn must not write
// to the store. After the mirror fell behind and loaded again, fn is called
// with the differences.
func (m *Mirror[T]) OnChange(fn func(Change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks = append(m.hooks, fn)
}

// Fresh is nil while the mirror is known to have been complete within
// maxStale; else ErrStale, or why a document could not be decoded: what
// depends on the mirror must then be refused.
func (m *Mirror[T]) Fresh() error {
	at := m.confirmed.Load()
	if age := time.Since(m.begin) - time.Duration(at); at == 0 || age > m.maxStale && !m.sole {
		return fmt.Errorf("%w: %s", ErrStale, m.prefix)
	}
	return m.refused()
}

// refused is the error of some document that could not be decoded, if any.
func (m *Mirror[T]) refused() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for k, err := range m.bad {
		return fmt.Errorf("decode %s: %w", k, err)
	}
	return nil
}

// run follows the store, and loads again when that fails, until ctx ends.
func (m *Mirror[T]) run(ctx context.Context, seq int64, ready func()) {
	defer close(m.done)
	defer m.cancel()
	idle := func() {
		m.confirmed.Store(int64(time.Since(m.begin)))
		ready()
	}
	for {
		err := m.s.Follow(ctx, m.prefix, seq, m.apply, idle)
		m.confirmed.Store(0)
		for {
			if ctx.Err() != nil || errors.Is(err, ErrClosed) || errors.Is(err, ErrInvalid) {
				m.end = err
				return
			}
			if seq, err = m.load(ctx); err == nil {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(retryMirror):
			}
		}
	}
}

// load reads all documents and gives the Seq to follow from.
func (m *Mirror[T]) load(ctx context.Context) (int64, error) {
	seq, err := m.s.Now(ctx)
	if err != nil {
		return 0, err
	}
	docs, bad := map[string]mirrored[T]{}, map[string]error{}
	var changes []Change
	err = m.all(ctx, func(d Doc) error {
		v, err := m.decode(d)
		if err != nil {
			bad[d.Key] = err
			return nil
		}
		docs[d.Key] = mirrored[T]{d.Rev, v}
		if m.docs[d.Key].rev != d.Rev { // m.docs is written by this goroutine alone
			changes = append(changes, Change{Seq: d.Rev, Doc: d})
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for k := range m.docs {
		if _, ok := docs[k]; !ok {
			changes = append(changes, Change{Seq: seq, Doc: Doc{Key: k}, Deleted: true})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Seq, b.Seq) })
	m.mu.Lock()
	m.docs, m.bad = docs, bad
	hooks := m.hooks
	m.mu.Unlock()
	for _, c := range changes {
		for _, fn := range hooks {
			fn(c)
		}
	}
	return seq, nil
}

// all calls fn with every document that the mirror holds.
func (m *Mirror[T]) all(ctx context.Context, fn func(Doc) error) error {
	if len(m.kinds) == 0 {
		return All(ctx, m.s, Query{Prefix: m.prefix}, fn)
	}
	for _, k := range m.kinds {
		if err := All(ctx, m.s, Query{Prefix: m.prefix, Kind: k}, fn); err != nil {
			return err
		}
	}
	return nil
}

// apply takes over one change, unless load saw it already.
func (m *Mirror[T]) apply(c Change) error {
	if len(m.kinds) > 0 && !slices.Contains(m.kinds, c.Doc.Kind) {
		return nil
	}
	key := c.Doc.Key
	old, had := m.docs[key] // written by this goroutine alone
	if had && c.Seq <= old.rev {
		return nil
	}
	var v T
	var err error
	if !c.Deleted {
		v, err = m.decode(c.Doc)
	}
	m.mu.Lock()
	delete(m.bad, key)
	switch {
	case err != nil:
		m.bad[key] = err
		delete(m.docs, key)
	case c.Deleted:
		delete(m.docs, key)
	default:
		m.docs[key] = mirrored[T]{c.Seq, v}
	}
	hooks := m.hooks
	m.mu.Unlock()
	for _, fn := range hooks {
		fn(c)
	}
	return nil
}
