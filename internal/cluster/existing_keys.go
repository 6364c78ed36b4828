package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"lazurite.dev/internal/store"
)

const (
	foreignFresh = time.Minute // a key set is asked for again after this
	foreignGrace = time.Hour   // and used so much longer while that fails
	foreignRetry = 2 * time.Second
	foreignTime  = 5 * time.Second // how long that may take
)

// foreignKeys is what is known of an attached cluster's keys.
type foreignKeys struct {
	mu    sync.Mutex // held while they are fetched: who comes meanwhile takes the outcome
	set   jose.JSONWebKeySet
	at    time.Time // when they came
	tried time.Time
	err   error
}

// claim makes the cluster the one whose keys count for its issuer. One that
// another attached cluster has is refused: their tokens could not be told apart.
func (e *Existing) claim(ctx context.Context, uid string, a Attached) error {
	if a.Keys != KeysServed {
		return nil
	}
	for range retries {
		owner, rev, err := store.GetJSON[string](ctx, e.cfg.Store, foreignKey(a.Issuer))
		switch {
		case err == nil && owner == uid:
			return nil
		case err == nil:
			other, err := e.load(ctx, owner)
			if err == nil {
				return fmt.Errorf("%w: the issuer '%s' is that of the attached cluster '%s' too: the tokens of the two could not be told apart. Give one of them an issuer of its own (kube-apiserver --service-account-issuer)", ErrInvalid, a.Issuer, other.ResourceID)
			}
			if !errors.Is(err, ErrNotFound) {
				return err
			}
		case !errors.Is(err, store.ErrNotFound):
			return fmt.Errorf("read who has an issuer: %w", err)
		}
		_, err = store.PutJSON(ctx, e.cfg.Store, foreignKey(a.Issuer), foreignKind, rev, uid)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("claim the issuer '%s': %w", a.Issuer, store.ErrConflict)
}

// Keys gives the key set of a private issuer of an attached cluster, for the
// token service; ok is false for any other. It is asked of the cluster's API
// server, and asked again after a minute.
func (e *Existing) Keys(ctx context.Context, issuer string) (set jose.JSONWebKeySet, ok bool, err error) {
	uid, _, err := store.GetJSON[string](ctx, e.cfg.Store, foreignKey(issuer))
	if errors.Is(err, store.ErrNotFound) {
		return set, false, nil
	}
	if err != nil {
		return set, false, fmt.Errorf("read who has an issuer: %w", err)
	}
	a, err := e.load(ctx, uid)
	if errors.Is(err, ErrNotFound) {
		return set, false, nil
	}
	if err != nil {
		return set, false, err
	}
	if a.Issuer != issuer || a.Keys != KeysServed {
		return set, false, nil
	}
	e.mu.Lock()
	k := e.keys[uid]
	if k == nil {
		k = &foreignKeys{}
		e.keys[uid] = k
	}
	e.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	now := e.cfg.Clock()
	if now.Sub(k.at) >= foreignFresh && now.Sub(k.tried) >= foreignRetry {
		fresh, err := e.fetch(ctx, uid, a)
		if k.tried, k.err = now, err; err == nil {
			k.set, k.at = fresh, now
		}
	}
	if now.Sub(k.at) < foreignFresh+foreignGrace {
		return k.set, true, nil
	}
	return set, true, k.err
}

func (e *Existing) fetch(ctx context.Context, uid string, a Attached) (set jose.JSONWebKeySet, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), foreignTime)
	defer cancel()
	k, err := e.open(ctx, uid, a)
	if err != nil {
		return set, err
	}
	defer k.Close()
	if err := k.Get(ctx, "/openid/v1/jwks", &set); err != nil {
		return set, fmt.Errorf("its API server at %s was asked for its keys: %w", a.Server, err)
	}
	return set, nil
}
