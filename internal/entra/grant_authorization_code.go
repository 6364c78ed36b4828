package entra

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
)

// code is what an authorization code stands for.
type code struct {
	User      string    `json:"user"`
	Client    string    `json:"client"`
	Redirect  string    `json:"redirect"`
	Scope     string    `json:"scope,omitempty"`
	Resource  string    `json:"resource,omitempty"`
	Nonce     string    `json:"nonce,omitempty"`
	Challenge string    `json:"challenge,omitempty"` // S256 (RFC 7636)
	Kind      string    `json:"kind"`                // of Redirect
	Stamp     string    `json:"stamp"`
	Redeemed  string    `json:"redeemed,omitempty"` // the family of what was given for it
	Expires   time.Time `json:"expires"`
}

func (s *Service) newCode(ctx context.Context, c code) (string, error) {
	var err error
	if c.Stamp, err = s.dir.PasswordStamp(c.User); err != nil {
		return "", fmt.Errorf("making an authorization code: %w", err)
	}
	c.Expires = s.now().Add(codeLife).UTC()
	raw := "1." + secretText(48)
	if _, err := store.PutJSON(ctx, s.cfg.Store, codePrefix+hashed(raw), "entra.code", 0, c); err != nil {
		return "", fmt.Errorf("storing an authorization code: %w", err)
	}
	return raw, nil
}

// authorizationCode redeems what the sign-in page gave (RFC 6749 section
// 4.1.3, with PKCE of RFC 7636).
func (s *Service) authorizationCode(ctx context.Context, r *tokenRequest) (*answer, error) {
	raw, err := r.need("code")
	if err != nil {
		return nil, err
	}
	key := codePrefix + hashed(raw)
	c, rev, err := store.GetJSON[code](ctx, s.cfg.Store, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, aad(apierr.BadRequest, "invalid_grant", "70008", "The provided authorization code or refresh token has expired due to inactivity. "+
			"Send a new interactive authorization request for this user and resource.")
	}
	if err != nil {
		return nil, fmt.Errorf("reading an authorization code: %w", err)
	}
	if err := s.checkCode(ctx, r, c); err != nil {
		return nil, err
	}
	if c.Redeemed != "" {
		return nil, s.replayed(ctx, c)
	}
	u, err := s.active(c.User, c.Stamp)
	if err != nil {
		return nil, err
	}
	for name, v := range map[string]string{"scope": c.Scope, "resource": c.Resource} {
		if r.get(name) == "" && v != "" {
			r.form.Set(name, v)
		}
	}
	w, err := s.want(r)
	if err != nil {
		return nil, err
	}
	c.Redeemed = newID()
	_, err = store.PutJSON(ctx, s.cfg.Store, key, "entra.code", rev, c)
	if errors.Is(err, store.ErrConflict) { // presented twice at once
		if c, _, err = store.GetJSON[code](ctx, s.cfg.Store, key); err == nil {
			return nil, s.replayed(ctx, c)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("redeeming an authorization code: %w", err)
	}
	return s.forUser(ctx, r, u, w, c.Nonce, &session{Family: c.Redeemed})
}

// replayed refuses a code that was redeemed before: somebody else has it, so
// what was given for it, or is about to be, ends (RFC 6749 section 4.1.2).
func (s *Service) replayed(ctx context.Context, c code) error {
	if err := s.revoke(ctx, c.Redeemed); err != nil {
		return fmt.Errorf("revoking what a stolen code gave: %w", err)
	}
	return aad(apierr.BadRequest, "invalid_grant", "54005",
		"OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.")
}

// checkCode refuses a code that is too old, was given to somebody else, or
// whose challenge the client can't meet.
func (s *Service) checkCode(ctx context.Context, r *tokenRequest, c code) error {
	if !s.now().Before(c.Expires) {
		return aad(apierr.BadRequest, "invalid_grant", "70008", "The provided authorization code or refresh token has expired due to inactivity. "+
			"Send a new interactive authorization request for this user and resource.")
	}
	if c.Client != r.client.id {
		return aad(apierr.BadRequest, "invalid_grant", "700005", "Provided Authorization Code is intended to use against another client: it was given to '%s'.", c.Client)
	}
	if got := r.get("redirect_uri"); got != c.Redirect {
		trace.Add(ctx, trace.Hop{Step: "redirect", Subject: r.client.id, Expected: c.Redirect, Received: shorten(got)})
		return aad(apierr.BadRequest, "invalid_client", "500112", "The reply address '%s' does not match the reply address '%s' provided when requesting Authorization code.",
			shorten(got), shorten(c.Redirect))
	}
	if c.Challenge == "" && r.get("code_verifier") != "" { // somebody took the challenge out of the request (RFC 9700 section 4.8.2)
		return aad(apierr.BadRequest, "invalid_grant", "501481", "A Code_Verifier was sent, but the authorization request had no code_challenge.")
	}
	if c.Challenge != "" {
		sum := sha256.Sum256([]byte(r.get("code_verifier")))
		met := base64.RawURLEncoding.EncodeToString(sum[:])
		if subtle.ConstantTimeCompare([]byte(met), []byte(c.Challenge)) != 1 {
			return aad(apierr.BadRequest, "invalid_grant", "501481", "The Code_Verifier does not match the code_challenge supplied in the authorization request.")
		}
	}
	switch c.Kind {
	case spaURI:
		return nil // the browser's own: the verifier is its proof
	case publicURI:
		return s.identify(ctx, r)
	}
	_, err := s.authenticate(ctx, r)
	return err
}
