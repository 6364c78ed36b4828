// Package directory knows who exists in a tenant: users, groups, applications,
// service principals, managed identities, their credentials, and who holds a
// directory role.
//
// Everything is a document in the store; a mirror of them in memory answers the
// lookups, so that a token or a policy decision costs no database read. A write
// through a Directory is seen by its own lookups when the write returns, and by
// those of other replicas within a second.
//
// Passwords and client secrets are kept as salted hashes only; nothing gives
// them out again.
package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/store"
)

// The errors of a Directory. Writes may also return store.ErrConflict: the
// object changed since it was read.
var (
	ErrNotFound  = errors.New("not in the directory")
	ErrTaken     = errors.New("the name is taken")              // a UPN, an application's URI, an appId's service principal
	ErrInvalid   = errors.New("not acceptable")                 // a value that an object cannot have
	ErrDuplicate = errors.New("issuer and subject are in use")  // of a federated credential on the same identity
	ErrPassword  = errors.New("user name or password is wrong") // which of them is not said
	ErrLocked    = errors.New("too many failed sign-ins")       // for a minute
	ErrDisabled  = errors.New("the account is disabled")
	ErrSecret    = errors.New("no such client secret")
	ErrExpired   = errors.New("the client secret has expired")
)

// The types of principals, as Azure names them.
const (
	TypeUser             = "User"
	TypeGroup            = "Group"
	TypeServicePrincipal = "ServicePrincipal"
)

// The types of service principals.
const (
	SPApplication     = "Application"
	SPManagedIdentity = "ManagedIdentity"
)

// Prefix is that of the directory's keys in the store.
const Prefix = "dir/"

// maxStale is how long lookups count as right without the database's word.
const maxStale = time.Second

// Directory is one tenant's. Its methods may be called at the same time.
type Directory struct {
	store  store.Store
	tenant string
	root   string // "dir/<tenant>/"
	mirror *store.Mirror[object]
	ix     *index
	pws    *passwords
}

// Open reads the directory of a tenant and follows its changes until Close.
func Open(ctx context.Context, st store.Store, tenantID string) (*Directory, error) {
	d := &Directory{
		store: st, tenant: tenantID, root: Prefix + strings.ToLower(tenantID) + "/",
		ix: newIndex(), pws: newPasswords(),
	}
	var err error
	if d.mirror, err = store.NewMirror(ctx, st, d.root, decode, maxStale); err != nil {
		return nil, fmt.Errorf("opening the directory: %w", err)
	}
	d.mirror.OnChange(func(c store.Change) {
		o, ok := d.mirror.Get(c.Doc.Key)
		d.ix.set(c.Doc.Key, o, ok)
	})
	d.mirror.Range(func(key string, o object) bool {
		d.ix.set(key, o, true)
		return true
	})
	return d, nil
}

// Close stops following changes.
func (d *Directory) Close() { d.mirror.Close() }

// Fresh is nil while the lookups are known to see every change older than a
// second; who must fail closed asks it first.
func (d *Directory) Fresh() error { return d.mirror.Fresh() }

// TenantID is the tenant's GUID.
func (d *Directory) TenantID() string { return d.tenant }

// Tenant is the organisation that the directory belongs to.
type Tenant struct {
	ID          string    `json:"id"`
	DisplayName string    `json:"displayName"`
	Domains     []string  `json:"domains"` // the first is the default
	Created     time.Time `json:"created"`
	Rev         int64     `json:"-"`
}

func (t *Tenant) place() (kind, oid string) { return "tenant", "self" }
func (t *Tenant) setRev(rev int64)          { t.Rev = rev }

// Tenant gives the tenant; ErrNotFound before SetTenant.
func (d *Directory) Tenant() (Tenant, error) {
	if t, ok := d.mirror.Get(d.root + "tenant/self"); ok {
		return *t.(*Tenant), nil
	}
	return Tenant{}, fmt.Errorf("tenant %s: %w", d.tenant, ErrNotFound)
}

// SetTenant writes the tenant's description.
func (d *Directory) SetTenant(ctx context.Context, t Tenant) error {
	old, err := d.Tenant()
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	t.ID, t.Created = d.tenant, old.Created
	if t.Created.IsZero() {
		t.Created = time.Now().UTC()
	}
	_, err = d.put(ctx, &t, old.Rev)
	return err
}

// Principal is whoever can hold a role.
type Principal struct {
	ObjectID    string
	Type        string // TypeUser, TypeGroup, TypeServicePrincipal
	AppID       string // of a service principal
	DisplayName string
	UPN         string // of a user
	ResourceID  string // ARM id of a managed identity
}

