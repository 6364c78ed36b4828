package entra

import (
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/token"
)

// oidcScopes say what comes beside the access token, not what it is for.
var oidcScopes = []string{"openid", "profile", "email", "offline_access"}

// wanted is what a request asks a token for.
type wanted struct {
	resource    token.Resource
	permissions []string // the parts of the scopes behind the resource: ".default", "user_impersonation"
	oidc        []string
	asked       []string // every scope as it came
}

func (w wanted) has(oidc string) bool { return slices.Contains(w.oidc, oidc) }

// scopes is the scope of the answer: MSAL fails if an asked one is missing.
func (w wanted) scopes() string {
	out := slices.Clone(w.asked)
	for _, s := range w.asked {
		if base, ok := strings.CutSuffix(s, "/.default"); ok {
			out = append(out, base+"/"+defaultPermission(w.resource))
		}
	}
	return strings.Join(out, " ")
}

// granted is scp of the token.
func (w wanted) granted() []string {
	var out []string
	for _, p := range w.permissions {
		if p == ".default" {
			p = defaultPermission(w.resource)
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		out = []string{defaultPermission(w.resource)}
	}
	return out
}

func defaultPermission(r token.Resource) string {
	if r.Name == "Microsoft Graph" {
		return "Directory.AccessAsUser.All"
	}
	return "user_impersonation"
}

// want reads scope (v2) or resource (v1).
func (s *Service) want(r *tokenRequest) (wanted, error) {
	if r.version == "1.0" {
		name, err := r.need("resource")
		if err != nil {
			return wanted{}, err
		}
		res, err := s.resource(name)
		return wanted{resource: res, oidc: oidcScopes, permissions: []string{".default"}}, err
	}
	text, err := r.need("scope")
	if err != nil {
		return wanted{}, err
	}
	return s.parseScope(text)
}

// parseScope takes scopes apart: one resource with any of its permissions, and
// OIDC's. Only the last part is cut off: az asks for
// "https://management.core.windows.net//.default", whose resource ends in a
// slash.
func (s *Service) parseScope(text string) (wanted, error) {
	var w wanted
	name, found := "", false
	for _, scope := range strings.Fields(text) {
		w.asked = append(w.asked, scope)
		if slices.Contains(oidcScopes, strings.ToLower(scope)) {
			w.oidc = append(w.oidc, strings.ToLower(scope))
			continue
		}
		base, permission := token.Graph, scope // a bare permission is one of Graph
		if i := strings.LastIndexByte(scope, '/'); i >= 0 {
			base, permission = scope[:i], scope[i+1:]
		}
		if found && !strings.EqualFold(strings.TrimRight(base, "/"), strings.TrimRight(name, "/")) {
			return w, aad(apierr.BadRequest, "invalid_scope", "28000",
				"Provided value for the input parameter scope is not valid because it contains more than one resource. Scope %s is not valid.", shorten(text))
		}
		if permission == "" {
			return w, badScope(scope)
		}
		name, found = base, true
		w.permissions = append(w.permissions, permission)
	}
	if !found {
		name = token.Graph // OIDC scopes alone
		w.permissions = []string{"User.Read"}
	}
	var err error
	w.resource, err = s.resource(name)
	return w, err
}

func badScope(scope string) error {
	return aad(apierr.BadRequest, "invalid_scope", "70011",
		"The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope %s is not valid.", shorten(scope))
}

// resource finds what a token may be for: a resource of the platform, else an
// application of this tenant by its id or one of its names.
func (s *Service) resource(name string) (token.Resource, error) {
	if r, ok := s.tokens.Resource(name); ok {
		return r, nil
	}
	sp, err := s.dir.ServicePrincipalByName(name)
	if err != nil {
		sp, err = s.dir.ServicePrincipalByName(strings.TrimRight(name, "/"))
	}
	if err != nil || sp.ResourceID != "" || sp.Disabled {
		return token.Resource{}, aad(apierr.BadRequest, "invalid_resource", "500011",
			"The resource principal named %s was not found in the tenant named %s. This can happen if the application has not been installed by the "+
				"administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.",
			shorten(name), s.tenantName())
	}
	return token.Resource{Audience: name, AppID: sp.AppID, Name: sp.DisplayName}, nil
}

func (s *Service) tenantName() string {
	if t, err := s.dir.Tenant(); err == nil && t.DisplayName != "" {
		return t.DisplayName
	}
	return s.tokens.TenantID()
}
