package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// ask is one request to a model.
type ask struct {
	p       *plane
	c       *gate.Call
	row     *operation
	began   time.Time
	body    []byte
	letGo   func() // of the memory that the body takes
	fields  inference.Fields
	dep     *cognitiveservices.Deployment
	prompt  int // estimated tokens
	ticket  *ticket
	tell    bool // the refusal is worth keeping
	hide    bool // the client did not ask for usage
	base64  bool // it wants embeddings so
	answer  *inference.Answer
	first   time.Duration // until the answer began
	status  int           // that was answered, statusGone of a client that went away
	broken  string        // why the answer did not come to its end
	streams bool          // the answer is a stream of events
	shown   []byte        // prompt_filter_results; nil where no filter ran
	capture []byte        // of the answer, where the owner wants it logged
}

// limit reads the request, finds its deployment and takes its share of the
// deployment's capacity.
func (p *plane) limit(c *gate.Call) error {
	row := rowOf(c)
	if row.op == "" {
		return nil
	}
	a := &ask{p: p, c: c, row: row, began: time.Now()}
	c.State = a
	if !row.byModel { // who may not ask now is told so before its prompt was read
		if err := a.find(c.Params["deployment"]); err != nil {
			return err
		}
		if r := p.quotas.allows(a.dep.ID.Key(), who(c), p.allowance(a.dep)); r != nil {
			return a.tooMuch(r, 1)
		}
	}
	if err := a.open(); err != nil {
		return err
	}
	output := a.fields.MaxTokens
	if output == 0 && row.op != inference.Embeddings {
		output = defaultOutput
	}
	a.prompt = estimate(a.body, 0, 1)
	n := a.prompt + min(output, mostTokens)*min(a.fields.N, 128)
	var r *refused
	if a.ticket, r = p.quotas.admit(a.dep.ID.Key(), who(c), p.allowance(a.dep), n); r == nil {
		return nil
	}
	return a.tooMuch(r, n)
}

// tooMuch is the refusal of a request of so many tokens that the deployment's
// limits leave no room for.
func (a *ask) tooMuch(r *refused, n int) error {
	p, c := a.p, a.c
	a.tell = r.first
	e := limited(c, a.row, r)
	id := c.Target.ID
	account, deployment, _ := p.meter.names(id, a.dep.Name, "")
	p.meter.limited.WithLabelValues(account, deployment, e.Inner).Inc()
	a.event(http.StatusTooManyRequests, usage{}, false)
	most := p.allowance(a.dep)
	received, expected := "a request of about "+strconv.Itoa(n)+" tokens", strconv.Itoa(int(most.tokens))+" tokens a minute"
	if r.requests {
		received, expected = "one request more", strconv.Itoa(int(most.requests))+" requests a minute"
	}
	trace.Add(c.Context, trace.Hop{
		Step: "capacity", Subject: a.dep.ID.String(), Received: received, Expected: expected,
		Found: "the deployment's capacity was used up, or the caller's part of it while others wait",
		Fix: "az cognitiveservices account deployment create --name " + id.Name() + " --resource-group " + id.ResourceGroup() + " --deployment-name " + a.dep.Name +
			" --model-name " + a.dep.Model + " --model-version " + a.dep.Version + " --model-format OpenAI --sku-name " + a.dep.SKU + " --sku-capacity " + strconv.Itoa(2*max(1, a.dep.Capacity)),
	})
	return e
}

// allowance is what a deployment may do in a minute, or this server's part of it.
func (p *plane) allowance(d *cognitiveservices.Deployment) allowance {
	a := allowance{tokens: float64(max(1, d.Capacity)) * 1000, requests: float64(max(1, d.Capacity)) * 6}
	for _, l := range d.RateLimits {
		if l.Period <= 0 || l.Count <= 0 {
			continue
		}
		n := float64(l.Count) * 60 / float64(l.Period)
		switch l.Key {
		case "token":
			a.tokens = n
		case "request":
			a.requests = n
		}
	}
	replicas := float64(max(1, p.Replicas))
	return allowance{tokens: max(1, a.tokens/replicas), requests: max(1, a.requests/replicas)}
}

