package arm

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/odata"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
)

// pageSize is how many resources one answer lists. Source: ARM list
// operations answer up to 1,000.
const pageSize = 1000

// spare is how many documents more than a page needs are read: some, such as
// the group that holds the resources, are not in the list.
const spare = 8

// collection serves GET on a type without a name.
func (h *Handler) collection(c *call) error {
	if len(c.route.ask) > 0 {
		return h.question(c)
	}
	if c.r.Method != http.MethodGet {
		return errMethod(c.r)
	}
	rt := c.route
	c.action, c.scope = rt.actionType+"/read", c.id.Parent()
	if _, err := h.scopeExists(c.ctx, c.id); err != nil {
		if err := h.hidden(c, err); rt.listAt != nil || !apierr.Is(err, apierr.Forbidden) {
			return err
		} // else the list is empty, as where the caller may see nothing
	}
	if rt.limit != nil {
		if err := rt.limit("list", c.scope); err != nil {
			return err
		}
	}
	q := c.r.URL.Query()
	filter := q.Get("$filter")
	c.ctx = context.WithValue(c.ctx, queryKey, q)
	if rt.listAt != nil {
		if err := h.authorise(c); err != nil {
			return err
		}
		list, err := rt.listAt(c.ctx, c.scope, filter)
		if err != nil {
			return err
		}
		return h.page(c, &pager{route: rt}, list)
	}
	keep, err := rt.list(c.ctx, filter)
	if err != nil {
		return err
	}
	p := &pager{scope: c.scope, typ: rt.Type, keep: keep, route: rt}
	if keep == nil {
		if p.keep, err = genericFilter(filter); err != nil {
			return err
		}
		if expr, err := odata.Parse(filter); err == nil {
			p.named(expr)
		}
	}
	if rt.own {
		keep := p.keep
		p.keep = func(e *Envelope) (bool, error) {
			if !e.RID().Parent().Equal(c.scope) {
				return false, nil
			}
			return keep(e)
		}
	}
	return h.page(c, p, nil)
}

// Query is the query of a list's request, for List and ListAt hooks of types
// that have parameters of their own; nil elsewhere.
func Query(ctx context.Context) url.Values {
	q, _ := ctx.Value(queryKey).(url.Values)
	return q
}

// question serves a type that has answers in place of resources.
func (h *Handler) question(c *call) error {
	ask := c.route.ask[c.r.Method]
	if ask == nil {
		return errMethod(c.r)
	}
	c.action, c.scope = c.route.Type+"/read", c.id.Parent()
	if c.r.Method == http.MethodPost {
		c.action = c.route.Type + "/action"
	}
	if _, err := h.scopeExists(c.ctx, c.id); err != nil {
		return h.hidden(c, err)
	}
	if err := h.authorise(c); err != nil {
		return err
	}
	if err := readBody(c); err != nil {
		return err
	}
	out, err := ask(c.ctx, c.scope, c.body)
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, out)
	return nil
}

// pager walks stored resources in the order of their ids.
type pager struct {
	scope  rid.ID
	typ    string // "" is every tracked type
	mixed  bool   // a list of resources of several types: no properties, no hooks
	keep   func(*Envelope) (bool, error)
	route  *Route
	expand []string
	name   string // in lower case; "" is any
}

// page answers with one page: of fixed when the route lists by itself, else of
// the store.
func (h *Handler) page(c *call, p *pager, fixed []*Envelope) error {
	top, after, err := paging(c.r.URL.Query())
	if err != nil {
		return err
	}
	var items []*Envelope
	var more bool
	if p.route != nil && p.route.listAt != nil {
		items, more = cutPage(fixed, after, top)
	} else if items, more, err = h.scan(c, p, after, top); err != nil {
		return err
	}
	out := make([]any, 0, len(items))
	for _, e := range items {
		if p.mixed {
			out = append(out, e.summary(p.expand))
			continue
		}
		e, err := p.route.shown(c.ctx, e)
		if err != nil {
			return err
		}
		out = append(out, e.wire(p.expand))
	}
	body := map[string]any{"value": out}
	if more {
		body["nextLink"] = nextLink(c, items[len(items)-1].ID)
	}
	writeJSON(c.w, http.StatusOK, body)
	return nil
}

