package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/store"
)

// pageSize is how many batches are read at once.
const pageSize = 16

// kept is what a component has, as far as this server knows.
type kept struct {
	total   int64
	batches []size // the oldest first, nearly
}

type size struct {
	key   string
	bytes int64
}

// grow counts a new batch, and deletes the oldest where there is too much.
func (s *Service) grow(ctx context.Context, app, key string, bytes int) error {
	s.mu.Lock()
	k := s.sizes[app]
	if k == nil {
		k = &kept{}
		s.sizes[app] = k
	}
	k.total += int64(bytes)
	k.batches = append(k.batches, size{key, int64(bytes)})
	var old []string
	for k.total > s.most() && len(k.batches) > 1 {
		old = append(old, k.batches[0].key)
		k.total -= k.batches[0].bytes
		k.batches = k.batches[1:]
	}
	s.mu.Unlock()
	for _, key := range old {
		if err := s.remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// most is how many bytes a component may keep.
func (s *Service) most() int64 { return int64(s.cfg.MiB) << 20 }

func (s *Service) remove(ctx context.Context, key string) error {
	if err := s.cfg.Store.Delete(ctx, key, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("forget telemetry: %w", err)
	}
	return nil
}

// Erase deletes all records of a component.
func (s *Service) Erase(ctx context.Context, app string) error {
	app = strings.ToLower(app)
	if app == "" {
		return nil
	}
	s.settle(ctx)
	s.mu.Lock()
	delete(s.sizes, app)
	s.mu.Unlock()
	if err := store.DeletePrefix(ctx, s.cfg.Store, prefix+app+"/"); err != nil {
		return fmt.Errorf("erase the records of a component: %w", err)
	}
	return nil
}

// Sweep deletes the batches that are older than their component keeps them,
// those of components that are gone, and the oldest of those that have too much.
func (s *Service) Sweep(ctx context.Context) error {
	if err := s.docs.Fresh(); err != nil {
		return err
	}
	apps, now, found := s.apps(), s.cfg.Now(), map[string]*kept{}
	for doc, err := range s.pages(ctx, prefix, "") {
		if err != nil {
			return err
		}
		app, newest, ok := parseKey(doc.Key)
		c, there := apps[app]
		if !ok || !there || now.Sub(newest) > c.Retention {
			if err := s.remove(ctx, doc.Key); err != nil {
				return err
			}
			continue
		}
		if found[app] == nil {
			found[app] = &kept{}
		}
		found[app].total += int64(len(doc.Value))
		found[app].batches = append(found[app].batches, size{doc.Key, int64(len(doc.Value))})
	}
	s.mu.Lock()
	s.sizes = found
	s.mu.Unlock()
	for app := range found {
		if err := s.shrink(ctx, app); err != nil {
			return err
		}
	}
	return nil
}

// shrink deletes the oldest batches of a component that has too much.
func (s *Service) shrink(ctx context.Context, app string) error {
	for {
		s.mu.Lock()
		k := s.sizes[app]
		if k == nil || k.total <= s.most() || len(k.batches) < 2 {
			s.mu.Unlock()
			return nil
		}
		old := k.batches[0]
		k.total, k.batches = k.total-old.bytes, k.batches[1:]
		s.mu.Unlock()
		if err := s.remove(ctx, old.key); err != nil {
			return err
		}
	}
}

// parseKey reads a batch's key.
func parseKey(key string) (app string, newest time.Time, ok bool) {
	app, rest, ok := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	nano, _, ok2 := strings.Cut(rest, "/")
	n, err := strconv.ParseInt(nano, 10, 64)
	return app, time.Unix(0, n), ok && ok2 && err == nil
}

// pages are the documents under a prefix after a key.
func (s *Service) pages(ctx context.Context, prefix, after string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		for {
			docs, err := s.cfg.Store.List(ctx, store.Query{Prefix: prefix, After: after, Limit: pageSize})
			if err != nil {
				yield(store.Doc{}, fmt.Errorf("read telemetry: %w", err))
				return
			}
			for _, d := range docs {
				if after = d.Key; !yield(d, nil) {
					return
				}
			}
			if len(docs) < pageSize {
				return
			}
		}
	}
}

// span is a time range; a zero end is open.
type span struct{ from, to time.Time }

func (p span) has(t time.Time) bool {
	return !t.Before(p.from) && (p.to.IsZero() || !t.After(p.to))
}

// records are those of a component's table in a time range, nearly in the order
// of their times. Table "" is all.
func (s *Service) records(ctx context.Context, c component, table string, in span) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		oldest := s.cfg.Now().Add(-c.Retention) // what is over does not count before it is swept, either
		if in.from.Before(oldest) {
			in.from = oldest
		}
		for doc, err := range s.pages(ctx, prefix+c.App+"/", batchKey(c.App, in.from)) {
			var b batch
			if err == nil {
				err = json.Unmarshal(doc.Value, &b)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range b.Records {
				if r := &b.Records[i]; (table == "" || r.Table == table) && in.has(r.Time) && !yield(r, nil) {
					return
				}
			}
		}
	}
}
