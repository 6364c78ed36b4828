package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Record is what is kept of a vault under its name.
type Record struct {
	Name       string            `json:"name"` // as first written
	ID         string            `json:"id"`   // of the resource
	UID        string            `json:"uid"`  // of this vault alone, for ever
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags,omitempty"`
	Properties Properties        `json:"properties"`
	Deleted    *Deleted          `json:"deleted,omitempty"`
	Purging    bool              `json:"purging,omitempty"` // the contents are being erased; the name is still blocked

	rev int64
}

// Deleted says since when a vault is deleted and when it goes for good.
type Deleted struct {
	At      time.Time `json:"at"`
	PurgeAt time.Time `json:"purgeAt"`
}

// SubscriptionID is the subscription of the vault.
func (r *Record) SubscriptionID() string { return rid.MustParse(r.ID).Subscription() }

const (
	recordKind    = "keyvault.name"
	deletedKind   = "keyvault.name.deleted"
	recordPrefix  = "keyvault-names/"
	writeAttempts = 20
)

// Registry reads and writes the records.
type Registry struct {
	Store store.Store

	mirror *store.Mirror[*Record] // nil: every read asks the store
}

// maxStale is how old the mirror may be before reads ask the store instead: a
// change made through another replica counts within this time.
const maxStale = time.Second

// OpenRegistry makes a Registry that keeps the records in memory, for the data
// plane, which asks for one with every request. Close ends it.
func OpenRegistry(ctx context.Context, s store.Store) (*Registry, error) {
	m, err := store.NewMirror(ctx, s, recordPrefix, decodeRecord, maxStale)
	if err != nil {
		return nil, fmt.Errorf("open vault names: %w", err)
	}
	return &Registry{Store: s, mirror: m}, nil
}

// Close ends the mirror of a Registry that OpenRegistry made; reads still work.
func (g *Registry) Close() { g.mirror.Close() }

// Get gives the record of a vault's name, nil where the name is free. The
// record is shared: it must not be changed.
func (g *Registry) Get(ctx context.Context, name string) (*Record, error) {
	if g.mirror != nil && g.mirror.Fresh() == nil {
		r, _ := g.mirror.Get(recordPrefix + lower(name))
		return r, nil
	}
	return g.fresh(ctx, name)
}

func decodeRecord(d store.Doc) (*Record, error) {
	r := &Record{rev: d.Rev}
	if err := json.Unmarshal(d.Value, r); err != nil {
		return nil, fmt.Errorf("decode vault name %q: %w", d.Key, err)
	}
	return r, nil
}

// fresh reads a record that may be changed.
func (g *Registry) fresh(ctx context.Context, name string) (*Record, error) {
	d, err := g.Store.Get(ctx, recordPrefix+lower(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read vault name: %w", err)
	}
	return decodeRecord(d)
}

func (g *Registry) save(ctx context.Context, r *Record) error {
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode vault name: %w", err)
	}
	kind := recordKind
	if r.Deleted != nil {
		kind = deletedKind
	}
	rev, err := g.Store.Put(ctx, store.Doc{Key: recordPrefix + lower(r.Name), Rev: r.rev, Kind: kind, Value: value})
	if err != nil {
		return fmt.Errorf("write vault name: %w", err)
	}
	r.rev = rev
	return nil
}

// change applies fn to the record of a name and saves it; fn sees nil where
// the name is free, and ends without a write by errUnchanged.
func (g *Registry) change(ctx context.Context, name string, fn func(*Record) error) error {
	for range writeAttempts {
		r, err := g.fresh(ctx, name)
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			if errors.Is(err, errUnchanged) {
				return nil
			}
			return err
		}
		if err := g.save(ctx, r); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return apierr.New(apierr.Conflict, "Conflict", "The vault '%s' is changed by too many requests at once. Try again.", name)
}

func taken(name string) error {
	return apierr.New(apierr.Conflict, "VaultAlreadyExists",
		"The vault name '%s' is already in use. Vault names are globaly unique so it is possible that the name is already taken. If you are sure that the vault name was not taken then it is possible that a vault with the same name was recently deleted but not purged after being placed in a recoverable state. If the vault is in a recoverable state then the vault will need to be purged before reusing the name. For more information on soft delete and purging a vault follow this link https://go.microsoft.com/fwlink/?linkid=2147740.", name)
}

func inDeletedState() error {
	return apierr.New(apierr.Conflict, "ConflictError",
		"A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.")
}

