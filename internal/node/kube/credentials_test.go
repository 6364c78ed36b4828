package kube_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/kube"
)

const life = 90 * 24 * time.Hour

// clock is the time of the credentials under test.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newKey(t *testing.T) node.Key {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return node.Key{ID: "k", PEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

func spec(keys ...node.Key) node.Cluster {
	return node.Cluster{
		UID: "c1", Name: "C1", Version: "1.37.2", Running: true, Keys: keys,
		Issuer: "https://issuer.test/tenant/c1/", JWKSURI: "https://issuer.test/tenant/c1/openid/v1/jwks",
		PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.0.0.0/16", DNSServiceIP: "10.0.0.10", Names: []string{"c1.hcp.eastus.azmk8s.io"},
		Nodes: []node.Node{{Name: "node1", Pool: "pool", CPUMillis: 2000, MemoryMiB: 4096, MaxPods: 110, Labels: map[string]string{"agentpool": "pool", "kubernetes.azure.com/mode": "system"}}},
	}
}

func openCredentials(t *testing.T, dir string, c *clock) *kube.Credentials {
	t.Helper()
	creds, err := kube.OpenCredentials(kube.CredentialsConfig{Dir: dir, Server: netip.MustParseAddr("198.18.3.2"), Life: life, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func leaf(t *testing.T, path ...string) *x509.Certificate {
	t.Helper()
	raw := read(t, path...)
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func pool(t *testing.T, raw []byte) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(raw) {
		t.Fatal("no certificate")
	}
	return p
}

// build leaves all files of a cluster with one node in a new folder.
func build(t *testing.T, c *clock, s node.Cluster) (*kube.Credentials, string, string) {
	t.Helper()
	dir := t.TempDir()
	creds := openCredentials(t, dir, c)
	if _, err := creds.ControlPlane(s); err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(dir, "nodes", "node1", "files")
	if err := creds.Node(files, kube.ViewFiles, "node1", netip.MustParseAddr("198.18.3.16")); err != nil {
		t.Fatal(err)
	}
	return creds, filepath.Join(dir, "control"), files
}

func TestCertificatesAreVerifiedBothWays(t *testing.T) {
	c := &clock{time.Now()}
	creds, control, files := build(t, c, spec(newKey(t)))
	ca := pool(t, read(t, control, "kube-apiserver", "ca.crt"))
	front := pool(t, read(t, control, "kube-apiserver", "front-proxy-ca.crt"))
	admin, err := creds.Admin()
	if err != nil {
		t.Fatal(err)
	}
	adminFile := filepath.Join(t.TempDir(), "admin.pem")
	if err := os.WriteFile(adminFile, slices.Concat(admin.Cert, admin.Key), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		file   string
		roots  *x509.CertPool
		user   string
		groups []string
		names  string // what a server is reached at
	}{
		{control + "/kube-apiserver/serving.pem", ca, "kube-apiserver", nil, "198.18.3.2 127.0.0.1 10.0.0.1 kubernetes.default.svc c1.hcp.eastus.azmk8s.io"},
		{control + "/kube-apiserver/kubelet-client.pem", ca, "kube-apiserver-kubelet-client", []string{"system:masters"}, ""},
		{control + "/kube-apiserver/front-proxy-client.pem", front, "front-proxy-client", nil, ""},
		{control + "/kube-controller-manager/client.pem", ca, "system:kube-controller-manager", nil, ""},
		{control + "/kube-scheduler/client.pem", ca, "system:kube-scheduler", nil, ""},
		{control + "/lazurite-controller/client.pem", ca, kube.ControllerUser, nil, ""},
		{files + "/kubelet.pem", ca, "system:node:node1", []string{"system:nodes"}, ""},
		{files + "/kubelet-serving.pem", ca, "system:node:node1", []string{"system:nodes"}, "198.18.3.16 node1"},
		{files + "/kube-proxy.pem", ca, "system:kube-proxy", nil, ""},
		{files + "/lazurite-node.pem", ca, "lazurite:node:node1", []string{kube.NodesGroup}, ""},
		{adminFile, ca, "masterclient", []string{"system:masters"}, ""},
	} {
		cert := leaf(t, tt.file)
		usage := x509.ExtKeyUsageClientAuth
		if tt.names != "" {
			usage = x509.ExtKeyUsageServerAuth
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: tt.roots, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: c.now}); err != nil {
			t.Errorf("%s: %v", tt.file, err)
		}
		if cert.Subject.CommonName != tt.user || !slices.Equal(cert.Subject.Organization, tt.groups) {
			t.Errorf("%s: got %s of %q, want %s of %q", tt.file, cert.Subject.CommonName, cert.Subject.Organization, tt.user, tt.groups)
		}
		for _, name := range strings.Fields(tt.names) {
			if err := cert.VerifyHostname(name); err != nil {
				t.Errorf("%s: %v", tt.file, err)
			}
		}
	}
	// Each authority vouches for its own alone, and clients can't serve.
	for file, roots := range map[string]*x509.CertPool{"front-proxy-client.pem": ca, "kubelet-client.pem": front} {
		if _, err := leaf(t, control, "kube-apiserver", file).Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
			t.Errorf("%s is accepted by the other authority", file)
		}
	}
	if _, err := leaf(t, files, "kubelet.pem").Verify(x509.VerifyOptions{Roots: ca, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a client's certificate serves")
	}
}

func TestCertificatesAreRenewedBeforeAThirdIsLeft(t *testing.T) {
	began := time.Now().Truncate(time.Second)
	c := &clock{began}
	s := spec(newKey(t))
	creds, control, files := build(t, c, s)
	all := []string{
		filepath.Join(control, "kube-apiserver", "serving.pem"), filepath.Join(control, "kube-apiserver", "front-proxy-client.pem"),
		filepath.Join(control, "kube-scheduler", "client.pem"), filepath.Join(files, "kubelet.pem"), filepath.Join(files, "kubelet-serving.pem"),
	}
	renew := func() (map[string]string, []string) {
		t.Helper()
		stamps, err := creds.ControlPlane(s)
		if err == nil {
			err = creds.Node(files, kube.ViewFiles, "node1", netip.MustParseAddr("198.18.3.16"))
		}
		if err != nil {
			t.Fatal(err)
		}
		var serials []string
		for _, f := range all {
			serials = append(serials, leaf(t, f).SerialNumber.String())
		}
		return stamps, serials
	}
	stamps, first := renew()
	admin, err := creds.Admin()
	if err != nil {
		t.Fatal(err)
	}
	c.now = began.Add(life*2/3 - time.Hour)
	if _, got := renew(); !slices.Equal(got, first) {
		t.Error("certificates are renewed too early")
	}
	c.now = began.Add(life * 2 / 3).Add(creds.RenewEvery())
	stampsThen, got := renew()
	for i := range got {
		if got[i] == first[i] {
			t.Errorf("%s is not renewed", all[i])
		}
		if end := leaf(t, all[i]).NotAfter; !end.Equal(c.now.Add(life)) {
			t.Errorf("%s ends at %s, want %s", all[i], end, c.now.Add(life))
		}
	}
	if diff := cmp.Diff(stamps, stampsThen); diff != "" {
		t.Errorf("a renewal restarts components: %s", diff)
	}
	if next, err := creds.Admin(); err != nil || bytes.Equal(next.Cert, admin.Cert) || !next.NotAfter.Equal(c.now.Add(life)) {
		t.Errorf("administrators' credentials: %v, until %s", err, next.NotAfter)
	}
}

func TestCertificatesFollowTheSpecification(t *testing.T) {
	c := &clock{time.Now()}
	first, second := newKey(t), newKey(t)
	s := spec(first)
	creds, control, _ := build(t, c, s)
	before, err := creds.ControlPlane(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Names = append(s.Names, "other.test")
	s.Keys = []node.Key{second, first}
	after, err := creds.ControlPlane(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf(t, control, "kube-apiserver", "serving.pem").VerifyHostname("other.test"); err != nil {
		t.Error(err)
	}
	if got := read(t, control, "kube-apiserver", "service-account.key"); !bytes.Equal(got, second.PEM) {
		t.Error("the new key does not sign")
	}
	if got := bytes.Count(read(t, control, "kube-apiserver", "service-account.pub"), []byte("BEGIN PUBLIC KEY")); got != 2 {
		t.Errorf("%d keys verify, want 2", got)
	}
	for component, restarts := range map[string]bool{"kube-apiserver": true, "kube-controller-manager": true, "kube-scheduler": false, "etcd": false} {
		if got := before[component] != after[component]; got != restarts {
			t.Errorf("%s starts anew: %v, want %v", component, got, restarts)
		}
	}
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	_, control, files := build(t, &clock{time.Now()}, spec(newKey(t)))
	for _, dir := range []string{filepath.Dir(control), files} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			if err == nil && fi.Mode().Perm()&0o077 != 0 && !(d.IsDir() && path == dir || filepath.Base(path) == "control" || filepath.Base(path) == "nodes" || filepath.Base(path) == "node1") {
				t.Errorf("%s has mode %s", path, fi.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAuthoritiesSurvive(t *testing.T) {
	c := &clock{time.Now()}
	dir := t.TempDir()
	first, err := openCredentials(t, dir, c).Admin()
	if err != nil {
		t.Fatal(err)
	}
	second, err := openCredentials(t, dir, c).Admin()
	if err != nil || !bytes.Equal(first.CA, second.CA) || !bytes.Equal(first.Cert, second.Cert) {
		t.Errorf("a restart makes other credentials: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pki", "kubernetes-ca.pem"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.OpenCredentials(kube.CredentialsConfig{Dir: dir, Server: netip.MustParseAddr("198.18.3.2")}); err == nil {
		t.Error("a broken authority is replaced: the cluster would not know its own any more")
	}
}

func TestSecretsAreEncryptedAndStrangersStayOutside(t *testing.T) {
	_, control, _ := build(t, &clock{time.Now()}, spec(newKey(t)))
	var encryption struct {
		Resources []struct {
			Resources []string
			Providers []map[string]any
		}
	}
	if err := json.Unmarshal(read(t, control, "kube-apiserver", "encryption.json"), &encryption); err != nil {
		t.Fatal(err)
	}
	if r := encryption.Resources; len(r) != 1 || !slices.Equal(r[0].Resources, []string{"secrets"}) || len(r[0].Providers) != 1 || r[0].Providers[0]["secretbox"] == nil {
		t.Errorf("got %v, want secretbox alone", r)
	}
	var authentication struct {
		Anonymous struct{ Conditions []struct{ Path string } }
	}
	if err := json.Unmarshal(read(t, control, "kube-apiserver", "authentication.json"), &authentication); err != nil {
		t.Fatal(err)
	}
	if len(authentication.Anonymous.Conditions) == 0 {
		t.Error("whoever has no name may ask for everything")
	}
	for _, c := range authentication.Anonymous.Conditions {
		if strings.HasPrefix(c.Path, "/api") {
			t.Errorf("whoever has no name may ask for %s", c.Path)
		}
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	creds := openCredentials(t, t.TempDir(), &clock{time.Now()})
	for name, keys := range map[string][]node.Key{
		"none":       nil,
		"no PEM":     {{ID: "k", PEM: []byte("x")}},
		"not a key":  {{ID: "k", PEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})}},
		"one is bad": {newKey(t), {ID: "k", PEM: []byte("secret")}},
	} {
		if _, err := creds.ControlPlane(spec(keys...)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want a refusal without the key", name, err)
		}
	}
}
