package kube // the flags and files are what this package keeps to itself

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"lazurite.dev/internal/node"
)

var update = flag.Bool("update", false, "write the golden files anew")

func testSpec() (node.Cluster, node.Node, NodePlace) {
	n := node.Node{Name: "aks-pool-12345678-vmss000000", Pool: "pool", CPUMillis: 2000, MemoryMiB: 7168, MaxPods: 110}
	return node.Cluster{
			Name: "C1", Issuer: "https://issuer.test/tenant/c1/", JWKSURI: "https://issuer.test/tenant/c1/openid/v1/jwks",
			PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.0.0.0/16", DNSServiceIP: "10.0.0.10",
		}, n, NodePlace{
			Address: netip.MustParseAddr("198.18.3.16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/24"), Cgroup: "/lazurite-0123abcd/c3-" + n.Name,
			HostCPUs: 8, HostMiB: 32000, Policies: true, Snapshots: overlay,
		}
}

// TestFlags holds what components are told against the golden files: a change
// is to be seen by who reviews it.
func TestFlags(t *testing.T) {
	s, n, p := testSpec()
	c := &Credentials{Server: "https://198.18.3.2:6443"}
	var got bytes.Buffer
	for _, component := range []struct {
		name  string
		flags []string
	}{
		{etcd, etcdFlags()}, {apiServer, c.apiServerFlags(s)}, {manager, c.managerFlags(s)}, {scheduler, schedulerFlags()},
		{controller, controllerFlags("198.18.3.128/25")},
		{"containerd", containerdFlags()}, {"kubelet", kubeletFlags(n, p)}, {"kube-proxy", proxyFlags()}, {"lazurite-node", nodeAgentFlags(n)},
	} {
		got.WriteString(component.name + "\n  " + strings.Join(component.flags, "\n  ") + "\n")
	}
	p.Provider = true
	for _, f := range kubeletFlags(n, p)[len(kubeletFlags(n, NodePlace{})):] {
		got.WriteString("kubelet with a provider\n  " + f + "\n")
	}
	golden(t, "flags.txt", got.Bytes())
}

// TestProviderFiles: they have no secret, which the environment has alone.
func TestProviderFiles(t *testing.T) {
	s, n, _ := testSpec()
	if got := providerFiles(s, n, "https://198.18.3.2:6443"); len(got) > 0 || cloudCA(s) != "" {
		t.Errorf("without an identity: %v", got)
	}
	s.ResourceID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/C1"
	s.Mirrors = map[string]string{"*": "https://a.test", "ghcr.io": "https://b.test"}
	s.Pull = &node.Pull{Registries: []string{"*.azurecr.io"}, TokenURL: "https://login.test/msi/token", CA: []byte("PEM\n"), Secret: "hidden"}
	for name, content := range providerFiles(s, n, "https://198.18.3.2:6443") {
		golden(t, name, content)
		if bytes.Contains(content, []byte("hidden")) {
			t.Errorf("%s has the secret", name)
		}
	}
	if diff := cmp.Diff([]string{"LAZURITE_KUBELET_SECRET=hidden"}, pullEnv(s)); diff != "" {
		t.Error(diff)
	}
}

func TestNodeFiles(t *testing.T) {
	s, n, p := testSpec()
	for name, content := range nodeFiles(s, n, p) {
		golden(t, name, content)
	}
	golden(t, "authentication.json", authentication())
	var roleText bytes.Buffer
	e := json.NewEncoder(&roleText)
	e.SetIndent("", " ")
	if err := e.Encode(roles()); err != nil {
		t.Fatal(err)
	}
	golden(t, "roles.json", roleText.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got, -update writes it anew):\n%s", name, diff)
	}
	if strings.HasSuffix(name, ".json") {
		var v any
		if err := yaml.Unmarshal(got, &v); err != nil { // which is how components read it
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNodeSize: a node is as large as it was asked for, on any machine that is
// larger.
func TestNodeSize(t *testing.T) {
	s, n, p := testSpec()
	for _, tt := range []struct {
		hostCPUs, hostMiB, cpuMillis, memoryMiB int
		want                                    obj
	}{
		{8, 32000, 2000, 7168, obj{"cpu": "6000m", "memory": "24732Mi"}},
		{8, 32000, 1500, 31900, obj{"cpu": "6500m"}},
		{2, 4096, 2000, 4096, obj{}},
		{2, 4096, 4000, 16384, obj{}},
	} {
		p.HostCPUs, p.HostMiB, n.CPUMillis, n.MemoryMiB = tt.hostCPUs, tt.hostMiB, tt.cpuMillis, tt.memoryMiB
		if diff := cmp.Diff(tt.want, kubeletConfig(s, n, p)["systemReserved"]); diff != "" {
			t.Errorf("%+v: %s", tt, diff)
		}
	}
}

func TestMergeTaints(t *testing.T) {
	no := func(key string) taint { return taint{Key: key, Effect: "NoSchedule"} }
	theirs := taint{Key: "node.kubernetes.io/not-ready", Effect: "NoExecute", TimeAdded: "2026-01-01T00:00:00Z"}
	for name, tt := range map[string]struct {
		now  []taint
		note string
		want []taint
		next []taint
	}{
		"first":            {nil, "", []taint{no("a")}, []taint{no("a")}},
		"others stay":      {[]taint{theirs}, "", []taint{no("a")}, []taint{theirs, no("a")}},
		"ours go":          {[]taint{no("a"), theirs}, "a:NoSchedule", nil, []taint{theirs}},
		"a user's stay":    {[]taint{no("b")}, "a=x:NoSchedule", nil, []taint{no("b")}},
		"a value changes":  {[]taint{no("a")}, "a:NoSchedule", []taint{{Key: "a", Value: "v", Effect: "NoSchedule"}}, []taint{{Key: "a", Value: "v", Effect: "NoSchedule"}}},
		"by effect":        {[]taint{no("a")}, "", []taint{{Key: "a", Effect: "NoExecute"}}, []taint{no("a"), {Key: "a", Effect: "NoExecute"}}},
		"nothing to begin": {nil, "", nil, []taint{}},
	} {
		if diff := cmp.Diff(tt.next, mergeTaints(tt.now, tt.note, tt.want)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestFullName(t *testing.T) {
	for name, want := range map[string]string{
		"busybox": "docker.io/library/busybox:latest", "a/b:1": "docker.io/a/b:1", "lazurite.dev/toybox:v1": "lazurite.dev/toybox:v1",
		"localhost/x": "localhost/x:latest", "r:5000/x": "r:5000/x:latest", "index.docker.io/library/x:1": "docker.io/library/x:1",
	} {
		if got := fullName(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestParseImages(t *testing.T) {
	table := "REF TYPE DIGEST SIZE PLATFORMS LABELS\n" +
		"lazurite.dev/pause:3.10 application/vnd.docker.distribution.manifest.v2+json sha256:aa 700.5 KiB linux/amd64 io.cri-containerd.image=managed\n" +
		"sha256:bb application/x sha256:aa 700.5 KiB linux/amd64 -\nhalf a line\n"
	want := []node.Image{{Names: []string{"lazurite.dev/pause:3.10"}, Digest: "sha256:aa", Size: 717312}}
	if diff := cmp.Diff(want, parseImages([]byte(table))); diff != "" {
		t.Error(diff)
	}
}
