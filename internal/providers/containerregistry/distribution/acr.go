package distribution

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
)

// changeable is what may be done with everything: nothing is locked.
type changeable struct {
	Delete bool `json:"deleteEnabled"`
	Write  bool `json:"writeEnabled"`
	List   bool `json:"listEnabled"`
	Read   bool `json:"readEnabled"`
}

func free() changeable { return changeable{true, true, true, true} }

// stamp is a time as the service writes it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

type acrTagView struct {
	Name       string     `json:"name"`
	Digest     string     `json:"digest"`
	Created    string     `json:"createdTime"`
	Updated    string     `json:"lastUpdateTime"`
	Signed     bool       `json:"signed"`
	Changeable changeable `json:"changeableAttributes"`
}

type acrManifestView struct {
	Digest     string     `json:"digest"`
	Size       int64      `json:"imageSize"`
	Created    string     `json:"createdTime"`
	Updated    string     `json:"lastUpdateTime"`
	Arch       string     `json:"architecture,omitempty"`
	OS         string     `json:"os,omitempty"`
	MediaType  string     `json:"mediaType"`
	ConfigType string     `json:"configMediaType,omitempty"`
	Tags       []string   `json:"tags,omitempty"`
	Changeable changeable `json:"changeableAttributes"`
}

// about begins an answer about a repository.
func about(c *gate.Call) map[string]any {
	return map[string]any{"registry": c.Request.Host, "imageName": c.Params["name"]}
}

func (p *Plane) allTags(c *gate.Call) ([]acrTagView, error) {
	if _, err := p.repository(c); err != nil {
		return nil, err
	}
	list := []acrTagView{}
	err := each(c.Context, p.index(registryOf(c).UID), tagKeys+c.Params["name"]+":", "", func(tag string, t tagDoc) (bool, error) {
		list = append(list, acrTagView{Name: tag, Digest: t.Digest, Created: stamp(t.Created), Updated: stamp(t.Updated), Changeable: free()})
		return true, nil
	})
	return list, err
}

// sorted is a list in the order that was asked for, after the entry last.
func sorted[T any](c *gate.Call, list []T, name, when func(T) string) ([]T, http.Header, error) {
	q := c.Request.URL.Query()
	n, err := page(q)
	if err != nil {
		return nil, nil, err
	}
	switch order := strings.ToLower(q.Get("orderby")); order {
	case "", "none":
	case "timedesc", "time_desc":
		slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(when(b), when(a)) })
	case "timeasc", "time_asc":
		slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(when(a), when(b)) })
	default:
		return nil, nil, apierr.New(apierr.BadRequest, "UNSUPPORTED", "The order '%s' is neither timeasc nor timedesc.", clip(order))
	}
	if last := q.Get("last"); last != "" {
		if i := slices.IndexFunc(list, func(v T) bool { return name(v) == last }); i >= 0 {
			list = list[i+1:]
		} else if q.Get("orderby") == "" {
			list = slices.DeleteFunc(list, func(v T) bool { return name(v) <= last })
		}
	}
	list, h := paged(c, list, n, name)
	return list, h, nil
}

// acrTags is GET /acr/v1/NAME/_tags.
func (p *Plane) acrTags(c *gate.Call) (any, error) {
	list, err := p.allTags(c)
	if err != nil {
		return nil, err
	}
	if d := c.Request.URL.Query().Get("digest"); d != "" {
		list = slices.DeleteFunc(list, func(t acrTagView) bool { return t.Digest != d })
	}
	list, h, err := sorted(c, list, func(t acrTagView) string { return t.Name }, func(t acrTagView) string { return t.Updated })
	if err != nil {
		return nil, err
	}
	out := about(c)
	out["tags"] = list
	return ok(h, out), nil
}

// acrTag is GET /acr/v1/NAME/_tags/TAG.
func (p *Plane) acrTag(c *gate.Call) (any, error) {
	list, err := p.allTags(c)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(t acrTagView) bool { return t.Name == c.Params["tag"] })
	if i < 0 {
		return nil, apierr.New(apierr.NotFound, "TAG_UNKNOWN", "the specified tag does not exist")
	}
	out := about(c)
	out["tag"] = list[i]
	return out, nil
}

