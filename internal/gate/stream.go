package gate

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Stream is the request's body as it comes, of any length that the surface
// takes; a client that sends nothing for idle is cut off.
func (c *Call) Stream(idle time.Duration) *Stream {
	return &Stream{body: c.Request.Body, rc: http.NewResponseController(c.w), idle: idle}
}

// Stream is a request's body while it comes.
type Stream struct {
	body    io.Reader
	rc      *http.ResponseController // one that knows no deadlines is a test's
	idle    time.Duration
	stopped atomic.Bool

	mu    sync.Mutex // held while something is read
	ended bool
}

// late reports whether a body did not come in time. Its deadline stays as it is
// then, or net/http would wait for the rest before it answers.
func late(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Read implements io.Reader; it gives io.ErrClosedPipe after Stop.
func (s *Stream) Read(p []byte) (int, error) { return s.read(p, s.idle) }

func (s *Stream) read(p []byte, wait time.Duration) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped.Load() {
		return 0, io.ErrClosedPipe
	}
	_ = s.rc.SetReadDeadline(time.Now().Add(wait))
	if s.stopped.Load() { // it may have been set back just now
		return 0, io.ErrClosedPipe
	}
	n, err := s.body.Read(p)
	if err != nil && !late(err) {
		s.ended = true
		_ = s.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Pause lets the client take its time until the next read: for who does not read
// on for a while, though the client would send.
func (s *Stream) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended && !s.stopped.Load() {
		_ = s.rc.SetReadDeadline(time.Time{})
	}
}

// Fill reads p, which is as long as the whole body, within the time most. It
// gives an error of package os that is os.ErrDeadlineExceeded where the client is
// slower.
func (s *Stream) Fill(p []byte, most time.Duration) error {
	end := time.Now().Add(most)
	for n := 0; n < len(p); {
		left := time.Until(end)
		if left <= 0 {
			_ = s.rc.SetReadDeadline(time.Unix(1, 0))
			return os.ErrDeadlineExceeded
		}
		m, err := s.read(p[n:], min(s.idle, left))
		if n += m; n < len(p) && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	_ = s.rc.SetReadDeadline(time.Time{})
	return nil
}

// Stop ends what is being read, and all later reads. A handler whose stream
// somebody else reads calls it before it returns, since that has to end with it.
func (s *Stream) Stop() {
	if s.stopped.Swap(true) {
		return
	}
	if !s.mu.TryLock() {
		_ = s.rc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if !s.ended { // net/http throws the rest away, and is not to wait for it
		_ = s.rc.SetReadDeadline(time.Unix(1, 0))
	}
}
