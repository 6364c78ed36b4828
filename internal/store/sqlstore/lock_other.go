//go:build !unix

package sqlstore

import (
	"errors"
	"fmt"
)

// lockFile refuses: without a lock that dies with its process, two could
// write one database.
func lockFile(path string) (release func() error, err error) {
	return nil, fmt.Errorf("lock %s: SQLite needs a unix system here, use PostgreSQL: %w", path, errors.ErrUnsupported)
}
