package kube_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// matrix asks targets from a source; the answers are by target.
type matrix func(targets []string) map[string]string

// verdicts reads what toybox probe says.
func verdicts(t *testing.T, out string, err error) map[string]string {
	t.Helper()
	if err != nil {
		t.Errorf("probing: %v", err)
	}
	m := map[string]string{}
	for line := range strings.Lines(out) {
		if target, verdict, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			m[target] = verdict
		}
	}
	return m
}

// computes are the namespaces of nodes of workspaces' clusters.
func (k *kube) computes(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("/run/lazurite-" + k.instance() + "/ns/c*-compute")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// compute is what a pod of a workspace's computes is to the network: an address
// of the node's pods behind a link of its own. It asks as such a pod would.
func (k *kube) compute(t *testing.T, space string) (matrix, string) {
	t.Helper()
	index, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(space), "c"), "-compute"))
	if err != nil {
		t.Fatal(err)
	}
	front := fmt.Sprintf("198.%d.%d.2", 18+index>>8, index&255)
	name := fmt.Sprintf("lzp%d-%d", os.Getpid(), index)
	script := fmt.Sprintf(`ip netns add %[1]s
nsenter --net=%[2]s/net ip link add probe0 type veth peer name eth0 netns %[1]s
nsenter --net=%[2]s/net sh -ec 'ip addr add 10.244.0.1/32 dev probe0; ip link set probe0 up; ip route add 10.244.0.250/32 dev probe0'
ip -n %[1]s link set lo up
ip -n %[1]s addr add 10.244.0.250/32 dev eth0
ip -n %[1]s link set eth0 up
ip -n %[1]s route add 10.244.0.1 dev eth0 scope link
ip -n %[1]s route add default via 10.244.0.1 dev eth0 onlink`, name, space)
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+front+"\noptions attempts:1 timeout:2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(targets []string) map[string]string {
		t.Helper()
		args := append([]string{"--net=/run/netns/" + name, "unshare", "-m", "--propagation", "private", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, conf,
			filepath.Join(k.Dir, "toybox"), "probe"}, targets...)
		out, err := exec.Command("nsenter", args...).Output()
		return verdicts(t, string(out), err)
	}, front
}

// managed makes a workspace with a managed network that is up.
func (k *kube) managed(t *testing.T, name, mode string) (matrix, string) {
	t.Helper()
	k.az(t, "ml", "workspace", "create", "-g", group, "-n", name, "-l", "eastus", "-m", mode)
	before := k.computes(t)
	k.az(t, "ml", "workspace", "provision-network", "-g", group, "-n", name)
	for _, space := range k.computes(t) {
		if !slices.Contains(before, space) {
			return k.compute(t, space)
		}
	}
	t.Fatalf("the workspace %s has no computes", name)
	return nil, ""
}

