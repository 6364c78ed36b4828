package kube_test

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// trap is a listener on the host that nobody is to reach.
type trap struct {
	port    string
	reached atomic.Int32
}

// newTrap listens at all addresses of the host.
func newTrap(t *testing.T) *trap {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &trap{port: strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.reached.Add(1)
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp", "127.0.0.1:"+p.port)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	until(t, 5*time.Second, "the host reaches it", func() (string, error) { return fmt.Sprint(p.reached.Load()), nil }, func(s string) bool { return s == "1" })
	p.reached.Store(0)
	return p
}

// hostAddresses are all that the host has, but for loopback.
func hostAddresses(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// listening are the TCP ports that somebody listens at in the network
// namespace of a process, proc_net_tcp(5).
func listening(t *testing.T, pid int) []string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		t.Fatal(err)
	}
	raw6, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp6", pid)) // there may be no IPv6
	var ports []string
	for line := range strings.Lines(string(raw) + string(raw6)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "0A" {
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		b, err := hex.DecodeString(port)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		p := strconv.Itoa(int(b[0])<<8 | int(b[1]))
		if !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports
}

// TestPodsReachNothingElse dials from a pod whatever there is to dial: nodes,
// the control plane, another cluster, the host.
func TestPodsReachNothingElse(t *testing.T) {
	k := shared(t)
	if err := k.create("other", "--node-count", "2"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.az(t, "aks", "delete", "-g", group, "-n", "other", "--yes") })
	k.pod(t, "other", "outsider")
	k.pod(t, "c1", "outsider")
	own, foreign := k.cluster(t, "other"), k.cluster(t, "c1")
	closed := func(cluster, address string) {
		t.Helper()
		out, err := k.inside(cluster, "outsider", "dial", address)
		if err == nil {
			t.Errorf("a pod of %s reaches %s: %s", cluster, address, out)
		}
		if err != nil && strings.Contains(err.Error(), "i/o timeout") {
			t.Errorf("a pod of %s is left waiting for %s", cluster, address)
		}
	}

	// Whatever listens in the control plane's network and the nodes': of it
	// pods have the API server, names, the front door.
	open := []string{"53", "80", "443", "6443"}
	for _, port := range append(listening(t, own.pid("etcd")), "2379", "2380", "10257", "10259") {
		if !slices.Contains(open, port) {
			closed("other", net.JoinHostPort(own.Address, port))
		}
	}
	for _, port := range open {
		if out, err := k.inside("other", "outsider", "dial", net.JoinHostPort(own.Address, port)); err != nil {
			t.Errorf("a pod does not reach port %s: %s, %v", port, out, err)
		}
	}
	for _, n := range own.Nodes {
		for _, port := range append(listening(t, own.pid("kubelet")), "10250", "10255", "2379") {
			closed("other", net.JoinHostPort(n.Address, port))
		}
	}

	// Another cluster, both ways.
	for from, to := range map[string]clusterState{"other": foreign, "c1": own} {
		closed(from, net.JoinHostPort(to.Address, "6443"))
		closed(from, net.JoinHostPort(to.Address, "443"))
		closed(from, net.JoinHostPort(to.Nodes[0].Address, "10250"))
	}

	// The host, at all its addresses; each cluster has one of its own there.
	trap := newTrap(t)
	for _, address := range append(hostAddresses(t), "127.0.0.1", "0.0.0.0") {
		for _, port := range []string{trap.port, local(t, k)} {
			closed("other", net.JoinHostPort(address, port))
		}
	}
	if n := trap.reached.Load(); n != 0 {
		t.Errorf("the host was reached %d times", n)
	}

	// From the host: kubelets no, API server yes.
	for _, address := range []string{own.Nodes[0].Address + ":10250", own.Address + ":2379", own.Address + ":443", own.Address + ":53"} {
		if c, err := net.DialTimeout("tcp", address, 3*time.Second); err == nil {
			_ = c.Close()
			t.Errorf("the host reaches %s", address)
		}
	}
}

// TestThroughTheGate: a laz that is not offline lets pods out, but not back
// through it to the host, other clusters and metadata.
func TestThroughTheGate(t *testing.T) {
	k := shared(t)
	outside := k.outside(t)
	k.pod(t, "c1", "goes-out")
	k.killServer(t) // clusters go on
	if _, err := k.Laz("up", "-d", "--clusters", "embedded"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.killServer(t)
		k.up(t)
		k.healed(t, "c1")
	})
	k.healed(t, "c1")
	until(t, 30*time.Second, "a pod reaches the outside", func() (string, error) {
		return k.inside("c1", "goes-out", "get", "http://"+outside+":8080/")
	}, func(s string) bool { return strings.Contains(s, "outside") })

	trap := newTrap(t)
	for _, host := range append(hostAddresses(t), "127.0.0.1", "0.0.0.0", "169.254.169.254") {
		for _, port := range []string{trap.port, local(t, k), "80"} {
			// The gate takes a connection before it knows where it goes, so
			// only an answer tells that it got there.
			if out, err := k.inside("c1", "goes-out", "ask", "GET", "http://"+net.JoinHostPort(host, port)+"/", ""); err == nil {
				t.Errorf("%s:%s answers: %s", host, port, out)
			}
		}
	}
	if n := trap.reached.Load(); n != 0 {
		t.Errorf("the host was reached %d times", n)
	}
}

