package vaultdata

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Content types of the secret of a certificate.
const (
	typePKCS12 = "application/x-pkcs12"
	typePEM    = "application/x-pem-file"
)

// Bounds of a certificate policy.
const (
	maxValidityMonths = 1200
	maxSANs           = 100
)

// CertPolicy says how the versions of a certificate are made.
// Source: Key Vault REST API, CertificatePolicy.
type CertPolicy struct {
	ID         string       `json:"id,omitempty"`
	Key        *KeyProps    `json:"key_props,omitempty"`
	Secret     *SecretProps `json:"secret_props,omitempty"`
	X509       *X509Props   `json:"x509_props,omitempty"`
	Actions    []CertAction `json:"lifetime_actions,omitzero"`
	Issuer     *IssuerProps `json:"issuer,omitempty"`
	Attributes *PolicyAttrs `json:"attributes,omitempty"`
}

// PolicyAttrs are the attributes of a policy; times in Unix seconds.
type PolicyAttrs struct {
	Enabled *bool `json:"enabled,omitempty"`
	Created int64 `json:"created,omitempty"`
	Updated int64 `json:"updated,omitempty"`
}

// KeyProps are the properties of a certificate's key.
type KeyProps struct {
	Exportable *bool  `json:"exportable,omitempty"`
	Kty        string `json:"kty,omitempty"`
	KeySize    int    `json:"key_size,omitempty"`
	ReuseKey   *bool  `json:"reuse_key,omitempty"`
	Crv        string `json:"crv,omitempty"`
}

// SecretProps are the properties of a certificate's secret.
type SecretProps struct {
	ContentType string `json:"contentType,omitempty"`
}

// X509Props are the contents of the X.509 certificate.
type X509Props struct {
	Subject        string   `json:"subject,omitempty"`
	SANs           *SANs    `json:"sans,omitempty"`
	EKUs           []string `json:"ekus,omitzero"`
	KeyUsage       []string `json:"key_usage,omitzero"`
	ValidityMonths int      `json:"validity_months,omitempty"`
}

// SANs are the subject alternative names.
type SANs struct {
	DNSNames    []string `json:"dns_names,omitempty"`
	Emails      []string `json:"emails,omitempty"`
	UPNs        []string `json:"upns,omitempty"`
	URIs        []string `json:"uris,omitempty"`
	IPAddresses []string `json:"ipAddresses,omitempty"`
}

// CertAction is something to do in the lifetime of a certificate.
type CertAction struct {
	Trigger struct {
		LifetimePercentage int `json:"lifetime_percentage,omitempty"`
		DaysBeforeExpiry   int `json:"days_before_expiry,omitempty"`
	} `json:"trigger"`
	Action struct {
		ActionType string `json:"action_type"` // AutoRenew or EmailContacts
	} `json:"action"`
}

// IssuerProps name who signs.
type IssuerProps struct {
	Name             string `json:"name,omitempty"` // Self, Unknown or an issuer of the vault
	CertType         string `json:"cty,omitempty"`
	CertTransparency *bool  `json:"cert_transparency,omitempty"`
}

func keyUsageBits() map[string]x509.KeyUsage {
	return map[string]x509.KeyUsage{
		"digitalSignature": x509.KeyUsageDigitalSignature, "nonRepudiation": x509.KeyUsageContentCommitment,
		"keyEncipherment": x509.KeyUsageKeyEncipherment, "dataEncipherment": x509.KeyUsageDataEncipherment,
		"keyAgreement": x509.KeyUsageKeyAgreement, "keyCertSign": x509.KeyUsageCertSign, "cRLSign": x509.KeyUsageCRLSign,
		"encipherOnly": x509.KeyUsageEncipherOnly, "decipherOnly": x509.KeyUsageDecipherOnly,
	}
}

// merge replaces the sections of p that next has.
func (p CertPolicy) merge(next *CertPolicy) CertPolicy {
	if next == nil {
		return p
	}
	if next.Key != nil {
		p.Key = next.Key
	}
	if next.Secret != nil {
		p.Secret = next.Secret
	}
	if next.X509 != nil {
		p.X509 = next.X509
	}
	if next.Actions != nil {
		p.Actions = next.Actions
	}
	if next.Issuer != nil {
		p.Issuer = next.Issuer
	}
	if next.Attributes != nil && next.Attributes.Enabled != nil {
		p.Attributes = &PolicyAttrs{Enabled: next.Attributes.Enabled, Created: p.created()}
	}
	return p
}

