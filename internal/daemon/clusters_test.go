package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/server"
)

// two are a cluster in trouble and one without Kubernetes.
func two() *server.Status {
	process := func(name, on, state string) server.ProcessState {
		return server.ProcessState{Name: name, Node: on, State: state, PID: 7}
	}
	one := "aks-nodepool1-38291820-vmss000000"
	c := server.ClusterState{
		Name: "myAKSCluster", Group: "myResourceGroupWithALongName", Driver: "embedded", Version: "1.37.2", State: "running",
		Server: "https://198.18.0.2:6443", LoadBalancers: netip.MustParsePrefix("198.18.0.128/25"),
		Nodes: []server.NodeState{
			{Name: one, Address: netip.MustParseAddr("198.18.0.16"), Ready: true},
			{Name: "aks-nodepool1-38291820-vmss000001", Address: netip.MustParseAddr("198.18.0.17"), Message: "container runtime network not ready:\nNetworkReady=false \x1b[31mreason:NetworkPluginNotReady"},
		},
		Processes: []server.ProcessState{
			process("etcd", "", node.StateRunning), process("kube-apiserver", "", node.StateRunning), process("kube-controller-manager", "", node.StateRunning),
			process("kube-scheduler", "", node.StateRunning), process("lazurite-controller", "", node.StateStarting),
			process("containerd", one, node.StateRunning), process("kubelet", one, node.StateWaiting), process("kube-proxy", one, node.StateRunning), process("lazurite-node", one, node.StateRunning),
		},
	}
	c.Processes[6].Restarts, c.Processes[6].Err = 3, "exit status 1: failed to run Kubelet: validate service connection: context deadline exceeded"
	return &server.Status{Clusters: []server.ClusterState{c, {Name: "tokens", Group: "rg", Driver: "issuer", Version: "1.37", State: "running"}}}
}

func TestClusters_FitATerminal(t *testing.T) {
	for _, s := range []style{{}, {on: true}} {
		var b strings.Builder
		clusters(&b, s, two())
		got := b.String()
		if !s.on {
			t.Log("\n" + got)
		}
		for l := range strings.Lines(got) {
			if n := width(strings.TrimRight(l, "\n")); n > pageWidth || !utf8.ValidString(l) {
				t.Errorf("%d columns: %s", n, l)
			}
			if !s.on && strings.ContainsRune(l, '\x1b') {
				t.Errorf("an escape: %q", l)
			}
		}
	}
}

func TestTroubles(t *testing.T) {
	c := two().Clusters[0]
	got := troubles(c)
	if len(got) != 2 || !strings.Contains(got[0], "vmss000001 is not ready: container runtime network not ready") ||
		!strings.Contains(got[1], "kubelet on aks-nodepool1-38291820-vmss000000 ended, and waits for its next start (3 so far): exit status 1") {
		t.Errorf("got %q", got)
	}
	c.State = "stopped"
	if got := troubles(c); len(got) != 0 {
		t.Errorf("stopped: got %q", got)
	}
	c.Err = "no room\non the disk"
	if got := troubles(c); len(got) != 1 || got[0] != "it could not be made as asked: no room on the disk" {
		t.Errorf("failed: got %q", got)
	}
	if got := troubles(two().Clusters[1]); len(got) != 0 {
		t.Errorf("without Kubernetes: got %q", got)
	}
}
