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
	pieceSize  = 32 << 10
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
func (r *relay) writeTo(w http.ResponseWriter) error {
	rc := http.NewResponseController(w)
	for {
		pieces := r.take()
		if pieces == nil {
			return nil
		}
		_ = rc.SetWriteDeadline(time.Now().Add(2 * r.stall)) // a writer that knows no deadlines is a test's
		for _, p := range pieces {
			if _, err := w.Write(p); err != nil {
				return err
			}
			r.wrote(len(p))
		}
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
}
