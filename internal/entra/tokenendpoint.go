package entra

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// maxForm is how long the body of a token request may be: an assertion of 16
// KiB, encoded, with room for the rest.
const maxForm = 128 << 10

// grant checks one kind of proof and gives the answer. To add one: a file
// grant_NAME.go, a line in New.
type grant func(context.Context, *tokenRequest) (*answer, error)

// tokenRequest is a request to the token endpoint, its form read.
type tokenRequest struct {
	version string // of the endpoint: "1.0" takes resource, "2.0" takes scope
	tenant  tenantRef
	host    string // as the client called us
	client  *client
	form    url.Values
	http    *http.Request
}

func (r *tokenRequest) get(name string) string { return r.form.Get(name) }

func (r *tokenRequest) need(name string) (string, error) {
	if v := r.form.Get(name); v != "" {
		return v, nil
	}
	return "", missing(name)
}

// answer is what a grant gives.
type answer struct {
	raw     string
	claims  token.Claims
	scope   string          // v2 of users
	refresh string          // users with offline_access
	idToken string          // users with openid
	user    *directory.User // nil: an application
}

// tokenEndpoint is the pipeline of every grant: form, tenant, grant type,
// client, proof, answer (RFC 6749 section 3.2).
func (s *Service) tokenEndpoint(version string) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t tenantRef) {
		req := &tokenRequest{version: version, tenant: t, host: r.Host, http: r}
		a, err := s.exchange(w, r, req)
		if err != nil {
			s.fail(w, r, req.attempt(), err)
			return
		}
		w.Header().Set("Pragma", "no-cache")
		if r.Header.Get("Origin") != "" { // single-page applications redeem codes from their own origin
			w.Header().Set("Access-Control-Allow-Origin", "*")
		}
		web.EventFrom(r.Context()).SetPrincipal(a.claims.ObjectID)
		web.WriteJSON(w, http.StatusOK, a.body(s, req))
	}
}

func (r *tokenRequest) attempt() attempt {
	what := "a token"
	if target := r.get("scope") + r.get("resource"); target != "" {
		what += " for " + shorten(target)
	}
	if grant := r.get("grant_type"); grant != "" {
		what += " by " + shorten(grant[strings.LastIndexByte(grant, ':')+1:])
	}
	return attempt{who: shorten(r.get("client_id")), what: what}
}

func (s *Service) exchange(w http.ResponseWriter, r *http.Request, req *tokenRequest) (*answer, error) {
	var err error
	if req.form, err = readForm(w, r); err != nil {
		return nil, err
	}
	kind, err := req.need("grant_type")
	if err != nil {
		return nil, err
	}
	web.EventFrom(r.Context()).SetOperation("token/" + shorten(kind))
	g := s.grants[kind]
	if g == nil {
		text := "The app requested an unsupported grant type '" + shorten(kind) + "'."
		if kind == "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			text += " On-behalf-of exchanges are not offered by this token service."
		}
		return nil, aad(apierr.BadRequest, "unsupported_grant_type", "70003", "%s", text)
	}
	id := req.get("client_id")
	if user, _, ok := r.BasicAuth(); ok && id == "" {
		if id, err = url.QueryUnescape(user); err != nil {
			id = user
		}
		req.form.Set("client_id", id)
	}
	if id == "" {
		return nil, missing("client_id")
	}
	if req.client, err = s.findClient(id); err != nil {
		return nil, err
	}
	if err := s.dir.Fresh(); err != nil {
		return nil, apierr.New(apierr.Unavailable, "temporarily_unavailable", "The directory can't be read at the moment.").WithInner("90033").WithCause(err)
	}
	return g(r.Context(), req)
}

