package distribution

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/containerregistry"
)

func registryOf(c *gate.Call) *containerregistry.Registry {
	return c.Target.Data.(*containerregistry.Registry)
}

func linkKey(repo string, d digest) string { return linkKeys + repo + ":" + d.String() }

func badDigest(s string) error {
	return apierr.New(apierr.BadRequest, "DIGEST_INVALID", "'%s' is no digest: 'sha256:' or 'sha512:' and hexadecimal digits in lower case.", clip(s))
}

func blobUnknown(d digest) error {
	return apierr.New(apierr.NotFound, "BLOB_UNKNOWN", "The repository has no blob %s.", d)
}

// wrapUpload puts what went wrong with an upload into the API's words.
func wrapUpload(err error, size int64) error {
	switch {
	case errors.Is(err, errNoUpload):
		return apierr.New(apierr.NotFound, "BLOB_UPLOAD_UNKNOWN", "There is no such upload: it ended, or was never begun.")
	case errors.Is(err, errBusy):
		return apierr.New(apierr.Conflict, "BLOB_UPLOAD_INVALID", "Another request is sending content of this upload.")
	case errors.Is(err, errOrder):
		return apierr.New(apierr.BadRequest, "BLOB_UPLOAD_INVALID", "The chunk does not begin where the upload is: at %d.", size).WithInner("416")
	case errors.Is(err, errDigest):
		return apierr.New(apierr.BadRequest, "DIGEST_INVALID", "The content is not what the digest says: %v.", err)
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return apierr.New(apierr.TooLarge, "SIZE_INVALID", "The content is larger than %d bytes.", tooLarge.Limit)
	}
	return err
}

// getBlob is GET and HEAD /v2/NAME/blobs/DIGEST.
func (p *Plane) getBlob(c *gate.Call) (any, error) {
	d, ok := parseDigest(c.Params["digest"])
	if !ok {
		return nil, badDigest(c.Params["digest"])
	}
	r := registryOf(c)
	_, _, there, err := get[linkDoc](c.Context, p.index(r.UID), linkKey(c.Params["name"], d))
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, blobUnknown(d)
	}
	f, err := p.files.open(r.UID, d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, blobUnknown(d)
	}
	if err != nil {
		return nil, err
	}
	return gate.Answer(func(w http.ResponseWriter) error {
		defer func() { _ = f.Close() }()
		serve(w, c.Request, f, d)
		return nil
	}), nil
}

// serve writes a blob, or the part that was asked for.
func serve(w http.ResponseWriter, r *http.Request, f *os.File, d digest) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(&patient{w, http.NewResponseController(w)}, r, "", time.Time{}, f)
}

// patient lets a client take its time, as long as it takes something.
type patient struct {
	http.ResponseWriter
	rc *http.ResponseController
}

// Write implements io.Writer.
func (p *patient) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(stall)) // one that knows no deadlines is a test's
	return p.ResponseWriter.Write(b)
}

// deleteBlob is DELETE /v2/NAME/blobs/DIGEST: the repository loses it, and the
// file goes when no other has it.
func (p *Plane) deleteBlob(c *gate.Call) (any, error) {
	d, ok := parseDigest(c.Params["digest"])
	if !ok {
		return nil, badDigest(c.Params["digest"])
	}
	unlock, err := p.files.lock(registryOf(c).UID, true) // no manifest is written with it meanwhile
	if err != nil {
		return nil, err
	}
	defer unlock()
	x, key := p.index(registryOf(c).UID), linkKey(c.Params["name"], d)
	_, _, there, err := get[linkDoc](c.Context, x, key)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, blobUnknown(d)
	}
	return &gate.Reply{Status: http.StatusAccepted}, x.remove(c.Context, key)
}

// link makes a blob the repository's.
func (p *Plane) link(c *gate.Call, repo string, d digest, size int64) error {
	return put(c.Context, p.index(registryOf(c).UID), linkKey(repo, d), func(l *linkDoc, _ bool) {
		l.Size, l.Created = size, p.Now().UTC()
	})
}

// created is the answer that a blob is there.
func created(repo string, d digest) *gate.Reply {
	return &gate.Reply{Status: http.StatusCreated, Header: http.Header{
		"Location": {"/v2/" + repo + "/blobs/" + d.String()}, "Docker-Content-Digest": {d.String()}, "Content-Length": {"0"},
	}}
}

// progress is the answer that says how far an upload is.
func progress(status int, repo, id string, size int64) *gate.Reply {
	h := http.Header{
		"Location": {"/v2/" + repo + "/blobs/uploads/" + id}, "Docker-Upload-Uuid": {id}, "Range": {"0-" + strconv.FormatInt(max(size-1, 0), 10)},
	}
	if status != http.StatusNoContent {
		h.Set("Content-Length", "0")
	}
	return &gate.Reply{Status: status, Header: h}
}

