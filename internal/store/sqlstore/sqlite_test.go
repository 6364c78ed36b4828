package sqlstore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

func openSQLite(t testing.TB, path string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), path)
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

func TestSQLite_SecondOpenIsLockedOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b%c?.db")
	openSQLite(t, path)
	if _, err := sqlstore.OpenSQLite(t.Context(), path); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("second open: %v, want ErrLocked", err)
	}
}

func TestSQLite_FilesArePrivateAndReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "laz.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := sqlstore.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	rev, err := s.Put(t.Context(), store.Doc{Key: "a", Value: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("files: %v, %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", f.Name(), info.Mode(), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), store.Doc{Key: "b"}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("put after close: %v, want ErrClosed", err)
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("get after close: %v, want ErrClosed", err)
	}
	if err := s.Follow(t.Context(), "", rev, func(store.Change) error { return nil }, nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("follow after close: %v, want ErrClosed", err)
	}
	s = openSQLite(t, path)
	d, err := s.Get(t.Context(), "a")
	if err != nil || string(d.Value) != "1" || d.Rev != rev {
		t.Errorf("after reopen: %+v, %v", d, err)
	}
}

func BenchmarkSQLite_Get(b *testing.B) {
	s := openSQLite(b, filepath.Join(b.TempDir(), "laz.db"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := s.Put(ctx, store.Doc{Key: "kv/vault/secrets/name/version", Kind: "secret", Value: make([]byte, 700)}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(ctx, "kv/vault/secrets/name/version"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSQLite_PutParallel(b *testing.B) {
	s := openSQLite(b, filepath.Join(b.TempDir(), "laz.db"))
	b.SetParallelism(64)
	var ids atomic.Int64
	b.RunParallel(func(p *testing.PB) {
		rev := int64(0)
		key := strconv.FormatInt(ids.Add(1), 10)
		for p.Next() {
			var err error
			if rev, err = s.Put(b.Context(), store.Doc{Key: key, Rev: rev, Value: make([]byte, 700)}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkSQLite_PutSerial(b *testing.B) {
	s := openSQLite(b, filepath.Join(b.TempDir(), "laz.db"))
	rev := int64(0)
	for b.Loop() {
		var err error
		if rev, err = s.Put(b.Context(), store.Doc{Key: "a", Rev: rev, Value: make([]byte, 700)}); err != nil {
			b.Fatal(err)
		}
	}
}
