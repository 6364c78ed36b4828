package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lazurite.dev/internal/durable"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	// LeafLife is how long a certificate of a component is good for.
	LeafLife = 365 * 24 * time.Hour
	skew     = 5 * time.Minute // certificates begin in the past, for clocks that are behind
)

// authority is a certificate authority of one cluster.
type authority struct {
	cert *x509.Certificate
	pem  []byte // of the certificate
	key  *ecdsa.PrivateKey
}

// Identity is whom a certificate stands for.
type Identity struct {
	User   string   // common name: the user to Kubernetes
	Groups []string // organizations: the groups to Kubernetes
	Server bool     // it also serves, as the names and addresses below
	Names  []string
	IPs    []netip.Addr
}

// loadAuthority reads the authority of that name in folder dir, or makes one
// that lives for life. Key and certificate are in one file, so that no crash
// parts them; the certificate is in NAME.crt too.
func loadAuthority(dir, name string, now time.Time) (*authority, error) {
	path := filepath.Join(dir, name+".pem")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = newAuthority(name, now)
		if err == nil {
			err = writeFile(path, raw, owner{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority %s: %w", name, err)
	}
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return nil, fmt.Errorf("certificate authority %s: %w", path, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("certificate authority %s: it is none with an ECDSA key", path)
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("certificate authority %s: it ended on %s", path, pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	return &authority{cert: pair.Leaf, pem: certPEM(pair.Leaf.Raw), key: key}, nil
}

func newAuthority(name string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return sign(tmpl, tmpl, key, key)
}

// issue makes a certificate with a new key; both come in one PEM text.
func (a *authority) issue(id Identity, now time.Time, life time.Duration) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.User, Organization: id.Groups},
		NotBefore:   now.Add(-min(skew, life/10)),
		NotAfter:    now.Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:    id.Names,
	}
	if id.Server {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, ip := range id.IPs {
		tmpl.IPAddresses = append(tmpl.IPAddresses, net.IP(ip.AsSlice()))
	}
	if tmpl.NotAfter.After(a.cert.NotAfter) {
		tmpl.NotAfter = a.cert.NotAfter
	}
	return sign(tmpl, a.cert, key, a.key)
}

// sign finishes tmpl for key and returns the PEM of both.
func sign(tmpl, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	tmpl.SerialNumber = serial.Add(serial, big.NewInt(1))
	if tmpl.IsCA {
		pub, err := key.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(pub)
		tmpl.SubjectKeyId = sum[:20]
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(certPEM(der), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...), nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// ensure leaves at path a certificate of this authority for the identity that
// has more than a third of its life before it, and says whether it had to make
// one. The file holds certificate and key.
func (a *authority) ensure(path string, id Identity, now time.Time, life time.Duration, own owner) (bool, error) {
	raw, err := os.ReadFile(path)
	if err == nil && a.good(raw, id, now) {
		return false, own.take(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("certificate of %s: %w", id.User, err)
	}
	if raw, err = a.issue(id, now, life); err == nil {
		err = writeFile(path, raw, own)
	}
	if err != nil {
		return false, fmt.Errorf("certificate of %s: %w", id.User, err)
	}
	return true, nil
}

// good reports whether the PEM text still serves for the identity.
func (a *authority) good(raw []byte, id Identity, now time.Time) bool {
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return false
	}
	c := pair.Leaf
	left, life := c.NotAfter.Sub(now), c.NotAfter.Sub(c.NotBefore)
	if left <= life/3 || now.Before(c.NotBefore) || c.CheckSignatureFrom(a.cert) != nil {
		return false
	}
	ips := make([]netip.Addr, 0, len(c.IPAddresses))
	for _, ip := range c.IPAddresses {
		addr, _ := netip.AddrFromSlice(ip)
		ips = append(ips, addr.Unmap())
	}
	usage := x509.ExtKeyUsageClientAuth
	if id.Server {
		usage = x509.ExtKeyUsageServerAuth
	}
	return c.Subject.CommonName == id.User && slices.Equal(c.Subject.Organization, id.Groups) &&
		slices.Equal(c.DNSNames, id.Names) && slices.Equal(ips, id.IPs) && slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{usage})
}

// split parts the PEM text of ensure into certificate and key.
func split(raw []byte) (cert, key []byte, notAfter time.Time, err error) {
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert = append(cert, pem.EncodeToMemory(block)...)
		} else {
			key = pem.EncodeToMemory(block)
		}
	}
	return cert, key, pair.Leaf.NotAfter, nil
}

// owner is who a file belongs to; the zero value is whoever writes it.
type owner struct{ uid, gid int }

func (o owner) take(path string) error {
	if o == (owner{}) {
		return nil
	}
	return os.Chown(path, o.uid, o.gid)
}

// writeFile leaves either the old content or the new one at path, readable by its
// owner alone.
func writeFile(path string, content []byte, own owner) error {
	return durable.Replace(path, func(f *os.File) error {
		_, err := f.Write(content)
		return errors.Join(err, own.take(f.Name()))
	})
}

// updateFile is writeFile unless the content is there already; it says whether
// it wrote.
func updateFile(path string, content []byte, own owner) (bool, error) {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, content) {
		return false, own.take(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, writeFile(path, content, own)
}
