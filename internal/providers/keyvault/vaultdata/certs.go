package vaultdata

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"lazurite.dev/internal/apierr"
)

// certBody is what a version of a certificate holds. The key and the secret of
// the same name are views of it.
type certBody struct {
	Leaf          []byte   `json:"leaf"`            // DER
	Chain         [][]byte `json:"chain,omitempty"` // DER, as the secret has it
	Key           keyBody  `json:"key"`
	Secret        []byte   `json:"secret"` // sealed value of the secret
	ContentType   string   `json:"contentType"`
	PreserveOrder *bool    `json:"preserveOrder,omitempty"`
}

func certSealed(b *certBody) []*[]byte { return []*[]byte{&b.Key.Sealed, &b.Secret} }

// certExtra is what the head of a certificate holds beside its versions.
type certExtra struct {
	Policy  CertPolicy `json:"policy"`
	Pending *pending   `json:"pending,omitempty"`
}

// Certificate is a certificate in answers: CertificateBundle, and CertificateItem
// where the parts from KeyID to Policy are left out.
type Certificate struct {
	ID            string            `json:"id"`
	KeyID         string            `json:"kid,omitempty"`
	SecretID      string            `json:"sid,omitempty"`
	X5T           string            `json:"x5t,omitempty"`
	CER           string            `json:"cer,omitempty"`
	Attributes    Attributes        `json:"attributes"`
	Tags          map[string]string `json:"tags,omitzero"`
	Policy        *CertPolicy       `json:"policy,omitempty"`
	Pending       *pendingLink      `json:"pending,omitempty"`
	PreserveOrder *bool             `json:"preserveCertOrder,omitempty"`
	*Deletion
}

type pendingLink struct {
	ID string `json:"id"`
}

// UpdateCert is the body of Update Certificate.
type UpdateCert struct {
	Policy     *CertPolicy       `json:"policy"`
	Tags       map[string]string `json:"tags"`
	Attributes *AttributesIn     `json:"attributes"`
}

// ImportCert is the body of Import Certificate.
type ImportCert struct {
	Value         string            `json:"value"`
	Password      string            `json:"pwd"`
	Policy        *CertPolicy       `json:"policy"`
	Tags          map[string]string `json:"tags"`
	Attributes    *AttributesIn     `json:"attributes"`
	PreserveOrder *bool             `json:"preserveCertOrder"`
}

type certHead = head[certBody, certExtra]

func policyOf(v *Vault, h *certHead) *CertPolicy {
	p := h.Extra.Policy
	p.ID = v.URI + "/certificates/" + h.Name + "/policy"
	return &p
}

// showCert is a version in full. A certificate that is only pending has a
// bundle without contents, disabled.
func showCert(v *Vault, h *certHead, ver *version[certBody]) *Certificate {
	base := v.URI + "/certificates/" + h.Name
	c := &Certificate{Policy: policyOf(v, h), Deletion: h.deletion(v, certKind)}
	if p := h.Extra.Pending; p != nil {
		c.Pending = &pendingLink{base + "/pending"}
		if ver == nil {
			c.ID, c.Tags, c.PreserveOrder = base+"/"+p.Version, p.Tags, p.PreserveOrder
			c.Attributes = attrs{Created: p.Created, Updated: p.Created}.show(v)
		}
	}
	if ver == nil {
		if c.ID == "" {
			c.ID = base
			c.Attributes = attrs{}.show(v)
		}
		return c
	}
	c.ID = base + "/" + ver.Version
	c.KeyID = v.URI + "/keys/" + h.Name + "/" + ver.Version
	c.SecretID = v.URI + "/secrets/" + h.Name + "/" + ver.Version
	c.CER, c.X5T = base64.StdEncoding.EncodeToString(ver.Body.Leaf), thumbprint(ver.Body.Leaf)
	c.Attributes, c.Tags, c.PreserveOrder = ver.Attrs.show(v), ver.Tags, ver.Body.PreserveOrder
	return c
}