// open reads the request and finds the deployment and what it can do.
func (a *ask) open() error {
	body := &held{ReadCloser: a.c.Request.Body, of: &a.p.bodies, who: turn(a.c)}
	a.c.Request.Body, a.letGo = body, body.letGo
	a.c.AtEnd(body.letGo)
	var err error
	if a.body, err = a.c.Body(); errors.Is(err, errCrowded) {
		e := apierr.New(apierr.Unavailable, "ServiceUnavailable", "The gateway holds as many prompts as it can. Please retry after a second.").WithCause(err)
		e.RetryAfter = time.Second
		return e
	}
	if err != nil {
		return err
	}
	if a.fields, err = inference.Peek(a.body); err != nil {
		return err
	}
	if a.row.byModel {
		if a.fields.Model == "" {
			return apierr.New(apierr.BadRequest, "BadRequest", "you must provide a model parameter").WithTarget("model")
		}
		if err := a.find(a.fields.Model); err != nil {
			return err
		}
	}
	return a.stateless()
}

// find finds the deployment of that name, and what it can do.
func (a *ask) find(name string) error {
	var err error
	if a.dep, err = a.p.deployment(a.c.Context, a.c, name); err != nil {
		return err
	}
	web.EventFrom(a.c.Context).Set("deployment", a.dep.Name)
	m, ok := a.p.Models.Find(a.dep.Model, a.dep.Version)
	if !ok {
		return a.noModel()
	}
	if !m.Capabilities.Can(a.row.op) {
		return a.cannot(m)
	}
	return nil
}

// noModel answers where the catalogue has lost the deployment's model.
func (a *ask) noModel() error {
	trace.Add(a.c.Context, trace.Hop{
		Step: "model", Subject: a.dep.ID.String(), Received: a.dep.Model + " " + a.dep.Version,
		Found: "no backend serves the deployment's model: the setting `models:` lacks it, or its server is not there", Fix: "laz models list",
	})
	return apierr.New(apierr.Unavailable, "ModelNotAvailable", "The model '%s', version '%s', of the deployment '%s' is not served at the moment. `laz models list` shows what is; the setting is `models:`.", a.dep.Model, a.dep.Version, a.dep.Name)
}

func (a *ask) cannot(m *inference.Model) error {
	hop := trace.Hop{Step: "model", Subject: a.dep.ID.String(), Received: a.row.word, Found: "the model " + m.Name + " does not do this"}
	e := unsupported(a.row.word, a.dep.Model)
	if m.Builtin() {
		hop.Found = "the deployment is served by the built-in model, which only drafts product descriptions; the setting `models:` names backends that do more"
		hop.Fix = "laz models list"
		e.Message += " The deployment is served by the built-in model; the setting `models:` names a backend for another."
	}
	trace.Add(a.c.Context, hop)
	return e
}

// stateless refuses what needs responses to be stored.
func (a *ask) stateless() error {
	if a.row.op != inference.Responses {
		return nil
	}
	var asks map[string]json.RawMessage // names as they are written, as backends take them
	if err := json.Unmarshal(a.body, &asks); err != nil {
		return apierr.New(apierr.BadRequest, "BadRequest", "The request body is not valid.").WithCause(err)
	}
	says := func(name string) bool {
		switch string(asks[name]) {
		case "", "null", "false", `""`:
			return false
		}
		return true
	}
	refuse := func(field, text string) error {
		return apierr.New(apierr.BadRequest, "invalid_request_error", "%s", text).WithTarget(field)
	}
	switch {
	case says("previous_response_id"):
		return refuse("previous_response_id", "Previous response with id "+clip(strings.ReplaceAll(string(asks["previous_response_id"]), `"`, "'"))+" not found. Responses are not stored here: send the conversation with each request.")
	case says("background"):
		return refuse("background", "Background responses are not supported: responses are not stored here.")
	case says("conversation"):
		return refuse("conversation", "Conversations are not supported: responses are not stored here.")
	}
	return nil
}

// ask passes a request on to the deployment's model.
func (p *plane) ask(c *gate.Call) (any, error) {
	a := c.State.(*ask)
	set, err := a.prepare()
	if err != nil {
		a.give(err)
		return nil, err
	}
	if p.Filter != nil {
		reply, err := a.checkPrompt()
		if err != nil {
			return nil, a.give(err)
		}
		if reply != nil {
			return reply, nil
		}
	}
	a.answer, err = p.Models.Do(c.Context, a.dep.Model, a.dep.Version, &inference.Call{
		Operation: a.row.op, Body: a.body, Set: set, Stream: a.fields.Stream, Header: passed(c.Request.Header), Key: turn(c),
	})
	if err != nil {
		return nil, a.give(err)
	}
	a.forget()
	if a.answer.Status >= http.StatusBadRequest {
		return a.failure()
	}
	if a.fields.Stream && isStream(a.answer) {
		return gate.Answer(a.stream), nil
	}
	return a.whole()
}

