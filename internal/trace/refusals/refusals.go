// Package refusals keeps the traces of the refusals of late in the store, so
// that they can be explained when somebody asks.
package refusals

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
)

// Where refusals are kept, and how many.
const (
	Prefix = "trace/" // of the keys in the store: trace/<time>/<request id>

	keepCount  = 1000
	keepFor    = 7 * 24 * time.Hour
	queueLimit = 512
	batchDelay = 200 * time.Millisecond
	pruneEvery = 64 // batches
)

// ErrNotFound says that no recorded refusal has the id asked for.
var ErrNotFound = errors.New("no recorded refusal has this id")

// Recorder keeps the refusals of late: the newest 1000 of the last 7 days.
//
// Record never waits for the database. Run writes what has gathered, one
// document a batch, so that a flood of refusals costs five writes a second and
// not one each. Find, Last and List write out what waits before they read, so
// a refusal just given is found at once.
type Recorder struct {
	store   store.Store
	now     func() time.Time
	wake    chan struct{}
	dropped atomic.Int64

	mu    sync.Mutex // guards queue
	queue []trace.Trace

	write   sync.Mutex // one batch at a time; guards batches
	batches int
}

// New makes a Recorder over st. now is the clock; nil is time.Now.
func New(st store.Store, now func() time.Time) *Recorder {
	if now == nil {
		now = time.Now
	}
	return &Recorder{store: st, now: now, wake: make(chan struct{}, 1)}
}

// Record takes a refusal. When 512 of them wait to be written it is dropped and
// counted: see Dropped. A zero Time becomes now.
func (r *Recorder) Record(t trace.Trace) {
	if t.Time.IsZero() {
		t.Time = r.now()
	}
	t = t.Trimmed()
	r.mu.Lock()
	full := len(r.queue) >= queueLimit
	if !full {
		r.queue = append(r.queue, t)
	}
	r.mu.Unlock()
	if full {
		r.dropped.Add(1)
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Dropped is how many refusals were not kept because too many came at once.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Run writes what Record takes until ctx ends, then writes the rest. A
// database that fails is tried again with the next batch.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return r.Flush(last)
		case <-r.wake:
		}
		select {
		case <-ctx.Done():
		case <-time.After(batchDelay):
		}
		if err := r.Flush(ctx); err != nil && ctx.Err() == nil {
			select { // the batch is back in the queue: try again, not at once
			case <-ctx.Done():
			case <-time.After(5 * batchDelay):
			}
			select {
			case r.wake <- struct{}{}:
			default:
			}
		}
	}
}

// Flush writes what waits.
func (r *Recorder) Flush(ctx context.Context) error {
	r.write.Lock()
	defer r.write.Unlock()
	r.mu.Lock()
	batch := r.queue
	r.queue = nil
	r.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	if err := r.put(ctx, batch); err != nil {
		r.mu.Lock()
		r.queue = append(batch, r.queue...)
		r.mu.Unlock()
		return err
	}
	if r.batches++; r.batches%pruneEvery == 1 {
		return r.prune(ctx)
	}
	return nil
}

func (r *Recorder) put(ctx context.Context, batch []trace.Trace) error {
	value, err := json.Marshal(batch)
	if err != nil {
		return fmt.Errorf("encoding traces: %w", err)
	}
	at := batch[0].Time.UnixNano()
	for range 8 { // two replicas may name a batch alike
		doc := store.Doc{Key: fmt.Sprintf("%s%020d/%s", Prefix, at, keyPart(batch[0].ID)), Kind: "trace", Value: value}
		if _, err = r.store.Put(ctx, doc); !errors.Is(err, store.ErrConflict) {
			break
		}
		at++
	}
	if err != nil {
		return fmt.Errorf("storing traces: %w", err)
	}
	return nil
}

// keyPart is id as far as a key can hold it.
func keyPart(id string) string {
	return strings.Map(func(c rune) rune {
		if c > 0x20 && c < 0x7f && c != '/' {
			return c
		}
		return '_'
	}, id[:min(len(id), 64)])
}

type stored struct {
	key    string
	traces []trace.Trace
}

// load reads everything that is kept, oldest first.
func (r *Recorder) load(ctx context.Context) ([]stored, error) {
	var out []stored
	after := ""
	for {
		docs, err := r.store.List(ctx, store.Query{Prefix: Prefix, After: after})
		if err != nil {
			return nil, fmt.Errorf("reading traces: %w", err)
		}
		for _, d := range docs {
			s := stored{key: d.Key}
			if err := json.Unmarshal(d.Value, &s.traces); err != nil {
				return nil, fmt.Errorf("reading trace %s: %w", d.Key, err)
			}
			out = append(out, s)
			after = d.Key
		}
		if len(docs) == 0 {
			return out, nil
		}
	}
}

// prune removes batches beyond the newest 1000 refusals or older than 7 days.
func (r *Recorder) prune(ctx context.Context) error {
	all, err := r.load(ctx)
	if err != nil {
		return err
	}
	oldest, kept := r.now().Add(-keepFor), 0
	for i := len(all) - 1; i >= 0; i-- {
		s := all[i]
		fits := kept == 0 || kept+len(s.traces) <= keepCount
		if fits && len(s.traces) > 0 && s.traces[len(s.traces)-1].Time.After(oldest) {
			kept += len(s.traces)
			continue
		}
		kept = keepCount // whatever is older goes too
		if err := r.store.Delete(ctx, s.key, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("removing old traces: %w", err)
		}
	}
	return nil
}

// shortest is how much of an id may stand for all of it.
const shortest = 8

// Find gives the newest refusal that want accepts and whose request id or
// correlation id is id, compared without case, or begins with it where it has
// eight characters or more; ErrNotFound when there is none.
func (r *Recorder) Find(ctx context.Context, id string, want func(trace.Trace) bool) (trace.Trace, error) {
	t, err := r.Last(ctx, func(t trace.Trace) bool {
		return (strings.EqualFold(t.ID, id) || strings.EqualFold(t.Correlation, id)) && want(t)
	})
	if !errors.Is(err, ErrNotFound) || len(id) < shortest {
		return t, err
	}
	begins := func(whole string) bool { return len(whole) > len(id) && strings.EqualFold(whole[:len(id)], id) }
	return r.Last(ctx, func(t trace.Trace) bool { return (begins(t.ID) || begins(t.Correlation)) && want(t) })
}

// Last gives the newest refusal that want accepts; ErrNotFound when there is none.
func (r *Recorder) Last(ctx context.Context, want func(trace.Trace) bool) (trace.Trace, error) {
	list, err := r.List(ctx, want, 1)
	if err != nil {
		return trace.Trace{}, err
	}
	if len(list) == 0 {
		return trace.Trace{}, ErrNotFound
	}
	return list[0], nil
}

// List gives at most limit refusals that want accepts, newest first.
func (r *Recorder) List(ctx context.Context, want func(trace.Trace) bool, limit int) ([]trace.Trace, error) {
	if err := r.Flush(ctx); err != nil {
		return nil, err
	}
	all, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	var out []trace.Trace
	for i := len(all) - 1; i >= 0; i-- {
		for j := len(all[i].traces) - 1; j >= 0; j-- {
			if len(out) == limit {
				return out, nil
			}
			if t := all[i].traces[j]; want(t) {
				out = append(out, t)
			}
		}
	}
	return out, nil
}
