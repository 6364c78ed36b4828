package kube

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lazurite.dev/internal/node"
)

// The components of a control plane that have a folder of files for
// themselves. Each runs under a user of its own and sees no other's, but etcd
// and the API server: what one stores the other reads anyway.
const (
	etcd       = "etcd"
	apiServer  = "kube-apiserver"
	manager    = "kube-controller-manager"
	scheduler  = "kube-scheduler"
	controller = "lazurite-controller"
)

// Users and groups of ours, to whom the cluster's own rules give rights.
const (
	ControllerUser = "lazurite:controller" // of lazurite-controller
	NodesGroup     = "lazurite:nodes"      // of lazurite-node; its user is lazurite:node:NAME
)

// Credentials is what parts of a cluster prove themselves with: its
// authorities, and a folder of files for each component, each readable by that
// component alone.
//
// Authorities live ten years. All else is made again when a third of its life
// is left; components read their certificates from files and notice by
// themselves, so nothing restarts. What needs a restart is in the digest that
// [Credentials.ControlPlane] returns.
type Credentials struct {
	dir      string // of the cluster; root's alone
	life     time.Duration
	now      func() time.Time
	ca       *authority // of clients, of the API server and of kubelets
	front    *authority // of the API server towards extension API servers
	sealing  []byte     // key of Secrets at rest, base64
	Server   string     // URL of the API server
	uid, gid int        // of etcd and the API server; the next ones are of the others. 0: whoever runs this
}

// CredentialsConfig says what credentials are opened with.
type CredentialsConfig struct {
	Dir    string        // of the cluster, which exists; its folders pki and control are made
	Server netip.Addr    // address of the API server
	Life   time.Duration // of leaf certificates; 0 is LeafLife
	Now    func() time.Time
	UID    int // first of five users and groups for the control plane; 0: files stay the caller's
}

// OpenCredentials reads the authorities in cfg.Dir, or makes them.
func OpenCredentials(cfg CredentialsConfig) (*Credentials, error) {
	c := &Credentials{
		dir: cfg.Dir, life: cfg.Life, now: cfg.Now, uid: cfg.UID, gid: cfg.UID,
		Server: "https://" + netip.AddrPortFrom(cfg.Server, node.PortAPI).String(),
	}
	if c.life == 0 {
		c.life = LeafLife
	}
	if c.now == nil {
		c.now = time.Now
	}
	dir := filepath.Join(cfg.Dir, "pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if c.ca, err = loadAuthority(dir, "kubernetes-ca", c.now()); err != nil {
		return nil, err
	}
	if c.front, err = loadAuthority(dir, "front-proxy-ca", c.now()); err != nil {
		return nil, err
	}
	if c.sealing, err = sealingKey(filepath.Join(dir, "secrets.key")); err != nil {
		return nil, fmt.Errorf("key of secrets at rest: %w", err)
	}
	return c, nil
}

// RenewEvery is how often the files have to be looked at so that none ends.
func (c *Credentials) RenewEvery() time.Duration { return max(c.life/12, time.Second) }

func sealingKey(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, 32)
		if _, err = rand.Read(key); err != nil {
			return nil, err
		}
		raw = []byte(base64.StdEncoding.EncodeToString(key))
		err = writeFile(path, raw, owner{})
	}
	if err != nil {
		return nil, err
	}
	if key, err := base64.StdEncoding.DecodeString(string(raw)); err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s does not hold 32 bytes in base64", path)
	}
	return raw, nil
}

// Folder is where the files of a component of the control plane are, on the machine.
func (c *Credentials) Folder(component string) string {
	return filepath.Join(c.dir, "control", component)
}

// Owner is the user and group that a component of the control plane runs as.
func (c *Credentials) Owner(component string) (uid, gid int) {
	o := c.owner(component)
	return o.uid, o.gid
}

func (c *Credentials) owner(component string) owner {
	i := slices.Index([]string{apiServer, manager, scheduler, controller}, component) // etcd: as the API server
	if c.uid == 0 {
		return owner{}
	}
	return owner{c.uid + max(i, 0), c.gid + max(i, 0)}
}

// folder makes the folder of a component.
func (c *Credentials) folder(component string) (string, owner, error) {
	dir, own := c.Folder(component), c.owner(component)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = own.take(dir)
	}
	return dir, own, err
}

