package serve

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// What the Secret holds, named as the original's.
const (
	fileCert   = "tls.crt"
	fileKey    = "tls.key"
	fileCACert = "ca.crt" // may hold several: the one that signs now first, then those that it follows
	fileCAKey  = "ca.key"
)

const (
	caName         = "azure-workload-identity-ca"
	caOrganization = "azure-workload-identity"
	caLife         = 10 * 365 * 24 * time.Hour
	certLife       = 365 * 24 * time.Hour
	backdate       = time.Hour // clocks differ
)

// serving is a set of serving certificates as a Secret holds it.
type serving map[string][]byte

// pair is the certificate to serve with, checked to be one for the name that
// the authorities beside it have signed.
func (s serving) pair(name string, now time.Time) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(s[fileCert], s[fileKey])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s[fileCACert]) {
		return nil, errors.New("no certificate of an authority")
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
		return nil, err
	}
	return &pair, nil
}

// due says whether a certificate is to be renewed: two thirds of its life are over.
func due(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2))
}

// renewed is the set that is good for a while: s itself where it is, else one
// with a new certificate and, where that is due as well, a new authority. The
// authorities that it follows stay beside it until they end.
func (s serving) renewed(name string, now time.Time) (serving, error) {
	pair, err := s.pair(name, now)
	ca, key, caErr := s.authority()
	if caErr == nil && !due(ca, now) && err == nil && !due(pair.Leaf, now) {
		return s, nil
	}
	next := serving{fileCACert: s[fileCACert], fileCAKey: s[fileCAKey]}
	if caErr != nil || due(ca, now) {
		if ca, key, err = next.newAuthority(now); err != nil {
			return nil, err
		}
		next[fileCACert] = append(next[fileCACert], stillGood(s[fileCACert], now)...)
	}
	if err := next.sign(ca, key, name, now); err != nil {
		return nil, err
	}
	return next, nil
}

// authority is the one that signs now.
func (s serving) authority() (*x509.Certificate, crypto.Signer, error) {
	pair, err := tls.X509KeyPair(s[fileCACert], s[fileCAKey])
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, nil, errors.New("no authority")
	}
	return pair.Leaf, key, nil
}

func stillGood(certs []byte, now time.Time) []byte {
	var out []byte
	for len(certs) > 0 {
		var block *pem.Block
		if block, certs = pem.Decode(certs); block == nil {
			return out
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && now.Before(c.NotAfter) {
			out = append(out, pem.EncodeToMemory(block)...)
		}
	}
	return out
}

func (s serving) newAuthority(now time.Time) (*x509.Certificate, crypto.Signer, error) {
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: caName, Organization: []string{caOrganization}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true,
	}
	key, err := s.make(t, t, nil, fileCACert, fileCAKey)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(s[fileCACert])
	ca, err := x509.ParseCertificate(block.Bytes)
	return ca, key, err
}

func (s serving) sign(ca *x509.Certificate, key crypto.Signer, name string, now time.Time) error {
	_, err := s.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(certLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}, ca, key, fileCert, fileKey)
	return err
}

// make makes a key and its certificate, signed by itself where no signer is given.
func (s serving) make(t, parent *x509.Certificate, signer crypto.Signer, certFile, keyFile string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if signer == nil {
		signer = key
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	s[certFile] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s[keyFile] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return key, nil
}

func (s serving) equal(other serving) bool {
	for _, f := range []string{fileCert, fileKey, fileCACert, fileCAKey} {
		if !bytes.Equal(s[f], other[f]) {
			return false
		}
	}
	return true
}
