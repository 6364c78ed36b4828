package vaultdata

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
)

// States of a certificate operation.
const (
	inProgress = "inProgress"
	completed  = "completed"
	cancelled  = "cancelled"
)

// CreateCert is the body of Create Certificate.
type CreateCert struct {
	Policy        *CertPolicy       `json:"policy"`
	Tags          map[string]string `json:"tags"`
	Attributes    *AttributesIn     `json:"attributes"`
	PreserveOrder *bool             `json:"preserveCertOrder"`
}

// MergeCert is the body of Merge Certificate.
type MergeCert struct {
	X5C        []string          `json:"x5c"`
	Tags       map[string]string `json:"tags"`
	Attributes *AttributesIn     `json:"attributes"`
}

// CertOperation is a certificate operation in answers.
type CertOperation struct {
	ID            string      `json:"id"`
	Issuer        IssuerProps `json:"issuer"`
	CSR           string      `json:"csr"`
	Cancel        bool        `json:"cancellation_requested"`
	Status        string      `json:"status"`
	StatusDetails string      `json:"status_details,omitempty"`
	RequestID     string      `json:"request_id"`
	Target        string      `json:"target,omitempty"`
	PreserveOrder *bool       `json:"preserveCertOrder,omitempty"`
}

// pending is the certificate operation of a head. Key is sealed for Version
// and there until the operation has ended.
type pending struct {
	RequestID     string            `json:"requestId"`
	Version       string            `json:"version"`
	Status        string            `json:"status"`
	Issuer        IssuerProps       `json:"issuer"`
	CSR           []byte            `json:"csr"`
	Cancel        bool              `json:"cancel,omitempty"`
	Created       int64             `json:"created"`
	Key           *keyBody          `json:"key,omitempty"`
	Tags          map[string]string `json:"tags,omitzero"`
	Enabled       *bool             `json:"enabled,omitempty"`
	PreserveOrder *bool             `json:"preserveOrder,omitempty"`
}

func (p *pending) open() bool { return p != nil && p.Status == inProgress }

// show is the operation with the status that it had when it began, or has now.
func (p *pending) show(v *Vault, name, status string) *CertOperation {
	base := v.URI + "/certificates/" + name
	op := &CertOperation{
		ID: base + "/pending", Issuer: p.Issuer, CSR: base64.StdEncoding.EncodeToString(p.CSR),
		Cancel: p.Cancel, Status: status, RequestID: p.RequestID, PreserveOrder: p.PreserveOrder,
	}
	switch {
	case status == completed:
		op.Target = base
	case status == cancelled:
		op.StatusDetails = "Certificate request was cancelled."
	case strings.EqualFold(p.Issuer.Name, "Self"):
		op.StatusDetails = "Pending certificate created. Certificate request is in progress. This may take some time based on the issuer provider. Please check again later."
	default:
		op.StatusDetails = "Pending certificate created. Please Perform Merge to complete the request."
	}
	return op
}

// CreateCert begins a certificate. A self-signed one is there when it returns,
// though the answer says inProgress as Azure's first answer does; one of an
// unknown issuer waits for MergeCert.
func (o *Objects) CreateCert(ctx context.Context, v *Vault, name string, in *CreateCert) (*CertOperation, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	old, err := o.certs.load(ctx, v, name)
	if err != nil {
		return nil, err
	}
	policy := CertPolicy{}
	switch {
	case old != nil && old.Deleted != nil:
		return nil, certKind.isDeleted(name)
	case old != nil && old.Extra.Pending.open():
		return nil, errPending()
	case old != nil:
		policy = old.Extra.Policy
	case in.Policy == nil:
		return nil, badProperty("policy", "a new certificate needs a policy")
	default:
		if err := o.freeOfPlain(ctx, v, name); err != nil {
			return nil, err
		}
	}
	policy = policy.merge(in.Policy)
	policy.ID = ""
	if err := policy.complete(o.now()); err != nil {
		return nil, err
	}
	self := strings.EqualFold(policy.Issuer.Name, "Self")
	if !self && !strings.EqualFold(policy.Issuer.Name, "Unknown") {
		return nil, o.refuseIssuer(ctx, v, policy.Issuer.Name)
	}
	m, err := o.certMaterial(ctx, v, old, &policy)
	if err != nil {
		return nil, err
	}
	p := &pending{
		RequestID: newVersion(), Version: newVersion(), Status: inProgress, Issuer: *policy.Issuer,
		Created: o.now().Unix(), Tags: in.Tags, PreserveOrder: in.PreserveOrder,
	}
	if in.Attributes != nil {
		p.Enabled = in.Attributes.Enabled
	}
	if p.CSR, err = policy.request(m); err != nil {
		return nil, err
	}
	if self {
		err = o.issueSelf(ctx, v, name, &policy, p, m)
	} else {
		err = o.awaitMerge(ctx, v, name, &policy, p, m)
	}
	if err != nil {
		return nil, err
	}
	return p.show(v, name, inProgress), nil
}

