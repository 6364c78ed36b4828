package kube_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// Ports of the probers.
const (
	hostPort = 5001 + iota
	farPort
	peerPort
	homePort
	podPort
	onePort
	twoPort
)

// row is a target, and what becomes of it from each source: who answers (the
// name on a certificate), "open", "answered", "empty", "refused"; "out" is a
// question that was heard outside, "shut" refused or without an answer, "" not
// asked. {n} in a target is a label that nobody asked for before, {N} the same
// in capitals.
type row struct {
	what, target                         string
	host, far, peer, home, pod, ws1, ws2 string
}

// want is what becomes of the target from a source.
func (r row) want(source string) string {
	return map[string]string{"host": r.host, "far": r.far, "peer": r.peer, "home": r.home, "pod": r.pod, "ws1": r.ws1, "ws2": r.ws2}[source]
}

// matrix is a table that is filled.
type matrix struct {
	world   *world
	rows    []row
	sources []*prober
	round   int
}

// fill asks all targets from all sources at once, and gives what became of
// them by source and row.
func (m *matrix) fill(t *testing.T, sources ...*prober) map[string][]string {
	t.Helper()
	m.round++
	m.world.forget()
	got := map[string][]string{}
	var mu sync.Mutex // guards got
	var all sync.WaitGroup
	for _, s := range sources {
		label := func(i int) string { return fmt.Sprintf("n%d-%d-%s", m.round, i, s.name) }
		targets := make([]string, len(m.rows))
		var asked []string
		for i, r := range m.rows {
			targets[i] = strings.NewReplacer("{n}", label(i), "{N}", strings.ToUpper(label(i))).Replace(r.target)
			if r.want(s.name) != "" {
				asked = append(asked, targets[i])
			}
		}
		all.Go(func() {
			answers := s.ask(t, asked...)
			said := make([]string, len(m.rows))
			for i, r := range m.rows {
				said[i] = answers[targets[i]]
				if strings.Contains(r.target, "{n}") && m.world.heard(label(i)) || strings.Contains(r.target, "{N}") && m.world.heard(strings.ToUpper(label(i))) {
					said[i] = "out"
				}
			}
			mu.Lock()
			defer mu.Unlock()
			got[s.name] = said
		})
	}
	all.Wait()
	return got
}

// compare fills the table and compares it; mayShut takes a door that is shut and
// should be open, never the other way round.
func (m *matrix) compare(t *testing.T, when string, mayShut bool, sources ...*prober) {
	t.Helper()
	before := time.Now()
	got := m.fill(t, sources...)
	wrong := 0
	for i, r := range m.rows {
		for _, s := range sources {
			v, want := got[s.name][i], r.want(s.name)
			if v != want && !(shut(v) && (mayShut || want == "shut")) {
				t.Errorf("%s: %s (%s) from %s: got %q, want %q", when, r.what, r.target, s.name, v, want)
				wrong++
			}
		}
	}
	t.Logf("%s: %d targets from %d sources in %v, %d wrong", when, len(m.rows), len(sources), time.Since(before).Round(time.Millisecond), wrong)
	if m.round == 1 || wrong > 0 {
		t.Logf("%s:\n%s", when, m.draw(got, sources))
	}
}

func shut(verdict string) bool { return verdict == "refused" || verdict == "silence" }

func (m *matrix) draw(got map[string][]string, sources []*prober) string {
	var b strings.Builder
	line := func(first string, cell func(s *prober) string) {
		fmt.Fprintf(&b, "%-46s", first)
		for _, s := range sources {
			fmt.Fprintf(&b, " %-24s", cell(s))
		}
		b.WriteString("\n")
	}
	line("", func(s *prober) string { return s.name })
	for i, r := range m.rows {
		line(r.what, func(s *prober) string { return got[s.name][i] })
	}
	return b.String()
}

// isolated makes the networks, the workspaces, the cluster and the vault that
// the table is about. Those that mostly wait are made beside each other.
func (k *kube) isolated(t *testing.T) {
	t.Helper()
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
	var errs [3]error
	var all sync.WaitGroup
	all.Go(func() { errs[0] = k.create("c1", "--vnet-subnet-id", subnet) })
	all.Go(func() { errs[1] = k.managed("ws1", "allow_only_approved_outbound", onePort, 2) })
	all.Go(func() { errs[2] = k.managed("ws2", "allow_internet_outbound", twoPort, 1) })
	all.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ok.world", "inside.world", "loop.world", "ours.world", "*.wild.world"} {
		k.az(t, "ml", "workspace", "outbound-rule", "set", "-g", group, "-w", "ws1", "--rule", strings.NewReplacer(".", "-", "*", "all").Replace(name), "--type", "fqdn", "--destination", name)
	}
	k.apply(t, "c1", fmt.Sprintf(podProber, k.word(podPort)))
}

