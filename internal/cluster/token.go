package cluster

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"lazurite.dev/internal/store"
)

// How long a token may live. Sources: Kubernetes, TokenRequest; AKS
// documentation, "Projected service account tokens".
const (
	minLife     = 10 * time.Minute
	maxLife     = 24 * time.Hour
	defaultLife = time.Hour

	maxAudience = 600 // bytes, as in a federated credential
)

// claims is the payload of a service account's token. Source: Kubernetes,
// pkg/serviceaccount/claims.go.
type claims struct {
	Audience   []string `json:"aud"`
	Expires    int64    `json:"exp"`
	IssuedAt   int64    `json:"iat"`
	Issuer     string   `json:"iss"`
	ID         string   `json:"jti"`
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
	} `json:"kubernetes.io"`
	NotBefore int64  `json:"nbf"`
	Subject   string `json:"sub"`
}

// Token makes a token of a service account of a cluster. Errors: ErrNotFound
// when the cluster has no issuer, ErrInvalid when the request is wrong.
func (s *Issuers) Token(ctx context.Context, r Request) (Token, error) {
	if r.Audience == "" {
		r.Audience = DefaultAudience
	}
	if r.Lifetime == 0 {
		r.Lifetime = defaultLife
	}
	if err := r.check(); err != nil {
		return Token{}, err
	}
	is, err := s.Of(ctx, r.Cluster)
	if err != nil {
		return Token{}, err
	}
	found, err := s.get(ctx, is.UID)
	if err != nil {
		return Token{}, err
	}
	private, err := s.signer(ctx, found)
	if err != nil {
		return Token{}, err
	}
	now := s.now().Truncate(time.Second)
	c := claims{
		Audience: []string{r.Audience}, Issuer: found.URL, Subject: Subject(r.Namespace, r.ServiceAccount), ID: uuid.NewString(),
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(r.Lifetime).Unix(),
	}
	c.Kubernetes.Namespace = r.Namespace
	c.Kubernetes.ServiceAccount.Name = r.ServiceAccount
	c.Kubernetes.ServiceAccount.UID = uuid.NewSHA1(uuid.MustParse(found.UID), []byte(r.Namespace+"/"+r.ServiceAccount)).String()
	value, err := sign(private, found.Keys[len(found.Keys)-1].KID, c)
	if err != nil {
		return Token{}, fmt.Errorf("sign a token of %s: %w", c.Subject, err)
	}
	return Token{Value: value, Issuer: c.Issuer, Subject: c.Subject, Expires: now.Add(r.Lifetime)}, nil
}

// Subject is what a service account's tokens say in sub.
func Subject(namespace, name string) string { return "system:serviceaccount:" + namespace + ":" + name }

// Info is what others may know of an issuer.
type Info struct {
	UID string // of the cluster
	URL string // with a slash at the end
}

// Of gives the issuer of the cluster with the resource id, in any case;
// ErrNotFound when it has none.
func (s *Issuers) Of(ctx context.Context, resourceID string) (Info, error) {
	uid, _, err := store.GetJSON[string](ctx, s.cfg.Store, resourcePrefix+strings.ToLower(resourceID))
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return Info{}, fmt.Errorf("issuer of %s: %w", resourceID, ErrNotFound)
	}
	if err != nil {
		return Info{}, fmt.Errorf("read the issuer of %s: %w", resourceID, err)
	}
	is, err := s.get(ctx, uid)
	if err != nil {
		return Info{}, err
	}
	return Info{UID: is.UID, URL: is.URL}, nil
}

var (
	label     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)                              // RFC 1123
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`) // RFC 1123
)

// meant asks whether the name in lower case was meant, where that would do.
func meant(name string, rule *regexp.Regexp) string {
	if low := strings.ToLower(name); low != name && rule.MatchString(low) {
		return fmt.Sprintf(" (did you mean %q?)", low)
	}
	return ""
}

func (r *Request) check() error {
	switch {
	case !label.MatchString(r.Namespace):
		return fmt.Errorf("%w: %q is no name of a namespace%s: Kubernetes takes 1 to 63 lower-case letters, digits and '-', with a letter or digit at both ends",
			ErrInvalid, r.Namespace, meant(r.Namespace, label))
	case len(r.ServiceAccount) > 253 || !subdomain.MatchString(r.ServiceAccount):
		return fmt.Errorf("%w: %q is no name of a service account%s: Kubernetes takes 1 to 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends",
			ErrInvalid, r.ServiceAccount, meant(r.ServiceAccount, subdomain))
	case len(r.Audience) > maxAudience || strings.ContainsFunc(r.Audience, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return fmt.Errorf("%w: the audience is longer than %d bytes or has control characters", ErrInvalid, maxAudience)
	case r.Lifetime < minLife || r.Lifetime > maxLife:
		return fmt.Errorf("%w: a token lives from %s to %s, not %s", ErrInvalid, minLife, maxLife, r.Lifetime)
	}
	return nil
}

// signer opens the private key that signs.
func (s *Issuers) signer(ctx context.Context, is *issuer) (*rsa.PrivateKey, error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.private != nil {
		return is.private, nil
	}
	k := is.Keys[len(is.Keys)-1]
	plain, err := s.cfg.Seal.Open(ctx, scope(is.UID), k.Sealed, aad(is.UID, k.KID))
	if err != nil {
		return nil, fmt.Errorf("open the signing key of cluster %s: %w", is.UID, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, fmt.Errorf("decode the signing key of cluster %s: %w", is.UID, err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("decode the signing key of cluster %s: it is a %T", is.UID, key)
	}
	is.private = private
	return private, nil
}

// sign makes a compact JWS (RFC 7515 section 7.1), RS256.
func sign(key *rsa.PrivateKey, kid string, c claims) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}
