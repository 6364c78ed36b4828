package agent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/agent"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/wire"
)

// TestMain is also the agent and its helper, as the program is.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == agent.ExecCommand:
		err = agent.Exec()
	case len(os.Args) > 3 && os.Args[1] == agent.Command && os.Args[2] == "keep": // and end when descriptor 3 says so
		err = agent.Keep(context.Background(), append([]string{agent.Command}, os.Args[3:]...))
		_, _ = os.NewFile(3, "end").Read(make([]byte, 1))
	case len(os.Args) > 3 && os.Args[1] == agent.Command:
		owner, _ := strconv.Atoi(os.Args[3])
		err = agent.Run(context.Background(), agent.Options{
			Home: os.Args[2], Owner: owner, Kube: os.Args[4:], Range: netip.MustParsePrefix("198.19.0.0/17"), Version: "test",
		})
	case len(os.Args) > 2 && os.Args[1] == "ask": // as another user
		err = ask(os.Args[2])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func ask(home string) error {
	c, err := node.Dial(home)
	if err != nil {
		return err
	}
	_, err = c.Info(context.Background())
	return err
}

func need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") == "true":
		t.Fatal("needs " + what)
	default:
		t.Skip("needs " + what)
	}
}

// lab is an agent as a process of its own.
type lab struct {
	t    *testing.T
	home string
	kube string
	cmd  *exec.Cmd
	*node.Client
}

