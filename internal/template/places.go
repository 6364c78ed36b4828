package template

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// placeFunctions are those about where the deployment goes, and ids.
func placeFunctions() map[string]builtin {
	fact := func(f func(e Env) (any, error)) builtin {
		return builtin{0, 0, func(s *scope, _ []any) (any, error) { return f(s.d.home().in.Env) }}
	}
	return map[string]builtin{
		"subscription":  fact(func(e Env) (any, error) { return e.subscription(), nil }),
		"resourcegroup": fact(Env.group),
		"tenant":        fact(func(e Env) (any, error) { return map[string]any{"tenantId": e.TenantID, "id": "/"}, nil }),
		"environment": fact(func(e Env) (any, error) {
			if e.Cloud == nil {
				return map[string]any{}, nil
			}
			return plain(e.Cloud), nil
		}),
		"deployer": fact(func(e Env) (any, error) {
			return map[string]any{"tenantId": e.TenantID, "objectId": e.Caller["objectId"], "userPrincipalName": e.Caller["userPrincipalName"]}, nil
		}),
		"deployment":                {0, 0, func(s *scope, _ []any) (any, error) { return s.d.home().facts(), nil }},
		"resourceid":                {2, -1, func(s *scope, a []any) (any, error) { return resourceID(s.d.home().in.Env, a) }},
		"subscriptionresourceid":    {2, -1, func(s *scope, a []any) (any, error) { return subscriptionResourceID(s.d.home().in.Env, a) }},
		"tenantresourceid":          {2, -1, func(_ *scope, a []any) (any, error) { return underScope("", a) }},
		"extensionresourceid":       {3, -1, func(_ *scope, a []any) (any, error) { return extensionResourceID(a) }},
		"pickzones":                 {3, 5, func(*scope, []any) (any, error) { return []any{}, nil }},
		"managementgroup":           {0, 1, noManagementGroups},
		"managementgroupresourceid": {2, -1, noManagementGroups},
		"providers": {1, 2, func(*scope, []any) (any, error) {
			return nil, errors.New("the template function 'providers' is deprecated and not supported: write the api-version")
		}},
	}
}

func noManagementGroups(*scope, []any) (any, error) {
	return nil, errors.New("there are no management groups here")
}

func (e Env) subscription() map[string]any {
	return map[string]any{"id": "/subscriptions/" + e.SubscriptionID, "subscriptionId": e.SubscriptionID, "tenantId": e.TenantID, "displayName": e.SubscriptionName}
}

func (e Env) group() (any, error) {
	if e.Group == nil {
		return nil, errors.New("the template function 'resourceGroup' is not expected at this location: the deployment is to a subscription")
	}
	tags := map[string]any{}
	for k, v := range e.Group.Tags {
		tags[k] = v
	}
	return map[string]any{
		"id": e.Scope(), "name": e.Group.Name, "type": "Microsoft.Resources/resourceGroups", "location": e.Group.Location, "tags": tags,
		"properties": map[string]any{"provisioningState": "Succeeded"},
	}, nil
}

// facts is what deployment() gives.
func (d *Deployment) facts() map[string]any {
	params := map[string]any{}
	for _, p := range d.params {
		if p.state == 2 && !p.secure {
			params[p.name] = map[string]any{"value": p.value}
		}
	}
	m := map[string]any{"name": d.in.Env.Name, "properties": map[string]any{
		"template":   map[string]any{"$schema": d.t.Schema, "contentVersion": d.t.ContentVersion},
		"parameters": params, "mode": "Incremental", "provisioningState": "Accepted",
	}}
	if d.in.Env.Group == nil {
		m["location"] = d.in.Env.Location
	}
	return m
}

var subscriptionPattern = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func texts(a []any) ([]string, error) {
	out := make([]string, len(a))
	for i := range a {
		var err error
		if out[i], err = textArg(a, i); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// resourceID is resourceId([subscription], [group], type, names…).
func resourceID(e Env, a []any) (any, error) {
	t, err := texts(a)
	if err != nil {
		return nil, err
	}
	at := 0
	for at < len(t) && !strings.Contains(t[at], "/") {
		at++
	}
	if at > 2 || at == len(t) {
		return nil, errors.New("a fully qualified resource type is expected, after at most a subscription id and a resource group's name")
	}
	scope := e.Scope()
	sub, group := e.SubscriptionID, ""
	if e.Group != nil {
		group = e.Group.Name
	}
	switch {
	case at == 2:
		sub, group = t[0], t[1]
	case at == 1 && subscriptionPattern.MatchString(t[0]):
		if sub = t[0]; e.Group != nil {
			return nil, errors.New("a resource group's name is expected after the subscription id")
		}
	case at == 1:
		group = t[0]
	}
	if at > 0 {
		if scope = "/subscriptions/" + sub; group != "" {
			scope += "/resourceGroups/" + group
		}
	}
	return qualified(scope, t[at:])
}

func subscriptionResourceID(e Env, a []any) (any, error) {
	t, err := texts(a)
	if err != nil {
		return nil, err
	}
	sub := e.SubscriptionID
	if !strings.Contains(t[0], "/") {
		sub, t = t[0], t[1:]
	}
	return qualified("/subscriptions/"+sub, t)
}

func extensionResourceID(a []any) (any, error) {
	t, err := texts(a)
	if err != nil {
		return nil, err
	}
	return qualified(strings.TrimSuffix(t[0], "/"), t[1:])
}

func underScope(scope string, a []any) (any, error) {
	t, err := texts(a)
	if err != nil {
		return nil, err
	}
	return qualified(scope, t)
}

// qualified makes the id of type and names under a scope.
func qualified(scope string, t []string) (any, error) {
	if len(t) == 0 {
		return nil, errors.New("a resource type is expected")
	}
	id, err := joinID(scope, t[0], t[1:])
	if err != nil {
		return nil, err
	}
	return id, nil
}

// joinID interleaves a type's segments with names.
func joinID(scope, typ string, names []string) (string, error) {
	segs := strings.Split(strings.Trim(typ, "/"), "/")
	if len(segs) < 2 || len(segs)-1 != len(names) {
		return "", fmt.Errorf("the type '%s' requires '%d' resource name argument(s)", typ, max(1, len(segs)-1))
	}
	if strings.EqualFold(typ, "Microsoft.Resources/resourceGroups") && strings.Count(scope, "/") == 2 {
		return scope + "/resourceGroups/" + names[0], nil
	}
	var b strings.Builder
	b.WriteString(scope + "/providers/" + segs[0])
	for i, n := range names {
		b.WriteString("/" + segs[i+1] + "/" + n)
	}
	return b.String(), nil
}
