package endpoints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// claim is the document of an endpoint's name, of which there is one in a region.
type claim struct {
	ID       string    `json:"id"`   // of the endpoint
	UID      string    `json:"uid"`  // of this endpoint alone, for ever
	Keys     []byte    `json:"keys"` // sealed; see secrets
	Released time.Time `json:"released,omitzero"`

	owner rid.ID // ID, parsed
	rev   int64
}

const (
	claimKind     = "ml.endpoint.name"
	claimPrefix   = "mlendpoints/names/"
	writeAttempts = 20

	// reserved is how long the name of a deleted endpoint is kept for its
	// workspace, where Azure's limits are kept.
	reserved = 5 * time.Minute

	// maxStale is how old the mirrors may be before what depends on them is
	// refused: a change made through another replica counts within this time.
	maxStale = time.Second
)

func claimKey(region, name string) string { return claimPrefix + lower(region) + "/" + lower(name) }

func decodeClaim(d store.Doc) (*claim, error) {
	c := &claim{rev: d.Rev}
	if err := json.Unmarshal(d.Value, c); err != nil {
		return nil, fmt.Errorf("decode the name of an endpoint %q: %w", d.Key, err)
	}
	var err error
	if c.owner, err = rid.Parse(c.ID); err != nil {
		return nil, fmt.Errorf("decode the name of an endpoint %q: %w", d.Key, err)
	}
	return c, nil
}

// claimed reads the claim of a name; nil where there is none.
func (s *Service) claimed(ctx context.Context, region, name string) (*claim, error) {
	d, err := s.Store.Get(ctx, claimKey(region, name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the name of an endpoint: %w", err)
	}
	return decodeClaim(d)
}

func (s *Service) save(ctx context.Context, r *endpoint, c *claim) error {
	rev, err := store.PutJSON(ctx, s.Store, claimKey(r.Location, r.ID.Name()), claimKind, c.rev, c)
	if err != nil {
		return fmt.Errorf("write the name of an endpoint: %w", err)
	}
	c.rev = rev
	return nil
}

// free reports whether the endpoint may have the claim.
func (c *claim) free(r *endpoint, now time.Time) bool {
	switch {
	case c == nil || c.UID == r.Private[uidKey]:
		return true
	case c.Released.IsZero():
		return false
	}
	return c.owner.Parent().Equal(r.ID.Parent()) || now.Sub(c.Released) >= reserved
}

func taken(name, region string) error {
	return apierr.New(apierr.Conflict, "NameNotAvailable",
		"There is already an online endpoint '%s' in the region '%s', or one was deleted a moment ago. The names of endpoints are unique in a region, over all subscriptions: choose another one.", name, region).WithTarget("name")
}

// nameFree refuses a name that another endpoint has in the region.
func (s *Service) nameFree(ctx context.Context, next *endpoint) error {
	c, err := s.claimed(ctx, next.Location, next.ID.Name())
	if err != nil {
		return err
	}
	if c.free(next, s.Now()) {
		return nil
	}
	if gone, err := s.abandoned(ctx, c); err != nil || gone {
		return err
	}
	return taken(next.ID.Name(), next.Location)
}

// abandoned reports whether the endpoint that a claim names was never made.
func (s *Service) abandoned(ctx context.Context, c *claim) (bool, error) {
	if !c.Released.IsZero() {
		return false, nil
	}
	e, err := s.res.Get(ctx, c.owner)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return err == nil && e.Private[uidKey] != c.UID, err
}

// claim takes the name, and keys for whoever has none; idempotent.
func (s *Service) claim(ctx context.Context, next *endpoint) error {
	for range writeAttempts {
		if err := s.nameFree(ctx, next); err != nil {
			return err
		}
		c, err := s.claimed(ctx, next.Location, next.ID.Name())
		if err != nil {
			return err
		}
		if c == nil || c.UID != next.Private[uidKey] {
			fresh := &claim{UID: next.Private[uidKey]}
			if c != nil {
				fresh.rev = c.rev
			}
			if fresh.Keys, err = s.firstKeys(ctx, next); err != nil {
				return err
			}
			c = fresh
		}
		c.ID, c.Released = next.ID.String(), time.Time{}
		if err := s.save(ctx, next, c); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return busy(next.ID)
}

// release gives the name back; the keys are gone.
func (s *Service) release(ctx context.Context, old *endpoint) error {
	for range writeAttempts {
		c, err := s.claimed(ctx, old.Location, old.ID.Name())
		if err != nil || c == nil || c.UID != old.Private[uidKey] || !c.Released.IsZero() {
			return err
		}
		key := claimKey(old.Location, old.ID.Name())
		if s.AzureLike {
			c.Keys, c.Released = nil, s.Now().UTC()
			err = s.save(ctx, old, c)
		} else if err = s.Store.Delete(ctx, key, c.rev); errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return busy(old.ID)
}

// change applies fn to the claim of an endpoint that is there and saves it.
func (s *Service) change(ctx context.Context, r *endpoint, fn func(*claim) error) error {
	for range writeAttempts {
		c, err := s.own(ctx, r)
		if err != nil {
			return err
		}
		if err := fn(c); err != nil {
			return err
		}
		if err := s.save(ctx, r, c); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return busy(r.ID)
}

// own is the claim of an endpoint that was made.
func (s *Service) own(ctx context.Context, r *endpoint) (*claim, error) {
	c, err := s.claimed(ctx, r.Location, r.ID.Name())
	if err == nil && (c == nil || c.UID != r.Private[uidKey] || !c.Released.IsZero()) {
		err = busy(r.ID) // it is being made, or deleted
	}
	return c, err
}

func busy(id rid.ID) error {
	return apierr.New(apierr.Conflict, "ResourceNotReady", "Another operation on '%s' is in progress. Retry when it has finished.", id)
}

// endpointUID is an endpoint's or a deployment's uid as compute names things by it.
func endpointUID(uid string) string { return strings.ToLower(uid) }

// follow opens the mirrors.
func (s *Service) follow(ctx context.Context) error {
	var err error
	if s.names, err = store.NewMirror(ctx, s.Store, claimPrefix, decodeClaim, maxStale); err != nil {
		return fmt.Errorf("open the names of endpoints: %w", err)
	}
	if s.docs, err = store.NewMirror(ctx, s.Store, arm.KeyPrefix+"/", arm.DecodeEnvelope, maxStale, lower(EndpointType), lower(DeploymentType)); err != nil {
		s.names.Close()
		return fmt.Errorf("open the endpoints: %w", err)
	}
	s.names.OnChange(func(c store.Change) { s.cache.forget(nameIn(c.Doc.Key)) })
	s.docs.OnChange(func(c store.Change) { s.cache.forget(nameIn(c.Doc.Key)) })
	return nil
}

// Close ends what Open began.
func (s *Service) Close() {
	s.stop()
	s.flights.close()
	s.names.Close()
	s.docs.Close()
}