// TestIsolation fills the table of who reaches what, and compares it: from the
// host, networks, a pod of a user's cluster, and instances of deployments in two
// workspaces; as all runs, and after what stands between was killed.
func TestIsolation(t *testing.T) {
	need(t)
	w, here := inWorld(t, map[string]string{
		"ok.world": "203.0.113.1", "evil.world": "203.0.113.2", "www.world": "203.0.113.3", "wild.world": "203.0.113.1", "tunnel.world": "203.0.113.2",
		"inside.world": "10.66.0.1", "loop.world": "127.0.0.1", "ours.world": "198.18.0.2",
	})
	if !here {
		return
	}
	k := begin(t, live.Options{Up: []string{"--offline=false"}})
	trap := newTrap(t)
	abstract, err := net.Listen("unix", "@lazurite-test-"+k.instance()) // as of any program of the machine
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	k.isolated(t)
	host, far, peer, home := k.here(t, "", hostPort), k.here(t, "far", farPort), k.here(t, "peer", peerPort), k.here(t, "home", homePort)
	pod, one, two := k.prober(t, "pod", podPort), k.prober(t, "ws1", onePort), k.prober(t, "ws2", twoPort)
	others := slices.DeleteFunc(k.probers(t, onePort), func(pid int) bool { return pid == one.pid })
	if len(others) != 1 {
		t.Fatalf("instances of ws1 besides %d: %v, want one", one.pid, others)
	}
	second := k.proberOf("ws1", onePort, others[0])
	m := &matrix{world: w, sources: []*prober{host, far, peer, home, pod, one, two}}
	m.rows = append(names(), k.neighbours(t, trap, one, second)...)
	m.compare(t, "as all runs", false, m.sources...)
	k.privately(t, one, two)
	k.refusalsAreExplained(t, one)
	k.rulesChange(t, one)
	k.failsClosed(t, m)
	if n := trap.reached.Load(); n != 3 {
		t.Errorf("the host was reached %d times, by itself 3 times", n)
	}
}

// names are the rows of what is outside.
func names() []row {
	const (
		ok, evil, www, inside, no = "203.0.113.1", "203.0.113.2", "203.0.113.3", "10.66.0.1", "refused"
		out, shut                 = "out", "shut" // the kernel says of datagrams that they are refused, but not of all in one moment
	)
	return []row{
		{"a public name", "name www.world", www, www, www, www, www, no, www},
		{"approved name", "name ok.world", ok, ok, ok, ok, ok, ok, ok},
		{"approved name, below a wildcard", "name a.wild.world", ok, ok, ok, ok, ok, ok, ok},
		{"unapproved name", "name evil.world", evil, evil, evil, evil, evil, no, evil},
		{"approved name that is private", "name inside.world", inside, no, no, no, inside, no, no},
		{"approved name that is loopback", "name loop.world", no, no, no, no, no, no, no},
		{"approved name that is ours", "name ours.world", no, no, no, no, no, no, no},
		{"private address", "tls 10.66.0.1:443 ok.world", inside, no, no, no, inside, no, no},
		{"raw address with an approved name", "tls 203.0.113.2:443 ok.world", evil, evil, evil, evil, evil, ok, evil}, // the name's own address
		{"approved address with another name", "tls 203.0.113.1:443 evil.world", ok, ok, ok, ok, ok, no, ok},
		{"another port of an approved name", "dial 203.0.113.1:444", no, no, no, no, no, no, no},
		{"DNS: label below an unapproved name, UDP", "dns udp own A {n}.tunnel.world", out, out, out, out, out, no, out},
		{"DNS: label below an unapproved name, TCP", "dns tcp own A {n}.tunnel.world", out, out, out, out, out, no, out},
		{"DNS: long labels", "dns udp own A {n}." + strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + ".tunnel.world", out, out, out, out, out, no, out},
		{"DNS: label below an approved name, UDP", "dns udp own A {n}.ok.world", out, out, out, out, out, no, out},
		{"DNS: label below an approved name, TCP", "dns tcp own A {n}.ok.world", out, out, out, out, out, no, out},
		{"DNS: label below an approved wildcard", "dns udp own A {n}.wild.world", out, out, out, out, out, out, out}, // that is what a wildcard approves
		{"DNS: its letters' case", "dns udp own A {N}.wild.world", out, out, out, out, out, "answered", out},
		{"DNS: TXT of an unapproved name", "dns tcp own TXT {n}.tunnel.world", out, out, out, out, out, no, out},
		{"DNS: TXT of an approved name", "dns udp own TXT {n}.wild.world", out, out, out, out, out, "empty", out},
		{"DNS: NULL of an approved name", "dns tcp own NULL {n}.wild.world", out, out, out, out, out, "empty", out},
		{"DNS: another resolver, UDP", "dns udp 203.0.113.54:53 A {n}.wild.world", out, shut, shut, shut, shut, shut, shut},
		{"DNS: another resolver, TCP", "dns tcp 203.0.113.54:53 A {n}.wild.world", out, out, out, out, out, no, out},
		{"DNS: over TLS (853)", "dns tls 203.0.113.54:853 A {n}.wild.world dns.world", out, out, out, out, out, no, out},
		{"DNS: over TLS (853), an approved name", "dns tls 203.0.113.54:853 A {n}.tunnel.world ok.world", out, out, out, out, out, no, out},
		{"DNS: over HTTPS", "dns https 203.0.113.54:443 A {n}.tunnel.world dns.world", out, out, out, out, out, no, out},
		{"DNS: over HTTPS, an approved name", "dns https 203.0.113.54:443 A {n}.tunnel.world ok.world", out, out, out, out, out, no, out},
		{"UDP 443", "udp 203.0.113.1:443", "open", shut, shut, shut, shut, shut, shut},
		{"IPv6", "tls [2001:db8::1]:443 ok.world", "2001:db8::1", no, no, no, no, no, no},
	}
}