// startUpload is POST /v2/NAME/blobs/uploads/: it begins an upload, takes a
// blob in one piece, or mounts one of another repository.
func (p *Plane) startUpload(c *gate.Call) (any, error) {
	q, repo, r := c.Request.URL.Query(), c.Params["name"], registryOf(c)
	if m := q.Get("mount"); m != "" {
		d, ok := parseDigest(m)
		if !ok {
			return nil, badDigest(m)
		}
		if done, err := p.mount(c, d, q.Get("from")); err != nil || done {
			return created(repo, d), err
		}
	}
	var want digest
	if q.Has("digest") {
		var ok bool
		if want, ok = parseDigest(q.Get("digest")); !ok {
			return nil, badDigest(q.Get("digest"))
		}
	}
	id, err := p.files.start(r.UID, repo)
	if err != nil {
		return nil, err
	}
	if want.alg == "" {
		return progress(http.StatusAccepted, repo, id, 0), nil
	}
	return p.write(c, id, want)
}

// mount links a blob of another repository where the caller may pull from it.
func (p *Plane) mount(c *gate.Call, d digest, from string) (bool, error) {
	s, r := c.State.(*session), registryOf(c)
	if !validRepository(from) || !s.lets("repository", from, wordPull) {
		return false, nil
	}
	if ok, err := p.may(c, s, actionPull); err != nil || !ok {
		return false, err
	}
	unlock, err := p.files.lock(r.UID, false)
	if err != nil {
		return false, err
	}
	defer unlock()
	l, _, there, err := get[linkDoc](c.Context, p.index(r.UID), linkKey(from, d))
	if err != nil || !there || !p.files.has(r.UID, d) {
		return false, err
	}
	return true, p.link(c, c.Params["name"], d, l.Size)
}

// getUpload is GET /v2/NAME/blobs/uploads/ID: how far it is.
func (p *Plane) getUpload(c *gate.Call) (any, error) {
	repo, id := c.Params["name"], c.Params["id"]
	size, err := p.files.size(registryOf(c).UID, repo, id)
	if err != nil {
		return nil, wrapUpload(err, 0)
	}
	return progress(http.StatusNoContent, repo, id, size), nil
}

// chunkAt is where a request's chunk has to begin, -1 where it does not say.
func chunkAt(r *http.Request) (int64, error) {
	v := r.Header.Get("Content-Range")
	if v == "" {
		return -1, nil
	}
	first, last, ok := parseRange(v)
	if !ok {
		return 0, apierr.New(apierr.BadRequest, "BLOB_UPLOAD_INVALID", "The Content-Range '%s' is not of the form FIRST-LAST.", clip(v)).WithInner("416")
	}
	if r.ContentLength >= 0 && r.ContentLength != last-first+1 {
		return 0, apierr.New(apierr.BadRequest, "SIZE_INVALID", "The Content-Range '%s' is not as long as the body, %d bytes.", clip(v), r.ContentLength)
	}
	return first, nil
}

// patchUpload is PATCH /v2/NAME/blobs/uploads/ID: a chunk, or a stream.
func (p *Plane) patchUpload(c *gate.Call) (any, error) {
	at, err := chunkAt(c.Request)
	if err != nil {
		return nil, err
	}
	repo, id := c.Params["name"], c.Params["id"]
	u, err := p.files.hold(registryOf(c).UID, repo, id)
	if err != nil {
		return nil, wrapUpload(err, 0)
	}
	defer func() { _ = u.Close() }()
	size, err := p.files.add(u, c.Stream(stall), at)
	if err != nil {
		return nil, wrapUpload(err, size)
	}
	return progress(http.StatusAccepted, repo, id, size), nil
}

// putUpload is PUT /v2/NAME/blobs/uploads/ID?digest=: the end, with or without
// a last chunk.
func (p *Plane) putUpload(c *gate.Call) (any, error) {
	raw := c.Request.URL.Query().Get("digest")
	d, ok := parseDigest(raw)
	if !ok {
		return nil, badDigest(raw)
	}
	return p.write(c, c.Params["id"], d)
}

// write appends the body to an upload and makes it a blob.
func (p *Plane) write(c *gate.Call, id string, want digest) (any, error) {
	at, err := chunkAt(c.Request)
	if err != nil {
		return nil, err
	}
	repo, r := c.Params["name"], registryOf(c)
	u, err := p.files.hold(r.UID, repo, id)
	if err != nil {
		return nil, wrapUpload(err, 0)
	}
	defer func() { _ = u.Close() }()
	if size, err := p.files.add(u, c.Stream(stall), at); err != nil {
		return nil, wrapUpload(err, size)
	}
	err = p.files.finish(c.Context, r.UID, u, want, func(size int64) error { return p.link(c, repo, want, size) })
	if err != nil {
		return nil, wrapUpload(err, 0)
	}
	return created(repo, want), nil
}

// cancelUpload is DELETE /v2/NAME/blobs/uploads/ID.
func (p *Plane) cancelUpload(c *gate.Call) (any, error) {
	u, err := p.files.hold(registryOf(c).UID, c.Params["name"], c.Params["id"])
	if err != nil {
		return nil, wrapUpload(err, 0)
	}
	defer func() { _ = u.Close() }()
	return &gate.Reply{Status: http.StatusNoContent}, p.files.cancel(u)
}
