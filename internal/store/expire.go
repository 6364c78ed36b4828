package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Expire deletes, now and every hour until ctx ends, the documents under prefix
// whose JSON value has a time "expires" that is over. One that is written anew
// meanwhile stays.
func Expire(ctx context.Context, s Store, prefix string, now func() time.Time) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := expire(ctx, s, prefix, now()); err != nil && ctx.Err() == nil {
			return fmt.Errorf("forgetting what has expired under %s: %w", prefix, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func expire(ctx context.Context, s Store, prefix string, now time.Time) error {
	return All(ctx, s, Query{Prefix: prefix}, func(d Doc) error {
		var v struct{ Expires time.Time }
		if err := json.Unmarshal(d.Value, &v); err != nil || v.Expires.IsZero() || now.Before(v.Expires) {
			return err
		}
		err := s.Delete(ctx, d.Key, d.Rev)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
			return nil
		}
		return err
	})
}
