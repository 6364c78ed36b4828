package vaultdata

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
)

// A certificate owns the key and the secret of its name: they have no
// documents of their own but are shown from the certificate's. These functions
// keep a name from belonging to a certificate and to a plain object at once.
// Each creator looks before and after its write and takes its write back when
// the other kind appeared in between, so of two that race at most one stays.

func isNotFound(err error) bool { return apierr.Is(err, apierr.NotFound) }

// freeOfCert refuses a new object of kind k where a certificate has the name.
func (o *Objects) freeOfCert(ctx context.Context, v *Vault, k kind, name string) error {
	h, err := o.certs.load(ctx, v, name)
	if err != nil {
		return err
	}
	if h != nil {
		return nameTaken(name, k.word, certKind.word)
	}
	return nil
}

// ownedByCert refuses to change an object that belongs to a certificate.
func (o *Objects) ownedByCert(ctx context.Context, v *Vault, k kind, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	h, err := o.certs.load(ctx, v, name)
	if err != nil {
		return err
	}
	if h != nil && h.Deleted == nil && !h.Purging {
		return k.managed(name)
	}
	return nil
}

// freeOfPlain refuses a new certificate where a key or a secret has the name.
func (o *Objects) freeOfPlain(ctx context.Context, v *Vault, name string) error {
	s, err := o.secrets.load(ctx, v, name)
	if err != nil {
		return err
	}
	if s != nil {
		return nameTaken(name, certKind.word, secretKind.word)
	}
	k, err := o.keys.load(ctx, v, name)
	if err != nil {
		return err
	}
	if k != nil {
		return nameTaken(name, certKind.word, keyKind.word)
	}
	return nil
}

// addUnder adds a version of a plain object whose name no certificate has.
func addUnder[B, X any](ctx context.Context, o *Objects, v *Vault, c *collection[B, X], name string, ver *version[B], prepare func(*head[B, X]) error) (*head[B, X], error) {
	created := false
	h, err := c.add(ctx, v, name, ver, func(h *head[B, X]) error {
		if created = h.Current == nil; created {
			if err := o.freeOfCert(ctx, v, c.kind, name); err != nil {
				return err
			}
		}
		if prepare != nil {
			return prepare(h)
		}
		return nil
	})
	if err != nil || !created {
		return h, err
	}
	if err := o.freeOfCert(ctx, v, c.kind, name); err != nil {
		return nil, errors.Join(err, c.takeBack(ctx, v, h))
	}
	return h, nil
}

// takeBack erases a head that was just created, unless it changed since.
func (c *collection[B, X]) takeBack(ctx context.Context, v *Vault, h *head[B, X]) error {
	err := c.docs.Delete(ctx, c.headKey(v, h.Name), h.rev)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("take back %s: %w", c.kind.word, err)
	}
	return nil
}

// decode64 reads base64url, with or without padding, and plain base64 too.
func decode64(s, field string) ([]byte, error) {
	t := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "=")
	b, err := base64.RawURLEncoding.DecodeString(t)
	if err != nil || len(b) == 0 {
		return nil, badProperty(field, "it must be base64url and not empty")
	}
	return b, nil
}
