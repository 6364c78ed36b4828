package inference

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// stall is how long a reader may stay away before the rest of the answer is
	// fetched without it, so that a slow client holds no backend.
	stall = 50 * time.Millisecond

	// maxAhead bounds what is fetched and not yet read, in bytes; with so much lying
	// there for patience, the answer is given up.
	maxAhead = 1 << 20
	patience = 30 * time.Second
)

// problem is an error whose text any caller may see: it has no address, path
// or secret in it.
type problem string

// Error is the text.
func (p problem) Error() string { return string(p) }

const (
	errFirstByte problem = "it did not answer in time"
	errIdle      problem = "it stopped in the middle of its answer"
	errClosed    problem = "the answer was closed"
	errSlow      problem = "the client read too slowly"
)

// body is a backend's answer as it comes. Reads go straight to the connection;
// only when the reader is away for long a goroutine takes over and reads ahead.
type body struct {
	from   io.ReadCloser
	cancel context.CancelCauseFunc
	why    func() error
	idle   time.Duration
	ended  func(error) // called once: nil at the end of the answer, else why there is none

	timer *time.Timer // calls late

	mu       sync.Mutex // guards what follows
	cond     *sync.Cond // ahead's and the reader's, where ahead runs
	deadline time.Time  // of timer
	waits    error      // what is wrong when the timer ends; nil: nobody waits for the backend
	ahead    bool       // the goroutine has taken over
	buf      []byte     // fetched and not yet read
	err      error      // what comes after buf
	closed   bool
}

// newBody wraps a body; why says why its context ended, if it did.
func newBody(from io.ReadCloser, cancel context.CancelCauseFunc, why func() error, idle time.Duration, ended func(error)) *body {
	b := &body{from: from, cancel: cancel, why: why, idle: idle, ended: ended}
	b.cond = sync.NewCond(&b.mu)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deadline = time.Now().Add(stall)
	b.timer = time.AfterFunc(stall, b.late)
	return b
}

// arm sets the timer. mu is held.
func (b *body) arm(d time.Duration) {
	b.deadline = time.Now().Add(d)
	b.timer.Reset(d)
}

// late is called when the timer ends.
func (b *body) late() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil || b.closed || time.Now().Before(b.deadline): // it was armed again
	case b.waits != nil:
		b.cancel(b.waits) // ends the read
	case b.ahead:
		b.cancel(errSlow)
		b.end(errSlow)
	default:
		b.ahead = true
		go b.fetch()
	}
}

// end notes what comes after buf. mu is held.
func (b *body) end(err error) {
	if b.err != nil {
		return
	}
	b.err = err
	b.timer.Stop()
	b.cancel(errClosed) // the context has done its work
	if errors.Is(err, io.EOF) {
		err = nil
	}
	b.ended(err)
	b.cond.Broadcast()
}

// receive reads from the backend, with mu open meanwhile. An error is the end.
func (b *body) receive(p []byte, within time.Duration, otherwise error) (int, error) {
	b.waits = otherwise
	b.arm(within)
	b.mu.Unlock()
	n, err := b.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		if why := b.why(); why != nil {
			err = why
		}
	}
	b.mu.Lock()
	b.waits = nil
	return n, err
}

// first waits for the first bytes and keeps them. Where there are none, the
// body is of no use, and ended is not called.
func (b *body) first(within time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := make([]byte, 2<<10)
	n, err := b.receive(p, within, errFirstByte)
	if err != nil && n == 0 {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		b.closed = true
		b.timer.Stop()
		b.cancel(errClosed)
		_ = b.from.Close()
		return err
	}
	b.buf = p[:n]
	if err != nil {
		b.end(err)
	} else {
		b.arm(stall)
	}
	return nil
}

// Read gives what came, and waits for the backend where nothing did.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.buf) == 0 {
		switch {
		case b.closed:
			return 0, errClosed
		case b.err != nil:
			return 0, b.err
		case b.ahead:
			b.cond.Wait()
		default:
			return b.read(p)
		}
	}
	n := copy(p, b.buf)
	if b.buf = b.buf[n:]; len(b.buf) == 0 {
		b.buf = nil
	}
	if b.ahead {
		b.cond.Broadcast()
	} else if b.err == nil {
		b.arm(stall)
	}
	return n, nil
}

// read is Read where nothing is there. mu is held.
func (b *body) read(p []byte) (int, error) {
	n, err := b.receive(p, b.idle, errIdle)
	switch {
	case err != nil:
		b.end(err)
	case !b.closed:
		b.arm(stall)
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// fetch reads ahead until the answer ends.
func (b *body) fetch() {
	p := make([]byte, 8<<10)
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil && !b.closed {
		if len(b.buf) >= maxAhead {
			b.arm(patience)
			b.cond.Wait()
			continue
		}
		n, err := b.receive(p, b.idle, errIdle)
		b.buf = append(b.buf, p[:n]...)
		if err != nil {
			b.end(err)
		}
		b.cond.Broadcast()
	}
}

// Close ends the call to the backend too, where it still runs.
func (b *body) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.end(errClosed)
	b.buf = nil
	b.cond.Broadcast()
	b.mu.Unlock()
	return b.from.Close()
}
