package endpoints

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/machinelearningservices/router"
)

// Keys are an endpoint's, as clients see them.
type Keys struct {
	Primary   string `json:"primaryKey,omitempty"`
	Secondary string `json:"secondaryKey,omitempty"`
}

// secrets are what is sealed in an endpoint's claim.
type secrets struct {
	Keys
	Token []byte `json:"token"` // what signs tokens
}

func sealScope(uid string) string { return "mlendpoints/" + uid }

const keysAAD = "keys"

// newKey is 256 random bits in the form of Azure's: 32 letters and digits of
// older ones, or more of new ones.
func newKey() (string, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// checkKey refuses what no header carries, or what is easily guessed.
func checkKey(property, key string) error {
	if len(key) < 16 || len(key) > 1024 {
		return bad(property, "A key has 16 to 1024 characters, not %d.", len(key))
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return bad(property, "A key consists of visible ASCII characters.")
		}
	}
	return nil
}

// takeKeys seals the keys that a request gives, so that they are nowhere in the
// open; only a new endpoint is given any.
func (s *Service) takeKeys(ctx context.Context, old, next *endpoint) error {
	given := next.Properties.Keys
	next.Properties.Keys = nil
	if given == nil || *given == (Keys{}) {
		return nil
	}
	if next.Properties.AuthMode != router.AuthKey {
		return bad("properties.keys", "Keys are for endpoints with the authMode Key; this one's is %s.", next.Properties.AuthMode)
	}
	for _, k := range []struct{ name, key string }{{"primaryKey", given.Primary}, {"secondaryKey", given.Secondary}} {
		if k.key == "" {
			continue
		}
		if err := checkKey("properties.keys."+k.name, k.key); err != nil {
			return err
		}
	}
	if old != nil {
		return s.sameKeys(ctx, old, *given)
	}
	plain, err := json.Marshal(given)
	if err != nil {
		return fmt.Errorf("encode keys: %w", err)
	}
	sealed, err := s.Sealer.Seal(ctx, sealScope(next.Private[uidKey]), plain, []byte(givenKey))
	if err != nil {
		return fmt.Errorf("seal the keys of an endpoint: %w", err)
	}
	next.Private[givenKey] = base64.StdEncoding.EncodeToString(sealed)
	return nil
}

// sameKeys refuses to change keys by a PUT; a template may be deployed again.
func (s *Service) sameKeys(ctx context.Context, old *endpoint, given Keys) error {
	c, err := s.own(ctx, old)
	if err != nil {
		return err
	}
	x, err := s.opened(ctx, c)
	if err != nil {
		return err
	}
	is := keyTest(x.Keys)
	for _, k := range []struct{ name, key string }{{"primary", given.Primary}, {"secondary", given.Secondary}} {
		if name, ok := is(k.key); k.key != "" && (!ok || name != k.name && x.Primary != x.Secondary) {
			return bad("properties.keys", "The endpoint has other keys: give it another one by regenerateKeys with a keyValue.")
		}
	}
	return nil
}

// firstKeys are a new endpoint's, sealed: those that were given, else random ones.
func (s *Service) firstKeys(ctx context.Context, next *endpoint) ([]byte, error) {
	var x secrets
	scope := sealScope(next.Private[uidKey])
	if given := next.Private[givenKey]; given != "" {
		sealed, err := base64.StdEncoding.DecodeString(given)
		if err != nil {
			return nil, fmt.Errorf("decode the keys of an endpoint: %w", err)
		}
		plain, err := s.Sealer.Open(ctx, scope, sealed, []byte(givenKey))
		if err != nil {
			return nil, fmt.Errorf("open the keys of an endpoint: %w", err)
		}
		if err := json.Unmarshal(plain, &x.Keys); err != nil {
			return nil, fmt.Errorf("decode the keys of an endpoint: %w", err)
		}
	}
	for _, k := range []*string{&x.Primary, &x.Secondary} {
		if *k != "" {
			continue
		}
		var err error
		if *k, err = newKey(); err != nil {
			return nil, err
		}
	}
	x.Token = make([]byte, 32)
	if _, err := rand.Read(x.Token); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return s.sealed(ctx, next.Private[uidKey], x)
}

