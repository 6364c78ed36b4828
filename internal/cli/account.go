package cli

import (
	"context"
	"os"
	"time"
)

func accountNoun() noun {
	return noun{name: "account", short: "Manage the subscriptions that you are signed in to.",
		groups: map[string]string{"tenant": "Manage tenants.", "subscription": "Manage subscriptions."},
		commands: func() []*command {
			return []*command{accountShow(), accountList(), accountSet(), accountClear(), accountToken(),
				accountLocations(), accountTenants(), accountSubscriptions()}
		}}
}

func accountSubscription() arg {
	return opt("subscription", "Name or id of the subscription.").or("-s", "--name", "-n")
}

func accountShow() *command {
	return &command{path: "account show", short: "Show the subscription that commands work in.", bare: true,
		example: "account show --query id --output tsv",
		args:    []arg{accountSubscription()},
		run: func(_ context.Context, c *call) (any, error) {
			a, err := c.account()
			if err != nil {
				return nil, err
			}
			return a.show("environmentName"), nil
		}}
}

func accountList() *command {
	return &command{path: "account list", short: "List the subscriptions of the signed-in users.", bare: true,
		example: "account list --output table",
		args: []arg{flagOpt("all", "Also those that are disabled, and those of other clouds."),
			flagOpt("refresh", "Ask the server again which subscriptions there are.")},
		table: "[].{Name:name, CloudName:cloudName, SubscriptionId:id, TenantId:tenantId, State:state, IsDefault:isDefault}",
		run: func(ctx context.Context, c *call) (any, error) {
			if c.flag("refresh") {
				if err := c.refreshSubscriptions(ctx); err != nil {
					return nil, err
				}
			}
			all, err := c.inCloud()
			if err != nil {
				return nil, err
			}
			out := []any{}
			for _, a := range all {
				if c.flag("all") || a.State == "Enabled" {
					out = append(out, a.show("cloudName"))
				}
			}
			if len(out) == 0 {
				c.warn("Please run \"az login\" to access your accounts.")
			}
			return out, nil
		}}
}

func accountSet() *command {
	return &command{path: "account set", short: "Choose the subscription that commands work in.", bare: true,
		example: "account set --subscription \"My Subscription\"",
		args:    []arg{accountSubscription().required()},
		run: func(_ context.Context, c *call) (any, error) {
			chosen, err := c.account()
			if err != nil {
				return nil, err
			}
			all, err := c.inCloud()
			if err != nil {
				return nil, err
			}
			for _, a := range all {
				a.IsDefault = a == chosen
			}
			return nil, c.saveProfile()
		}}
}

func accountClear() *command {
	return &command{path: "account clear", short: "Sign all users out and forget their subscriptions.", bare: true,
		example: "account clear",
		run: func(_ context.Context, c *call) (any, error) {
			for _, f := range []string{"laz_tokens.json", "service_principal_entries.json", "azureProfile.json"} {
				if err := os.Remove(c.path(f)); err != nil && !os.IsNotExist(err) {
					return nil, err
				}
			}
			return nil, nil
		}}
}

// resourceTypes are the short names of --resource-type.
func resourceEndpoint(kind string) string {
	switch kind {
	case "arm":
		return "activeDirectoryResourceId"
	case "ms-graph":
		return "microsoftGraphResourceId"
	case "aad-graph":
		return "activeDirectoryGraphResourceId"
	case "batch":
		return "batchResourceId"
	case "data-lake":
		return "activeDirectoryDataLakeResourceId"
	case "media":
		return "mediaResourceId"
	}
	return "ossrdbmsResourceId"
}

func accountToken() *command {
	return &command{path: "account get-access-token", short: "Get an access token for use outside of the program.", bare: true,
		example: "account get-access-token --resource https://vault.azure.net --query accessToken --output tsv",
		args: []arg{accountSubscription(),
			opt("resource", "Address of the resource that the token is for. Without it, the resource manager."),
			opt("resource-type", "The resource by a short name.").oneOf("aad-graph", "arm", "batch", "data-lake", "media", "ms-graph", "oss-rdbms"),
			listOpt("scope", "Scope in place of the resource, such as https://vault.azure.net/.default."),
			opt("tenant", "Tenant that gives the token.").or("-t")},
		run: runAccountToken}
}

func runAccountToken(ctx context.Context, c *call) (any, error) {
	a, err := c.account()
	if err != nil {
		return nil, err
	}
	if c.given("tenant") && c.given("subscription") {
		return nil, failf("Please specify only one of subscription and tenant, not both")
	}
	resource, err := c.tokenResource()
	if err != nil {
		return nil, err
	}
	tenant := firstNonEmpty(c.text("tenant"), a.TenantID)
	t, err := c.accountToken(ctx, a, tenant, resource, "")
	if err != nil {
		return nil, err
	}
	out := object{"accessToken": t.Token, "expiresOn": time.Unix(t.ExpiresOn, 0).Local().Format("2006-01-02 15:04:05.000000"),
		"expires_on": int(t.ExpiresOn), "tenant": tenant, "tokenType": "Bearer"}
	if !c.given("tenant") {
		out["subscription"] = a.ID
	}
	return out, nil
}

func (c *call) tokenResource() (string, error) {
	switch {
	case len(c.many("scope")) > 1:
		return "", failf("one --scope at a time")
	case c.given("scope"):
		return trimScope(c.text("scope")), nil
	case c.given("resource"):
		return c.text("resource"), nil
	}
	cl, err := c.cloud()
	if err != nil {
		return "", err
	}
	return cl.endpoint(resourceEndpoint(firstNonEmpty(c.text("resource-type"), "arm")))
}

func accountLocations() *command {
	return &command{path: "account list-locations", short: "List the regions of the subscription.", example: "account list-locations --output table",
		args:  []arg{flagOpt("include-extended-locations", "Also extended locations.")},
		table: "[].{DisplayName:displayName, Name:name, RegionalDisplayName:regionalDisplayName}",
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			q := []string{}
			if c.flag("include-extended-locations") {
				q = []string{"includeExtendedLocations", "true"}
			}
			l, err := m.list(ctx, m.subPath+"/locations", "2022-12-01", q...)
			return each(l, func(v any) any {
				withNulls(at(v, "metadata"), "geographyGroup", "latitude", "longitude", "pairedRegion", "physicalLocation", "regionCategory", "regionType")
				return withNulls(v, "subscriptionId")
			}), err
		}}
}

func accountTenants() *command {
	return &command{path: "account tenant list", short: "List the tenants that you may enter.", example: "account tenant list",
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			return m.list(ctx, "/tenants", subscriptionsVersion)
		}}
}

func accountSubscriptions() *command {
	return &command{path: "account subscription list", short: "List the subscriptions as the server knows them.", example: "account subscription list",
		table: "[].{Name:displayName, SubscriptionId:subscriptionId, State:state}",
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			return m.list(ctx, "/subscriptions", subscriptionsVersion)
		}}
}
