package router

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Action is what a principal needs on an endpoint to score with a token.
const Action = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"

// MaxBody is the largest body of a request, in bytes.
const MaxBody = 64 << 20

// Config is what New needs.
type Config struct {
	Gate      gate.Config
	Catalog   Catalog
	Instances Instances
	Starter   Starter // nil: nothing is started

	// Approved says whether a private endpoint may reach a workspace now. Nil:
	// none may.
	Approved func(ctx context.Context, workspace rid.ID, endpoint string) (bool, error)

	// Audiences are the resources whose tokens count; nil: Azure's.
	Audiences []string

	// AzureLike keeps Azure's limits of requests to an endpoint.
	AzureLike bool

	// Answers keeps what was answered, for explanations; nil: nothing is kept.
	Answers *trace.Recent

	// Scored is told of each request to a deployment with Insights. It returns at
	// once. Nil: nobody is told.
	Scored func(Scored)

	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // for limits; nil means time.Now

	// Stall is how long a client may take nothing of an answer, or send nothing
	// of a request; 0 is 30 seconds.
	Stall time.Duration
}

// Router is the data plane of all endpoints.
type Router struct {
	*gate.Handler
	cfg    Config
	pools  *pools
	splits sync.Map // *state by the endpoint's key
	meter  *meter
	mirror mirror
	ahead  atomic.Int64  // bytes of bodies in memory
	upload time.Duration // that a long body may take
}

// state is what is kept of one endpoint.
type state struct {
	split
	rate   rate
	width  bandwidth
	active atomic.Int64 // requests, of all deployments
	used   atomic.Int64 // unix seconds
}

// New makes the router; Run makes it see changes. It fails when Metrics has its
// metrics already.
func New(c Config) (*Router, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Stall == 0 {
		c.Stall = stall
	}
	if c.Audiences == nil {
		c.Audiences = []string{token.MachineLearning, "https://aml.azure.net"} // the second is what the az of old asks for
	}
	r := &Router{cfg: c, pools: newPools(c.Instances), upload: bodyTime}
	r.mirror.r, r.mirror.stops = r, map[uint64]context.CancelFunc{}
	var err error
	if r.meter, err = newMeter(c.Metrics); err != nil {
		return nil, err
	}
	r.Handler = gate.New(c.Gate, gate.Plane{
		Name: "scoring", Audiences: c.Audiences,
		Operations: []gate.Operation{{Action: Action, Manage: true, Handle: r.score}},
		Resolve:    r.resolve, Key: r.key, Version: func(*gate.Call) error { return nil }, Headers: headers,
		WriteError: r.writeError, RefuseNetwork: refuseNetwork, RefuseRole: refuseRole,
		Keep: keep, Answers: c.Answers,
	})
	return r, nil
}

// Run follows the instances' changes until ctx ends, and then waits for the
// copies of requests that are under way.
func (r *Router) Run(ctx context.Context) error {
	tick := time.NewTicker(forgetting)
	defer tick.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.pools.run(ctx)
	}()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-tick.C:
			r.forget(ctx, now)
		}
	}
	<-done
	r.mirror.close()
	return nil
}

// forget drops what is kept of endpoints that nobody has asked for long, and the
// metrics of those that are gone.
func (r *Router) forget(ctx context.Context, now time.Time) {
	r.splits.Range(func(key, v any) bool {
		if st := v.(*state); now.Unix()-st.used.Load() > int64(forgetting/time.Second) && st.active.Load() == 0 {
			r.splits.Delete(key)
		}
		return true
	})
	r.meter.forget(func(host, deployment string) bool {
		ep, err := r.cfg.Catalog.Find(ctx, host)
		return errors.Is(err, ErrNotFound) || err == nil && deployment != "" && ep.Deployments[deployment] == nil
	})
}

// state is what is kept of an endpoint.
func (r *Router) state(ep *Endpoint) *state {
	key := ep.ID.Key()
	v, ok := r.splits.Load(key)
	if !ok {
		v, _ = r.splits.LoadOrStore(key, &state{})
	}
	s := v.(*state)
	s.used.Store(r.cfg.Now().Unix())
	return s
}

// hostOf is the name that a request asks for, in lower case and without a port.
func hostOf(req *http.Request) string {
	host := strings.ToLower(req.Host)
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}

