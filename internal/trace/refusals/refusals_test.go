package refusals_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/trace/refusals"
)

func open(t *testing.T) store.Store {
	t.Helper()
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func anybodys(trace.Trace) bool { return true }

func TestRecorder_FindsARefusalJustGiven(t *testing.T) {
	st := open(t)
	r := refusals.New(st, nil)
	if _, err := r.Last(t.Context(), anybodys); !errors.Is(err, refusals.ErrNotFound) {
		t.Errorf("empty: %v", err)
	}
	r.Record(trace.Trace{ID: "req/1", Correlation: "corr-1-long", Outcome: "Forbidden", Hops: []trace.Hop{{Step: "role"}}})
	r.Record(trace.Trace{ID: "req2", Correlation: "corr-2"})
	for _, id := range []string{"req/1", "CORR-1-LONG", "corr-1-l"} {
		got, err := r.Find(t.Context(), id, anybodys)
		if err != nil || got.Outcome != "Forbidden" || len(got.Hops) != 1 || got.Time.IsZero() {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	if got, err := refusals.New(st, nil).Last(t.Context(), anybodys); err != nil || got.ID != "req2" {
		t.Errorf("last, by another recorder: %+v, %v", got, err)
	}
	// Somebody else's refusal under the same id does not hide one's own.
	r.Record(trace.Trace{ID: "req3", Correlation: "corr-1-long", Principal: "other"})
	mine := func(t trace.Trace) bool { return t.Principal == "" }
	for _, id := range []string{"corr-1-long", "corr-1-l"} {
		if got, err := r.Find(t.Context(), id, mine); err != nil || got.ID != "req/1" {
			t.Errorf("mine by %s: %+v, %v", id, got, err)
		}
	}
	if _, err := r.Find(t.Context(), "corr-1-", anybodys); !errors.Is(err, refusals.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestRecorder_KeepsTheNewest(t *testing.T) {
	st := open(t)
	now := time.Unix(1_800_000_000, 0)
	r := refusals.New(st, func() time.Time { now = now.Add(time.Second); return now })
	r.Record(trace.Trace{ID: "ancient", Time: now.Add(-8 * 24 * time.Hour)})
	for batch := range 130 { // enough for prune to run twice
		for i := range 12 {
			r.Record(trace.Trace{ID: fmt.Sprintf("%d-%d", batch, i)})
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all, err := r.List(t.Context(), anybodys, 5000)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 900 || len(all) > 1000+12*64 || all[0].ID != "129-11" {
		t.Errorf("%d kept, newest %s", len(all), all[0].ID)
	}
	if _, err := r.Find(t.Context(), "ancient", anybodys); !errors.Is(err, refusals.ErrNotFound) {
		t.Errorf("older than 7 days: %v", err)
	}
}

func TestRecorder_DropsAFloodAndSaysSo(t *testing.T) {
	r := refusals.New(open(t), nil)
	for range 600 {
		r.Record(trace.Trace{ID: "x"})
	}
	if got := r.Dropped(); got != 600-512 {
		t.Errorf("dropped = %d", got)
	}
}

func TestRecorder_RunWritesTheRestAtTheEnd(t *testing.T) {
	st := open(t)
	r := refusals.New(st, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.Record(trace.Trace{ID: "one"})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if docs, err := st.List(t.Context(), store.Query{Prefix: refusals.Prefix}); err != nil || len(docs) != 1 {
		t.Errorf("%d documents, %v", len(docs), err)
	}
}
