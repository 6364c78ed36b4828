package arm

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// maxBody is ARM's limit of a request body. Source: ARM "Subscription limits".
const maxBody = 4 << 20

// call is one request on its way through the pipeline.
type call struct {
	ctx     context.Context
	w       http.ResponseWriter
	r       *http.Request
	caller  *token.Claims
	id      rid.ID
	asked   rid.ID // id as it was addressed; another than id for types with a Home
	at      rid.ID // asked's scope as it is stored, for types with a Home
	route   *Route // nil for endpoints
	version string
	action  string // RBAC action asked for
	verb    string // action's name for POST {id}/{verb}, lower case
	scope   rid.ID // where it is asked for
	old     *Envelope
	parent  *Envelope // stored parent of id, where it is one
	body    json.RawMessage

	dry    bool      // checks alone: see Ask
	rights bool      // the caller's rights alone
	next   *Envelope // what a dry PUT would store
}

// ServeHTTP runs the pipeline: authenticate, parse, api-version, scope exists,
// authorise, preconditions, decode, default, validate, save intent, act, save
// result, render. Correlation ids, recovery and the log event are the front
// door's (package web).
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = singleSlashes(r)
	if extra := h.cfg.Extra[strings.ToLower(strings.TrimSuffix(r.URL.Path, "/"))]; extra != nil {
		extra(w, r)
		return
	}
	ctx, hops := trace.With(context.WithValue(r.Context(), baseKey, "https://"+r.Host))
	c := &call{ctx: ctx, w: w, r: r}
	err := h.serve(c)
	if err != nil {
		h.refuse(c, hops, err)
	}
	h.activity(c, err)
}

// singleSlashes takes empty segments out of the path, as Azure does: az leaves
// one in where a parent's path is empty. Everything behind sees one path.
func singleSlashes(r *http.Request) *http.Request {
	if !strings.Contains(r.URL.Path, "//") || encodedSlash(r.URL) {
		return r
	}
	u := *r.URL
	for strings.Contains(u.Path, "//") {
		u.Path = strings.ReplaceAll(u.Path, "//", "/")
	}
	u.RawPath = ""
	out := *r
	out.URL = &u
	return &out
}

// encodedSlash reports a slash that is part of a name: no name has one.
func encodedSlash(u *url.URL) bool {
	return strings.Contains(strings.ToLower(u.EscapedPath()), "%2f")
}

func (h *Handler) serve(c *call) error {
	if err := h.authenticate(c); err != nil {
		return err
	}
	if err := checkText(c.r.URL); err != nil {
		return err
	}
	if err := h.subscriptionRate(c); err != nil {
		return err
	}
	return h.dispatch(c)
}

// dispatch serves a request of a caller who is known.
func (h *Handler) dispatch(c *call) error {
	if encodedSlash(c.r.URL) {
		return apierr.New(apierr.BadRequest, "InvalidResourceId", "The path '%s' holds an encoded slash.", c.r.URL.Path)
	}
	if ep, params, known := h.endpoints.find(c.r.Method, c.r.URL.Path); ep != nil {
		return h.endpoint(c, ep, params)
	} else if known {
		return errMethod(c.r)
	}
	if err := h.parse(c); err != nil {
		return err
	}
	if err := h.version(c, c.route.Type, c.route.APIVersions); err != nil {
		return err
	}
	switch {
	case c.id.Collection && c.verb == "":
		return h.collection(c)
	default:
		return h.item(c)
	}
}

// maxPath leaves room in a store key for what is kept under a resource.
const maxPath = 1800

// checkText refuses what no name and no filter can hold.
func checkText(u *url.URL) error {
	bad := func(s string) bool {
		return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	}
	if len(u.Path) > maxPath || bad(u.Path) {
		return apierr.New(apierr.BadRequest, "InvalidResourceId", "The path is longer than %d bytes or holds characters that are not allowed.", maxPath)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return apierr.New(apierr.BadRequest, "InvalidQueryString", "The query string is malformed: %v.", err)
	}
	for k, vs := range q {
		if bad(k) || slices.ContainsFunc(vs, bad) {
			return apierr.New(apierr.BadRequest, "InvalidQueryString", "The query string holds characters that are not allowed.")
		}
	}
	return nil
}

