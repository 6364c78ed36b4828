package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/turns"
)

// Audiences are the resources whose tokens the management plane takes.
// Source: az's cloud table and azcore's cloud.AzurePublic.
var audiences = []string{"https://management.core.windows.net/", "https://management.core.windows.net", "https://management.azure.com/", "https://management.azure.com"}

// Verifier checks an access token of ours.
type Verifier interface {
	Verify(ctx context.Context, raw string, audiences ...string) (*token.Claims, error)
}

// Authorizer asks the policy engine.
type Authorizer interface {
	Check(ctx context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error)
}

// Event is one write, delete or action, for the activity log.
type Event struct {
	Time        time.Time
	Correlation string
	Request     string
	Caller      *token.Claims
	Action      string // "Microsoft.KeyVault/vaults/write"
	Scope       rid.ID
	Status      int
	Code        string // of a refusal
	ClientIP    string
	Method      string
}

// Recorder keeps refusals for explain.
type Recorder interface{ Record(trace.Trace) }

// Config is what the management plane is made of.
type Config struct {
	Store      store.Store
	Ops        *ops.Manager
	Verifier   Verifier
	Authorizer Authorizer
	Principals Principals // nil: no resource has an identity of its own
	Recorder   Recorder   // nil: refusals are not recorded
	Log        *slog.Logger
	Providers  []Provider
	TenantID   string
	AzureLike  bool // keeps Azure's limits of requests

	// Grace is how long a request waits for its operation: what ends in this
	// time is answered at once, as if it had not been a long one. 0 is 250 ms.
	Grace time.Duration

	Activity   func(context.Context, Event)                                     // nil: not kept
	Registered func(ctx context.Context, subscription, ns string) (bool, error) // nil: always
	Audiences  []string                                                         // further accepted token audiences
	Deleted    func(ctx context.Context, id rid.ID) error                       // after a resource and all under it are gone
	Extra      map[string]func(http.ResponseWriter, *http.Request)              // unauthenticated exact paths, lower case
	Attached   func(*Handler)                                                   // called by New at its end, for providers that make requests themselves; nil: for none
	Gate       func(ctx context.Context, e *Envelope, c *token.Claims) error    // refuses by the caller's network; nil: never
}

// Handler is the management plane.
type Handler struct {
	cfg       Config
	res       Resources
	routes    map[string]*Route // by lower-case type
	endpoints endpoints
	turns     turns.Turns // of writers of one resource
	rates     Rates
	newer     atomic.Int64 // requests with an api-version newer than the newest known
}

// New builds the management plane and registers its long operations.
func New(cfg Config) (*Handler, error) {
	if cfg.Grace == 0 {
		cfg.Grace = usualGrace
	}
	h := &Handler{cfg: cfg, res: Resources{cfg.Store}, routes: map[string]*Route{}}
	for _, p := range cfg.Providers {
		for _, r := range p.Routes {
			key := strings.ToLower(r.Type)
			if h.routes[key] != nil {
				return nil, fmt.Errorf("type %s is registered twice", r.Type)
			}
			if len(r.APIVersions) == 0 {
				return nil, fmt.Errorf("type %s lists no api-version", r.Type)
			}
			h.routes[key] = &r
		}
		for _, e := range p.Endpoints {
			h.endpoints.add(e)
		}
	}
	for _, e := range h.operationEndpoints() {
		h.endpoints.add(e)
	}
	cfg.Ops.Handle(runPut, h.resumePut)
	cfg.Ops.Handle(runDelete, h.resumeDelete)
	cfg.Ops.Handle(runAction, h.resumeAction)
	if cfg.Attached != nil {
		cfg.Attached(h)
	}
	return h, nil
}

// Routes lists the registered types.
func (h *Handler) Routes() map[string]*Route { return h.routes }

// NewerVersions counts requests served although their api-version is newer
// than any that is known.
func (h *Handler) NewerVersions() int64 { return h.newer.Load() }

type ctxKey int

const (
	callerKey ctxKey = iota
	baseKey
	policyKey
	headerKey
	queryKey
)

// asked is the query of the URL by which a resource is being deleted.
type asked struct {
	key   string // of the resource
	query url.Values
}

