package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// setPolicies is PUT …/vaults/{name}/accessPolicies/{add|replace|remove}.
func (p *provider) setPolicies(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	op := lower(r.Params["operation"])
	if op != "add" && op != "replace" && op != "remove" {
		return nil, bad("operationKind", "The operation '%s' is none of add, replace, remove.", r.Params["operation"])
	}
	var in struct {
		Properties struct {
			AccessPolicies []AccessPolicy `json:"accessPolicies"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil {
		return nil, bad("properties", "The request content was invalid and could not be deserialized: %v", err)
	}
	if err := checkPolicies(in.Properties.AccessPolicies, p.TenantID); err != nil {
		return nil, err
	}
	segs := strings.Split(strings.Trim(r.HTTP.URL.Path, "/"), "/")
	id, err := rid.Parse("/" + strings.Join(segs[:len(segs)-2], "/")) // without accessPolicies/{operation}
	if err != nil {
		return nil, bad("", "The path is no resource id: %v.", err)
	}
	if err := p.mayWritePolicies(ctx, id); err != nil {
		return nil, err
	}
	e, err := p.editPolicies(ctx, id, op, in.Properties.AccessPolicies)
	if err != nil {
		return nil, err
	}
	return &arm.Response{Body: map[string]any{
		"id": e.ID + "/accessPolicies/", "type": Namespace + "/vaults/accessPolicies", "location": e.Location,
		"properties": map[string]any{"accessPolicies": e.Properties["accessPolicies"]},
	}}, nil
}

func (p *provider) mayWritePolicies(ctx context.Context, id rid.ID) error {
	const action = Namespace + "/vaults/accessPolicies/write"
	caller := arm.Caller(ctx)
	d, err := p.Authorizer.Check(ctx, caller.ObjectID, action, false, id)
	if err != nil {
		return err
	}
	if !d.Allowed {
		return apierr.New(apierr.Forbidden, "AuthorizationFailed",
			"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.",
			caller.Display(), caller.ObjectID, action, id)
	}
	return nil
}

// editPolicies changes the policies of resource and record.
func (p *provider) editPolicies(ctx context.Context, id rid.ID, op string, list []AccessPolicy) (*arm.Envelope, error) {
	res := arm.Resources{Store: p.Store}
	for range writeAttempts {
		e, err := res.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil, apierr.New(apierr.NotFound, "ResourceNotFound", "The Resource '%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", Namespace+"/vaults/"+id.Name(), id.ResourceGroup())
		}
		if err != nil {
			return nil, err
		}
		if e.State() != "Succeeded" {
			return nil, apierr.New(apierr.Conflict, "Conflict", "The vault '%s' is being changed by another request. Try again.", id.Name())
		}
		v, err := arm.View[Properties](e)
		if err != nil {
			return nil, err
		}
		next := applyPolicies(v.Properties.AccessPolicies, op, list)
		if err := checkPolicies(next, p.TenantID); err != nil {
			return nil, err
		}
		e.Properties["accessPolicies"] = next
		if err := res.Put(ctx, e); errors.Is(err, store.ErrConflict) {
			continue
		} else if err != nil {
			return nil, err
		}
		return e, p.names.change(ctx, id.Name(), func(r *Record) error {
			if r == nil || r.Deleted != nil || r.UID != v.Private[uidKey] {
				return errUnchanged
			}
			now, err := res.Get(ctx, id) // another may have changed it since
			if err != nil {
				return err
			}
			v, err := arm.View[Properties](now)
			if err != nil {
				return err
			}
			r.Properties.AccessPolicies = v.Properties.AccessPolicies
			return nil
		})
	}
	return nil, apierr.New(apierr.Conflict, "Conflict", "The vault '%s' is changed by too many requests at once. Try again.", id.Name())
}

func (a AccessPolicy) samePrincipal(b AccessPolicy) bool {
	return strings.EqualFold(a.ObjectID, b.ObjectID) && strings.EqualFold(a.ApplicationID, b.ApplicationID)
}

// applyPolicies is add, which joins permissions, replace, which puts a
// principal's, or remove, which takes words or, without any, the whole policy.
func applyPolicies(have []AccessPolicy, op string, list []AccessPolicy) []AccessPolicy {
	out := append([]AccessPolicy{}, have...)
	for _, in := range list {
		at := -1
		for i := range out {
			if out[i].samePrincipal(in) {
				at = i
			}
		}
		switch {
		case op == "remove":
			if at >= 0 {
				if out[at].Permissions = out[at].Permissions.without(in.Permissions); out[at].Permissions.empty() || in.Permissions.empty() {
					out = append(out[:at], out[at+1:]...)
				}
			}
		case at < 0:
			out = append(out, in)
		case op == "add":
			out[at].Permissions = out[at].Permissions.with(in.Permissions)
		default:
			out[at] = in
		}
	}
	return out
}

func (p Permissions) empty() bool {
	return len(p.Keys)+len(p.Secrets)+len(p.Certificates)+len(p.Storage) == 0
}

func (p Permissions) with(q Permissions) Permissions {
	return Permissions{join(p.Keys, q.Keys), join(p.Secrets, q.Secrets), join(p.Certificates, q.Certificates), join(p.Storage, q.Storage)}
}

func (p Permissions) without(q Permissions) Permissions {
	return Permissions{less(p.Keys, q.Keys), less(p.Secrets, q.Secrets), less(p.Certificates, q.Certificates), less(p.Storage, q.Storage)}
}

func hasWord(list []string, w string) bool {
	for _, x := range list {
		if strings.EqualFold(x, w) {
			return true
		}
	}
	return false
}

func join(a, b []string) []string {
	out := append([]string{}, a...)
	for _, w := range b {
		if !hasWord(out, w) {
			out = append(out, w)
		}
	}
	return out
}

func less(a, b []string) []string {
	out := []string{}
	for _, w := range a {
		if !hasWord(b, w) {
			out = append(out, w)
		}
	}
	return out
}
