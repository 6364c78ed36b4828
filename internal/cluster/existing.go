package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/store"
)

const (
	existingName = "existing"

	attachedPrefix = "cluster/attached/"       // by uid
	foreignPrefix  = "cluster/attachedissuer/" // by the SHA-256 of the issuer: which cluster's keys count for it
	attachedKind   = "clusterAttached"
	foreignKind    = "clusterAttachedIssuer"

	annotationOwner = "lazurite.dev/attached-as" // resource id, on all that is put into the cluster
	webhookSpace    = "azure-workload-identity-system"
)

// Existing is the driver "existing": somebody else's cluster, reached by a
// kubeconfig. Its own issuer counts; the webhook is put there, and taken away
// again; nothing else is touched.
type Existing struct {
	cfg ExistingConfig

	mu    sync.Mutex // guards what follows
	turns map[string]chan struct{}
	keys  map[string]*foreignKeys // by uid
}

// ExistingConfig is what Existing needs.
type ExistingConfig struct {
	Store   store.Store
	Seal    Sealer
	Issuers *Issuers
	Log     *slog.Logger

	// Settings are the values of add-ons that are the same for all clusters.
	Settings func() (Values, error)
	// Names are the patterns of the owned names, as the front door has them.
	Names func() []string
	// AllowPrivate lists the hosts whose issuers the operator lets be private.
	AllowPrivate []string
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// NewExisting makes the driver.
func NewExisting(cfg ExistingConfig) *Existing {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Existing{cfg: cfg, turns: map[string]chan struct{}{}, keys: map[string]*foreignKeys{}}
}

// Attached is how a cluster of somebody else's is reached and used.
type Attached struct {
	Sealed       []byte `json:"sealed"` // the Access, for this cluster's uid
	Server       string `json:"server"`
	Issuer       string `json:"issuer"`
	Keys         string `json:"keys"` // where the issuer's keys come from: KeysPublished, KeysServed, KeysOwn
	WebhookImage string `json:"webhookImage"`
	FrontDoor    string `json:"frontDoor"` // address of the front door for pods; "" leaves names to the cluster
	ResourceID   string `json:"resourceId"`
}

// Where the keys of an attached cluster's issuer come from.
const (
	KeysPublished = "published" // where its discovery document says
	KeysServed    = "served"    // from its API server, since the issuer is private
	KeysOwn       = "own"       // from here: the issuer is one of ours
)

// Found is what a look at a cluster gave.
type Found struct {
	Attached
	Context string
	Version string // of Kubernetes: "1.37.2"
}

// Name implements Driver.
func (*Existing) Name() string { return existingName }

// Offer implements Driver: a version is what the cluster's owner runs.
func (*Existing) Offer(ctx context.Context) ([]string, error) { return IssuerOnly{}.Offer(ctx) }

// Look reaches the cluster and finds out what attaching it needs to know.
// Nothing is changed. Errors that are ErrInvalid say what can't be used.
func (e *Existing) Look(ctx context.Context, uid string, kubeconfig []byte, context string) (Found, error) {
	access, name, err := ReadKubeconfig(kubeconfig, context)
	if err != nil {
		return Found{}, err
	}
	f := Found{Context: name, Attached: Attached{Server: access.Server}}
	k, err := OpenKube(access)
	if err != nil {
		return f, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	defer k.Close()
	if f.Version, err = k.version(ctx); err != nil {
		return f, fmt.Errorf("%w: %s: %w", ErrInvalid, access.Server, err)
	}
	if err := k.administers(ctx); err != nil {
		return f, err
	}
	if f.Issuer, err = k.issuer(ctx); err != nil {
		return f, err
	}
	if f.Keys, err = e.source(ctx, f.Issuer); err != nil {
		return f, err
	}
	plain, err := json.Marshal(access)
	if err != nil {
		return f, fmt.Errorf("encode an access: %w", err)
	}
	if f.Sealed, err = e.cfg.Seal.Seal(ctx, attachedScope(uid), plain, accessAAD(uid)); err != nil {
		return f, fmt.Errorf("seal an access: %w", err)
	}
	return f, nil
}

func attachedScope(uid string) string { return "attached/" + uid }

func accessAAD(uid string) []byte { return []byte("access to attached cluster " + uid) }

var gitVersion = regexp.MustCompile(`^v?(1\.[0-9]{1,2}\.[0-9]{1,3})`)

// version asks which Kubernetes runs.
func (k *KubeAPI) version(ctx context.Context) (string, error) {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	err := k.Get(ctx, "/version", &v)
	if code := kubeCode(err); code != 0 { // what it said is not repeated: it may be any server that the asker can't reach
		return "", fmt.Errorf("it answered %d when asked for its version", code)
	}
	if err != nil {
		return "", err
	}
	m := gitVersion.FindStringSubmatch(v.GitVersion)
	if m == nil {
		return "", errors.New("it is no API server of Kubernetes")
	}
	return m[1], nil
}

// administers refuses a user who could not install the webhook.
func (k *KubeAPI) administers(ctx context.Context) error {
	var review struct {
		Status struct{ Allowed bool } `json:"status"`
	}
	err := k.Create(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", Object{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{"verb": "*", "group": "*", "resource": "*"}},
	}, &review)
	if err != nil {
		return fmt.Errorf("%w: ask what the kubeconfig's user may do: %w", ErrInvalid, err)
	}
	if !review.Status.Allowed {
		return fmt.Errorf("%w: the kubeconfig's user is no administrator of the cluster: installing the webhook needs the rights of cluster-admin", ErrInvalid)
	}
	return nil
}

// issuer reads the issuer of service-account tokens.
// Source: Kubernetes, "ServiceAccount token issuer discovery".
func (k *KubeAPI) issuer(ctx context.Context) (string, error) {
	var d struct {
		Issuer string `json:"issuer"`
	}
	if err := k.Get(ctx, "/.well-known/openid-configuration", &d); err != nil {
		return "", fmt.Errorf("%w: read the cluster's issuer: %w", ErrInvalid, err)
	}
	u, err := url.Parse(d.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || len(d.Issuer) > 600 {
		return "", fmt.Errorf("%w: the cluster's issuer '%.100s' is no https URL, so no identity can trust it", ErrInvalid, d.Issuer)
	}
	return d.Issuer, nil
}

// source decides whose word counts for an issuer's keys. A cluster's own word
// counts only for an issuer that nobody could ask from outside, or that the
// operator has named: else whoever attaches a cluster could claim anybody's.
func (e *Existing) source(ctx context.Context, issuer string) (string, error) {
	if _, ours, err := e.cfg.Issuers.Keys(ctx, issuer); ours || err == nil && ours {
		if err != nil {
			return "", fmt.Errorf("%w: the cluster's issuer '%s': %w", ErrInvalid, issuer, err)
		}
		return KeysOwn, nil
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return "", err
	}
	if privateHost(u.Hostname()) {
		return KeysServed, nil
	}
	for _, host := range e.cfg.AllowPrivate {
		if strings.EqualFold(host, u.Hostname()) || strings.EqualFold(host, u.Host) {
			return KeysServed, nil
		}
	}
	return KeysPublished, nil
}

// privateHost reports whether the name has no meaning in public: RFC 6761, RFC
// 6762, RFC 8375, ICANN's .internal, and Kubernetes' own.
func privateHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()
	}
	if !strings.Contains(host, ".") {
		return true
	}
	for _, s := range []string{".svc", ".local", ".internal", ".localhost", ".test", ".lan", ".home.arpa", ".localdomain", ".intranet", ".corp", ".home", ".private"} {
		if strings.HasSuffix(host, s) {
			return true
		}
	}
	return false
}

