package vnet_test

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
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lazurite.dev/internal/vnet"
)

// insideVar says that the test runs inside the namespace that stands for the host.
const insideVar = "LAZ_VNET_TEST_HOST"

// TestGate_Redirected leads connections to the gate as a cluster's network
// does: by destination NAT, in a namespace of its own. Four namespaces stand
// for a machine outside, the host, the cluster and a node.
func TestGate_Redirected(t *testing.T) {
	if os.Getenv(insideVar) != "" {
		gateInside(t, os.Getenv(insideVar))
		return
	}
	need := func(there bool, what string) {
		switch {
		case there:
		case os.Getenv("CI") == "true":
			t.Fatalf("needs %s, and CI leaves nothing out", what)
		default:
			t.Skipf("needs %s", what)
		}
	}
	need(os.Geteuid() == 0, "root: namespaces and nftables")
	for _, program := range []string{"ip", "nft"} {
		_, err := exec.LookPath(program)
		need(err == nil, program+" (Debian: iproute2, nftables)")
	}
	p := fmt.Sprintf("lzt%d", os.Getpid())
	for _, ns := range []string{"out", "host", "cluster", "node"} {
		command(t, "", "ip", "netns", "add", p+ns)
		t.Cleanup(func() { command(t, "", "ip", "netns", "del", p+ns) })
		command(t, "", "ip", "-n", p+ns, "link", "set", "lo", "up")
	}
	cable := func(a, addrA, b, addrB string) {
		command(t, "", "ip", "-n", p+a, "link", "add", b, "type", "veth", "peer", "name", a, "netns", p+b)
		command(t, "", "ip", "-n", p+a, "addr", "add", addrA, "dev", b)
		command(t, "", "ip", "-n", p+b, "addr", "add", addrB, "dev", a)
		command(t, "", "ip", "-n", p+a, "link", "set", b, "up")
		command(t, "", "ip", "-n", p+b, "link", "set", a, "up")
	}
	cable("out", "203.0.113.9/24", "host", "203.0.113.1/24")
	cable("host", "198.18.9.1/30", "cluster", "198.18.9.2/30")
	cable("cluster", "198.18.9.17/28", "node", "198.18.9.18/28")
	command(t, "", "ip", "-n", p+"node", "route", "add", "default", "via", "198.18.9.17")
	command(t, "", "ip", "-n", p+"cluster", "route", "add", "default", "via", "198.18.9.1") // it needs a way; nothing takes it
	command(t, "table ip t {\n chain c {\n type nat hook prerouting priority dstnat;\n iifname node ip daddr != 198.18.9.0/24 meta l4proto tcp dnat to 198.18.9.2:15001\n }\n}\n",
		"ip", "netns", "exec", p+"cluster", "nft", "-f", "-")
	cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", p+"host", os.Args[0], "-test.run=^TestGate_Redirected$", "-test.v")
	cmd.Env = append(os.Environ(), insideVar+"="+p)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func command(t *testing.T, stdin string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// in runs f on a thread inside a namespace. The thread is not used again.
func in(t *testing.T, ns string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		h, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer h.Close()
			err = unix.Setns(int(h.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in %s: %v", ns, err)
	}
}

func gateInside(t *testing.T, p string) {
	var outside, gate net.Listener
	listen := func(ln *net.Listener, addr string) func() error {
		return func() (err error) {
			*ln, err = net.Listen("tcp4", addr)
			return err
		}
	}
	in(t, p+"out", listen(&outside, "203.0.113.9:443"))
	in(t, p+"cluster", listen(&gate, "198.18.9.2:15001"))
	defer outside.Close()
	go func() {
		for {
			c, err := outside.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "hello %s", c.RemoteAddr().(*net.TCPAddr).IP)
			_ = c.Close()
		}
	}()
	var log lines
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- vnet.NewGate(vnet.GateConfig{Network: "c", Base: netip.MustParsePrefix("198.18.0.0/15"), Log: log.logger()}).Serve(ctx, gate)
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	in(t, p+"node", func() error { return fromNode(t, &log) })
}

func fromNode(t *testing.T, log *lines) error {
	c, err := net.DialTimeout("tcp4", "203.0.113.9:443", 5*time.Second)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	_ = c.Close()
	if err != nil || string(got) != "hello 203.0.113.1" { // from the host's address
		t.Errorf("outside: got %q, %v", got, err)
	}
	for to, why := range map[string]string{
		"203.0.113.1:443": "the host itself", "198.19.0.2:6443": "a network of Lazurite", "169.254.169.254:80": "link-local", "203.0.113.9:444": "connection refused",
	} {
		begin := time.Now()
		c, err := net.DialTimeout("tcp4", to, 5*time.Second)
		if err == nil {
			_ = c.SetReadDeadline(begin.Add(5 * time.Second))
			_, err = c.Read(make([]byte, 1))
			_ = c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) || time.Since(begin) > time.Second {
			t.Errorf("%s: got %v after %s, want a reset", to, err, time.Since(begin))
		}
		eventually(t, func() bool {
			return strings.Contains(log.String(), "client=198.18.9.18 to="+to) && strings.Contains(log.String(), why)
		})
	}
	return nil
}