// refuseIssuer says why no certificate comes from an issuer of the vault.
func (o *Objects) refuseIssuer(ctx context.Context, v *Vault, name string) error {
	if _, err := o.GetIssuer(ctx, v, name); err != nil {
		if isNotFound(err) {
			return badProperty("policy.issuer.name", "the vault has no issuer %q; Self and Unknown are always there", clip(name))
		}
		return err
	}
	return apierr.New(apierr.BadRequest, "BadParameter", "The issuer %s stands for an outside certificate authority, and this service calls none. Use the issuer Unknown, have the request signed and merge the certificate.", clip(name))
}

// certMaterial is the key of the next version: a new one, or the current one
// where the policy reuses it and it still fits.
func (o *Objects) certMaterial(ctx context.Context, v *Vault, old *certHead, p *CertPolicy) (*material, error) {
	spec, err := p.Key.spec()
	if err != nil {
		return nil, err
	}
	if old != nil && old.Current != nil && *p.Key.ReuseKey {
		b := &old.Current.Body.Key
		if b.Kty == spec.kty && b.Curve == spec.curve && (spec.size == 0 || b.Size == spec.size) {
			return o.openCertKey(ctx, v, old.Name, old.Current.Version, b)
		}
	}
	return generate(spec)
}

// issueSelf adds the self-signed version and marks the operation as completed.
func (o *Objects) issueSelf(ctx context.Context, v *Vault, name string, policy *CertPolicy, p *pending, m *material) error {
	ver, err := o.selfSigned(ctx, v, name, policy, p, m)
	if err != nil {
		return err
	}
	_, err = o.addCert(ctx, v, name, ver, func(h *certHead) error {
		if h.Extra.Pending.open() {
			return errPending()
		}
		done := *p
		done.Status = completed
		h.Extra = certExtra{Policy: *policy, Pending: &done}
		return nil
	})
	return err
}

func (o *Objects) selfSigned(ctx context.Context, v *Vault, name string, policy *CertPolicy, p *pending, m *material) (*version[certBody], error) {
	der, err := policy.selfSign(m, o.now())
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read own certificate: %w", err)
	}
	return o.certVersionOf(ctx, v, name, policy, certInput{
		version: p.Version, key: m, chain: &imported{chain: []*x509.Certificate{leaf}},
		tags: p.Tags, attrs: &AttributesIn{Enabled: p.Enabled}, preserve: p.PreserveOrder,
	})
}

// awaitMerge keeps the operation, with its key, until a certificate is merged.
func (o *Objects) awaitMerge(ctx context.Context, v *Vault, name string, policy *CertPolicy, p *pending, m *material) error {
	key, err := o.sealCertKey(ctx, v, name, p.Version, m)
	if err != nil {
		return err
	}
	kept := *p
	kept.Key = &key
	created := false
	h, err := o.certs.edit(ctx, v, name, func(h *certHead) error {
		if created = h.rev == 0; created {
			if err := o.freeOfPlain(ctx, v, name); err != nil {
				return err
			}
		}
		if h.Extra.Pending.open() {
			return errPending()
		}
		h.Extra = certExtra{Policy: *policy, Pending: &kept}
		return nil
	})
	_, err = o.keepIfFree(ctx, v, h, created, err)
	return err
}

func noPending(name string) error {
	return apierr.New(apierr.NotFound, "PendingCertificateNotFound", "Pending certificate not found: %s", name)
}

// changePending applies fn to the operation of a live certificate. A request id
// that is not "" must be the operation's.
func (o *Objects) changePending(ctx context.Context, v *Vault, name, requestID string, fn func(*certHead) error) (*certHead, error) {
	return o.certs.change(ctx, v, name, func(h *certHead) error {
		p := h.Extra.Pending
		if p == nil || requestID != "" && !strings.EqualFold(requestID, p.RequestID) {
			return noPending(name)
		}
		return fn(h)
	})
}

