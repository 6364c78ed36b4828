package graph

import "net/http"

// table lists what is served. Paths begin after the version; /me is /users/*.
func (h *Handler) table() []route {
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	list := []route{
		{get, "users", h.listUsers},
		{post, "users", h.createUser},
		{get, "users/*", h.getUser},
		{patch, "users/*", h.updateUser},
		{del, "users/*", h.deleteUser},
		{post, "users/*/changePassword", h.changePassword},

		{get, "groups", h.listGroups},
		{post, "groups", h.createGroup},
		{get, "groups/*", h.getGroup},
		{patch, "groups/*", h.updateGroup},
		{del, "groups/*", h.deleteGroup},
		{get, "groups/*/members", h.listRefs(members)},
		{get, "groups/*/transitiveMembers", h.transitiveMembers},
		{post, "groups/*/members/$ref", h.addRef(members, "members")},
		{del, "groups/*/members/*/$ref", h.removeRef(members)},
		{get, "groups/*/owners", h.listRefs(owners)},
		{post, "groups/*/owners/$ref", h.addRef(owners, "owners")},
		{del, "groups/*/owners/*/$ref", h.removeRef(owners)},

		{get, "applications", h.listApps},
		{post, "applications", h.createApp},
		{get, "applications/*", h.getApp},
		{patch, "applications/*", h.updateApp},
		{del, "applications/*", h.deleteApp},
		{get, "applications/*/owners", h.listAppOwners},
		{post, "applications/*/owners/$ref", h.addAppOwner},
		{del, "applications/*/owners/*/$ref", h.removeAppOwner},
		{post, "applications/*/addPassword", h.addPassword},
		{post, "applications/*/removePassword", h.removePassword},
		{post, "applications/*/addKey", h.addKey},
		{post, "applications/*/removeKey", h.addKey},
		{get, "applications/*/federatedIdentityCredentials", h.listCredentials},
		{post, "applications/*/federatedIdentityCredentials", h.createCredential},
		{get, "applications/*/federatedIdentityCredentials/*", h.getCredential},
		{patch, "applications/*/federatedIdentityCredentials/*", h.updateCredential},
		{del, "applications/*/federatedIdentityCredentials/*", h.deleteCredential},

		{get, "servicePrincipals", h.listSPs},
		{post, "servicePrincipals", h.createSP},
		{get, "servicePrincipals/*", h.getSP},
		{patch, "servicePrincipals/*", h.updateSP},
		{del, "servicePrincipals/*", h.deleteSP},
		{get, "servicePrincipals/*/owners", h.listSPOwners},
		{post, "servicePrincipals/*/addPassword", h.ofServicePrincipal(h.addPassword)},
		{post, "servicePrincipals/*/removePassword", h.ofServicePrincipal(h.removePassword)},

		{post, "directoryObjects/getByIds", h.getByIDs},
		{get, "directoryObjects/*", h.getObject},
		{get, "organization", h.organization},
		{get, "domains", h.domains},

		{get, "directoryRoles", h.listRoles("directoryRoles")},
		{post, "directoryRoles", h.activateRole},
		{get, "directoryRoles/*", h.getRole("directoryRoles")},
		{get, "directoryRoles/*/members", h.listRoleMembers},
		{post, "directoryRoles/*/members/$ref", h.addRoleMember},
		{del, "directoryRoles/*/members/*/$ref", h.removeRoleMember},
		{get, "directoryRoleTemplates", h.listRoles("directoryRoleTemplates")},
		{get, "roleManagement/directory/roleDefinitions", h.listRoles("roleManagement/directory/roleDefinitions")},
		{get, "roleManagement/directory/roleDefinitions/*", h.getRole("roleManagement/directory/roleDefinitions")},
		{get, "roleManagement/directory/roleAssignments", h.listRoleAssignments},
		{post, "roleManagement/directory/roleAssignments", h.createRoleAssignment},
		{get, "roleManagement/directory/roleAssignments/*", h.getRoleAssignment},
		{del, "roleManagement/directory/roleAssignments/*", h.deleteRoleAssignment},
	}
	for _, kind := range []string{"users", "groups", "servicePrincipals", "directoryObjects"} {
		list = append(list,
			route{get, kind + "/*/memberOf", h.memberOf(false)},
			route{get, kind + "/*/transitiveMemberOf", h.memberOf(true)},
			route{post, kind + "/*/checkMemberGroups", h.memberGroups(true)},
			route{post, kind + "/*/getMemberGroups", h.memberGroups(false)},
			route{post, kind + "/*/getMemberObjects", h.memberGroups(false)},
			route{get, kind + "/*/ownedObjects", h.ownedObjects},
		)
	}
	return list
}
