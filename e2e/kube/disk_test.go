package kube_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// smallDisk makes a file system of its own for a state folder, and gives what
// mounts it.
func smallDisk(t *testing.T, mib int64) func(dir string) (func() error, error) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	run := func(command ...string) error {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", command, err, out)
		}
		return nil
	}
	return func(dir string) (func() error, error) {
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			return nil, err
		}
		if err := os.Truncate(image, mib<<20); err != nil {
			return nil, err
		}
		if err := run("mkfs.ext4", "-q", "-m", "0", image); err != nil {
			return nil, err
		}
		return func() error { return run("umount", dir) }, run("mount", "-o", "loop", image, dir)
	}
}

// fill takes all that is left of the disk that dir is on.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := 1 << 20; block >= 512; block /= 2 {
		for {
			_, err := f.Write(make([]byte, block))
			if errors.Is(err, syscall.ENOSPC) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

// TestDiskIsFull fills the disk of the state folder: laz and the cluster say
// so, nothing that was acknowledged is lost, and all goes on when there is room.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	take(t, own)
	k := begin(t, live.Options{Disk: smallDisk(t, 2048)})
	if err := k.create("c1"); err != nil {
		t.Fatal(err)
	}
	k.pod(t, "c1", "steady")
	free := fill(t, filepath.Dir(k.Home()))
	t.Cleanup(free)

	// Write until both refuse; what they took must be there afterwards.
	var objects, groups []string
	var object, resource error
	padding := "--from-literal=a=" + strings.Repeat("x", 100<<10)
	deadline := time.Now().Add(3 * time.Minute)
	for i := 0; (object == nil || resource == nil) && time.Now().Before(deadline); i++ {
		name := fmt.Sprintf("full-%d", i)
		if resource == nil {
			if _, resource = k.Laz("group", "create", "-n", name, "-l", "eastus"); resource == nil {
				groups = append(groups, name)
			}
		}
		if object == nil {
			if _, object = k.tryKubectl("c1", "", "create", "configmap", name, padding, "--request-timeout=20s"); object == nil {
				objects = append(objects, name)
			}
		}
	}
	t.Logf("before they refused %d objects and %d groups were taken", len(objects), len(groups))
	if object == nil {
		t.Error("the cluster takes whatever comes")
	}
	if resource == nil || !strings.Contains(resource.Error(), "disk that holds Lazurite's state is full") {
		t.Errorf("laz does not say why it refuses: %v", resource)
	}
	until(t, time.Minute, "the doctor names the disk and what etcd has", func() (string, error) {
		return k.doctor()
	}, func(s string) bool { return strings.Contains(s, "0 B free") && strings.Contains(s, "etcd") })
	until(t, time.Minute, "laz status says what the cluster lacks", func() (string, error) { return k.Laz("status") },
		func(s string) bool { return strings.Contains(s, "no space left on") })

	free()
	k.healed(t, "c1")
	for _, name := range objects {
		k.kubectl(t, "c1", "get", "configmap", name, "-o", "name")
	}
	for _, name := range groups {
		k.az(t, "group", "show", "-n", name)
	}
	k.az(t, "group", "create", "-n", "afterwards", "-l", "eastus")
	until(t, 3*time.Minute, "the node takes pods again", func() (string, error) {
		return k.tryKubectl("c1", "", "get", "nodes", "-o", "jsonpath={.items[*].spec.taints}")
	}, func(s string) bool { return !strings.Contains(s, "pressure") })
	k.pod(t, "c1", "afterwards")
	// What is left of the test is erased from a full disk.
	fill(t, filepath.Dir(k.Home()))
}

// doctor is what laz doctor says, whether all is well or not.
func (k *kube) doctor() (string, error) {
	out, err := k.Laz("doctor")
	if e, ok := errors.AsType[*live.CommandError](err); ok && e.Code == 1 {
		return e.Stdout, nil
	}
	return out, err
}
