package vaultdata

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
)

// CreateKey is the body of Create Key.
type CreateKey struct {
	Kty            string            `json:"kty"`
	Crv            string            `json:"crv"`
	KeySize        int               `json:"key_size"`
	PublicExponent int               `json:"public_exponent"`
	KeyOps         []string          `json:"key_ops"`
	Tags           map[string]string `json:"tags"`
	Attributes     *AttributesIn     `json:"attributes"`
	ReleasePolicy  json.RawMessage   `json:"release_policy"`
}

// ImportKey is the body of Import Key.
type ImportKey struct {
	Key           *JWK              `json:"key"`
	HSM           bool              `json:"hsm"`
	Tags          map[string]string `json:"tags"`
	Attributes    *AttributesIn     `json:"attributes"`
	ReleasePolicy json.RawMessage   `json:"release_policy"`
}

// UpdateKey is the body of Update Key; what it leaves out stays.
type UpdateKey struct {
	KeyOps        []string          `json:"key_ops"`
	Tags          map[string]string `json:"tags"`
	Attributes    *AttributesIn     `json:"attributes"`
	ReleasePolicy json.RawMessage   `json:"release_policy"`
}

// KeyBundle is a key in answers: its public part and attributes.
type KeyBundle struct {
	Key        PublicKey         `json:"key"`
	Attributes Attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitzero"`
	Managed    *bool             `json:"managed,omitempty"`
	*Deletion
}

// PublicKey is a JSON Web Key without private parts.
type PublicKey struct {
	KeyID  string   `json:"kid"`
	Kty    string   `json:"kty"`
	KeyOps []string `json:"key_ops"`
	N      string   `json:"n,omitempty"`
	E      string   `json:"e,omitempty"`
	Crv    string   `json:"crv,omitempty"`
	X      string   `json:"x,omitempty"`
	Y      string   `json:"y,omitempty"`
}

// KeyItem is a key in a list.
type KeyItem struct {
	KeyID      string            `json:"kid"`
	Attributes Attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitzero"`
	Managed    *bool             `json:"managed,omitempty"`
	*Deletion
}

// keyView is one version of a key, whether a plain one or a certificate's.
type keyView struct {
	name     string
	version  string
	attrs    attrs
	tags     map[string]string
	body     keyBody
	owner    kind // whose additional data seals it
	deletion *Deletion
}

func (k *keyView) managed() *bool {
	if k.owner == keyKind {
		return nil
	}
	yes := true
	return &yes
}

func plainKeyView(v *Vault, h *head[keyBody, keyExtra], ver *version[keyBody]) *keyView {
	return &keyView{name: h.Name, version: ver.Version, attrs: ver.Attrs, tags: ver.Tags, body: ver.Body, owner: keyKind, deletion: h.deletion(v, keyKind)}
}

// attributes are those of a key: never exportable, since nothing releases it.
func (k *keyView) attributes(v *Vault) Attributes {
	no := false
	a := k.attrs.show(v)
	a.Exportable = &no
	return a
}

func (k *keyView) bundle(v *Vault) *KeyBundle {
	b64 := base64.RawURLEncoding.EncodeToString
	p := k.body.Public
	return &KeyBundle{
		Key: PublicKey{
			KeyID: v.URI + "/keys/" + k.name + "/" + k.version,
			Kty:   k.body.Kty, KeyOps: k.body.Ops, Crv: k.body.Curve,
			N: b64(p.N), E: b64(p.E), X: b64(p.X), Y: b64(p.Y),
		},
		Attributes: k.attributes(v), Tags: k.tags, Managed: k.managed(), Deletion: k.deletion,
	}
}

func (k *keyView) item(v *Vault, full bool) *KeyItem {
	id := v.URI + "/keys/" + k.name
	if full {
		id += "/" + k.version
	}
	return &KeyItem{KeyID: id, Attributes: k.attributes(v), Tags: k.tags, Managed: k.managed(), Deletion: k.deletion}
}

