package cognitiveservices

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// endpoints are what is no resource.
func (p *provider) endpoints() []arm.Endpoint {
	const (
		sub     = "/subscriptions/{subscriptionId}/providers/" + Namespace
		region  = sub + "/locations/{location}"
		deleted = region + "/resourceGroups/{deletedFrom}/deletedAccounts/{accountName}"
		account = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/" + AccountType + "/{accountName}"
	)
	at := func(method, path, action string, handle func(context.Context, *arm.Request) (*arm.Response, error)) arm.Endpoint {
		return arm.Endpoint{Method: method, Path: path, Action: action, APIVersions: apiVersions(), Handle: handle}
	}
	return []arm.Endpoint{
		at(http.MethodPost, sub+"/checkDomainAvailability", Namespace+"/checkDomainAvailability/action", p.checkDomain),
		at(http.MethodPost, region+"/checkSkuAvailability", Namespace+"/locations/checkSkuAvailability/action", p.checkSKU),
		at(http.MethodGet, sub+"/deletedAccounts", Namespace+"/deletedAccounts/read", p.listDeleted),
		at(http.MethodGet, deleted, Namespace+"/locations/resourceGroups/deletedAccounts/read", p.getDeleted),
		at(http.MethodDelete, deleted, Namespace+"/locations/resourceGroups/deletedAccounts/delete", p.purge),
		at(http.MethodGet, sub+"/skus", Namespace+"/skus/read", p.listSKUs),
		at(http.MethodGet, region+"/models", Namespace+"/locations/models/read", p.regionModels),
		at(http.MethodGet, region+"/usages", Namespace+"/locations/usages/read", p.regionUsages),
		at(http.MethodGet, sub+"/modelCapacities", Namespace+"/modelCapacities/read", p.capacities),
		at(http.MethodGet, region+"/modelCapacities", Namespace+"/locations/modelCapacities/read", p.capacities),
		// These ask for the right at the account by themselves.
		at(http.MethodGet, account+"/models", "", p.under("/models/read", p.accountModels)),
		at(http.MethodGet, account+"/skus", "", p.under("/skus/read", p.accountSKUs)),
		at(http.MethodGet, account+"/usages", "", p.under("/usages/read", p.accountUsages)),
		at(http.MethodGet, account+"/deployments/{deploymentName}/skus", "", p.under("/deployments/skus/read", p.deploymentChoices)),
	}
}

// under makes the handler of a path under an account: it asks for the right at
// the account and finds it.
func (p *provider) under(action string, handle func(ctx context.Context, account *arm.Envelope, r *arm.Request) (any, error)) func(context.Context, *arm.Request) (*arm.Response, error) {
	return func(ctx context.Context, r *arm.Request) (*arm.Response, error) {
		id, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"] + "/resourceGroups/" + r.Params["resourceGroupName"] +
			"/providers/" + AccountType + "/" + r.Params["accountName"])
		if err != nil {
			return nil, bad("", "The path is no resource id: %v.", err)
		}
		if err := arm.Authorise(ctx, AccountType+action, id); err != nil {
			return nil, err
		}
		e, err := arm.Resources{Store: p.Store}.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil, arm.NotFound(id)
		}
		if err != nil {
			return nil, err
		}
		body, err := handle(ctx, e, r)
		if err != nil {
			return nil, err
		}
		return &arm.Response{Body: body}, nil
	}
}

