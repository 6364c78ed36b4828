package cli

import (
	"context"
)

const (
	identityType    = "Microsoft.ManagedIdentity/userAssignedIdentities"
	identityVersion = "2023-01-31"
)

func identityNoun() noun {
	return noun{name: "identity", short: "Manage user-assigned managed identities.",
		groups: map[string]string{"federated-credential": "Manage which tokens of other issuers stand for an identity."},
		commands: func() []*command {
			return append([]*command{identityCreate(), identityShow(), identityList(), identityUpdate(), identityDelete(),
				identityOperations(), identityResources()}, federatedCommands()...)
		}}
}

func showIdentity(v any) any {
	return flatten(v, "clientId", "location", "principalId", "systemData", "tags", "tenantId")
}

func identityPath(c *call, m *management) string {
	return m.resource(c.text("resource-group"), identityType, c.text("name"))
}

func identityCreate() *command {
	return &command{path: "identity create", short: "Create a user-assigned managed identity.",
		example: "identity create --name myIdentity --resource-group myGroup",
		args:    []arg{nameOpt("Name of the identity."), groupOpt(), locationOpt(), tagsOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			loc, err := m.locationOf(ctx, c)
			if err != nil {
				return nil, err
			}
			body := object{"location": loc}
			c.setIf(body, "tags", "tags")
			v, err := m.put(ctx, identityPath(c, m), identityVersion, body, false)
			return showIdentity(v), err
		})}
}

func identityShow() *command {
	return &command{path: "identity show", short: "Show an identity.", example: "identity show -n myIdentity -g myGroup --query clientId -o tsv",
		args: []arg{nameOpt("Name of the identity."), groupOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, identityPath(c, m), identityVersion)
			return showIdentity(v), err
		})}
}

func identityList() *command {
	return &command{path: "identity list", short: "List identities.", example: "identity list --resource-group myGroup",
		args: []arg{groupFilter()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.listPath(c.text("resource-group"), identityType), identityVersion)
			return each(l, showIdentity), err
		})}
}

func identityUpdate() *command {
	return &command{path: "identity update", short: "Change the tags of an identity.", example: "identity update -n myIdentity -g myGroup --tags team=blue",
		args: []arg{nameOpt("Name of the identity."), groupOpt(), tagsOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			body := object{}
			c.setIf(body, "tags", "tags")
			v, err := m.patch(ctx, identityPath(c, m), identityVersion, body, false)
			return showIdentity(v), err
		})}
}

func identityDelete() *command {
	return &command{path: "identity delete", short: "Delete an identity.", example: "identity delete -n myIdentity -g myGroup",
		args: []arg{nameOpt("Name of the identity."), groupOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			return nil, m.delete(ctx, identityPath(c, m), identityVersion, false)
		})}
}

func identityOperations() *command {
	return &command{path: "identity list-operations", short: "List the operations of the provider.", example: "identity list-operations",
		run: manage(func(ctx context.Context, _ *call, m *management) (any, error) {
			return m.list(ctx, "/providers/Microsoft.ManagedIdentity/operations", identityVersion)
		})}
}

func identityResources() *command {
	return &command{path: "identity list-resources", short: "List the resources that carry an identity.", example: "identity list-resources -n myIdentity -g myGroup",
		args: []arg{nameOpt("Name of the identity."), groupOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.post(ctx, identityPath(c, m)+"/listAssociatedResources", "2021-09-30-preview", nil)
			return items(at(v, "value")), err
		})}
}
