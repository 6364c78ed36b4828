package storage

import (
	"context"
	"encoding/base64"

	"lazurite.dev/internal/rid"
)

// Key is the first key of an account, for resources that show it to whoever
// may list theirs. The errors are those that a caller may see: a NotFound where
// there is no such account, a Conflict where it takes no keys.
func (a *Accounts) Key(ctx context.Context, account rid.ID) (string, error) {
	acc, err := a.ByID(ctx, account)
	if err != nil {
		return "", err
	}
	if !acc.SharedKey {
		return "", noSharedKey(acc.Name)
	}
	return base64.StdEncoding.EncodeToString(acc.secrets.Keys[0]), nil
}