// authenticate checks the bearer token (RFC 6750 section 2.1).
func (h *Handler) authenticate(c *call) error {
	scheme, raw, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(raw) == "" {
		return errUnauthenticated()
	}
	claims, err := h.cfg.Verifier.Verify(c.ctx, strings.TrimSpace(raw), append(h.cfg.Audiences, audiences...)...)
	if err != nil {
		return translateAuth(err)
	}
	h.as(c, claims)
	return nil
}

// as makes claims the caller.
func (h *Handler) as(c *call, claims *token.Claims) {
	c.caller = claims
	c.ctx = context.WithValue(WithCaller(c.ctx, claims), policyKey, h.cfg.Authorizer)
	c.ctx = context.WithValue(c.ctx, headerKey, c.w.Header())
	web.EventFrom(c.ctx).SetPrincipal(claims.ObjectID)
}

// parse reads the path and finds its type.
func (h *Handler) parse(c *call) error {
	id, err := rid.Parse(c.r.URL.Path)
	if err != nil {
		return apierr.New(apierr.BadRequest, "InvalidResourceId", "The path '%s' is no resource id: %v.", c.r.URL.Path, err)
	}
	c.id = id
	c.route = h.routes[strings.ToLower(id.Type())]
	if c.route == nil && id.Collection && c.r.Method == http.MethodPost && len(id.Types()) > 1 {
		c.verb = strings.ToLower(id.Types()[len(id.Types())-1])
		c.id = id.Parent()
		c.route = h.routes[strings.ToLower(c.id.Type())]
		if c.route != nil && c.route.actions[c.verb].run == nil {
			return errNotFoundPath(c.r)
		}
	}
	if c.route == nil {
		return h.unknownType(id)
	}
	if !scopeAllowed(c.route, c.id) {
		return apierr.New(apierr.BadRequest, "InvalidResourceType",
			"The resource type '%s' cannot be addressed at the scope '%s'.", c.route.Type, c.id.Scope())
	}
	if c.asked = c.id; c.route.home != nil && !c.id.Collection {
		c.at = c.asked.Scope()
		c.id, _ = c.route.home(c.at, c.asked.Name())
	}
	return nil
}

func (h *Handler) unknownType(id rid.ID) error {
	ns := id.Namespace()
	for _, p := range h.cfg.Providers {
		if strings.EqualFold(p.Namespace, ns) {
			return apierr.New(apierr.NotFound, "InvalidResourceType",
				"The resource type '%s' could not be found in the namespace '%s'.", strings.Join(id.Types(), "/"), p.Namespace)
		}
	}
	return apierr.New(apierr.NotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", ns)
}

func scopeAllowed(rt *Route, id rid.ID) bool {
	if rt.Scopes&Extension != 0 || id.Collection && id.Namespace() != "" {
		return true
	}
	switch {
	case id.Namespace() == "":
		return true
	case id.Scope().ResourceGroup() != "" && id.Scope().Namespace() == "":
		return rt.Scopes&ResourceGroup != 0
	case id.Scope().Subscription() != "" && id.Scope().Namespace() == "":
		return rt.Scopes&Subscription != 0
	default:
		return rt.Scopes&Tenant != 0 && id.Scope().IsRoot()
	}
}

func (h *Handler) version(c *call, typ string, known []string) error {
	v, newer, err := apiVersion(c.r.URL.Query(), typ, known)
	if err != nil {
		return err
	}
	if newer {
		h.newer.Add(1)
		c.w.Header().Set(NewerVersionHeader, v)
	}
	c.version = v
	return nil
}

// item serves one resource: everything that is not a list.
func (h *Handler) item(c *call) error {
	var err error
	if c.action, err = actionOf(c); err != nil {
		return err
	}
	c.scope = c.asked
	if c.parent, err = h.scope(c.ctx, c); err != nil {
		return h.hidden(c, err)
	}
	if c.route.home != nil {
		if c.parent != nil {
			c.at = c.parent.RID()
		}
		c.parent = nil
	}
	if err := h.authorise(c); err != nil {
		return err
	}
	if err := h.registered(c); err != nil || c.rights {
		return err
	}
	if !c.dry {
		if err := h.throttle(c); err != nil {
			return err
		}
	}
	if writes(c.r.Method) {
		done, err := h.turns.Take(c.ctx, c.id.Key())
		if err != nil {
			return errWriters(c.id, err)
		}
		defer done()
	}
	if c.old, err = h.res.Get(c.ctx, c.id); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if h.cfg.Gate != nil && c.old != nil {
		if err := h.cfg.Gate(c.ctx, c.old, c.caller); err != nil {
			return err
		}
	}
	if err := preconditions(c.r, c.old); err != nil {
		return err
	}
	switch c.r.Method {
	case http.MethodPut:
		return h.put(c)
	case http.MethodPatch:
		return h.patch(c)
	case http.MethodDelete:
		return h.delete(c)
	case http.MethodPost:
		return h.perform(c)
	default:
		return h.get(c)
	}
}

func writes(method string) bool {
	return method == http.MethodPut || method == http.MethodPatch || method == http.MethodDelete
}

// actionOf is the RBAC action that the request on a resource needs.
func actionOf(c *call) (string, error) {
	rt := c.route
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		return rt.actionType + "/read", nil
	case http.MethodPut, http.MethodPatch:
		return rt.actionType + "/write", nil
	case http.MethodDelete:
		return rt.actionType + "/delete", nil
	case http.MethodPost:
		if c.verb != "" {
			return rt.actionType + "/" + rt.actions[c.verb].name + "/action", nil
		}
	}
	return "", errMethod(c.r)
}

