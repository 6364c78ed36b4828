package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rid"
)

// Kind describes one resource type. Every hook is optional; nil means plain
// ARM behaviour. Hooks return an *apierr.Error for what the caller may see.
type Kind[P any] struct {
	Type        string   // below the namespace: "userAssignedIdentities/federatedIdentityCredentials"
	APIVersions []string // accepted, newest first
	Scopes      Scope    // where it may live; 0 is ResourceGroup
	Tracked     bool     // has a location and tags, appears in lists of all resources
	NoLocation  bool     // of a tracked type: the location may be left out
	Name        func(name string) error

	// ActionType is the type in the RBAC actions where it is another than the
	// type's own: a group's is "Microsoft.Resources/subscriptions/resourceGroups".
	ActionType string

	// Home is for types of which there is one of a name in the tenant, at
	// whatever scope it is addressed (role definitions): under which id it is
	// stored, and under which it is shown. The caller's right is asked for at
	// the scope that was addressed, so hooks must ask for it where the resource
	// counts.
	Home func(scope rid.ID, name string) (stored, shown rid.ID)

	ReadOnly  []string // properties that clients cannot set (dotted paths); sent ones are ignored
	WriteOnly []string // properties that hooks see and that are neither stored nor shown
	NoState   bool     // the type shows no provisioningState

	Default  func(ctx context.Context, old, next *Resource[P]) error // old is nil on create
	Validate func(ctx context.Context, old, next *Resource[P]) error
	Put      func(ctx context.Context, old, next *Resource[P]) error // acts; must be idempotent by ID
	Delete   func(ctx context.Context, old *Resource[P]) error       // acts; must be idempotent by ID
	Read     func(ctx context.Context, r *Resource[P]) error         // fills in what is computed, on a copy

	// Inline gives WriteOnly lists as they are stored elsewhere (a network's
	// subnets, which are resources below it), without what is computed: a preview
	// of a PUT then tells what would go from what stays.
	Inline func(ctx context.Context, r *Resource[P]) error

	// Deletable refuses a DELETE of the resource itself, such as of one that is
	// in use. When its group or parent goes it is not asked.
	Deletable func(ctx context.Context, old *Resource[P]) error

	// WithParent says that a DELETE goes in its parent's turn: no write of the
	// parent is under way from Deletable on until the resource is marked as one
	// that goes, so what the one asks of the other stays so.
	WithParent bool

	Async      bool // PUT, PATCH and DELETE answer at once and finish as long operations
	AsyncDel   bool // DELETE alone does
	Exclusive  bool // writes of siblings under one parent refuse each other: 409 while one is going on
	DeleteBody bool // DELETE answers 200 with the resource (role assignments)
	// Plain says that a PUT that creates answers 200, as one that changes does,
	// where clients take no 201. With Async it names the operation all the same.
	Plain bool

	NoPut    bool // clients cannot create it
	NoCreate bool // clients can change and delete it, but others create it: a PUT of one that is not there is a 404
	NoPatch  bool
	Implied  bool // its parent need not be there: Put makes it
	Identity bool // may have an identity of its own and be given others; the pipeline makes and removes it
	OwnID    bool // of an Identity type: one whose request speaks of no identity is made with one of its own

	// Limit refuses requests that come too fast; what is "write", "delete",
	// "read" or "list".
	Limit func(what string, id rid.ID) error

	Actions map[string]Action[P] // POST …/{name}, keyed by the name as documented

	// LongActions are actions that finish as long operations, keyed likewise.
	LongActions map[string]LongAction[P]

	// Busy is the provisioningState while a PUT is under way; "" is Creating or Updating.
	Busy string

	// State may give another one for a PUT: "Scaling"; "" is the usual.
	State func(old, next *Resource[P]) string

	// Failed records on an Async resource why its Put came to nothing. The PUT
	// is then never refused for it: who polls learns it, as Azure does with
	// deployments.
	Failed func(ctx context.Context, r *Resource[P], err error) error

	// Unmade are actions that can be asked of what is not there, too: the
	// Resource then has its ID alone.
	Unmade map[string]Action[P]

	// Cancels says that a DELETE ends what is being done to the resource, and
	// need not wait for it: Put and LongActions return soon when ctx ends.
	Cancels bool

	// List may narrow what GET on the collection gives, by its $filter.
	List func(ctx context.Context, filter string) (func(*Resource[P]) (bool, error), error)

	// Body turns a request's content into JSON, for types whose clients send
	// what is not quite; nil: it must be.
	Body func(raw []byte) ([]byte, error)

	// Own says that the collection at a scope lists what stands there, and not
	// also what stands under scopes in it: a subscription's deployments.
	Own bool

	// Get gives resources that exist without being stored (built-in role
	// definitions); nil, nil when there is none. ListAt replaces the listing.
	Get    func(ctx context.Context, id rid.ID) (*Resource[P], error)
	ListAt func(ctx context.Context, scope rid.ID, filter string) ([]*Resource[P], error)

	// Ask answers requests to the collection of a type that has no resources,
	// at any scope (permissions, checkAccess), by HTTP method: GET asks for
	// {type}/read, POST for {type}/action.
	Ask map[string]Question
}

