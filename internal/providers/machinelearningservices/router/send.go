package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/web"
)

const (
	mostWhole = 4 << 20         // a body up to this is read before an instance is taken for it, bytes
	mostAhead = 256 << 20       // of all such bodies together
	mostCopy  = 1 << 20         // a body up to this can be copied to another deployment
	bodyTime  = 2 * time.Minute // for a longer body to come
	stall     = 30 * time.Second
)

// body is a request's: whole, or coming while it is passed on.
type body struct {
	whole    []byte
	rest     *upload // nil where all of it is in whole
	reserved int64
}

// read takes the request's body before an instance is taken for it, where its
// length is known and there is room: so a client that sends slowly holds no
// instance.
func (a *ask) read() error {
	req := a.c.Request
	n := req.ContentLength
	if n > MaxBody {
		return tooLarge()
	}
	if n == 0 || req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	if n > 0 && n <= mostWhole {
		if a.r.ahead.Add(n) <= mostAhead {
			a.body.reserved = n
			a.body.whole = make([]byte, n)
			if err := a.c.Stream(a.r.cfg.Stall).Fill(a.body.whole, bodyTime); err != nil {
				return a.clientError(err)
			}
			return nil
		}
		a.r.ahead.Add(-n)
	}
	a.body.rest = &upload{a: a, from: a.c.Stream(min(a.r.cfg.Stall, a.dep.timeout())), keep: a.copy != nil}
	return nil
}

func tooLarge() error {
	return apierr.New(apierr.TooLarge, "RequestEntityTooLarge", "The request's body is larger than %d MiB.", MaxBody>>20)
}

// clientError words what kept a body from coming.
func (a *ask) clientError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errUpload
	}
	return apierr.New(apierr.BadRequest, "BadRequest", "The request's body did not come to its end.").WithCause(err)
}

// upload is a body as it comes. It is read by one goroutine at a time.
type upload struct {
	a       *ask
	from    *gate.Stream
	touched atomic.Bool // something of it was asked for
	ended   atomic.Bool
	failed  atomic.Pointer[error] // of the client's
	keep    bool                  // a copy is wanted
	copied  bytes.Buffer
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	u.touched.Store(true)
	n, err := u.from.Read(p)
	u.a.holdUpload(u, n)
	if u.keep && n > 0 {
		u.keep = u.copied.Len()+n <= mostCopy
		if u.keep {
			u.copied.Write(p[:n])
		} else {
			u.copied = bytes.Buffer{}
			u.a.r.mirror.drop(u.a, "too large")
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		u.ended.Store(true)
		u.a.clock.anew(u.a.dep.timeout())
		if u.keep {
			u.keep = false
			u.a.r.mirror.send(u.a, u.copied.Bytes())
		}
	case err != nil:
		u.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close leaves the body to the server, which ends it with the request.
func (u *upload) Close() error { return nil }

// send gives the request to an instance, and to another one where a connection
// could not be made: nothing was sent then.
func (a *ask) send() error {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(a.c.Context)
	a.cancel = cancel
	header := a.r.passed(a.c)
	var not *instance
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	for try := 1; ; try++ {
		inst, err := a.instance(ctx, a.dep.wait()-time.Since(began), not)
		if err != nil {
			return err
		}
		a.inst, a.queued = inst, time.Since(began)
		if err = a.roundTrip(ctx, header); err == nil {
			return nil
		}
		if !a.unsent(err, sent.Load()) || ctx.Err() != nil || a.body.rest != nil && a.body.rest.touched.Load() || try == attempts {
			return a.sendError(ctx, err)
		}
		a.pool.release(inst, false)
		a.inst, not, began = nil, inst, time.Now()
	}
}

// unsent reports that nothing of the request reached an instance: no connection
// was made. begun says that it was begun on some connection, a kept one that had
// ended maybe: net/http tries another by itself where nothing of it was written,
// and where the method is a safe one (RFC 9110 section 9.2.1) also if it was.
func (a *ask) unsent(err error, begun bool) bool {
	_, undialled := errors.AsType[*dialError](err)
	switch a.c.Request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return undialled && !begun
	}
	return undialled
}

// roundTrip sends the request to a.inst and waits for its answer to begin.
func (a *ask) roundTrip(ctx context.Context, header http.Header) error {
	began, limit, late := time.Now(), a.dep.timeout(), errTimeout
	req := a.r.request(ctx, a.c, a.inst, header)
	switch {
	case a.body.rest != nil:
		req.Body, req.ContentLength = a.body.rest, a.c.Request.ContentLength
		limit, late = a.r.upload, errUpload // it begins anew when the body has come
	case len(a.body.whole) > 0:
		withBody(req, a.body.whole)
	}
	a.clock.start(limit, func() {
		if a.body.rest != nil && a.body.rest.ended.Load() {
			a.cancel(errTimeout)
			return
		}
		a.cancel(late)
	})
	res, err := a.inst.transport.RoundTrip(req)
	a.clock.pause()
	if err != nil {
		return err
	}
	a.res, a.took = res, time.Since(began)
	return nil
}

// sendError is what kept an instance from answering: the client, the time, or
// the instance.
func (a *ask) sendError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if u := a.body.rest; u != nil {
		if failed := u.failed.Load(); failed != nil {
			return a.clientError(*failed)
		}
	}
	return err
}

func withBody(req *http.Request, whole []byte) {
	req.ContentLength = int64(len(whole))
	req.Body = io.NopCloser(bytes.NewReader(whole))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(whole)), nil } // where nothing was sent on a connection that had ended
}

// request is what an instance gets, without a body.
func (r *Router) request(ctx context.Context, c *gate.Call, inst *instance, header http.Header) *http.Request {
	u := &url.URL{Scheme: "http", Host: inst.Address.String(), Path: c.Request.URL.Path, RawPath: c.Request.URL.RawPath, RawQuery: c.Request.URL.RawQuery}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path, u.RawPath = "/"+u.Path, ""
	}
	return (&http.Request{
		Method: c.Request.Method, URL: u, Host: c.Request.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
}

// hopByHop are the headers of one connection. Source: RFC 9110 section 7.6.1.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// kept reports whether an instance gets a header: none of one connection, no
// credential of the endpoint's, nothing by which a caller could say who it is.
func kept(name string) bool {
	switch name {
	case "Authorization", "Content-Length", "Expect", headerDeployment, "X-Request-Id", "X-Ms-Request-Id", "Forwarded", "X-Real-Ip":
		return false
	}
	return !hopByHop(name) && !strings.HasPrefix(name, "X-Forwarded-")
}

// passed is the header that an instance gets.
func (r *Router) passed(c *gate.Call) http.Header {
	in := c.Request.Header
	out := make(http.Header, len(in)+2)
	for name, values := range in {
		if kept(name) {
			out[name] = values
		}
	}
	without(out, in)
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if v, ok := out[name]; ok { // by its usual spelling net/http sends what has it twice by itself
			delete(out, name)
			out[strings.ToLower(name)] = v
		}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = []string{""} // net/http's own otherwise
	}
	out["X-Request-Id"] = []string{web.RequestID(c.Context)} // the other name is deprecated, as servers log
	return out
}

// without removes from out what the header Connection of in names.
func without(out, in http.Header) {
	for _, list := range in["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.TrimString(name); name != "" {
				out.Del(name)
			}
		}
	}
}
