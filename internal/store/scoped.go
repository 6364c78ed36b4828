package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Scoped gives the documents of s under prefix, their keys without it. Revs
// and Seqs are those of s; Close does nothing.
func Scoped(s Store, prefix string) Store {
	if v, ok := s.(*scoped); ok {
		return &scoped{s: v.s, prefix: v.prefix + prefix}
	}
	return &scoped{s: s, prefix: prefix}
}

type scoped struct {
	s      Store
	prefix string
}

// Sole implements Sole.
func (v *scoped) Sole() bool {
	one, ok := v.s.(Sole)
	return ok && one.Sole()
}

func (v *scoped) inside(d Doc) Doc {
	d.Key = strings.TrimPrefix(d.Key, v.prefix)
	return d
}

func (v *scoped) Get(ctx context.Context, key string) (Doc, error) {
	if err := checkKey(key); err != nil {
		return Doc{}, err
	}
	d, err := v.s.Get(ctx, v.prefix+key)
	return v.inside(d), err
}

func (v *scoped) Put(ctx context.Context, doc Doc) (int64, error) {
	if err := checkKey(doc.Key); err != nil {
		return 0, err
	}
	doc.Key = v.prefix + doc.Key
	return v.s.Put(ctx, doc)
}

func (v *scoped) Delete(ctx context.Context, key string, rev int64) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return v.s.Delete(ctx, v.prefix+key, rev)
}

func (v *scoped) List(ctx context.Context, q Query) ([]Doc, error) {
	q.Prefix = v.prefix + q.Prefix
	if q.After != "" {
		q.After = v.prefix + q.After
	}
	docs, err := v.s.List(ctx, q)
	for i := range docs {
		docs[i] = v.inside(docs[i])
	}
	return docs, err
}

func (v *scoped) Follow(ctx context.Context, prefix string, seq int64, fn func(Change) error, idle func()) error {
	return v.s.Follow(ctx, v.prefix+prefix, seq, func(c Change) error {
		c.Doc = v.inside(c.Doc)
		return fn(c)
	}, idle)
}

func (v *scoped) Now(ctx context.Context) (int64, error) { return v.s.Now(ctx) }

func (v *scoped) Close() error { return nil }

// GetJSON gets the document at key and decodes its value. The Rev is for a
// later PutJSON. ErrNotFound is that of Get.
func GetJSON[T any](ctx context.Context, s Store, key string) (T, int64, error) {
	var v T
	d, err := s.Get(ctx, key)
	if err != nil {
		return v, 0, err
	}
	if err := json.Unmarshal(d.Value, &v); err != nil {
		return v, 0, fmt.Errorf("decode %s: %w", key, err)
	}
	return v, d.Rev, nil
}

// PutJSON puts v as JSON; key, kind and rev are those of Put's document.
func PutJSON[T any](ctx context.Context, s Store, key, kind string, rev int64, v T) (int64, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("encode %s: %w", key, err)
	}
	return s.Put(ctx, Doc{Key: key, Kind: kind, Rev: rev, Value: b})
}

// All calls fn with every document that q selects, page by page, in the order
// of keys; q.Limit is the size of a page. An error of fn ends it.
func All(ctx context.Context, s Store, q Query, fn func(Doc) error) error {
	for {
		docs, err := s.List(ctx, q)
		if err != nil {
			return err
		}
		for _, d := range docs {
			if err := fn(d); err != nil {
				return err
			}
		}
		size := q.Limit
		if size == 0 {
			size = MaxList
		}
		if len(docs) < size {
			return nil
		}
		q.After = docs[len(docs)-1].Key
	}
}

// deleters is how many deletions DeletePrefix keeps in flight, for the store
// to commit together.
const deleters = 64

// DeletePrefix deletes every document under prefix, which must not be "". It
// may be run again after an error, and beside others: what is gone already is
// fine. Documents made while it runs may stay.
func DeletePrefix(ctx context.Context, s Store, prefix string) error {
	if prefix == "" {
		return fmt.Errorf("%w: delete of everything", ErrInvalid)
	}
	q := Query{Prefix: prefix, Limit: deleters}
	for {
		docs, err := s.List(ctx, q)
		if err != nil {
			return err
		}
		errs := make(chan error, len(docs))
		for _, d := range docs {
			go func() { errs <- s.Delete(ctx, d.Key, 0) }()
		}
		var failed error
		for range docs {
			if err := <-errs; err != nil && !errors.Is(err, ErrNotFound) {
				failed = err
			}
		}
		if failed != nil {
			return fmt.Errorf("delete %s: %w", prefix, failed)
		}
		if len(docs) < deleters {
			return nil
		}
		q.After = docs[len(docs)-1].Key
	}
}
