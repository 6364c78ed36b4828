package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// linkVersions are the api-versions with which az asks for connections, by type.
func linkVersions() map[string]string {
	return map[string]string{
		"microsoft.keyvault/vaults": "2019-09-01", "microsoft.cognitiveservices/accounts": "2022-03-01",
		"microsoft.containerregistry/registries": "2019-12-01-preview", "microsoft.machinelearningservices/workspaces": "2021-01-01",
		"microsoft.storage/storageaccounts": "2019-06-01",
	}
}

func linkVersion(typ string) string {
	if v := linkVersions()[strings.ToLower(typ)]; v != "" {
		return v
	}
	return "2022-05-01"
}

// compactJSON is v as JSON; "" where it has none.
func compactJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// linkTarget is the resource that the options name, and its type.
func (c *call) linkTarget(m *management) (path, typ string, err error) {
	if id := c.text("id"); id != "" {
		for _, word := range []string{"/privateEndpointConnections/", "/privateendpointconnections/"} {
			if i := strings.Index(strings.ToLower(id), strings.ToLower(word)); i >= 0 {
				id = id[:i]
			}
		}
		segs := strings.Split(strings.Trim(id, "/"), "/")
		if len(segs) != 8 {
			return "", "", usagef("argument --id: '%s' is not the id of a resource or of its private endpoint connection", c.text("id"))
		}
		return id, segs[5] + "/" + segs[6], nil
	}
	for _, o := range []string{"resource-group", "type"} {
		if c.text(o) == "" {
			return "", "", usagef("usage error: --id ID | -g GROUP -n NAME --resource-name NAME --type TYPE")
		}
	}
	name := c.text("resource-name")
	if _, ok := c.defs["resource-name"]; !ok {
		name = c.text("name")
	}
	if name == "" {
		return "", "", usagef("usage error: --id ID | -g GROUP -n NAME --resource-name NAME --type TYPE")
	}
	return m.resource(c.text("resource-group"), c.text("type"), name), c.text("type"), nil
}

// linkPath is the connection that the options name.
func (c *call) linkPath(m *management) (path, version string, err error) {
	target, typ, err := c.linkTarget(m)
	if err != nil {
		return "", "", err
	}
	name := c.text("name")
	if id := c.text("id"); id != "" {
		name = id[strings.LastIndexByte(id, '/')+1:]
	}
	if name == "" {
		return "", "", usagef("the name of the connection is missing: --id ID, or -n NAME")
	}
	return target + "/privateEndpointConnections/" + name, linkVersion(typ), nil
}

// findConnection fills --id where the name is all that was given, as Azure's
// pages write it: by the only connection of that name in the subscription.
func (c *call) findConnection(ctx context.Context, m *management) error {
	name := c.text("name")
	if _, ok := c.defs["type"]; !ok || name == "" || c.text("id") != "" || c.text("type") != "" || c.text("resource-name") != "" {
		return nil
	}
	all, err := m.list(ctx, m.subPath+"/resources", resourcesVersion)
	if err != nil {
		return err
	}
	var found []string
	for _, r := range all {
		if linkVersions()[strings.ToLower(textAt(r, "type"))] == "" {
			continue
		}
		l, err := m.list(ctx, textAt(r, "id")+"/privateEndpointConnections", linkVersion(textAt(r, "type")))
		if err != nil {
			return err
		}
		for _, pec := range l {
			if strings.EqualFold(textAt(pec, "name"), name) {
				found = append(found, textAt(pec, "id"))
			}
		}
	}
	switch len(found) {
	case 0:
		return notFoundf("No private endpoint connection '%s' was found within subscription '%s'.", name, m.acct.ID)
	case 1:
		c.args.values["id"] = found
		return nil
	}
	return withHint(usagef("%d private endpoint connections are called '%s': name one with --id.", len(found), name), "%s", strings.Join(found, "\n"))
}

func connectionArgs(one bool) []arg {
	g := groupOpt()
	g.need, g.part = false, ""
	args := []arg{opt("id", "Id of the connection."), g, opt("name", "Name of the connection.").or("-n"), opt("resource-name", "Name of the resource."), opt("type", "Type of the resource: Microsoft.KeyVault/vaults.")}
	if !one {
		args = []arg{opt("id", "Id of the resource."), g, opt("name", "Name of the resource.").or("-n"), opt("type", "Type of the resource: Microsoft.KeyVault/vaults.")}
	}
	return args
}

