package vaultdata

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"

	"lazurite.dev/internal/apierr"
	"software.sslmate.com/src/go-pkcs12"
)

// Limits of an imported certificate.
const (
	maxImport = 256 << 10 // bytes of text
	maxChain  = 20        // certificates
)

// imported is what an import or a merge brought.
type imported struct {
	key   *material // nil in a merge
	chain []*x509.Certificate
	pem   bool
}

func badCert(why string) *apierr.Error {
	return apierr.New(apierr.BadRequest, "BadParameter", "The specified X.509 certificate content is invalid: %s.", why)
}

// parseImport reads PEM text, base64 of PEM, or base64 of PKCS#12. A certificate
// without its private key is refused.
func parseImport(value, password string) (*imported, error) {
	if len(value) > maxImport {
		return nil, badCert("it is too long")
	}
	if strings.Contains(value, "-----BEGIN") {
		return parsePEM([]byte(value))
	}
	clean := strings.NewReplacer("\r", "", "\n", "", " ", "", "-", "+", "_", "/").Replace(value)
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(clean, "="))
	if err != nil || len(raw) == 0 {
		return nil, badCert("it is neither PEM nor base64")
	}
	if bytes.Contains(raw, []byte("-----BEGIN")) {
		return parsePEM(raw)
	}
	if err := checkWork(raw); err != nil {
		return nil, badCert("its password is hashed too often").WithCause(err)
	}
	key, leaf, chain, err := pkcs12.DecodeChain(raw, password)
	if err != nil {
		why := "it is not a PKCS#12 file with one private key and its certificate"
		if errors.Is(err, pkcs12.ErrIncorrectPassword) {
			why = "the password does not open the PKCS#12 file"
		}
		return nil, badCert(why).WithCause(err)
	}
	m, err := materialOf(key)
	if err != nil {
		return nil, err
	}
	return (&imported{key: m, chain: append([]*x509.Certificate{leaf}, chain...)}).check()
}

func parsePEM(text []byte) (*imported, error) {
	in := &imported{pem: true}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		var err error
		switch block.Type {
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, badCert("a certificate cannot be read").WithCause(err)
			}
			in.chain = append(in.chain, c)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			if in.key != nil {
				return nil, badCert("it has two private keys")
			}
			if in.key, err = parsePEMKey(block); err != nil {
				return nil, err
			}
		case "ENCRYPTED PRIVATE KEY":
			return nil, badCert("the private key is encrypted; import it in the clear or as PKCS#12")
		}
		if len(in.chain) > maxChain {
			return nil, badCert("the chain is too long")
		}
	}
	if in.key == nil {
		return nil, badCert("the private key is missing")
	}
	return in.check()
}

func parsePEMKey(block *pem.Block) (*material, error) {
	var k any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		k, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, badCert("the private key cannot be read").WithCause(err)
	}
	return materialOf(k)
}

// check finds the leaf of the key and refuses what does not belong together.
func (in *imported) check() (*imported, error) {
	if len(in.chain) == 0 {
		return nil, badCert("there is no certificate in it")
	}
	if len(in.chain) > maxChain {
		return nil, badCert("the chain is too long")
	}
	body, err := in.key.describe()
	if err != nil {
		return nil, err
	}
	if _, err := (keySpec{kty: body.Kty, curve: body.Curve, size: body.Size}).check(); err != nil {
		return nil, err
	}
	if _, err := in.leaf(in.key); err != nil {
		return nil, err
	}
	return in, nil
}

// leaf is the place of the certificate whose public key is m's.
func (in *imported) leaf(m *material) (int, error) {
	public, ok := m.signer().Public().(interface{ Equal(crypto.PublicKey) bool })
	if ok {
		for i, c := range in.chain {
			if public.Equal(c.PublicKey) {
				return i, nil
			}
		}
	}
	return 0, apierr.New(apierr.BadRequest, "BadParameter", "The public key of the end-entity certificate in the specified X.509 certificate content does not match the public part of the specified private key. Please check if certificate is valid.")
}

// ordered is the chain with the leaf first, and as given where keep is set:
// then the leaf is returned apart.
func (in *imported) ordered(m *material, keep bool) (leaf *x509.Certificate, chain []*x509.Certificate, err error) {
	i, err := in.leaf(m)
	if err != nil {
		return nil, nil, err
	}
	leaf = in.chain[i]
	if keep {
		return leaf, in.chain, nil
	}
	chain = []*x509.Certificate{leaf}
	for j, c := range in.chain {
		if j != i {
			chain = append(chain, c)
		}
	}
	return leaf, chain, nil
}
