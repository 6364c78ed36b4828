package vaultdata

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
)

// Limits of backups. Azure, too, backs up at most 500 versions.
const (
	maxBackupVersions = 500
	maxBackupBytes    = 64 << 20 // of the contents before compression
	restoreHold       = 2 * time.Minute
)

// backup is what a backup holds, with every value in the clear: it exists only
// sealed and in memory. The last version is the current one.
type backup[B, X any] struct {
	Name     string       `json:"name"`
	Versions []version[B] `json:"versions"`
	Extra    X            `json:"extra,omitzero"`
}

// backupAAD binds a backup to tenant, subscription and kind: it opens nowhere else.
func backupAAD(v *Vault, k kind) []byte {
	return []byte("backup 1\x00" + k.word + "\x00" + lower(v.TenantID) + "\x00" + lower(v.SubscriptionID))
}

// backup seals all versions of a live object into one blob.
func (c *collection[B, X]) backup(ctx context.Context, o *Objects, v *Vault, name string) ([]byte, error) {
	h, err := c.live(ctx, v, name)
	if err != nil {
		return nil, err
	}
	if h.Current == nil {
		return nil, c.kind.notFound(name)
	}
	b := backup[B, X]{Name: h.Name, Extra: h.Extra}
	if c.strip != nil {
		c.strip(&b.Extra)
	}
	all, err := c.versionsOf(ctx, v, h, Page{Limit: maxBackupVersions}, func(_ *head[B, X], ver *version[B]) any { return *ver })
	if err != nil {
		return nil, err
	}
	if len(all) > maxBackupVersions {
		return nil, apierr.New(apierr.BadRequest, "BadParameter", "The %s %s has more than %d versions and cannot be backed up.", c.kind.word, name, maxBackupVersions)
	}
	for _, e := range all {
		if ver, ok := e.item.(version[B]); ok && ver.Version != h.Current.Version {
			b.Versions = append(b.Versions, ver)
		}
	}
	b.Versions = append(b.Versions, *h.Current)
	for i := range b.Versions {
		ver := &b.Versions[i]
		for _, p := range c.sealed(&ver.Body) {
			if *p == nil {
				continue
			}
			if *p, err = o.seal.Open(ctx, v.scope(), *p, aad(c.kind, h.Name, ver.Version)); err != nil {
				return nil, fmt.Errorf("open %s for backup: %w", c.kind.word, err)
			}
		}
	}
	plain, err := pack(b)
	if err != nil {
		return nil, err
	}
	blob, err := o.seal.Seal(ctx, v.backupScope(), plain, backupAAD(v, c.kind))
	if err != nil {
		return nil, fmt.Errorf("seal backup: %w", err)
	}
	return blob, nil
}

// restore makes the object of a backup in v. accept may refuse it.
func (c *collection[B, X]) restore(ctx context.Context, o *Objects, v *Vault, blob []byte, accept func(name string) error) (*head[B, X], error) {
	invalid := apierr.New(apierr.BadRequest, "BadParameter", "The backup blob is not a backup of a %s made in this tenant and subscription, or it was changed.", c.kind.word)
	plain, err := o.seal.Open(ctx, v.backupScope(), blob, backupAAD(v, c.kind))
	if err != nil {
		return nil, invalid.WithCause(err)
	}
	var b backup[B, X]
	if err := unpack(plain, &b); err != nil {
		return nil, invalid.WithCause(err)
	}
	if checkName(b.Name) != nil || len(b.Versions) == 0 || len(b.Versions) > maxBackupVersions {
		return nil, invalid
	}
	if err := accept(b.Name); err != nil {
		return nil, err
	}
	for i := range b.Versions {
		ver := &b.Versions[i]
		for _, p := range c.sealed(&ver.Body) {
			if *p == nil {
				continue
			}
			if *p, err = o.seal.Seal(ctx, v.scope(), *p, aad(c.kind, b.Name, ver.Version)); err != nil {
				return nil, fmt.Errorf("seal restored %s: %w", c.kind.word, err)
			}
		}
	}
	return c.fill(ctx, v, &b)
}

// fill writes a restored object: it holds the name, writes the older versions
// and then shows the head. An interrupted restore leaves a head to be erased.
func (c *collection[B, X]) fill(ctx context.Context, v *Vault, b *backup[B, X]) (*head[B, X], error) {
	taken := apierr.New(apierr.Conflict, "Conflict",
		"There was a conflict restoring the %s '%s' because the target name is already in use.", c.kind.word, v.URI+"/"+c.kind.plural+"/"+b.Name)
	old, err := c.load(ctx, v, b.Name)
	switch {
	case err != nil:
		return nil, err
	case old != nil && old.Deleted != nil:
		return nil, c.kind.isDeleted(b.Name)
	case old != nil:
		return nil, taken
	}
	h := &head[B, X]{Name: b.Name, Extra: b.Extra, Purging: true, Held: c.now().Add(restoreHold).Unix()}
	last := len(b.Versions) - 1
	h.Current = &b.Versions[last]
	if err := c.save(ctx, v, h); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return nil, taken
		}
		return nil, err
	}
	for i := range b.Versions[:last] {
		if err := c.saveArchived(ctx, v, h, &b.Versions[i], 0); err != nil {
			return nil, err
		}
	}
	h.Purging, h.Held = false, 0
	if err := c.save(ctx, v, h); err != nil {
		return nil, err
	}
	return h, nil
}

// pack encodes and compresses x.
func pack(x any) ([]byte, error) {
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, flate.DefaultCompression)
	if err != nil {
		return nil, fmt.Errorf("compress backup: %w", err)
	}
	if err := json.NewEncoder(w).Encode(x); err != nil {
		return nil, fmt.Errorf("encode backup: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress backup: %w", err)
	}
	return buf.Bytes(), nil
}

func unpack(b []byte, x any) error {
	r := io.LimitReader(flate.NewReader(bytes.NewReader(b)), maxBackupBytes)
	if err := json.NewDecoder(r).Decode(x); err != nil {
		return fmt.Errorf("decode backup: %w", err)
	}
	return nil
}
