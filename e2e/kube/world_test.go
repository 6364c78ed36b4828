package kube_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// worldVar says that a test runs in a world of its own, and names it.
const worldVar = "LAZ_E2E_WORLD"

// world is a machine of the test's own, and what is outside of it: servers that
// say which address they have, and a resolver that notes what it is asked.
type world struct {
	name  string
	names map[string]string

	mu    sync.Mutex // guards asked
	asked []string
}

// inWorld runs the calling test once more on a machine of its own, a network
// namespace whose only neighbour is another one that stands for everything
// outside. It is true in that run.
func inWorld(t *testing.T, names map[string]string) (*world, bool) {
	t.Helper()
	if name := os.Getenv(worldVar); name != "" {
		w := &world{name: name, names: names}
		w.open(t)
		return w, true
	}
	name := fmt.Sprintf("lzw%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	for _, ns := range []string{"o", "h"} {
		ip("netns", "add", name+ns)
		t.Cleanup(func() { ip("netns", "del", name+ns) })
		ip("-n", name+ns, "link", "set", "lo", "up")
	}
	ip("-n", name+"h", "link", "add", "wan0", "type", "veth", "peer", "name", "wan0", "netns", name+"o")
	for _, a := range []string{"203.0.113.1/24", "203.0.113.2/24", "203.0.113.53/24", "10.66.0.1/32"} {
		ip("-n", name+"o", "addr", "add", a, "dev", "wan0")
	}
	ip("-n", name+"o", "-6", "addr", "add", "2001:db8::1/64", "dev", "wan0", "nodad")
	ip("-n", name+"h", "addr", "add", "203.0.113.254/24", "dev", "wan0")
	ip("-n", name+"h", "-6", "addr", "add", "2001:db8::fe/64", "dev", "wan0", "nodad")
	ip("-n", name+"o", "link", "set", "wan0", "up")
	ip("-n", name+"h", "link", "set", "wan0", "up")
	ip("-n", name+"h", "route", "add", "10.66.0.0/16", "via", "203.0.113.1")
	ip("-n", name+"h", "route", "add", "unreachable", "default")
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 203.0.113.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "nsenter", "--net=/run/netns/"+name+"h", "unshare", "-m", "--propagation", "private",
		"sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, conf, self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), worldVar+"="+name)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return nil, false
}

// outside runs f in the namespace that stands for everything outside.
func (w *world) outside(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never back: the thread ends with the goroutine
		h, err := os.Open("/run/netns/" + w.name + "o")
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
		t.Fatalf("outside: %v", err)
	}
}

// open starts what answers outside.
func (w *world) open(t *testing.T) {
	for _, a := range []string{"203.0.113.1", "203.0.113.2", "10.66.0.1", "2001:db8::1"} {
		w.outside(t, func() error {
			ln, err := net.Listen("tcp", net.JoinHostPort(a, "443"))
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = ln.Close() })
			go answer(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{named(t, a)}}))
			return nil
		})
	}
	w.outside(t, func() error {
		pc, err := net.ListenPacket("udp", "203.0.113.1:443")
		if err == nil {
			t.Cleanup(func() { _ = pc.Close() })
			go echo(pc)
		}
		return err
	})
	w.outside(t, func() error {
		pc, err := net.ListenPacket("udp", "203.0.113.53:53")
		if err == nil {
			t.Cleanup(func() { _ = pc.Close() })
			go w.resolve(pc)
		}
		return err
	})
}

func answer(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = c.Read(make([]byte, 1)) // the handshake, and until the client leaves
		}()
	}
}

func echo(pc net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = pc.WriteTo(buf[:n], from)
	}
}

// named is a certificate that says a name.
func named(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// resolve answers questions for addresses, one name each. Source: RFC 1035.
func (w *world) resolve(pc net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		q := buf[:n]
		var labels []string
		at := 12
		for at < n && q[at] != 0 && at+1+int(q[at]) < n {
			labels = append(labels, string(q[at+1:at+1+int(q[at])]))
			at += 1 + int(q[at])
		}
		if at+5 > n {
			continue
		}
		name := strings.ToLower(strings.Join(labels, "."))
		w.mu.Lock()
		w.asked = append(w.asked, name)
		w.mu.Unlock()
		a, err := netip.ParseAddr(w.names[name])
		out := slices.Concat(q[:2], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:at+5])
		switch {
		case err != nil:
			out[3] |= 3 // no such name
		case q[at+2] == 1: // A
			out[7] = 1
			out = append(append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4), a.AsSlice()...)
		}
		_, _ = pc.WriteTo(out, from)
	}
}

// heard reports whether anybody outside was asked for a name below suffix.
func (w *world) heard(suffix string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.asked, func(name string) bool { return strings.HasSuffix(name, suffix) })
}

// forget empties what was heard.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = nil
}
