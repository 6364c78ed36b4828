// Package authorization is Microsoft.Authorization: role definitions, role
// assignments, deny assignments, and the answers to "may they?" that every
// plane asks for ([Authorizer]).
//
// Assignments and custom roles are resources like all others, saved by the
// pipeline. A mirror of them feeds the policy engine: what this replica wrote
// holds for its next request, what another wrote within a second; when the
// database cannot confirm that the mirror is complete, nothing is allowed.
// Source: Azure REST reference, "Authorization".
package authorization

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
)

const namespace = "Microsoft.Authorization"

// The kinds of stored documents that the policy is made of.
const (
	kindAssignment = "microsoft.authorization/roleassignments"
	kindDefinition = "microsoft.authorization/roledefinitions"
	kindDeny       = "microsoft.authorization/denyassignments"
)

// maxStale is how old the policy may be before everything is refused.
const maxStale = time.Second

// Authorizer answers whether a principal may do something. It satisfies
// arm.Authorizer and gate.Authorizer.
type Authorizer struct {
	engine    *rbac.Engine // what is written
	effective *rbac.Engine // what is followed: the same, but for Limits.Propagation
	late      late
	limits    Limits
	mirror    *store.Mirror[*item]
	dir       *directory.Directory
	res       arm.Resources
}

// item is a stored resource as the policy needs it.
type item struct {
	id         rid.ID
	kind       string
	system     arm.SystemData
	assignment Assignment
	definition Definition
	deny       Deny
}

// Open reads the policy from st and follows its changes until Close.
func Open(ctx context.Context, st store.Store, dir *directory.Directory) (*Authorizer, error) {
	return OpenLimited(ctx, st, dir, Limits{}, time.Now)
}

// OpenLimited is Open with limits of Azure's, by the given clock.
func OpenLimited(ctx context.Context, st store.Store, dir *directory.Directory, limits Limits, clock func() time.Time) (*Authorizer, error) {
	a := &Authorizer{engine: rbac.New(), dir: dir, res: arm.Resources{Store: st}, limits: limits}
	a.effective, a.late.wait, a.late.now = a.engine, limits.Propagation, clock
	if limits.Propagation > 0 {
		a.effective = rbac.New()
	}
	var err error
	a.mirror, err = store.NewMirror(ctx, st, arm.KeyPrefix+"/", decode, maxStale, kindAssignment, kindDefinition, kindDeny)
	if err != nil {
		return nil, fmt.Errorf("opening the policy: %w", err)
	}
	a.mirror.OnChange(func(c store.Change) {
		it, ok := a.mirror.Get(c.Doc.Key)
		a.apply(c.Doc.Key, it, ok)
	})
	a.mirror.Range(func(key string, it *item) bool {
		a.apply(key, it, true)
		return true
	})
	a.late.sort()
	return a, nil
}

// Close stops following changes; everything is refused from then on.
func (a *Authorizer) Close() { a.mirror.Close() }

func decode(doc store.Doc) (*item, error) {
	var w struct {
		ID         string          `json:"id"`
		Properties json.RawMessage `json:"properties"`
		System     arm.SystemData  `json:"systemData"`
	}
	if err := json.Unmarshal(doc.Value, &w); err != nil {
		return nil, err
	}
	id, err := rid.Parse(w.ID)
	if err != nil {
		return nil, err
	}
	it := &item{id: id, kind: doc.Kind, system: w.System}
	switch doc.Kind {
	case kindAssignment:
		err = json.Unmarshal(w.Properties, &it.assignment)
	case kindDefinition:
		err = json.Unmarshal(w.Properties, &it.definition)
	default:
		err = json.Unmarshal(w.Properties, &it.deny)
	}
	return it, err
}

// apply brings a change into the engine, and into the one that is followed when
// it is due.
func (a *Authorizer) apply(key string, it *item, exists bool) {
	into(a.engine, key, it, exists)
	if a.effective != a.engine && !a.late.add(key, it, exists) {
		into(a.effective, key, it, exists)
	}
}

