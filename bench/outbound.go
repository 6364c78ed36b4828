package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"lazurite.dev/internal/vnet"
)

// outboundName is approved in the measured gate.
const outboundName = "model.example"

// outbound measures the way out of a managed network in which names are
// approved: what a long transfer and new connections cost, beside a forwarder
// that copies and asks nothing. All of it is in this process.
func (s *suite) outbound(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	hello, err := clientHello()
	if err != nil {
		return err
	}
	wg.Go(func() { serveSink(ctx, sink, len(hello)) })
	gate := vnet.NewGate(vnet.GateConfig{
		Network: "bench", Log: slog.New(slog.DiscardHandler),
		Policy:   &vnet.Policy{Mode: vnet.Approved, Rules: []vnet.Rule{{Name: "bench", Hosts: []string{outboundName}}}},
		Original: func(net.Conn) (netip.AddrPort, error) { return netip.MustParseAddrPort("203.0.113.9:443"), nil },
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("203.0.113.9")}, nil
		},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, sink.Addr().String())
		},
	})
	ways := map[string]string{}
	for name, serve := range map[string]func(context.Context, net.Listener) error{
		"gate": gate.Serve, "forward": func(ctx context.Context, ln net.Listener) error { return forward(ctx, ln, sink.Addr().String()) },
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ways[name] = ln.Addr().String()
		wg.Go(func() { _ = serve(ctx, ln) }) // it ends with ctx alone
	}
	if err := s.bulk(ways, hello); err != nil {
		return err
	}
	return s.newcomers(ways, hello)
}

// bulk sends a lot over one connection each, in turns.
func (s *suite) bulk(ways map[string]string, hello []byte) error {
	const turns, chunk = 10, 1 << 20
	size := int64(s.n(200)) * chunk
	took, cpu := map[string]time.Duration{}, map[string]time.Duration{}
	for turn := range turns + 1 {
		for way, addr := range ways {
			began, used := time.Now(), usage()
			if err := transfer(addr, hello, size); err != nil {
				return fmt.Errorf("through the %s: %w", way, err)
			}
			if turn > 0 { // the first is for warmth
				took[way] += time.Since(began)
				cpu[way] += usage() - used
			}
		}
	}
	rate := func(way string) float64 { return float64(turns*size) / took[way].Seconds() / 1e6 }
	ratio := rate("gate") / rate("forward")
	s.add(figure{
		what: "outbound gate, one long transfer", value: fmt.Sprintf("%.0f MB/s", rate("gate")), limit: fmt.Sprintf("a plain TCP forward: %.0f MB/s", rate("forward")),
		ratio: ratio, goal: "≥ 0.9 of it", met: ratio >= 0.9,
	})
	ratio = float64(cpu["gate"]) / float64(cpu["forward"])
	s.add(figure{
		what: "the same, CPU of client, way and server", value: fmt.Sprintf("%.2f ms/MB", cpu["gate"].Seconds()*1e9/float64(turns*size)), limit: fmt.Sprintf("%.2f ms/MB", cpu["forward"].Seconds()*1e9/float64(turns*size)),
		ratio: ratio, goal: "≤ 1.1 of it", met: ratio <= 1.1,
	})
	return nil
}

// newcomers open connections one after another, say a name and hear one byte.
func (s *suite) newcomers(ways map[string]string, hello []byte) error {
	const turns = 10
	each := s.n(400)
	took := map[string]time.Duration{}
	for turn := range turns + 1 {
		for way, addr := range ways {
			began := time.Now()
			for range each {
				if err := transfer(addr, hello, 0); err != nil {
					return fmt.Errorf("through the %s: %w", way, err)
				}
			}
			if turn > 0 {
				took[way] += time.Since(began)
			}
		}
	}
	one := func(way string) time.Duration { return took[way] / time.Duration(turns*each) }
	added := one("gate") - one("forward")
	s.add(figure{
		what: "outbound gate, a new connection", value: one("gate").Round(time.Microsecond).String(), limit: fmt.Sprintf("a plain TCP forward: %s", one("forward").Round(time.Microsecond)),
		ratio: float64(one("gate")) / float64(one("forward")), goal: "≤ 0.2 ms more", met: added <= 200*time.Microsecond,
	})
	return nil
}

// transfer says hello, sends so many bytes, and waits for the server's last word.
func transfer(addr string, hello []byte, size int64) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(hello); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return err
	}
	block := make([]byte, 256<<10)
	for left := size; left > 0; left -= int64(len(block)) {
		if _, err := c.Write(block[:min(left, int64(len(block)))]); err != nil {
			return err
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	rest, err := io.ReadAll(c)
	if err == nil && string(rest) != "." {
		err = errors.New("the transfer was cut short")
	}
	return err
}

// serveSink answers a hello with a byte, swallows what follows, and says a last one.
func serveSink(ctx context.Context, ln net.Listener, hello int) {
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := io.ReadFull(c, make([]byte, hello)); err != nil {
				return
			}
			if _, err := c.Write([]byte("!")); err != nil {
				return
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10)); err == nil {
				_, _ = c.Write([]byte("."))
			}
		}()
	}
}

// forward is the limit: a TCP forwarder as one writes it in Go.
func forward(ctx context.Context, ln net.Listener, to string) error {
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	for {
		in, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer out.Close()
			go func() {
				_, _ = io.Copy(out, in)
				_ = out.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(in, out)
			_ = in.(*net.TCPConn).CloseWrite()
		}()
	}
}

// clientHello is what Go's client says first.
func clientHello() ([]byte, error) {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_ = tls.Client(a, &tls.Config{ServerName: outboundName}).HandshakeContext(context.Background())
		_ = a.Close()
	}()
	var head [5]byte
	if _, err := io.ReadFull(b, head[:]); err != nil {
		return nil, err
	}
	raw := append(head[:], make([]byte, int(head[3])<<8|int(head[4]))...)
	_, err := io.ReadFull(b, raw[5:])
	return raw, err
}

// usage is the CPU time of this process.
func usage() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
