package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// management is the resource manager of the active cloud, in the account's
// subscription.
type management struct {
	s       *session
	base    string // no trailing slash
	aud     string
	acct    *account
	subPath string // "/subscriptions/ID"
}

func (s *session) arm() (*management, error) {
	c, err := s.cloud()
	if err != nil {
		return nil, err
	}
	a, err := s.account()
	if err != nil {
		return nil, err
	}
	base, err := c.endpoint("resourceManager")
	if err != nil {
		return nil, err
	}
	aud, err := c.endpoint("activeDirectoryResourceId")
	if err != nil {
		return nil, err
	}
	return &management{s: s, base: strings.TrimRight(base, "/"), aud: aud, acct: a, subPath: "/subscriptions/" + a.ID}, nil
}

// groupPath is the id of a resource group.
func (m *management) groupPath(group string) string {
	return m.subPath + "/resourceGroups/" + url.PathEscape(group)
}

// resource is the id of a resource: type "Microsoft.X/a/b" takes two names.
func (m *management) resource(group, typ string, names ...string) string {
	parts := strings.Split(typ, "/")
	var b strings.Builder
	b.WriteString(m.groupPath(group) + "/providers/" + parts[0])
	for i, t := range parts[1:] {
		b.WriteString("/" + t)
		if i < len(names) {
			b.WriteString("/" + url.PathEscape(names[i]))
		}
	}
	return b.String()
}

// do calls path, which begins with a slash or is a whole URL of the manager.
func (m *management) do(ctx context.Context, method, path, version string, body any, query ...string) (*answer, error) {
	u := path
	if strings.HasPrefix(path, "/") {
		u = m.base + path
	}
	sep := "?"
	if strings.Contains(u, "?") {
		sep = "&"
	}
	if version != "" {
		u += sep + "api-version=" + version
		sep = "&"
	}
	for i := 0; i+1 < len(query); i += 2 {
		u += sep + query[i] + "=" + url.QueryEscape(query[i+1])
		sep = "&"
	}
	if !strings.HasPrefix(strings.ToLower(u), strings.ToLower(m.base)) {
		return nil, failf("the address %s is not the resource manager's: no token is sent there", u)
	}
	a, err := m.s.send(ctx, request{method: method, url: u, body: body, resource: m.aud})
	if err != nil {
		return nil, err
	}
	if a.status >= 400 {
		return nil, readRemote(a, dialectODATA)
	}
	for _, w := range a.header.Values(warningHeader) {
		m.s.warn("WARNING: %s", printable(w))
	}
	return a, nil
}

// warningHeader is in which header Lazurite says what the user should know
// beside an answer that is a success.
const warningHeader = "x-laz-warning"

func (m *management) get(ctx context.Context, path, version string, query ...string) (any, error) {
	a, err := m.do(ctx, http.MethodGet, path, version, nil, query...)
	if err != nil {
		return nil, err
	}
	return decode(a.body)
}

// list reads all pages.
func (m *management) list(ctx context.Context, path, version string, query ...string) ([]any, error) {
	all := []any{}
	for {
		v, err := m.get(ctx, path, version, query...)
		if err != nil {
			return nil, err
		}
		all = append(all, items(at(v, "value"))...)
		if path = textAt(v, "nextLink"); path == "" {
			return all, nil
		}
		version, query = "", nil
	}
}

// post calls an action.
func (m *management) post(ctx context.Context, path, version string, body any) (any, error) {
	if body == nil {
		body = []byte{}
	}
	a, err := m.change(ctx, http.MethodPost, path, version, body)
	if err != nil {
		return nil, err
	}
	if a, err = m.finish(ctx, http.MethodPost, path, version, a); err != nil {
		return nil, err
	}
	return decode(a.body)
}

// put writes a whole resource and waits for the end unless noWait.
func (m *management) put(ctx context.Context, path, version string, body any, noWait bool) (any, error) {
	return m.write(ctx, http.MethodPut, path, version, body, noWait)
}

