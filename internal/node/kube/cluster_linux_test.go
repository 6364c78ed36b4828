package kube_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/image"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/kube"
	"lazurite.dev/internal/node/wire"
)

// TestMain is also the helper that processes are started through.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == box.ExecCommand {
		if err := box.Exec(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// distribution is the folder of Kubernetes, or the test ends here.
func distribution(t *testing.T) string {
	t.Helper()
	need := func(ok bool, what string) {
		switch {
		case ok:
		case os.Getenv("CI") == "true":
			t.Fatal("needs " + what)
		default:
			t.Skip("needs " + what)
		}
	}
	need(os.Geteuid() == 0, "root")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dist := os.Getenv("LAZ_KUBE")
	if dist == "" {
		dist = filepath.Join(cache, "lazurite", "kube", "current")
	}
	dist, err = filepath.EvalSymlinks(dist)
	need(err == nil, "make kube")
	return dist
}

// bed is one cluster with its network, as the agent puts it together.
type bed struct {
	t       *testing.T
	cfg     kube.Config
	cluster *kube.Cluster
	spec    node.Cluster
	began   time.Time
	age     atomic.Int64 // how long ago the cluster's certificates are made, in nanoseconds
}

func newBed(t *testing.T) *bed {
	dist := distribution(t)
	home := t.TempDir()
	root, err := box.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	starter := box.NewStarter()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	supervisor := box.NewSupervisor(starter, filepath.Join(root.State, "c1", "logs"), log)
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		if err := supervisor.Stop(now, nil); err != nil {
			t.Error(err)
		}
		starter.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := root.Sweep(ctx); err != nil {
			t.Error(err)
		}
	})
	base := netip.MustParsePrefix("198.19.128.0/17")
	index, err := wire.FreeIndex(base, 7, func(int) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	layout := wire.Layout{Base: base, Index: index, Pods: netip.MustParsePrefix("10.244.0.0/16"), Services: netip.MustParsePrefix("10.0.0.0/16")}
	b := &bed{t: t}
	b.age.Store(int64(kube.LeafLife * 7 / 10))
	dir := filepath.Join(root.State, "c1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	control, _, err := root.Space(starter, "c1", box.SpaceSpec{Hostname: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	network := wire.New(root, control, layout)
	if err := network.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	slot := func(name string) int { return wire.FirstSlot + int(name[len(name)-1]-'0') }
	b.cfg = kube.Config{
		Name: "c1", Dir: dir, Run: filepath.Join(root.Run, "c1"), Dist: dist, Root: root, Log: log,
		Supervisor: supervisor,
		Address:    layout.Cluster(), LoadBalancers: layout.LoadBalancers(), UID: 1_900_000_000 + index*8,
		Now:     func() time.Time { return time.Now().Add(-time.Duration(b.age.Load())) },
		Control: func(context.Context) (*box.Space, error) { return control, nil },
		Place: func(ctx context.Context, name string, spec box.SpaceSpec) (kube.Place, error) {
			space, _, err := root.Space(starter, "c1-"+name, spec)
			if err == nil {
				err = network.AddNode(ctx, slot(name), space)
			}
			return kube.Place{Space: space, Address: layout.Node(slot(name)), PodCIDR: layout.PodCIDR(slot(name))}, err
		},
		Unplace: func(ctx context.Context, name string) error {
			if err := network.RemoveNode(ctx, slot(name)); err != nil {
				return err
			}
			if space := root.FindSpace(starter, "c1-"+name); space != nil {
				return space.Remove(ctx)
			}
			return nil
		},
	}
	if b.cluster, err = kube.New(b.cfg); err != nil {
		t.Fatal(err)
	}
	b.spec = spec(newKey(t))
	return b
}

func (b *bed) context(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bed) apply() {
	b.t.Helper()
	b.began = time.Now()
	err := b.cluster.Apply(b.context(2*time.Minute), b.spec, func(p node.Phase) {
		if p.Done {
			b.t.Logf("%6.2fs %s %s took %.2fs %s", time.Since(b.began).Seconds(), p.Name, p.Detail, p.Took.Seconds(), p.Err)
		}
	})
	if err != nil {
		b.logs()
		b.t.Fatal(err)
	}
}

func (b *bed) logs() {
	files, _ := filepath.Glob(filepath.Join(b.cfg.Dir, "logs", "*.log"))
	for _, f := range files {
		raw, _ := os.ReadFile(f)
		b.t.Logf("%s:\n%s", filepath.Base(f), raw[max(0, len(raw)-4000):])
	}
}

func (b *bed) kubeconfig() string {
	b.t.Helper()
	admin, err := b.cluster.Admin()
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.cfg.Dir, "admin.kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority-data":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
"users":[{"name":"u","user":{"client-certificate-data":%q,"client-key-data":%q}}]}`, admin.Server, base64.StdEncoding.EncodeToString(admin.CA), base64.StdEncoding.EncodeToString(admin.Cert), base64.StdEncoding.EncodeToString(admin.Key))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bed) try(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(b.cfg.Dist, "bin", "kubernetes"), append([]string{"kubectl", "--kubeconfig", b.kubeconfig()}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (b *bed) kubectl(args ...string) string {
	b.t.Helper()
	out, err := b.try(args...)
	if err != nil {
		b.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// until asks again and again until the answer has what is wanted.
func (b *bed) until(want string, args ...string) string {
	b.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		out, err := b.try(args...)
		if err == nil && strings.Contains(out, want) {
			return out
		}
		if time.Now().After(deadline) {
			more, _ := b.try("describe", "pods", "-A")
			b.logs()
			b.t.Fatalf("kubectl %s: %v, got %q, want %q\n%s", strings.Join(args, " "), err, out, want, more)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// toybox is an archive with the program of the tests on clusters.
func toybox(t *testing.T) []byte {
	t.Helper()
	var archive bytes.Buffer
	if err := image.Build(context.Background(), toyboxBinary(t), image.Config{Name: "lazurite.dev/toybox:v1"}, &archive); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func toyboxBinary(t *testing.T) string {
	t.Helper()
	if ready := os.Getenv("LAZ_TOYBOX"); ready != "" { // where there is no Go
		return ready
	}
	bin := filepath.Join(t.TempDir(), "toybox")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, ".")
	build.Dir = filepath.Join("..", "..", "..", "e2e", "kube", "toybox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building toybox: %v\n%s", err, out)
	}
	return bin
}

const pods = `
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "lazurite.dev/toybox:v1", args: [serve, "8080", hello], ports: [{containerPort: 8080}],
     readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}, resources: {limits: {memory: 64Mi, cpu: 500m}}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
