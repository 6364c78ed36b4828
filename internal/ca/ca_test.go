package ca_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/ca"
)

func ownsVaults(name string) bool { return strings.HasSuffix(name, ".vault.azure.net") }

func open(t *testing.T, dir string, now func() time.Time) *ca.Authority {
	t.Helper()
	a, err := ca.Open(ca.Config{Dir: dir, Owned: ownsVaults, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOpen_TheSameAuthorityAgain(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, nil)
	if b := open(t, dir, nil); !a.Certificate().Equal(b.Certificate()) {
		t.Error("the second start made another authority")
	}
	fi, err := os.Stat(filepath.Join(dir, "ca-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got != 0o600 {
		t.Errorf("mode of the key: got %o, want 600", got)
	}
	bundle, err := os.ReadFile(a.BundleFile())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(bundle, a.PEM()) {
		t.Error("the bundle does not end with our certificate")
	}
}

func TestOpen_BundleHoldsTheSystemsRoots(t *testing.T) {
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, []byte("# a root without a line end"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := ca.Open(ca.Config{Dir: t.TempDir(), Owned: ownsVaults, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	bundle, _ := os.ReadFile(a.BundleFile())
	if want := "# a root without a line end\n" + string(a.PEM()); string(bundle) != want {
		t.Errorf("got %q, want %q", bundle, want)
	}
}

func TestOpen_DamagedKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), []byte("no pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Open(ca.Config{Dir: dir, Owned: ownsVaults}); err == nil {
		t.Error("a damaged key was accepted")
	}
}

func TestLeaf(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	c, err := a.Leaf("KV1.vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: "kv1.vault.azure.net"}); err != nil {
		t.Error(err)
	}
	if again, _ := a.Leaf("kv1.vault.azure.net"); again != c {
		t.Error("the second call made another certificate")
	}
	for _, name := range []string{"example.com", "vault.azure.net", ""} {
		if _, err := a.Leaf(name); !errors.Is(err, ca.ErrNotOwned) {
			t.Errorf("Leaf(%q): got %v, want ErrNotOwned", name, err)
		}
	}
}

func TestLeaf_RenewedBeforeExpiry(t *testing.T) {
	now := time.Now()
	a := open(t, t.TempDir(), func() time.Time { return now })
	first, err := a.Leaf("a.vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(59 * 24 * time.Hour)
	if c, _ := a.Leaf("a.vault.azure.net"); c != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * 24 * time.Hour)
	if c, _ := a.Leaf("a.vault.azure.net"); c == first {
		t.Error("not renewed 29 days before its end")
	}
}

func TestGetCertificate_GivenGoesFirst(t *testing.T) {
	other := open(t, t.TempDir(), nil)
	given, err := other.Leaf("g.vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	cert, key := writePair(t, given)
	a := open(t, t.TempDir(), nil)
	if err := a.AddCertificate(cert, key); err != nil {
		t.Fatal(err)
	}
	got, err := a.GetCertificate(&tls.ClientHelloInfo{ServerName: "g.vault.azure.net"})
	if err != nil || !got.Leaf.Equal(given.Leaf) {
		t.Errorf("got %v, %v; want the given certificate", got, err)
	}
	got, err = a.GetCertificate(&tls.ClientHelloInfo{ServerName: "h.vault.azure.net"})
	if err != nil || got.Leaf.VerifyHostname("h.vault.azure.net") != nil {
		t.Errorf("got %v, %v; want one issued for h", got, err)
	}
	if err := a.AddCertificate(key, cert); err == nil {
		t.Error("a key in place of the certificate was accepted")
	}
}

func TestGetCertificate_NoNameIsThisMachine(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	c, err := a.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
}

func writePair(t *testing.T, c *tls.Certificate) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	writePEM(t, cert, "CERTIFICATE", c.Certificate[0])
	writePEM(t, key, "PRIVATE KEY", der)
	return cert, key
}

func TestGetCertificate_ForeignNameIsUnrecognized(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	client, server := net.Pipe()
	go func() { _ = tls.Server(server, &tls.Config{GetCertificate: a.GetCertificate}).Handshake() }()
	err := tls.Client(client, &tls.Config{ServerName: "example.com", RootCAs: a.Pool()}).Handshake()
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("got %v, want the alert unrecognized_name", err)
	}
}
