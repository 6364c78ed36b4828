package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func testFolders(t *testing.T) *folders {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "volumes")
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &folders{Config: Config{Volumes: dir}, root: root, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(f.close)
	return f
}

func TestFolders_OnlyOurNames(t *testing.T) {
	f := testFolders(t)
	for _, bad := range []string{"", "x", "..", "pvc-", "pvc-../x", "pvc-a/b", "pvc-ABC"} {
		if err := f.makeFolder(bad); err == nil {
			t.Errorf("%q is made", bad)
		}
	}
	for range 2 { // again is no error
		if err := f.makeFolder("pvc-0a1b-2c"); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(f.Volumes, "pvc-0a1b-2c"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestFolders_SweepNeverRemovesData(t *testing.T) {
	f := testFolders(t)
	for _, name := range []string{"pvc-1", "pvc-2", "pvc-3"} {
		if err := f.makeFolder(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(f.Volumes, "pvc-2", "data"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.sweep(map[string]bool{"pvc-3": true}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"pvc-1": false, "pvc-2": true, "pvc-3": true} {
		if _, err := os.Stat(filepath.Join(f.Volumes, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFolders_ALinkLeadsNowhere(t *testing.T) {
	f := testFolders(t)
	outside := filepath.Join(filepath.Dir(f.Volumes), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.makeFolder("pvc-1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(f.Volumes, "pvc-1", "up")); err != nil {
		t.Fatal(err)
	}
	if err := f.root.RemoveAll("pvc-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("the data removed with a volume was elsewhere: %v", err)
	}
}
