package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/apierr"
)

// Front puts limits, ids, recovery, the log event and the measurement around
// surfaces.
type Front struct {
	log      *slog.Logger
	client   func(context.Context) []slog.Attr
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec

	mu     sync.RWMutex // guards meters
	meters map[meterKey]meter
}

// meterKey is a request as the metrics tell it from others; a meter measures
// those of one key.
type meterKey struct {
	surface, method string
	status          int
}

type meter struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

// NewFront makes a Front that logs to log and registers its metrics with reg.
// client says for the log where a request came from; nil says nothing. It
// fails when reg has the metrics already.
func NewFront(log *slog.Logger, reg prometheus.Registerer, client func(context.Context) []slog.Attr) (*Front, error) {
	f := &Front{
		log: log, client: client, meters: map[meterKey]meter{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lazurite_requests_total", Help: "Requests answered.",
		}, []string{"surface", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lazurite_request_duration_seconds", Help: "Time from the request's header to the end of its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"surface"}),
	}
	for _, c := range []prometheus.Collector{f.requests, f.duration} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("registering the request metrics: %w", err)
		}
	}
	return f, nil
}

// Serve answers one request by surface s.
func (f *Front) Serve(s *Surface, w http.ResponseWriter, r *http.Request) {
	makeRoom(len(r.Host))
	f.serve(s, w, r, 0)
}

// serve is Serve by a server that already limits the request's time.
func (f *Front) serve(s *Surface, w http.ResponseWriter, r *http.Request, limited time.Duration) {
	ev := newEvent(s, r)
	r = r.WithContext(withEvent(r.Context(), ev))
	rec := &recorder{ResponseWriter: w}
	s.setIDs(rec.Header(), r, ev)
	if d := s.timeout(); d != limited {
		var end time.Time
		if d > 0 {
			end = ev.start.Add(d)
		}
		rc := http.NewResponseController(w)
		// Writers that know no deadlines are those of tests.
		_, _ = rc.SetReadDeadline(end), rc.SetWriteDeadline(end)
	}
	r.Body = http.MaxBytesReader(w, r.Body, s.maxBody()) // w itself: it closes the connection of a body too long
	defer f.finish(rec, r, ev)
	defer func() {
		if v := recover(); v != nil {
			f.recovered(s, rec, r, v)
		}
	}()
	if s.Handler == nil {
		s.fail(rec, r, noSurface(r.Host))
		return
	}
	s.Handler.ServeHTTP(rec, r)
}

// makeRoom grows the stack of the calling goroutine at once. HTTP/2 serves each
// request on a new one, which would otherwise be copied three times on the way
// down to the store.
//
//go:noinline
func makeRoom(i int) byte {
	var room [12 << 10]byte
	return room[i%len(room)]
}

func newEvent(s *Surface, r *http.Request) *Event {
	ev := &Event{requestID: uuid.NewString(), surface: s.Name, start: time.Now()}
	ev.correlationID = clientID(r.Header.Get("X-Ms-Correlation-Request-Id"))
	if ev.correlationID == "" && s.IDs == TokenService {
		if ev.correlationID = clientID(r.Header.Get("Client-Request-Id")); ev.correlationID == "" && strings.Contains(r.URL.RawQuery, "client-request-id") {
			ev.correlationID = clientID(r.URL.Query().Get("client-request-id"))
		}
	}
	if ev.correlationID == "" {
		ev.correlationID = uuid.NewString()
	}
	return ev
}

// clientID is id if it may go into a header and a log, else "".
func clientID(id string) string {
	if len(id) > 128 {
		return ""
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return ""
		}
	}
	return id
}

// setIDs writes the ids that s answers. Source: "Azure Resource Manager request
// headers", and for the token service what MSAL asks.
func (s *Surface) setIDs(h http.Header, r *http.Request, ev *Event) {
	h.Set("X-Ms-Request-Id", ev.requestID)
	yes := func(name string) bool { return strings.EqualFold(r.Header.Get(name), "true") }
	echo := func(name string) {
		if id := clientID(r.Header.Get(name)); id != "" {
			h.Set(name, id)
		}
	}
	switch s.IDs {
	case KeyVault:
		echo("X-Ms-Client-Request-Id")
	case TokenService:
		if yes("Return-Client-Request-Id") {
			h.Set("Client-Request-Id", ev.correlationID)
		}
	default:
		h.Set("X-Ms-Correlation-Request-Id", ev.correlationID)
		if yes("X-Ms-Return-Client-Request-Id") {
			echo("X-Ms-Client-Request-Id")
		}
	}
}

// recovered turns a panic into an answer, if none has begun, and a log entry.
func (f *Front) recovered(s *Surface, w *recorder, r *http.Request, v any) {
	if v == http.ErrAbortHandler { // compared as net/http does: a panic value is not wrapped
		EventFrom(r.Context()).Fail(fmt.Errorf("answer aborted"))
		w.aborted = true
		return
	}
	e := apierr.From(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
	if w.status != 0 {
		EventFrom(r.Context()).Fail(e)
		w.aborted = true
		return
	}
	s.fail(w, r, e)
}

// finish measures and logs. It ends the connection of an answer that was cut short.
func (f *Front) finish(w *recorder, r *http.Request, ev *Event) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	took := time.Since(ev.start)
	m := f.meter(meterKey{ev.surface, method(r.Method), status})
	m.requests.Inc()
	m.duration.Observe(took.Seconds())
	level := slog.LevelInfo
	switch {
	case status >= 500:
		level = slog.LevelError
	case status >= 400 && status != http.StatusUnauthorized && status != http.StatusNotFound:
		level = slog.LevelWarn // 401 and 404 are how clients ask
	}
	if f.log.Enabled(r.Context(), level) {
		attrs := []slog.Attr{
			slog.String("surface", ev.surface),
			slog.String("method", r.Method),
			slog.String("host", r.Host),
			slog.String("path", r.URL.Path), // never the query: it holds codes and signatures
			slog.Int("status", status),
			slog.Float64("ms", float64(took.Microseconds())/1000),
			slog.Int64("bytes", w.bytes),
			slog.String("request", ev.requestID),
			slog.String("correlation", ev.correlationID),
		}
		if f.client != nil {
			attrs = append(attrs, f.client(r.Context())...)
		}
		// Not by the Logger: it would look for our place in the source.
		rec := slog.NewRecord(ev.start.Add(took), level, "request", 0)
		rec.AddAttrs(append(attrs, ev.list()...)...)
		_ = f.log.Handler().Handle(r.Context(), rec) // as the Logger does
	}
	if w.aborted {
		panic(http.ErrAbortHandler) // net/http's way to cut an answer short
	}
}

// meter finds or makes what measures requests of a kind: few of them, since
// surfaces, methods and statuses are.
func (f *Front) meter(k meterKey) meter {
	f.mu.RLock()
	m, ok := f.meters[k]
	f.mu.RUnlock()
	if ok {
		return m
	}
	m = meter{f.requests.WithLabelValues(k.surface, k.method, strconv.Itoa(k.status)), f.duration.WithLabelValues(k.surface)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.meters[k] = m
	return m
}

// method keeps what clients make up out of the metrics.
func method(m string) string {
	switch m {
	case "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

func noSurface(host string) *apierr.Error {
	return apierr.New(apierr.NotFound, "NoSurface", "Lazurite owns the name %q, and nothing answers there.", host)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status  int
	bytes   int64
	aborted bool
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is for handlers that stream and know no ResponseController.
func (w *recorder) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush() // a writer that can't flush has nothing to do
}