// TestIsolation fills the table of who reaches what, and compares it.
func TestIsolation(t *testing.T) {
	need(t)
	w, here := inWorld(t, map[string]string{
		"ok.world": "203.0.113.1", "evil.world": "203.0.113.2", "inside.world": "10.66.0.1", "loop.world": "127.0.0.1", "ours.world": "198.18.0.2",
	})
	if !here {
		return
	}
	k := begin(t, live.Options{Up: []string{"--offline=false"}})
	trap := newTrap(t)
	k.az(t, "keyvault", "create", "-n", "isovault", "-g", group, "-l", "eastus")
	vault := k.az(t, "keyvault", "show", "-n", "isovault", "--query", "id", "-o", "tsv")
	for name, second := range map[string]string{"home": "77", "peer": "88", "far": "99"} {
		k.az(t, "network", "vnet", "create", "-g", group, "-n", name, "--address-prefixes", "10."+second+".0.0/16", "--subnet-name", "default", "--subnet-prefixes", "10."+second+".0.0/24")
	}
	k.az(t, "network", "private-endpoint", "create", "-g", group, "-n", "pe", "--vnet-name", "home", "--subnet", "default",
		"--private-connection-resource-id", vault, "--group-id", "vault", "--connection-name", "c")
	k.az(t, "network", "private-dns", "zone", "create", "-g", group, "-n", "privatelink.vaultcore.azure.net")
	k.az(t, "network", "private-dns", "link", "vnet", "create", "-g", group, "-z", "privatelink.vaultcore.azure.net", "-n", "l", "-v", "home", "-e", "false")
	k.az(t, "network", "private-endpoint", "dns-zone-group", "create", "-g", group, "--endpoint-name", "pe", "-n", "zg", "--private-dns-zone", "privatelink.vaultcore.azure.net", "--zone-name", "v")
	for _, p := range [][2]string{{"home", "peer"}, {"peer", "home"}} {
		k.az(t, "network", "vnet", "peering", "create", "-g", group, "--vnet-name", p[0], "-n", p[1], "--remote-vnet", p[1], "--allow-vnet-access")
	}
	subnet := k.az(t, "network", "vnet", "subnet", "show", "-g", group, "--vnet-name", "home", "-n", "default", "--query", "id", "-o", "tsv")
	if err := k.create("c1", "--vnet-subnet-id", subnet); err != nil {
		t.Fatal(err)
	}
	k.pod(t, "c1", "probe")
	front := k.address(t, "c1")
	one, oneFront := k.managed(t, "ws1", "allow_only_approved_outbound")
	two, _ := k.managed(t, "ws2", "allow_internet_outbound")
	for _, name := range []string{"ok.world", "inside.world", "loop.world", "ours.world"} {
		k.az(t, "ml", "workspace", "outbound-rule", "set", "-g", group, "-w", "ws1", "--rule", strings.ReplaceAll(name, ".", "-"), "--type", "fqdn", "--destination", name)
	}
	network := func(name string) matrix {
		return func(targets []string) map[string]string {
			out, err := k.Within(3*time.Minute, append([]string{"run", "--network", name, "--", filepath.Join(k.Dir, "toybox"), "probe"}, targets...)...)
			return verdicts(t, out, err)
		}
	}
	sources := []struct {
		name string
		ask  matrix
	}{
		{"host", func(targets []string) map[string]string {
			out, err := live.Exec(k.Command(context.Background(), filepath.Join(k.Dir, "toybox"), append([]string{"probe"}, targets...)...))
			return verdicts(t, out, err)
		}},
		{"far", network("far")}, {"peer", network("peer")}, {"home", network("home")},
		{"pod", func(targets []string) map[string]string {
			out, err := k.tryKubectl("c1", "", append([]string{"exec", "probe", "--", "/toybox", "probe"}, targets...)...)
			return verdicts(t, out, err)
		}},
		{"ws1", one}, {"ws2", two},
	}
	const (
		ok, evil, no = "203.0.113.1", "203.0.113.2", "refused"
		vaultName    = "isovault.vault.azure.net"
	)
	hostLink := netip.MustParseAddr(oneFront).Prev().String()
	table := []struct {
		what, target                         string
		host, far, peer, home, pod, ws1, ws2 string
	}{
		{"approved name", "name ok.world", ok, ok, ok, ok, ok, ok, ok},
		{"unapproved name", "name evil.world", evil, evil, evil, evil, evil, no, evil},
		{"approved name that is private", "name inside.world", "10.66.0.1", no, no, no, "10.66.0.1", no, no},
		{"approved name that is loopback", "name loop.world", no, no, no, no, no, no, no},
		{"approved name that is ours", "name ours.world", no, no, no, no, no, no, no},
		{"private address", "tls 10.66.0.1:443 ok.world", "10.66.0.1", no, no, no, "10.66.0.1", no, no},
		{"raw address with an approved name", "tls 203.0.113.2:443 ok.world", evil, evil, evil, evil, evil, ok, evil}, // the name's own address
		{"approved address with another name", "tls 203.0.113.1:443 evil.world", ok, ok, ok, ok, ok, no, ok},
		{"another port of an approved name", "dial 203.0.113.1:444", no, no, no, no, no, no, no},
		{"a tunnel through names", "lookup c2VjcmV0.tunnel.world", no, no, no, no, no, no, no},
		{"UDP 443", "udp 203.0.113.1:443", "open", no, no, no, no, no, no},
		{"IPv6", "tls [2001:db8::1]:443 ok.world", "2001:db8::1", no, no, no, no, no, no},
		{"a vault with an endpoint in home", "tls 10.77.0.4:443 " + vaultName, no, no, vaultName, vaultName, vaultName, no, no},
		{"its address in a network", "dial 10.77.0.254:443", no, no, no, no, no, no, no},
		{"API server of a workspace", "dial " + oneFront + ":6443", "open", no, no, no, no, no, no},
		{"API server of c1", "dial " + front + ":6443", "open", no, no, no, "open", no, no},
		{"the host by its link", "dial " + hostLink + ":" + trap.port, "open", no, no, no, no, no, no},
		{"the host by its address", "dial 203.0.113.254:" + trap.port, "open", no, no, no, no, no, no},
		{"the host's loopback", "dial 127.0.0.1:" + trap.port, "open", no, no, no, no, no, no},
		{"the machine's metadata", "dial 169.254.169.254:80", no, no, no, no, no, no, no},
		{"a pod of a workspace", "dial 10.244.0.250:443", no, no, no, no, "silence", no, no}, // in c1 the range is its own pods', and none of them has the address
		{"the kubelet of a workspace", "dial " + strings.TrimSuffix(oneFront, ".2") + ".16:10250", no, no, no, no, no, no, no},
	}
	var targets []string
	for _, row := range table {
		targets = append(targets, row.target)
	}
	var drawn strings.Builder
	got := map[string]map[string]string{}
	for _, s := range sources {
		w.forget()
		got[s.name] = s.ask(targets)
		if s.name == "ws1" && (w.heard("tunnel.world") || w.heard("evil.world")) {
			t.Error("the resolver of the workspace asks outside for names that are not approved")
		}
	}
	for _, row := range table {
		want := map[string]string{"host": row.host, "far": row.far, "peer": row.peer, "home": row.home, "pod": row.pod, "ws1": row.ws1, "ws2": row.ws2}
		fmt.Fprintf(&drawn, "%-36s", row.what)
		for _, s := range sources {
			v := got[s.name][row.target]
			fmt.Fprintf(&drawn, " %-26s", s.name+":"+v)
			if v != want[s.name] {
				t.Errorf("%s (%s) from %s: got %q, want %q", row.what, row.target, s.name, v, want[s.name])
			}
		}
		drawn.WriteString("\n")
	}
	t.Logf("\n%s", drawn.String())
	if n := trap.reached.Load(); n > 3 {
		t.Errorf("the host was reached %d times, by itself 3 times", n)
	}
	k.privately(t, one, two)
	k.refusalsAreExplained(t, one)
	k.rulesChange(t, one)
	k.failsClosed(t, w, one)
}

