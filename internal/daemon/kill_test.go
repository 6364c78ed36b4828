package daemon_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// acknowledged is what the program said is written.
type acknowledged struct {
	mu   sync.Mutex // guards list
	list map[string][]string
}

func (a *acknowledged) add(kind, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list[kind] = append(a.list[kind], name)
}

func (a *acknowledged) least() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return min(len(a.list["identity"]), len(a.list["credential"]), len(a.list["role"]), len(a.list["secret"]), len(a.list["gone"]))
}

// TestUp_KilledDuringWritesLosesNothing kills the whole system in the middle of
// writes of every kind, and asks it afterwards for all that it had acknowledged.
func TestUp_KilledDuringWritesLosesNothing(t *testing.T) {
	l := newLaz(t)
	pid := l.up()
	l.ok("group", "create", "-n", "g", "-l", "eastus")
	l.ok("group", "create", "-n", "goes", "-l", "eastus")
	l.ok("identity", "create", "-g", "goes", "-n", "inside")
	l.ok("keyvault", "create", "-g", "g", "-n", "killed1")
	vault := strings.TrimSpace(l.ok("keyvault", "show", "-n", "killed1", "--query", "id", "-o", "tsv"))
	me := strings.TrimSpace(l.ok("account", "show", "--query", "user.name", "-o", "tsv"))
	l.ok("role", "assignment", "create", "--assignee", me, "--role", "Key Vault Secrets Officer", "--scope", vault)

	acks := &acknowledged{list: map[string][]string{}}
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := 0; l.write(acks, vault, fmt.Sprintf("w%d-%d", w, i)); i++ {
			}
		})
	}
	eventually(t, "some of each written", func() bool { return acks.least() >= 4 })
	l.ok("group", "delete", "-n", "goes", "--yes", "--no-wait") // acknowledged, and perhaps not done
	l.kill(pid)
	writers.Wait()
	l.ok("up", "-d", "--offline")
	l.check(acks, vault)
	l.ok("group", "wait", "-n", "goes", "--deleted", "--interval", "1", "--timeout", "20")
}

// write writes one of each kind, and reports whether all were acknowledged.
func (l *laz) write(acks *acknowledged, vault, name string) bool {
	for _, c := range []struct {
		kind string
		args []string
	}{
		{"identity", []string{"identity", "create", "-g", "g", "-n", name}},
		{"credential", []string{"identity", "federated-credential", "create", "-g", "g", "--identity-name", name, "-n", "fic", "--issuer", "https://i.example/", "--subject", name}},
		{"secret", []string{"keyvault", "secret", "set", "--vault-name", "killed1", "-n", name, "--value", "value of " + name}},
		{"role", []string{"role", "assignment", "create", "--assignee-object-id", "ID", "--assignee-principal-type", "ServicePrincipal", "--role", "Key Vault Secrets User", "--scope", vault}},
		{"made", []string{"identity", "create", "-g", "g", "-n", name + "-gone"}},
		{"gone", []string{"identity", "delete", "-g", "g", "-n", name + "-gone"}},
	} {
		if i := slices.Index(c.args, "ID"); i >= 0 {
			r := l.run("identity", "show", "-g", "g", "-n", name, "--query", "principalId", "-o", "tsv")
			if r.status != 0 {
				return false
			}
			c.args[i] = strings.TrimSpace(r.out)
			name := c.args[i]
			if l.run(c.args...).status != 0 {
				return false
			}
			acks.add(c.kind, name)
			continue
		}
		if l.run(c.args...).status != 0 {
			return false
		}
		acks.add(c.kind, name)
	}
	return true
}

// check asks for all that was acknowledged.
func (l *laz) check(acks *acknowledged, vault string) {
	l.t.Helper()
	lines := func(args ...string) []string { return strings.Split(l.ok(append(args, "-o", "tsv")...), "\n") }
	identities := lines("identity", "list", "-g", "g", "--query", "[].name")
	roles := lines("role", "assignment", "list", "--scope", vault, "--query", "[].principalId")
	for kind, names := range acks.list {
		l.t.Logf("%s: %d acknowledged", kind, len(names))
		for _, n := range names {
			var there bool
			switch kind {
			case "identity":
				there = slices.Contains(identities, n)
			case "gone":
				there = !slices.Contains(identities, n+"-gone")
			case "role":
				there = slices.Contains(roles, n)
			case "credential":
				there = l.run("identity", "federated-credential", "show", "-g", "g", "--identity-name", n, "-n", "fic").status == 0
			case "secret":
				there = strings.Contains(l.run("keyvault", "secret", "show", "--vault-name", "killed1", "-n", n, "--query", "value").out, `"value of `+n+`"`)
			default:
				there = true
			}
			if !there {
				l.t.Errorf("%s %s was acknowledged and is lost", kind, n)
			}
		}
	}
}
