// Package ops runs long operations. An operation is a record in the store
// before anything else happens, so that it is finished after a restart, or by
// another replica when the one that began it is gone.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
)

// The states of an operation, in ARM's words.
const (
	InProgress = "InProgress"
	Succeeded  = "Succeeded"
	Failed     = "Failed"
	Canceled   = "Canceled"
)

const (
	prefix   = "op/"
	kindLive = "op-live" // still to be done
	kindDone = "op-done"

	lease   = 15 * time.Second // a replica that is silent for so long has lost its operations
	refresh = 4 * time.Second
	keep    = 24 * time.Hour // how long a finished operation can be asked for
	tidy    = time.Minute    // how often finished ones are looked through
)

// Op is one operation.
type Op struct {
	ID        string          `json:"id"`
	Runner    string          `json:"runner"` // the name that Handle registered
	Target    string          `json:"target"` // resource id
	Principal string          `json:"principal"`
	Input     json.RawMessage `json:"input,omitempty"`
	Status    string          `json:"status"`
	Code      string          `json:"code,omitempty"` // of Failed
	Message   string          `json:"message,omitempty"`
	Details   []Fault         `json:"details,omitempty"` // what Failed is made of
	Started   time.Time       `json:"started"`
	Ended     time.Time       `json:"ended,omitzero"`
	Progress  *Progress       `json:"progress,omitempty"`
	Owner     string          `json:"owner"` // replica
	Lease     time.Time       `json:"lease"`
}

// Fault is one of the errors that an operation failed for.
type Fault struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Target  string  `json:"target,omitempty"`
	Details []Fault `json:"details,omitempty"`
}

// Faults are the errors that list holds.
func Faults(list []apierr.Error) []Fault {
	var out []Fault
	for _, e := range list {
		out = append(out, Fault{e.Code, e.Message, e.Target, Faults(e.Details)})
	}
	return out
}

// Runner does an operation's work. It must be idempotent: after a crash it is
// run again from the start.
type Runner func(ctx context.Context, op Op) error

// Manager starts operations and sees them through.
type Manager struct {
	store store.Store
	log   *slog.Logger
	self  string
	sole  bool

	mu      sync.Mutex // guards what follows
	runners map[string]Runner
	running map[string]*run // those of this process
	wg      sync.WaitGroup
	ctx     context.Context // of all runners; set by Run
	stop    context.CancelFunc
}

// run is an operation that runs in this process.
type run struct {
	done   chan struct{} // closed when it ended
	cancel context.CancelFunc
}

// New makes a Manager. sole says that no other process shares the store, so
// that what another one began is taken over at once. Register runners with Handle, then call Run.
func New(s store.Store, log *slog.Logger, sole bool) *Manager {
	ctx, stop := context.WithCancel(context.Background())
	return &Manager{
		store: s, log: log, self: uuid.NewString(), sole: sole,
		runners: map[string]Runner{}, running: map[string]*run{},
		ctx: ctx, stop: stop,
	}
}

// Handle registers the work behind a name. Call it before Run.
func (m *Manager) Handle(name string, r Runner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runners[name] = r
}

// NewID makes the id of an operation, for who must write it down before Start.
func NewID() string { return uuid.NewString() }

// Start records op and begins it. The record is durable when Start returns.
// An op without an id gets one.
func (m *Manager) Start(ctx context.Context, op Op) (Op, error) {
	if op.ID == "" {
		op.ID = NewID()
	}
	op.Status = InProgress
	op.Started = time.Now().UTC()
	op.Owner, op.Lease = m.self, time.Now().Add(lease).UTC()
	rev, err := m.write(ctx, op, 0)
	if err != nil {
		return op, err
	}
	m.begin(op, rev)
	return op, nil
}

// Get gives the operation, or store.ErrNotFound.
func (m *Manager) Get(ctx context.Context, id string) (Op, error) {
	doc, err := m.store.Get(ctx, prefix+id)
	if err != nil {
		return Op{}, fmt.Errorf("read operation: %w", err)
	}
	return decode(doc)
}

// Wait returns when the operation has ended or ctx is done.
func (m *Manager) Wait(ctx context.Context, id string) (Op, error) {
	for {
		m.mu.Lock()
		mine := m.running[id]
		m.mu.Unlock()
		op, err := m.Get(ctx, id)
		if err != nil || op.Status != InProgress {
			return op, err
		}
		if mine == nil { // another replica's
			t := time.NewTimer(200 * time.Millisecond)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return op, ctx.Err()
			}
			continue
		}
		select {
		case <-mine.done:
		case <-ctx.Done():
			return op, ctx.Err()
		}
	}
}

