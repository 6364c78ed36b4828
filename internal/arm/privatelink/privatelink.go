// Package privatelink is what all resources that private endpoints can reach
// have in common: the connections under them, which somebody approves or
// rejects, the listing of their groups, and the question that a data plane asks
// with every request: may this endpoint reach this resource now?
//
// Source: "Private Endpoint Connections" and "Private Link Resources" of the
// REST API references of Microsoft.KeyVault and Microsoft.CognitiveServices,
// which have one shape.
package privatelink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// The states of a connection.
const (
	Pending      = "Pending"
	Approved     = "Approved"
	Rejected     = "Rejected"
	Disconnected = "Disconnected" // the connection is gone; its endpoint is still there
)

// connections is the last word of the type of connections.
const connections = "privateEndpointConnections"

// Service is a type of resources that private endpoints can reach.
type Service struct {
	Type        string // "Microsoft.KeyVault/vaults"
	APIVersions []string
	Groups      []Group
	// Names are the host names of a resource that an endpoint for the group
	// stands for.
	Names func(target *arm.Envelope, group string) []Name

	// Children is the last word of a type under the resources whose members
	// have names of their own: ChildNames of the one called child, which is no
	// private endpoint's to show. "" where there is no such type.
	Children   string
	ChildNames func(target *arm.Envelope, group, child string) []Name
}

// Group is a part of a resource that an endpoint reaches.
type Group struct {
	ID      string   // "vault"
	Members []string // "default"
	Zone    string   // of private names: "privatelink.vaultcore.azure.net"

	MoreZones []string // of further private names
}

// Name is a host name of a resource, without a port and a dot at the end.
type Name struct {
	Public  string // "NAME.vault.azure.net"
	Private string // which Public is another name for: "NAME.privatelink.vaultcore.azure.net"
	Member  string // of the group
	Shown   bool   // in an endpoint's customDnsConfigs
}

// Properties are those of a connection.
type Properties struct {
	Endpoint Ref      `json:"privateEndpoint"`
	GroupIDs []string `json:"groupIds,omitempty"`
	State    State    `json:"privateLinkServiceConnectionState"`
}

// Ref points at a resource.
type Ref struct {
	ID string `json:"id,omitempty"`
}

// State is what was decided about a connection.
type State struct {
	Status          string `json:"status,omitempty"`
	Description     string `json:"description,omitempty"`
	ActionsRequired string `json:"actionsRequired,omitempty"`
}

// Shown is a connection as its resource shows it among its properties.
type Shown struct {
	ID         string     `json:"id"`
	Name       string     `json:"name,omitempty"`
	Type       string     `json:"type,omitempty"`
	Properties properties `json:"properties"`
}

type properties struct {
	Properties
	State string `json:"provisioningState,omitempty"`
}

// Connection is one between an endpoint and a resource.
type Connection struct {
	ID     rid.ID
	Target rid.ID
	Properties
	Made time.Time
}

// Links knows all connections. Its zero value is not of use: see Open.
type Links struct {
	store    store.Store
	services []Service
	mirror   *store.Mirror[*Connection]
	children *store.Mirror[rid.ID] // nil: no service has any

	mu       sync.RWMutex // guards what follows
	byTarget map[string][]*Connection
	known    bool // byTarget is what the mirror has
}

// maxStale is how old the mirror may be before the store is asked instead: a
// decision made through another replica counts within this time.
const maxStale = time.Second

// Open makes Links for the services. Close ends it.
func Open(ctx context.Context, s store.Store, services ...Service) (*Links, error) {
	l := &Links{store: s, services: services}
	var kinds []string
	for _, sv := range services {
		kinds = append(kinds, strings.ToLower(sv.Type+"/"+connections))
	}
	var err error
	if l.mirror, err = store.NewMirror(ctx, s, arm.KeyPrefix+"/", decode, maxStale, kinds...); err != nil {
		return nil, fmt.Errorf("open private links: %w", err)
	}
	if err := l.openChildren(ctx); err != nil {
		l.mirror.Close()
		return nil, fmt.Errorf("open private links: %w", err)
	}
	l.mirror.OnChange(func(store.Change) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.known = false
	})
	return l, nil
}