// throttle asks the type whether the request comes too fast.
func (h *Handler) throttle(c *call) error {
	if c.route.limit == nil {
		return nil
	}
	return c.route.limit(c.action[strings.LastIndexByte(c.action, '/')+1:], c.id)
}

// scopeExists refuses ids whose subscription, group or parent is not there,
// and gives the stored parent; nil when that is the root or a part of a data
// plane, which is not stored.
func (h *Handler) scopeExists(ctx context.Context, id rid.ID) (*Envelope, error) {
	p := id.Parent()
	if p.IsRoot() {
		return nil, nil
	}
	e, err := h.res.Get(ctx, p)
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return e, err
	}
	if p.Namespace() == "" && p.ResourceGroup() == "" {
		return nil, NotFound(p)
	}
	if _, err := h.scopeExists(ctx, p); err != nil {
		return nil, err
	}
	switch {
	case p.Namespace() == "":
		return nil, NotFound(p)
	case h.routes[strings.ToLower(p.Type())] == nil: // a data-plane part of a resource, such as a secret
		return nil, nil
	}
	return nil, apierr.New(apierr.NotFound, "ParentResourceNotFound",
		"Failed to perform the operation on resource(s) of type '%s', because the parent resource '%s' could not be found.", id.Type(), p)
}

// scope is scopeExists for c; who makes what makes its parent needs none.
func (h *Handler) scope(ctx context.Context, c *call) (*Envelope, error) {
	e, err := h.scopeExists(ctx, c.asked)
	if c.route.implied && apierr.Is(err, apierr.NotFound) && (c.r.Method == http.MethodPut || c.r.Method == http.MethodPost) {
		_, err = h.scopeExists(ctx, c.asked.Parent())
	}
	return e, err
}

// hidden is the answer where a scope was not found: to whoever may not act
// there it is the same as where there is one, so that nobody learns what exists
// by asking. Only a subscription's absence is told, as Azure does: its name
// can't be guessed.
func (h *Handler) hidden(c *call, missing error) error {
	e := apierr.From(missing)
	if e.Kind != apierr.NotFound || e.Code == subscriptionNotFound {
		return missing
	}
	if err := h.authorise(c); err != nil {
		return err
	}
	return missing
}