// neighbours are the rows of what is on this machine.
func (k *kube) neighbours(t *testing.T, trap *trap, one, second *prober) []row {
	t.Helper()
	const no, open, vault = "refused", "open", "isovault.vault.azure.net"
	front, oneFront := k.address(t, "c1"), one.front(t)
	hostLink := netip.MustParseAddr(oneFront).Prev().String()
	return []row{
		{"a vault by its name", "name " + vault, no, vault, vault, vault, vault, no, vault},
		{"its endpoint in home", "tls 10.77.0.4:443 " + vault, no, no, vault, vault, vault, no, no},
		{"another address of home", "dial 10.77.0.254:443", no, no, no, no, no, no, no},
		{"API server of a workspace", "dial " + oneFront + ":6443", open, no, no, no, no, no, no},
		{"API server of a workspace, as a service", "dial 10.245.0.1:443", no, no, no, no, no, no, no},
		{"API server of c1", "dial " + front + ":6443", open, no, no, no, open, no, no},
		{"the host by its link", "dial " + hostLink + ":" + trap.port, open, no, no, no, no, no, no},
		{"the host by its address", "dial 203.0.113.254:" + trap.port, open, no, no, no, no, no, no},
		{"the host's loopback", "dial 127.0.0.1:" + trap.port, open, no, no, no, no, no, no},
		{"the server's address on it", "dial 127.0.0.1:" + local(t, k), open, no, no, no, no, no, no},
		{"the machine's metadata", "dial 169.254.169.254:80", no, no, no, no, no, no, no},
		{"an instance of a workspace", fmt.Sprintf("dial %s:%d", one.address(t), onePort), no, no, no, no, "shut", open, no}, // itself; c1 has the same range
		{"another instance of it", fmt.Sprintf("dial %s:%d", second.address(t), onePort), no, no, no, no, "shut", no, no},
		{"the kubelet of a workspace", "dial " + strings.TrimSuffix(oneFront, ".2") + ".16:10250", no, no, no, no, no, no, no},
		// A program in a network is one of the host's, by whoever started it; root's here.
		{"the node agent's socket", "unix /run/lazurite-" + k.instance() + "/agent.sock", open, open, open, open, no, no, no},
		{"the server's socket", "unix " + k.Home() + "/run/laz.sock", open, open, open, open, no, no, no},
		{"an abstract socket of the host", "unix @lazurite-test-" + k.instance(), open, no, no, no, no, no, no},
		{"any socket that is seen", "sockets", "", "", "", "", "none", "none", "none"},
	}
}

// privately: the vault of a workspace, closed to the public, is reached from its
// computes through a private endpoint, and not from those of another.
func (k *kube) privately(t *testing.T, one, two *prober) {
	t.Helper()
	id := k.az(t, "ml", "workspace", "show", "-g", group, "-n", "ws1", "--query", "key_vault", "-o", "tsv")
	name := id[strings.LastIndexByte(id, '/')+1:]
	k.az(t, "keyvault", "update", "-g", group, "-n", name, "--public-network-access", "Disabled")
	target := "status https://" + name + ".vault.azure.net/secrets?api-version=7.4"
	if got := one.one(t, target); got != "401" { // a token is all that is missing
		t.Errorf("the workspace's own vault: got %q", got)
	}
	if got := two.one(t, target); got != "403" {
		t.Errorf("another workspace's vault: got %q", got)
	}
}

