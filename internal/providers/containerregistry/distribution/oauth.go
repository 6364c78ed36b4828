package distribution

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/containerregistry"
	"lazurite.dev/internal/token"
)

// nobody is the user name by which clients say that the password is a refresh
// token of the registry. Source: "az acr login --expose-token".
const nobody = "00000000-0000-0000-0000-000000000000"

// caller finds out who asks: by a token of the registry, or its
// administrator's password; at the token endpoints by what is exchanged.
func (p *Plane) caller(c *gate.Call) (*token.Claims, error) {
	s, err := p.signIn(c)
	if err != nil {
		return nil, err
	}
	c.State = s
	return s.caller, nil
}

func (p *Plane) signIn(c *gate.Call) (*session, error) {
	r := c.Target.Data.(*containerregistry.Registry)
	switch strings.ToLower(strings.Trim(c.Request.URL.Path, "/")) {
	case "oauth2/exchange":
		return p.exchanging(c, r)
	case "oauth2/token":
		return p.asking(c, r)
	}
	if user, password, ok := c.Request.BasicAuth(); ok {
		return p.basic(r, user, password)
	}
	scheme, raw, _ := strings.Cut(c.Request.Header.Get("Authorization"), " ")
	if raw = strings.TrimSpace(raw); !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return nil, unauthorized("", "authentication required, visit https://aka.ms/acr/authorization for more information.")
	}
	s, err := p.read(r, raw, accessToken)
	if err != nil {
		return nil, withInner(err, "invalid_token")
	}
	return s, nil
}

func withInner(err error, inner string) error {
	if e := apierr.From(err); e.Kind == apierr.Unauthorized {
		return e.WithInner(inner)
	}
	return err
}

// basic takes the administrator's password, or a refresh token in its place.
func (p *Plane) basic(r *containerregistry.Registry, user, password string) (*session, error) {
	if user == nobody {
		return p.read(r, password, refreshToken)
	}
	m := r.SignIn(user, password)
	if err := adminAllowed(r); err != nil {
		return nil, err
	}
	if m == "" {
		return nil, unauthorized("", "The user name or the password is wrong.")
	}
	return &session{caller: &token.Claims{AppID: "admin user of " + r.Name}, password: m}, nil
}

// form reads the body of a request for a token. A form's names count once.
func form(c *gate.Call) (url.Values, error) {
	if c.Request.Method != http.MethodPost {
		return c.Request.URL.Query(), nil
	}
	raw, err := c.Body()
	if err != nil {
		return nil, err
	}
	v, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, apierr.New(apierr.BadRequest, "UNKNOWN", "The body is no form.")
	}
	for _, k := range []string{"grant_type", "service", "access_token", "refresh_token", "username", "password", "tenant"} {
		if len(v[k]) > 1 {
			return nil, apierr.New(apierr.BadRequest, "UNKNOWN", "The form has '%s' more than once.", k)
		}
	}
	return v, nil
}

// service refuses a request for a token of another registry.
func service(c *gate.Call, v url.Values) error {
	host, _, _ := strings.Cut(c.Request.Host, ":")
	s, _, _ := strings.Cut(v.Get("service"), ":")
	if s != "" && !strings.EqualFold(s, host) {
		return apierr.New(apierr.BadRequest, "UNKNOWN", "The service '%s' is not this registry, '%s'.", s, host)
	}
	return nil
}

// exchanging is who asks for a refresh token.
func (p *Plane) exchanging(c *gate.Call, r *containerregistry.Registry) (*session, error) {
	v, err := form(c)
	if err != nil {
		return nil, err
	}
	if err := service(c, v); err != nil {
		return nil, err
	}
	var s *session
	switch v.Get("grant_type") {
	case "access_token", "access_token_refresh_token":
		s, err = p.entra(c, r, v.Get("access_token"))
	default:
		err = apierr.New(apierr.BadRequest, "UNKNOWN", "The grant_type '%s' is not supported: exchange an 'access_token'.", v.Get("grant_type"))
	}
	if err != nil {
		return nil, err
	}
	if t := v.Get("tenant"); t != "" && !strings.EqualFold(t, s.caller.TenantID) && !strings.EqualFold(t, "common") && strings.Count(t, "-") == 4 {
		return nil, unauthorized("", "The token is of the tenant '%s', not of '%s'.", s.caller.TenantID, t)
	}
	return s, nil
}

// entra takes a token of the directory.
func (p *Plane) entra(c *gate.Call, r *containerregistry.Registry, raw string) (*session, error) {
	audiences := []string{token.ContainerRegistry}
	if r.ARMTokens {
		audiences = append(audiences, token.ARM)
	}
	who, err := p.Gate.Verifier.Verify(c.Context, raw, audiences...)
	if err != nil {
		if e := apierr.From(err); e.Kind == apierr.Unauthorized {
			return nil, unauthorized("", "%s", e.Message)
		}
		return nil, err
	}
	return &session{caller: who}, nil
}

