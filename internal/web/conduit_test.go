package web_test

import (
	"io"
	"net"
	"testing"

	"lazurite.dev/internal/web"
)

func TestSplit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure, plain := web.NewConduit(ln.Addr()), web.NewConduit(ln.Addr())
	ended := make(chan error, 1)
	go func() { ended <- web.Split(ln, secure, plain) }()
	for _, c := range []struct {
		send string
		to   *web.Conduit
	}{{"\x16\x03\x01", secure}, {"GET", plain}} {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := io.WriteString(client, c.send); err != nil {
			t.Fatal(err)
		}
		conn, err := c.to.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		got := make([]byte, len(c.send))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.send {
			t.Errorf("got %q, %v; want %q", got, err, c.send)
		}
	}
	silent, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_ = ln.Close()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil after Close", err)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that said nothing stayed open")
	}
}

func TestConduit_HandAfterCloseClosesTheConnection(t *testing.T) {
	c := web.NewConduit(nil)
	_ = c.Close()
	_ = c.Close()
	a, b := net.Pipe()
	c.Hand(a)
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("the connection stayed open")
	}
	if _, err := c.Accept(); err == nil {
		t.Error("Accept gave a connection after Close")
	}
}
