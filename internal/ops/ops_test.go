package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

func open(t *testing.T) store.Store {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// run starts a manager; stop ends it as a shutdown does.
func run(t *testing.T, s store.Store, sole bool, handle func(*ops.Manager)) (m *ops.Manager, stop func()) {
	t.Helper()
	m = ops.New(s, slog.New(slog.DiscardHandler), sole)
	handle(m)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return m, stop
}

func start(t *testing.T, m *ops.Manager, runner string) ops.Op {
	t.Helper()
	op, err := m.Start(t.Context(), ops.Op{Runner: runner, Target: "/x", Principal: "p", Input: json.RawMessage(`{"a":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func wait(t *testing.T, m *ops.Manager, id string) ops.Op {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	op, err := m.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func TestEnds(t *testing.T) {
	m, _ := run(t, open(t), true, func(m *ops.Manager) {
		m.Handle("good", func(_ context.Context, op ops.Op) error {
			if string(op.Input) != `{"a":1}` {
				return errors.New("other input")
			}
			return nil
		})
		m.Handle("refused", func(context.Context, ops.Op) error { return apierr.New(apierr.Conflict, "Taken", "It is taken.") })
		m.Handle("broken", func(context.Context, ops.Op) error { return errors.New("a secret detail") })
		m.Handle("panics", func(context.Context, ops.Op) error { panic("a secret detail") })
	})
	for runner, want := range map[string][3]string{
		"good":    {ops.Succeeded, "", ""},
		"refused": {ops.Failed, "Taken", "It is taken."},
		"broken":  {ops.Failed, "InternalServerError", apierr.From(errors.New("")).Message},
		"panics":  {ops.Failed, "InternalServerError", apierr.From(errors.New("")).Message},
		"absent":  {ops.Failed, "InternalServerError", apierr.From(errors.New("")).Message},
	} {
		op := wait(t, m, start(t, m, runner).ID)
		if got := [3]string{op.Status, op.Code, op.Message}; got != want || op.Ended.IsZero() {
			t.Errorf("%s: got %q, want %q", runner, got, want)
		}
	}
	if _, err := m.Get(t.Context(), "absent"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestResumesAfterARestart(t *testing.T) {
	s := open(t)
	var runs atomic.Int32
	begun := make(chan struct{}, 2)
	free := make(chan struct{})
	handle := func(m *ops.Manager) {
		m.Handle("slow", func(ctx context.Context, _ ops.Op) error {
			runs.Add(1)
			begun <- struct{}{}
			select {
			case <-free:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	m, stop := run(t, s, true, handle)
	op := start(t, m, "slow")
	<-begun
	stop()
	if now, err := m.Get(t.Context(), op.ID); err != nil || now.Status != ops.InProgress {
		t.Fatalf("after the stop: %+v %v", now, err)
	}
	m, _ = run(t, s, true, handle)
	<-begun
	close(free)
	if got := wait(t, m, op.ID); got.Status != ops.Succeeded || runs.Load() != 2 {
		t.Errorf("got %+v after %d runs", got, runs.Load())
	}
}

func TestReplicas_TakeOverOnlyWhatIsAbandoned(t *testing.T) {
	s := open(t)
	hold := make(chan struct{})
	var first, second atomic.Int32
	work := func(n *atomic.Int32) func(*ops.Manager) {
		return func(m *ops.Manager) {
			m.Handle("slow", func(ctx context.Context, _ ops.Op) error {
				n.Add(1)
				select {
				case <-hold:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}
	}
	m1, _ := run(t, s, false, work(&first))
	op := start(t, m1, "slow")
	dead := ops.Op{ID: "dead", Runner: "slow", Status: ops.InProgress, Owner: "gone", Lease: time.Now().Add(-time.Second)}
	if _, err := store.PutJSON(t.Context(), s, "op/dead", "op-live", 0, dead); err != nil {
		t.Fatal(err)
	}
	m2, _ := run(t, s, false, work(&second))
	close(hold)
	if got := wait(t, m2, "dead"); got.Status != ops.Succeeded { // m2 looks at once when it starts
		t.Errorf("the abandoned one: %+v", got)
	}
	if got := wait(t, m2, op.ID); got.Status != ops.Succeeded {
		t.Errorf("the other's, seen from here: %+v", got)
	}
	if first.Load()+second.Load() != 2 {
		t.Errorf("two operations were run %d times", first.Load()+second.Load())
	}
}

func TestForgetsOldOnes(t *testing.T) {
	s := open(t)
	for id, ended := range map[string]time.Time{"old": time.Now().Add(-25 * time.Hour), "new": time.Now().Add(-time.Hour)} {
		if _, err := store.PutJSON(t.Context(), s, "op/"+id, "op-done", 0, ops.Op{ID: id, Status: ops.Succeeded, Ended: ended}); err != nil {
			t.Fatal(err)
		}
	}
	m, _ := run(t, s, true, func(*ops.Manager) {})
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := m.Get(t.Context(), "old"); errors.Is(err, store.ErrNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the old one is still there")
		}
		<-tick.C
	}
	if _, err := m.Get(t.Context(), "new"); err != nil {
		t.Error(err)
	}
}

func TestProgress(t *testing.T) {
	more := make(chan struct{})
	m, _ := run(t, open(t), true, func(m *ops.Manager) {
		m.Handle("steps", func(ctx context.Context, _ ops.Op) error {
			ops.Report(ctx, ops.Phase{Name: "one"}, 4)
			ops.Report(ctx, ops.Phase{Name: "one", Done: true}, 4)
			ops.Report(ctx, ops.Phase{Name: "two", Detail: "almost"}, 4)
			<-more
			return nil
		})
	})
	ops.Report(t.Context(), ops.Phase{Name: "outside"}, 1) // nobody's
	op := start(t, m, "steps")
	var err error
	for op.Progress == nil || len(op.Progress.Phases) < 2 {
		if op, err = m.Get(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
	}
	if p := op.Progress; p.Percent != 25 || !p.Phases[0].Done || p.Phases[1].Detail != "almost" {
		t.Errorf("got %+v", p)
	}
	close(more)
	if op = wait(t, m, op.ID); op.Status != ops.Succeeded || len(op.Progress.Phases) != 2 {
		t.Errorf("got %+v", op)
	}
}

func TestCancel(t *testing.T) {
	ended := make(chan struct{})
	m, _ := run(t, open(t), true, func(m *ops.Manager) {
		m.Handle("long", func(ctx context.Context, _ ops.Op) error {
			defer close(ended)
			<-ctx.Done()
			return ctx.Err()
		})
	})
	op := start(t, m, "long")
	for range 2 { // the second time there is nothing left to cancel
		if err := m.Cancel(t.Context(), op.ID, "Preempted", "because"); err != nil {
			t.Fatal(err)
		}
	}
	<-ended
	if got := wait(t, m, op.ID); got.Status != ops.Canceled || got.Code != "Preempted" || got.Message != "because" {
		t.Errorf("got %+v", got)
	}
	if err := m.Cancel(t.Context(), "none", "a", "b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
