package authorization

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	goingKey  = "authorization/going"
	goingKind = "authorization.going"

	// goingFor is how long the departure of an owner counts as under way: by
	// then it has been done, or the program that was at it has died. An account
	// that is enabled again sooner counts when the time is over.
	goingFor = 30 * time.Second

	leaveAttempts = 20
)

// owner is an assignment of the role Owner that is in effect at a subscription.
type owner struct {
	assignment string   // key
	principal  string   // object id
	accounts   []string // who acts as the principal
}

// principalKey is how the document under goingKey names a principal, beside
// the keys of assignments.
func principalKey(oid string) string { return "principal/" + strings.ToLower(oid) }

// LeavePrincipal says in the store that an account or a group is about to be
// deleted or disabled. It refuses that, in Graph's words, where a subscription
// would have no owner then who can act.
func (a *Authorizer) LeavePrincipal(ctx context.Context, oid string) error {
	all, err := a.subscriptions(ctx)
	if err != nil {
		return err
	}
	var subs []rid.ID
	for _, sub := range all {
		owners, err := a.owners(ctx, sub)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(owners, func(o owner) bool {
			return strings.EqualFold(o.principal, oid) || slices.Contains(o.accounts, strings.ToLower(oid))
		}) {
			subs = append(subs, sub)
		}
	}
	if len(subs) == 0 {
		return nil
	}
	return a.leave(ctx, principalKey(oid), subs, func(sub rid.ID) error {
		return apierr.New(apierr.BadRequest, "Request_BadRequest",
			"Nobody else owns the subscription '%s': assign the role Owner to another enabled account before you delete or disable this one.", sub.Name())
	})
}

// leaveAssignment is LeavePrincipal for the assignment of an owner.
func (a *Authorizer) leaveAssignment(ctx context.Context, gone rid.ID, subs []rid.ID) error {
	return a.leave(ctx, gone.Key(), subs, func(sub rid.ID) error {
		return apierr.New(apierr.Conflict, "LastRbacAdminAssignmentDeletionNotAllowed",
			"Cannot delete the last RBAC admin assignment. The subscription '%s' would have no owner: assign the role Owner to another principal first.", sub.Name())
	})
}

// leave says in the store that an owner is about to go, unless one of the
// subscriptions would have none then: that is refused. All replicas write the
// same document with compare-and-swap, so of two owners who remove each other
// at the same moment one is refused, whichever replicas they ask.
func (a *Authorizer) leave(ctx context.Context, gone string, subs []rid.ID, refusal func(sub rid.ID) error) error {
	for range leaveAttempts {
		going, rev, err := store.GetJSON[map[string]time.Time](ctx, a.res.Store, goingKey)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("looking for owners who leave: %w", err)
		}
		now, next := time.Now().UTC(), map[string]time.Time{}
		for id, at := range going {
			if now.Sub(at) < goingFor {
				next[id] = at
			}
		}
		next[gone] = now
		for _, sub := range subs {
			owners, err := a.owners(ctx, sub)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(owners, func(o owner) bool { return o.stays(next) }) {
				return refusal(sub)
			}
		}
		_, err = store.PutJSON(ctx, a.res.Store, goingKey, goingKind, rev, next)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return apierr.New(apierr.Conflict, "Conflict", "Owners are removed by too many requests at once. Retry.")
}

// stays reports whether somebody can act as the owner when those have gone.
func (o owner) stays(going map[string]time.Time) bool {
	goes := func(key string) bool { _, ok := going[key]; return ok }
	return !goes(o.assignment) && !goes(principalKey(o.principal)) &&
		slices.ContainsFunc(o.accounts, func(oid string) bool { return !goes(principalKey(oid)) })
}

// owners are those of a subscription by stored assignments. The store is
// asked, not the mirror, which may be a second late.
func (a *Authorizer) owners(ctx context.Context, sub rid.ID) ([]owner, error) {
	var out []owner
	for _, at := range []rid.ID{sub, {}} {
		for after := ""; ; {
			list, err := a.res.List(ctx, rid.MustParse(roleAssignmentsAt(at)), kindAssignment, after, 1000)
			if err != nil {
				return nil, err
			}
			for _, e := range list {
				after = e.ID
				v, err := arm.View[Assignment](e)
				if err != nil || rbac.RoleID(v.Properties.RoleDefinitionID) != rbac.Owner || !e.RID().Scope().Equal(at) {
					continue
				}
				p := v.Properties.PrincipalID
				out = append(out, owner{e.RID().Key(), p, a.dir.Accounts(p)})
			}
			if len(list) < 1000 {
				break
			}
		}
	}
	return out, nil
}

func (a *Authorizer) subscriptions(ctx context.Context) ([]rid.ID, error) {
	list, err := a.res.List(ctx, rid.ID{}, rid.TypeSubscription, "", 1000)
	var subs []rid.ID
	for _, e := range list {
		subs = append(subs, e.RID())
	}
	return subs, err
}

// roleAssignmentsAt is the collection of the assignments at exactly a scope.
func roleAssignmentsAt(scope rid.ID) string {
	if scope.IsRoot() {
		return "/providers/" + namespace + "/roleAssignments"
	}
	return scope.String() + "/providers/" + namespace + "/roleAssignments"
}
