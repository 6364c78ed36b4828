package containerservice

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	kubelet = "kubeletidentity"

	typeIdentity   = "Microsoft.ManagedIdentity/userAssignedIdentities"
	assignIdentity = typeIdentity + "/assign/action"
)

// checkOwn looks at the cluster's own identity; the pipeline makes it.
func checkOwn(r *resource) (userAssigned bool, err error) {
	id, err := arm.IdentityOf(r.Extra)
	if err != nil {
		return false, err
	}
	switch {
	case id.Type == "" || strings.EqualFold(id.Type, "None"):
		return false, apierr.New(apierr.BadRequest, "InvalidParameter",
			"Required parameter identity is missing (null): a cluster has the identity 'SystemAssigned' or 'UserAssigned'.").WithTarget("identity")
	case strings.Contains(id.Type, ","), len(id.UserAssigned) > 1:
		return false, invalid("identity", "a cluster has the identity 'SystemAssigned', or 'UserAssigned' with one identity; it is '%s' with %d", id.Type, len(id.UserAssigned))
	}
	return len(id.UserAssigned) == 1, nil
}

// defaultKubelet chooses the ids of the kubelet's identity, unless it is given one.
func defaultKubelet(next *resource) {
	p := &next.Properties
	given := p.IdentityProfile[kubelet]
	if given != nil && given.ResourceID != "" && !strings.EqualFold(given.ResourceID, kubeletID(next)) {
		delete(next.Private, keyKubeletClient)
		delete(next.Private, keyKubeletID)
		return
	}
	for _, k := range []string{keyKubeletClient, keyKubeletID} {
		if next.Private[k] == "" {
			next.Private[k] = uuid.NewString()
		}
	}
	if p.IdentityProfile == nil {
		p.IdentityProfile = map[string]*UserIdentity{}
	}
	p.IdentityProfile[kubelet] = &UserIdentity{ResourceID: kubeletID(next), ClientID: next.Private[keyKubeletClient], ObjectID: next.Private[keyKubeletID]}
}

// kubeletID is the id of the kubelet's identity, where Azure would make it.
func kubeletID(r *resource) string {
	return "/subscriptions/" + r.ID.Subscription() + "/resourceGroups/" + r.Properties.NodeResourceGroup +
		"/providers/" + typeIdentity + "/" + r.ID.Name() + "-agentpool"
}

// checkIdentities looks at what the cluster and its kubelet are to be.
func (s *Service) checkIdentities(ctx context.Context, old, next *resource) error {
	user, err := checkOwn(next)
	if err != nil {
		return err
	}
	p := &next.Properties
	if sp := p.ServicePrincipalProfile; !strings.EqualFold(sp.ClientID, "msi") || sp.Secret != "" {
		return unsupported(driverName(next), "servicePrincipalProfile", `a cluster has a managed identity ("clientId": "msi", no secret)`)
	}
	for k := range p.IdentityProfile {
		if k != kubelet {
			return invalid("properties.identityProfile", "the only accepted key is 'kubeletidentity', not '%s'", k)
		}
	}
	if next.Private[keyKubeletID] != "" {
		return s.kubeletFree(next)
	}
	if !user {
		return apierr.New(apierr.BadRequest, "CustomKubeletIdentityOnlySupportedOnUserAssignedMSICluster",
			"Custom kubelet identity is only supported on a cluster whose own identity is user-assigned.").WithTarget("properties.identityProfile.kubeletidentity")
	}
	if old != nil && old.Properties.IdentityProfile[kubelet] != nil && strings.EqualFold(old.Properties.IdentityProfile[kubelet].ResourceID, p.IdentityProfile[kubelet].ResourceID) {
		p.IdentityProfile[kubelet] = old.Properties.IdentityProfile[kubelet]
		return nil
	}
	p.IdentityProfile[kubelet], err = s.assign(ctx, p.IdentityProfile[kubelet].ResourceID)
	return err
}

var groupShape = regexp.MustCompile(`^[\w.()-]{0,79}[\w()-]$`)

// checkNodeGroup refuses a node resource group that is none, or that somebody
// has: what the cluster makes in it would be among theirs.
func (s *Service) checkNodeGroup(ctx context.Context, next *resource) error {
	name := next.Properties.NodeResourceGroup
	if !groupShape.MatchString(name) {
		return invalid("properties.nodeResourceGroup", "'%s' has to be 1 to 80 letters, digits, '-', '_', '.', '(' and ')', and not end in '.'", name)
	}
	group := rid.MustParse("/subscriptions/" + next.ID.Subscription() + "/resourceGroups/" + name)
	_, err := s.res.Get(ctx, group)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return apierr.New(apierr.Conflict, "ResourceGroupAlreadyExists",
		"The node resource group '%s' exists already. Name one that does not, or leave it out.", name).WithTarget("properties.nodeResourceGroup")
}

// kubeletFree refuses a node resource group in which a cluster of the same
// name has its kubelet's identity already.
func (s *Service) kubeletFree(next *resource) error {
	sp, err := s.Directory.ServicePrincipalByResource(kubeletID(next))
	switch {
	case errors.Is(err, directory.ErrNotFound), err == nil && sp.ObjectID == next.Private[keyKubeletID]:
		return nil
	case err != nil:
		return err
	}
	return apierr.New(apierr.Conflict, "NodeResourceGroupAlreadyExists",
		"The node resource group '%s' is that of another cluster.", next.Properties.NodeResourceGroup).WithTarget("properties.nodeResourceGroup")
}

// assign gives the user-assigned identity that the caller wants to assign.
func (s *Service) assign(ctx context.Context, resourceID string) (*UserIdentity, error) {
	id, err := rid.Parse(resourceID)
	if err != nil || id.Collection || !strings.EqualFold(id.Type(), typeIdentity) {
		return nil, invalid("identity", "'%s' is no user-assigned identity's resource id", resourceID)
	}
	if err := arm.Authorise(ctx, assignIdentity, id); err != nil {
		return nil, err
	}
	e, err := s.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, apierr.New(apierr.NotFound, "FailedIdentityOperation",
			"Identity operation failed: the user-assigned identity '%s' could not be found. To make it: az identity create --resource-group %s --name %s.",
			id, id.ResourceGroup(), id.Name()).WithTarget("identity")
	} else if err != nil {
		return nil, err
	}
	return &UserIdentity{ResourceID: e.ID, ClientID: text(e.Properties, "clientId"), ObjectID: text(e.Properties, "principalId")}, nil
}

func text(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

// putKubelet makes the service principal of the kubelet's own identity be
// there, or takes it away where the kubelet was given another.
func (s *Service) putKubelet(ctx context.Context, old, next *resource) error {
	id := kubeletID(next)
	if next.Private[keyKubeletID] == "" {
		return s.removeKubelet(ctx, old)
	}
	err := s.Directory.EnsureManagedIdentity(ctx, directory.ManagedIdentity{
		ResourceID: id, Name: next.ID.Name() + "-agentpool", TenantID: s.TenantID,
		ClientID: next.Private[keyKubeletClient], PrincipalID: next.Private[keyKubeletID],
	})
	if err != nil {
		return fmt.Errorf("make the identity of %s: %w", id, err)
	}
	return nil
}

func (s *Service) removeKubelet(ctx context.Context, old *resource) error {
	if old == nil || old.Private[keyKubeletID] == "" {
		return nil
	}
	return s.Directory.RemoveManagedIdentity(ctx, old.Private[keyKubeletID])
}
