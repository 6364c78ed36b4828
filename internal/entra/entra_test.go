package entra_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/entra"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

const (
	tenant = "11111111-2222-3333-4444-555555555555"
	issuer = "https://eastus.oic.prod-aks.azure.com/" + tenant + "/cluster/"
	cli    = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
	miID   = "/subscriptions/99999999-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1"
	miApp  = "aaaaaaaa-0000-0000-0000-000000000001"
	miOID  = "bbbbbbbb-0000-0000-0000-000000000001"
	ours   = "login.microsoftonline.com"
	sub    = "system:serviceaccount:default:app"
	aud    = "api://AzureADTokenExchange"
)

// plainSeal stands for the keyring.
type plainSeal struct{}

func (plainSeal) Seal(_ context.Context, scope string, plain, aad []byte) ([]byte, error) {
	return append([]byte(scope+string(aad)), plain...), nil
}

func (plainSeal) Open(_ context.Context, scope string, sealed, aad []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, []byte(scope+string(aad)))
	if !ok {
		return nil, errors.New("sealed otherwise")
	}
	return plain, nil
}

// cluster is an issuer in this process.
type cluster struct{ key *rsa.PrivateKey }

func (c cluster) Keys(_ context.Context, iss string) (jose.JSONWebKeySet, bool, error) {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &c.key.PublicKey, KeyID: "k", Use: "sig"}}}, iss == issuer, nil
}

// lab is a whole login host.
type lab struct {
	t       testing.TB
	svc     *entra.Service
	tokens  *token.Service
	dir     *directory.Directory
	store   store.Store
	cluster cluster
	client  *http.Client
	server  *httptest.Server

	mu     sync.Mutex // guards now and traces
	now    time.Time
	traces []trace.Trace
}

func newLab(t testing.TB, edit func(*entra.Config)) *lab {
	t.Helper()
	l := &lab{t: t, now: time.Now(), cluster: cluster{rsaKey(t)}}
	st, err := sqlstore.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "laz.db"))
	must(t, err)
	l.store = st
	t.Cleanup(func() { _ = st.Close() })
	l.dir, err = directory.Open(context.Background(), st, tenant)
	must(t, err)
	t.Cleanup(l.dir.Close)
	must(t, l.dir.SetTenant(t.Context(), directory.Tenant{DisplayName: "Contoso", Domains: []string{"contoso.example"}}))
	l.tokens, err = token.Open(t.Context(), token.Config{Store: st, Seal: plainSeal{}, TenantID: tenant, Clock: l.clock,
		AuthorityHosts: []string{ours, "login.lab.test"}})
	must(t, err)
	fed, err := token.NewFederation(token.FederationConfig{Own: l.tokens, Issuers: []token.IssuerKeys{l.cluster}, Clock: l.clock})
	must(t, err)
	cfg := entra.Config{Tokens: l.tokens, Federation: fed, Directory: l.dir, Store: st, Clock: l.clock, Record: func(tr trace.Trace) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.traces = append(l.traces, tr)
	}}
	if edit != nil {
		edit(&cfg)
	}
	l.svc, err = entra.New(cfg)
	must(t, err)
	l.serve()
	return l
}

// serve puts a TLS server before the service that shows it as the login hosts.
func (l *lab) serve() {
	l.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.svc.ServeHTTP(w, r.WithContext(arrival.With(r.Context(), arrival.Arrival{Client: netip.MustParseAddr("127.0.0.1")})))
	}))
	l.t.Cleanup(l.server.Close)
	l.client = l.server.Client()
	tr := l.client.Transport.(*http.Transport).Clone()
	tr.TLSClientConfig.ServerName = "example.com" // the name of httptest's certificate
	l.client.Transport = rewrite{tr, l.server.Listener.Addr().String()}
	jar, err := cookiejar.New(nil)
	must(l.t, err)
	l.client.Jar = jar
	l.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
}

// rewrite sends every request to one address, whatever its host.
type rewrite struct {
	next http.RoundTripper
	addr string
}

func (rw rewrite) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host, r.URL.Host = r.URL.Host, rw.addr
	return rw.next.RoundTrip(r)
}

func (l *lab) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *lab) wait(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(d)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return k
}

// do sends a request and gives status and JSON body.
func (l *lab) do(method, rawURL string, form url.Values) (int, map[string]any) {
	l.t.Helper()
	status, _, body := l.raw(method, rawURL, form)
	var v map[string]any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		l.t.Fatalf("%s %s: %d, not JSON: %s", method, rawURL, status, body)
	}
	return status, v
}

