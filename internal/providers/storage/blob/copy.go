package blob

import (
	"crypto/md5" //nolint:gosec // the service's word for a checksum
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rid"
)

// source is the blob that a request copies from.
type source struct {
	place
	name string
	url  string // without a signature
	doc  *blobDoc
}

func sourceRefused(format string, args ...any) error {
	return apierr.New(apierr.Forbidden, "CannotVerifyCopySource", "Could not verify the copy source within the specified time. "+format, args...)
}

// from finds the source of a copy, in the same account, and asks whether the
// caller may read it.
func (p *Plane) from(c *gate.Call) (*source, error) {
	h, t := c.Request.Header, targetOf(c)
	raw := h.Get("x-ms-copy-source")
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, invalidHeader("x-ms-copy-source", strings.SplitN(raw, "?", 2)[0])
	}
	host := strings.ToLower(u.Host)
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	same := false
	for _, f := range p.Families {
		same = same || host == t.account.Name+f.Suffix
	}
	if !same {
		return nil, apierr.New(apierr.BadRequest, "CopyAcrossAccountsNotSupported", "The copy source account and destination account must be the same: nothing is fetched from '%s'.", clip(host))
	}
	container, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	q := u.Query()
	for _, n := range []string{"snapshot", "versionid"} {
		if q.Get(n) != "" {
			return nil, apierr.New(apierr.BadRequest, "InvalidHeaderValue", "The copy source has '%s': there are no snapshots and versions.", n)
		}
	}
	if err := p.mayRead(c, q, container, name); err != nil {
		return nil, err
	}
	ct, err := p.Accounts.Container(c.Context, t.account, container)
	if err != nil {
		return nil, err
	}
	s := &source{place: place{t.account.UID, ct.UID}, name: name, url: u.Scheme + "://" + u.Host + u.EscapedPath()}
	if s.doc, _, err = p.find(c.Context, s.place, name); err == nil && s.doc == nil {
		err = apierr.New(apierr.NotFound, "BlobNotFound", "The specified source blob does not exist.")
	}
	if err != nil {
		return nil, err
	}
	cond, err := sourceConditions(h)
	if err == nil {
		err = cond.write(s.doc)
	}
	if e := apierr.From(err); e != nil && e.Code == "ConditionNotMet" {
		err = apierr.New(apierr.PreconditionFailed, "SourceConditionNotMet", "The source condition specified using HTTP conditional header(s) is not met.")
	}
	return s, err
}

// mayRead asks whether the source of a copy may be read: by its signature, by a
// token for it, or else by the caller's own right.
func (p *Plane) mayRead(c *gate.Call, q url.Values, container, name string) error {
	s := c.State.(*session)
	auth := c.Request.Header.Get("x-ms-copy-source-authorization")
	scheme, raw, _ := strings.Cut(auth, " ")
	var err error
	switch {
	case auth != "" && !strings.EqualFold(scheme, "Bearer"):
		return invalidHeader("x-ms-copy-source-authorization", scheme)
	case auth != "":
		s, err = p.bearer(c, strings.TrimSpace(raw))
	case q.Has("sig"):
		if s, err = p.signature(c, targetOf(c).account, q, container, name); err == nil {
			err = s.permits(needs{level: 'o', any: "r"})
		}
	case s.sas != nil || s.anonymous:
		return sourceRefused("The source needs a signature of its own.")
	}
	if err != nil {
		return sourceRefused("%s", apierr.From(err).Message)
	}
	if s.caller.ObjectID == "" {
		return nil // a key of the account, or its signature
	}
	scope, err := rid.Parse(c.Target.ID.String() + "/blobServices/default/containers/" + container)
	if err != nil {
		return apierr.New(apierr.BadRequest, "InvalidResourceName", "The specified resource name contains invalid characters.")
	}
	return p.may(c, s, readBlobs, true, scope)
}

