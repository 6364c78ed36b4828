package cli

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // x5t is defined by SHA-1 (RFC 7515 section 4.1.7); it names a certificate, it proves nothing
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
)

// certificateAssertion signs a client assertion by the private key of a PEM
// file that also holds the certificate (RFC 7523 section 2.2).
func certificateAssertion(path, clientID, audience string) (string, error) {
	key, cert, err := readKeyPair(path)
	if err != nil {
		return "", err
	}
	sum1, sum256 := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw)
	now := time.Now().Unix()
	header, err := json.Marshal(object{"alg": "PS256", "typ": "JWT", "x5t": b64(sum1[:]), "x5t#S256": b64(sum256[:]), "x5c": []string{base64.StdEncoding.EncodeToString(cert.Raw)}})
	if err != nil {
		return "", fmt.Errorf("write the assertion: %w", err)
	}
	payload, err := json.Marshal(object{"aud": audience, "iss": clientID, "sub": clientID, "jti": uuid.NewString(),
		"nbf": now - 10, "iat": now, "exp": now + 600})
	if err != nil {
		return "", fmt.Errorf("write the assertion: %w", err)
	}
	signed := b64(header) + "." + b64(payload)
	digest := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		return "", fmt.Errorf("sign the assertion: %w", err)
	}
	return signed + "." + b64(sig), nil
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func readKeyPair(path string) (*rsa.PrivateKey, *x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the certificate: %w", err)
	}
	var key *rsa.PrivateKey
	var cert *x509.Certificate
	for p, rest := pem.Decode(b); p != nil; p, rest = pem.Decode(rest) {
		switch p.Type {
		case "CERTIFICATE":
			if cert == nil {
				if cert, err = x509.ParseCertificate(p.Bytes); err != nil {
					return nil, nil, fmt.Errorf("read the certificate: %w", err)
				}
			}
		case "RSA PRIVATE KEY":
			if key, err = x509.ParsePKCS1PrivateKey(p.Bytes); err != nil {
				return nil, nil, fmt.Errorf("read the private key: %w", err)
			}
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(p.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("read the private key: %w", err)
			}
			key, _ = k.(*rsa.PrivateKey)
		}
	}
	if key == nil || cert == nil {
		return nil, nil, failf("%s must hold an RSA private key and its certificate in PEM", path)
	}
	return key, cert, nil
}