// registered refuses writes of a provider that the subscription unregistered.
func (h *Handler) registered(c *call) error {
	if h.cfg.Registered == nil || c.r.Method == http.MethodGet || c.id.Namespace() == "" || c.id.Subscription() == "" {
		return nil
	}
	ns, _, _ := strings.Cut(c.route.Type, "/")
	ok, err := h.cfg.Registered(c.ctx, c.id.Subscription(), ns)
	if err != nil || ok {
		return err
	}
	return apierr.New(apierr.Conflict, "MissingSubscriptionRegistration",
		"The subscription is not registered to use namespace '%s'. See https://aka.ms/rps-not-found for how to register subscriptions.", ns)
}

func (h *Handler) authorise(c *call) error {
	d, err := h.cfg.Authorizer.Check(c.ctx, c.caller.ObjectID, c.action, false, c.scope)
	if err != nil {
		return err
	}
	web.EventFrom(c.ctx).SetOperation(c.action)
	web.EventFrom(c.ctx).SetResource(c.scope.String())
	if !d.Allowed {
		return forbidden(c.caller, c.action, c.scope)
	}
	return nil
}

// preconditions judges If-Match and If-None-Match (RFC 9110 section 13.1).
func preconditions(r *http.Request, old *Envelope) error {
	failed := func(format string, args ...any) error {
		return apierr.New(apierr.PreconditionFailed, "PreconditionFailed", format, args...)
	}
	if m := r.Header.Get("If-Match"); m != "" {
		if old == nil {
			return failed("The condition 'If-Match: %s' is not met: the resource does not exist.", m)
		}
		if !etagMatches(m, old.ETag()) {
			return failed("The condition 'If-Match: %s' is not met: the resource's etag is %s.", m, old.ETag())
		}
	}
	if m := r.Header.Get("If-None-Match"); m != "" && old != nil && r.Method != http.MethodGet && r.Method != http.MethodHead {
		if etagMatches(m, old.ETag()) {
			return failed("The condition 'If-None-Match: %s' is not met: the resource exists with the etag %s.", m, old.ETag())
		}
	}
	return nil
}

func etagMatches(list, tag string) bool {
	for m := range strings.SplitSeq(list, ",") {
		m = strings.TrimSpace(m)
		if m == "*" || m == tag || m == strings.Trim(tag, `"`) {
			return true
		}
	}
	return false
}

// readBody decodes the request's JSON object.
func readBody(c *call) error {
	if ct := c.r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" && !strings.HasSuffix(mt, "+json") {
			return apierr.New(apierr.UnsupportedMedia, "UnsupportedMediaType",
				"The content media type '%s' is not supported. Only 'application/json' is supported.", ct)
		}
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return apierr.New(apierr.TooLarge, "RequestContentTooLarge", "The request content is larger than %d bytes.", maxBody)
		}
		return apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content could not be read: %v.", err)
	}
	if c.route != nil && c.route.body != nil && len(b) > 0 {
		if b, err = c.route.body(b); err != nil {
			return err
		}
	}
	c.body = b
	return nil
}

func (h *Handler) endpoint(c *call, ep *Endpoint, params map[string]string) error {
	if err := h.version(c, ep.Path, ep.APIVersions); err != nil {
		return err
	}
	scope, err := h.endpointScope(c.ctx, params)
	c.action, c.scope = ep.Action, scope
	missing := err != nil && apierr.Is(err, apierr.NotFound) && apierr.From(err).Code != subscriptionNotFound
	asked := ep.Action != "" && !ep.Less
	switch {
	case missing && ep.resources:
		if c.action = readResources; !apierr.Is(h.hidden(c, err), apierr.Forbidden) {
			return err
		} // else the list is empty, as where the caller may see nothing
	case missing && !asked: // the handler asks for the right, and then finds that out
	case err != nil && asked:
		return h.hidden(c, err)
	case err != nil:
		return err
	case asked:
		if err := h.authorise(c); err != nil {
			return err
		}
	}
	if ep.resources {
		return h.resources(c, scope)
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		if err := readBody(c); err != nil {
			return err
		}
	}
	res, err := ep.Handle(c.ctx, &Request{HTTP: c.r, Params: params, Body: c.body, APIVersion: c.version, BaseURL: BaseURL(c.ctx)})
	if err != nil {
		return err
	}
	h.respond(c, res)
	return nil
}

