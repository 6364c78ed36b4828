package cli

import (
	"context"
	"strings"
	"time"
)

func spID() arg {
	return opt("id", "Application id, object id or name of the service principal.").required()
}

// servicePrincipal finds one by any of its names or its object id.
func (g *graph) servicePrincipal(ctx context.Context, id string) (any, error) {
	l, err := g.list(ctx, "/servicePrincipals", "servicePrincipalNames/any(c:c eq "+quoted(id)+")")
	if err != nil {
		return nil, err
	}
	if len(l) > 0 {
		return l[0], nil
	}
	if isGUID(id) {
		if v, err := g.get(ctx, "/servicePrincipals/"+id); err == nil {
			return v, nil
		}
	}
	return nil, notFoundf("Resource '%s' does not exist or one of its queried reference-property objects are not present.", id)
}

func principalCommands() []*command {
	return []*command{spCreateForRBAC(),
		{path: "ad sp create", short: "Create the service principal of an application.", example: "ad sp create --id 00000000-0000-0000-0000-000000000000",
			args: []arg{appID()},
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				id := c.text("id")
				if v, err := g.app(ctx, id); err == nil {
					id = textAt(v, "appId")
				}
				return g.post(ctx, "/servicePrincipals", object{"appId": id, "accountEnabled": true})
			})},
		{path: "ad sp list", short: "List service principals.", example: "ad sp list --all --query \"[].displayName\"",
			args: []arg{flagOpt("all", "All, beyond the first hundred. They are always listed."), opt("display-name", "Beginning of the display name."),
				opt("spn", "One of the names."), filterOpt()},
			table: "[].{DisplayName:displayName, Id:id, AppId:appId, CreatedDateTime:createdDateTime}",
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				spn := ""
				if s := c.text("spn"); s != "" {
					spn = "servicePrincipalNames/any(c:c eq " + quoted(s) + ")"
				}
				return g.list(ctx, "/servicePrincipals", c.filters(startsWith("displayName", c.text("display-name")), spn))
			})},
		{path: "ad sp show", short: "Show a service principal.", example: "ad sp show --id 00000000-0000-0000-0000-000000000000", args: []arg{spID()},
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				return g.servicePrincipal(ctx, c.text("id"))
			})},
		{path: "ad sp delete", short: "Delete a service principal.", example: "ad sp delete --id 00000000-0000-0000-0000-000000000000", args: []arg{spID()},
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				v, err := g.servicePrincipal(ctx, c.text("id"))
				if err != nil {
					return nil, err
				}
				return nil, g.delete(ctx, "/servicePrincipals/"+textAt(v, "id"))
			})},
	}
}

func spCreateForRBAC() *command {
	return &command{path: "ad sp create-for-rbac", short: "Create an application, its service principal and a secret, and give it a role.",
		example: "ad sp create-for-rbac --name deployer --role Contributor --scopes /subscriptions/ID",
		args: append([]arg{opt("name", "Display name.").or("-n", "--display-name"), opt("role", "Role that it gets."), listOpt("scopes", "Where it gets the role."),
			numberOpt("years", "How long the secret lives.").byDefault("1"), flagOpt("json-auth", "Print it in the form that SDKs read from a file.").or("--sdk-auth")}, certificateArgs()...),
		run: directed(runCreateForRBAC)}
}

func runCreateForRBAC(ctx context.Context, c *call, g *graph) (any, error) {
	if c.given("role") != c.given("scopes") {
		return nil, usagef("Usage error: To create role assignments, specify both --role and --scopes.")
	}
	name := firstNonEmpty(c.text("name"), "azure-cli-"+time.Now().UTC().Format("2006-01-02-15-04-05"))
	l, err := g.list(ctx, "/applications", equals("displayName", name))
	if err != nil {
		return nil, err
	}
	var app any
	if len(l) > 0 {
		c.warn("Found an existing application instance: (id) %s. We will patch it.", textAt(l[0], "id"))
		app = l[0]
	} else if app, err = g.post(ctx, "/applications", object{"displayName": name, "signInAudience": "AzureADMyOrg"}); err != nil {
		return nil, err
	}
	appID := textAt(app, "appId")
	sp, err := g.servicePrincipal(ctx, appID)
	if err != nil {
		if sp, err = g.post(ctx, "/servicePrincipals", object{"appId": appID, "accountEnabled": true}); err != nil {
			return nil, err
		}
	}
	secret, file, err := c.rbacCredential(ctx, g, app)
	if err != nil {
		return nil, err
	}
	if err := c.assignScopes(ctx, textAt(sp, "id")); err != nil {
		return nil, err
	}
	c.warn("WARNING: The output includes credentials that you must protect. Be sure that you do not include these credentials in your code or check the credentials into your source control. For more information, see https://aka.ms/azadsp-cli")
	return c.rbacAnswer(appID, name, secret, file)
}

// rbacCredential gives the application a password, or a certificate that is
// in a file.
func (c *call) rbacCredential(ctx context.Context, g *graph, app any) (secret any, file string, err error) {
	path, end := "/applications/"+textAt(app, "id"), time.Now().AddDate(c.number("years"), 0, 0)
	if c.byCertificate() {
		file, err = c.setCertificate(ctx, g, path, items(at(app, "keyCredentials")), end)
		return nil, file, err
	}
	v, err := g.addPassword(ctx, path, "rbac", end)
	return at(v, "secretText"), "", err
}

func (c *call) assignScopes(ctx context.Context, oid string) error {
	if !c.given("role") {
		return nil
	}
	m, err := c.arm()
	if err != nil {
		return err
	}
	for _, scope := range c.many("scopes") {
		c.warn("Creating '%s' role assignment under scope '%s'", c.text("role"), scope)
		role, err := m.roleID(ctx, c.text("role"), scope)
		if err != nil {
			return err
		}
		_, err = m.put(ctx, strings.TrimSuffix(scope, "/")+"/providers/Microsoft.Authorization/roleAssignments/"+newGUID(), authorizationVersion,
			object{"properties": object{"roleDefinitionId": role, "principalId": oid, "principalType": "ServicePrincipal"}}, false)
		if err != nil && !isCode(err, "RoleAssignmentExists") {
			return err
		}
	}
	return nil
}

func (c *call) rbacAnswer(appID, name string, secret any, file string) (any, error) {
	a, err := c.account()
	if err != nil {
		return nil, err
	}
	if !c.flag("json-auth") {
		out := object{"appId": appID, "displayName": name, "password": secret, "tenant": a.TenantID}
		if file != "" {
			out["fileWithCertAndPrivateKey"] = file
		}
		return out, nil
	}
	e := c.active.endpoints
	out := object{"clientId": appID, "clientSecret": secret, "subscriptionId": a.ID, "tenantId": a.TenantID,
		"activeDirectoryEndpointUrl": e["activeDirectory"], "resourceManagerEndpointUrl": e["resourceManager"],
		"activeDirectoryGraphResourceId": e["activeDirectoryGraphResourceId"], "sqlManagementEndpointUrl": e["sqlManagement"],
		"galleryEndpointUrl": e["gallery"], "managementEndpointUrl": e["management"]}
	if file != "" {
		delete(out, "clientSecret")
		out["clientCertificate"] = file
	}
	return out, nil
}

func (g *graph) addPassword(ctx context.Context, path, name string, end time.Time) (any, error) {
	return g.post(ctx, path+"/addPassword", object{"passwordCredential": object{"displayName": name, "endDateTime": end.UTC().Format(time.RFC3339)}})
}
