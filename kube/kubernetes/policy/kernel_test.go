package policy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lazurite.dev/kube/kubernetes/policy"
)

// space is a network namespace of a test, held by a file and gone with it.
type space struct{ file *os.File }

func newSpace(t *testing.T) *space {
	t.Helper()
	var s space
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		s.file = f
		return err
	})
	t.Cleanup(func() { s.file.Close() })
	s.do(t, func() error { return up("lo") })
	return &s
}

// do runs f on a thread inside the namespace; programs that it starts and
// sockets that it opens are there too.
func (s *space) do(t *testing.T, f func() error) {
	t.Helper()
	onThread(t, func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on an OS thread that ends with it.
func onThread(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread's namespace is no other goroutine's
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// node is a namespace that forwards between pods, each behind a link of its
// own with a routed address, as the plugin ptp makes them.
type node struct {
	*space
	kernel policy.Kernel
	world  policy.World
}

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root: makes network namespaces")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs the program nft (Debian: nftables)")
	}
	n := &node{space: newSpace(t), world: policy.World{Namespaces: map[string]map[string]string{"shop": {"name": "shop"}, "tools": {"team": "ops"}}}}
	n.do(t, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	})
	return n
}

func address(link, cidr string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, addr)
}

func route(link, dst, via string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	_, to, err := net.ParseCIDR(dst)
	if err != nil {
		return err
	}
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK}
	if via != "" {
		r.Gw, r.Scope = net.ParseIP(via), netlink.SCOPE_UNIVERSE
	}
	return netlink.RouteAdd(r)
}

// pod adds a pod with a label "app" and the last part of its address.
func (n *node) pod(t *testing.T, namespace, app string, last int) *space {
	t.Helper()
	s := newSpace(t)
	link := fmt.Sprintf("veth%d", last)
	ip := fmt.Sprintf("10.244.0.%d", last)
	n.do(t, func() error {
		return errors.Join(
			netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: link}, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.file.Fd())}),
			up(link), address(link, "169.254.1.1/32"), route(link, ip+"/32", ""))
	})
	s.do(t, func() error {
		return errors.Join(up("eth0"), address("eth0", ip+"/32"), route("eth0", "169.254.1.1/32", ""), route("eth0", "0.0.0.0/0", "169.254.1.1"))
	})
	n.world.Pods = append(n.world.Pods, policy.Pod{
		UID: "u-" + app, Namespace: namespace, Name: app, Labels: map[string]string{"app": app}, Address: netip.MustParseAddr(ip), Here: true,
		Ports: []policy.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Number: 8080}},
	})
	return s
}

// set makes the policies stand.
func (n *node) set(t *testing.T, policies ...*networkingv1.NetworkPolicy) {
	t.Helper()
	n.world.Policies = policies
	n.do(t, func() error { return n.kernel.Set(context.Background(), policy.Compile(&n.world)) })
}

// serve echoes on a TCP and a UDP port of the namespace.
func (s *space) serve(t *testing.T, port int) {
	t.Helper()
	s.do(t, func() error {
		l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); io.Copy(c, c) }()
			}
		}()
		p, err := net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { p.Close() })
		go func() {
			buf := make([]byte, 100)
			for {
				k, from, err := p.ReadFrom(buf)
				if err != nil {
					return
				}
				p.WriteTo(buf[:k], from)
			}
		}()
		return nil
	})
}

// dial opens a connection from the namespace.
func (s *space) dial(t *testing.T, network, to string) (conn net.Conn, err error) {
	t.Helper()
	s.do(t, func() error {
		conn, err = net.DialTimeout(network, to, 3*time.Second)
		return nil
	})
	if conn != nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// try says how an exchange goes: "ok", "refused" (at once), or the error.
func (s *space) try(t *testing.T, network, to string) string {
	t.Helper()
	start := time.Now()
	conn, err := s.dial(t, network, to)
	if err == nil {
		err = exchange(conn)
	}
	switch {
	case err == nil:
		return "ok"
	case (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH)) && time.Since(start) < time.Second:
		return "refused"
	}
	return err.Error()
}

func exchange(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 5))
	return err
}

