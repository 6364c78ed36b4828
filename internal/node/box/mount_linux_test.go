package box_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/node/box"
)

// TestSpace_OwnRoot is a space with a root of its own, as nodes have one.
func TestSpace_OwnRoot(t *testing.T) {
	r, s := open(t)
	root, volumes := t.TempDir(), t.TempDir()
	mounts := []box.Mount{{Source: root, Target: "/"}}
	for _, path := range []string{"/dev", "/proc", "/usr", "/bin", "/sbin", "/lib", "/lib64"} {
		if _, err := os.Stat(path); err == nil {
			mounts = append(mounts, box.Mount{Source: path, Target: path})
		}
	}
	mounts = append(mounts, box.Mount{Source: volumes, Target: "/volumes", Shared: true})
	sp, _, err := r.Space(s, "c1-n1", box.SpaceSpec{Hostname: "n1", Mounts: mounts})
	if err != nil {
		t.Fatal(err)
	}
	const script = `mkdir /volumes/v && mount -t tmpfs v /volumes/v && echo here >/volumes/v/file && cat /volumes/v/file
grep -c ' /volumes .* shared:' /proc/self/mountinfo
ls /home 2>/dev/null | wc -l`
	out, err := sp.Output(t.Context(), nil, "/bin/sh", "-c", script)
	if want := "here\n1\n0\n"; string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	again, err := sp.Output(t.Context(), nil, "/bin/sh", "-c", "cat /volumes/v/file")
	if string(again) != "here\n" {
		t.Errorf("what is mounted does not stay: got %q, %v", again, err)
	}
	own, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(own), filepath.Join(volumes, "v")) {
		t.Error("what is mounted inside is mounted outside too")
	}
	if err := sp.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSpace_WhereMountsAreShared runs the tests of spaces again where the
// machine's mounts are shared, as systemd makes them.
func TestSpace_WhereMountsAreShared(t *testing.T) {
	needRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "--propagation", "shared", exe, "-test.v", "-test.run", "^(TestSpace|TestSpace_OwnRoot)$")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}
