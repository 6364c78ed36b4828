package authorization

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/odata"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
)

// Assignment is the properties of a role assignment.
type Assignment struct {
	RoleDefinitionID string  `json:"roleDefinitionId"`
	PrincipalID      string  `json:"principalId"`
	PrincipalType    string  `json:"principalType,omitempty"`
	Scope            string  `json:"scope"`
	Condition        *string `json:"condition"`        // refused: conditions are not evaluated
	ConditionVersion *string `json:"conditionVersion"` // refused without a condition's being possible
	Description      *string `json:"description"`
	Delegated        *string `json:"delegatedManagedIdentityResourceId"` // refused: it is of another tenant
	CreatedOn        string  `json:"createdOn,omitempty"`
	UpdatedOn        string  `json:"updatedOn,omitempty"`
	CreatedBy        *string `json:"createdBy"`
	UpdatedBy        string  `json:"updatedBy,omitempty"`
}

func (a *Authorizer) roleAssignments() arm.Kind[Assignment] {
	return arm.Kind[Assignment]{
		Type: "roleAssignments",
		APIVersions: []string{
			"2022-04-01", "2022-01-01-preview", "2021-04-01-preview", "2020-10-01-preview", "2020-08-01-preview", "2020-04-01-preview",
			"2020-03-01-preview", "2019-04-01-preview", "2018-12-01-preview", "2018-09-01-preview", "2018-07-01", "2018-01-01-preview",
			"2017-10-01-preview", "2017-09-01", "2017-05-01", "2016-07-01", "2015-07-01", "2015-06-01",
		},
		Scopes:     arm.Tenant | arm.Subscription | arm.ResourceGroup | arm.Extension,
		Name:       guidName("RoleAssignment", "role assignment"),
		ReadOnly:   []string{"scope", "createdOn", "updatedOn", "createdBy", "updatedBy"},
		NoState:    true,
		NoPatch:    true,
		DeleteBody: true,
		Default:    a.defaultAssignment,
		Validate:   a.validateAssignment,
		Delete:     a.deleteAssignment,
		ListAt:     a.listAssignments,
	}
}

func guidName(code, what string) func(string) error {
	return func(name string) error {
		if len(name) != 36 || uuid.Validate(name) != nil {
			return apierr.New(apierr.BadRequest, "Invalid"+code+"Id", "The %s ID '%s' is not valid. The %s ID must be a GUID.", what, name, what)
		}
		return nil
	}
}

// assignmentName is the name of the program's own assignments: the same for the same content.
func assignmentName(scope rid.ID, role, principal string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(strings.ToLower(scope.Key()+"|"+role+"|"+principal))).String()
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.0000000Z") }

func caller(ctx context.Context) string {
	if c := arm.Caller(ctx); c != nil {
		return c.ObjectID
	}
	return ""
}

// roleID is the resource id under which a role is shown at a scope.
func roleID(scope rid.ID, guid string) string {
	prefix := ""
	if s, ok := scope.SubscriptionID(); ok {
		prefix = s.String()
	}
	return prefix + "/providers/" + namespace + "/roleDefinitions/" + guid
}

func (a *Authorizer) defaultAssignment(ctx context.Context, old, next *arm.Resource[Assignment]) error {
	p := &next.Properties
	p.Scope = next.ID.Scope().String()
	if guid := rbac.RoleID(p.RoleDefinitionID); guid != "" {
		p.RoleDefinitionID = roleID(next.ID.Scope(), guid)
	}
	p.UpdatedOn, p.UpdatedBy = now(), caller(ctx)
	if old != nil {
		p.CreatedOn, p.CreatedBy = old.Properties.CreatedOn, old.Properties.CreatedBy
		if p.PrincipalType == "" {
			p.PrincipalType = old.Properties.PrincipalType
		}
		return nil
	}
	p.CreatedOn = p.UpdatedOn
	if by := caller(ctx); by != "" {
		p.CreatedBy = &by
	}
	return nil
}

func bad(code, format string, args ...any) error {
	return apierr.New(apierr.BadRequest, code, format, args...)
}

