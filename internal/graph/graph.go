// Package graph is the part of Microsoft Graph v1.0 that az, Terraform and the
// SDKs use to manage identities: users, groups, applications, service
// principals, their credentials, and directory roles.
//
// Every principal of the tenant may read. Writing needs a directory role, or
// ownership of the application or group. Source: Microsoft Graph REST API
// reference v1.0.
package graph

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Verifier checks an access token of ours.
type Verifier interface {
	Verify(ctx context.Context, raw string, audiences ...string) (*token.Claims, error)
}

// Recorder keeps refusals for explain.
type Recorder interface{ Record(trace.Trace) }

// Config is what the surface is made of.
type Config struct {
	Directory *directory.Directory
	Verifier  Verifier
	Recorder  Recorder // nil: refusals are not recorded
	Audiences []string // further accepted token audiences

	// Leave is asked before a principal is deleted or disabled, and may refuse
	// it; nil allows it.
	Leave func(ctx context.Context, oid string) error
}

// Audiences are the resources whose tokens Graph takes.
func Audiences() []string {
	return []string{"https://graph.microsoft.com", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000"}
}

// Handler is the surface.
type Handler struct {
	cfg    Config
	dir    *directory.Directory
	routes []route
}

// New makes the surface.
func New(cfg Config) *Handler {
	if cfg.Leave == nil {
		cfg.Leave = func(context.Context, string) error { return nil }
	}
	h := &Handler{cfg: cfg, dir: cfg.Directory}
	h.routes = h.table()
	return h
}

// maxBody is the longest request body, in bytes.
const maxBody = 1 << 20

// call is one request.
type call struct {
	context.Context
	w      http.ResponseWriter
	r      *http.Request
	caller *token.Claims
	base   string   // "https://graph.microsoft.com/v1.0"
	args   []string // what the stars of the route's path stand for
	q      url.Values
}

// route is a method and a pattern of path segments, in which "*" is a key.
type route struct {
	method, path string
	handle       func(*call) error
}

// ServeHTTP serves /v1.0 and, alike, /beta.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, hops := trace.With(r.Context())
	c := &call{Context: ctx, w: w, r: r, q: r.URL.Query()}
	w.Header().Set("request-id", web.RequestID(ctx))
	if id := r.Header.Get("client-request-id"); id != "" && len(id) <= 64 {
		w.Header().Set("client-request-id", id)
	}
	w.Header().Set("OData-Version", "4.0")
	w.Header().Set("Cache-Control", "no-cache")
	if err := h.serve(c); err != nil {
		h.refuse(c, hops, err)
	}
}

func (h *Handler) serve(c *call) error {
	if err := h.authenticate(c); err != nil {
		return err
	}
	segs, err := split(c.r.URL.EscapedPath())
	if err != nil {
		return err
	}
	version := strings.ToLower(segs[0])
	if version == "oidc" && len(segs) == 2 && strings.EqualFold(segs[1], "userinfo") {
		return h.userInfo(c)
	}
	if version != "v1.0" && version != "beta" {
		return badRequest("BadRequest", "Resource not found for the segment '%s'.", version)
	}
	c.base = "https://" + c.r.Host + "/" + version
	if segs, err = h.me(c, segs[1:]); err != nil {
		return err
	}
	known := false
	for i := range h.routes {
		rt := &h.routes[i]
		args, ok := match(strings.Split(rt.path, "/"), segs)
		if !ok {
			continue
		}
		if known = true; rt.method == c.r.Method {
			c.args = args
			web.EventFrom(c).SetOperation(rt.method + " " + rt.path)
			return rt.handle(c)
		}
	}
	if known {
		return apierr.New(apierr.MethodNotAllowed, "Request_BadRequest", "The method '%s' is not supported here.", c.r.Method)
	}
	return badRequest("BadRequest", "Resource not found for the path '%s'.", c.r.URL.Path)
}

