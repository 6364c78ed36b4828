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

// Whoever read a revision reads no older one afterwards, be it from memory or
// from the file, while others write and delete.
func TestSQLite_NothingOlderThanWhatWasRead(t *testing.T) {
	s := openSQLite(t, filepath.Join(t.TempDir(), "laz.db"))
	var wg, writers sync.WaitGroup
	var done atomic.Bool
	for w := range 2 {
		key := fmt.Sprintf("k/%d", w)
		writers.Go(func() {
			for i := range 150 {
				rev, err := s.Put(t.Context(), store.Doc{Key: key, Value: fmt.Append(nil, i)})
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				d, err := s.Get(t.Context(), key)
				if err != nil || d.Rev != rev {
					t.Errorf("after create %d: got %+v, %v", rev, d, err)
				}
				d.Value[0] = 'x' // the caller's own
				if d, err = s.Get(t.Context(), key); err != nil || string(d.Value) != fmt.Sprint(i) {
					t.Errorf("again: got %q, %v, want %d", d.Value, err, i)
				}
				if err := s.Delete(t.Context(), key, rev); err != nil {
					t.Errorf("delete: %v", err)
				}
				if d, err = s.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("after the deletion: got %+v, %v", d, err)
				}
			}
		})
		for range 2 {
			wg.Go(func() {
				for newest := int64(0); !done.Load(); {
					docs, err := s.List(t.Context(), store.Query{Prefix: key})
					if err != nil {
						t.Errorf("list: %v", err)
						return
					}
					if len(docs) == 1 {
						newest = max(newest, docs[0].Rev)
					}
					if d, err := s.Get(t.Context(), key); err == nil {
						if d.Rev < newest {
							t.Errorf("got rev %d after %d", d.Rev, newest)
						}
						newest = d.Rev
					}
				}
			})
		}
	}
	writers.Wait()
	done.Store(true)
	wg.Wait()
}

func TestSQLite_MoreDocumentsThanMemoryKeeps(t *testing.T) {
	s := openSQLite(t, filepath.Join(t.TempDir(), "laz.db"))
	value := make([]byte, 30<<10)
	var wg sync.WaitGroup
	for i := range 300 { // 9 MB
		wg.Go(func() {
			if _, err := s.Put(t.Context(), store.Doc{Key: fmt.Sprintf("k/%d", i), Kind: "k", Value: value}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range 2 {
		for i := range 300 {
			if d, err := s.Get(t.Context(), fmt.Sprintf("k/%d", i)); err != nil || len(d.Value) != len(value) || d.Kind != "k" {
				t.Fatalf("%d: got %d bytes, %v", i, len(d.Value), err)
			}
		}
	}
}

// Who lost a race sees the winner's revision when it reads again.
func TestSQLite_AConflictIsAlwaysProgress(t *testing.T) {
	s := openSQLite(t, filepath.Join(t.TempDir(), "laz.db"))
	if _, err := s.Put(t.Context(), store.Doc{Key: "n", Value: []byte{0}}); err != nil {
		t.Fatal(err)
	}
	const writers, each = 6, 40
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			lost := int64(0)
			for done := 0; done < each; {
				d, err := s.Get(t.Context(), "n")
				if err != nil || d.Rev == lost {
					t.Errorf("after losing with rev %d: got rev %d, %v", lost, d.Rev, err)
					return
				}
				_, err = s.Put(t.Context(), store.Doc{Key: "n", Rev: d.Rev, Value: []byte{d.Value[0] + 1}})
				switch {
				case err == nil:
					done++
				case errors.Is(err, store.ErrConflict):
					lost = d.Rev
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if d, err := s.Get(t.Context(), "n"); err != nil || d.Value[0] != writers*each {
		t.Errorf("counted to %v, %v, want %d", d.Value, err, writers*each)
	}
}
