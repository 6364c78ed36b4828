// Package resources is Microsoft.Resources: tenants, subscriptions, their
// locations and providers, resource groups, the lists of resources of all
// types, and tags; and the description of this cloud for clients.
//
// Sources: the REST API references of Subscriptions, Resource Groups,
// Resources, Providers and Tags.
package resources

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Namespace is the provider's.
const Namespace = "Microsoft.Resources"

// Versions are the api-versions of the namespace, newest first.
func Versions() []string { return versions() }

// versions are the api-versions of the whole namespace, newest first.
func versions() []string {
	return []string{
		"2025-04-01", "2025-03-01", "2024-11-01", "2024-07-01", "2024-03-01", "2023-07-01-preview", "2023-07-01", "2022-12-01", "2022-09-01",
		"2022-06-01", "2022-03-01-preview", "2022-01-01", "2021-04-01", "2021-01-01", "2020-10-01", "2020-09-01", "2020-08-01", "2020-06-01", "2020-05-01",
		"2020-01-01", "2019-11-01", "2019-10-01", "2019-09-01", "2019-08-01", "2019-07-01", "2019-06-01", "2019-05-10", "2019-05-01",
		"2019-03-01", "2018-11-01", "2018-09-01", "2018-08-01", "2018-07-01", "2018-06-01", "2018-05-01", "2018-02-01",
		"2018-01-01", "2017-08-01", "2017-06-01", "2017-05-10", "2017-05-01", "2017-03-01", "2016-09-01", "2016-07-01",
		"2016-06-01", "2016-02-01", "2015-11-01", "2015-01-01", "2014-04-01-preview", "2014-04-01",
	}
}

// Config is what the provider is made of.
type Config struct {
	Store      store.Store
	TenantID   string
	TenantName string         // as shown; "" is "Default Directory"
	Domain     string         // the tenant's default domain; "" is "lazurite.onmicrosoft.com"
	Providers  []arm.Provider // the others, for the lists of providers and types

	Routes    []arm.Route    // further types of the namespace
	Endpoints []arm.Endpoint // and endpoints

	// Sees reports whether the principal has any right on the subscription or
	// below it; nil: every caller does.
	Sees func(ctx context.Context, oid string, subscription rid.ID) (bool, error)
}

type service struct {
	cfg  Config
	res  arm.Resources
	self arm.Provider
}

// New makes the provider.
func New(cfg Config) arm.Provider {
	s := &service{cfg: cfg, res: arm.Resources{Store: cfg.Store}}
	s.self = arm.Provider{Namespace: Namespace, Routes: append([]arm.Route{arm.Serve(Namespace, groups())}, cfg.Routes...), Endpoints: cfg.Endpoints}
	for _, list := range [][]arm.Endpoint{s.subscriptions(), arm.ResourceLists(versions()), s.registration(), s.tags(), s.tagNames(), s.refused()} {
		s.self.Endpoints = append(s.self.Endpoints, list...)
	}
	return s.self
}

// providers are all, in the order of their names.
func (s *service) providers() []arm.Provider {
	all := append(slices.Clone(s.cfg.Providers), s.self)
	slices.SortFunc(all, func(a, b arm.Provider) int { return strings.Compare(a.Namespace, b.Namespace) })
	return all
}

// list wraps a list as ARM does.
func list[T any](items []T) *arm.Response {
	if items == nil {
		items = []T{}
	}
	return &arm.Response{Body: map[string]any{"value": items}}
}

// refused are operations of Azure that are not built. They say so.
func (s *service) refused() []arm.Endpoint {
	var out []arm.Endpoint
	add := func(method, path, code, message string) {
		out = append(out, arm.Endpoint{Method: method, Path: path, APIVersions: versions(), Handle: func(context.Context, *arm.Request) (*arm.Response, error) {
			return nil, apierr.New(apierr.NotImplemented, code, "%s", message)
		}})
	}
	const (
		sub    = "/subscriptions/{subscriptionId}"
		group  = sub + "/resourceGroups/{resourceGroupName}"
		deploy = "/providers/Microsoft.Resources/deployments/{deploymentName}"
		text   = "There are template deployments to resource groups and to subscriptions, not to the tenant."
	)
	for _, m := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodHead} {
		add(m, deploy, "TemplateDeploymentNotSupported", text)
	}
	for _, verb := range []string{"validate", "whatIf", "cancel", "exportTemplate"} {
		add(http.MethodPost, deploy+"/"+verb, "TemplateDeploymentNotSupported", text)
	}
	add(http.MethodPost, group+"/exportTemplate", "ExportTemplateNotSupported", "Export of templates is not built yet. `az resource list -g GROUP` shows what is in the group.")
	const move = "Resources can't be moved to another group: their ids would change under whoever uses them. Create the resource in the other group and delete this one."
	add(http.MethodPost, group+"/moveResources", "MoveResourcesNotSupported", move)
	add(http.MethodPost, group+"/validateMoveResources", "MoveResourcesNotSupported", move)
	return out
}