// authenticate checks the bearer token (RFC 6750 section 2.1).
func (h *Handler) authenticate(c *call) error {
	scheme, raw, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(raw) == "" {
		return apierr.New(apierr.Unauthorized, "InvalidAuthenticationToken", "Access token is empty.")
	}
	claims, err := h.cfg.Verifier.Verify(c, strings.TrimSpace(raw), append(Audiences(), h.cfg.Audiences...)...)
	if err != nil {
		if e, ok := errors.AsType[*apierr.Error](err); ok && e.Kind == apierr.Unauthorized {
			return &apierr.Error{Kind: e.Kind, Code: "InvalidAuthenticationToken", Message: e.Message, Cause: e}
		}
		return err
	}
	if err := h.dir.Fresh(); err != nil {
		e := apierr.New(apierr.Unavailable, "ServiceUnavailable", "The directory cannot be confirmed to be up to date because the database does not answer.")
		e.RetryAfter = time.Second
		return e.WithCause(err)
	}
	if _, err := h.dir.Principal(claims.ObjectID); err != nil {
		return apierr.New(apierr.Unauthorized, "InvalidAuthenticationToken", "The principal of the access token is no longer in the directory.").WithCause(err)
	}
	if h.dir.Acting(claims.ObjectID) == nil {
		return apierr.New(apierr.Unauthorized, "InvalidAuthenticationToken", "The principal of the access token is disabled.")
	}
	c.caller = claims
	web.EventFrom(c).SetPrincipal(claims.ObjectID)
	return nil
}

// split cuts a path into at least one segment and takes keys in parentheses
// apart: applications(appId='x') becomes "applications", "appId=x".
func split(path string) ([]string, error) {
	var out []string
	for seg := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		s, err := url.PathUnescape(seg)
		if err != nil || len(out) > 12 {
			return nil, badRequest("BadRequest", "The path cannot be read.")
		}
		name, key, ok := strings.Cut(s, "(")
		key, closed := strings.CutSuffix(key, ")")
		if !ok || !closed || name == "" {
			out = append(out, s)
			continue
		}
		if prop, value, ok := strings.Cut(key, "="); ok {
			key = strings.TrimSpace(prop) + "=" + strings.Trim(strings.TrimSpace(value), "'")
		}
		out = append(out, name, strings.Trim(key, "'"))
	}
	return out, nil
}

// me turns /me/… into /users/{caller}/….
func (h *Handler) me(c *call, segs []string) ([]string, error) {
	if len(segs) == 0 || !strings.EqualFold(segs[0], "me") {
		return segs, nil
	}
	if _, err := h.dir.User(c.caller.ObjectID); err != nil {
		return nil, badRequest("BadRequest", "/me request is only valid with delegated authentication flow.")
	}
	return append([]string{"users", c.caller.ObjectID}, segs[1:]...), nil
}

// match compares segments with a pattern, without case, and gives what its
// stars stand for.
func match(pattern, segs []string) ([]string, bool) {
	if len(pattern) != len(segs) {
		return nil, false
	}
	var args []string
	for i, p := range pattern {
		if p == "*" {
			if segs[i] == "" || strings.HasPrefix(segs[i], "$") {
				return nil, false
			}
			args = append(args, segs[i])
		} else if !strings.EqualFold(strings.TrimPrefix(segs[i], "microsoft.graph."), p) {
			return nil, false
		}
	}
	return args, true
}

func badRequest(code, format string, args ...any) error {
	return apierr.New(apierr.BadRequest, code, format, args...)
}

func notFound(id string) error {
	return apierr.New(apierr.NotFound, "Request_ResourceNotFound",
		"Resource '%s' does not exist or one of its queried reference-property objects are not present.", id)
}