// Question answers a request to a collection in place of the pipeline's list.
type Question func(ctx context.Context, scope rid.ID, body json.RawMessage) (any, error)

// Action answers POST {id}/{name}. Its RBAC action is {type}/{name}/action.
type Action[P any] func(ctx context.Context, r *Resource[P], body json.RawMessage) (any, error)

// LongAction answers POST {id}/{name} with 202 and goes on.
type LongAction[P any] struct {
	State string                                                                // provisioningState meanwhile: "Starting"
	Check func(ctx context.Context, r *Resource[P], body json.RawMessage) error // refuses at once; may be nil
	Run   func(ctx context.Context, r *Resource[P], body json.RawMessage) error // acts and changes r; must be idempotent by ID

	// Result is what the operation's result is, by what Run left; nil: none.
	Result func(ctx context.Context, r *Resource[P]) (any, error)
}

// Scope is where a type may live; values can be joined.
type Scope int

// The scopes.
const (
	ResourceGroup Scope = 1 << iota
	Subscription
	Tenant
	Extension // on any resource or scope
)

// Resource is one resource as hooks see it.
type Resource[P any] struct {
	ID         rid.ID
	Location   string
	Tags       map[string]string
	Properties P
	Extra      map[string]json.RawMessage // identity, sku, kind, … as sent
	Private    map[string]string          // kept, never shown
	System     SystemData
}

// Route is a Kind with its property type erased.
type Route struct {
	Type        string // with namespace
	APIVersions []string
	Scopes      Scope
	Tracked     bool
	Async       bool

	identity, ownID, noLocation, exclusive, withParent, deleteBody, plain, noPut, noCreate, noPatch, noState, asyncDel, cancels, implied bool

	actionType string
	home       func(scope rid.ID, name string) (stored, shown rid.ID)

	names     *names
	limit     func(what string, id rid.ID) error
	name      func(string) error
	readOnly  []string
	writeOnly []string
	acts      bool // has a Put hook
	own       bool
	body      func([]byte) ([]byte, error)
	busy      string
	state     func(old, next *Envelope) string
	failed    func(ctx context.Context, e *Envelope, err error) error
	prepare   func(ctx context.Context, old, next *Envelope) error
	put       func(ctx context.Context, old, next *Envelope) error
	del       func(ctx context.Context, old *Envelope) error
	deletable func(ctx context.Context, old *Envelope) error
	read      func(ctx context.Context, e *Envelope) error
	inline    func(ctx context.Context, e *Envelope) error
	list      func(ctx context.Context, filter string) (func(*Envelope) (bool, error), error)
	get       func(ctx context.Context, id rid.ID) (*Envelope, error)
	listAt    func(ctx context.Context, scope rid.ID, filter string) ([]*Envelope, error)
	actions   map[string]action // keyed in lower case
	ask       map[string]Question
}

type action struct {
	name string
	run  func(ctx context.Context, e *Envelope, body json.RawMessage) (any, error)

	unmade bool // also asked of what is not there

	// Of a long one; run then checks.
	state string
	act   func(ctx context.Context, e *Envelope, body json.RawMessage) error

	result func(ctx context.Context, e *Envelope) (any, error) // nil: none
}

