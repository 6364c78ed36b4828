package compute_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/image"
	"lazurite.dev/internal/imds"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/vnet"
)

const (
	tenant   = "11111111-2222-3333-4444-555555555555"
	guid     = "0a0a0a0a-1111-4222-8333-444444444444"
	wsID     = "/subscriptions/66666666-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
	epID     = wsID + "/onlineEndpoints/ep"
	epApp    = "aaaaaaaa-0000-0000-0000-000000000001"
	epOID    = "bbbbbbbb-0000-0000-0000-000000000001"
	account  = "wstore.blob.core.windows.net"
	server   = "lazurite.dev/test-server:v1"
	workName = "w"
)

// world is a node agent with real clusters, and what stands before them: a
// resolver, a storage account and the identity endpoint. What a server has
// besides is not needed.
type world struct {
	t          *testing.T
	home, kube string
	program    string
	agent      *node.Client
	process    *exec.Cmd
	store      store.Store
	ring       *seal.Keyring
	tokens     *token.Service
	identity   *imds.Service
	ca         []byte
	leaf       tls.Certificate
	compute    *compute.Compute
	stop       func()
	blobs      *blobs

	mu    sync.Mutex // guards doors
	doors map[string][]io.Closer
}

func need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") == "true":
		t.Fatal("needs " + what)
	default:
		t.Skip("needs " + what)
	}
}

func distribution() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	for _, dir := range []string{os.Getenv("LAZ_KUBE"), filepath.Join("..", "..", "bin", "kube"), filepath.Join(cache, "lazurite", "kube", "current")} {
		if dir, err := filepath.Abs(dir); err == nil {
			if _, err := os.Stat(filepath.Join(dir, "bin", "kubernetes")); err == nil {
				return dir
			}
		}
	}
	return ""
}

func newWorld(t *testing.T) *world {
	t.Helper()
	need(t, runtime.GOOS == "linux" && os.Geteuid() == 0, "Linux and root")
	w := &world{t: t, home: t.TempDir(), kube: distribution(), doors: map[string][]io.Closer{}, blobs: &blobs{}}
	need(t, w.kube != "", "the Kubernetes distribution (make kube)")
	if w.program = os.Getenv("LAZ_BINARY"); w.program == "" {
		w.program = w.build("laz", "../../cmd/laz")
	}
	var err error
	w.agent, err = node.Dial(w.home)
	w.must(err)
	w.store, err = sqlstore.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "laz.db"))
	w.must(err)
	t.Cleanup(func() { _ = w.store.Close() })
	root, err := seal.OpenFileRoot(filepath.Join(t.TempDir(), "root"))
	w.must(err)
	w.ring = seal.NewKeyring(w.store, root)
	dir, err := directory.Open(context.Background(), w.store, tenant)
	w.must(err)
	t.Cleanup(dir.Close)
	w.must(dir.EnsureManagedIdentity(t.Context(), directory.ManagedIdentity{ResourceID: epID, ClientID: epApp, PrincipalID: epOID, TenantID: tenant, Name: "ep"}))
	w.tokens, err = token.Open(t.Context(), token.Config{Store: w.store, Seal: w.ring, TenantID: tenant})
	w.must(err)
	w.identity, err = imds.New(imds.Config{Tokens: w.tokens, Directory: dir, Store: w.store, Location: "eastus", Subscription: "s"})
	w.must(err)
	w.certify()
	t.Cleanup(w.end)
	w.startAgent()
	w.up()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// build makes a static program.
func (w *world) build(name, pkg string) string {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("building %s: %v\n%s", pkg, err, text)
	}
	return out
}

// archive is the image of the server as a file.
func (w *world) archive() string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "server.tar")
	f, err := os.Create(file)
	w.must(err)
	w.must(image.Build(w.t.Context(), w.build("server", "./testdata/server"), image.Config{Name: server}, f))
	w.must(f.Close())
	return file
}

func (w *world) startAgent() {
	w.t.Helper()
	w.process = exec.Command(w.program, "node-agent", "--home", w.home, "--owner", "0", "--kube", w.kube, "--kept", "--range", "198.19.128.0/17")
	w.process.Stderr = os.Stderr
	w.must(w.process.Start())
	go func(c *exec.Cmd) { _ = c.Wait() }(w.process)
	w.eventually(15*time.Second, "the agent answers", func() bool { return w.agent.Running(w.t.Context()) })
}

