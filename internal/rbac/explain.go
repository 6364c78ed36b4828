package rbac

import (
	"fmt"
	"slices"
	"strings"
)

// NearKind says how something nearly allowed an action.
type NearKind string

// The kinds of Near.
const (
	OtherScope     NearKind = "otherScope"     // a role that would do, held elsewhere
	RoleLacks      NearKind = "roleLacks"      // a role held here that does not include the action
	NoDataActions  NearKind = "noDataActions"  // a role held here that includes everything but data actions
	NotActions     NearKind = "notActions"     // a role held here that includes the action and takes it away again
	OnlyCondition  NearKind = "condition"      // a role held here that includes it under a condition
	RoleGone       NearKind = "roleGone"       // an assignment here of a role that is no longer defined
	OtherPrincipal NearKind = "otherPrincipal" // somebody else's assignment here would do
)

// Near is something that nearly allowed what was refused.
type Near struct {
	Kind       NearKind `json:"kind"`
	Assignment string   `json:"assignment"` // id, in lower case
	Principal  string   `json:"principal"`
	Role       string   `json:"role"` // name, or the GUID of one that is gone
	Scope      string   `json:"scope"`
	Text       string   `json:"text"` // a sentence for a person
}

// How much Explain looks at, so that a refusal costs little however many
// assignments there are.
const (
	maxNear    = 3 // of each kind
	maxScanned = 2000
)

// Explain answers as Decide does and, of a refusal, says why.
func (e *Engine) Explain(q Request) Decision {
	d := e.Decide(q)
	if d.Allowed {
		d.Reason = fmt.Sprintf("the role %q allows it", d.Role)
		return d
	}
	action, scope := strings.ToLower(q.Action), scopeKey(q.Scope)
	e.mu.RLock()
	defer e.mu.RUnlock()
	if d.Deny != "" {
		if n := e.denies[d.Deny]; n != nil {
			d.Reason = fmt.Sprintf("the deny assignment %q at %s takes it away, whatever roles allow", n.Name, show(n.Scope))
		}
		return d
	}
	x := explainer{q: q, action: action, scope: scope, principals: lowerSet(q.Principals), count: map[NearKind]int{}}
	if sane(scope) {
		x.held(e)
		x.elsewhere(e)
		x.others(e)
	}
	d.Near = x.near
	d.Reason = x.reason()
	return d
}

type explainer struct {
	q             Request
	action, scope string
	principals    map[string]struct{}
	near          []Near
	any           bool // the principals hold a role somewhere
	count         map[NearKind]int
}

func show(scope string) string {
	if scopeKey(scope) == "" {
		return "/"
	}
	return scope
}

func (x *explainer) add(kind NearKind, n *entry, format string, args ...any) {
	name := RoleID(n.Role)
	if n.role.def != nil {
		name = n.role.def.Name
	}
	if x.count[kind]++; x.count[kind] <= maxNear {
		x.near = append(x.near, Near{kind, n.id, n.Principal, name, show(n.Scope), fmt.Sprintf(format, args...)})
	}
}

// held looks at the roles that do apply at the scope.
func (x *explainer) held(e *Engine) {
	for p := range x.principals {
		scopes := e.byPrincipal[p]
		x.any = x.any || len(scopes) > 0
		for at, more := x.scope, true; more; at, more = up(at) {
			for _, n := range scopes[at] {
				x.lacking(n)
			}
		}
	}
}

func (x *explainer) lacking(n *entry) {
	if n.role.def == nil {
		x.add(RoleGone, n, "the role %s assigned at %s is no longer defined", RoleID(n.Role), show(n.Scope))
		return
	}
	name, hasData := n.role.def.Name, false
	for i, p := range n.role.def.Permissions {
		c := compiledPermission{actions: compile(p.Actions), data: compile(p.DataActions)}
		includes := c.allows(x.action, x.q.Data)
		hasData = hasData || len(p.DataActions) > 0
		switch {
		case includes && p.Condition != "":
			x.add(OnlyCondition, n, "%s at %s includes it under a condition, and conditions are not evaluated", name, show(n.Scope))
			return
		case includes:
			x.add(NotActions, n, "%s at %s excludes it (%s of its permission %d)", name, show(n.Scope), exclusion(x.q.Data), i+1)
			return
		}
	}
	if x.q.Data && !hasData {
		x.add(NoDataActions, n, "%s at %s has no data actions: it manages resources and does not read or use their data", name, show(n.Scope))
		return
	}
	x.add(RoleLacks, n, "%s at %s does not include it", name, show(n.Scope))
}

func exclusion(data bool) string {
	if data {
		return "notDataActions"
	}
	return "notActions"
}

// elsewhere looks for roles of the caller that would do at another scope.
func (x *explainer) elsewhere(e *Engine) {
	scanned := 0
	for p := range x.principals {
		for at, list := range e.byPrincipal[p] {
			if scanned++; scanned > maxScanned {
				return
			}
			if x.scope == at || strings.HasPrefix(x.scope, at+"/") {
				continue
			}
			for _, n := range list {
				if n.role.allows(x.action, x.q.Data) {
					x.add(OtherScope, n, "%s allows it, but is held at %s, which does not contain %s", n.role.def.Name, show(n.Scope), show(x.q.Scope))
				}
			}
		}
	}
}

// others looks for other principals' assignments that would do, the nearest
// scope first: the usual mistake is a role given to the wrong identity.
func (x *explainer) others(e *Engine) {
	scanned, found := 0, 0
	for at, more := x.scope, true; more; at, more = up(at) {
		for _, n := range e.byScope[at] {
			if scanned++; scanned > maxScanned || found == 3 {
				return
			}
			if _, own := x.principals[strings.ToLower(n.Principal)]; !own && n.role.allows(x.action, x.q.Data) {
				found++
				x.add(OtherPrincipal, n, "%s at %s is assigned to another principal, %s", n.role.def.Name, show(n.Scope), n.Principal)
			}
		}
	}
}

func (x *explainer) reason() string {
	slices.SortStableFunc(x.near, func(a, b Near) int { return rank(a.Kind) - rank(b.Kind) })
	switch {
	case len(x.principals) == 0:
		return "there is no principal to hold a role"
	case !sane(x.scope):
		return fmt.Sprintf("%q is not a scope", x.q.Scope)
	case len(x.near) > 0 && x.near[0].Kind != OtherPrincipal:
		return x.near[0].Text
	case !x.any:
		return "the principal and its groups hold no role at all"
	default:
		return "no role of the principal and its groups applies at " + show(x.q.Scope)
	}
}

func rank(k NearKind) int {
	order := []NearKind{OnlyCondition, NotActions, OtherScope, NoDataActions, RoleGone, RoleLacks, OtherPrincipal}
	return slices.Index(order, k)
}
