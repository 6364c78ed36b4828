// Package ca is the local certificate authority: made at the first start, it
// issues certificates for the names that Lazurite owns, when a client asks for
// one, and for no others.
//
// The authority carries no name constraints, because it answers for public
// names too; what protects its holder is that the key never leaves a file that
// only its user can read, and that no trust store is ever edited: only
// processes started under Lazurite's environment trust it.
package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/durable"
)

// ErrNotOwned is wrapped by the error for a name that Lazurite does not answer for.
var ErrNotOwned = errors.New("not a name of this system")

// Files of an authority, inside its folder.
const (
	keyFile    = "ca-key.pem"    // private key and certificate together, so that a crash can't part them; 0600
	certFile   = "ca.pem"        // the certificate alone
	bundleFile = "ca-bundle.pem" // the system's roots, then ours
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	renewBefore   = 30 * 24 * time.Hour
	skew          = time.Hour // certificates begin in the past, for clients whose clock is behind
	maxCached     = 1024
)

// Authority issues certificates. Its methods may be called at the same time.
type Authority struct {
	dir   string
	cert  *x509.Certificate
	pem   []byte
	key   *ecdsa.PrivateKey
	owned func(name string) bool
	now   func() time.Time

	mu     sync.Mutex // guards leaves and given
	leaves map[string]*tls.Certificate
	given  []tls.Certificate
}

// Config says what an authority is opened with.
type Config struct {
	Dir   string                 // its folder, which exists
	Owned func(name string) bool // whether a certificate may be made for a lower-case host name
	Roots string                 // file of the system's roots; "" looks where systems keep them
	Now   func() time.Time       // nil is time.Now
}

// Open reads the authority in cfg.Dir, or makes one, and writes the files that
// clients are pointed to.
func Open(cfg Config) (*Authority, error) {
	a := &Authority{dir: cfg.Dir, owned: cfg.Owned, now: cfg.Now, leaves: map[string]*tls.Certificate{}}
	if a.now == nil {
		a.now = time.Now
	}
	raw, err := os.ReadFile(filepath.Join(cfg.Dir, keyFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = a.create()
	case err == nil:
		err = a.load(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the certificate authority in %s: %w", cfg.Dir, err)
	}
	if err := a.publish(cfg.Roots); err != nil {
		return nil, fmt.Errorf("writing the certificate files in %s: %w", cfg.Dir, err)
	}
	return a, nil
}

// CertFile is the path of the authority's certificate.
func (a *Authority) CertFile() string { return CertFile(a.dir) }

// BundleFile is the path of the system's roots and ours together.
func (a *Authority) BundleFile() string { return BundleFile(a.dir) }

// CertFile is the path of the certificate of the authority in folder dir.
func CertFile(dir string) string { return filepath.Join(dir, certFile) }

// BundleFile is the path of the bundle of the authority in folder dir.
func BundleFile(dir string) string { return filepath.Join(dir, bundleFile) }

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return bytes.Clone(a.pem) }

// Certificate is the authority's certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Pool trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *Authority) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := a.now()
	pub, err := key.PublicKey.Bytes()
	if err != nil {
		return err
	}
	id := sha256.Sum256(pub)
	tmpl := &x509.Certificate{
		SerialNumber: serial(),
		// The fingerprint keeps two folders' authorities apart for whoever trusts both.
		Subject:               pkix.Name{Organization: []string{"Lazurite"}, CommonName: "Lazurite local CA " + hex.EncodeToString(id[:4])},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          id[:20],
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	raw := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := durable.WriteFile(filepath.Join(a.dir, keyFile), raw, 0o600); err != nil {
		return err
	}
	return a.load(raw)
}

func (a *Authority) load(raw []byte) error {
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return fmt.Errorf("%s: %w", keyFile, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return fmt.Errorf("%s: not an ECDSA authority", keyFile)
	}
	if a.now().After(pair.Leaf.NotAfter) {
		return fmt.Errorf("%s: expired on %s; remove the file to get a new authority", keyFile, pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	a.cert, a.key = pair.Leaf, key
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})
	return os.Chmod(filepath.Join(a.dir, keyFile), 0o600)
}

// publish writes what clients read. The files are rewritten at each start:
// the system's roots change. So nothing is lost with them, and no disk waited for.
func (a *Authority) publish(roots string) error {
	if err := writeFile(a.CertFile(), a.pem, 0o644); err != nil {
		return err
	}
	bundle := systemRoots(roots)
	if len(bundle) > 0 && bundle[len(bundle)-1] != '\n' {
		bundle = append(bundle, '\n')
	}
	return writeFile(a.BundleFile(), append(bundle, a.pem...), 0o644)
}

// systemRoots reads the first file of roots that is there. A system without
// any leaves the bundle with ours alone.
func systemRoots(given string) []byte {
	files := []string{given}
	if given == "" {
		files = []string{ // the list of crypto/x509, root_linux.go and root_bsd.go
			"/etc/ssl/certs/ca-certificates.crt",
			"/etc/pki/tls/certs/ca-bundle.crt",
			"/etc/ssl/ca-bundle.pem",
			"/etc/pki/tls/cacert.pem",
			"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
			"/etc/ssl/cert.pem",
			"/usr/local/etc/ssl/cert.pem",
		}
	}
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil {
			return raw
		}
	}
	return nil
}