// forget lets the prompt go: the model has it, and its answer may last long.
func (a *ask) forget() {
	kept := []byte(nil)
	if a.dep.ContentLogging {
		kept = bytes.Clone(a.body[:min(len(a.body), mostCaptured)])
	}
	a.body, a.fields.StreamOption = kept, nil
	a.c.Forget()
	a.letGo()
}

func isStream(a *inference.Answer) bool {
	return strings.HasPrefix(strings.ToLower(a.Header.Get("Content-Type")), "text/event-stream")
}

// passed is what of the client's header a backend gets.
func passed(h http.Header) http.Header {
	out := http.Header{}
	for _, name := range []string{"Traceparent", "Tracestate", "X-Ms-Client-Request-Id"} {
		if v := h.Values(name); len(v) > 0 {
			out[name] = slices.Clone(v)
		}
	}
	return out
}

// prepare is what of the body the backend gets otherwise: streams have to say their
// usage, responses are not to be stored.
func (a *ask) prepare() (set []inference.Member, err error) {
	switch a.row.op {
	case inference.Chat, inference.Completions:
		if bytes.Contains(a.body, []byte(`"store"`)) { // a backend would keep prompt and answer
			set = append(set, inference.Member{Key: "store", Value: json.RawMessage("false")})
		}
		if !a.fields.Stream || a.fields.IncludeUsage != nil && *a.fields.IncludeUsage {
			return set, nil
		}
		a.hide = true
		options := a.fields.StreamOption
		if options == nil {
			options = json.RawMessage(`{}`)
		}
		options, err := inference.Set(options, "include_usage", json.RawMessage("true"))
		return append(set, inference.Member{Key: "stream_options", Value: options}), err
	case inference.Responses:
		return []inference.Member{{Key: "store", Value: json.RawMessage("false")}}, nil
	case inference.Embeddings:
		a.base64 = bytes.Contains(a.body, []byte(`"base64"`)) && wantsBase64(a.body)
	}
	return nil, nil
}

// give ends a request that got no answer, and gives the error that is told.
func (a *ask) give(err error) error {
	status := apierr.From(err).Kind.Status()
	if a.c.Context.Err() != nil {
		status, err = statusGone, errGone()
	} else if e, ok := errors.AsType[*apierr.Error](err); !ok || e.Kind == apierr.NotFound {
		if ok { // the catalogue has changed since
			err = a.noModel()
		} else {
			err = apierr.New(apierr.Unavailable, "ServiceUnavailable", "The backend of the model '%s' could not be reached.", a.dep.Model).WithCause(err)
		}
		status = http.StatusServiceUnavailable
	}
	if apierr.Is(err, apierr.Unavailable) {
		trace.Add(a.c.Context, trace.Hop{Step: "backend", Subject: a.dep.Model, Found: apierr.From(err).Message, Fix: "laz models test " + plainName(a.dep.Model)})
	}
	if status == statusGone { // the model may have read all of it by then
		a.finish(status, usage{Prompt: a.prompt}, true)
		return err
	}
	a.finish(status, usage{}, false)
	return err
}

// statusGone is what logs call a client that went away, as nginx does.
const statusGone = 499

func errGone() error {
	return apierr.New(apierr.BadRequest, "ClientClosedRequest", "The client went away before the answer began.")
}

// mostError bounds the text of a backend's failure.
const mostError = 1 << 20

// failure passes a backend's refusal on where it is the client's business.
func (a *ask) failure() (any, error) {
	text, err := io.ReadAll(io.LimitReader(a.answer.Body, mostError))
	_ = a.answer.Body.Close()
	status := a.answer.Status
	var e *apierr.Error
	switch {
	case status == http.StatusTooManyRequests:
		e = apierr.New(apierr.TooManyRequests, "429", "The backend of the model '%s' has too much to do. Please retry.", a.dep.Model)
		e.RetryAfter = retryAfter(a.answer.Header)
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		e = apierr.New(apierr.Unavailable, "ServiceUnavailable", "The backend of the model '%s' refused this gateway's request with the status %d.", a.dep.Model, status)
	case status == http.StatusNotImplemented || status == http.StatusHTTPVersionNotSupported:
		e = apierr.New(apierr.BadRequest, "OperationNotSupported", "The backend of the model '%s' does not do what the request asks for: it answered the status %d.", a.dep.Model, status)
	case status >= http.StatusInternalServerError && status != http.StatusInternalServerError:
		e = apierr.New(apierr.Unavailable, "ServiceUnavailable", "The backend of the model '%s' is unavailable: it answered the status %d.", a.dep.Model, status)
	case status == http.StatusInternalServerError:
		e = apierr.New(apierr.Internal, "InternalServerError", "The server had an error while processing your request. Sorry about that!")
	case err == nil && json.Valid(text):
		a.finish(status, usage{}, false)
		return &gate.Reply{Status: status, Header: a.headers(), Body: json.RawMessage(scrub(text, a.answer.Host))}, nil
	default:
		e = apierr.New(apierr.BadRequest, "BadRequest", "The backend of the model '%s' refused the request with the status %d.", a.dep.Model, status)
	}
	if e.Kind != apierr.BadRequest {
		trace.Add(a.c.Context, trace.Hop{
			Step: "backend", Subject: a.answer.Backend, Received: "status " + strconv.Itoa(status), // its text may name the operator's keys
			Found: "the backend did not answer as it should", Fix: "laz models test " + plainName(a.dep.Model),
		})
	}
	a.finish(e.Kind.Status(), usage{}, false)
	return nil, e
}