func (p *CertPolicy) created() int64 {
	if p.Attributes == nil {
		return 0
	}
	return p.Attributes.Created
}

// complete gives every missing part its default and refuses bad ones. created
// is when the policy was first made.
func (p *CertPolicy) complete(now time.Time) error {
	yes, no := true, false
	key := KeyProps{}
	if p.Key != nil {
		key = *p.Key
	}
	if key.Exportable == nil {
		key.Exportable = &yes
	}
	if key.ReuseKey == nil {
		key.ReuseKey = &no
	}
	if key.Kty == "" {
		key.Kty = ktyRSA
		if key.Crv != "" {
			key.Kty = ktyEC
		}
	}
	spec, err := key.spec()
	if err != nil {
		return err
	}
	if spec.kty == ktyRSA && key.KeySize == 0 {
		key.KeySize = spec.size
	}
	key.Crv = spec.curve
	p.Key = &key
	if p.Secret == nil || p.Secret.ContentType == "" {
		p.Secret = &SecretProps{ContentType: typePKCS12}
	}
	if p.Secret.ContentType != typePKCS12 && p.Secret.ContentType != typePEM {
		return badProperty("policy.secret_props.contentType", "it is %s or %s, not %s", typePKCS12, typePEM, clip(p.Secret.ContentType))
	}
	if p.Issuer == nil || p.Issuer.Name == "" {
		issuer := IssuerProps{}
		if p.Issuer != nil {
			issuer = *p.Issuer
		}
		issuer.Name = "Unknown"
		p.Issuer = &issuer
	}
	if p.Attributes == nil {
		p.Attributes = &PolicyAttrs{}
	}
	a := PolicyAttrs{Enabled: p.Attributes.Enabled, Created: p.Attributes.Created, Updated: now.Unix()}
	if a.Enabled == nil {
		a.Enabled = &yes
	}
	if a.Created == 0 {
		a.Created = now.Unix()
	}
	p.Attributes = &a
	if err := p.completeX509(); err != nil {
		return err
	}
	return p.completeActions()
}

// spec is the key that the policy asks for.
func (k *KeyProps) spec() (keySpec, error) {
	if k.Kty == ktyOct {
		return keySpec{}, badProperty("policy.key_props.kty", "a certificate has an RSA or EC key")
	}
	if k.Crv == curveP256K {
		return keySpec{}, badProperty("policy.key_props.crv", "certificates are not made on P-256K; keys are")
	}
	return keySpec{kty: k.Kty, curve: k.Crv, size: k.KeySize}.check()
}