// outsideName is what the network of outside and the link to it are called.
const outsideName = "lzt-outside"

// outside is the address of a network of the test's own behind the host, where
// a web server listens at port 8080.
func (k *kube) outside(t *testing.T) string {
	t.Helper()
	const name, host, address = outsideName, "203.0.113.1", "203.0.113.2"
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { ip("netns", "delete", name) })
	ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
	t.Cleanup(func() { ip("link", "delete", name) }) // the kernel takes its time to let go of the network
	ip("address", "add", host+"/30", "dev", name)
	ip("link", "set", name, "up")
	ip("-n", name, "address", "add", address+"/30", "dev", "eth0")
	ip("-n", name, "link", "set", "eth0", "up")
	serve := exec.Command("ip", "netns", "exec", name, filepath.Join(k.Dir, "toybox"), "serve", "8080", "outside")
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
	})
	return address
}

// TestFromOutsideTheHost: machines that send packets for clusters to the host,
// which forwards them, reach nothing.
func TestFromOutsideTheHost(t *testing.T) {
	k := shared(t)
	k.outside(t)
	// As on a host that forwards, on the test's own link alone.
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+outsideName+"/forwarding", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "-n", outsideName, "route", "add", "198.18.0.0/15", "via", "203.0.113.1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := k.cluster(t, "c1")
	host := strings.TrimSuffix(c.Address, ".2") + ".1"
	for _, address := range []string{c.Address + ":6443", c.Address + ":443", c.Address + ":2379", c.Nodes[0].Address + ":10250", host + ":" + local(t, k)} {
		out, err := exec.Command("ip", "netns", "exec", outsideName, filepath.Join(k.Dir, "toybox"), "dial", address).CombinedOutput()
		if err == nil {
			t.Errorf("%s is reached: %s", address, out)
		}
	}
}

