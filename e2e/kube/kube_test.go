// Package kube_test starts real clusters: Kubernetes, containerd and runc of
// the distribution, on this machine. Its tests need root, Linux and `make
// kube`; elsewhere they are skipped and say so, in CI they fail.
package kube_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// Toybox is the image of e2e/kube/toybox.
const Toybox = "lazurite.dev/toybox:v1"

const group = "kube"

// kube is a laz with clusters of its own.
type kube struct {
	*live.Cloud
}

// common is a cloud with a cluster c1 that tests share, one after the other.
type common struct {
	turn chan struct{}
	once sync.Once
	k    *kube
	err  error
}

// Tests mostly wait, so those of different clouds run beside each other: most
// share calm; those that kill, cut and stop what they find share rough; and of
// the others, which have clouds of their own, as many at a time as own has room.
var (
	calm  = common{turn: make(chan struct{}, 1)}
	rough = common{turn: make(chan struct{}, 1)}
	own   = make(chan struct{}, 2)
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "100"); err != nil { // how many run is up to the turns
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	for _, c := range []*common{&calm, &rough} {
		if c.k == nil {
			continue
		}
		if err := c.k.end(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// take waits for a turn, which the test has until its end.
func take(t *testing.T, turn chan struct{}) {
	turn <- struct{}{}
	t.Cleanup(func() { <-turn })
}

// need skips, or fails in CI, where no cluster can run.
func need(t *testing.T) {
	t.Helper()
	live.Need(t, runtime.GOOS == "linux" && os.Geteuid() == 0, "Linux and root")
	live.Need(t, distribution() != "", "the Kubernetes distribution (make kube)")
	live.Need(t, there(filepath.Join(images, "msal-go.tar")), "the example's image (make images)")
}

var images = filepath.Join("..", "..", "bin", "images")

// distribution is the folder of what make kube built; "" where there is none.
func distribution() string {
	for _, dir := range []string{os.Getenv("LAZ_KUBE"), filepath.Join("..", "..", "bin", "kube")} {
		if dir, err := filepath.Abs(dir); err == nil && there(filepath.Join(dir, "bin", "kubernetes")) {
			return dir
		}
	}
	return ""
}

func there(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// shared is the cloud that most tests have in common; the first one waits until
// its cluster stands.
func shared(t *testing.T) *kube {
	t.Helper()
	return calm.get(t)
}

// battered is the cloud of tests that kill, cut and stop.
func battered(t *testing.T) *kube {
	t.Helper()
	return rough.get(t)
}

func (c *common) get(t *testing.T) *kube {
	t.Helper()
	need(t)
	t.Parallel()
	take(t, c.turn)
	c.once.Do(func() {
		c.k, c.err = start(live.Options{})
		if c.err == nil {
			c.err = c.k.create("c1")
		}
	})
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.k
}

// alone is a cloud of the test's own, without a cluster.
func alone(t *testing.T) *kube {
	t.Helper()
	t.Parallel()
	take(t, own)
	return begin(t, live.Options{})
}

// begin is a cloud of the test's own. Whoever calls it has a turn of own, or
// runs when no other test does.
func begin(t *testing.T, o live.Options) *kube {
	t.Helper()
	need(t)
	k, err := start(o)
	if k != nil {
		t.Cleanup(func() {
			if err := k.end(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// start brings up a laz with the toybox image loaded and a resource group.
func start(o live.Options) (*kube, error) {
	o.Background = true
	o.Up = append(o.Up, "--clusters", "embedded")
	o.Env = append(o.Env, "LAZ_KUBE="+distribution())
	c, err := live.Start(o)
	k := &kube{c}
	if err != nil {
		return k, err
	}
	toybox := filepath.Join(c.Dir, "toybox")
	build := exec.Command("go", "build", "-trimpath", "-o", toybox, "./toybox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return k, fmt.Errorf("building toybox: %w\n%s", err, out)
	}
	for _, args := range [][]string{
		{"image", "build", "-t", Toybox, "-o", toybox + ".tar", toybox},
		{"image", "load", toybox + ".tar"},
		{"image", "load", filepath.Join(images, "msal-go.tar")},
		{"group", "create", "--name", group, "--location", "eastus"},
	} {
		if _, err := c.Laz(args...); err != nil {
			return k, err
		}
	}
	return k, nil
}

// end erases the cloud.
func (k *kube) end() error {
	_, err := k.Laz("down", "--purge", "--yes")
	if stop := k.Stop(); err == nil {
		err = stop
	}
	return err
}

// create makes a cluster with an issuer and workload identity, and a
// kubeconfig of it at k.config(name).
func (k *kube) create(name string, more ...string) error {
	args := append([]string{"aks", "create", "--resource-group", group, "--name", name, "--node-count", "1",
		"--enable-oidc-issuer", "--enable-workload-identity", "--no-ssh-key"}, more...)
	if _, err := k.Within(5*time.Minute, args...); err != nil {
		return err
	}
	_, err := k.Laz("aks", "get-credentials", "--resource-group", group, "--name", name, "--admin", "--file", k.config(name), "--overwrite-existing")
	return err
}

func (k *kube) config(cluster string) string { return filepath.Join(k.Dir, cluster+".kubeconfig") }

// Within runs laz with args for its standard output.
func (k *kube) Within(limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return live.Exec(k.Command(ctx, k.Bin, args...))
}

// az runs laz with args; a failure ends the test.
func (k *kube) az(t *testing.T, args ...string) string {
	t.Helper()
	out, err := k.Within(5*time.Minute, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(out, "\n")
}

// tryKubectl runs kubectl against a cluster with stdin, for its standard output.
func (k *kube) tryKubectl(cluster, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	args = append([]string{"run", "--", "kubectl", "--kubeconfig", k.config(cluster)}, args...)
	cmd := k.Command(ctx, k.Bin, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := live.Exec(cmd)
	return strings.TrimRight(out, "\n"), err
}

// kubectl is tryKubectl; a failure ends the test.
func (k *kube) kubectl(t *testing.T, cluster string, args ...string) string {
	t.Helper()
	out, err := k.tryKubectl(cluster, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply applies a manifest; a failure ends the test.
func (k *kube) apply(t *testing.T, cluster, manifest string) {
	t.Helper()
	if _, err := k.tryKubectl(cluster, manifest, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// until waits until what f gives satisfies ok; else the test ends with what it gave last.
func until(t *testing.T, limit time.Duration, what string, f func() (string, error), ok func(string) bool) string {
	t.Helper()
	var out string
	var err error
	if !live.Until(limit, func() bool { out, err = f(); return err == nil && ok(out) }) {
		t.Fatalf("not within %v: %s; last: %q, %v", limit, what, out, err)
	}
	return out
}

// running waits until a pod runs.
func (k *kube) running(t *testing.T, cluster, namespace, pod string) {
	t.Helper()
	until(t, 90*time.Second, "pod "+pod+" runs", func() (string, error) {
		return k.tryKubectl(cluster, "", "-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.phase} {.status.containerStatuses[*].ready}")
	}, func(s string) bool { return strings.HasPrefix(s, "Running") && !strings.Contains(s, "false") })
}