// into brings a change into an engine. What the engine does not take is taken
// out of it: nothing is granted that is not understood.
func into(e *rbac.Engine, key string, it *item, exists bool) {
	id := strings.TrimPrefix(key, arm.KeyPrefix)
	if !exists {
		e.RemoveAssignment(id)
		e.RemoveDeny(id)
		if strings.Contains(id, "/"+kindDefinition+"/") {
			e.RemoveDefinition(id)
		}
		return
	}
	switch it.kind {
	case kindAssignment:
		p := it.assignment
		_ = e.SetAssignment(id, rbac.Assignment{ // refused means removed
			Principal: p.PrincipalID, Role: p.RoleDefinitionID, Scope: it.id.Scope().String(), Condition: text(p.Condition),
		})
	case kindDefinition:
		d := it.definition.role(it.id.Name())
		if e.SetDefinition(d) != nil {
			e.RemoveDefinition(d.ID)
		}
	case kindDeny:
		if e.SetDeny(id, it.deny.rule(it.id)) != nil {
			// It cannot be read, so what it takes away is unknown: take all.
			_ = e.SetDeny(id, rbac.Deny{Name: it.deny.Name, Scope: it.id.Scope().String(), Principals: []string{rbac.Everyone},
				Permissions: []rbac.Permission{{Actions: []string{"*"}, DataActions: []string{"*"}}}})
		}
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Engine is the policy engine that is followed, for explanations.
func (a *Authorizer) Engine() *rbac.Engine { return a.followed() }

// Fresh is nil while the policy is known to hold every change older than a
// second; else an *apierr.Error of kind Unavailable.
func (a *Authorizer) Fresh() error {
	err := a.mirror.Fresh()
	if err == nil {
		err = a.dir.Fresh()
	}
	if err == nil {
		return nil
	}
	e := apierr.New(apierr.Unavailable, "AuthorizationUnavailable",
		"The policy cannot be confirmed to be up to date because the database does not answer. Nothing is allowed until it does.")
	e.RetryAfter = time.Second
	return e.WithCause(err)
}

// Check answers whether the principal with the object id may do action (a data
// action, if data) at scope. A refusal is an answer, not an error: what was
// found is added to the trace of ctx, and is in Reason and Near. The error is
// that of Fresh.
func (a *Authorizer) Check(ctx context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	if err := a.Fresh(); err != nil {
		return rbac.Decision{}, err
	}
	q := rbac.Request{Principals: a.dir.Acting(oid), Action: action, Data: data, Scope: scope.String()}
	d := a.followed().Decide(q)
	log := trace.From(ctx)
	switch {
	case d.Allowed:
		log.Add(trace.Hop{Step: "role", Subject: oid, Found: d.Role, Expected: action, OK: true})
	case log.Wants():
		d = a.why(oid, q)
		log.Add(trace.Hop{
			Step: "role", Subject: a.display(oid), Found: d.Reason, Expected: action + " at " + scope.String(), Fix: a.fix(oid, d, q),
		})
		for _, n := range d.Near {
			if n.Text != d.Reason {
				log.Add(trace.Hop{Step: "role", Subject: n.Principal, Found: strings.Replace(n.Text, n.Principal, a.display(n.Principal), 1)})
			}
		}
	}
	return d, nil
}

// display names a principal for people.
func (a *Authorizer) display(oid string) string {
	p, err := a.dir.Principal(oid)
	switch {
	case err != nil:
		return oid
	case p.UPN != "":
		return p.UPN + " (" + oid + ")"
	}
	return p.DisplayName + " (" + oid + ")"
}

// why is the decision with its reason.
func (a *Authorizer) why(oid string, q rbac.Request) rbac.Decision {
	d := a.followed().Explain(q)
	switch {
	case d.Allowed:
	case q.Principals == nil:
		d.Reason = "the directory has no such principal"
		if _, err := a.dir.Principal(oid); err == nil {
			d.Reason = "its account is disabled"
		}
	default:
		if soon := a.underway(q); soon != "" {
			d.Reason = soon
		}
	}
	return d
}

// fix is the command that would allow what was refused, "" when none would.
func (a *Authorizer) fix(oid string, d rbac.Decision, q rbac.Request) string {
	if a.underway(q) != "" {
		return "" // waiting is all
	}
	p, err := a.dir.Principal(oid)
	if err == nil && q.Principals == nil {
		return enable(p)
	}
	roles := a.engine.Suggest(q.Action, q.Data, 1)
	if err != nil || d.Deny != "" || len(roles) == 0 {
		return ""
	}
	return fmt.Sprintf("az role assignment create --assignee-object-id %s --assignee-principal-type %s --role %q --scope %s",
		p.ObjectID, p.Type, roles[0].Name, usualScope(q))
}

// enable is the command that enables a disabled account.
func enable(p directory.Principal) string {
	if p.Type == directory.TypeUser {
		return "az ad user update --id " + p.UPN + " --account-enabled true"
	}
	return "az rest --method patch --url https://graph.microsoft.com/v1.0/servicePrincipals/" + p.ObjectID + ` --body '{"accountEnabled":true}'`
}

// usualScope is where a role that allows q is usually assigned: of data, at
// the resource that holds it.
func usualScope(q rbac.Request) string {
	id, err := rid.Parse(q.Scope)
	if err != nil {
		return q.Scope
	}
	for q.Data && len(id.Types()) > 1 {
		id = id.Parent()
	}
	return id.String()
}

// Assign gives a role to a principal at a scope unless it has it there: for
// the program's own use, such as the first owner. The caller's right is not
// asked for. role is a GUID.
func (a *Authorizer) Assign(ctx context.Context, scope rid.ID, role, principal string) error {
	name := assignmentName(scope, role, principal)
	id, err := rid.Parse(strings.TrimSuffix(scope.String(), "/") + "/providers/" + namespace + "/roleAssignments/" + name)
	if err != nil {
		return fmt.Errorf("assigning a role: %w", err)
	}
	next := &arm.Resource[Assignment]{ID: id, Properties: Assignment{RoleDefinitionID: role, PrincipalID: principal}}
	if _, ok := a.duplicate(next); ok {
		return nil
	}
	if _, ok := a.mirror.Get(arm.ResourceKey(id)); ok {
		return nil
	}
	if err := a.defaultAssignment(ctx, nil, next); err != nil {
		return err
	}
	if err := a.validateAssignment(ctx, nil, next); err != nil {
		return err
	}
	props := map[string]any{}
	b, err := json.Marshal(next.Properties)
	if err == nil {
		err = json.Unmarshal(b, &props)
	}
	if err != nil {
		return fmt.Errorf("assigning a role: %w", err)
	}
	return a.res.Put(ctx, &arm.Envelope{ID: id.String(), Name: name, Type: namespace + "/roleAssignments", Properties: props})
}

// Unassign takes back what Assign gave; what was not given is no error.
func (a *Authorizer) Unassign(ctx context.Context, scope rid.ID, role, principal string) error {
	id, err := rid.Parse(roleAssignmentsAt(scope) + "/" + assignmentName(scope, role, principal))
	if err != nil {
		return fmt.Errorf("taking a role away: %w", err)
	}
	return a.res.Delete(ctx, id)
}
