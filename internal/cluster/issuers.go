package cluster

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"lazurite.dev/internal/store"
)

const (
	issuerPrefix   = "cluster/issuers/"  // by uid
	resourcePrefix = "cluster/resource/" // by resource id in lower case: which issuer is its
	issuerKind     = "clusterIssuer"
	resourceKind   = "clusterIssuerOf"

	keyBits = 2048

	// overlap is how long a key stays published after another took its
	// place: the longest life of a token that it signed, and some skew.
	overlap = maxLife + 10*time.Minute

	retries = 10 // of a change that others made at the same time
)

// Sealer encrypts private keys at rest, each cluster's in a scope of its own.
// Package seal's Keyring is one.
type Sealer interface {
	Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, scope string, ciphertext, aad []byte) ([]byte, error)
	Destroy(ctx context.Context, scope string) error
}

// Config is what Issuers need.
type Config struct {
	Store  store.Store
	Seal   Sealer
	Tenant string // GUID

	// URL is where a region's issuers are: "https://eastus.oic.prod-aks.azure.com",
	// without a slash at the end.
	URL func(region string) string

	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// Issuers are the issuers of all clusters. Nothing of them is kept in memory
// but what the store confirms at each use: what one replica makes, changes or
// removes, the others know at once.
type Issuers struct {
	cfg Config
	now func() time.Time

	mu     sync.Mutex // guards what follows
	cached map[string]*issuer
	places map[string]place // by an issuer's URL; what parse found, which never changes
}

// place is where an issuer's URL points.
type place struct {
	uid  string
	ours bool
}

// maxPlaces bounds what callers can make us remember.
const maxPlaces = 1024

// issuerDoc is an issuer as it is stored.
type issuerDoc struct {
	UID        string    `json:"uid"`
	ResourceID string    `json:"resourceId"` // of the cluster
	Region     string    `json:"region"`
	URL        string    `json:"url"`              // what tokens say, with a slash at the end
	Hidden     bool      `json:"hidden,omitempty"` // signs for its own API server alone: nothing is published
	Created    time.Time `json:"created"`
	Keys       []keyDoc  `json:"keys"` // the last one signs
}

// keyDoc is a key as it is stored.
type keyDoc struct {
	KID     string    `json:"kid"`
	Public  []byte    `json:"public"` // PKIX, DER
	Sealed  []byte    `json:"sealed"` // PKCS #8
	Created time.Time `json:"created"`
	Until   time.Time `json:"until,omitzero"` // published until then; zero for the one that signs
}

// issuer is a decoded document; private is opened when first needed.
type issuer struct {
	issuerDoc
	rev    int64
	public []*rsa.PublicKey // of Keys, in order

	mu      sync.Mutex // guards private
	private *rsa.PrivateKey
}

// New makes the service.
func New(cfg Config) *Issuers {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Issuers{cfg: cfg, now: cfg.Clock, cached: map[string]*issuer{}, places: map[string]place{}}
}

// Ensure makes the cluster's issuer be there, published, and gives its URL,
// which never changes. It may be called again with the same uid, and after a
// crash.
func (s *Issuers) Ensure(ctx context.Context, uid, resourceID, region string) (string, error) {
	is, err := s.ensure(ctx, uid, resourceID, region, false)
	if err != nil {
		return "", err
	}
	for range retries {
		if !is.Hidden {
			return is.URL, s.point(ctx, resourceID, uid)
		}
		doc := is.issuerDoc
		doc.Hidden = false
		if _, err = store.PutJSON(ctx, s.cfg.Store, issuerPrefix+uid, issuerKind, is.rev, doc); err != nil && !errors.Is(err, store.ErrConflict) {
			return "", fmt.Errorf("publish the issuer of %s: %w", resourceID, err)
		}
		if is, err = s.find(ctx, uid); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("publish the issuer of %s: %w", resourceID, store.ErrConflict)
}

// EnsureHidden makes the keys be there with which a cluster without an issuer
// signs for its own API server. Nothing of them is published, and nobody else
// trusts them, until Ensure.
func (s *Issuers) EnsureHidden(ctx context.Context, uid, resourceID, region string) error {
	_, err := s.ensure(ctx, uid, resourceID, region, true)
	return err
}

func (s *Issuers) ensure(ctx context.Context, uid, resourceID, region string, hidden bool) (*issuer, error) {
	if !isUID(uid) {
		return nil, fmt.Errorf("%w: %q is no uid of a cluster", ErrInvalid, uid)
	}
	is, err := s.find(ctx, uid)
	if errors.Is(err, ErrNotFound) {
		if err = s.create(ctx, uid, resourceID, region, hidden); err == nil {
			is, err = s.find(ctx, uid)
		}
	}
	return is, err
}

// create stores a new issuer, unless somebody was faster.
func (s *Issuers) create(ctx context.Context, uid, resourceID, region string, hidden bool) error {
	key, err := s.newKey(ctx, uid)
	if err != nil {
		return err
	}
	doc := issuerDoc{
		UID: uid, ResourceID: resourceID, Region: region, Created: s.now().UTC(), Keys: []keyDoc{key}, Hidden: hidden,
		URL: s.cfg.URL(region) + "/" + s.cfg.Tenant + "/" + uid + "/",
	}
	if _, err = store.PutJSON(ctx, s.cfg.Store, issuerPrefix+uid, issuerKind, 0, doc); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("store the issuer of %s: %w", resourceID, err)
	}
	return nil
}

// point makes uid the issuer of the resource.
func (s *Issuers) point(ctx context.Context, resourceID, uid string) error {
	key := resourcePrefix + strings.ToLower(resourceID)
	for range retries {
		old, rev, err := store.GetJSON[string](ctx, s.cfg.Store, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read the issuer of %s: %w", resourceID, err)
		}
		if err == nil && old == uid {
			return nil
		}
		_, err = store.PutJSON(ctx, s.cfg.Store, key, resourceKind, rev, uid)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("store the issuer of %s: %w", resourceID, store.ErrConflict)
}

// Remove takes the issuer away: its tokens are refused from now on, and its
// keys are gone for good. One that is not there is no error.
func (s *Issuers) Remove(ctx context.Context, uid string) error {
	is, err := s.find(ctx, uid)
	switch {
	case err == nil:
		if err := s.drop(ctx, issuerPrefix+uid); err != nil {
			return err
		}
		key := resourcePrefix + strings.ToLower(is.ResourceID)
		if now, _, err := store.GetJSON[string](ctx, s.cfg.Store, key); err == nil && now == uid {
			if err := s.drop(ctx, key); err != nil {
				return err
			}
		}
	case !errors.Is(err, ErrNotFound):
		return err
	}
	s.forget(uid)
	if err := s.cfg.Seal.Destroy(ctx, scope(uid)); err != nil {
		return fmt.Errorf("destroy the keys of cluster %s: %w", uid, err)
	}
	return nil
}

func (s *Issuers) drop(ctx context.Context, key string) error {
	if err := s.cfg.Store.Delete(ctx, key, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Rotate gives the issuer a new key, which signs from now on. The one before
// stays published for a day; who rotates twice withdraws it, as in Azure.
// Source: AKS documentation, "Rotate the OIDC key".
func (s *Issuers) Rotate(ctx context.Context, uid string) error {
	key, err := s.newKey(ctx, uid)
	if err != nil {
		return err
	}
	for range retries {
		is, err := s.get(ctx, uid)
		if err != nil {
			return err
		}
		doc := is.issuerDoc
		last := doc.Keys[len(doc.Keys)-1]
		last.Until = s.now().Add(overlap).UTC()
		doc.Keys = []keyDoc{last, key}
		_, err = store.PutJSON(ctx, s.cfg.Store, issuerPrefix+uid, issuerKind, is.rev, doc)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("rotate the keys of cluster %s: %w", uid, store.ErrConflict)
}

// Signing gives the issuer's URL and its private keys, for the API server that
// signs with them: the one that signs first, then those that are still
// published. A hidden one's too.
func (s *Issuers) Signing(ctx context.Context, uid string) (url string, keys []SigningKey, err error) {
	is, err := s.find(ctx, uid)
	if err != nil {
		return "", nil, err
	}
	for _, k := range slices.Backward(is.Keys) {
		if !k.Until.IsZero() && !s.now().Before(k.Until) {
			continue
		}
		plain, err := s.cfg.Seal.Open(ctx, scope(uid), k.Sealed, aad(uid, k.KID))
		if err != nil {
			return "", nil, fmt.Errorf("open a signing key of cluster %s: %w", uid, err)
		}
		keys = append(keys, SigningKey{ID: k.KID, PEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain}), Until: k.Until})
	}
	return is.URL, keys, nil
}

// newKey takes about 100 ms.
func (s *Issuers) newKey(ctx context.Context, uid string) (keyDoc, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return keyDoc{}, fmt.Errorf("make a signing key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return keyDoc{}, fmt.Errorf("encode a public key: %w", err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return keyDoc{}, fmt.Errorf("encode a private key: %w", err)
	}
	sum := sha256.Sum256(public) // the key id that Kubernetes gives
	k := keyDoc{KID: base64.RawURLEncoding.EncodeToString(sum[:]), Public: public, Created: s.now().UTC()}
	if k.Sealed, err = s.cfg.Seal.Seal(ctx, scope(uid), plain, aad(uid, k.KID)); err != nil {
		return keyDoc{}, fmt.Errorf("seal the signing key of cluster %s: %w", uid, err)
	}
	return k, nil
}

func scope(uid string) string { return "cluster/" + uid }

func aad(uid, kid string) []byte { return []byte("service account signing key " + uid + " " + kid) }

// get reads the issuer of a cluster; ErrNotFound when it publishes none.
func (s *Issuers) get(ctx context.Context, uid string) (*issuer, error) {
	is, err := s.find(ctx, uid)
	if err == nil && is.Hidden {
		return nil, fmt.Errorf("issuer %s: %w", uid, ErrNotFound)
	}
	return is, err
}

// find is get for one that may be hidden.
func (s *Issuers) find(ctx context.Context, uid string) (*issuer, error) {
	doc, err := s.cfg.Store.Get(ctx, issuerPrefix+uid)
	if errors.Is(err, store.ErrNotFound) {
		s.forget(uid)
		return nil, fmt.Errorf("issuer %s: %w", uid, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read the issuer of cluster %s: %w", uid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if is := s.cached[uid]; is != nil && is.rev == doc.Rev {
		return is, nil
	}
	is := &issuer{rev: doc.Rev}
	if err := json.Unmarshal(doc.Value, &is.issuerDoc); err != nil {
		return nil, fmt.Errorf("decode %s: %w", doc.Key, err)
	}
	for _, k := range is.Keys {
		p, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			return nil, fmt.Errorf("decode the key %s in %s: %w", k.KID, doc.Key, err)
		}
		public, ok := p.(*rsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("decode the key %s in %s: it is a %T", k.KID, doc.Key, p)
		}
		is.public = append(is.public, public)
	}
	if len(is.Keys) == 0 {
		return nil, fmt.Errorf("decode %s: it has no key", doc.Key)
	}
	s.cached[uid] = is
	return is, nil
}

func (s *Issuers) forget(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cached, uid)
}

// published is the key set as everybody may see it.
func (s *Issuers) published(is *issuer) jose.JSONWebKeySet {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for i, k := range is.Keys {
		if k.Until.IsZero() || s.now().Before(k.Until) {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: is.public[i], KeyID: k.KID, Algorithm: string(jose.RS256), Use: "sig"})
		}
	}
	return set
}

