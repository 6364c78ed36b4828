package resources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// predefined is a tag name that somebody made before any resource has it.
type predefined struct {
	Name   string   `json:"name"`
	Values []string `json:"values,omitempty"`
}

func tagPrefix(sub string) string { return "tagname/" + strings.ToLower(sub) + "/" }

// tagNames are the names and values of tags in a subscription. Source: "Tags" REST API.
func (s *service) tagNames() []arm.Endpoint {
	const (
		all = "/subscriptions/{subscriptionId}/tagNames"
		one = all + "/{tagName}"
		val = one + "/tagValues/{tagValue}"
	)
	end := func(method, path, verb string, h func(context.Context, *arm.Request) (*arm.Response, error)) arm.Endpoint {
		return arm.Endpoint{Method: method, Path: path, Action: "Microsoft.Resources/subscriptions/tagNames/" + verb, APIVersions: versions(), Handle: h}
	}
	return []arm.Endpoint{
		end(http.MethodGet, all, "read", s.listTagNames),
		end(http.MethodPut, one, "write", s.putTagName),
		end(http.MethodDelete, one, "delete", s.deleteTagName),
		end(http.MethodPut, val, "tagValues/write", s.putTagName),
		end(http.MethodDelete, val, "tagValues/delete", s.deleteTagName),
	}
}

// counted is how often a name and its values are used.
type counted struct {
	name   string
	used   int
	values map[string]int
}

func (s *service) listTagNames(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	sub := r.Params["subscriptionId"]
	tags, err := s.countTags(ctx, sub)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, tags[k].wire(sub))
	}
	return list(out), nil
}

func (s *service) countTags(ctx context.Context, sub string) (map[string]*counted, error) {
	tags := map[string]*counted{}
	tag := func(name string) *counted {
		c := tags[strings.ToLower(name)]
		if c == nil {
			c = &counted{name: name, values: map[string]int{}}
			tags[strings.ToLower(name)] = c
		}
		return c
	}
	err := store.All(ctx, s.cfg.Store, store.Query{Prefix: tagPrefix(sub)}, func(d store.Doc) error {
		var p predefined
		if err := json.Unmarshal(d.Value, &p); err != nil {
			return fmt.Errorf("decode %s: %w", d.Key, err)
		}
		for _, v := range p.Values {
			tag(p.Name).values[v] += 0
		}
		tag(p.Name).used += 0
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = store.All(ctx, s.cfg.Store, store.Query{Prefix: arm.KeyPrefix + rid.MustParse("/subscriptions/"+sub).Key()}, func(d store.Doc) error {
		e, err := arm.DecodeEnvelope(d)
		if err != nil {
			return err
		}
		for k, v := range e.Tags {
			c := tag(k)
			c.used++
			c.values[v]++
		}
		return nil
	})
	return tags, err
}

func (c *counted) wire(sub string) map[string]any {
	id := "/subscriptions/" + sub + "/tagNames/" + c.name
	count := func(n int) map[string]any { return map[string]any{"type": "Total", "value": n} }
	values := []any{}
	for _, v := range slices.Sorted(maps.Keys(c.values)) {
		values = append(values, map[string]any{"id": id + "/tagValues/" + v, "tagValue": v, "count": count(c.values[v])})
	}
	return map[string]any{"id": id, "tagName": c.name, "count": count(c.used), "values": values}
}

func (s *service) putTagName(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	sub, name, value := r.Params["subscriptionId"], r.Params["tagName"], r.Params["tagValue"]
	if err := arm.CheckTags(map[string]string{name: value}); err != nil {
		return nil, err
	}
	p, rev, err := store.GetJSON[predefined](ctx, s.cfg.Store, tagPrefix(sub)+strings.ToLower(name))
	status := http.StatusOK
	switch {
	case errors.Is(err, store.ErrNotFound) && value != "":
		return nil, apierr.New(apierr.NotFound, "TagNotFound", "The tag '%s' could not be found.", name)
	case errors.Is(err, store.ErrNotFound):
		p, status = predefined{Name: name}, http.StatusCreated
	case err != nil:
		return nil, err
	}
	if value != "" && !slices.Contains(p.Values, value) {
		p.Values, status = append(p.Values, value), http.StatusCreated
	}
	if _, err := store.PutJSON(ctx, s.cfg.Store, tagPrefix(sub)+strings.ToLower(name), "tagname", rev, p); err != nil {
		return nil, err
	}
	c := &counted{name: p.Name, values: map[string]int{}}
	for _, v := range p.Values {
		c.values[v] = 0
	}
	body := c.wire(sub)
	if value != "" {
		body = map[string]any{"id": "/subscriptions/" + sub + "/tagNames/" + c.name + "/tagValues/" + value, "tagValue": value, "count": map[string]any{"type": "Total", "value": 0}}
	}
	return &arm.Response{Status: status, Body: body}, nil
}

// deleteTagName removes a name, or one of its values, that no resource uses.
func (s *service) deleteTagName(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	sub, name, value := r.Params["subscriptionId"], r.Params["tagName"], r.Params["tagValue"]
	key := tagPrefix(sub) + strings.ToLower(name)
	p, rev, err := store.GetJSON[predefined](ctx, s.cfg.Store, key)
	if errors.Is(err, store.ErrNotFound) {
		return &arm.Response{Status: http.StatusNoContent}, nil
	} else if err != nil {
		return nil, err
	}
	tags, err := s.countTags(ctx, sub)
	if err != nil {
		return nil, err
	}
	if c := tags[strings.ToLower(name)]; value == "" && c.used > 0 || value != "" && c.values[value] > 0 {
		return nil, apierr.New(apierr.Conflict, "TagNameInUse", "The tag '%s' cannot be deleted while resources use it.", name)
	}
	if value == "" {
		if len(p.Values) > 0 {
			return nil, apierr.New(apierr.Conflict, "TagNameInUse", "The tag '%s' cannot be deleted while it has values.", name)
		}
		return &arm.Response{}, s.cfg.Store.Delete(ctx, key, rev)
	}
	p.Values = slices.DeleteFunc(p.Values, func(v string) bool { return v == value })
	_, err = store.PutJSON(ctx, s.cfg.Store, key, "tagname", rev, p)
	return &arm.Response{}, err
}
