package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// maxBody is the most of an answer that is read.
const maxBody = 256 << 20

// answer is a whole HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// request is one call to a service.
type request struct {
	method, url string
	header      http.Header
	body        any    // nil, []byte, url.Values (a form) or a value sent as JSON
	resource    string // audience of the token; "" sends none
	tenant      string // "" is the account's
	claims      string // of a challenge, decoded
	retried     bool
}

// send does the request: token, retries on "slow down", and one new token
// where a cached one was refused.
func (s *session) send(ctx context.Context, r request) (*answer, error) {
	for attempt := 0; ; attempt++ {
		a, err := s.sendOnce(ctx, r)
		if err != nil {
			return nil, err
		}
		switch {
		case a.status == http.StatusUnauthorized && r.resource != "" && !r.retried && s.dropToken(r):
			r.retried = true
		case (a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable) && attempt < 3:
			if err := pause(ctx, retryAfter(a, time.Duration(attempt+1)*time.Second)); err != nil {
				return nil, err
			}
		default:
			return a, nil
		}
	}
}

func (s *session) sendOnce(ctx context.Context, r request) (*answer, error) {
	body, contentType, err := encodeBody(r.body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(body))
	if err != nil {
		return nil, usagef("the address %q is not valid", r.url)
	}
	if body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	setDefault(req.Header, "User-Agent", "AZURECLI/2.80.0 (LAZ) lazurite/"+s.env.Version)
	setDefault(req.Header, "X-Ms-Client-Request-Id", uuid.NewString())
	setDefault(req.Header, "Accept", "application/json")
	if contentType != "" {
		setDefault(req.Header, "Content-Type", contentType)
	}
	if r.resource != "" {
		token, err := s.token(ctx, r)
		if err != nil {
			return nil, err
		}
		if req.URL.Scheme != "https" {
			return nil, failf("a token is not sent to %s://%s: https only", req.URL.Scheme, req.URL.Host)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	s.trace("Request: %s %s%s", r.method, shownURL(req.URL), headerLines(req.Header))
	client, err := s.http()
	if err != nil {
		return nil, err
	}
	if err := s.stays(req.URL); err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if unknown := (x509.UnknownAuthorityError{}); err != nil && s.onlyLocal && errors.As(err, &unknown) {
		s.allRoots, s.client = true, nil // a name that the local server doesn't own
		return s.sendOnce(ctx, r)
	}
	if err != nil {
		return nil, s.unreachable(err, req.URL)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)
	}
	if len(b) > maxBody {
		return nil, failf("the answer of %s is longer than %d bytes", req.URL.Host, maxBody)
	}
	s.trace("Response: %s, %d bytes%s", resp.Status, len(b), headerLines(resp.Header))
	return &answer{status: resp.StatusCode, header: resp.Header, body: b}, nil
}

func encodeBody(v any) (b []byte, contentType string, err error) {
	switch t := v.(type) {
	case nil:
		return nil, "", nil
	case []byte:
		return t, "", nil
	case url.Values:
		return []byte(t.Encode()), "application/x-www-form-urlencoded", nil
	}
	if b, err = json.Marshal(v); err != nil {
		return nil, "", fmt.Errorf("write the request: %w", err)
	}
	return b, "application/json", nil
}

func setDefault(h http.Header, key, value string) {
	if h.Get(key) == "" {
		h.Set(key, value)
	}
}

// shownURL is an address without the signature that would let someone else in.
func shownURL(u *url.URL) string {
	if !u.Query().Has("sig") {
		return u.String()
	}
	shown := *u
	q := u.Query()
	q.Set("sig", "*****")
	shown.RawQuery = q.Encode()
	return shown.String()
}

func (s *session) trace(format string, args ...any) {
	if s.debug {
		fmt.Fprintf(s.env.Stderr, "DEBUG: "+format+"\n", args...)
	}
}

// headerLines shows headers without what would let someone else in.
func headerLines(h http.Header) string {
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		v := strings.Join(h[k], ", ")
		switch strings.ToLower(k) {
		case "authorization", "proxy-authorization", "cookie", "set-cookie", "api-key", "ocp-apim-subscription-key", "x-identity-header", "secret":
			v = "*****"
		}
		fmt.Fprintf(&b, "\nDEBUG:     %s: %s", k, v)
	}
	return b.String()
}

// retryAfter is how long the server asks to wait: Retry-After in seconds or
// as a date, retry-after-ms, x-ms-retry-after-ms; at most a minute.
func retryAfter(a *answer, otherwise time.Duration) time.Duration {
	d := otherwise
	if ms, err := strconv.Atoi(firstNonEmpty(a.header.Get("retry-after-ms"), a.header.Get("x-ms-retry-after-ms"))); err == nil {
		d = time.Duration(ms) * time.Millisecond
	} else if v := a.header.Get("Retry-After"); v != "" {
		if sec, err := strconv.Atoi(v); err == nil {
			d = time.Duration(sec) * time.Second
		} else if t, err := http.ParseTime(v); err == nil {
			d = time.Until(t)
		}
	}
	return min(max(d, 0), time.Minute)
}

