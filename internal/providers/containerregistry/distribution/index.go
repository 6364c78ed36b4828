package distribution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/store"
)

// The documents of a registry, by what their keys begin with after its uid.
// No repository, tag or digest's algorithm has a colon in it.
const (
	dataPrefix = "registry/data/"

	repoKeys  = "n/" // REPOSITORY
	linkKeys  = "b/" // REPOSITORY:DIGEST: the repository has the blob
	maniKeys  = "m/" // REPOSITORY:DIGEST
	tagKeys   = "t/" // REPOSITORY:TAG
	referKeys = "r/" // REPOSITORY:SUBJECT:DIGEST: the manifest refers to the subject
)

// repoDoc is a repository.
type repoDoc struct {
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// linkDoc says that a repository has a blob.
type linkDoc struct {
	Size    int64     `json:"size"`
	Created time.Time `json:"created"`
}

// tagDoc is a tag.
type tagDoc struct {
	Digest  string    `json:"digest"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// manifestDoc is a manifest.
type manifestDoc struct {
	MediaType  string    `json:"mediaType"`
	Content    []byte    `json:"content"`
	Created    time.Time `json:"created"`
	Blobs      []string  `json:"blobs,omitempty"` // digests that it needs
	Subject    string    `json:"subject,omitempty"`
	ImageSize  int64     `json:"imageSize"`
	ConfigType string    `json:"configType,omitempty"`
	Arch       string    `json:"arch,omitempty"`
	OS         string    `json:"os,omitempty"`
}

// index is the documents of one registry.
type index struct{ s store.Store }

func (p *Plane) index(uid string) index {
	return index{store.Scoped(p.Store, dataPrefix+uid+"/")}
}

// get reads a document; ok is false where there is none.
func get[T any](ctx context.Context, x index, key string) (v T, rev int64, ok bool, err error) {
	d, err := x.s.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return v, 0, false, nil
	}
	if err != nil {
		return v, 0, false, fmt.Errorf("read from a registry: %w", err)
	}
	if err := json.Unmarshal(d.Value, &v); err != nil {
		return v, 0, false, fmt.Errorf("decode %q of a registry: %w", key, err)
	}
	return v, d.Rev, true, nil
}

const writeAttempts = 20

// put writes what change makes of a document, which has the zero value where
// there is none.
func put[T any](ctx context.Context, x index, key string, change func(v *T, there bool)) error {
	for range writeAttempts {
		v, rev, ok, err := get[T](ctx, x, key)
		if err != nil {
			return err
		}
		change(&v, ok)
		_, err = store.PutJSON(ctx, x.s, key, "registry."+key[:1], rev, v)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("write to a registry: %w", store.ErrConflict)
}

func (x index) remove(ctx context.Context, key string) error {
	if err := x.s.Delete(ctx, key, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete from a registry: %w", err)
	}
	return nil
}

// each calls fn with the documents whose keys begin with prefix, and the rest
// of the keys, after the one whose rest is after.
func each[T any](ctx context.Context, x index, prefix, after string, fn func(rest string, v T) (more bool, err error)) error {
	q := store.Query{Prefix: prefix}
	if after != "" {
		q.After = prefix + after
	}
	err := store.All(ctx, x.s, q, func(d store.Doc) error {
		var v T
		if err := json.Unmarshal(d.Value, &v); err != nil {
			return fmt.Errorf("decode %q of a registry: %w", d.Key, err)
		}
		more, err := fn(strings.TrimPrefix(d.Key, prefix), v)
		if err == nil && !more {
			err = errEnough
		}
		return err
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("enough")