// refuseRelease refuses what would make a key exportable: nothing here checks
// the attestation that its release policy would ask for.
func refuseRelease(a *AttributesIn, policy json.RawMessage) error {
	if len(policy) > 0 && string(policy) != "null" {
		return badProperty("release_policy", "secure key release is not offered: nothing here can check the attestation that a policy asks for")
	}
	if a != nil && a.Exportable != nil && *a.Exportable {
		return badProperty("attributes.exportable", "an exportable key needs secure key release, which is not offered")
	}
	return nil
}

// CreateKey makes a key, or a new version of one.
func (o *Objects) CreateKey(ctx context.Context, v *Vault, name string, in *CreateKey) (*KeyBundle, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := refuseRelease(in.Attributes, in.ReleasePolicy); err != nil {
		return nil, err
	}
	spec, err := keySpec{kty: in.Kty, curve: in.Crv, size: in.KeySize}.check()
	if err != nil {
		return nil, err
	}
	if in.PublicExponent != 0 && (in.Kty != ktyRSA || in.PublicExponent != 65537) {
		return nil, badProperty("public_exponent", "the public exponent is that of an RSA key and 65537")
	}
	if in.KeyOps == nil {
		in.KeyOps = defaultOps(spec.kty)
	}
	if err := checkOps(spec.kty, in.KeyOps); err != nil {
		return nil, err
	}
	if err := o.keyNameFree(ctx, v, name); err != nil {
		return nil, err
	}
	m, err := generate(spec)
	if err != nil {
		return nil, err
	}
	return o.addKey(ctx, v, name, m, in.KeyOps, in.Tags, in.Attributes)
}

// keyNameFree refuses early what addKey would refuse after the costly part.
func (o *Objects) keyNameFree(ctx context.Context, v *Vault, name string) error {
	h, err := o.keys.load(ctx, v, name)
	if err != nil {
		return err
	}
	if h != nil && h.Deleted != nil {
		return keyKind.isDeleted(name)
	}
	return o.freeOfCert(ctx, v, keyKind, name)
}

// ImportKey makes a key, or a new version of one, of a given private key.
func (o *Objects) ImportKey(ctx context.Context, v *Vault, name string, in *ImportKey) (*KeyBundle, error) {
	if in.Key == nil {
		return nil, badProperty("key", "the key is missing")
	}
	if in.HSM {
		return nil, badProperty("hsm", "this service has no hardware security module to import the key into")
	}
	if err := refuseRelease(in.Attributes, in.ReleasePolicy); err != nil {
		return nil, err
	}
	m, err := in.Key.material()
	if err != nil {
		return nil, err
	}
	if in.Key.KeyOps == nil {
		in.Key.KeyOps = defaultOps(m.ktyOf())
	}
	if err := checkOps(m.ktyOf(), in.Key.KeyOps); err != nil {
		return nil, err
	}
	return o.addKey(ctx, v, name, m, in.Key.KeyOps, in.Tags, in.Attributes)
}

// addKey seals m and makes it the current version of the name.
func (o *Objects) addKey(ctx context.Context, v *Vault, name string, m *material, ops []string, tags map[string]string, in *AttributesIn) (*KeyBundle, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	at, err := newAttrs(in, o.now())
	if err != nil {
		return nil, err
	}
	ver, err := o.sealKey(ctx, v, name, m, ops)
	if err != nil {
		return nil, err
	}
	ver.Attrs, ver.Tags = at, tags
	h, err := addUnder(ctx, o, v, &o.keys, name, ver, func(h *head[keyBody, keyExtra]) error {
		return h.Extra.Policy.expire(&ver.Attrs, o.now())
	})
	if err != nil {
		return nil, err
	}
	return plainKeyView(v, h, ver).bundle(v), nil
}