func (p *CertPolicy) completeX509() error {
	x := X509Props{}
	if p.X509 != nil {
		x = *p.X509
	}
	if x.Subject == "" && x.SANs.empty() {
		return badProperty("policy.x509_props.subject", "a certificate needs a subject or a subject alternative name")
	}
	if _, err := parseSubject(x.Subject); err != nil {
		return badProperty("policy.x509_props.subject", "%v", err)
	}
	if x.ValidityMonths == 0 {
		x.ValidityMonths = 12
	}
	if x.ValidityMonths < 1 || x.ValidityMonths > maxValidityMonths {
		return badProperty("policy.x509_props.validity_months", "it is from 1 to %d, not %d", maxValidityMonths, x.ValidityMonths)
	}
	if x.EKUs == nil {
		x.EKUs = []string{"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
	}
	for _, s := range x.EKUs {
		if _, err := parseOID(s); err != nil {
			return badProperty("policy.x509_props.ekus", "%v", err)
		}
	}
	if x.KeyUsage == nil {
		x.KeyUsage = []string{"digitalSignature", "keyEncipherment"}
	}
	for _, s := range x.KeyUsage {
		if _, ok := keyUsageBits()[s]; !ok {
			return badProperty("policy.x509_props.key_usage", "%q is not a key usage", clip(s))
		}
	}
	p.X509 = &x
	return x.SANs.check()
}

func (s *SANs) all() [][]string {
	return [][]string{s.DNSNames, s.Emails, s.UPNs, s.URIs, s.IPAddresses}
}

func (s *SANs) empty() bool {
	return s == nil || len(slices.Concat(s.all()...)) == 0
}

func (s *SANs) check() error {
	if s == nil {
		return nil
	}
	names := slices.Concat(s.all()...)
	if len(names) > maxSANs {
		return badProperty("policy.x509_props.sans", "a certificate has at most %d names", maxSANs)
	}
	for _, n := range names {
		if n == "" || len(n) > 1024 || !ascii(n) && !slices.Contains(s.UPNs, n) {
			return badProperty("policy.x509_props.sans", "%q is not a name that a certificate can carry", clip(n))
		}
	}
	for _, n := range s.URIs {
		if _, err := url.Parse(n); err != nil {
			return badProperty("policy.x509_props.sans.uris", "%q is not a URI", clip(n))
		}
	}
	for _, n := range s.IPAddresses {
		if _, err := netip.ParseAddr(n); err != nil {
			return badProperty("policy.x509_props.sans.ipAddresses", "%q is not an address", clip(n))
		}
	}
	return nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func (p *CertPolicy) completeActions() error {
	if p.Actions == nil {
		a := CertAction{}
		a.Trigger.LifetimePercentage, a.Action.ActionType = 80, "EmailContacts"
		if strings.EqualFold(p.Issuer.Name, "Self") {
			a.Action.ActionType = "AutoRenew"
		}
		p.Actions = []CertAction{a}
	}
	if len(p.Actions) > 2 {
		return badProperty("policy.lifetime_actions", "there are at most two actions")
	}
	for _, a := range p.Actions {
		pct, days := a.Trigger.LifetimePercentage, a.Trigger.DaysBeforeExpiry
		switch {
		case !strings.EqualFold(a.Action.ActionType, "AutoRenew") && !strings.EqualFold(a.Action.ActionType, "EmailContacts"):
			return badProperty("policy.lifetime_actions.action_type", "%q is neither AutoRenew nor EmailContacts", clip(a.Action.ActionType))
		case (pct == 0) == (days == 0):
			return badProperty("policy.lifetime_actions.trigger", "exactly one of lifetime_percentage and days_before_expiry is needed")
		case pct < 0 || pct > 99:
			return badProperty("policy.lifetime_actions.trigger.lifetime_percentage", "it is from 1 to 99")
		case days < 0 || days > p.X509.ValidityMonths*27:
			return badProperty("policy.lifetime_actions.trigger.days_before_expiry", "it is from 1 to %d for a validity of %d months", p.X509.ValidityMonths*27, p.X509.ValidityMonths)
		}
	}
	return nil
}

// renewAt is when AutoRenew wants a new version of a certificate with the
// validity; false when it never does.
func (p *CertPolicy) renewAt(from, to time.Time) (time.Time, bool) {
	if p.Issuer == nil || !strings.EqualFold(p.Issuer.Name, "Self") {
		return time.Time{}, false
	}
	for _, a := range p.Actions {
		if !strings.EqualFold(a.Action.ActionType, "AutoRenew") {
			continue
		}
		if d := a.Trigger.DaysBeforeExpiry; d > 0 {
			return to.AddDate(0, 0, -d), true
		}
		return from.Add(to.Sub(from) / 100 * time.Duration(a.Trigger.LifetimePercentage)), true
	}
	return time.Time{}, false
}

func parseOID(s string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for _, part := range strings.Split(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || len(oid) > 30 {
			return nil, fmt.Errorf("%q is not an object identifier", clip(s))
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, fmt.Errorf("%q is not an object identifier", clip(s))
	}
	return oid, nil
}

// x509OfCert describes a certificate that was made elsewhere.
func x509OfCert(c *x509.Certificate) *X509Props {
	x := &X509Props{Subject: c.Subject.String(), EKUs: []string{}, KeyUsage: []string{}}
	sans := SANs{DNSNames: c.DNSNames, Emails: c.EmailAddresses}
	for _, u := range c.URIs {
		sans.URIs = append(sans.URIs, u.String())
	}
	for _, ip := range c.IPAddresses {
		sans.IPAddresses = append(sans.IPAddresses, net.IP(ip).String())
	}
	if !sans.empty() {
		x.SANs = &sans
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
			var oids []asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(e.Value, &oids); err == nil {
				for _, o := range oids {
					x.EKUs = append(x.EKUs, o.String())
				}
			}
		}
	}
	for name, bit := range keyUsageBits() {
		if c.KeyUsage&bit != 0 {
			x.KeyUsage = append(x.KeyUsage, name)
		}
	}
	slices.Sort(x.KeyUsage)
	x.ValidityMonths = min(max(1, int(c.NotAfter.Sub(c.NotBefore).Hours()/24/30.4+0.5)), maxValidityMonths)
	return x
}
