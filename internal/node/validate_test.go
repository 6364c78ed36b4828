package node_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/node"
)

func rsaPEM(bits int) []byte {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
}

var key = sync.OnceValue(func() []byte { return rsaPEM(2048) })

// authority is a certificate.
var authority = sync.OnceValue(func() []byte {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
})

func good() node.Cluster {
	return node.Cluster{
		UID: "33333333-3333-3333-3333-333333333333", Name: "myCluster", Version: "1.37.2", Running: true,
		ResourceID: "/subscriptions/s/resourceGroups/my group (1)/providers/Microsoft.ContainerService/managedClusters/myCluster",
		Issuer:     "https://eastus.oic.prod-aks.azure.com/t/u/", JWKSURI: "https://eastus.oic.prod-aks.azure.com/t/u/openid/v1/jwks",
		Keys: []node.Key{{ID: "k-1", PEM: key()}}, PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.0.0.0/16", DNSServiceIP: "10.0.0.10",
		Names: []string{"my-dns-abc.hcp.eastus.azmk8s.io"},
		Pull: &node.Pull{
			Registries: []string{"*.azurecr.io", "*.registry.lazurite.test"}, TokenURL: "https://login.microsoftonline.com/msi/token", CA: authority(),
			Secret: "0123456789abcdef0123456789abcdef",
		},
		Nodes: []node.Node{{
			Name: "aks-nodepool1-12345678-vmss000000", Pool: "nodepool1", CPUMillis: 2000, MemoryMiB: 4096, MaxPods: 110,
			Labels: map[string]string{"kubernetes.azure.com/mode": "system", "agentpool": "nodepool1", "empty": ""}, Taints: []string{"sku=gpu:NoSchedule", "only:NoExecute"},
		}},
	}
}