// asking is who asks for an access token.
func (p *Plane) asking(c *gate.Call, r *containerregistry.Registry) (*session, error) {
	v, err := form(c)
	if err != nil {
		return nil, err
	}
	if err := service(c, v); err != nil {
		return nil, err
	}
	grant := ""
	if c.Request.Method == http.MethodPost {
		grant = v.Get("grant_type")
	}
	var s *session
	switch user, password, basic := c.Request.BasicAuth(); {
	case grant == "refresh_token":
		s, err = p.read(r, v.Get("refresh_token"), refreshToken)
	case grant == "access_token":
		s, err = p.entra(c, r, v.Get("access_token"))
	case grant == "password" && !basic:
		s, err = p.basic(r, v.Get("username"), v.Get("password"))
	case basic && (grant == "" || grant == "password"):
		s, err = p.basic(r, user, password)
	case grant == "":
		err = unauthorized("", "authentication required, visit https://aka.ms/acr/authorization for more information.")
	default:
		err = apierr.New(apierr.BadRequest, "UNKNOWN", "The grant_type '%s' is none of refresh_token, access_token, password.", grant)
	}
	if err != nil {
		return nil, err
	}
	s.form = v
	return s, nil
}

// exchange is POST /oauth2/exchange: a token of the directory becomes a refresh
// token of the registry, for who has any right in it.
func (p *Plane) exchange(c *gate.Call) (any, error) {
	s, r := c.State.(*session), c.Target.Data.(*containerregistry.Registry)
	some := false
	for _, action := range []string{actionPull, actionPush, actionDelete} {
		ok, err := p.may(c, s, action)
		if err != nil {
			return nil, err
		}
		some = some || ok
	}
	if !some {
		return nil, p.refuseRole(c, actionPull)
	}
	t, err := p.mint(r, s, c.Request.Host, refreshToken, refreshLife, nil)
	if err != nil {
		return nil, err
	}
	return map[string]any{"refresh_token": t}, nil
}

const maxScopes = 100

// token is GET and POST /oauth2/token: an access token for as much of what is
// asked for as the caller may do.
func (p *Plane) token(c *gate.Call) (any, error) {
	s, r := c.State.(*session), c.Target.Data.(*containerregistry.Registry)
	var scopes []string
	for _, list := range s.form["scope"] {
		scopes = append(scopes, strings.Fields(list)...)
	}
	if len(scopes) > maxScopes {
		return nil, apierr.New(apierr.BadRequest, "UNKNOWN", "There are %d scopes; at most %d are looked at.", len(scopes), maxScopes)
	}
	granted := []access{}
	for _, one := range scopes {
		a, ok := parseScope(one)
		if !ok {
			return nil, apierr.New(apierr.BadRequest, "UNKNOWN", "The scope '%s' is malformed: it is 'repository:NAME:ACTIONS' or 'registry:catalog:*'.", clip(one))
		}
		var err error
		if a.Actions, err = p.granted(c, s, a); err != nil {
			return nil, err
		}
		if len(a.Actions) > 0 {
			granted = append(granted, a)
		}
	}
	t, err := p.mint(r, s, c.Request.Host, accessToken, accessLife, granted)
	if err != nil {
		return nil, err
	}
	return map[string]any{"access_token": t, "token": t, "expires_in": int(accessLife.Seconds()), "issued_at": p.Now().UTC().Format("2006-01-02T15:04:05Z")}, nil
}

// parseScope reads a scope. Source: "Token Scope Documentation" of the
// distribution project; Azure's own words are metadata_read, metadata_write and
// delete.
func parseScope(s string) (access, bool) {
	typ, rest, _ := strings.Cut(s, ":")
	name, actions, ok := cutLast(rest, ":")
	a := access{Type: typ, Name: name}
	if !ok || actions == "" {
		return a, false
	}
	a.Actions = strings.Split(actions, ",")
	switch typ {
	case "repository":
		return a, validRepository(name)
	case "registry":
		return a, name == "catalog"
	}
	return a, false
}

// granted are the actions of a scope that the caller may do.
func (p *Plane) granted(c *gate.Call, s *session, a access) ([]string, error) {
	words := a.Actions
	if slices.Contains(words, "*") {
		words = []string{wordPull, wordPush, wordDelete, wordMetaRead, wordMetaWrite}
		if a.Type == "registry" {
			words = []string{"*"}
		}
	}
	var out []string
	for _, w := range words {
		action := actionOf(w)
		if action == "" || slices.Contains(out, w) {
			continue
		}
		ok, err := p.may(c, s, action)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, w)
		}
	}
	return out, nil
}

// may asks the policy.
func (p *Plane) may(c *gate.Call, s *session, action string) (bool, error) {
	if s.password != "" {
		return true, nil
	}
	d, err := p.Gate.Authorizer.Check(c.Context, s.caller.ObjectID, action, false, c.Target.ID)
	return d.Allowed, err
}
