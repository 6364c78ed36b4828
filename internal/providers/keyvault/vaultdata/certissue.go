package vaultdata

import (
	"crypto/rand"
	"crypto/sha1" // thumbprints are SHA-1 by definition (RFC 7515 section 4.1.7)
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// backdate is how far a certificate begins before it is made, for clocks that
// are behind; Azure does the same.
const backdate = 10 * time.Minute

// subjectAndSANs are the parts of a template that certificates and requests share.
func (p *CertPolicy) subjectAndSANs() ([]byte, []pkix.Extension, error) {
	seq, err := parseSubject(p.X509.Subject)
	if err != nil {
		return nil, nil, badProperty("policy.x509_props.subject", "%v", err)
	}
	raw, err := asn1.Marshal(seq)
	if err != nil {
		return nil, nil, badProperty("policy.x509_props.subject", "it cannot be encoded").WithCause(err)
	}
	if p.X509.SANs.empty() {
		return raw, nil, nil
	}
	value, err := p.X509.SANs.marshal()
	if err != nil {
		return nil, nil, badProperty("policy.x509_props.sans", "they cannot be encoded").WithCause(err)
	}
	return raw, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: len(seq) == 0, Value: value}}, nil
}

// marshal encodes GeneralNames (RFC 5280 section 4.2.1.6); a UPN is an
// otherName of Microsoft's type.
func (s *SANs) marshal() ([]byte, error) {
	var names []asn1.RawValue
	add := func(tag int, b []byte) {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: b})
	}
	for _, n := range s.UPNs {
		text, err := asn1.MarshalWithParams(n, "utf8")
		if err != nil {
			return nil, fmt.Errorf("encode UPN: %w", err)
		}
		inner, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: text})
		if err != nil {
			return nil, fmt.Errorf("encode UPN: %w", err)
		}
		oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3})
		if err != nil {
			return nil, fmt.Errorf("encode UPN: %w", err)
		}
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(oid, inner...)})
	}
	for _, n := range s.Emails {
		add(1, []byte(n))
	}
	for _, n := range s.DNSNames {
		add(2, []byte(n))
	}
	for _, n := range s.URIs {
		add(6, []byte(n))
	}
	for _, n := range s.IPAddresses {
		ip, err := netip.ParseAddr(n)
		if err != nil {
			return nil, fmt.Errorf("encode address: %w", err)
		}
		add(7, ip.Unmap().AsSlice())
	}
	b, err := asn1.Marshal(names)
	if err != nil {
		return nil, fmt.Errorf("encode names: %w", err)
	}
	return b, nil
}

// request makes the certificate signing request (PKCS#10, DER).
func (p *CertPolicy) request(m *material) ([]byte, error) {
	subject, sans, err := p.subjectAndSANs()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject, ExtraExtensions: sans}, m.signer())
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// selfSign makes a self-signed certificate (DER).
func (p *CertPolicy) selfSign(m *material, now time.Time) ([]byte, error) {
	subject, sans, err := p.subjectAndSANs()
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	from := now.Add(-backdate).UTC().Truncate(time.Second)
	t := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), RawSubject: subject, ExtraExtensions: sans,
		NotBefore: from, NotAfter: from.AddDate(0, p.X509.ValidityMonths, 0).Add(backdate),
		BasicConstraintsValid: true,
	}
	for _, u := range p.X509.KeyUsage {
		t.KeyUsage |= keyUsageBits()[u]
	}
	for _, e := range p.X509.EKUs {
		oid, err := parseOID(e)
		if err != nil {
			return nil, badProperty("policy.x509_props.ekus", "%v", err)
		}
		t.UnknownExtKeyUsage = append(t.UnknownExtKeyUsage, oid)
	}
	signer := m.signer()
	der, err := x509.CreateCertificate(rand.Reader, t, t, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return der, nil
}

// secretValue is what the secret of a certificate holds: the chain, and the
// key if the policy lets it out. A PKCS#12 file has the empty password, as
// Azure's has, and encryption that every consumer reads.
func (p *CertPolicy) secretValue(m *material, chain []*x509.Certificate) (string, error) {
	exportable := *p.Key.Exportable
	if p.Secret.ContentType == typePEM {
		var b strings.Builder
		if exportable {
			der, err := x509.MarshalPKCS8PrivateKey(m.signer())
			if err != nil {
				return "", fmt.Errorf("encode key: %w", err)
			}
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		}
		for _, c := range chain {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
		return b.String(), nil
	}
	var pfx []byte
	var err error
	if exportable {
		pfx, err = pkcs12.LegacyDES.Encode(m.signer(), chain[0], chain[1:], "")
	} else {
		pfx, err = pkcs12.LegacyDES.EncodeTrustStore(chain, "")
	}
	if err != nil {
		return "", fmt.Errorf("encode PKCS#12: %w", err)
	}
	return base64.StdEncoding.EncodeToString(pfx), nil
}

// pfxToPEM converts the value of a PKCS#12 secret.
func pfxToPEM(value string) (string, error) {
	pfx, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return "", fmt.Errorf("decode PKCS#12: %w", err)
	}
	key, leaf, chain, err := pkcs12.DecodeChain(pfx, "")
	if err != nil {
		certs, terr := pkcs12.DecodeTrustStore(pfx, "")
		if terr != nil || len(certs) == 0 {
			return "", fmt.Errorf("decode PKCS#12: %w", err)
		}
		key, leaf, chain = nil, certs[0], certs[1:]
	}
	var b strings.Builder
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return "", fmt.Errorf("encode key: %w", err)
		}
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	for _, c := range append([]*x509.Certificate{leaf}, chain...) {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.String(), nil
}

func thumbprint(der []byte) string {
	sum := sha1.Sum(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
