// Package rbac decides: given role definitions, role assignments and deny
// assignments, may this principal do this action at this scope?
//
// It is pure: no storage, no clock, no network. Source of the rules: Azure
// documentation, "Understand Azure role definitions", "… scope", "… deny
// assignments". Letter case of ids, actions and scopes never matters.
//
// A decision looks up principal × ancestor of the scope, so its cost depends on
// the depth of the scope and the number of the caller's groups and not on how
// many assignments there are.
package rbac

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Everyone is the principal of deny assignments that concern all.
const Everyone = "00000000-0000-0000-0000-000000000000"

// ErrCondition is wrapped when something would hold only under a condition: no
// condition is evaluated here, so none may be accepted.
var ErrCondition = errors.New("conditions on role assignments are not evaluated")

// Permission is one block of a role. What it grants is Actions minus
// NotActions, and DataActions minus NotDataActions.
type Permission struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
	// Condition restricts the block. It is not evaluated: a block with one grants nothing.
	Condition        string `json:"condition,omitempty"`
	ConditionVersion string `json:"conditionVersion,omitempty"`
}

// Definition is a role.
type Definition struct {
	ID               string // GUID
	Name             string // "Key Vault Secrets User"
	Description      string
	Custom           bool
	Permissions      []Permission
	AssignableScopes []string
}

// Assignment gives a role to a principal at a scope and below it.
type Assignment struct {
	Principal string // object id
	Role      string // the definition's GUID, or its resource id
	Scope     string // resource id; "/" is everything
	Condition string // must be empty: see ErrCondition
}

// Deny takes actions away from principals, whatever their roles say.
type Deny struct {
	Name        string
	Scope       string
	Permissions []Permission
	Principals  []string // object ids; Everyone is all of them
	Exclude     []string // object ids
	OnlyHere    bool     // doNotApplyToChildScopes
}

type compiledPermission struct {
	actions, notActions, data, notData set
}

func (p *compiledPermission) allows(action string, data bool) bool {
	if data {
		return p.data.match(action) && !p.notData.match(action)
	}
	return p.actions.match(action) && !p.notActions.match(action)
}

// role is a definition's place: assignments point at it, so that a role may
// change, vanish and come back under them.
type role struct {
	def   *Definition // nil: not defined
	perms []compiledPermission
}

func (r *role) allows(action string, data bool) bool {
	for i := range r.perms {
		if r.perms[i].allows(action, data) {
			return true
		}
	}
	return false
}

type entry struct {
	id string
	Assignment
	role *role
}

type deny struct {
	id string
	Deny
	perms               []compiledPermission
	principals, exclude map[string]struct{}
}

// Engine holds the compiled policy. Its methods may be called at the same time;
// a change is in effect when the method that made it returns.
type Engine struct {
	mu          sync.RWMutex // guards everything below
	roles       map[string]*role
	byPrincipal map[string]map[string][]*entry // principal, then scope; all lower case
	byScope     map[string][]*entry            // for explanations
	assignments map[string]*entry
	denies      map[string]*deny
	denyScopes  map[string][]*deny
}

// New makes an Engine that knows the built-in roles and has no assignments.
func New() *Engine {
	e := &Engine{
		roles:       map[string]*role{},
		byPrincipal: map[string]map[string][]*entry{},
		byScope:     map[string][]*entry{},
		assignments: map[string]*entry{},
		denies:      map[string]*deny{},
		denyScopes:  map[string][]*deny{},
	}
	for _, d := range BuiltIn() {
		e.define(d)
	}
	return e
}

// RoleID is the GUID, in lower case, of a role definition's resource id.
func RoleID(id string) string {
	return strings.ToLower(id[strings.LastIndexByte(id, '/')+1:])
}

// scopeKey is the scope in lower case without a slash at its end; "" is the root.
func scopeKey(scope string) string {
	return strings.ToLower(strings.TrimRight(scope, "/"))
}