// paging reads $top and $skiptoken.
func paging(q url.Values) (top int, after string, err error) {
	top = pageSize
	if s := q.Get("$top"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return 0, "", apierr.New(apierr.BadRequest, "InvalidTopQueryParameter", "The value '%s' of the query parameter '$top' is not a positive number.", s)
		}
		top = min(n, pageSize)
	}
	if s := q.Get("$skiptoken"); s != "" {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if id, perr := rid.Parse(string(b)); err != nil || perr != nil || id.IsRoot() || checkText(&url.URL{Path: string(b)}) != nil {
			return 0, "", apierr.New(apierr.BadRequest, "InvalidSkipToken", "The query parameter '$skiptoken' is none that this service gave.")
		}
		after = string(b)
	}
	return top, after, nil
}

func cutPage(list []*Envelope, after string, top int) ([]*Envelope, bool) {
	if after != "" {
		for i, e := range list {
			if strings.EqualFold(e.ID, after) {
				list = list[i+1:]
				break
			}
		}
	}
	if len(list) > top {
		return list[:top], true
	}
	return list, false
}

// scan reads from the store until a page is full or nothing is left. What the
// caller may not read is left out.
func (h *Handler) scan(c *call, p *pager, after string, top int) (items []*Envelope, more bool, err error) {
	ctx := trace.Without(c.ctx)
	all, err := h.cfg.Authorizer.Check(ctx, c.caller.ObjectID, c.action, false, c.scope)
	if err != nil {
		return nil, false, err
	}
	q := store.Query{Prefix: strings.TrimSuffix(docKey(p.scope), "/") + "/", Kind: strings.ToLower(p.typ), Limit: min(top+1+spare, pageSize)}
	if after != "" {
		q.After = KeyPrefix + strings.ToLower(after)
	}
	whole := !p.mixed || slices.ContainsFunc(p.expand, func(x string) bool { return strings.EqualFold(strings.TrimSpace(x), "provisioningState") })
	for {
		docs, err := h.cfg.Store.List(ctx, q)
		if err != nil {
			return nil, false, fmt.Errorf("list %s under %s: %w", p.typ, p.scope, err)
		}
		before := len(items)
		for _, d := range docs {
			if p.name != "" && !strings.HasSuffix(d.Key, "/"+p.name) {
				continue
			}
			e, err := decodeEnvelope(d, whole)
			if err != nil {
				return nil, false, err
			}
			if ok, err := h.visible(ctx, c, p, e, all.Allowed); err != nil {
				return nil, false, err
			} else if !ok {
				continue
			}
			if len(items) == top {
				return items, true, nil
			}
			items = append(items, e)
		}
		if len(docs) < q.Limit {
			return items, false, nil
		}
		q.After = docs[len(docs)-1].Key
		if missing := top + 1 - len(items); 2*(len(items)-before) > len(docs) {
			q.Limit = min(missing+spare, pageSize)
		} else { // few are visible: read on in larger steps
			q.Limit = min(4*q.Limit, pageSize)
		}
	}
}

func (h *Handler) visible(ctx context.Context, c *call, p *pager, e *Envelope, all bool) (bool, error) {
	if p.mixed {
		rt := h.routes[strings.ToLower(e.Type)]
		if rt == nil || !rt.Tracked || rt.Type == rid.TypeResourceGroup {
			return false, nil
		}
	}
	if p.keep != nil {
		if ok, err := p.keep(e); err != nil || !ok {
			return false, err
		}
	}
	if all {
		return true, nil
	}
	d, err := h.cfg.Authorizer.Check(ctx, c.caller.ObjectID, h.readAction(e.Type), false, e.RID())
	return d.Allowed, err
}

// readAction is the action that reading a resource of a type needs.
func (h *Handler) readAction(typ string) string {
	if rt := h.routes[strings.ToLower(typ)]; rt != nil {
		typ = rt.actionType
	}
	return typ + "/read"
}

