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
type kept struct{ traces, rest row }

// row are batches, the oldest first, nearly.
type row struct {
	total   int64
	batches []size
}

type size struct {
	key   string
	bytes int64
}

func (r *row) drop() (key string) {
	old := r.batches[0]
	r.total, r.batches = r.total-old.bytes, r.batches[1:]
	return old.key
}

// add counts a batch of a table.
func (k *kept) add(table string, z size) {
	r := &k.rest
	if table == Traces {
		r = &k.traces
	}
	r.total += z.bytes
	r.batches = append(r.batches, z)
}

// surplus takes out the oldest batches where there is more than most, and gives
// their keys. Traces may have three quarters of it, so that what is printed never
// displaces all requests.
func (k *kept) surplus(most int64) (old []string) {
	for k.traces.total > most/4*3 && len(k.traces.batches) > 1 {
		old = append(old, k.traces.drop())
	}
	for k.traces.total+k.rest.total > most && len(k.rest.batches) > 1 {
		if len(k.traces.batches) > 1 && k.traces.batches[0].key < k.rest.batches[0].key {
			old = append(old, k.traces.drop())
		} else {
			old = append(old, k.rest.drop())
		}
	}
	return old
}

// grow counts a new batch, and deletes the oldest where there is too much.
func (s *Service) grow(ctx context.Context, app, table, key string, bytes int) error {
	s.mu.Lock()
	k := s.sizes[app]
	if k == nil {
		k = &kept{}
		s.sizes[app] = k
	}
	k.add(table, size{key, int64(bytes)})
	s.mu.Unlock()
	return s.shrink(ctx, app)
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
		app, table, newest, ok := parseKey(doc.Key)
		c, there := apps[app]
		if ok && !there { // it may have been made meanwhile
			apps = s.apps()
			c, there = apps[app]
		}
		if !ok || !there || now.Sub(newest) > c.Retention {
			if err := s.remove(ctx, doc.Key); err != nil {
				return err
			}
			continue
		}
		if found[app] == nil {
			found[app] = &kept{}
		}
		found[app].add(table, size{doc.Key, int64(len(doc.Value))})
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
	var old []string
	s.mu.Lock()
	if k := s.sizes[app]; k != nil {
		old = k.surplus(s.most())
	}
	s.mu.Unlock()
	for _, key := range old {
		if err := s.remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// parseKey reads a batch's key.
func parseKey(key string) (app, table string, newest time.Time, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, prefix), "/")
	if len(parts) != 4 {
		return "", "", time.Time{}, false
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	return parts[0], parts[2], time.Unix(0, n), err == nil
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
			if _, of, _, ok := parseKey(doc.Key); err == nil && ok && table != "" && of != table {
				continue
			}
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
