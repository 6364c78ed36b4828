package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// azClientID is az's own application, a public client.
const azClientID = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

// tokenCache is laz_tokens.json: private to the user, shared by processes.
type tokenCache struct {
	Access  map[string]cachedToken `json:"access"`  // by user, tenant and resource
	Refresh map[string]string      `json:"refresh"` // by authority and user
}

type cachedToken struct {
	Token     string `json:"token"`
	ExpiresOn int64  `json:"expiresOn"` // unix seconds
}

// ownerFile is laz_owner.json, by which the server signs its local user in.
type ownerFile struct {
	Authority    string `json:"authority"`
	TenantID     string `json:"tenantId"`
	Username     string `json:"username"`
	RefreshToken string `json:"refreshToken"`
}

// grant is a token endpoint's answer (RFC 6749 section 5.1).
type grant struct {
	AccessToken  string      `json:"access_token"`
	RefreshToken string      `json:"refresh_token"`
	IDToken      string      `json:"id_token"`
	ExpiresIn    json.Number `json:"expires_in"`
	ExpiresOn    json.Number `json:"expires_on"`
}

func (g grant) expiry() int64 {
	if n, err := g.ExpiresOn.Int64(); err == nil && n > 0 {
		return n
	}
	n, err := g.ExpiresIn.Int64()
	if err != nil {
		n = 300
	}
	return time.Now().Unix() + n
}

func (s *session) cache() *tokenCache {
	if s.tokens == nil {
		s.tokens = s.readCache()
	}
	return s.tokens
}

// readCache reads the file; what can't be read is an empty cache.
func (s *session) readCache() *tokenCache {
	c := &tokenCache{}
	if b, err := os.ReadFile(s.path("laz_tokens.json")); err == nil {
		if json.Unmarshal(b, c) != nil {
			c = &tokenCache{}
		}
	}
	if c.Access == nil {
		c.Access = map[string]cachedToken{}
	}
	if c.Refresh == nil {
		c.Refresh = map[string]string{}
	}
	return c
}

// keep changes the cache on disk as another process may have left it.
func (s *session) keep(change func(c *tokenCache)) {
	c := s.readCache()
	change(c)
	now := time.Now().Unix()
	for k, t := range c.Access {
		if t.ExpiresOn <= now {
			delete(c.Access, k)
		}
	}
	s.tokens = c
	b, err := json.Marshal(c)
	if err == nil {
		err = writePrivate(s.path("laz_tokens.json"), b)
	}
	if err != nil {
		s.warn("WARNING: the token is not kept: %s", err)
	}
}

func accessKey(user, tenant, resource string) string {
	return strings.ToLower(user + "|" + tenant + "|" + strings.TrimRight(resource, "/"))
}

// token gives an access token for r's resource, from the cache where one
// lives two minutes more.
func (s *session) token(ctx context.Context, r request) (string, error) {
	a, err := s.account()
	if err != nil {
		return "", err
	}
	t, err := s.accountToken(ctx, a, firstNonEmpty(r.tenant, a.TenantID), r.resource, r.claims)
	return t.Token, err
}

func (s *session) accountToken(ctx context.Context, a *account, tenant, resource, claims string) (cachedToken, error) {
	key := accessKey(a.User.Name, tenant, resource)
	if t, ok := s.cache().Access[key]; ok && claims == "" && t.ExpiresOn > time.Now().Unix()+120 {
		return t, nil
	}
	g, err := s.acquire(ctx, a, tenant, resource, claims)
	if err != nil {
		return cachedToken{}, err
	}
	t := cachedToken{Token: g.AccessToken, ExpiresOn: g.expiry()}
	s.keep(func(c *tokenCache) {
		c.Access[key] = t
		if g.RefreshToken != "" {
			c.Refresh[s.refreshKey(a.User.Name)] = g.RefreshToken
		}
	})
	return t, nil
}

// dropToken forgets the token that a service refused; false if it was fresh.
func (s *session) dropToken(r request) bool {
	a, err := s.account()
	if err != nil {
		return false
	}
	key := accessKey(a.User.Name, firstNonEmpty(r.tenant, a.TenantID), r.resource)
	if _, had := s.cache().Access[key]; !had {
		return false
	}
	s.keep(func(c *tokenCache) { delete(c.Access, key) })
	return true
}

func (s *session) authority() (string, error) {
	c, err := s.cloud()
	if err != nil {
		return "", err
	}
	a, err := c.endpoint("activeDirectory")
	return strings.TrimRight(a, "/"), err
}

func (s *session) refreshKey(user string) string {
	a, err := s.authority()
	if err != nil {
		return user
	}
	return strings.ToLower(a + "|" + user)
}

// acquire asks the token service for a new token by what the account signed
// in with.
func (s *session) acquire(ctx context.Context, a *account, tenant, resource, claims string) (*grant, error) {
	if a.User.AssignedIdentityInfo != "" {
		return s.managedIdentityToken(ctx, a.User.AssignedIdentityInfo, resource)
	}
	form := url.Values{"scope": {resource + "/.default"}, "client_info": {"1"}}
	if claims != "" {
		form.Set("claims", claims)
	}
	if a.User.Type == "servicePrincipal" {
		if err := s.principalCredential(form, a.User.Name, tenant); err != nil {
			return nil, err
		}
		return s.grant(ctx, tenant, form)
	}
	refresh := s.refreshToken(a.User.Name)
	if refresh == "" {
		return nil, failf("User '%s' does not exist in the token cache. Run `az login`.", a.User.Name)
	}
	form.Set("client_id", azClientID)
	form.Set("grant_type", "refresh_token")
	form.Set("refresh_token", refresh)
	form.Set("scope", form.Get("scope")+" offline_access openid profile")
	g, err := s.grant(ctx, tenant, form)
	owner := s.owner()
	if isCode(err, "invalid_grant") && strings.EqualFold(owner.Username, a.User.Name) && owner.RefreshToken != refresh {
		form.Set("refresh_token", owner.RefreshToken) // the file that the server renews
		g, err = s.grant(ctx, tenant, form)
	}
	if r, ok := errors.AsType[*remoteError](err); ok && r.err.Code == "invalid_grant" {
		return nil, withHint(failf("%s", r.err.Message), "To re-authenticate, please run:\naz login")
	}
	return g, err
}

