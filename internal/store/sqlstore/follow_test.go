package sqlstore_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/storetest/pgtest"
)

// eventually waits up to ten seconds for ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func text(d store.Doc) (string, error) { return string(d.Value), nil }

func TestFollow_BehindTheHistoryThatIsKept(t *testing.T) {
	s := openSQLite(t, filepath.Join(t.TempDir(), "laz.db"))
	rev := int64(0)
	for range 6 { // more bytes than are kept
		var err error
		if rev, err = s.Put(t.Context(), store.Doc{Key: "a", Rev: rev, Value: make([]byte, store.MaxValue)}); err != nil {
			t.Fatal(err)
		}
	}
	// The trim comes after the acknowledgement; the next write waits for it.
	if _, err := s.Put(t.Context(), store.Doc{Key: "b"}); err != nil {
		t.Fatal(err)
	}
	err := s.Follow(t.Context(), "", 0, func(store.Change) error { return nil }, nil)
	if !errors.Is(err, store.ErrBehind) {
		t.Errorf("follow from the beginning: %v, want ErrBehind", err)
	}
	enough := errors.New("enough")
	err = s.Follow(t.Context(), "", rev-1, func(store.Change) error { return enough }, nil)
	if !errors.Is(err, enough) {
		t.Errorf("follow from before the last: %v", err)
	}
}

func TestPostgres_LostConnectionsTurnMirrorsStale(t *testing.T) {
	dsn := pgtest.Start(t)
	a, b := openPostgres(t, dsn), openPostgres(t, dsn)
	m, err := store.NewMirror(t.Context(), b, "", text, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Fresh(); err != nil {
		t.Fatal(err)
	}
	mend := pgtest.Cut(t, dsn)
	begin := time.Now()
	eventually(t, "stale", func() bool { return errors.Is(m.Fresh(), store.ErrStale) })
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("stale only after %v", d)
	}
	if _, err := b.Put(t.Context(), store.Doc{Key: "lost"}); err == nil {
		t.Error("a write without a database was acknowledged")
	}
	mend()
	eventually(t, "fresh again", func() bool { return m.Fresh() == nil })
	if _, err := a.Put(t.Context(), store.Doc{Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other's write", func() bool { v, _ := m.Get("k"); return v == "v" })
	if _, err := b.Put(t.Context(), store.Doc{Key: "own", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if v, _ := m.Get("own"); v != "v" {
		t.Error("own write is not in the mirror when it returns")
	}
}

func TestPostgres_DatabaseThatWentBack(t *testing.T) {
	dsn := pgtest.Start(t)
	s := openPostgres(t, dsn)
	for _, key := range []string{"kept", "lost"} {
		if _, err := s.Put(t.Context(), store.Doc{Key: key, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := store.NewMirror(t.Context(), s, "", text, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	// As after a failover to a standby that hadn't received the last commit.
	execIn(t, "pgx", dsn, `BEGIN; DELETE FROM docs WHERE key = 'lost'; DELETE FROM changes WHERE key = 'lost'; COMMIT`)
	eventually(t, "the mirror goes back too", func() bool { _, ok := m.Get("lost"); return !ok && m.Fresh() == nil })
	if _, err := s.Put(t.Context(), store.Doc{Key: "next", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if v, _ := m.Get("next"); v != "v" {
		t.Error("own write is not in the mirror when it returns")
	}
}
