// Package apierr holds the one error type that travels inside Lazurite.
//
// Every surface (management, token service, Key Vault, Graph, the command
// line) turns an [Error] into its own dialect in exactly one place. Anything
// that is not an [Error] is internal: it is logged in full and shown to the
// caller as one fixed sentence.
package apierr

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"
)

// Kind is what went wrong, in words that all surfaces share.
type Kind int

// The kinds, each with the HTTP status that surfaces use unless they say otherwise.
const (
	Internal           Kind = iota // 500
	BadRequest                     // 400
	Unauthorized                   // 401
	Forbidden                      // 403
	NotFound                       // 404
	MethodNotAllowed               // 405
	Conflict                       // 409
	PreconditionFailed             // 412
	TooLarge                       // 413
	UnsupportedMedia               // 415
	TooManyRequests                // 429
	NotImplemented                 // 501
	Unavailable                    // 503
)

// Status is the HTTP status of k (RFC 9110 section 15).
func (k Kind) Status() int {
	switch k {
	case BadRequest:
		return http.StatusBadRequest
	case Unauthorized:
		return http.StatusUnauthorized
	case Forbidden:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case Conflict:
		return http.StatusConflict
	case PreconditionFailed:
		return http.StatusPreconditionFailed
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case TooManyRequests:
		return http.StatusTooManyRequests
	case NotImplemented:
		return http.StatusNotImplemented
	case Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Error is a refusal or failure that the caller may see in full.
type Error struct {
	Kind    Kind
	Code    string  // the surface's own code: "ResourceNotFound", "SecretNotFound", "invalid_client"
	Message string  // one or more sentences for a person
	Inner   string  // innererror code (Key Vault) or AADSTS number (token service); may be empty
	Target  string  // the offending field, where one is to blame
	Details []Error // further mistakes found in the same request

	RetryAfter time.Duration // for TooManyRequests and Unavailable; 0 means not said
	Cause      error         // for the log only; never shown
}

// New makes an Error whose message is formatted as by fmt.Sprintf.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error gives code and message on one line.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.Message
	}
	return e.Code + ": " + e.Message
}

// Unwrap gives the cause, so that errors.Is sees through e.
func (e *Error) Unwrap() error { return e.Cause }

// WithInner sets the innererror code and returns e.
func (e *Error) WithInner(code string) *Error { e.Inner = code; return e }

// WithTarget sets the offending field and returns e.
func (e *Error) WithTarget(field string) *Error { e.Target = field; return e }

// WithCause sets the cause, which only the log shows, and returns e.
func (e *Error) WithCause(err error) *Error { e.Cause = err; return e }

// From gives err's Error, or an Internal one whose message says nothing of err
// but that a disk is full. It returns nil for nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, syscall.ENOSPC) {
		return New(Unavailable, "InsufficientStorage", "The disk that holds Lazurite's state is full. Make room on it and try again.").WithCause(err)
	}
	return &Error{
		Kind:    Internal,
		Code:    "InternalServerError",
		Message: "The server met an unexpected condition. The log has the details under this request's id.",
		Cause:   err,
	}
}

// Is reports whether err is an Error of the kind.
func Is(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}
