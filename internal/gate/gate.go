// Package gate is the pipeline of the data planes. A plane is a table of
// operations; each request passes network, credential, api-version, policy and
// limits in this order before its handler runs, and a handler cannot skip a
// step.
package gate

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Verifier checks an access token of ours.
type Verifier interface {
	Verify(ctx context.Context, raw string, audiences ...string) (*token.Claims, error)
}

// Authorizer asks the policy engine.
type Authorizer interface {
	Check(ctx context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error)
}

// Recorder keeps refusals for explain.
type Recorder interface{ Record(trace.Trace) }

// Config is what every plane shares.
type Config struct {
	Verifier   Verifier
	Authorizer Authorizer
	Recorder   Recorder // nil: refusals are not recorded
}

// Plane is one data plane.
type Plane struct {
	Name       string   // "keyvault": surface's name in logs, traces and metrics
	Audiences  []string // resources whose tokens are taken
	Operations []Operation

	// BodyTime bounds how long a request's body may take to come, where the
	// surface has no limit of time since its answers may take long; 0 is none.
	BodyTime time.Duration

	// Word tells apart the operations of one method and path, by the query or the
	// headers: the request's word must be the operation's. Nil: all have none.
	Word func(r *http.Request) string
	// Resolve finds the resource that a request is for, by its host name, or by
	// a secret of the resource where a host name stands for many; its refusal is
	// the answer.
	Resolve func(ctx context.Context, r *http.Request) (*Target, error)
	// Key judges a secret of the resource's own that a request brings in the
	// place of a token, and gives the name by which it is known; no role is asked
	// for then. "" leaves it to the token. Nil: tokens alone count.
	Key func(c *Call) (name string, err error)
	// Caller finds out who asks, in the place of Key and of tokens of the
	// platform, where the plane has credentials of its own. It may read Body.
	Caller func(c *Call) (*token.Claims, error)
	// Version checks the api-version and gives the one that is served.
	Version func(c *Call) error
	// Limit refuses what is more than the resource allows. Nil: no limit, or one
	// that the handlers keep.
	Limit func(c *Call) error
	// MethodHeader is a header in which a POST may name another method; "" where the service knows none.
	MethodHeader string
	// Challenge adds the headers of a 401, which begins every exchange; nil where
	// a request without a credential is a mistake.
	Challenge func(h http.Header, t *Target)
	// WriteError puts a refusal into the plane's words.
	WriteError func(w http.ResponseWriter, c *Call, e *apierr.Error)
	// Headers adds what every answer of the plane carries.
	Headers func(h http.Header, c *Call)
	// RefuseNetwork, RefuseRole word the two refusals; the call says of whom.
	RefuseNetwork func(c *Call, why Blocked) *apierr.Error
	RefuseRole    func(c *Call, action string, scope rid.ID, d rbac.Decision) *apierr.Error
	// OpenFirewall is the command that lets a client's address in.
	OpenFirewall func(id rid.ID, client netip.Addr) string
	// Answers keeps what was answered, for explanations. Nil: nothing is kept.
	Answers *trace.Recent
	// Keep says which answers are recorded besides those that the caller is not
	// known or may not. Nil: none.
	Keep func(c *Call, e *apierr.Error) bool
}

// Operation is one thing that a plane can do.
type Operation struct {
	Method string             // "" is any
	Path   string             // "/secrets/{name}/{version}"; segments match without case, {x} matches one segment, one {x...} one or more; "" is what no other has
	Word   string             // see Plane.Word
	Action string             // RBAC data action: "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	Manage bool               // Action is one of the management plane's
	Scope  func(*Call) string // path below the resource at which Action is asked for: "/secrets/NAME"; nil: the resource
	Body   int64              // largest body in bytes; 0 is 1 MiB
	Handle func(*Call) (any, error)

	// Permission is the word of another policy model (Key Vault's access
	// policies: "secrets/get"); Target.Authorize judges it.
	Permission string

	Data any // the plane's own
}

// Target is the resource that a host name stands for.
type Target struct {
	ID       rid.ID
	Location string
	Network  Network
	Data     any // the plane's own

	// Authorize replaces RBAC for this resource when not nil.
	Authorize func(c *Call, op *Operation) error
}

// Call is one request.
type Call struct {
	Context    context.Context
	Request    *http.Request
	Target     *Target
	Caller     *token.Claims     // nil where Key is not ""
	Key        string            // the resource's own key that the caller brought, by name
	Params     map[string]string // of the operation's path
	APIVersion string
	Operation  *Operation
	State      any // the plane's own, between its steps

	w    http.ResponseWriter
	body int64
	raw  []byte // of the request's body; nil until it was read
	ends []func()
	time time.Duration
}

