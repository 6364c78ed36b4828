package blob

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the service's word for a checksum, which protects from mistakes alone
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc64"
	"io"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/storage"
)

// The service's limits. Source: "Scalability and performance targets for Blob
// storage"; "Understanding block blobs".
const (
	maxBlocks  = 50000
	maxBlockID = 64 // bytes
	maxMeta    = 8 << 10
)

// crcPolynomial is that of the service's CRC-64.
const crcPolynomial = 0x9A6C9329AC4BC9B5

// sums are the checksums of a body as it comes.
type sums struct {
	md5 hash.Hash
	crc hash.Hash64
	all io.Writer
}

// newSums makes those that a request's headers ask for, and an MD5 where always.
func newSums(h http.Header, always bool) *sums {
	s := &sums{}
	var to []io.Writer
	if always || h.Get("Content-MD5") != "" || h.Get("x-ms-blob-content-md5") != "" {
		s.md5 = md5.New() //nolint:gosec // see the import
		to = append(to, s.md5)
	}
	if h.Get("x-ms-content-crc64") != "" {
		s.crc = crc64.New(crc64.MakeTable(crcPolynomial))
		to = append(to, s.crc)
	}
	s.all = io.MultiWriter(to...)
	return s
}

func (s *sums) crcBytes() []byte { return binary.LittleEndian.AppendUint64(nil, s.crc.Sum64()) }

// check compares with what the headers say; own is also an MD5 that is meant for
// this body.
func (s *sums) check(h http.Header, own string) error {
	for _, name := range []string{"Content-MD5", own} {
		v := h.Get(name)
		if name == "" || v == "" {
			continue
		}
		want, err := base64.StdEncoding.DecodeString(v)
		if err != nil || len(want) != md5.Size {
			return apierr.New(apierr.BadRequest, "InvalidMd5", "The MD5 value specified in the request is invalid. MD5 value must be 128 bits and base64-encoded.")
		}
		if got := s.md5.Sum(nil); !bytes.Equal(got, want) {
			return apierr.New(apierr.BadRequest, "Md5Mismatch", "The MD5 value specified in the request did not match with the MD5 value calculated by the server: '%s'.", base64.StdEncoding.EncodeToString(got))
		}
	}
	if v := h.Get("x-ms-content-crc64"); v != "" {
		want, err := base64.StdEncoding.DecodeString(v)
		if err != nil || len(want) != 8 {
			return apierr.New(apierr.BadRequest, "InvalidCrc64", "The CRC64 value specified in the request is invalid. CRC64 value must be 64 bits and base64-encoded.")
		}
		if got := s.crcBytes(); !bytes.Equal(got, want) {
			return apierr.New(apierr.BadRequest, "Crc64Mismatch", "The CRC64 value specified in the request did not match with the CRC64 value calculated by the server: '%s'.", base64.StdEncoding.EncodeToString(got))
		}
	}
	return nil
}

// answer adds the checksum that the service has found.
func (s *sums) answer(h http.Header) {
	if s.crc != nil {
		h.Set("x-ms-content-crc64", base64.StdEncoding.EncodeToString(s.crcBytes()))
	} else if s.md5 != nil {
		h.Set("Content-MD5", base64.StdEncoding.EncodeToString(s.md5.Sum(nil)))
	}
}

// needLength refuses a body whose length is not said.
func needLength(r *http.Request) error {
	if r.ContentLength < 0 {
		return apierr.New(apierr.BadRequest, "MissingContentLengthHeader", "Content-Length HTTP header is missing.").WithInner("411")
	}
	return nil
}