func nextLink(c *call, last string) string {
	q := c.r.URL.Query()
	for k := range q {
		if strings.EqualFold(k, "$skiptoken") {
			q.Del(k)
		}
	}
	q.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(last)))
	return BaseURL(c.ctx) + (&url.URL{Path: c.r.URL.Path}).EscapedPath() + "?" + q.Encode()
}

// genericFilter understands the $filter of resource lists: resourceType,
// resourceGroup, name, location, tagName and tagValue, kind.
// Source: Resources - List, "filter".
func genericFilter(filter string) (func(*Envelope) (bool, error), error) {
	if strings.TrimSpace(filter) == "" {
		return func(*Envelope) (bool, error) { return true, nil }, nil
	}
	expr, err := odata.Parse(filter)
	if err != nil {
		return nil, apierr.New(apierr.BadRequest, "InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string: %v.", filter, err)
	}
	for _, name := range expr.Names() {
		switch strings.ToLower(name) {
		case "resourcetype", "resourcegroup", "name", "location", "tagname", "tagvalue", "kind":
		default:
			return nil, apierr.New(apierr.BadRequest, "InvalidFilterInQueryString",
				"Invalid $filter '%s' specified in the query string: the property '%s' cannot be filtered on.", filter, name)
		}
	}
	return func(e *Envelope) (bool, error) { return matchResource(expr, e) }, nil
}

// matchResource evaluates expr; tagName and tagValue, when joined, speak of one tag.
func matchResource(expr *odata.Expr, e *Envelope) (bool, error) {
	fields := map[string]string{
		"resourcetype": e.Type, "resourcegroup": e.RID().ResourceGroup(), "name": e.Name, "location": e.Location,
		"kind": strings.Trim(string(e.Extra["kind"]), `"`),
	}
	try := func(k, v string) (bool, error) {
		return expr.Eval(func(n string) []string {
			switch n = strings.ToLower(n); n {
			case "tagname":
				return []string{k}
			case "tagvalue":
				return []string{v}
			default:
				return []string{fields[n]}
			}
		})
	}
	if len(e.Tags) == 0 {
		return try("", "")
	}
	for k, v := range e.Tags {
		if ok, err := try(k, v); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

const readResources = "Microsoft.Resources/subscriptions/resources/read"

// resources lists resources of all types in a subscription or a group.
func (h *Handler) resources(c *call, scope rid.ID) error {
	q := c.r.URL.Query()
	filter := q.Get("$filter")
	keep, err := genericFilter(filter)
	if err != nil {
		return err
	}
	p := &pager{scope: scope, mixed: true, keep: keep}
	if x := q.Get("$expand"); x != "" {
		p.expand = strings.Split(x, ",")
	}
	p.narrow(filter)
	c.action, c.scope = readResources, scope
	return h.page(c, p, nil)
}

// narrow lets a filter that demands one group or one type shorten the walk.
func (p *pager) narrow(filter string) {
	expr, err := odata.Parse(filter)
	if err != nil {
		return
	}
	if g, ok := expr.Required("resourceGroup"); ok && p.scope.ResourceGroup() == "" {
		if id, err := rid.Parse(p.scope.String() + "/resourceGroups/" + g); err == nil && !id.Collection && id.Namespace() == "" {
			p.scope = id
		}
	}
	p.typ, _ = expr.Required("resourceType")
	p.named(expr)
}

// named lets a filter that demands a name skip the others unread.
func (p *pager) named(expr *odata.Expr) {
	name, _ := expr.Required("name")
	p.name = strings.ToLower(name)
}

// FilterBy is for List hooks that filter on named fields only.
func FilterBy[P any](filter string, fields func(*Resource[P]) map[string]string) (func(*Resource[P]) (bool, error), error) {
	if strings.TrimSpace(filter) == "" {
		return func(*Resource[P]) (bool, error) { return true, nil }, nil
	}
	expr, err := odata.Parse(filter)
	if err != nil {
		return nil, apierr.New(apierr.BadRequest, "InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string: %v.", filter, err)
	}
	return func(r *Resource[P]) (bool, error) {
		m := fields(r)
		return expr.Eval(func(n string) []string {
			for k, v := range m {
				if strings.EqualFold(k, n) {
					return []string{v}
				}
			}
			return nil
		})
	}, nil
}
