package entra

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
)

// signInRequest is what a client sends a browser with (RFC 6749 section 4.1.1,
// OpenID Connect Core 1.0 section 3.1.2.1).
type signInRequest struct {
	version  string
	client   *client
	redirect string
	kind     string // of redirect
	mode     string // query, fragment, form_post
	query    url.Values
}

// authorize shows the sign-in page and, when the user has signed in, sends the
// browser back with a code.
func (s *Service) authorize(version string) endpoint {
	return func(w http.ResponseWriter, r *http.Request, _ tenantRef) {
		if r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				s.errorPage(w, r, attempt{what: "authorize"}, aad(apierr.BadRequest, "invalid_request", "9002313", "Invalid request. Request is malformed or invalid."))
				return
			}
			if r.PostForm.Has("client_id") { // the request itself came as a form: show the page
				http.Redirect(w, r, r.URL.Path+"?"+r.PostForm.Encode(), http.StatusSeeOther)
				return
			}
		}
		q, err := s.readSignIn(r, version)
		if err != nil {
			s.errorPage(w, r, attempt{who: shorten(r.URL.Query().Get("client_id")), what: "authorize"}, err)
			return
		}
		if err := s.checkSignIn(q); err != nil {
			s.sendError(w, r, q, err)
			return
		}
		if r.Method == http.MethodPost {
			s.signedIn(w, r, q)
			return
		}
		s.signInPage(w, r, q, "")
	}
}

// readSignIn finds client and redirect URI: what goes wrong before these are
// known can't be sent back to the client.
func (s *Service) readSignIn(r *http.Request, version string) (*signInRequest, error) {
	q := &signInRequest{version: version, query: r.URL.Query()}
	for name, v := range q.query {
		if len(v) > 1 {
			return nil, aad(apierr.BadRequest, "invalid_request", "9000411", "The request is not properly formatted. The parameter '%s' is duplicated.", shorten(name))
		}
	}
	id := q.query.Get("client_id")
	if id == "" {
		return nil, missing("client_id")
	}
	var err error
	if q.client, err = s.findClient(id); err != nil {
		return nil, err
	}
	q.redirect = q.query.Get("redirect_uri")
	if q.kind = q.client.redirectable(q.redirect); q.kind == "" {
		return nil, aad(apierr.BadRequest, "invalid_request", "50011", "The redirect URI '%s' specified in the request does not match the redirect URIs configured "+
			"for the application '%s'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal. Navigate to "+
			"https://aka.ms/redirectUriMismatchError to learn more about how to troubleshoot this error.", shorten(q.redirect), q.client.id)
	}
	q.mode = q.query.Get("response_mode")
	if q.mode == "" {
		q.mode = "query"
	}
	if !slices.Contains([]string{"query", "fragment", "form_post"}, q.mode) {
		q.mode = "query"
		return nil, aad(apierr.BadRequest, "invalid_request", "70007", "'%s' is not a supported value of 'response_mode'.", shorten(q.query.Get("response_mode")))
	}
	return q, nil
}

// checkSignIn refuses what the client is told about.
func (s *Service) checkSignIn(q *signInRequest) error {
	get := q.query.Get
	switch {
	case get("response_type") == "":
		return missing("response_type")
	case get("response_type") != "code":
		return aad(apierr.BadRequest, "unsupported_response_type", "700054", "response_type '%s' is not enabled for the application.", shorten(get("response_type")))
	case get("code_challenge") == "" && q.kind != webURI:
		return aad(apierr.BadRequest, "invalid_request", "9002325", "Proof Key for Code Exchange is required: public clients must send 'code_challenge'.")
	case get("code_challenge") != "" && get("code_challenge_method") != "S256":
		return aad(apierr.BadRequest, "invalid_request", "501491", "The code_challenge_method '%s' is not supported; 'S256' is.", shorten(get("code_challenge_method")))
	case get("prompt") == "none":
		return aad(apierr.BadRequest, "login_required", "50058", "A silent sign-in request was sent but no user is signed in.")
	}
	_, err := s.want(q.tokenRequest())
	return err
}

