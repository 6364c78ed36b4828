package cli

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
)

const subscriptionsVersion = "2019-11-01"

func loginNoun() noun {
	return noun{name: "login", short: "Sign in.", commands: func() []*command {
		return []*command{{
			path: "login", short: "Sign in as a user, a service principal or a managed identity.", bare: true,
			example: "login --service-principal --username APP_ID --password SECRET --tenant TENANT",
			args: []arg{
				opt("username", "Name of the user, or id of the service principal or managed identity.").or("-u"),
				opt("password", "Password of the user, or secret or certificate file of the service principal.").or("-p"),
				flagOpt("service-principal", "The name is a service principal's."),
				opt("tenant", "Tenant to sign in to: id or domain.").or("-t"),
				opt("certificate", "PEM file with the private key and certificate of the service principal."),
				opt("federated-token", "Token of a trusted issuer that stands for the service principal."),
				flagOpt("use-cert-sn-issuer", "Let the server judge the certificate by subject name and issuer. The chain is always sent."),
				flagOpt("identity", "Sign in as the managed identity of this machine.").or("-i"),
				opt("client-id", "Client id of the managed identity."), opt("object-id", "Object id of the managed identity."),
				opt("resource-id", "Resource id of the managed identity."),
				flagOpt("owner", "Sign in as the owner of the Lazurite on this machine, by the file that its user alone can read."),
				flagOpt("use-device-code", "Show a code to enter in a browser on any machine."),
				flagOpt("allow-no-subscriptions", "Sign in to a tenant although it has no subscription."),
				listOpt("scope", "Scope of the first token."),
			},
			table: "[].{Name:name, CloudName:cloudName, SubscriptionId:id, TenantId:tenantId, State:state, IsDefault:isDefault}",
			run:   runLogin,
		}}
	}}
}

func logoutNoun() noun {
	return noun{name: "logout", short: "Sign out.", commands: func() []*command {
		return []*command{{
			path: "logout", short: "Sign a user out and forget the subscriptions.", bare: true, example: "logout",
			args: []arg{opt("username", "The user. Without it, the one of the current subscription.")},
			run:  runLogout,
		}}
	}}
}

// signIn is who has just proved to be someone, before it's written down.
type signIn struct {
	user    accountUser
	tenant  string // of the sign-in; "" is all that the user may enter
	token   func(ctx context.Context, tenant string) (*grant, error)
	refresh string
}

