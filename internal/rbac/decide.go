package rbac

import (
	"cmp"
	"slices"
	"strings"
)

// Request is a question.
type Request struct {
	Principals []string // object ids: the caller's own, then its groups'
	Action     string   // "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	Data       bool     // Action is a data action
	Scope      string   // resource id; "" and "/" are the root
}

// Decision is an answer.
type Decision struct {
	Allowed    bool
	Assignment string // id of the assignment that allows, in lower case
	Role       string // name of the role that allows
	Deny       string // id of the deny assignment that refuses, in lower case
	Reason     string // one sentence; of a refusal only Explain gives it
	Near       []Near // of a refusal: what nearly allowed it; only Explain gives it
}

// Decide answers. Everything is refused but what a role allows and no deny
// assignment takes away.
func (e *Engine) Decide(q Request) Decision {
	action, scope := strings.ToLower(q.Action), scopeKey(q.Scope)
	e.mu.RLock()
	defer e.mu.RUnlock()
	if len(e.denies) > 0 {
		if d := e.denied(q, action, scope); d != nil {
			return Decision{Deny: d.id}
		}
	}
	if n := e.granted(q, action, scope); n != nil {
		return Decision{Allowed: true, Assignment: n.id, Role: n.role.def.Name}
	}
	return Decision{}
}

// up is the next wider scope and whether there is one. Scopes are cut at the
// borders of segments; the root is "".
func up(scope string) (string, bool) {
	if scope == "" {
		return "", false
	}
	return scope[:strings.LastIndexByte(scope, '/')], true
}

// sane reports whether up will reach the root: the scope begins with a slash.
func sane(scope string) bool { return scope == "" || scope[0] == '/' }

func (e *Engine) granted(q Request, action, scope string) *entry {
	if !sane(scope) {
		return nil
	}
	for _, p := range q.Principals {
		scopes := e.byPrincipal[p]
		if scopes == nil {
			if scopes = e.byPrincipal[strings.ToLower(p)]; scopes == nil {
				continue
			}
		}
		for at, more := scope, true; more; at, more = up(at) {
			for _, n := range scopes[at] {
				if n.role.allows(action, q.Data) {
					return n
				}
			}
		}
	}
	return nil
}

func (e *Engine) denied(q Request, action, scope string) *deny {
	if !sane(scope) {
		return nil
	}
	for at, more := scope, true; more; at, more = up(at) {
		for _, d := range e.denyScopes[at] {
			if d.OnlyHere && at != scope || !d.concerns(q.Principals) {
				continue
			}
			for i := range d.perms {
				if d.perms[i].allows(action, q.Data) {
					return d
				}
			}
		}
	}
	return nil
}

// concerns reports whether one of the principals is denied and none excluded.
func (d *deny) concerns(principals []string) bool {
	_, hit := d.principals[Everyone]
	for _, p := range principals {
		p = strings.ToLower(p)
		if _, out := d.exclude[p]; out {
			return false
		}
		if _, in := d.principals[p]; in {
			hit = true
		}
	}
	return hit
}

// Permissions gives what roles grant the principals at scope, each block once.
// Deny assignments are not subtracted, as in Azure's answer. Source: Azure
// RBAC REST reference, "Permissions - List For Resource".
func (e *Engine) Permissions(principals []string, scope string) []Permission {
	at := scopeKey(scope)
	e.mu.RLock()
	defer e.mu.RUnlock()
	var out []Permission
	seen := map[*role]bool{}
	for more := sane(at); more; at, more = up(at) {
		for _, p := range principals {
			for _, n := range e.byPrincipal[strings.ToLower(p)][at] {
				if seen[n.role] || n.role.def == nil {
					continue
				}
				seen[n.role] = true
				for _, perm := range n.role.def.Permissions {
					if perm.Condition == "" {
						out = append(out, perm)
					}
				}
			}
		}
	}
	return out
}

// Suggest gives the roles that allow an action, the narrowest first: at most
// limit of them, built-in and custom.
func (e *Engine) Suggest(action string, data bool, limit int) []Definition {
	action = strings.ToLower(action)
	e.mu.RLock()
	defer e.mu.RUnlock()
	var fit []*role
	for _, r := range e.roles {
		if r.def != nil && r.allows(action, data) {
			fit = append(fit, r)
		}
	}
	slices.SortFunc(fit, func(a, b *role) int {
		return cmp.Or(cmp.Compare(width(a.def), width(b.def)), strings.Compare(a.def.Name, b.def.Name))
	})
	var out []Definition
	for len(out) < limit && len(fit) > 0 {
		// Whatever the guess, a role that holds all of another comes after it.
		i := max(0, slices.IndexFunc(fit, func(r *role) bool {
			return !slices.ContainsFunc(fit, func(o *role) bool { return r.holds(o.def) && !o.holds(r.def) })
		}))
		out, fit = append(out, *fit[i].def), slices.Delete(fit, i, i+1)
	}
	return out
}

// holds reports whether everything that d grants is granted by r.
func (r *role) holds(d *Definition) bool {
	grants := func(action string, data bool) bool {
		return slices.ContainsFunc(r.perms, func(p compiledPermission) bool {
			if data {
				return p.data.match(strings.ToLower(action))
			}
			return p.actions.match(strings.ToLower(action))
		})
	}
	for _, p := range d.Permissions {
		if slices.ContainsFunc(p.Actions, func(a string) bool { return !grants(a, false) }) ||
			slices.ContainsFunc(p.DataActions, func(a string) bool { return !grants(a, true) }) {
			return false
		}
	}
	return true
}

// width guesses how much a role grants: a wildcard counts more the less text
// holds it back, and control-plane writes count more than data.
func width(d *Definition) int {
	w := 0
	for _, p := range d.Permissions {
		for _, a := range slices.Concat(p.Actions, p.DataActions) {
			w++
			if i := strings.IndexByte(a, '*'); i >= 0 {
				w += 10
				if !strings.HasSuffix(strings.ToLower(a), "/read") {
					w += max(0, 100-2*i)
				}
			}
		}
	}
	return w
}
