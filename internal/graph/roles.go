package graph

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/directory"
)

// roleEntity is a directory role. Its id here is that of its template.
func roleEntity(template string) entity {
	for _, r := range directory.DirectoryRoles() {
		if strings.EqualFold(r.TemplateID, template) {
			return entity{"id": r.TemplateID, "roleTemplateId": r.TemplateID, "displayName": r.Name, "description": r.Description, "deletedDateTime": nil}
		}
	}
	return nil
}

func (h *Handler) role(key string) (entity, error) {
	if e := roleEntity(strings.TrimPrefix(key, "roleTemplateId=")); e != nil {
		return e, nil
	}
	return nil, notFound(key)
}

func (h *Handler) listRoles(of string) func(*call) error {
	return func(c *call) error {
		all := []entity{}
		for _, r := range directory.DirectoryRoles() {
			e := roleEntity(r.TemplateID)
			if of == "roleManagement/directory/roleDefinitions" {
				e["isBuiltIn"], e["isEnabled"], e["templateId"] = true, true, r.TemplateID
			}
			all = append(all, e)
		}
		return c.list(of, all, nil)
	}
}

func (h *Handler) getRole(of string) func(*call) error {
	return func(c *call) error {
		e, err := h.role(c.args[0])
		if err != nil {
			return err
		}
		return c.one(http.StatusOK, of, e, nil)
	}
}

// activateRole has nothing to do: every role is active.
func (h *Handler) activateRole(c *call) error {
	if err := h.mayAssignRoles(c); err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	var template string
	take(&b, "roleTemplateId", &template)
	e, err := h.role(template)
	if err != nil {
		return err
	}
	return c.one(http.StatusCreated, "directoryRoles", e, nil)
}

func (h *Handler) listRoleMembers(c *call) error {
	e, err := h.role(c.args[0])
	if err != nil {
		return err
	}
	var oids []string
	for _, r := range h.dir.RoleAssignments() {
		if r.Role == e["id"] {
			oids = append(oids, r.Principal)
		}
	}
	return h.objects(c, oids)
}

func (h *Handler) addRoleMember(c *call) error {
	if err := h.mayAssignRoles(c); err != nil {
		return err
	}
	e, err := h.role(c.args[0])
	if err != nil {
		return err
	}
	oid, err := c.reference()
	if err != nil {
		return err
	}
	if _, err := h.assign(c, oid, e["id"]); err != nil {
		return err
	}
	return c.noContent()
}

func (h *Handler) assign(c *call, oid string, template any) (directory.RoleAssignment, error) {
	id, _ := template.(string)
	r, err := h.dir.AssignRole(c, oid, id)
	if errors.Is(err, directory.ErrNotFound) {
		return r, notFound(oid)
	}
	return r, err
}

func (h *Handler) removeRoleMember(c *call) error {
	if err := h.mayAssignRoles(c); err != nil {
		return err
	}
	e, err := h.role(c.args[0])
	if err != nil {
		return err
	}
	for _, r := range h.dir.RoleAssignments() {
		if r.Role == e["id"] && strings.EqualFold(r.Principal, c.args[1]) {
			return h.unassign(c, r.ID)
		}
	}
	return notFound(c.args[1])
}

func (h *Handler) unassign(c *call, id string) error {
	if err := h.dir.UnassignRole(c, id); err != nil {
		return err
	}
	return c.noContent()
}

func assignmentEntity(r directory.RoleAssignment) entity {
	return entity{"id": r.ID, "principalId": r.Principal, "roleDefinitionId": r.Role, "directoryScopeId": "/"}
}

const assignmentSet = "roleManagement/directory/roleAssignments"

func (h *Handler) listRoleAssignments(c *call) error {
	all := []entity{}
	for _, r := range h.dir.RoleAssignments() {
		all = append(all, assignmentEntity(r))
	}
	return c.list(assignmentSet, all, nil)
}

func (h *Handler) getRoleAssignment(c *call) error {
	all := h.dir.RoleAssignments()
	i := slices.IndexFunc(all, func(r directory.RoleAssignment) bool { return strings.EqualFold(r.ID, c.args[0]) })
	if i < 0 {
		return notFound(c.args[0])
	}
	return c.one(http.StatusOK, assignmentSet, assignmentEntity(all[i]), nil)
}

func (h *Handler) createRoleAssignment(c *call) error {
	if err := h.mayAssignRoles(c); err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	var principal, role, scope string
	take(&b, "principalId", &principal)
	take(&b, "roleDefinitionId", &role)
	if take(&b, "directoryScopeId", &scope); scope != "" && scope != "/" {
		return badRequest("Request_BadRequest", "The directoryScopeId '%s' is not supported: directory roles hold in the whole tenant, '/'.", scope)
	}
	if len(b.m) > 0 || b.err != nil {
		return badRequest("Request_BadRequest", "A role assignment has principalId, roleDefinitionId and directoryScopeId.")
	}
	r, err := h.assign(c, principal, role)
	if err != nil {
		return err
	}
	return c.one(http.StatusCreated, assignmentSet, assignmentEntity(r), nil)
}

func (h *Handler) deleteRoleAssignment(c *call) error {
	if err := h.mayAssignRoles(c); err != nil {
		return err
	}
	if err := h.unassign(c, c.args[0]); errors.Is(err, directory.ErrNotFound) {
		return notFound(c.args[0])
	} else if err != nil {
		return err
	}
	return nil
}
