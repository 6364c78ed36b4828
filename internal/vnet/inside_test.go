package vnet

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func fuzzed() *Resolver {
	return NewResolver(ResolverConfig{
		Network: "c", Offline: true, Front: netip.MustParseAddr("198.18.7.2"), Base: netip.MustParsePrefix("198.18.0.0/15"),
		Owns: func(h string) bool { return strings.HasSuffix(h, "azure.net") }, Log: slog.New(slog.DiscardHandler),
	})
}

// FuzzQuestion sends anything to a resolver: what it answers is an answer to it.
func FuzzQuestion(f *testing.F) {
	for _, name := range []string{"v.vault.azure.net.", ".", "2.0.18.198.in-addr.arpa."} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, true)
		raw, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)-3])
	}
	f.Add([]byte{})
	r := fuzzed()
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, out := r.parse(raw, netip.Addr{}, true)
		if q != nil {
			t.Fatalf("a question is left over: %v", q)
		}
		if out == nil {
			return
		}
		if len(out) > maxDatagram || out[0] != raw[0] || out[1] != raw[1] || out[2]&0x80 == 0 {
			t.Fatalf("%d bytes: %x", len(out), out[:4])
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatalf("an answer that can't be read: %v", err)
		}
	})
}

// FuzzAnswer takes anything for an answer of the host's resolvers: what is let
// through can be sent on.
func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg)
	q.SetQuestion("example.com.", dns.TypeA)
	q.Id = 1
	m := new(dns.Msg)
	m.SetReply(q)
	rr, err := dns.NewRR("example.com. 60 IN A 192.0.2.1")
	if err != nil {
		f.Fatal(err)
	}
	m.Answer = append(m.Answer, rr)
	raw, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:20])
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := fits(raw, q)
		if err != nil {
			return
		}
		out := reply{q, restore(m, q)}.pack(true)
		if len(out) == 0 || len(out) > plainDatagram {
			t.Fatalf("%d bytes", len(out))
		}
	})
}

func TestHostResolvers_AreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	h := &hostResolvers{path: path, base: netip.MustParsePrefix("198.18.0.0/15")}
	if _, err := h.list(); err == nil {
		t.Error("no error without a file")
	}
	for i, c := range []struct {
		text string
		want []string
	}{
		{"nameserver 192.0.2.1\nsearch example.com\n", []string{"192.0.2.1:53"}},
		{"nameserver 198.18.3.2\nnameserver 192.0.2.1\nnameserver rubbish\nnameserver fe80::1%eth0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
			[]string{"192.0.2.1:53", "[fe80::1%eth0]:53", "192.0.2.2:53"}},
		{"# none\n", nil},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
		got, err := h.list()
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, a := range got {
			said = append(said, a.String())
		}
		if diff := cmp.Diff(c.want, said); diff != "" {
			t.Errorf("%q: %s", c.text, diff)
		}
	}
}

func TestGate_Forbidden(t *testing.T) {
	own := netip.MustParseAddr("192.0.2.7")
	g := NewGate(GateConfig{Network: "c", Base: netip.MustParsePrefix("198.18.0.0/15"), Log: slog.New(slog.DiscardHandler),
		Own: func() ([]netip.Addr, error) { return []netip.Addr{netip.AddrFrom16(own.As16())}, nil }})
	for addr, want := range map[string]string{
		"127.0.0.1:80": "loopback", "127.8.9.10:80": "loopback", "[::1]:80": "loopback", "0.0.0.0:80": "unspecified", "0.1.2.3:80": "unspecified",
		"[::]:80": "unspecified", "169.254.169.254:80": "link-local", "[fe80::1]:80": "link-local", "198.18.0.1:443": "inside a network",
		"198.19.255.255:1": "inside a network", "224.0.0.1:80": "multicast", "255.255.255.255:80": "broadcast", "250.0.0.1:80": "reserved",
		"[ff02::1]:80": "multicast", "[::ffff:8.8.8.8]:53": "disguise", "[64:ff9b::7f00:1]:80": "disguise", "[2002:7f00:1::]:80": "disguise",
		"[::7f00:1]:80": "disguise", "192.0.2.7:22": "host itself", "8.8.8.8:0": "no address",
		"8.8.8.8:53": "", "10.1.2.3:443": "", "[2001:db8::1]:443": "",
	} {
		got := g.forbidden(netip.MustParseAddrPort(addr), false)
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
	if got := g.forbidden(netip.AddrPort{}, false); got == "" {
		t.Error("no address was let through")
	}
}