// Endpoint is a path of a provider that is no resource: name checks, deleted
// resources, locations.
type Endpoint struct {
	Method      string
	Path        string // segments match without case; {name} matches one segment, {scope...} at the beginning any scope
	Action      string // RBAC action asked for at the subscription, group or scope in the path; "" lets every authenticated caller in
	Less        bool   // callers without Action are let in, too: Handle asks for it, and shows them less
	APIVersions []string
	Handle      func(ctx context.Context, r *Request) (*Response, error)

	resources bool // lists resources of all types: served by the pipeline itself
}

// ResourceLists are the endpoints that list the resources of all types in a
// subscription and in a group.
func ResourceLists(versions []string) []Endpoint {
	var list []Endpoint
	for _, p := range []string{"/subscriptions/{subscriptionId}", "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}"} {
		list = append(list, Endpoint{Method: http.MethodGet, Path: p + "/resources", APIVersions: versions, resources: true})
	}
	return list
}

// Request is what an Endpoint gets.
type Request struct {
	HTTP       *http.Request
	Params     map[string]string // by the names in Path
	Body       json.RawMessage
	APIVersion string
	BaseURL    string // "https://management.azure.com", for absolute links
}

// Response is what an Endpoint answers.
type Response struct {
	Status int // 0 is 200
	Header http.Header
	Body   any // nil: no body
}

// Provider is one namespace.
type Provider struct {
	Namespace string // "Microsoft.KeyVault"
	Routes    []Route
	Endpoints []Endpoint

	// DataActions are what its data plane asks for, such as
	// "Microsoft.KeyVault/vaults/secrets/getSecret/action".
	DataActions []string
}

// Serve makes the Route of k in a namespace.
func Serve[P any](namespace string, k Kind[P]) Route {
	r := Route{
		Type: namespace + "/" + k.Type, APIVersions: k.APIVersions, Scopes: k.Scopes, Tracked: k.Tracked, Async: k.Async,
		identity: k.Identity, ownID: k.OwnID, limit: k.Limit, noLocation: k.NoLocation, exclusive: k.Exclusive, deleteBody: k.DeleteBody, plain: k.Plain, noPut: k.NoPut, noPatch: k.NoPatch,
		noState: k.NoState, asyncDel: k.AsyncDel, withParent: k.WithParent, cancels: k.Cancels, implied: k.Implied, name: k.Name, readOnly: k.ReadOnly, writeOnly: k.WriteOnly, acts: k.Put != nil || k.Identity,
		actions: map[string]action{}, ask: k.Ask,
	}
	if r.Scopes == 0 {
		r.Scopes = ResourceGroup
	}
	if r.actionType, r.home = k.ActionType, k.Home; r.actionType == "" {
		r.actionType = r.Type
	}
	r.names = namesOf(reflect.TypeFor[P](), k.ReadOnly, k.WriteOnly)
	r.prepare = func(ctx context.Context, old, next *Envelope) error { return both(old, next, k.check(ctx)) }
	r.put = func(context.Context, *Envelope, *Envelope) error { return nil }
	if k.Put != nil {
		r.put = func(ctx context.Context, old, next *Envelope) error {
			return both(old, next, func(o, n *Resource[P]) error { return k.Put(ctx, o, n) })
		}
	}
	r.del, r.deletable, r.noCreate = one(k.Delete), one(k.Deletable), k.NoCreate
	if k.Read != nil {
		r.read = one(k.Read)
	}
	r.inline = one(k.Inline)
	r.list = k.lister()
	k.virtual(&r)
	for name, run := range k.Actions {
		r.actions[strings.ToLower(name)] = action{name: name, run: func(ctx context.Context, e *Envelope, body json.RawMessage) (any, error) {
			res, _, err := view[P](e)
			if err != nil {
				return nil, err
			}
			return run(ctx, res, body)
		}}
	}
	for name, run := range k.Unmade {
		r.actions[strings.ToLower(name)] = action{name: name, unmade: true, run: func(ctx context.Context, e *Envelope, body json.RawMessage) (any, error) {
			res, _, err := view[P](e)
			if err != nil {
				return nil, err
			}
			return run(ctx, res, body)
		}}
	}
	r.own, r.body = k.Own, k.Body
	k.stated(&r)
	if r.busy = k.Busy; k.Failed != nil {
		r.failed = func(ctx context.Context, e *Envelope, why error) error {
			return both(nil, e, func(_, n *Resource[P]) error { return k.Failed(ctx, n, why) })
		}
	}
	for name, long := range k.LongActions {
		r.actions[strings.ToLower(name)] = long.action(name)
	}
	return r
}