func (a *Authorizer) validateAssignment(_ context.Context, old, next *arm.Resource[Assignment]) error {
	p := &next.Properties
	switch {
	case text(p.Condition) != "":
		return bad("ConditionNotSupported", "The role assignment has a condition. Conditions are not evaluated here, so none is accepted: assign the role at a narrower scope, or a narrower role.")
	case text(p.ConditionVersion) != "":
		return bad("InvalidConditionVersion", "If conditionVersion is set, condition cannot be empty.")
	case text(p.Delegated) != "":
		return bad("DelegatedManagedIdentityNotSupported", "Delegated managed identities of other tenants are not supported.")
	case uuid.Validate(p.PrincipalID) != nil:
		return bad("InvalidPrincipalId", "The principal ID '%s' is not valid. Principal ID must be a GUID.", p.PrincipalID)
	case p.RoleDefinitionID == "":
		return bad("MissingRequiredProperty", "The property 'roleDefinitionId' is required.")
	}
	if old != nil {
		o := old.Properties
		if !strings.EqualFold(o.PrincipalID, p.PrincipalID) || !strings.EqualFold(rbac.RoleID(o.RoleDefinitionID), rbac.RoleID(p.RoleDefinitionID)) {
			return bad("RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
		}
	}
	if old == nil {
		if err := a.room(next.ID.Scope()); err != nil {
			return err
		}
	}
	if err := a.validateRole(next); err != nil {
		return err
	}
	if err := a.validatePrincipal(p, old == nil); err != nil {
		return err
	}
	if name, ok := a.duplicate(next); ok {
		return apierr.New(apierr.Conflict, "RoleAssignmentExists",
			"The role assignment already exists. The ID of the conflicting role assignment is %s.", bare(name))
	}
	return nil
}

// bare is a GUID as Azure's messages write it.
func bare(guid string) string { return strings.ReplaceAll(strings.ToLower(guid), "-", "") }

func (a *Authorizer) validateRole(next *arm.Resource[Assignment]) error {
	role := next.Properties.RoleDefinitionID
	def, ok := a.engine.Definition(role)
	if !ok {
		return bad("RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", bare(rbac.RoleID(role)))
	}
	for _, perm := range def.Permissions {
		if perm.Condition != "" {
			return bad("ConditionNotSupported", "The role '%s' grants only under a condition. Conditions are not evaluated here, so it cannot be assigned.", def.Name)
		}
	}
	scope := next.ID.Scope()
	if def.Custom && !slices.ContainsFunc(def.AssignableScopes, func(s string) bool { return contains(s, scope) }) {
		return bad("RoleDefinitionScopeNotAssignable", "The role '%s' cannot be assigned at '%s': its assignable scopes are '%s'.",
			def.Name, scope, strings.Join(def.AssignableScopes, "', '"))
	}
	return nil
}

func contains(outer string, inner rid.ID) bool {
	o, err := rid.Parse(outer)
	return err == nil && o.Contains(inner)
}

// validatePrincipal refuses principals that are not there; that of an existing
// assignment may be gone by now.
func (a *Authorizer) validatePrincipal(p *Assignment, fresh bool) error {
	who, err := a.dir.Principal(p.PrincipalID)
	if errors.Is(err, directory.ErrNotFound) {
		if !fresh {
			return nil
		}
		return bad("PrincipalNotFound", "Principal %s does not exist in the directory %s. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype",
			bare(p.PrincipalID), a.dir.TenantID())
	}
	if err != nil {
		return err
	}
	switch {
	case p.PrincipalType == "":
		p.PrincipalType = who.Type
	case !strings.EqualFold(p.PrincipalType, who.Type):
		return bad("UnmatchedPrincipalType", "The PrincipalId '%s' has type '%s' , which is different from specified PrinciaplType '%s'.",
			bare(p.PrincipalID), who.Type, p.PrincipalType)
	default:
		p.PrincipalType = who.Type
	}
	return nil
}

// duplicate finds another assignment of the same role to the same principal at
// the same scope, and gives its name.
func (a *Authorizer) duplicate(next *arm.Resource[Assignment]) (name string, found bool) {
	role := rbac.RoleID(next.Properties.RoleDefinitionID)
	for _, id := range a.engine.Assignments(next.Properties.PrincipalID, next.ID.Scope().String()) {
		it, ok := a.mirror.Get(arm.KeyPrefix + id)
		if ok && !it.id.Equal(next.ID) && rbac.RoleID(it.assignment.RoleDefinitionID) == role {
			return it.id.Name(), true
		}
	}
	return "", false
}

// deleteAssignment refuses to leave a subscription without an owner.
func (a *Authorizer) deleteAssignment(ctx context.Context, old *arm.Resource[Assignment]) error {
	scope := old.ID.Scope()
	sub := scope.Subscription() != "" && scope.ResourceGroup() == "" && scope.Namespace() == ""
	if rbac.RoleID(old.Properties.RoleDefinitionID) != rbac.Owner || !sub && !scope.IsRoot() {
		return nil
	}
	subs := []rid.ID{scope}
	if scope.IsRoot() {
		var err error
		if subs, err = a.subscriptions(ctx); err != nil {
			return err
		}
	}
	return a.leaveAssignment(ctx, old.ID, subs)
}

// listAssignments understands the filters atScope(), principalId eq 'x',
// assignedTo('x') and equality of other properties. Without atScope() the list
// has the assignments at the scope, above and below it.
func (a *Authorizer) listAssignments(_ context.Context, scope rid.ID, filter string) ([]*arm.Resource[Assignment], error) {
	expr, err := parseFilter(filter, "principalId", "roleDefinitionId", "principalType", "atScope()", "assignedTo()", "atScopeAndBelow()")
	if err != nil {
		return nil, err
	}
	keep := func(*item) bool { return true }
	exact := false
	if expr != nil {
		_, exact = expr.Call("atScope")
		if args, ok := expr.Call("assignedTo"); ok {
			if len(args) == 0 {
				return nil, bad("InvalidFilterInQueryString", "assignedTo() takes a principal's object id.")
			}
			all := a.dir.Principals(args[0])
			keep = func(it *item) bool { return slices.Contains(all, strings.ToLower(it.assignment.PrincipalID)) }
		}
	}
	var out []*arm.Resource[Assignment]
	a.mirror.Range(func(_ string, it *item) bool {
		if it.kind != kindAssignment || !keep(it) {
			return true
		}
		at := it.id.Scope()
		if !at.Contains(scope) && (exact || !scope.Contains(at)) {
			return true
		}
		var ok bool
		if ok, err = holds(expr, map[string]string{
			"principalId": it.assignment.PrincipalID, "roleDefinitionId": it.assignment.RoleDefinitionID, "principalType": it.assignment.PrincipalType,
		}); ok {
			out = append(out, &arm.Resource[Assignment]{ID: it.id, Properties: it.assignment})
		}
		return err == nil
	})
	sortByID(out)
	return out, err
}

func sortByID[P any](list []*arm.Resource[P]) {
	slices.SortFunc(list, func(x, y *arm.Resource[P]) int { return strings.Compare(x.ID.Key(), y.ID.Key()) })
}

// parseFilter reads a $filter that may speak of names only; nil for none.
func parseFilter(filter string, names ...string) (*odata.Expr, error) {
	if strings.TrimSpace(filter) == "" {
		return nil, nil
	}
	expr, err := odata.Parse(filter)
	if err != nil {
		return nil, bad("InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string: %v.", filter, err)
	}
	for _, n := range expr.Names() {
		if !slices.ContainsFunc(names, func(k string) bool { return strings.EqualFold(k, n) }) {
			return nil, bad("InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string: '%s' cannot be filtered by, but '%s' can.",
				filter, n, strings.Join(names, "', '"))
		}
	}
	return expr, nil
}

func holds(expr *odata.Expr, fields map[string]string) (bool, error) {
	if expr == nil {
		return true, nil
	}
	ok, err := expr.Eval(func(name string) []string {
		for k, v := range fields {
			if strings.EqualFold(k, name) {
				return []string{v}
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("filter: %w", err)
	}
	return ok, nil
}