func newLab(t *testing.T, kube string, owner int) *lab {
	t.Helper()
	need(t, os.Geteuid() == 0, "root")
	need(t, wire.Available() == nil, "nft")
	l := &lab{t: t, home: t.TempDir(), kube: kube}
	c, err := node.Dial(l.home)
	if err != nil {
		t.Fatal(err)
	}
	l.Client = c
	l.start(owner)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Purge(ctx); err != nil && !errors.Is(err, node.ErrNoAgent) {
			t.Error(err)
		}
		if r, err := box.RootOf(l.home); err == nil {
			if err := r.Sweep(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	return l
}

func (l *lab) start(owner int) {
	l.t.Helper()
	args := []string{agent.Command, l.home, strconv.Itoa(owner)}
	if l.kube != "" {
		args = append(args, l.kube)
	}
	l.cmd = exec.Command("/proc/self/exe", args...)
	l.cmd.Stderr = os.Stderr
	if err := l.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan struct{})
	cmd := l.cmd
	go func() { defer close(ended); _ = cmd.Wait() }()
	eventually(l.t, 10*time.Second, "the agent answers", func() bool {
		select {
		case <-ended:
			l.t.Fatal("the agent ended")
		default:
		}
		return l.Running(l.t.Context())
	})
}

func (l *lab) kill() {
	l.t.Helper()
	if err := l.cmd.Process.Kill(); err != nil {
		l.t.Fatal(err)
	}
	eventually(l.t, 10*time.Second, "the agent is gone", func() bool { return !l.Running(l.t.Context()) })
}

// nothingLeft waits until the agent has ended, with all it had.
func (l *lab) nothingLeft() {
	l.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for left := machine(l.t, l.home); left != ""; left = machine(l.t, l.home) {
		if time.Now().After(deadline) {
			l.t.Fatalf("left behind:\n%s", left)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func eventually(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// machine lists what could be left of the agent of a state folder.
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
	for _, file := range []string{"/proc/self/mountinfo", "/proc/net/route"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if strings.Contains(line, instance) || strings.Contains(line, home) {
				all = append(all, file+" "+strings.TrimSpace(line))
			}
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		cgroups, _ := os.ReadFile(p + "/cgroup") // it may end meanwhile
		command, _ := os.ReadFile(p + "/cmdline")
		if strings.Contains(string(cgroups), instance) || strings.Contains(string(command), home) {
			all = append(all, p+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/lazurite-", "/sys/fs/cgroup/*/lazurite-", "/run/lazurite-"} {
		found, err := filepath.Glob(pattern + instance)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

var key = sync.OnceValue(func() []byte {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
})

func spec(uid string, nodes ...string) node.Cluster {
	c := node.Cluster{
		UID: uid, Name: "demo", ResourceID: "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/demo",
		Version: "1.37.2", Running: true, Issuer: "https://eastus.oic.prod-aks.azure.com/t/" + uid + "/",
		JWKSURI: "https://eastus.oic.prod-aks.azure.com/t/" + uid + "/openid/v1/jwks", Keys: []node.Key{{ID: "k1", PEM: key()}},
		PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.0.0.0/16", DNSServiceIP: "10.0.0.10", NetworkPolicy: true,
	}
	for _, n := range nodes {
		c.Nodes = append(c.Nodes, node.Node{Name: n, Pool: "pool1", CPUMillis: 2000, MemoryMiB: 2048, MaxPods: 30})
	}
	return c
}

func TestAgent_WithoutDistribution(t *testing.T) {
	l := newLab(t, t.TempDir(), 0)
	i, err := l.Info(t.Context())
	if err != nil || i.Version != "test" || i.PID != l.cmd.Process.Pid || !strings.Contains(i.Missing, "make kube") {
		t.Errorf("got %+v, %v", i, err)
	}
	if err := l.Apply(t.Context(), spec("u1"), nil); !errors.Is(err, node.ErrUnavailable) || !strings.Contains(err.Error(), "make kube") {
		t.Errorf("got %v", err)
	}
	if all, err := l.Status(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v: what could not begin must leave nothing", all, err)
	}
	if err := l.Remove(t.Context(), "u1"); err != nil {
		t.Errorf("gone already: %v", err)
	}
	if _, err := l.Listen(t.Context(), "u1", "tcp", node.PortHTTPS); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := l.Admin(t.Context(), "u1"); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := l.LoadImage(t.Context(), "u1", strings.NewReader("x")); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	out, err := exec.Command("/proc/self/exe", agent.Command, l.home, "0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "already") {
		t.Errorf("a second agent: got %v, %s", err, out)
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.nothingLeft()
	if _, err := l.Info(t.Context()); !errors.Is(err, node.ErrNoAgent) {
		t.Errorf("got %v", err)
	}
}

// TestAgent_StopIsTheEndOfItsProcesses: who was told that all has ended finds
// no keeper either.
func TestAgent_StopIsTheEndOfItsProcesses(t *testing.T) {
	l := newLab(t, t.TempDir(), 0)
	for name, end := range map[string]func(context.Context) error{"stop": l.Stop, "purge": l.Purge} {
		t.Run(name, func(t *testing.T) {
			if err := l.Stop(t.Context()); err != nil && !errors.Is(err, node.ErrNoAgent) {
				t.Fatal(err)
			}
			in, out, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			keeper := exec.Command("/proc/self/exe", agent.Command, "keep", l.home, "0", l.kube)
			keeper.ExtraFiles = []*os.File{in}
			if err := keeper.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = keeper.Wait() }()
			defer out.Close()
			eventually(t, 10*time.Second, "the agent answers", func() bool { return l.Running(t.Context()) })
			ended := make(chan error, 1)
			go func() { ended <- end(t.Context()) }()
			eventually(t, 10*time.Second, "the agent has ended", func() bool { _, err := l.Info(t.Context()); return errors.Is(err, node.ErrNoAgent) })
			select {
			case err := <-ended:
				t.Errorf("there is a keeper yet, and it said %v", err)
				return
			default:
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	l.nothingLeft()
}

func TestAgent_RefusesStrangers(t *testing.T) {
	const owner, stranger = 61234, 61235
	l := newLab(t, "", owner)
	as := func(uid int) string {
		// The test's own program lies where only root can look.
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp("/tmp", "ask")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		raw, err := os.ReadFile(exe)
		if err == nil {
			err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "ask"), raw, 0o755)) // others are to run it
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(dir, "ask"), "ask", l.home)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if err == nil {
			return "welcome"
		}
		return string(out)
	}
	if err := openUp(t, l.home); err != nil { // so that both reach the socket's folder by the same name
		t.Fatal(err)
	}
	if got := as(owner); got != "welcome" {
		t.Errorf("the owner: got %q", got)
	}
	if got := as(stranger); !strings.Contains(got, "permission denied") {
		t.Errorf("a stranger: got %q", got)
	}
	instance, err := node.Instance(l.home)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(node.Socket(instance), 0o666); err != nil { // to get to the check behind it
		t.Fatal(err)
	}
	if got := as(stranger); !strings.Contains(got, "another user's") {
		t.Errorf("a stranger who can connect: got %q", got)
	}
	if got := as(owner); got != "welcome" {
		t.Errorf("the owner: got %q", got)
	}
}

// openUp lets others find the state folder's name.
func openUp(t *testing.T, home string) error {
	t.Helper()
	for dir := home; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // it is a test's folder
			return err
		}
	}
	return nil
}

func TestAgent_RefusesWhatIsNotTyped(t *testing.T) {
	l := newLab(t, "", 0)
	instance, err := node.Instance(l.home)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", node.Socket(instance))
	}}}
	for _, c := range []struct {
		method, path, body string
		want               int
		text               string
	}{
		{"POST", "/v1/clusters", `{"UID":"a","Command":"sh"}`, 400, "unknown field"},
		{"POST", "/v1/clusters", `{"UID":"../../etc","Name":"x"}`, 400, "uid"},
		{"POST", "/v1/clusters", `not json`, 400, "invalid"},
		{"POST", "/v1/clusters", `"` + strings.Repeat("x", 2<<20) + `"`, 400, "too large"},
		{"DELETE", "/v1/clusters/..%2f..%2fetc", "", 200, "{}"}, // there is none
		{"POST", "/v1/clusters/x/listen?network=tcp&port=22", "", 409, "knows no such"},
		{"POST", "/v1/clusters/x/dial?at=10.244.0.5:5001", "", 409, "knows no such"},
		{"POST", "/v1/clusters/x/dial?at=localhost:22", "", 409, "refused by the node agent"},
		{"GET", "/v1/nothing", "", 404, ""},
		{"PUT", "/v1/info", "", 405, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://agent"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want || !strings.Contains(string(body), c.text) {
			t.Errorf("%s %s: got %d %s, want %d with %q", c.method, c.path, resp.StatusCode, body, c.want, c.text)
		}
	}
}

// TestAgent_RunsOnlyWhatIsRoots: a distribution that another user could change
// is copied when the agent starts, and changes of it have no effect until then.
func TestAgent_RunsOnlyWhatIsRoots(t *testing.T) {
	need(t, os.Geteuid() == 0, "root")
	dist := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dist, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)) // a program
		if err == nil {
			err = os.Chown(path, 1000, 1000)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("versions.json", `{"kubernetes":"1.37.2"}`)
	write("bin/kubernetes", "first")
	if err := os.Symlink("kubernetes", filepath.Join(dist, "bin", "kubelet")); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, dist, 0)
	look := func() node.Info {
		t.Helper()
		i, err := l.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	i := look()
	if i.Missing != "" || i.Kube == dist || i.Versions["kubernetes"] != "1.37.2" {
		t.Fatalf("got %+v", i)
	}
	copied := filepath.Join(i.Kube, "bin", "kubelet")
	if raw, err := os.ReadFile(copied); err != nil || string(raw) != "first" {
		t.Errorf("got %q, %v", raw, err)
	}
	if fi, err := os.Stat(copied); err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 || fi.Mode().Perm() != 0o755 {
		t.Errorf("got %v, %v", fi, err)
	}
	write("bin/kubernetes", "second version")
	if now := look(); now.Kube != i.Kube {
		t.Errorf("%s became %s in a running agent", i.Kube, now.Kube)
	}
	if raw, err := os.ReadFile(copied); err != nil || string(raw) != "first" {
		t.Errorf("changed while it runs: %q, %v", raw, err)
	}
	restart := func() {
		t.Helper()
		if err := l.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.nothingLeft()
		l.start(0)
	}
	restart()
	if raw, err := os.ReadFile(filepath.Join(look().Kube, "bin", "kubelet")); err != nil || string(raw) != "second version" {
		t.Errorf("after a new start: %q, %v", raw, err)
	}
	torn := look().Kube // as a power cut leaves what was not synced
	if err := os.Truncate(filepath.Join(torn, "bin", "kubernetes"), 3); err != nil {
		t.Fatal(err)
	}
	restart()
	if raw, err := os.ReadFile(filepath.Join(look().Kube, "bin", "kubelet")); err != nil || look().Kube != torn || string(raw) != "second version" {
		t.Errorf("after a torn copy: %q, %v", raw, err)
	}
	if copies, err := os.ReadDir(filepath.Join(l.home, "node", "kube")); err != nil || len(copies) != 1 {
		t.Errorf("copies: %v, %v", copies, err)
	}
	if err := os.Symlink("/etc/shadow", filepath.Join(dist, "bin", "outside")); err != nil {
		t.Fatal(err)
	}
	restart()
	if i := look(); !strings.Contains(i.Missing, "leads out of it") {
		t.Errorf("got %+v", i)
	}
}

// kubernetes is the folder of the distribution.
func kubernetes(t *testing.T) string {
	t.Helper()
	need(t, os.Geteuid() == 0, "root")
	dir := os.Getenv("LAZ_KUBE")
	if cache, err := os.UserCacheDir(); dir == "" && err == nil {
		dir = filepath.Join(cache, "lazurite", "kube", "current")
	}
	dir, err := filepath.EvalSymlinks(dir)
	need(t, err == nil, "make kube")
	return dir
}

// TestAgent_Cluster is a cluster's life with all that can end meanwhile.
func TestAgent_Cluster(t *testing.T) {
	l := newLab(t, kubernetes(t), 0)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := spec("u1", "n1")
	var phases []string
	began := time.Now()
	if err := l.Apply(ctx, c, func(p node.Phase) {
		if p.Done {
			phases = append(phases, fmt.Sprintf("%s %s", p.Name, p.Took.Round(time.Millisecond)))
		}
	}); err != nil {
		t.Fatalf("%v after %v", err, phases)
	}
	t.Logf("up after %s: %v", time.Since(began), phases)
	if !slices.ContainsFunc(phases, func(s string) bool { return strings.HasPrefix(s, "network ") }) {
		t.Errorf("phases: got %v", phases)
	}
	state := func() node.ClusterStatus {
		all, err := l.Status(ctx)
		if err != nil || len(all) != 1 {
			return node.ClusterStatus{}
		}
		return all[0]
	}
	whole := func() bool {
		st := state()
		return len(st.Nodes) == 1 && st.Nodes[0].Ready && !st.Applying && len(st.Processes) >= 7 &&
			!slices.ContainsFunc(st.Processes, func(p node.ProcessStatus) bool {
				// Our own parts may be left out of a distribution.
				return p.State != node.StateRunning && !strings.HasPrefix(p.Name, "lazurite-")
			})
	}
	if !whole() {
		t.Errorf("got %+v", state())
	}
	healthy(ctx, t, l)

	// The front door listens inside.
	f, err := l.Listen(ctx, "u1", "tcp", node.PortHTTPS)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := listener.Addr().String(), state().Address.String()+":443"; got != want {
		t.Errorf("listening on %s, want %s", got, want)
	}
	if _, err := l.Listen(ctx, "u1", "tcp", node.PortHTTPS); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("twice: got %v", err)
	}
	_ = errors.Join(f.Close(), listener.Close())

	// Any process may be killed.
	for _, name := range []string{"etcd", "kubelet", "containerd"} {
		var pid, before int
		for _, p := range state().Processes {
			if p.Name == name {
				pid, before = p.PID, p.Restarts
			}
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("killing %s (%d): %v", name, pid, err)
		}
		eventually(t, time.Minute, name+" runs again", func() bool {
			return slices.ContainsFunc(state().Processes, func(p node.ProcessStatus) bool {
				return p.Name == name && p.Restarts > before && p.State == node.StateRunning && p.PID != pid
			})
		})
	}
	eventually(t, time.Minute, "all is whole again", whole)
	healthy(ctx, t, l)

	// A link that somebody cuts is repaired.
	instance, err := node.Instance(l.home)
	if err != nil {
		t.Fatal(err)
	}
	name := "lz" + instance + "-" + strings.Split(state().Network.String(), ".")[2]
	if out, err := exec.Command("ip", "-o", "link").CombinedOutput(); err != nil || !strings.Contains(string(out), "lz"+instance) {
		t.Fatalf("%v: no link %s in\n%s", err, name, out)
	}
	cut(t, "lz"+instance)
	eventually(t, time.Minute, "the link is there again", func() bool { return whole() && reach(ctx, l) == nil })

	// The agent may be killed: what it left is taken over, and who asked it
	// for something gets it from the next one.
	applied := make(chan error, 1)
	go func() { applied <- l.Apply(ctx, c, nil) }()
	l.kill()
	l.start(0)
	if err := <-applied; err != nil {
		t.Errorf("asked across a change of agents: %v", err)
	}
	eventually(t, time.Minute, "the next agent has it whole", whole)
	healthy(ctx, t, l)

	// Stop and start by the owner; the node keeps its address.
	address, space := state().Nodes[0].Address, state().Space
	c.Running = false
	if err := l.Apply(ctx, c, nil); err != nil {
		t.Fatal(err)
	}
	if st := state(); len(st.Processes) != 0 || st.Running || st.Space != 0 {
		t.Errorf("stopped: got %+v", st)
	}
	if _, err := l.Admin(ctx, "u1"); err != nil {
		t.Errorf("credentials of a stopped cluster: %v", err)
	}
	c.Running = true
	c.Nodes = append(c.Nodes, spec("u1", "n2").Nodes...)
	if err := l.Apply(ctx, c, nil); err != nil {
		t.Fatal(err)
	}
	if now := state().Space; space == 0 || now == 0 || now == space {
		t.Errorf("the network has the name %d, and had %d", now, space)
	}
	if st := state(); len(st.Nodes) != 2 || st.Nodes[0].Address != address || st.Nodes[1].Address == address {
		t.Errorf("got %+v", st.Nodes)
	}

	// The whole thing stops and comes back by itself.
	if err := l.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	l.nothingLeft()
	l.start(0)
	eventually(t, time.Minute, "both nodes are back", func() bool {
		st := state()
		return len(st.Nodes) == 2 && st.Nodes[0].Ready && st.Nodes[1].Ready
	})

	// Removed while it is being changed.
	c.Nodes = append(c.Nodes, spec("u1", "n3").Nodes...)
	changing := make(chan struct{})
	var once sync.Once
	go func() {
		applied <- l.Apply(ctx, c, func(p node.Phase) {
			if p.Name == "node n3" {
				once.Do(func() { close(changing) })
			}
		})
	}()
	<-changing
	if err := l.Remove(ctx, "u1"); err != nil {
		t.Fatal(err)
	}
	if err := <-applied; !errors.Is(err, node.ErrNotFound) {
		t.Errorf("the change that was interrupted: got %v", err)
	}
	if all, err := l.Status(ctx); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
	left := machine(t, l.home)
	for _, sign := range []string{"link ", "route", "/c", "kubernetes"} {
		if strings.Contains(left, sign) && sign != "/c" {
			t.Errorf("%q in what is left:\n%s", sign, left)
		}
	}
	if err := l.Remove(ctx, "u1"); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestAgent_PurgeAfterKill9 wants nothing left of a cluster whose agent was
// killed in the middle of making it.
func TestAgent_PurgeAfterKill9(t *testing.T) {
	l := newLab(t, kubernetes(t), 0)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	begun := make(chan struct{})
	applied := make(chan error, 1)
	var once sync.Once
	asking, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	go func() {
		applied <- l.Apply(asking, spec("u1", "n1"), func(p node.Phase) {
			if p.Name == "etcd" && p.Done {
				once.Do(func() { close(begun) })
			}
		})
	}()
	select {
	case <-begun:
	case err := <-applied:
		t.Fatal(err)
	}
	l.kill()
	stopAsking() // else it would wait for the next agent, and go on
	if err := <-applied; err == nil {
		t.Error("the change was said to be done")
	}
	l.start(0)
	if err := l.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	l.nothingLeft()
	if entries, err := os.ReadDir(l.home); err != nil || len(entries) != 0 {
		t.Errorf("in the state folder: %v, %v", entries, err)
	}
}

func cut(t *testing.T, prefix string) {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, prefix) {
			if out, err := exec.Command("ip", "link", "delete", l.Name).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
}

func healthy(ctx context.Context, t *testing.T, l *lab) {
	t.Helper()
	eventually(t, 30*time.Second, "the API server is ready", func() bool { return reach(ctx, l) == nil })
}

// reach asks the API server for its readiness as an administrator.
func reach(ctx context.Context, l *lab) error {
	k, err := l.Admin(ctx, "u1")
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(k.Cert, k.Key)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.Server+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Equal(body, []byte("ok")) {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

// TestAgent_WhileAnotherIsEnding starts an agent while the one before it, which
// was killed, still holds the lock and its socket still takes connections.
func TestAgent_WhileAnotherIsEnding(t *testing.T) {
	need(t, os.Geteuid() == 0, "root")
	l := newLab(t, "", 0)
	l.kill()
	r, err := box.Open(l.home)
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(r.Run)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	socket := node.Socket(r.Instance)
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	dying, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan bool, 1)
	go func() { answered <- l.Running(t.Context()) }()
	conn, err := dying.Accept() // what waits in a backlog is cut like this
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.Close(), dying.Close()); err != nil {
		t.Fatal(err)
	}
	if <-answered {
		t.Error("an agent that took a connection and ended was said to run")
	}
	time.AfterFunc(300*time.Millisecond, func() { _ = held.Close() })
	l.start(0)
	if !l.Running(t.Context()) {
		t.Error("the next agent is not there")
	}
}