// stated lifts State to envelopes.
func (k *Kind[P]) stated(r *Route) {
	r.state = func(_, _ *Envelope) string { return "" }
	if k.State == nil {
		return
	}
	r.state = func(old, next *Envelope) string {
		var o *Resource[P]
		n, _, err := view[P](next)
		if err == nil && old != nil {
			o, _, err = view[P](old)
		}
		if err != nil {
			return "" // the checks have seen both
		}
		return k.State(o, n)
	}
}

// action lifts a LongAction to one on envelopes.
func (l LongAction[P]) action(name string) action {
	a := action{
		name: name, state: l.State,
		run: func(ctx context.Context, e *Envelope, body json.RawMessage) (any, error) {
			if l.Check == nil {
				return nil, nil
			}
			return nil, both(nil, e, func(_, n *Resource[P]) error { return l.Check(ctx, n, body) })
		},
		act: func(ctx context.Context, e *Envelope, body json.RawMessage) error {
			return both(nil, e, func(_, n *Resource[P]) error { return l.Run(ctx, n, body) })
		},
	}
	if l.Result != nil {
		a.result = func(ctx context.Context, e *Envelope) (any, error) {
			r, _, err := view[P](e)
			if err != nil {
				return nil, err
			}
			return l.Result(ctx, r)
		}
	}
	return a
}

// check runs Default, then Validate.
func (k *Kind[P]) check(ctx context.Context) func(o, n *Resource[P]) error {
	return func(o, n *Resource[P]) error {
		if k.Default != nil {
			if err := k.Default(ctx, o, n); err != nil {
				return err
			}
		}
		if k.Validate != nil {
			return k.Validate(ctx, o, n)
		}
		return nil
	}
}

func (k *Kind[P]) lister() func(context.Context, string) (func(*Envelope) (bool, error), error) {
	return func(ctx context.Context, filter string) (func(*Envelope) (bool, error), error) {
		if k.List == nil {
			return nil, nil
		}
		f, err := k.List(ctx, filter)
		if err != nil {
			return nil, err
		}
		return func(e *Envelope) (bool, error) {
			res, _, err := view[P](e)
			if err != nil {
				return false, err
			}
			return f(res)
		}, nil
	}
}