// Reply is for handlers whose answer is not 200 with a JSON body.
type Reply struct {
	Status int
	Header http.Header
	Body   any // JSON; nil: none
}

// Answer is for handlers that write their answer themselves, as it comes: the
// headers of the plane are set by then. An error cuts the connection, since the
// client could not tell what it got from a whole answer.
type Answer func(w http.ResponseWriter) error

// Decode reads the JSON body into v.
func (c *Call) Decode(v any) error {
	raw, err := c.Body()
	if err != nil {
		return err
	}
	return web.ParseJSON(raw, v)
}

// Body reads the request's body, which is bounded by the operation's limit; a
// longer one is an *apierr.Error of kind TooLarge. It may be called again.
func (c *Call) Body() ([]byte, error) {
	if c.raw != nil {
		return c.raw, nil
	}
	rc := http.NewResponseController(c.w) // one that knows no deadlines is a test's
	if c.time > 0 {
		_ = rc.SetReadDeadline(time.Now().Add(c.time))
	}
	var err error
	c.raw, err = web.ReadBody(c.Request, c.body)
	if c.time > 0 && !late(err) {
		_ = rc.SetReadDeadline(time.Time{})
	}
	return c.raw, err
}

// Forget lets go of what Body has read: an answer may last long.
func (c *Call) Forget() { c.raw = []byte{} }

// AtEnd has f called when the request is over, however it ends.
func (c *Call) AtEnd(f func()) { c.ends = append(c.ends, f) }

func (c *Call) end() {
	for _, f := range c.ends {
		f()
	}
}

// Handler serves a plane.
type Handler struct {
	cfg   Config
	plane Plane
	segs  [][]string
	index map[route][]int // operations; nil when one's path begins with a parameter
	bare  atomic.Int64    // when a request without a credential was recorded, in seconds
}

// bareEvery is how many seconds are between two recorded requests that had no credential.
const bareEvery = 10

// route is what requests for an operation have in common before parameters.
type route struct {
	method, first string // first is in lower case
	length        int    // of the path, in segments
}

// New makes the handler of a plane.
func New(cfg Config, p Plane) *Handler {
	h := &Handler{cfg: cfg, plane: p, index: map[route][]int{}}
	for i, op := range p.Operations {
		if op.Path == "" {
			h.segs = append(h.segs, nil)
			continue
		}
		segs := split(op.Path)
		h.segs = append(h.segs, segs)
		if len(segs) == 0 || strings.HasPrefix(segs[0], "{") || strings.Contains(op.Path, "...}") || p.Word != nil {
			h.index = nil
		}
		if h.index != nil {
			r := route{op.Method, strings.ToLower(segs[0]), len(segs)}
			h.index[r] = append(h.index[r], i)
		}
	}
	return h
}

// Operations are what the plane can do.
func (h *Handler) Operations() []Operation { return slices.Clone(h.plane.Operations) }

