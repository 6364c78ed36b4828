package resources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// EnsureSubscription makes the subscription be there. It may be called again;
// the name of one that exists stays.
func EnsureSubscription(ctx context.Context, st store.Store, tenantID, subID, name string) error {
	id, err := rid.Parse("/subscriptions/" + subID)
	if err != nil || id.Collection || id.ResourceGroup() != "" {
		return fmt.Errorf("subscription id %q is malformed", subID)
	}
	res := arm.Resources{Store: st}
	if _, err := res.Get(ctx, id); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	err = res.Put(ctx, &arm.Envelope{
		ID: id.String(), Name: subID, Type: rid.TypeSubscription,
		Properties: map[string]any{"displayName": name, "tenantId": tenantID, "state": "Enabled"},
	})
	if errors.Is(err, store.ErrConflict) {
		return nil // another replica was first
	}
	return err
}

func (s *service) subscriptions() []arm.Endpoint {
	get := func(path, action string, h func(context.Context, *arm.Request) (*arm.Response, error)) arm.Endpoint {
		return arm.Endpoint{Method: http.MethodGet, Path: path, Action: action, APIVersions: versions(), Handle: h}
	}
	return []arm.Endpoint{
		get("/tenants", "", s.tenants),
		get("/subscriptions", "", s.listSubscriptions),
		get("/subscriptions/{subscriptionId}", "", s.getSubscription),
		get("/subscriptions/{subscriptionId}/locations", "", s.locations),
		{Method: http.MethodPost, Path: "/providers/Microsoft.Resources/checkResourceName", APIVersions: versions(), Handle: checkResourceName},
	}
}

// tenants is "Tenants - List".
func (s *service) tenants(context.Context, *arm.Request) (*arm.Response, error) {
	name, domain := s.cfg.TenantName, s.cfg.Domain
	if name == "" {
		name = "Default Directory"
	}
	if domain == "" {
		domain = "lazurite.onmicrosoft.com"
	}
	return list([]any{map[string]any{
		"id": "/tenants/" + s.cfg.TenantID, "tenantId": s.cfg.TenantID, "displayName": name, "countryCode": "US", "country": "United States",
		"defaultDomain": domain, "domains": []string{domain}, "tenantCategory": "Home", "tenantType": "AAD",
	}}), nil
}

func (s *service) listSubscriptions(ctx context.Context, _ *arm.Request) (*arm.Response, error) {
	var out []any
	err := store.All(ctx, s.cfg.Store, store.Query{Prefix: arm.KeyPrefix + "/subscriptions/", Kind: strings.ToLower(rid.TypeSubscription)}, func(d store.Doc) error {
		e, err := arm.DecodeEnvelope(d)
		if err != nil {
			return err
		}
		sees, err := s.sees(ctx, e.RID())
		if sees {
			out = append(out, subscription(e))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	body := list(out)
	if m, ok := body.Body.(map[string]any); ok {
		m["count"] = map[string]any{"type": "Total", "value": len(out)}
	}
	return body, nil
}

func (s *service) sees(ctx context.Context, sub rid.ID) (bool, error) {
	if s.cfg.Sees == nil {
		return true, nil
	}
	return s.cfg.Sees(ctx, arm.Caller(ctx).ObjectID, sub)
}

func (s *service) getSubscription(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	e, err := s.visible(ctx, r)
	if err != nil {
		return nil, err
	}
	return &arm.Response{Body: subscription(e)}, nil
}

// visible gives the subscription in the path, if the caller has any right in it.
func (s *service) visible(ctx context.Context, r *arm.Request) (*arm.Envelope, error) {
	id, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"])
	if err != nil {
		return nil, apierr.New(apierr.BadRequest, "InvalidSubscriptionId", "The subscription id '%s' is malformed.", r.Params["subscriptionId"])
	}
	e, err := s.res.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	sees, err := s.sees(ctx, id)
	if err != nil {
		return nil, err
	}
	if !sees {
		return nil, arm.Forbidden(ctx, "Microsoft.Resources/subscriptions/read", id)
	}
	return e, nil
}

// subscription is the wire shape, whose members are not below "properties".
func subscription(e *arm.Envelope) map[string]any {
	m := map[string]any{
		"id": e.ID, "subscriptionId": e.Name, "authorizationSource": "RoleBased", "managedByTenants": []any{},
		"subscriptionPolicies": map[string]any{"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off"},
	}
	for _, k := range []string{"displayName", "tenantId", "state"} {
		m[k] = e.Properties[k]
	}
	if len(e.Tags) > 0 {
		m["tags"] = e.Tags
	}
	return m
}

// locations is "Subscriptions - List Locations".
func (s *service) locations(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	e, err := s.visible(ctx, r)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, l := range arm.Locations() {
		if l.Name == "global" {
			continue
		}
		out = append(out, map[string]any{
			"id": e.ID + "/locations/" + l.Name, "name": l.Name, "type": "Region", "displayName": l.Display, "regionalDisplayName": l.Regional,
			"metadata": map[string]any{"regionType": "Physical", "regionCategory": "Recommended", "geography": l.Geography, "geographyGroup": l.Geography},
		})
	}
	return list(out), nil
}

// checkResourceName is "Check Resource Name": whether a name is free of
// reserved words.
func checkResourceName(_ context.Context, r *arm.Request) (*arm.Response, error) {
	var in struct{ Name, Type string }
	if err := json.Unmarshal(r.Body, &in); err != nil || in.Name == "" || in.Type == "" {
		return nil, apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content needs 'name' and 'type'.")
	}
	for _, w := range []string{"login", "microsoft", "windows", "xbox"} {
		if strings.Contains(strings.ToLower(in.Name), w) {
			return nil, apierr.New(apierr.BadRequest, "ReservedResourceName", "The resource name '%s' or a part of the name is a trademarked or reserved word.", in.Name)
		}
	}
	return &arm.Response{Body: map[string]any{"name": in.Name, "type": in.Type, "status": "Allowed"}}, nil
}