// pause waits d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) unreachable(err error, u *url.URL) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return withHint(failf("the certificate of %s is signed by an authority that isn't trusted here", u.Host),
			"Run it under `laz run -- COMMAND` or after `eval \"$(laz env)\"`, or name a CA bundle in REQUESTS_CA_BUNDLE.")
	}
	if p, _ := s.proxyFor(u); p != nil && s.direct(p.Hostname()) && errors.Is(err, syscall.ECONNREFUSED) {
		return notRunning()
	}
	return withHint(failf("cannot reach %s: %s", u.Host, err), "Is the server running? `laz status` tells, `laz up -d` starts it.")
}

func notRunning() error {
	return withHint(failf("Lazurite is not running."), "Start it: laz up -d")
}

// ownFolder reports whether the state is in the folder that the server on this
// machine keeps for its users.
func (s *session) ownFolder() bool { return s.dir == filepath.Join(lazHome(s.env), "azure") }

// stays refuses to ask Azure itself with what is in the folder of the server on
// this machine while that does not run: its users' tokens are not for Azure.
func (s *session) stays(u *url.URL) error {
	p, err := s.proxyFor(u)
	if err != nil || p != nil || s.direct(u.Hostname()) || !s.ownFolder() || s.local().Listen != "" {
		return err
	}
	if c, err := s.cloud(); err != nil || c.name != publicCloud().name {
		return err
	}
	return notRunning()
}

func (s *session) http() (*http.Client, error) {
	if s.client != nil {
		return s.client, nil
	}
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	s.client = &http.Client{
		Timeout: 5 * time.Minute,
		Transport: &http.Transport{
			Proxy:               func(r *http.Request) (*url.URL, error) { return s.proxyFor(r.URL) },
			DialContext:         (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 15 * time.Second,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			IdleConnTimeout:     90 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s.client, nil
}

// proxyFor gives the proxy for u: HTTPS_PROXY or HTTP_PROXY, which NO_PROXY
// limits, else that of the server on this machine.
func (s *session) proxyFor(u *url.URL) (*url.URL, error) {
	name := "HTTPS_PROXY"
	if u.Scheme == "http" {
		name = "HTTP_PROXY"
	}
	p := firstNonEmpty(s.env.Getenv(name), s.env.Getenv(strings.ToLower(name)))
	if u.Hostname() == metadataHost && s.local().Proxy != "" {
		return s.metadataProxy(p)
	}
	if s.direct(u.Hostname()) {
		return nil, nil
	}
	if p == "" && u.Scheme == "https" {
		p = s.local().Proxy
	}
	if p == "" {
		return nil, nil
	}
	if !strings.Contains(p, "://") {
		p = "http://" + p
	}
	return url.Parse(p)
}

// metadataHost is where machines in Azure find their identities' tokens.
const metadataHost = "169.254.169.254"

// metadataProxy is the way to the metadata service while a server runs on this
// machine: through its proxy, never past it. On a machine of Azure's the address
// itself would give a token of the real cloud, which is nothing to show to this
// one. env is HTTP_PROXY, which under `laz run --identity` is the same proxy
// with what it knows the run by.
func (s *session) metadataProxy(env string) (*url.URL, error) {
	local, err := url.Parse(s.local().Proxy)
	if err != nil {
		return nil, fmt.Errorf("the proxy of the server on this machine: %w", err)
	}
	if u, err := url.Parse(env); err == nil && u.Host == local.Host {
		return u, nil
	}
	return local, nil
}

// direct reports whether host is reached without a proxy.
func (s *session) direct(host string) bool {
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast()) {
		return true
	}
	for _, p := range strings.Split(firstNonEmpty(s.env.Getenv("NO_PROXY"), s.env.Getenv("no_proxy")), ",") {
		p = strings.TrimPrefix(strings.TrimSpace(p), ".")
		if p == "*" || p != "" && (strings.EqualFold(host, p) || strings.HasSuffix(strings.ToLower(host), "."+strings.ToLower(p))) {
			return true
		}
	}
	return false
}

// roots are the trusted authorities: those of REQUESTS_CA_BUNDLE,
// SSL_CERT_FILE or CURL_CA_BUNDLE, else the system's; and the local server's.
// Where its proxy is the way out, its authority alone is tried first, since
// reading a whole bundle takes longer than most requests.
func (s *session) roots() (*x509.CertPool, error) {
	get := s.env.Getenv
	bundle := firstNonEmpty(get("REQUESTS_CA_BUNDLE"), get("SSL_CERT_FILE"), get("CURL_CA_BUNDLE"))
	local := s.local()
	proxy := firstNonEmpty(get("HTTPS_PROXY"), get("https_proxy"), local.Proxy)
	if s.onlyLocal = local.OwnCA != "" && proxy == local.Proxy && !s.allRoots; s.onlyLocal {
		return poolOf(x509.NewCertPool(), local.OwnCA)
	}
	if bundle == "" && local.CA == "" {
		return nil, nil // the system's
	}
	pool := x509.NewCertPool()
	if bundle == "" {
		if system, err := x509.SystemCertPool(); err == nil {
			pool = system
		}
	}
	return poolOf(pool, bundle, local.CA)
}

// poolOf adds the certificates of PEM files; an empty path is none.
func poolOf(pool *x509.CertPool, paths ...string) (*x509.CertPool, error) {
	for _, path := range paths {
		if path == "" {
			continue
		}
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read CA bundle: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, failf("the CA bundle %s has no certificate", path)
		}
	}
	return pool, nil
}
