package sqlstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
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

func TestClose_BesideWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "laz.db")
	s, err := sqlstore.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var acknowledged sync.Map
	var count atomic.Int64
	for w := range 600 { // more than the queue holds
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d/%d", w, i)
				if _, err := s.Put(t.Context(), store.Doc{Key: key}); err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Error(err)
					}
					return
				}
				acknowledged.Store(key, true)
				count.Add(1)
			}
		})
	}
	eventually(t, "some writes", func() bool { return count.Load() > 1000 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	s = openSQLite(t, path)
	acknowledged.Range(func(key, _ any) bool {
		if _, err := s.Get(t.Context(), key.(string)); err != nil {
			t.Error(err)
		}
		return true
	})
}
