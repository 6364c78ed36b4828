package containerregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm/named"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	recordKind = "registry.record"
	deadKind   = "registry.deleted"
	space      = "registry" // what keys and scopes of secrets begin with
	deadPrefix = space + "/deleted/"
)

func deadKey(uid string) string { return deadPrefix + uid }
func gone(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict)
}

// records are those of registries.
func records(s store.Store, sealer named.Sealer) *named.Records[Properties, secrets] {
	return &named.Records[Properties, secrets]{Store: s, Sealer: sealer, What: "registry", Space: space, Kind: recordKind, New: newSecrets, Busy: busy}
}

// Registry is one that answers.
type Registry struct {
	ID        rid.ID
	UID       string // of this registry alone, for ever
	Name      string // in lower case
	Location  string
	Admin     bool // its administrator may sign in
	ARMTokens bool // tokens for management are taken
	Network   gate.Network

	secrets *secrets
}

// Registries finds registries for the data plane. Make it with Open.
type Registries struct {
	names *named.Records[Properties, secrets]
}

// Open makes Registries that keep everything in memory, for the data plane,
// which asks with every request. Close ends them.
func Open(ctx context.Context, s store.Store, sealer named.Sealer) (*Registries, error) {
	rs := &Registries{names: records(s, sealer)}
	if err := rs.names.Follow(ctx); err != nil {
		return nil, fmt.Errorf("open registries: %w", err)
	}
	return rs, nil
}

// Close ends what Open began; reads still work.
func (rs *Registries) Close() { rs.names.Close() }

// ByName finds a registry, without case. Where there is none the error is a NotFound.
func (rs *Registries) ByName(ctx context.Context, name string) (*Registry, error) {
	r, err := rs.names.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, apierr.New(apierr.NotFound, "NAME_UNKNOWN", "There is no registry '%s'.", name)
	}
	s, err := rs.names.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	n, id := &r.Properties, r.RID()
	return &Registry{
		ID: id, UID: r.UID, Name: strings.ToLower(id.Name()), Location: r.Location, Admin: n.Admin != nil && *n.Admin,
		ARMTokens: !strings.EqualFold(n.Policies.ARMTokens.Status, "disabled"), Network: n.acls().Network(n.PublicAccess), secrets: s,
	}, nil
}

// UIDs are those of all registries.
func (rs *Registries) UIDs(ctx context.Context) ([]string, error) { return rs.names.UIDs(ctx) }

func busy(id rid.ID) error {
	return apierr.New(apierr.Conflict, "RequestConflict", "Another operation is being performed on the resource '%s'. Please wait for the other operation complete, then retry the request.", id)
}

func taken(server string) error {
	return apierr.New(apierr.Conflict, "AlreadyInUse", "The registry DNS name %s is already in use. You can check if the name is already claimed using following API: https://docs.microsoft.com/en-us/rest/api/containerregistry/registries/checknameavailability", server)
}
