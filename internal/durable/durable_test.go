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

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for text, mode := range map[string]fs.FileMode{"one": 0o644, "another": 0o600} {
		if err := durable.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		info, serr := os.Stat(path)
		if err != nil || serr != nil || string(raw) != text || info.Mode().Perm() != mode {
			t.Errorf("%q %v, %v %v", raw, info, err, serr)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}

// TestReplace_Fails: whatever goes wrong, what was there stays, and nothing else.
func TestReplace_Fails(t *testing.T) {
	dir, broken := t.TempDir(), errors.New("broken")
	path, folder := filepath.Join(dir, "f"), filepath.Join(dir, "folder")
	if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.MkdirAll(filepath.Join(folder, "full"), 0o700)); err != nil {
		t.Fatal(err)
	}
	part := func(err error) func(*os.File) error {
		return func(f *os.File) error {
			_, werr := f.WriteString("ne")
			return errors.Join(werr, err)
		}
	}
	if err := durable.Replace(path, part(broken)); !errors.Is(err, broken) {
		t.Errorf("a write that fails: %v", err)
	}
	if err := durable.Replace(path, func(f *os.File) error { return f.Close() }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a file that can't be synced: %v", err)
	}
	if err := durable.Replace(folder, part(nil)); err == nil {
		t.Error("a folder was replaced")
	}
	if err := durable.Replace(filepath.Join(dir, "none", "f"), part(nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
	if err := durable.Rename(filepath.Join(dir, "none"), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	raw, err := os.ReadFile(path)
	left, lerr := os.ReadDir(dir)
	if err != nil || lerr != nil || string(raw) != "old" || len(left) != 2 {
		t.Errorf("%q is there, %v; %v %v", raw, left, err, lerr)
	}
	if err := durable.Rename(path, filepath.Join(folder, "f")); err != nil {
		t.Error(err)
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