// DeleteQuery is the query of the request that deletes the resource with the
// id, for the Delete hook of a type that does so in a long operation; empty
// where the resource goes because something above it does.
func DeleteQuery(ctx context.Context, id rid.ID) url.Values {
	a, _ := ctx.Value(queryKey).(asked)
	if a.key != id.Key() {
		return nil
	}
	return a.query
}

// Authorise refuses unless the caller of the request may do the action at the
// scope: for Endpoints whose action depends on the path.
func Authorise(ctx context.Context, action string, scope rid.ID) error {
	c := Caller(ctx)
	policy, ok := ctx.Value(policyKey).(Authorizer)
	if !ok || c == nil {
		return fmt.Errorf("ask for %s outside of a request", action)
	}
	d, err := policy.Check(ctx, c.ObjectID, action, false, scope)
	if err != nil {
		return err
	}
	if !d.Allowed {
		return forbidden(c, action, scope)
	}
	return nil
}

// Forbidden is the refusal of an action to the caller of the request.
func Forbidden(ctx context.Context, action string, scope rid.ID) error {
	return forbidden(Caller(ctx), action, scope)
}

// CheckTags refuses tags that are over ARM's limits.
func CheckTags(tags map[string]string) error { return checkTags(tags) }

// Caller is who makes the request; nil outside of one.
func Caller(ctx context.Context) *token.Claims {
	c, _ := ctx.Value(callerKey).(*token.Claims)
	return c
}

// WithCaller is for long operations, which act for whoever began them.
func WithCaller(ctx context.Context, c *token.Claims) context.Context {
	return context.WithValue(ctx, callerKey, c)
}

// BaseURL is scheme and host of the request, for absolute links.
func BaseURL(ctx context.Context) string {
	s, _ := ctx.Value(baseKey).(string)
	return s
}

// errUnauthenticated is the answer to a missing token.
func errUnauthenticated() *apierr.Error {
	return apierr.New(apierr.Unauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
}

// translateAuth turns the token service's refusal into ARM's words.
func translateAuth(err error) error {
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok || e.Kind != apierr.Unauthorized {
		return err
	}
	code := "InvalidAuthenticationToken"
	switch e.Code {
	case token.CodeExpired:
		code = "ExpiredAuthenticationToken"
	case token.CodeAudience:
		code = "InvalidAuthenticationTokenAudience"
	}
	return &apierr.Error{Kind: e.Kind, Code: code, Message: e.Message, Cause: e}
}

// forbidden is ARM's refusal, with the texts that clients know.
func forbidden(c *token.Claims, action string, scope rid.ID) *apierr.Error {
	return apierr.New(apierr.Forbidden, "AuthorizationFailed",
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.",
		c.Display(), c.ObjectID, action, scope)
}

// writeError is the one place where a refusal becomes ARM's envelope.
// Source: ARM RPC, "Error response content".
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := apierr.From(err)
	w.Header().Set("x-ms-failure-cause", "gateway")
	if e.Kind == apierr.Unauthorized {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(
			`Bearer authorization_uri="%s", error="invalid_token", error_description="%s"`,
			authorizationURI(r), strings.NewReplacer(`"`, "'", "\r", " ", "\n", " ").Replace(e.Message)))
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int(max(1, e.RetryAfter.Seconds()))))
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(e.Kind.Status())
		return
	}
	writeJSON(w, e.Kind.Status(), map[string]any{"error": wireError(e)})
}

func wireError(e *apierr.Error) map[string]any {
	m := map[string]any{"code": e.Code, "message": e.Message}
	if e.Target != "" {
		m["target"] = e.Target
	}
	if len(e.Details) > 0 {
		var d []any
		for i := range e.Details {
			d = append(d, wireError(&e.Details[i]))
		}
		m["details"] = d
	}
	return m
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"code":"InternalServerError","message":"The answer could not be encoded."}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Pragma", "no-cache")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may be gone
}

// WriteError answers with err in ARM's words, for what goes wrong before the
// pipeline has the request.
func WriteError(w http.ResponseWriter, r *http.Request, err *apierr.Error) { writeError(w, r, err) }
