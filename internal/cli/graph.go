package cli

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// graph is the directory's interface (Microsoft Graph v1.0).
type graph struct {
	s    *session
	base string // ends in /v1.0
	aud  string
}

func (s *session) graph() (*graph, error) {
	c, err := s.cloud()
	if err != nil {
		return nil, err
	}
	aud, err := c.endpoint("microsoftGraphResourceId")
	if err != nil {
		return nil, err
	}
	return &graph{s: s, base: strings.TrimRight(aud, "/") + "/v1.0", aud: aud}, nil
}

// directed makes a command's run function of one that needs the directory.
func directed(f func(ctx context.Context, c *call, g *graph) (any, error)) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		g, err := c.graph()
		if err != nil {
			return nil, err
		}
		return f(ctx, c, g)
	}
}

func (g *graph) do(ctx context.Context, method, path string, body any) (any, error) {
	u := path
	if strings.HasPrefix(path, "/") {
		u = g.base + path
	}
	if !strings.HasPrefix(u, g.base) {
		return nil, failf("the address %s is not the directory's: no token is sent there", u)
	}
	a, err := g.s.send(ctx, request{method: method, url: u, body: body, resource: g.aud})
	if err != nil {
		return nil, err
	}
	if a.status >= 400 {
		return nil, readRemote(a, dialectPlain)
	}
	return decode(a.body)
}

func (g *graph) get(ctx context.Context, path string) (any, error) {
	return g.do(ctx, http.MethodGet, path, nil)
}

func (g *graph) post(ctx context.Context, path string, body any) (any, error) {
	return g.do(ctx, http.MethodPost, path, body)
}

func (g *graph) patch(ctx context.Context, path string, body any) error {
	_, err := g.do(ctx, http.MethodPatch, path, body)
	return err
}

func (g *graph) delete(ctx context.Context, path string) error {
	_, err := g.do(ctx, http.MethodDelete, path, nil)
	return err
}

// list reads all pages; filter is an OData expression, "" for all.
func (g *graph) list(ctx context.Context, path, filter string) ([]any, error) {
	if filter != "" {
		path += "?$filter=" + url.QueryEscape(filter)
	}
	all := []any{}
	for path != "" {
		v, err := g.get(ctx, path)
		if err != nil {
			return nil, err
		}
		all = append(all, items(at(v, "value"))...)
		path = textAt(v, "@odata.nextLink")
	}
	return all, nil
}

// quoted writes s as an OData text literal.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func isGUID(s string) bool {
	return regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`).MatchString(s)
}

// principal is a directory object that may hold a role.
type principal struct{ id, kind string }

// resolve finds a principal by user principal name, service principal name
// (application id) or object id.
func (g *graph) resolve(ctx context.Context, name string) (principal, error) {
	if strings.Contains(name, "@") {
		l, err := g.list(ctx, "/users", "userPrincipalName eq "+quoted(name))
		if err != nil || len(l) > 0 {
			return first(l, "User"), err
		}
	}
	l, err := g.list(ctx, "/servicePrincipals", "servicePrincipalNames/any(c:c eq "+quoted(name)+")")
	if err != nil || len(l) > 0 {
		return first(l, "ServicePrincipal"), err
	}
	if isGUID(name) {
		v, err := g.byIDs(ctx, []string{name})
		if err != nil {
			return principal{}, err
		}
		if o, ok := v[strings.ToLower(name)]; ok {
			return principal{textAt(o, "id"), capital(lastDot(textAt(o, "@odata.type")))}, nil
		}
	}
	return principal{}, failf("Cannot find user or service principal in graph database for '%s'. If the assignee is an appId, "+
		"make sure the corresponding service principal is created with 'az ad sp create --id %s'.", name, name)
}

func first(l []any, kind string) principal {
	if len(l) == 0 {
		return principal{}
	}
	return principal{textAt(l[0], "id"), kind}
}

func lastDot(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }

// byIDs reads directory objects by their ids; the keys are in lower case.
func (g *graph) byIDs(ctx context.Context, ids []string) (map[string]any, error) {
	out := map[string]any{}
	for len(ids) > 0 {
		n := min(len(ids), 1000)
		v, err := g.post(ctx, "/directoryObjects/getByIds", object{"ids": ids[:n],
			"types": []string{"user", "group", "servicePrincipal", "directoryObjectPartnerReference"}})
		if err != nil {
			return nil, err
		}
		for _, o := range items(at(v, "value")) {
			out[strings.ToLower(textAt(o, "id"))] = o
		}
		ids = ids[n:]
	}
	return out, nil
}

// displayed is how az names a principal in lists.
func displayed(o any) string {
	if upn := textAt(o, "userPrincipalName"); upn != "" {
		return upn
	}
	if names := items(at(o, "servicePrincipalNames")); len(names) > 0 {
		return scalar(names[0], "", "", "")
	}
	return firstNonEmpty(textAt(o, "appId"), textAt(o, "displayName"))
}
