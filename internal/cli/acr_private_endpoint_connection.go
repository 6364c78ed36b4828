package cli

import "context"

// registryConnectionCommands are those of a registry's own noun.
func registryConnectionCommands() []*command {
	const path, tail = "acr private-endpoint-connection", " -r myregistry -n NAME"
	g := groupOpt()
	g.need = false
	registry := []arg{opt("registry-name", "Name of the registry.").or("-r").required().configured("acr"), g}
	one := append([]arg{opt("name", "Name of the connection.").or("-n").required()}, registry...)
	at := func(ctx context.Context, c *call, m *management) (string, error) {
		if c.text("resource-group") == "" {
			return m.findByName(ctx, registryType, c.text("registry-name"))
		}
		return m.resource(c.text("resource-group"), registryType, c.text("registry-name")), nil
	}
	named := func(ctx context.Context, c *call, m *management) (string, string, error) {
		p, err := at(ctx, c, m)
		return p + "/privateEndpointConnections/" + c.text("name"), registryVersion, err
	}
	flat := func(v any) any { return flatten(v) }
	return []*command{
		{path: path + " list", short: "List the private endpoint connections of a registry.", example: path + " list -r myregistry", args: registry,
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				p, err := at(ctx, c, m)
				if err != nil {
					return nil, err
				}
				l, err := m.list(ctx, p+"/privateEndpointConnections", registryVersion)
				return each(l, flat), err
			})},
		{path: path + " show", short: "Show a connection.", example: path + " show" + tail, args: one,
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				p, v, err := named(ctx, c, m)
				if err != nil {
					return nil, err
				}
				got, err := m.get(ctx, p, v)
				return flat(got), err
			})},
		{path: path + " delete", short: "Remove a connection.", example: path + " delete" + tail, args: one,
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				p, v, err := named(ctx, c, m)
				if err != nil {
					return nil, err
				}
				return nil, m.delete(ctx, p, v, false)
			})},
		decideCommand(path+" approve", "Approved", path+" approve"+tail, one, named, flat),
		decideCommand(path+" reject", "Rejected", path+" reject"+tail, one, named, flat),
	}
}
