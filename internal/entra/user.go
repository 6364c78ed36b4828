package entra

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// signIn checks a user's name and password, with both throttles.
func (s *Service) signIn(ctx context.Context, r *http.Request, name, password string) (directory.User, error) {
	if err := s.tries.check(r); err != nil {
		return directory.User{}, err
	}
	u, err := s.dir.CheckPassword(ctx, name, password)
	if err == nil {
		trace.Add(ctx, trace.Hop{Step: "user", Subject: u.UPN, Found: "name and password are right", OK: true})
		return u, nil
	}
	trace.Add(ctx, trace.Hop{Step: "user", Subject: shorten(name), Found: err.Error()})
	switch {
	case errors.Is(err, directory.ErrPassword):
		s.tries.failed(r)
		return u, aad(apierr.BadRequest, "invalid_grant", "50126", "Error validating credentials due to invalid username or password.")
	case errors.Is(err, directory.ErrLocked):
		return u, aad(apierr.BadRequest, "invalid_grant", "50053", "The account is locked, you've tried to sign in too many times with an incorrect user ID or password.")
	case errors.Is(err, directory.ErrDisabled):
		return u, disabled()
	}
	return u, err
}

func disabled() error {
	return aad(apierr.BadRequest, "invalid_grant", "50057", "The user account is disabled.")
}

// forUser is the answer of every grant that signs a user in: access token,
// refresh token and id token, as far as they were asked for.
func (s *Service) forUser(ctx context.Context, r *tokenRequest, u directory.User, w wanted, nonce string, old *session) (*answer, error) {
	a, err := s.issue(ctx, r, token.Request{Resource: w.resource, ObjectID: u.ObjectID, Name: u.DisplayName, UPN: u.UPN, Scopes: w.granted()})
	if err != nil {
		return nil, err
	}
	a.user = &u
	if r.version == "2.0" {
		a.scope = w.scopes()
	}
	if w.has("offline_access") || old != nil && old.raw != "" {
		next := session{User: u.ObjectID, Client: r.client.id, Scope: r.get("scope"), Resource: r.get("resource")}
		if old != nil {
			next.Family = old.Family
		}
		if a.refresh, err = s.nextRefresh(ctx, next, old); err != nil {
			return nil, err
		}
	}
	if w.has("openid") {
		a.idToken, err = s.idToken(ctx, r, a.claims, u, nonce)
	}
	return a, err
}

// idToken says to the client who signed in (OpenID Connect Core 1.0 section 2).
func (s *Service) idToken(ctx context.Context, r *tokenRequest, access token.Claims, u directory.User, nonce string) (string, error) {
	authority, _ := s.tokens.Authority(r.host)
	claims := map[string]any{
		"aud": r.client.id, "iss": s.tokens.Issuer(authority, r.version), "iat": access.IssuedAt.Unix(), "nbf": access.IssuedAt.Unix(),
		"exp": access.ExpiresAt.Unix(), "name": u.DisplayName, "oid": u.ObjectID, "sub": token.PairwiseSubject(u.ObjectID, r.client.id),
		"tid": s.tokens.TenantID(), "uti": access.ID, "ver": r.version,
	}
	if r.version == "2.0" {
		claims["preferred_username"] = u.UPN
	} else {
		claims["upn"], claims["unique_name"], claims["amr"] = u.UPN, u.UPN, []string{"pwd"}
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if u.Mail != "" {
		claims["email"] = u.Mail
	}
	return s.tokens.Sign(ctx, claims)
}

// clientInfo is what MSAL names an account by.
func clientInfo(oid, tenant string) string {
	b, err := json.Marshal(struct {
		UID  string `json:"uid"`
		UTID string `json:"utid"`
	}{oid, tenant})
	if err != nil {
		return "" // two strings always have a JSON form
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// active gives the user of a grant made earlier, if it still stands: the user
// is there and enabled, and the password is the one of then.
func (s *Service) active(oid, stamp string) (directory.User, error) {
	u, err := s.dir.User(oid)
	if err != nil {
		return u, aad(apierr.BadRequest, "invalid_grant", "50034", "The user account does not exist in the %s directory. To sign into this application, "+
			"the account must be added to the directory.", s.tenantName())
	}
	if u.Disabled {
		return u, disabled()
	}
	now, err := s.dir.PasswordStamp(oid)
	if err != nil {
		return u, err
	}
	if now != stamp {
		return u, aad(apierr.BadRequest, "invalid_grant", "50173", "The provided grant has expired due to it being revoked, a fresh auth token is needed. "+
			"The user might have changed or reset their password.")
	}
	return u, nil
}

func newID() string { return uuid.NewString() }