func runLogin(ctx context.Context, c *call) (any, error) {
	var in *signIn
	var err error
	switch {
	case c.flag("owner"):
		in, err = c.loginOwner(ctx)
	case c.flag("identity"):
		in, err = c.loginIdentity()
	case c.flag("service-principal"):
		in, err = c.loginPrincipal()
	case c.given("username"):
		in, err = c.loginPassword(ctx)
	case c.flag("use-device-code"):
		in, err = c.loginDevice(ctx)
	default:
		in, err = c.loginBrowser(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c.remember(ctx, in)
}

func (c *call) armScope() (string, error) {
	if c.given("scope") {
		return strings.Join(c.many("scope"), " "), nil
	}
	cl, err := c.cloud()
	if err != nil {
		return "", err
	}
	aud, err := cl.endpoint("activeDirectoryResourceId")
	return aud + "/.default", err
}

// trimScope gives the resource of a scope.
func trimScope(scope string) string { return strings.TrimSuffix(scope, "/.default") }

func (c *call) loginIdentity() (*signIn, error) {
	if c.given("password") || c.flag("service-principal") {
		return nil, failf("usage error: '--identity' is not applicable with other arguments")
	}
	name, info := "systemAssignedIdentity", "MSI"
	for option, prefix := range map[string]string{"client-id": "MSIClient-", "username": "MSIClient-", "object-id": "MSIObject-", "resource-id": "MSIResource-"} {
		if v := c.text(option); v != "" {
			name, info = "userAssignedIdentity", prefix+v
		}
	}
	in := &signIn{user: accountUser{Name: name, Type: "servicePrincipal", AssignedIdentityInfo: info}}
	in.token = func(ctx context.Context, _ string) (*grant, error) {
		scope, err := c.armScope()
		if err != nil {
			return nil, err
		}
		return c.managedIdentityToken(ctx, info, trimScope(scope))
	}
	return in, nil
}

func (c *call) loginPrincipal() (*signIn, error) {
	e := principalEntry{ClientID: c.text("username"), Tenant: c.text("tenant")}
	if e.ClientID == "" {
		return nil, usagef("usage error: --service-principal needs --username")
	}
	if e.Tenant == "" {
		return nil, usagef("usage error: --service-principal needs --tenant")
	}
	secret := c.text("password")
	switch {
	case c.given("federated-token"):
		e.ClientAssertion = c.text("federated-token")
	case c.given("certificate"):
		e.Certificate = c.filePath(c.text("certificate"))
	case isFile(c.filePath(secret)):
		e.Certificate = c.filePath(secret)
	case secret != "":
		e.ClientSecret = secret
	default:
		return nil, usagef("usage error: --service-principal needs --password, --certificate or --federated-token")
	}
	in := &signIn{user: accountUser{Name: e.ClientID, Type: "servicePrincipal"}, tenant: e.Tenant}
	in.token = func(ctx context.Context, tenant string) (*grant, error) {
		scope, err := c.armScope()
		if err != nil {
			return nil, err
		}
		form := url.Values{"scope": {scope}, "client_info": {"1"}}
		if err := c.fillCredential(form, e, tenant); err != nil {
			return nil, err
		}
		g, err := c.grant(ctx, tenant, form)
		if err != nil {
			return nil, err
		}
		return g, c.savePrincipal(e)
	}
	return in, nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return path != "" && err == nil && st.Mode().IsRegular()
}

func (c *call) loginPassword(ctx context.Context) (*signIn, error) {
	password := c.text("password")
	if password == "" {
		return nil, usagef("Please specify both username and password in non-interactive mode.")
	}
	return c.userSignIn(ctx, url.Values{"grant_type": {"password"}, "username": {c.text("username")}, "password": {password}})
}

// loginOwner needs no password: the server on this machine left a refresh token.
func (c *call) loginOwner(ctx context.Context) (*signIn, error) {
	o := c.owner()
	if o.RefreshToken == "" {
		return nil, failf("There is no laz_owner.json in %s: laz up writes it, and eval \"$(laz env)\" shows the way to it.", c.path(""))
	}
	if c.given("username") || c.given("password") || c.flag("service-principal") || c.flag("identity") {
		return nil, usagef("usage error: '--owner' is not applicable with other arguments")
	}
	return c.userSignIn(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {o.RefreshToken}})
}

// userSignIn exchanges what a user gave for tokens.
func (c *call) userSignIn(ctx context.Context, form url.Values) (*signIn, error) {
	scope, err := c.armScope()
	if err != nil {
		return nil, err
	}
	form.Set("client_id", azClientID)
	form.Set("client_info", "1")
	form.Set("scope", scope+" offline_access openid profile")
	g, err := c.grant(ctx, firstNonEmpty(c.text("tenant"), "organizations"), form)
	if err != nil {
		return nil, err
	}
	return c.userFrom(g), nil
}

func (c *call) userFrom(g *grant) *signIn {
	name := firstNonEmpty(claim(g.IDToken, "preferred_username"), claim(g.AccessToken, "upn"), claim(g.AccessToken, "unique_name"), c.text("username"))
	in := &signIn{user: accountUser{Name: name, Type: "user"}, tenant: c.text("tenant"), refresh: g.RefreshToken}
	in.token = func(ctx context.Context, tenant string) (*grant, error) {
		if tenant == "" || tenant == claim(g.AccessToken, "tid") {
			return g, nil
		}
		scope, err := c.armScope()
		if err != nil {
			return nil, err
		}
		return c.grant(ctx, tenant, url.Values{"client_id": {azClientID}, "grant_type": {"refresh_token"},
			"refresh_token": {in.refresh}, "scope": {scope + " offline_access openid profile"}})
	}
	return in
}

// remember looks up tenants and subscriptions and writes the profile.
func (c *call) remember(ctx context.Context, in *signIn) (any, error) {
	found, err := c.subscriptionsOf(ctx, in)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, withHint(failf("No subscriptions found for %s.", in.user.Name), "To sign in to a tenant without one, use --allow-no-subscriptions.")
	}
	p, err := c.profile()
	if err != nil {
		return nil, err
	}
	p.merge(found)
	if err := c.saveProfile(); err != nil {
		return nil, err
	}
	if in.refresh != "" {
		c.keep(func(t *tokenCache) { t.Refresh[c.refreshKey(in.user.Name)] = in.refresh })
	}
	out := []any{}
	for i := range found {
		out = append(out, found[i].show("cloudName"))
	}
	return out, nil
}

func (c *call) subscriptionsOf(ctx context.Context, in *signIn) ([]account, error) {
	first, err := in.token(ctx, in.tenant)
	if err != nil {
		return nil, err
	}
	tenants := []string{firstNonEmpty(claim(first.AccessToken, "tid"), in.tenant)}
	if in.user.Type == "user" && in.tenant == "" {
		v, err := c.bearerList(ctx, first.AccessToken, "/tenants")
		if err != nil {
			return nil, err
		}
		tenants = tenants[:0]
		for _, t := range v {
			tenants = append(tenants, textAt(t, "tenantId"))
		}
	}
	var out []account
	for _, t := range tenants {
		g := first
		if claim(first.AccessToken, "tid") != t {
			if g, err = in.token(ctx, t); err != nil {
				c.warn("WARNING: no token for tenant %s: %s", t, err)
				continue
			}
		}
		subs, err := c.bearerList(ctx, g.AccessToken, "/subscriptions")
		if err != nil {
			return nil, err
		}
		for _, s := range subs {
			out = append(out, c.accountFrom(s, in.user, t))
		}
		if len(subs) == 0 && c.flag("allow-no-subscriptions") {
			out = append(out, account{ID: t, Name: "N/A(tenant level account)", State: "Enabled", User: in.user,
				TenantID: t, HomeTenantID: t, EnvironmentName: c.active.name})
		}
		c.keepFirst(in, t, g)
	}
	return out, nil
}

