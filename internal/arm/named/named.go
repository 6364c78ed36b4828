// Package named keeps the records of resources whose names are unique in the
// cloud: beside a resource, a document under its name, with what a data plane
// has to know of it and with its secrets, sealed.
package named

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// UIDKey is where a resource has its uid, in Private.
const UIDKey = "uid"

const (
	writeAttempts = 20

	// maxStale is how old the mirror may be before reads ask the store instead:
	// a change made through another replica counts within this time.
	maxStale = time.Second
)

// Record is what is kept of a resource with properties P and secrets S.
type Record[P, S any] struct {
	ID         string `json:"id"`  // of the resource
	UID        string `json:"uid"` // of this resource alone, for ever
	Location   string `json:"location"`
	SKU        string `json:"sku,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Properties P      `json:"properties"`
	Secrets    []byte `json:"secrets"` // sealed

	rev    int64
	opened atomic.Pointer[S]
}

// RID is the resource's id.
func (r *Record[P, S]) RID() rid.ID { return rid.MustParse(r.ID) }

// Sealer seals secrets; *seal.Keyring is one.
type Sealer interface {
	Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, scope string, ciphertext, aad []byte) ([]byte, error)
	Destroy(ctx context.Context, scope string) error
}

// Records are those of one type of resources.
type Records[P, S any] struct {
	Store  store.Store
	Sealer Sealer

	What  string // a resource, in errors: "storage account"
	Space string // what keys begin with, and the scopes of secrets: "storage"
	Kind  string // of the documents

	New   func() (*S, error)      // makes the secrets of a new resource
	Busy  func(id rid.ID) error   // the refusal while others make or change the resource
	Taken func(name string) error // the refusal of a name that another resource has

	mirror *store.Mirror[*Record[P, S]] // nil: every read asks the store
}

func (n *Records[P, S]) prefix() string          { return n.Space + "/names/" }
func (n *Records[P, S]) key(name string) string  { return n.prefix() + strings.ToLower(name) }
func (n *Records[P, S]) scope(uid string) string { return n.Space + "/" + uid }
func aad() []byte                                { return []byte("secrets") }

func (n *Records[P, S]) decode(d store.Doc) (*Record[P, S], error) {
	r := &Record[P, S]{rev: d.Rev}
	err := json.Unmarshal(d.Value, r)
	if err == nil {
		_, err = rid.Parse(r.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s %q: %w", n.What, d.Key, err)
	}
	return r, nil
}

// Follow keeps all records in memory from now on, for a data plane, which asks
// with every request. Close ends it; reads still work.
func (n *Records[P, S]) Follow(ctx context.Context) (err error) {
	n.mirror, err = store.NewMirror(ctx, n.Store, n.prefix(), n.decode, maxStale)
	return err
}

// Close ends what Follow began.
func (n *Records[P, S]) Close() { n.mirror.Close() }

// Get gives the record of a name, without case; nil where there is none. It is
// shared and must not be changed.
func (n *Records[P, S]) Get(ctx context.Context, name string) (*Record[P, S], error) {
	if n.mirror != nil && n.mirror.Fresh() == nil {
		r, _ := n.mirror.Get(n.key(name))
		return r, nil
	}
	return n.fresh(ctx, name)
}

// Of gives the record of a resource out of the store; nil while there is none
// and where the name is another's.
func (n *Records[P, S]) Of(ctx context.Context, id rid.ID) (*Record[P, S], error) {
	r, err := n.fresh(ctx, id.Name())
	if err != nil || r == nil || !r.RID().Equal(id) {
		return nil, err
	}
	return r, nil
}

// fresh reads a record that may be changed; nil where there is none.
func (n *Records[P, S]) fresh(ctx context.Context, name string) (*Record[P, S], error) {
	d, err := n.Store.Get(ctx, n.key(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", n.What, err)
	}
	return n.decode(d)
}

func (n *Records[P, S]) save(ctx context.Context, r *Record[P, S]) (err error) {
	if r.rev, err = store.PutJSON(ctx, n.Store, n.key(r.RID().Name()), n.Kind, r.rev, r); err != nil {
		return fmt.Errorf("write %s: %w", n.What, err)
	}
	return nil
}

// UIDs are those of all resources.
func (n *Records[P, S]) UIDs(ctx context.Context) ([]string, error) {
	var list []string
	err := store.All(ctx, n.Store, store.Query{Prefix: n.prefix()}, func(d store.Doc) error {
		r, err := n.decode(d)
		if err == nil {
			list = append(list, r.UID)
		}
		return err
	})
	return list, err
}

// owner gives the record of a name; alive says that its resource is there. That
// of one that is not was left by a creation that died.
func (n *Records[P, S]) owner(ctx context.Context, name string) (r *Record[P, S], alive bool, err error) {
	if r, err = n.fresh(ctx, name); err != nil || r == nil {
		return nil, false, err
	}
	_, err = arm.Resources{Store: n.Store}.Get(ctx, r.RID())
	if errors.Is(err, store.ErrNotFound) {
		return r, false, nil
	}
	return r, err == nil, err
}

// InUse reports whether a resource has the name.
func (n *Records[P, S]) InUse(ctx context.Context, name string) (bool, error) {
	_, alive, err := n.owner(ctx, name)
	return alive, err
}

// Free refuses a name that another resource has, as Taken does.
func (n *Records[P, S]) Free(ctx context.Context, id rid.ID) error {
	r, alive, err := n.owner(ctx, id.Name())
	if err != nil || !alive || r.RID().Equal(id) {
		return err
	}
	return n.Taken(id.Name())
}

// Claim takes the name for next: it makes the record, or brings it up to date,
// with a sku and a kind where data planes ask for them. A resource that was made
// anew gets secrets of its own. The errors are Taken's and Busy's.
func (n *Records[P, S]) Claim(ctx context.Context, next *arm.Resource[P], sku, kind string) error {
	for range writeAttempts {
		r, alive, err := n.owner(ctx, next.ID.Name())
		switch {
		case err != nil:
			return err
		case alive && !r.RID().Equal(next.ID):
			return n.Taken(next.ID.Name())
		case r == nil || r.UID != next.Private[UIDKey]:
			made := &Record[P, S]{UID: next.Private[UIDKey]}
			if r != nil {
				made.rev = r.rev
			}
			s, err := n.New()
			if err != nil {
				return err
			}
			if err := n.seal(ctx, made, s); err != nil {
				return err
			}
			r = made
		}
		r.ID, r.Location, r.SKU, r.Kind, r.Properties = next.ID.String(), next.Location, sku, kind, next.Properties
		if err := n.save(ctx, r); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return n.Busy(next.ID)
}

// Remove frees the name of a resource and gives the uid, "" where there was no
// record. mark gets the uid before, to note what has to be erased still.
func (n *Records[P, S]) Remove(ctx context.Context, id rid.ID, mark func(uid string) error) (uid string, err error) {
	r, err := n.Of(ctx, id)
	if err != nil || r == nil {
		return "", err
	}
	if err := mark(r.UID); err != nil {
		return "", err
	}
	err = n.Store.Delete(ctx, n.key(id.Name()), r.rev)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return "", fmt.Errorf("remove %s: %w", n.What, err)
	}
	return r.UID, nil
}

// Destroy makes that the secrets of the resource with the uid open no more.
func (n *Records[P, S]) Destroy(ctx context.Context, uid string) error {
	return n.Sealer.Destroy(ctx, n.scope(uid))
}

func (n *Records[P, S]) seal(ctx context.Context, r *Record[P, S], s *S) error {
	plain, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the secrets of a %s: %w", n.What, err)
	}
	if r.Secrets, err = n.Sealer.Seal(ctx, n.scope(r.UID), plain, aad()); err != nil {
		return fmt.Errorf("seal the secrets of a %s: %w", n.What, err)
	}
	return nil
}

// Open gives the secrets of r, worked out once for each record. They are shared
// and must not be changed.
func (n *Records[P, S]) Open(ctx context.Context, r *Record[P, S]) (*S, error) {
	if s := r.opened.Load(); s != nil {
		return s, nil
	}
	plain, err := n.Sealer.Open(ctx, n.scope(r.UID), r.Secrets, aad())
	if err != nil {
		return nil, fmt.Errorf("open the secrets of a %s: %w", n.What, err)
	}
	s := new(S)
	if err := json.Unmarshal(plain, s); err != nil {
		return nil, fmt.Errorf("decode the secrets of a %s: %w", n.What, err)
	}
	r.opened.Store(s)
	return s, nil
}

// Secrets are those of a resource, out of the store; the error is Busy's while
// it has no record.
func (n *Records[P, S]) Secrets(ctx context.Context, id rid.ID) (*Record[P, S], *S, error) {
	r, err := n.Of(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if r == nil {
		return nil, nil, n.Busy(id) // it is being made
	}
	s, err := n.Open(ctx, r)
	return r, s, err
}

// Change writes what change makes of the secrets of a resource. It gets a copy,
// a shallow one, and again after another's write.
func (n *Records[P, S]) Change(ctx context.Context, id rid.ID, change func(*S)) (*S, error) {
	for range writeAttempts {
		r, old, err := n.Secrets(ctx, id)
		if err != nil {
			return nil, err
		}
		s := *old
		change(&s)
		if err := n.seal(ctx, r, &s); err != nil {
			return nil, err
		}
		if err := n.save(ctx, r); !errors.Is(err, store.ErrConflict) {
			return &s, err
		}
	}
	return nil, n.Busy(id)
}
