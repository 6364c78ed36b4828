// Package imds gives managed identities their tokens where programs look for
// them: the instance metadata service (IMDS) and the endpoints of App Service
// and Azure Machine Learning. Nobody gets a token for being on this machine:
// a run must hold a grant.
package imds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/proxy"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// Config is what the endpoints stand on.
type Config struct {
	Tokens    *token.Service
	Directory *directory.Directory
	Store     store.Store // grants, under "imds/"

	// Location and Subscription are what the instance document says of the
	// machine; clients find their region there.
	Location, Subscription string

	// Record takes the trace of every refusal; nil drops it.
	Record func(trace.Trace)

	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// Service is the endpoints' http.Handler: /metadata/… as at 169.254.169.254,
// and /msi/token.
type Service struct {
	cfg Config
	now func() time.Time
}

// New makes the handler.
func New(cfg Config) (*Service, error) {
	if cfg.Tokens == nil || cfg.Directory == nil || cfg.Store == nil {
		return nil, errors.New("the managed identity endpoints need tokens, directory and store")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Record == nil {
		cfg.Record = func(trace.Trace) {}
	}
	return &Service{cfg: cfg, now: cfg.Clock}, nil
}

const (
	prefix    = "imds/"
	kind      = "imds.grant"
	grantLife = 30 * 24 * time.Hour // from its last use
)

// held is a grant as it is stored, under the hash of its secret.
type held struct {
	Identities []string  `json:"identities"`        // ARM ids
	Expires    time.Time `json:"expires"`           // zero: by Revoke alone
	Default    string    `json:"default,omitempty"` // ARM id of the one that a request without a name means; "": the only one
}

// Grant lets whoever has the secret get tokens of the identities, given by
// their ARM ids. It ends with revoke, or 30 days after its last use.
func (s *Service) Grant(ctx context.Context, identities []string) (secret string, revoke func(context.Context) error, err error) {
	if len(identities) == 0 {
		return "", nil, errors.New("granting an identity: none was named")
	}
	for _, id := range identities {
		if _, err := s.cfg.Directory.ServicePrincipalByResource(id); err != nil {
			return "", nil, fmt.Errorf("granting identity %s: %w", id, err)
		}
	}
	secret = randomText()
	key := prefix + hashed(secret)
	if _, err := store.PutJSON(ctx, s.cfg.Store, key, kind, 0, held{Identities: identities, Expires: s.now().Add(grantLife).UTC()}); err != nil {
		return "", nil, fmt.Errorf("granting an identity: %w", err)
	}
	return secret, func(ctx context.Context) error { return s.Revoke(ctx, secret) }, nil
}

// Attach lets whoever has the secret get tokens of the identities, given by
// their ARM ids, and of no others, until Revoke: also of those that are only
// made later. The first is the one that a request without a name means. It may
// be called again, and changes what the secret is good for.
func (s *Service) Attach(ctx context.Context, secret string, identities []string) error {
	if len(identities) == 0 || len(secret) < 32 {
		return errors.New("attaching identities: there is none, or the secret can be guessed")
	}
	key, want := prefix+hashed(secret), held{Identities: identities, Default: identities[0]}
	for {
		have, rev, err := store.GetJSON[held](ctx, s.cfg.Store, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("attaching identities: %w", err)
		}
		if err == nil && slices.Equal(have.Identities, identities) && have.Default == want.Default && have.Expires.IsZero() {
			return nil
		}
		_, err = store.PutJSON(ctx, s.cfg.Store, key, kind, rev, want)
		if errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("attaching identities: %w", err)
		}
		return nil
	}
}

// Revoke ends the grant with the secret; one that is not there is no error.
func (s *Service) Revoke(ctx context.Context, secret string) error {
	err := s.cfg.Store.Delete(ctx, prefix+hashed(secret), 0)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("revoking a grant: %w", err)
	}
	return nil
}

