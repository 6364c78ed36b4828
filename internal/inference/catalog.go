package inference

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"lazurite.dev/internal/apierr"
)

// Config is what a catalogue is made of. The zero Config is the built-in model
// under the usual names.
type Config struct {
	// Builtin is the built-in model: OpenAI's API under /v1. Where it is nil, calls
	// to it are refused.
	Builtin http.Handler

	// Log is where the catalogue logs; nil discards.
	Log *slog.Logger
}

// Catalog is the models that can be deployed and the servers behind them.
type Catalog struct {
	log    *slog.Logger
	models atomic.Pointer[[]*entry] // sorted by name, then version
}

// entry is a model with what answers for it.
type entry struct {
	Model
	backend http.RoundTripper
	base    string
	own     string // the backend's own name of the model
}

// New makes a catalogue; it opens no connection.
func New(c Config) (*Catalog, error) {
	cat := &Catalog{log: c.Log}
	if cat.log == nil {
		cat.log = slog.New(slog.DiscardHandler)
	}
	var all []*entry
	for _, m := range usualModels() {
		all = append(all, &entry{Model: m, backend: inProcess{c.Builtin}, base: "http://builtin/v1/", own: TinyWriter})
	}
	slices.SortStableFunc(all, func(a, b *entry) int { return strings.Compare(a.Name, b.Name) })
	cat.models.Store(&all)
	return cat, nil
}

// Run watches the backends' health until ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Models is every model that can be deployed, sorted by name.
func (c *Catalog) Models() []Model {
	all := *c.models.Load()
	out := make([]Model, len(all))
	for i, e := range all {
		out[i] = e.Model
	}
	return out
}

// Find is the model of a name and version, both without letter case; an empty
// version is the default one.
func (c *Catalog) Find(name, version string) (*Model, bool) {
	if e := c.find(name, version); e != nil {
		m := e.Model
		return &m, true
	}
	return nil, false
}

func (c *Catalog) find(name, version string) *entry {
	for _, e := range *c.models.Load() {
		if strings.EqualFold(e.Name, name) && (version == "" && e.Default || strings.EqualFold(e.Version, version)) {
			return e
		}
	}
	return nil
}

// Do asks a backend of the model. The answer has whatever status the backend
// gave. Errors are *apierr.Error: NotFound where the catalogue lacks the model,
// BadRequest where the model can't do the operation, Unavailable where no
// backend answered; or ctx's.
func (c *Catalog) Do(ctx context.Context, model, version string, call *Call) (*Answer, error) {
	e := c.find(model, version)
	if e == nil {
		return nil, apierr.New(apierr.NotFound, "ModelNotFound", "The model %s, version %s, is not in this catalogue any more. `laz models list` shows what is; the setting is `models:`.", model, version)
	}
	if !e.Capabilities.Can(call.Operation) {
		return nil, apierr.New(apierr.BadRequest, "OperationNotSupported", "The %s operation does not work with the model %s, which %s serves. "+
			"The setting `models:` names a model that does it.", call.Operation, e.Name, e.Source)
	}
	own, err := json.Marshal(e.own)
	if err != nil {
		return nil, fmt.Errorf("naming the model: %w", err)
	}
	body, err := Set(call.Body, "model", own)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base+string(call.Operation), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking a backend: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := e.backend.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: resp.Body, Backend: e.Source, Attempts: 1}, nil
}

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
