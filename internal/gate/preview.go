package gate

import (
	"context"
	"net/http"
	"net/url"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/trace"
)

// Preview is what a request would ask for.
type Preview struct {
	Target  *Target
	Action  string // data action, unless Manage
	Manage  bool
	Scope   rid.ID
	Network trace.Hop // how the network gate would judge the arrival in ctx
}

// Preview works out, without a caller, what a request would ask for. The method
// "" is GET, or where the path has no such operation the one that it has.
func (h *Handler) Preview(ctx context.Context, method string, u *url.URL) (Preview, error) {
	ctx, hops := trace.With(ctx)
	anyMethod := method == ""
	if anyMethod {
		method = http.MethodGet
	}
	c := &Call{Context: ctx, Request: &http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{}}}
	t, err := h.plane.Resolve(ctx, c.Request)
	if err != nil {
		return Preview{}, err
	}
	c.Target = t
	if _, err := h.network(c); err != nil {
		return Preview{}, err
	}
	p := Preview{Target: t, Scope: t.ID, Network: hops.Hops()[0]}
	op, err := h.operation(c)
	if anyMethod && apierr.Is(err, apierr.MethodNotAllowed) {
		for _, o := range h.plane.Operations {
			if c.Request.Method = o.Method; op == nil {
				op, _ = h.operation(c)
			}
		}
		err = nil
	}
	if err != nil {
		return p, err
	}
	p.Action, p.Manage = op.Action, op.Manage
	p.Scope, err = scopeOf(c, op)
	return p, err
}
