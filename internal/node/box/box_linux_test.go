package box_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
)

// TestMain is also the helper that the tests start, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == box.ExecCommand {
		if err := box.Exec(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "crash" { // an agent that will be killed
		crash(os.Args[2])
	}
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("needs root")
	default:
		t.Skip("needs root")
	}
}

func open(t *testing.T) (box.Root, *box.Starter) {
	t.Helper()
	needRoot(t)
	r, err := box.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := box.NewStarter()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := r.Sweep(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return r, s
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// eventually waits for cond.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestSpace(t *testing.T) {
	r, s := open(t)
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "file"), []byte("inside"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := box.SpaceSpec{Hostname: "n1", Mounts: []box.Mount{{Target: "/run"}, {Source: source, Target: "/run/lazurite/own", ReadOnly: true}}}
	sp, made, err := r.Space(s, "c1-n1", spec)
	if err != nil || !made {
		t.Fatalf("got %v, made %v", err, made)
	}
	out, err := sp.Output(t.Context(), strings.NewReader("hello "), "/bin/sh", "-c", "cat; cat /run/lazurite/own/file; hostname; ls /sys/class/net >/dev/null; cat /proc/net/dev | grep -c :; touch /run/lazurite/own/x 2>&1 | grep -c Read-only; ls /run; grep -c nsfs /proc/self/mountinfo")
	if want := "hello insiden1\n1\n1\nlazurite\n0\n"; string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	if _, err := sp.Output(t.Context(), nil, "/bin/sh", "-c", "echo because >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "because") {
		t.Errorf("got %v, want the program's words", err)
	}
	if _, err := os.Stat("/run/lazurite"); err == nil {
		t.Error("a folder was made on the host")
	}
	again, made, err := r.Space(s, "c1-n1", spec)
	if err != nil || made {
		t.Errorf("again: got %v, made %v", err, made)
	}
	var links []net.Interface
	err = again.Do(func() error {
		var err error
		links, err = net.Interfaces()
		return err
	})
	if err != nil || len(links) != 1 || links[0].Name != "lo" {
		t.Errorf("got %v, %v, want lo alone", links, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := sp.Output(ctx, nil, "/bin/sleep", "60"); err == nil {
		t.Error("the program outlived its context")
	}
	if err := sp.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, err := r.Spaces(); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestSpace_UnknownMountIsRefused(t *testing.T) {
	r, s := open(t)
	if _, _, err := r.Space(s, "x", box.SpaceSpec{Mounts: []box.Mount{{Source: "/no/such/thing", Target: "/mnt"}}}); err == nil || !strings.Contains(err.Error(), "/no/such/thing") {
		t.Errorf("got %v", err)
	}
	if names, _ := r.Spaces(); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

func TestSupervisor(t *testing.T) {
	r, s := open(t)
	sp, _, err := r.Space(s, "c1", box.SpaceSpec{Hostname: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	cg, err := r.Cgroup("c1/control")
	if err != nil {
		t.Fatal(err)
	}
	logs := t.TempDir()
	v := box.NewSupervisor(s, logs, quiet())
	own := t.TempDir()
	if err := os.Chmod(own, 0o711); err != nil {
		t.Fatal(err)
	}
	p := box.Process{
		Name: "one", Path: "/bin/sh", Args: []string{"-c", `id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; cat /proc/self/cgroup; ls /run; echo "($VAR)"; exec sleep 1000`},
		Env: []string{"VAR=value"}, Space: sp, Cgroup: cg, UID: 61234, GID: 61234,
		Mounts: []box.Mount{{Target: "/run"}, {Source: own, Target: "/run/lazurite/cluster"}},
	}
	if err := v.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	st := v.Status()[0]
	if st.State != node.StateRunning || st.PID == 0 {
		t.Fatalf("got %+v", st)
	}
	var text string
	eventually(t, "the process prints", func() bool {
		raw, _ := os.ReadFile(v.Log("one"))
		text = string(raw)
		return strings.Contains(text, "(value)")
	})
	for _, want := range []string{"61234", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", cg.Path, "lazurite"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if pids, err := cg.Processes(); err != nil || !slices.Equal(pids, []int{st.PID}) {
		t.Errorf("in the cgroup: %v, %v, want %d", pids, err, st.PID)
	}
	if err := v.Run(t.Context(), p); err != nil || v.Status()[0].PID != st.PID {
		t.Errorf("got %v, and process %d: the same again must be left alone", err, v.Status()[0].PID)
	}
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it runs again", func() bool { now := v.Status()[0]; return now.State == node.StateRunning && now.Restarts == 1 })
	if now := v.Status()[0]; !strings.Contains(now.Err, "killed") {
		t.Errorf("got %+v", now)
	}
	p.Stamp = "changed"
	pid := v.Status()[0].PID
	if err := v.Run(t.Context(), p); err != nil || v.Status()[0].PID == pid {
		t.Errorf("got %v, still process %d: a changed one is started anew", err, pid)
	}
	if err := v.Stop(t.Context(), nil); err != nil || len(v.Status()) != 0 {
		t.Errorf("got %v, %v", err, v.Status())
	}
	if pids, err := cg.Processes(); err != nil || len(pids) != 0 {
		t.Errorf("left: %v, %v", pids, err)
	}
}

func TestSupervisor_BacksOffAndSaysWhy(t *testing.T) {
	_, s := open(t)
	v := box.NewSupervisor(s, t.TempDir(), quiet())
	starts := filepath.Join(t.TempDir(), "starts")
	p := box.Process{
		Name: "n1/bad", Node: "n1", Path: "/bin/sh", Args: []string{"-c", "date +%s%N >> " + starts + "; echo the reason >&2; exit 7"},
		Ready: func(context.Context) error { return os.ErrNotExist },
	}
	err := v.Run(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), "the reason") || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("got %v", err)
	}
	raw, err := os.ReadFile(starts)
	if err != nil {
		t.Fatal(err)
	}
	var at []int64
	for _, f := range strings.Fields(string(raw)) {
		n, _ := strconv.ParseInt(f, 10, 64)
		at = append(at, n)
	}
	if len(at) < 4 || at[3]-at[2] < 2*(at[1]-at[0]) {
		t.Errorf("starts at %v: the pauses must grow", at)
	}
	st := v.Status()[0]
	if st.Name != "bad" || st.Node != "n1" || st.PID != 0 || st.State != node.StateWaiting {
		t.Errorf("got %+v", st)
	}
	if err := v.Stop(t.Context(), nil); err != nil {
		t.Error(err)
	}
	p.Path = "/no/such/program"
	if err := v.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
	if err := v.Stop(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestSupervisor_KillsWhatHangs watches a program that was ready: one that
// stumbles is left alone, one that answers no more is started again.
func TestSupervisor_KillsWhatHangs(t *testing.T) {
	_, s := open(t)
	v := box.NewSupervisor(s, t.TempDir(), quiet())
	var asked, ill atomic.Int64
	const failures = 3
	p := box.Process{
		Name: "server", Path: "/bin/sleep", Args: []string{"1000"},
		Alive: box.Liveness{Every: time.Millisecond, Time: time.Second, Failures: failures, Ask: func(context.Context) error {
			asked.Add(1)
			if ill.Add(-1) >= 0 {
				return errors.New("no answer")
			}
			return nil
		}},
	}
	if err := v.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	pid := v.Status()[0].PID
	ill.Store(failures - 1)
	before := asked.Load()
	eventually(t, "it is asked on", func() bool { return asked.Load() > before+2*failures })
	if st := v.Status()[0]; st.PID != pid || st.Restarts != 0 {
		t.Errorf("one that stumbled: %+v", st)
	}
	ill.Store(failures)
	eventually(t, "it runs again", func() bool {
		st := v.Status()[0]
		return st.State == node.StateRunning && st.PID != pid && st.Restarts == 1
	})
	if st := v.Status()[0]; !strings.Contains(st.Err, "no answer") {
		t.Errorf("got %+v", st)
	}
	if err := v.Stop(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestSupervisor_StopsInReverseAndKills(t *testing.T) {
	_, s := open(t)
	v := box.NewSupervisor(s, t.TempDir(), quiet())
	ends := filepath.Join(t.TempDir(), "ends")
	for _, name := range []string{"a", "b"} {
		ready := filepath.Join(t.TempDir(), "ready")
		p := box.Process{
			Name: name, Path: "/bin/sh", Args: []string{"-c", "trap 'echo " + name + " >> " + ends + "; exit' TERM; touch " + ready + "; while :; do sleep 0.05; done"},
			Ready: func(context.Context) error { _, err := os.Stat(ready); return err },
		}
		if err := v.Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	ready := filepath.Join(t.TempDir(), "ready")
	deaf := box.Process{Name: "deaf", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; touch " + ready + "; while :; do sleep 1; done"}, Stop: 100 * time.Millisecond,
		Ready: func(context.Context) error { _, err := os.Stat(ready); return err }}
	if err := v.Run(t.Context(), deaf); err != nil {
		t.Fatal(err)
	}
	if err := v.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if raw, _ := os.ReadFile(ends); string(raw) != "b\na\n" {
		t.Errorf("ended: %q, want b before a", raw)
	}
}

func TestSupervisor_LogsAreBounded(t *testing.T) {
	_, s := open(t)
	v := box.NewSupervisor(s, t.TempDir(), quiet())
	p := box.Process{Name: "loud", Path: "/bin/sh", Args: []string{"-c", "head -c 40000000 /dev/zero; echo done; exec sleep 1000"}}
	if err := v.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	size := func(path string) int64 {
		fi, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return fi.Size()
	}
	eventually(t, "all is written", func() bool {
		raw, _ := os.ReadFile(v.Log("loud"))
		return strings.HasSuffix(string(raw), "done\n")
	})
	if a, b := size(v.Log("loud")), size(v.Log("loud")+".1"); a > 9<<20 || b > 9<<20 || b == 0 {
		t.Errorf("the logs have %d and %d bytes", a, b)
	}
	if err := v.Stop(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestCgroup(t *testing.T) {
	r, s := open(t)
	cg, err := r.Cgroup("c1-n1/daemons")
	if err != nil {
		t.Fatal(err)
	}
	if err := cg.Limit(1500, 64); err != nil {
		t.Fatal(err)
	}
	v := box.NewSupervisor(s, t.TempDir(), quiet())
	// It would use more memory than it can have.
	p := box.Process{Name: "greedy", Path: "/bin/sh", Args: []string{"-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; echo ended; exec sleep 1000"}, Cgroup: cg}
	if err := v.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	eventually(t, "memory is limited", func() bool {
		raw, _ := os.ReadFile(v.Log("greedy"))
		return strings.Contains(string(raw), "ended") || v.Status()[0].Restarts > 0
	})
	whole, err := r.FindCgroup("c1-n1")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Stop(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := whole.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, err := r.Cgroups(); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
	if err := whole.Remove(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestCgroup_Version2 runs the tests of cgroups again where version 2 is all
// there is, which a machine with version 1 can show in a mount namespace (with
// the controllers that version 1 leaves).
// TestCgroup_OthersCome reads a cgroup in which containers come and go: one that
// goes while it is read (ENODEV, not ENOENT, once its file is open) is no error.
func TestCgroup_OthersCome(t *testing.T) {
	r, _ := open(t)
	cg, err := r.Cgroup("node")
	if err != nil {
		t.Fatal(err)
	}
	folders := cg.Folders()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, dir := range folders {
				pod := filepath.Join(dir, "pod")
				_ = os.Mkdir(pod, 0o755)
				_ = os.Remove(pod) // what stays is removed with the cgroup
			}
		}
	}()
	for range 3000 {
		if _, err := cg.Processes(); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-stopped
	if err := cg.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCgroup_Version2(t *testing.T) {
	needRoot(t)
	if v, err := box.CgroupVersion(); err != nil || v == 2 {
		t.Logf("this machine has version %d (%v): the other tests are of it", v, err)
		return
	}
	const script = `umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$0" -test.v -test.run '^(TestCgroup|TestSupervisor|TestCgroupVersion)$'`
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", script, exe)
	cmd.Env = append(os.Environ(), "WANT_CGROUP=2")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestCgroupVersion(t *testing.T) {
	want := os.Getenv("WANT_CGROUP")
	if got, err := box.CgroupVersion(); err != nil || want != "" && strconv.Itoa(got) != want {
		t.Errorf("got %d, %v, want %s", got, err, want)
	}
}

// crash is an agent that has a space, a link, a cgroup, a process that ends
// with it and one that does not, and then waits to be killed.
func crash(home string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	r, err := box.Open(home)
	fail(err)
	s := box.NewStarter()
	sp, _, err := r.Space(s, "c1", box.SpaceSpec{Hostname: "c1", Mounts: []box.Mount{}})
	fail(err)
	cg, err := r.Cgroup("c1")
	fail(err)
	v := box.NewSupervisor(s, filepath.Join(r.State, "logs"), quiet())
	fail(v.Run(context.Background(), box.Process{Name: "child", Path: "/bin/sleep", Args: []string{"1000"}, Space: sp, Cgroup: cg}))
	fail(v.Run(context.Background(), box.Process{Name: "shim", Path: "/bin/sh", Args: []string{"-c", "setsid sleep 1001 & exec sleep 1000"}, Space: sp, Cgroup: cg}))
	fmt.Println("ready")
	select {}
}

func TestSweep_AfterKill9(t *testing.T) {
	needRoot(t)
	home := t.TempDir()
	cmd := startCrash(t, home)
	r, err := box.RootOf(home)
	if err != nil {
		t.Fatal(err)
	}
	cg, err := r.FindCgroup("c1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all run", func() bool { pids, err := cg.Processes(); return err == nil && len(pids) == 3 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	eventually(t, "its children end with it", func() bool { pids, err := cg.Processes(); return err == nil && len(pids) == 1 })

	// The next one finds it all.
	if r, err = box.Open(home); err != nil {
		t.Fatal(err)
	}
	s := box.NewStarter()
	defer s.Close()
	if _, made, err := r.Space(s, "c1", box.SpaceSpec{Mounts: []box.Mount{}}); err != nil || made {
		t.Errorf("got %v, made %v, want the space that was left", err, made)
	}
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := machine(t, home); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if _, err := os.Stat(filepath.Join(home, "node", "logs")); err != nil {
		t.Errorf("what is kept is gone: %v", err)
	}
	if err := box.Erase(home); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(home, "node")); err == nil {
		t.Error("still there after Erase")
	}
}

func TestOpen_RefusesAnothersFolder(t *testing.T) {
	needRoot(t)
	home, other := t.TempDir(), t.TempDir()
	if err := os.Symlink(other, filepath.Join(home, "node")); err != nil {
		t.Fatal(err)
	}
	r, err := box.Open(home)
	if err == nil {
		t.Error("a link was followed")
	}
	if left := machine(t, home); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if err := os.Remove(filepath.Join(home, "node")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(home, "node"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(home, "node"), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err = box.Open(home); err == nil || !strings.Contains(err.Error(), "not root's alone") {
		t.Errorf("got %v", err)
	}
	if err := r.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
}