func (o *Objects) sealKey(ctx context.Context, v *Vault, name string, m *material, ops []string) (*version[keyBody], error) {
	body, err := m.describe()
	if err != nil {
		return nil, err
	}
	plain, err := m.encode()
	if err != nil {
		return nil, err
	}
	ver := &version[keyBody]{Version: newVersion(), Body: body}
	ver.Body.Ops = ops
	ver.Body.Sealed, err = o.seal.Seal(ctx, v.scope(), plain, aad(keyKind, name, ver.Version))
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	return ver, nil
}

// key finds a version of a key, a certificate's included, and rotates the key
// first when its policy says that it is due.
func (o *Objects) key(ctx context.Context, v *Vault, name, ver string) (*keyView, error) {
	h, got, err := o.keys.version(ctx, v, name, ver)
	if isNotFound(err) {
		if view, cerr := o.certKey(ctx, v, name, ver); !isNotFound(cerr) {
			return view, cerr
		}
	}
	if err != nil {
		return nil, err
	}
	if h.Extra.Policy.due(h.Current, o.now()) {
		if h, err = o.rotate(ctx, v, name, true); err != nil {
			return nil, err
		}
		if ver == "" {
			got = h.Current
		}
	}
	return plainKeyView(v, h, got), nil
}

// GetKey gives the public part of a version, the current one for "".
func (o *Objects) GetKey(ctx context.Context, v *Vault, name, ver string) (*KeyBundle, error) {
	k, err := o.key(ctx, v, name, ver)
	if err != nil {
		return nil, err
	}
	if !k.attrs.Enabled {
		return nil, keyKind.disabled("get")
	}
	return k.bundle(v), nil
}

// UpdateKey changes attributes, tags and key_ops of a version.
func (o *Objects) UpdateKey(ctx context.Context, v *Vault, name, ver string, in *UpdateKey) (*KeyBundle, error) {
	if err := o.ownedByCert(ctx, v, keyKind, name); err != nil {
		return nil, err
	}
	if err := refuseRelease(in.Attributes, in.ReleasePolicy); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	h, got, err := o.keys.update(ctx, v, name, ver, func(_ *head[keyBody, keyExtra], k *version[keyBody]) error {
		if in.KeyOps != nil {
			if err := checkOps(k.Body.Kty, in.KeyOps); err != nil {
				return err
			}
			k.Body.Ops = in.KeyOps
		}
		if in.Tags != nil {
			k.Tags = in.Tags
		}
		return k.Attrs.apply(in.Attributes, o.now())
	})
	if err != nil {
		return nil, err
	}
	return plainKeyView(v, h, got).bundle(v), nil
}