// AddCertificate takes a certificate that an operator gives, with its chain
// and key as PEM files; it goes before issued ones for the names in it.
func (a *Authority) AddCertificate(certPath, keyPath string) error {
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return fmt.Errorf("reading certificate %s: %w", certPath, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.given = append(a.given, pair)
	return nil
}

// GetCertificate is for tls.Config's field of that name. A client that names
// no server gets the first given certificate, else one for this machine; for
// one that names a server which is not ours it is nil without an error, and
// the client gets the alert unrecognized_name.
func (a *Authority) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	given := a.given
	a.mu.Unlock()
	name := hello.ServerName
	for i := range given {
		if name == "" || given[i].Leaf.VerifyHostname(name) == nil {
			return &given[i], nil
		}
	}
	if name == "" {
		name = "localhost"
	}
	c, err := a.Leaf(name)
	if errors.Is(err, ErrNotOwned) {
		return nil, nil
	}
	return c, err
}

// Leaf is a certificate for name, made now or earlier; ErrNotOwned for a name
// that is not Lazurite's. "localhost" is always owned and holds the loopback
// addresses.
func (a *Authority) Leaf(name string) (*tls.Certificate, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name != "localhost" && !a.owned(name) {
		return nil, fmt.Errorf("certificate for %q: %w", name, ErrNotOwned)
	}
	now := a.now()
	a.mu.Lock()
	c := a.leaves[name]
	a.mu.Unlock()
	if c != nil && now.Before(c.Leaf.NotAfter.Add(-renewBefore)) {
		return c, nil
	}
	c, err := a.issue(name, now)
	if err != nil {
		return nil, fmt.Errorf("certificate for %q: %w", name, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.leaves) >= maxCached {
		clear(a.leaves) // whoever asks for thousands of names pays with their reissue, not with memory
	}
	a.leaves[name] = c
	return c, nil
}

func (a *Authority) issue(name string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	end := now.Add(leafLife)
	if a.cert.NotAfter.Before(end) {
		end = a.cert.NotAfter
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"Lazurite"}},
		NotBefore:    now.Add(-skew),
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{name},
	}
	if len(name) <= 64 { // the upper bound of a common name, RFC 5280 appendix A
		tmpl.Subject.CommonName = name
	}
	if name == "localhost" {
		tmpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

// writeFile replaces path at once: a reader sees the old or the new content.
// A file that already holds raw is left alone.
func writeFile(path string, raw []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, raw) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