func (q *signInRequest) tokenRequest() *tokenRequest {
	return &tokenRequest{version: q.version, client: q.client, form: q.query}
}

// signedIn takes the page's form.
func (s *Service) signedIn(w http.ResponseWriter, r *http.Request, q *signInRequest) {
	if err := checkCanary(r); err != nil {
		s.errorPage(w, r, q.attempt(), err)
		return
	}
	if r.PostForm.Get("cancel") != "" {
		s.sendError(w, r, q, aad(apierr.BadRequest, "access_denied", "65004", "User declined to consent to access the app."))
		return
	}
	u, err := s.signIn(r.Context(), r, strings.TrimSpace(r.PostForm.Get("login")), r.PostForm.Get("passwd"))
	if err != nil {
		s.again(w, r, q.attempt(), err, func(text string) { s.signInPage(w, r, q, text) })
		return
	}
	raw, err := s.newCode(r.Context(), code{
		User: u.ObjectID, Client: q.client.id, Redirect: q.redirect, Scope: q.query.Get("scope"), Resource: q.query.Get("resource"),
		Nonce: q.query.Get("nonce"), Challenge: q.query.Get("code_challenge"), Kind: q.kind,
	})
	if err != nil {
		s.errorPage(w, r, q.attempt(), err)
		return
	}
	s.send(w, r, q, url.Values{"code": {raw}, "session_state": {newID()}, "client_info": s.info(q, u)})
}

func (s *Service) info(q *signInRequest, u directory.User) []string {
	if q.query.Get("client_info") != "1" {
		return nil
	}
	return []string{clientInfo(u.ObjectID, s.tokens.TenantID())}
}

func (q *signInRequest) attempt() attempt {
	return attempt{who: q.client.id, what: "authorize for " + shorten(q.query.Get("scope")+q.query.Get("resource"))}
}

// again shows a page once more with what the person did wrong; anything else
// is an error page.
func (s *Service) again(w http.ResponseWriter, r *http.Request, a attempt, err error, page func(text string)) {
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok || e.Kind == apierr.TooManyRequests {
		s.errorPage(w, r, a, err)
		return
	}
	s.body(w, r, a, err) // recorded
	switch e.Inner {
	case "50126":
		page("Your account or password is incorrect.")
	case "50053":
		page("Your account is temporarily locked to prevent unauthorized use. Try again in a minute.")
	default:
		page(e.Message)
	}
}

// sendError tells the client by way of the browser.
func (s *Service) sendError(w http.ResponseWriter, r *http.Request, q *signInRequest, err error) {
	_, b := s.body(w, r, q.attempt(), err)
	s.send(w, r, q, url.Values{"error": {b.Error}, "error_description": {b.Description}, "error_uri": {b.URI}})
}

// send takes the browser back to the client (OAuth 2.0 Multiple Response Type
// Encoding Practices; Form Post Response Mode).
func (s *Service) send(w http.ResponseWriter, r *http.Request, q *signInRequest, v url.Values) {
	if state := q.query.Get("state"); state != "" {
		v.Set("state", state)
	}
	for name := range v {
		if v.Get(name) == "" {
			v.Del(name)
		}
	}
	if q.mode == "form_post" {
		s.formPost(w, r, q, v)
		return
	}
	u, err := url.Parse(q.redirect)
	if err != nil {
		s.errorPage(w, r, q.attempt(), err)
		return
	}
	if q.mode == "fragment" {
		w.Header().Set("Location", q.redirect+"#"+v.Encode())
	} else {
		query := u.Query()
		for name := range v {
			query.Set(name, v.Get(name))
		}
		u.RawQuery = query.Encode()
		w.Header().Set("Location", u.String())
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusFound)
}

// logout ends nothing, since every sign-in asks for the password; it says so.
func (s *Service) logout(w http.ResponseWriter, r *http.Request, _ tenantRef) {
	s.render(w, r, http.StatusOK, page{Title: "You signed out of your account", Text: "It's a good idea to close all browser windows."})
}
