package containerregistry

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/named"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// endpoints are what is no resource.
func (p *provider) endpoints() []arm.Endpoint {
	const (
		sub      = "/subscriptions/{subscriptionId}/providers/" + Namespace
		registry = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/" + RegistryType + "/{registryName}"
	)
	at := func(method, path, action string, handle func(context.Context, *arm.Request) (*arm.Response, error)) arm.Endpoint {
		return arm.Endpoint{Method: method, Path: path, Action: action, APIVersions: apiVersions(), Handle: handle}
	}
	return []arm.Endpoint{
		at(http.MethodPost, sub+"/checkNameAvailability", Namespace+"/checkNameAvailability/read", p.checkNameAvailability),
		// This asks for the right at the registry by itself.
		at(http.MethodGet, registry+"/listUsages", "", p.under("/listUsages/read", p.usages)),
	}
}

// under makes the handler of a path under a registry: it asks for the right at
// the registry and finds it.
func (p *provider) under(action string, handle func(ctx context.Context, registry *arm.Envelope) (any, error)) func(context.Context, *arm.Request) (*arm.Response, error) {
	return func(ctx context.Context, r *arm.Request) (*arm.Response, error) {
		id, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"] + "/resourceGroups/" + r.Params["resourceGroupName"] +
			"/providers/" + RegistryType + "/" + r.Params["registryName"])
		if err != nil {
			return nil, bad("", "The path is no resource id: %v.", err)
		}
		if err := arm.Authorise(ctx, RegistryType+action, id); err != nil {
			return nil, err
		}
		e, err := arm.Resources{Store: p.Store}.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil, arm.NotFound(id)
		}
		if err != nil {
			return nil, err
		}
		body, err := handle(ctx, e)
		if err != nil {
			return nil, err
		}
		return &arm.Response{Body: body}, nil
	}
}

// checkNameAvailability answers whether a registry may have a name.
func (p *provider) checkNameAvailability(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	var in struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil || in.Name == "" {
		return nil, bad("name", "The body must have a name and the type %s.", RegistryType)
	}
	if !strings.EqualFold(in.Type, RegistryType) {
		return nil, bad("type", "The type '%s' is not %s.", in.Type, RegistryType)
	}
	no := func(reason, message string) (*arm.Response, error) {
		return &arm.Response{Body: map[string]any{"nameAvailable": false, "reason": reason, "message": message}}, nil
	}
	if err := checkName(in.Name); err != nil {
		return no("Invalid", apierr.From(err).Message)
	}
	switch used, err := p.names.InUse(ctx, in.Name); {
	case err != nil:
		return nil, err
	case used:
		return no("AlreadyExists", "The registry "+in.Name+" is already in use.")
	}
	return &arm.Response{Body: map[string]any{"nameAvailable": true}}, nil
}

// usages says how much of what a registry uses. Limits are those that are
// documented for its sku; none is kept but of what there is none at all.
func (p *provider) usages(ctx context.Context, e *arm.Envelope) (any, error) {
	r, err := arm.View[Properties](e)
	if err != nil {
		return nil, err
	}
	used, err := p.Used(ctx, e.Private[named.UIDKey])
	if err != nil {
		return nil, err
	}
	included := map[string]int64{Basic: 10 << 30, Standard: 100 << 30, Premium: 500 << 30}[skuOf(r)]
	usage := func(name, unit string, limit, now int64) map[string]any {
		return map[string]any{"name": name, "unit": unit, "limit": limit, "currentValue": now}
	}
	return map[string]any{"value": []any{
		usage("Size", "Bytes", included, used), usage("Webhooks", "Count", 0, 0), usage("Geo-replications", "Count", 0, 0),
		usage("Tokens", "Count", 0, 0), usage("ScopeMaps", "Count", 0, 0),
	}}, nil
}