// Check reports the first mistake in a definition's permissions; errors wrap
// ErrPattern or ErrCondition.
func Check(perms []Permission) error {
	for _, p := range perms {
		if p.Condition != "" {
			return ErrCondition
		}
		for _, list := range [][]string{p.Actions, p.NotActions, p.DataActions, p.NotDataActions} {
			for _, a := range list {
				if err := CheckPattern(a); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func compileAll(perms []Permission) []compiledPermission {
	out := make([]compiledPermission, 0, len(perms))
	for _, p := range perms {
		if p.Condition != "" {
			continue // cannot be evaluated: grants nothing
		}
		out = append(out, compiledPermission{
			actions: compile(p.Actions), notActions: compile(p.NotActions),
			data: compile(p.DataActions), notData: compile(p.NotDataActions),
		})
	}
	return out
}

// SetDefinition adds or replaces a custom role. Assignments of it follow at once.
func (e *Engine) SetDefinition(d Definition) error {
	if err := Check(d.Permissions); err != nil {
		return fmt.Errorf("role %q: %w", d.Name, err)
	}
	d.Custom = true
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.roles[RoleID(d.ID)]; r != nil && r.def != nil && !r.def.Custom {
		return fmt.Errorf("role %q: its id is that of the built-in role %q", d.Name, r.def.Name)
	}
	e.define(d)
	return nil
}

func (e *Engine) define(d Definition) {
	r := e.slot(d.ID)
	r.def, r.perms = &d, compileAll(d.Permissions)
}

func (e *Engine) slot(id string) *role {
	id = RoleID(id)
	r := e.roles[id]
	if r == nil {
		r = &role{}
		e.roles[id] = r
	}
	return r
}

// RemoveDefinition forgets a custom role; assignments of it grant nothing from
// then on. Built-in and unknown roles are left alone.
func (e *Engine) RemoveDefinition(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.roles[RoleID(id)]; r != nil && r.def != nil && r.def.Custom {
		r.def, r.perms = nil, nil
	}
}

// Definition gives a role by GUID or resource id.
func (e *Engine) Definition(id string) (Definition, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if r := e.roles[RoleID(id)]; r != nil && r.def != nil {
		return *r.def, true
	}
	return Definition{}, false
}

// SetAssignment adds or replaces the assignment that id names. One with a
// condition is refused with ErrCondition, and what id named before is gone:
// nothing is granted that is not understood.
func (e *Engine) SetAssignment(id string, a Assignment) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.removeAssignment(id)
	if a.Condition != "" {
		return fmt.Errorf("assignment %s: %w", id, ErrCondition)
	}
	n := &entry{id: strings.ToLower(id), Assignment: a, role: e.slot(a.Role)}
	principal, scope := strings.ToLower(a.Principal), scopeKey(a.Scope)
	scopes := e.byPrincipal[principal]
	if scopes == nil {
		scopes = map[string][]*entry{}
		e.byPrincipal[principal] = scopes
	}
	scopes[scope] = append(scopes[scope], n)
	e.byScope[scope] = append(e.byScope[scope], n)
	e.assignments[n.id] = n
	return nil
}

// RemoveAssignment forgets the assignment that id names, if there is one.
func (e *Engine) RemoveAssignment(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.removeAssignment(id)
}

func (e *Engine) removeAssignment(id string) {
	old := e.assignments[strings.ToLower(id)]
	if old == nil {
		return
	}
	delete(e.assignments, old.id)
	principal, scope := strings.ToLower(old.Principal), scopeKey(old.Scope)
	scopes := e.byPrincipal[principal]
	if scopes[scope] = without(scopes[scope], old); len(scopes[scope]) == 0 {
		delete(scopes, scope)
	}
	if len(scopes) == 0 {
		delete(e.byPrincipal, principal)
	}
	if e.byScope[scope] = without(e.byScope[scope], old); len(e.byScope[scope]) == 0 {
		delete(e.byScope, scope)
	}
}

func without[T comparable](list []T, x T) []T {
	for i, v := range list {
		if v == x {
			list[i] = list[len(list)-1]
			var zero T
			list[len(list)-1] = zero
			return list[:len(list)-1]
		}
	}
	return list
}

// SetDeny adds or replaces the deny assignment that id names.
func (e *Engine) SetDeny(id string, d Deny) error {
	if err := Check(d.Permissions); err != nil {
		return fmt.Errorf("deny assignment %s: %w", id, err)
	}
	n := &deny{id: strings.ToLower(id), Deny: d, perms: compileAll(d.Permissions),
		principals: lowerSet(d.Principals), exclude: lowerSet(d.Exclude)}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.removeDeny(n.id)
	e.denies[n.id] = n
	scope := scopeKey(d.Scope)
	e.denyScopes[scope] = append(e.denyScopes[scope], n)
	return nil
}

// RemoveDeny forgets the deny assignment that id names, if there is one.
func (e *Engine) RemoveDeny(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.removeDeny(strings.ToLower(id))
}

func (e *Engine) removeDeny(id string) {
	old := e.denies[id]
	if old == nil {
		return
	}
	delete(e.denies, id)
	scope := scopeKey(old.Scope)
	if e.denyScopes[scope] = without(e.denyScopes[scope], old); len(e.denyScopes[scope]) == 0 {
		delete(e.denyScopes, scope)
	}
}

func lowerSet(list []string) map[string]struct{} {
	m := make(map[string]struct{}, len(list))
	for _, s := range list {
		m[strings.ToLower(s)] = struct{}{}
	}
	return m
}

// Definitions gives all roles, in no order.
func (e *Engine) Definitions() []Definition {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]Definition, 0, len(e.roles))
	for _, r := range e.roles {
		if r.def != nil {
			out = append(out, *r.def)
		}
	}
	return out
}

// Assignments gives the ids of what a principal holds at exactly this scope.
func (e *Engine) Assignments(principal, scope string) []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return ids(e.byPrincipal[strings.ToLower(principal)][scopeKey(scope)])
}

// AssignmentsAt gives the ids of all assignments at exactly this scope.
func (e *Engine) AssignmentsAt(scope string) []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return ids(e.byScope[scopeKey(scope)])
}

func ids(list []*entry) []string {
	out := make([]string, 0, len(list))
	for _, n := range list {
		out = append(out, n.id)
	}
	return out
}

// Len is the number of assignments.
func (e *Engine) Len() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.assignments)
}