// Close ends the mirrors; reads still work.
func (l *Links) Close() {
	l.mirror.Close()
	if l.children != nil {
		l.children.Close()
	}
}

// OnChange calls fn after each change of a connection, and of what has names.
// fn must not write to the store.
func (l *Links) OnChange(fn func()) {
	changed := func(store.Change) { fn() }
	l.mirror.OnChange(changed)
	if l.children != nil {
		l.children.OnChange(changed)
	}
}

func decode(d store.Doc) (*Connection, error) {
	e, err := arm.DecodeEnvelope(d)
	if err != nil {
		return nil, err
	}
	return connectionOf(e)
}

func connectionOf(e *arm.Envelope) (*Connection, error) {
	r, err := arm.View[Properties](e)
	if err != nil {
		return nil, err
	}
	return &Connection{ID: r.ID, Target: r.ID.Parent(), Properties: r.Properties, Made: e.System.CreatedAt}, nil
}

// Service is that of the type of resources; false where no private endpoint
// reaches such.
func (l *Links) Service(typ string) (Service, bool) {
	i := slices.IndexFunc(l.services, func(s Service) bool { return strings.EqualFold(s.Type, typ) })
	if i < 0 {
		return Service{}, false
	}
	return l.services[i], true
}

// Types are those that private endpoints can reach.
func (l *Links) Types() []string {
	var out []string
	for _, s := range l.services {
		out = append(out, s.Type)
	}
	return out
}

// Group is the group of a service; false where it has none of the name.
func (s Service) Group(id string) (Group, bool) {
	i := slices.IndexFunc(s.Groups, func(g Group) bool { return strings.EqualFold(g.ID, id) })
	if i < 0 {
		return Group{}, false
	}
	return s.Groups[i], true
}

// Of are the connections of a resource, in the order of their ids.
func (l *Links) Of(ctx context.Context, target rid.ID) ([]*Connection, error) {
	if l.mirror.Fresh() != nil {
		return l.read(ctx, target)
	}
	key := target.Key()
	l.mu.RLock()
	if l.known {
		defer l.mu.RUnlock()
		return l.byTarget[key], nil
	}
	l.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.byTarget = true, map[string][]*Connection{}
	l.mirror.Range(func(_ string, c *Connection) bool {
		l.byTarget[c.Target.Key()] = append(l.byTarget[c.Target.Key()], c)
		return true
	})
	for _, list := range l.byTarget {
		slices.SortFunc(list, func(a, b *Connection) int { return strings.Compare(a.ID.Key(), b.ID.Key()) })
	}
	return l.byTarget[key], nil
}

