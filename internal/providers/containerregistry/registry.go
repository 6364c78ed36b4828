package containerregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Record is what is kept of a registry under its name.
type Record struct {
	ID         string     `json:"id"`  // of the resource
	UID        string     `json:"uid"` // of this registry alone, for ever
	Location   string     `json:"location"`
	Properties Properties `json:"properties"`
	Secrets    []byte     `json:"secrets"` // sealed

	rev    int64
	opened atomic.Pointer[secrets]
}

const (
	recordKind    = "registry.record"
	deadKind      = "registry.deleted"
	recordPrefix  = "registry/names/"
	deadPrefix    = "registry/deleted/"
	writeAttempts = 20

	// maxStale is how old the mirror may be before reads ask the store instead:
	// a change made through another replica counts within this time.
	maxStale = time.Second
)

func recordKey(name string) string { return recordPrefix + strings.ToLower(name) }
func deadKey(uid string) string    { return deadPrefix + uid }
func (r *Record) id() rid.ID       { return rid.MustParse(r.ID) }
func conflict(err error) bool      { return errors.Is(err, store.ErrConflict) }
func gone(err error) bool          { return errors.Is(err, store.ErrNotFound) || conflict(err) }

func decodeRecord(d store.Doc) (*Record, error) {
	r := &Record{rev: d.Rev}
	if err := json.Unmarshal(d.Value, r); err != nil {
		return nil, fmt.Errorf("decode registry %q: %w", d.Key, err)
	}
	if _, err := rid.Parse(r.ID); err != nil {
		return nil, fmt.Errorf("decode registry %q: %w", d.Key, err)
	}
	return r, nil
}

// Registry is one that answers.
type Registry struct {
	ID        rid.ID
	UID       string // of this registry alone, for ever
	Name      string // in lower case
	Location  string
	Admin     bool // its administrator may sign in
	ARMTokens bool // tokens for management are taken
	Network   gate.Network

	secrets *secrets
}

// Registries reads and writes the records, and finds registries for the data
// plane.
type Registries struct {
	Store  store.Store
	Sealer Sealer

	mirror *store.Mirror[*Record] // nil: every read asks the store
}

// Open makes Registries that keep everything in memory, for the data plane,
// which asks with every request. Close ends them.
func Open(ctx context.Context, s store.Store, sealer Sealer) (*Registries, error) {
	r := &Registries{Store: s, Sealer: sealer}
	var err error
	if r.mirror, err = store.NewMirror(ctx, s, recordPrefix, decodeRecord, maxStale); err != nil {
		return nil, fmt.Errorf("open registries: %w", err)
	}
	return r, nil
}

// Close ends the mirror of Registries that Open made; reads still work.
func (rs *Registries) Close() { rs.mirror.Close() }

// ByName finds a registry, without case. Where there is none the error is a NotFound.
func (rs *Registries) ByName(ctx context.Context, name string) (*Registry, error) {
	var r *Record
	var err error
	if rs.mirror != nil && rs.mirror.Fresh() == nil {
		r, _ = rs.mirror.Get(recordKey(name))
	} else if r, err = rs.fresh(ctx, name); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, apierr.New(apierr.NotFound, "NAME_UNKNOWN", "There is no registry '%s'.", name)
	}
	s, err := rs.open(ctx, r)
	if err != nil {
		return nil, err
	}
	n := &r.Properties
	return &Registry{
		ID: r.id(), UID: r.UID, Name: strings.ToLower(r.id().Name()), Location: r.Location, Admin: n.Admin != nil && *n.Admin,
		ARMTokens: !strings.EqualFold(n.Policies.ARMTokens.Status, "disabled"), Network: n.acls().Network(n.PublicAccess), secrets: s,
	}, nil
}

// UIDs are those of all registries.
func (rs *Registries) UIDs(ctx context.Context) ([]string, error) {
	var list []string
	err := store.All(ctx, rs.Store, store.Query{Prefix: recordPrefix}, func(d store.Doc) error {
		r, err := decodeRecord(d)
		if err == nil {
			list = append(list, r.UID)
		}
		return err
	})
	return list, err
}

// fresh reads a record that may be changed; nil where there is none.
func (rs *Registries) fresh(ctx context.Context, name string) (*Record, error) {
	d, err := rs.Store.Get(ctx, recordKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read registry: %w", err)
	}
	return decodeRecord(d)
}

func (rs *Registries) save(ctx context.Context, r *Record) error {
	rev, err := store.PutJSON(ctx, rs.Store, recordKey(r.id().Name()), recordKind, r.rev, r)
	if err != nil {
		return fmt.Errorf("write registry: %w", err)
	}
	r.rev = rev
	return nil
}

func busy(id rid.ID) error {
	return apierr.New(apierr.Conflict, "RequestConflict", "Another operation is being performed on the resource '%s'. Please wait for the other operation complete, then retry the request.", id)
}

// owner gives the record of a name where its registry is there; a record of
// one that is not was left by a creation that died.
func (p *provider) owner(ctx context.Context, name string) (r *Record, alive bool, err error) {
	if r, err = p.registries.fresh(ctx, name); err != nil || r == nil {
		return nil, false, err
	}
	_, err = arm.Resources{Store: p.Store}.Get(ctx, r.id())
	if errors.Is(err, store.ErrNotFound) {
		return r, false, nil
	}
	return r, err == nil, err
}

func taken(server string) error {
	return apierr.New(apierr.Conflict, "AlreadyInUse", "The registry DNS name %s is already in use. You can check if the name is already claimed using following API: https://docs.microsoft.com/en-us/rest/api/containerregistry/registries/checknameavailability", server)
}

// free refuses a name that another registry has.
func (p *provider) free(ctx context.Context, id rid.ID) error {
	r, alive, err := p.owner(ctx, id.Name())
	if err != nil || r == nil || !alive || r.id().Equal(id) {
		return err
	}
	return taken(p.Server(strings.ToLower(id.Name())))
}

// claim makes the record of next or brings it up to date.
func (p *provider) claim(ctx context.Context, next *arm.Resource[Properties]) error {
	for range writeAttempts {
		r, alive, err := p.owner(ctx, next.ID.Name())
		switch {
		case err != nil:
			return err
		case r != nil && alive && !r.id().Equal(next.ID):
			return taken(p.Server(strings.ToLower(next.ID.Name())))
		case r == nil || r.UID != next.Private[uidKey]:
			made := &Record{UID: next.Private[uidKey]}
			if r != nil {
				made.rev = r.rev
			}
			s, err := newSecrets()
			if err != nil {
				return err
			}
			if err := p.registries.seal(ctx, made, s); err != nil {
				return err
			}
			r = made
		}
		r.ID, r.Location, r.Properties = next.ID.String(), next.Location, next.Properties
		if err := p.registries.save(ctx, r); !conflict(err) {
			return err
		}
	}
	return busy(next.ID)
}
