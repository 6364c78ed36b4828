package authorization

import (
	"context"
	"errors"
	"fmt"
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

	// goingFor is how long the deletion of an owner counts as under way: by
	// then it has been done, or the program that was at it has died.
	goingFor = 30 * time.Second

	leaveAttempts = 20
)

// leave says in the store that an owner's assignment is about to go, unless
// one of the subscriptions would have no owner then. All replicas write the
// same document with compare-and-swap, so of two owners who remove each other
// at the same moment one is refused, whichever replicas they ask.
func (a *Authorizer) leave(ctx context.Context, gone rid.ID, subs []rid.ID) error {
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
		next[gone.Key()] = now
		for _, s := range subs {
			owned, err := a.owned(ctx, s, next)
			if err != nil {
				return err
			}
			if !owned {
				return apierr.New(apierr.Conflict, "LastRbacAdminAssignmentDeletionNotAllowed",
					"Cannot delete the last RBAC admin assignment. The subscription '%s' would have no owner: assign the role Owner to another principal first.", s.Name())
			}
		}
		_, err = store.PutJSON(ctx, a.res.Store, goingKey, goingKind, rev, next)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return apierr.New(apierr.Conflict, "Conflict", "Owners are removed by too many requests at once. Retry.")
}

// owned reports whether a principal that exists is owner of the subscription
// by an assignment that is stored and not about to go. The store is asked, not
// the mirror, which may be a second late.
func (a *Authorizer) owned(ctx context.Context, sub rid.ID, going map[string]time.Time) (bool, error) {
	for _, at := range []rid.ID{sub, {}} {
		for after := ""; ; {
			list, err := a.res.List(ctx, rid.MustParse(roleAssignmentsAt(at)), kindAssignment, after, 1000)
			if err != nil {
				return false, err
			}
			for _, e := range list {
				_, leaves := going[e.RID().Key()]
				if !leaves && e.RID().Scope().Equal(at) && a.isOwner(e) {
					return true, nil
				}
				after = e.ID
			}
			if len(list) < 1000 {
				break
			}
		}
	}
	return false, nil
}

func (a *Authorizer) isOwner(e *arm.Envelope) bool {
	v, err := arm.View[Assignment](e)
	if err != nil || rbac.RoleID(v.Properties.RoleDefinitionID) != rbac.Owner {
		return false
	}
	_, err = a.dir.Principal(v.Properties.PrincipalID)
	return err == nil
}

// roleAssignmentsAt is the collection of the assignments at exactly a scope.
func roleAssignmentsAt(scope rid.ID) string {
	if scope.IsRoot() {
		return "/providers/" + namespace + "/roleAssignments"
	}
	return scope.String() + "/providers/" + namespace + "/roleAssignments"
}
