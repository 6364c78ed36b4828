package blob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/store"
)

// blobDoc is a blob, but for its content.
type blobDoc struct {
	File string `json:"file"` // id of the content
	Size int64  `json:"size"`

	Tick     int64     `json:"tick"` // of its etag; each write has a greater one
	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"`

	headers
	Metadata map[string]string `json:"metadata,omitempty"`
	Tier     string            `json:"tier,omitempty"` // "": the account's
	TierTime time.Time         `json:"tierTime,omitzero"`
	Copy     *copied           `json:"copy,omitempty"`
}

// headers are what clients say about a blob's content.
type headers struct {
	Type        string `json:"type,omitempty"`
	Encoding    string `json:"encoding,omitempty"`
	Language    string `json:"language,omitempty"`
	Disposition string `json:"disposition,omitempty"`
	Cache       string `json:"cache,omitempty"`
	MD5         []byte `json:"md5,omitempty"`
}

// copied says of what a blob is a copy.
type copied struct {
	ID     string    `json:"id"`
	Source string    `json:"source"` // without a signature
	Time   time.Time `json:"time"`
}

const (
	dataPrefix = "storage/blobs/"
	blobKind   = "storage.blob"

	// maxName is the longest name of a blob in bytes: what the store's keys leave.
	maxName = store.MaxKey - len(dataPrefix) - 2*37
)

func prefixOf(p place) string {
	k := dataPrefix + p.account + "/"
	if p.container != "" {
		k += p.container + "/"
	}
	return k
}

// ticks are those of .NET: 100 ns since the year 1.
func ticks(t time.Time) int64 {
	const unix = 621355968000000000
	return unix + t.UnixNano()/100
}

func etag(tick int64) string { return fmt.Sprintf("\"0x%X\"", tick) }

// touch gives a blob, which replaces old, an etag and a time of change.
func (d *blobDoc) touch(old *blobDoc, now time.Time) {
	d.Tick, d.Modified = ticks(now), now.UTC().Truncate(time.Second)
	if old != nil && d.Tick <= old.Tick {
		d.Tick = old.Tick + 1
	}
	if d.Created.IsZero() {
		d.Created = now.UTC()
	}
}

// find reads a blob; nil where there is none.
func (p *Plane) find(ctx context.Context, at place, name string) (*blobDoc, int64, error) {
	d, err := p.Store.Get(ctx, prefixOf(at)+name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read a blob: %w", err)
	}
	b, err := decodeBlob(d)
	return b, d.Rev, err
}

func decodeBlob(d store.Doc) (*blobDoc, error) {
	b := &blobDoc{}
	if err := json.Unmarshal(d.Value, b); err != nil {
		return nil, fmt.Errorf("decode blob %q: %w", d.Key, err)
	}
	if len(b.File) < 3 {
		return nil, fmt.Errorf("decode blob %q: it has no content", d.Key)
	}
	return b, nil
}

const writeAttempts = 50

// change writes what next makes of a blob, nil where there is none, once the
// conditions of the request hold. Where the file changes it removes the old one.
func (p *Plane) change(c *gate.Call, w where, cond conditions, next func(old *blobDoc) (*blobDoc, error)) (*blobDoc, error) {
	for range writeAttempts {
		old, rev, err := p.find(c.Context, w.place, w.blob)
		if err != nil {
			return nil, err
		}
		if err := cond.write(old); err != nil {
			return nil, err
		}
		if err := mayReplace(c, old); err != nil {
			return nil, err
		}
		b, err := next(old)
		if err != nil {
			return nil, err
		}
		if _, err := p.writable(c); err != nil { // it may have been sealed while the content came
			return nil, err
		}
		_, err = store.PutJSON(c.Context, p.Store, prefixOf(w.place)+w.blob, blobKind, rev, b)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write a blob: %w", err)
		}
		if old != nil && old.File != b.File {
			p.files.remove(w.place, old.File)
		}
		return b, nil
	}
	return nil, apierr.New(apierr.Unavailable, "ServerBusy", "The blob is being written by too many others.")
}

// mayReplace refuses to write over a blob where the caller's signature lets it
// make new ones alone.
func mayReplace(c *gate.Call, old *blobDoc) error {
	if old != nil && c.State.(*session).onlyNew {
		return apierr.New(apierr.Forbidden, "UnauthorizedBlobOverwrite", "This request is not authorized to perform blob overwrites.")
	}
	return nil
}

// where is the container and blob that a request is about.
type where struct {
	place
	container string // name
	blob      string
}

// at finds the container of a request.
func (p *Plane) at(c *gate.Call) (where, error) {
	w, _, err := p.holder(c)
	return w, err
}

// writable is at, of a container in which blobs may be made and changed.
func (p *Plane) writable(c *gate.Call) (where, error) {
	w, ct, err := p.holder(c)
	if err == nil && ct.Sealed {
		err = storage.Sealed()
	}
	return w, err
}

func (p *Plane) holder(c *gate.Call) (where, *storage.Container, error) {
	n := namesOf(c)
	t := targetOf(c)
	ct, err := p.Accounts.Container(c.Context, t.account, n.container)
	if err != nil {
		return where{}, nil, err
	}
	return where{place{t.account.UID, ct.UID}, n.container, n.blob}, ct, nil
}

// existing finds the blob of a request.
func (p *Plane) existing(c *gate.Call) (where, *blobDoc, error) {
	w, err := p.at(c)
	if err != nil {
		return w, nil, err
	}
	b, _, err := p.find(c.Context, w.place, w.blob)
	if err == nil && b == nil {
		err = blobNotFound()
	}
	return w, b, err
}

func blobNotFound() error {
	return apierr.New(apierr.NotFound, "BlobNotFound", "The specified blob does not exist.")
}

// Erase removes all that an account holds, or one of its containers where
// container is not "". The resource is gone by then.
func (p *Plane) Erase(ctx context.Context, account, container string) error {
	if err := store.DeletePrefix(ctx, p.Store, prefixOf(place{account, container})); err != nil {
		return fmt.Errorf("erase blobs: %w", err)
	}
	if p.Dir == "" {
		return nil
	}
	return os.RemoveAll(p.files.folder(place{account, container}))
}

// names are the container and the blob in a request's path.
type names struct{ container, blob string }

// namesOf takes the path to pieces: a blob's name may begin and end with a slash.
func namesOf(c *gate.Call) names {
	container, blob, _ := strings.Cut(strings.TrimPrefix(c.Request.URL.Path, "/"), "/")
	return names{container, blob}
}
