package server

import "context"

// assemble builds the system on b.
func assemble(_ context.Context, _ *Base) (*Assembly, error) {
	return &Assembly{}, nil
}