// virtual sets the hooks for resources that are not stored.
func (k *Kind[P]) virtual(r *Route) {
	typ := r.Type
	if k.Get != nil {
		r.get = func(ctx context.Context, id rid.ID) (*Envelope, error) {
			res, err := k.Get(ctx, id)
			if err != nil || res == nil {
				return nil, err
			}
			return seal(typ, res)
		}
	}
	if k.ListAt == nil {
		return
	}
	r.listAt = func(ctx context.Context, scope rid.ID, filter string) ([]*Envelope, error) {
		list, err := k.ListAt(ctx, scope, filter)
		if err != nil {
			return nil, err
		}
		out := make([]*Envelope, 0, len(list))
		for _, res := range list {
			e, err := seal(typ, res)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
		return out, nil
	}
}

// one lifts a hook on a Resource to one on its Envelope, and carries changes back.
func one[P any](hook func(context.Context, *Resource[P]) error) func(context.Context, *Envelope) error {
	if hook == nil {
		return func(context.Context, *Envelope) error { return nil }
	}
	return func(ctx context.Context, e *Envelope) error {
		return both(nil, e, func(_, n *Resource[P]) error { return hook(ctx, n) })
	}
}

// both runs f on the typed views of old and next and writes back what it changed in next.
func both[P any](old, next *Envelope, f func(o, n *Resource[P]) error) error {
	var o *Resource[P]
	if old != nil {
		var err error
		if o, _, err = view[P](old); err != nil {
			return err
		}
	}
	n, was, err := view[P](next)
	if err != nil {
		return err
	}
	if err := f(o, n); err != nil {
		return err
	}
	is, err := toMap(n.Properties)
	if err != nil {
		return fmt.Errorf("encode properties of %s: %w", next.ID, err)
	}
	if next.Properties == nil {
		next.Properties = map[string]any{}
	}
	applyDiff(next.Properties, was, is)
	next.Location, next.Tags, next.Extra, next.Private = n.Location, n.Tags, n.Extra, n.Private
	return nil
}

// seal makes the Envelope of a resource that a hook gave.
func seal[P any](typ string, r *Resource[P]) (*Envelope, error) {
	p, err := toMap(r.Properties)
	if err != nil {
		return nil, fmt.Errorf("encode properties of %s: %w", r.ID, err)
	}
	return &Envelope{
		ID: r.ID.String(), Name: r.ID.Name(), Type: typ, Location: r.Location, Tags: r.Tags,
		Properties: p, Extra: r.Extra, Private: r.Private, System: r.System,
	}, nil
}

// View decodes a stored resource for a reader of another provider's type.
func View[P any](e *Envelope) (*Resource[P], error) {
	r, _, err := view[P](e)
	return r, err
}

// view decodes an Envelope, and gives its known properties as a map for applyDiff.
func view[P any](e *Envelope) (*Resource[P], map[string]any, error) {
	r := &Resource[P]{
		ID: e.RID(), Location: e.Location, Tags: e.Tags, Extra: e.Extra, Private: e.Private, System: e.System,
	}
	if r.Extra == nil {
		r.Extra = map[string]json.RawMessage{}
	}
	if r.Private == nil {
		r.Private = map[string]string{}
	}
	b, err := json.Marshal(e.Properties)
	if err != nil {
		return nil, nil, fmt.Errorf("encode properties of %s: %w", e.ID, err)
	}
	if e.Properties != nil {
		if err := json.Unmarshal(b, &r.Properties); err != nil {
			return nil, nil, badProperty(err)
		}
	}
	was, err := toMap(r.Properties)
	return r, was, err
}

func badProperty(err error) error {
	target := "properties"
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" {
		target += "." + te.Field
		return apierr.New(apierr.BadRequest, "InvalidRequestContent",
			"The request content was invalid: '%s' must be of type %s but is a %s.", target, te.Type, te.Value).WithTarget(target)
	}
	return apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: %v", err).WithTarget(target)
}

// CanPut reports whether clients can create resources of the type.
func (r *Route) CanPut() bool { return !r.noPut && !r.noCreate }

// Created is the status of a PUT that creates.
func (r *Route) Created() int {
	if r.plain {
		return http.StatusOK
	}
	return http.StatusCreated
}

// CanPatch reports whether the type answers PATCH.
func (r *Route) CanPatch() bool { return !r.noPatch && !r.noPut }

// LocationOptional reports whether a tracked type's location may be left out.
func (r *Route) LocationOptional() bool { return r.noLocation }

// ReadOnlyPaths are the properties that clients cannot set.
func (r *Route) ReadOnlyPaths() []string { return r.readOnly }

// Verbs are what may be done with a resource of the type: HTTP methods, and
// actions as "POST listKeys".
func (r *Route) Verbs() []string {
	if len(r.ask) > 0 { // a question, no resource
		return slices.Sorted(maps.Keys(r.ask))
	}
	list := []string{"GET"}
	if !r.noPut {
		list = append(list, "PUT")
	}
	if !r.noPut && !r.noPatch {
		list = append(list, "PATCH")
	}
	if !r.noPut {
		list = append(list, "DELETE")
	}
	var posts []string
	for _, a := range r.actions {
		posts = append(posts, "POST "+a.name)
	}
	slices.Sort(posts)
	return append(list, posts...)
}

// Operations are the RBAC actions that requests on the type ask for.
func (r *Route) Operations() []string {
	list := []string{r.Type + "/read"}
	if !r.noPut {
		list = append(list, r.Type+"/write", r.Type+"/delete")
	}
	var acts []string
	for _, a := range r.actions {
		acts = append(acts, r.Type+"/"+a.name+"/action")
	}
	slices.Sort(acts)
	return append(list, acts...)
}

// ActionType is the type in the RBAC actions of the route.
func (r *Route) ActionType() string { return r.actionType }

// HasHome reports whether resources of the type belong to the tenant, whatever
// scope they are addressed at.
func (r *Route) HasHome() bool { return r.home != nil }