// retryAfter is what a backend says of when to come again, a second where it
// says nothing.
func retryAfter(h http.Header) time.Duration {
	if n, err := strconv.Atoi(h.Get("Retry-After")); err == nil && n > 0 && n < 3600 {
		return time.Duration(n) * time.Second
	}
	return time.Second
}

// headers are those of an answer besides what all have.
func (a *ask) headers() http.Header {
	h := http.Header{
		"Cache-Control":                  {"no-cache, must-revalidate"},
		"Access-Control-Allow-Origin":    {"*"},
		"X-Accel-Buffering":              {"no"},
		"X-Ratelimit-Remaining-Tokens":   {strconv.Itoa(a.ticket.leftTokens)},
		"X-Ratelimit-Remaining-Requests": {strconv.Itoa(a.ticket.leftRequests)},
	}
	if ct := a.answer.Header.Get("Content-Type"); ct != "" {
		h.Set("Content-Type", ct)
	}
	return h
}

// finish counts and logs a request, once.
func (a *ask) finish(status int, u usage, estimated bool) {
	a.ticket.settle(u.Prompt + u.Completion)
	a.event(status, u, estimated)
}

// Outcome is how it ended, for explanations.
func (a *ask) Outcome() string {
	switch {
	case a.status == statusGone:
		return "499 " + reasonClient
	case a.broken != "":
		return strconv.Itoa(a.status) + ", broken: " + a.broken
	}
	return strconv.Itoa(a.status) + " " + http.StatusText(a.status)
}

// hop says which backend answered, and what it cost. The function lives longer
// than the request: it holds nothing large.
func (a *ask) hop(u usage, estimated bool) func() trace.Hop {
	dep, backend, attempts, first, ok := a.dep, a.answer.Backend, a.answer.Attempts, a.first, a.broken == "" && a.status < http.StatusBadRequest
	return func() trace.Hop {
		tokens := "tokens"
		if estimated {
			tokens = "tokens (estimated)"
		}
		return trace.Hop{
			Step: "model", Subject: dep.ID.String(), OK: ok,
			Found: fmt.Sprintf("%s %s by the backend %s (attempt %d), first byte after %s, %d + %d %s",
				dep.Model, dep.Version, backend, attempts, first.Round(100*time.Microsecond), u.Prompt, u.Completion, tokens),
		}
	}
}

func (a *ask) event(status int, u usage, estimated bool) {
	a.status = status
	ev := web.EventFrom(a.c.Context)
	if a.answer != nil {
		if status < http.StatusInternalServerError && status != http.StatusTooManyRequests { // those have a hop of their own
			trace.From(a.c.Context).AddLate(a.hop(u, estimated))
		}
		ev.Set("backend", a.answer.Backend)
		ev.Set("attempts", a.answer.Attempts)
		ev.Set("first_byte_ms", float64(a.first.Microseconds())/1000)
		ev.Set("prompt_tokens", u.Prompt)
		ev.Set("completion_tokens", u.Completion)
		if estimated {
			ev.Set("tokens_estimated", true)
		}
	}
	if a.dep.ContentLogging {
		ev.Set("prompt", captured(a.body))
		ev.Set("answer", captured(a.capture))
	}
	a.p.count(a.c.Context, measured{
		account: a.c.Target.ID, deployment: a.dep.Name, principal: who(a.c), operation: string(a.row.op),
		status: status, first: a.first, prompt: u.Prompt, completion: u.Completion,
	})
}

// mostCaptured bounds what of a prompt or an answer is logged where the owner
// wants it.
const mostCaptured = 64 << 10

func captured(b []byte) string {
	return strings.ToValidUTF8(string(b[:min(len(b), mostCaptured)]), "�")
}