// translate turns the directory's errors into Graph's.
func translate(err error) *apierr.Error {
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		return e
	}
	var kind apierr.Kind
	var code string
	switch {
	case errors.Is(err, directory.ErrNotFound):
		kind, code = apierr.NotFound, "Request_ResourceNotFound"
	case errors.Is(err, directory.ErrTaken), errors.Is(err, directory.ErrInvalid), errors.Is(err, directory.ErrExpression):
		kind, code = apierr.BadRequest, "Request_BadRequest"
	case errors.Is(err, directory.ErrDuplicate):
		kind, code = apierr.Conflict, "Request_MultipleObjectsWithSameKeyValue"
	case errors.Is(err, store.ErrConflict):
		return apierr.New(apierr.Conflict, "Directory_ConcurrencyViolation", "The object was changed by another request at the same time. Try again.").WithCause(err)
	default:
		return apierr.From(err)
	}
	msg := err.Error()
	return apierr.New(kind, code, "%s.", strings.ToUpper(msg[:1])+msg[1:]).WithCause(err)
}

// refuse records the refusal and answers it.
// Source: Microsoft Graph, "Error responses and resource types".
func (h *Handler) refuse(c *call, hops *trace.Log, err error) {
	e := translate(err)
	web.EventFrom(c).Fail(err)
	if h.cfg.Recorder != nil && (e.Kind == apierr.Forbidden || e.Kind == apierr.Unauthorized) {
		t := trace.Trace{
			ID: web.RequestID(c), Correlation: web.CorrelationID(c), Time: time.Now().UTC(), Surface: "graph",
			What: c.r.Method + " " + c.r.URL.Path, Outcome: e.Error(), Hops: hops.Hops(),
		}
		if c.caller != nil {
			t.By(c.caller.Display(), c.caller.ObjectID)
		}
		h.cfg.Recorder.Record(t)
	}
	WriteError(c.w, c.r, e)
}

// WriteError writes e in Graph's envelope.
func WriteError(w http.ResponseWriter, r *http.Request, e *apierr.Error) {
	if e.Kind == apierr.Unauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`)
	}
	web.SetRetryAfter(w.Header(), e.RetryAfter)
	web.WriteJSON(w, e.Kind.Status(), map[string]any{"error": map[string]any{
		"code": e.Code, "message": e.Message,
		"innerError": map[string]any{
			"date":       time.Now().UTC().Format("2006-01-02T15:04:05"),
			"request-id": web.RequestID(r.Context()), "client-request-id": w.Header().Get("client-request-id"),
		},
	}})
}

func (c *call) json(status int, v any) error {
	c.w.Header().Set("Content-Type", "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8")
	web.WriteJSON(c.w, status, v)
	return nil
}

func (c *call) noContent() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// body reads the request's JSON object; no body is an empty one.
func (c *call) body() (body, error) {
	raw, err := web.ReadBody(c.r, maxBody)
	m := map[string]json.RawMessage{}
	if err == nil && len(raw) > 0 {
		err = web.ParseJSON(raw, &m)
	}
	if err != nil {
		e := apierr.From(err)
		return body{}, &apierr.Error{Kind: e.Kind, Code: "BadRequest", Message: e.Message, Cause: err}
	}
	return body{m: m}, nil
}

// body is an object from which known properties are taken out one by one.
type body struct {
	m   map[string]json.RawMessage
	err error // the first property of the wrong type
}

// take moves the property into v, a pointer, and reports whether it was there.
// null is the zero value.
func take[T any](b *body, name string, v *T) bool {
	raw, ok := b.m[name]
	if !ok {
		return false
	}
	delete(b.m, name)
	var got T
	if err := json.Unmarshal(raw, &got); err != nil && b.err == nil {
		b.err = badRequest("Request_BadRequest", "Invalid value specified for property '%s' of resource: %v.", name, err)
	}
	*v = got
	return true
}

// rest keeps what was not taken as properties without a meaning here. Those
// that only the service writes are dropped.
func (b *body) rest(old map[string]json.RawMessage) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for k, v := range old {
		out[k] = v
	}
	for k, v := range b.m {
		switch {
		case strings.HasPrefix(k, "@") || k == "id" || k == "createdDateTime" || k == "deletedDateTime":
		case string(v) == "null":
			delete(out, k)
		default:
			out[k] = v
		}
	}
	return out
}
