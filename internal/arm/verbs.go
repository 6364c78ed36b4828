package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/web"
)

func (h *Handler) get(c *call) error {
	e, err := h.lookup(c)
	if err != nil {
		return err
	}
	if c.r.Method == http.MethodHead { // "check existence": 204 or 404
		if e.rev != 0 {
			c.w.Header().Set("ETag", e.ETag())
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if inm := c.r.Header.Get("If-None-Match"); inm != "" && e.rev != 0 && etagMatches(inm, e.ETag()) {
		c.w.Header().Set("ETag", e.ETag())
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return h.render(c, http.StatusOK, e)
}

// lookup gives the resource, one that is not stored but built in included.
func (h *Handler) lookup(c *call) (*Envelope, error) {
	if c.old != nil {
		return c.old, nil
	}
	if c.route.get != nil {
		e, err := c.route.get(c.ctx, c.id)
		if err != nil || e != nil {
			return e, err
		}
	}
	return nil, NotFound(c.id)
}

// render answers with the resource.
func (h *Handler) render(c *call, status int, e *Envelope) error {
	e, err := c.route.shown(c.ctx, e)
	if err != nil {
		return err
	}
	if c.route.home != nil {
		moved := *e
		_, id := c.route.home(c.at, e.Name)
		moved.ID = id.String()
		e = &moved
	}
	if e.rev != 0 {
		c.w.Header().Set("ETag", e.ETag())
	}
	writeJSON(c.w, status, e.wire(nil))
	return nil
}

// shown is e with what the type's Read hook computes.
func (r *Route) shown(ctx context.Context, e *Envelope) (*Envelope, error) {
	if r.read == nil {
		return e, nil
	}
	e = e.clone()
	return e, r.read(ctx, e)
}

func (h *Handler) perform(c *call) error {
	if err := readBody(c); err != nil {
		return err
	}
	a := c.route.actions[c.verb]
	e, err := h.lookup(c)
	if a.unmade && apierr.Is(err, apierr.NotFound) {
		e, err = &Envelope{ID: canonicalID(c), Name: c.id.Name(), Type: c.route.Type}, nil
	}
	if err != nil {
		return err
	}
	body := c.body
	if len(body) == 0 {
		body = json.RawMessage("{}")
	}
	if a.act != nil {
		return h.startAction(c, a, body)
	}
	out, err := a.run(c.ctx, e.clone(), body)
	if err != nil {
		return err
	}
	if res, ok := out.(*Response); ok {
		h.respond(c, res)
		return nil
	}
	if out == nil {
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	writeJSON(c.w, http.StatusOK, out)
	return nil
}

func (h *Handler) put(c *call) error {
	if c.route.noPut {
		return errMethod(c.r)
	}
	if c.route.noCreate && c.old == nil {
		return NotFound(c.id)
	}
	next, err := h.decode(c)
	if err != nil {
		return err
	}
	return h.write(c, next)
}

// decode makes the next state of a PUT from the request: what it does not
// say is gone.
func (h *Handler) decode(c *call) (*Envelope, error) {
	m, err := bodyObject(c)
	if err != nil {
		return nil, err
	}
	next := &Envelope{ID: canonicalID(c), Name: c.id.Name(), Type: c.route.Type, Extra: map[string]json.RawMessage{}}
	if c.old != nil {
		next.ID, next.Name, next.System, next.rev = c.old.ID, c.old.Name, c.old.System, c.old.rev
		next.Private = c.old.clone().Private
	}
	return next, assign(c.route, next, m)
}

func bodyObject(c *call) (map[string]json.RawMessage, error) {
	if err := readBody(c); err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := web.ParseJSON(c.body, &m); err != nil || m == nil {
		return nil, apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: %v", orObject(err))
	}
	if err := foldTop(m); err != nil {
		return nil, err
	}
	for k, v := range m {
		if string(v) == "null" && c.r.Method == http.MethodPut {
			delete(m, k)
		}
	}
	return m, nil
}

func orObject(err error) any {
	if err == nil {
		return "a JSON object is expected."
	}
	return err
}

// assign takes a PUT's members over into e.
func assign(rt *Route, e *Envelope, m map[string]json.RawMessage) error {
	for k, v := range m {
		var err error
		switch k {
		case "id", "name", "type", "systemData", "etag":
		case "location":
			err = json.Unmarshal(v, &e.Location)
		case "tags":
			err = json.Unmarshal(v, &e.Tags)
		case "properties":
			if err = decodeNumber(v, &e.Properties); err == nil {
				if err := rt.names.fold(e.Properties, "properties"); err != nil {
					return err
				}
			}
		default:
			e.Extra[k] = v
		}
		if err != nil {
			return apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid: '%s' has the wrong type.", k).WithTarget(k)
		}
	}
	return nil
}

func (h *Handler) patch(c *call) error {
	if c.route.noPatch {
		return errMethod(c.r)
	}
	if c.old == nil {
		return NotFound(c.id)
	}
	m, err := bodyObject(c)
	if err != nil {
		return err
	}
	next := c.old.clone()
	if next.Extra == nil {
		next.Extra = map[string]json.RawMessage{}
	}
	if err := merge(c.route, next, m); err != nil {
		return err
	}
	return h.write(c, next)
}

// merge applies a PATCH: JSON merge patch (RFC 7396), but tags are replaced
// as a whole, as ARM does.
func merge(rt *Route, e *Envelope, m map[string]json.RawMessage) error {
	for k, v := range m {
		switch k {
		case "tags":
			e.Tags = nil
		case "identity":
			merged, err := mergeIdentity(e.Extra[k], v)
			if err != nil {
				return err
			}
			m[k] = merged
			continue
		case "properties":
			var p map[string]any
			if err := decodeNumber(v, &p); err != nil {
				return apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid: 'properties' must be an object.").WithTarget("properties")
			}
			if err := rt.names.fold(p, "properties"); err != nil {
				return err
			}
			if e.Properties == nil {
				e.Properties = map[string]any{}
			}
			mergePatch(e.Properties, p)
			delete(m, k)
			continue
		}
		if string(v) == "null" {
			delete(m, k)
			delete(e.Extra, k)
		}
	}
	return assign(rt, e, m)
}

func mergePatch(dst, patch map[string]any) {
	for k, v := range patch {
		sub, isMap := v.(map[string]any)
		old, wasMap := dst[k].(map[string]any)
		switch {
		case v == nil:
			delete(dst, k)
		case isMap && wasMap:
			mergePatch(old, sub)
		default:
			dst[k] = v
		}
	}
}

// write checks next and brings it about: intent, act, result.
func (h *Handler) write(c *call, next *Envelope) error {
	if c.dry {
		c.next = next
		return h.check(c, next)
	}
	release, err := h.exclusive(c) // before the checks, which may look at siblings
	if err != nil {
		return err
	}
	defer release()
	if err := h.check(c, next); err != nil {
		return err
	}
	if c.old == nil {
		if err := h.leftovers(c.ctx, c.id); err != nil {
			return err
		}
	}
	stamp(next, c)
	status := http.StatusOK
	rt := c.route
	if c.old == nil {
		status = rt.Created()
	}
	if rt.Async {
		return h.startPut(c, next, status)
	}
	full := next
	if len(rt.writeOnly) > 0 {
		full = next.clone()
		dropPaths(next.Properties, rt.writeOnly)
	}
	if rt.acts {
		if err := h.putNow(c, full, next); err != nil {
			return err
		}
	} else {
		setDone(rt, next)
		if err := h.res.Put(c.ctx, next); err != nil {
			return conflict(err)
		}
		if err := h.orphaned(c, next); err != nil {
			return err
		}
	}
	return h.render(c, status, next)
}

// putNow saves the intent, acts, and saves the result. full is next with the
// properties that are never stored.
func (h *Handler) putNow(c *call, full, next *Envelope) error {
	rt := c.route
	intent := next.clone()
	intent.setState(map[bool]string{true: "Creating", false: "Updating"}[c.old == nil])
	if err := h.res.Put(c.ctx, intent); err != nil {
		return conflict(err)
	}
	if err := h.orphaned(c, intent); err != nil {
		return err
	}
	ctx := context.WithoutCancel(c.ctx) // the client may hang up; the work is finished
	if err := h.act(ctx, rt, c.old, full); err != nil {
		return errors.Join(err, h.undo(ctx, rt, c.old, intent))
	}
	dropPaths(full.Properties, rt.writeOnly)
	next.Properties, next.Private, next.Extra, next.Tags, next.Location = full.Properties, full.Private, full.Extra, full.Tags, full.Location
	next.rev = intent.rev
	setDone(rt, next)
	err := h.res.Put(ctx, next)
	if errors.Is(err, store.ErrConflict) {
		if _, gone := h.res.Get(ctx, next.RID()); errors.Is(gone, store.ErrNotFound) { // its parent was deleted meanwhile
			return errors.Join(conflict(err), h.undone(ctx, next))
		}
	}
	return conflict(err)
}

// undo puts back what was there before an intent that could not be acted on,
// unless somebody else has written since.
func (h *Handler) undo(ctx context.Context, rt *Route, old, intent *Envelope) error {
	if old == nil {
		err := h.cfg.Store.Delete(ctx, docKey(intent.RID()), intent.rev)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return errors.Join(err, h.forgetIdentity(ctx, rt, intent))
	}
	back := old.clone()
	back.rev = intent.rev
	if err := h.res.Put(ctx, back); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

func setDone(rt *Route, e *Envelope) {
	if !rt.noState {
		e.setState("Succeeded")
	} else {
		delete(e.Properties, "provisioningState")
	}
}

// check is default and validate, the pipeline's part first.
func (h *Handler) check(c *call, next *Envelope) error {
	rt := c.route
	if c.old != nil {
		if op, err := h.under(c.ctx, c.old); err != nil {
			return err
		} else if op != nil {
			return errBusy(c.id)
		}
		delete(next.Private, privateOp)
	}
	if c.old == nil {
		if err := checkName(rt, c.id.Name()); err != nil {
			return err
		}
	}
	if g, ok := c.id.Group(); ok && c.old == nil && !g.Equal(c.id) {
		if ge, err := h.res.Get(c.ctx, g); err == nil && ge.State() == "Deleting" {
			return apierr.New(apierr.Conflict, "ResourceGroupBeingDeleted",
				"The resource group '%s' is in deprovisioning state and cannot perform this operation.", g.Name())
		}
	}
	if err := h.location(c, next); err != nil {
		return err
	}
	if err := checkTags(next.Tags); err != nil {
		return err
	}
	dropPaths(next.Properties, rt.readOnly)
	dropPaths(next.Properties, []string{"provisioningState"})
	if c.old != nil {
		keepPaths(next, c.old, append(slices.Clone(rt.readOnly), "provisioningState"))
	}
	if err := h.identity(c, next); err != nil {
		return err
	}
	return rt.prepare(c.ctx, c.old, next)
}

func (h *Handler) location(c *call, next *Envelope) error {
	rt := c.route
	if !rt.Tracked {
		return nil
	}
	if next.Location == "" && c.old != nil {
		next.Location = c.old.Location
	}
	next.Location = NormalizeLocation(next.Location)
	if next.Location == "" {
		if rt.noLocation {
			return nil
		}
		return apierr.New(apierr.BadRequest, "LocationRequired", "The location property is required for this definition.").WithTarget("location")
	}
	if !KnownLocation(next.Location) {
		return apierr.New(apierr.BadRequest, "LocationNotAvailableForResourceType",
			"The provided location '%s' is not available for resource type '%s'. List of available regions for the resource type is '%s'.",
			next.Location, rt.Type, strings.Join(LocationNames(), ",")).WithTarget("location")
	}
	if c.old != nil && c.old.Location != "" && c.old.Location != next.Location {
		if rt.Type == rid.TypeResourceGroup {
			return apierr.New(apierr.Conflict, "InvalidResourceGroupLocation",
				"Invalid resource group location '%s'. The Resource group already exists in location '%s'.", next.Location, c.old.Location)
		}
		return apierr.New(apierr.Conflict, "InvalidResourceLocation",
			"The resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in location '%s'. Please select a new resource name.",
			c.old.Name, c.old.Location, c.id.ResourceGroup(), next.Location)
	}
	return nil
}

func checkName(rt *Route, name string) error {
	if rt.name != nil {
		return rt.name(name)
	}
	if len(name) > 260 || strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") {
		return apierr.New(apierr.BadRequest, "InvalidResourceName", "The resource name '%s' is invalid.", name)
	}
	return nil
}

// checkTags keeps ARM's limits. Source: "Use tags to organize your Azure resources", limitations.
func checkTags(tags map[string]string) error {
	if len(tags) > 50 {
		return apierr.New(apierr.BadRequest, "InvalidTags", "The number of tags is %d; at most 50 are allowed.", len(tags)).WithTarget("tags")
	}
	seen := map[string]bool{}
	for k, v := range tags {
		if seen[strings.ToLower(k)] {
			return apierr.New(apierr.BadRequest, "InvalidTags", "The tag name '%s' is there twice, in different letter case.", k).WithTarget("tags")
		}
		seen[strings.ToLower(k)] = true
		if k == "" || len(k) > 512 || len(v) > 256 {
			return apierr.New(apierr.BadRequest, "InvalidTagName", "The tag '%s' is invalid: names have 1 to 512 characters and values at most 256.", k).WithTarget("tags")
		}
		if strings.ContainsAny(k, `<>%&\?/`) {
			return apierr.New(apierr.BadRequest, "InvalidTagNameCharacters", `The tag name '%s' has reserved characters '<,>,%%,&,\,?,/' or control characters.`, k).WithTarget("tags")
		}
	}
	return nil
}

// dropPaths removes dotted paths from m.
func dropPaths(m map[string]any, paths []string) {
	for _, p := range paths {
		at, last := walk(m, p, false)
		if at != nil {
			delete(at, last)
		}
	}
}

// keepPaths takes dotted paths over from old, where it has them.
func keepPaths(next, old *Envelope, paths []string) {
	for _, p := range paths {
		from, last := walk(old.Properties, p, false)
		if from == nil {
			continue
		}
		if v, ok := from[last]; ok {
			if next.Properties == nil {
				next.Properties = map[string]any{}
			}
			to, _ := walk(next.Properties, p, true)
			to[last] = v
		}
	}
}

func walk(m map[string]any, path string, make bool) (map[string]any, string) {
	parts := strings.Split(path, ".")
	for _, p := range parts[:len(parts)-1] {
		sub, ok := m[p].(map[string]any)
		if !ok {
			if !make || m == nil {
				return nil, ""
			}
			sub = map[string]any{}
			m[p] = sub
		}
		m = sub
	}
	return m, parts[len(parts)-1]
}

func stamp(e *Envelope, c *call) {
	typ := "User"
	if c.caller.AppOnly {
		typ = "Application"
	}
	now := time.Now().UTC().Truncate(100 * time.Nanosecond) // as Azure shows times
	if c.old == nil {
		e.System.CreatedBy, e.System.CreatedByType, e.System.CreatedAt = c.caller.Display(), typ, now
	}
	e.System.LastModifiedBy, e.System.LastModifiedByType, e.System.LastModifiedAt = c.caller.Display(), typ, now
}

// conflict is the answer to a lost compare-and-swap.
func conflict(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return apierr.New(apierr.Conflict, "Conflict", "The resource was changed by another request at the same time. Read it again and retry.").WithCause(err)
	}
	return err
}

// exclusive takes the lock of the parent for types that allow one write at a
// time under it. It works across replicas; a lock left by a dead one expires.
func (h *Handler) exclusive(c *call) (release func(), err error) {
	if !c.route.exclusive {
		return func() {}, nil
	}
	key := "lock/" + strings.ToLower(c.route.Type) + c.id.Parent().Key()
	until, err := time.Now().Add(30 * time.Second).MarshalText()
	if err != nil {
		return nil, fmt.Errorf("encode lock: %w", err)
	}
	var rev int64
	if doc, err := h.cfg.Store.Get(c.ctx, key); err == nil {
		var t time.Time
		if t.UnmarshalText(doc.Value) == nil && time.Now().Before(t) {
			return nil, errExclusive(c)
		}
		rev = doc.Rev
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	mine, err := h.cfg.Store.Put(c.ctx, store.Doc{Key: key, Rev: rev, Kind: "lock", Value: until})
	if errors.Is(err, store.ErrConflict) {
		return nil, errExclusive(c)
	} else if err != nil {
		return nil, err
	}
	return func() {
		_ = h.cfg.Store.Delete(context.WithoutCancel(c.ctx), key, mine) // a lock that stays expires
	}, nil
}

func errExclusive(c *call) error {
	return apierr.New(apierr.Conflict, "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
		"Too many writes of type '%s' under '%s' at the same time. Only one may be in progress; retry.", c.route.Type, c.id.Parent())
}
