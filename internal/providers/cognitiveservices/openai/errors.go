package openai

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Codes that more than one place speaks of.
const (
	codeSubdomain    = "BadRequest"
	codeNoDeployment = "DeploymentNotFound"
	codeUnsupported  = "OperationNotSupported"
	codeLimited      = "429"
)

// The limits that a request can run into, as Error.Inner of a 429.
const (
	limitTokens   = "token"
	limitRequests = "call"
)

// notFound is the answer for paths, api-versions and hosts that are none.
func notFound() *apierr.Error { return apierr.New(apierr.NotFound, "404", "Resource not found") }

func wrongKey() *apierr.Error {
	return apierr.New(apierr.Unauthorized, "401", "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.")
}

func noDeployment(c *gate.Call, name string) *apierr.Error {
	id := c.Target.ID
	trace.Add(c.Context, trace.Hop{
		Step: "deployment", Subject: id.String(), Received: name, Found: "the account has no deployment of this name",
		Fix: "az cognitiveservices account deployment create --name " + id.Name() + " --resource-group " + id.ResourceGroup() + " --deployment-name " + plainName(name) +
			" --model-name MODEL --model-version VERSION --model-format OpenAI --sku-name Standard --sku-capacity 10",
	})
	return apierr.New(apierr.NotFound, codeNoDeployment, "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again.")
}

// plainName is name if it may stand in a command that a person copies.
func plainName(name string) string {
	for _, r := range name {
		if r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return "NAME"
		}
	}
	if name == "" || len(name) > 64 || name[0] == '-' {
		return "NAME"
	}
	return name
}

func unsupported(word, model string) *apierr.Error {
	return apierr.New(apierr.BadRequest, codeUnsupported,
		"The %s operation does not work with the specified model, %s. Please choose different model and try again. You can learn more about which models can be used with each operation here: https://go.microsoft.com/fwlink/?linkid=2197993.", word, model)
}

// limited is the refusal of what is more than a deployment's capacity.
func limited(c *gate.Call, op *operation, r *refused) *apierr.Error {
	limit := limitTokens
	if r.requests {
		limit = limitRequests
	}
	seconds := int(math.Ceil(r.wait.Seconds()))
	e := apierr.New(apierr.TooManyRequests, codeLimited,
		"Requests to the %s Operation under Azure OpenAI API version %s have exceeded %s rate limit of your current OpenAI S0 pricing tier. Please retry after %d seconds. Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.",
		op.name, c.APIVersion, limit, seconds).WithInner(limit)
	e.RetryAfter = r.wait
	return e
}

// writeError puts a refusal into the service's words.
func writeError(w http.ResponseWriter, c *gate.Call, e *apierr.Error) {
	h := w.Header()
	switch {
	case e.Kind == apierr.TooManyRequests:
		limitHeaders(h, e)
	case e.Code == token.CodeMissing:
		e = wrongKey()
	case e.Kind == apierr.Unauthorized && isTokenCode(e.Code):
		web.WriteJSON(w, http.StatusUnauthorized, map[string]any{
			"statusCode": http.StatusUnauthorized,
			"message":    "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired.",
		})
		return
	case e.Kind == apierr.NotFound && e.Code == "NotFound", e.Kind == apierr.MethodNotAllowed:
		e = notFound()
	}
	web.WriteJSON(w, e.Kind.Status(), map[string]any{"error": errorBody(e)})
}

// errorBody is an error in the form that clients of OpenAI read.
func errorBody(e *apierr.Error) map[string]any {
	body := map[string]any{"code": e.Code, "message": e.Message}
	switch e.Kind {
	case apierr.BadRequest, apierr.TooLarge:
		if e.Code != codeUnsupported {
			body["type"], body["param"] = "invalid_request_error", nil
		}
		if e.Target != "" {
			body["param"] = e.Target
		}
	case apierr.Unavailable, apierr.Internal:
		body["type"] = "server_error"
	}
	return body
}

// limitHeaders say when to come again.
func limitHeaders(h http.Header, e *apierr.Error) {
	if e.RetryAfter <= 0 {
		return
	}
	h.Set("Retry-After-Ms", strconv.FormatInt(e.RetryAfter.Milliseconds(), 10))
	seconds := strconv.Itoa(int((e.RetryAfter + time.Second - 1) / time.Second))
	switch e.Inner {
	case limitTokens:
		h.Set("X-Ratelimit-Reset-Tokens", seconds)
		h.Set("X-Ratelimit-Remaining-Tokens", "0")
		h.Set("Policy-Id", "DeploymentRatelimit-Token")
	case limitRequests:
		h.Set("X-Ratelimit-Reset-Requests", seconds)
		h.Set("X-Ratelimit-Remaining-Requests", "0")
		h.Set("Policy-Id", "DeploymentRatelimit-Call")
	}
}

// WriteError is what a surface writes where the gate is not asked.
func WriteError(w http.ResponseWriter, _ *http.Request, e *apierr.Error) { writeError(w, nil, e) }

// streamError is the event that ends a stream which the backend did not end.
// Clients of OpenAI raise it as an error.
func streamError(responses bool, message string) []byte {
	if responses {
		return fmt.Appendf(nil, "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":%q,\"param\":null}\n\n", message)
	}
	return fmt.Appendf(nil, "data: {\"error\":{\"message\":%q,\"type\":\"server_error\",\"param\":null,\"code\":\"InternalServerError\"}}\n\n", message)
}
