package endpoints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// The roles that an endpoint's own identity is given. Source: "Authentication
// for managed online endpoints", and Azure's built-in roles.
const (
	roleACRPull    = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
	roleBlobReader = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
)

const (
	grantsPrefix  = "machinelearning/grants/" // by an endpoint's uid
	grantsKind    = "machinelearning.grants"
	grantAttempts = 20
)

// given is a role that an endpoint's identity was given.
type given struct {
	Scope     string `json:"scope"`
	Role      string `json:"role"`
	Principal string `json:"principal"`
}

// grantsDoc is what the identity of an endpoint was given, or may have been where
// that was interrupted.
type grantsDoc struct {
	Principal string  `json:"principal,omitempty"` // that it is given to; "": the endpoint has no identity of its own
	Given     []given `json:"given,omitempty"`
	Open      bool    `json:"open,omitempty"` // it was interrupted, or goes on
}

// grant gives a system-assigned identity what it needs to read the workspace's
// images and files. Identities that the user made get nothing by themselves.
func (s *Service) grant(ctx context.Context, r *endpoint) error {
	id, err := arm.IdentityOf(r.Extra)
	if err != nil {
		return err
	}
	err = s.entitle(ctx, r.ID, r.Private, func(doc *grantsDoc, _ bool) bool {
		doc.Principal = id.PrincipalID
		return true
	})
	if err != nil {
		return err
	}
	delete(r.Private, granteeKey)
	delete(r.Private, grantedKey)
	return nil
}

// Regrant gives the identities of a workspace's endpoints what they need of its
// registry and its storage account as these are now, and takes back what they
// were given elsewhere. What somebody has taken away from them stays away.
func (s *Service) Regrant(ctx context.Context, workspace rid.ID) error {
	var failed []error
	for after := ""; ; {
		page, err := s.res.List(ctx, workspace, EndpointType, after, 1000)
		if err != nil || len(page) == 0 {
			return errors.Join(append(failed, err)...)
		}
		for _, e := range page {
			// What is not recorded, the endpoint's own PUT is about to give.
			if err := s.entitle(ctx, e.RID(), e.Private, func(_ *grantsDoc, there bool) bool { return there }); err != nil {
				failed = append(failed, err)
			}
		}
		after = page[len(page)-1].ID
	}
}

// revoke takes away all that the identity of an endpoint was given.
func (s *Service) revoke(ctx context.Context, r *endpoint) error {
	err := s.entitle(ctx, r.ID, r.Private, func(doc *grantsDoc, there bool) bool {
		doc.Principal = ""
		return there
	})
	if err != nil || s.Grants == nil {
		return err
	}
	if err := s.Store.Delete(ctx, grantsPrefix+r.Private[uidKey], 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("forget the roles of %s: %w", r.ID, err)
	}
	return nil
}

// entitle makes the roles of an endpoint's identity be what is needed, after
// change has changed what is recorded, or has said that there is nothing to do.
// What was given before is not given again: who has taken it away since, by the
// rights that this takes, is not overruled by who changes a tag. It goes by what
// the workspace has once the record was read, and begins again where another
// changes that: the last one knows best.
func (s *Service) entitle(ctx context.Context, id rid.ID, private map[string]string, change func(doc *grantsDoc, there bool) bool) error {
	if s.Grants == nil {
		return nil
	}
	s.granting.Lock()
	defer s.granting.Unlock()
	var mine []given // by an attempt before, of which no record may know
	for range grantAttempts {
		doc, rev, err := s.granted(ctx, private)
		if err != nil {
			return err
		}
		if !change(&doc, rev > 0 || doc.Principal != "") {
			return s.exchange(ctx, id, nil, mine) // the record went meanwhile: nobody else knows of these
		}
		want, err := s.needs(ctx, id, doc.Principal)
		if err != nil {
			return err
		}
		lacks := want
		if !doc.Open && len(mine) == 0 {
			lacks = without(want, doc.Given)
		}
		doc.Open, doc.Given = true, append(append(doc.Given, mine...), want...)
		mine = doc.Given
		if rev, err = store.PutJSON(ctx, s.Store, grantsPrefix+private[uidKey], grantsKind, rev, doc); err == nil {
			err = s.exchange(ctx, id, lacks, without(doc.Given, want))
		}
		if err == nil {
			doc.Open, doc.Given = false, want
			_, err = store.PutJSON(ctx, s.Store, grantsPrefix+private[uidKey], grantsKind, rev, doc)
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("the roles of %s: %w", id, store.ErrConflict)
}

// without are those that are not among others.
func without(list, others []given) []given {
	return slices.DeleteFunc(slices.Clone(list), func(g given) bool { return slices.Contains(others, g) })
}

// exchange gives what is lacked, and takes away what is too much, which may not
// have been given.
func (s *Service) exchange(ctx context.Context, id rid.ID, lacks, much []given) error {
	for i, g := range append(slices.Clone(lacks), much...) {
		at, err := rid.Parse(g.Scope)
		if err != nil {
			return fmt.Errorf("read a scope: %w", err)
		}
		if i < len(lacks) {
			err = s.Grants.Grant(ctx, at, g.Role, g.Principal)
		} else {
			err = s.Grants.Revoke(ctx, at, g.Role, g.Principal)
		}
		if err != nil {
			return fmt.Errorf("the roles of the endpoint %s at %s: %w", id, g.Scope, err)
		}
	}
	return nil
}

// needs is what an identity of an endpoint needs.
func (s *Service) needs(ctx context.Context, endpoint rid.ID, principal string) ([]given, error) {
	if principal == "" {
		return nil, nil
	}
	w, err := s.Assets.Workspace(ctx, endpoint.Parent())
	if err != nil {
		return nil, err
	}
	var want []given
	if !w.Storage.IsRoot() {
		want = append(want, given{w.Storage.String(), roleBlobReader, principal})
	}
	if !w.Registry.IsRoot() {
		want = append(want, given{w.Registry.String(), roleACRPull, principal})
	}
	return want, nil
}

// granted is what is recorded of an endpoint: in its own document or, of one
// that was made before there were any, in the resource.
func (s *Service) granted(ctx context.Context, private map[string]string) (doc grantsDoc, rev int64, err error) {
	doc, rev, err = store.GetJSON[grantsDoc](ctx, s.Store, grantsPrefix+private[uidKey])
	if !errors.Is(err, store.ErrNotFound) {
		return doc, rev, err
	}
	doc = grantsDoc{Principal: private[granteeKey]}
	had := map[string]string{}
	if text := private[grantedKey]; text != "" {
		if err := json.Unmarshal([]byte(text), &had); err != nil {
			return doc, 0, fmt.Errorf("decode grants: %w", err)
		}
	}
	for _, scope := range slices.Sorted(maps.Keys(had)) {
		doc.Given = append(doc.Given, given{scope, had[scope], doc.Principal})
	}
	return doc, 0, nil
}
