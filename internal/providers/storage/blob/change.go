package blob

import (
	"encoding/base64"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
)

// edit changes a blob that is there, but not its content.
func (p *Plane) edit(c *gate.Call, how func(b *blobDoc) error) (*blobDoc, error) {
	w, err := p.at(c)
	if err != nil {
		return nil, err
	}
	cond, err := conditionsOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	return p.change(c, w, conditions{}, func(old *blobDoc) (*blobDoc, error) {
		if old == nil {
			return nil, blobNotFound()
		}
		if err := cond.write(old); err != nil {
			return nil, err
		}
		next := *old
		if err := how(&next); err != nil {
			return nil, err
		}
		return &next, nil
	})
}

// setMetadata is Set Blob Metadata.
func (p *Plane) setMetadata(c *gate.Call) (any, error) {
	m, err := metadataOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	b, err := p.edit(c, func(b *blobDoc) error {
		old := *b
		b.Metadata = m
		b.touch(&old, p.Now())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return written(http.StatusOK, b), nil
}

// setProperties is Set Blob Properties: what it does not say is gone.
func (p *Plane) setProperties(c *gate.Call) (any, error) {
	for _, h := range []string{"x-ms-blob-content-length", "x-ms-sequence-number-action", "x-ms-blob-sequence-number"} {
		if c.Request.Header.Get(h) != "" {
			return nil, apierr.New(apierr.BadRequest, "UnsupportedHeader", "The header '%s' is for page blobs alone.", h)
		}
	}
	said, err := contentHeaders(c.Request.Header, false)
	if err != nil {
		return nil, err
	}
	some := false
	for _, h := range []string{"cache-control", "content-type", "content-md5", "content-encoding", "content-language", "content-disposition"} {
		some = some || c.Request.Header.Get("x-ms-blob-"+h) != ""
	}
	b, err := p.edit(c, func(b *blobDoc) error {
		old := *b
		if some {
			if b.headers = said; c.Request.Header.Get("x-ms-blob-content-type") == "" {
				b.Type = ""
			}
		}
		b.touch(&old, p.Now())
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := written(http.StatusOK, b)
	out.Header.Del("x-ms-request-server-encrypted")
	return out, nil
}

// setTier is Set Blob Tier.
func (p *Plane) setTier(c *gate.Call) (any, error) {
	t, err := tierOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	if t == "" {
		return nil, apierr.New(apierr.BadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified: x-ms-access-tier.")
	}
	_, err = p.edit(c, func(b *blobDoc) error {
		b.Tier, b.TierTime = t, p.Now().UTC()
		return nil
	})
	return &gate.Reply{Status: http.StatusOK, Header: http.Header{"Content-Length": {"0"}}}, err
}

// deleteBlob is Delete Blob.
func (p *Plane) deleteBlob(c *gate.Call) (any, error) {
	if s := c.Request.Header.Get("x-ms-delete-snapshots"); s != "" && !strings.EqualFold(s, "include") {
		return nil, invalidHeader("x-ms-delete-snapshots", s)
	}
	cond, err := conditionsOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	w, err := p.at(c)
	if err != nil {
		return nil, err
	}
	for range writeAttempts {
		b, rev, err := p.find(c.Context, w.place, w.blob)
		if err == nil && b == nil {
			err = blobNotFound()
		}
		if err != nil {
			return nil, err
		}
		if err := cond.write(b); err != nil {
			return nil, err
		}
		err = p.Store.Delete(c.Context, prefixOf(w.place)+w.blob, rev)
		if isConflict(err) {
			continue
		}
		if err != nil && !isGone(err) {
			return nil, err
		}
		p.files.remove(w.place, b.File)
		out := &gate.Reply{Status: http.StatusAccepted, Header: http.Header{"Content-Length": {"0"}}}
		out.Header.Set("x-ms-delete-type-permanent", "true")
		return out, p.files.discard(w.place, w.blob)
	}
	return nil, apierr.New(apierr.Unavailable, "ServerBusy", "The blob is being written by too many others.")
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