// Principal gives the principal with the object id; ErrNotFound if there is none.
func (d *Directory) Principal(oid string) (Principal, error) {
	oid = strings.ToLower(oid)
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if u := d.ix.users[oid]; u != nil {
		return Principal{ObjectID: u.ObjectID, Type: TypeUser, DisplayName: u.DisplayName, UPN: u.UPN}, nil
	}
	if s := d.ix.sps[oid]; s != nil {
		return Principal{ObjectID: s.ObjectID, Type: TypeServicePrincipal, AppID: s.AppID, DisplayName: s.DisplayName, ResourceID: s.ResourceID}, nil
	}
	if g := d.ix.groups[oid]; g != nil {
		return Principal{ObjectID: g.ObjectID, Type: TypeGroup, DisplayName: g.DisplayName}, nil
	}
	return Principal{}, fmt.Errorf("principal %s: %w", oid, ErrNotFound)
}

// Acting is Principals for whoever makes a request: nothing when the account
// is disabled, so that its tokens count for nothing at once.
func (d *Directory) Acting(oid string) []string {
	oid = strings.ToLower(oid)
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if u := d.ix.users[oid]; u != nil && !u.Disabled {
		return d.ix.transitive(oid)
	}
	if s := d.ix.sps[oid]; s != nil && !s.Disabled {
		return d.ix.transitive(oid)
	}
	if d.ix.groups[oid] != nil {
		return d.ix.transitive(oid)
	}
	return nil
}

// Accounts is whoever acts as oid: itself, if it is an account, or as a group
// every account in it, directly or through other groups. Disabled ones do not.
func (d *Directory) Accounts(oid string) []string {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	var out []string
	all := []string{strings.ToLower(oid)}
	seen := map[string]bool{all[0]: true}
	for i := 0; i < len(all); i++ {
		id := all[i]
		u, s, g := d.ix.users[id], d.ix.sps[id], d.ix.groups[id]
		if u != nil && !u.Disabled || s != nil && !s.Disabled {
			out = append(out, id)
		}
		if g == nil {
			continue
		}
		for _, m := range g.Members {
			if m = strings.ToLower(m); !seen[m] {
				seen[m] = true
				all = append(all, m)
			}
		}
	}
	return out
}

// Principals is oid and the object ids of all groups that it belongs to,
// directly or through other groups, in lower case. One that does not exist is
// in no group and holds no roles: nil.
func (d *Directory) Principals(oid string) []string {
	oid = strings.ToLower(oid)
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if d.ix.users[oid] == nil && d.ix.sps[oid] == nil && d.ix.groups[oid] == nil {
		return nil
	}
	return d.ix.transitive(oid)
}

func (d *Directory) key(kind, oid string) string {
	return d.root + kind + "/" + strings.ToLower(oid)
}

// put writes o; rev as in store.Put.
func (d *Directory) put(ctx context.Context, o object, rev int64) (int64, error) {
	kind, oid := o.place()
	return store.PutJSON(ctx, d.store, d.key(kind, oid), kind, rev, o)
}

func (d *Directory) remove(ctx context.Context, kind, oid string, rev int64) error {
	err := d.store.Delete(ctx, d.key(kind, oid), rev)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%s %s: %w", kind, oid, ErrNotFound)
	}
	return err
}

// claim is a reservation of a unique name for an object.
type claim struct {
	Kind   string `json:"kind"` // of the object
	Object string `json:"object"`
	Name   string `json:"name"`
}

func (c *claim) place() (kind, oid string) { return "unique", c.Name }
func (c *claim) setRev(int64)              {}

// reserve takes a unique name ("upn/…") for an object that is about to be
// written, so that two replicas cannot give it twice. A reservation whose
// object is gone, or no longer holds the name, is taken over.
func (d *Directory) reserve(ctx context.Context, name string, o object, holds func(object) bool) error {
	kind, oid := o.place()
	mine := claim{kind, strings.ToLower(oid), strings.ToLower(name)}
	old, rev, err := store.GetJSON[claim](ctx, d.store, d.key("unique", name))
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return err
	case old == mine:
		return nil
	default:
		doc, err := d.store.Get(ctx, d.key(old.Kind, old.Object))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil {
			other, err := decode(doc)
			if err != nil || holds(other) {
				return fmt.Errorf("%s: %w", name, ErrTaken)
			}
		}
	}
	_, err = d.put(ctx, &mine, rev)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%s: %w", name, ErrTaken)
	}
	return err
}

// release gives a name up. A failure only leaves a reservation that reserve
// will find stale.
func (d *Directory) release(ctx context.Context, name string) {
	_ = d.store.Delete(ctx, d.key("unique", name), 0)
}
