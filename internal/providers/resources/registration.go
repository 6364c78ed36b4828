package resources

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	registered   = "Registered"
	unregistered = "Unregistered"
)

func registrationKey(sub, ns string) string {
	return "registration/" + strings.ToLower(sub) + "/" + strings.ToLower(ns)
}

// Registered says whether the subscription may write resources of the
// namespace. Every provider is registered until somebody unregisters it.
func Registered(ctx context.Context, st store.Store, sub, ns string) (bool, error) {
	doc, err := st.Get(ctx, registrationKey(sub, ns))
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return string(doc.Value) == registered, err
}

func (s *service) registration() []arm.Endpoint {
	const sub = "/subscriptions/{subscriptionId}"
	end := func(method, path, action string, h func(context.Context, *arm.Request) (*arm.Response, error)) arm.Endpoint {
		return arm.Endpoint{Method: method, Path: path, Action: action, APIVersions: versions(), Handle: h}
	}
	return []arm.Endpoint{
		end(http.MethodGet, "/providers", "", s.listProviders),
		end(http.MethodGet, "/providers/{namespace}", "", s.getProvider),
		{Method: http.MethodGet, Path: "/providers/{namespace}/operations", Handle: s.operations}, // any api-version: each provider has its own
		{Method: http.MethodGet, Path: providerOperations, APIVersions: []string{"2022-04-01", "2018-01-01-preview", "2015-07-01"}, Handle: s.allProviderOperations},
		{Method: http.MethodGet, Path: providerOperations + "/{namespace}", APIVersions: []string{"2022-04-01", "2018-01-01-preview", "2015-07-01"}, Handle: s.providerOperations},
		end(http.MethodGet, sub+"/providers", "Microsoft.Resources/subscriptions/providers/read", s.listProviders),
		end(http.MethodGet, sub+"/providers/{namespace}", "Microsoft.Resources/subscriptions/providers/read", s.getProvider),
		end(http.MethodPost, sub+"/providers/{namespace}/register", "", s.setRegistration(registered)),
		end(http.MethodPost, sub+"/providers/{namespace}/unregister", "", s.setRegistration(unregistered)),
	}
}

func (s *service) listProviders(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	var out []any
	for _, p := range s.providers() {
		m, err := s.wire(ctx, r.Params["subscriptionId"], p)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return list(out), nil
}

func (s *service) getProvider(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	p, err := s.provider(r.Params["namespace"])
	if err != nil {
		return nil, err
	}
	m, err := s.wire(ctx, r.Params["subscriptionId"], p)
	return &arm.Response{Body: m}, err
}

// operations is "Operations - List", which every provider has.
func (s *service) operations(_ context.Context, r *arm.Request) (*arm.Response, error) {
	p, err := s.provider(r.Params["namespace"])
	if err != nil {
		return nil, err
	}
	var out []any
	for _, op := range operationsOf(p) {
		typ := strings.TrimPrefix(op.Type, p.Namespace+"/")
		out = append(out, map[string]any{"name": op.Name, "isDataAction": op.IsDataAction, "origin": "user,system", "display": map[string]any{
			"provider": p.Namespace, "resource": typ, "operation": op.Verb, "description": op.Description,
		}})
	}
	return list(out), nil
}

func (s *service) provider(ns string) (arm.Provider, error) {
	all := s.providers()
	i := slices.IndexFunc(all, func(p arm.Provider) bool { return strings.EqualFold(p.Namespace, ns) })
	if i < 0 {
		return arm.Provider{}, apierr.New(apierr.NotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", ns)
	}
	return all[i], nil
}

// wire is a provider as "Providers - Get" shows it.
func (s *service) wire(ctx context.Context, sub string, p arm.Provider) (map[string]any, error) {
	m := map[string]any{"namespace": p.Namespace, "id": "/providers/" + p.Namespace, "registrationPolicy": "RegistrationRequired", "resourceTypes": types(p)}
	if sub == "" {
		return m, nil
	}
	ok, err := Registered(ctx, s.cfg.Store, sub, p.Namespace)
	m["id"] = "/subscriptions/" + sub + "/providers/" + p.Namespace
	m["registrationState"] = unregistered
	if ok {
		m["registrationState"] = registered
	}
	return m, err
}

func types(p arm.Provider) []any {
	var regions []string
	for _, l := range arm.Locations() {
		if l.Name != "global" {
			regions = append(regions, l.Display)
		}
	}
	out := []any{}
	for _, rt := range p.Routes {
		_, typ, _ := strings.Cut(rt.Type, "/")
		m := map[string]any{"resourceType": typ, "locations": []string{}, "apiVersions": rt.APIVersions, "defaultApiVersion": stable(rt.APIVersions), "capabilities": "None"}
		if rt.Tracked {
			m["locations"], m["capabilities"] = regions, "CrossResourceGroupResourceMove, CrossSubscriptionResourceMove, SupportsTags, SupportsLocation"
			if rt.Scopes&arm.ResourceGroup != 0 {
				m["capabilities"] = "SupportsTags, SupportsLocation" // nothing here can be moved
			}
		}
		out = append(out, m)
	}
	return out
}

// stable is the newest version that is no preview.
func stable(list []string) string {
	for _, v := range list {
		if !strings.Contains(v, "preview") {
			return v
		}
	}
	return list[0]
}

func (s *service) setRegistration(state string) func(context.Context, *arm.Request) (*arm.Response, error) {
	return func(ctx context.Context, r *arm.Request) (*arm.Response, error) {
		p, err := s.provider(r.Params["namespace"])
		if err != nil {
			return nil, err
		}
		sub := r.Params["subscriptionId"]
		if err := s.mayRegister(ctx, p, sub, state); err != nil {
			return nil, err
		}
		if state == unregistered {
			if err := s.unused(ctx, p, sub); err != nil {
				return nil, err
			}
		}
		key := registrationKey(sub, p.Namespace)
		doc, err := s.cfg.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if _, err := s.cfg.Store.Put(ctx, store.Doc{Key: key, Rev: doc.Rev, Kind: "registration", Value: []byte(state)}); err != nil && !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
		m, err := s.wire(ctx, sub, p)
		return &arm.Response{Body: m}, err
	}
}

// mayRegister asks the policy for the action of the provider itself, as Azure does.
func (s *service) mayRegister(ctx context.Context, p arm.Provider, sub, state string) error {
	verb := "register"
	if state == unregistered {
		verb = "unregister"
	}
	return arm.Authorise(ctx, p.Namespace+"/"+verb+"/action", rid.MustParse("/subscriptions/"+sub))
}

// unused refuses to unregister what is in use.
func (s *service) unused(ctx context.Context, p arm.Provider, sub string) error {
	if p.Namespace == Namespace {
		return apierr.New(apierr.Conflict, "ProviderCannotBeUnregistered", "The provider '%s' cannot be unregistered.", p.Namespace)
	}
	for _, rt := range p.Routes {
		found, err := s.res.List(ctx, rid.MustParse("/subscriptions/"+sub), rt.Type, "", 1)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return apierr.New(apierr.Conflict, "ProviderInUse",
				"The provider '%s' cannot be unregistered while the subscription has resources of its types, such as '%s'.", p.Namespace, found[0].ID)
		}
	}
	return nil
}