func (s *Service) sealed(ctx context.Context, uid string, x secrets) ([]byte, error) {
	plain, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("encode keys: %w", err)
	}
	b, err := s.Sealer.Seal(ctx, sealScope(uid), plain, []byte(keysAAD))
	if err != nil {
		return nil, fmt.Errorf("seal the keys of an endpoint: %w", err)
	}
	return b, nil
}

func (s *Service) opened(ctx context.Context, c *claim) (secrets, error) {
	var x secrets
	plain, err := s.Sealer.Open(ctx, sealScope(c.UID), c.Keys, []byte(keysAAD))
	if err != nil {
		return x, fmt.Errorf("open the keys of an endpoint: %w", err)
	}
	if err := json.Unmarshal(plain, &x); err != nil {
		return x, fmt.Errorf("decode the keys of an endpoint: %w", err)
	}
	return x, nil
}

// listKeys is POST …/listKeys.
func (s *Service) listKeys(ctx context.Context, r *endpoint, _ json.RawMessage) (any, error) {
	if err := keyed(r); err != nil {
		return nil, err
	}
	c, err := s.own(ctx, r)
	if err != nil {
		return nil, err
	}
	x, err := s.opened(ctx, c)
	if err != nil {
		return nil, err
	}
	return x.Keys, nil
}

func keyed(r *endpoint) error {
	if r.Properties.AuthMode == router.AuthKey {
		return nil
	}
	return apierr.New(apierr.BadRequest, "BadRequest", "The endpoint '%s' has the authMode %s, and no keys.", r.ID.Name(), r.Properties.AuthMode)
}

// regenerateKeys is POST …/regenerateKeys {"keyType":"Primary","keyValue":…}.
// Azure does it in a long operation; here it has been done when it is answered.
func (s *Service) regenerateKeys(ctx context.Context, r *endpoint, body json.RawMessage) (any, error) {
	var in struct {
		Type  string  `json:"keyType"`
		Value *string `json:"keyValue"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, bad("keyType", "The body must be an object such as {\"keyType\":\"Primary\"}.") // which err would quote
	}
	primary := strings.EqualFold(in.Type, "Primary")
	if !primary && !strings.EqualFold(in.Type, "Secondary") {
		return nil, bad("keyType", "The keyType '%s' is neither 'Primary' nor 'Secondary'.", in.Type)
	}
	if err := keyed(r); err != nil {
		return nil, err
	}
	fresh, err := newKey()
	if in.Value != nil && *in.Value != "" {
		fresh, err = *in.Value, checkKey("keyValue", *in.Value)
	}
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, r, func(c *claim) error {
		x, err := s.opened(ctx, c)
		if err != nil {
			return err
		}
		key := &x.Secondary
		if primary {
			key = &x.Primary
		}
		if subtle.ConstantTimeCompare([]byte(*key), []byte(fresh)) == 1 { // azure-ai-ml sends the old key along
			if fresh, err = newKey(); err != nil {
				return err
			}
		}
		*key = fresh
		c.Keys, err = s.sealed(ctx, c.UID, x)
		return err
	})
	return nil, err
}

// keyTest makes the function by which the data plane knows keys. What is kept
// in memory is their digests.
func keyTest(k Keys) func(given string) (string, bool) {
	primary, secondary := sha256.Sum256([]byte(k.Primary)), sha256.Sum256([]byte(k.Secondary))
	return func(given string) (string, bool) {
		sum := sha256.Sum256([]byte(given))
		first := subtle.ConstantTimeCompare(sum[:], primary[:])
		second := subtle.ConstantTimeCompare(sum[:], secondary[:])
		switch {
		case first == 1:
			return "primary", true
		case second == 1:
			return "secondary", true
		}
		return "", false
	}
}
