package authorization

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
)

// Provider gives the resource types of Microsoft.Authorization.
func (a *Authorizer) Provider() arm.Provider {
	return arm.Provider{
		Namespace: namespace,
		Routes: []arm.Route{
			arm.Serve(namespace, a.roleAssignments()),
			arm.Serve(namespace, a.roleDefinitions()),
			arm.Serve(namespace, a.denyAssignments()),
			arm.Serve(namespace, arm.Kind[struct{}]{
				Type: "permissions", Scopes: anywhere, NoPut: true,
				APIVersions: []string{"2022-05-01-preview", "2022-04-01", "2018-07-01", "2018-01-01-preview", "2015-07-01", "2015-06-01"},
				Ask:         map[string]arm.Question{http.MethodGet: a.permissions},
			}),
			arm.Serve(namespace, arm.Kind[struct{}]{
				Type: "checkAccess", Scopes: anywhere, NoPut: true,
				APIVersions: []string{"2021-06-01-preview", "2020-10-01-preview", "2018-09-01-preview"},
				Ask:         map[string]arm.Question{http.MethodPost: a.checkAccess},
			}),
		},
	}
}

const anywhere = arm.Tenant | arm.Subscription | arm.ResourceGroup | arm.Extension

// Deny is the properties of a deny assignment.
type Deny struct {
	Name          string            `json:"denyAssignmentName"`
	Description   string            `json:"description,omitempty"`
	Permissions   []rbac.Permission `json:"permissions"`
	Scope         string            `json:"scope"`
	OnlyHere      bool              `json:"doNotApplyToChildScopes"`
	Principals    []DenyPrincipal   `json:"principals"`
	Exclude       []DenyPrincipal   `json:"excludePrincipals"`
	SystemDefined bool              `json:"isSystemProtected"`
}

// DenyPrincipal is one of a deny assignment's; the id of zeros is everyone.
type DenyPrincipal struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

func (d *Deny) rule(id rid.ID) rbac.Deny {
	out := rbac.Deny{Name: d.Name, Scope: id.Scope().String(), Permissions: d.Permissions, OnlyHere: d.OnlyHere}
	for _, p := range d.Principals {
		out.Principals = append(out.Principals, p.ID)
	}
	for _, p := range d.Exclude {
		out.Exclude = append(out.Exclude, p.ID)
	}
	return out
}

// denyAssignments can be read; as in Azure, only services write them.
func (a *Authorizer) denyAssignments() arm.Kind[Deny] {
	return arm.Kind[Deny]{
		Type: "denyAssignments", Scopes: anywhere, NoPut: true, NoPatch: true, NoState: true,
		APIVersions: []string{"2024-07-01-preview", "2022-04-01", "2018-07-01-preview"},
		ListAt:      a.listDenies,
		Delete: func(context.Context, *arm.Resource[Deny]) error {
			return bad("DenyAssignmentDeleteNotPermitted", "Deny assignments are removed by the service that made them.")
		},
	}
}

func (a *Authorizer) listDenies(_ context.Context, scope rid.ID, filter string) ([]*arm.Resource[Deny], error) {
	expr, err := parseFilter(filter, "denyAssignmentName", "atScope()")
	if err != nil {
		return nil, err
	}
	exact := false
	if expr != nil {
		_, exact = expr.Call("atScope")
	}
	var out []*arm.Resource[Deny]
	a.mirror.Range(func(_ string, it *item) bool {
		at := it.id.Scope()
		if it.kind != kindDeny || !at.Contains(scope) && (exact || !scope.Contains(at)) {
			return true
		}
		var ok bool
		if ok, err = holds(expr, map[string]string{"denyAssignmentName": it.deny.Name}); ok {
			out = append(out, &arm.Resource[Deny]{ID: it.id, Properties: it.deny})
		}
		return err == nil
	})
	sortByID(out)
	return out, err
}

