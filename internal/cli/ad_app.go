package cli

import (
	"context"
	"net/url"
)

func appID() arg { return opt("id", "Application id, object id or identifier URI.").required() }

// app finds an application by application id, object id or identifier URI.
func (g *graph) app(ctx context.Context, id string) (any, error) {
	filter := "identifierUris/any(s:s eq " + quoted(id) + ")"
	if isGUID(id) {
		filter = equals("appId", id)
	}
	l, err := g.list(ctx, "/applications", filter)
	if err != nil {
		return nil, err
	}
	if len(l) > 0 {
		return l[0], nil
	}
	if isGUID(id) {
		if v, err := g.get(ctx, "/applications/"+id); err == nil {
			return v, nil
		}
	}
	return nil, notFoundf("Resource '%s' does not exist or one of its queried reference-property objects are not present.", id)
}

// apped makes a run function of one that needs the application's path.
func apped(f func(ctx context.Context, c *call, g *graph, path string) (any, error)) func(context.Context, *call) (any, error) {
	return directed(func(ctx context.Context, c *call, g *graph) (any, error) {
		v, err := g.app(ctx, c.text("id"))
		if err != nil {
			return nil, err
		}
		return f(ctx, c, g, "/applications/"+textAt(v, "id"))
	})
}

func appFields() []arg {
	return []arg{
		opt("sign-in-audience", "Who may sign in.").oneOf("AzureADMyOrg", "AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount"),
		listOpt("identifier-uris", "URIs by which tokens for the application name it."),
		listOpt("web-redirect-uris", "Addresses to which sign-ins of web applications return."),
		listOpt("public-client-redirect-uris", "Addresses to which sign-ins of installed applications return."),
		boolOpt("is-fallback-public-client", "Whether it is an installed application where that can't be told."),
		numberOpt("requested-access-token-version", "Form of the tokens for it: 1 or 2."),
		opt("app-roles", "Its roles as JSON."), opt("required-resource-accesses", "What it needs of others, as JSON."),
		opt("optional-claims", "Further claims, as JSON."),
	}
}

// appBody makes the request of the options.
func (c *call) appBody() (object, error) {
	body := object{}
	c.setIf(body, "displayName", "display-name")
	c.setIf(body, "signInAudience", "sign-in-audience")
	c.setIf(body, "identifierUris", "identifier-uris")
	c.setIf(body, "isFallbackPublicClient", "is-fallback-public-client")
	if c.given("web-redirect-uris") {
		body["web"] = object{"redirectUris": c.many("web-redirect-uris")}
	}
	if c.given("public-client-redirect-uris") {
		body["publicClient"] = object{"redirectUris": c.many("public-client-redirect-uris")}
	}
	if c.given("requested-access-token-version") {
		body["api"] = object{"requestedAccessTokenVersion": c.number("requested-access-token-version")}
	}
	for option, key := range map[string]string{"app-roles": "appRoles", "required-resource-accesses": "requiredResourceAccess", "optional-claims": "optionalClaims"} {
		if c.given(option) {
			v, err := decode([]byte(c.text(option)))
			if err != nil {
				return nil, usagef("argument --%s: not JSON", option)
			}
			body[key] = v
		}
	}
	return body, nil
}

