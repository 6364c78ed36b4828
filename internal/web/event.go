package web

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
)

// Event is the one log record of a request. Whoever learns something about
// the request writes it here; the front door logs it once, at the end. Its
// methods may be called at the same time, and on the Event of a context
// without a request, which is thrown away.
//
// Secrets don't belong here: no token, no Authorization header, no query.
type Event struct {
	requestID     string
	correlationID string
	surface       string
	start         time.Time

	mu        sync.Mutex // guards the rest
	principal string
	operation string
	resource  string
	code      string
	cause     error
	attrs     []slog.Attr
}

// EventFrom is the event of ctx's request; never nil.
func EventFrom(ctx context.Context) *Event {
	if e, ok := ctx.Value(eventKey).(*Event); ok {
		return e
	}
	return &Event{}
}

// Within gives ctx the event of a request that is made inside, on behalf of
// one whose correlation id it shares. It is not logged.
func Within(ctx context.Context, correlation string) context.Context {
	return context.WithValue(ctx, eventKey, &Event{requestID: uuid.NewString(), correlationID: correlation})
}

// SetPrincipal says who asked: an object id, and what a person knows it by if known.
func (e *Event) SetPrincipal(who string) { e.with(func() { e.principal = who }) }

// SetOperation says what was asked for: "Microsoft.KeyVault/vaults/secrets/getSecret/action".
func (e *Event) SetOperation(name string) { e.with(func() { e.operation = name }) }

// SetResource says of which resource, by its id.
func (e *Event) SetResource(id string) { e.with(func() { e.resource = id }) }

// Set adds an attribute. A key that is set again keeps both values.
func (e *Event) Set(key string, value any) {
	e.with(func() { e.attrs = append(e.attrs, slog.Any(key, value)) })
}

// Fail says why the request was refused or failed. The first call counts; of
// an error that is no apierr.Error the whole text is logged. It does nothing
// for nil.
func (e *Event) Fail(err error) {
	if err == nil {
		return
	}
	ae := apierr.From(err)
	e.with(func() {
		if e.code != "" {
			return
		}
		e.code, e.cause = ae.Code, ae.Cause
		if ae.Kind != apierr.Internal {
			e.attrs = append(e.attrs, slog.String("error", ae.Message))
		}
	})
}

func (e *Event) with(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// list gives the event's own attributes, leaving out what nobody said.
func (e *Event) list() []slog.Attr {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]slog.Attr, 0, 6+len(e.attrs))
	for _, a := range []struct{ k, v string }{
		{"principal", e.principal}, {"operation", e.operation}, {"resource", e.resource}, {"code", e.code},
	} {
		if a.v != "" {
			out = append(out, slog.String(a.k, a.v))
		}
	}
	if e.cause != nil {
		out = append(out, slog.String("cause", e.cause.Error()))
	}
	return append(out, e.attrs...)
}
