package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

const (
	mostAnswer = 64 << 10 // an answer up to this is read before it is passed on, bytes
	bufferSize = 1 << 20  // of a longer one, between the instance and a client that reads slowly
	pieceSize  = 32 << 10
)

// answer passes the instance's answer on: whole where it is short, else as it
// comes.
func (a *ask) answer() (any, error) {
	status := a.judge()
	if n := a.res.ContentLength; n >= 0 && n <= mostAnswer || a.c.Request.Method == http.MethodHead || noBody(a.res.StatusCode) {
		whole, err := a.whole()
		if err != nil {
			return nil, err
		}
		a.end(true)
		a.count(status)
		a.hold(a.c.Context, len(whole), &a.heldOut)
		return gate.Answer(func(w http.ResponseWriter) error {
			a.header(w.Header())
			if a.heldBack() && len(whole) > 0 {
				w.Header().Del("Content-Length") // with which HTTP/1.1 has no trailers
				a.tellHeld(w.Header())
			} else if a.c.Request.Method != http.MethodHead {
				w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
			}
			if len(whole) > pieceSize/8 { // less than a socket takes
				_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(a.r.cfg.Stall)) // a writer that knows none is a test's
			}
			w.WriteHeader(status)
			_, _ = w.Write(whole) // a client that has gone is seen by the server
			return nil
		}), nil
	}
	return gate.Answer(func(w http.ResponseWriter) error { return a.stream(w, status) }), nil
}

func noBody(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified
}

// judge is the status that the caller gets: 424 for all that is not 200. What
// the model said is in headers, for explanations and the log.
func (a *ask) judge() int {
	got := a.res.StatusCode
	a.said = strconv.Itoa(got) + " " + http.StatusText(got)
	if got == http.StatusOK {
		return got
	}
	ev := web.EventFrom(a.c.Context)
	ev.Set("model_status", got)
	status := http.StatusFailedDependency
	if path := a.c.Request.URL.Path; got == http.StatusNotFound && path != a.dep.ScoringPath {
		status = got // not the model but the path is wrong
	}
	a.said = strconv.Itoa(status) + ", since the model answered " + a.said
	trace.From(a.c.Context).AddLate(func() trace.Hop {
		return trace.Hop{
			Step: "model", Subject: a.dep.ID.String(), Received: strconv.Itoa(got), Found: "the container answered with a status that is not 200",
			Fix: "az ml online-deployment get-logs --name " + a.dep.Name + " --endpoint-name " + a.ep.Name + where(a.ep),
		}
	})
	return status
}

// whole reads a short answer.
func (a *ask) whole() ([]byte, error) {
	if a.c.Request.Method == http.MethodHead || noBody(a.res.StatusCode) || a.res.ContentLength == 0 {
		return nil, nil
	}
	buf := make([]byte, a.res.ContentLength)
	a.clock.again(a.dep.timeout())
	if _, err := io.ReadFull(a.res.Body, buf); err != nil {
		return nil, a.sendError(a.res.Request.Context(), fmt.Errorf("reading the answer: %w", err))
	}
	return buf, nil
}

// header is what the caller gets of the instance's header, and ours.
func (a *ask) header(h http.Header) {
	for name, values := range a.res.Header {
		if !hopByHop(name) && name != "X-Request-Id" && name != "X-Ms-Request-Id" {
			h[name] = values
		}
	}
	without(h, a.res.Header)
	h[headerDeployment] = []string{a.dep.Name}
	h[headerTime] = []string{strconv.FormatInt(a.took.Milliseconds(), 10)}
	if got := a.res.StatusCode; got != http.StatusOK {
		h[headerStatus], h[headerReason] = []string{strconv.Itoa(got)}, []string{codeModel}
	}
}

// stream passes a longer answer on as it comes. Another goroutine reads, up to
// the size of a buffer ahead of the client, so that the instance is free again
// as soon as may be.
func (a *ask) stream(w http.ResponseWriter, status int) error {
	rc := http.NewResponseController(w)
	if u := a.body.rest; u != nil && !u.ended.Load() {
		_ = rc.EnableFullDuplex() // HTTP/2 always is
	}
	a.header(w.Header())
	w.WriteHeader(status)
	flushes := a.res.ContentLength < 0
	if flushes {
		_ = rc.Flush()
	}
	f := newFlow()
	done := make(chan error, 1)
	go func() {
		err := a.pump(f)
		a.end(true)
		f.end()
		done <- err
	}()
	wrote := f.writeTo(w, rc, a.r.cfg.Stall, flushes)
	if wrote != nil { // the client takes no more
		f.leave()
		a.cancel(context.Canceled)
	}
	err := <-done
	for name, values := range a.res.Trailer {
		w.Header()[http.TrailerPrefix+name] = values
	}
	a.tellHeld(w.Header())
	a.count(status)
	if wrote != nil {
		return fmt.Errorf("writing the answer: %w", wrote)
	}
	return err
}

// pump reads the instance's answer to its end.
func (a *ask) pump(f *flow) error {
	ctx := a.res.Request.Context()
	buf := make([]byte, pieceSize)
	for {
		a.clock.again(a.dep.timeout())
		n, err := a.res.Body.Read(buf)
		a.clock.pause()
		a.hold(ctx, n, &a.heldOut)
		if n > 0 && !f.put(buf[:n]) {
			return context.Canceled
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return a.word(a.sendError(ctx, err))
		}
	}
}

// flow is a buffer between who reads and who writes.
type flow struct {
	mu    sync.Mutex // guards the rest
	more  sync.Cond
	buf   []byte
	ended bool
	left  bool
}

func newFlow() *flow {
	f := &flow{}
	f.more.L = &f.mu
	return f
}

// put adds p when there is room, and reports whether somebody will take it.
func (f *flow) put(p []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.buf) > 0 && len(f.buf)+len(p) > bufferSize && !f.left {
		f.more.Wait()
	}
	f.buf = append(f.buf, p...)
	f.more.Signal()
	return !f.left
}

// take waits for what has come, and leaves spare for the next; nothing is the
// end. It calls idle before it waits.
func (f *flow) take(spare []byte, idle func()) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.buf) == 0 && !f.ended {
		f.mu.Unlock()
		idle()
		f.mu.Lock()
	}
	for len(f.buf) == 0 && !f.ended {
		f.more.Wait()
	}
	got := f.buf
	f.buf = spare[:0]
	f.more.Signal()
	return got
}

func (f *flow) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.more.Signal()
}

func (f *flow) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = true
	f.more.Signal()
}

// writeTo passes on what comes. A client that takes nothing for between one and
// two times stall is given up; not one that is not given anything.
func (f *flow) writeTo(w io.Writer, rc *http.ResponseController, stall time.Duration, flushes bool) error {
	var spare []byte
	var until time.Time
	idle := func() {
		if !until.IsZero() { // HTTP/2 ends a stream by it also when nothing is being written
			until = time.Time{}
			_ = rc.SetWriteDeadline(until)
		}
	}
	for {
		got := f.take(spare, idle)
		if len(got) == 0 {
			_ = rc.SetWriteDeadline(time.Now().Add(2 * stall)) // for what is still to be flushed
			return nil
		}
		for rest := got; len(rest) > 0; {
			if now := time.Now(); until.Sub(now) < stall {
				until = now.Add(2 * stall)
				_ = rc.SetWriteDeadline(until) // a writer that knows no deadlines is a test's
			}
			piece := rest[:min(len(rest), pieceSize)]
			if _, err := w.Write(piece); err != nil {
				return err
			}
			rest = rest[len(piece):]
		}
		if flushes {
			if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		spare = got
	}
}