func (s *space) want(t *testing.T, network, to, want string) {
	t.Helper()
	if got := s.try(t, network, to); got != want {
		t.Errorf("%s to %s: got %s, want %s", network, to, got, want)
	}
}

func netpol(namespace, name string, spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
}

func app(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func port(p intstr.IntOrString, protocol corev1.Protocol) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Port: &p, Protocol: &protocol}
}

func TestKernel_BothDirections(t *testing.T) {
	n := newNode(t)
	web, client, other := n.pod(t, "shop", "web", 2), n.pod(t, "shop", "client", 3), n.pod(t, "tools", "other", 4)
	web.serve(t, 8080)
	web.serve(t, 9090)
	client.serve(t, 8080)
	n.set(t)
	for _, network := range []string{"tcp4", "udp4"} {
		client.want(t, network, "10.244.0.2:8080", "ok")
		other.want(t, network, "10.244.0.2:8080", "ok")
		web.want(t, network, "10.244.0.3:8080", "ok")
	}
	in := netpol("shop", "web-from-client", networkingv1.NetworkPolicySpec{
		PodSelector: *app("web"), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From:  []networkingv1.NetworkPolicyPeer{{PodSelector: app("client")}},
			Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromString("http"), corev1.ProtocolTCP), port(intstr.FromInt32(9090), corev1.ProtocolUDP)},
		}}})
	n.set(t, in)
	client.want(t, "tcp4", "10.244.0.2:8080", "ok")
	client.want(t, "udp4", "10.244.0.2:8080", "refused")
	client.want(t, "udp4", "10.244.0.2:9090", "ok")
	client.want(t, "tcp4", "10.244.0.2:9090", "refused")
	other.want(t, "tcp4", "10.244.0.2:8080", "refused")
	other.want(t, "udp4", "10.244.0.2:9090", "refused")
	web.want(t, "tcp4", "10.244.0.3:8080", "ok") // ingress says nothing about what it opens
	web.want(t, "tcp4", "10.244.0.2:8080", "ok") // itself
	n.want(t, "tcp4", "10.244.0.2:9090", "ok")   // the node's own probes

	out := netpol("shop", "client-out", networkingv1.NetworkPolicySpec{
		PodSelector: *app("client"), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
		Egress: []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "ops"}}}}}}})
	other.serve(t, 7070)
	n.set(t, in, out)
	client.want(t, "tcp4", "10.244.0.2:8080", "refused") // its ingress allows it, the client's egress does not
	client.want(t, "tcp4", "10.244.0.4:7070", "ok")
	client.want(t, "udp4", "10.244.0.4:7070", "ok")
	web.want(t, "tcp4", "10.244.0.3:8080", "ok") // answers leave a pod without egress
	n.set(t)
	other.want(t, "tcp4", "10.244.0.2:9090", "ok")
}

func TestKernel_APolicyTakesHoldOfOpenConnections(t *testing.T) {
	n := newNode(t)
	web, client := n.pod(t, "shop", "web", 2), n.pod(t, "shop", "client", 3)
	web.serve(t, 8080)
	n.set(t)
	conn, err := client.dial(t, "tcp4", "10.244.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(conn); err != nil {
		t.Fatal(err)
	}
	n.set(t, netpol("shop", "deny", networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}}))
	if err := exchange(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestKernel_ThroughAServiceAddress(t *testing.T) {
	n := newNode(t)
	web, client := n.pod(t, "shop", "web", 2), n.pod(t, "shop", "client", 3)
	web.serve(t, 8080)
	n.do(t, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(`table ip proxy { chain pre { type nat hook prerouting priority dstnat;
			ip daddr 10.0.0.80 tcp dport 80 dnat to 10.244.0.2:8080; ip daddr 10.0.0.80 udp dport 80 dnat to 10.244.0.2:8080; }; }`)
		return cmd.Run()
	})
	n.set(t)
	client.want(t, "tcp4", "10.0.0.80:80", "ok")
	egress := networkingv1.NetworkPolicySpec{PodSelector: *app("client"), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}}
	n.set(t, netpol("shop", "deny", egress))
	client.want(t, "tcp4", "10.0.0.80:80", "refused")
	client.want(t, "udp4", "10.0.0.80:80", "refused")
	egress.Egress = []networkingv1.NetworkPolicyEgressRule{{
		To: []networkingv1.NetworkPolicyPeer{{PodSelector: app("web")}}, Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromInt32(8080), corev1.ProtocolTCP)}}}
	n.set(t, netpol("shop", "deny", egress)) // a policy names the pod and the pod's port
	client.want(t, "tcp4", "10.0.0.80:80", "ok")
}

