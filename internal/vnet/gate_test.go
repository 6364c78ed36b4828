package vnet_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/vnet"
)

// outside is where the tests' connections want to go; it stands for a server
// on loopback.
var outside = netip.MustParseAddrPort("203.0.113.9:443")

func gate(t *testing.T, cfg vnet.GateConfig, to netip.AddrPort, server string) string {
	t.Helper()
	cfg.Network, cfg.Base = "c", netip.MustParsePrefix("198.18.0.0/15")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Original = func(net.Conn) (netip.AddrPort, error) { return to, nil }
	cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- vnet.NewGate(cfg).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// server answers each connection by handle.
func server(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); handle(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func TestGate_CopiesBothWaysWithHalfClose(t *testing.T) {
	echo := server(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c) // ends with the client's half
		_, _ = c.Write(append(b, " back"...))
	})
	c := dial(t, gate(t, vnet.GateConfig{}, outside, echo))
	if _, err := c.Write([]byte("there and")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "there and back" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestGate_RefusesWithAResetAndSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		cfg vnet.GateConfig
		to  string
		why string
	}{
		"loopback":        {vnet.GateConfig{}, "127.0.0.1:8443", "loopback"},
		"metadata":        {vnet.GateConfig{}, "169.254.169.254:80", "link-local"},
		"another network": {vnet.GateConfig{}, "198.18.3.2:6443", "network of Lazurite's"},
		"offline":         {vnet.GateConfig{Offline: true}, "203.0.113.9:443", "--offline"},
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			c.cfg.Log = log.logger()
			c.cfg.Who = func(netip.Addr) string { return "node one" }
			nobody := server(t, func(*net.TCPConn) { t.Error("it got through") })
			isReset(t, gate(t, c.cfg, netip.MustParseAddrPort(c.to), nobody))
			eventually(t, func() bool { return strings.Contains(log.String(), "outbound refused") })
			for _, want := range []string{"client=127.0.0.1", `who="node one"`, "to=" + c.to, c.why, "network=c"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("no %q in %s", want, log.String())
				}
			}
		})
	}
}

func TestGate_PassesAResetOn(t *testing.T) {
	cutting := server(t, func(c *net.TCPConn) { _ = c.SetLinger(0) })
	isReset(t, gate(t, vnet.GateConfig{}, outside, cutting))

	isReset(t, gate(t, vnet.GateConfig{}, outside, "127.0.0.1:1")) // nobody listens
}

func TestGate_EndsWhatIsIdle(t *testing.T) {
	silent := server(t, func(c *net.TCPConn) { _, _ = io.ReadAll(c) })
	isReset(t, gate(t, vnet.GateConfig{Idle: 50 * time.Millisecond}, outside, silent))
}

// isReset connects and wants to be thrown out within a second: while
// connecting, or at the first read.
func isReset(t *testing.T, addr string) {
	t.Helper()
	begin := time.Now()
	c, err := net.Dial("tcp", addr)
	if err == nil {
		defer c.Close()
		if err = c.SetDeadline(begin.Add(5 * time.Second)); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) || time.Since(begin) > time.Second {
		t.Errorf("got %v after %s, want a reset", err, time.Since(begin))
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		<-tick.C
	}
}