// ControlPlane leaves all files of the control plane as the specification and
// the time want them. The digests tell, by component, when its process has to
// start again to notice.
func (c *Credentials) ControlPlane(s node.Cluster) (map[string]string, error) {
	digests := map[string]string{}
	for component, write := range map[string]func(string, owner, node.Cluster) (string, error){
		etcd: c.etcdFiles, apiServer: c.apiServerFiles, manager: c.managerFiles, scheduler: c.schedulerFiles, controller: c.controllerFiles,
	} {
		dir, own, err := c.folder(component)
		if err == nil {
			digests[component], err = write(dir, own, s)
		}
		if err != nil {
			return nil, fmt.Errorf("files of %s: %w", component, err)
		}
	}
	return digests, nil
}

func (c *Credentials) etcdFiles(dir string, own owner, _ node.Cluster) (string, error) {
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return "", err
	}
	return "", own.take(data)
}

func (c *Credentials) apiServerFiles(dir string, own owner, s node.Cluster) (string, error) {
	serving, err := c.serving(s)
	if err != nil {
		return "", err
	}
	now := c.now()
	for file, id := range map[string]Identity{
		"serving.pem": serving,
		// The name that the cluster's own rules let reach kubelets: the group is the cluster administrators'.
		"kubelet-client.pem": {User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}},
	} {
		if _, err := c.ca.ensure(filepath.Join(dir, file), id, now, c.life, own); err != nil {
			return "", err
		}
	}
	if _, err := c.front.ensure(filepath.Join(dir, "front-proxy-client.pem"), Identity{User: "front-proxy-client"}, now, c.life, own); err != nil {
		return "", err
	}
	signing, public, err := serviceAccountKeys(s.Keys)
	if err != nil {
		return "", err
	}
	return c.write(dir, own, map[string][]byte{ // these two are read again by themselves
		"ca.crt": c.ca.pem, "front-proxy-ca.crt": c.front.pem,
	}, map[string][]byte{
		"service-account.key": signing, "service-account.pub": public,
		"authentication.json": authentication(), "encryption.json": c.encryption(),
	})
}

// serving are the names and addresses under which the API server is reached.
func (c *Credentials) serving(s node.Cluster) (Identity, error) {
	services, err := netip.ParsePrefix(s.ServiceCIDR)
	if err != nil {
		return Identity{}, fmt.Errorf("service CIDR: %w", err)
	}
	id := Identity{
		User: "kube-apiserver", Server: true,
		Names: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		IPs:   []netip.Addr{c.address(), netip.MustParseAddr("127.0.0.1"), services.Masked().Addr().Next()},
	}
	id.Names = append(id.Names, s.Names...)
	return id, nil
}

func (c *Credentials) address() netip.Addr {
	return netip.MustParseAddrPort(c.Server[len("https://"):]).Addr()
}

func (c *Credentials) managerFiles(dir string, own owner, s node.Cluster) (string, error) {
	signing, _, err := serviceAccountKeys(s.Keys)
	if err != nil {
		return "", err
	}
	if err := c.client(dir, own, Identity{User: "system:kube-controller-manager"}, ViewFiles); err != nil {
		return "", err
	}
	ca, key, _, err := c.authorityPEM()
	if err != nil {
		return "", err
	}
	return c.write(dir, own, nil, map[string][]byte{"ca.crt": ca, "ca.key": key, "service-account.key": signing})
}

func (c *Credentials) authorityPEM() (cert, key []byte, notAfter time.Time, err error) {
	raw, err := os.ReadFile(filepath.Join(c.dir, "pki", "kubernetes-ca.pem"))
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	return split(raw)
}

func (c *Credentials) schedulerFiles(dir string, own owner, _ node.Cluster) (string, error) {
	return "", c.client(dir, own, Identity{User: "system:kube-scheduler"}, ViewFiles)
}

func (c *Credentials) controllerFiles(dir string, own owner, _ node.Cluster) (string, error) {
	return "", c.client(dir, own, Identity{User: ControllerUser}, ViewFiles)
}