// refreshToken is the user's, of an earlier sign-in or of laz_owner.json.
func (s *session) refreshToken(user string) string {
	owner := s.owner()
	kept := s.cache().Refresh[s.refreshKey(user)]
	if kept == "" && strings.EqualFold(owner.Username, user) {
		return owner.RefreshToken
	}
	return kept
}

func (s *session) owner() ownerFile {
	var o ownerFile
	b, err := os.ReadFile(s.path("laz_owner.json"))
	if err != nil || json.Unmarshal(b, &o) != nil {
		return ownerFile{}
	}
	return o
}

// grant posts a form to the tenant's token endpoint (RFC 6749 section 3.2).
func (s *session) grant(ctx context.Context, tenant string, form url.Values) (*grant, error) {
	base, err := s.authority()
	if err != nil {
		return nil, err
	}
	a, err := s.send(ctx, request{method: http.MethodPost, url: base + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token", body: form})
	if err != nil {
		return nil, err
	}
	return readGrant(a)
}

func readGrant(a *answer) (*grant, error) {
	if a.status != http.StatusOK {
		return nil, readRemote(a, dialectPlain)
	}
	var g grant
	if err := json.Unmarshal(a.body, &g); err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	if g.AccessToken == "" {
		return nil, errors.New("the token service answered without a token")
	}
	return &g, nil
}

// managedIdentityToken asks the identity endpoint of the host (App Service
// style where IDENTITY_ENDPOINT says so, else IMDS).
func (s *session) managedIdentityToken(ctx context.Context, info, resource string) (*grant, error) {
	q := url.Values{"resource": {resource}}
	for prefix, key := range map[string]string{"MSIClient-": "client_id", "MSIObject-": "object_id", "MSIResource-": "mi_res_id"} {
		if id, ok := strings.CutPrefix(info, prefix); ok {
			q.Set(key, id)
		}
	}
	r := request{method: http.MethodGet, header: http.Header{}}
	if e := s.env.Getenv("IDENTITY_ENDPOINT"); e != "" {
		q.Set("api-version", "2019-08-01")
		r.url = e + "?" + q.Encode()
		r.header.Set("X-Identity-Header", s.env.Getenv("IDENTITY_HEADER"))
	} else {
		q.Set("api-version", "2018-02-01")
		r.url = firstNonEmpty(s.env.Getenv("AZURE_POD_IDENTITY_AUTHORITY_HOST"), "http://"+metadataHost) + "/metadata/identity/oauth2/token?" + q.Encode()
		r.header.Set("Metadata", "true")
	}
	a, err := s.send(ctx, r)
	if err != nil {
		return nil, err
	}
	return readGrant(a)
}

// principalEntry is one of service_principal_entries.json, in az's form.
type principalEntry struct {
	ClientID        string `json:"client_id"`
	Tenant          string `json:"tenant"`
	ClientSecret    string `json:"client_secret,omitempty"`
	Certificate     string `json:"certificate,omitempty"` // absolute path of a PEM file
	ClientAssertion string `json:"client_assertion,omitempty"`
}

func (s *session) principals() []principalEntry {
	var l []principalEntry
	b, err := os.ReadFile(s.path("service_principal_entries.json"))
	if err != nil || json.Unmarshal(b, &l) != nil {
		return nil
	}
	return l
}

func (s *session) savePrincipal(e principalEntry) error {
	l := []principalEntry{e}
	for _, o := range s.principals() {
		if o.ClientID != e.ClientID || o.Tenant != e.Tenant {
			l = append(l, o)
		}
	}
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write the service principal: %w", err)
	}
	return writePrivate(s.path("service_principal_entries.json"), b)
}

func (s *session) principalCredential(form url.Values, id, tenant string) error {
	for _, e := range s.principals() {
		if strings.EqualFold(e.ClientID, id) {
			return s.fillCredential(form, e, tenant)
		}
	}
	return failf("The credential of service principal '%s' is not kept here. Run `az login --service-principal`.", id)
}

func (s *session) fillCredential(form url.Values, e principalEntry, tenant string) error {
	form.Set("client_id", e.ClientID)
	form.Set("grant_type", "client_credentials")
	assertion := e.ClientAssertion
	switch {
	case e.ClientSecret != "":
		form.Set("client_secret", e.ClientSecret)
		return nil
	case e.Certificate != "":
		base, err := s.authority()
		if err != nil {
			return err
		}
		if assertion, err = certificateAssertion(e.Certificate, e.ClientID, base+"/"+tenant+"/oauth2/v2.0/token"); err != nil {
			return err
		}
	}
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
	return nil
}

// claim reads one claim of a token that was just received over TLS; it is
// shown or used to name things, never trusted.
func claim(jwt, name string) string {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	v, err := decode(b)
	if err != nil {
		return ""
	}
	switch t := at(v, name).(type) {
	case string:
		return t
	case json.Number:
		return t.String()
	}
	return ""
}
