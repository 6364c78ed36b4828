package cli

import (
	"context"
	"fmt"
	"strings"
)

const authorizationVersion = "2022-04-01"

func roleNoun() noun {
	return noun{name: "role", short: "Manage roles and who holds them.",
		groups: map[string]string{"assignment": "Manage who holds a role where.", "definition": "Manage what roles allow."},
		commands: func() []*command {
			return append(roleAssignmentCommands(), roleDefinitionCommands()...)
		}}
}

func roleScopeArgs() []arg {
	return []arg{opt("scope", "Id of the subscription, group or resource at which it applies. Without it, the subscription."), groupFilter()}
}

// roleScope is --scope, else the group's or subscription's id.
func (c *call) roleScope(m *management) (string, error) {
	scope, group := c.text("scope"), c.text("resource-group")
	switch {
	case scope != "":
		if !strings.HasPrefix(scope, "/") {
			return "", usagef("argument --scope: '%s' is not a resource id: it begins with a slash", scope)
		}
		return strings.TrimSuffix(scope, "/"), nil
	case group != "":
		return m.groupPath(group), nil
	}
	return m.subPath, nil
}

// roleID finds a role definition's id by name, GUID or id.
func (m *management) roleID(ctx context.Context, role, scope string) (string, error) {
	if strings.Contains(strings.ToLower(role), "/providers/microsoft.authorization/roledefinitions/") {
		return role, nil
	}
	if isGUID(role) {
		return m.subPath + "/providers/Microsoft.Authorization/roleDefinitions/" + role, nil
	}
	l, err := m.list(ctx, scope+"/providers/Microsoft.Authorization/roleDefinitions", authorizationVersion, "$filter", "roleName eq "+quoted(role))
	switch {
	case err != nil:
		return "", err
	case len(l) == 0:
		return "", withHint(failf("Role '%s' doesn't exist.", role), "List the roles with `az role definition list --query \"[].roleName\" -o tsv`.")
	case len(l) > 1:
		var ids []string
		for _, d := range l {
			ids = append(ids, textAt(d, "id"))
		}
		return "", failf("More than one role matches the given name '%s'. Please pick an id from '%s'.", role, strings.Join(ids, ", "))
	}
	return textAt(l[0], "id"), nil
}

func roleDefinitionCommands() []*command {
	return []*command{definitionList(), definitionShow(), definitionWrite("create", "Create a custom role."), definitionWrite("update", "Change a custom role."), definitionDelete()}
}

// showDefinition flattens a definition: properties.type is printed as roleType.
func showDefinition(v any) any {
	out, ok := flatten(v, "createdBy", "createdOn", "description", "updatedBy", "updatedOn").(object)
	if !ok {
		return v
	}
	out["roleType"] = at(v, "properties", "type")
	for _, p := range items(out["permissions"]) {
		withNulls(p, "condition", "conditionVersion")
	}
	return out
}

func (c *call) definitions(ctx context.Context, m *management, scope string) ([]any, error) {
	var q []string
	name := c.text("name")
	if name != "" && !isGUID(name) {
		q = []string{"$filter", "roleName eq " + quoted(name)}
	}
	l, err := m.list(ctx, scope+"/providers/Microsoft.Authorization/roleDefinitions", authorizationVersion, q...)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, d := range l {
		custom := textAt(d, "properties", "type") == "CustomRole"
		if (custom || !c.flag("custom-role-only")) && (!isGUID(name) || strings.EqualFold(textAt(d, "name"), name)) {
			out = append(out, d)
		}
	}
	return out, nil
}

func definitionList() *command {
	return &command{path: "role definition list", short: "List roles.", example: "role definition list --name \"Key Vault Secrets User\"",
		args: append(roleScopeArgs(), opt("name", "Name or GUID of the role.").or("-n"), flagOpt("custom-role-only", "Custom roles only."),
			boolOpt("include-permissions", "Show what each role allows.")),
		table: "[].{Name:roleName, Type:roleType, Description:description}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			scope, err := c.roleScope(m)
			if err != nil {
				return nil, err
			}
			l, err := c.definitions(ctx, m, scope)
			return each(l, showDefinition), err
		})}
}

