package entra

import (
	"bytes"
	"crypto/subtle"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"lazurite.dev/internal/apierr"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what a person sees. Parts that are empty aren't shown.
type page struct {
	Title, Text, Problem string
	Tenant, App          string
	Canary               string
	Action               string // of the form; "" shows none
	Login                string // typed before, or the client's hint
	AskCode, AskUser     bool
	Code                 string            // the user code, kept from step to step
	Hidden               map[string]string // sent on at once
	Details              []string
	Nonce                string
	Auto                 bool

	target string // where else the form may lead
}

// canaryCookie binds a form to the browser that it was shown in: another site
// can make a browser send a form, but neither read nor set this cookie.
const (
	canaryCookie      = "__Host-laz-canary"
	localCanaryCookie = "laz-canary" // over plain HTTP browsers take no __Host- names
)

func canaryName(r *http.Request) string {
	if isLocal(r) {
		return localCanaryCookie
	}
	return canaryCookie
}

func canary(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(canaryName(r)); err == nil && len(c.Value) == 43 {
		return c.Value
	}
	v := secretText(32)
	http.SetCookie(w, &http.Cookie{Name: canaryName(r), Value: v, Path: "/", Secure: !isLocal(r), HttpOnly: true, SameSite: http.SameSiteStrictMode})
	return v
}

func checkCanary(r *http.Request) error {
	c, err := r.Cookie(canaryName(r))
	if err == nil && len(c.Value) == 43 && subtle.ConstantTimeCompare([]byte(c.Value), []byte(r.PostForm.Get("canary"))) == 1 {
		if http.NewCrossOriginProtection().Check(r) == nil {
			return nil
		}
	}
	return aad(apierr.BadRequest, "invalid_request", "165000", "Invalid Request: Request tokens do not match the user context. One or more of the user context values "+
		"(cookies; form fields; headers) were incorrect or invalid. Open the page again.")
}

// render writes p. Scripts and styles run only with the page's own nonce, and
// no other site may frame it.
func (s *Service) render(w http.ResponseWriter, r *http.Request, status int, p page) {
	p.Nonce, p.Tenant = secretText(16), s.tenantName()
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src 'nonce-%[1]s'; script-src 'nonce-%[1]s'; img-src data:; "+
		"form-action 'self' %[2]s; frame-ancestors 'none'; base-uri 'none'", p.Nonce, p.target))
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes())
	}
}

// formTarget is what Content-Security-Policy must know of a redirect URI:
// browsers apply form-action to where a form's answer redirects, too.
func formTarget(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme == "" {
		return ""
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}

func (s *Service) signInPage(w http.ResponseWriter, r *http.Request, q *signInRequest, problem string) {
	p := page{
		Title: "Sign in", App: q.client.name, Problem: problem, Canary: canary(w, r), Action: r.URL.Path + "?" + r.URL.RawQuery,
		AskUser: true, Login: q.query.Get("login_hint"), target: formTarget(q.redirect),
	}
	if r.Method == http.MethodPost {
		p.Login = r.PostForm.Get("login")
	}
	s.render(w, r, http.StatusOK, p)
}

func (s *Service) errorPage(w http.ResponseWriter, r *http.Request, a attempt, err error) {
	status, b := s.body(w, r, a, err)
	said, _, _ := strings.Cut(b.Description, " Trace ID: ") // the ids are below
	s.render(w, r, status, page{
		Title: "Sign in", Text: "Sorry, but we're having trouble signing you in.", Problem: said,
		Details: []string{"Request Id: " + b.TraceID, "Correlation Id: " + b.CorrelationID, "Timestamp: " + b.Timestamp, "To see why: laz explain " + b.CorrelationID},
	})
}

// formPost makes the browser post the answer to the client.
func (s *Service) formPost(w http.ResponseWriter, r *http.Request, q *signInRequest, v url.Values) {
	hidden := map[string]string{}
	for name := range v {
		hidden[name] = v.Get(name)
	}
	s.render(w, r, http.StatusOK, page{Title: "Working…", Action: q.redirect, Hidden: hidden, Auto: true, target: formTarget(q.redirect)})
}

// devicePage lets a person approve a device: first its code, then, seeing which
// application it is, name and password.
func (s *Service) devicePage(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		s.codePage(w, r, r.URL.Query().Get("otc"), "")
		return
	}
	a := attempt{what: "device sign-in"}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if r.Method != http.MethodPost || r.ParseForm() != nil {
		s.errorPage(w, r, a, aad(apierr.BadRequest, "invalid_request", "9002313", "Invalid request. Request is malformed or invalid."))
		return
	}
	err := checkCanary(r)
	if err == nil {
		err = s.tries.check(r)
	}
	if err != nil {
		s.errorPage(w, r, a, err)
		return
	}
	typed := r.PostForm.Get("otc")
	d, key, rev, err := s.findDevice(r.Context(), typed)
	if err != nil {
		s.tries.failed(r)
		s.again(w, r, a, err, func(text string) { s.codePage(w, r, typed, text) })
		return
	}
	a.who = d.Client
	c, err := s.findClient(d.Client)
	if err != nil {
		s.errorPage(w, r, a, err)
		return
	}
	switch {
	case r.PostForm.Get("cancel") != "":
		d.State = declined
		s.decided(w, r, a, s.decide(r.Context(), d, key, rev), page{Title: "Declined", Text: "The device was not signed in. You can close this window."})
	case !r.PostForm.Has("passwd"):
		s.approvePage(w, r, c, typed, "")
	default:
		u, err := s.signIn(r.Context(), r, r.PostForm.Get("login"), r.PostForm.Get("passwd"))
		if err != nil {
			s.again(w, r, a, err, func(text string) { s.approvePage(w, r, c, typed, text) })
			return
		}
		if d.Stamp, err = s.dir.PasswordStamp(u.ObjectID); err == nil {
			d.State, d.User = approved, u.ObjectID
			err = s.decide(r.Context(), d, key, rev)
		}
		s.decided(w, r, a, err, page{Title: c.name, Text: "You have signed in to the " + c.name + " application on your device. You may now close this window."})
	}
}

func (s *Service) decided(w http.ResponseWriter, r *http.Request, a attempt, err error, p page) {
	if err != nil {
		s.errorPage(w, r, a, err)
		return
	}
	s.render(w, r, http.StatusOK, p)
}

func (s *Service) codePage(w http.ResponseWriter, r *http.Request, typed, problem string) {
	s.render(w, r, http.StatusOK, page{
		Title: "Enter code to allow access", Text: "Enter the code that the device or application shows. Do not enter codes from sources you don't trust.",
		Problem: problem, Canary: canary(w, r), Action: "/device", AskCode: true, Code: typed,
	})
}

func (s *Service) approvePage(w http.ResponseWriter, r *http.Request, c *client, typed, problem string) {
	s.render(w, r, http.StatusOK, page{
		Title: "Sign in", App: c.name, Text: "You're signing in to " + c.name + " on another device. If it's not you, cancel.", Problem: problem,
		Canary: canary(w, r), Action: "/device", AskUser: true, Code: typed, Login: r.PostForm.Get("login"),
	})
}
