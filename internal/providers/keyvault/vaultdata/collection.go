package vaultdata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
)

// A collection keeps objects of one kind: a head document for each name, which
// holds the current version in full, and one document for each older version.
// A read of the current version is therefore one Get.
//
// Writing a new version first archives the current one and then swaps the
// head. An archived copy remembers the revision of the head that it was taken
// from, and a copy from an older head never replaces a younger one, so writers
// that race lose neither a version nor an update of its attributes. A crash
// between the two steps leaves a copy of the current version, which lists
// leave out because the head has the same version.
type collection[B, X any] struct {
	docs   store.Store
	now    func() time.Time
	kind   kind
	sealed func(*B) []*[]byte // the values of a body that are sealed, nil ones included
	strip  func(*X)           // takes out what a backup does not carry; may be nil
}

// version is one version of an object.
type version[B any] struct {
	Version string            `json:"version"`
	Prev    string            `json:"prev,omitempty"` // the version before
	Attrs   attrs             `json:"attrs"`
	Tags    map[string]string `json:"tags,omitzero"`
	Body    B                 `json:"body"`
}

// head is the document of a name.
type head[B, X any] struct {
	Name    string      `json:"name"` // as first written
	Current *version[B] `json:"current,omitempty"`
	Deleted *deletion   `json:"deleted,omitempty"`
	Purging bool        `json:"purging,omitempty"` // gone for callers; the versions are to be erased
	Held    int64       `json:"held,omitempty"`    // Unix seconds until which a restore still writes the versions
	Extra   X           `json:"extra,omitzero"`

	rev int64
}

type deletion struct {
	At      int64 `json:"at"`      // Unix seconds
	PurgeAt int64 `json:"purgeAt"` // Unix seconds
}

// archived is the document of an older version.
type archived[B any] struct {
	From int64 `json:"from"` // revision of the head that it was copied from
	version[B]
}

// attempts bounds how often a write is tried again after another writer won.
const attempts = 64

func (c *collection[B, X]) headKey(v *Vault, name string) string {
	return v.base() + c.kind.word + "/" + lower(name)
}

func (c *collection[B, X]) versionPrefix(v *Vault, name string) string {
	return v.base() + c.kind.word + ".version/" + lower(name) + "/"
}

func (c *collection[B, X]) docKind(h *head[B, X]) string {
	if h.Deleted != nil || h.Purging {
		return "keyvault." + c.kind.word + ".deleted"
	}
	return "keyvault." + c.kind.word
}

func (c *collection[B, X]) decode(d store.Doc) (*head[B, X], error) {
	h := &head[B, X]{rev: d.Rev}
	if err := json.Unmarshal(d.Value, h); err != nil {
		return nil, fmt.Errorf("decode %s %q: %w", c.kind.word, d.Key, err)
	}
	return h, nil
}

// load gives the head in whatever state it is, nil when the name is free. A
// purge that is due or was interrupted is finished first; a head with Purging
// set is one that a restore is still filling.
func (c *collection[B, X]) load(ctx context.Context, v *Vault, name string) (*head[B, X], error) {
	var out *head[B, X]
	err := retry(ctx, func() error {
		out = nil
		d, err := c.docs.Get(ctx, c.headKey(v, name))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", c.kind.word, err)
		}
		h, err := c.decode(d)
		if err != nil {
			return err
		}
		if c.gone(h) {
			return c.erase(ctx, v, h)
		}
		out = h
		return nil
	})
	return out, err
}

// gone reports whether h is only waiting to be erased.
func (c *collection[B, X]) gone(h *head[B, X]) bool {
	now := c.now().Unix()
	return h.Purging && h.Held <= now || h.Deleted != nil && h.Deleted.PurgeAt <= now
}

// live gives the head of an object that is not deleted.
func (c *collection[B, X]) live(ctx context.Context, v *Vault, name string) (*head[B, X], error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	h, err := c.load(ctx, v, name)
	if err != nil {
		return nil, err
	}
	if h == nil || h.Deleted != nil || h.Purging {
		return nil, c.kind.notFound(name)
	}
	return h, nil
}

// save writes h if it is still at the revision it was read at.
func (c *collection[B, X]) save(ctx context.Context, v *Vault, h *head[B, X]) error {
	value, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode %s: %w", c.kind.word, err)
	}
	rev, err := c.docs.Put(ctx, store.Doc{Key: c.headKey(v, h.Name), Rev: h.rev, Kind: c.docKind(h), Value: value})
	if err != nil {
		return fmt.Errorf("write %s: %w", c.kind.word, err)
	}
	h.rev = rev
	return nil
}

// retry runs fn until it does not meet a conflict of revisions, after a short
// wait of chance, or the same writer could lose again and again.
func retry(ctx context.Context, fn func() error) error {
	for n := range attempts {
		err := fn()
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(n+1) * time.Millisecond)):
		}
	}
	return apierr.New(apierr.Conflict, "Conflict", "Too many writers change this object at once. Try again.")
}

// change applies fn to the head of a live object and saves it.
func (c *collection[B, X]) change(ctx context.Context, v *Vault, name string, fn func(*head[B, X]) error) (*head[B, X], error) {
	var out *head[B, X]
	err := retry(ctx, func() error {
		h, err := c.live(ctx, v, name)
		if err != nil {
			return err
		}
		if err := fn(h); err != nil {
			return err
		}
		out = h
		return c.save(ctx, v, h)
	})
	return out, err
}

