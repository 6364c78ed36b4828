package kube_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// state is what `laz status` says, as far as tests ask.
type state struct {
	Running   bool
	PID       int
	Local     string // address on loopback
	NodeAgent struct{ PID int }
	Clusters  []clusterState
}

type clusterState struct {
	Name, UID, State, Address, Network, Error string
	Nodes                                     []struct {
		Name, Address, Message string
		Ready                  bool
	}
	Processes []processState
}

type processState struct {
	Name, Node, State, Error string
	PID, Restarts            int
}

// tryStatus is the state; an error when laz does not run.
func (k *kube) tryStatus() (state, error) {
	var s state
	out, err := k.Laz("status", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

func (k *kube) status(t *testing.T) state {
	t.Helper()
	s, err := k.tryStatus()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cluster is the state of one.
func (k *kube) cluster(t *testing.T, name string) clusterState {
	t.Helper()
	for _, c := range k.status(t).Clusters {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("laz status says nothing of cluster %s", name)
	return clusterState{}
}

// pid is the number of a cluster's process; 0 when it does not run.
func (c clusterState) pid(name string) int {
	for _, p := range c.Processes {
		if p.Name == name {
			return p.PID
		}
	}
	return 0
}

func (k *kube) pid(t *testing.T, cluster, name string) int {
	t.Helper()
	pid := k.cluster(t, cluster).pid(name)
	if pid == 0 {
		t.Fatalf("%s of %s does not run", name, cluster)
	}
	return pid
}

// kill kills a process as the kernel does when memory ends.
func kill(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if pid < 2 {
			t.Fatalf("no process to kill: %d", pid)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("killing %d: %v", pid, err)
		}
	}
}

// healed waits until laz says that all of a cluster runs and its nodes are
// ready, and its API server answers.
func (k *kube) healed(t *testing.T, cluster string) {
	t.Helper()
	until(t, 2*time.Minute, cluster+" runs", func() (string, error) { return k.ill(cluster) }, func(s string) bool { return s == "" })
	until(t, time.Minute, cluster+" answers", func() (string, error) {
		return k.tryKubectl(cluster, "", "get", "--raw", "/readyz")
	}, func(s string) bool { return s == "ok" })
}

// ill is what laz says is wrong with a cluster, "" when nothing is.
func (k *kube) ill(cluster string) (string, error) {
	s, err := k.tryStatus()
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(s.Clusters, func(c clusterState) bool { return c.Name == cluster })
	if i < 0 {
		return cluster + " is not there", nil
	}
	c := s.Clusters[i]
	var said []string
	if c.State != "running" || c.Error != "" {
		said = append(said, c.State+" "+c.Error)
	}
	for _, p := range c.Processes {
		if p.State != "running" {
			said = append(said, fmt.Sprintf("%s is %s: %s", p.Name, p.State, p.Error))
		}
	}
	for _, n := range c.Nodes {
		if !n.Ready {
			said = append(said, n.Name+": "+n.Message)
		}
	}
	if len(c.Nodes) == 0 || len(c.Processes) == 0 {
		said = append(said, fmt.Sprintf("it has no nodes or processes; the node agent: %+v", s.NodeAgent))
	}
	return strings.Join(said, "; "), nil
}

// up starts laz again in its state folder, as a person does.
func (k *kube) up(t *testing.T, more ...string) {
	t.Helper()
	if _, err := k.Laz(append([]string{"up", "-d", "--offline", "--clusters", "embedded"}, more...)...); err != nil {
		t.Fatal(err)
	}
}

// pod starts a toybox with words in the default namespace, and waits until it runs.
func (k *kube) pod(t *testing.T, cluster, name string, words ...string) {
	t.Helper()
	k.apply(t, cluster, toy(name, "", words...))
	t.Cleanup(func() { k.forget(t, cluster, "pod", name) })
	k.running(t, cluster, "default", name)
}

// toy is the manifest of a pod that runs toybox with words.
func toy(name, labels string, words ...string) string {
	if len(words) == 0 {
		words = []string{"pause"}
	}
	quoted, _ := json.Marshal(words) // strings always are
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {%s}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: %s, args: %s}]
`, name, labels, Toybox, quoted)
}

// forget deletes objects that a test made; their cluster may be gone.
func (k *kube) forget(t *testing.T, cluster, kind string, names ...string) {
	t.Helper()
	args := append([]string{"delete", kind, "--ignore-not-found", "--wait=false", "--grace-period=1"}, names...)
	if _, err := k.tryKubectl(cluster, "", args...); err != nil {
		t.Logf("deleting %s %v: %v", kind, names, err)
	}
}

// inside runs toybox with words in the pod called name: what it printed, and
// whether it ended well.
func (k *kube) inside(cluster, name string, words ...string) (string, error) {
	return k.tryKubectl(cluster, "", append([]string{"exec", name, "--", "/toybox"}, words...)...)
}

// since is when a pod's container began: as long as it is the same, the
// container went on.
func (k *kube) since(t *testing.T, cluster, pod string) string {
	t.Helper()
	return k.kubectl(t, cluster, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}")
}

// instance is what the names of all that a state folder has on the machine carry.
func (k *kube) instance() string {
	home := k.Home()
	if real, err := filepath.EvalSymlinks(home); err == nil {
		home = real
	}
	sum := sha256.Sum256([]byte(home))
	return hex.EncodeToString(sum[:4])
}

// machine is what there is on the machine that a cluster could leave behind.
// Others' clusters may come and go meanwhile: what is another instance's is
// left out.
func (k *kube) machine(t *testing.T) []string {
	t.Helper()
	var all []string
	add := func(kind, out string) {
		for line := range strings.Lines(out) {
			if line = strings.TrimSpace(line); line != "" && !k.others(line) {
				all = append(all, kind+" "+line)
			}
		}
	}
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			t.Fatalf("%s %v: %v", name, args, err)
		}
		return string(out)
	}
	add("link", digits.ReplaceAllString(run("ip", "-brief", "link"), ""))
	add("route", run("ip", "-4", "route", "show", "table", "all"))
	add("nft", run("nft", "list", "tables"))
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "lazurite") || strings.Contains(line, k.Dir) { // others' tests mount too
			add("mount", line)
		}
	}
	runs, _ := filepath.Glob("/run/lazurite-*")
	add("folder", strings.Join(runs, "\n"))
	add("cgroup", strings.Join(cgroups(t), "\n"))
	add("process", strings.Join(k.processes(t), "\n"))
	return all
}

var digits = regexp.MustCompile(`(?m)@if\d+| .*$`)

// others reports whether a line is about another state folder's clusters.
func (k *kube) others(line string) bool {
	for _, m := range instances.FindAllStringSubmatch(line, -1) {
		if m[1]+m[2] != k.instance() {
			return true
		}
	}
	return false
}

var instances = regexp.MustCompile(`lazurite-([0-9a-f]{8})|\blz([0-9a-f]{8})-`)

// cgroups are the folders of Lazurite in all hierarchies.
func cgroups(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"/sys/fs/cgroup/lazurite-*", "/sys/fs/cgroup/*/lazurite-*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// processes are those that have to do with this cloud: in its cgroups, in a
// network namespace of its clusters, or called with its folder.
func (k *kube) processes(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cgroup, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup")) // it may have ended
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if len(line) == 0 {
			continue // the kernel's, or ended and not yet taken off the list by init
		}
		own := bytes.Contains(cgroup, []byte("lazurite-"+k.instance())) || bytes.Contains(line, []byte(k.Home()))
		laz := bytes.Contains(env, []byte("LAZ_HOME="+k.Home()+"\x00")) && !bytes.Contains(line, []byte("read -r _")) // the harness's own shell
		if own || laz {
			words := strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
			all = append(all, fmt.Sprintf("%d %s", pid, words))
		}
	}
	return all
}

// leaves fails the test for what is there now and was not before.
func (k *kube) leaves(t *testing.T, before []string) {
	t.Helper()
	var more []string
	live.Until(15*time.Second, func() bool { // cgroups and mounts go a moment after the last process
		more = nil
		for _, thing := range k.machine(t) {
			if !slices.Contains(before, thing) {
				more = append(more, thing)
			}
		}
		return len(more) == 0
	})
	for _, thing := range more {
		t.Errorf("left behind: %s", thing)
	}
}

// enter runs a command in the network of a cluster ("") or of one of its nodes.
func (k *kube) enter(t *testing.T, cluster, node string, command ...string) {
	t.Helper()
	c := k.cluster(t, cluster)
	of := c.pid("etcd") // the control plane is in the cluster's
	if node != "" {
		of = c.pid("kubelet")
	}
	if of == 0 {
		t.Fatalf("nothing runs in the network of %s %s", cluster, node)
	}
	args := append([]string{"--net=/proc/" + strconv.Itoa(of) + "/ns/net", "--"}, command...)
	if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v in the network: %v: %s", command, err, out)
	}
}
