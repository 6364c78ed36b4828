package kube_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

	mu    sync.Mutex // guards the rest
	asked []string
	deaf  bool // resolvers hear, and say nothing
}

var worlds atomic.Int64 // how many there have been, for their names

// inWorld runs the calling test once more on a machine of its own, a network
// namespace whose only neighbour is another one that stands for everything
// outside. It is true in that run.
func inWorld(t *testing.T, names map[string]string) (*world, bool) {
	t.Helper()
	t.Parallel()
	take(t, own)
	if name := os.Getenv(worldVar); name != "" {
		w := &world{name: name, names: names}
		w.open(t)
		return w, true
	}
	name := fmt.Sprintf("lzw%d-%d", os.Getpid(), worlds.Add(1))
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
	for _, a := range []string{"203.0.113.1/24", "203.0.113.2/24", "203.0.113.3/24", indexAddress + "/24", "203.0.113.53/24", "203.0.113.54/24", "10.66.0.1/32"} {
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

// within runs f in a network namespace.
func within(space string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never back: the thread ends with the goroutine
		h, err := os.Open(space)
		if err == nil {
			defer h.Close()
			err = unix.Setns(int(h.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// outside runs f in the namespace that stands for everything outside.
func (w *world) outside(t *testing.T, f func() error) {
	t.Helper()
	if err := within("/run/netns/"+w.name+"o", f); err != nil {
		t.Fatalf("outside: %v", err)
	}
}

// open starts what answers outside: by TLS at some addresses, and a resolver
// at two, which answers in all ways that there are.
func (w *world) open(t *testing.T) {
	listen := func(address string) (ln net.Listener) {
		t.Helper()
		w.outside(t, func() (err error) { ln, err = net.Listen("tcp", address); return err })
		t.Cleanup(func() { _ = ln.Close() })
		return ln
	}
	packets := func(address string) (pc net.PacketConn) {
		t.Helper()
		w.outside(t, func() (err error) { pc, err = net.ListenPacket("udp", address); return err })
		t.Cleanup(func() { _ = pc.Close() })
		return pc
	}
	for _, a := range []string{"203.0.113.1", "203.0.113.2", "203.0.113.3", "10.66.0.1", "2001:db8::1"} {
		go answer(tls.NewListener(listen(net.JoinHostPort(a, "443")), &tls.Config{Certificates: []tls.Certificate{named(t, a)}}))
	}
	go echo(packets("203.0.113.1:443"))
	secure := &tls.Config{Certificates: []tls.Certificate{named(t, "dns.world")}}
	for _, a := range []string{"203.0.113.53", "203.0.113.54"} {
		go w.resolve(packets(a + ":53"))
		go w.resolveStreams(listen(a + ":53"))
		go w.resolveStreams(tls.NewListener(listen(a+":853"), secure))
		s := &http.Server{ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if q, err := io.ReadAll(r.Body); err == nil {
				_, _ = rw.Write(w.reply(q)) // who asked may be gone
			}
		})}
		ln := tls.NewListener(listen(a+":443"), secure)
		go func() { _ = s.Serve(ln) }() // until the listener is closed
	}
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
	return certificate(t, x509.Certificate{Subject: pkix.Name{CommonName: name}})
}

// namedHost is a certificate of a host, which is its own authority.
func namedHost(t *testing.T, name string) tls.Certificate {
	return certificate(t, x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour)})
}

func certificate(t *testing.T, c x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, &c, &c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func (w *world) resolve(pc net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		if a := w.reply(buf[:n]); a != nil {
			_, _ = pc.WriteTo(a, from)
		}
	}
}

func (w *world) resolveStreams(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, q); err != nil {
				return
			}
			a := w.reply(q)
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
		}()
	}
}

// reply answers a question: an address for each name that there is, or that is
// below one, and much text. Nil is no answer. Source: RFC 1035.
func (w *world) reply(q []byte) []byte {
	var labels []string
	at := 12
	for at < len(q) && q[at] != 0 && at+1+int(q[at]) < len(q) {
		labels = append(labels, string(q[at+1:at+1+int(q[at])]))
		at += 1 + int(q[at])
	}
	if at+5 > len(q) {
		return nil
	}
	name := strings.Join(labels, ".")
	w.mu.Lock()
	w.asked = append(w.asked, name)
	deaf := w.deaf
	w.mu.Unlock()
	if deaf {
		return nil
	}
	name = strings.ToLower(name)
	known, there := w.names[name]
	for n, a := range w.names {
		if strings.HasSuffix(name, "."+n) {
			known, there = a, true
		}
	}
	out := slices.Concat(q[:2], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:at+5])
	data := append([]byte{200}, strings.Repeat("x", 200)...) // of text and null
	switch {
	case !there:
		out[3] |= 3 // no such name
		return out
	case q[at+2] == 1: // A
		data = netip.MustParseAddr(known).AsSlice()
	case q[at+2] != 16 && q[at+2] != 10: // TXT, NULL
		return out
	}
	out[7] = 1
	out = append(out, 0xc0, 12, 0, q[at+2], 0, 1, 0, 0, 0, 1, 0, byte(len(data)))
	return append(out, data...)
}

// heard reports whether anybody outside was asked for a name with part in it,
// in those letters.
func (w *world) heard(part string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.asked, func(name string) bool { return strings.Contains(name, part) })
}

// mute sets whether resolvers outside are silent.
func (w *world) mute(deaf bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = deaf
}

// forget empties what was heard.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = nil
}