// keepFirst keeps the token of the sign-in, so that the next command needs none.
func (c *call) keepFirst(in *signIn, tenant string, g *grant) {
	scope, err := c.armScope()
	if err != nil || c.given("scope") {
		return
	}
	c.keep(func(t *tokenCache) {
		t.Access[accessKey(in.user.Name, tenant, trimScope(scope))] = cachedToken{Token: g.AccessToken, ExpiresOn: g.expiry()}
	})
}

func (c *call) accountFrom(s any, user accountUser, tenant string) account {
	a := account{ID: textAt(s, "subscriptionId"), Name: textAt(s, "displayName"), State: textAt(s, "state"),
		User: user, TenantID: tenant, HomeTenantID: firstNonEmpty(textAt(s, "tenantId"), tenant), EnvironmentName: c.active.name}
	for _, t := range items(at(s, "managedByTenants")) {
		a.ManagedByTenants = append(a.ManagedByTenants, tenantEntry{textAt(t, "tenantId")})
	}
	return a
}

// bearerList lists from the resource manager by a token in hand.
func (c *call) bearerList(ctx context.Context, token, path string) ([]any, error) {
	cl, err := c.cloud()
	if err != nil {
		return nil, err
	}
	base, err := cl.endpoint("resourceManager")
	if err != nil {
		return nil, err
	}
	a, err := c.send(ctx, request{method: http.MethodGet, url: strings.TrimRight(base, "/") + path + "?api-version=" + subscriptionsVersion,
		header: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, readRemote(a, dialectODATA)
	}
	v, err := decode(a.body)
	return items(at(v, "value")), err
}

// refreshSubscriptions asks anew which subscriptions each signed-in user has.
func (c *call) refreshSubscriptions(ctx context.Context) error {
	all, err := c.inCloud()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var fresh []account
	for _, a := range all {
		key := a.User.Name + "|" + a.TenantID
		if seen[key] {
			continue
		}
		seen[key] = true
		aud, err := c.tokenResource()
		if err != nil {
			return err
		}
		t, err := c.accountToken(ctx, a, a.TenantID, aud, "")
		if err != nil {
			return err
		}
		subs, err := c.bearerList(ctx, t.Token, "/subscriptions")
		if err != nil {
			return err
		}
		for _, s := range subs {
			fresh = append(fresh, c.accountFrom(s, a.User, a.TenantID))
		}
	}
	return c.replaceKeepingDefault(fresh)
}

func (c *call) replaceKeepingDefault(fresh []account) error {
	was, err := c.accountOf("")
	if err != nil {
		was = &account{}
	}
	id := was.ID
	c.prof.merge(fresh)
	for i := range c.prof.Subscriptions {
		if a := &c.prof.Subscriptions[i]; id != "" && a.EnvironmentName == c.active.name {
			a.IsDefault = a.ID == id
		}
	}
	return c.saveProfile()
}

func runLogout(_ context.Context, c *call) (any, error) {
	user := c.text("username")
	if user == "" {
		a, err := c.account()
		if err != nil {
			return nil, failf("There are no active accounts.")
		}
		user = a.User.Name
	}
	p, err := c.profile()
	if err != nil {
		return nil, err
	}
	var kept []account
	for _, a := range p.Subscriptions {
		if !strings.EqualFold(a.User.Name, user) {
			kept = append(kept, a)
		}
	}
	if len(kept) == len(p.Subscriptions) {
		return nil, failf("account '%s' is not signed in", user)
	}
	if len(kept) > 0 && len(kept) < len(p.Subscriptions) {
		kept[0].IsDefault = true
	}
	p.Subscriptions = kept
	c.forget(user)
	return nil, c.saveProfile()
}

// forget drops the user's tokens and secrets.
func (c *call) forget(user string) {
	key := strings.ToLower(user) + "|"
	c.keep(func(t *tokenCache) {
		delete(t.Refresh, c.refreshKey(user))
		for k := range t.Access {
			if strings.HasPrefix(k, key) {
				delete(t.Access, k)
			}
		}
	})
	var kept []principalEntry
	for _, e := range c.principals() {
		if !strings.EqualFold(e.ClientID, user) {
			kept = append(kept, e)
		}
	}
	if len(kept) != len(c.principals()) {
		b, _, err := encodeBody(kept)
		if err == nil {
			err = writePrivate(c.path("service_principal_entries.json"), b)
		}
		if err != nil {
			c.warn("WARNING: the secret of %s is still kept: %s", user, err)
		}
	}
}
