package web

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Conduit is a net.Listener whose connections are handed to it, not accepted
// from a socket: the proxy feeds the front door through one.
type Conduit struct {
	addr net.Addr
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

// NewConduit makes a Conduit that gives addr as its address.
func NewConduit(addr net.Addr) *Conduit {
	return &Conduit{addr: addr, ch: make(chan net.Conn), done: make(chan struct{})}
}

// Hand gives conn to whoever accepts, and closes it when nobody does any more.
func (c *Conduit) Hand(conn net.Conn) {
	select {
	case c.ch <- conn:
	case <-c.done:
		_ = conn.Close() // its peer sees that we stop
	}
}

// Accept waits for the next connection; net.ErrClosed after Close.
func (c *Conduit) Accept() (net.Conn, error) {
	select {
	case conn := <-c.ch:
		return conn, nil
	case <-c.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Hand. It never fails.
func (c *Conduit) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}

// Addr is the address that NewConduit was given.
func (c *Conduit) Addr() net.Addr { return c.addr }

// peeked is a connection whose first bytes were read already.
type peeked struct {
	net.Conn
	head []byte
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.head) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.head)
	p.head = p.head[n:]
	return n, nil
}

// Unread is conn such that head is read before what follows.
func Unread(conn net.Conn, head []byte) net.Conn {
	if len(head) == 0 {
		return conn
	}
	return &peeked{conn, head}
}

// Split accepts from ln until it is closed, and hands connections that begin
// as TLS does to secure and all others to plain: one port for both. Otherwise
// it is like Sort.
func Split(ln net.Listener, secure, plain *Conduit) error {
	return Sort(ln, func(conn net.Conn) (net.Conn, *Conduit) {
		var head [1]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return conn, nil // it said nothing
		}
		if head[0] == 0x16 { // a TLS handshake record, RFC 8446 section 5.1
			return Unread(conn, head[:]), secure
		}
		return Unread(conn, head[:]), plain
	})
}

// Sort accepts from ln until it is closed, and hands each connection to the
// conduit that sort chooses, as the connection that sort returns; nil closes
// it. sort may read, for ten seconds. Sort closes no conduit, and returns nil
// when ln was closed, after all connections were handed on or closed.
func Sort(ln net.Listener, sort func(net.Conn) (net.Conn, *Conduit)) error {
	s := &sorter{sort: sort, waiting: map[net.Conn]struct{}{}}
	defer s.wait()
	return Feed(ln, func(conn net.Conn) { s.wg.Go(func() { s.one(conn) }) })
}

// Feed accepts from ln until it is closed, which is no error, and gives each
// connection to hand.
func Feed(ln net.Listener, hand func(net.Conn)) error {
	delay := 5 * time.Millisecond
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if delay > 2*time.Second {
				return fmt.Errorf("accepting connections: %w", err)
			}
			time.Sleep(delay) // such as no file descriptor left: it passes
			delay *= 2
			continue
		}
		delay = 5 * time.Millisecond
		hand(conn)
	}
}

// sorter knows the connections that have not been sorted yet.
type sorter struct {
	sort func(net.Conn) (net.Conn, *Conduit)
	wg   sync.WaitGroup

	mu      sync.Mutex // guards the rest
	waiting map[net.Conn]struct{}
	closed  bool
}

func (s *sorter) one(conn net.Conn) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = conn.Close()
		return
	}
	s.waiting[conn] = struct{}{}
	s.mu.Unlock()

	_ = conn.SetReadDeadline(time.Now().Add(readHeaderTimeout))
	sorted, to := s.sort(conn)
	_ = conn.SetReadDeadline(time.Time{})

	s.mu.Lock()
	delete(s.waiting, conn)
	s.mu.Unlock()
	if to == nil {
		_ = conn.Close()
		return
	}
	to.Hand(sorted)
}

// wait closes connections that have said nothing yet, and lets the others be handed on.
func (s *sorter) wait() {
	s.mu.Lock()
	s.closed = true
	for c := range s.waiting {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
