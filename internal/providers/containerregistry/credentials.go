package containerregistry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
)

// secrets are a registry's: the passwords of its administrator and the key
// that its tokens are signed with.
type secrets struct {
	Passwords [2]string `json:"passwords"`
	Key       []byte    `json:"key"`
}

// newPassword has 260 random bits.
func newPassword() string { return rand.Text() + rand.Text() }

func newSecrets() (*secrets, error) {
	s := &secrets{Passwords: [2]string{newPassword(), newPassword()}, Key: make([]byte, 32)}
	if _, err := rand.Read(s.Key); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return s, nil
}

// mark tells one password from those before and after it.
func mark(password string) string {
	sum := sha256.Sum256([]byte("registry password\x00" + password))
	return hex.EncodeToString(sum[:8])
}

// SignIn checks the name and password of the administrator, in constant time,
// and gives the mark of the password, "" where the two are not right. It does
// not ask Admin.
func (r *Registry) SignIn(user, password string) string {
	got := sha256.Sum256([]byte(password))
	found := ""
	for _, p := range r.secrets.Passwords {
		want := sha256.Sum256([]byte(p))
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(user, r.Name) {
			found = mark(p)
		}
	}
	return found
}

// Current reports whether the password with the mark still is one.
func (r *Registry) Current(m string) bool {
	return m == mark(r.secrets.Passwords[0]) || m == mark(r.secrets.Passwords[1])
}

// Key is what the registry's tokens are signed with.
func (r *Registry) Key() []byte { return r.secrets.Key }

func (s *secrets) shown(r *arm.Resource[Properties]) any {
	type password struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	return map[string]any{"username": r.ID.Name(), "passwords": []password{{"password", s.Passwords[0]}, {"password2", s.Passwords[1]}}}
}

func adminEnabled(r *arm.Resource[Properties]) error {
	if b := r.Properties.Admin; b == nil || !*b {
		return apierr.New(apierr.BadRequest, "UnAuthorizedForCredentialOperations",
			"Cannot perform credential operations for %s as admin user is disabled. Kindly enable admin user as per docs: https://docs.microsoft.com/en-us/azure/container-registry/container-registry-authentication#admin-account", r.ID)
	}
	return nil
}

// listCredentials is POST …/listCredentials.
func (p *provider) listCredentials(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) (any, error) {
	if err := adminEnabled(r); err != nil {
		return nil, err
	}
	_, s, err := p.names.Secrets(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return s.shown(r), nil
}

// regenerate is POST …/regenerateCredential {"name":"password"}.
func (p *provider) regenerate(ctx context.Context, r *arm.Resource[Properties], body json.RawMessage) (any, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, bad("name", "The body must be an object such as {\"name\":\"password\"}: %v", err)
	}
	i := 0
	switch {
	case strings.EqualFold(in.Name, "password"):
	case strings.EqualFold(in.Name, "password2"):
		i = 1
	default:
		return nil, bad("name", "The name '%s' is neither 'password' nor 'password2'.", in.Name)
	}
	if err := adminEnabled(r); err != nil {
		return nil, err
	}
	fresh := newPassword()
	s, err := p.names.Change(ctx, r.ID, func(s *secrets) { s.Passwords[i] = fresh })
	if err != nil {
		return nil, err
	}
	return s.shown(r), nil
}
