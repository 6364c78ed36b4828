package distribution

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
)

const maxPage = 1000

func decimalOf(n int64) string { return strconv.FormatInt(n, 10) }

func nameUnknown(repo string) error {
	return apierr.New(apierr.NotFound, "NAME_UNKNOWN", "repository \"%s\" is not found", clip(repo))
}

// page is how much of a list a request asks for.
func page(q url.Values) (n int, err error) {
	if !q.Has("n") {
		return maxPage, nil
	}
	v, ok := decimal(q.Get("n"))
	if !ok {
		return 0, apierr.New(apierr.BadRequest, "PAGINATION_NUMBER_INVALID", "The number '%s' of entries is none.", clip(q.Get("n")))
	}
	return int(min(v, maxPage)), nil
}

// next is the header that points at the rest of a list. Source: distribution
// specification, "Listing Tags"; RFC 8288.
func next(c *gate.Call, last string, n int) http.Header {
	q := c.Request.URL.Query()
	q.Set("last", last)
	q.Set("n", strconv.Itoa(n))
	return http.Header{"Link": {"<" + c.Request.URL.EscapedPath() + "?" + q.Encode() + `>; rel="next"`}}
}

// paged cuts a list off after n entries; the header points at the rest.
func paged[T any](c *gate.Call, all []T, n int, name func(T) string) ([]T, http.Header) {
	if len(all) <= n {
		return all, http.Header{}
	}
	all = all[:n]
	if n == 0 {
		return all, http.Header{}
	}
	return all, next(c, name(all[n-1]), n)
}

func ok(h http.Header, body any) *gate.Reply {
	return &gate.Reply{Status: http.StatusOK, Header: h, Body: body}
}

// catalog is GET /v2/_catalog and /acr/v1/_catalog.
func (p *Plane) catalog(c *gate.Call) (any, error) {
	q := c.Request.URL.Query()
	n, err := page(q)
	if err != nil {
		return nil, err
	}
	names := []string{}
	err = each(c.Context, p.index(registryOf(c).UID), repoKeys, q.Get("last"), func(name string, _ repoDoc) (bool, error) {
		names = append(names, name)
		return len(names) <= n, nil
	})
	if err != nil {
		return nil, err
	}
	names, h := paged(c, names, n, func(s string) string { return s })
	return ok(h, map[string]any{"repositories": names}), nil
}

// repository reads a repository.
func (p *Plane) repository(c *gate.Call) (repoDoc, error) {
	r, _, there, err := get[repoDoc](c.Context, p.index(registryOf(c).UID), repoKeys+c.Params["name"])
	if err == nil && !there {
		err = nameUnknown(c.Params["name"])
	}
	return r, err
}

// tagList is GET /v2/NAME/tags/list.
func (p *Plane) tagList(c *gate.Call) (any, error) {
	q, repo := c.Request.URL.Query(), c.Params["name"]
	n, err := page(q)
	if err != nil {
		return nil, err
	}
	if _, err := p.repository(c); err != nil {
		return nil, err
	}
	tags := []string{}
	err = each(c.Context, p.index(registryOf(c).UID), tagKeys+repo+":", q.Get("last"), func(tag string, _ tagDoc) (bool, error) {
		tags = append(tags, tag)
		return len(tags) <= n, nil
	})
	if err != nil {
		return nil, err
	}
	tags, h := paged(c, tags, n, func(s string) string { return s })
	return ok(h, map[string]any{"name": repo, "tags": tags}), nil
}

// referrers is GET /v2/NAME/referrers/DIGEST. Source: distribution
// specification, "Listing Referrers".
func (p *Plane) referrers(c *gate.Call) (any, error) {
	d, good := parseDigest(c.Params["digest"])
	if !good {
		return nil, badDigest(c.Params["digest"])
	}
	q := c.Request.URL.Query()
	n, err := page(q)
	if err != nil {
		return nil, err
	}
	list, kind, last := []descriptor{}, q.Get("artifactType"), ""
	h := http.Header{}
	err = each(c.Context, p.index(registryOf(c).UID), referKeys+c.Params["name"]+":"+d.String()+":", q.Get("last"), func(rest string, v descriptor) (bool, error) {
		if kind != "" && v.ArtifactType != kind {
			return true, nil
		}
		if len(list) == n {
			h = next(c, last, n)
			return false, nil
		}
		list, last = append(list, v), rest
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if kind != "" {
		h.Set("OCI-Filters-Applied", "artifactType")
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": list})
	if err != nil {
		return nil, err
	}
	return gate.Answer(func(w http.ResponseWriter) error {
		for k, v := range h {
			w.Header()[k] = v
		}
		return writeRaw(w, c.Request, typeIndex, raw)
	}), nil
}
