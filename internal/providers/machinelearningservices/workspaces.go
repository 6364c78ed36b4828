package machinelearningservices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Workspace is one workspace.
type Workspace struct {
	ID           rid.ID
	UID          string // its GUID, in lower case: of this workspace alone, for ever
	Location     string
	Kind         string
	State        string // provisioningState
	Properties   Properties
	Principal    string   // object id of its own identity; "" where it has none
	UserAssigned []string // ids of the identities that it was given
}

// Public reports whether the workspace, and endpoints of it, may be reached from outside.
func (w *Workspace) Public() bool { return !strings.EqualFold(w.Properties.PublicAccess, "Disabled") }

// Legacy reports whether the workspace is in the v1 legacy mode, in which it
// has no managed online endpoints.
func (w *Workspace) Legacy() bool { return isTrue(w.Properties.V1Legacy) }

// Mode is the isolation mode of its managed network.
func (w *Workspace) Mode() string { return w.Properties.mode() }

// Record is what is kept of a workspace's network beside the workspace.
type Record struct {
	UID       string            `json:"uid"`
	Workspace string            `json:"workspace"` // id
	Active    bool              `json:"active,omitempty"`
	Spark     bool              `json:"spark,omitempty"`
	Addresses map[string]string `json:"addresses,omitempty"` // by target and group: see endpointKey

	rev int64
}

const (
	networkPrefix = "machinelearning/networks/"
	networkKind   = "machinelearning.network"
	maxStale      = time.Second
)

// Workspaces knows all workspaces and what their networks should be. See Open.
type Workspaces struct {
	store   store.Store
	links   *privatelink.Links
	mirror  *store.Mirror[*arm.Envelope]
	records *store.Mirror[*Record]

	version atomic.Int64
	mu      sync.Mutex // guards what follows
	seen    *look      // of version at
	at      int64
}

// look is everything at one moment.
type look struct {
	byID  map[string]*Workspace // by lower-case id
	byUID map[string]*Workspace
	plans []NetworkPlan
}

// Open makes Workspaces, fed by the store. Close ends them.
func Open(ctx context.Context, s store.Store, links *privatelink.Links) (*Workspaces, error) {
	w := &Workspaces{store: s, links: links}
	w.version.Store(1)
	var err error
	kinds := []string{lower(WorkspaceType), lower(RuleType)}
	if w.mirror, err = store.NewMirror(ctx, s, arm.KeyPrefix+"/", arm.DecodeEnvelope, maxStale, kinds...); err != nil {
		return nil, fmt.Errorf("open workspaces: %w", err)
	}
	if w.records, err = store.NewMirror(ctx, s, networkPrefix, decodeRecord, maxStale); err != nil {
		w.mirror.Close()
		return nil, fmt.Errorf("open managed networks: %w", err)
	}
	w.OnChange(func() { w.version.Add(1) })
	return w, nil
}

func decodeRecord(d store.Doc) (*Record, error) {
	r := &Record{rev: d.Rev}
	if err := json.Unmarshal(d.Value, r); err != nil {
		return nil, fmt.Errorf("decode network %q: %w", d.Key, err)
	}
	return r, nil
}

// Close ends the mirrors.
func (w *Workspaces) Close() {
	w.mirror.Close()
	w.records.Close()
}

// OnChange calls fn after each change of anything that Plans gives. fn must
// not write to the store.
func (w *Workspaces) OnChange(fn func()) {
	changed := func(store.Change) { fn() }
	w.mirror.OnChange(changed)
	w.records.OnChange(changed)
	if w.links != nil {
		w.links.OnChange(fn)
	}
}

// Version is another number after each change of anything that Plans gives.
func (w *Workspaces) Version() int64 { return w.version.Load() }

// Plans are the managed networks of all workspaces, as they should be now, by
// id; those without isolation too. They are shared: do not change them.
func (w *Workspaces) Plans() []NetworkPlan { return w.look().plans }

// Plan is that of the workspace with the GUID; false where there is none.
func (w *Workspaces) Plan(uid string) (NetworkPlan, bool) {
	plans := w.Plans()
	i := slices.IndexFunc(plans, func(p NetworkPlan) bool { return p.UID == lower(uid) })
	if i < 0 {
		return NetworkPlan{}, false
	}
	return plans[i], true
}

