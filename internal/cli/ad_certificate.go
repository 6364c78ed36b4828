package cli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"
)

func certificateArgs() []arg {
	return []arg{opt("cert", "A certificate's PEM in place of a password. @FILE reads a file."),
		flagOpt("create-cert", "A new self-signed certificate in place of a password; it and its key go into a file in your home folder.")}
}

// byCertificate reports whether a certificate is asked for in place of a password.
func (c *call) byCertificate() bool { return c.given("cert") || c.flag("create-cert") }

// certificate is that of --cert, or the new one of --create-cert with the file
// that it and its key were written to.
func (c *call) certificate(end time.Time) (der []byte, file string, err error) {
	if c.flag("create-cert") {
		return c.newCertificate(end)
	}
	block, _ := pem.Decode([]byte(c.text("cert")))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, "", usagef("argument --cert: not a PEM certificate; @FILE reads a file")
	}
	return block.Bytes, "", nil
}

func (c *call) newCertificate(end time.Time) (der []byte, file string, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, "", fmt.Errorf("making a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, "", fmt.Errorf("making a certificate: %w", err)
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "CLI-Login"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: end}
	if der, err = x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key); err != nil {
		return nil, "", fmt.Errorf("making a certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("making a key: %w", err)
	}
	f, err := os.CreateTemp(c.env.Getenv("HOME"), "tmp*.pem") // mode 0600
	if err != nil {
		return nil, "", fmt.Errorf("writing the certificate: %w", err)
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}), pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der}), f.Close())
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("writing the certificate: %w", err), os.Remove(f.Name()))
	}
	c.warn("WARNING: Please copy %s to a safe place. When you run 'az login', provide the file path in the --certificate argument", f.Name())
	return der, f.Name(), nil
}

// setCertificate gives the object at path the certificate; kept are the
// credentials that stay.
func (c *call) setCertificate(ctx context.Context, g *graph, path string, kept []any, end time.Time) (file string, err error) {
	der, file, err := c.certificate(end)
	if err != nil {
		return "", err
	}
	keys := append(append([]any{}, kept...), object{"type": "AsymmetricX509Cert", "usage": "Verify", "key": base64.StdEncoding.EncodeToString(der),
		"displayName": c.text("display-name"), "endDateTime": end.UTC().Format(time.RFC3339), "startDateTime": time.Now().UTC().Format(time.RFC3339)})
	return file, g.patch(ctx, path, object{"keyCredentials": keys})
}