// GetPending gives the operation of a certificate.
func (o *Objects) GetPending(ctx context.Context, v *Vault, name, requestID string) (*CertOperation, error) {
	h, err := o.certs.live(ctx, v, name)
	if err != nil {
		return nil, err
	}
	p := h.Extra.Pending
	if p == nil || requestID != "" && !strings.EqualFold(requestID, p.RequestID) {
		return nil, noPending(name)
	}
	return p.show(v, h.Name, p.Status), nil
}

// CancelPending cancels an operation that is in progress.
func (o *Objects) CancelPending(ctx context.Context, v *Vault, name, requestID string, cancel bool) (*CertOperation, error) {
	if !cancel {
		return nil, badProperty("cancellation_requested", "a cancellation can only be requested")
	}
	h, err := o.changePending(ctx, v, name, requestID, func(h *certHead) error {
		p := h.Extra.Pending
		if !p.open() {
			return apierr.New(apierr.BadRequest, "BadParameter", "The operation of certificate %s is %s and cannot be cancelled.", name, p.Status)
		}
		p.Cancel, p.Status, p.Key = true, cancelled, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h.Extra.Pending.show(v, h.Name, cancelled), nil
}

// DeletePending forgets the operation. A certificate that was nothing else is
// gone with it.
func (o *Objects) DeletePending(ctx context.Context, v *Vault, name, requestID string) (*CertOperation, error) {
	var gone *pending
	h, err := o.changePending(ctx, v, name, requestID, func(h *certHead) error {
		gone, h.Extra.Pending = h.Extra.Pending, nil
		if h.Current == nil {
			h.Purging = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if h.Purging {
		if err := o.certs.erase(ctx, v, h); err != nil {
			return nil, err
		}
	}
	return gone.show(v, h.Name, gone.Status), nil
}

// MergeCert completes an operation of an unknown issuer with the certificate
// that was made of its request.
func (o *Objects) MergeCert(ctx context.Context, v *Vault, name, requestID string, in *MergeCert) (*Certificate, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	chain, err := parseChain(in.X5C)
	if err != nil {
		return nil, err
	}
	h, err := o.certs.live(ctx, v, name)
	if err != nil {
		return nil, err
	}
	p := h.Extra.Pending
	if !p.open() || p.Key == nil || requestID != "" && !strings.EqualFold(requestID, p.RequestID) {
		return nil, noPending(name)
	}
	m, err := o.openCertKey(ctx, v, h.Name, p.Version, p.Key)
	if err != nil {
		return nil, err
	}
	input := certInput{version: p.Version, key: m, chain: chain, tags: p.Tags, attrs: in.Attributes, preserve: p.PreserveOrder}
	if in.Tags != nil {
		input.tags = in.Tags
	}
	if input.attrs == nil {
		input.attrs = &AttributesIn{Enabled: p.Enabled}
	}
	policy := h.Extra.Policy
	ver, err := o.certVersionOf(ctx, v, h.Name, &policy, input)
	if err != nil {
		return nil, err
	}
	h, err = o.certs.add(ctx, v, name, ver, func(h *certHead) error {
		if q := h.Extra.Pending; !q.open() || q.RequestID != p.RequestID {
			return noPending(name)
		}
		h.Extra.Pending.Status, h.Extra.Pending.Key = completed, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return showCert(v, h, ver), nil
}

// renewalDue reports whether the policy wants a new self-signed version.
func (o *Objects) renewalDue(h *certHead) bool {
	if h.Current == nil || h.Extra.Pending.open() {
		return false
	}
	leaf, err := x509.ParseCertificate(h.Current.Body.Leaf)
	if err != nil {
		return false
	}
	at, ok := h.Extra.Policy.renewAt(leaf.NotBefore, leaf.NotAfter)
	return ok && !o.now().Before(at)
}

// renew adds a self-signed version unless another has done so meanwhile.
func (o *Objects) renew(ctx context.Context, v *Vault, name string) (*certHead, error) {
	h, err := o.certs.live(ctx, v, name)
	if err != nil {
		return nil, err
	}
	policy := h.Extra.Policy
	m, err := o.certMaterial(ctx, v, h, &policy)
	if err != nil {
		return nil, err
	}
	p := &pending{Version: newVersion(), Tags: h.Current.Tags, PreserveOrder: h.Current.Body.PreserveOrder}
	ver, err := o.selfSigned(ctx, v, name, &policy, p, m)
	if err != nil {
		return nil, err
	}
	h, err = o.certs.add(ctx, v, name, ver, func(h *certHead) error {
		if !o.renewalDue(h) {
			return errNotDue
		}
		return nil
	})
	if errors.Is(err, errNotDue) {
		return o.certs.live(ctx, v, name)
	}
	return h, err
}
