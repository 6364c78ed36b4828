package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lazurite.dev/internal/durable"
)

func TestMakeDir(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b")
	for range 2 {
		if err := durable.MakeDir(root, dir); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MakeDir(root, filepath.Join(file, "c")); err == nil {
		t.Error("a folder was made in a file")
	}
	if err := durable.SyncDir(filepath.Join(root, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestFinish(t *testing.T) {
	broken := errors.New("broken")
	for _, want := range []error{nil, broken, os.ErrClosed} {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		var before error
		switch want {
		case broken:
			before = broken
		case os.ErrClosed:
			_ = f.Close()
		}
		if err := durable.Finish(f, before); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if _, err := os.Stat(f.Name()); (err == nil) != (want == nil) {
			t.Errorf("after %v: %v", want, err)
		}
	}
}

func TestRemoveOlder(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{"old": time.Hour, "needed": time.Hour, "new": 0} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, now.Add(-age), now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	var asked []string
	err := durable.RemoveOlder(dir, now.Add(-time.Minute), func(path string) bool {
		asked = append(asked, filepath.Base(path))
		return filepath.Base(path) != "needed"
	})
	left, lerr := os.ReadDir(dir)
	if err != nil || lerr != nil || len(left) != 2 || left[0].Name() != "needed" || left[1].Name() != "new" || !slices.Equal(asked, []string{"needed", "old"}) {
		t.Errorf("%v %v, %v are left, asked of %v", err, lerr, left, asked)
	}
	if err := durable.RemoveOlder(filepath.Join(dir, "none"), now, nil); err != nil {
		t.Error(err)
	}
}
