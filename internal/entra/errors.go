package entra

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// attempt is what a refusal says about who tried what.
type attempt struct{ who, what string }

// errorBody is the answer to a refused request (RFC 6749 section 5.2, with the
// members that Microsoft Entra adds).
type errorBody struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
	URI           string `json:"error_uri,omitempty"`
	SubError      string `json:"suberror,omitempty"`
}

// aad makes a refusal: OAuth error word, AADSTS number, text.
func aad(kind apierr.Kind, word, number, format string, args ...any) *apierr.Error {
	return apierr.New(kind, word, format, args...).WithInner(number)
}

// body puts err into Entra's words, records its trace, and gives the status.
func (s *Service) body(w http.ResponseWriter, r *http.Request, a attempt, err error) (int, errorBody) {
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok {
		e = apierr.From(err)
		e.Code, e.Inner, e.Message = "server_error", "90033", "A transient error has occurred. Please try again."
	}
	if e.Inner == "" {
		e.Inner = "9002313"
	}
	web.EventFrom(r.Context()).Fail(e)
	now := s.now().UTC()
	b := errorBody{
		Error: e.Code, Timestamp: now.Format("2006-01-02 15:04:05Z"),
		TraceID: asGUID(web.RequestID(r.Context())), CorrelationID: correlation(r),
	}
	b.Description = fmt.Sprintf("AADSTS%s: %s Trace ID: %s Correlation ID: %s Timestamp: %s", e.Inner, e.Message, b.TraceID, b.CorrelationID, b.Timestamp)
	if n, err := strconv.Atoi(e.Inner); err == nil {
		b.Codes = []int{n}
		authority, _ := s.tokens.Authority(r.Host)
		b.URI = "https://" + authority + "/error?code=" + e.Inner
	}
	w.Header().Set("x-ms-request-id", b.TraceID)
	web.SetRetryAfter(w.Header(), e.RetryAfter)
	if e.Code == "authorization_pending" { // not a refusal: a device asks until somebody has signed in
		return e.Kind.Status(), b
	}
	if a.what == "" {
		a.what = r.Method + " " + shorten(r.URL.Path)
	}
	s.cfg.Record(trace.Trace{
		ID: b.TraceID, Correlation: b.CorrelationID, Time: now, Surface: "token", Who: s.named(a.who), What: a.what,
		Outcome: "AADSTS" + e.Inner, Hops: append(trace.From(r.Context()).Hops(), trace.Hop{Step: "answer", Subject: "AADSTS" + e.Inner, Found: e.Message}),
	})
	return e.Kind.Status(), b
}

// named is a client id with the name of its application, where it has one.
func (s *Service) named(id string) string {
	c, err := s.findClient(id)
	if err != nil || c.name == "" {
		return id
	}
	return c.name + " (" + id + ")"
}

// fail answers r with err.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, a attempt, err error) {
	status, b := s.body(w, r, a, err)
	web.WriteJSON(w, status, b)
}

// Error writes what went wrong around the handler, for web.Surface.
func (s *Service) Error(w http.ResponseWriter, r *http.Request, e *apierr.Error) {
	cp := *e
	if !isOAuthWord(cp.Code) {
		cp.Code = "invalid_request"
		if cp.Kind == apierr.Internal {
			cp.Code, cp.Inner = "server_error", "90033"
		}
	}
	s.fail(w, r, attempt{}, &cp)
}

func isOAuthWord(code string) bool { return code != "" && code == strings.ToLower(code) }

// correlation is the client's id for the request: from header, query or body,
// else the one that the front door made, else a new one.
func correlation(r *http.Request) string {
	for _, id := range []string{
		r.Header.Get("client-request-id"), r.URL.Query().Get("client-request-id"), r.PostForm.Get("client-request-id"), web.CorrelationID(r.Context()),
	} {
		if u, err := uuid.Parse(id); err == nil {
			return u.String()
		}
	}
	return uuid.NewString()
}

func asGUID(id string) string {
	if u, err := uuid.Parse(id); err == nil {
		return u.String()
	}
	return uuid.NewString()
}

// shorten keeps what a stranger wrote from flooding a message.
func shorten(s string) string {
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, s)
}

func missing(parameter string) error {
	return aad(apierr.BadRequest, "invalid_request", "900144", "The request body must contain the following parameter: '%s'.", parameter)
}

func tooMany(after time.Duration) error {
	e := aad(apierr.TooManyRequests, "temporarily_unavailable", "50196",
		"The server terminated an operation because it encountered a loop while processing a request: too many failed sign-ins from this address.")
	e.RetryAfter = after
	return e
}
