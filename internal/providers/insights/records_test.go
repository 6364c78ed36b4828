package insights_test

import (
	"context"

	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// records are those of tests that have none.
type records struct{}

func (records) Erase(context.Context, string) error { return nil }

func (records) Query(context.Context, rid.ID, insights.Ask) (any, error) {
	return nil, store.ErrNotFound
}
