package authorization

import (
	"slices"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
)

// Limits are Azure's own, for whoever wants to meet them here first. The zero
// Limits is none: everything takes effect on the next request.
type Limits struct {
	// Propagation is how long an assignment, a role or a deny assignment takes
	// to be followed after it was written or removed. What the program assigns
	// itself, such as the first owner, is followed at once. Source: Azure RBAC,
	// "Troubleshoot Azure RBAC": up to 10 minutes.
	Propagation time.Duration

	Assignments int // role assignments in a subscription
	CustomRoles int // in a tenant
}

// Azure's numbers, for Limits. Source: "Azure RBAC limits".
const (
	AzureAssignments = 4000
	AzureCustomRoles = 5000
)

// late holds the changes that are written and not followed yet. All wait
// equally long, so they are followed in the order in which they came.
type late struct {
	wait time.Duration
	now  func() time.Time

	mu    sync.Mutex // guards queue
	queue []change
}

type change struct {
	due    time.Time
	key    string
	it     *item
	exists bool
}

// add keeps a change until it is due; false says that it is due already.
func (l *late) add(key string, it *item, exists bool) bool {
	if l.wait <= 0 || exists && it.kind == kindAssignment && it.assignment.CreatedBy == nil {
		return false
	}
	due := l.now().Add(l.wait)
	if exists {
		if t := it.system.LastModifiedAt.Add(l.wait); t.Before(due) {
			due = t // written before this process started
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 && !due.After(l.now()) {
		return false
	}
	l.queue = append(l.queue, change{due, key, it, exists})
	return true
}

// sort puts what was read at the start, in no order, into that of its times.
func (l *late) sort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortStableFunc(l.queue, func(x, y change) int { return x.due.Compare(y.due) })
}

// settle follows what is due; f is called in order.
func (l *late) settle(f func(change)) {
	if l.wait <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for ; n < len(l.queue) && !l.queue[n].due.After(l.now()); n++ {
		f(l.queue[n])
	}
	l.queue = l.queue[n:]
}

// followed is the policy that decides: that of now, or with Limits.Propagation
// that of some time ago.
func (a *Authorizer) followed() *rbac.Engine {
	a.late.settle(func(c change) { into(a.effective, c.key, c.it, c.exists) })
	return a.effective
}

// underway says why a refusal by the policy that is followed will end by
// itself, "" if it will not.
func (a *Authorizer) underway(q rbac.Request) string {
	if a.effective == a.engine || !a.engine.Decide(q).Allowed {
		return ""
	}
	return "what was assigned allows it, and has not propagated yet: with --azure-like that takes " + a.late.wait.String()
}

// room refuses what Azure has no room for.
func (a *Authorizer) room(scope rid.ID) error {
	sub, ok := scope.SubscriptionID()
	if a.limits.Assignments == 0 || !ok {
		return nil
	}
	n := 0
	a.mirror.Range(func(_ string, it *item) bool {
		if it.kind == kindAssignment && sub.Contains(it.id) {
			n++
		}
		return n < a.limits.Assignments
	})
	if n < a.limits.Assignments {
		return nil
	}
	return apierr.New(apierr.Conflict, "RoleAssignmentLimitExceeded", "The role assignment limit for subscription '%s' has been reached: no more role assignments can be created.", sub.Name())
}

// roomForRole is room for custom roles.
func (a *Authorizer) roomForRole() error {
	if a.limits.CustomRoles == 0 {
		return nil
	}
	n := 0
	for _, d := range a.engine.Definitions() {
		if d.Custom {
			n++
		}
	}
	if n < a.limits.CustomRoles {
		return nil
	}
	return apierr.New(apierr.Conflict, "RoleDefinitionLimitExceeded", "Role definition limit exceeded. No more role definitions can be created.")
}
