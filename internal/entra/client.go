package entra

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// client is the application that asks.
type client struct {
	id   string
	name string
	auth string // token.AuthPublic until it has proved itself

	app *directory.App              // nil: a managed identity, or a client of Microsoft's
	sp  *directory.ServicePrincipal // nil: it has no account in this tenant

	wellKnown bool
}

// wellKnown are public clients of Microsoft's that sign users in, with the
// redirect URIs beside the loopback ones that all of them have. Source:
// Microsoft Entra, "Application IDs of commonly used Microsoft applications".
var wellKnown = map[string]string{
	"04b07795-8ddb-461a-bbee-02f9e1bf7b46": "Microsoft Azure CLI",
	"1950a258-227b-4e31-a9cf-717495945fc2": "Microsoft Azure PowerShell",
	"aebc6443-996d-45c2-90f0-388ff96faa56": "Visual Studio Code",
	"872cd9fa-d31f-45e0-9eab-6e460a02d1f1": "Visual Studio",
	"14d82eec-204b-4c2f-b7e8-296a70dab67e": "Microsoft Graph Command Line Tools",
	"80faf920-1908-4b52-b5ef-a8e7bedfc67a": "Azure Kubernetes Service AAD Client",
}

// findClient knows applications and managed identities of this tenant, and
// clients of Microsoft's.
func (s *Service) findClient(id string) (*client, error) {
	guid, err := uuid.Parse(id)
	if err != nil || len(id) != 36 || guid == uuid.Nil {
		return nil, aad(apierr.BadRequest, "unauthorized_client", "700038", "%s is not a valid application identifier.", shorten(id))
	}
	c := &client{id: guid.String(), auth: token.AuthPublic}
	if name, ok := wellKnown[c.id]; ok {
		c.name, c.wellKnown = name, true
	}
	if sp, err := s.dir.ServicePrincipalByAppID(c.id); err == nil {
		c.sp, c.name = &sp, sp.DisplayName
	}
	if app, err := s.dir.App(c.id); err == nil {
		c.app, c.name = &app, app.DisplayName
	}
	if c.app == nil && c.sp == nil && !c.wellKnown {
		return nil, aad(apierr.BadRequest, "unauthorized_client", "700016",
			"Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not been installed by the "+
				"administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.",
			c.id, s.tenantName())
	}
	return c, nil
}

// public reports whether the application may sign users in without a proof of
// its own.
func (c *client) public() bool {
	return c.wellKnown || c.app != nil && (c.app.FallbackPublic || len(c.app.RedirectURIs.Public) > 0 || len(c.app.RedirectURIs.SPA) > 0)
}

// resourceID is the ARM id of a managed identity.
func (c *client) resourceID() string {
	if c.sp == nil {
		return ""
	}
	return c.sp.ResourceID
}

// authenticate demands the client's proof: an assertion of its own key, one of
// an issuer that it trusts, or its secret. It gives a key under which the same
// proof may get the same token, "" when there is none.
func (s *Service) authenticate(ctx context.Context, r *tokenRequest) (reuse string, err error) {
	kind, raw := r.get("client_assertion_type"), r.get("client_assertion")
	switch {
	case raw != "" && kind == "":
		return "", missing("client_assertion_type")
	case raw != "" && kind != assertionType:
		return "", aad(apierr.BadRequest, "invalid_request", "900193", "The provided client_assertion_type '%s' is not supported; '%s' was expected.", shorten(kind), assertionType)
	case raw != "":
		r.client.auth = token.AuthCertificate
		return s.assertion(ctx, r, raw)
	}
	secret := r.get("client_secret")
	if _, pass, ok := r.http.BasicAuth(); ok && secret == "" {
		if secret, err = url.QueryUnescape(pass); err != nil {
			secret = pass
		}
	}
	if secret == "" {
		return "", aad(apierr.Unauthorized, "invalid_client", "7000218",
			"The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	}
	r.client.auth = token.AuthSecret
	return "", s.secret(ctx, r.client, secret)
}

func (s *Service) secret(ctx context.Context, c *client, secret string) error {
	err := s.dir.CheckSecret(ctx, c.id, secret)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, directory.ErrExpired):
		trace.Add(ctx, trace.Hop{Step: "secret", Subject: c.id, Found: "the client secret has expired", Fix: "az ad app credential reset --id " + c.id})
		return aad(apierr.Unauthorized, "invalid_client", "7000222", "The provided client secret keys for app '%s' are expired. "+
			"Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for "+
			"added security: https://aka.ms/certCreds.", c.id)
	case errors.Is(err, directory.ErrSecret), errors.Is(err, directory.ErrNotFound):
		trace.Add(ctx, trace.Hop{Step: "secret", Subject: c.id, Found: "no client secret of the application is the one presented", Fix: "az ad app credential reset --id " + c.id})
		return aad(apierr.Unauthorized, "invalid_client", "7000215", "Invalid client secret provided. Ensure the secret being sent in the request is the "+
			"client secret value, not the client secret ID, for a secret added to app '%s'.", c.id)
	}
	return err
}

// identify lets public clients through without a proof and demands that of
// the others: what grants that sign users in do.
func (s *Service) identify(ctx context.Context, r *tokenRequest) error {
	_, _, basic := r.http.BasicAuth()
	if !basic && r.get("client_assertion") == "" && r.get("client_secret") == "" && r.client.public() {
		return nil
	}
	if r.client.wellKnown && r.client.app == nil {
		return aad(apierr.Unauthorized, "invalid_client", "700025", "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.")
	}
	_, err := s.authenticate(ctx, r)
	return err
}

// The kinds of redirect URIs: what is behind one decides how the client proves
// itself when it redeems a code.
const (
	webURI    = "web" // a server, which has a secret
	spaURI    = "spa"
	publicURI = "public"
)

// redirectable is the kind of the redirect URI, "" when answers for the client
// may not go there.
func (c *client) redirectable(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || uri == "" || u.Fragment != "" {
		return ""
	}
	if c.wellKnown && (loopback(u) && strings.TrimSuffix(u.Path, "/") == "" || uri == "https://login.microsoftonline.com/common/oauth2/nativeclient") {
		return publicURI
	}
	if c.app == nil {
		return ""
	}
	reg := c.app.RedirectURIs
	registered := func(list []string) bool {
		return slices.ContainsFunc(list, func(want string) bool { return want == uri || loopback(u) && sameButPort(want, u) })
	}
	switch { // the strictest first
	case registered(reg.Web):
		return webURI
	case registered(reg.SPA):
		return spaURI
	case registered(reg.Public):
		return publicURI
	}
	return ""
}

// loopback URIs may name any port (RFC 8252 section 7.3).
func loopback(u *url.URL) bool {
	h := u.Hostname()
	return u.Scheme == "http" && u.User == nil && (h == "localhost" || h == "127.0.0.1" || h == "::1")
}

func sameButPort(registered string, u *url.URL) bool {
	r, err := url.Parse(registered)
	return err == nil && loopback(r) && r.Hostname() == u.Hostname() && strings.TrimSuffix(r.Path, "/") == strings.TrimSuffix(u.Path, "/") && r.RawQuery == u.RawQuery
}
