package cli

import (
	"context"
	"strings"

	"github.com/google/uuid"
)

func newGUID() string { return uuid.NewString() }

func roleAssignmentCommands() []*command {
	return []*command{assignmentCreate(), assignmentUpdate(), assignmentList(), assignmentDelete()}
}

func showAssignment(v any) any {
	out := flatten(v, "condition", "conditionVersion", "createdBy", "createdOn", "delegatedManagedIdentityResourceId", "description", "updatedBy", "updatedOn")
	return pythonTimes(out, "createdOn", "updatedOn")
}

func assignmentCreate() *command {
	return &command{path: "role assignment create", short: "Give a role to a user, group, service principal or managed identity.",
		example: "role assignment create --assignee me@example.org --role \"Key Vault Secrets Officer\" --scope ID",
		args: append(roleScopeArgs(),
			opt("role", "Name or id of the role.").required(),
			opt("assignee", "User principal name, application id or object id; it is looked up in the directory."),
			opt("assignee-object-id", "Object id; it is not looked up."),
			opt("assignee-principal-type", "What the object id is.").oneOf("ForeignGroup", "Group", "ServicePrincipal", "User"),
			opt("name", "GUID of the assignment.").or("-n"), opt("description", "Why it is given."),
			opt("condition", "Condition under which it holds."), opt("condition-version", "Version of the condition's language.")),
		run: manage(runAssignmentCreate)}
}

func runAssignmentCreate(ctx context.Context, c *call, m *management) (any, error) {
	scope, err := c.roleScope(m)
	if err != nil {
		return nil, err
	}
	who := principal{c.text("assignee-object-id"), c.text("assignee-principal-type")}
	switch {
	case c.given("assignee") == c.given("assignee-object-id"):
		return nil, usagef("usage error: --assignee STRING | --assignee-object-id GUID")
	case c.given("assignee"):
		g, err := c.graph()
		if err != nil {
			return nil, err
		}
		if who, err = g.resolve(ctx, c.text("assignee")); err != nil {
			return nil, err
		}
	}
	role, err := m.roleID(ctx, c.text("role"), scope)
	if err != nil {
		return nil, err
	}
	props := object{"roleDefinitionId": role, "principalId": who.id}
	if who.kind != "" {
		props["principalType"] = who.kind
	}
	c.setIf(props, "description", "description")
	c.setIf(props, "condition", "condition")
	c.setIf(props, "conditionVersion", "condition-version")
	if c.given("condition") && !c.given("condition-version") {
		props["conditionVersion"] = "2.0"
	}
	name := firstNonEmpty(c.text("name"), newGUID())
	v, err := m.put(ctx, scope+"/providers/Microsoft.Authorization/roleAssignments/"+name, authorizationVersion, object{"properties": props}, false)
	if isCode(err, "RoleAssignmentExists") {
		if old := m.existingAssignment(ctx, scope, who.id, role); old != nil {
			return showAssignment(old), nil
		}
	}
	return showAssignment(v), err
}

func assignmentUpdate() *command {
	return &command{path: "role assignment update", short: "Change the description of a role assignment.",
		example: "role assignment update --role-assignment @assignment.json",
		args:    []arg{opt("role-assignment", "The assignment as `role assignment list` prints it, changed, as JSON. @FILE reads a file.").required()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := decode([]byte(c.text("role-assignment")))
			id := textAt(v, "id")
			if err != nil || id == "" {
				return nil, usagef("argument --role-assignment: not a JSON object with the id of an assignment")
			}
			props := object{}
			for _, k := range []string{"roleDefinitionId", "principalId", "principalType", "description", "condition", "conditionVersion"} {
				if x := at(v, k); x != nil {
					props[k] = x
				}
			}
			out, err := m.put(ctx, id, authorizationVersion, object{"properties": props}, false)
			return showAssignment(out), err
		})}
}

func (m *management) existingAssignment(ctx context.Context, scope, oid, role string) any {
	l, err := m.list(ctx, scope+"/providers/Microsoft.Authorization/roleAssignments", authorizationVersion, "$filter", "atScope()")
	if err != nil {
		return nil
	}
	for _, a := range l {
		p := at(a, "properties")
		if strings.EqualFold(textAt(p, "principalId"), oid) && sameRole(textAt(p, "roleDefinitionId"), role) && strings.EqualFold(textAt(p, "scope"), scope) {
			return a
		}
	}
	return nil
}

// sameRole compares by GUID: one role has an id under every scope.
func sameRole(a, b string) bool { return strings.EqualFold(lastSegment(a), lastSegment(b)) }

func assignmentFilterArgs() []arg {
	return append(roleScopeArgs(),
		opt("role", "Only of this role: name or id."),
		opt("assignee", "Only of this one: user principal name, application id or object id."),
		opt("assignee-object-id", "Only of this object id."),
		flagOpt("include-inherited", "Also those of enclosing scopes."))
}

func assignmentList() *command {
	return &command{path: "role assignment list", short: "List who holds which role.", example: "role assignment list --all --output table",
		args: append(assignmentFilterArgs(), flagOpt("all", "All in the subscription, at any scope."),
			flagOpt("include-groups", "Also those that the assignee has through a group."),
			boolOpt("fill-principal-name", "Look the names up in the directory.").byDefault("true"),
			boolOpt("fill-role-definition-name", "Look the names of the roles up.").byDefault("true")),
		table: "[].{Principal:principalName, Role:roleDefinitionName, Scope:scope}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := c.assignments(ctx, m)
			if err != nil {
				return nil, err
			}
			out := each(l, showAssignment)
			return out, c.nameAssignments(ctx, m, out)
		})}
}

