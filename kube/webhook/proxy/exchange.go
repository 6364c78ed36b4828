package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	maxCached = 128       // clients and resources, together
	maxAnswer = 1 << 20   // bytes of the token service's answer
	maxFile   = 128 << 10 // bytes of the service-account token
	early     = 5 * time.Minute
)

// Exchange gets access tokens for the pod's service-account token, by the
// grant client_credentials with a JWT assertion (RFC 7523), and keeps each until
// five minutes before it ends.
type Exchange struct {
	url, file string
	http      *http.Client

	mu    sync.Mutex
	cache map[key]*entry
}

type key struct{ client, resource string }

// entry holds one token; who gets a new one holds its lock, and others wait.
type entry struct {
	turn  chan struct{}
	token Token
	used  time.Time
}

// NewExchange makes one for the tenant at the authority host, which must be an
// https URL. file is where the service-account token is.
func NewExchange(authority, tenant, file string) (*Exchange, error) {
	u, err := url.Parse(authority)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("cannot use an authority host without https: %q", authority)
	}
	if file == "" {
		return nil, errors.New("AZURE_FEDERATED_TOKEN_FILE not set")
	}
	if strings.ContainsFunc(tenant, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}) {
		return nil, fmt.Errorf("invalid tenant %q", tenant)
	}
	return &Exchange{
		url: u.JoinPath(tenant, "oauth2", "v2.0", "token").String(), file: file,
		http:  &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		cache: map[key]*entry{},
	}, nil
}

// Token implements [Tokens].
func (e *Exchange) Token(ctx context.Context, client, resource string) (Token, error) {
	c := e.entry(key{client, resource})
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return Token{}, ctx.Err()
	}
	if time.Until(c.token.Expires) > early {
		return c.token, nil
	}
	token, err := e.get(ctx, client, resource)
	if err != nil {
		if time.Until(c.token.Expires) > margin { // better than nothing
			return c.token, nil
		}
		return Token{}, err
	}
	c.token = token
	return token, nil
}

// entry finds or makes the key's entry; the one that was used longest ago goes
// when there are too many.
func (e *Exchange) entry(k key) *entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if c := e.cache[k]; c != nil {
		c.used = now
		return c
	}
	if len(e.cache) >= maxCached {
		var oldest key
		at := now
		for k, c := range e.cache {
			if c.used.Before(at) {
				oldest, at = k, c.used
			}
		}
		delete(e.cache, oldest)
	}
	c := &entry{turn: make(chan struct{}, 1), used: now}
	e.cache[k] = c
	return c
}

func (e *Exchange) get(ctx context.Context, client, resource string) (Token, error) {
	assertion, err := readFile(e.file)
	if err != nil {
		return Token{}, fmt.Errorf("service-account token: %w", err)
	}
	scope := resource
	if !strings.HasSuffix(scope, "/.default") {
		scope += "/.default"
	}
	form := url.Values{
		"client_id": {client}, "grant_type": {"client_credentials"}, "scope": {scope}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, strings.NewReader(form.Encode()))
	if err != nil {
		return Token{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	asked := time.Now()
	resp, err := e.http.Do(req)
	if err != nil {
		return Token{}, err
	}
	defer func() { _ = resp.Body.Close() }() // read below
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Token{}, fmt.Errorf("token service: %w", err)
	}
	return decode(resp.StatusCode, body, asked)
}

func decode(status int, body []byte, asked time.Time) (Token, error) {
	var a struct {
		AccessToken string      `json:"access_token"`
		ExpiresIn   json.Number `json:"expires_in"`
		Error       string      `json:"error"`
		Description string      `json:"error_description"`
	}
	err := json.Unmarshal(body, &a)
	if status != http.StatusOK || err != nil {
		if a.Error == "" {
			return Token{}, fmt.Errorf("the token service answered %d", status)
		}
		return Token{}, fmt.Errorf("WorkloadIdentityCredential authentication failed. The token service answered %d: %s: %s", status, a.Error, a.Description)
	}
	seconds, err := a.ExpiresIn.Int64()
	if err != nil || a.AccessToken == "" {
		return Token{}, errors.New("the token service's answer has no token or no lifetime")
	}
	return Token{a.AccessToken, asked.Add(time.Duration(seconds) * time.Second)}, nil
}

func readFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}
