package blob

import (
	"crypto/md5" //nolint:gosec // the service's word for a checksum
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
)

// span is a part of a content.
type span struct {
	from, size int64
	part       bool // it was asked for
}

// parseRange reads the header of a range for a content of size bytes: one range
// from a byte on. Another is not heeded, as the service does. Source:
// "Specifying the range header for Blob service operations".
func parseRange(v string, size int64) (span, error) {
	whole := span{0, size, false}
	spec, ok := strings.CutPrefix(strings.TrimSpace(v), "bytes=")
	if !ok {
		return whole, nil
	}
	a, b, ok := strings.Cut(spec, "-")
	first, err := strconv.ParseUint(a, 10, 62)
	if !ok || err != nil {
		return whole, nil
	}
	last := size - 1
	if b != "" {
		n, err := strconv.ParseUint(b, 10, 62)
		if err != nil || n < first {
			return whole, nil
		}
		last = min(last, int64(n))
	}
	if int64(first) >= size {
		return whole, apierr.New(apierr.BadRequest, "InvalidRange", "The range specified is invalid for the current size of the resource.").WithInner("416")
	}
	return span{int64(first), last - int64(first) + 1, true}, nil
}

func rangeHeader(h http.Header) string {
	if v := h.Get("x-ms-range"); v != "" {
		return v
	}
	return h.Get("Range")
}

// maxSummed is of how large a range a checksum is worked out, in bytes.
const maxSummed = 4 << 20

// open opens a blob's content, also of one that is written over at this moment.
func (p *Plane) open(c *gate.Call) (where, *blobDoc, *os.File, error) {
	for range writeAttempts {
		w, b, err := p.existing(c)
		if err != nil {
			return w, nil, nil, err
		}
		f, err := os.Open(p.files.content(w.place, b.File))
		if errors.Is(err, fs.ErrNotExist) {
			if again, _, ferr := p.find(c.Context, w.place, w.blob); ferr == nil && again != nil && again.File == b.File {
				return w, nil, nil, fmt.Errorf("open a blob: its content is missing: %w", err)
			}
			continue
		}
		if err != nil {
			return w, nil, nil, fmt.Errorf("open a blob: %w", err)
		}
		return w, b, f, nil
	}
	return where{}, nil, nil, apierr.New(apierr.Unavailable, "ServerBusy", "The blob is being written by too many others.")
}

// getBlob is Get Blob, and with HEAD Get Blob Properties.
func (p *Plane) getBlob(c *gate.Call) (any, error) {
	cond, err := conditionsOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	if c.Request.Method == http.MethodHead {
		_, b, err := p.existing(c)
		if err != nil {
			return nil, err
		}
		if err := cond.read(b); err != nil {
			return nil, err
		}
		return gate.Answer(func(w http.ResponseWriter) error {
			p.show(c, w.Header(), b, false)
			w.Header().Set("Content-Length", decimal(b.Size))
			w.WriteHeader(http.StatusOK)
			return nil
		}), nil
	}
	_, b, f, err := p.open(c)
	if err != nil {
		return nil, err
	}
	s, sums, err := p.ready(c, cond, b, f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return gate.Answer(func(w http.ResponseWriter) error {
		defer func() { _ = f.Close() }()
		p.show(c, w.Header(), b, s.part)
		for k, v := range sums {
			w.Header()[k] = v
		}
		return send(w, f, b, s)
	}), nil
}

// ready judges what is asked of a content before the answer begins.
func (p *Plane) ready(c *gate.Call, cond conditions, b *blobDoc, f *os.File) (span, http.Header, error) {
	if err := cond.read(b); err != nil {
		return span{}, nil, err
	}
	h := c.Request.Header
	s, err := parseRange(rangeHeader(h), b.Size)
	if err != nil {
		return s, nil, err
	}
	out := http.Header{}
	wantMD5, wantCRC := strings.EqualFold(h.Get("x-ms-range-get-content-md5"), "true"), strings.EqualFold(h.Get("x-ms-range-get-content-crc64"), "true")
	if !wantMD5 && !wantCRC {
		return s, out, nil
	}
	if !s.part || s.size > maxSummed || wantMD5 && wantCRC {
		return s, nil, apierr.New(apierr.BadRequest, "OutOfRangeInput", "A checksum is worked out for a range of at most 4 MiB, and only one.")
	}
	raw := make([]byte, s.size)
	if _, err := f.ReadAt(raw, s.from); err != nil {
		return s, nil, fmt.Errorf("read a blob: %w", err)
	}
	if wantMD5 {
		sum := md5.Sum(raw) //nolint:gosec // see the import
		out.Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
	} else {
		sum := crc64.Checksum(raw, crc64.MakeTable(crcPolynomial))
		out.Set("x-ms-content-crc64", base64.StdEncoding.EncodeToString(binary.LittleEndian.AppendUint64(nil, sum)))
	}
	return s, out, nil
}

// send writes a content, or a part of it.
func send(w http.ResponseWriter, f *os.File, b *blobDoc, s span) error {
	status := http.StatusOK
	if s.part {
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.from, s.from+s.size-1, b.Size))
	}
	w.Header().Set("Content-Length", decimal(s.size))
	w.WriteHeader(status)
	n, err := io.CopyBuffer(&patient{w, http.NewResponseController(w)}, struct{ io.Reader }{io.NewSectionReader(f, s.from, s.size)}, make([]byte, 256<<10))
	if err == nil && n != s.size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// patient lets a client take its time, as long as it takes something.
