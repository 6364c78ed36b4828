package cli

import (
	"context"
	"errors"
	"strings"
)

const roleAcrPull = "7f951dda-4ed3-4680-a7ca-43fe172d538d" // AcrPull

// attached is the id of the registry that an option names, by name or id, when
// there is one; "" when the option is not given.
func (c *call) attached(ctx context.Context, m *management, option string) (string, error) {
	name := c.text(option)
	switch {
	case name == "":
		return "", nil
	case option == "attach-acr" && c.flag("no-wait"):
		return "", usagef("When --attach-acr is specified, --no-wait is not allowed, please wait until the whole operation succeeds.")
	case !strings.Contains(name, "/"):
		id, err := m.findByName(ctx, registryType, name)
		if f, ok := errors.AsType[*failure](err); ok && f.status == exitNotFound {
			return "", notFoundf("ACR %s not found. Have you provided the right ACR name? The registries there are: az acr list --output table", name)
		}
		return id, err
	}
	if !strings.Contains(strings.ToLower(name), "/providers/"+strings.ToLower(registryType)+"/") {
		return "", usagef("argument --%s: '%s' is neither the name nor the resource id of a container registry", option, name)
	}
	v, err := m.get(ctx, name, registryVersion)
	if err != nil {
		return "", err
	}
	return textAt(v, "id"), nil
}

// kubeletOf is the object id of a cluster's kubelet identity.
func kubeletOf(cluster any) (string, error) {
	oid := textAt(at(cluster, "properties", "identityProfile", "kubeletidentity"), "objectId")
	if oid == "" {
		return "", failf("The cluster has no kubelet identity, to which a role at a registry could be given.")
	}
	return oid, nil
}

// attach gives a cluster's kubelet the role to pull from a registry.
func (m *management) attach(ctx context.Context, cluster any, registry string) error {
	oid, err := kubeletOf(cluster)
	if err != nil {
		return err
	}
	props := object{"roleDefinitionId": m.subPath + "/providers/Microsoft.Authorization/roleDefinitions/" + roleAcrPull, "principalId": oid, "principalType": "ServicePrincipal"}
	_, err = m.put(ctx, registry+"/providers/Microsoft.Authorization/roleAssignments/"+newGUID(), authorizationVersion, object{"properties": props}, false)
	if err == nil || isCode(err, "RoleAssignmentExists") {
		return nil
	}
	return failf("Could not create a role assignment for ACR. Are you an Owner on this subscription? %s", err)
}

// detach takes that role away.
func (m *management) detach(ctx context.Context, cluster any, registry string) error {
	oid, err := kubeletOf(cluster)
	if err != nil {
		return err
	}
	l, err := m.list(ctx, registry+"/providers/Microsoft.Authorization/roleAssignments", authorizationVersion, "$filter", "atScope()")
	for _, a := range l {
		p := at(a, "properties")
		if err == nil && strings.EqualFold(textAt(p, "principalId"), oid) && sameRole(textAt(p, "roleDefinitionId"), roleAcrPull) && strings.EqualFold(textAt(p, "scope"), registry) {
			err = m.delete(ctx, textAt(a, "id"), authorizationVersion, false)
		}
	}
	if err != nil {
		return failf("Could not delete a role assignment for ACR. Are you an Owner on this subscription? %s", err)
	}
	return nil
}

// attachOrDetach does what the options of update ask for, and says whether they
// ask for anything.
func (c *call) attachOrDetach(ctx context.Context, m *management, cluster any) (bool, error) {
	if c.text("attach-acr") != "" && c.text("detach-acr") != "" {
		return false, usagef(`Cannot specify "--attach-acr" and "--detach-acr" at the same time.`)
	}
	registry, err := c.attached(ctx, m, "attach-acr")
	if err != nil {
		return false, err
	}
	if registry != "" {
		return true, m.attach(ctx, cluster, registry)
	}
	if registry, err = c.attached(ctx, m, "detach-acr"); err != nil || registry == "" {
		return false, err
	}
	return true, m.detach(ctx, cluster, registry)
}

// changesCluster reports whether an update changes the cluster itself.
func (c *call) changesCluster() bool {
	for _, a := range aksUpdate().args {
		switch a.name {
		case "name", "resource-group", "attach-acr", "detach-acr", "no-wait", "yes":
		default:
			if c.given(a.name) {
				return true
			}
		}
	}
	return false
}
