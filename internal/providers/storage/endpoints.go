package storage

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// endpoints are what is no resource.
func (p *provider) endpoints() []arm.Endpoint {
	const sub = "/subscriptions/{subscriptionId}/providers/" + Namespace
	at := func(method, path, action string, handle func(context.Context, *arm.Request) (*arm.Response, error)) arm.Endpoint {
		return arm.Endpoint{Method: method, Path: path, Action: action, APIVersions: apiVersions(), Handle: handle}
	}
	return []arm.Endpoint{
		at(http.MethodPost, sub+"/checkNameAvailability", Namespace+"/checkNameAvailability/read", p.checkNameAvailability),
		at(http.MethodGet, sub+"/skus", Namespace+"/skus/read", listSKUs),
		at(http.MethodGet, sub+"/locations/{location}/usages", Namespace+"/locations/usages/read", p.usages),
	}
}

// checkNameAvailability answers whether an account may have a name.
func (p *provider) checkNameAvailability(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	var in struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil || in.Name == "" {
		return nil, bad("name", "The body must have a name and the type %s.", AccountType)
	}
	if !strings.EqualFold(in.Type, AccountType) {
		return nil, bad("type", "The type '%s' is not %s.", in.Type, AccountType)
	}
	no := func(reason, message string) (*arm.Response, error) {
		return &arm.Response{Body: map[string]any{"nameAvailable": false, "reason": reason, "message": message}}, nil
	}
	if err := checkName(in.Name); err != nil {
		return no("AccountNameInvalid", apierr.From(err).Message)
	}
	switch used, err := p.accounts.names.InUse(ctx, in.Name); {
	case err != nil:
		return nil, err
	case used:
		return no("AlreadyExists", apierr.From(taken(in.Name)).Message)
	}
	return &arm.Response{Body: map[string]any{"nameAvailable": true}}, nil
}

// listSKUs answers which skus accounts may have, in all locations.
func listSKUs(context.Context, *arm.Request) (*arm.Response, error) {
	out := []any{}
	for _, name := range skus() {
		tier, _, _ := strings.Cut(name, "_")
		for _, kind := range kinds() {
			if (tier == "Premium") != (kind == BlockBlobStorage) {
				continue
			}
			out = append(out, map[string]any{
				"resourceType": "storageAccounts", "name": name, "tier": tier, "kind": kind, "locations": arm.LocationNames(),
				"capabilities": []any{}, "restrictions": []any{},
			})
		}
	}
	return &arm.Response{Body: map[string]any{"value": out}}, nil
}

// accountLimit is Azure's number of accounts in a region and subscription.
const accountLimit = 250

// usages says how many accounts there are in a region.
func (p *provider) usages(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	sub, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"])
	if err != nil {
		return nil, bad("", "The path is no resource id: %v.", err)
	}
	list, err := arm.Resources{Store: p.Store}.List(ctx, sub, AccountType, "", 1000)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, e := range list {
		if e.Location == arm.NormalizeLocation(r.Params["location"]) {
			n++
		}
	}
	return &arm.Response{Body: map[string]any{"value": []any{map[string]any{
		"unit": "Count", "currentValue": n, "limit": accountLimit, "name": map[string]string{"value": "StorageAccounts", "localizedValue": "Storage Accounts"},
	}}}}, nil
}
