package token

import (
	"context"

	"golang.org/x/sync/singleflight"
)

// flights lets callers who need the same thing at the same time wait for one
// of them. The work doesn't end because the caller who began it goes away.
type flights struct{ group singleflight.Group }

func (f *flights) do(ctx context.Context, key string, work func(context.Context) error) error {
	ch := f.group.DoChan(key, func() (any, error) {
		return nil, work(context.WithoutCancel(ctx))
	})
	select {
	case r := <-ch:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}