// Cancel ends an operation in progress: its runner's context ends, and it is
// recorded as canceled for the reason given. One that has ended already stays
// as it is. It returns when the runner has returned, if that is in this process.
func (m *Manager) Cancel(ctx context.Context, id, code, reason string) error {
	for {
		doc, err := m.store.Get(ctx, prefix+id)
		if err != nil {
			return fmt.Errorf("read operation: %w", err)
		}
		op, err := decode(doc)
		if err != nil || op.Status != InProgress {
			return err
		}
		op.Status, op.Ended, op.Code, op.Message = Canceled, time.Now().UTC(), code, reason
		if _, err = m.write(ctx, op, doc.Rev); errors.Is(err, store.ErrConflict) {
			continue // its runner was faster: it told of its progress, or ended
		} else if err != nil {
			return err
		}
		m.mu.Lock()
		mine := m.running[id]
		m.mu.Unlock()
		if mine == nil {
			return nil // another replica's: it sees that the record is no longer its own
		}
		mine.cancel()
		select {
		case <-mine.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run takes over operations that nobody sees through, now and whenever a
// replica goes away, until ctx ends; then it waits for its runners.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	var tidied time.Time
	for {
		err := m.adopt(ctx)
		if err == nil && time.Since(tidied) > tidy {
			tidied = time.Now()
			err = m.forget(ctx)
		}
		if err != nil && ctx.Err() == nil {
			m.log.Error("look after operations", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.stop()
			m.wg.Wait()
			return nil
		}
	}
}

// adopt begins operations whose lease ran out.
func (m *Manager) adopt(ctx context.Context) error {
	return store.All(ctx, m.store, store.Query{Prefix: prefix, Kind: kindLive}, func(doc store.Doc) error {
		op, err := decode(doc)
		if err != nil {
			return err
		}
		if op.Owner == m.self || !m.sole && time.Now().Before(op.Lease) {
			return nil
		}
		op.Owner, op.Lease = m.self, time.Now().Add(lease).UTC()
		rev, err := m.write(ctx, op, doc.Rev)
		if errors.Is(err, store.ErrConflict) {
			return nil // another replica was faster
		}
		if err != nil {
			return err
		}
		m.log.Info("operation resumed", "operation", op.ID, "runner", op.Runner, "target", op.Target)
		m.begin(op, rev)
		return nil
	})
}

// forget removes finished operations that nobody asks for any more.
func (m *Manager) forget(ctx context.Context) error {
	return store.All(ctx, m.store, store.Query{Prefix: prefix, Kind: kindDone}, func(doc store.Doc) error {
		op, err := decode(doc)
		if err != nil || time.Since(op.Ended) < keep {
			return err
		}
		err = m.store.Delete(ctx, doc.Key, doc.Rev)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
}

func (m *Manager) begin(op Op, rev int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return // shutting down: the record is taken over after the restart
	}
	ctx, cancel := context.WithCancel(m.ctx)
	mine := &run{done: make(chan struct{}), cancel: cancel}
	m.running[op.ID] = mine
	work := m.runners[op.Runner]
	m.wg.Go(func() {
		defer func() {
			cancel()
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.running, op.ID)
			close(mine.done)
		}()
		m.see(ctx, cancel, op, rev, work)
	})
}

// see runs the operation while holding its lease and records how it ended.
func (m *Manager) see(ctx context.Context, cancel context.CancelFunc, op Op, rev int64, work Runner) {
	told := newReports()
	result := make(chan error, 1)
	go func() { result <- m.guarded(context.WithValue(ctx, reportsKey{}, told), op, work) }()
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case err := <-result:
			if ctx.Err() != nil && err != nil {
				return // shut down in the middle: to be run again; or canceled
			}
			op.Progress = told.now()
			m.end(op, rev, err)
			return
		case <-told.fresh:
		case <-tick.C:
		}
		op.Progress, op.Lease = told.now(), time.Now().Add(lease).UTC()
		next, err := m.write(ctx, op, rev)
		if errors.Is(err, store.ErrConflict) {
			cancel() // another replica took it over, or it was canceled
			<-result
			return
		}
		if err == nil {
			rev = next
		}
	}
}

func (m *Manager) guarded(ctx context.Context, op Op, run Runner) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if run == nil {
		return fmt.Errorf("no runner %q in this version", op.Runner)
	}
	return run(ctx, op)
}

func (m *Manager) end(op Op, rev int64, err error) {
	op.Status, op.Ended = Succeeded, time.Now().UTC()
	if err != nil {
		e := apierr.From(err)
		op.Status, op.Code, op.Message, op.Details = Failed, e.Code, e.Message, Faults(e.Details)
		m.log.Error("operation failed", "operation", op.ID, "runner", op.Runner, "target", op.Target, "error", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), 10*time.Second)
	defer cancel()
	if _, err := m.write(ctx, op, rev); err != nil && !errors.Is(err, store.ErrConflict) { // canceled as it ended
		m.log.Error("record the end of an operation", "operation", op.ID, "error", err)
	}
}

func (m *Manager) write(ctx context.Context, op Op, rev int64) (int64, error) {
	b, err := json.Marshal(op)
	if err != nil {
		return 0, fmt.Errorf("encode operation: %w", err)
	}
	kind := kindLive
	if op.Status != InProgress {
		kind = kindDone
	}
	rev, err = m.store.Put(ctx, store.Doc{Key: prefix + op.ID, Rev: rev, Kind: kind, Value: b})
	if err != nil {
		return 0, fmt.Errorf("write operation: %w", err)
	}
	return rev, nil
}

func decode(doc store.Doc) (Op, error) {
	var op Op
	if err := json.Unmarshal(doc.Value, &op); err != nil {
		return op, fmt.Errorf("decode operation %s: %w", doc.Key, err)
	}
	return op, nil
}