// read asks the store for the connections of a resource.
func (l *Links) read(ctx context.Context, target rid.ID) ([]*Connection, error) {
	list, err := (arm.Resources{Store: l.store}).List(ctx, target, target.Type()+"/"+connections, "", 1000)
	if err != nil {
		return nil, err
	}
	var out []*Connection
	for _, e := range list {
		c, err := connectionOf(e)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// All are all connections, as far as they are known now.
func (l *Links) All() []*Connection {
	var out []*Connection
	l.mirror.Range(func(_ string, c *Connection) bool {
		out = append(out, c)
		return true
	})
	slices.SortFunc(out, func(a, b *Connection) int { return strings.Compare(a.ID.Key(), b.ID.Key()) })
	return out
}

// Approved reports whether the endpoint with the id may reach the resource now.
func (l *Links) Approved(ctx context.Context, target rid.ID, endpoint string) (bool, error) {
	list, err := l.Of(ctx, target)
	return slices.ContainsFunc(list, func(c *Connection) bool {
		return c.State.Status == Approved && strings.EqualFold(c.Endpoint.ID, endpoint)
	}), err
}

// Gate is Approved for one resource, as a data plane asks it.
func (l *Links) Gate(target rid.ID) func(ctx context.Context, endpoint string) (bool, error) {
	if l == nil {
		return nil
	}
	return func(ctx context.Context, endpoint string) (bool, error) { return l.Approved(ctx, target, endpoint) }
}

// Show is what a resource shows of its connections; nil where it has none.
func (l *Links) Show(ctx context.Context, target rid.ID) ([]Shown, error) {
	if l == nil {
		return nil, nil
	}
	list, err := l.Of(ctx, target)
	var out []Shown
	for _, c := range list {
		out = append(out, Shown{ID: c.ID.String(), Name: c.ID.Name(), Type: c.ID.Type(), Properties: properties{c.Properties, "Succeeded"}})
	}
	return out, err
}

// Request is what an endpoint asks of a resource.
type Request struct {
	Endpoint rid.ID
	Target   rid.ID
	Name     string // of the connection, as the endpoint calls it
	GroupIDs []string
	Status   string // Approved or Pending
	Message  string
}

// Connect makes the connection of an endpoint to a resource, or leaves the one
// that is there as it is: what was decided about it stays.
func (l *Links) Connect(ctx context.Context, r Request) error {
	list, err := l.read(ctx, r.Target)
	if err != nil {
		return err
	}
	for _, c := range list {
		if strings.EqualFold(c.Endpoint.ID, r.Endpoint.String()) {
			return nil
		}
	}
	sv, ok := l.Service(r.Target.Type())
	if !ok {
		return fmt.Errorf("connect to %s: no private endpoint reaches such", r.Target)
	}
	target, err := (arm.Resources{Store: l.store}).Get(ctx, r.Target)
	if err != nil {
		return err
	}
	description := r.Message
	if r.Status == Approved {
		description = "Auto-Approved"
	}
	id := target.RID().Child(connections, r.Name+"."+uuid.NewString())
	e := &arm.Envelope{
		ID: id.String(), Name: id.Name(), Type: sv.Type + "/" + connections,
		Properties: map[string]any{
			"privateEndpoint": map[string]any{"id": r.Endpoint.String()}, "groupIds": anyList(r.GroupIDs),
			"privateLinkServiceConnectionState": map[string]any{"status": r.Status, "description": description, "actionsRequired": "None"},
			"provisioningState":                 "Succeeded",
		},
	}
	now := time.Now().UTC()
	e.System.CreatedAt, e.System.LastModifiedAt = now, now
	return (arm.Resources{Store: l.store}).Put(ctx, e)
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// Disconnect removes the connections of an endpoint to the resources but those
// in keep.
func (l *Links) Disconnect(ctx context.Context, endpoint rid.ID, keep ...rid.ID) error {
	var errs []error
	for _, sv := range l.services {
		q := store.Query{Prefix: arm.KeyPrefix + "/", Kind: strings.ToLower(sv.Type + "/" + connections)}
		err := store.All(ctx, l.store, q, func(d store.Doc) error {
			c, err := decode(d)
			if err != nil || !strings.EqualFold(c.Endpoint.ID, endpoint.String()) {
				return err
			}
			if slices.ContainsFunc(keep, c.Target.Equal) {
				return nil
			}
			return (arm.Resources{Store: l.store}).Delete(ctx, c.ID)
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// To is the connection of an endpoint to a resource, nil where there is none.
func (l *Links) To(ctx context.Context, endpoint, target rid.ID) (*Connection, error) {
	list, err := l.Of(ctx, target)
	for _, c := range list {
		if strings.EqualFold(c.Endpoint.ID, endpoint.String()) {
			return c, err
		}
	}
	return nil, err
}

// Names are the host names that an endpoint for the groups of a resource stands
// for; none where there is no such resource.
func (l *Links) Names(ctx context.Context, target rid.ID, groups []string) ([]Name, error) {
	sv, ok := l.Service(target.Type())
	if !ok {
		return nil, nil
	}
	e, err := (arm.Resources{Store: l.store}).Get(ctx, target)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Name
	for _, g := range groups {
		out = append(out, sv.Names(e, g)...)
	}
	return out, nil
}

func bad(target, format string, args ...any) error {
	return apierr.New(apierr.BadRequest, "BadRequest", format, args...).WithTarget(target)
}
