package vnet_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/vnet"
)

// TestAdmit_AChangeCutsWhatItForbids: whoever reached the front door while all
// might is cut when only those that say an approved name may.
func TestAdmit_AChangeCutsWhatItForbids(t *testing.T) {
	for _, c := range []struct {
		port  uint16
		to    vnet.Mode
		lives bool
	}{
		{443, vnet.Approved, false}, {80, vnet.Approved, true}, {443, vnet.Closed, false}, {80, vnet.Closed, false}, {443, vnet.Open, true}, {443, vnet.Private, true},
	} {
		t.Run(fmt.Sprintf("%d/%d", c.port, c.to), func(t *testing.T) {
			g := vnet.NewGate(vnet.GateConfig{Network: "n", Log: slog.New(slog.DiscardHandler), Policy: &vnet.Policy{Mode: vnet.Internet}})
			ln, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			taken := make(chan net.Conn, 1)
			go func() {
				if in, err := ln.Accept(); err == nil {
					g.Admit(t.Context(), in, c.port, func(in net.Conn) { taken <- in })
				}
			}()
			out, err := net.Dial("tcp4", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			in := <-taken
			defer in.Close()
			g.SetPolicy(&vnet.Policy{Mode: c.to})
			if _, err := in.Write([]byte("x")); err == nil {
				err = out.SetReadDeadline(time.Now().Add(10 * time.Second))
				if err == nil {
					_, err = out.Read(make([]byte, 1))
				}
				if (err == nil) != c.lives {
					t.Errorf("lives %v: got %v", c.lives, err)
				}
			} else if c.lives {
				t.Errorf("it was cut: %v", err)
			}
		})
	}
}

// TestGate_ASilentClientIsInNobodysWay: who opens connections and says nothing
// takes its own places alone.
func TestGate_ASilentClientIsInNobodysWay(t *testing.T) {
	refused := make(chan vnet.Refusal, 1000)
	g := vnet.NewGate(vnet.GateConfig{
		Network: "n", Log: slog.New(slog.DiscardHandler), Policy: &vnet.Policy{Mode: vnet.Approved}, Say: time.Minute,
		Original: func(net.Conn) (netip.AddrPort, error) { return netip.MustParseAddrPort("203.0.113.9:443"), nil },
		Refused:  func(r vnet.Refusal) { refused <- r },
	})
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(t.Context(), ln) }()
	from := func(address string) *net.Dialer {
		return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	}
	dial := func(address string) net.Conn {
		c, err := from(address).Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for range vnet.MaxUnsureOf {
		dial("127.0.0.1")
	}
	if c, err := from("127.0.0.1").Dial("tcp4", ln.Addr().String()); err == nil { // or it was reset before it was seen to stand
		t.Cleanup(func() { _ = c.Close() })
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	if r := <-refused; r.Reason != vnet.ReasonLimit || r.Client.String() != "127.0.0.1" {
		t.Fatalf("got %+v", r)
	}
	if _, err := dial("127.0.0.2").Write([]byte("GET / HTTP/1.1\r\n")); err != nil { // no TLS: it is heard, and told so
		t.Fatal(err)
	}
	for r := range refused {
		if r.Client.String() == "127.0.0.2" {
			if r.Reason != vnet.ReasonNoName {
				t.Errorf("got %+v", r)
			}
			break
		}
	}
}
