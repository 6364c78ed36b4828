package vaultdata

import (
	"context"
	"encoding/base64"
	"fmt"
)

// maxSecret is the size of a secret's value in bytes.
// Source: Key Vault, "About secrets".
const (
	maxSecret      = 25 * 1024
	maxContentType = 255
)

// secretBody is what a version of a secret holds.
type secretBody struct {
	ContentType *string `json:"contentType,omitempty"`
	Sealed      []byte  `json:"sealed"`
}

func secretSealed(b *secretBody) []*[]byte { return []*[]byte{&b.Sealed} }

// SetSecret is the body of Set Secret.
type SetSecret struct {
	Value       *string           `json:"value"`
	ContentType *string           `json:"contentType"`
	Tags        map[string]string `json:"tags"`
	Attributes  *AttributesIn     `json:"attributes"`
}

// UpdateSecret is the body of Update Secret; what it leaves out stays.
type UpdateSecret struct {
	ContentType *string           `json:"contentType"`
	Tags        map[string]string `json:"tags"`
	Attributes  *AttributesIn     `json:"attributes"`
}

// Secret is a secret in answers: a SecretBundle with its value, a SecretItem
// without, a deleted one of either with Deletion.
type Secret struct {
	Value           *string           `json:"value,omitempty"`
	ID              string            `json:"id"`
	ContentType     *string           `json:"contentType,omitempty"`
	Attributes      Attributes        `json:"attributes"`
	Tags            map[string]string `json:"tags,omitzero"`
	KeyID           string            `json:"kid,omitempty"`
	Managed         *bool             `json:"managed,omitempty"`
	PreviousVersion string            `json:"previousVersion,omitempty"`
	*Deletion
}

// showSecret is ver without its value; its id names the version if full is set.
func showSecret(v *Vault, h *head[secretBody, noExtra], ver *version[secretBody], full bool) *Secret {
	s := &Secret{
		ID:          v.URI + "/secrets/" + h.Name,
		ContentType: ver.Body.ContentType,
		Attributes:  ver.Attrs.show(v),
		Tags:        ver.Tags,
		Deletion:    h.deletion(v, secretKind),
	}
	if full {
		s.ID += "/" + ver.Version
		s.PreviousVersion = ver.Prev
	}
	return s
}

