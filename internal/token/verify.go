package token

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/trace"
)

// The codes of Verify's refusals, for surfaces to put into their own words.
const (
	CodeMissing     = "token_missing"
	CodeMalformed   = "token_malformed"
	CodeSignature   = "token_signature" // unknown key, wrong algorithm or signature
	CodeExpired     = "token_expired"
	CodeNotYetValid = "token_not_yet_valid"
	CodeAudience    = "token_audience"
	CodeIssuer      = "token_issuer" // also another tenant
)

// Verify checks an access token of ours and gives its claims: form, RS256
// signature by a key of ours, issuer, tenant, lifetime, and that its one
// audience is one of audiences. A refusal is an *apierr.Error of kind
// Unauthorized with one of the Code constants; when the store can't be read
// it is Unavailable.
func (s *Service) Verify(ctx context.Context, raw string, audiences ...string) (*Claims, error) {
	c, err := s.verify(ctx, raw, audiences)
	log := trace.From(ctx)
	switch {
	case log == nil:
	case err != nil:
		log.Add(s.hop(raw, c, audiences, err))
	default:
		said := *c                                                                // the caller may change its own
		log.AddLate(func() trace.Hop { return s.hop("", &said, audiences, nil) }) // it may be kept: without the token
	}
	return c, err
}

func (s *Service) verify(ctx context.Context, raw string, audiences []string) (*Claims, error) {
	if raw == "" {
		return nil, refuse(CodeMissing, "No access token was presented.")
	}
	if len(raw) > MaxTokenBytes {
		return nil, refuse(CodeMalformed, "The access token is %d bytes long; at most %d are looked at.", len(raw), MaxTokenBytes)
	}
	sum := sha256.Sum256([]byte(raw))
	if c, ok := s.verified.get(sum); ok {
		if s.now().Before(c.ExpiresAt.Add(skew)) && s.known(c.kid) != nil {
			return s.forAudience(c, audiences)
		}
		s.verified.drop(sum)
	}
	j, err := parseJWS(raw)
	if err != nil {
		return nil, refuse(CodeMalformed, "The access token can't be read: %v.", err)
	}
	if err := s.checkSignature(ctx, j); err != nil {
		return nil, err
	}
	c, err := s.checkClaims(j)
	if err != nil {
		return nil, err
	}
	s.verified.put(sum, c)
	return s.forAudience(c, audiences)
}

// hop says for an explanation what Verify found.
func (s *Service) hop(raw string, c *Claims, audiences []string, err error) trace.Hop {
	h := trace.Hop{Step: "token", OK: err == nil, Expected: preferred(audiences)}
	if err == nil {
		h.Subject, h.Received, h.Found = c.Display(), c.Audience, "a valid token until "+stamp(c.ExpiresAt)
		return h
	}
	e := apierr.From(err)
	h.Found = e.Message
	j, perr := parseJWS(raw)
	if perr != nil {
		return h
	}
	h.Subject = short(j.text("oid"))
	switch e.Code {
	case CodeAudience:
		h.Received = short(j.text("aud"))
		h.Fix = "az account get-access-token --resource " + preferred(audiences)
	case CodeIssuer:
		h.Expected, h.Received = s.Issuer("", "1.0"), short(j.text("iss"))
	case CodeExpired, CodeNotYetValid:
		h.Expected, h.Received = stamp(s.now()), short(fmt.Sprintf("%v to %v", j.claims["nbf"], j.claims["exp"]))
	}
	return h
}

// checked is a token whose signature, issuer and tenant were found good.
type checked struct {
	Claims
	kid string
}

func (s *Service) checkSignature(ctx context.Context, j *jws) error {
	if j.alg != "RS256" {
		return refuse(CodeSignature, "The access token is signed with %q; RS256 was expected.", short(j.alg))
	}
	if j.kid == "" {
		return refuse(CodeSignature, "The access token's header names no key (kid).")
	}
	key, found, err := s.keyByID(ctx, j.kid)
	if err != nil {
		return unavailable(err)
	}
	if !found {
		return refuse(CodeSignature, "The access token is signed with key %q, which is none of this tenant's.", short(j.kid))
	}
	if err := j.verify(key.public); err != nil {
		return refuse(CodeSignature, "The access token's signature doesn't fit its content.")
	}
	return nil
}

// checkClaims checks all but the audience, and gives the claims.
func (s *Service) checkClaims(j *jws) (*checked, error) {
	version, ours := s.issuers[j.text("iss")]
	if !ours {
		return nil, refuse(CodeIssuer, "The access token is issued by '%s'; '%s' was expected.", short(j.text("iss")), s.Issuer("", "1.0"))
	}
	if tid := j.text("tid"); tid != s.cfg.TenantID {
		return nil, refuse(CodeIssuer, "The access token is of tenant '%s'; '%s' was expected.", short(tid), s.cfg.TenantID)
	}
	if j.text("ver") != version || j.text("oid") == "" {
		return nil, refuse(CodeMalformed, "The token isn't an access token: it names no version or no principal.")
	}
	aud, ok := j.claims["aud"].(string)
	if !ok || aud == "" {
		return nil, refuse(CodeAudience, "The access token must have exactly one audience.")
	}
	exp, okExp := j.when("exp")
	nbf, okNbf := j.when("nbf")
	iat, okIat := j.when("iat")
	now := s.now()
	switch {
	case !okExp || !okNbf || !okIat:
		return nil, refuse(CodeMalformed, "The access token has no exp, nbf or iat.")
	case !now.Before(exp.Add(skew)):
		return nil, refuse(CodeExpired, "The access token expired at %s; it is now %s.", stamp(exp), stamp(now))
	case now.Before(nbf.Add(-skew)):
		return nil, refuse(CodeNotYetValid, "The access token is valid from %s; it is now %s.", stamp(nbf), stamp(now))
	}
	c := &checked{kid: j.kid, Claims: Claims{
		ID: j.text("uti"), TenantID: s.cfg.TenantID, ObjectID: j.text("oid"), AppID: j.text("appid"), Name: j.text("name"),
		UPN: j.text("upn"), Resource: j.text("xms_mirid"), Audience: aud, Issuer: j.text("iss"), Version: version,
		Roles: j.texts("roles"), AppOnly: j.text("scp") == "", IssuedAt: iat, ExpiresAt: exp,
	}}
	if version == "2.0" {
		c.AppID, c.UPN = j.text("azp"), j.text("preferred_username")
	}
	if c.AppID == "" { // id tokens look alike else
		return nil, refuse(CodeMalformed, "The token isn't an access token: it names no client.")
	}
	if scp := j.text("scp"); scp != "" {
		c.Scopes = strings.Fields(scp)
	}
	return c, nil
}

// forAudience gives c (a copy: callers may keep it) if it is for one of audiences.
func (s *Service) forAudience(c *checked, audiences []string) (*Claims, error) {
	got := s.canonical(c.Audience)
	for _, want := range audiences {
		if got == s.canonical(want) {
			cp := c.Claims
			return &cp, nil
		}
	}
	return nil, refuse(CodeAudience, "The access token is for '%s'; '%s' was expected.", short(c.Audience), preferred(audiences))
}

// preferred is the audience to ask for; the others are other spellings of it.
func preferred(audiences []string) string {
	if len(audiences) == 0 {
		return ""
	}
	return audiences[0]
}

func refuse(code, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.Unauthorized, code, format, args...)
}

// short keeps what a stranger wrote from flooding a message.
func short(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
