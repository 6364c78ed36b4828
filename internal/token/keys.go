package token

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // x5t is defined as SHA-1 (RFC 7515 section 4.1.7)
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
)

const (
	keyPrefix = "token/keys/"
	keyKind   = "token.key"
	keyScope  = "token"

	// longestLife is the life of the longest token that we sign.
	longestLife = 24 * time.Hour
)

// keyDoc is a signing key as it is stored. When it signs and when it dies
// follow from its neighbours: it signs from SignFrom until the next key does,
// and is published until the last token that it signed is dead.
type keyDoc struct {
	KID      string    `json:"kid"`
	SignFrom time.Time `json:"signFrom"`
	Cert     []byte    `json:"cert"`   // self-signed, DER; carries the public key
	Sealed   []byte    `json:"sealed"` // PKCS#8 private key
}

type signingKey struct {
	keyDoc
	rev     int64
	public  *rsa.PublicKey
	private func() (*rsa.PrivateKey, error) // opens once
	dead    time.Time                       // zero: not known yet, no successor
}

// JWK is one key of the published set, with the fields that the real service
// publishes (RFC 7517; x5t and x5c as its discovery/keys does).
type JWK struct {
	Kty    string   `json:"kty"`
	Use    string   `json:"use"`
	Kid    string   `json:"kid"`
	X5t    string   `json:"x5t"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	X5c    []string `json:"x5c"`
	Issuer string   `json:"issuer,omitempty"`
}

// JWKS is a key set (RFC 7517 section 5).
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// JWKS gives the keys that may have signed a living token or will sign soon.
// version "2.0" adds each key's issuer under host, as the real service does.
func (s *Service) JWKS(ctx context.Context, host, version string) (JWKS, error) {
	if _, err := s.signer(ctx); err != nil {
		return JWKS{}, err
	}
	s.mu.RLock()
	stale := s.now().Sub(s.loaded) > 2*time.Second
	s.mu.RUnlock()
	if stale {
		if err := s.load(ctx); err != nil {
			return JWKS{}, err
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	set := JWKS{Keys: []JWK{}}
	for _, k := range s.keys {
		if !k.dead.IsZero() && s.now().After(k.dead) {
			continue
		}
		j := JWK{
			Kty: "RSA", Use: "sig", Kid: k.KID, X5t: k.KID,
			N:   base64.RawURLEncoding.EncodeToString(k.public.N.Bytes()),
			E:   base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.public.E)).Bytes()),
			X5c: []string{base64.StdEncoding.EncodeToString(k.Cert)},
		}
		if version == "2.0" {
			j.Issuer = s.Issuer(host, version)
		}
		set.Keys = append(set.Keys, j)
	}
	return set, nil
}

// RotateKeys makes a new key and publishes it. It signs after
// Config.PublishAhead; its predecessor stays published until the last token
// that it signed is dead. It returns the new key's id.
func (s *Service) RotateKeys(ctx context.Context) (string, error) {
	kid, _, err := s.RotateKeysAt(ctx, false)
	return kid, err
}

// RotateKeysAt is RotateKeys that also says from when the new key signs: with
// now at once, before those who keep key sets have seen it.
func (s *Service) RotateKeysAt(ctx context.Context, now bool) (kid string, signFrom time.Time, err error) {
	signFrom = s.now()
	if !now {
		signFrom = signFrom.Add(s.cfg.PublishAhead)
	}
	kid, err = s.addKey(ctx, signFrom)
	return kid, signFrom, err
}

// signer is the key that signs now: the newest whose time has come.
func (s *Service) signer(ctx context.Context) (*signingKey, error) {
	if k := s.newestSigner(); k != nil {
		return k, nil
	}
	s.creating.Lock()
	defer s.creating.Unlock()
	if err := s.load(ctx); err != nil { // another replica may have been first
		return nil, err
	}
	if k := s.newestSigner(); k != nil {
		return k, nil
	}
	if _, err := s.addKey(ctx, s.now()); err != nil {
		return nil, err
	}
	if k := s.newestSigner(); k != nil {
		return k, nil
	}
	return nil, errors.New("choosing a signing key: none is valid yet")
}

func (s *Service) newestSigner() *signingKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range slices.Backward(s.keys) {
		if !k.SignFrom.After(s.now()) {
			return k
		}
	}
	return nil
}

// keyByID finds the key that a token names, asking the store for one that
// another replica has just made. found is false for a key that is dead or was
// never ours.
func (s *Service) keyByID(ctx context.Context, kid string) (k *signingKey, found bool, err error) {
	if k = s.known(kid); k == nil {
		if sha, err := b64.DecodeString(kid); err != nil || len(sha) != sha1.Size {
			return nil, false, nil
		}
		err := s.flights.do(ctx, kid, func(ctx context.Context) error {
			_, err := s.cfg.Store.Get(ctx, keyPrefix+kid)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("looking for a signing key: %w", err)
			}
			return s.load(ctx)
		})
		if err != nil {
			return nil, false, err
		}
		if k = s.known(kid); k == nil {
			return nil, false, nil
		}
	}
	if !k.dead.IsZero() && s.now().After(k.dead) {
		return nil, false, nil
	}
	return k, true, nil
}

func (s *Service) known(kid string) *signingKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range s.keys {
		if k.KID == kid {
			return k
		}
	}
	return nil
}

// load reads all keys from the store.
func (s *Service) load(ctx context.Context) error {
	now := s.now()
	docs, err := s.cfg.Store.List(ctx, store.Query{Prefix: keyPrefix, Kind: keyKind})
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	keys := make([]*signingKey, 0, len(docs))
	for _, d := range docs {
		if k := s.known(strings.TrimPrefix(d.Key, keyPrefix)); k != nil && k.rev == d.Rev {
			again := *k
			keys = append(keys, &again)
			continue
		}
		k, err := s.decodeKey(d)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b *signingKey) int {
		if c := a.SignFrom.Compare(b.SignFrom); c != 0 {
			return c
		}
		return strings.Compare(a.KID, b.KID)
	})
	for i := range keys {
		keys[i].dead = time.Time{}
		if i+1 < len(keys) {
			keys[i].dead = keys[i+1].SignFrom.Add(longestLife + 2*skew)
		}
	}
	s.mu.Lock()
	s.keys, s.loaded = keys, now
	s.mu.Unlock()
	return nil
}

func (s *Service) decodeKey(d store.Doc) (*signingKey, error) {
	k := &signingKey{rev: d.Rev}
	if err := json.Unmarshal(d.Value, &k.keyDoc); err != nil {
		return nil, fmt.Errorf("reading signing key %s: %w", d.Key, err)
	}
	cert, err := x509.ParseCertificate(k.Cert)
	if err != nil {
		return nil, fmt.Errorf("reading signing key %s: %w", d.Key, err)
	}
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("reading signing key %s: not RSA", d.Key)
	}
	k.public = pub
	var (
		mu  sync.Mutex // guards key
		key *rsa.PrivateKey
	)
	k.private = func() (*rsa.PrivateKey, error) {
		mu.Lock()
		defer mu.Unlock()
		if key == nil {
			opened, err := s.openKey(k.KID, k.Sealed)
			if err != nil {
				return nil, err
			}
			key = opened
		}
		return key, nil
	}
	return k, nil
}

func (s *Service) openKey(kid string, sealed []byte) (*rsa.PrivateKey, error) {
	// Not the request's context: the opened key outlives it.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	der, err := s.cfg.Seal.Open(ctx, keyScope, sealed, []byte(keyPrefix+kid))
	if err != nil {
		return nil, fmt.Errorf("opening signing key %s: %w", kid, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("opening signing key %s: %w", kid, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("opening signing key %s: not RSA", kid)
	}
	return key, nil
}

// addKey makes a key that signs from a time, and stores it.
func (s *Service) addKey(ctx context.Context, from time.Time) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", fmt.Errorf("making a signing key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return "", fmt.Errorf("making a signing key: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "accounts.accesscontrol.windows.net"},
		NotBefore: from.Add(-time.Hour), NotAfter: from.AddDate(5, 0, 0),
	}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return "", fmt.Errorf("making a signing key: %w", err)
	}
	sum := sha1.Sum(cert) // a name, not a protection
	kid := base64.RawURLEncoding.EncodeToString(sum[:])
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("making a signing key: %w", err)
	}
	sealed, err := s.cfg.Seal.Seal(ctx, keyScope, der, []byte(keyPrefix+kid))
	if err != nil {
		return "", fmt.Errorf("sealing a signing key: %w", err)
	}
	value, err := json.Marshal(keyDoc{KID: kid, SignFrom: from.UTC(), Cert: cert, Sealed: sealed})
	if err != nil {
		return "", fmt.Errorf("storing a signing key: %w", err)
	}
	if _, err := s.cfg.Store.Put(ctx, store.Doc{Key: keyPrefix + kid, Kind: keyKind, Value: value}); err != nil {
		return "", fmt.Errorf("storing a signing key: %w", err)
	}
	return kid, s.load(ctx)
}

// tend rotates when it is time and forgets dead keys.
func (s *Service) tend(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	s.mu.RLock()
	keys := s.keys
	s.mu.RUnlock()
	for _, k := range keys {
		if !k.dead.IsZero() && s.now().After(k.dead) {
			err := s.cfg.Store.Delete(ctx, keyPrefix+k.KID, k.rev)
			if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("forgetting signing key %s: %w", k.KID, err)
			}
		}
	}
	if n := len(keys); n > 0 && s.now().Sub(keys[n-1].SignFrom) > s.cfg.RotateEvery {
		if _, err := s.RotateKeys(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unavailable is what callers see when keys can't be read.
func unavailable(err error) error {
	return apierr.New(apierr.Unavailable, "temporarily_unavailable",
		"The token service can't read its signing keys at the moment.").WithCause(err)
}