// SetSecret adds a version to the secret, which it creates where the name is
// free. It refuses names that a certificate owns or a deleted secret blocks.
func (o *Objects) SetSecret(ctx context.Context, v *Vault, name string, in *SetSecret) (*Secret, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	switch {
	case in.Value == nil:
		return nil, badProperty("value", "the value of the secret is missing")
	case len(*in.Value) > maxSecret:
		return nil, badProperty("value", "the value of a secret has at most %d bytes, not %d", maxSecret, len(*in.Value))
	case in.ContentType != nil && len(*in.ContentType) > maxContentType:
		return nil, badProperty("contentType", "a content type has at most %d characters", maxContentType)
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	at, err := newAttrs(in.Attributes, o.now())
	if err != nil {
		return nil, err
	}
	ver := &version[secretBody]{Version: newVersion(), Attrs: at, Tags: in.Tags, Body: secretBody{ContentType: in.ContentType}}
	ver.Body.Sealed, err = o.seal.Seal(ctx, v.scope(), []byte(*in.Value), aad(secretKind, name, ver.Version))
	if err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	h, err := addUnder(ctx, o, v, &o.secrets, name, ver, nil)
	if err != nil {
		return nil, err
	}
	s := showSecret(v, h, ver, true)
	s.Value = in.Value
	return s, nil
}

// GetSecret gives a version with its value, the current one for "".
func (o *Objects) GetSecret(ctx context.Context, v *Vault, name, ver, outContentType string) (*Secret, error) {
	h, got, err := o.secrets.version(ctx, v, name, ver)
	if isNotFound(err) {
		if s, cerr := o.certSecret(ctx, v, name, ver, outContentType); !isNotFound(cerr) {
			return s, cerr
		}
	}
	if err != nil {
		return nil, err
	}
	if outContentType != "" {
		return nil, badProperty("outContentType", "only the secret of a certificate can be converted")
	}
	if !got.Attrs.Enabled {
		return nil, secretKind.disabled("get")
	}
	plain, err := o.seal.Open(ctx, v.scope(), got.Body.Sealed, aad(secretKind, h.Name, got.Version))
	if err != nil {
		return nil, fmt.Errorf("open secret: %w", err)
	}
	s := showSecret(v, h, got, true)
	value := string(plain)
	s.Value = &value
	return s, nil
}

// UpdateSecret changes attributes, tags and content type of a version.
func (o *Objects) UpdateSecret(ctx context.Context, v *Vault, name, ver string, in *UpdateSecret) (*Secret, error) {
	if err := o.ownedByCert(ctx, v, secretKind, name); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	h, got, err := o.secrets.update(ctx, v, name, ver, func(_ *head[secretBody, noExtra], s *version[secretBody]) error {
		if in.ContentType != nil {
			if len(*in.ContentType) > maxContentType {
				return badProperty("contentType", "a content type has at most %d characters", maxContentType)
			}
			s.Body.ContentType = in.ContentType
		}
		if in.Tags != nil {
			s.Tags = in.Tags
		}
		return s.Attrs.apply(in.Attributes, o.now())
	})
	if err != nil {
		return nil, err
	}
	return showSecret(v, h, got, true), nil
}

// DeleteSecret soft-deletes the secret with all versions.
func (o *Objects) DeleteSecret(ctx context.Context, v *Vault, name string) (*Secret, error) {
	if err := o.ownedByCert(ctx, v, secretKind, name); err != nil {
		return nil, err
	}
	h, err := o.secrets.remove(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return showSecret(v, h, h.Current, true), nil
}

// DeletedSecret gives a soft-deleted secret without its value.
func (o *Objects) DeletedSecret(ctx context.Context, v *Vault, name string) (*Secret, error) {
	h, err := o.secrets.deleted(ctx, v, name)
	if isNotFound(err) {
		if ch, cerr := o.certs.deleted(ctx, v, name); cerr == nil && ch.Current != nil {
			return showCertSecret(v, ch, ch.Current, true), nil
		}
	}
	if err != nil {
		return nil, err
	}
	return showSecret(v, h, h.Current, true), nil
}

// RecoverSecret takes a soft deletion back.
func (o *Objects) RecoverSecret(ctx context.Context, v *Vault, name string) (*Secret, error) {
	h, err := o.secrets.recover(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return showSecret(v, h, h.Current, true), nil
}

// PurgeSecret erases a soft-deleted secret.
func (o *Objects) PurgeSecret(ctx context.Context, v *Vault, name string) error {
	return o.secrets.purge(ctx, v, name)
}

// ListSecrets lists current versions, those of certificates included.
func (o *Objects) ListSecrets(ctx context.Context, v *Vault, p Page) (*List, error) {
	return o.listSecrets(ctx, v, p, false)
}

// ListDeletedSecrets lists soft-deleted secrets.
func (o *Objects) ListDeletedSecrets(ctx context.Context, v *Vault, p Page) (*List, error) {
	return o.listSecrets(ctx, v, p, true)
}

func (o *Objects) listSecrets(ctx context.Context, v *Vault, p Page, deleted bool) (*List, error) {
	own, err := o.secrets.heads(ctx, v, p, deleted, func(h *head[secretBody, noExtra]) (any, bool) {
		return showSecret(v, h, h.Current, false), true
	})
	if err != nil {
		return nil, err
	}
	certs, err := o.certs.heads(ctx, v, p, deleted, func(h *head[certBody, certExtra]) (any, bool) {
		if h.Current == nil {
			return nil, false
		}
		return showCertSecret(v, h, h.Current, false), true
	})
	if err != nil {
		return nil, err
	}
	return cut(append(own, certs...), p), nil
}

// ListSecretVersions lists the versions of a secret.
func (o *Objects) ListSecretVersions(ctx context.Context, v *Vault, name string, p Page) (*List, error) {
	all, err := o.secrets.versions(ctx, v, name, p, func(h *head[secretBody, noExtra], ver *version[secretBody]) any {
		s := showSecret(v, h, ver, true)
		s.PreviousVersion = ""
		return s
	})
	if isNotFound(err) {
		if all, cerr := o.certs.versions(ctx, v, name, p, func(h *head[certBody, certExtra], ver *version[certBody]) any {
			return showCertSecret(v, h, ver, true)
		}); cerr == nil {
			return cut(all, p), nil
		}
	}
	if err != nil {
		return nil, err
	}
	return cut(all, p), nil
}

// Blob is the answer of the backup operations and the body of the restores.
type Blob struct {
	Value string `json:"value"` // base64url without padding
}

func newBlob(b []byte, err error) (*Blob, error) {
	if err != nil {
		return nil, err
	}
	return &Blob{Value: base64.RawURLEncoding.EncodeToString(b)}, nil
}

// BackupSecret gives all versions in one sealed blob.
func (o *Objects) BackupSecret(ctx context.Context, v *Vault, name string) (*Blob, error) {
	if err := o.ownedByCert(ctx, v, secretKind, name); err != nil {
		return nil, err
	}
	return newBlob(o.secrets.backup(ctx, o, v, name))
}

// RestoreSecret makes a secret of a backup under its old name and versions.
func (o *Objects) RestoreSecret(ctx context.Context, v *Vault, in *Blob) (*Secret, error) {
	raw, err := decode64(in.Value, "value")
	if err != nil {
		return nil, err
	}
	h, err := o.secrets.restore(ctx, o, v, raw, func(name string) error { return o.freeOfCert(ctx, v, secretKind, name) })
	if err != nil {
		return nil, err
	}
	return showSecret(v, h, h.Current, true), nil
}
