package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

// breaking is a store whose Follow can be made to end.
type breaking struct {
	store.Store
	end   chan error
	loads chan struct{} // each Now takes one
}

func (b *breaking) Follow(ctx context.Context, prefix string, seq int64, fn func(store.Change) error, idle func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-b.end:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	if err := b.Store.Follow(ctx, prefix, seq, fn, idle); !errors.Is(err, context.Canceled) {
		return err
	}
	return context.Cause(ctx)
}

func (b *breaking) Now(ctx context.Context) (int64, error) {
	select {
	case <-b.loads:
		return b.Store.Now(ctx)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestMirror_BehindLoadsAgainAndTellsTheDifferences(t *testing.T) {
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	b := &breaking{Store: s, end: make(chan error), loads: make(chan struct{}, 1)}
	rev := map[string]int64{}
	put := func(key, value string) {
		t.Helper()
		var err error
		if rev[key], err = s.Put(t.Context(), store.Doc{Key: key, Rev: rev[key], Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	put("stays", "1")
	put("changes", "1")
	put("goes", "1")
	b.loads <- struct{}{}
	m, err := store.NewMirror(t.Context(), b, "", func(d store.Doc) (string, error) { return string(d.Value), nil }, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	told := make(chan string, 10)
	m.OnChange(func(c store.Change) { told <- fmt.Sprint(c.Doc.Key, " ", c.Deleted) })

	b.end <- store.ErrBehind
	for m.Fresh() == nil { // until the mirror knows
		<-time.After(time.Millisecond)
	}
	put("changes", "2")
	put("comes", "1")
	if err := s.Delete(t.Context(), "goes", 0); err != nil {
		t.Fatal(err)
	}
	if err := m.Fresh(); !errors.Is(err, store.ErrStale) {
		t.Errorf("while behind: %v, want ErrStale", err)
	}
	b.loads <- struct{}{}
	got := []string{<-told, <-told, <-told}
	if diff := cmp.Diff([]string{"changes false", "comes false", "goes true"}, got); diff != "" {
		t.Errorf("told: %s", diff)
	}
	all := map[string]string{}
	m.Range(func(k, v string) bool { all[k] = v; return true })
	if diff := cmp.Diff(map[string]string{"stays": "1", "changes": "2", "comes": "1"}, all); diff != "" {
		t.Errorf("after loading again: %s", diff)
	}
	put("stays", "2")
	if got := <-told; got != "stays false" {
		t.Errorf("then told %q", got)
	}
}

// A machine too busy to tick within maxStale must not refuse everybody where
// nobody else writes; where somebody may, it must.
func TestMirror_SoleStoreNeedsNoConfirmation(t *testing.T) {
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for name, c := range map[string]struct {
		st   store.Store
		want error
	}{
		"sole":        {s, nil},
		"sole scoped": {store.Scoped(s, "a/"), nil},
		"shared":      {struct{ store.Store }{s}, store.ErrStale},
	} {
		m, err := store.NewMirror(t.Context(), c.st, "", func(d store.Doc) (string, error) { return string(d.Value), nil }, time.Nanosecond)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Fresh(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		m.Close()
		if err := m.Fresh(); !errors.Is(err, store.ErrStale) {
			t.Errorf("%s, closed: %v", name, err)
		}
	}
}
