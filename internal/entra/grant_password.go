package entra

import "context"

// password gives a token for a user's name and password (RFC 6749 section 4.3).
func (s *Service) password(ctx context.Context, r *tokenRequest) (*answer, error) {
	if err := s.identify(ctx, r); err != nil {
		return nil, err
	}
	name, err := r.need("username")
	if err != nil {
		return nil, err
	}
	pass, err := r.need("password")
	if err != nil {
		return nil, err
	}
	w, err := s.want(r)
	if err != nil {
		return nil, err
	}
	u, err := s.signIn(ctx, r.http, name, pass)
	if err != nil {
		return nil, err
	}
	return s.forUser(ctx, r, u, w, "", nil)
}