// Get finds a workspace by its id; nil where there is none.
func (w *Workspaces) Get(ctx context.Context, id rid.ID) (*Workspace, error) {
	if w.mirror.Fresh() == nil {
		return w.look().byID[id.Key()], nil
	}
	e, err := arm.Resources{Store: w.store}.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return workspaceOf(e)
}

// ByUID finds a workspace by its GUID; nil where there is none.
func (w *Workspaces) ByUID(ctx context.Context, uid string) (*Workspace, error) {
	if err := w.mirror.Fresh(); err != nil {
		return nil, err
	}
	return w.look().byUID[lower(uid)], nil
}

func workspaceOf(e *arm.Envelope) (*Workspace, error) {
	r, err := arm.View[Properties](e)
	if err != nil {
		return nil, err
	}
	identity, err := arm.IdentityOf(e.Extra)
	if err != nil {
		return nil, err
	}
	kind, _ := textOf(e.Extra["kind"], "kind")
	w := &Workspace{
		ID: r.ID, UID: r.Private[uidKey], Location: r.Location, Kind: kind, State: e.State(), Properties: r.Properties, Principal: identity.PrincipalID,
	}
	for id := range identity.UserAssigned {
		w.UserAssigned = append(w.UserAssigned, id)
	}
	slices.Sort(w.UserAssigned)
	return w, nil
}

func (w *Workspaces) look() *look {
	now := w.version.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil || w.at != now {
		w.seen, w.at = w.survey(), now
	}
	return w.seen
}

func (w *Workspaces) survey() *look {
	l := &look{byID: map[string]*Workspace{}, byUID: map[string]*Workspace{}}
	rules := map[string][]*arm.Resource[Rule]{}
	w.mirror.Range(func(_ string, e *arm.Envelope) bool {
		if strings.EqualFold(e.Type, RuleType) {
			if r, err := arm.View[Rule](e); err == nil && counts(e) {
				key := r.ID.Parent().Key()
				rules[key] = append(rules[key], r)
			}
		} else if ws, err := workspaceOf(e); err == nil {
			l.byID[ws.ID.Key()], l.byUID[ws.UID] = ws, ws
		}
		return true
	})
	for key, ws := range l.byID {
		rec, _ := w.records.Get(networkPrefix + ws.UID)
		l.plans = append(l.plans, w.plan(ws, rec, rules[key]))
	}
	slices.SortFunc(l.plans, func(a, b NetworkPlan) int { return strings.Compare(a.Workspace.Key(), b.Workspace.Key()) })
	return l
}

// plan is that of one workspace.
func (w *Workspaces) plan(ws *Workspace, rec *Record, defined []*arm.Resource[Rule]) NetworkPlan {
	p := NetworkPlan{UID: ws.UID, Workspace: ws.ID, Mode: ws.Mode()}
	if p.Mode == Disabled {
		return p
	}
	if rec != nil {
		p.Active = rec.Active
	}
	for _, n := range w.rules(ws, defined) {
		r := n.rule.planned(n.name)
		p.Rules = append(p.Rules, r)
		if r.Type != RulePrivateEndpoint || rec == nil {
			continue
		}
		d, target, err := n.rule.endpoint()
		if err != nil {
			continue // it was validated
		}
		a, err := netip.ParseAddr(rec.Addresses[endpointKey(target, d.Group)])
		if err != nil {
			continue // it has no address yet
		}
		id := ws.ID.Child(ruleWord, n.name)
		p.Endpoints = append(p.Endpoints, PlannedEndpoint{
			Rule: n.name, Address: a, ID: id, Target: target, Group: d.Group, Approved: w.approved(target, id),
		})
	}
	return p
}

// approved reports whether the endpoint is known to be approved.
func (w *Workspaces) approved(target, endpoint rid.ID) bool {
	if w.links == nil {
		return false
	}
	ok, err := w.links.Approved(context.Background(), target, endpoint.String())
	return ok && err == nil
}