// showCertItem is a certificate in a list.
func showCertItem(v *Vault, h *certHead, ver *version[certBody], full bool) *Certificate {
	c := &Certificate{ID: v.URI + "/certificates/" + h.Name, Deletion: h.deletion(v, certKind)}
	switch {
	case ver == nil:
		at := attrs{}
		if p := h.Extra.Pending; p != nil {
			at.Created, at.Updated, c.Tags = p.Created, p.Created, p.Tags
		}
		c.Attributes = at.show(v)
	default:
		c.X5T, c.Attributes, c.Tags = thumbprint(ver.Body.Leaf), ver.Attrs.show(v), ver.Tags
		if full {
			c.ID += "/" + ver.Version
		}
	}
	return c
}

// cert finds a version and renews the certificate first when its policy says
// that it is due. A certificate that is only pending has no version.
func (o *Objects) cert(ctx context.Context, v *Vault, name, ver string) (*certHead, *version[certBody], error) {
	if ver != "" {
		if err := checkVersion(ver); err != nil {
			return nil, nil, err
		}
	}
	h, err := o.certs.live(ctx, v, name)
	if err != nil {
		return nil, nil, err
	}
	if o.renewalDue(h) {
		if h, err = o.renew(ctx, v, h.Name); err != nil {
			return nil, nil, err
		}
	}
	if h.Current == nil {
		if ver == "" || h.Extra.Pending != nil && lower(ver) == h.Extra.Pending.Version {
			return h, nil, nil
		}
		return nil, nil, certKind.notFound(name)
	}
	got, _, err := o.certs.pick(ctx, v, h, ver)
	return h, got, err
}

// certVersion is cert for the views as key and secret, which need contents.
func (o *Objects) certVersion(ctx context.Context, v *Vault, k kind, name, ver string) (*certHead, *version[certBody], error) {
	h, got, err := o.cert(ctx, v, name, ver)
	if err == nil && got == nil {
		err = k.notFound(name)
	}
	return h, got, err
}

// certSecret is the secret of a certificate.
func (o *Objects) certSecret(ctx context.Context, v *Vault, name, ver, outContentType string) (*Secret, error) {
	h, got, err := o.certVersion(ctx, v, secretKind, name, ver)
	if err != nil {
		return nil, err
	}
	if !got.Attrs.Enabled {
		return nil, secretKind.disabled("get")
	}
	plain, err := o.seal.Open(ctx, v.scope(), got.Body.Secret, aad(certKind, h.Name, got.Version))
	if err != nil {
		return nil, fmt.Errorf("open secret of certificate: %w", err)
	}
	s := showCertSecret(v, h, got, true)
	value := string(plain)
	switch {
	case outContentType == "" || outContentType == got.Body.ContentType:
	case outContentType == typePEM:
		if value, err = pfxToPEM(value); err != nil {
			return nil, err
		}
		pem := typePEM
		s.ContentType = &pem
	default:
		return nil, badProperty("outContentType", "a %s cannot be converted to %s", got.Body.ContentType, clip(outContentType))
	}
	s.Value = &value
	return s, nil
}

func showCertSecret(v *Vault, h *certHead, ver *version[certBody], full bool) *Secret {
	yes := true
	s := &Secret{
		ID: v.URI + "/secrets/" + h.Name, ContentType: &ver.Body.ContentType, Managed: &yes,
		Attributes: ver.Attrs.show(v), Tags: ver.Tags, Deletion: h.deletion(v, secretKind),
	}
	if full {
		s.ID += "/" + ver.Version
		s.KeyID = v.URI + "/keys/" + h.Name + "/" + ver.Version
	}
	return s
}

// certKey is the key of a certificate.
func (o *Objects) certKey(ctx context.Context, v *Vault, name, ver string) (*keyView, error) {
	h, got, err := o.certVersion(ctx, v, keyKind, name, ver)
	if err != nil {
		return nil, err
	}
	return certKeyView(v, h, got), nil
}

func certKeyView(v *Vault, h *certHead, ver *version[certBody]) *keyView {
	return &keyView{
		name: h.Name, version: ver.Version, attrs: ver.Attrs, tags: ver.Tags, body: ver.Body.Key, owner: certKind,
		deletion: h.deletion(v, keyKind),
	}
}

