package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// nobody is the user name that goes with a token of a registry.
const nobody = "00000000-0000-0000-0000-000000000000"

// registry is the data plane of one container registry.
type registry struct {
	m      *management
	server string // login server, with a port where it has one
	tokens map[string]string
}

// registryAt finds the login server of a registry: by the resource, or where
// the caller may not see that, by the name.
func (c *call) registryAt(ctx context.Context, m *management, name string) (*registry, error) {
	r := &registry{m: m, tokens: map[string]string{}}
	if id, err := m.findByName(ctx, registryType, name); err == nil {
		v, err := m.get(ctx, id, registryVersion)
		if err != nil {
			return nil, err
		}
		if r.server = textAt(v, "properties", "loginServer"); r.server != "" {
			return r, nil
		}
	}
	cl, err := c.cloud()
	if err != nil {
		return nil, err
	}
	suffix, err := cl.suffix("acrLoginServerEndpoint")
	if err != nil {
		return nil, err
	}
	r.server = strings.ToLower(name) + "." + strings.TrimPrefix(suffix, ".")
	if strings.ContainsFunc(name, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9') }) {
		return nil, usagef("argument --name: '%s' is no name of a registry", name)
	}
	return r, nil
}

// inRegistry makes a run function of one that needs the registry.
func inRegistry(f func(ctx context.Context, c *call, r *registry) (any, error)) func(context.Context, *call) (any, error) {
	return manage(func(ctx context.Context, c *call, m *management) (any, error) {
		r, err := c.registryAt(ctx, m, c.text("name"))
		if err != nil {
			return nil, err
		}
		return f(ctx, c, r)
	})
}

// form posts to the registry's token endpoints.
func (r *registry) form(ctx context.Context, path string, form url.Values) (any, error) {
	form.Set("service", r.server)
	a, err := r.m.s.send(ctx, request{method: http.MethodPost, url: "https://" + r.server + path, body: form})
	if err != nil {
		return nil, err
	}
	if a.status >= 400 {
		return nil, readRegistry(a)
	}
	return decode(a.body)
}

// refreshToken exchanges the caller's token for one of the registry.
func (r *registry) refreshToken(ctx context.Context) (string, error) {
	t, err := r.m.s.token(ctx, request{resource: r.m.aud})
	if err != nil {
		return "", err
	}
	v, err := r.form(ctx, "/oauth2/exchange", url.Values{"grant_type": {"access_token"}, "tenant": {r.m.acct.TenantID}, "access_token": {t}})
	return textAt(v, "refresh_token"), err
}

// accessToken gets a token for a scope.
func (r *registry) accessToken(ctx context.Context, scope string) (string, error) {
	if t := r.tokens[scope]; t != "" {
		return t, nil
	}
	refresh, err := r.refreshToken(ctx)
	if err != nil {
		return "", err
	}
	v, err := r.form(ctx, "/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "scope": {scope}})
	r.tokens[scope] = textAt(v, "access_token")
	return r.tokens[scope], err
}

// do calls the registry.
func (r *registry) do(ctx context.Context, scope, method, path string) (*answer, error) {
	t, err := r.accessToken(ctx, scope)
	if err != nil {
		return nil, err
	}
	a, err := r.m.s.send(ctx, request{method: method, url: "https://" + r.server + path, header: http.Header{"Authorization": {"Bearer " + t}}})
	if err != nil {
		return nil, err
	}
	if a.status >= 400 {
		return nil, readRegistry(a)
	}
	return a, nil
}

// readRegistry reads an error as the distribution specification writes it.
func readRegistry(a *answer) error {
	var v struct {
		Errors []struct{ Code, Message string }
	}
	e := readRemote(a, dialectODATA)
	if json.Unmarshal(a.body, &v) == nil && len(v.Errors) > 0 {
		e.err.Code, e.err.Message = v.Errors[0].Code, v.Errors[0].Message
	}
	return e
}

const acrPage = "100"

// pages reads a list to its end.
func (r *registry) pages(ctx context.Context, scope, path, member string, name func(any) string) ([]any, error) {
	all, last := []any{}, ""
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	for {
		a, err := r.do(ctx, scope, http.MethodGet, path+sep+"n="+acrPage+"&last="+url.QueryEscape(last))
		if err != nil {
			return nil, err
		}
		v, err := decode(a.body)
		if err != nil {
			return nil, err
		}
		l := items(at(v, member))
		all = append(all, l...)
		if a.header.Get("Link") == "" || len(l) == 0 {
			return all, nil
		}
		last = name(l[len(l)-1])
	}
}

// splitImage takes NAME:TAG or NAME@DIGEST to pieces.
func splitImage(s string) (repo, ref string, byDigest bool) {
	if name, d, ok := strings.Cut(s, "@"); ok {
		return name, d, true
	}
	if i := strings.LastIndex(s, ":"); i > strings.LastIndex(s, "/") {
		return s[:i], s[i+1:], false
	}
	return s, "latest", false
}

// oneOfImage says whether a repository or an image was given, and not both.
func (c *call) oneOfImage() error {
	if (c.text("repository") == "") == (c.text("image") == "") {
		return usagef("Usage error: --image IMAGE | --repository REPOSITORY")
	}
	return nil
}

func (r *registry) show(ctx context.Context, c *call) (any, error) {
	if err := c.oneOfImage(); err != nil {
		return nil, err
	}
	repo, path, member := c.text("repository"), "", ""
	if repo == "" {
		var ref string
		var byDigest bool
		repo, ref, byDigest = splitImage(c.text("image"))
		path, member = "/_tags/"+ref, "tag"
		if byDigest {
			path, member = "/_manifests/"+ref, "manifest"
		}
	}
	a, err := r.do(ctx, "repository:"+repo+":metadata_read", http.MethodGet, "/acr/v1/"+repo+path)
	if err != nil {
		return nil, err
	}
	v, err := decode(a.body)
	if member != "" {
		v = at(v, member)
	}
	return v, err
}

func (r *registry) remove(ctx context.Context, c *call) (any, error) {
	if err := c.oneOfImage(); err != nil {
		return nil, err
	}
	if repo := c.text("repository"); repo != "" {
		if err := c.confirm("Are you sure you want to delete the repository '" + repo + "' and all images under it?"); err != nil {
			return nil, err
		}
		a, err := r.do(ctx, "repository:"+repo+":delete", http.MethodDelete, "/acr/v1/"+repo)
		if err != nil {
			return nil, err
		}
		return decode(a.body)
	}
	repo, ref, byDigest := splitImage(c.text("image"))
	scope := "repository:" + repo + ":delete,metadata_read"
	if !byDigest {
		a, err := r.do(ctx, scope, http.MethodGet, "/acr/v1/"+repo+"/_tags/"+ref)
		if err != nil {
			return nil, err
		}
		v, err := decode(a.body)
		if err != nil {
			return nil, err
		}
		ref = textAt(v, "tag", "digest")
	}
	if err := c.confirm("This operation will delete the manifest '" + ref + "' and all its tags. Are you sure you want to continue?"); err != nil {
		return nil, err
	}
	_, err := r.do(ctx, scope, http.MethodDelete, "/v2/"+repo+"/manifests/"+ref)
	return nil, err
}
