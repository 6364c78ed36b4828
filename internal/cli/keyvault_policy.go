package cli

import (
	"context"
	"strings"
)

func policyArgs() []arg {
	return append(vaultArgs(), noWaitOpt(), opt("object-id", "Object id of who gets the rights."),
		opt("spn", "Name or application id of the service principal."), opt("upn", "Name of the user."))
}

// policyHolder is the object id that --object-id, --spn or --upn names.
func (c *call) policyHolder(ctx context.Context) (string, error) {
	name := firstNonEmpty(c.text("spn"), c.text("upn"))
	switch {
	case c.text("object-id") != "":
		return c.text("object-id"), nil
	case name == "":
		return "", usagef("usage error: --object-id ID | --spn NAME | --upn NAME")
	}
	g, err := c.graph()
	if err != nil {
		return "", err
	}
	p, err := g.resolve(ctx, name)
	return p.id, err
}

func vaultSetPolicy() *command {
	args := policyArgs()
	for _, k := range []string{"secret", "key", "certificate", "storage"} {
		args = append(args, arg{name: k + "-permissions", help: "What may be done with each " + k + ": all, get, list, set and so on. None takes all away.", kind: pairs})
	}
	return &command{path: "keyvault set-policy", short: "Let someone use a vault whose access policies decide.",
		example: "keyvault set-policy --name myVault --object-id 00000000-0000-0000-0000-000000000000 --secret-permissions get list", args: args,
		run: vaulted(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			oid, err := c.policyHolder(ctx)
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, path, vaultVersion)
			if err != nil {
				return nil, err
			}
			props := sub(v.(object), "properties")
			if props["enableRbacAuthorization"] == true {
				return nil, failf("Cannot set policies to a vault with '--enable-rbac-authorization' specified")
			}
			c.setPolicy(props, m.acct.TenantID, oid)
			return putVault(ctx, c, m, path, v.(object))
		})}
}

func (c *call) setPolicy(props object, tenant, oid string) {
	entry := object{"tenantId": tenant, "objectId": oid, "permissions": object{}}
	kept := []any{}
	for _, p := range items(props["accessPolicies"]) {
		if strings.EqualFold(textAt(p, "objectId"), oid) {
			entry = p.(object)
		} else {
			kept = append(kept, p)
		}
	}
	perms := sub(entry, "permissions")
	for option, key := range map[string]string{"secret-permissions": "secrets", "key-permissions": "keys",
		"certificate-permissions": "certificates", "storage-permissions": "storage"} {
		if c.given(option) {
			perms[key] = orStrings(c.many(option))
		}
	}
	props["accessPolicies"] = append(kept, entry)
}

func orStrings(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

func vaultDeletePolicy() *command {
	return &command{path: "keyvault delete-policy", short: "Take someone's rights in a vault away.",
		example: "keyvault delete-policy --name myVault --object-id 00000000-0000-0000-0000-000000000000", args: policyArgs(),
		run: vaulted(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			oid, err := c.policyHolder(ctx)
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, path, vaultVersion)
			if err != nil {
				return nil, err
			}
			props := sub(v.(object), "properties")
			kept := []any{}
			for _, p := range items(props["accessPolicies"]) {
				if !strings.EqualFold(textAt(p, "objectId"), oid) {
					kept = append(kept, p)
				}
			}
			if len(kept) == len(items(props["accessPolicies"])) {
				return nil, failf("No matching policies found")
			}
			props["accessPolicies"] = kept
			return putVault(ctx, c, m, path, v.(object))
		})}
}