// Actions are the data actions that requests ask for, each once, sorted.
func (h *Handler) Actions() []string {
	var out []string
	for _, op := range h.plane.Operations {
		out = append(out, op.Action)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ServeHTTP runs the pipeline.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, hops := trace.With(r.Context())
	c := &Call{Context: ctx, Request: r, w: w}
	defer c.end()
	out, err := h.serve(c)
	if h.plane.Headers != nil {
		h.plane.Headers(w.Header(), c)
	}
	if err != nil {
		h.refuse(c, hops, err)
		return
	}
	if h.plane.Answers != nil {
		defer func() { h.plane.Answers.Keep(h.trace(c, outcome(c, out)), hops) }()
	}
	switch v := out.(type) {
	case nil:
		w.WriteHeader(http.StatusOK)
	case *Reply:
		h.reply(w, v)
	case Answer:
		if err := v(w); err != nil {
			web.EventFrom(ctx).Fail(err)
			panic(http.ErrAbortHandler) // net/http's way to cut an answer short
		}
	default:
		web.WriteJSON(w, http.StatusOK, v)
	}
}

func (h *Handler) reply(w http.ResponseWriter, v *Reply) {
	for k, vs := range v.Header {
		w.Header()[k] = vs
	}
	if v.Body == nil {
		w.WriteHeader(v.Status)
		return
	}
	web.WriteJSON(w, v.Status, v.Body)
}

func (h *Handler) serve(c *Call) (any, error) {
	t, err := h.plane.Resolve(c.Context, c.Request)
	if err != nil {
		return nil, err
	}
	c.Target = t
	web.EventFrom(c.Context).SetResource(t.ID.String())
	blocked, err := h.network(c)
	if err != nil {
		return nil, err
	}
	if blocked != 0 {
		if raw, ok := bearer(c.Request); ok { // the text names the caller, when there is one
			c.Caller, _ = h.cfg.Verifier.Verify(c.Context, raw, h.plane.Audiences...)
		}
		return nil, h.plane.RefuseNetwork(c, blocked)
	}
	c.body, c.time = 1<<20, h.plane.BodyTime
	if err := h.credential(c); err != nil {
		return nil, err
	}
	op, err := h.operation(c)
	if err != nil {
		return nil, err
	}
	if err := h.plane.Version(c); err != nil {
		return nil, err
	}
	if err := h.authorise(c, op); err != nil {
		return nil, err
	}
	if op.Body != 0 {
		c.body = op.Body
	}
	if h.plane.Limit != nil {
		if err := h.plane.Limit(c); err != nil {
			return nil, err
		}
	}
	return op.Handle(c)
}

// credential finds out who asks: whoever has a key of the resource, or the
// principal of a token.
func (h *Handler) credential(c *Call) (err error) {
	if h.plane.Caller != nil {
		_, _ = h.operation(c) // the challenge says what it is for; serve asks again
		if c.Caller, err = h.plane.Caller(c); err == nil {
			web.EventFrom(c.Context).SetPrincipal(c.Caller.ObjectID)
		}
		return err
	}
	if h.plane.Key != nil {
		if c.Key, err = h.plane.Key(c); err != nil {
			return err
		}
		if c.Key != "" {
			web.EventFrom(c.Context).SetPrincipal(c.Key)
			return nil
		}
	}
	raw, ok := bearer(c.Request)
	if !ok {
		return apierr.New(apierr.Unauthorized, token.CodeMissing, "Request is missing a Bearer or PoP token.")
	}
	if c.Caller, err = h.cfg.Verifier.Verify(c.Context, raw, h.plane.Audiences...); err != nil {
		return err
	}
	web.EventFrom(c.Context).SetPrincipal(c.Caller.ObjectID)
	return nil
}

func bearer(r *http.Request) (string, bool) {
	scheme, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	raw = strings.TrimSpace(raw)
	return raw, strings.EqualFold(scheme, "Bearer") && raw != ""
}

// operation finds what method and path ask for.
func (h *Handler) operation(c *Call) (*Operation, error) {
	method := c.Request.Method
	if o := c.Request.Header.Get(h.plane.MethodHeader); o != "" && method == http.MethodPost {
		method = strings.ToUpper(o)
	}
	path := strings.Trim(c.Request.URL.Path, "/")
	segs := split(path) // Go's clients leave an absent version's slash in
	word := ""
	if h.plane.Word != nil {
		word = h.plane.Word(c.Request)
	}
	if h.index != nil && len(segs) > 0 {
		for _, i := range h.index[route{method, strings.ToLower(segs[0]), len(segs)}] {
			if params, ok := match(h.segs[i], segs); ok {
				return h.chosen(c, i, params), nil
			}
		}
	}
	other, rest := false, -1
	for i := range h.segs {
		if op := &h.plane.Operations[i]; op.Path == "" {
			if op.Method == "" || op.Method == method {
				rest = i
			}
			continue
		}
		params, ok := match(h.segs[i], segs)
		if !ok {
			continue
		}
		if h.plane.Operations[i].Word != word {
			continue
		}
		if m := h.plane.Operations[i].Method; m != method && m != "" {
			other = true
			continue
		}
		return h.chosen(c, i, params), nil
	}
	if rest >= 0 {
		return h.chosen(c, rest, nil), nil
	}
	if other {
		return nil, apierr.New(apierr.MethodNotAllowed, "MethodNotAllowed", "The method %s is not supported at /%s.", method, path)
	}
	return nil, apierr.New(apierr.NotFound, "NotFound", "There is no operation at /%s.", path)
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

func (h *Handler) chosen(c *Call, i int, params map[string]string) *Operation {
	c.Params, c.Operation = params, &h.plane.Operations[i]
	web.EventFrom(c.Context).SetOperation(c.Operation.Action)
	return c.Operation
}

func match(pattern, segs []string) (map[string]string, bool) {
	if i := slices.IndexFunc(pattern, func(p string) bool { return strings.HasSuffix(p, "...}") }); i >= 0 {
		return matchMany(pattern, segs, i)
	}
	if len(pattern) != len(segs) {
		return nil, false
	}
	for i, p := range pattern {
		if !strings.HasPrefix(p, "{") && !strings.EqualFold(p, segs[i]) || segs[i] == "" {
			return nil, false
		}
	}
	var params map[string]string
	for i, p := range pattern {
		if strings.HasPrefix(p, "{") {
			if params == nil {
				params = make(map[string]string, 2)
			}
			params[p[1:len(p)-1]] = segs[i]
		}
	}
	return params, true
}

// matchMany is match for a pattern whose segment i stands for one or more.
func matchMany(pattern, segs []string, i int) (map[string]string, bool) {
	n := len(segs) - len(pattern) + 1
	if n < 1 {
		return nil, false
	}
	one := slices.Clone(pattern)
	one[i] = strings.TrimSuffix(pattern[i], "...}") + "}"
	joined := append(slices.Clone(segs[:i]), strings.Join(segs[i:i+n], "/"))
	return match(one, append(joined, segs[i+n:]...))
}

func (h *Handler) authorise(c *Call, op *Operation) error {
	if c.Key != "" {
		return nil // whoever may list keys stands behind it
	}
	if c.Target.Authorize != nil {
		return c.Target.Authorize(c, op)
	}
	scope, err := scopeOf(c, op)
	if err != nil {
		return err
	}
	d, err := h.cfg.Authorizer.Check(c.Context, c.Caller.ObjectID, op.Action, !op.Manage, scope)
	if err != nil {
		return err
	}
	if !d.Allowed {
		return h.plane.RefuseRole(c, op.Action, scope, d)
	}
	return nil
}

// refuse records the refusal and answers in the plane's words.
func (h *Handler) refuse(c *Call, hops *trace.Log, err error) {
	e := apierr.From(err)
	web.EventFrom(c.Context).Fail(err)
	if h.kept(c, e) {
		t := h.trace(c, e.Error())
		t.Hops = hops.Hops()
		h.cfg.Recorder.Record(t)
	}
	if e.Kind == apierr.Unauthorized && c.Target != nil && h.plane.Challenge != nil {
		h.plane.Challenge(c.w.Header(), c.Target)
	}
	if e.RetryAfter > 0 {
		web.SetRetryAfter(c.w.Header(), e.RetryAfter)
	}
	h.plane.WriteError(c.w, c, e)
}

// trace is what is kept of a request, but for its hops.
func (h *Handler) trace(c *Call, outcome string) trace.Trace {
	t := trace.Trace{
		ID: web.RequestID(c.Context), Correlation: web.CorrelationID(c.Context), Time: time.Now().UTC(),
		Surface: h.plane.Name, What: c.Request.Method + " " + c.Request.URL.Path, Outcome: outcome,
	}
	if c.Caller != nil {
		t.By(c.Caller.Display(), c.Caller.ObjectID)
	} else if c.Key != "" {
		t.Who = "whoever has the " + c.Key
	}
	if c.Target != nil {
		t.What += " on " + c.Target.ID.String()
	}
	return t
}

// outcome is the status of an answer that is no refusal, in words.
func outcome(c *Call, out any) string {
	if r, ok := out.(*Reply); ok {
		return strconv.Itoa(r.Status) + " " + http.StatusText(r.Status)
	}
	if s, ok := c.State.(interface{ Outcome() string }); ok {
		return s.Outcome()
	}
	return "200 OK"
}

// kept says whether a refusal is recorded.
func (h *Handler) kept(c *Call, e *apierr.Error) bool {
	if h.cfg.Recorder == nil {
		return false
	}
	switch e.Kind {
	case apierr.Unauthorized:
		if _, ok := bearer(c.Request); ok || h.plane.Challenge == nil && e.Code != token.CodeMissing {
			return true
		}
		// The challenge that begins every exchange is no refusal, and of those who
		// bring nothing one in a while is enough: a scan would push out all others.
		now, last := time.Now().Unix(), h.bare.Load()
		return h.plane.Challenge == nil && now-last >= bareEvery && h.bare.CompareAndSwap(last, now)
	case apierr.Forbidden:
		return true
	}
	return h.plane.Keep != nil && h.plane.Keep(c, e)
}

// scopeOf is where an operation's action is asked for.
func scopeOf(c *Call, op *Operation) (rid.ID, error) {
	if op.Scope == nil {
		return c.Target.ID, nil
	}
	s, err := rid.Parse(c.Target.ID.String() + op.Scope(c))
	if err != nil {
		return rid.ID{}, apierr.New(apierr.BadRequest, "BadParameter", "The name in the path is malformed: %v.", err)
	}
	return s, nil
}