// local is the port of laz's address on loopback.
func local(t *testing.T, k *kube) string {
	t.Helper()
	_, port, err := net.SplitHostPort(k.status(t).Local)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestLazFromAPod: what a pod can ask of laz itself. Management answers, and
// gives nothing to nobody.
func TestLazFromAPod(t *testing.T) {
	k := shared(t)
	k.pod(t, "c1", "asks")
	front := k.cluster(t, "c1").Address
	s := k.status(t)
	ask := func(words ...string) string {
		t.Helper()
		out, err := k.inside("c1", "asks", append([]string{"ask"}, words...)...)
		if err != nil {
			return err.Error()
		}
		return out
	}

	// The local page, metadata, the control socket's paths, whatever name is used.
	for _, path := range []string{"/", "/metrics", "/device", "/msi/token?resource=https://vault.azure.net/", "/metadata/identity/oauth2/token?resource=https://vault.azure.net/",
		"/v1/status", "/v1/doctor", "/v1/clusters", "/common/oauth2/v2.0/authorize"} {
		for _, name := range []string{"localhost", s.Local, "169.254.169.254", "127.0.0.1", front} {
			for _, scheme := range []string{"http", "https"} {
				out := ask("GET", scheme+"://"+front+path, "", "host:"+name, "sni:localhost", "Metadata:true", "X-IDENTITY-HEADER:x")
				if strings.HasPrefix(out, "2") || strings.HasPrefix(out, "3") {
					t.Errorf("%s %s%s: %.200s", scheme, name, path, out)
				}
			}
		}
	}
	for _, path := range []string{"/v1/run-secret", "/v1/serviceaccount-token", "/v1/rotate/root-key", "/v1/images"} {
		if out := ask("POST", "http://"+front+path, "{}", "host:localhost"); strings.HasPrefix(out, "2") {
			t.Errorf("%s: %.200s", path, out)
		}
	}
	// No proxy is at the front door.
	for _, scheme := range []string{"http", "https"} {
		for _, to := range []string{"login.microsoftonline.com:443", "127.0.0.1:" + strings.TrimPrefix(s.Local, "127.0.0.1:")} {
			if out := ask("CONNECT", scheme+"://"+front+"/", "", "host:"+to, "sni:management.azure.com"); strings.HasPrefix(out, "2") {
				t.Errorf("CONNECT %s over %s: %.200s", to, scheme, out)
			}
		}
	}

	// Management without a token, and with a token of one that has no role.
	management := "https://management.azure.com"
	if out := ask("GET", management+"/subscriptions?api-version=2022-12-01", ""); !strings.HasPrefix(out, "401") {
		t.Errorf("management without a token: %.300s", out)
	}
	clientID, principal, vault := identityWorld(t, k, "c1", "noowner")
	account := func(what string) string { return k.az(t, "account", "show", "--query", what, "-o", "tsv") }
	assertion := k.kubectl(t, "c1", "create", "token", "noowner", "--audience", "api://AzureADTokenExchange")
	token := func(scope string) string {
		t.Helper()
		out := ask("POST", "https://login.microsoftonline.com/"+account("tenantId")+"/oauth2/v2.0/token",
			"grant_type=client_credentials&client_id="+clientID+"&scope="+scope+"/.default&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion="+assertion,
			"Content-Type:application/x-www-form-urlencoded")
		_, rest, ok := strings.Cut(out, `"access_token":"`)
		if !ok {
			t.Fatalf("no token: %.300s", out)
		}
		token, _, _ := strings.Cut(rest, `"`)
		return token
	}
	bearer := "Authorization:Bearer " + token(management)
	groupPath := "/subscriptions/" + account("id") + "/resourceGroups/" + group
	for _, path := range []string{
		groupPath + "?api-version=2021-04-01",
		groupPath + "/providers/Microsoft.ContainerService/managedClusters/c1?api-version=2024-05-01",
	} {
		if out := ask("GET", management+path, "", bearer); !strings.HasPrefix(out, "403") {
			t.Errorf("GET %s: %.300s", path, out)
		}
	}
	if out := ask("POST", management+groupPath+"/providers/Microsoft.ContainerService/managedClusters/c1/listClusterAdminCredential?api-version=2024-05-01", "", bearer); !strings.HasPrefix(out, "403") {
		t.Errorf("an administrator's kubeconfig: %.300s", out)
	}
	role := fmt.Sprintf(`{"properties":{"principalId":%q,"principalType":"ServicePrincipal","roleDefinitionId":"/subscriptions/%s/providers/Microsoft.Authorization/roleDefinitions/8e3af657-a8ff-443c-a75c-2fe8c4bcb635"}}`, principal, account("id"))
	if out := ask("PUT", management+groupPath+"/providers/Microsoft.Authorization/roleAssignments/11111111-2222-3333-4444-555555555555?api-version=2022-04-01", role, bearer, "Content-Type:application/json"); !strings.HasPrefix(out, "403") {
		t.Errorf("making itself an owner: %.300s", out)
	}
	if out := ask("GET", "https://"+vault+".vault.azure.net/secrets/my-secret?api-version=7.4", "", "Authorization:Bearer "+token("https://vault.azure.net")); !strings.HasPrefix(out, "403") {
		t.Errorf("a secret without a role: %.300s", out)
	}
}