func (l *lab) raw(method, rawURL string, form url.Values) (int, http.Header, string) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, rawURL, strings.NewReader(form.Encode()))
	must(l.t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := l.client.Do(req)
	must(l.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(l.t, err)
	return resp.StatusCode, resp.Header, string(b)
}

func (l *lab) token(form ...string) (int, map[string]any) {
	l.t.Helper()
	return l.do("POST", "https://"+ours+"/"+tenant+"/oauth2/v2.0/token", values(form...))
}

// values makes a form of name, value, name, value.
func values(form ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(form); i += 2 {
		v.Set(form[i], form[i+1])
	}
	return v
}

// refused checks an answer's error and gives its description.
func (l *lab) refused(status int, body map[string]any, wantStatus int, word, number string) string {
	l.t.Helper()
	text, _ := body["error_description"].(string)
	if status != wantStatus || body["error"] != word || !strings.HasPrefix(text, "AADSTS"+number+": ") {
		l.t.Errorf("got %d %v, want %d %s AADSTS%s", status, body, wantStatus, word, number)
	}
	return text
}

func (l *lab) claims(body map[string]any) map[string]any {
	l.t.Helper()
	raw, _ := body["access_token"].(string)
	return decode(l.t, raw)
}

func decode(t testing.TB, raw string) map[string]any {
	t.Helper()
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		t.Fatalf("not a token: %q", raw)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	var v map[string]any
	must(t, json.Unmarshal(b, &v))
	return v
}

func sign(t testing.TB, key *rsa.PrivateKey, alg string, header, claims map[string]any) string {
	t.Helper()
	header["alg"], header["typ"] = alg, "JWT"
	hb, _ := json.Marshal(header)
	cb, _ := json.Marshal(claims)
	signed := base64.RawURLEncoding.EncodeToString(hb) + "." + base64.RawURLEncoding.EncodeToString(cb)
	sum := sha256.Sum256([]byte(signed))
	var sig []byte
	var err error
	if alg == "PS256" {
		sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		sig, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	}
	must(t, err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// pod is the projected token of a service account.
func (l *lab) pod(edit func(map[string]any)) string {
	l.t.Helper()
	now := l.clock()
	c := map[string]any{"iss": issuer, "sub": sub, "aud": []string{aud}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "default"}}
	if edit != nil {
		edit(c)
	}
	return sign(l.t, l.cluster.key, "RS256", map[string]any{"kid": "k"}, c)
}

// identity makes a managed identity that trusts the cluster.
func (l *lab) identity() {
	l.t.Helper()
	must(l.t, l.dir.EnsureManagedIdentity(l.t.Context(), directory.ManagedIdentity{ResourceID: miID, ClientID: miApp, PrincipalID: miOID, TenantID: tenant, Name: "id1"}))
	l.credential(issuer, sub, aud)
}

func (l *lab) credential(iss, subject, audience string) {
	l.t.Helper()
	_, err := l.dir.SetCredential(l.t.Context(), miApp, directory.FederatedCredential{Name: "fed", Issuer: iss, Subject: subject, Audiences: []string{audience}})
	must(l.t, err)
}

func (l *lab) federated(raw, scope string) (int, map[string]any) {
	l.t.Helper()
	return l.token("grant_type", "client_credentials", "client_id", miApp, "scope", scope,
		"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", raw)
}

// app makes an application with a service principal.
func (l *lab) app(a directory.App) directory.App {
	l.t.Helper()
	if a.DisplayName == "" {
		a.DisplayName = "app"
	}
	a, err := l.dir.CreateApp(l.t.Context(), a)
	must(l.t, err)
	_, err = l.dir.CreateServicePrincipal(l.t.Context(), directory.ServicePrincipal{AppID: a.AppID})
	must(l.t, err)
	return a
}

func (l *lab) user() directory.User {
	l.t.Helper()
	u, err := l.dir.CreateUser(l.t.Context(), directory.User{UPN: "ada@contoso.example", DisplayName: "Ada"}, "correct horse")
	must(l.t, err)
	return u
}

func keysOf(m map[string]any) string {
	var out []string
	for _, k := range []string{"access_token", "client_info", "expires_in", "expires_on", "ext_expires_in", "id_token", "not_before", "refresh_in", "refresh_token", "resource", "scope", "token_type"} {
		if _, ok := m[k]; ok {
			out = append(out, k)
		}
	}
	if len(out) != len(m) {
		return fmt.Sprint(m)
	}
	return strings.Join(out, " ")
}