// GetCert gives a version, the current one for "".
func (o *Objects) GetCert(ctx context.Context, v *Vault, name, ver string) (*Certificate, error) {
	h, got, err := o.cert(ctx, v, name, ver)
	if err != nil {
		return nil, err
	}
	return showCert(v, h, got), nil
}

// UpdateCert changes attributes and tags of a version, and the policy.
func (o *Objects) UpdateCert(ctx context.Context, v *Vault, name, ver string, in *UpdateCert) (*Certificate, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if in.Policy != nil {
		if _, err := o.SetCertPolicy(ctx, v, name, in.Policy); err != nil {
			return nil, err
		}
	}
	h, got, err := o.certs.update(ctx, v, name, ver, func(_ *certHead, c *version[certBody]) error {
		if in.Tags != nil {
			c.Tags = in.Tags
		}
		return c.Attrs.apply(in.Attributes, o.now())
	})
	if err != nil {
		return nil, err
	}
	return showCert(v, h, got), nil
}

// GetCertPolicy gives the policy of a certificate.
func (o *Objects) GetCertPolicy(ctx context.Context, v *Vault, name string) (*CertPolicy, error) {
	h, err := o.certs.live(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return policyOf(v, h), nil
}

// SetCertPolicy replaces those sections of the policy that in has.
func (o *Objects) SetCertPolicy(ctx context.Context, v *Vault, name string, in *CertPolicy) (*CertPolicy, error) {
	h, err := o.certs.change(ctx, v, name, func(h *certHead) error {
		next := h.Extra.Policy.merge(in)
		next.ID = ""
		if err := next.complete(o.now()); err != nil {
			return err
		}
		h.Extra.Policy = next
		return nil
	})
	if err != nil {
		return nil, err
	}
	return policyOf(v, h), nil
}

// DeleteCert soft-deletes the certificate with its key and secret.
func (o *Objects) DeleteCert(ctx context.Context, v *Vault, name string) (*Certificate, error) {
	h, err := o.certs.remove(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return showCert(v, h, h.Current), nil
}

// DeletedCert gives a soft-deleted certificate.
func (o *Objects) DeletedCert(ctx context.Context, v *Vault, name string) (*Certificate, error) {
	h, err := o.certs.deleted(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return showCert(v, h, h.Current), nil
}

// RecoverCert takes a soft deletion back.
func (o *Objects) RecoverCert(ctx context.Context, v *Vault, name string) (*Certificate, error) {
	h, err := o.certs.recover(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return showCert(v, h, h.Current), nil
}

// PurgeCert erases a soft-deleted certificate with its key and secret.
func (o *Objects) PurgeCert(ctx context.Context, v *Vault, name string) error {
	return o.certs.purge(ctx, v, name)
}

// ListCerts lists certificates; those that are only pending on demand.
func (o *Objects) ListCerts(ctx context.Context, v *Vault, p Page, withPending bool) (*List, error) {
	return o.listCerts(ctx, v, p, withPending, false)
}

// ListDeletedCerts lists soft-deleted certificates.
func (o *Objects) ListDeletedCerts(ctx context.Context, v *Vault, p Page, withPending bool) (*List, error) {
	return o.listCerts(ctx, v, p, withPending, true)
}

func (o *Objects) listCerts(ctx context.Context, v *Vault, p Page, withPending, deleted bool) (*List, error) {
	all, err := o.certs.heads(ctx, v, p, deleted, func(h *certHead) (any, bool) {
		return showCertItem(v, h, h.Current, false), h.Current != nil || withPending
	})
	if err != nil {
		return nil, err
	}
	return cut(all, p), nil
}

// ListCertVersions lists the versions of a certificate.
func (o *Objects) ListCertVersions(ctx context.Context, v *Vault, name string, p Page) (*List, error) {
	all, err := o.certs.versions(ctx, v, name, p, func(h *certHead, ver *version[certBody]) any {
		return showCertItem(v, h, ver, true)
	})
	if err != nil {
		return nil, err
	}
	return cut(all, p), nil
}

// BackupCert gives all versions and the policy in one sealed blob.
func (o *Objects) BackupCert(ctx context.Context, v *Vault, name string) (*Blob, error) {
	return newBlob(o.certs.backup(ctx, o, v, name))
}

// RestoreCert makes a certificate of a backup under its old name and versions.
func (o *Objects) RestoreCert(ctx context.Context, v *Vault, in *Blob) (*Certificate, error) {
	raw, err := decode64(in.Value, "value")
	if err != nil {
		return nil, err
	}
	h, err := o.certs.restore(ctx, o, v, raw, func(name string) error { return o.freeOfPlain(ctx, v, name) })
	if err != nil {
		return nil, err
	}
	return showCert(v, h, h.Current), nil
}

// certInput is what a new version of a certificate is made of.
type certInput struct {
	version  string // "" is a fresh one
	key      *material
	chain    *imported
	tags     map[string]string
	attrs    *AttributesIn
	preserve *bool
}

// certVersionOf seals key and secret of a new version under the policy.
func (o *Objects) certVersionOf(ctx context.Context, v *Vault, name string, p *CertPolicy, in certInput) (*version[certBody], error) {
	keep := in.preserve != nil && *in.preserve
	leaf, chain, err := in.chain.ordered(in.key, keep)
	if err != nil {
		return nil, err
	}
	if in.version == "" {
		in.version = newVersion()
	}
	ver := &version[certBody]{Version: in.version, Tags: in.tags, Body: certBody{Leaf: leaf.Raw, ContentType: p.Secret.ContentType, PreserveOrder: in.preserve}}
	for _, c := range chain {
		ver.Body.Chain = append(ver.Body.Chain, c.Raw)
	}
	from, to := leaf.NotBefore.Unix(), leaf.NotAfter.Unix()
	ver.Attrs = attrs{Enabled: true, NotBefore: &from, Expires: &to, Created: o.now().Unix()}
	if err := ver.Attrs.apply(in.attrs, o.now()); err != nil {
		return nil, err
	}
	if ver.Body.Key, err = o.sealCertKey(ctx, v, name, in.version, in.key); err != nil {
		return nil, err
	}
	if p.Secret.ContentType == typePKCS12 && keep { // PKCS#12 marks the key's own certificate, so it leads
		_, chain, err = in.chain.ordered(in.key, false)
		if err != nil {
			return nil, err
		}
	}
	value, err := p.secretValue(in.key, chain)
	if err != nil {
		return nil, err
	}
	ver.Body.Secret, err = o.seal.Seal(ctx, v.scope(), []byte(value), aad(certKind, name, in.version))
	if err != nil {
		return nil, fmt.Errorf("seal secret of certificate: %w", err)
	}
	return ver, nil
}

// sealCertKey is the body of a certificate's key, bound to the version.
func (o *Objects) sealCertKey(ctx context.Context, v *Vault, name, ver string, m *material) (keyBody, error) {
	body, err := m.describe()
	if err != nil {
		return body, err
	}
	plain, err := m.encode()
	if err != nil {
		return body, err
	}
	body.Ops = defaultOps(body.Kty)
	body.Sealed, err = o.seal.Seal(ctx, v.scope(), plain, aad(certKind, name, ver))
	if err != nil {
		return body, fmt.Errorf("seal key of certificate: %w", err)
	}
	return body, nil
}

// openCertKey opens the key of a certificate's version.
func (o *Objects) openCertKey(ctx context.Context, v *Vault, name, ver string, b *keyBody) (*material, error) {
	plain, err := o.seal.Open(ctx, v.scope(), b.Sealed, aad(certKind, name, ver))
	if err != nil {
		return nil, fmt.Errorf("open key of certificate: %w", err)
	}
	return decodeMaterial(b, plain)
}

// ImportCert makes a certificate, or a new version of one, of PEM or PKCS#12.
func (o *Objects) ImportCert(ctx context.Context, v *Vault, name string, in *ImportCert) (*Certificate, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	got, err := o.read(ctx, in.Value, in.Password)
	if err != nil {
		return nil, err
	}
	policy, err := importPolicy(got, in.Policy)
	if err != nil {
		return nil, err
	}
	if err := policy.complete(o.now()); err != nil {
		return nil, err
	}
	ver, err := o.certVersionOf(ctx, v, name, policy, certInput{key: got.key, chain: got, tags: in.Tags, attrs: in.Attributes, preserve: in.PreserveOrder})
	if err != nil {
		return nil, err
	}
	h, err := o.addCert(ctx, v, name, ver, func(h *certHead) error {
		if h.Extra.Pending.open() {
			return errPending()
		}
		h.Extra = certExtra{Policy: *policy}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return showCert(v, h, ver), nil
}

// importPolicy is the policy of an imported certificate: what the certificate
// says, and of a given policy what it can choose.
func importPolicy(got *imported, given *CertPolicy) (*CertPolicy, error) {
	body, err := got.key.describe()
	if err != nil {
		return nil, err
	}
	i, err := got.leaf(got.key)
	if err != nil {
		return nil, err
	}
	contentType := typePKCS12
	if got.pem {
		contentType = typePEM
	}
	p := &CertPolicy{
		Key:    &KeyProps{Kty: body.Kty, KeySize: body.Size, Crv: body.Curve},
		Secret: &SecretProps{ContentType: contentType},
		X509:   x509OfCert(got.chain[i]),
		Issuer: &IssuerProps{Name: "Unknown"},
	}
	if given == nil {
		return p, nil
	}
	if k := given.Key; k != nil {
		if k.Kty != "" && k.Kty != body.Kty || k.KeySize != 0 && body.Kty == ktyRSA && k.KeySize != body.Size || k.Crv != "" && k.Crv != body.Curve {
			return nil, badProperty("policy.key_props", "they do not describe the key of the certificate: %s %d %s", body.Kty, body.Size, body.Curve)
		}
		p.Key.Exportable, p.Key.ReuseKey = k.Exportable, k.ReuseKey
	}
	if given.Secret != nil && given.Secret.ContentType != "" {
		p.Secret = given.Secret
	}
	if given.Issuer != nil {
		p.Issuer = given.Issuer
	}
	p.Actions, p.Attributes = given.Actions, given.Attributes
	return p, nil
}

// addCert adds a version of a certificate whose name no key or secret has.
func (o *Objects) addCert(ctx context.Context, v *Vault, name string, ver *version[certBody], prepare func(*certHead) error) (*certHead, error) {
	created := false
	h, err := o.certs.add(ctx, v, name, ver, func(h *certHead) error {
		if created = h.rev == 0; created {
			if err := o.freeOfPlain(ctx, v, name); err != nil {
				return err
			}
		}
		return prepare(h)
	})
	return o.keepIfFree(ctx, v, h, created, err)
}

// keepIfFree takes a new certificate back if a key or secret appeared meanwhile.
func (o *Objects) keepIfFree(ctx context.Context, v *Vault, h *certHead, created bool, err error) (*certHead, error) {
	if err != nil || !created {
		return h, err
	}
	if err := o.freeOfPlain(ctx, v, h.Name); err != nil {
		if terr := o.certs.takeBack(ctx, v, h); terr != nil {
			return nil, terr
		}
		return nil, err
	}
	return h, nil
}

func errPending() error {
	return apierr.New(apierr.Conflict, "Forbidden", "A new key vault certificate can not be created or imported while a pending key vault certificate's status is inProgress.")
}

// parseChain reads the certificates of a merge, DER in base64 each.
func parseChain(x5c []string) (*imported, error) {
	if len(x5c) == 0 || len(x5c) > maxChain {
		return nil, badProperty("x5c", "it needs 1 to %d certificates", maxChain)
	}
	in := &imported{}
	for _, s := range x5c {
		der, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			if der, err = decode64(s, "x5c"); err != nil {
				return nil, err
			}
		}
		certs, err := x509.ParseCertificates(der)
		if err != nil {
			return nil, badCert("a certificate cannot be read").WithCause(err)
		}
		in.chain = append(in.chain, certs...)
	}
	if len(in.chain) == 0 || len(in.chain) > maxChain {
		return nil, badProperty("x5c", "it needs 1 to %d certificates", maxChain)
	}
	return in, nil
}