// readForm reads the body's form, and from the query what the body lacks: some
// clients send all parameters there. A parameter that comes twice is refused.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	posted, err := postedForm(w, r)
	if err != nil {
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong || apierr.Is(err, apierr.TooLarge) {
			return nil, aad(apierr.TooLarge, "invalid_request", "9000410", "The request is longer than %d bytes.", maxForm)
		}
		return nil, aad(apierr.BadRequest, "invalid_request", "9002313", "Invalid request. Request is malformed or invalid.")
	}
	form := url.Values{}
	for _, from := range []url.Values{posted, r.URL.Query()} {
		for name, values := range from {
			if len(values) > 1 {
				return nil, aad(apierr.BadRequest, "invalid_request", "9000411",
					"The request is not properly formatted. The parameter '%s' is duplicated.", shorten(name))
			}
			if !form.Has(name) {
				form[name] = values
			}
		}
	}
	return form, nil
}

// postedForm is the form in the body. Nearly all clients send it the same way,
// for which net/http would do more than is needed.
func postedForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodPost && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" && r.URL.RawQuery == "" {
		raw, err := web.ReadBody(r, maxForm)
		if err != nil {
			return nil, err
		}
		r.PostForm, err = url.ParseQuery(string(raw))
		return r.PostForm, err
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseForm()
	return r.PostForm, err
}

// body is the answer in the shape of the endpoint's version: v1 has numbers as
// strings (RFC 6749 section 5.1 and the real service's additions).
func (a *answer) body(s *Service, r *tokenRequest) map[string]any {
	now := s.now()
	in := max(int(math.Ceil(a.claims.ExpiresAt.Sub(now).Seconds()))-1, 0)
	b := map[string]any{"token_type": "Bearer", "access_token": a.raw}
	if r.version == "2.0" {
		b["expires_in"], b["ext_expires_in"] = in, in
		if in >= 7200 {
			b["refresh_in"] = in / 2
		}
		if a.scope != "" {
			b["scope"] = a.scope
		}
	} else {
		b["expires_in"], b["ext_expires_in"] = strconv.Itoa(in), strconv.Itoa(in)
		b["expires_on"] = strconv.FormatInt(a.claims.ExpiresAt.Unix(), 10)
		b["not_before"] = strconv.FormatInt(a.claims.IssuedAt.Unix(), 10)
		b["resource"] = a.claims.Audience
		if a.user != nil {
			b["scope"] = strings.Join(a.claims.Scopes, " ")
		}
	}
	if a.refresh != "" {
		b["refresh_token"] = a.refresh
	}
	if a.idToken != "" {
		b["id_token"] = a.idToken
	}
	if a.user != nil && r.get("client_info") == "1" {
		b["client_info"] = clientInfo(a.user.ObjectID, s.tokens.TenantID())
	}
	return b
}

// wantsCAE reports whether the claims parameter says that the client can handle
// claims challenges: {"access_token":{"xms_cc":{"values":["CP1"]}}}.
func wantsCAE(claims string) (bool, error) {
	if claims == "" {
		return false, nil
	}
	var c struct {
		AccessToken map[string]*struct {
			Values []string `json:"values"`
		} `json:"access_token"`
	}
	if err := web.ParseJSON([]byte(claims), &c); err != nil {
		return false, aad(apierr.BadRequest, "invalid_request", "9002313", "Invalid request. The parameter 'claims' isn't a JSON object of claims requests.")
	}
	cc := c.AccessToken["xms_cc"]
	return cc != nil && slices.ContainsFunc(cc.Values, func(v string) bool { return strings.EqualFold(v, "CP1") }), nil
}

// issue signs the access token of a grant.
func (s *Service) issue(ctx context.Context, r *tokenRequest, t token.Request) (*answer, error) {
	cae, err := wantsCAE(r.get("claims"))
	if err != nil {
		return nil, err
	}
	t.CAE, t.AppID, t.Auth = cae, r.client.id, r.client.auth
	t.Host, _ = s.tokens.Authority(r.host)
	raw, claims, err := s.tokens.Issue(ctx, t)
	if err != nil {
		return nil, err
	}
	trace.Add(ctx, trace.Hop{Step: "answer", Subject: claims.ObjectID, Found: "a token for " + claims.Audience, OK: true})
	return &answer{raw: raw, claims: claims}, nil
}
