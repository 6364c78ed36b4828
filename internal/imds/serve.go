package imds

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// ServeHTTP answers the metadata service's paths and /msi/token.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case r.URL.Path == "/metadata/identity/oauth2/token":
		s.metadataToken(w, r)
	case r.URL.Path == "/metadata/instance", strings.HasPrefix(r.URL.Path, "/metadata/instance/"):
		s.instance(w, r)
	case r.URL.Path == "/msi/token":
		s.appService(w, r)
	default:
		s.fail(w, r, "", apierr.New(apierr.NotFound, "invalid_request", "There is nothing at '%s'.", shorten(r.URL.Path)))
	}
}

// metadataToken is IMDS's (managed identities for Azure resources, "How to use
// managed identities on an Azure VM to acquire an access token"). A probe
// without the header is answered at once, which is all that a probe wants.
func (s *Service) metadataToken(w http.ResponseWriter, r *http.Request) {
	if err := fromMachine(r); err != nil {
		s.fail(w, r, "", err)
		return
	}
	if err := apiVersion(r, "2018-02-01", "2019-08-01", "2020-06-01", "2021-02-01"); err != nil {
		s.fail(w, r, "", err)
		return
	}
	g, ok, err := s.find(r.Context(), grantOf(r.Context()))
	if err == nil && !ok {
		// As on a machine without identities: clients go on to other credentials.
		trace.Add(r.Context(), trace.Hop{Step: "identity", Found: "this process has no managed identity", Fix: "laz run --identity NAME -- COMMAND"})
		err = refuse("invalid_request", "Identity not found")
	}
	if err != nil {
		s.fail(w, r, "", err)
		return
	}
	raw, c, sp, err := s.issue(r, g)
	if err != nil {
		s.fail(w, r, sp.AppID, err)
		return
	}
	web.EventFrom(r.Context()).SetPrincipal(sp.ObjectID)
	web.WriteJSON(w, http.StatusOK, map[string]string{
		"access_token": raw, "client_id": sp.AppID, "expires_in": s.left(c), "ext_expires_in": s.left(c), "expires_on": unix(c.ExpiresAt),
		"not_before": unix(c.IssuedAt), "refresh_token": "", "resource": c.Audience, "token_type": "Bearer",
	})
}

// fromMachine demands what tells a program's own request from one that it was
// tricked into sending.
func fromMachine(r *http.Request) error {
	switch {
	case r.Method != http.MethodGet:
		return apierr.New(apierr.MethodNotAllowed, "invalid_request", "The metadata service takes GET requests.")
	case !strings.EqualFold(r.Header.Get("Metadata"), "true"):
		return refuse("bad_request_102", "Required metadata header not specified")
	case r.Header.Get("X-Forwarded-For") != "":
		return refuse("invalid_request", "Requests with X-Forwarded-For are not answered.")
	}
	return doubled(r)
}

// appService is the endpoint of App Service (api-version 2019-08-01, header
// X-IDENTITY-HEADER) and of Azure Machine Learning (2017-09-01, header
// secret).
func (s *Service) appService(w http.ResponseWriter, r *http.Request) {
	secret := r.Header.Get("X-IDENTITY-HEADER")
	if secret == "" {
		secret = r.Header.Get("secret")
	}
	g, ok, err := s.find(r.Context(), secret)
	switch {
	case r.Method != http.MethodGet:
		err = apierr.New(apierr.MethodNotAllowed, "invalid_request", "The identity endpoint takes GET requests.")
	case err != nil:
	case !ok:
		err = apierr.New(apierr.Unauthorized, "unauthorized", "The header X-IDENTITY-HEADER (or secret) doesn't hold the secret of a run that was given an identity.")
	default:
		if err = apiVersion(r, "2017-09-01", "2019-08-01"); err == nil {
			err = doubled(r)
		}
	}
	if err != nil {
		s.fail(w, r, "", err)
		return
	}
	raw, c, sp, err := s.issue(r, g)
	if err != nil {
		s.fail(w, r, sp.AppID, err)
		return
	}
	web.EventFrom(r.Context()).SetPrincipal(sp.ObjectID)
	web.WriteJSON(w, http.StatusOK, map[string]string{
		"access_token": raw, "client_id": sp.AppID, "expires_in": s.left(c), "expires_on": unix(c.ExpiresAt), "not_before": unix(c.IssuedAt),
		"resource": c.Audience, "token_type": "Bearer",
	})
}

// instance says where this machine is: MSAL asks for its region.
func (s *Service) instance(w http.ResponseWriter, r *http.Request) {
	if err := fromMachine(r); err != nil {
		s.fail(w, r, "", err)
		return
	}
	if err := apiVersion(r, "2017-08-01", "2019-06-01", "2020-06-01", "2021-02-01"); err != nil {
		s.fail(w, r, "", err)
		return
	}
	var doc any = map[string]any{"compute": map[string]any{
		"azEnvironment": "AzurePublicCloud", "location": s.cfg.Location, "provider": "Microsoft.Compute", "subscriptionId": s.cfg.Subscription,
	}}
	for name := range strings.SplitSeq(strings.TrimPrefix(r.URL.Path, "/metadata/instance"), "/") {
		if name == "" {
			continue
		}
		m, _ := doc.(map[string]any)
		next, ok := m[name]
		if !ok {
			s.fail(w, r, "", apierr.New(apierr.NotFound, "not_found", "The instance document has no '%s'.", shorten(name)))
			return
		}
		doc = next
	}
	if text, ok := doc.(string); ok && r.URL.Query().Get("format") == "text" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(text))
		return
	}
	web.WriteJSON(w, http.StatusOK, doc)
}

// left is for how many seconds the token is good, as the real service says it:
// one less.
func (s *Service) left(c token.Claims) string {
	return strconv.FormatInt(max(c.ExpiresAt.Unix()-s.now().Unix()-1, 0), 10)
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func randomText() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// fail answers err in the words that clients of all endpoints understand, and
// records it.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, who string, err error) {
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok {
		e = apierr.From(err)
		e.Code = "unknown"
	}
	web.EventFrom(r.Context()).Fail(e)
	if e.Code != "bad_request_102" { // a probe
		s.cfg.Record(trace.Trace{
			ID: web.RequestID(r.Context()), Correlation: web.CorrelationID(r.Context()), Time: s.now().UTC(), Surface: "imds", Who: who,
			What: "token for " + shorten(r.URL.Query().Get("resource")), Outcome: e.Code,
			Hops: append(trace.From(r.Context()).Hops(), trace.Hop{Step: "answer", Subject: e.Code, Found: e.Message}),
		})
	}
	web.SetRetryAfter(w.Header(), e.RetryAfter)
	web.WriteJSON(w, e.Kind.Status(), map[string]any{
		"error": e.Code, "error_description": e.Message, "statusCode": e.Kind.Status(), "message": e.Message,
	})
}
