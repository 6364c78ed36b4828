package graph

import (
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/trace"
)

// may demands one of the directory roles. Global administrators may everything.
func (h *Handler) may(c *call, what string, roles ...string) error {
	if h.dir.HasRole(c.caller.ObjectID, append(roles, directory.GlobalAdministrator)...) {
		return nil
	}
	names := []string{"Global Administrator"}
	for _, r := range directory.DirectoryRoles() {
		if slices.Contains(roles, r.TemplateID) {
			names = append(names, r.Name)
		}
	}
	trace.Add(c, trace.Hop{
		Step: "role", Subject: c.caller.ObjectID, Found: "none of the directory roles that may " + what,
		Expected: strings.Join(names, ", "),
		Fix:      `az rest --method post --url https://graph.microsoft.com/v1.0/roleManagement/directory/roleAssignments --body '{"principalId":"` + c.caller.ObjectID + `","roleDefinitionId":"` + directory.GlobalAdministrator + `","directoryScopeId":"/"}'`,
	})
	return denied()
}

func denied() error {
	return apierr.New(apierr.Forbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
}

// privileged reports whether oid holds a directory role: only a global
// administrator may touch its credentials and members, or lesser
// administrators could make themselves greater ones.
func (h *Handler) privileged(oid string) bool {
	principals := h.dir.Principals(oid)
	for _, r := range h.dir.RoleAssignments() {
		if slices.Contains(principals, r.Principal) {
			return true
		}
	}
	return false
}

func (h *Handler) mayWriteUser(c *call, oid string) error {
	if oid != "" && h.privileged(oid) {
		return h.may(c, "change a user who holds a directory role")
	}
	return h.may(c, "write users", directory.UserAdministrator)
}

func (h *Handler) mayWriteGroup(c *call, g *directory.Group) error {
	if g != nil {
		if slices.Contains(g.Owners, strings.ToLower(c.caller.ObjectID)) {
			return nil
		}
		if h.privileged(g.ObjectID) {
			return h.may(c, "change a group that holds a directory role")
		}
	}
	return h.may(c, "write groups", directory.GroupsAdministrator, directory.UserAdministrator)
}

func (h *Handler) mayWriteApp(c *call, a *directory.App) error {
	if a != nil {
		if slices.Contains(a.Owners, strings.ToLower(c.caller.ObjectID)) {
			return nil
		}
		if sp, err := h.dir.ServicePrincipalByAppID(a.AppID); err == nil && h.privileged(sp.ObjectID) {
			return h.may(c, "change an application that holds a directory role")
		}
	}
	return h.may(c, "write applications", directory.ApplicationAdministrator, directory.CloudApplicationAdministrator)
}

func (h *Handler) mayAssignRoles(c *call) error {
	return h.may(c, "assign directory roles", directory.PrivilegedRoleAdministrator)
}
