package deployments

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/template"
	"lazurite.dev/internal/web"
)

// change is one resource in the answer of whatIf.
type change struct {
	ID     string           `json:"resourceId"`
	Type   string           `json:"changeType"`
	Before any              `json:"before,omitempty"`
	After  any              `json:"after,omitempty"`
	Delta  []template.Delta `json:"delta,omitempty"`
	Reason string           `json:"unsupportedReason,omitempty"`
}

// whatIf is Deployments - What If: it answers at once.
func (s *Service) whatIf(ctx context.Context, r *arm.Resource[properties], body json.RawMessage) (any, error) {
	in, err := readRequest(body)
	if err != nil {
		return nil, err
	}
	var settings struct {
		Format string `json:"resultFormat"`
	}
	if raw := in.Properties.WhatIfSettings; len(raw) > 0 {
		if err := json.Unmarshal(raw, &settings); err != nil {
			return nil, bad("InvalidRequestContent", "The request content was invalid: 'whatIfSettings' must be an object.")
		}
	}
	full := !strings.EqualFold(settings.Format, "ResourceIdOnly")
	if settings.Format != "" && full && !strings.EqualFold(settings.Format, "FullResourcePayloads") {
		return nil, bad("InvalidRequestContent", "The result format '%s' is none of 'FullResourcePayloads' and 'ResourceIdOnly'.", settings.Format)
	}
	o, err := s.order(ctx, r.ID, in.Location, &in.Properties)
	if err != nil {
		return nil, err
	}
	changes, err := s.changes(ctx, o, full)
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": "Succeeded", "properties": map[string]any{"correlationId": web.CorrelationID(ctx), "changes": changes}}, nil
}

