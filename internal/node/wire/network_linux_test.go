package wire_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/wire"
)

// TestMain is also the helper that the tests start, as the program is.
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

// net is a cluster's network with two nodes and a pod on each.
type world struct {
	t       *testing.T
	root    box.Root
	starter *box.Starter
	*wire.Network
	cluster, nodeA, nodeB, podA, podB *box.Space
	podAddrA, podAddrB                netip.Addr
}

const slotA, slotB = wire.FirstSlot, wire.FirstSlot + 1

func newWorld(t *testing.T, isolated ...bool) *world {
	t.Helper()
	switch {
	case os.Geteuid() != 0 && os.Getenv("CI") == "true":
		t.Fatal("needs root")
	case os.Geteuid() != 0:
		t.Skip("needs root")
	}
	if err := wire.Available(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	w := &world{t: t, starter: box.NewStarter()}
	var err error
	if w.root, err = box.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := w.root.Sweep(ctx); err != nil {
			t.Error(err)
		}
		w.starter.Close()
	})
	base := netip.MustParsePrefix(wire.DefaultRange)
	index, err := wire.FreeIndex(base, 300, func(int) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	w.cluster = w.space("cluster")
	w.Network = wire.New(w.root, w.cluster, wire.Layout{Base: base, Index: index, Pods: netip.MustParsePrefix("10.244.0.0/16"), Services: netip.MustParsePrefix("10.0.0.0/16"), Isolated: len(isolated) > 0})
	if err := w.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.nodeA, w.nodeB, w.podA, w.podB = w.space("a"), w.space("b"), w.space("pa"), w.space("pb")
	for slot, sp := range map[int]*box.Space{slotA: w.nodeA, slotB: w.nodeB} {
		if err := w.AddNode(t.Context(), slot, sp); err != nil {
			t.Fatal(err)
		}
	}
	w.podAddrA, w.podAddrB = w.pod(w.nodeA, w.podA, slotA), w.pod(w.nodeB, w.podB, slotB)
	return w
}

func (w *world) space(name string) *box.Space {
	w.t.Helper()
	sp, _, err := w.root.Space(w.starter, name, box.SpaceSpec{Hostname: name})
	if err != nil {
		w.t.Fatal(err)
	}
	return sp
}

// pod links a pod as the CNI's ptp plugin does.
func (w *world) pod(host, pod *box.Space, slot int) netip.Addr {
	w.t.Helper()
	gw := w.PodCIDR(slot).Addr().Next()
	addr := gw.Next()
	script := func(sp *box.Space, s string) {
		if out, err := sp.Output(w.t.Context(), nil, "/bin/sh", "-ec", s); err != nil {
			w.t.Fatalf("%v: %s", err, out)
		}
	}
	ns, err := os.Open(pod.NetPath())
	if err != nil {
		w.t.Fatal(err)
	}
	defer ns.Close()
	err = host.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "veth1"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.Fd())})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	script(host, fmt.Sprintf("ip addr add %s/32 dev veth1; ip link set veth1 up; ip route add %s/32 dev veth1 scope host src %s", gw, addr, gw))
	script(pod, fmt.Sprintf("ip link set lo up; ip addr add %s/32 dev eth0; ip link set eth0 up; ip route add %s dev eth0 scope link; ip route add default via %s dev eth0 onlink", addr, gw, gw))
	return addr
}

// in calls f in the network of sp; nil is the host's.
func in(sp *box.Space, f func() error) error {
	if sp == nil {
		return f()
	}
	return sp.Do(f)
}

// serve answers each connection or datagram with the address it came from.
func (w *world) serve(sp *box.Space, network, addr string) {
	w.t.Helper()
	err := in(sp, func() error {
		if network == "udp" {
			c, err := net.ListenPacket("udp4", addr)
			if err != nil {
				return err
			}
			w.t.Cleanup(func() { _ = c.Close() })
			go func() {
				b := make([]byte, 10)
				for {
					_, from, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(from.String()), from)
				}
			}()
			return nil
		}
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			return err
		}
		w.listen(l)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) listen(l net.Listener) {
	w.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr())
			_ = c.Close()
		}
	}()
}

