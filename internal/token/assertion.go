package token

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/trace"
)

// The numbers (AADSTS) of the refusals that this package makes. Source:
// "Microsoft Entra authentication and authorization error codes".
const (
	AADMalformed    = "50027"  // not a JWT, wrong algorithm, a claim missing or doubled
	AADOwnToken     = "700222" // a token of ours as assertion
	AADSignature    = "700027" // unknown key or wrong signature
	AADTime         = "700024" // expired or not yet valid
	AADAudience     = "700212" // also: not exactly one
	AADIssuerFailed = "90061"  // the issuer's keys can't be had
)

// Assertion is a signed statement of another issuer, or of a client about
// itself (RFC 7523).
type Assertion struct {
	Issuer    string
	Subject   string
	Audiences []string // of a verified one exactly one
	ID        string   // jti
	KeyID     string   // kid
	IssuedAt  time.Time
	NotBefore time.Time
	ExpiresAt time.Time
	All       map[string]any // every claim; numbers are json.Number
	Header    map[string]any

	jws *jws
	sum [sha256.Size]byte // of the whole assertion
}

// Digest is the SHA-256 of the assertion as it came.
func (a *Assertion) Digest() [sha256.Size]byte { return a.sum }

// Audience is the one audience of a verified assertion.
func (a *Assertion) Audience() string {
	if len(a.Audiences) == 0 {
		return ""
	}
	return a.Audiences[0]
}

// ParseAssertion takes raw apart and believes nothing yet. A refusal is an
// *apierr.Error whose Inner is the AADSTS number.
func ParseAssertion(raw string) (*Assertion, error) {
	j, err := parseJWS(raw)
	if err != nil {
		return nil, malformed("The client assertion can't be read: %v.", err)
	}
	a := &Assertion{
		sum: sha256.Sum256([]byte(raw)), Issuer: j.text("iss"), Subject: j.text("sub"), ID: j.text("jti"), KeyID: j.kid, All: j.claims, Header: j.header, jws: j,
	}
	switch aud := j.claims["aud"].(type) {
	case string:
		a.Audiences = []string{aud}
	case []any:
		a.Audiences = j.texts("aud")
		if len(a.Audiences) != len(aud) {
			return nil, malformed("The claim 'aud' of the client assertion holds something that isn't a string.")
		}
	}
	for name, v := range map[string]string{"iss": a.Issuer, "sub": a.Subject} {
		if v == "" {
			return nil, malformed("The client assertion lacks the claim '%s', or it isn't a string.", name)
		}
	}
	for name, at := range map[string]*time.Time{"iat": &a.IssuedAt, "nbf": &a.NotBefore, "exp": &a.ExpiresAt} {
		t, ok := j.when(name)
		if _, has := j.claims[name]; !ok && (has || name == "exp") {
			return nil, malformed("The client assertion lacks the claim '%s', or it isn't a time.", name)
		}
		*at = t
	}
	return a, nil
}

// CheckTime refuses an assertion outside its lifetime, with 5 minutes of skew.
func (a *Assertion) CheckTime(now time.Time) error {
	from := a.NotBefore
	if a.IssuedAt.After(from) {
		from = a.IssuedAt
	}
	if now.Before(a.ExpiresAt.Add(skew)) && !now.Before(from.Add(-skew)) {
		return nil
	}
	return invalidClient(AADTime, "Client assertion is not within its valid time range. Current time: %s, assertion valid from %s, "+
		"expiry time of assertion %s. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
		rfc3339(now), rfc3339(from), rfc3339(a.ExpiresAt))
}

// CheckOneAudience refuses an assertion for several or for nobody.
func (a *Assertion) CheckOneAudience() error {
	if len(a.Audiences) == 1 && a.Audiences[0] != "" {
		return nil
	}
	return invalidClient(AADAudience, "The assertion must have exactly one audience: expected one, received %d ('%s').",
		len(a.Audiences), short(strings.Join(a.Audiences, "', '")))
}

// CheckSignature refuses an assertion that pub's owner didn't sign with one of
// algs: RS256 and PS256 are known (RFC 7518 sections 3.3 and 3.5).
func (a *Assertion) CheckSignature(pub *rsa.PublicKey, algs ...string) error {
	if err := a.checkAlg(algs...); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(a.jws.signed))
	var err error
	if a.jws.alg == string(jose.PS256) {
		err = rsa.VerifyPSS(pub, crypto.SHA256, sum[:], a.jws.signature, nil)
	} else {
		err = a.jws.verify(pub)
	}
	if err != nil {
		return invalidClient(AADSignature, "Client assertion failed signature validation. The signature doesn't fit the content and the key '%s'.",
			short(a.KeyID))
	}
	return nil
}