func connectionCommands() []*command {
	const path = "network private-endpoint-connection"
	list := func(p, short, what, example string) *command {
		return &command{path: p, short: short, example: example, args: connectionArgs(false), run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			target, typ, err := c.linkTarget(m)
			if err != nil {
				return nil, err
			}
			return m.list(ctx, target+what, linkVersion(typ))
		})}
	}
	all := []*command{
		list(path+" list", "List the connections of a resource.", "/privateEndpointConnections", path+" list -g myGroup -n myVault --type Microsoft.KeyVault/vaults"),
		list("network private-link-resource list", "List what private endpoints can reach of a resource.", "/privateLinkResources", "network private-link-resource list -g myGroup -n myVault --type Microsoft.KeyVault/vaults"),
		{path: path + " show", short: "Show a connection.", example: path + " show --id ID", args: connectionArgs(true),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				p, v, err := c.linkPath(m)
				if err != nil {
					return nil, err
				}
				return m.get(ctx, p, v)
			})},
		{path: path + " delete", short: "Remove a connection.", example: path + " delete --id ID --yes", args: append(connectionArgs(true), yesOpt()),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				p, v, err := c.linkPath(m)
				if err == nil {
					err = c.confirm("Are you sure you want to perform this operation?")
				}
				if err != nil {
					return nil, err
				}
				return nil, m.delete(ctx, p, v, false)
			})},
	}
	for verb, status := range map[string]string{"approve": "Approved", "reject": "Rejected"} {
		all = append(all, decideCommand(path+" "+verb, status, path+" "+verb+" --id ID", connectionArgs(true), func(ctx context.Context, c *call, m *management) (string, string, error) {
			if err := c.findConnection(ctx, m); err != nil {
				return "", "", err
			}
			return c.linkPath(m)
		}, asIs))
	}
	return all
}

// decideCommand approves or rejects the connection that where names; shown is
// what is printed of it.
func decideCommand(path, status, example string, args []arg, where func(context.Context, *call, *management) (path, version string, err error), shown func(any) any) *command {
	verb := strings.ToLower(strings.TrimSuffix(status, "d"))
	if status == "Rejected" {
		verb = "reject"
	}
	return &command{path: path, short: strings.ToUpper(verb[:1]) + verb[1:] + " a connection.", example: example + " --description because",
		args: append(slices.Clone(args), opt("description", "What to tell whoever asked.").or("--approval-description", "--rejection-description")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			p, version, err := where(ctx, c, m)
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, p, version)
			if err != nil {
				return nil, err
			}
			o, _ := v.(object)
			st := sub(sub(o, "properties"), "privateLinkServiceConnectionState")
			st["status"] = status
			c.setIf(st, "description", "description")
			put, err := m.put(ctx, p, version, o, false)
			return shown(put), err
		})}
}

func asIs(v any) any { return v }

// vaultConnectionCommands are those of a vault's own noun.
func vaultConnectionCommands() []*command {
	const path = "keyvault private-endpoint-connection"
	g := groupOpt()
	g.need, g.part = false, ""
	args := []arg{opt("id", "Id of the connection."), g, opt("name", "Name of the connection.").or("-n"), opt("vault-name", "Name of the vault.")}
	where := func(_ context.Context, c *call, m *management) (string, string, error) {
		if c.text("id") == "" {
			if c.text("vault-name") == "" || c.text("name") == "" || c.text("resource-group") == "" {
				return "", "", usagef("usage error: --id ID | -g GROUP --vault-name NAME -n NAME")
			}
			return m.resource(c.text("resource-group"), vaultType+"/privateEndpointConnections", c.text("vault-name"), c.text("name")), linkVersion(vaultType), nil
		}
		return c.linkPath(m)
	}
	one := func(verb, short string, run func(ctx context.Context, m *management, p, v string) (any, error)) *command {
		return &command{path: path + " " + verb, short: short, example: path + " " + verb + " --id ID", args: args,
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				p, v, err := where(ctx, c, m)
				if err != nil {
					return nil, err
				}
				return run(ctx, m, p, v)
			})}
	}
	return []*command{
		decideCommand(path+" approve", "Approved", path+" approve --id ID", args, where, asIs), decideCommand(path+" reject", "Rejected", path+" reject --id ID", args, where, asIs),
		one("show", "Show a connection.", func(ctx context.Context, m *management, p, v string) (any, error) { return m.get(ctx, p, v) }),
		one("delete", "Remove a connection.", func(ctx context.Context, m *management, p, v string) (any, error) {
			return nil, m.delete(ctx, p, v, false)
		}),
		{path: path + " list", short: "List the connections of a vault.", example: path + " list --vault-name myVault -g myGroup", args: []arg{groupOpt(), opt("vault-name", "Name of the vault.").required()},
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return m.list(ctx, m.resource(c.text("resource-group"), vaultType+"/privateEndpointConnections", c.text("vault-name")), linkVersion(vaultType))
			})},
		{path: "keyvault private-link-resource list", short: "List what private endpoints can reach of a vault.", example: "keyvault private-link-resource list --vault-name myVault -g myGroup",
			args: []arg{groupOpt(), opt("vault-name", "Name of the vault.").required()},
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return m.list(ctx, m.resource(c.text("resource-group"), vaultType+"/privateLinkResources", c.text("vault-name")), linkVersion(vaultType))
			})},
	}
}