func (s *Service) changes(ctx context.Context, o *order, full bool) ([]change, error) {
	changes := []change{}
	keep := map[string]bool{}
	err := s.each(ctx, o, nil, false, func(p preview) error {
		if p.err != nil {
			return o.masked(apierr.From(p.err))
		}
		keep[strings.ToLower(p.r.ID)] = true
		c, err := s.change(ctx, p)
		if err != nil {
			return err
		}
		changes = append(changes, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if o.id.ResourceGroup() != "" {
		spare, err := s.spare(ctx, o.id, keep)
		if err != nil {
			return nil, err
		}
		for _, e := range spare {
			told, err := s.look(ctx, e.ID, e.Type)
			if apierr.Is(err, apierr.Forbidden) {
				continue
			} else if err != nil {
				return nil, err
			}
			changes = append(changes, change{ID: e.ID, Type: map[bool]string{true: "Delete", false: "Ignore"}[o.mode == "Complete"], Before: trimmed(told.Body)})
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return strings.Compare(a.ID, b.ID) })
	for i := range changes {
		c := &changes[i]
		if !full {
			c.Before, c.After, c.Delta = nil, nil, nil
			if c.Type == "Modify" || c.Type == "NoChange" {
				c.Type = "Deploy"
			}
		}
		c.Before, c.After = o.hide(c.Before), o.hide(c.After)
		o.hideDeltas(c.Delta)
	}
	return changes, nil
}

func (s *Service) look(ctx context.Context, id, typ string) (*arm.Told, error) {
	version := s.cfg.Versions[0]
	if rt := s.plane.Load().Routes()[strings.ToLower(typ)]; rt != nil {
		version = rt.APIVersions[0]
	}
	return s.plane.Load().Do(ctx, arm.Ask{Caller: arm.Caller(ctx), Correlation: web.CorrelationID(ctx), Method: http.MethodGet, Path: id, Version: version})
}

// change compares one resource with what is there.
func (s *Service) change(ctx context.Context, p preview) (change, error) {
	c := change{ID: p.r.ID, Type: "Create"}
	if p.unsupported != "" {
		c.Type, c.Reason = "Unsupported", p.unsupported
		return c, nil
	}
	after := whole(p.r, p.body)
	old := p.old
	if p.open && !p.fresh {
		told, err := s.look(ctx, p.r.ID, p.r.Type)
		switch {
		case apierr.Is(err, apierr.NotFound):
		case err != nil:
			return c, err
		default:
			old = told.Body
		}
	}
	if old == nil {
		c.After = after
		return c, nil
	}
	c.Before = trimmed(old)
	if p.open { // what the template says, laid over what is there
		c.After = over(trimmed(old), after)
	} else {
		c.After = trimmed(p.told.Body)
	}
	before, _ := c.Before.(map[string]any)
	next, _ := c.After.(map[string]any)
	c.Delta = template.Deltas(before, next)
	if c.Type = "Modify"; len(c.Delta) == 0 {
		c.Type, c.Delta = "NoChange", nil
	}
	return c, nil
}

// whole is a template's resource with its names.
func whole(r *template.Resource, body map[string]any) map[string]any {
	m := maps.Clone(body)
	at := rid.MustParse(r.ID)
	m["id"], m["name"], m["type"], m["apiVersion"] = r.ID, at.Name(), r.Type, r.APIVersion
	if g := at.ResourceGroup(); g != "" {
		m["resourceGroup"] = g
	}
	return m
}

// trimmed is a resource without what no template says.
func trimmed(m map[string]any) map[string]any {
	out := maps.Clone(m)
	delete(out, "systemData")
	delete(out, "etag")
	if p, ok := out["properties"].(map[string]any); ok {
		p = maps.Clone(p)
		delete(p, "provisioningState")
		out["properties"] = p
	}
	return out
}

// over lays what is known of next over old.
func over(old, next map[string]any) map[string]any {
	out := maps.Clone(old)
	for k, v := range next {
		switch k {
		case "id", "name", "type", "apiVersion", "resourceGroup":
			continue
		}
		switch v := v.(type) {
		case string:
			if _, there := out[k]; there && len(v) > 2 && v[0] == '[' && v[1] != '[' && v[len(v)-1] == ']' {
				continue // not known yet
			}
			out[k] = v
		case map[string]any:
			if was, ok := out[k].(map[string]any); ok {
				out[k] = over(was, v)
				continue
			}
			out[k] = v
		default:
			out[k] = v
		}
	}
	return out
}

const hidden = "*******"

// hide masks the values of secure parameters, at any depth.
func (o *order) hide(v any) any {
	if len(o.secrets) == 0 {
		return v
	}
	switch v := v.(type) {
	case string:
		for _, s := range o.secrets {
			v = strings.ReplaceAll(v, s, hidden)
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = o.hide(x)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = o.hide(x)
		}
		return out
	}
	return v
}

func (o *order) hideDeltas(list []template.Delta) {
	for i := range list {
		list[i].Before, list[i].After = o.hide(list[i].Before), o.hide(list[i].After)
		o.hideDeltas(list[i].Children)
	}
}

// spare are the group's resources that are not to be kept, those with a
// location and tags: others belong to them.
func (s *Service) spare(ctx context.Context, id rid.ID, keep map[string]bool) ([]*arm.Envelope, error) {
	g, _ := id.Group()
	var out []*arm.Envelope
	after := ""
	for {
		all, err := s.res.List(ctx, g, "", after, 1000)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			after = e.ID
			rt := s.plane.Load().Routes()[strings.ToLower(e.Type)]
			if rt == nil || !rt.Tracked || keep[strings.ToLower(e.ID)] || len(e.RID().Types()) != 1 {
				continue
			}
			out = append(out, e)
		}
		if len(all) < 1000 {
			return out, nil
		}
	}
}

// deployments are those at one scope.
func (s *Service) deployments(ctx context.Context, scope rid.ID) ([]*arm.Envelope, error) {
	var out []*arm.Envelope
	err := store.All(ctx, s.cfg.Store, store.Query{Prefix: arm.ResourceKey(scope) + "/providers/microsoft.resources/deployments/", Kind: strings.ToLower(template.TypeDeployment)}, func(doc store.Doc) error {
		e, err := arm.DecodeEnvelope(doc)
		out = append(out, e)
		return err
	})
	return out, err
}
