package blob

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// session is who asks, and by what.
type session struct {
	caller *token.Claims
	key    string       // of the account that signed the request: "key1"; "" for all else
	sas    *storage.SAS // nil: none

	anonymous bool
	onlyNew   bool // what is there must not be written over
}

const (
	skew         = 15 * time.Minute
	azureVersion = "2017-11-09" // the first that takes tokens
)

// failed is the refusal of a credential; detail says why.
func failed(format string, args ...any) *apierr.Error {
	e := apierr.New(apierr.Forbidden, "AuthenticationFailed", "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.")
	return e.WithInner(apierr.New(apierr.Forbidden, "", format, args...).Message)
}

func keyRefused() *apierr.Error {
	return apierr.New(apierr.Forbidden, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account.")
}

// caller finds out who asks: by a key of the account, a shared access
// signature, a token, or nothing.
func (p *Plane) caller(c *gate.Call) (*token.Claims, error) {
	s, err := p.signIn(c)
	if err != nil {
		if d := apierr.From(err); d.Kind == apierr.Forbidden || d.Kind == apierr.Unauthorized {
			found := d.Inner
			if found == "" {
				found = d.Message
			}
			trace.From(c.Context).Add(trace.Hop{Step: "credential", Subject: c.Target.ID.String(), Found: found})
		}
		return nil, err
	}
	c.State = s
	return s.caller, nil
}

func (p *Plane) signIn(c *gate.Call) (*session, error) {
	r, t := c.Request, targetOf(c)
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	q := r.URL.Query()
	switch {
	case scheme != "" && q.Has("sig"):
		return nil, apierr.New(apierr.BadRequest, "InvalidAuthenticationInfo", "Authentication information is not given in the correct format: there are an Authorization header and a shared access signature.")
	case strings.EqualFold(scheme, "SharedKey"):
		return p.sharedKey(r, t.account, rest)
	case strings.EqualFold(scheme, "Bearer"):
		if v := r.Header.Get("x-ms-version"); v < azureVersion {
			return nil, apierr.New(apierr.BadRequest, "InvalidHeaderValue", "The header x-ms-version '%s' must be %s or later for requests with a token.", clip(v), azureVersion)
		}
		return p.bearer(c, strings.TrimSpace(rest))
	case scheme != "":
		return nil, apierr.New(apierr.BadRequest, "InvalidAuthenticationInfo", "Authentication information is not given in the correct format: the scheme '%s' is not supported; SharedKey and Bearer are.", clip(scheme))
	case q.Has("sig"):
		n := namesOf(c)
		return p.signature(c, t.account, q, n.container, n.blob)
	}
	return &session{caller: &token.Claims{}, anonymous: true}, nil
}

// sharedKey takes a request that is signed with a key of the account.
func (p *Plane) sharedKey(r *http.Request, a *storage.Account, rest string) (*session, error) {
	key, ok := a.KeyOf(r, rest)
	if !a.SharedKey {
		return nil, keyRefused()
	}
	if !ok {
		return nil, failed("The Authorization header is malformed or names another account.")
	}
	date := r.Header.Get("x-ms-date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	at, err := http.ParseTime(date)
	if err != nil {
		return nil, failed("The request has neither a Date nor an x-ms-date.")
	}
	if d := p.Now().Sub(at); d > skew || d < -skew {
		return nil, failed("Request date header too old: '%s'", date)
	}
	if key == "" {
		return nil, failed("The MAC signature found in the HTTP request is not the same as any computed signature.")
	}
	return &session{caller: &token.Claims{AppID: key + " of " + a.Name}, key: key}, nil
}

// bearer takes a token of the directory.
func (p *Plane) bearer(c *gate.Call, raw string) (*session, error) {
	who, err := p.Gate.Verifier.Verify(c.Context, raw, token.Storage)
	if err != nil {
		if e := apierr.From(err); e.Kind == apierr.Unauthorized {
			return nil, apierr.New(apierr.Unauthorized, "InvalidAuthenticationInfo", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.").WithInner(e.Message)
		}
		return nil, err
	}
	// A token for one account by its name is for no other.
	if u, err := url.Parse(who.Audience); err == nil && strings.HasSuffix(strings.ToLower(u.Host), ".blob.core.windows.net") {
		if name, _, _ := strings.Cut(u.Host, "."); !strings.EqualFold(name, targetOf(c).account.Name) {
			return nil, apierr.New(apierr.Unauthorized, "InvalidAuthenticationInfo", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.").
				WithInner("Audience validation failed: the token is for '" + who.Audience + "'.")
		}
	}
	return &session{caller: who}, nil
}

// signature takes a shared access signature for a container and blob.
func (p *Plane) signature(c *gate.Call, a *storage.Account, q url.Values, container, blob string) (*session, error) {
	s, err := storage.ParseSAS(q)
	if err != nil {
		return nil, failed("The shared access signature is not valid: %s.", err.Error())
	}
	if s.Kind != storage.DelegationSAS && !a.SharedKey {
		return nil, keyRefused()
	}
	by := a.SignedBy(s, container, blob)
	if by == "" {
		return nil, failed("Signature did not match. Make sure that it was made for this resource and with a key that is still valid.")
	}
	now := p.Now()
	if now.Before(s.Start) || !now.Before(s.Expiry) {
		return nil, failed("Signature not valid in the specified time frame: Start [%s] - Expiry [%s] - Current [%s]", httpTime(s.Start), httpTime(s.Expiry), httpTime(now))
	}
	if s.Kind == storage.DelegationSAS {
		if now.Before(s.KeyStart) || !now.Before(s.KeyExpiry) {
			return nil, failed("Key not valid in the specified time frame: Start [%s] - Expiry [%s] - Current [%s]", httpTime(s.KeyStart), httpTime(s.KeyExpiry), httpTime(now))
		}
		if s.Get("sks") != "b" || !strings.EqualFold(s.Get("sktid"), p.TenantID) {
			return nil, failed("The key of the delegation is of another service or tenant.")
		}
	}
	if !s.Admits(arrival.From(c.Context).Client) {
		return nil, apierr.New(apierr.Forbidden, "AuthorizationSourceIPMismatch", "This request is not authorized to perform this operation using this source IP %s.", arrival.From(c.Context).Client)
	}
	who := &token.Claims{AppID: "shared access signature by " + by}
	if s.Kind == storage.DelegationSAS {
		who.ObjectID, who.TenantID = s.Get("skoid"), s.Get("sktid")
	}
	return &session{caller: who, sas: s}, nil
}

func httpTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(http.TimeFormat)
}

// authorise judges what the caller asks for.
func (p *Plane) authorise(c *gate.Call, op *gate.Operation) error {
	s, n := c.State.(*session), op.Data.(needs)
	switch {
	case s.key != "":
		if op.Word == "service/userdelegationkey" {
			return apierr.New(apierr.Forbidden, "AuthenticationFailed", "Only a token can get a user delegation key.")
		}
		return nil
	case s.anonymous:
		return p.anonymous(c, n)
	case s.sas != nil:
		if err := s.permits(n); err != nil {
			return err
		}
		if s.sas.Kind != storage.DelegationSAS {
			return nil
		}
	}
	scope, err := scopeOf(c, op)
	if err != nil {
		return err
	}
	return p.may(c, s, op.Action, !op.Manage, scope)
}

func scopeOf(c *gate.Call, op *gate.Operation) (rid.ID, error) {
	id, err := rid.Parse(c.Target.ID.String() + op.Scope(c))
	if err != nil {
		return id, apierr.New(apierr.BadRequest, "InvalidResourceName", "The specified resource name contains invalid characters.")
	}
	return id, nil
}

// may asks the policy.
func (p *Plane) may(c *gate.Call, s *session, action string, data bool, scope rid.ID) error {
	d, err := p.Gate.Authorizer.Check(c.Context, s.caller.ObjectID, action, data, scope)
	if err != nil {
		return err
	}
	if !d.Allowed {
		return noPermission()
	}
	return nil
}

// anonymous lets callers without a credential into what is public.
func (p *Plane) anonymous(c *gate.Call, n needs) error {
	refused := apierr.New(apierr.Unauthorized, "NoAuthenticationInformation", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	t := targetOf(c)
	if n.open == "" || !t.account.Anonymous {
		return refused
	}
	ct, err := p.Accounts.Container(c.Context, t.account, c.Params["container"])
	if apierr.Is(err, apierr.NotFound) {
		return refused
	}
	if err != nil {
		return err
	}
	if ct.Public == storage.PublicContainer || ct.Public == storage.PublicBlob && n.open == storage.PublicBlob {
		return nil
	}
	return refused
}

// permits judges what a signature says.
func (s *session) permits(n needs) error {
	if n.never {
		return noPermission()
	}
	if s.sas.Kind == storage.AccountSAS {
		if !s.sas.In("ss", "b") {
			return apierr.New(apierr.Forbidden, "AuthorizationServiceMismatch", "This request is not authorized to perform this operation using this service.")
		}
		if !s.sas.In("srt", string(n.level)) {
			return apierr.New(apierr.Forbidden, "AuthorizationResourceTypeMismatch", "This request is not authorized to perform this operation using this resource type.")
		}
	} else if n.only {
		return noPermission()
	}
	switch {
	case s.sas.Has(n.any):
	case n.fresh && s.sas.Has("c"):
		s.onlyNew = true
	default:
		return noPermission()
	}
	return nil
}
