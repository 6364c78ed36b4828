// Package entra serves the login hosts: discovery, key sets, the token
// endpoint with one file for each grant, and the pages on which people sign in.
package entra

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// Config is what the login hosts stand on.
type Config struct {
	Tokens     *token.Service
	Federation *token.Federation
	Directory  *directory.Directory
	Store      store.Store // codes and refresh tokens, under "entra/"

	// Record takes the trace of every refusal; nil drops it.
	Record func(trace.Trace)

	// CredentialDelay is how long after its last change a federated credential
	// is not seen yet, as in Azure; 0 is at once.
	CredentialDelay time.Duration

	// LocalPages is where Pages are served, "http://HOST:PORT"; "" is nowhere.
	LocalPages string

	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// Service is the login hosts' http.Handler.
type Service struct {
	cfg    Config
	tokens *token.Service
	dir    *directory.Directory
	now    func() time.Time
	grants map[string]grant
	tries  *throttle // of passwords and user codes

	devices *throttle
}

// New makes the handler of the login hosts.
func New(cfg Config) (*Service, error) {
	if cfg.Tokens == nil || cfg.Federation == nil || cfg.Directory == nil || cfg.Store == nil {
		return nil, errors.New("the login hosts need tokens, federation, directory and store")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Record == nil {
		cfg.Record = func(trace.Trace) {}
	}
	s := &Service{cfg: cfg, tokens: cfg.Tokens, dir: cfg.Directory, now: cfg.Clock, tries: newThrottle(cfg.Clock, throttleAfter), devices: newThrottle(cfg.Clock, devicesAfter)}
	s.grants = map[string]grant{
		"client_credentials": s.clientCredentials,
		"password":           s.password,
		"authorization_code": s.authorizationCode,
		"refresh_token":      s.refreshToken,
		"device_code":        s.deviceCode,
		"urn:ietf:params:oauth:grant-type:device_code": s.deviceCode,
	}
	return s, nil
}

// tenantRef is the tenant as a request names it.
type tenantRef struct {
	name   string // as it came: id, domain, common, organizations
	shared bool   // common or organizations: not one tenant
}

type endpoint func(http.ResponseWriter, *http.Request, tenantRef)

// ServeHTTP finds the endpoint by the path behind the tenant.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if trace.From(ctx) == nil {
		ctx, _ = trace.With(ctx)
		r = r.WithContext(ctx)
	}
	if !isLocal(r) {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store, no-cache")
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if name == "device" || name == "devicelogin" {
		s.devicePage(w, r)
		return
	}
	e, methods := s.route(strings.TrimSuffix(rest, "/"))
	switch {
	case e == nil:
		s.fail(w, r, attempt{}, aad(apierr.NotFound, "invalid_request", "90093", "The login service has nothing at '%s'.", shorten(r.URL.Path)))
		return
	case r.Method == http.MethodOptions: // single-page applications redeem codes from their own origin
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type, Client-Request-Id, Return-Client-Request-Id, X-Client-Sku, X-Client-Ver, X-Ms-Lib-Capability, X-AnchorMailbox")
		w.WriteHeader(http.StatusNoContent)
		return
	case !slices.Contains(methods, r.Method):
		w.Header().Set("Allow", strings.Join(methods, ", "))
		s.fail(w, r, attempt{}, aad(apierr.MethodNotAllowed, "invalid_request", "900561",
			"The endpoint only accepts %s requests. Received a %s request.", strings.Join(methods, " and "), r.Method))
		return
	}
	ref, err := s.tenant(name)
	if err != nil {
		s.fail(w, r, attempt{}, err)
		return
	}
	e(w, r, ref)
}

// route is the endpoint at a path behind the tenant, compared without case, and
// the methods it takes.
func (s *Service) route(path string) (endpoint, []string) {
	get, post := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}
	both := append(slices.Clone(get), http.MethodPost)
	low := strings.ToLower(path)
	switch low {
	case "discovery/instance":
		return s.instanceDiscovery, get
	case "v2.0/.well-known/openid-configuration":
		return s.configuration("2.0"), get
	case ".well-known/openid-configuration":
		return s.configuration("1.0"), get
	case "discovery/v2.0/keys":
		return s.keys("2.0"), get
	case "discovery/keys":
		return s.keys("1.0"), get
	case "oauth2/v2.0/token":
		return s.tokenEndpoint("2.0"), post
	case "oauth2/token":
		return s.tokenEndpoint("1.0"), post
	case "oauth2/v2.0/devicecode":
		return s.deviceEndpoint("2.0"), append(slices.Clone(post), http.MethodGet)
	case "oauth2/devicecode":
		return s.deviceEndpoint("1.0"), append(slices.Clone(post), http.MethodGet)
	case "oauth2/v2.0/authorize":
		return s.authorize("2.0"), both
	case "oauth2/authorize":
		return s.authorize("1.0"), both
	case "oauth2/v2.0/logout", "oauth2/logout":
		return s.logout, both
	case "oauth2/deviceauth":
		return func(w http.ResponseWriter, r *http.Request, _ tenantRef) { s.devicePage(w, r) }, both
	}
	if strings.HasPrefix(low, "userrealm/") {
		return s.userRealm(path[len("userrealm/"):]), get
	}
	if low == "userrealm" {
		return s.userRealm(""), get
	}
	return nil, nil
}

// tenant knows the tenant by id and by its domains, and the two names that
// stand for whichever tenant the user is of.
func (s *Service) tenant(name string) (tenantRef, error) {
	low := strings.ToLower(name)
	if low == "common" || low == "organizations" {
		return tenantRef{low, true}, nil
	}
	if low == s.tokens.TenantID() || slices.ContainsFunc(s.domains(), func(d string) bool { return strings.EqualFold(d, name) }) {
		return tenantRef{name, false}, nil
	}
	return tenantRef{}, aad(apierr.BadRequest, "invalid_request", "90002",
		"Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. "+
			"Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.", shorten(name))
}

func (s *Service) domains() []string {
	t, err := s.dir.Tenant()
	if err != nil {
		return nil // not described yet: known by its id alone
	}
	return t.Domains
}

// Run forgets codes and refresh tokens whose time is over, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	return store.Expire(ctx, s.cfg.Store, prefix, s.now)
}
