package token

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/strictjson"
)

const (
	maxDocument  = 1 << 20          // bytes of a discovery document or key set
	keysMaxAge   = time.Hour        // a key set is fetched again after this
	keysGrace    = time.Hour        // and used so much longer while that fails
	refetchFloor = 30 * time.Second // between fetches for ids that a set lacks
	failureFloor = 2 * time.Second  // between fetches that fail
)

// remoteKeys fetches and remembers the key sets of issuers elsewhere.
type remoteKeys struct {
	client  *http.Client
	timeout time.Duration
	now     func() time.Time
	sets    *cache[*remoteSet]
	flights flights
}

// remoteSet is what is known of one issuer.
type remoteSet struct {
	mu      sync.Mutex // guards the fields below
	keys    map[string]*rsa.PublicKey
	fetched time.Time // when keys came
	tried   time.Time // when they were last asked for
	err     error     // what that gave
}

func newRemoteKeys(cfg FederationConfig, g guard) *remoteKeys {
	tr := &http.Transport{
		// No Proxy: the guard must see the address that is connected to.
		DialContext:            g.dial,
		TLSClientConfig:        &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    3 * time.Second,
		DisableKeepAlives:      true,
		DisableCompression:     true, // else 1 MiB could unfold into much more
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &remoteKeys{
		client: &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it redirects, which is not followed")
		}},
		timeout: cfg.Timeout, now: cfg.Clock, sets: newCache[*remoteSet](1024),
	}
}

// key is the issuer's key with the id, nil when it has none. An error says why
// its keys can't be had.
func (r *remoteKeys) key(ctx context.Context, issuer, kid string) (*rsa.PublicKey, error) {
	id := sha256.Sum256([]byte(issuer))
	set, ok := r.sets.get(id)
	if !ok {
		set = &remoteSet{}
		r.sets.put(id, set)
	}
	if pub, done, err := set.look(kid, r.now()); done {
		return pub, err
	}
	// Whoever comes while a fetch is under way takes its outcome.
	if err := r.flights.do(ctx, issuer, func(ctx context.Context) error {
		keys, err := r.fetch(ctx, issuer)
		set.take(keys, err, r.now())
		return nil
	}); err != nil {
		return nil, err
	}
	set.mu.Lock()
	defer set.mu.Unlock()
	if pub := set.keys[kid]; pub != nil && r.now().Sub(set.fetched) < keysMaxAge+keysGrace {
		return pub, nil
	}
	return nil, set.err
}

// look answers from what is known; done is false when it must be fetched.
func (s *remoteSet) look(kid string, now time.Time) (pub *rsa.PublicKey, done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := now.Sub(s.fetched)
	switch pub = s.keys[kid]; {
	case pub != nil && age < keysMaxAge:
		return pub, true, nil
	case s.err != nil && now.Sub(s.tried) < failureFloor:
		if pub != nil && age < keysMaxAge+keysGrace {
			return pub, true, nil
		}
		return nil, true, s.err
	case s.keys != nil && pub == nil && s.err == nil && now.Sub(s.tried) < refetchFloor:
		return nil, true, nil
	}
	return nil, false, nil
}

func (s *remoteSet) take(keys map[string]*rsa.PublicKey, err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried, s.err = now, err
	if err == nil {
		s.keys, s.fetched = keys, now
	}
}

// fetch reads the issuer's discovery document and then its key set (OpenID
// Connect Discovery 1.0 section 4).
func (r *remoteKeys) fetch(ctx context.Context, issuer string) (map[string]*rsa.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if err := checkURL(issuer); err != nil {
		return nil, fmt.Errorf("the issuer %w", err)
	}
	if strings.Contains(issuer, "?") {
		return nil, fmt.Errorf("the issuer '%s' has a query", short(issuer))
	}
	b, err := r.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, fmt.Errorf("its discovery document: %w", err)
	}
	doc, err := strictjson.Object(b, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("its discovery document: %w", err)
	}
	if doc["issuer"] != issuer {
		return nil, fmt.Errorf("its discovery document names another issuer: expected '%s', received '%s'", short(issuer), short(fmt.Sprint(doc["issuer"])))
	}
	jwks, _ := doc["jwks_uri"].(string)
	if err := checkURL(jwks); err != nil {
		return nil, fmt.Errorf("the jwks_uri %w", err)
	}
	if b, err = r.get(ctx, jwks); err != nil {
		return nil, fmt.Errorf("its key set: %w", err)
	}
	return parseJWKS(b)
}

// checkURL refuses what we don't fetch from.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || len(raw) > 2048:
		return fmt.Errorf("'%s' is not a URL", short(raw))
	case u.Scheme != "https":
		return fmt.Errorf("'%s' is not https", short(raw))
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("'%s' has user information or a fragment", short(raw))
	}
	return nil
}

func (r *remoteKeys) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", short(address), err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "lazurite-token-service")
	resp, err := r.client.Do(req)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) { // its text repeats method and address
			err = of.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("no answer within %v", r.timeout)
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", short(address), resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if ctx.Err() != nil { // also where the other side ended because we hung up
		return nil, fmt.Errorf("no end of the answer within %v", r.timeout)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxDocument)
	}
	return b, nil
}
