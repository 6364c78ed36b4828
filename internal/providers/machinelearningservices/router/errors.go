package router

import (
	"net/http"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/web"
)

// The codes of refusals. Those that Azure has too come first: of credentials
// after the word "key" or "token", and of models in a header.
const (
	denied      = "_auth_access_denied"
	badHeader   = "_auth_bad_header_format"
	codePending = "too_many_pending_request"
	codeUnready = "model_not_ready"
	codeModel   = "model_error"

	codeRate       = "too_many_requests"
	codeTimeout    = "model_timeout"
	codeGone       = "model_gone" // the instance ended, or its connection, before it had answered
	codeSlow       = "request_timeout"
	codeNoEndpoint = "EndpointNotFound"
	codeNone       = "DeploymentNotFound"
	codeClosed     = "ClientClosedRequest"
)

// statusGone is what metrics call a client that went away, as nginx does.
const statusGone = 499

// The headers by which callers learn what a model answered.
const (
	headerStatus     = "Ms-Azureml-Model-Error-Statuscode"
	headerReason     = "Ms-Azureml-Model-Error-Reason"
	headerTime       = "Ms-Azureml-Model-Time" // milliseconds
	headerDeployment = "Azureml-Model-Deployment"
)

// statusOf is what a refusal is answered with.
func statusOf(e *apierr.Error) int {
	switch e.Code {
	case codeTimeout, codeSlow:
		return http.StatusRequestTimeout
	case codeGone:
		return http.StatusBadGateway
	case codeUnready:
		return http.StatusFailedDependency
	case codeClosed:
		return statusGone
	}
	return e.Kind.Status()
}

// writeError answers a refusal: its code and a sentence, as plain text.
func (r *Router) writeError(w http.ResponseWriter, c *gate.Call, e *apierr.Error) {
	switch e.Code {
	case token.CodeMissing:
		e = apierr.New(e.Kind, "token"+badHeader, "%s", e.Message)
	case token.CodeMalformed, token.CodeSignature, token.CodeExpired, token.CodeNotYetValid, token.CodeAudience, token.CodeIssuer:
		e = apierr.New(e.Kind, "token"+denied, "%s", e.Message)
	}
	switch e.Code {
	case codePending, codeUnready, codeTimeout, codeGone, codeRate:
		w.Header().Set(headerReason, e.Code)
	}
	if a, ok := c.State.(*ask); ok && a.dep != nil {
		w.Header().Set(headerDeployment, a.dep.Name)
	}
	if a, ok := c.State.(*ask); !ok || !a.counted {
		r.meter.refused(c, statusOf(e))
	}
	write(w, statusOf(e), e)
}

// WriteError is what a surface writes where the gate is not asked.
func WriteError(w http.ResponseWriter, _ *http.Request, e *apierr.Error) { write(w, statusOf(e), e) }

func write(w http.ResponseWriter, status int, e *apierr.Error) {
	text := e.Code + ": " + e.Message + "\n"
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("X-Content-Type-Options", "nosniff")
	if e.RetryAfter > 0 {
		web.SetRetryAfter(h, e.RetryAfter)
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a client that has gone is seen by the server
}

// clip bounds what callers sent, where a message repeats it.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