// nameFree refuses a new vault whose name another one has.
func (p *provider) nameFree(ctx context.Context, next *arm.Resource[Properties]) error {
	r, err := p.names.fresh(ctx, next.ID.Name())
	if err != nil {
		return err
	}
	return p.free(ctx, r, next)
}

// free reports by a refusal why next may not have the record's name. It erases
// a record that nobody can ask for any more.
func (p *provider) free(ctx context.Context, r *Record, next *arm.Resource[Properties]) error {
	switch {
	case r == nil || r.heldBy(next):
		return nil
	case r.Deleted != nil && (r.Purging || !p.Now().Before(r.Deleted.PurgeAt)):
		return p.erase(ctx, r)
	case r.Deleted != nil:
		return inDeletedState()
	}
	// A creation that died may have left a record without a resource.
	_, err := (arm.Resources{Store: p.Store}).Get(ctx, rid.MustParse(r.ID))
	if errors.Is(err, store.ErrNotFound) {
		return p.erase(ctx, r)
	}
	if err != nil {
		return err
	}
	return taken(next.ID.Name())
}

// heldBy reports whether the name is next's already: it is the same resource,
// or next recovers the deleted vault, whose uid complete has put into Private.
func (r *Record) heldBy(next *arm.Resource[Properties]) bool {
	if r.Deleted != nil {
		return !r.Purging && next.Private[recoverKey] == r.UID
	}
	return rid.MustParse(r.ID).Equal(next.ID)
}

// recoverKey marks a resource whose creation recovers the vault with the uid.
const recoverKey = "recover"

// claim makes the record of next or brings it up to date. A deleted vault that
// is recovered keeps its uid, and so its contents.
func (p *provider) claim(ctx context.Context, next *arm.Resource[Properties]) (*Record, error) {
	for range writeAttempts {
		r, err := p.names.fresh(ctx, next.ID.Name())
		if err != nil {
			return nil, err
		}
		if r == nil {
			r = &Record{Name: next.ID.Name(), UID: uuid.NewString()}
		} else if !r.heldBy(next) {
			if err := p.free(ctx, r, next); err != nil && !errors.Is(err, store.ErrConflict) {
				return nil, err
			}
			continue
		}
		r.ID, r.Location, r.Tags, r.Properties, r.Deleted = next.ID.String(), next.Location, next.Tags, next.Properties, nil
		if err := p.names.save(ctx, r); err == nil {
			return r, nil
		} else if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
	}
	return nil, taken(next.ID.Name())
}

// erase destroys the contents of a vault and frees its name.
func (p *provider) erase(ctx context.Context, r *Record) error {
	if !r.Purging {
		r.Purging = true
		if r.Deleted == nil {
			r.Deleted = &Deleted{At: p.Now().UTC(), PurgeAt: p.Now().UTC()}
		}
		if err := p.names.save(ctx, r); err != nil {
			return err
		}
	}
	if err := p.Destroy(ctx, r.UID); err != nil {
		return err
	}
	err := p.Store.Delete(ctx, recordPrefix+lower(r.Name), r.rev)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("free vault name: %w", err)
	}
	return nil
}

// Sweep erases the deleted vaults whose retention has ended, and what an
// interrupted purge left. c is as for New.
func Sweep(ctx context.Context, c Config) error {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &provider{Config: c, names: &Registry{Store: c.Store}}
	return store.All(ctx, c.Store, store.Query{Prefix: recordPrefix, Kind: deletedKind}, func(d store.Doc) error {
		r, err := decodeRecord(d)
		if err != nil {
			return err
		}
		if !r.Purging && c.Now().Before(r.Deleted.PurgeAt) {
			return nil
		}
		if err := p.erase(ctx, r); !errors.Is(err, store.ErrConflict) {
			return err
		}
		return nil // recovered or erased by another meanwhile
	})
}

// deletedIn lists the deleted vaults of a subscription.
func (p *provider) deletedIn(ctx context.Context, subscription string) ([]*Record, error) {
	var out []*Record
	q := store.Query{Prefix: recordPrefix, Kind: deletedKind}
	err := store.All(ctx, p.Store, q, func(d store.Doc) error {
		r, err := decodeRecord(d)
		if err != nil {
			return err
		}
		if !r.Purging && p.Now().Before(r.Deleted.PurgeAt) && strings.EqualFold(r.SubscriptionID(), subscription) {
			out = append(out, r)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b *Record) int { return strings.Compare(lower(a.Name), lower(b.Name)) })
	return out, err
}
