package blob

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/store"
)

func isConflict(err error) bool { return errors.Is(err, store.ErrConflict) }
func isGone(err error) bool     { return errors.Is(err, store.ErrNotFound) }

type blobBody struct {
	XMLName    xml.Name `xml:"Blob"`
	Name       string
	Properties blobProps
	Metadata   meta      `xml:"Metadata,omitempty"`
	Other      *struct{} `xml:"OrMetadata"`
}

type blobProps struct {
	Created     string `xml:"Creation-Time"`
	Modified    string `xml:"Last-Modified"`
	Etag        string
	Length      int64  `xml:"Content-Length"`
	Type        string `xml:"Content-Type"`
	Encoding    string `xml:"Content-Encoding"`
	Language    string `xml:"Content-Language"`
	CRC         string `xml:"Content-CRC64"`
	MD5         string `xml:"Content-MD5"`
	Cache       string `xml:"Cache-Control"`
	Disposition string `xml:"Content-Disposition"`
	BlobType    string
	Tier        string `xml:"AccessTier"`
	Inferred    bool   `xml:"AccessTierInferred,omitempty"`
	TierTime    string `xml:"AccessTierChangeTime,omitempty"`
	Status      string `xml:"LeaseStatus"`
	State       string `xml:"LeaseState"`
	CopyID      string `xml:"CopyId,omitempty"`
	CopySource  string `xml:"CopySource,omitempty"`
	CopyStatus  string `xml:"CopyStatus,omitempty"`
	CopyDone    string `xml:"CopyCompletionTime,omitempty"`
	Encrypted   bool   `xml:"ServerEncrypted"`
}

type prefixBody struct {
	XMLName xml.Name `xml:"BlobPrefix"`
	Name    string
}

type blobsBody struct {
	XMLName    xml.Name `xml:"EnumerationResults"`
	Endpoint   string   `xml:"ServiceEndpoint,attr"`
	Container  string   `xml:"ContainerName,attr"`
	Prefix     string   `xml:",omitempty"`
	Marker     string   `xml:",omitempty"`
	MaxResults int      `xml:",omitempty"`
	Delimiter  string   `xml:",omitempty"`
	Blobs      struct {
		Items []any
	}
	Next string `xml:"NextMarker"`
}

// item is a blob of a listing, or with a nil doc what many names begin with.
type item struct {
	name string
	doc  *blobDoc
}

// last sorts after every character that a name may have.
const last = "\U0010FFFD"

// list gives the blobs after a name, at most limit; more says that there are others.
func (p *Plane) list(ctx context.Context, at place, prefix, delimiter, after string, limit int) (out []item, more bool, err error) {
	base := prefixOf(at)
	for {
		q := store.Query{Prefix: base + prefix, Limit: min(limit-len(out)+1, store.MaxList)}
		if after != "" {
			q.After = base + after
		}
		docs, err := p.Store.List(ctx, q)
		if err != nil {
			return nil, false, err
		}
		jumped := false
		for _, d := range docs {
			if len(out) == limit {
				return out, true, nil
			}
			name := strings.TrimPrefix(d.Key, base)
			if rest := name[len(prefix):]; delimiter != "" {
				if i := strings.Index(rest, delimiter); i >= 0 {
					common := name[:len(prefix)+i+len(delimiter)]
					out, after, jumped = append(out, item{name: common}), common+last, true
					break
				}
			}
			b, err := decodeBlob(d)
			if err != nil {
				return nil, false, err
			}
			out, after = append(out, item{name, b}), name
		}
		if !jumped && len(docs) < q.Limit {
			return out, false, nil
		}
	}
}

// markerAfter is where a listing goes on after an item.
func markerAfter(x item) string {
	if x.doc == nil {
		return markerOf(x.name + last)
	}
	return markerOf(x.name)
}

// listBlobs is List Blobs.
func (p *Plane) listBlobs(c *gate.Call) (any, error) {
	g, err := pageOf(c.Request)
	if err != nil {
		return nil, err
	}
	for _, w := range g.include {
		switch w {
		case "metadata", "copy", "deleted", "snapshots", "versions", "deletedwithversions", "immutabilitypolicy", "legalhold", "tags", "permissions": // of most there are none
		default:
			return nil, apierr.New(apierr.BadRequest, "InvalidQueryParameterValue", "The value '%s' of the query parameter 'include' is not supported.", clip(w))
		}
	}
	q := c.Request.URL.Query()
	for _, n := range []string{"showonly", "startfrom", "endbefore"} {
		if q.Get(n) != "" {
			return nil, apierr.New(apierr.BadRequest, "UnsupportedQueryParameter", "The query parameter '%s' is not supported.", n)
		}
	}
	if checkName(g.prefix) != nil {
		return nil, invalidQuery("prefix", g.prefix)
	}
	w, err := p.at(c)
	if err != nil {
		return nil, err
	}
	delimiter := q.Get("delimiter")
	items, more, err := p.list(c.Context, w.place, g.prefix, delimiter, g.after, g.limit)
	if err != nil {
		return nil, err
	}
	out := blobsBody{Endpoint: p.endpoint(c), Container: w.container, Prefix: g.prefix, Marker: g.marker, MaxResults: g.max, Delimiter: delimiter}
	for _, x := range items {
		if x.doc == nil {
			out.Blobs.Items = append(out.Blobs.Items, prefixBody{Name: x.name})
			continue
		}
		out.Blobs.Items = append(out.Blobs.Items, p.shown(c, x, g.include))
	}
	if more {
		out.Next = markerAfter(items[len(items)-1])
	}
	return gate.Answer(func(rw http.ResponseWriter) error {
		writeXML(rw, http.StatusOK, out)
		return nil
	}), nil
}

// shown is a blob as listings show it.
func (p *Plane) shown(c *gate.Call, x item, include []string) blobBody {
	d := x.doc
	b := blobBody{Name: x.name, Other: &struct{}{}, Properties: blobProps{
		Created: httpTime(d.Created), Modified: httpTime(d.Modified), Etag: strings.Trim(etag(d.Tick), `"`), Length: d.Size, Type: d.Type, Encoding: d.Encoding,
		Language: d.Language, Cache: d.Cache, Disposition: d.Disposition, BlobType: "BlockBlob", Tier: d.Tier, TierTime: httpTime(d.TierTime),
		Status: "unlocked", State: "available",
	}}
	if len(d.MD5) > 0 {
		b.Properties.MD5 = base64Of(d.MD5)
	}
	if d.Tier == "" {
		b.Properties.Tier, b.Properties.Inferred = targetOf(c).account.Tier, true
	}
	if slices.Contains(include, "metadata") {
		b.Metadata = meta(d.Metadata)
	}
	if d.Copy != nil && slices.Contains(include, "copy") {
		b.Properties.CopyID, b.Properties.CopySource, b.Properties.CopyStatus, b.Properties.CopyDone = d.Copy.ID, d.Copy.Source, "success", httpTime(d.Copy.Time)
	}
	return b
}