// refusalsAreExplained: a refusal says whose it was and what would approve it.
func (k *kube) refusalsAreExplained(t *testing.T, ws *prober) {
	t.Helper()
	ws.one(t, "tls 203.0.113.2:443 later.world")
	const command = "az ml workspace outbound-rule set --workspace-name ws1 --resource-group kube --rule allow-later-world --type fqdn --destination later.world"
	for what, say := range map[string]func() (string, error){
		"laz explain":      func() (string, error) { return k.Laz("explain", "last") },
		"laz network show": func() (string, error) { return k.Laz("network", "show", "ws1") },
		"the log":          func() (string, error) { return k.log(t), nil },
	} {
		until(t, 20*time.Second, what+" says the command", say, func(s string) bool {
			return strings.Contains(s, command) && strings.Contains(s, "later.world:443") && strings.Contains(s, "ws1-probe/probe")
		})
	}
}

// rulesChange: a new rule counts at once, and what was approved stays so meanwhile.
func (k *kube) rulesChange(t *testing.T, ws *prober) {
	t.Helper()
	reaches := func(target, want string) {
		t.Helper()
		until(t, 10*time.Second, target+" is "+want, func() (string, error) { return ws.one(t, target), nil }, func(s string) bool { return s == want })
	}
	k.az(t, "ml", "workspace", "outbound-rule", "set", "-g", group, "-w", "ws1", "--rule", "evil", "--type", "fqdn", "--destination", "evil.world")
	reaches("name evil.world", "203.0.113.2")
	reaches("name ok.world", "203.0.113.1")
	k.az(t, "ml", "workspace", "outbound-rule", "remove", "-g", group, "-w", "ws1", "--rule", "evil", "--yes")
	reaches("name evil.world", "refused")
	reaches("name ok.world", "203.0.113.1")
}

// failsClosed: without resolvers names are not known, without the agent rules
// stay, and without the server, and so without its resolvers and gates, nothing
// leaves; never does anything open. All is as before when all is back.
func (k *kube) failsClosed(t *testing.T, m *matrix) {
	t.Helper()
	m.world.mute(true)
	m.each(t, "without resolvers outside", 0, shut, m.sources, "name unheard.wild.world") // a name of its own: others are kept for a moment
	m.each(t, "without resolvers outside", 0, shut, m.sources[5:6], "tls 203.0.113.1:443 unheard-too.wild.world")
	m.world.mute(false)

	apart := m.sources[1:] // the host is as it was
	agent, keeper := k.agentPIDs(t)
	server := k.status(t).PID
	kill(t, keeper, agent)
	until(t, 30*time.Second, "the agent is gone", func() (string, error) { return k.Laz("status") }, func(s string) bool { return strings.Contains(s, "sudo laz up") })
	m.compare(t, "without the agent", true, apart...)
	m.each(t, "without the agent", 0, isOK, apart, "name ok.world")
	kill(t, server)
	m.compare(t, "without the server", true, apart...)
	m.each(t, "without the server", 0, shut, apart, "name ok.world", "tls 203.0.113.1:443 ok.world", "dns tcp own A late.ok.world")
	if m.world.heard("") {
		t.Error("without the server names are asked outside")
	}
	k.up(t, "--offline=false")
	k.healed(t, "c1")
	m.each(t, "after a start", 2*time.Minute, isOK, apart, "name ok.world")
	m.compare(t, "after a start", false, apart...)
}

// isOK says that ok.world has answered.
func isOK(verdict string) bool { return verdict == "203.0.113.1" }

// each waits until targets have from all sources an answer that is right.
func (m *matrix) each(t *testing.T, when string, limit time.Duration, right func(string) bool, sources []*prober, targets ...string) {
	t.Helper()
	var all sync.WaitGroup
	for _, s := range sources {
		all.Go(func() {
			var wrong []string
			live.Until(limit, func() bool {
				wrong = nil
				for target, verdict := range s.ask(t, targets...) {
					if !right(verdict) {
						wrong = append(wrong, target+" is "+verdict)
					}
				}
				return len(wrong) == 0
			})
			if len(wrong) > 0 {
				t.Errorf("%s, from %s: %s", when, s.name, strings.Join(wrong, ", "))
			}
		})
	}
	all.Wait()
}
