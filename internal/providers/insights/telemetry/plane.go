package telemetry

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/kql"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/web"
)

// MaxBody is the largest body of a request, in bytes.
const MaxBody = 64 << 10

const (
	mostRows = 500_000 // that one query keeps at once. Source: "Azure Monitor service limits", Log Analytics queries
)

// The codes of refusals. Source: "Azure Monitor Log Analytics API errors".
const (
	codeBad    = "BadArgumentError"
	codePath   = "PathNotFoundError"
	codeAccess = "InsufficientAccessError"
	codeAuth   = "AuthorizationRequiredError"
	codeToken  = "InvalidTokenError"
	codeBusy   = "ThrottledError"
)

// Plane is the query API.
type Plane struct {
	*gate.Handler
	s *Service
}

// NewPlane makes the query API over s, for tokens of the audiences.
func NewPlane(s *Service, cfg gate.Config, audiences ...string) *Plane {
	p := &Plane{s: s}
	p.Handler = gate.New(cfg, gate.Plane{
		Name: "insights", Audiences: audiences,
		Operations: []gate.Operation{
			{Method: http.MethodGet, Path: "/v1/apps/{app}/query", Action: insights.ActionQuery, Manage: true, Handle: p.query},
			{Method: http.MethodPost, Path: "/v1/apps/{app}/query", Action: insights.ActionQuery, Manage: true, Body: MaxBody, Handle: p.query},
			{Method: http.MethodGet, Path: "/v1/apps/{app}/events/{type}", Action: insights.ActionEvents, Manage: true, Handle: p.events},
			{Method: http.MethodGet, Path: "/v1/apps/{app}/events/{type}/{id}", Action: insights.ActionEvents, Manage: true, Handle: p.event},
		},
		Resolve: p.resolve, Version: func(*gate.Call) error { return nil }, Headers: headers,
		WriteError: func(w http.ResponseWriter, c *gate.Call, e *apierr.Error) { WriteError(w, c.Request, e) },
		RefuseNetwork: func(c *gate.Call, _ gate.Blocked) *apierr.Error {
			return closed(c.Target.Data.(component).App, "RESOURCE-ID")
		},
		RefuseRole: func(c *gate.Call, action string, _ rid.ID, _ rbac.Decision) *apierr.Error {
			return apierr.New(apierr.Forbidden, codeAccess, "The provided credentials have insufficient access to perform the requested operation: the principal %s has no role with the action '%s', such as Reader, on the component with the application id '%s'.", c.Caller.ObjectID, action, c.Target.Data.(component).App)
		},
	})
	return p
}

// closed refuses a query where the component does not answer the public
// network. Who asks may be anybody: the resource id is theirs to give.
func closed(app, id string) *apierr.Error {
	return apierr.New(apierr.Forbidden, codeAccess, "The component with the application id '%s' takes no queries over the public network, and there are no private link scopes here. To open it: az resource update --ids %s --set properties.publicNetworkAccessForQuery=Enabled", app, id)
}

// resolve finds the component with the application id in the path.
func (p *Plane) resolve(_ context.Context, r *http.Request) (*gate.Target, error) {
	segs := strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' })
	if len(segs) < 3 || !strings.EqualFold(segs[0], "v1") || !strings.EqualFold(segs[1], "apps") {
		return nil, apierr.New(apierr.NotFound, codePath, "The requested path does not exist. There are /v1/apps/{appId}/query and /v1/apps/{appId}/events/{eventType}.")
	}
	if err := p.s.docs.Fresh(); err != nil {
		return nil, err
	}
	c, ok := p.s.index.get(segs[2])
	if !ok {
		return nil, apierr.New(apierr.NotFound, codePath, "There is no component with this application id. `az monitor app-insights component show` says what a component's is.")
	}
	return &gate.Target{ID: c.ID, Location: c.Location, Network: gate.Network{Public: c.Public, DefaultAllow: true}, Data: c}, nil
}

func headers(h http.Header, _ *gate.Call) { h.Set("Cache-Control", "no-store") }