type patient struct {
	io.Writer
	rc *http.ResponseController
}

// Write implements io.Writer.
func (p *patient) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(stall)) // one that knows no deadlines is a test's
	return p.Writer.Write(b)
}

// show adds what headers say of a blob; part: a range of it is sent.
func (p *Plane) show(c *gate.Call, h http.Header, b *blobDoc, part bool) {
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Content-Type", b.Type)
	set("Content-Encoding", b.Encoding)
	set("Content-Language", b.Language)
	set("Content-Disposition", b.Disposition)
	set("Cache-Control", b.Cache)
	if s, ok := c.State.(*session); ok && s.sas != nil {
		for name, word := range map[string]string{"Content-Type": "rsct", "Content-Encoding": "rsce", "Content-Language": "rscl", "Content-Disposition": "rscd", "Cache-Control": "rscc"} {
			set(name, s.sas.Get(word))
		}
	}
	if len(b.MD5) > 0 {
		name := "Content-MD5"
		if part {
			name = "x-ms-blob-content-md5"
		}
		h.Set(name, base64.StdEncoding.EncodeToString(b.MD5))
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("ETag", etag(b.Tick))
	h.Set("Last-Modified", httpTime(b.Modified))
	h.Set("x-ms-creation-time", httpTime(b.Created))
	h.Set("x-ms-blob-type", "BlockBlob")
	h.Set("x-ms-lease-status", "unlocked")
	h.Set("x-ms-lease-state", "available")
	h.Set("x-ms-server-encrypted", "false")
	h.Set("X-Content-Type-Options", "nosniff")
	if b.Tier != "" {
		h.Set("x-ms-access-tier", b.Tier)
		h.Set("x-ms-access-tier-change-time", httpTime(b.TierTime))
	} else {
		h.Set("x-ms-access-tier", targetOf(c).account.Tier)
		h.Set("x-ms-access-tier-inferred", "true")
	}
	setMetadata(h, b.Metadata)
	if b.Copy != nil {
		h.Set("x-ms-copy-id", b.Copy.ID)
		h.Set("x-ms-copy-source", b.Copy.Source)
		h.Set("x-ms-copy-status", "success")
		h.Set("x-ms-copy-progress", fmt.Sprintf("%d/%d", b.Size, b.Size))
		h.Set("x-ms-copy-completion-time", httpTime(b.Copy.Time))
	}
}

// getMetadata is Get Blob Metadata.
func (p *Plane) getMetadata(c *gate.Call) (any, error) {
	cond, err := conditionsOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	_, b, err := p.existing(c)
	if err != nil {
		return nil, err
	}
	if err := cond.read(b); err != nil {
		return nil, err
	}
	out := written(http.StatusOK, b)
	out.Header.Del("x-ms-request-server-encrypted")
	setMetadata(out.Header, b.Metadata)
	return out, nil
}

// setMetadata adds metadata as headers, whose names Microsoft's client for
// Python looks for in lower case.
func setMetadata(h http.Header, m map[string]string) {
	for k, v := range m {
		h["x-ms-meta-"+k] = []string{v}
	}
}