// DeleteKey soft-deletes the key with all versions.
func (o *Objects) DeleteKey(ctx context.Context, v *Vault, name string) (*KeyBundle, error) {
	if err := o.ownedByCert(ctx, v, keyKind, name); err != nil {
		return nil, err
	}
	h, err := o.keys.remove(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return plainKeyView(v, h, h.Current).bundle(v), nil
}

// DeletedKey gives a soft-deleted key.
func (o *Objects) DeletedKey(ctx context.Context, v *Vault, name string) (*KeyBundle, error) {
	h, err := o.keys.deleted(ctx, v, name)
	if isNotFound(err) {
		if ch, cerr := o.certs.deleted(ctx, v, name); cerr == nil && ch.Current != nil {
			return certKeyView(v, ch, ch.Current).bundle(v), nil
		}
	}
	if err != nil {
		return nil, err
	}
	return plainKeyView(v, h, h.Current).bundle(v), nil
}

// RecoverKey takes a soft deletion back.
func (o *Objects) RecoverKey(ctx context.Context, v *Vault, name string) (*KeyBundle, error) {
	h, err := o.keys.recover(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return plainKeyView(v, h, h.Current).bundle(v), nil
}

// PurgeKey erases a soft-deleted key.
func (o *Objects) PurgeKey(ctx context.Context, v *Vault, name string) error {
	return o.keys.purge(ctx, v, name)
}

// ListKeys lists current versions, those of certificates included.
func (o *Objects) ListKeys(ctx context.Context, v *Vault, p Page) (*List, error) {
	return o.listKeys(ctx, v, p, false)
}

// ListDeletedKeys lists soft-deleted keys.
func (o *Objects) ListDeletedKeys(ctx context.Context, v *Vault, p Page) (*List, error) {
	return o.listKeys(ctx, v, p, true)
}

func (o *Objects) listKeys(ctx context.Context, v *Vault, p Page, deleted bool) (*List, error) {
	own, err := o.keys.heads(ctx, v, p, deleted, func(h *head[keyBody, keyExtra]) (any, bool) {
		return plainKeyView(v, h, h.Current).item(v, false), true
	})
	if err != nil {
		return nil, err
	}
	certs, err := o.certs.heads(ctx, v, p, deleted, func(h *head[certBody, certExtra]) (any, bool) {
		if h.Current == nil {
			return nil, false
		}
		return certKeyView(v, h, h.Current).item(v, false), true
	})
	if err != nil {
		return nil, err
	}
	return cut(append(own, certs...), p), nil
}

// ListKeyVersions lists the versions of a key.
func (o *Objects) ListKeyVersions(ctx context.Context, v *Vault, name string, p Page) (*List, error) {
	if _, err := o.key(ctx, v, name, ""); err != nil {
		return nil, err
	}
	all, err := o.keys.versions(ctx, v, name, p, func(h *head[keyBody, keyExtra], ver *version[keyBody]) any {
		return plainKeyView(v, h, ver).item(v, true)
	})
	if isNotFound(err) {
		all, err = o.certs.versions(ctx, v, name, p, func(h *head[certBody, certExtra], ver *version[certBody]) any {
			return certKeyView(v, h, ver).item(v, true)
		})
	}
	if err != nil {
		return nil, err
	}
	return cut(all, p), nil
}

// BackupKey gives all versions and the rotation policy in one sealed blob.
func (o *Objects) BackupKey(ctx context.Context, v *Vault, name string) (*Blob, error) {
	if err := o.ownedByCert(ctx, v, keyKind, name); err != nil {
		return nil, err
	}
	return newBlob(o.keys.backup(ctx, o, v, name))
}

// RestoreKey makes a key of a backup under its old name and versions.
func (o *Objects) RestoreKey(ctx context.Context, v *Vault, in *Blob) (*KeyBundle, error) {
	raw, err := decode64(in.Value, "value")
	if err != nil {
		return nil, err
	}
	h, err := o.keys.restore(ctx, o, v, raw, func(name string) error { return o.freeOfCert(ctx, v, keyKind, name) })
	if err != nil {
		return nil, err
	}
	return plainKeyView(v, h, h.Current).bundle(v), nil
}

// ReleaseKey always refuses: no key of this service is exportable.
func (o *Objects) ReleaseKey(ctx context.Context, v *Vault, name, ver string) error {
	if _, err := o.key(ctx, v, name, ver); err != nil {
		return err
	}
	return apierr.New(apierr.Forbidden, "Forbidden", "The key %s is not exportable: secure key release is not offered, because nothing here can check an attestation.", clip(name)).
		WithInner("KeyNotExportable")
}

// Attestation always refuses: it is a statement of a hardware security module.
func (o *Objects) Attestation(ctx context.Context, v *Vault, name, ver string) error {
	if _, err := o.key(ctx, v, name, ver); err != nil {
		return err
	}
	return apierr.New(apierr.BadRequest, "BadParameter", "Key attestation is a statement of a hardware security module, and the key %s is protected by software.", clip(name))
}

// permitted reports whether key_ops names the operation.
func (k *keyView) permitted(op string) bool {
	for _, o := range k.body.Ops {
		if strings.EqualFold(o, op) {
			return true
		}
	}
	return false
}
