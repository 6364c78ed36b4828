package entra

import (
	"context"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/trace"
)

// refreshToken gives a new token to a client whose user signed in before (RFC
// 6749 section 6), for any resource.
func (s *Service) refreshToken(ctx context.Context, r *tokenRequest) (*answer, error) {
	if err := s.identify(ctx, r); err != nil {
		return nil, err
	}
	raw, err := r.need("refresh_token")
	if err != nil {
		return nil, err
	}
	old, err := s.session(ctx, raw)
	if err != nil {
		return nil, err
	}
	if old.Client != r.client.id {
		trace.Add(ctx, trace.Hop{Step: "refresh token", Subject: r.client.id, Found: "it was given to another client", Expected: old.Client, Received: r.client.id})
		return nil, aad(apierr.BadRequest, "invalid_grant", "70000", "Provided grant is invalid or malformed. The refresh token was issued to another client.")
	}
	u, err := s.active(old.User, old.Stamp)
	if err != nil {
		trace.Add(ctx, trace.Hop{Step: "user", Subject: old.User, Found: apierr.From(err).Message, Fix: "az login"})
		return nil, err
	}
	for name, v := range map[string]string{"scope": old.Scope, "resource": old.Resource} {
		if r.get(name) == "" && v != "" {
			r.form.Set(name, v)
		}
	}
	w, err := s.want(r)
	if err != nil {
		return nil, err
	}
	return s.forUser(ctx, r, u, w, "", &old)
}
