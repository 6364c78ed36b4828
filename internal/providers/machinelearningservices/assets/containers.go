package assets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// nameRule is that of assets. Source: "Model Versions - Create Or Update", name.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)

func checkName(name string) error {
	if !nameRule.MatchString(name) {
		return bad("name", "The name '%s' is invalid: it must have 1 to 255 letters, digits, '-', '_' and '.', and begin with a letter or a digit.", name)
	}
	return nil
}

func bad(target, format string, args ...any) error {
	return apierr.New(apierr.BadRequest, "ValidationError", format, args...).WithTarget(target)
}

func (s *Service) containers(typ string) arm.Kind[Container] {
	return arm.Kind[Container]{
		Type: "workspaces/" + typ, APIVersions: Versions(), Name: checkName, NoPatch: true,
		ReadOnly: []string{"latestVersion", "nextVersion"},
		Validate: func(_ context.Context, old, next *arm.Resource[Container]) error {
			if typ != Data {
				return nil
			}
			n := &next.Properties
			if n.DataType == "" && old != nil {
				n.DataType = old.Properties.DataType
			}
			return checkDataType(&n.DataType)
		},
		Read: func(ctx context.Context, r *arm.Resource[Container]) error { return s.latest(ctx, r) },
		ListAt: func(ctx context.Context, scope rid.ID, filter string) ([]*arm.Resource[Container], error) {
			if err := unfiltered(filter); err != nil {
				return nil, err
			}
			all, err := list[Container](ctx, s.res, scope, WorkspaceType+"/"+typ)
			if err != nil {
				return nil, err
			}
			keep, err := viewed(ctx)
			if err != nil {
				return nil, err
			}
			return slices.DeleteFunc(all, func(r *arm.Resource[Container]) bool {
				return r.Private[anonymousKey] != "" || !keep(r.Properties.Archived)
			}), nil
		},
	}
}

// unfiltered refuses a $filter: these lists have parameters of their own.
func unfiltered(filter string) error {
	if filter == "" {
		return nil
	}
	return apierr.New(apierr.BadRequest, "InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string: assets are not filtered by it.", filter)
}

// anonymousKey is in Private of containers of which every version is anonymous.
const anonymousKey = "anonymous"

// list gives the resources of a type under a scope, all of them.
func list[P any](ctx context.Context, res arm.Resources, scope rid.ID, typ string) ([]*arm.Resource[P], error) {
	var out []*arm.Resource[P]
	for after := ""; ; {
		page, err := res.List(ctx, scope, typ, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			r, err := arm.View[P](e)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
		if len(page) < 1000 {
			return out, nil
		}
		after = page[len(page)-1].ID
	}
}

// viewed reads the listViewType of a list.
func viewed(ctx context.Context) (func(archived bool) bool, error) {
	switch v := arm.Query(ctx).Get("listViewType"); strings.ToLower(v) {
	case "", "activeonly":
		return func(archived bool) bool { return !archived }, nil
	case "archivedonly":
		return func(archived bool) bool { return archived }, nil
	case "all":
		return func(bool) bool { return true }, nil
	default:
		return nil, bad("listViewType", "The listViewType '%s' is none of ActiveOnly, ArchivedOnly and All.", v)
	}
}

// latest fills in which version is the newest and which may come next.
func (s *Service) latest(ctx context.Context, r *arm.Resource[Container]) error {
	all, err := list[Version](ctx, s.res, r.ID, r.ID.Type()+"/versions")
	if err != nil {
		return err
	}
	r.Properties.Latest, r.Properties.Next = "", "1"
	if len(all) == 0 {
		return nil
	}
	top := newest(all)
	r.Properties.Latest = top.ID.Name()
	next := 0
	for _, v := range all {
		if n, err := strconv.Atoi(v.ID.Name()); err == nil && n < 1<<30 {
			next = max(next, n)
		}
	}
	r.Properties.Next = strconv.Itoa(next + 1)
	return nil
}

// newest is the version that the label latest names: the one made last.
func newest(all []*arm.Resource[Version]) *arm.Resource[Version] {
	return slices.MaxFunc(all, func(a, b *arm.Resource[Version]) int {
		return cmp.Or(a.System.CreatedAt.Compare(b.System.CreatedAt), byNumber(a.ID.Name(), b.ID.Name()))
	})
}

// byNumber compares versions as numbers where they are.
func byNumber(a, b string) int {
	x, err := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	if err == nil && err2 == nil {
		return cmp.Compare(x, y)
	}
	return strings.Compare(a, b)
}

// contain makes the container of a version, where it is not there.
func (s *Service) contain(ctx context.Context, v *arm.Resource[Version]) error {
	id := v.ID.Parent()
	e, err := s.res.Get(ctx, id)
	if err == nil {
		if e.Private[anonymousKey] == "" || v.Properties.Anonymous {
			return nil
		}
		delete(e.Private, anonymousKey)
		return s.raced(s.res.Put(ctx, e))
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	e = &arm.Envelope{ID: id.String(), Name: id.Name(), Type: id.Type(), System: v.System, Properties: map[string]any{"provisioningState": "Succeeded"}}
	if v.Properties.Anonymous {
		e.Private = map[string]string{anonymousKey: "true"}
	}
	if v.Properties.DataType != "" {
		e.Properties["dataType"] = v.Properties.DataType
	}
	return s.raced(s.res.Put(ctx, e))
}

// raced is no error where another version made the container at the same time.
func (s *Service) raced(err error) error {
	if err == nil || errors.Is(err, store.ErrConflict) {
		return nil
	}
	return fmt.Errorf("make the container of a version: %w", err)
}
