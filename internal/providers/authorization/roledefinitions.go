package authorization

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
)

// Definition is the properties of a role definition.
type Definition struct {
	RoleName         string            `json:"roleName"`
	Description      string            `json:"description"`
	Type             string            `json:"type"` // "BuiltInRole" or "CustomRole"
	AssignableScopes []string          `json:"assignableScopes"`
	Permissions      []rbac.Permission `json:"permissions"`
	CreatedOn        string            `json:"createdOn,omitempty"`
	UpdatedOn        string            `json:"updatedOn,omitempty"`
	CreatedBy        *string           `json:"createdBy"`
	UpdatedBy        *string           `json:"updatedBy"`
}

const (
	builtInRole = "BuiltInRole"
	customRole  = "CustomRole"
	builtInDate = "2015-02-02T21:55:09.8806423Z"
)

func (d *Definition) role(guid string) rbac.Definition {
	return rbac.Definition{
		ID: guid, Name: d.RoleName, Description: d.Description, Custom: true,
		Permissions: d.Permissions, AssignableScopes: d.AssignableScopes,
	}
}

func (a *Authorizer) roleDefinitions() arm.Kind[Definition] {
	return arm.Kind[Definition]{
		Type:        "roleDefinitions",
		APIVersions: []string{"2023-07-01-preview", "2022-05-01-preview", "2022-04-01", "2018-07-01", "2018-01-01-preview", "2017-05-01", "2016-07-01", "2015-07-01", "2015-06-01"},
		Scopes:      arm.Tenant | arm.Subscription | arm.ResourceGroup | arm.Extension,
		Home:        definitionHome,
		Name:        guidName("RoleDefinition", "role definition"),
		ReadOnly:    []string{"createdOn", "updatedOn", "createdBy", "updatedBy"},
		NoState:     true,
		NoPatch:     true,
		DeleteBody:  true,
		Default:     defaultDefinition,
		Validate:    a.validateDefinition,
		Delete:      a.deleteDefinition,
		Get:         a.getDefinition,
		ListAt:      a.listDefinitions,
	}
}

// definitionHome stores a role where it belongs: in the tenant, of which each
// id is one role, whatever group or resource it was addressed under. So it
// neither goes with that group nor can another take its id.
func definitionHome(scope rid.ID, guid string) (stored, shown rid.ID) {
	return rid.MustParse("/providers/" + namespace + "/roleDefinitions/" + guid), rid.MustParse(roleID(scope, guid))
}

func defaultDefinition(ctx context.Context, old, next *arm.Resource[Definition]) error {
	p := &next.Properties
	by := caller(ctx)
	p.UpdatedOn, p.UpdatedBy = now(), &by
	p.CreatedOn, p.CreatedBy = p.UpdatedOn, p.UpdatedBy
	if old != nil {
		p.CreatedOn, p.CreatedBy = old.Properties.CreatedOn, old.Properties.CreatedBy
	}
	if p.Type == "" {
		p.Type = customRole
	}
	for i := range p.Permissions {
		for _, list := range []*[]string{&p.Permissions[i].Actions, &p.Permissions[i].NotActions, &p.Permissions[i].DataActions, &p.Permissions[i].NotDataActions} {
			if *list == nil {
				*list = []string{}
			}
		}
	}
	return nil
}

func (a *Authorizer) validateDefinition(ctx context.Context, old, next *arm.Resource[Definition]) error {
	p := &next.Properties
	guid := strings.ToLower(next.ID.Name())
	if def, ok := a.engine.Definition(guid); ok && old == nil {
		if !def.Custom {
			return apierr.New(apierr.Forbidden, "RoleDefinitionIsBuiltIn", "The role '%s' is built in and cannot be changed.", def.Name)
		}
		return apierr.New(apierr.Conflict, "RoleDefinitionExists", "A role definition with the ID '%s' was made at the same time.", guid)
	}
	switch {
	case !strings.EqualFold(p.Type, customRole):
		return bad("InvalidRoleDefinitionType", "The type of a role definition that clients write is 'CustomRole', not '%s'.", p.Type)
	case strings.TrimSpace(p.RoleName) == "" || len(p.RoleName) > 512:
		return bad("RoleDefinitionNameNullOrEmpty", "The role definition must have a name of at most 512 characters.")
	case len(p.Permissions) == 0:
		return bad("MissingRequiredProperty", "The property 'permissions' is required.")
	case len(p.AssignableScopes) == 0:
		return bad("AssignableScopeNotUnderSubscriptionScope", "The role definition must have at least one assignable scope.")
	}
	p.Type = customRole
	if err := rbac.Check(p.Permissions); errors.Is(err, rbac.ErrCondition) {
		return bad("ConditionNotSupported", "A permission has a condition. Conditions are not evaluated here, so none is accepted.")
	} else if err != nil {
		return bad("InvalidActionOrNotAction", "'permissions' cannot be read: %v.", err)
	}
	if err := a.uniqueName(p.RoleName, guid); err != nil {
		return err
	}
	if old == nil {
		if err := a.roomForRole(); err != nil {
			return err
		}
	}
	return a.validateScopes(ctx, old, next)
}

// uniqueName refuses a role name that another role of the tenant has.
func (a *Authorizer) uniqueName(name, guid string) error {
	for _, d := range a.engine.Definitions() {
		if strings.EqualFold(d.Name, name) && !strings.EqualFold(d.ID, guid) {
			return apierr.New(apierr.Conflict, "RoleDefinitionWithSameNameExists",
				"A custom role definition cannot be created with same name. Role name: '%s', existing role definition: '%s'.", name, d.ID)
		}
	}
	return nil
}

