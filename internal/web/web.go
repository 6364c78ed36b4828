// Package web is what every surface stands on: an HTTP server with limits,
// the router from host name to surface, ids, one log event and one
// measurement for each request, and JSON in and out.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"lazurite.dev/internal/apierr"
)

// Limits of the servers that NewServer makes; bodies have one for each surface.
const (
	maxHeader         = 64 << 10
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	defaultBody       = 4 << 20
	defaultTimeout    = 2 * time.Minute
)

// NewServer is an HTTP server for http/1.1 and http/2 with limits on headers
// and times. What it has to say of connections goes to log at debug level:
// clients that go away are not news.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// IDs says how a surface names a request's ids to its client.
type IDs int

// The ways. All of them answer x-ms-request-id.
const (
	Management   IDs = iota // x-ms-correlation-request-id; x-ms-client-request-id on demand
	KeyVault                // x-ms-client-request-id always
	TokenService            // client-request-id on demand; it is the correlation id too
)

// Surface is one face of the system: the management plane, the vaults, ….
type Surface struct {
	Name    string        // as logs and metrics show it: "arm", "keyvault"
	Handler http.Handler  // nil: every request gets the error NoSurface
	MaxBody int64         // bytes of a request's body; 0 is 4 MiB
	Timeout time.Duration // to read a request and write its answer; 0 is two minutes, negative none
	IDs     IDs

	// Error writes what goes wrong before or around Handler (a panic, a name
	// with nothing behind it) in the surface's dialect; nil is WriteError.
	Error func(http.ResponseWriter, *http.Request, *apierr.Error)
}

// fail answers r with e in the surface's dialect and tells the event.
func (s *Surface) fail(w http.ResponseWriter, r *http.Request, e *apierr.Error) {
	EventFrom(r.Context()).Fail(e)
	if s.Error != nil {
		s.Error(w, r, e)
		return
	}
	WriteError(w, e)
}

func (s *Surface) maxBody() int64 {
	if s.MaxBody > 0 {
		return s.MaxBody
	}
	return defaultBody
}

func (s *Surface) timeout() time.Duration {
	if s.Timeout == 0 {
		return defaultTimeout
	}
	return s.Timeout
}

type contextKey int

const (
	eventKey contextKey = iota
	matchKey
)

// RequestID is the id made for the request of ctx: the answer's
// x-ms-request-id. "" outside a request.
func RequestID(ctx context.Context) string { return EventFrom(ctx).requestID }

// CorrelationID is the client's id for the request of ctx, or one made for it
// where it sent none. "" outside a request.
func CorrelationID(ctx context.Context) string { return EventFrom(ctx).correlationID }
