package inference

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"lazurite.dev/internal/apierr"
)

// inProcess answers requests by a handler of this process, as a server would.
type inProcess struct{ handler http.Handler }

// RoundTrip gives the handler's answer as it is written.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.handler == nil {
		return nil, apierr.New(apierr.Unavailable, "ServiceUnavailable", "This program has no built-in model. The setting `models:` names a backend.")
	}
	ctx, cancel := context.WithCancel(r.Context())
	in, out := io.Pipe()
	w := &pipeWriter{header: http.Header{}, out: out, started: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = out.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer stop()
		defer func() {
			if v := recover(); v != nil {
				_ = out.CloseWithError(fmt.Errorf("the built-in model: %v", v))
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = out.Close()
		}()
		p.handler.ServeHTTP(w, r.WithContext(ctx))
	}()
	select {
	case <-w.started:
	case <-ctx.Done():
		cancel()
		return nil, context.Cause(ctx)
	}
	return &http.Response{StatusCode: w.status, Header: w.sent, Body: &pipeBody{in, cancel}, Request: r, ContentLength: -1, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

// pipeWriter is used by the handler's goroutine alone; status and sent are
// others' once started is closed.
type pipeWriter struct {
	header, sent http.Header
	status       int
	out          *io.PipeWriter
	started      chan struct{}
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
		close(w.started)
	}
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.out.Write(p)
}

// Flush has nothing to do: nothing is held back.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the handler's request too.
func (b *pipeBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