func appCommands() []*command {
	return []*command{
		appCreate(),
		{path: "ad app list", short: "List applications.", example: "ad app list --display-name MyApp",
			args: []arg{opt("app-id", "Application id."), opt("display-name", "Beginning of the display name."), opt("identifier-uri", "An identifier URI."),
				filterOpt(), flagOpt("all", "All, beyond the first hundred. They are always listed.")},
			table: "[].{DisplayName:displayName, AppId:appId, Id:id}",
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				uri := ""
				if u := c.text("identifier-uri"); u != "" {
					uri = "identifierUris/any(s:s eq " + quoted(u) + ")"
				}
				return g.list(ctx, "/applications", c.filters(equals("appId", c.text("app-id")), startsWith("displayName", c.text("display-name")), uri))
			})},
		{path: "ad app show", short: "Show an application.", example: "ad app show --id 00000000-0000-0000-0000-000000000000", args: []arg{appID()},
			run: apped(func(ctx context.Context, _ *call, g *graph, path string) (any, error) { return g.get(ctx, path) })},
		{path: "ad app delete", short: "Delete an application.", example: "ad app delete --id 00000000-0000-0000-0000-000000000000", args: []arg{appID()},
			run: apped(func(ctx context.Context, _ *call, g *graph, path string) (any, error) {
				return nil, g.delete(ctx, path)
			})},
		{path: "ad app update", short: "Change an application.", example: "ad app update --id 00000000-0000-0000-0000-000000000000 --display-name MyApp", generic: true,
			args: append([]arg{appID(), opt("display-name", "Name for people.")}, appFields()...),
			run: apped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
				body, err := c.appBody()
				if err != nil {
					return nil, err
				}
				if err := c.applyGeneric(body); err != nil {
					return nil, err
				}
				return nil, g.patch(ctx, path, body)
			})},
	}
}

func appCreate() *command {
	return &command{path: "ad app create", short: "Create an application, or change the one of the same name.", example: "ad app create --display-name MyApp",
		args: append([]arg{opt("display-name", "Name for people.").required()}, appFields()...),
		run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
			body, err := c.appBody()
			if err != nil {
				return nil, err
			}
			l, err := g.list(ctx, "/applications", equals("displayName", c.text("display-name")))
			if err != nil {
				return nil, err
			}
			if len(l) == 1 {
				c.warn("Found an existing application instance: (id) %s. We will patch it.", textAt(l[0], "id"))
				path := "/applications/" + textAt(l[0], "id")
				if err := g.patch(ctx, path, body); err != nil {
					return nil, err
				}
				return g.get(ctx, path)
			}
			return g.post(ctx, "/applications", body)
		})}
}

func appFederatedCommands() []*command {
	const base = "ad app federated-credential "
	credential := opt("federated-credential-id", "Id or name of the federated credential.").required()
	parameters := opt("parameters", "The credential as JSON: name, issuer, subject, audiences, description. @FILE reads a file.").required()
	one := func(c *call, path string) string {
		return path + "/federatedIdentityCredentials/" + url.PathEscape(c.text("federated-credential-id"))
	}
	body := func(c *call) (any, error) {
		v, err := decode([]byte(c.text("parameters")))
		if _, ok := v.(object); err != nil || !ok {
			return nil, usagef("argument --parameters: not a JSON object")
		}
		return v, nil
	}
	return []*command{
		{path: base + "create", short: "Create a federated credential.", example: base + "create --id 00000000-0000-0000-0000-000000000000 --parameters @credential.json",
			args: []arg{appID(), parameters},
			run: apped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
				b, err := body(c)
				if err != nil {
					return nil, err
				}
				return g.post(ctx, path+"/federatedIdentityCredentials", b)
			})},
		{path: base + "list", short: "List the federated credentials.", example: base + "list --id 00000000-0000-0000-0000-000000000000", args: []arg{appID()},
			run: apped(func(ctx context.Context, _ *call, g *graph, path string) (any, error) {
				return g.list(ctx, path+"/federatedIdentityCredentials", "")
			})},
		{path: base + "show", short: "Show a federated credential.", example: base + "show --id 00000000-0000-0000-0000-000000000000 --federated-credential-id my",
			args: []arg{appID(), credential},
			run: apped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
				return g.get(ctx, one(c, path))
			})},
		{path: base + "update", short: "Change a federated credential.", example: base + "update --id 00000000-0000-0000-0000-000000000000 --federated-credential-id my --parameters @credential.json",
			args: []arg{appID(), credential, parameters},
			run: apped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
				b, err := body(c)
				if err != nil {
					return nil, err
				}
				return nil, g.patch(ctx, one(c, path), b)
			})},
		{path: base + "delete", short: "Delete a federated credential.", example: base + "delete --id 00000000-0000-0000-0000-000000000000 --federated-credential-id my",
			args: []arg{appID(), credential},
			run: apped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
				return nil, g.delete(ctx, one(c, path))
			})},
	}
}