`

func TestCluster(t *testing.T) {
	b := newBed(t)
	if _, err := b.cluster.LoadImage(b.context(time.Minute), bytes.NewReader(toybox(t))); err != nil {
		t.Fatal(err)
	}
	b.apply()
	t.Logf("%6.2fs applied", time.Since(b.began).Seconds())
	cmd := exec.Command(filepath.Join(b.cfg.Dist, "bin", "kubernetes"), "kubectl", "--kubeconfig", b.kubeconfig(), "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(pods)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.until("Running", "get", "pod", "server")
	t.Logf("%6.2fs pod running", time.Since(b.began).Seconds())
	b.until("1/1", "get", "pod", "server")
	t.Logf("%6.2fs pod ready", time.Since(b.began).Seconds())
	t.Log(b.kubectl("logs", "server"))
	t.Log(b.kubectl("exec", "server", "--", "/toybox", "get", "http://127.0.0.1:8080/"))
	if got := b.kubectl("get", "node", "node1", "-o", "jsonpath={.status.allocatable.cpu} {.status.allocatable.memory} {.status.allocatable.pods} {.metadata.labels.agentpool}"); !strings.HasPrefix(got, "2 419") || !strings.HasSuffix(got, "Ki 110 pool") {
		t.Errorf("got %s, want a node's own size", got)
	}
	b.ownTree()
	b.closed()
	b.renews()
	b.images()
	b.secondNode()
	b.heals()
	b.stopStart()
	b.gone()
}

// secondNode adds a node and takes it away again.
func (b *bed) secondNode() {
	b.t.Helper()
	b.spec.Nodes = append(b.spec.Nodes, node.Node{Name: "node2", Pool: "pool", CPUMillis: 64_000, MemoryMiB: 1 << 20, MaxPods: 30, Taints: []string{"a=b:NoSchedule"}})
	b.apply()
	b.t.Logf("%6.2fs second node", time.Since(b.began).Seconds())
	if got := b.kubectl("get", "node", "node2", "-o", "jsonpath={.spec.taints[*].key}"); got != "a" {
		b.t.Errorf("got taints %q, want a", got)
	}
	if got := b.kubectl("get", "node", "node2", "-o", "jsonpath={.status.allocatable.cpu} {.status.allocatable.memory}"); got != "64 1Ti" {
		b.t.Errorf("got %s, want a node that is larger than this machine", got)
	}
	b.spec.Nodes[1].Taints = []string{"c:PreferNoSchedule"}
	b.spec.Nodes[1].Labels = map[string]string{"kubernetes.azure.com/x": "y"}
	b.apply()
	if got := b.kubectl("get", "node", "node2", "-o", "jsonpath={.spec.taints[*].key} {.metadata.labels.kubernetes\\.azure\\.com/x}"); got != "c y" {
		b.t.Errorf("got %q, want the new taint and label", got)
	}
	b.spec.Nodes = b.spec.Nodes[:1]
	b.apply()
	b.t.Logf("%6.2fs second node gone", time.Since(b.began).Seconds())
	if got := b.kubectl("get", "nodes", "-o", "name"); strings.TrimSpace(got) != "node/node1" {
		b.t.Errorf("got %q, want node1 alone", got)
	}
}

// images are listed, loaded again, and taken away; what is no archive is refused.
func (b *bed) images() {
	b.t.Helper()
	ctx := b.context(time.Minute)
	has := func(name string) bool {
		b.t.Helper()
		all, err := b.cluster.Images(ctx)
		if err != nil {
			b.t.Fatal(err)
		}
		return slices.ContainsFunc(all, func(i node.Image) bool {
			return slices.Contains(i.Names, name) && i.Size > 0 && slices.Equal(i.Nodes, []string{"node1"})
		})
	}
	const extra = "docker.io/library/extra:latest"
	var archive bytes.Buffer
	if err := image.Build(ctx, toyboxBinary(b.t), image.Config{Name: "extra", Cmd: []string{"extra"}}, &archive); err != nil {
		b.t.Fatal(err)
	}
	names, err := b.cluster.LoadImage(ctx, &archive)
	if err != nil || !slices.Equal(names, []string{extra}) {
		b.t.Fatalf("got %q, %v", names, err)
	}
	if !has(extra) || !has("lazurite.dev/toybox:v1") || !has("lazurite.dev/pause:3.10") {
		b.t.Error("an image is missing")
	}
	if err := b.cluster.RemoveImage(ctx, extra); err != nil {
		b.t.Fatal(err)
	}
	if has(extra) {
		b.t.Error("a removed image is there")
	}
	if err := b.cluster.RemoveImage(ctx, extra); err != nil {
		b.t.Errorf("removing it again: %v", err)
	}
	if _, err := b.cluster.LoadImage(ctx, strings.NewReader("no archive")); !errors.Is(err, node.ErrInvalid) {
		b.t.Errorf("got %v, want a refusal", err)
	}
	kept, err := filepath.Glob(filepath.Join(b.cfg.Dir, "images", "*"))
	if err != nil || len(kept) != 2 { // the toybox, and the list
		b.t.Errorf("%q are kept, %v", kept, err)
	}
}

// heals kills each process and waits until the cluster works again.
func (b *bed) heals() {
	b.t.Helper()
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet", "kube-proxy"} {
		pid := b.pid(name)
		began := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			b.t.Fatal(err)
		}
		for b.pid(name) == pid || b.pid(name) == 0 {
			<-time.After(20 * time.Millisecond)
		}
		pod := "after-" + name
		b.until("pod/"+pod, "run", pod, "--image=lazurite.dev/toybox:v1", "--restart=Never", "--", "pause")
		b.until("Running", "get", "pod", pod)
		b.t.Logf("after %s was killed a pod runs in %.2fs", name, time.Since(began).Seconds())
	}
	if got := b.kubectl("get", "pod", "server", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "0" {
		b.t.Errorf("the pod from before was started %s times more", got)
	}
}

func (b *bed) pid(name string) int {
	for _, p := range b.cfg.Supervisor.Status() {
		if p.Name == name {
			return p.PID
		}
	}
	return 0
}

// stopStart stops the cluster and starts it again: its data is there.
func (b *bed) stopStart() {
	b.t.Helper()
	began := time.Now()
	if err := b.cluster.Stop(b.context(time.Minute), nil); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("stopped in %.2fs", time.Since(began).Seconds())
	b.apply()
	b.until("1/1", "get", "pod", "server")
	b.t.Logf("%6.2fs pod ready again", time.Since(b.began).Seconds())
}

// gone removes the cluster and looks for what is left.
func (b *bed) gone() {
	b.t.Helper()
	began := time.Now()
	if err := b.cluster.Remove(b.context(time.Minute), nil); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("removed in %.2fs", time.Since(began).Seconds())
	if _, err := os.Stat(b.cfg.Dir); !os.IsNotExist(err) {
		b.t.Errorf("its folder is still there: %v", err)
	}
	cgroups, err := b.cfg.Root.Cgroups()
	if err != nil || len(cgroups) > 0 {
		b.t.Errorf("cgroups are left: %q, %v", cgroups, err)
	}
	if spaces, err := b.cfg.Root.Spaces(); err != nil || !slices.Equal(spaces, []string{"c1"}) { // the cluster's own is the test's
		b.t.Errorf("spaces are left: %q, %v", spaces, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		if line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")); err == nil && strings.Contains(string(line), b.cfg.Address.String()) {
			b.t.Errorf("process %s is left: %q", e.Name(), line)
		}
	}
}

// ownTree looks at what a pod sees of its node's files.
func (b *bed) ownTree() {
	b.t.Helper()
	secret := filepath.Join(b.cfg.Dir, "pki", "kubernetes-ca.pem")
	real, err := filepath.EvalSymlinks(secret)
	if err != nil {
		b.t.Fatal(err)
	}
	overrides := `{"spec":{"containers":[{"name":"c","image":"lazurite.dev/toybox:v1","args":["pause"],"securityContext":{"runAsUser":0},"volumeMounts":[{"name":"r","mountPath":"/host"}]}],"volumes":[{"name":"r","hostPath":{"path":"/"}}]}}`
	b.kubectl("run", "looks", "--image=lazurite.dev/toybox:v1", "--restart=Never", "--overrides="+overrides)
	b.until("Running", "get", "pod", "looks")
	if got, err := b.try("exec", "looks", "--", "/toybox", "stat", "/host/usr"); err != nil {
		b.t.Errorf("a pod does not see its node's programs: %v, %s", err, got)
	}
	for _, path := range []string{real, secret, "/etc/shadow", "/root", "/home", "/var/lib/dpkg"} {
		if got, err := b.try("exec", "looks", "--", "/toybox", "stat", "/host"+path); err == nil {
			b.t.Errorf("a pod sees %s of the machine: %s", path, got)
		}
	}
}

// closed asks without credentials, and from a pod, for what is nobody's business.
func (b *bed) closed() {
	b.t.Helper()
	admin, err := b.cluster.Admin()
	if err != nil {
		b.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(admin.CA)
	stranger := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/version": 200, "/openid/v1/jwks": 200, "/.well-known/openid-configuration": 200,
		"/": 401, "/api": 401, "/apis": 401, "/metrics": 401, "/logs": 401, "/api/v1/namespaces": 401, "/openapi/v3": 401,
	} {
		res, err := stranger.Get(admin.Server + path)
		if err != nil {
			b.t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want {
			b.t.Errorf("%s without a name: %s, want %d", path, res.Status, want)
		}
		if path == "/.well-known/openid-configuration" && !strings.Contains(string(body), `"issuer":"`+b.spec.Issuer+`"`) {
			b.t.Errorf("got %s, want the issuer", body)
		}
	}
	node1 := b.kubectl("get", "node", "node1", "-o", "jsonpath={.status.addresses[0].address}")
	if conn, err := net.DialTimeout("tcp", node1+":10250", 3*time.Second); err == nil {
		_ = conn.Close()
		b.t.Error("the host reaches a kubelet")
	}
	for _, address := range []string{node1 + ":10250", "127.0.0.1:10250", node1 + ":10256", b.cfg.Address.String() + ":2379", b.cfg.Address.String() + ":10257"} {
		if out, err := b.try("exec", "server", "--", "/toybox", "dial", address); err == nil {
			b.t.Errorf("a pod reaches %s: %s", address, out)
		}
	}
	b.kubectl("create", "secret", "generic", "s", "--from-literal=key=in-plain-sight")
	err = filepath.WalkDir(filepath.Join(b.cfg.Dir, "control", "etcd", "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte("in-plain-sight")) || bytes.Contains(raw, []byte(base64.StdEncoding.EncodeToString([]byte("in-plain-sight")))) {
			b.t.Errorf("%s holds a secret in plain text", path)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// renews lets the certificates, which were made long ago, be looked at: the API
// server shows a new one and was not started anew.
func (b *bed) renews() {
	b.t.Helper()
	admin, err := b.cluster.Admin()
	if err != nil {
		b.t.Fatal(err)
	}
	shown := func() string {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(admin.CA)
		conn, err := tls.Dial("tcp", strings.TrimPrefix(admin.Server, "https://"), &tls.Config{RootCAs: roots})
		if err != nil {
			b.t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before, pid := shown(), b.pid("kube-apiserver")
	b.age.Store(0)
	if err := b.cluster.Renew(); err != nil {
		b.t.Fatal(err)
	}
	began := time.Now()
	for shown() == before {
		if time.Since(began) > 90*time.Second {
			b.t.Fatal("the API server shows its old certificate")
		}
		<-time.After(100 * time.Millisecond)
	}
	b.t.Logf("a renewed certificate is shown after %.2fs", time.Since(began).Seconds())
	b.kubectl("logs", "server") // the API server trusts the kubelet's, and the other way round
	if got := b.pid("kube-apiserver"); got != pid {
		b.t.Error("the API server was started anew")
	}
}