// validateScopes demands that the caller may write role definitions at every
// scope where this one counts: who may change it only in one group must not
// change what it means for a subscription.
func (a *Authorizer) validateScopes(ctx context.Context, old, next *arm.Resource[Definition]) error {
	scopes := next.Properties.AssignableScopes
	if len(scopes) > maxAssignableScopes {
		return bad("InvalidAssignableScope", "The role definition has %d assignable scopes; at most %d are allowed.", len(scopes), maxAssignableScopes)
	}
	for _, s := range scopes {
		id, err := rid.Parse(s)
		if err != nil || id.IsRoot() || id.Collection {
			return bad("InvalidAssignableScope", "The assignable scope '%s' is not valid: it must be a subscription, a resource group or a resource.", s)
		}
	}
	if old != nil {
		scopes = append(append([]string{}, scopes...), old.Properties.AssignableScopes...)
	}
	return a.mayAtAll(ctx, namespace+"/roleDefinitions/write", next.ID, scopes)
}

// maxAssignableScopes is ours; Azure's own limit is not documented.
const maxAssignableScopes = 500

// mayAtAll demands that the caller may do something at every one of scopes.
func (a *Authorizer) mayAtAll(ctx context.Context, action string, role rid.ID, scopes []string) error {
	c := arm.Caller(ctx)
	if c == nil {
		return nil // the program itself
	}
	for _, s := range scopes {
		id, err := rid.Parse(s)
		if err != nil {
			return fmt.Errorf("assignable scope: %w", err)
		}
		d, err := a.Check(ctx, c.ObjectID, action, false, id)
		if err != nil {
			return err
		}
		if !d.Allowed {
			return apierr.New(apierr.Forbidden, "LinkedAuthorizationFailed",
				"The client '%s' with object id '%s' has permission to perform action '%s' on scope '%s'; however, it does not have permission to perform it on the linked scope '%s'.",
				c.Display(), c.ObjectID, action, role, s)
		}
	}
	return nil
}

func (a *Authorizer) deleteDefinition(ctx context.Context, old *arm.Resource[Definition]) error {
	if err := a.mayAtAll(ctx, namespace+"/roleDefinitions/delete", old.ID, old.Properties.AssignableScopes); err != nil {
		return err
	}
	guid, used := rbac.RoleID(old.ID.Name()), 0
	a.mirror.Range(func(_ string, it *item) bool {
		if it.kind == kindAssignment && rbac.RoleID(it.assignment.RoleDefinitionID) == guid {
			used++
		}
		return true
	})
	if used > 0 {
		return bad("RoleDefinitionHasAssignments", "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments). They are %d.", used)
	}
	return nil
}

// shown is a role as the resource that it is at a scope.
func (a *Authorizer) shown(d rbac.Definition, scope rid.ID) (*arm.Resource[Definition], error) {
	id, err := rid.Parse(roleID(scope, d.ID))
	if err != nil {
		return nil, fmt.Errorf("role definition: %w", err)
	}
	p := Definition{
		RoleName: d.Name, Description: d.Description, Type: builtInRole, AssignableScopes: d.AssignableScopes,
		CreatedOn: builtInDate, UpdatedOn: builtInDate,
	}
	if d.Custom {
		if it := a.stored(d.ID); it != nil {
			p = it.definition
		}
		p.Type = customRole
	}
	p.Permissions = nil
	for _, perm := range d.Permissions {
		p.Permissions = append(p.Permissions, filled(perm))
	}
	return &arm.Resource[Definition]{ID: id, Properties: p}, nil
}

// filled is p with empty lists in place of none, as Azure shows them.
func filled(p rbac.Permission) rbac.Permission {
	for _, list := range []*[]string{&p.Actions, &p.NotActions, &p.DataActions, &p.NotDataActions} {
		if *list == nil {
			*list = []string{}
		}
	}
	return p
}

// stored is a custom role's resource, nil when there is none.
func (a *Authorizer) stored(guid string) *item {
	it, _ := a.mirror.Get(arm.KeyPrefix + "/providers/" + kindDefinition + "/" + strings.ToLower(guid))
	return it
}

// getDefinition gives built-in roles.
func (a *Authorizer) getDefinition(_ context.Context, id rid.ID) (*arm.Resource[Definition], error) {
	d, ok := a.engine.Definition(id.Name())
	if !ok {
		return nil, apierr.New(apierr.NotFound, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", id.Name())
	}
	return a.shown(d, id.Scope())
}

// listDefinitions gives the roles that can be assigned at a scope. It
// understands roleName eq 'x' and type eq 'CustomRole'.
func (a *Authorizer) listDefinitions(_ context.Context, scope rid.ID, filter string) ([]*arm.Resource[Definition], error) {
	expr, err := parseFilter(filter, "roleName", "type", "atScope()", "atScopeAndBelow()")
	if err != nil {
		return nil, err
	}
	below := false
	if expr != nil {
		_, below = expr.Call("atScopeAndBelow")
	}
	var out []*arm.Resource[Definition]
	for _, d := range a.engine.Definitions() {
		if d.Custom && !assignable(d, scope, below) {
			continue
		}
		r, err := a.shown(d, scope)
		if err != nil {
			return nil, err
		}
		ok, err := holds(expr, map[string]string{"roleName": d.Name, "type": r.Properties.Type})
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, r)
		}
	}
	sortByID(out)
	return out, nil
}

// assignable reports whether a custom role can be assigned at scope, or with
// below somewhere under it. At the root every role is listed.
func assignable(d rbac.Definition, scope rid.ID, below bool) bool {
	for _, s := range d.AssignableScopes {
		id, err := rid.Parse(s)
		if err == nil && (id.Contains(scope) || (below || scope.IsRoot()) && scope.Contains(id)) {
			return true
		}
	}
	return false
}
