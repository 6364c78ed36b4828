package graph

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lazurite.dev/internal/odata"
)

// The sizes of a page. Source: Microsoft Graph, "Paging".
const (
	defaultPage = 100
	maxPage     = 999
)

// entity is an object as Graph shows it.
type entity map[string]any

// lookup gives the texts at a path such as "web/redirectUris"; of a list, those
// of its members.
func lookup(v any, path []string) []string {
	switch v := v.(type) {
	case nil:
		return nil
	case entity:
		return lookup(map[string]any(v), path)
	case map[string]any:
		if len(path) == 0 {
			return nil
		}
		for k, m := range v {
			if strings.EqualFold(k, path[0]) {
				return lookup(m, path[1:])
			}
		}
		return nil
	case []any:
		var out []string
		for _, m := range v {
			out = append(out, lookup(m, path)...)
		}
		return out
	case []entity:
		var out []string
		for _, m := range v {
			out = append(out, lookup(m, path)...)
		}
		return out
	case []string:
		return v
	case json.RawMessage:
		var m any
		if json.Unmarshal(v, &m) != nil {
			return nil
		}
		return lookup(m, path)
	}
	if len(path) > 0 {
		return nil
	}
	return []string{fmt.Sprint(v)}
}

// filter is the query's $filter, nil when there is none.
func (c *call) filter() (*odata.Expr, error) {
	f := c.q.Get("$filter")
	if strings.TrimSpace(f) == "" {
		return nil, nil
	}
	expr, err := odata.Parse(f)
	if err != nil {
		return nil, badRequest("Request_UnsupportedQuery", "Invalid filter clause: %v.", err)
	}
	for _, n := range expr.Names() {
		if strings.HasSuffix(n, "()") {
			return nil, badRequest("Request_UnsupportedQuery", "The function '%s' is not supported in $filter.", n)
		}
	}
	return expr, nil
}

// list answers with a page of all that the query asks for. of names the set in
// the answer's context; defaults are the properties shown without $select, nil
// for all of them.
func (c *call) list(of string, all []entity, defaults []string) error {
	for _, no := range []string{"$search", "$expand", "$apply"} {
		if c.q.Get(no) != "" {
			return badRequest("Request_UnsupportedQuery", "The query option '%s' is not supported.", no)
		}
	}
	expr, err := c.filter()
	if err != nil {
		return err
	}
	kept := all
	if expr != nil {
		kept = nil
		for _, e := range all {
			ok, err := expr.Eval(func(name string) []string { return lookup(e, strings.Split(name, "/")) })
			if err != nil {
				return badRequest("Request_UnsupportedQuery", "Invalid filter clause: %v.", err)
			}
			if ok {
				kept = append(kept, e)
			}
		}
	}
	if err := order(kept, c.q.Get("$orderby")); err != nil {
		return err
	}
	page, next, err := c.page(kept)
	if err != nil {
		return err
	}
	value := make([]entity, 0, len(page))
	for _, e := range page {
		value = append(value, selected(e, c.q.Get("$select"), defaults))
	}
	out := entity{"@odata.context": c.base + "/$metadata#" + of, "value": value}
	if strings.EqualFold(c.q.Get("$count"), "true") {
		out["@odata.count"] = len(kept)
	}
	if next != "" {
		out["@odata.nextLink"] = next
	}
	return c.json(http.StatusOK, out)
}

func order(list []entity, by string) error {
	if by == "" {
		return nil
	}
	name, dir, _ := strings.Cut(strings.TrimSpace(by), " ")
	if strings.Contains(by, ",") || dir != "" && dir != "asc" && dir != "desc" {
		return badRequest("Request_UnsupportedQuery", "$orderby takes one property, and asc or desc.")
	}
	path := strings.Split(name, "/")
	slices.SortStableFunc(list, func(a, b entity) int {
		n := strings.Compare(strings.ToLower(strings.Join(lookup(a, path), " ")), strings.ToLower(strings.Join(lookup(b, path), " ")))
		if dir == "desc" {
			n = -n
		}
		return n
	})
	return nil
}

// page cuts out what $top and $skiptoken ask for, and gives the link to the next.
func (c *call) page(list []entity) ([]entity, string, error) {
	top := defaultPage
	if s := c.q.Get("$top"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPage {
			return nil, "", badRequest("Request_BadRequest", "Invalid page size specified: '%s'. Must be between 1 and %d inclusive.", s, maxPage)
		}
		top = n
	}
	if s := c.q.Get("$skiptoken"); s != "" {
		after, err := base64.RawURLEncoding.DecodeString(s)
		i := slices.IndexFunc(list, func(e entity) bool { return e["id"] == string(after) })
		if err != nil || i < 0 {
			return nil, "", badRequest("Directory_ExpiredPageToken", "The specified page token value has expired and can no longer be included in your request.")
		}
		list = list[i+1:]
	}
	if len(list) <= top {
		return list, "", nil
	}
	q := c.r.URL.Query()
	q.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprint(list[top-1]["id"]))))
	return list[:top], "https://" + c.r.Host + c.r.URL.EscapedPath() + "?" + q.Encode(), nil
}

// selected is e with the properties that $select names, or the default ones.
func selected(e entity, sel string, defaults []string) entity {
	names := defaults
	if sel != "" {
		names = strings.Split(sel, ",")
	}
	if names == nil {
		return e
	}
	out := entity{}
	for k, v := range e {
		keep := strings.HasPrefix(k, "@") || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(strings.TrimSpace(n), k) })
		if keep {
			out[k] = v
		}
	}
	return out
}

// one answers with a single object.
func (c *call) one(status int, of string, e entity, defaults []string) error {
	e = selected(e, c.q.Get("$select"), defaults)
	e["@odata.context"] = c.base + "/$metadata#" + of + "/$entity"
	return c.json(status, e)
}

// typed marks what e is, for lists of mixed objects.
func typed(e entity, typ string) entity {
	e["@odata.type"] = "#microsoft.graph." + typ
	return e
}

// with adds to e the properties that were kept without a meaning here. They
// cannot replace one that has a meaning, except inside of objects, where those
// that have one were taken out.
func with(e entity, extra map[string]json.RawMessage) entity {
	for k, v := range extra {
		inner, isObject := e[k].(entity)
		list, isList := e[k].([]any)
		switch {
		case isObject:
			e[k] = merged(inner, v)
		case e[k] == nil, isList && len(list) == 0:
			e[k] = v
		}
	}
	return e
}

func merged(e entity, raw json.RawMessage) any {
	var add map[string]json.RawMessage
	if json.Unmarshal(raw, &add) != nil {
		return e
	}
	for k, v := range add {
		if inner, ok := e[k].(entity); ok {
			e[k] = merged(inner, v)
		} else {
			e[k] = v
		}
	}
	return e
}

// null is s, or null when it is empty.
func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// strings0 is list, never null.
func strings0(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