// checkDomain answers whether an account may have a subdomain.
func (p *provider) checkDomain(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	var in struct {
		Name string `json:"subdomainName"`
		Type string `json:"type"`
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil || in.Name == "" {
		return nil, bad("subdomainName", "The body must have a subdomainName and the type %s.", AccountType)
	}
	if !strings.EqualFold(in.Type, AccountType) {
		return nil, bad("type", "The type '%s' is not %s.", in.Type, AccountType)
	}
	out := map[string]any{"isSubdomainAvailable": true, "reason": nil, "subdomainName": in.Name, "type": AccountType, "kind": nil}
	if in.Kind != "" {
		out["kind"] = in.Kind
	}
	no := func(reason string) (*arm.Response, error) {
		out["isSubdomainAvailable"], out["reason"] = false, reason
		return &arm.Response{Body: out}, nil
	}
	if err := checkSubdomain(in.Name); err != nil {
		return no(apierr.From(err).Message)
	}
	probe := &arm.Resource[Properties]{Properties: Properties{Subdomain: in.Name}}
	if err := p.nameFree(ctx, probe); apierr.Is(err, apierr.Conflict) {
		return no("Sub domain name '" + in.Name + "' is already used. Please pick a different name.")
	} else if err != nil && !errors.Is(err, store.ErrConflict) {
		return nil, err
	}
	return &arm.Response{Body: out}, nil
}

// checkSKU answers which skus accounts of a kind may have in a region.
func (p *provider) checkSKU(_ context.Context, r *arm.Request) (*arm.Response, error) {
	var in struct {
		SKUs []string `json:"skus"`
		Kind string   `json:"kind"`
		Type string   `json:"type"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil || len(in.SKUs) == 0 {
		return nil, bad("skus", "The body must have a list of skus, a kind and the type %s.", AccountType)
	}
	kind := slices.ContainsFunc(kinds(), func(k string) bool { return strings.EqualFold(k, in.Kind) })
	value := []any{}
	for _, sku := range in.SKUs {
		one := map[string]any{"kind": in.Kind, "type": in.Type, "skuName": sku, "skuAvailable": true, "reason": nil, "message": nil}
		if !kind || !strings.EqualFold(sku, accountSKU) || !strings.EqualFold(in.Type, AccountType) || !arm.KnownLocation(arm.NormalizeLocation(r.Params["location"])) {
			one["skuAvailable"], one["reason"], one["message"] = false, "NotAvailableForSubscription", "There is no such sku of this kind in this region."
		}
		value = append(value, one)
	}
	return &arm.Response{Body: map[string]any{"value": value}}, nil
}

func deletedID(r *Record) string {
	id := r.id()
	return "/subscriptions/" + id.Subscription() + "/providers/" + Namespace + "/locations/" + r.Location + "/resourceGroups/" + id.ResourceGroup() + "/deletedAccounts/" + id.Name()
}

func showDeleted(r *Record) (map[string]any, error) {
	b, err := json.Marshal(r.Properties)
	if err != nil {
		return nil, err
	}
	props := map[string]any{}
	if err := json.Unmarshal(b, &props); err != nil {
		return nil, err
	}
	props["deletionDate"] = r.Deleted.At.Format(time.RFC3339)
	props["scheduledPurgeDate"] = r.Deleted.PurgeAt.Format(time.RFC3339)
	props["provisioningState"] = "Deleted"
	out := map[string]any{
		"id": deletedID(r), "name": r.id().Name(), "type": Namespace + "/locations/resourceGroups/deletedAccounts",
		"location": r.Location, "kind": r.Kind, "sku": SKU{Name: r.SKU}, "properties": props,
	}
	if r.Tags != nil {
		out["tags"] = r.Tags
	}
	return out, nil
}

// listDeleted lists the deleted accounts of a subscription.
func (p *provider) listDeleted(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	list, err := p.accounts.all(ctx, deletedKind)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b *Record) int { return strings.Compare(lower(a.ID), lower(b.ID)) })
	value := []any{}
	for _, rec := range list {
		if rec.due(p.Now()) || !strings.EqualFold(rec.id().Subscription(), r.Params["subscriptionId"]) {
			continue
		}
		v, err := showDeleted(rec)
		if err != nil {
			return nil, err
		}
		value = append(value, v)
	}
	return &arm.Response{Body: map[string]any{"value": value}}, nil
}

// deletedAccount finds the deleted account that a path names.
func (p *provider) deletedAccount(ctx context.Context, r *arm.Request) (*Record, error) {
	name, group := r.Params["accountName"], r.Params["deletedFrom"]
	none := apierr.New(apierr.NotFound, "ResourceNotFound", "The deleted account '%s' of the resource group '%s' does not exist in the location '%s'.", name, group, r.Params["location"])
	id, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"] + "/resourceGroups/" + group + "/providers/" + AccountType + "/" + name)
	if err != nil {
		return nil, none
	}
	rec, err := p.accounts.fresh(ctx, id)
	if err != nil {
		return nil, err
	}
	if rec == nil || rec.Deleted == nil || rec.due(p.Now()) || arm.NormalizeLocation(r.Params["location"]) != rec.Location {
		return nil, none
	}
	return rec, nil
}

func (p *provider) getDeleted(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	rec, err := p.deletedAccount(ctx, r)
	if err != nil {
		return nil, err
	}
	v, err := showDeleted(rec)
	return &arm.Response{Body: v}, err
}

// purge erases a deleted account at once, which Azure does in a long operation.
func (p *provider) purge(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	rec, err := p.deletedAccount(ctx, r)
	if err != nil {
		return nil, err
	}
	err = p.erase(context.WithoutCancel(ctx), rec)
	if errors.Is(err, store.ErrConflict) {
		return nil, busy(rec.id())
	}
	if err != nil {
		return nil, err
	}
	return &arm.Response{}, nil
}
