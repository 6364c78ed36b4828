package wire_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/wire"
)

// TestDial_PodsAlone: pods are reached, common clusters' and isolated ones', and
// nothing else is.
func TestDial_PodsAlone(t *testing.T) {
	for name, isolated := range map[string][]bool{"common": nil, "isolated": {true}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, isolated...)
			w.serve(w.podB, "tcp", "0.0.0.0:8080")
			w.serve(w.nodeA, "tcp", "0.0.0.0:10250")
			f, err := w.Dial(t.Context(), netip.AddrPortFrom(w.podAddrB, 8080))
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.FileConn(f)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
			defer conn.Close()
			if said, err := io.ReadAll(conn); err != nil || len(said) == 0 {
				t.Errorf("got %q, %v", said, err)
			}
			began := time.Now()
			if _, err := w.Dial(t.Context(), netip.AddrPortFrom(w.podAddrB, 9)); !errors.Is(err, syscall.ECONNREFUSED) || time.Since(began) > 2*time.Second {
				t.Errorf("a port that is closed: got %v after %s", err, time.Since(began))
			}
			gateway := w.PodCIDR(slotA).Addr().Next()
			for _, at := range []netip.AddrPort{
				netip.AddrPortFrom(w.Host(), 8080), netip.AddrPortFrom(w.Cluster(), node.PortAPI), netip.AddrPortFrom(w.Node(slotA), 10250),
				netip.AddrPortFrom(gateway, 10250), netip.AddrPortFrom(w.PodCIDR(slotA).Addr(), 8080), netip.AddrPortFrom(w.podAddrB, 0),
				netip.AddrPortFrom(w.PodCIDR(wire.FirstSlot+2).Addr().Next().Next(), 8080), // no node has that range
				netip.MustParseAddrPort("127.0.0.1:22"), netip.MustParseAddrPort("169.254.169.254:80"), netip.MustParseAddrPort("10.0.0.1:443"),
				netip.MustParseAddrPort("[::1]:80"), netip.MustParseAddrPort("[::ffff:10.244.0.2]:80"), {},
			} {
				if f, err := w.Dial(t.Context(), at); !errors.Is(err, node.ErrInvalid) || f != nil {
					t.Errorf("%s: got %v", at, err)
				}
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := w.Dial(ended, netip.AddrPortFrom(w.podAddrB, 8080)); !errors.Is(err, context.Canceled) {
				t.Errorf("given up: got %v", err)
			}
		})
	}
}