func (m *management) patch(ctx context.Context, path, version string, body any, noWait bool) (any, error) {
	return m.write(ctx, http.MethodPatch, path, version, body, noWait)
}

func (m *management) write(ctx context.Context, method, path, version string, body any, noWait bool) (any, error) {
	a, err := m.change(ctx, method, path, version, body)
	if err != nil || noWait {
		return nil, err
	}
	if a, err = m.finish(ctx, method, path, version, a); err != nil {
		return nil, err
	}
	return decode(a.body)
}

// delete removes a resource; one that isn't there is no error, as in az.
func (m *management) delete(ctx context.Context, path, version string, noWait bool, query ...string) error {
	a, err := m.do(ctx, http.MethodDelete, path, version, nil, query...)
	if err != nil || noWait {
		return err
	}
	_, err = m.finish(ctx, http.MethodDelete, path, version, a)
	return err
}

// change does a request, and once more after registering the provider that
// the subscription lacks.
func (m *management) change(ctx context.Context, method, path, version string, body any) (*answer, error) {
	a, err := m.do(ctx, method, path, version, body)
	if !isCode(err, "MissingSubscriptionRegistration") {
		return a, err
	}
	ns := namespaceOf(path)
	if ns == "" {
		return nil, err
	}
	m.s.warn("Resource provider '%s' used by this operation is not registered. We are registering for you.", ns)
	if err := m.register(ctx, ns); err != nil {
		return nil, err
	}
	m.s.warn("Registration succeeded.")
	return m.do(ctx, method, path, version, body)
}

func namespaceOf(path string) string {
	i := strings.LastIndex(strings.ToLower(path), "/providers/")
	if i < 0 {
		return ""
	}
	ns, _, _ := strings.Cut(path[i+len("/providers/"):], "/")
	return ns
}

const resourcesVersion = "2021-04-01"

func (m *management) register(ctx context.Context, ns string) error {
	path := m.subPath + "/providers/" + url.PathEscape(ns)
	v, err := m.post(ctx, path+"/register", resourcesVersion, nil)
	for err == nil && textAt(v, "registrationState") != "Registered" {
		if err = pause(ctx, 2*time.Second); err == nil {
			v, err = m.get(ctx, path, resourcesVersion)
		}
	}
	return err
}

// locationOf is the region for a new resource: --location, else the group's.
func (m *management) locationOf(ctx context.Context, c *call) (string, error) {
	if l := c.text("location"); l != "" {
		return plainLocation(l), nil
	}
	v, err := m.get(ctx, m.groupPath(c.text("resource-group")), resourcesVersion)
	if err != nil {
		return "", err
	}
	return textAt(v, "location"), nil
}

// plainLocation is the name of a region: "East US" is "eastus".
func plainLocation(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

// findByName gives the id of the only resource of a type and name.
func (m *management) findByName(ctx context.Context, typ, name string) (string, error) {
	all, err := m.list(ctx, m.subPath+"/resources", resourcesVersion, "$filter", fmt.Sprintf("resourceType eq '%s'", typ))
	if err != nil {
		return "", err
	}
	for _, r := range all {
		if strings.EqualFold(textAt(r, "name"), name) {
			return textAt(r, "id"), nil
		}
	}
	return "", notFoundf("The Resource '%s/%s' was not found within subscription '%s'.", typ, name, m.acct.ID)
}

// manage makes a command's run function of one that needs the resource manager.
func manage(f func(ctx context.Context, c *call, m *management) (any, error)) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		m, err := c.arm()
		if err != nil {
			return nil, err
		}
		return f(ctx, c, m)
	}
}

// listPath is where a type is listed: in the group that was given, else in
// the subscription.
func (m *management) listPath(group, typ string) string {
	if group != "" {
		return m.groupPath(group) + "/providers/" + typ
	}
	return m.subPath + "/providers/" + typ
}