// endpointScope is the subscription, group or any scope that the path names;
// the root when it names none.
func (h *Handler) endpointScope(ctx context.Context, params map[string]string) (rid.ID, error) {
	path := params[wholeScope]
	if s := params["subscriptionId"]; s != "" {
		path = "/subscriptions/" + s
		if g := params["resourceGroupName"]; g != "" {
			path += "/resourceGroups/" + g
		}
	}
	id, err := rid.Parse(path)
	if err != nil || id.Collection {
		return id, apierr.New(apierr.BadRequest, "InvalidResourceId", "The scope '%s' is no resource id.", path)
	}
	if id.IsRoot() {
		return id, nil
	}
	if _, err := h.res.Get(ctx, id); err == nil || !errors.Is(err, store.ErrNotFound) {
		return id, err
	}
	if _, err := h.scopeExists(ctx, id); err != nil {
		return id, err
	}
	return id, NotFound(id)
}

func (h *Handler) respond(c *call, res *Response) {
	for k, vs := range res.Header {
		c.w.Header()[k] = vs
	}
	status := res.Status
	if status == 0 {
		status = http.StatusOK
	}
	if res.Body == nil {
		c.w.WriteHeader(status)
		return
	}
	writeJSON(c.w, status, res.Body)
}

// refuse records who was refused what and answers.
func (h *Handler) refuse(c *call, hops *trace.Log, err error) {
	e := apierr.From(err)
	ev := web.EventFrom(c.ctx)
	ev.Fail(err)
	if k := e.Kind; h.cfg.Recorder != nil && (k == apierr.Unauthorized || k == apierr.Forbidden) {
		t := trace.Trace{
			ID: web.RequestID(c.ctx), Correlation: web.CorrelationID(c.ctx), Time: time.Now().UTC(),
			Surface: "management", What: c.action + " on " + c.scope.String(), Outcome: e.Error(), Hops: hops.Hops(),
		}
		if c.caller != nil {
			t.By(c.caller.Display(), c.caller.ObjectID)
		}
		h.cfg.Recorder.Record(t)
	}
	writeError(c.w, c.r, err)
}

// activity reports writes, deletes and actions, refused ones included.
func (h *Handler) activity(c *call, err error) {
	if h.cfg.Activity == nil || c.caller == nil || c.action == "" || strings.HasSuffix(strings.ToLower(c.action), "/read") {
		return
	}
	ev := Event{
		Time: time.Now().UTC(), Correlation: web.CorrelationID(c.ctx), Request: web.RequestID(c.ctx), Caller: c.caller,
		Action: c.action, Scope: c.scope, Method: c.r.Method, ClientIP: arrival.From(c.ctx).Client.String(), Status: http.StatusOK,
	}
	if err != nil {
		e := apierr.From(err)
		ev.Status, ev.Code = e.Kind.Status(), e.Code
	}
	h.cfg.Activity(context.WithoutCancel(c.ctx), ev)
}

func errWriters(id rid.ID, err error) error {
	return apierr.New(apierr.Unavailable, "ServerTimeout", "Other writers of '%s' took too long.", id).WithCause(err)
}

func errMethod(r *http.Request) error {
	return apierr.New(apierr.MethodNotAllowed, "MethodNotAllowed", "The HTTP method '%s' is not supported at '%s'.", r.Method, r.URL.Path)
}

func errNotFoundPath(r *http.Request) error {
	return apierr.New(apierr.NotFound, "NotFound", "There is nothing at '%s %s'.", r.Method, r.URL.Path)
}

const subscriptionNotFound = "SubscriptionNotFound"

// NotFound is the refusal of what names a resource, a group or a subscription
// that is not there.
func NotFound(id rid.ID) error {
	if id.Namespace() == "" {
		if id.ResourceGroup() != "" {
			return apierr.New(apierr.NotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", id.Name())
		}
		return apierr.New(apierr.NotFound, subscriptionNotFound, "The subscription '%s' could not be found.", id.Name())
	}
	return apierr.New(apierr.NotFound, "ResourceNotFound",
		"The Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
		id.Type(), strings.Join(id.Names(), "/"), id.ResourceGroup())
}