// bodyError puts a body that did not come whole into the service's words.
func bodyError(err error, read, want int64) error {
	if err == nil && read == want {
		return nil
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return apierr.New(apierr.TooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit: %d bytes.", large.Limit)
	}
	if err == nil {
		return apierr.New(apierr.BadRequest, "IncompleteBody", "The body has %d bytes; %d were announced.", read, want)
	}
	return err
}

// contentHeaders are what a request says of a blob's content. type: also the
// Content-Type of the request counts.
func contentHeaders(h http.Header, plain bool) (headers, error) {
	one := func(name, other string) string {
		if v := h.Get(name); v != "" || !plain || other == "" {
			return v
		}
		return h.Get(other)
	}
	out := headers{
		Type: one("x-ms-blob-content-type", "Content-Type"), Encoding: one("x-ms-blob-content-encoding", "Content-Encoding"),
		Language: one("x-ms-blob-content-language", "Content-Language"), Disposition: one("x-ms-blob-content-disposition", ""), Cache: one("x-ms-blob-cache-control", "Cache-Control"),
	}
	if out.Type == "" {
		out.Type = "application/octet-stream"
	}
	if v := h.Get("x-ms-blob-content-md5"); v != "" {
		var err error
		if out.MD5, err = base64.StdEncoding.DecodeString(v); err != nil || len(out.MD5) != md5.Size {
			return out, apierr.New(apierr.BadRequest, "InvalidMd5", "The MD5 value specified in the request is invalid. MD5 value must be 128 bits and base64-encoded.")
		}
	}
	return out, nil
}

// metadataOf are the x-ms-meta- headers of a request.
func metadataOf(h http.Header) (map[string]string, error) {
	var out map[string]string
	size := 0
	for k, v := range h {
		name, ok := strings.CutPrefix(strings.ToLower(k), "x-ms-meta-")
		if !ok {
			continue
		}
		value := strings.TrimSpace(strings.Join(v, ","))
		if name == "" {
			return nil, apierr.New(apierr.BadRequest, "EmptyMetadataKey", "The key for one of the metadata key-value pairs is empty.")
		}
		if !storage.ValidMetadata(name, value) {
			return nil, apierr.New(apierr.BadRequest, "InvalidMetadata", "The metadata specified is invalid: '%s'. It has characters that are not permitted.", clip(name))
		}
		if size += len(name) + len(value); size > maxMeta {
			return nil, apierr.New(apierr.BadRequest, "MetadataTooLarge", "The size of the specified metadata exceeds the maximum size permitted: %d bytes.", maxMeta)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = value
	}
	return out, nil
}

// tierOf is the tier that a request gives a blob, "" for none.
func tierOf(h http.Header) (string, error) {
	v := h.Get("x-ms-access-tier")
	for _, t := range []string{"Hot", "Cool", "Cold"} {
		if strings.EqualFold(v, t) {
			return t, nil
		}
	}
	if v == "" {
		return "", nil
	}
	return "", apierr.New(apierr.BadRequest, "InvalidBlobTier", "The tier '%s' is none of Hot, Cool and Cold, which are the same here.", clip(v))
}

// start is what all requests that make a blob check before its content comes.
func (p *Plane) start(c *gate.Call) (w where, cond conditions, made *blobDoc, err error) {
	h := c.Request.Header
	if w, err = p.writable(c); err != nil {
		return
	}
	if cond, err = conditionsOf(h); err != nil {
		return
	}
	cond.create = true
	made = &blobDoc{}
	if made.headers, err = contentHeaders(h, c.Operation.Word == "/"); err != nil {
		return
	}
	if made.Metadata, err = metadataOf(h); err != nil {
		return
	}
	if made.Tier, err = tierOf(h); err != nil {
		return
	}
	var old *blobDoc
	if old, _, err = p.find(c.Context, w.place, w.blob); err == nil {
		err = cond.write(old)
	}
	if err == nil {
		err = mayReplace(c, old)
	}
	return
}

// put makes made the blob; its content is there.
func (p *Plane) put(c *gate.Call, w where, cond conditions, made *blobDoc) (*blobDoc, error) {
	b, err := p.change(c, w, cond, func(old *blobDoc) (*blobDoc, error) {
		next := *made
		next.Created = p.Now().UTC()
		if old != nil {
			next.Created = old.Created
		}
		if next.Tier != "" {
			next.TierTime = p.Now().UTC()
		}
		next.touch(old, p.Now())
		return &next, nil
	})
	if err != nil {
		p.files.remove(w.place, made.File)
	}
	return b, err
}

// written is the answer that a blob was written.
func written(status int, b *blobDoc) *gate.Reply {
	h := http.Header{}
	h.Set("ETag", etag(b.Tick))
	h.Set("Last-Modified", httpTime(b.Modified))
	h.Set("Content-Length", "0")
	h.Set("x-ms-request-server-encrypted", "false")
	return &gate.Reply{Status: status, Header: h}
}

// putBlob is Put Blob.
func (p *Plane) putBlob(c *gate.Call) (any, error) {
	r := c.Request
	if t := r.Header.Get("x-ms-blob-type"); t == "" {
		return nil, apierr.New(apierr.BadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified: x-ms-blob-type.")
	} else if t != "BlockBlob" {
		return nil, apierr.New(apierr.BadRequest, "InvalidHeaderValue", "The blob type '%s' is not supported: BlockBlob is.", clip(t))
	}
	if err := needLength(r); err != nil {
		return nil, err
	}
	w, cond, made, err := p.start(c)
	if err != nil {
		return nil, err
	}
	s := newSums(r.Header, true)
	if made.File, made.Size, err = p.files.write(w.place, c.Stream(stall), s.all); err != nil {
		return nil, bodyError(err, 0, 0)
	}
	if err := bodyError(nil, made.Size, r.ContentLength); err != nil {
		p.files.remove(w.place, made.File)
		return nil, err
	}
	if err := s.check(r.Header, "x-ms-blob-content-md5"); err != nil {
		p.files.remove(w.place, made.File)
		return nil, err
	}
	made.MD5 = s.md5.Sum(nil)
	b, err := p.put(c, w, cond, made)
	if err != nil {
		return nil, err
	}
	if err := p.files.discard(w.place, w.blob); err != nil {
		return nil, err
	}
	out := written(http.StatusCreated, b)
	s.answer(out.Header)
	return out, nil
}

// blockID reads an id of a block.
func blockID(v string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(v)
	if err != nil || len(raw) == 0 || len(raw) > maxBlockID {
		return nil, invalidQuery("blockid", v)
	}
	return raw, nil
}

// toBlock is what putting a block checks before it comes.
func (p *Plane) toBlock(c *gate.Call) (w where, id []byte, err error) {
	if id, err = blockID(c.Request.URL.Query().Get("blockid")); err != nil {
		return
	}
	if w, err = p.writable(c); err != nil {
		return
	}
	old, _, err := p.find(c.Context, w.place, w.blob)
	if err != nil {
		return
	}
	if err = mayReplace(c, old); err != nil {
		return
	}
	there, err := p.files.uncommitted(w.place, w.blob)
	if err != nil {
		return
	}
	for other := range there {
		if len(other) != len(id) {
			err = apierr.New(apierr.BadRequest, "InvalidBlobOrBlock", "The specified blob or block content is invalid: all ids of a blob's blocks have one length.")
		}
		break
	}
	if _, ok := there[string(id)]; !ok && len(there) >= 2*maxBlocks {
		err = apierr.New(apierr.Conflict, "BlockCountExceedsLimit", "The uncommitted block count cannot exceed the maximum limit of 100,000 blocks.")
	}
	return w, id, err
}

// putBlock is Put Block.
func (p *Plane) putBlock(c *gate.Call) (any, error) {
	r := c.Request
	if err := needLength(r); err != nil {
		return nil, err
	}
	if r.ContentLength == 0 {
		return nil, apierr.New(apierr.BadRequest, "InvalidHeaderValue", "The value '0' of the HTTP header 'Content-Length' is invalid: a block is not empty.")
	}
	w, id, err := p.toBlock(c)
	if err != nil {
		return nil, err
	}
	s := newSums(r.Header, false)
	checked := &checkedReader{r: c.Stream(stall), also: s.all, check: func(n int64) error {
		if err := bodyError(nil, n, r.ContentLength); err != nil {
			return err
		}
		return s.check(r.Header, "")
	}}
	if _, err := p.files.putBlock(w.place, w.blob, id, checked, io.Discard); err != nil {
		return nil, bodyError(err, 0, 0)
	}
	out := &gate.Reply{Status: http.StatusCreated, Header: http.Header{"Content-Length": {"0"}}}
	out.Header.Set("x-ms-request-server-encrypted", "false")
	s.answer(out.Header)
	return out, nil
}

// checkedReader gives what check says in the place of the end.
type checkedReader struct {
	r     io.Reader
	also  io.Writer
	n     int64
	check func(n int64) error
}

// Read implements io.Reader.
func (x *checkedReader) Read(b []byte) (int, error) {
	n, err := x.r.Read(b)
	if n > 0 {
		x.n += int64(n)
		_, _ = x.also.Write(b[:n]) // a hash takes everything
	}
	if err == io.EOF {
		if cerr := x.check(x.n); cerr != nil {
			err = cerr
		}
	}
	return n, err
}

// putBlockList is Put Block List.
func (p *Plane) putBlockList(c *gate.Call) (any, error) {
	raw, err := c.Body()
	if err != nil {
		return nil, err
	}
	s := newSums(http.Header{"Content-Md5": c.Request.Header["Content-Md5"], "X-Ms-Content-Crc64": c.Request.Header["X-Ms-Content-Crc64"]}, false)
	_, _ = s.all.Write(raw) // a hash takes everything
	if err := s.check(c.Request.Header, ""); err != nil {
		return nil, err
	}
	list, err := parseBlockList(raw)
	if err != nil {
		return nil, err
	}
	w, cond, made, err := p.start(c)
	if err != nil {
		return nil, err
	}
	pieces, err := p.pieces(c, w, list)
	if err != nil {
		return nil, err
	}
	if made.File, made.Size, err = p.files.join(c.Context, w.place, pieces); err != nil {
		return nil, err
	}
	b, err := p.put(c, w, cond, made)
	if err != nil {
		return nil, err
	}
	if err := p.files.discard(w.place, w.blob); err != nil {
		return nil, err
	}
	out := written(http.StatusCreated, b)
	s.answer(out.Header)
	return out, nil
}

// pieces finds the blocks of a list.
func (p *Plane) pieces(c *gate.Call, w where, list []listed) ([]piece, error) {
	waiting, err := p.files.uncommitted(w.place, w.blob)
	if err != nil {
		return nil, err
	}
	old, _, err := p.find(c.Context, w.place, w.blob)
	if err != nil {
		return nil, err
	}
	there := map[string]piece{}
	if old != nil {
		blocks, err := p.files.committed(w.place, old.File)
		if err != nil {
			return nil, err
		}
		var offset int64
		for _, b := range blocks {
			if raw, err := base64.StdEncoding.DecodeString(b.ID); err == nil {
				there[string(raw)] = piece{b, p.files.content(w.place, old.File), offset}
			}
			offset += b.Size
		}
	}
	out := make([]piece, 0, len(list))
	for _, l := range list {
		id, err := blockID(l.id)
		if err != nil {
			return nil, apierr.New(apierr.BadRequest, "InvalidBlockId", "The specified block ID is invalid. The block ID must be Base64-encoded.")
		}
		x, committed := there[string(id)]
		if size, ok := waiting[string(id)]; ok && l.from != "Committed" {
			x, committed = piece{block{l.id, size}, p.files.blockPath(w.place, w.blob, id), 0}, true
		} else if l.from == "Uncommitted" {
			committed = false
		}
		if !committed {
			return nil, apierr.New(apierr.BadRequest, "InvalidBlockList", "The specified block list is invalid: there is no block '%s' among the %s ones.", clip(l.id), strings.ToLower(l.from))
		}
		x.ID = l.id
		out = append(out, x)
	}
	return out, nil
}

// getBlockList is Get Block List.
func (p *Plane) getBlockList(c *gate.Call) (any, error) {
	kind := strings.ToLower(c.Request.URL.Query().Get("blocklisttype"))
	switch kind {
	case "", "committed", "uncommitted", "all":
	default:
		return nil, invalidQuery("blocklisttype", kind)
	}
	w, err := p.at(c)
	if err != nil {
		return nil, err
	}
	b, _, err := p.find(c.Context, w.place, w.blob)
	if err != nil {
		return nil, err
	}
	waiting, err := p.files.uncommitted(w.place, w.blob)
	if err != nil {
		return nil, err
	}
	if b == nil && len(waiting) == 0 {
		return nil, blobNotFound()
	}
	out := blockListBody{}
	if b != nil && kind != "uncommitted" {
		blocks, err := p.files.committed(w.place, b.File)
		if err != nil {
			return nil, err
		}
		out.Committed = shownBlocks(blocks)
	}
	if kind == "uncommitted" || kind == "all" {
		out.Uncommitted = shownWaiting(waiting)
	}
	return gate.Answer(func(rw http.ResponseWriter) error {
		if b != nil {
			rw.Header().Set("ETag", etag(b.Tick))
			rw.Header().Set("Last-Modified", httpTime(b.Modified))
			rw.Header().Set("x-ms-blob-content-length", decimal(b.Size))
		}
		writeXML(rw, http.StatusOK, out)
		return nil
	}), nil
}
