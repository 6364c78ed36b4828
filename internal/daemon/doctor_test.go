package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lazurite.dev/internal/providers/explain"
	"lazurite.dev/internal/server"
)

func said(all []finding, about, result, text string) bool {
	return slices.ContainsFunc(all, func(f finding) bool { return f.About == about && f.Result == result && strings.Contains(f.Text, text) })
}

func TestDoctor_Clusters(t *testing.T) {
	bad := two().Clusters[0]
	good := bad
	good.Name, good.Joined, good.Processes, good.Nodes = "good", true, good.Processes[:4], good.Nodes[:1]
	halted := good
	halted.Name, halted.State = "halted", "stopped"
	lost := server.ClusterState{Name: "lost", Driver: "embedded", State: "running"}
	pods := []explain.Uninjected{{Namespace: "default", Name: "app", Why: "not injected into main: \x1b[31m", Fix: "kubectl rollout restart"}}
	p := &patient{health: &server.DoctorAnswer{Clusters: []server.ClusterHealth{
		{ClusterState: bad}, {ClusterState: good}, {ClusterState: halted}, {ClusterState: lost}, {ClusterState: two().Clusters[1]},
		{ClusterState: func() server.ClusterState { c := good; c.Name = "pods"; return c }(), Pods: pods, Waiting: []string{"deployment coredns waits"}, Unreachable: "timeout"},
	}}}
	p.clusters()
	for _, c := range []struct{ about, result, text string }{
		{"cluster myAKSCluster", wrong, "vmss000001 is not ready"}, {"cluster myAKSCluster", wrong, "waits for its next start"}, {"cluster myAKSCluster", wrong, "don't reach Lazurite"},
		{"cluster good", fine, "1 node ready, 4 processes run"}, {"cluster halted", fine, "stopped"}, {"cluster lost", wrong, "nothing of it runs"}, {"cluster tokens", fine, "no Kubernetes"},
		{"cluster pods", wrong, "pod default/app: not injected into main: [31m"}, {"cluster pods", wrong, "coredns waits"}, {"cluster pods", wrong, "does not answer: timeout"},
	} {
		if !said(p.findings, c.about, c.result, c.text) {
			t.Errorf("nothing says of %s: %s", c.about, c.text)
		}
	}
	for _, s := range []style{{}, {on: true}} {
		page := doctorPage(s, s.on, p.findings)
		for l := range strings.Lines(page) {
			if width(strings.TrimRight(l, "\n")) > pageWidth {
				t.Errorf("too wide: %s", l)
			}
		}
		if !strings.Contains(page, "7 things are wrong.") || !strings.Contains(plain(page), "kubectl rollout restart\n") {
			t.Errorf("got:\n%s", page)
		}
	}
}

func TestDoctor_State(t *testing.T) {
	h := server.Home(filepath.Join(t.TempDir(), "home"))
	if err := h.Make(); err != nil {
		t.Fatal(err)
	}
	look := func(want string) {
		t.Helper()
		p := &patient{h: h}
		p.secrets()
		if len(p.findings) != 1 || p.findings[0].Result != want {
			t.Errorf("got %+v, want %s", p.findings, want)
		}
	}
	look(fine)
	key := filepath.Join(h.Keys(), "root.json")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	look(fine)
	for _, path := range []string{key, string(h), h.Data()} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, fi.Mode()|0o050); err != nil {
			t.Fatal(err)
		}
		look(wrong)
		if err := os.Chmod(path, fi.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStrangers(t *testing.T) {
	const table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" + // default
		"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"lz0965944b-247\t00F712C6\t02F712C6\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" + // 198.18.247.0/24
		"tun0\t000013C6\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n" + // 198.19.0.0/16
		"rubbish\n"
	got := strangers(table, netip.MustParsePrefix("198.18.0.0/15"))
	if len(got) != 1 || got[0] != "tun0" {
		t.Errorf("got %q", got)
	}
}

func FuzzStrangers(f *testing.F) {
	f.Add("eth0\t000013C6\t0\t1\t0\t0\t0\t0000FFFF\n")
	f.Fuzz(func(_ *testing.T, table string) { strangers(table, netip.MustParsePrefix("198.18.0.0/15")) })
}