// permissions says what the caller's roles grant at a scope.
func (a *Authorizer) permissions(ctx context.Context, scope rid.ID, _ json.RawMessage) (any, error) {
	list := []rbac.Permission{}
	for _, p := range a.followed().Permissions(a.dir.Acting(caller(ctx)), scope.String()) {
		list = append(list, filled(p))
	}
	return map[string]any{"value": list}, nil
}

// checkRequest is the body of checkAccess, as Azure's own callers send it.
type checkRequest struct {
	Subject struct {
		Attributes struct {
			ObjectID string `json:"ObjectId"`
		} `json:"Attributes"`
	} `json:"Subject"`
	Actions []struct {
		ID           string `json:"Id"`
		IsDataAction bool   `json:"IsDataAction"`
	} `json:"Actions"`
	Resource struct {
		ID string `json:"Id"`
	} `json:"Resource"`
}

type checkAnswer struct {
	ActionID       string         `json:"actionId"`
	IsDataAction   bool           `json:"isDataAction"`
	AccessDecision string         `json:"accessDecision"` // "Allowed", "NotAllowed", "Denied"
	RoleAssignment map[string]any `json:"roleAssignment,omitempty"`
	DenyAssignment map[string]any `json:"denyAssignment,omitempty"`
	TimeToLive     int            `json:"timeToLiveInMs"`
	Reason         string         `json:"reason"`        // ours
	Near           []rbac.Near    `json:"near"`          // ours: what nearly allowed it
	Fix            string         `json:"fix,omitempty"` // ours: the command that would allow it
}

const maxActions = 100

// checkAccess says whether any principal may do something, and why not.
func (a *Authorizer) checkAccess(_ context.Context, scope rid.ID, body json.RawMessage) (any, error) {
	var q checkRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, bad("InvalidRequestContent", "The request content was invalid and could not be deserialized: %v", err)
	}
	oid := q.Subject.Attributes.ObjectID
	switch {
	case oid == "":
		return nil, bad("InvalidRequestContent", "Subject.Attributes.ObjectId is required.")
	case len(q.Actions) == 0 || len(q.Actions) > maxActions:
		return nil, bad("InvalidRequestContent", "Actions must have 1 to %d entries.", maxActions)
	}
	at := scope
	if q.Resource.ID != "" {
		id, err := rid.Parse(q.Resource.ID)
		if err != nil || !scope.Contains(id) {
			return nil, bad("InvalidRequestContent", "Resource.Id '%s' is not under the scope '%s' of the request.", q.Resource.ID, scope)
		}
		at = id
	}
	if err := a.Fresh(); err != nil {
		return nil, err
	}
	out := []checkAnswer{}
	for _, act := range q.Actions {
		r := rbac.Request{Principals: a.dir.Acting(oid), Action: act.ID, Data: act.IsDataAction, Scope: at.String()}
		out = append(out, a.answer(oid, r))
	}
	return out, nil
}

func (a *Authorizer) answer(oid string, q rbac.Request) checkAnswer {
	d := a.why(oid, q)
	w := checkAnswer{ActionID: q.Action, IsDataAction: q.Data, AccessDecision: "NotAllowed", Reason: d.Reason, Near: d.Near}
	if w.Near == nil {
		w.Near = []rbac.Near{}
	}
	switch {
	case d.Allowed:
		w.AccessDecision = "Allowed"
		if it, ok := a.mirror.Get(arm.KeyPrefix + d.Assignment); ok {
			w.RoleAssignment = map[string]any{
				"id": it.id.String(), "roleDefinitionId": it.assignment.RoleDefinitionID, "principalId": it.assignment.PrincipalID,
				"principalType": it.assignment.PrincipalType, "scope": it.assignment.Scope, "roleName": d.Role,
			}
		}
		return w
	case d.Deny != "":
		w.AccessDecision = "Denied"
		w.DenyAssignment = map[string]any{"id": d.Deny}
	}
	w.Fix = a.fix(oid, d, q)
	if !strings.HasPrefix(q.Scope, "/") {
		w.Fix = ""
	}
	return w
}