// edit applies fn to the head of a name and saves it; the head is new where the
// name is free.
func (c *collection[B, X]) edit(ctx context.Context, v *Vault, name string, fn func(*head[B, X]) error) (*head[B, X], error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var out *head[B, X]
	err := retry(ctx, func() error {
		h, err := c.load(ctx, v, name)
		switch {
		case err != nil:
			return err
		case h == nil:
			h = &head[B, X]{Name: name}
		case h.Purging:
			return c.kind.restoring(name)
		case h.Deleted != nil:
			return c.kind.isDeleted(name)
		}
		if err := fn(h); err != nil {
			return err
		}
		out = h
		return c.save(ctx, v, h)
	})
	return out, err
}

// add makes ver the current version of the name, which it creates where it is
// free. prepare may refuse, or change head and version, once the head is known.
func (c *collection[B, X]) add(ctx context.Context, v *Vault, name string, ver *version[B], prepare func(*head[B, X]) error) (*head[B, X], error) {
	return c.edit(ctx, v, name, func(h *head[B, X]) error {
		if prepare != nil {
			if err := prepare(h); err != nil {
				return err
			}
		}
		if h.Current != nil {
			if err := c.archive(ctx, v, h); err != nil {
				return err
			}
			ver.Prev = h.Current.Version
		}
		h.Current = ver
		return nil
	})
}

// archive copies the head's current version to a document of its own.
func (c *collection[B, X]) archive(ctx context.Context, v *Vault, h *head[B, X]) error {
	key := c.versionPrefix(v, h.Name) + h.Current.Version
	doc := store.Doc{Key: key, Kind: "keyvault." + c.kind.word + ".version"}
	old, err := c.docs.Get(ctx, key)
	switch {
	case err == nil:
		var a archived[B]
		if err := json.Unmarshal(old.Value, &a); err != nil {
			return fmt.Errorf("decode version: %w", err)
		}
		if a.From >= h.rev {
			return nil
		}
		doc.Rev = old.Rev
	case !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("read version: %w", err)
	}
	if doc.Value, err = json.Marshal(archived[B]{From: h.rev, version: *h.Current}); err != nil {
		return fmt.Errorf("encode version: %w", err)
	}
	if _, err := c.docs.Put(ctx, doc); err != nil {
		return fmt.Errorf("write version: %w", err)
	}
	return nil
}

// version gives one version, or the current one for "".
func (c *collection[B, X]) version(ctx context.Context, v *Vault, name, ver string) (*head[B, X], *version[B], error) {
	if ver != "" {
		if err := checkVersion(ver); err != nil {
			return nil, nil, err
		}
	}
	h, err := c.live(ctx, v, name)
	if err != nil {
		return nil, nil, err
	}
	got, _, err := c.pick(ctx, v, h, ver)
	return h, got, err
}

// pick finds a version of h. The revision is that of the version's own
// document, 0 when the version is the head's current one.
func (c *collection[B, X]) pick(ctx context.Context, v *Vault, h *head[B, X], ver string) (*version[B], int64, error) {
	if ver == "" || h.Current != nil && lower(ver) == h.Current.Version {
		if h.Current == nil {
			return nil, 0, c.kind.notFound(h.Name)
		}
		return h.Current, 0, nil
	}
	d, err := c.docs.Get(ctx, c.versionPrefix(v, h.Name)+lower(ver))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, c.kind.notFound(h.Name + "/" + ver)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read version: %w", err)
	}
	var a archived[B]
	if err := json.Unmarshal(d.Value, &a); err != nil {
		return nil, 0, fmt.Errorf("decode version: %w", err)
	}
	return &a.version, d.Rev, nil
}

// update applies fn to one version, "" being the current one, and saves it.
func (c *collection[B, X]) update(ctx context.Context, v *Vault, name, ver string, fn func(*head[B, X], *version[B]) error) (*head[B, X], *version[B], error) {
	if ver != "" {
		if err := checkVersion(ver); err != nil {
			return nil, nil, err
		}
	}
	var out *version[B]
	var of *head[B, X]
	err := retry(ctx, func() error {
		h, err := c.live(ctx, v, name)
		if err != nil {
			return err
		}
		got, rev, err := c.pick(ctx, v, h, ver)
		if err != nil {
			return err
		}
		if err := fn(h, got); err != nil {
			return err
		}
		of, out = h, got
		if rev == 0 {
			return c.save(ctx, v, h)
		}
		return c.saveArchived(ctx, v, h, got, rev)
	})
	return of, out, err
}

func (c *collection[B, X]) saveArchived(ctx context.Context, v *Vault, h *head[B, X], ver *version[B], rev int64) error {
	value, err := json.Marshal(archived[B]{From: h.rev, version: *ver})
	if err != nil {
		return fmt.Errorf("encode version: %w", err)
	}
	key := c.versionPrefix(v, h.Name) + ver.Version
	_, err = c.docs.Put(ctx, store.Doc{Key: key, Rev: rev, Kind: "keyvault." + c.kind.word + ".version", Value: value})
	if err != nil {
		return fmt.Errorf("write version: %w", err)
	}
	return nil
}