// ask returns the address as which the server saw the client, or "refused", or
// "silence".
func (w *world) ask(sp *box.Space, network, addr string) string {
	w.t.Helper()
	var said string
	err := in(sp, func() error {
		c, err := net.DialTimeout(network+"4", addr, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if network == "udp" {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		said, _, _ = strings.Cut(string(b[:n]), ":")
		return err
	})
	switch {
	case err == nil:
		return said
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPERM):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "silence"
	}
	return err.Error()
}

func TestNetwork_WhoReachesWhat(t *testing.T) {
	w := newWorld(t)
	cluster, nodeA, nodeB := w.Cluster().String(), w.Node(slotA).String(), w.Node(slotB).String()
	host, podA, podB := w.Host().String(), w.podAddrA.String(), w.podAddrB.String()
	lb := w.LoadBalancers().Addr().Next().String()
	at := func(addr string, port int) string { return fmt.Sprintf("%s:%d", addr, port) }
	for _, port := range []int{node.PortHTTPS, node.PortGate} {
		f, err := w.Listen("tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		w.listen(l)
	}
	w.serve(w.cluster, "tcp", at(cluster, node.PortAPI))
	w.serve(w.cluster, "tcp", at(cluster, 2379)) // etcd, if it listened there
	w.serve(w.cluster, "udp", at(cluster, node.PortDNS))
	for _, sp := range []*box.Space{w.nodeA, w.nodeB} {
		for _, port := range []int{10250, 31000, 8080} {
			w.serve(sp, "tcp", at("0.0.0.0", port))
		}
		if _, err := sp.Output(t.Context(), nil, "/bin/sh", "-c", "ip addr add "+lb+"/32 dev lo; ip addr add "+lb+"/32 dev eth0"); err != nil {
			t.Fatal(err)
		}
	}
	for _, sp := range []*box.Space{w.podA, w.podB} {
		w.serve(sp, "tcp", at("0.0.0.0", 8080))
	}
	w.serve(nil, "tcp", at(host, 31000)) // a service of the host, at a port that is open elsewhere
	w.serve(nil, "udp", at(host, 53))

	for _, c := range []struct {
		who     string
		from    *box.Space
		network string
		to      string
		want    string
	}{
		{"host to the API server", nil, "tcp", at(cluster, node.PortAPI), host},
		{"host to the front door inside", nil, "tcp", at(cluster, node.PortHTTPS), "refused"},
		{"host to etcd", nil, "tcp", at(cluster, 2379), "refused"},
		{"host to the resolver", nil, "udp", at(cluster, node.PortDNS), "refused"},
		{"host to the gate", nil, "tcp", at(cluster, node.PortGate), "refused"},
		{"host to a node port", nil, "tcp", at(nodeA, 31000), host},
		{"host to the kubelet", nil, "tcp", at(nodeA, 10250), "refused"},
		{"host to a node's program", nil, "tcp", at(nodeA, 8080), "refused"},
		{"cluster to the kubelet", w.cluster, "tcp", at(nodeB, 10250), cluster},
		{"cluster to a pod", w.cluster, "tcp", at(podB, 8080), cluster},
		{"cluster to the host", w.cluster, "tcp", at(host, 31000), "refused"},
		{"cluster to the host's resolver", w.cluster, "udp", at(host, 53), "refused"},
		{"pod to a pod on another node", w.podA, "tcp", at(podB, 8080), podA},
		{"pod to the front door", w.podA, "tcp", at(cluster, node.PortHTTPS), nodeA},
		{"pod to the resolver", w.podA, "udp", at(cluster, node.PortDNS), nodeA},
		{"pod to the API server", w.podA, "tcp", at(cluster, node.PortAPI), nodeA},
		{"pod to etcd", w.podA, "tcp", at(cluster, 2379), "refused"},
		{"pod to the gate itself", w.podA, "tcp", at(cluster, node.PortGate), "refused"},
		{"pod to the kubelet of its node", w.podA, "tcp", at(nodeA, 10250), "refused"},
		{"pod to the kubelet of another", w.podA, "tcp", at(nodeB, 10250), "refused"},
		{"pod to another node's program", w.podA, "tcp", at(nodeB, 8080), "refused"},
		{"pod to the host", w.podA, "tcp", at(host, 31000), "refused"},
		{"pod to the host by udp", w.podA, "udp", at(host, 53), "refused"},
		{"pod outward: the gate", w.podA, "tcp", "192.0.2.1:443", nodeA},
		{"pod to another cluster: the gate", w.podA, "tcp", "198.19.255.2:6443", nodeA},
		{"pod outward by udp", w.podA, "udp", "192.0.2.1:123", "refused"},
		{"node outward: the gate", w.nodeA, "tcp", "192.0.2.1:443", nodeA},
		{"node to another's kubelet", w.nodeA, "tcp", at(nodeB, 10250), "refused"},
		{"node to a pod elsewhere", w.nodeA, "tcp", at(podB, 8080), nodeA},
		{"node to the host", w.nodeA, "tcp", at(host, 31000), "refused"},
		{"no such service", w.podA, "tcp", "10.0.77.77:80", "refused"},
	} {
		if got := w.ask(c.from, c.network, c.to); got != c.want {
			t.Errorf("%s: got %q, want %q", c.who, got, c.want)
		}
	}

	// Load balancers: the host reaches them through whichever node takes them.
	if got := w.ask(nil, "tcp", at(lb, 31000)); got != host {
		t.Errorf("host to a load balancer: got %q", got)
	}
	for _, local := range []struct {
		slots []int
		want  string
	}{{[]int{slotA}, host}, {[]int{slotB, 99}, host}, {nil, "refused"}} {
		if err := w.BalanceLocal(map[netip.Addr][]int{netip.MustParseAddr(lb): local.slots}); err != nil {
			t.Fatal(err)
		}
		if got := w.ask(nil, "tcp", at(lb, 31000)); got != local.want {
			t.Errorf("a load balancer of %v: got %q", local.slots, got)
		}
	}
	for range 2 {
		if err := w.BalanceLocal(nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.ask(nil, "tcp", at(lb, 31000)); got != host {
		t.Errorf("a load balancer of all nodes again: got %q", got)
	}
	if err := w.Balance(slotB, false); err != nil {
		t.Fatal(err)
	}
	if err := w.RemoveNode(t.Context(), slotA); err != nil {
		t.Fatal(err)
	}
	if got := w.ask(nil, "tcp", at(lb, 31000)); got != "refused" {
		t.Errorf("a load balancer that no node takes: got %q", got)
	}
	if err := w.Balance(slotB, true); err != nil {
		t.Fatal(err)
	}
	if got := w.ask(nil, "tcp", at(lb, 31000)); got != host {
		t.Errorf("with one node: got %q", got)
	}
	if err := w.RemoveNode(t.Context(), slotA); err != nil {
		t.Errorf("gone already: %v", err)
	}
	for range 2 { // up again finds it all there
		if err := w.Up(t.Context()); err != nil {
			t.Error(err)
		}
		if err := w.AddNode(t.Context(), slotB, w.nodeB); err != nil {
			t.Error(err)
		}
	}
	if got := w.ask(w.podB, "tcp", at(cluster, node.PortHTTPS)); got != nodeB {
		t.Errorf("after doing it all again: got %q", got)
	}
	if err := w.Down(); err != nil {
		t.Error(err)
	}
	if err := w.Down(); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestNetwork_Isolated: what is open inside a common cluster is closed, and the
// gate sees which pod it was.
func TestNetwork_Isolated(t *testing.T) {
	w := newWorld(t, true)
	cluster, nodeA, nodeB := w.Cluster().String(), w.Node(slotA).String(), w.Node(slotB).String()
	host, podA, podB := w.Host().String(), w.podAddrA.String(), w.podAddrB.String()
	at := func(addr string, port int) string { return fmt.Sprintf("%s:%d", addr, port) }
	for _, port := range []int{node.PortHTTPS, node.PortGate} {
		f, err := w.Listen("tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		w.listen(l)
	}
	w.serve(w.cluster, "tcp", at(cluster, node.PortAPI))
	w.serve(w.cluster, "tcp", at(cluster, 2379))
	w.serve(w.cluster, "udp", at(cluster, node.PortDNS))
	for _, sp := range []*box.Space{w.nodeA, w.nodeB} {
		for _, port := range []int{10250, 31000, 8080} {
			w.serve(sp, "tcp", at("0.0.0.0", port))
		}
		// What kube-proxy does with the API server's service.
		rule := fmt.Sprintf("table ip t { chain c { type nat hook prerouting priority dstnat; ip daddr 10.0.0.1 tcp dport 443 dnat to %s; }; }", at(cluster, node.PortAPI))
		if _, err := sp.Output(t.Context(), strings.NewReader(rule), "/usr/sbin/nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	for _, sp := range []*box.Space{w.podA, w.podB} {
		w.serve(sp, "tcp", at("0.0.0.0", 8080))
	}
	w.serve(nil, "tcp", at(host, 31000))
	for _, c := range []struct {
		who     string
		from    *box.Space
		network string
		to      string
		want    string
	}{
		{"host to the API server", nil, "tcp", at(cluster, node.PortAPI), host},
		{"host to a node port", nil, "tcp", at(nodeA, 31000), "refused"},
		{"node to the API server", w.nodeA, "tcp", at(cluster, node.PortAPI), nodeA},
		{"cluster to the kubelet", w.cluster, "tcp", at(nodeB, 10250), cluster},
		{"cluster to a pod", w.cluster, "tcp", at(podB, 8080), cluster},
		{"node to its pod", w.nodeA, "tcp", at(podA, 8080), w.PodCIDR(slotA).Addr().Next().String()},
		{"node to a pod elsewhere", w.nodeA, "tcp", at(podB, 8080), "refused"},
		{"pod to a pod on another node", w.podA, "tcp", at(podB, 8080), "refused"},
		{"pod to the front door", w.podA, "tcp", at(cluster, node.PortHTTPS), podA},
		{"pod to the resolver", w.podA, "udp", at(cluster, node.PortDNS), podA},
		{"pod outward: the gate", w.podA, "tcp", "192.0.2.1:443", podA},
		{"pod to metadata: the gate", w.podA, "tcp", "169.254.169.254:80", podA},
		{"pod to the platform's address: the gate", w.podA, "tcp", "168.63.129.16:80", podA},
		{"pod to a managed private endpoint: the gate", w.podA, "tcp", "100.64.0.4:443", podA},
		{"pod to another cluster's API server: the gate", w.podA, "tcp", "198.19.255.2:6443", podA},
		{"pod to the API server", w.podA, "tcp", at(cluster, node.PortAPI), "refused"},
		{"pod to the API server by its service", w.podA, "tcp", "10.0.0.1:443", "refused"},
		{"pod to etcd", w.podA, "tcp", at(cluster, 2379), "refused"},
		{"pod to the gate itself", w.podA, "tcp", at(cluster, node.PortGate), "refused"},
		{"pod to its node", w.podA, "tcp", at(nodeA, 8080), "refused"},
		{"pod to a node port", w.podA, "tcp", at(nodeB, 31000), "refused"},
		{"pod to the kubelet", w.podA, "tcp", at(nodeA, 10250), "refused"},
		{"pod to the host", w.podA, "tcp", at(host, 31000), "refused"},
		{"pod outward by udp", w.podA, "udp", "192.0.2.1:443", "refused"},
		{"pod to another resolver", w.podA, "udp", "192.0.2.53:53", "refused"},
		{"pod to a service that is not there", w.podA, "tcp", "10.0.77.77:80", "refused"},
	} {
		if got := w.ask(c.from, c.network, c.to); got != c.want {
			t.Errorf("%s: got %q, want %q", c.who, got, c.want)
		}
	}
	// A pod that says it is its node.
	if _, err := w.podA.Output(t.Context(), nil, "/sbin/ip", "addr", "add", nodeA+"/32", "dev", "lo"); err != nil {
		t.Fatal(err)
	}
	err := w.podA.Do(func() error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(nodeA), 0)), Timeout: time.Second}
		c, err := d.DialContext(t.Context(), "tcp4", at(cluster, node.PortAPI))
		if err == nil {
			_ = c.Close()
			t.Error("a pod reaches the API server under its node's address")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNetwork_ForgedSources: who says to be somebody else gets no answer.
func TestNetwork_ForgedSources(t *testing.T) {
	w := newWorld(t)
	w.serve(w.cluster, "udp", fmt.Sprintf("%s:%d", w.Cluster(), node.PortDNS))
	dns := fmt.Sprintf("%s:%d", w.Cluster(), node.PortDNS)
	if got := w.ask(w.nodeA, "udp", dns); got != w.Node(slotA).String() { // also, neighbours know each other then
		t.Errorf("the honest one: got %q", got)
	}
	before := w.dropped()
	// A node that says it is the other node, or the host.
	for _, forged := range []string{w.Node(slotB).String(), w.Host().String(), w.podAddrB.String()} {
		if _, err := w.nodeA.Output(t.Context(), nil, "/sbin/ip", "addr", "add", forged+"/32", "dev", "lo"); err != nil {
			t.Fatal(err)
		}
		err := w.nodeA.Do(func() error {
			d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(forged), 0))}
			c, err := d.DialContext(t.Context(), "udp4", fmt.Sprintf("%s:%d", w.Cluster(), node.PortDNS))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("x"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := w.ask(w.nodeB, "udp", fmt.Sprintf("%s:%d", w.Cluster(), node.PortDNS)); got != w.Node(slotB).String() {
		t.Errorf("the honest one: got %q", got)
	}
	if got := w.dropped() - before; got != 3 {
		t.Errorf("%d datagrams were dropped for their source, want 3", got)
	}
}

// dropped is how many packets were dropped for their source.
func (w *world) dropped() int {
	w.t.Helper()
	out, err := w.cluster.Output(w.t.Context(), nil, "/usr/sbin/nft", "list", "chain", "inet", "lazurite", "sources")
	if err != nil {
		w.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(out), "counter packets ")
	var n int
	if _, err := fmt.Sscan(after, &n); err != nil {
		w.t.Fatalf("%v in\n%s", err, out)
	}
	return n
}

func TestListen_Refusals(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		network string
		port    int
	}{{"tcp", 6443}, {"tcp", 22}, {"udp", 443}, {"unix", 53}, {"tcp", -1}, {"", 0}} {
		if f, err := w.Listen(c.network, c.port); !errors.Is(err, node.ErrInvalid) || f != nil {
			t.Errorf("%s %d: got %v", c.network, c.port, err)
		}
	}
	f, err := w.Listen("tcp", node.PortHTTPS)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := w.Listen("tcp", node.PortHTTPS); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("twice: got %v", err)
	}
}
