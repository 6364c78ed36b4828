package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
)

// failure is an error with the exit status and the words for stderr.
type failure struct {
	status int
	msg    string
	hint   string // a second line: what to do

	ofCommand bool // az names the command before the message
}

func (f *failure) Error() string { return f.msg }

// errVerdict comes beside a value that says no: it is printed, and the exit
// status is 1.
var errVerdict = errors.New("no")

func usagef(format string, args ...any) error {
	return &failure{status: exitUsage, msg: fmt.Sprintf(format, args...)}
}

func failf(format string, args ...any) error {
	return &failure{status: exitError, msg: fmt.Sprintf(format, args...)}
}

func notFoundf(format string, args ...any) error {
	return &failure{status: exitNotFound, msg: fmt.Sprintf(format, args...)}
}

func withHint(err error, format string, args ...any) error {
	var f *failure
	if errors.As(err, &f) {
		f.hint = fmt.Sprintf(format, args...)
	}
	return err
}

// remoteError is a refusal by the server.
type remoteError struct {
	status        int // HTTP
	correlationID string
	dialect       dialect
	err           apierr.Error
	inner         any // the innererror object, as it came
}

type dialect int

const (
	dialectODATA dialect = iota // management and Key Vault: "(Code) message"
	dialectPlain                // Graph and the token service: the message
)

func (e *remoteError) Error() string { return e.err.Error() }

func (e *remoteError) Unwrap() error { return &e.err }

// readRemote makes the error of an answer whose status says that it failed.
func readRemote(resp *answer, d dialect) *remoteError {
	e := &remoteError{status: resp.status, dialect: d}
	e.correlationID = resp.header.Get("x-ms-correlation-request-id")
	if e.correlationID == "" {
		e.correlationID = resp.header.Get("x-ms-request-id")
	}
	e.err.Kind = kindOf(resp.status)
	var env struct {
		Error json.RawMessage
		Desc  string `json:"error_description"`
		Corr  string `json:"correlation_id"`
	}
	if json.Unmarshal(resp.body, &env) != nil || len(env.Error) == 0 {
		e.err.Code = strings.ReplaceAll(http.StatusText(resp.status), " ", "")
		e.err.Message = firstNonEmpty(strings.TrimSpace(string(resp.body)), "Operation returned an invalid status '"+http.StatusText(resp.status)+"'")
		return e
	}
	var code string
	if json.Unmarshal(env.Error, &code) == nil { // the token service
		e.err.Code, e.err.Message, e.dialect = code, firstNonEmpty(env.Desc, code), dialectPlain
		e.correlationID = firstNonEmpty(env.Corr, e.correlationID)
		return e
	}
	e.readODATA(env.Error)
	return e
}

type odataError struct {
	Code       string
	Message    string
	Target     string
	Details    []odataError
	InnerError any
}

func (e *remoteError) readODATA(raw json.RawMessage) {
	var o odataError
	if err := json.Unmarshal(raw, &o); err != nil {
		e.err.Code, e.err.Message = "Unknown", string(raw)
		return
	}
	kind := e.err.Kind
	e.err = o.apierr(kind)
	e.inner = o.InnerError
}

func (o odataError) apierr(kind apierr.Kind) apierr.Error {
	out := apierr.Error{Kind: kind, Code: o.Code, Message: o.Message, Target: o.Target}
	for _, d := range o.Details {
		out.Details = append(out.Details, d.apierr(kind))
	}
	return out
}

func kindOf(status int) apierr.Kind {
	for k := apierr.BadRequest; k <= apierr.Unavailable; k++ {
		if k.Status() == status {
			return k
		}
	}
	return apierr.Internal
}

// lines is the text for stderr after "ERROR: ".
func (e *remoteError) lines() string {
	if e.dialect == dialectPlain {
		return e.err.Message
	}
	var b strings.Builder
	fmt.Fprintf(&b, "(%s) %s\nCode: %s\nMessage: %s", e.err.Code, e.err.Message, e.err.Code, e.err.Message)
	if e.err.Target != "" {
		fmt.Fprintf(&b, "\nTarget: %s", e.err.Target)
	}
	if len(e.err.Details) > 0 {
		b.WriteString("\nException Details:")
		for _, d := range e.err.Details {
			fmt.Fprintf(&b, "\t(%s) %s\n\tCode: %s\n\tMessage: %s", d.Code, d.Message, d.Code, d.Message)
			if d.Target != "" {
				fmt.Fprintf(&b, "\n\tTarget: %s", d.Target)
			}
		}
	}
	if e.inner != nil {
		if j, err := json.MarshalIndent(e.inner, "", "    "); err == nil {
			fmt.Fprintf(&b, "\nInner error: %s", j)
		}
	}
	return b.String()
}

// fail prints err and gives the exit status.
func fail(env Env, err error) int {
	var f *failure
	var r *remoteError
	switch {
	case errors.As(err, &f):
		fmt.Fprintf(env.Stderr, "ERROR: %s\n", f.msg)
		if f.hint != "" {
			fmt.Fprintln(env.Stderr, f.hint)
		}
		return f.status
	case errors.As(err, &r):
		fmt.Fprintf(env.Stderr, "ERROR: %s\n", r.lines())
		if r.correlationID != "" && r.recorded() {
			fmt.Fprintf(env.Stderr, "To see why: laz explain %s\n", r.correlationID)
		}
		if r.status == http.StatusNotFound {
			return exitNotFound
		}
		return exitError
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(env.Stderr, "ERROR: interrupted")
		return exitError
	default:
		fmt.Fprintf(env.Stderr, "ERROR: %s\n", err)
		return exitError
	}
}

// recorded reports whether the server keeps what it found: of refusals of the
// token service, of policy and of firewalls.
func (r *remoteError) recorded() bool {
	return r.status == http.StatusUnauthorized || r.status == http.StatusForbidden || strings.HasPrefix(r.err.Message, "AADSTS")
}

// isStatus reports whether err is a refusal with the HTTP status.
func isStatus(err error, status int) bool {
	var r *remoteError
	return errors.As(err, &r) && r.status == status
}

// isCode reports whether err is a refusal with the code.
func isCode(err error, code string) bool {
	var r *remoteError
	return errors.As(err, &r) && r.err.Code == code
}

func firstNonEmpty(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}