func hashed(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

type grantKey struct{}

// WithGrant marks the requests of ctx as coming from who holds the grant's
// secret: for whoever brings a pod's or a run's requests here and knows it.
func WithGrant(ctx context.Context, secret string) context.Context {
	return context.WithValue(ctx, grantKey{}, secret)
}

// grantOf is the secret that a request to the metadata address came with.
func grantOf(ctx context.Context) string {
	if v, _ := ctx.Value(grantKey{}).(string); v != "" {
		return v
	}
	return proxy.Credential(ctx)
}

// find gives the grant of a secret. Secrets are looked up by their hash, so
// the comparison's time says nothing of them.
func (s *Service) find(ctx context.Context, secret string) (held, bool, error) {
	if secret == "" {
		return held{}, false, nil
	}
	key := prefix + hashed(secret)
	g, rev, err := store.GetJSON[held](ctx, s.cfg.Store, key)
	if errors.Is(err, store.ErrNotFound) {
		return held{}, false, nil
	}
	if err != nil {
		return held{}, false, fmt.Errorf("reading a grant: %w", err)
	}
	if g.Expires.IsZero() {
		return g, true, nil
	}
	if !s.now().Before(g.Expires) {
		return held{}, false, nil
	}
	if end := s.now().Add(grantLife).UTC(); end.Sub(g.Expires) > 24*time.Hour {
		g.Expires = end
		if _, err := store.PutJSON(ctx, s.cfg.Store, key, kind, rev, g); err != nil && !errors.Is(err, store.ErrConflict) {
			return held{}, false, fmt.Errorf("renewing a grant: %w", err)
		}
	}
	return g, true, nil
}

// Run forgets grants whose time is over, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	return store.Expire(ctx, s.cfg.Store, prefix, s.now)
}

// choose finds among the granted identities the one that a request names: by
// client id, object id or ARM id; without a name the only one.
func (s *Service) choose(g held, get func(string) string) (directory.ServicePrincipal, error) {
	var fits []directory.ServicePrincipal
	for _, id := range g.Identities {
		if sp, err := s.cfg.Directory.ServicePrincipalByResource(id); err == nil && !sp.Disabled && named(sp, get) {
			if id == g.Default && nameless(get) {
				return sp, nil
			}
			fits = append(fits, sp)
		}
	}
	switch len(fits) {
	case 1:
		return fits[0], nil
	case 0:
		return directory.ServicePrincipal{}, refuse("invalid_request", "Identity not found")
	}
	return directory.ServicePrincipal{}, refuse("invalid_request",
		"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request")
}

// nameless reports whether the request names no identity.
func nameless(get func(string) string) bool {
	for _, p := range []string{"client_id", "clientid", "object_id", "principal_id", "msi_res_id", "mi_res_id"} {
		if get(p) != "" {
			return false
		}
	}
	return true
}

// named reports whether every name that the request gives is sp's.
func named(sp directory.ServicePrincipal, get func(string) string) bool {
	for value, params := range map[string][]string{
		sp.AppID:      {"client_id", "clientid"},
		sp.ObjectID:   {"object_id", "principal_id"},
		sp.ResourceID: {"msi_res_id", "mi_res_id"},
	} {
		for _, p := range params {
			if v := get(p); v != "" && !strings.EqualFold(v, value) {
				return false
			}
		}
	}
	return true
}

func refuse(word, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, word, format, args...)
}

// issue gives the token of an identity for a resource.
func (s *Service) issue(r *http.Request, g held) (string, token.Claims, directory.ServicePrincipal, error) {
	get := r.URL.Query().Get
	name := get("resource")
	if name == "" {
		return "", token.Claims{}, directory.ServicePrincipal{}, refuse("invalid_request", "The request must have the query parameter 'resource'.")
	}
	sp, err := s.choose(g, get)
	if err != nil {
		return "", token.Claims{}, sp, err
	}
	res, ok := s.cfg.Tokens.Resource(name)
	if !ok {
		target, err := s.cfg.Directory.ServicePrincipalByName(strings.TrimRight(name, "/"))
		if err != nil || target.ResourceID != "" || target.Disabled {
			return "", token.Claims{}, sp, refuse("invalid_resource", "AADSTS500011: The resource principal named %s was not found in the tenant named %s.",
				shorten(name), s.cfg.Tokens.TenantID())
		}
		res = token.Resource{Audience: name, AppID: target.AppID, Name: target.DisplayName}
	}
	raw, claims, err := s.cfg.Tokens.Issue(r.Context(), token.Request{
		Resource: res, ObjectID: sp.ObjectID, AppID: sp.AppID, Auth: token.AuthCertificate, MIRID: sp.ResourceID, ReuseKey: "imds",
	})
	return raw, claims, sp, err
}

func doubled(r *http.Request) error {
	for name, v := range r.URL.Query() {
		if len(v) > 1 {
			return refuse("invalid_request", "The query parameter '%s' is there twice.", shorten(name))
		}
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// apiVersion demands one of the known versions; of the metadata service newer
// ones are known too.
func apiVersion(r *http.Request, known ...string) error {
	v := r.URL.Query().Get("api-version")
	if slices.Contains(known, v) {
		return nil
	}
	if _, err := time.Parse("2006-01-02", v); err == nil && v > known[len(known)-1] {
		return nil
	}
	return refuse("invalid_request", "The api-version '%s' is not supported. The supported versions are '%s' and later.", shorten(v), strings.Join(known, "', '"))
}
