package box_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"lazurite.dev/internal/node"
)

// machine lists what could be left behind of the state folder home: links,
// mounts, namespaces held by them, cgroups and folders.
func machine(t *testing.T, home string) string {
	t.Helper()
	instance, err := node.Instance(home)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.Contains(l.Name, instance) {
			all = append(all, "link "+l.Name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, instance) || strings.Contains(line, home) {
			all = append(all, "mount "+line)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup", "/run"} {
		out, err := exec.Command("find", pattern, "-maxdepth", "2", "-name", "lazurite-"+instance).Output()
		if err != nil {
			t.Logf("find: %v", err) // something went away meanwhile
		}
		all = append(all, strings.Fields(string(out))...)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func startCrash(t *testing.T, home string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "crash", home)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("got %q", line)
	}
	return cmd
}
