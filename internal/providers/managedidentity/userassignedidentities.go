package managedidentity

import (
	"context"
	"errors"
	"regexp"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/store"
)

type identity struct {
	TenantID       string `json:"tenantId,omitempty"`
	PrincipalID    string `json:"principalId,omitempty"`
	ClientID       string `json:"clientId,omitempty"`
	IsolationScope string `json:"isolationScope,omitempty"`
}

var identityName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}$`)

func (s *service) identities() arm.Kind[identity] {
	return arm.Kind[identity]{
		Type: "userAssignedIdentities", APIVersions: versions(), Tracked: true, NoState: true,
		ReadOnly: []string{"tenantId", "principalId", "clientId"},
		Name: func(name string) error {
			if !identityName.MatchString(name) {
				return apierr.New(apierr.BadRequest, "InvalidResourceName",
					"The identity name '%s' is invalid: 3 to 128 letters, digits, '-' and '_', beginning with a letter or digit.", name)
			}
			return nil
		},
		Default: s.defaultIdentity, Put: s.putIdentity, Delete: s.deleteIdentity, Limit: s.limit,
		Actions: map[string]arm.Action[identity]{"listAssociatedResources": s.associated},
	}
}

// defaultIdentity gives a new identity its ids before anything is written, so
// that a creation that is run again makes the same principal.
func (s *service) defaultIdentity(_ context.Context, old, next *arm.Resource[identity]) error {
	if old == nil {
		next.Properties.PrincipalID, next.Properties.ClientID = uuid.NewString(), uuid.NewString()
	}
	next.Properties.TenantID = s.cfg.Directory.TenantID()
	switch next.Properties.IsolationScope {
	case "", "None":
		return nil
	}
	return apierr.New(apierr.BadRequest, "IsolationScopeNotSupported",
		"The isolation scope '%s' is not supported: regions are labels here, so it would isolate nothing. Leave it out, or use 'None'.", next.Properties.IsolationScope).WithTarget("properties.isolationScope")
}

func (s *service) putIdentity(ctx context.Context, _, next *arm.Resource[identity]) error {
	err := s.cfg.Directory.EnsureManagedIdentity(ctx, directory.ManagedIdentity{
		ResourceID: next.ID.String(), Name: next.ID.Name(), TenantID: next.Properties.TenantID,
		ClientID: next.Properties.ClientID, PrincipalID: next.Properties.PrincipalID,
	})
	if errors.Is(err, directory.ErrTaken) || errors.Is(err, store.ErrConflict) {
		return apierr.New(apierr.Conflict, "Conflict", "The identity '%s' is being written by another request. Retry.", next.ID.Name()).WithCause(err)
	}
	return err
}

func (s *service) deleteIdentity(ctx context.Context, old *arm.Resource[identity]) error {
	err := s.cfg.Directory.RemoveManagedIdentity(ctx, old.Properties.PrincipalID)
	if errors.Is(err, directory.ErrNotFound) {
		return nil
	}
	return err
}