// copyBlob is Copy Blob, Copy Blob From URL and Put Blob From URL: within an
// account all of them are done at once.
func (p *Plane) copyBlob(c *gate.Call) (any, error) {
	h := c.Request.Header
	put := h.Get("x-ms-blob-type") != ""
	if put && h.Get("x-ms-blob-type") != "BlockBlob" {
		return nil, apierr.New(apierr.BadRequest, "InvalidHeaderValue", "The blob type '%s' is not supported: BlockBlob is.", clip(h.Get("x-ms-blob-type")))
	}
	w, cond, made, err := p.start(c)
	if err != nil {
		return nil, err
	}
	src, err := p.from(c)
	if err != nil {
		return nil, err
	}
	if v := h.Get("x-ms-source-content-md5"); v != "" && len(src.doc.MD5) > 0 && v != base64Of(src.doc.MD5) {
		return nil, apierr.New(apierr.BadRequest, "Md5Mismatch", "The MD5 value specified in the request did not match with that of the source.")
	}
	if made.File, err = p.copyContent(src, w.place); err != nil {
		return nil, err
	}
	made.Size = src.doc.Size
	said := made.headers
	if !put || !strings.EqualFold(h.Get("x-ms-copy-source-blob-properties"), "false") {
		made.headers = src.doc.headers
	}
	if put {
		overlay(&made.headers, said, h)
	}
	if made.Metadata == nil {
		made.Metadata = src.doc.Metadata
	}
	if !put {
		made.Copy = &copied{ID: uuid.NewString(), Source: src.url, Time: p.Now().UTC()}
	}
	b, err := p.put(c, w, cond, made)
	if err != nil {
		return nil, err
	}
	status := http.StatusAccepted
	if put {
		status = http.StatusCreated
	}
	out := written(status, b)
	if b.Copy != nil {
		out.Header.Set("x-ms-copy-id", b.Copy.ID)
		out.Header.Set("x-ms-copy-status", "success")
	}
	if len(b.MD5) > 0 {
		out.Header.Set("Content-MD5", base64Of(b.MD5))
	}
	return out, nil
}

// overlay takes over what a request says itself of a content that it copies.
func overlay(to *headers, said headers, h http.Header) {
	for _, x := range []struct {
		name string
		to   *string
		v    string
	}{
		{"content-type", &to.Type, said.Type}, {"content-encoding", &to.Encoding, said.Encoding}, {"content-language", &to.Language, said.Language},
		{"content-disposition", &to.Disposition, said.Disposition}, {"cache-control", &to.Cache, said.Cache},
	} {
		if h.Get("x-ms-blob-"+x.name) != "" {
			*x.to = x.v
		}
	}
	if said.MD5 != nil {
		to.MD5 = said.MD5
	}
	if to.Type == "" {
		to.Type = said.Type
	}
}

// copyContent makes the content of a source that of another blob, without its
// blocks: what is copied is one piece.
func (p *Plane) copyContent(src *source, to place) (string, error) {
	return p.files.link(src.place, src.doc.File, to)
}

// putBlockFrom is Put Block From URL.
func (p *Plane) putBlockFrom(c *gate.Call) (any, error) {
	w, id, err := p.toBlock(c)
	if err != nil {
		return nil, err
	}
	src, err := p.from(c)
	if err != nil {
		return nil, err
	}
	s, err := parseRange(c.Request.Header.Get("x-ms-source-range"), src.doc.Size)
	if err != nil {
		return nil, err
	}
	if s.size == 0 {
		return nil, apierr.New(apierr.BadRequest, "InvalidHeaderValue", "The source is empty: a block is not.")
	}
	f, err := os.Open(p.files.content(src.place, src.doc.File))
	if err != nil {
		return nil, apierr.New(apierr.Conflict, "TargetConditionNotMet", "The source was written over meanwhile.").WithCause(err)
	}
	defer func() { _ = f.Close() }()
	sum := md5.New() //nolint:gosec // see the import
	checked := &checkedReader{r: io.NewSectionReader(f, s.from, s.size), also: sum, check: func(int64) error {
		if v := c.Request.Header.Get("x-ms-source-content-md5"); v != "" && v != base64Of(sum.Sum(nil)) {
			return apierr.New(apierr.BadRequest, "Md5Mismatch", "The MD5 value specified in the request did not match with that of the source.")
		}
		return nil
	}}
	if _, err := p.files.putBlock(w.place, w.blob, id, checked, io.Discard); err != nil {
		return nil, err
	}
	out := &gate.Reply{Status: http.StatusCreated, Header: http.Header{"Content-Length": {"0"}}}
	out.Header.Set("Content-MD5", base64Of(sum.Sum(nil)))
	return out, nil
}