func (w *world) eventually(limit time.Duration, what string, cond func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			w.t.Fatalf("still not: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (w *world) end() {
	w.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w.closeDoors(compute.ClusterUID(guid))
	if err := w.agent.Purge(ctx); err != nil && !errors.Is(err, node.ErrNoAgent) {
		w.t.Error(err)
	}
	if r, err := box.RootOf(w.home); err == nil {
		if err := r.Sweep(ctx); err != nil {
			w.t.Error(err)
		}
	}
}

// up is the part of a server that is tested.
func (w *world) up() {
	issuers := cluster.New(cluster.Config{Store: w.store, Seal: w.ring, Tenant: tenant, URL: func(r string) string { return "https://" + r + ".oic.prod-aks.azure.com" }})
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	driver := cluster.NewEmbedded(cluster.EmbeddedConfig{Agent: adapter{w.agent}, Issuers: issuers, Log: log, Joined: w.joined, Left: w.closeDoors})
	w.compute = compute.New(compute.Config{
		Driver: driver, Agent: w.agent, Issuers: issuers, Store: w.store, Seal: w.ring, Grants: w.identity, Log: log,
		Trust: func() ([]byte, error) { return w.ca, nil }, Program: w.program, Folder: filepath.Join(w.home, "compute"), CPUMillis: 2000, MemoryMiB: 4096,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.compute.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// adapter is the node agent as the driver knows it.
type adapter struct{ *node.Client }

func (a adapter) Info(ctx context.Context) (string, error) {
	i, err := a.Client.Info(ctx)
	if err == nil && i.Missing != "" {
		err = cluster.Unavailable("%s", i.Missing)
	}
	if errors.Is(err, node.ErrNoAgent) {
		err = cluster.Unavailable("%v", err)
	}
	return i.Versions["kubernetes"], err
}

func (a adapter) Apply(ctx context.Context, p cluster.Plan, tell func(cluster.Phase)) error {
	c := node.Cluster{
		UID: p.UID, Name: p.Name, ResourceID: p.ResourceID, Version: p.Version, Running: p.Running, Issuer: p.Issuer, JWKSURI: p.JWKSURI,
		PodCIDR: p.PodCIDR, ServiceCIDR: p.ServiceCIDR, DNSServiceIP: p.DNSServiceIP, NetworkPolicy: p.NetworkPolicy, Isolated: p.Isolated,
	}
	for _, k := range p.Keys {
		c.Keys = append(c.Keys, node.Key{ID: k.ID, PEM: k.PEM})
	}
	for _, n := range p.Nodes {
		c.Nodes = append(c.Nodes, node.Node(n))
	}
	return a.Client.Apply(ctx, c, func(p node.Phase) { tell(cluster.Phase(p)) })
}

func (a adapter) Admin(ctx context.Context, uid string) (cluster.Access, error) {
	c, err := a.Client.Admin(ctx, uid)
	if errors.Is(err, node.ErrNotFound) {
		err = fmt.Errorf("%w: %w", cluster.ErrNotFound, err)
	}
	return cluster.Access{Server: c.Server, CA: c.CA, Cert: c.Cert, Key: c.Key}, err
}

// joined opens the front door in a cluster's network.
func (w *world) joined(ctx context.Context, uid string) error {
	all, err := w.agent.Status(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.doors[uid] != nil {
		return nil
	}
	var at netip.Addr
	for _, st := range all {
		if st.UID == uid {
			at = st.Address
		}
	}
	r := vnet.NewResolver(vnet.ResolverConfig{Network: "t", Owns: func(h string) bool { return strings.HasSuffix(h, ".blob.core.windows.net") }, Front: at, Offline: true, Log: slog.New(slog.DiscardHandler)})
	f, err := w.agent.Listen(ctx, uid, "udp", node.PortDNS)
	if err != nil {
		return err
	}
	pc, err := net.FilePacketConn(f)
	_ = f.Close()
	if err != nil {
		return err
	}
	go func() { _ = r.ServePacket(context.Background(), pc) }()
	w.doors[uid] = append(w.doors[uid], pc)
	for port, h := range map[int]http.Handler{node.PortHTTP: w.identity, node.PortHTTPS: http.HandlerFunc(w.serveBlobs)} {
		f, err := w.agent.Listen(ctx, uid, "tcp", port)
		if err != nil {
			return err
		}
		ln, err := net.FileListener(f)
		_ = f.Close()
		if err != nil {
			return err
		}
		if port == node.PortHTTPS {
			ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{w.leaf}})
		}
		srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
		go func() { _ = srv.Serve(ln) }()
		w.doors[uid] = append(w.doors[uid], srv)
	}
	return nil
}

func (w *world) closeDoors(uid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.doors[uid] {
		_ = d.Close()
	}
	delete(w.doors, uid)
}

func (w *world) certify() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: account}, DNSNames: []string{account}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	w.must(err)
	w.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	w.leaf = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveBlobs is a storage account for who has a token of the endpoint's identity.
func (w *world) serveBlobs(rw http.ResponseWriter, r *http.Request) {
	c, err := w.tokens.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), token.Storage)
	if err != nil || c.ObjectID != epOID {
		http.Error(rw, "<Error><Code>AuthenticationFailed</Code></Error>", http.StatusUnauthorized)
		return
	}
	w.blobs.ServeHTTP(rw, r)
}

// deployment is one that works.
func (w *world) deployment(name, archive string) compute.Deployment {
	ws := rid.MustParse(wsID)
	return compute.Deployment{
		UID: "d-" + name, Name: name, ID: rid.MustParse(epID + "/deployments/" + name), Endpoint: "ep", EndpointUID: "e1",
		Workspace: ws, WorkspaceUID: guid, Location: "eastus", Image: server, Archive: archive,
		Env:        map[string]string{"AZUREML_MODEL_DIR": compute.ModelRoot + "/m/1", "VERSION": "v1", "LITERAL": "$(VERSION)"},
		Downloads:  []compute.Download{{URL: "https://" + account + "/models/LocalUpload/h/model", Path: compute.ModelRoot + "/m/1/model"}, {URL: "https://" + account + "/models/one.txt", Path: compute.AppRoot + "/code/one.txt"}},
		Identities: []string{epID}, CPUMillis: 1000, MemoryMiB: 256, Instances: 1, Timeout: 2 * time.Second,
	}
}