// resolve finds the endpoint of a host name.
func (r *Router) resolve(ctx context.Context, req *http.Request) (*gate.Target, error) {
	host := hostOf(req)
	ep, err := r.cfg.Catalog.Find(ctx, host)
	if errors.Is(err, ErrNotFound) {
		return nil, apierr.New(apierr.NotFound, codeNoEndpoint, "There is no online endpoint named '%s' here.", clip(host)).WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	n := gate.Network{Public: ep.Public, DefaultAllow: true}
	if approved := r.cfg.Approved; approved != nil {
		n.Approved = func(ctx context.Context, endpoint string) (bool, error) { return approved(ctx, ep.Workspace, endpoint) }
	}
	return &gate.Target{ID: ep.ID, Location: ep.Location, Network: n, Data: ep}, nil
}

func endpoint(c *gate.Call) *Endpoint { return c.Target.Data.(*Endpoint) }

// credential is the one that a request brings; ok is false where its header is
// missing or has another form.
func credential(h http.Header) (given string, ok bool) {
	all := h.Values("Authorization")
	if len(all) != 1 {
		return "", false
	}
	scheme, given, _ := strings.Cut(strings.TrimSpace(all[0]), " ")
	given = strings.TrimSpace(given)
	return given, strings.EqualFold(scheme, "Bearer") && given != "" && !strings.ContainsAny(given, " \t,")
}

// key judges keys and tokens of the endpoint's own. Those of the platform are
// the gate's business.
func (r *Router) key(c *gate.Call) (string, error) {
	ep := endpoint(c)
	given, ok := credential(c.Request.Header)
	hop := trace.Hop{Step: "key", Subject: ep.ID.String(), Fix: "az ml online-endpoint get-credentials --name " + ep.Name + where(ep)}
	word := "key"
	if ep.AuthMode != AuthKey {
		word, hop.Step = "token", "token"
	}
	if !ok {
		hop.Found = "the request has no header of the form 'Authorization: Bearer " + strings.ToUpper(word) + "'"
		trace.Add(c.Context, hop)
		return "", apierr.New(apierr.Unauthorized, word+badHeader, "The endpoint takes a %s in a header of the form 'Authorization: Bearer %s', and the request has none.", word, strings.ToUpper(word))
	}
	switch ep.AuthMode {
	case AuthAAD:
		return "", nil
	case AuthAML:
		err := errors.New("the endpoint has none")
		if ep.Token != nil {
			err = ep.Token(c.Context, given)
		}
		if err == nil {
			return "endpoint token", nil
		}
		hop.Found = "the token is none of the endpoint's: " + clip(err.Error())
	default:
		if name, ok := lookup(ep, given); ok {
			trace.From(c.Context).AddLate(func() trace.Hop {
				return trace.Hop{Step: "key", Subject: ep.ID.String(), OK: true, Found: "the endpoint's " + name + " key; no role is needed"}
			})
			return name + " key", nil
		}
		hop.Found = "the key is none of the endpoint's two: it is another endpoint's, was regenerated, or is a token, which this endpoint does not take (auth_mode: key)"
	}
	trace.Add(c.Context, hop)
	return "", apierr.New(apierr.Unauthorized, word+denied, "The %s is none of this endpoint's. `az ml online-endpoint get-credentials --name %s` shows what is.", word, ep.Name)
}

func lookup(ep *Endpoint, given string) (string, bool) {
	if ep.Key == nil {
		return "", false
	}
	return ep.Key(given)
}

// where says of which workspace an endpoint is, as commands are told.
func where(ep *Endpoint) string {
	return " --workspace-name " + ep.Workspace.Name() + " --resource-group " + ep.Workspace.ResourceGroup()
}

// headers are on every answer.
func headers(h http.Header, c *gate.Call) {
	id := web.RequestID(c.Context)
	h.Set("X-Request-Id", id)
	h.Set("X-Ms-Request-Id", id)
}

// keep says which refusals are kept for explanations besides 401 and 403.
func keep(c *gate.Call, e *apierr.Error) bool {
	if c.Target == nil {
		return false
	}
	if e.Code == codePending || e.Code == codeRate {
		a, ok := c.State.(*ask)
		return ok && a.tell
	}
	return e.Kind == apierr.NotFound || e.Kind == apierr.Unavailable || e.Kind == apierr.Internal
}

func refuseNetwork(c *gate.Call, _ gate.Blocked) *apierr.Error {
	return apierr.New(apierr.Forbidden, "Forbidden",
		"Public network access is disabled for the online endpoint '%s' (public_network_access: disabled). It can be reached through an approved private endpoint of its workspace '%s' alone.",
		endpoint(c).Name, endpoint(c).Workspace.Name())
}

func refuseRole(c *gate.Call, action string, scope rid.ID, _ rbac.Decision) *apierr.Error {
	return apierr.New(apierr.Unauthorized, "token"+denied, "The principal %s has no role with the action '%s' on '%s'.", c.Caller.ObjectID, action, scope)
}
