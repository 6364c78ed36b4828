package arm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Ask is a request that this process makes on behalf of somebody: of whoever
// deploys a template.
type Ask struct {
	Caller      *token.Claims // whose rights count
	Correlation string        // id that the activity log shows
	Method      string        // GET, PUT, DELETE or POST
	Path        string        // a resource's id, or id/action
	Version     string        // api-version
	Body        any           // encodes to JSON; nil: none

	// Dry asks of a PUT whether it would be taken, and what it would store.
	// Rights asks only whether the caller may.
	Dry, Rights bool
}

// Told is the answer to an Ask.
type Told struct {
	Status int
	Body   map[string]any // nil when there is none; of a dry PUT: as it would be shown
	Old    map[string]any // of a dry PUT: the resource as it is shown now; nil when there is none
}

// Do makes a request through the whole pipeline, all its checks included, and
// waits for the operation that it begins. Its errors are those that a client
// would get, and ctx's.
func (h *Handler) Do(ctx context.Context, a Ask) (*Told, error) {
	c, w, err := h.inside(ctx, a)
	if err != nil {
		return nil, err
	}
	ctx, hops := trace.With(c.ctx)
	c.ctx = ctx
	h.as(c, a.Caller)
	c.dry, c.rights = a.Dry || a.Rights, a.Rights
	err = checkText(c.r.URL)
	if err == nil {
		err = h.dispatch(c)
	}
	if err != nil {
		h.refuse(c, hops, err)
	}
	if !c.dry {
		h.activity(c, err)
	}
	switch {
	case err != nil:
		return nil, err
	case c.rights:
		return &Told{}, nil
	case c.dry:
		return c.preview()
	}
	return h.told(c, w)
}

// inside makes the call of an Ask.
func (h *Handler) inside(ctx context.Context, a Ask) (*call, *written, error) {
	var body []byte
	if a.Body != nil {
		var err error
		if body, err = json.Marshal(a.Body); err != nil {
			return nil, nil, fmt.Errorf("encode request: %w", err)
		}
	}
	ctx = web.Within(ctx, a.Correlation)
	r, err := http.NewRequestWithContext(ctx, a.Method, "/", bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("make request: %w", err)
	}
	r.URL = &url.URL{Path: a.Path, RawQuery: "api-version=" + url.QueryEscape(a.Version)}
	w := &written{header: http.Header{}, status: http.StatusOK}
	return &call{ctx: r.Context(), w: w, r: r}, w, nil
}

// preview is what a dry PUT found.
func (c *call) preview() (*Told, error) {
	t := &Told{Status: http.StatusOK}
	if c.next == nil {
		return nil, fmt.Errorf("a dry %s of %s", c.r.Method, c.r.URL.Path)
	}
	var err error
	if t.Body, err = asMap(c.next.wire(nil)); err != nil || c.old == nil {
		return t, err
	}
	now, err := c.route.shown(c.ctx, c.old)
	if err != nil {
		return nil, err
	}
	if t.Old, err = asMap(now.wire(nil)); err != nil {
		return nil, err
	}
	inline := c.old.clone()
	if err := c.route.inline(c.ctx, inline); err != nil {
		return nil, err
	}
	stored, err := asMap(inline.wire(nil))
	if err != nil {
		return nil, err
	}
	c.route.inlined(t.Old, stored, t.Body)
	withComputed(t.Old, stored, t.Body)
	return t, nil
}

// inlined prepares the lists that are stored elsewhere: one that is not sent
// stays as it is, and they are in an order that is nobody's.
func (r *Route) inlined(shown, stored, next map[string]any) {
	was, _ := shown["properties"].(map[string]any)
	kept, _ := stored["properties"].(map[string]any)
	now, _ := next["properties"].(map[string]any)
	for _, name := range r.writeOnly {
		switch list, isNext := now[name]; list := list.(type) {
		case []any:
			if old, ok := was[name].([]any); ok {
				now[name] = inOrderOf(old, list)
			}
		default:
			if !isNext {
				delete(kept, name)
			}
		}
	}
}

func asMap(v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode resource: %w", err)
	}
	m := map[string]any{}
	return m, decodeNumber(b, &m)
}

// told waits for what the call began.
func (h *Handler) told(c *call, w *written) (*Told, error) {
	t := &Told{Status: w.status}
	if where := w.header.Get("Azure-AsyncOperation"); where != "" {
		where, _, _ = strings.Cut(where, "?")
		op, err := h.cfg.Ops.Wait(c.ctx, where[strings.LastIndexByte(where, '/')+1:])
		if err != nil {
			return nil, err
		}
		if failed(op) {
			return nil, failure(op)
		}
		if c.r.Method != http.MethodPut {
			return t, nil
		}
		e, err := h.res.Get(c.ctx, c.id)
		if err != nil {
			return nil, err
		}
		if e, err = c.route.shown(c.ctx, e); err != nil {
			return nil, err
		}
		t.Body, err = asMap(e.wire(nil))
		return t, err
	}
	if w.body.Len() > 0 {
		if err := decodeNumber(w.body.Bytes(), &t.Body); err != nil {
			return nil, fmt.Errorf("decode the answer of %s: %w", c.r.URL.Path, err)
		}
	}
	return t, nil
}

// Settle waits until nothing is being done to the resource any more.
func (h *Handler) Settle(ctx context.Context, id rid.ID) error {
	e, err := h.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	op, err := h.under(ctx, e)
	if err != nil || op == nil {
		return err
	}
	_, err = h.cfg.Ops.Wait(ctx, op.ID)
	return err
}

// Cancel ends what is being done to the resource and gives it the state
// Canceled; a Conflict when nothing is.
func (h *Handler) Cancel(ctx context.Context, id rid.ID, code, reason string) error {
	e, err := h.res.Get(ctx, id)
	if err != nil {
		return err
	}
	op, err := h.under(ctx, e)
	if err != nil {
		return err
	}
	if op == nil || op.Runner != runPut {
		return apierr.New(apierr.Conflict, code, "Nothing that could be canceled is going on with '%s': it is in the state '%s'.", id, e.State())
	}
	if err := h.cfg.Ops.Cancel(ctx, op.ID, code, reason); err != nil {
		return err
	}
	if e, err = h.res.Get(ctx, id); err != nil || e.Private[privateOp] != op.ID {
		return err // it ended first
	}
	delete(e.Private, privateOp)
	e.setState(ops.Canceled)
	return conflict(h.res.Put(ctx, e))
}

// written is the answer to an Ask, kept.
type written struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *written) Header() http.Header { return w.header }

func (w *written) WriteHeader(status int) { w.status = status }

func (w *written) Write(b []byte) (int, error) { return w.body.Write(b) }