func TestValidate(t *testing.T) {
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*node.Cluster){
		"uid":                    func(c *node.Cluster) { c.UID = "../x" },
		"uid \"\"":               func(c *node.Cluster) { c.UID = "" },
		"uid \"A":                func(c *node.Cluster) { c.UID = "Abc" },
		"name":                   func(c *node.Cluster) { c.Name = "a\nb" },
		"resource id":            func(c *node.Cluster) { c.ResourceID = "/x;rm" },
		"version":                func(c *node.Cluster) { c.Version = "1.37" },
		"issuer":                 func(c *node.Cluster) { c.Issuer = "http://x/" },
		"trailing slash":         func(c *node.Cluster) { c.Issuer = "https://x" },
		"JWKS":                   func(c *node.Cluster) { c.JWKSURI = "https://x/ --flag" },
		"0 keys":                 func(c *node.Cluster) { c.Keys = nil },
		"key id":                 func(c *node.Cluster) { c.Keys[0].ID = "a/b" },
		"no PEM":                 func(c *node.Cluster) { c.Keys[0].PEM = []byte("secret text") },
		"2048 to 8192":           func(c *node.Cluster) { c.Keys[0].PEM = rsaPEM(1024) },
		"key \"k-1\" is no":      func(c *node.Cluster) { c.Keys[0].PEM = append(bytes.Clone(key()), key()...) },
		"pod CIDR":               func(c *node.Cluster) { c.PodCIDR = "10.244.1.0/16" },
		"overlap":                func(c *node.Cluster) { c.PodCIDR = "10.0.0.0/16" },
		"169.254":                func(c *node.Cluster) { c.PodCIDR = "169.254.0.0/16" },
		"198.18.0.0/15":          func(c *node.Cluster) { c.ServiceCIDR, c.DNSServiceIP = "198.18.0.0/16", "198.18.0.10" },
		"/9 to /20":              func(c *node.Cluster) { c.PodCIDR = "10.0.0.0/24" },
		"service CIDR":           func(c *node.Cluster) { c.ServiceCIDR = "fd00::/64" },
		"DNS":                    func(c *node.Cluster) { c.DNSServiceIP = "10.1.0.10" },
		"DNS service":            func(c *node.Cluster) { c.DNSServiceIP = "10.0.0.1" },
		"further name":           func(c *node.Cluster) { c.Names = []string{"UPPER,IP:1.2.3.4"} },
		"0 patterns of":          func(c *node.Cluster) { c.Pull.Registries = nil },
		"registries \"*\"":       func(c *node.Cluster) { c.Pull.Registries = []string{"*"} },
		"registries \"*.*.io\"":  func(c *node.Cluster) { c.Pull.Registries = []string{"*.*.io"} },
		"registries \"a/b\"":     func(c *node.Cluster) { c.Pull.Registries = []string{"a/b"} },
		"kubelets' tokens":       func(c *node.Cluster) { c.Pull.TokenURL = "http://login.microsoftonline.com/msi/token" },
		"PEM of certificates":    func(c *node.Cluster) { c.Pull.CA = append(authority(), key()...) },
		"no PEM of certificates": func(c *node.Cluster) { c.Pull.CA = []byte("secret text") },
		"can be guessed":         func(c *node.Cluster) { c.Pull.Secret = "secret text" },
		"101 nodes":              func(c *node.Cluster) { c.Nodes = make([]node.Node, 101) },
		"comes twice":            func(c *node.Cluster) { c.Nodes = append(c.Nodes, c.Nodes[0]) },
		"node name":              func(c *node.Cluster) { c.Nodes[0].Name = "a/b" },
		"node name \"control\"":  func(c *node.Cluster) { c.Nodes[0].Name = "control" },
		"pool":                   func(c *node.Cluster) { c.Nodes[0].Pool = "a b" },
		"of a processor":         func(c *node.Cluster) { c.Nodes[0].CPUMillis = -1 },
		"of memory":              func(c *node.Cluster) { c.Nodes[0].MemoryMiB = 1 },
		"pods":                   func(c *node.Cluster) { c.Nodes[0].MaxPods = 1000 },
		"label":                  func(c *node.Cluster) { c.Nodes[0].Labels["a b"] = "" },
		"label \"agentpool\"=\"": func(c *node.Cluster) { c.Nodes[0].Labels["agentpool"] = "x,y" },
		"taint":                  func(c *node.Cluster) { c.Nodes[0].Taints = []string{"a=b:Never"} },
	} {
		c := good()
		spoil(&c)
		err := c.Validate()
		if !errors.Is(err, node.ErrInvalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v", what, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret text") {
			t.Errorf("a key's text is in %v", err)
		}
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	c := node.Credentials{Server: "https://x", Key: []byte("hidden")}
	p := node.Cluster{Pull: &node.Pull{Secret: "hidden"}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, []any{node.Key{ID: "a", PEM: []byte("hidden")}, c, *p.Pull, p.Pull}); strings.Contains(s, "hidden") || strings.Contains(s, "104 105 100") || strings.Contains(s, "0x68") {
			t.Errorf("%s: %s", format, s)
		}
	}
}

func TestDecodeCluster_Refusals(t *testing.T) {
	raw, err := json.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.DecodeCluster(raw); err != nil {
		t.Errorf("its own JSON: %v", err)
	}
	for _, s := range []string{"", "{}", "null", "[]", string(raw) + "{}", strings.Replace(string(raw), `"UID"`, `"Path"`, 1), strings.Repeat(" ", 2<<20)} {
		if _, err := node.DecodeCluster([]byte(s)); !errors.Is(err, node.ErrInvalid) {
			t.Errorf("%.40q: got %v", s, err)
		}
	}
}

func FuzzDecodeCluster(f *testing.F) {
	raw, err := json.Marshal(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"UID":"a","Nodes":[{"Labels":{"a":"b"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := node.DecodeCluster(b)
		if err != nil {
			return
		}
		for _, s := range []string{c.UID, c.Name, c.Issuer, c.PodCIDR} {
			if strings.ContainsAny(s, "\x00\n") || s == ".." {
				t.Errorf("%q was taken", s)
			}
		}
		if err := c.Validate(); err != nil {
			t.Errorf("taken and then refused: %v", err)
		}
	})
}

func TestInstance(t *testing.T) {
	dir := t.TempDir()
	a, err := node.Instance(dir)
	if err != nil || len(a) != 8 {
		t.Fatalf("got %q, %v", a, err)
	}
	if b, err := node.Instance(dir + "/x/../"); err != nil || b != a {
		t.Errorf("got %q, %v, want %q", b, err, a)
	}
	if b, err := node.Instance(dir + "/x"); err != nil || b == a {
		t.Errorf("another folder: got %q, %v", b, err)
	}
}