// write leaves the contents in files of the folder and returns a digest of
// those that are read at the start alone.
func (c *Credentials) write(dir string, own owner, live, atStart map[string][]byte) (string, error) {
	for name, content := range live {
		if _, err := updateFile(filepath.Join(dir, name), content, own); err != nil {
			return "", err
		}
	}
	sum := sha256.New()
	names := make([]string, 0, len(atStart))
	for name := range atStart {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if _, err := updateFile(filepath.Join(dir, name), atStart[name], own); err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(atStart[name]), atStart[name])
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// client leaves client.pem and a kubeconfig in the folder, which its process
// sees at view.
func (c *Credentials) client(dir string, own owner, id Identity, view string) error {
	return c.clientNamed(dir, "client", own, id, view)
}

func (c *Credentials) clientNamed(dir, name string, own owner, id Identity, view string) error {
	if _, err := c.ca.ensure(filepath.Join(dir, name+".pem"), id, c.now(), c.life, own); err != nil {
		return err
	}
	file := name + ".kubeconfig"
	if _, err := updateFile(filepath.Join(dir, file), c.kubeconfig(filepath.Join(view, name+".pem")), own); err != nil {
		return fmt.Errorf("%s of %s: %w", file, id.User, err)
	}
	return nil
}

// kubeconfig names the file with certificate and key, so that whoever uses it
// sees it renewed.
func (c *Credentials) kubeconfig(pair string) []byte {
	return toJSON(obj{
		"apiVersion": "v1", "kind": "Config", "current-context": "cluster",
		"clusters": []obj{{"name": "cluster", "cluster": obj{"server": c.Server, "certificate-authority-data": c.ca.pem}}},
		"users":    []obj{{"name": "self", "user": obj{"client-certificate": pair, "client-key": pair}}},
		"contexts": []obj{{"name": "cluster", "context": obj{"cluster": "cluster", "user": "self"}}},
	})
}

// Admin are credentials of a cluster administrator, made anew before a third
// of their life is left.
func (c *Credentials) Admin() (node.Credentials, error) {
	dir := filepath.Join(c.dir, "pki")
	// The names that AKS gives; nothing refers to the user.
	id := Identity{User: "masterclient", Groups: []string{"system:masters"}}
	path := filepath.Join(dir, "admin.pem")
	if _, err := c.ca.ensure(path, id, c.now(), c.life, owner{}); err != nil {
		return node.Credentials{}, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return node.Credentials{}, err
	}
	out := node.Credentials{Server: c.Server, CA: c.ca.pem}
	out.Cert, out.Key, out.NotAfter, err = split(raw)
	return out, err
}

// Node leaves the files of a node's components in the folder dir, which they
// see at view; address is where the kubelet serves.
func (c *Credentials) Node(dir, view, name string, address netip.Addr) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	serving := Identity{User: "system:node:" + name, Groups: []string{"system:nodes"}, Server: true, Names: []string{name}, IPs: []netip.Addr{address}}
	if _, err := c.ca.ensure(filepath.Join(dir, "kubelet-serving.pem"), serving, c.now(), c.life, owner{}); err != nil {
		return err
	}
	for file, id := range map[string]Identity{
		"kubelet":       {User: "system:node:" + name, Groups: []string{"system:nodes"}},
		"kube-proxy":    {User: "system:kube-proxy"},
		"lazurite-node": {User: "lazurite:node:" + name, Groups: []string{NodesGroup}},
	} {
		if err := c.clientNamed(dir, file, owner{}, id, view); err != nil {
			return err
		}
	}
	_, err := updateFile(filepath.Join(dir, "ca.crt"), c.ca.pem, owner{})
	return err
}

// encryption is the API server's rule for Secrets at rest. There is no way to
// read plain ones: the first was written encrypted.
func (c *Credentials) encryption() []byte {
	return toJSON(obj{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
		"resources": []obj{{
			"resources": []string{"secrets"},
			"providers": []obj{{"secretbox": obj{"keys": []obj{{"name": "key1", "secret": string(c.sealing)}}}}},
		}},
	})
}

// authentication limits who comes without a name to what says whether the
// server lives, which version it is, and how its tokens are verified.
func authentication() []byte {
	var paths []obj
	for _, p := range []string{"/healthz", "/livez", "/readyz", "/version", "/version/", "/.well-known/openid-configuration", "/openid/v1/jwks"} {
		paths = append(paths, obj{"path": p})
	}
	return toJSON(obj{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
		"anonymous": obj{"enabled": true, "conditions": paths},
	})
}

// serviceAccountKeys are the key that signs, and the public ones that verify.
func serviceAccountKeys(keys []node.Key) (signing, public []byte, err error) {
	for i, k := range keys {
		block, _ := pem.Decode(k.PEM)
		if block == nil {
			return nil, nil, fmt.Errorf("%s is no PEM", k)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			if key, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
				return nil, nil, fmt.Errorf("%s is no private key", k) // the parser's text could quote it
			}
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, nil, fmt.Errorf("%s is a %T", k, key)
		}
		der, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", k, err)
		}
		public = append(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
		if i == 0 {
			signing = k.PEM
		}
	}
	if signing == nil {
		return nil, nil, errors.New("no key signs service accounts' tokens")
	}
	return signing, public, nil
}

type obj map[string]any

// toJSON is for the configuration files, which are YAML and so may be JSON.
func toJSON(v any) []byte {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil { // only of types that are not in these files
		return nil
	}
	return append(raw, '\n')
}
