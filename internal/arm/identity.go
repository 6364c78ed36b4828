package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Principals are the accounts of managed identities; *directory.Directory keeps them.
type Principals interface {
	EnsureManagedIdentity(ctx context.Context, m directory.ManagedIdentity) error
	RemoveManagedIdentity(ctx context.Context, principalID string) error
}

const (
	privatePrincipal = "identity.principal" // in Envelope.Private: of the resource's own identity
	privateClient    = "identity.client"

	typeUserAssigned = "Microsoft.ManagedIdentity/userAssignedIdentities"
)

// Identity is the "identity" member of a resource. Source: ARM common types,
// managed identity.
type Identity struct {
	Type         string                   `json:"type"`
	PrincipalID  string                   `json:"principalId,omitempty"`
	TenantID     string                   `json:"tenantId,omitempty"`
	UserAssigned map[string]*UserAssigned `json:"userAssignedIdentities,omitempty"`
}

// UserAssigned is an identity that a resource was given.
type UserAssigned struct {
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`
}

// IdentityOf reads a resource's identity; the zero one when it has none.
func IdentityOf(extra map[string]json.RawMessage) (Identity, error) {
	var id Identity
	if raw := extra["identity"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &id); err != nil {
			return id, apierr.New(apierr.BadRequest, "InvalidIdentity", "The 'identity' member is malformed.").WithTarget("identity")
		}
	}
	return id, nil
}

func (i Identity) system() bool { return i.has("systemassigned") }
func (i Identity) user() bool   { return i.has("userassigned") }

func (i Identity) has(word string) bool {
	for part := range strings.SplitSeq(i.Type, ",") {
		if strings.EqualFold(strings.TrimSpace(part), word) {
			return true
		}
	}
	return false
}

// identity works out next's identity: who it will be, and that the caller may
// hand out the identities that it names.
func (h *Handler) identity(c *call, next *Envelope) error {
	_, sent := next.Extra["identity"]
	if !sent && c.old != nil && c.old.Extra["identity"] != nil { // a PUT that does not speak of it leaves it
		next.Extra["identity"] = c.old.Extra["identity"]
	}
	in, err := IdentityOf(next.Extra)
	if err != nil {
		return err
	}
	if !sent && c.old == nil && c.route.ownID && h.cfg.Principals != nil {
		in.Type = "SystemAssigned"
	}
	switch in.Type = strings.TrimSpace(in.Type); {
	case in.Type == "" && len(in.UserAssigned) == 0, strings.EqualFold(in.Type, "None"):
		if sent {
			next.Extra["identity"] = json.RawMessage(`{"type":"None"}`)
		}
		if len(in.UserAssigned) > 0 {
			return errIdentity("The identity type 'None' and user-assigned identities exclude each other.")
		}
		return nil
	case !c.route.identity:
		return apierr.New(apierr.BadRequest, "ResourceIdentityNotSupported", "Resources of the type '%s' cannot have a managed identity.", c.route.Type).WithTarget("identity")
	case !in.system() && !in.user():
		return errIdentity("The identity type '%s' is none of SystemAssigned, UserAssigned, 'SystemAssigned, UserAssigned' and None.", in.Type)
	case in.user() != (len(in.UserAssigned) > 0):
		return errIdentity("The identity type '%s' does not go with %d user-assigned identities.", in.Type, len(in.UserAssigned))
	case h.cfg.Principals == nil:
		return apierr.New(apierr.NotImplemented, "ResourceIdentityNotSupported", "There is no directory in which identities could be made.")
	}
	out := Identity{Type: "UserAssigned"}
	if in.system() {
		out.Type = "SystemAssigned"
		if in.user() {
			out.Type = "SystemAssigned, UserAssigned"
		}
		if next.Private[privatePrincipal] == "" {
			next.Private = setPrivate(next.Private, privatePrincipal, uuid.NewString())
			next.Private[privateClient] = uuid.NewString()
		}
		out.PrincipalID, out.TenantID = next.Private[privatePrincipal], h.cfg.TenantID
	}
	if out.UserAssigned, err = h.userAssigned(c, in); err != nil {
		return err
	}
	if next.Extra["identity"], err = json.Marshal(out); err != nil {
		return err
	}
	return nil
}

func errIdentity(format string, args ...any) error {
	return apierr.New(apierr.BadRequest, "InvalidIdentity", format, args...).WithTarget("identity")
}

// userAssigned looks up the identities that in names.
func (h *Handler) userAssigned(c *call, in Identity) (map[string]*UserAssigned, error) {
	if !in.user() {
		return nil, nil
	}
	had := map[string]bool{}
	if c.old != nil {
		was, err := IdentityOf(c.old.Extra)
		if err != nil {
			return nil, err
		}
		for k := range was.UserAssigned {
			had[strings.ToLower(k)] = true
		}
	}
	out := map[string]*UserAssigned{}
	for name := range in.UserAssigned {
		id, err := rid.Parse(name)
		if err != nil || id.Collection || !strings.EqualFold(id.Type(), typeUserAssigned) {
			return nil, errIdentity("'%s' is not the resource id of a user-assigned identity.", name)
		}
		e, err := h.res.Get(c.ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil, apierr.New(apierr.BadRequest, "FailedIdentityOperation", "The user-assigned identity '%s' could not be found.", name).WithTarget("identity")
		} else if err != nil {
			return nil, err
		}
		const assign = typeUserAssigned + "/assign/action"
		if d, err := h.cfg.Authorizer.Check(c.ctx, c.caller.ObjectID, assign, false, id); err != nil {
			return nil, err
		} else if !d.Allowed && !had[id.Key()] {
			return nil, apierr.New(apierr.Forbidden, "LinkedAuthorizationFailed",
				"The client '%s' with object id '%s' has permission to perform action '%s' on scope '%s'; however, it does not have permission to perform action(s) '%s' on the linked scope(s) '%s' or the linked scope(s) are invalid.",
				c.caller.Display(), c.caller.ObjectID, c.action, c.id, assign, id)
		}
		ua := &UserAssigned{}
		ua.PrincipalID, _ = e.Properties["principalId"].(string)
		ua.ClientID, _ = e.Properties["clientId"].(string)
		out[e.ID] = ua
	}
	return out, nil
}

// mergeIdentity is a PATCH of the identity: named ones are added, null ones go.
func mergeIdentity(old, patch json.RawMessage) (json.RawMessage, error) {
	var was, is map[string]any
	if err := json.Unmarshal(patch, &is); err != nil || is == nil {
		return nil, errIdentity("The 'identity' member is malformed.")
	}
	if len(old) > 0 {
		if err := json.Unmarshal(old, &was); err != nil {
			return nil, err
		}
	}
	if was == nil {
		was = map[string]any{}
	}
	had, _ := was["userAssignedIdentities"].(map[string]any)
	named, _ := is["userAssignedIdentities"].(map[string]any)
	for k := range had { // ids are compared without case
		for n, v := range named {
			if n != k && strings.EqualFold(n, k) {
				delete(named, n)
				named[k] = v
			}
		}
	}
	mergePatch(was, is)
	if t, _ := was["type"].(string); !(Identity{Type: t}).user() {
		delete(was, "userAssignedIdentities")
	}
	return json.Marshal(was)
}

// act runs the type's Put with the resource's own identity in being.
func (h *Handler) act(ctx context.Context, rt *Route, old, next *Envelope) error {
	if !rt.identity {
		return rt.put(ctx, old, next)
	}
	id, err := IdentityOf(next.Extra)
	if err != nil {
		return err
	}
	if id.system() {
		err := h.cfg.Principals.EnsureManagedIdentity(ctx, directory.ManagedIdentity{
			ResourceID: next.ID, Name: next.Name, TenantID: h.cfg.TenantID, System: true,
			PrincipalID: next.Private[privatePrincipal], ClientID: next.Private[privateClient],
		})
		if errors.Is(err, store.ErrConflict) || errors.Is(err, directory.ErrTaken) { // another replica writes the same resource
			return conflict(fmt.Errorf("%w: %w", store.ErrConflict, err))
		} else if err != nil {
			return err
		}
	}
	if err := rt.put(ctx, old, next); err != nil {
		return err
	}
	if principal := next.Private[privatePrincipal]; !id.system() && principal != "" {
		delete(next.Private, privatePrincipal)
		delete(next.Private, privateClient)
		return h.cfg.Principals.RemoveManagedIdentity(ctx, principal)
	}
	return nil
}

// forgetIdentity removes the resource's own identity.
func (h *Handler) forgetIdentity(ctx context.Context, rt *Route, e *Envelope) error {
	if !rt.identity || e.Private[privatePrincipal] == "" {
		return nil
	}
	return h.cfg.Principals.RemoveManagedIdentity(ctx, e.Private[privatePrincipal])
}
