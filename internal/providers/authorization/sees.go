package authorization

import (
	"context"

	"lazurite.dev/internal/rid"
)

// Sees reports whether the principal has a role at the scope, above it or
// below it. Azure lists a subscription to whoever has one anywhere in it. The
// error is that of Fresh.
func (a *Authorizer) Sees(_ context.Context, oid string, scope rid.ID) (bool, error) {
	if err := a.Fresh(); err != nil {
		return false, err
	}
	return a.followed().Under(a.dir.Acting(oid), scope.String()), nil
}