// assignments are those that the options ask for.
func (c *call) assignments(ctx context.Context, m *management) ([]any, error) {
	scope, err := c.roleScope(m)
	if err != nil {
		return nil, err
	}
	if c.flag("all") {
		if c.text("scope") != "" || c.args.set["resource-group"] && c.config().get("defaults", "group") == "" {
			return nil, usagef("group or scope are not required when --all is used")
		}
		scope = ""
	}
	oid := c.text("assignee-object-id")
	if c.given("assignee") {
		g, err := c.graph()
		if err != nil {
			return nil, err
		}
		p, err := g.resolve(ctx, c.text("assignee"))
		if err != nil {
			return nil, err
		}
		oid = p.id
	}
	l, err := m.searchAssignments(ctx, scope, oid, c.flag("include-groups"))
	if err != nil {
		return nil, err
	}
	return c.narrow(ctx, m, l, scope, oid)
}

func (m *management) searchAssignments(ctx context.Context, scope, oid string, groups bool) ([]any, error) {
	path, filter := m.subPath, ""
	if scope != "" {
		path, filter = scope, "atScope()"
	}
	switch {
	case oid != "" && groups && filter != "":
		filter += " and assignedTo(" + quoted(oid) + ")"
	case oid != "" && groups:
		filter = "assignedTo(" + quoted(oid) + ")"
	case oid != "" && filter == "":
		filter = "principalId eq " + quoted(oid)
	}
	var q []string
	if filter != "" {
		q = []string{"$filter", filter}
	}
	return m.list(ctx, path+"/providers/Microsoft.Authorization/roleAssignments", authorizationVersion, q...)
}

// narrow keeps what the server can't select: exact scope, role, assignee.
func (c *call) narrow(ctx context.Context, m *management, l []any, scope, oid string) ([]any, error) {
	role := ""
	if r := c.text("role"); r != "" {
		var err error
		if role, err = m.roleID(ctx, r, firstNonEmpty(scope, m.subPath)); err != nil {
			return nil, err
		}
	}
	out := []any{}
	for _, a := range l {
		p := at(a, "properties")
		in := scope == "" || c.flag("include-inherited") || under(textAt(p, "scope"), scope)
		if in && (role == "" || sameRole(textAt(p, "roleDefinitionId"), role)) &&
			(oid == "" || c.flag("include-groups") || strings.EqualFold(textAt(p, "principalId"), oid)) {
			out = append(out, a)
		}
	}
	return out, nil
}

// under reports whether id is scope or lies below it.
func under(id, scope string) bool {
	id, scope = strings.ToLower(strings.TrimSuffix(id, "/")), strings.ToLower(scope)
	return id == scope || strings.HasPrefix(id, scope+"/")
}

// nameAssignments adds principalName and roleDefinitionName to flat assignments.
func (c *call) nameAssignments(ctx context.Context, m *management, l []any) error {
	if len(l) == 0 {
		return nil
	}
	if c.flag("fill-role-definition-name") {
		defs, err := m.list(ctx, m.subPath+"/providers/Microsoft.Authorization/roleDefinitions", authorizationVersion)
		if err != nil {
			return err
		}
		names := map[string]any{}
		for _, d := range defs {
			names[strings.ToLower(textAt(d, "name"))] = at(d, "properties", "roleName")
		}
		for _, a := range l {
			a.(object)["roleDefinitionName"] = names[strings.ToLower(lastSegment(textAt(a, "roleDefinitionId")))]
		}
	}
	if !c.flag("fill-principal-name") {
		return nil
	}
	g, err := c.graph()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var ids []string
	for _, a := range l {
		if id := textAt(a, "principalId"); !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	found, err := g.byIDs(ctx, ids)
	if err != nil {
		c.warn("WARNING: the names of the principals can't be read: %s", err)
	}
	for _, a := range l {
		a.(object)["principalName"] = displayed(found[strings.ToLower(textAt(a, "principalId"))])
	}
	return nil
}

func assignmentDelete() *command {
	return &command{path: "role assignment delete", short: "Take roles away.", example: "role assignment delete --assignee me@example.org --role Reader --scope ID",
		args: append(assignmentFilterArgs(), listOpt("ids", "Ids of the assignments."), yesOpt()),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			ids := strings.Fields(strings.Join(c.many("ids"), " "))
			if len(ids) == 0 {
				if !c.given("assignee") && !c.given("assignee-object-id") && !c.given("role") && c.text("scope") == "" && !c.given("resource-group") {
					if err := c.confirm("This will delete all role assignments under the subscription. Are you sure?"); err != nil {
						return nil, err
					}
				}
				l, err := c.assignments(ctx, m)
				if err != nil {
					return nil, err
				}
				for _, a := range l {
					ids = append(ids, textAt(a, "id"))
				}
			}
			if len(ids) == 0 {
				c.warn("No matched assignments were found to delete, please provide correct assignee, role, scope, resource group.")
			}
			for _, id := range ids {
				if err := m.delete(ctx, id, authorizationVersion, false); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})}
}