// take waits for the turn to change a cluster.
func (e *Existing) take(ctx context.Context, uid string) (func(), error) {
	e.mu.Lock()
	turn := e.turns[uid]
	if turn == nil {
		turn = make(chan struct{}, 1)
		e.turns[uid] = turn
	}
	e.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Apply implements Driver.
func (e *Existing) Apply(ctx context.Context, s Spec, tell func(Phase)) error {
	if s.Attached == nil {
		return fmt.Errorf("%w: the cluster %s was not attached", ErrInvalid, s.Name)
	}
	if tell == nil {
		tell = func(Phase) {}
	}
	done, err := e.take(ctx, s.UID)
	if err != nil {
		return err
	}
	defer done()
	a := *s.Attached
	a.ResourceID = s.ResourceID
	if err := e.claim(ctx, s.UID, a); err != nil {
		return err
	}
	if err := e.save(ctx, s.UID, a); err != nil {
		return err
	}
	k, err := e.open(ctx, s.UID, a)
	if err != nil {
		return err
	}
	defer k.Close()
	v, err := e.values(s, a)
	if err != nil {
		return err
	}
	return e.install(ctx, k, s, v, tell)
}

func (e *Existing) values(s Spec, a Attached) (Values, error) {
	v, err := e.cfg.Settings()
	if err != nil {
		return v, err
	}
	v.Cluster, v.ResourceID, v.Location, v.Version, v.Issuer = s.Name, s.ResourceID, s.Location, s.Version, a.Issuer
	v.WebhookImage, v.FrontDoor, v.WorkloadIdentity = a.WebhookImage, a.FrontDoor, s.WorkloadIdentity
	return v, nil
}

// objects are what is put into an attached cluster: the webhook, and beside it
// its registration.
func (v Values) attached() (server, registration []Object, err error) {
	if server, err = v.render("webhook"); err != nil {
		return nil, nil, err
	}
	if registration, err = v.render(webhookAddon); err != nil {
		return nil, nil, err
	}
	for _, list := range [][]Object{server, registration} {
		for _, o := range list {
			m, ok := o["metadata"].(map[string]any)
			if !ok {
				return nil, nil, fmt.Errorf("%s has no metadata", o)
			}
			notes, _ := m["annotations"].(map[string]any)
			if notes == nil {
				notes = map[string]any{}
			}
			notes[annotationOwner] = v.ResourceID
			m["annotations"] = notes
		}
	}
	return server, registration, nil
}

func (e *Existing) install(ctx context.Context, k *KubeAPI, s Spec, v Values, tell func(Phase)) error {
	server, registration, err := v.attached()
	if err != nil {
		return err
	}
	if err := k.unclaimed(ctx, server[0], v.ResourceID); err != nil {
		return err
	}
	if err := step(tell, "webhook", func() error { return k.ApplyAll(ctx, server) }); err != nil {
		return err
	}
	if s.WorkloadIdentity {
		err = step(tell, "registration", func() error { return k.ApplyAll(ctx, registration) })
	} else {
		err = k.DeleteAll(ctx, registration)
	}
	if err != nil {
		return err
	}
	if err := step(tell, "webhook ready", func() error { return k.Rolled(ctx, server) }); err != nil {
		return err
	}
	tell(Phase{Name: "name resolution"})
	began := time.Now()
	how, err := k.resolve(ctx, e.cfg.Names(), v.FrontDoor)
	if err != nil {
		return err
	}
	tell(Phase{Name: "name resolution", Detail: how, Done: true, Took: time.Since(began)})
	return step(tell, "admission", func() error {
		err := until(ctx, admitTime, lookAgain, func(ctx context.Context) (bool, error) { return k.injects(ctx, s.WorkloadIdentity) }, nil)
		if err != nil {
			return fmt.Errorf("whether pods get their identities: %w", err)
		}
		return nil
	})
}

// unclaimed refuses a cluster in which somebody else runs the webhook, another
// Lazurite or the original: two would undo each other's work.
func (k *KubeAPI) unclaimed(ctx context.Context, namespace Object, id string) error {
	path, err := namespace.Path()
	if err != nil {
		return err
	}
	var now Object
	err = k.Get(ctx, path, &now)
	if kubeCode(err) == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	meta, _ := now["metadata"].(map[string]any)
	notes, _ := meta["annotations"].(map[string]any)
	switch owner, _ := notes[annotationOwner].(string); {
	case owner == "":
		return fmt.Errorf("%w: the cluster has a namespace '%s' already: Azure Workload Identity is installed there, and not by this. Remove it first", ErrInvalid, namespace.Name())
	case !strings.EqualFold(owner, id):
		return fmt.Errorf("%w: the cluster is attached as '%s' already", ErrInvalid, owner)
	}
	return nil
}

func (e *Existing) save(ctx context.Context, uid string, a Attached) error {
	for range retries {
		_, rev, err := store.GetJSON[Attached](ctx, e.cfg.Store, attachedPrefix+uid)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read an attached cluster: %w", err)
		}
		_, err = store.PutJSON(ctx, e.cfg.Store, attachedPrefix+uid, attachedKind, rev, a)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("store an attached cluster: %w", store.ErrConflict)
}

func (e *Existing) load(ctx context.Context, uid string) (Attached, error) {
	a, _, err := store.GetJSON[Attached](ctx, e.cfg.Store, attachedPrefix+uid)
	if errors.Is(err, store.ErrNotFound) {
		return a, fmt.Errorf("attached cluster %s: %w", uid, ErrNotFound)
	}
	return a, err
}

func (e *Existing) access(ctx context.Context, uid string, a Attached) (Access, error) {
	plain, err := e.cfg.Seal.Open(ctx, attachedScope(uid), a.Sealed, accessAAD(uid))
	if err != nil {
		return Access{}, fmt.Errorf("open the access to an attached cluster: %w", err)
	}
	var access Access
	if err := json.Unmarshal(plain, &access); err != nil {
		return Access{}, errors.New("the access to an attached cluster can't be decoded")
	}
	return access, nil
}

func (e *Existing) open(ctx context.Context, uid string, a Attached) (*KubeAPI, error) {
	access, err := e.access(ctx, uid, a)
	if err != nil {
		return nil, err
	}
	return OpenKube(access)
}

// Access implements Driver: who may ask for the credentials of an attached
// cluster gets those that it was attached with.
func (e *Existing) Access(ctx context.Context, uid string) (Access, error) {
	a, err := e.load(ctx, uid)
	if err != nil {
		return Access{}, err
	}
	return e.access(ctx, uid, a)
}

// Remove implements Driver: what was put into the cluster is taken away.
func (e *Existing) Remove(ctx context.Context, uid string) error {
	done, err := e.take(ctx, uid)
	if err != nil {
		return err
	}
	defer done()
	a, err := e.load(ctx, uid)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := e.release(ctx, uid, a); err != nil { // no token of it counts from now on
		return err
	}
	if err := e.uninstall(ctx, uid, a); err != nil {
		return err
	}
	return e.forget(ctx, uid)
}

func (e *Existing) uninstall(ctx context.Context, uid string, a Attached) error {
	k, err := e.open(ctx, uid, a)
	if err != nil {
		return err
	}
	defer k.Close()
	v, err := e.values(Spec{ResourceID: a.ResourceID}, a)
	if err != nil {
		return err
	}
	server, registration, err := v.attached()
	if err != nil {
		return err
	}
	switch err := k.unclaimed(ctx, server[0], a.ResourceID); {
	case errors.Is(err, ErrInvalid): // not ours: nothing of it was put there by us
		return nil
	case err != nil:
		return fmt.Errorf("reach the attached cluster at %s: %w", a.Server, err)
	}
	if err := k.DeleteAll(ctx, append(server, registration...)); err != nil {
		return err
	}
	path, err := server[0].Path()
	if err != nil {
		return err
	}
	if err := k.Delete(ctx, path); err != nil {
		return err
	}
	if err := k.deleteBundles(ctx); err != nil {
		return err
	}
	if err := k.unresolve(ctx); err != nil {
		return err
	}
	return until(ctx, goneTime, lookAgain, func(ctx context.Context) (bool, error) {
		err := k.Get(ctx, path, nil)
		return kubeCode(err) == http.StatusNotFound, err
	}, nil)
}

// goneTime is how long a namespace may take to go.
const goneTime = 2 * time.Minute

// deleteBundles takes away the copies of the certificates.
func (k *KubeAPI) deleteBundles(ctx context.Context) error {
	var list struct {
		Items []struct {
			Metadata struct {
				Name, Namespace string
				Labels          map[string]string
			}
		}
	}
	if err := k.Get(ctx, "/api/v1/configmaps?fieldSelector=metadata.name%3Dlazurite-ca-bundle", &list); err != nil {
		return err
	}
	for _, m := range list.Items {
		if m.Metadata.Labels["app.kubernetes.io/managed-by"] != "azure-workload-identity" {
			continue
		}
		if err := k.Delete(ctx, "/api/v1/namespaces/"+m.Metadata.Namespace+"/configmaps/"+m.Metadata.Name); err != nil {
			return err
		}
	}
	return nil
}

// Forget lets go of a cluster that can't be reached any more, without a word to
// it: its tokens don't count, and the access is gone. What was put there stays.
func (e *Existing) Forget(ctx context.Context, uid string) error {
	a, err := e.load(ctx, uid)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := e.release(ctx, uid, a); err != nil {
		return err
	}
	return e.forget(ctx, uid)
}

// release ends the cluster's claim on its issuer.
func (e *Existing) release(ctx context.Context, uid string, a Attached) error {
	owner, rev, err := store.GetJSON[string](ctx, e.cfg.Store, foreignKey(a.Issuer))
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && owner != uid:
		return nil
	case err != nil:
		return fmt.Errorf("read who has an issuer: %w", err)
	}
	if err := e.cfg.Store.Delete(ctx, foreignKey(a.Issuer), rev); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("release the issuer of an attached cluster: %w", err)
	}
	return nil
}

func (e *Existing) forget(ctx context.Context, uid string) error {
	if err := e.cfg.Store.Delete(ctx, attachedPrefix+uid, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete an attached cluster: %w", err)
	}
	e.mu.Lock()
	delete(e.keys, uid)
	e.mu.Unlock()
	if err := e.cfg.Seal.Destroy(ctx, attachedScope(uid)); err != nil {
		return fmt.Errorf("destroy the access to an attached cluster: %w", err)
	}
	return nil
}

func foreignKey(issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return foreignPrefix + hex.EncodeToString(sum[:])
}