// acrUntag is DELETE /acr/v1/NAME/_tags/TAG: the manifest stays.
func (p *Plane) acrUntag(c *gate.Call) (any, error) {
	x, key := p.index(registryOf(c).UID), tagKey(c.Params["name"], c.Params["tag"])
	if !tagRule.MatchString(c.Params["tag"]) {
		return nil, apierr.New(apierr.BadRequest, "TAG_INVALID", "The tag '%s' is invalid.", clip(c.Params["tag"]))
	}
	_, _, there, err := get[tagDoc](c.Context, x, key)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, apierr.New(apierr.NotFound, "TAG_UNKNOWN", "the specified tag does not exist")
	}
	return &gate.Reply{Status: http.StatusAccepted}, x.remove(c.Context, key)
}

func (p *Plane) allManifests(c *gate.Call) ([]acrManifestView, error) {
	tags, err := p.allTags(c)
	if err != nil {
		return nil, err
	}
	of := map[string][]string{}
	for _, t := range tags {
		of[t.Digest] = append(of[t.Digest], t.Name)
	}
	list := []acrManifestView{}
	err = each(c.Context, p.index(registryOf(c).UID), maniKeys+c.Params["name"]+":", "", func(d string, m manifestDoc) (bool, error) {
		list = append(list, acrManifestView{
			Digest: d, Size: m.ImageSize, Created: stamp(m.Created), Updated: stamp(m.Created), Arch: m.Arch, OS: m.OS,
			MediaType: m.MediaType, ConfigType: m.ConfigType, Tags: of[d], Changeable: free(),
		})
		return true, nil
	})
	return list, err
}

// acrManifests is GET /acr/v1/NAME/_manifests.
func (p *Plane) acrManifests(c *gate.Call) (any, error) {
	list, err := p.allManifests(c)
	if err != nil {
		return nil, err
	}
	list, h, err := sorted(c, list, func(m acrManifestView) string { return m.Digest }, func(m acrManifestView) string { return m.Updated })
	if err != nil {
		return nil, err
	}
	out := about(c)
	out["manifests"] = list
	return ok(h, out), nil
}

// acrManifest is GET /acr/v1/NAME/_manifests/DIGEST.
func (p *Plane) acrManifest(c *gate.Call) (any, error) {
	list, err := p.allManifests(c)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(m acrManifestView) bool { return m.Digest == c.Params["digest"] })
	if i < 0 {
		return nil, manifestUnknown(c.Params["digest"])
	}
	out := about(c)
	out["manifest"] = list[i]
	return out, nil
}

// acrRepository is GET /acr/v1/NAME.
func (p *Plane) acrRepository(c *gate.Call) (any, error) {
	r, err := p.repository(c)
	if err != nil {
		return nil, err
	}
	list, err := p.allManifests(c)
	if err != nil {
		return nil, err
	}
	tags := 0
	for _, m := range list {
		tags += len(m.Tags)
	}
	out := about(c)
	out["createdTime"], out["lastUpdateTime"] = stamp(r.Created), stamp(r.Updated)
	out["manifestCount"], out["tagCount"], out["changeableAttributes"] = len(list), tags, free()
	return out, nil
}

// acrDelete is DELETE /acr/v1/NAME: the repository with all that is in it.
func (p *Plane) acrDelete(c *gate.Call) (any, error) {
	repo, r := c.Params["name"], registryOf(c)
	unlock, err := p.files.lock(r.UID, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := p.repository(c); err != nil {
		return nil, err
	}
	digests, tags := []string{}, []string{}
	err = each(c.Context, p.index(r.UID), maniKeys+repo+":", "", func(rest string, m manifestDoc) (bool, error) {
		d, _ := parseDigest(rest)
		gone, err := p.drop(c.Context, r.UID, repo, d, &m)
		digests, tags = append(digests, rest), append(tags, gone...)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	if err := p.index(r.UID).remove(c.Context, repoKeys+repo); err != nil {
		return nil, err
	}
	return &gate.Reply{Status: http.StatusAccepted, Body: map[string]any{"manifestsDeleted": digests, "tagsDeleted": tags}}, nil
}
