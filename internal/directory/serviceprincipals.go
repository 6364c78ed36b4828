package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"lazurite.dev/internal/store"
)

// ServicePrincipal is an application's, or a managed identity's, account.
type ServicePrincipal struct {
	ObjectID         string                     `json:"id"`
	AppID            string                     `json:"appId"`
	DisplayName      string                     `json:"displayName"`
	Type             string                     `json:"servicePrincipalType"`  // SPApplication, SPManagedIdentity
	Names            []string                   `json:"servicePrincipalNames"` // the appId and identifier URIs
	AlternativeNames []string                   `json:"alternativeNames,omitempty"`
	ResourceID       string                     `json:"resourceId,omitempty"` // ARM id of a managed identity
	Tags             []string                   `json:"tags,omitempty"`
	Notes            string                     `json:"notes,omitempty"`
	Disabled         bool                       `json:"disabled,omitempty"`
	Extra            map[string]json.RawMessage `json:"extra,omitempty"` // properties that mean nothing here, kept as sent
	Created          time.Time                  `json:"created"`
	Rev              int64                      `json:"-"`
}

func (s *ServicePrincipal) place() (kind, oid string) { return "sp", s.ObjectID }
func (s *ServicePrincipal) setRev(rev int64)          { s.Rev = rev }

func (s *ServicePrincipal) clone() ServicePrincipal {
	c := *s
	c.Names, c.AlternativeNames, c.Tags = slices.Clone(s.Names), slices.Clone(s.AlternativeNames), slices.Clone(s.Tags)
	return c
}

// ServicePrincipal gives that with the object id; ErrNotFound if there is none.
func (d *Directory) ServicePrincipal(oid string) (ServicePrincipal, error) {
	return d.sp(oid, func(ix *index) string { return oid })
}

// ServicePrincipalByAppID gives that with the client id; ErrNotFound if there is none.
func (d *Directory) ServicePrincipalByAppID(appID string) (ServicePrincipal, error) {
	return d.sp(appID, func(ix *index) string { return ix.spAppIDs[strings.ToLower(appID)] })
}

// ServicePrincipalByName gives that with the service principal name; ErrNotFound if there is none.
func (d *Directory) ServicePrincipalByName(name string) (ServicePrincipal, error) {
	return d.sp(name, func(ix *index) string { return ix.spNames[strings.ToLower(name)] })
}

// ServicePrincipalByResource gives that of the managed identity with the ARM
// id; ErrNotFound if there is none.
func (d *Directory) ServicePrincipalByResource(resourceID string) (ServicePrincipal, error) {
	return d.sp(resourceID, func(ix *index) string { return ix.mis[strings.ToLower(resourceID)] })
}

func (d *Directory) sp(what string, oid func(*index) string) (ServicePrincipal, error) {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if s := d.ix.sps[strings.ToLower(oid(d.ix))]; s != nil {
		return s.clone(), nil
	}
	return ServicePrincipal{}, fmt.Errorf("service principal %s: %w", what, ErrNotFound)
}

// ServicePrincipals gives all of them, by display name.
func (d *Directory) ServicePrincipals() []ServicePrincipal {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	out := make([]ServicePrincipal, 0, len(d.ix.sps))
	for _, s := range d.ix.sps {
		out = append(out, s.clone())
	}
	return sorted(out, func(s ServicePrincipal) string { return strings.ToLower(s.DisplayName) + "\x00" + s.ObjectID })
}

// CreateServicePrincipal adds the account of an application of this tenant;
// an empty ObjectID becomes a new one. ErrNotFound when there is no such
// application, ErrTaken when it has an account.
func (d *Directory) CreateServicePrincipal(ctx context.Context, s ServicePrincipal) (ServicePrincipal, error) {
	a, err := d.App(s.AppID)
	if err != nil {
		return ServicePrincipal{}, err
	}
	s.AppID, s.Type, s.ResourceID = a.AppID, SPApplication, ""
	s.Names = append([]string{a.AppID}, a.IdentifierURIs...)
	if s.DisplayName == "" {
		s.DisplayName = a.DisplayName
	}
	return d.createSP(ctx, s)
}

func (d *Directory) createSP(ctx context.Context, s ServicePrincipal) (ServicePrincipal, error) {
	if s.ObjectID == "" {
		s.ObjectID = uuid.NewString()
	}
	s.Created = time.Now().UTC()
	holds := func(o object) bool { x, ok := o.(*ServicePrincipal); return ok && strings.EqualFold(x.AppID, s.AppID) }
	if err := d.reserve(ctx, "sp/"+s.AppID, &s, holds); err != nil {
		return ServicePrincipal{}, err
	}
	var err error
	if s.Rev, err = d.put(ctx, &s, 0); err != nil {
		return ServicePrincipal{}, fmt.Errorf("creating service principal %q: %w", s.DisplayName, err)
	}
	return s, nil
}

