package resources

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/arm"
)

// providerOperations is where all that roles can speak of is listed. Source:
// Azure RBAC REST reference, "Provider Operations Metadata".
const providerOperations = "/providers/Microsoft.Authorization/providerOperations"

// operation is one action of a provider.
type operation struct {
	Type, Verb                     string // resource type with its namespace; what follows it
	Name, DisplayName, Description string
	IsDataAction                   bool
}

// operationsOf are the actions that requests to a provider ask for: of its
// types, of its other endpoints, of its data plane.
func operationsOf(p arm.Provider) []operation {
	var names []string
	for _, rt := range p.Routes {
		names = append(names, rt.Operations()...)
	}
	for _, e := range p.Endpoints {
		if strings.HasPrefix(strings.ToLower(e.Action), strings.ToLower(p.Namespace)+"/") {
			names = append(names, e.Action)
		}
	}
	var out []operation
	add := func(name string, data bool) {
		parts := strings.Split(name, "/")
		n := len(parts) - 1 // "…/secrets/delete"
		if strings.EqualFold(parts[n], "action") && n > 2 {
			n-- // "…/secrets/getSecret/action"
		}
		verb := strings.Join(parts[n:], "/")
		typ := strings.Join(parts[:n], "/")
		what := strings.TrimSuffix(verb, "/action") + " " + strings.Join(parts[1:n], "/")
		out = append(out, operation{Type: typ, Verb: verb, Name: name, DisplayName: what, Description: what, IsDataAction: data})
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		add(n, false)
	}
	for _, n := range p.DataActions {
		add(n, true)
	}
	return out
}

func (s *service) allProviderOperations(_ context.Context, r *arm.Request) (*arm.Response, error) {
	var out []any
	for _, p := range s.providers() {
		out = append(out, wireOperations(p, r.HTTP))
	}
	return list(out), nil
}

func (s *service) providerOperations(_ context.Context, r *arm.Request) (*arm.Response, error) {
	p, err := s.provider(r.Params["namespace"])
	if err != nil {
		return nil, err
	}
	return &arm.Response{Body: wireOperations(p, r.HTTP)}, nil
}

// wireOperations groups a provider's operations by type, where $expand asks for
// types; those of no type stand beside them.
func wireOperations(p arm.Provider, r *http.Request) map[string]any {
	byType := map[string][]any{}
	for _, op := range operationsOf(p) {
		byType[op.Type] = append(byType[op.Type], map[string]any{
			"name": op.Name, "displayName": op.DisplayName, "description": op.Description, "origin": "user,system", "properties": nil, "isDataAction": op.IsDataAction,
		})
	}
	m := map[string]any{
		"id": providerOperations + "/" + p.Namespace, "name": p.Namespace, "type": "Microsoft.Authorization/providerOperations",
		"displayName": p.Namespace, "operations": []any{}, "resourceTypes": []any{},
	}
	if ops := byType[p.Namespace]; ops != nil {
		m["operations"] = ops
		delete(byType, p.Namespace)
	}
	if !strings.EqualFold(r.URL.Query().Get("$expand"), "resourceTypes") {
		return m
	}
	var types []any
	for typ, ops := range byType {
		name := strings.TrimPrefix(typ, p.Namespace+"/")
		types = append(types, map[string]any{"name": name, "displayName": name, "operations": ops})
	}
	slices.SortFunc(types, func(a, b any) int {
		return strings.Compare(a.(map[string]any)["name"].(string), b.(map[string]any)["name"].(string))
	})
	m["resourceTypes"] = types
	return m
}
