package inference

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"lazurite.dev/internal/apierr"
)

// backend is one server of one model's pool.
type backend struct {
	name        string
	index       int // in its pool
	weight      int // 0: a reserve
	concurrency int // 0: any number
	own         string
	native      bool // it has /responses itself
	plain       bool // it knows no stream_options
	modern      bool // it wants max_completion_tokens
	builtin     bool

	transport http.RoundTripper
	base      url.URL // with the prefix
	azure     bool    // the API of APIAzure
	version   string  // api-version; empty: none
	key       *keyFile
	headers   map[string]string
	timeouts  Timeouts
	health    time.Duration

	named    json.RawMessage             // own, as JSON
	requests map[Operation]*http.Request // what is the same in all requests

	state state // guarded by the pool's mu
}

// newBackend makes one of a configuration with its defaults.
func newBackend(c BackendConfig, builtin http.Handler) (*backend, error) {
	b := &backend{
		name: c.Name, weight: *c.Weight, concurrency: c.Concurrency, own: c.Model, native: c.Responses, plain: c.StreamOptions != nil && !*c.StreamOptions, builtin: c.Builtin,
		modern: c.wantsCompletionTokens(),
		azure:  c.API == APIAzure, version: c.APIVersion, headers: c.Headers, timeouts: c.Timeouts, health: *c.HealthInterval,
	}
	var err error
	if b.named, err = json.Marshal(c.Model); err != nil {
		return nil, fmt.Errorf("backend %s: model: %w", c.Name, err)
	}
	if c.Builtin {
		b.base = url.URL{Scheme: "http", Host: "builtin", Path: "/v1"}
		b.transport, b.health = inProcess{builtin}, 0
		b.prepare()
		return b, nil
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", c.Name, err)
	}
	b.base = url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(c.Prefix, "/")}
	if c.KeyFile != "" {
		b.key = &keyFile{path: c.KeyFile}
		if _, err := b.key.get(); err != nil {
			return nil, fmt.Errorf("backend %s: keyFile: %w", c.Name, err)
		}
	}
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: c.Timeouts.Connect, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: c.Timeouts.Connect, ForceAttemptHTTP2: true, DisableCompression: true,
		MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.CAFile != "" {
		if t.TLSClientConfig.RootCAs, err = roots(c.CAFile); err != nil {
			return nil, fmt.Errorf("backend %s: caFile: %w", c.Name, err)
		}
	}
	b.transport = t
	b.prepare()
	return b, nil
}

// prepare makes what all requests to b share.
func (b *backend) prepare() {
	b.requests = map[Operation]*http.Request{}
	for _, op := range []Operation{Chat, Completions, Embeddings, Responses, Images, listModels} {
		b.requests[op] = b.template(http.MethodPost, op)
	}
	b.requests[listModels].Method = http.MethodGet
}

