package vnet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// reset closes c with a TCP reset: its peer is not left waiting.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0) // then Close ends it in the common way
	}
	_ = c.Close()
}

// join copies both ways until both ends have finished, one has broken off,
// nothing came for too long, or ctx ends.
func (g *Gate) join(ctx context.Context, in, out net.Conn, v *guest, said *asked) {
	var broken atomic.Bool
	cut := func() {
		broken.Store(true)
		reset(in)
		reset(out)
	}
	defer context.AfterFunc(ctx, cut)()
	var last atomic.Int64 // when something came, either way
	last.Store(time.Now().UnixNano())
	one := func(dst, src net.Conn, direction string, pass func(io.Writer, *lively) error) {
		r := &lively{conn: src, last: &last, idle: g.cfg.Idle}
		err := pass(dst, r)
		g.cfg.Metrics.passed(g.cfg.Network, direction, r.n)
		if half, ok := dst.(interface{ CloseWrite() error }); err != nil || !ok || half.CloseWrite() != nil {
			cut()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { one(in, out, "in", g.copy) })
	outward := g.copy
	if said != nil {
		outward = func(w io.Writer, r *lively) error { return g.pass(w, r, v, said) }
	}
	one(out, in, "out", outward)
	wg.Wait()
	if !broken.Load() {
		_ = in.Close()
		_ = out.Close()
	}
}

// pass passes on what was read of a connection already, and what follows: of
// HTTP each request, as long as it is for the same name.
func (g *Gate) pass(w io.Writer, r *lively, v *guest, said *asked) error {
	if said.head == nil {
		if _, err := w.Write(said.raw); err != nil {
			return err
		}
		r.n += int64(len(said.raw))
		return g.copy(w, r)
	}
	// What the first reader holds already comes first.
	held, err := said.more.Peek(said.more.Buffered())
	if err != nil {
		return err
	}
	br := bufio.NewReaderSize(io.MultiReader(&bytesReader{held}, r), copyBufferLen)
	for h := *said.head; ; {
		if _, err := w.Write(h.raw); err != nil {
			return err
		}
		if err := h.copyBody(w, br); err != nil {
			return err
		}
		if h, err = readHead(br); errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if errors.Is(err, errRequest) {
			g.tell(Refusal{Client: v.client, To: v.to, Name: v.name, Reason: ReasonNoName, Why: err.Error()})
		}
		if err != nil {
			return err
		}
		if h.host == v.name {
			continue
		}
		if reason, why := g.current().refuses(h.host, g.owns(h.host), v.to.Port()); reason != "" {
			g.tell(Refusal{Client: v.client, To: v.to, Name: h.host, Reason: reason, Why: why})
		} else {
			g.tell(Refusal{Client: v.client, To: v.to, Name: h.host, Reason: ReasonChanged, Why: fmt.Sprintf("the connection was opened for %s; another name needs another one", v.name)})
		}
		return errRequest
	}
}

// bytesReader reads bytes once.
type bytesReader struct{ b []byte }

// Read implements io.Reader.
func (r *bytesReader) Read(b []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.b)
	r.b = r.b[n:]
	return n, nil
}

// copy is io.Copy. Between two sockets the kernel moves the bytes by itself.
func (g *Gate) copy(dst io.Writer, src *lively) error {
	if to, ok := dst.(*net.TCPConn); ok {
		if from, ok := src.conn.(*net.TCPConn); ok {
			return src.splice(to, from)
		}
	}
	buf := g.buffers.Get().(*[]byte)
	defer g.buffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			if _, err := dst.Write((*buf)[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// lively reads from a connection until nothing came for too long, over it or
// the one that it is joined with.
type lively struct {
	conn net.Conn
	last *atomic.Int64 // UnixNano
	idle time.Duration
	n    int64
}

// Read implements io.Reader.
func (l *lively) Read(b []byte) (int, error) {
	for {
		if err := l.conn.SetReadDeadline(time.Unix(0, l.last.Load()).Add(l.idle)); err != nil {
			return 0, err
		}
		n, err := l.conn.Read(b)
		if n > 0 {
			l.last.Store(time.Now().UnixNano())
			l.n += int64(n)
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() && n == 0 && time.Since(time.Unix(0, l.last.Load())) < l.idle {
			continue // the other way is busy
		}
		return n, err
	}
}

const (
	spliced = 4 << 20 // bytes that are moved at a time
	looks   = 4       // times in an idle time that those on the way are counted
)

// splice moves what comes from one socket to another.
func (l *lively) splice(to, from *net.TCPConn) error {
	for {
		now := time.Now()
		until := time.Unix(0, l.last.Load()).Add(l.idle)
		if next := now.Add(l.idle / looks); next.Before(until) {
			until = next
		}
		if err := from.SetReadDeadline(until); err != nil {
			return err
		}
		part := &io.LimitedReader{R: from, N: spliced}
		n, err := to.ReadFrom(part)
		if n > 0 {
			l.last.Store(time.Now().UnixNano())
			l.n += n
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() && time.Since(time.Unix(0, l.last.Load())) < l.idle {
			continue // some of it came, or the other way is busy
		}
		if err != nil {
			return err
		}
		if part.N > 0 { // it ended before the part was full
			return nil
		}
	}
}