// Keys gives the key set of a cluster's issuer, for the token service. ok is
// false for an issuer elsewhere. An issuer that would be ours and isn't is
// ErrNotFound: nobody is to look for it in the network.
func (s *Issuers) Keys(ctx context.Context, url string) (set jose.JSONWebKeySet, ok bool, err error) {
	uid, ours := s.place(url)
	if uid == "" {
		return set, false, nil
	}
	is, err := s.get(ctx, uid)
	switch {
	case errors.Is(err, ErrNotFound) && !ours:
		return set, false, nil
	case errors.Is(err, ErrNotFound):
		return set, true, fmt.Errorf("%w has this issuer: it was deleted, or never made", ErrNotFound)
	case err != nil:
		return set, false, err
	case is.URL != url && ours:
		return set, true, fmt.Errorf("the issuer of that cluster is '%s', exactly so", is.URL)
	case is.URL != url:
		return set, false, nil
	}
	return s.published(is), true, nil
}

// place is parse, which remembers.
func (s *Issuers) place(issuer string) (uid string, ours bool) {
	s.mu.Lock()
	p, ok := s.places[issuer]
	s.mu.Unlock()
	if ok {
		return p.uid, p.ours
	}
	if p.uid, p.ours = s.parse(issuer); p.uid == "" {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.places) >= maxPlaces {
		clear(s.places)
	}
	s.places[issuer] = p
	return p.uid, p.ours
}

// parse finds the uid in an issuer's URL; "" when it has none. ours says that
// it stands where this system's issuers do.
func (s *Issuers) parse(issuer string) (uid string, ours bool) {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || len(issuer) > 600 {
		return "", false
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) != 2 || !isUID(parts[1]) {
		return "", false
	}
	label, _, _ := strings.Cut(u.Host, ".")
	ours = strings.EqualFold(parts[0], s.cfg.Tenant) && strings.EqualFold("https://"+u.Host, s.cfg.URL(label))
	return parts[1], ours
}

// isUID reports whether s is a GUID in the form in which we write them; a
// workspace's computes have one after "ml-".
func isUID(s string) bool {
	s = strings.TrimPrefix(s, "ml-")
	u, err := uuid.Parse(s)
	return err == nil && u.String() == s
}