// WriteError answers a refusal as the API does.
func WriteError(w http.ResponseWriter, r *http.Request, e *apierr.Error) {
	code := e.Code
	switch {
	case code == token.CodeMissing:
		code = codeAuth
	case e.Kind == apierr.Unauthorized:
		code = codeToken
	case e.Kind == apierr.TooLarge || e.Kind == apierr.BadRequest:
		code = codeBad
	case e.Kind == apierr.NotFound:
		code = codePath
	}
	body := map[string]any{"code": code, "message": e.Message, "correlationId": web.CorrelationID(r.Context())}
	if e.Inner != "" {
		body["message"] = "The request had some invalid properties: " + e.Message
		body["innererror"] = map[string]string{"code": e.Inner, "message": e.Message}
	}
	web.WriteJSON(w, e.Kind.Status(), map[string]any{"error": body})
}

// query is GET and POST …/query.
func (p *Plane) query(c *gate.Call) (any, error) {
	var ask insights.Ask
	if c.Request.Method == http.MethodPost {
		if err := c.Decode(&ask); err != nil {
			return nil, err
		}
	}
	q := c.Request.URL.Query()
	if q.Has("query") {
		ask.Query = q.Get("query")
	}
	if q.Has("timespan") {
		ask.Timespan = q.Get("timespan")
	}
	return p.within(c, func(ctx context.Context, comp component) (any, error) { return p.s.query(ctx, comp, ask) })
}

// within does what a call asks for in a turn of its component's. Others have
// theirs while the answer is written, however slowly it is read.
func (p *Plane) within(c *gate.Call, do func(context.Context, component) (any, error)) (any, error) {
	comp := c.Target.Data.(component)
	t, err := p.s.turns.begin(comp.App)
	if err != nil {
		return nil, err
	}
	defer t.ran()
	c.AtEnd(t.end)
	ctx, cancel := context.WithTimeout(c.Context, mostTime)
	defer cancel()
	out, err := do(ctx, comp)
	return out, timed(ctx, err)
}

// Query runs a query on a component, for the management plane's path to it. Who
// asks has the action insights.ActionQuery on it.
func (s *Service) Query(ctx context.Context, id rid.ID, ask insights.Ask) (any, error) {
	c, ok := s.at(id)
	if !ok {
		return nil, store.ErrNotFound
	}
	if !c.Public {
		return nil, closed(c.App, id.String()) // who asks may read it
	}
	t, err := s.turns.begin(c.App)
	if err != nil {
		return nil, err
	}
	defer t.end()
	ctx, cancel := context.WithTimeout(ctx, mostTime)
	defer cancel()
	out, err := s.query(ctx, c, ask)
	return out, timed(ctx, err)
}

func bad(inner, format string, args ...any) error {
	return apierr.New(apierr.BadRequest, codeBad, format, args...).WithInner(inner)
}

func (s *Service) query(ctx context.Context, c component, ask insights.Ask) (any, error) {
	others := slices.DeleteFunc(append(slices.Clone(ask.Applications), ask.Workspaces...), func(a string) bool { return strings.EqualFold(a, c.App) })
	if len(others) > 0 {
		return nil, bad("InvalidArgument", "A query is of one component here: 'applications' and 'workspaces' name others.")
	}
	in, err := parseTimespan(ask.Timespan, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	q, err := kql.Parse(ask.Query)
	if err != nil {
		return nil, queryError(err)
	}
	if !tables(q.Table()) {
		return nil, bad(kql.SemanticError, "There is no table '%.100s'. There are requests and traces, and others that are always empty here: dependencies, exceptions, customEvents, customMetrics, pageViews, availabilityResults.", q.Table())
	}
	s.settle(ctx)
	all := fields(q.Table())
	cols := make([]kql.Column, len(all))
	for i, f := range all {
		cols[i] = kql.Column{Name: f.name, Type: f.typ}
	}
	rows := func(yield func([]any, error) bool) {
		for r, err := range s.records(ctx, c, q.Table(), in) {
			if err != nil {
				yield(nil, err)
				return
			}
			row := make([]any, len(all))
			for i, f := range all {
				row[i] = f.get(r, &c)
			}
			if !yield(row, nil) {
				return
			}
		}
	}
	t, err := q.Run(ctx, cols, rows, s.cfg.Now().UTC(), kql.Limits{Rows: mostRows, Bytes: mostKept})
	if err != nil {
		return nil, queryError(err)
	}
	return answer(t)
}

func queryError(err error) error {
	if e, ok := errors.AsType[*kql.Error](err); ok {
		return bad(e.Code, "%s", e.Error())
	}
	return err
}