func (b *backend) template(method string, op Operation) *http.Request {
	h := http.Header{"User-Agent": {"lazurite"}, "Accept": {"application/json"},
		"Idempotency-Key": nil, // sent to nobody: net/http may try again on a new connection
	}
	if method == http.MethodPost {
		h["Content-Type"] = []string{"application/json"}
	}
	for name, v := range b.headers {
		h.Set(name, v)
	}
	return &http.Request{Method: method, URL: b.at(op), Host: b.base.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
}

// at is the URL of an operation, or of the list of models. Source: Azure OpenAI
// REST API reference; OpenAI API reference.
func (b *backend) at(op Operation) *url.URL {
	u := b.base
	if b.version != "" {
		if op != Responses && op != listModels {
			u.Path += "/deployments/" + b.own
		}
		u.RawQuery = "api-version=" + url.QueryEscape(b.version)
	}
	u.Path += "/" + string(op)
	return &u
}

// listModels is not an operation of a model: GET alone.
const listModels Operation = "models"

// host is where b is, with its port where it has one.
func (b *backend) host() string {
	if b.builtin {
		return ""
	}
	return b.base.Host
}

// request is what is sent to b, without a body; from is a client's header.
func (b *backend) request(ctx context.Context, method string, op Operation, from http.Header) (*http.Request, error) {
	t := b.requests[op]
	if t == nil {
		t = b.template(method, op)
	}
	r := t.WithContext(ctx)
	r.Header = maps.Clone(t.Header) // their values are never changed
	for _, name := range sentOn() {
		if v := from[name]; len(v) > 0 {
			r.Header[name] = v
		}
	}
	if b.key == nil {
		return r, nil
	}
	key, err := b.key.get()
	if err != nil {
		return nil, err
	}
	if b.azure {
		r.Header["Api-Key"] = []string{key}
	} else {
		r.Header["Authorization"] = []string{"Bearer " + key}
	}
	return r, nil
}

// sentOn are the fields of a client's header that backends get.
func sentOn() []string {
	return []string{"Traceparent", "Tracestate", "X-Request-Id", "X-Ms-Client-Request-Id", "Openai-Beta", "Idempotency-Key"}
}

// heldBack are the fields of a backend's header that clients don't get: of the
// connection (RFC 9110 section 7.6.1), and of the operator's account.
func heldBack() []string {
	return []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Set-Cookie", "Www-Authenticate", "Openai-Organization", "Openai-Project", "Alt-Svc", "Server"}
}

// reply is what one call to a backend came to: an answer, with a verdict that may
// still be that the next backend is to be asked, or none.
type reply struct {
	answer  *Answer
	verdict verdict
	next    bool // ask another one, if there is any
}

// ask sends body to b. ended is called when b has done its part of an answer
// that is returned, with what went wrong meanwhile.
func (b *backend) ask(ctx context.Context, op Operation, call *Call, body []byte, ended func(error)) reply {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	failed := func(v verdict) reply {
		cancel(errClosed)
		return reply{verdict: v, next: true}
	}
	r, err := b.request(ctx, http.MethodPost, op, call.Header)
	if err != nil {
		return failed(verdict{err: err, own: true})
	}
	if call.Stream {
		r.Header["Accept"] = []string{"text/event-stream"}
	}
	r.ContentLength = int64(len(body))
	up := &upload{}
	up.body.Store(&body)
	r.GetBody = func() (io.ReadCloser, error) { return up.open(), nil }
	r.Body = up.open()
	timer := time.AfterFunc(b.timeouts.FirstByte, func() { cancel(errFirstByte) })
	resp, err := b.transport.RoundTrip(r)
	timer.Stop()
	if err != nil {
		if why := context.Cause(ctx); why != nil {
			return failed(verdict{err: why})
		}
		return failed(verdict{err: err, silent: true, own: !connected(err)})
	}
	up.forget()
	rest := b.timeouts.FirstByte - time.Since(began)
	in := newBody(resp.Body, cancel, func() error { return context.Cause(ctx) }, b.timeouts.Idle, ended)
	if call.Stream && resp.StatusCode == http.StatusOK {
		if err := in.first(rest); err != nil {
			return failed(verdict{err: err})
		}
	}
	for _, name := range heldBack() {
		delete(resp.Header, name)
	}
	out := reply{answer: &Answer{Status: resp.StatusCode, Header: resp.Header, Body: in, Backend: b.name, Host: b.host()}}
	out.verdict, out.next = judgeStatus(resp)
	out.verdict.took = time.Since(began)
	return out
}

// upload is the body of a request to a backend. The transport holds the request
// for as long as the answer lasts; what was sent does not have to stay so long.
type upload struct {
	body atomic.Pointer[[]byte]
	sent atomic.Bool
}

// forget lets the body go where all of it was sent.
func (u *upload) forget() {
	if u.sent.Load() {
		u.body.Store(nil)
	}
}

func (u *upload) open() io.ReadCloser { return &sending{of: u} }

// sending reads an upload from its beginning.
type sending struct {
	of *upload
	at int
}

// Read implements io.Reader.
func (s *sending) Read(p []byte) (int, error) {
	body := s.of.body.Load()
	if body == nil || s.at == len(*body) {
		s.of.sent.Store(true)
		return 0, io.EOF
	}
	n := copy(p, (*body)[s.at:])
	s.at += n
	if s.at == len(*body) {
		s.of.sent.Store(true)
	}
	return n, nil
}

// Close implements io.Closer.
func (s *sending) Close() error { return nil }

// judgeStatus says what a status means for its backend, and whether another one
// is to be asked. What is wrong with a request is wrong everywhere: no other.
func judgeStatus(resp *http.Response) (v verdict, next bool) {
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests:
		return verdict{limited: retryAfter(resp.Header)}, true
	case s == http.StatusUnauthorized:
		return verdict{err: errKey, own: true}, true
	case s == http.StatusInternalServerError: // it may be the request's own fault: see Do
		return verdict{}, true
	case s == http.StatusNotImplemented || s == http.StatusHTTPVersionNotSupported: // of this request
		return verdict{}, true
	case s > 500:
		return verdict{err: problem(fmt.Sprintf("it answered HTTP %d", s))}, true
	case s >= 300 && s < 400:
		return verdict{own: true, err: problem(fmt.Sprintf("it answered HTTP %d, which sends elsewhere: the url or prefix is wrong", s))}, true
	default:
		return verdict{good: true}, false
	}
}

const (
	errKey   problem = "it refused the key that Lazurite has for it, or wants one (keyFile)"
	errNoKey problem = "its key can't be read (keyFile)"
	err500   problem = "it answered HTTP 500 to what another backend could answer"
)

// connected reports whether a failed call had a connection: the server may have
// closed it for what was sent there.
func connected(err error) bool {
	var dial *net.OpError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return !(errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &cert) || errors.As(err, &record))
}

// retryAfter is how long a server asks to be left alone (RFC 9110 section
// 10.2.3; retry-after-ms is Azure's and OpenAI's).
func retryAfter(h http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 && ms < 1e9 {
		return time.Duration(ms * float64(time.Millisecond))
	}
	v := h.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s > 0 && s < 1e6 {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		if d := time.Until(t); d > 0 {
			return d
		}
	}
	return time.Second
}

// brief says in words for a caller what went wrong with a backend; addresses
// and the like are for the log.
func brief(err error) string {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var timeout net.Error
	if p, ok := errors.AsType[problem](err); ok {
		return string(p)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "it refuses connections"
	case errors.As(err, &dns):
		return "its name is not known"
	case errors.As(err, &cert), errors.As(err, &unknown):
		return "its certificate is not trusted (caFile)"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it closed the connection before it answered"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no connection in time"
	default:
		if e, ok := errors.AsType[*apierr.Error](err); ok {
			return e.Message
		}
		return "the connection failed"
	}
}

// keyFile is a file with a key, read again when it has changed.
type keyFile struct {
	path string

	mu      sync.Mutex // guards what follows
	key     string
	looked  time.Time
	changed time.Time // the file's
}

// keyAge is how old a key may be before its file is looked at again.
const keyAge = 5 * time.Second

func (k *keyFile) get() (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != "" && time.Since(k.looked) < keyAge {
		return k.key, nil
	}
	fi, err := os.Stat(k.path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoKey, err)
	}
	if k.key == "" || !fi.ModTime().Equal(k.changed) {
		key, err := readKey(k.path)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errNoKey, err)
		}
		k.key, k.changed = key, fi.ModTime()
	}
	k.looked = time.Now()
	return k.key, nil
}
