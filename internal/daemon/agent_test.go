package daemon_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/node"
)

func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0 && runtime.GOOS == "linux":
	case os.Getenv("CI") == "true":
		t.Fatal("needs root")
	default:
		t.Skip("needs root")
	}
}

// agent is the process id of the node agent of l; 0 when none runs.
func (l *laz) agent() int {
	l.t.Helper()
	c, err := node.Dial(l.home)
	if err != nil {
		l.t.Fatal(err)
	}
	i, err := c.Info(l.t.Context())
	if err != nil {
		return 0
	}
	return i.PID
}

// keeper is the parent of the agent.
func (l *laz) keeper() int {
	l.t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(l.agent()) + "/stat")
	if err != nil {
		l.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	pid, err := strconv.Atoi(strings.Fields(rest)[1]) // proc_pid_stat(5)
	if err != nil {
		l.t.Fatal(err)
	}
	return pid
}

func (l *laz) instance() string {
	l.t.Helper()
	i, err := node.Instance(l.home)
	if err != nil {
		l.t.Fatal(err)
	}
	return i
}

// clean wants nothing of the agent on the machine.
func (l *laz) clean() {
	l.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		l.t.Fatal(err)
	}
	if strings.Contains(string(mounts), l.instance()) {
		l.t.Error("a mount is left")
	}
	for _, pattern := range []string{"/run/lazurite-", "/sys/fs/cgroup/lazurite-", "/sys/fs/cgroup/*/lazurite-"} {
		if left, err := filepath.Glob(pattern + l.instance()); err != nil || len(left) > 0 {
			l.t.Errorf("left: %v, %v", left, err)
		}
	}
}

func TestUp_StartsTheNodeAgentAsRoot(t *testing.T) {
	needRoot(t)
	l := newLaz(t)
	server := l.up("--clusters", "auto")
	agent := l.agent()
	if agent == 0 {
		t.Fatal("no node agent answers")
	}
	kill := func(pid int) {
		t.Helper()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	l.kill(server)
	if l.agent() != agent {
		t.Error("the agent ended with the server")
	}
	l.up("--clusters", "auto")
	if now := l.agent(); now != agent {
		t.Errorf("the living agent %d was not taken over: there is %d", agent, now)
	}
	kill(agent)
	eventually(t, "its keeper started another one", func() bool { now := l.agent(); return now != 0 && now != agent })
	agent = l.agent()
	kill(l.keeper())
	kill(agent)
	eventually(t, "the agent is gone", func() bool { return l.agent() == 0 })
	l.run("up", "-d", "--offline").want(t, 0, "running already", "node agent was started again")
	if now := l.agent(); now == 0 || now == agent {
		t.Errorf("agent: got %d", now)
	}
	l.run("up", "-d", "--offline").want(t, 1, "already")
	l.run("down").want(t, 0, "Stopped")
	if l.agent() != 0 {
		t.Error("the agent runs after down")
	}
	l.clean()

	// All killed: down finds by name what is left.
	server = l.up("--clusters", "auto")
	agent = l.agent()
	kill(l.keeper())
	kill(server)
	kill(agent)
	eventually(t, "both are gone", func() bool { return l.agent() == 0 && strings.Contains(l.run("status").out, "is not running") })
	l.run("down").want(t, 0, "not running")
	l.clean()
	l.run("down", "--purge", "--yes").want(t, 0, "Erased")
	if _, err := os.Stat(l.home); err == nil {
		t.Error("the state folder is left")
	}
}

func TestUp_WithoutClustersStartsNoAgent(t *testing.T) {
	needRoot(t)
	l := newLaz(t)
	l.up("--clusters", "issuer")
	if l.agent() != 0 {
		t.Error("a node agent runs")
	}
}

// TestUp_AgentThatCannotRun: all but clusters goes on, at once, and the reason
// is told.
func TestUp_AgentThatCannotRun(t *testing.T) {
	needRoot(t)
	l := newLaz(t)
	l.up("--clusters", "issuer")
	l.ok("down")
	if err := os.Symlink(t.TempDir(), filepath.Join(l.home, "node")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	l.run("up", "-d", "--offline").want(t, 0, "Ready", "WARNING: no clusters can run here")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
	if l.agent() != 0 {
		t.Error("a node agent runs")
	}
	l.clean()
	l.run("down").want(t, 0, "Stopped")
}

// TestUp_Sudo plays sudo: root in the name of another user.
func TestUp_Sudo(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("/tmp", "laz-sudo") // where the other user can look
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const user, uid = "daemon", 1 // of every Debian
	l := &laz{t: t, home: filepath.Join(dir, "home")}
	raw, err := os.ReadFile(os.Getenv("LAZ_TEST_BINARY"))
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "laz")
	if err := os.WriteFile(binary, raw, 0o755); err != nil { // the other user runs it too
		t.Fatal(err)
	}
	t.Setenv("LAZ_TEST_BINARY", binary)
	if err := os.Chmod(dir, 0o755); err != nil { // it is a test's folder
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	l.env = []string{"SUDO_USER=" + user}
	t.Cleanup(func() {
		if r := l.run("down", "--purge", "--yes"); r.status != 0 {
			t.Errorf("down: %s", r)
		}
		l.clean()
	})
	pid := l.up("--clusters", "auto")
	owner := func(path string) int {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return int(fi.Sys().(*syscall.Stat_t).Uid)
	}
	if got := owner("/proc/" + strconv.Itoa(pid)); got != uid {
		t.Errorf("the server is user %d", got)
	}
	agent := l.agent()
	if agent == 0 || owner("/proc/"+strconv.Itoa(agent)) != 0 {
		t.Errorf("the agent is process %d", agent)
	}
	for path, want := range map[string]int{l.home: uid, filepath.Join(l.home, "data"): uid, filepath.Join(l.home, "node"): 0, node.Socket(l.instance()): uid} {
		if got := owner(path); got != want {
			t.Errorf("%s is user %d's, want %d", path, got, want)
		}
	}
	var st struct{ Running bool }
	if err := json.Unmarshal([]byte(l.ok("status", "-o", "json")), &st); err != nil || !st.Running {
		t.Errorf("got %+v, %v", st, err)
	}
	l.run("down").want(t, 0, "Stopped")
	l.clean()
	if _, err := os.Stat(filepath.Join(l.home, "node")); err != nil {
		t.Errorf("what is kept: %v", err)
	}
}
