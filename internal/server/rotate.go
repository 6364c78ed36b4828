package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"lazurite.dev/internal/seal"
)

// RotateRequest asks for a new key of one kind.
type RotateRequest struct {
	// Now lets a new token key sign at once instead of after an hour, in which
	// those who keep key sets can read it.
	Now bool `json:"now,omitempty"`
	// DropOld forgets the root keys before the newest, in place of making one.
	DropOld bool `json:"dropOld,omitempty"`
}

// RotateAnswer is what was done.
type RotateAnswer struct {
	KeyID    string    `json:"keyId,omitempty"`    // of the new token key
	SignFrom time.Time `json:"signFrom,omitzero"`  // when it signs
	DataKeys int       `json:"dataKeys,omitempty"` // that were wrapped under the newest root key
}

// rotations are the handlers of the admin socket that change keys.
func (s *system) rotations() {
	s.out.RotateTokenKey, s.out.RotateRootKey = s.rotateTokenKey, s.rotateRootKey
}

// rotateTokenKey publishes a new signing key. What the one before has signed
// stays good until it expires.
func (s *system) rotateTokenKey(ctx context.Context, q RotateRequest) (RotateAnswer, error) {
	kid, from, err := s.tokens.RotateKeysAt(ctx, q.Now)
	if err == nil {
		s.Config.Log.Info("token signing key rotated", slog.String("kid", kid), slog.Time("signFrom", from))
	}
	return RotateAnswer{KeyID: kid, SignFrom: from}, err
}

// rotateRootKey adds a root key and wraps every data key under it; with DropOld
// it does the latter again and forgets the other root keys.
func (s *system) rotateRootKey(ctx context.Context, q RotateRequest) (RotateAnswer, error) {
	if !q.DropOld {
		if err := s.root.AddKey(); err != nil {
			return RotateAnswer{}, err
		}
	}
	n, err := s.keyring.RewrapAll(ctx)
	if err == nil && q.DropOld {
		err = s.root.DropOldKeys()
	}
	if err == nil {
		s.Config.Log.Info("root key rotated", slog.Int("dataKeys", n), slog.Bool("droppedOld", q.DropOld))
	}
	return RotateAnswer{DataKeys: n}, err
}

// unlessEmpty lets a scope in which nothing was sealed yet pass.
func unlessEmpty(f func(context.Context, string) error) func(context.Context, string) error {
	return func(ctx context.Context, scope string) error {
		if err := f(ctx, scope); !errors.Is(err, seal.ErrNoKey) {
			return err
		}
		return nil
	}
}
