package endpoints

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// The roles that an endpoint's own identity is given. Source: "Authentication
// for managed online endpoints", and Azure's built-in roles.
const (
	roleACRPull    = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
	roleBlobReader = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
)

// grant gives a system-assigned identity what it needs to read the workspace's
// images and files. Identities that the user made get nothing by themselves.
func (s *Service) grant(ctx context.Context, r *endpoint) error {
	if s.Grants == nil {
		return nil
	}
	id, err := arm.IdentityOf(r.Extra)
	if err != nil {
		return err
	}
	want := map[string]string{} // scope → role
	if id.PrincipalID != "" {
		w, err := s.Assets.Workspace(ctx, r.ID.Parent())
		if err != nil {
			return err
		}
		if !w.Storage.IsRoot() {
			want[w.Storage.String()] = roleBlobReader
		}
		if !w.Registry.IsRoot() {
			want[w.Registry.String()] = roleACRPull
		}
	}
	if err := s.revoke(ctx, r, want); err != nil {
		return err
	}
	for scope, role := range want {
		at, err := rid.Parse(scope)
		if err != nil {
			return fmt.Errorf("read a scope: %w", err)
		}
		if err := s.Grants.Grant(ctx, at, role, id.PrincipalID); err != nil {
			return fmt.Errorf("give the endpoint %s a role at %s: %w", r.ID, scope, err)
		}
	}
	if len(want) == 0 {
		return nil
	}
	b, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("encode grants: %w", err)
	}
	r.Private[granteeKey], r.Private[grantedKey] = id.PrincipalID, string(b)
	return nil
}

// revoke takes the roles away that r was given, but those in keep.
func (s *Service) revoke(ctx context.Context, r *endpoint, keep map[string]string) error {
	had := map[string]string{}
	if text := r.Private[grantedKey]; text != "" && s.Grants != nil {
		if err := json.Unmarshal([]byte(text), &had); err != nil {
			return fmt.Errorf("decode grants: %w", err)
		}
	}
	id, err := arm.IdentityOf(r.Extra)
	if err != nil {
		return err
	}
	same := keep != nil && strings.EqualFold(r.Private[granteeKey], id.PrincipalID)
	maps.DeleteFunc(had, func(scope, role string) bool { return same && keep[scope] == role })
	for scope, role := range had {
		at, err := rid.Parse(scope)
		if err != nil {
			return fmt.Errorf("read a scope: %w", err)
		}
		if err := s.Grants.Revoke(ctx, at, role, r.Private[granteeKey]); err != nil {
			return fmt.Errorf("take a role of %s away: %w", r.ID, err)
		}
	}
	delete(r.Private, granteeKey)
	delete(r.Private, grantedKey)
	return nil
}
