package resources

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// tags is Microsoft.Resources/tags/default: the tags of a subscription, a
// group or a resource, apart from the rest of it. Source: "Tags" REST API.
func (s *service) tags() []arm.Endpoint {
	var out []arm.Endpoint
	for _, e := range []struct {
		method, verb string
		h            func(context.Context, *arm.Request) (*arm.Response, error)
	}{
		{http.MethodGet, "read", s.getTags},
		{http.MethodPut, "write", s.putTags},
		{http.MethodPatch, "write", s.patchTags},
		{http.MethodDelete, "delete", s.deleteTags},
	} {
		out = append(out, arm.Endpoint{
			Method: e.method, Path: "{scope...}/providers/Microsoft.Resources/tags/default",
			Action: "Microsoft.Resources/tags/" + e.verb, APIVersions: versions(), Handle: e.h,
		})
	}
	return out
}

type tagsBody struct {
	Operation  string `json:"operation"`
	Properties *struct {
		Tags map[string]string `json:"tags"`
	} `json:"properties"`
}

func readTags(r *arm.Request) (tagsBody, error) {
	var in tagsBody
	if err := json.Unmarshal(r.Body, &in); err != nil || in.Properties == nil {
		return in, apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid: 'properties.tags' with names and values is expected.")
	}
	return in, nil
}

// tagged gives the resource whose tags the path names.
func (s *service) tagged(ctx context.Context, r *arm.Request) (*arm.Envelope, error) {
	id, err := rid.Parse(r.Params["scope"])
	if err != nil {
		return nil, err
	}
	if id.IsRoot() || id.Namespace() != "" && !s.tracked(id.Type()) {
		return nil, apierr.New(apierr.BadRequest, "TagsNotSupported", "The resource type '%s' does not support tags.", id.Type())
	}
	return s.res.Get(ctx, id)
}

func (s *service) tracked(typ string) bool {
	for _, p := range s.providers() {
		for _, rt := range p.Routes {
			if strings.EqualFold(rt.Type, typ) {
				return rt.Tracked
			}
		}
	}
	return false
}

func tagsWire(e *arm.Envelope) *arm.Response {
	tags := e.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return &arm.Response{Body: map[string]any{
		"id": e.ID + "/providers/Microsoft.Resources/tags/default", "name": "default", "type": "Microsoft.Resources/tags",
		"properties": map[string]any{"tags": tags},
	}}
}

func (s *service) getTags(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	e, err := s.tagged(ctx, r)
	if err != nil {
		return nil, err
	}
	return tagsWire(e), nil
}

// change applies f to the tags; a concurrent writer makes it start over.
func (s *service) change(ctx context.Context, r *arm.Request, f func(map[string]string) map[string]string) (*arm.Response, error) {
	for range 5 {
		e, err := s.tagged(ctx, r)
		if err != nil {
			return nil, err
		}
		tags := f(maps.Clone(e.Tags))
		if err := arm.CheckTags(tags); err != nil {
			return nil, err
		}
		e.Tags = tags
		err = s.res.Put(ctx, e)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		return tagsWire(e), err
	}
	return nil, apierr.New(apierr.Conflict, "Conflict", "The resource is being changed by others. Retry.")
}

func (s *service) putTags(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	in, err := readTags(r)
	if err != nil {
		return nil, err
	}
	return s.change(ctx, r, func(map[string]string) map[string]string { return in.Properties.Tags })
}

func (s *service) patchTags(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	in, err := readTags(r)
	if err != nil {
		return nil, err
	}
	switch strings.ToLower(in.Operation) {
	case "replace":
		return s.change(ctx, r, func(map[string]string) map[string]string { return in.Properties.Tags })
	case "merge":
		return s.change(ctx, r, func(now map[string]string) map[string]string { return mergeTags(now, in.Properties.Tags) })
	case "delete":
		return s.change(ctx, r, func(now map[string]string) map[string]string {
			for k, v := range in.Properties.Tags {
				maps.DeleteFunc(now, func(n, w string) bool { return strings.EqualFold(n, k) && (v == "" || v == w) })
			}
			return now
		})
	}
	return nil, apierr.New(apierr.BadRequest, "InvalidTagsPatchOperation", "The operation '%s' is none of 'Merge', 'Replace' and 'Delete'.", in.Operation).WithTarget("operation")
}

// mergeTags sets values; names are compared without case and keep theirs.
func mergeTags(now, add map[string]string) map[string]string {
	if now == nil {
		now = map[string]string{}
	}
next:
	for k, v := range add {
		for n := range now {
			if strings.EqualFold(n, k) {
				now[n] = v
				continue next
			}
		}
		now[k] = v
	}
	return now
}

func (s *service) deleteTags(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	if _, err := s.change(ctx, r, func(map[string]string) map[string]string { return nil }); err != nil {
		return nil, err
	}
	return &arm.Response{Status: http.StatusOK}, nil
}