// privately: the vault of a workspace, closed to the public, is reached from its
// computes through a private endpoint, and not from those of another.
func (k *kube) privately(t *testing.T, one, two matrix) {
	t.Helper()
	id := k.az(t, "ml", "workspace", "show", "-g", group, "-n", "ws1", "--query", "key_vault", "-o", "tsv")
	name := id[strings.LastIndexByte(id, '/')+1:]
	k.az(t, "keyvault", "update", "-g", group, "-n", name, "--public-network-access", "Disabled")
	target := "status https://" + name + ".vault.azure.net/secrets?api-version=7.4"
	if got := one([]string{target})[target]; got != "401" { // a token is all that is missing
		t.Errorf("the workspace's own vault: got %q", got)
	}
	if got := two([]string{target})[target]; got != "403" {
		t.Errorf("another workspace's vault: got %q", got)
	}
}

// refusalsAreExplained: a refusal says what would approve it, and that does.
func (k *kube) refusalsAreExplained(t *testing.T, ws matrix) {
	t.Helper()
	ws([]string{"tls 203.0.113.2:443 later.world"})
	const command = "az ml workspace outbound-rule set --workspace-name ws1 --resource-group kube --rule allow-later-world --type fqdn --destination later.world"
	for what, say := range map[string]func() (string, error){
		"laz explain":      func() (string, error) { return k.Laz("explain", "last") },
		"laz network show": func() (string, error) { return k.Laz("network", "show", "ws1") },
		"the log":          func() (string, error) { return k.log(t), nil },
	} {
		until(t, 20*time.Second, what+" says the command", say, func(s string) bool { return strings.Contains(s, command) && strings.Contains(s, "later.world:443") })
	}
}

// rulesChange: a new rule counts at once, and what was approved stays so meanwhile.
func (k *kube) rulesChange(t *testing.T, ws matrix) {
	t.Helper()
	reaches := func(target, want string) {
		t.Helper()
		until(t, 10*time.Second, target+" is "+want, func() (string, error) { return ws([]string{target})[target], nil }, func(s string) bool { return s == want })
	}
	k.az(t, "ml", "workspace", "outbound-rule", "set", "-g", group, "-w", "ws1", "--rule", "evil", "--type", "fqdn", "--destination", "evil.world")
	reaches("name evil.world", "203.0.113.2")
	reaches("name ok.world", "203.0.113.1")
	k.az(t, "ml", "workspace", "outbound-rule", "remove", "-g", group, "-w", "ws1", "--rule", "evil", "--yes")
	reaches("name evil.world", "refused")
	reaches("name ok.world", "203.0.113.1")
}

// failsClosed: without the agent rules stay; without the server, and so without
// resolver and gate, nothing leaves.
func (k *kube) failsClosed(t *testing.T, w *world, ws matrix) {
	t.Helper()
	closed := []string{"tls 203.0.113.2:443 evil.world", "name evil.world", "udp 203.0.113.1:443", "tls [2001:db8::1]:443 ok.world", "dial 203.0.113.254:22"}
	stays := func(when string, targets ...string) {
		t.Helper()
		got := ws(targets)
		for _, target := range targets {
			if v := got[target]; v != "refused" && !(strings.HasPrefix(target, "name ") && v == "silence") {
				t.Errorf("%s: %s: got %q", when, target, v)
			}
		}
	}
	st := k.status(t)
	kill(t, st.NodeAgent.PID)
	stays("without the agent", closed...)
	if got := ws([]string{"name ok.world"})["name ok.world"]; got != "203.0.113.1" {
		t.Errorf("without the agent: an approved name: got %q", got)
	}
	kill(t, st.PID)
	w.forget()
	stays("without the server", append(closed, "name ok.world", "tls 203.0.113.1:443 ok.world")...)
	if w.heard("world") {
		t.Error("without the server names are asked outside")
	}
	k.up(t, "--offline=false")
	until(t, 2*time.Minute, "approved names are back", func() (string, error) { return ws([]string{"name ok.world"})["name ok.world"], nil },
		func(s string) bool { return s == "203.0.113.1" })
	stays("after a start", closed...)
}