// UpdateServicePrincipal replaces the one whose ObjectID and Rev s has, but for
// what it is bound to. store.ErrConflict when it changed meanwhile.
func (d *Directory) UpdateServicePrincipal(ctx context.Context, s ServicePrincipal) (ServicePrincipal, error) {
	old, err := d.ServicePrincipal(s.ObjectID)
	if err != nil {
		return ServicePrincipal{}, err
	}
	if s.Disabled && !old.Disabled {
		if err := d.spare(s.ObjectID); err != nil {
			return ServicePrincipal{}, err
		}
	}
	s.AppID, s.Type, s.ResourceID, s.Created = old.AppID, old.Type, old.ResourceID, old.Created
	if s.Rev, err = d.put(ctx, &s, s.Rev); err != nil {
		return ServicePrincipal{}, fmt.Errorf("updating service principal %q: %w", s.DisplayName, err)
	}
	return s, nil
}

// DeleteServicePrincipal removes it, its group memberships and directory roles.
func (d *Directory) DeleteServicePrincipal(ctx context.Context, oid string) error {
	s, err := d.ServicePrincipal(oid)
	if err != nil {
		return err
	}
	if err := d.forget(ctx, oid); err != nil {
		return err
	}
	if err := d.remove(ctx, "sp", oid, 0); err != nil {
		return err
	}
	d.release(ctx, "sp/"+s.AppID)
	return nil
}

// ManagedIdentity is what a resource provider says of one.
type ManagedIdentity struct {
	ResourceID  string // ARM id
	ClientID    string
	PrincipalID string
	TenantID    string
	Name        string
	// System says that the identity is system-assigned: it belongs to the resource ResourceID.
	System bool
}

// EnsureManagedIdentity makes the identity's service principal be there. It may
// be called again; a changed name is taken over, changed ids are ErrInvalid,
// and an ARM id that another identity has is ErrTaken.
func (d *Directory) EnsureManagedIdentity(ctx context.Context, m ManagedIdentity) error {
	if m.ResourceID == "" || m.ClientID == "" || m.PrincipalID == "" || !strings.EqualFold(m.TenantID, d.tenant) {
		return fmt.Errorf("managed identity %q: incomplete, or of another tenant: %w", m.ResourceID, ErrInvalid)
	}
	explicit := "isExplicit=True"
	if m.System {
		explicit = "isExplicit=False"
	}
	next := ServicePrincipal{
		ObjectID: m.PrincipalID, AppID: m.ClientID, DisplayName: m.Name, Type: SPManagedIdentity,
		Names: []string{m.ClientID}, AlternativeNames: []string{explicit, m.ResourceID}, ResourceID: m.ResourceID,
	}
	old, err := d.ServicePrincipal(m.PrincipalID)
	if errors.Is(err, ErrNotFound) {
		if other, err := d.ServicePrincipalByResource(m.ResourceID); err == nil {
			return fmt.Errorf("managed identity %q: another has its id, principal %s: %w", m.ResourceID, other.ObjectID, ErrTaken)
		}
		_, err = d.createSP(ctx, next)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		return nil // another replica made it
	}
	if err != nil {
		return err
	}
	if old.Type != SPManagedIdentity || !strings.EqualFold(old.AppID, m.ClientID) || !strings.EqualFold(old.ResourceID, m.ResourceID) {
		return fmt.Errorf("managed identity %q: its ids belong to %q: %w", m.ResourceID, old.DisplayName, ErrInvalid)
	}
	if old.DisplayName == m.Name {
		return nil
	}
	old.DisplayName = m.Name
	_, err = d.put(ctx, &old, old.Rev)
	return err
}

// RemoveManagedIdentity removes the managed identity whose principal has the
// object id, and its federated credentials. One that is not there is fine. It is
// not found by its ARM id, which a resource may claim that is not its own.
func (d *Directory) RemoveManagedIdentity(ctx context.Context, principalID string) error {
	s, err := d.ServicePrincipal(principalID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Type != SPManagedIdentity {
		return fmt.Errorf("service principal %s is no managed identity: %w", principalID, ErrInvalid)
	}
	if err := d.remove(ctx, "fic", s.AppID, 0); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := d.DeleteServicePrincipal(ctx, s.ObjectID); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}
