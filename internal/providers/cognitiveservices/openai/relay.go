package openai

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Between a backend and a client stands a buffer that grows up to bufferSize:
// a client that reads slowly has it filled while the backend goes on to others.
// A backend whose answer is longer waits for the client, and where the client
// has taken nothing for the time of stall, both are let go.
const (
	bufferSize = 1 << 20
	stall      = 30 * time.Second
	pieceSize  = 32 << 10 // read at once
	eventsSize = 4 << 10  // the same of a stream: many are open for long
)

var errSlowClient = errors.New("the client read nothing while its buffer was full")

// relay is the buffer of one answer.
type relay struct {
	stall time.Duration

	mu     sync.Mutex // guards the rest
	pieces [][]byte
	size   int // of what was put and not written yet
	ended  bool
	gone   bool
	filled chan struct{} // one, when there is something to take or it ended
	taken  chan struct{} // one, when there is room or nobody takes any more
}

func newRelay(d time.Duration) *relay {
	return &relay{stall: d, filled: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put takes a copy of p, when there is room for it.
func (r *relay) put(p []byte) error {
	for {
		r.mu.Lock()
		if r.gone {
			r.mu.Unlock()
			return io.ErrClosedPipe
		}
		if r.size == 0 || r.size+len(p) <= bufferSize {
			r.pieces = append(r.pieces, append([]byte(nil), p...))
			r.size += len(p)
			r.mu.Unlock()
			signal(r.filled)
			return nil
		}
		r.mu.Unlock()
		timer := time.NewTimer(r.stall)
		select {
		case <-r.taken:
			timer.Stop()
		case <-timer.C:
			return errSlowClient
		}
	}
}

// end says that nothing more comes.
func (r *relay) end() {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	signal(r.filled)
}

// leave says that nobody takes any more.
func (r *relay) leave() {
	r.mu.Lock()
	r.gone = true
	r.mu.Unlock()
	signal(r.taken)
}

// take waits for all that has come; nothing is the end.
func (r *relay) take() [][]byte {
	for {
		<-r.filled
		r.mu.Lock()
		pieces, ended := r.pieces, r.ended
		r.pieces = nil
		r.mu.Unlock()
		if len(pieces) > 0 {
			if ended {
				signal(r.filled)
			}
			return pieces
		}
		if ended {
			return nil
		}
	}
}

// wrote makes room for n bytes.
func (r *relay) wrote(n int) {
	r.mu.Lock()
	r.size -= n
	r.mu.Unlock()
	signal(r.taken)
}

// writeTo passes on what comes, at once.
func (r *relay) writeTo(o *outlet) error {
	for {
		pieces := r.take()
		if pieces == nil {
			return nil
		}
		for _, p := range pieces {
			if err := o.write(p); err != nil {
				return err
			}
			r.wrote(len(p))
		}
		if err := o.flush(); err != nil {
			return err
		}
	}
}

// outlet is a client.
type outlet struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
	until time.Time // the deadline of writes
}

func newOutlet(w http.ResponseWriter, stall time.Duration) *outlet {
	return &outlet{w: w, rc: http.NewResponseController(w), stall: stall}
}

// write gives the client between one and two times stall to take p.
func (o *outlet) write(p []byte) error {
	if now := time.Now(); o.until.Sub(now) < o.stall {
		o.until = now.Add(2 * o.stall)
		_ = o.rc.SetWriteDeadline(o.until) // a writer that knows no deadlines is a test's
	}
	_, err := o.w.Write(p)
	return err
}

func (o *outlet) flush() error {
	if err := o.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// patience is how long a write may take before somebody else reads on.
const patience = 50 * time.Millisecond

// step takes the next piece of a backend's answer, nil at its end, and passes
// on what of it is for the client.
type step func(piece []byte, pass func([]byte) error) error

// flow passes an answer on as it comes: err is what is wrong with it, wrote what
// is with the client. One goroutine reads and writes, which is all that a
// client which keeps up needs. Where a write takes longer than patience, another
// reads on into a relay.
func (a *ask) flow(w http.ResponseWriter, size int, next step, pending []byte) (err, wrote error) {
	buf := make([]byte, size)
	o, r, ended := newOutlet(w, a.p.Stall), newRelay(a.p.Stall), make(chan error, 1)
	watch := time.AfterFunc(time.Hour, func() {
		defer r.end()
		ended <- a.pump(r, buf, next)
	})
	watch.Stop()
	gather := func(b []byte) error {
		pending = append(pending, b...)
		return nil
	}
	for over := false; ; {
		if len(pending) == 0 {
			over, err = a.read(buf, next, gather)
			pending = append(pending, a.broke(err)...)
		}
		if len(pending) > 0 {
			if !over {
				watch.Reset(patience)
			}
			if wrote = o.write(pending); wrote == nil {
				wrote = o.flush()
			}
			pending = pending[:0]
			if !over && !watch.Stop() { // somebody reads on
				if wrote == nil {
					wrote = r.writeTo(o)
				}
				r.leave()
				_ = a.answer.Body.Close() // ends the call to the backend where the client went away
				return <-ended, wrote
			}
		}
		if over || wrote != nil {
			_ = a.answer.Body.Close()
			return err, wrote
		}
	}
}

// pump reads an answer to its end into a relay.
func (a *ask) pump(r *relay, buf []byte, next step) error {
	for {
		over, err := a.read(buf, next, r.put)
		if over {
			if text := a.broke(err); text != nil {
				_ = r.put(text) // a client that does not read it is seen elsewhere
			}
			return err
		}
	}
}

// read reads one piece, and reports whether it was the last one.
func (a *ask) read(buf []byte, next step, pass func([]byte) error) (over bool, err error) {
	n, err := a.answer.Body.Read(buf)
	if n > 0 {
		if a.first == 0 {
			a.first = time.Since(a.began)
		}
		if err := next(buf[:n], pass); err != nil {
			return true, err
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return true, next(nil, pass)
	case err != nil:
		return true, errors.Join(errCut, err)
	}
	return false, nil
}
