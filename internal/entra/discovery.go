package entra

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/web"
)

type network struct {
	Network string   `json:"preferred_network"`
	Cache   string   `json:"preferred_cache"`
	Aliases []string `json:"aliases"`
}

// instanceDiscovery says which login hosts are one (MSAL asks this before it
// trusts an authority that it doesn't know).
func (s *Service) instanceDiscovery(w http.ResponseWriter, r *http.Request, _ tenantRef) {
	invalid := func(text string) {
		s.fail(w, r, attempt{what: "instance discovery"}, aad(apierr.BadRequest, "invalid_instance", "50049", "%s", text))
	}
	u, err := url.Parse(r.URL.Query().Get("authorization_endpoint"))
	if err != nil || u.Host == "" {
		invalid("Unknown or invalid instance: authorization_endpoint isn't a URL.")
		return
	}
	host, ours := s.instance(u.Host)
	if !ours || u.Scheme != "https" {
		invalid("Unknown or invalid instance '" + shorten(u.Host) + "'.")
		return
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if _, err := s.tenant(name); err != nil {
		s.fail(w, r, attempt{what: "instance discovery"}, err)
		return
	}
	var list []network
	for _, h := range s.tokens.AuthorityHosts() {
		n := network{Network: h, Cache: h, Aliases: []string{h}}
		if h == token.PublicAuthority {
			n.Cache, n.Aliases = "login.windows.net", append(n.Aliases, token.PublicAliases()...)
		}
		list = append(list, n)
	}
	web.WriteJSON(w, http.StatusOK, struct {
		Endpoint string    `json:"tenant_discovery_endpoint"`
		Version  string    `json:"api-version"`
		Metadata []network `json:"metadata"`
	}{"https://" + host + "/" + name + "/v2.0/.well-known/openid-configuration", "1.1", list})
}

// instance is the login host that a client means. Where ours has a port, MSAL for
// Python leaves it out.
func (s *Service) instance(host string) (string, bool) {
	if _, ours := s.tokens.Authority(host); ours {
		return host, true
	}
	for _, h := range s.tokens.AuthorityHosts() {
		if name, _, err := net.SplitHostPort(h); err == nil && strings.EqualFold(name, host) {
			return h, true
		}
	}
	return "", false
}

// configuration answers the discovery document (OpenID Connect Discovery 1.0
// section 3), with the members of the real service's.
func (s *Service) configuration(version string) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t tenantRef) {
		authority, _ := s.tokens.Authority(r.Host)
		tenant, issuer := s.tokens.TenantID(), s.tokens.Issuer(authority, version)
		if t.shared {
			issuer = strings.Replace(issuer, tenant, "{tenantid}", 1)
			tenant = t.name
		}
		base, v := "https://"+r.Host+"/"+tenant, ""
		if version == "2.0" {
			v = "v2.0/"
		}
		doc := map[string]any{
			"issuer":                                issuer,
			"authorization_endpoint":                base + "/oauth2/" + v + "authorize",
			"token_endpoint":                        base + "/oauth2/" + v + "token",
			"device_authorization_endpoint":         base + "/oauth2/" + v + "devicecode",
			"end_session_endpoint":                  base + "/oauth2/" + v + "logout",
			"jwks_uri":                              base + "/discovery/" + v + "keys",
			"userinfo_endpoint":                     "https://graph.microsoft.com/oidc/userinfo",
			"response_types_supported":              []string{"code"},
			"response_modes_supported":              []string{"query", "fragment", "form_post"},
			"subject_types_supported":               []string{"pairwise"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
			"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
			"code_challenge_methods_supported":      []string{"S256"},
			"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
			"claims_supported": []string{"sub", "iss", "aud", "exp", "iat", "nonce", "preferred_username", "name", "tid",
				"oid", "ver", "upn"},
			"request_uri_parameter_supported": false,
			"http_logout_supported":           true,
			"tenant_region_scope":             "WW",
			"cloud_instance_name":             "microsoftonline.com",
			"cloud_graph_host_name":           "graph.windows.net",
			"msgraph_host":                    "graph.microsoft.com",
		}
		cacheable(w)
		web.WriteJSON(w, http.StatusOK, doc)
	}
}

func (s *Service) keys(version string) endpoint {
	return func(w http.ResponseWriter, r *http.Request, _ tenantRef) {
		authority, _ := s.tokens.Authority(r.Host)
		set, err := s.tokens.JWKS(r.Context(), authority, version)
		if err != nil {
			s.fail(w, r, attempt{what: "key set"}, err)
			return
		}
		cacheable(w)
		web.WriteJSON(w, http.StatusOK, set)
	}
}

// cacheable lets browsers of other origins read the answer and keep it a while.
func cacheable(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "max-age=300, public")
	w.Header().Set("Access-Control-Allow-Origin", "*")
}

// userRealm says how a user of a name signs in: here always at this service.
func (s *Service) userRealm(user string) endpoint {
	return func(w http.ResponseWriter, r *http.Request, _ tenantRef) {
		if user == "" {
			user = r.URL.Query().Get("user")
		}
		if u, err := url.PathUnescape(user); err == nil {
			user = u
		}
		_, domain, _ := strings.Cut(user, "@")
		managed := slices.ContainsFunc(s.domains(), func(d string) bool { return strings.EqualFold(d, domain) })
		if _, err := s.dir.ByUPN(user); err == nil {
			managed = true // a guest's or an owner's address of another domain
		}
		kind := "Unknown"
		if managed {
			kind = "Managed"
		}
		if v := r.URL.Query().Get("api-version"); v != "" && v != "1.0" {
			web.WriteJSON(w, http.StatusOK, map[string]string{
				"NameSpaceType": kind, "Login": user, "DomainName": domain, "FederationBrandName": domain,
				"CloudInstanceName": "microsoftonline.com", "cloud_audience_urn": "urn:federation:MicrosoftOnline",
			})
			return
		}
		web.WriteJSON(w, http.StatusOK, map[string]string{
			"ver": "1.0", "account_type": kind, "domain_name": domain, "cloud_instance_name": "microsoftonline.com",
			"cloud_audience_urn": "urn:federation:MicrosoftOnline",
		})
	}
}
