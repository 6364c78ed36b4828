package entra

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
)

// Codes and refresh tokens are random; what is stored is their hash, as the
// key, and what they stand for.
const (
	prefix        = "entra/"
	refreshPrefix = prefix + "refresh/"
	codePrefix    = prefix + "code/"
	devicePrefix  = prefix + "device/"
	userPrefix    = prefix + "usercode/"
	revokedPrefix = prefix + "revoked/" // families

	refreshLife  = 90 * 24 * time.Hour
	refreshAgain = 24 * time.Hour // an exchanged refresh token: its successor may not have been kept
	codeLife     = 10 * time.Minute
	deviceLife   = 15 * time.Minute
)

func secretText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

func hashed(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// session is what a refresh token stands for.
type session struct {
	User     string    `json:"user"` // object id
	Client   string    `json:"client"`
	Family   string    `json:"family"` // of all tokens that come from one sign-in
	Scope    string    `json:"scope,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Stamp    string    `json:"stamp"` // of the password
	Issued   time.Time `json:"issued"`
	Expires  time.Time `json:"expires"`
	Keep     bool      `json:"keep,omitempty"` // not replaced when used: the owner's file

	raw string
	rev int64
}

// NewRefreshToken signs a user in without asking, for a client: the server
// gives it to whoever owns this machine's state. It lives 90 days from its last
// use and ends with the user's password.
func (s *Service) NewRefreshToken(ctx context.Context, userOID, clientID string) (string, error) {
	if _, err := s.dir.User(userOID); err != nil {
		return "", fmt.Errorf("making a refresh token: %w", err)
	}
	return s.newRefresh(ctx, session{User: userOID, Client: clientID, Keep: true})
}

// Good reports whether a refresh token would be taken from its client today.
func (s *Service) Good(ctx context.Context, refreshToken string) bool {
	v, err := s.session(ctx, refreshToken)
	if err == nil {
		_, err = s.active(v.User, v.Stamp)
	}
	return err == nil
}

// newRefresh stores a new refresh token.
func (s *Service) newRefresh(ctx context.Context, n session) (string, error) {
	var err error
	if n.Stamp, err = s.dir.PasswordStamp(n.User); err != nil {
		return "", fmt.Errorf("making a refresh token: %w", err)
	}
	if n.Family == "" {
		n.Family = newID()
	}
	n.Issued, n.Expires = s.now().UTC(), s.now().Add(refreshLife).UTC()
	raw := "1." + secretText(48)
	if _, err := store.PutJSON(ctx, s.cfg.Store, refreshPrefix+hashed(raw), "entra.refresh", 0, n); err != nil {
		return "", fmt.Errorf("storing a refresh token: %w", err)
	}
	return raw, nil
}

// nextRefresh is newRefresh for a client that presented old, nil for a sign-in.
// The one presented goes on for a day; one to keep is given again.
func (s *Service) nextRefresh(ctx context.Context, n session, old *session) (string, error) {
	if old == nil || old.raw == "" {
		return s.newRefresh(ctx, n)
	}
	end := s.now().Add(refreshAgain).UTC()
	if old.Keep {
		end = s.now().Add(refreshLife).UTC()
	}
	if d := end.Sub(old.Expires); d < 0 && !old.Keep || d > 24*time.Hour && old.Keep {
		old.Expires = end
		_, err := store.PutJSON(ctx, s.cfg.Store, refreshPrefix+hashed(old.raw), "entra.refresh", old.rev, *old)
		if err != nil && !errors.Is(err, store.ErrConflict) { // a conflict: presented twice at once
			return "", fmt.Errorf("renewing a refresh token: %w", err)
		}
	}
	if old.Keep {
		return old.raw, nil
	}
	return s.newRefresh(ctx, n)
}

// session finds what a presented refresh token stands for.
func (s *Service) session(ctx context.Context, raw string) (session, error) {
	v, rev, err := store.GetJSON[session](ctx, s.cfg.Store, refreshPrefix+hashed(raw))
	gone := errors.Is(err, store.ErrNotFound)
	if err == nil {
		gone, err = s.revoked(ctx, v.Family)
	}
	if gone {
		trace.Add(ctx, trace.Hop{Step: "refresh token", Found: "it is none of ours, or was revoked", Fix: "az login"})
		return v, aad(apierr.BadRequest, "invalid_grant", "70000", "Provided grant is invalid or malformed.")
	}
	if err != nil {
		return v, fmt.Errorf("reading a refresh token: %w", err)
	}
	if !s.now().Before(v.Expires) {
		return v, aad(apierr.BadRequest, "invalid_grant", "700082", "The refresh token has expired due to inactivity. The token was issued on %s and was inactive for %s.",
			v.Issued.Format("2006-01-02T15:04:05.0000000Z"), refreshLife)
	}
	v.raw, v.rev = raw, rev
	return v, nil
}

// revoke ends every refresh token of a family, also one that is being made at
// this moment: the family is marked, not the tokens.
func (s *Service) revoke(ctx context.Context, family string) error {
	mark := struct {
		Expires time.Time `json:"expires"`
	}{s.now().Add(refreshLife + codeLife).UTC()} // outlives them all
	_, err := store.PutJSON(ctx, s.cfg.Store, revokedPrefix+family, "entra.revoked", 0, mark)
	if errors.Is(err, store.ErrConflict) {
		return nil // revoked before
	}
	return err
}

// revoked reports whether a family was.
func (s *Service) revoked(ctx context.Context, family string) (bool, error) {
	_, err := s.cfg.Store.Get(ctx, revokedPrefix+family)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
