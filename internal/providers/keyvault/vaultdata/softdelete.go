package vaultdata

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
)

const secondsPerDay = 24 * 60 * 60

// remove soft-deletes an object.
func (c *collection[B, X]) remove(ctx context.Context, v *Vault, name string) (*head[B, X], error) {
	return c.change(ctx, v, name, func(h *head[B, X]) error {
		at := c.now().Unix()
		h.Deleted = &deletion{At: at, PurgeAt: at + int64(v.RetentionDays)*secondsPerDay}
		return nil
	})
}

// deleted gives the head of a soft-deleted object.
func (c *collection[B, X]) deleted(ctx context.Context, v *Vault, name string) (*head[B, X], error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	h, err := c.load(ctx, v, name)
	if err != nil {
		return nil, err
	}
	if h == nil || h.Deleted == nil || h.Purging {
		return nil, c.kind.deletedNotFound(name)
	}
	return h, nil
}

// recover brings a soft-deleted object back.
func (c *collection[B, X]) recover(ctx context.Context, v *Vault, name string) (*head[B, X], error) {
	var out *head[B, X]
	err := retry(ctx, func() error {
		h, err := c.deleted(ctx, v, name)
		if err != nil {
			return err
		}
		h.Deleted, out = nil, h
		return c.save(ctx, v, h)
	})
	return out, err
}

// purge erases a soft-deleted object for good.
func (c *collection[B, X]) purge(ctx context.Context, v *Vault, name string) error {
	return retry(ctx, func() error {
		h, err := c.deleted(ctx, v, name)
		if err != nil {
			return err
		}
		if v.PurgeProtection {
			return apierr.New(apierr.Forbidden, "Forbidden", "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.").
				WithInner("OperationNotAllowed")
		}
		return c.erase(ctx, v, h)
	})
}

// erase marks the head as gone, deletes its versions and then the head, so
// that a purge that was interrupted is finished by whoever meets the mark. Only
// erasers touch a marked head, so one that has changed was erased by another.
func (c *collection[B, X]) erase(ctx context.Context, v *Vault, h *head[B, X]) error {
	if !h.Purging {
		h.Purging, h.Held = true, 0
		if err := c.save(ctx, v, h); err != nil {
			return err
		}
	}
	if err := destroy(ctx, c.docs, c.versionPrefix(v, h.Name)); err != nil {
		return err
	}
	err := c.docs.Delete(ctx, c.headKey(v, h.Name), h.rev)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("purge %s: %w", c.kind.word, err)
	}
	return nil
}

// Sweep erases the deleted objects of all vaults whose retention has ended, and
// what an interrupted purge left. Objects are erased without it, too, when they
// are next asked for.
func (o *Objects) Sweep(ctx context.Context) error {
	if err := o.secrets.sweep(ctx); err != nil {
		return err
	}
	if err := o.keys.sweep(ctx); err != nil {
		return err
	}
	return o.certs.sweep(ctx)
}

func (c *collection[B, X]) sweep(ctx context.Context) error {
	q := store.Query{Prefix: allVaults, Kind: "keyvault." + c.kind.word + ".deleted"}
	return store.All(ctx, c.docs, q, func(d store.Doc) error {
		h, err := c.decode(d)
		if err != nil {
			return err
		}
		if !c.gone(h) {
			return nil
		}
		uid, _, _ := strings.Cut(strings.TrimPrefix(d.Key, q.Prefix), "/")
		if err := c.erase(ctx, &Vault{UID: uid}, h); !errors.Is(err, store.ErrConflict) {
			return err
		}
		return nil // changed by another meanwhile
	})
}

// destroy deletes every document under prefix, each at the revision seen.
func destroy(ctx context.Context, docs store.Store, prefix string) error {
	for {
		found, err := docs.List(ctx, store.Query{Prefix: prefix, Limit: 200})
		if err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if len(found) == 0 {
			return nil
		}
		for _, d := range found {
			err := docs.Delete(ctx, d.Key, d.Rev)
			if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("delete %s: %w", d.Key, err)
			}
		}
	}
}

// deletion is the wire form of h's deletion.
func (h *head[B, X]) deletion(v *Vault, k kind) *Deletion {
	if h.Deleted == nil {
		return nil
	}
	return &Deletion{
		RecoveryID:         v.URI + "/deleted" + k.plural + "/" + h.Name,
		DeletedDate:        h.Deleted.At,
		ScheduledPurgeDate: h.Deleted.PurgeAt,
	}
}