func (a *Assertion) checkAlg(algs ...string) error {
	for _, alg := range algs {
		if a.jws.alg == alg {
			return nil
		}
	}
	return malformed("The client assertion is signed with '%s': expected '%s', received '%s'.",
		short(a.jws.alg), strings.Join(algs, "' or '"), short(a.jws.alg))
}

// verifiedAssertion remembers which key was found to have signed.
type verifiedAssertion struct {
	a   *Assertion
	key *rsa.PublicKey
}

// Parse is ParseAssertion, which remembers those that VerifyAssertion accepted.
// What it gives is shared: it must not be changed.
func (f *Federation) Parse(raw string) (*Assertion, error) {
	if len(raw) <= MaxTokenBytes {
		if seen, ok := f.seen.get(sha256.Sum256([]byte(raw))); ok {
			return seen.a, nil
		}
	}
	return ParseAssertion(raw)
}

// VerifyAssertion checks an assertion of another issuer: RS256 by a key that
// the issuer publishes, lifetime, exactly one audience. trusts is asked first,
// about what is not yet believed, so that nobody can send us to an issuer that
// no credential names. A refusal is an *apierr.Error whose Inner is the AADSTS
// number; issuer, subject and audience are the caller's to compare.
//
// Of an assertion seen before only the arithmetic of the signature is spared:
// trust, the issuer's keys and the time are looked at each time.
func (f *Federation) VerifyAssertion(ctx context.Context, a *Assertion, trusts func(*Assertion) error) error {
	if err := f.precheck(a); err != nil {
		trace.Add(ctx, trace.Hop{Step: "assertion", Subject: a.Subject, Found: apierr.From(err).Message})
		return err
	}
	if trusts != nil {
		if err := trusts(a); err != nil {
			return err
		}
	}
	seen, again := f.seen.get(a.sum)
	key, err := f.key(ctx, a)
	if err == nil && (!again || !key.Equal(seen.key)) {
		if err = a.CheckSignature(key, string(jose.RS256)); err == nil {
			f.seen.put(a.sum, verifiedAssertion{a, key})
		}
	}
	if err != nil {
		trace.Add(ctx, trace.Hop{Step: "signature", Subject: a.Issuer, Found: apierr.From(err).Message})
		return err
	}
	trace.Add(ctx, trace.Hop{Step: "signature", Subject: a.Issuer, Found: "signed by the issuer's key " + short(a.KeyID), OK: true})
	return nil
}

// precheck is what needs no key.
func (f *Federation) precheck(a *Assertion) error {
	if f.cfg.Own != nil {
		if _, own := f.cfg.Own.issuers[a.Issuer]; own {
			return invalidClient(AADOwnToken, "AAD-issued tokens may not be used for federated identity flows.")
		}
	}
	if err := a.checkAlg(string(jose.RS256)); err != nil {
		return err
	}
	if a.KeyID == "" {
		return malformed("The client assertion's header names no key (kid).")
	}
	if err := a.CheckTime(f.now()); err != nil {
		return err
	}
	return a.CheckOneAudience()
}

// key is the issuer's key that a says it is signed with.
func (f *Federation) key(ctx context.Context, a *Assertion) (*rsa.PublicKey, error) {
	for _, in := range f.cfg.Issuers {
		set, ok, err := in.Keys(ctx, a.Issuer)
		if err != nil {
			return nil, issuerFailed(a.Issuer, err)
		}
		if !ok {
			continue
		}
		if found := set.Key(a.KeyID); len(found) == 1 {
			if pub, isRSA := found[0].Key.(*rsa.PublicKey); isRSA {
				return pub, nil
			}
		}
		return nil, unknownKey(a)
	}
	pub, err := f.remote.key(ctx, a.Issuer, a.KeyID)
	if err != nil {
		return nil, issuerFailed(a.Issuer, err)
	}
	if pub == nil {
		return nil, unknownKey(a)
	}
	return pub, nil
}

func unknownKey(a *Assertion) error {
	return invalidClient(AADSignature, "Client assertion failed signature validation. "+
		"The key was not found: the issuer '%s' publishes no RSA key with the id '%s'.", short(a.Issuer), short(a.KeyID))
}

func issuerFailed(issuer string, err error) error {
	return apierr.New(apierr.BadRequest, "invalid_request", "Request to External OIDC endpoint failed. Issuer '%s': %v.", short(issuer), err).
		WithInner(AADIssuerFailed).WithCause(err)
}

func malformed(format string, args ...any) error {
	return invalidClient(AADMalformed, "%s", "JWT token is invalid or malformed. "+fmt.Sprintf(format, args...))
}

func invalidClient(inner, format string, args ...any) error {
	return apierr.New(apierr.Unauthorized, "invalid_client", format, args...).WithInner(inner)
}

func rfc3339(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }
