package daemon_test

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/server"
)

// town is two networks, each with a private endpoint to one vault, and a third
// one apart. The host listens on its loopback.
type town struct {
	*laz
	host string // address of what listens on the host
}

func newTown(t *testing.T) *town {
	t.Helper()
	needRoot(t)
	w := &town{laz: newLaz(t)}
	w.up()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	w.host = ln.Addr().String()
	w.ok("group", "create", "-n", "rg", "-l", "westus2")
	w.ok("keyvault", "create", "-n", "townvault", "-g", "rg", "--public-network-access", "Disabled")
	vault := strings.TrimSpace(w.ok("keyvault", "show", "-n", "townvault", "--query", "id", "-o", "tsv"))
	for name, second := range map[string]string{"home": "77", "peer": "88", "far": "99"} {
		w.ok("network", "vnet", "create", "-g", "rg", "-n", name, "--address-prefixes", "10."+second+".0.0/16", "--subnet-name", "default", "--subnet-prefixes", "10."+second+".0.0/24")
	}
	w.ok("network", "private-endpoint", "create", "-g", "rg", "-n", "pe", "--vnet-name", "home", "--subnet", "default",
		"--private-connection-resource-id", vault, "--group-id", "vault", "--connection-name", "c")
	w.ok("network", "private-dns", "zone", "create", "-g", "rg", "-n", "privatelink.vaultcore.azure.net")
	w.ok("network", "private-dns", "link", "vnet", "create", "-g", "rg", "-z", "privatelink.vaultcore.azure.net", "-n", "l", "-v", "home", "-e", "false")
	w.ok("network", "private-endpoint", "dns-zone-group", "create", "-g", "rg", "--endpoint-name", "pe", "-n", "zg",
		"--private-dns-zone", "privatelink.vaultcore.azure.net", "--zone-name", "v")
	w.ok("network", "vnet", "peering", "create", "-g", "rg", "--vnet-name", "home", "-n", "p", "--remote-vnet", "peer", "--allow-vnet-access")
	w.ok("network", "vnet", "peering", "create", "-g", "rg", "--vnet-name", "peer", "-n", "h", "--remote-vnet", "home", "--allow-vnet-access")
	return w
}

// probe says what a connection from a network comes to: "open", "refused" or
// an HTTP status. It has no more than three seconds.
func (w *town) probe(network, what string) string {
	w.t.Helper()
	args := []string{"curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", what}
	if network != "" {
		args = append([]string{"run", "--network", network, "--"}, args...)
		return verdict(w.run(args...))
	}
	// From the host nothing is asked of the proxy: it would be another way in.
	return verdict(w.run(append([]string{"run", "--", "env", "-u", "HTTPS_PROXY", "-u", "https_proxy"}, args...)...))
}

func verdict(r result) string {
	switch {
	case r.status == 0:
		return strings.TrimSpace(r.out)
	case r.status == 28: // of curl: it took too long
		return "silence"
	}
	return "refused"
}

const secrets = "https://townvault.vault.azure.net/secrets?api-version=7.4"

func (w *town) matrix() {
	w.t.Helper()
	endpoint := "https://10.77.0.4/secrets?api-version=7.4"
	for _, row := range []struct{ from, to, want string }{
		{"home", secrets, "401"},     // through the endpoint: a token is all that is missing
		{"peer", secrets, "403"},     // no zone is linked: the public side, which is closed
		{"far", secrets, "403"},      //
		{"far", endpoint, "refused"}, // another network
		{"", endpoint, "refused"},    // the host has no way in
		{"home", "http://10.77.0.4/", "404"},
		{"home", "https://management.azure.com/", "401"}, // management is on the public side
		{"home", "http://" + w.host, "refused"},          // the host's loopback
		{"home", "http://10.99.0.254/", "refused"},       // another network
		{"home", "http://198.18.0.2/", "refused"},        // where clusters are
		{"home", "http://169.254.169.254/", "refused"},   // metadata
		{"home", "https://nobody.example/", "refused"},   // --offline
	} {
		if got := w.probe(row.from, row.to); got != row.want {
			w.t.Errorf("from %q to %s: got %s, want %s", row.from, row.to, got, row.want)
		}
	}
	// By its name and address the endpoint is reached from a network that is joined.
	for from, want := range map[string]string{"peer": "401", "far": "refused"} {
		got := verdict(w.run("run", "--network", from, "--", "curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", "townvault.vault.azure.net:443:10.77.0.4", secrets))
		if got != want {
			w.t.Errorf("from %s to the endpoint by its address: got %s, want %s", from, got, want)
		}
	}
}

func (w *town) connection() string {
	w.t.Helper()
	return strings.TrimSpace(w.ok("keyvault", "show", "-n", "townvault", "--query", "properties.privateEndpointConnections[0].id", "-o", "tsv"))
}

func TestNetwork_WhoReachesWhat(t *testing.T) {
	w := newTown(t)
	w.matrix()
	id := w.connection()
	for _, r := range []struct{ verb, want string }{{"reject", "403"}, {"approve", "401"}} {
		w.ok("network", "private-endpoint-connection", r.verb, "--id", id)
		if got := w.probe("home", secrets); got != r.want {
			t.Errorf("after %s: got %s", r.verb, got)
		}
	}
	if out := w.ok("run", "--network", "home/default", "--", "getent", "hosts", "townvault.vault.azure.net"); !strings.HasPrefix(out, "10.77.0.4") {
		t.Errorf("got %s", out)
	}
	w.run("run", "--network", "home", "--", "sh", "-c", "exit 7").want(t, 7)
	w.run("run", "--network", "nowhere", "--", "true").want(t, 1, "nowhere")
	w.run("run", "--network", "home/none", "--", "true").want(t, 1, "home/none")
	var st server.NetworkState
	if err := json.Unmarshal([]byte(w.ok("network", "show", "home", "-o", "json")), &st); err != nil || !st.Real || len(st.Endpoints) != 1 || st.Endpoints[0].Total == 0 || len(st.Programs) != 0 {
		t.Errorf("got %+v %v", st, err)
	}
	for _, text := range []string{"10.77.0.4", "pe ──▶ townvault", "Approved", "◀▶ peer", "zone privatelink.vaultcore.azure.net"} {
		if out := w.ok("network", "show", "rg/home"); !strings.Contains(out, text) {
			t.Errorf("the drawing lacks %q:\n%s", text, out)
		}
	}
}

func TestNetwork_OutlivesWhatMadeIt(t *testing.T) {
	w := newTown(t)
	server := func() {
		if err := syscall.Kill(w.pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for w.run("status").status == 0 { // until the kernel has taken it apart
		}
		w.up()
	}
	for _, x := range []struct {
		what string
		end  func()
	}{
		{"the server", server},
		{"the agent", func() { _ = syscall.Kill(w.agent(), syscall.SIGKILL) }},
		{"all", func() { w.ok("down"); w.up() }},
	} {
		what := x.what
		x.end()
		deadline := time.Now().Add(30 * time.Second)
		for w.probe("home", secrets) != "401" {
			if time.Now().After(deadline) {
				t.Fatalf("after %s ended the endpoint did not come back", what)
			}
		}
		w.matrix()
	}
	w.ok("down", "--purge", "--yes")
	w.clean()
	if left, err := filepath.Glob(fmt.Sprintf("/run/lazurite-%s*", w.instance())); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}
