package blob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/durable"
	"lazurite.dev/internal/store"
)

// How long what nothing needs is kept.
const (
	keepContent = time.Hour          // a content that no blob has
	keepBlock   = 7 * 24 * time.Hour // a block that was not committed
)

// Collect removes what nothing needs: contents without a blob, which a crash or
// a request that came to nothing left, blocks that were given up, and what
// deleted accounts left.
func (p *Plane) Collect(ctx context.Context) error {
	if p.Dir == "" {
		return nil
	}
	accounts, err := folders(p.Dir)
	if err != nil {
		return err
	}
	known, err := p.Accounts.UIDs(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range accounts {
		if !slices.Contains(known, a) {
			errs = append(errs, os.RemoveAll(filepath.Join(p.Dir, a)))
			continue
		}
		containers, err := folders(filepath.Join(p.Dir, a))
		errs = append(errs, err)
		for _, ct := range containers {
			errs = append(errs, p.collect(ctx, place{a, ct}))
		}
	}
	return errors.Join(errs...)
}

// collect removes what is old and has no blob: files are looked at before the
// documents are, and only those count that were there an hour ago.
func (p *Plane) collect(ctx context.Context, at place) error {
	needed := map[string]bool{}
	limit := p.Now().Add(-keepContent)
	err := store.All(ctx, p.Store, store.Query{Prefix: prefixOf(at)}, func(d store.Doc) error {
		b, err := decodeBlob(d)
		if err == nil {
			needed[b.File] = true
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("collect blobs: %w", err)
	}
	dir := p.files.folder(at)
	return errors.Join(
		durable.RemoveOlder(filepath.Join(dir, "contents"), limit, func(path string) bool {
			return !needed[strings.TrimSuffix(filepath.Base(path), ".blocks")]
		}),
		durable.RemoveOlder(filepath.Join(dir, "blocks"), p.Now().Add(-keepBlock), func(string) bool { return true }),
	)
}