func definitionShow() *command {
	return &command{path: "role definition show", short: "Show a role.", example: "role definition show --name 00000000-0000-0000-0000-000000000000",
		args: append(roleScopeArgs(), opt("name", "GUID of the role.").or("-n"), opt("id", "Id of the role.")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			id := c.text("id")
			if id == "" {
				scope, err := c.roleScope(m)
				if err != nil {
					return nil, err
				}
				if c.text("name") == "" {
					return nil, usagef("usage error: --id | --name")
				}
				id = scope + "/providers/Microsoft.Authorization/roleDefinitions/" + c.text("name")
			}
			v, err := m.get(ctx, id, authorizationVersion)
			return showDefinition(v), err
		})}
}

func definitionWrite(verb, short string) *command {
	return &command{path: "role definition " + verb, short: short, example: "role definition " + verb + " --role-definition @role.json",
		args: []arg{opt("role-definition", "The role as JSON: Name, Description, Actions, NotActions, DataActions, NotDataActions, AssignableScopes. @FILE reads a file.").required()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := decode([]byte(c.text("role-definition")))
			in, ok := v.(object)
			if err != nil || !ok {
				return nil, usagef("argument --role-definition: not a JSON object")
			}
			return writeDefinition(ctx, m, lowerKeys(in), verb == "create")
		})}
}

// lowerKeys lets "Name" and "name" mean the same, as az does.
func lowerKeys(o object) object {
	out := object{}
	for k, v := range o {
		out[strings.ToLower(k)] = v
	}
	return out
}

func writeDefinition(ctx context.Context, m *management, in object, fresh bool) (any, error) {
	name := firstNonEmpty(textAt(in, "rolename"), textAt(in, "name"))
	scopes := items(in["assignablescopes"])
	if len(scopes) == 0 {
		return nil, usagef("please provide 'assignableScopes'")
	}
	scope := strings.TrimSuffix(scalar(scopes[0], "", "", ""), "/")
	guid := firstNonEmpty(lastSegment(textAt(in, "id")), textAt(in, "name"))
	if !isGUID(guid) {
		guid = newGUID()
		if !fresh {
			id, err := m.roleID(ctx, name, scope)
			if err != nil {
				return nil, err
			}
			guid = lastSegment(id)
		}
	}
	perms := in["permissions"]
	if perms == nil {
		perms = []any{object{"actions": orEmpty(in["actions"]), "notActions": orEmpty(in["notactions"]),
			"dataActions": orEmpty(in["dataactions"]), "notDataActions": orEmpty(in["notdataactions"])}}
	}
	body := object{"name": guid, "properties": object{"roleName": name, "description": textAt(in, "description"), "type": "CustomRole",
		"assignableScopes": scopes, "permissions": perms}}
	v, err := m.put(ctx, fmt.Sprintf("%s/providers/Microsoft.Authorization/roleDefinitions/%s", scope, guid), authorizationVersion, body, false)
	return showDefinition(v), err
}

func orEmpty(v any) any {
	if v == nil {
		return []any{}
	}
	return v
}

func definitionDelete() *command {
	return &command{path: "role definition delete", short: "Delete custom roles.", example: "role definition delete --name \"My Role\"",
		args: append(roleScopeArgs(), opt("name", "Name or GUID of the role.").or("-n").required(), boolOpt("custom-role-only", "Custom roles only.").byDefault("true")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			scope, err := c.roleScope(m)
			if err != nil {
				return nil, err
			}
			l, err := c.definitions(ctx, m, scope)
			if err != nil {
				return nil, err
			}
			if len(l) == 0 {
				c.warn("No role definitions were found to delete.")
			}
			for _, d := range l {
				if err := m.delete(ctx, textAt(d, "id"), authorizationVersion, false); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})}
}