func TestKernel_RefusalsAreCounted(t *testing.T) {
	n := newNode(t)
	web, client := n.pod(t, "shop", "web", 2), n.pod(t, "shop", "client", 3)
	web.serve(t, 8080)
	n.set(t, netpol("shop", "deny", networkingv1.NetworkPolicySpec{PodSelector: *app("web"), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}}))
	client.want(t, "tcp4", "10.244.0.2:8080", "refused")
	client.want(t, "tcp4", "10.244.0.2:8080", "refused")
	var got []policy.Refusal
	n.do(t, func() (err error) { got, err = n.kernel.Refusals(context.Background()); return err })
	want := policy.Refusal{Ingress: true, Source: netip.MustParseAddr("10.244.0.3"), Destination: netip.MustParseAddr("10.244.0.2"), Protocol: "tcp", Port: 8080, Packets: 2}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	n.do(t, func() error { return exec.Command("nft", "delete", "table", "ip", policy.Table).Run() })
	n.do(t, func() error {
		if _, err := n.kernel.Refusals(context.Background()); err == nil {
			return errors.New("no error for a table that is gone")
		}
		return nil
	})
	n.set(t, n.world.Policies...) // stands again
	client.want(t, "tcp4", "10.244.0.2:8080", "refused")
}

func TestKernel_APodCannotTakeAnothersAddress(t *testing.T) {
	n := newNode(t)
	web, client, other := n.pod(t, "shop", "web", 2), n.pod(t, "shop", "client", 3), n.pod(t, "shop", "other", 4)
	_ = client
	n.set(t)
	other.do(t, func() error { return address("eth0", "10.244.0.3/32") })
	got := make(chan string, 1)
	web.do(t, func() error {
		p, err := net.ListenPacket("udp4", "0.0.0.0:8080")
		if err != nil {
			return err
		}
		t.Cleanup(func() { p.Close() })
		go func() {
			buf := make([]byte, 100)
			if k, from, err := p.ReadFrom(buf); err == nil {
				got <- string(buf[:k]) + " from " + from.String()
			}
		}()
		return nil
	})
	send := func(from, text string) {
		other.do(t, func() error {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from), Port: 1234}}
			c, err := d.Dial("udp4", "10.244.0.2:8080")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(text))
			return err
		})
	}
	send("10.244.0.3", "spoofed")
	send("10.244.0.4", "honest")
	select {
	case text := <-got:
		if text != "honest from 10.244.0.4:1234" {
			t.Errorf("got %q", text)
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing came")
	}
}

// TestKernel_AChangeEqualsAWhole goes from each golden world to each other and
// compares with the table that is written as a whole.
func TestKernel_AChangeEqualsAWhole(t *testing.T) {
	list := func(n *node) string {
		var out []byte
		n.do(t, func() (err error) {
			out, err = exec.Command("nft", "-n", "list", "table", "ip", policy.Table).Output()
			return err
		})
		return string(out)
	}
	set := func(n *node, file string) {
		w := world(t, file)
		n.do(t, func() error { return n.kernel.Set(context.Background(), policy.Compile(w)) })
	}
	for _, from := range worlds(t) {
		for _, to := range worlds(t) {
			fresh, changed := newNode(t), newNode(t)
			set(fresh, to)
			set(changed, from)
			set(changed, to)
			if got, want := blocks(list(changed)), blocks(list(fresh)); got != want {
				t.Errorf("%s to %s: got\n%s\nwant\n%s", from, to, got, want)
			}
		}
	}
}

// blocks sorts the sets and chains of a listing: nft lists them by age.
func blocks(listing string) string {
	all := strings.Split(listing, "\n\n")
	for i := range all {
		all[i] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(all[i]), "table ip "+policy.Table+" {"))
		all[i] = strings.TrimSpace(strings.TrimSuffix(all[i], "\n}"))
	}
	slices.Sort(all)
	return strings.Join(all, "\n\n")
}
