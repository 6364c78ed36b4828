package distribution

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/web"
)

// The media types of manifests that are taken.
const (
	typeManifest   = "application/vnd.oci.image.manifest.v1+json"
	typeIndex      = "application/vnd.oci.image.index.v1+json"
	typeDocker     = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList = "application/vnd.docker.distribution.manifest.list.v2+json"
)

func isIndex(mediaType string) bool { return mediaType == typeIndex || mediaType == typeDockerList }

// descriptor points at content. Source: OCI Image Specification, "Content Descriptors".
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *platform         `json:"platform,omitempty"` // in an index
}

// platform is what an image is for. Source: OCI Image Specification, "Image Index".
type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// manifest is what is read of one.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

func invalid(format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "MANIFEST_INVALID", format, args...)
}

// parseManifest reads a manifest that was sent with a Content-Type.
func parseManifest(raw []byte, contentType string) (*manifest, error) {
	m := &manifest{}
	if err := web.ParseJSON(raw, m); err != nil {
		return nil, invalid("The manifest is no manifest: %s", apierr.From(err).Message)
	}
	if contentType != "" {
		t, _, err := mime.ParseMediaType(contentType)
		if err != nil {
			return nil, invalid("The Content-Type '%s' is malformed.", clip(contentType))
		}
		if m.MediaType != "" && m.MediaType != t {
			return nil, invalid("The Content-Type is '%s', and the manifest's mediaType '%s'.", clip(t), clip(m.MediaType))
		}
		m.MediaType = t
	}
	if m.MediaType == "" {
		return nil, invalid("The manifest has no media type.")
	}
	if !slices.Contains([]string{typeManifest, typeIndex, typeDocker, typeDockerList}, m.MediaType) {
		return nil, invalid("Manifests of the media type '%s' are not taken.", clip(m.MediaType))
	}
	if m.SchemaVersion != 2 {
		return nil, invalid("The schemaVersion is %d; 2 is taken.", m.SchemaVersion)
	}
	return m, m.check()
}

// check judges the descriptors.
func (m *manifest) check() error {
	list := slices.Concat(m.Layers, m.Manifests)
	if isIndex(m.MediaType) {
		if m.Config != nil || len(m.Layers) > 0 {
			return invalid("An index has neither a config nor layers.")
		}
	} else {
		if m.Config == nil {
			return invalid("The manifest has no config.")
		}
		if len(m.Manifests) > 0 {
			return invalid("The manifest of an image has no manifests in it.")
		}
		list = append(list, *m.Config)
	}
	if m.Subject != nil {
		list = append(list, *m.Subject)
	}
	for _, d := range list {
		if _, ok := parseDigest(d.Digest); !ok || d.Size < 0 {
			return invalid("The manifest points at '%s' of %d bytes.", clip(d.Digest), d.Size)
		}
	}
	return nil
}

// kind is how referrers call the manifest.
func (m *manifest) kind() string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}

func maniKey(repo string, d digest) string { return maniKeys + repo + ":" + d.String() }
func tagKey(repo, tag string) string       { return tagKeys + repo + ":" + tag }
func referKey(repo, subject string, d digest) string {
	return referKeys + repo + ":" + subject + ":" + d.String()
}

func manifestUnknown(ref string) error {
	return apierr.New(apierr.NotFound, "MANIFEST_UNKNOWN", "manifest tagged by \"%s\" is not found", clip(ref))
}

// find gives the manifest that a tag or a digest means.
func (p *Plane) find(ctx context.Context, uid, repo, ref string) (digest, *manifestDoc, error) {
	x := p.index(uid)
	d, ok := parseDigest(ref)
	if !ok {
		if strings.Contains(ref, ":") {
			return d, nil, badDigest(ref)
		}
		if !tagRule.MatchString(ref) {
			return d, nil, apierr.New(apierr.BadRequest, "TAG_INVALID", "The tag '%s' is invalid.", clip(ref))
		}
		t, _, there, err := get[tagDoc](ctx, x, tagKey(repo, ref))
		if err != nil {
			return d, nil, err
		}
		if !there {
			return d, nil, manifestUnknown(ref)
		}
		if d, ok = parseDigest(t.Digest); !ok {
			return d, nil, manifestUnknown(ref)
		}
	}
	m, _, there, err := get[manifestDoc](ctx, x, maniKey(repo, d))
	if err == nil && !there {
		err = manifestUnknown(ref)
	}
	return d, &m, err
}

// getManifest is GET and HEAD /v2/NAME/manifests/REFERENCE.
func (p *Plane) getManifest(c *gate.Call) (any, error) {
	d, m, err := p.find(c.Context, registryOf(c).UID, c.Params["name"], c.Params["reference"])
	if err != nil {
		return nil, err
	}
	return gate.Answer(func(w http.ResponseWriter) error {
		h := w.Header()
		h.Set("Docker-Content-Digest", d.String())
		h.Set("Etag", `"`+d.String()+`"`)
		if c.Request.Header.Get("If-None-Match") == `"`+d.String()+`"` {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		return writeRaw(w, c.Request, m.MediaType, m.Content)
	}), nil
}

func writeRaw(w http.ResponseWriter, r *http.Request, contentType string, raw []byte) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", decimalOf(int64(len(raw))))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	pw := &patient{w, http.NewResponseController(w)}
	_, err := pw.Write(raw)
	return err
}

// putManifest is PUT /v2/NAME/manifests/REFERENCE.
func (p *Plane) putManifest(c *gate.Call) (any, error) {
	raw, err := c.Body()
	if err != nil {
		return nil, err
	}
	repo, ref, r := c.Params["name"], c.Params["reference"], registryOf(c)
	d, byDigest := parseDigest(ref)
	switch {
	case byDigest:
		if got := digestOf(d.alg, raw); got != d {
			return nil, apierr.New(apierr.BadRequest, "DIGEST_INVALID", "The manifest's digest is %s.", got)
		}
	case strings.Contains(ref, ":"):
		return nil, badDigest(ref)
	case !tagRule.MatchString(ref):
		return nil, apierr.New(apierr.BadRequest, "TAG_INVALID", "The tag '%s' is invalid.", clip(ref))
	default:
		d = digestOf("sha256", raw)
	}
	m, err := parseManifest(raw, c.Request.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	unlock, err := p.files.lock(r.UID, false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	doc, err := p.needs(c.Context, r.UID, repo, m)
	if err != nil {
		return nil, err
	}
	doc.Content = raw
	if err := p.save(c.Context, r.UID, repo, d, m, doc); err != nil {
		return nil, err
	}
	if !byDigest {
		if err := p.tag(c.Context, r.UID, repo, ref, d); err != nil {
			return nil, err
		}
	}
	h := http.Header{"Location": {"/v2/" + repo + "/manifests/" + d.String()}, "Docker-Content-Digest": {d.String()}, "Content-Length": {"0"}}
	if m.Subject != nil {
		h["Oci-Subject"] = []string{m.Subject.Digest}
	}
	return &gate.Reply{Status: http.StatusCreated, Header: h}, nil
}

// needs refuses a manifest of which the repository has not all parts, and says
// what is kept of it.
func (p *Plane) needs(ctx context.Context, uid, repo string, m *manifest) (*manifestDoc, error) {
	doc, x := &manifestDoc{MediaType: m.MediaType, Created: p.Now().UTC()}, p.index(uid)
	unknown := func(d string) error {
		return apierr.New(apierr.NotFound, "MANIFEST_BLOB_UNKNOWN", "The manifest points at %s, which the repository does not have.", d)
	}
	blobs := slices.Clone(m.Layers)
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, b := range blobs {
		doc.ImageSize += b.Size
		d, _ := parseDigest(b.Digest) // check did
		l, _, there, err := get[linkDoc](ctx, x, linkKey(repo, d))
		if err != nil {
			return nil, err
		}
		if !there && len(b.URLs) > 0 {
			continue // a layer that is fetched elsewhere
		}
		if !there || !p.files.has(uid, d) {
			return nil, unknown(b.Digest)
		}
		if l.Size != b.Size {
			return nil, invalid("The blob %s has %d bytes; the manifest says %d.", b.Digest, l.Size, b.Size)
		}
		doc.Blobs = append(doc.Blobs, b.Digest)
	}
	for _, b := range m.Manifests {
		doc.ImageSize += b.Size
		d, _ := parseDigest(b.Digest)
		if _, _, there, err := get[manifestDoc](ctx, x, maniKey(repo, d)); err != nil || !there {
			return nil, errors.Join(err, unknown(b.Digest))
		}
	}
	if m.Subject != nil {
		doc.Subject = m.Subject.Digest
	}
	if m.Config != nil {
		doc.ConfigType = m.Config.MediaType
		doc.Arch, doc.OS = p.platform(uid, m.Config)
	}
	return doc, nil
}

const maxConfig = 1 << 20

// platform is what an image's configuration says of where it runs.
func (p *Plane) platform(uid string, config *descriptor) (arch, os string) {
	d, _ := parseDigest(config.Digest)
	if config.Size > maxConfig {
		return "", ""
	}
	f, err := p.files.open(uid, d)
	if err != nil {
		return "", ""
	}
	defer func() { _ = f.Close() }()
	var v struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil || json.Unmarshal(raw, &v) != nil {
		return "", ""
	}
	return v.Architecture, v.OS
}

// save writes a manifest: the repository first, so that none is without one.
func (p *Plane) save(ctx context.Context, uid, repo string, d digest, m *manifest, doc *manifestDoc) error {
	x, now := p.index(uid), p.Now().UTC()
	err := put(ctx, x, repoKeys+repo, func(r *repoDoc, there bool) {
		if !there {
			r.Created = now
		}
		r.Updated = now
	})
	if err != nil {
		return err
	}
	if m.Subject != nil {
		desc := descriptor{MediaType: m.MediaType, Digest: d.String(), Size: int64(len(doc.Content)), ArtifactType: m.kind(), Annotations: m.Annotations}
		if err := put(ctx, x, referKey(repo, m.Subject.Digest, d), func(v *descriptor, _ bool) { *v = desc }); err != nil {
			return err
		}
	}
	return put(ctx, x, maniKey(repo, d), func(v *manifestDoc, there bool) {
		if there {
			doc.Created = v.Created
		}
		*v = *doc
	})
}

func (p *Plane) tag(ctx context.Context, uid, repo, tag string, d digest) error {
	now := p.Now().UTC()
	return put(ctx, p.index(uid), tagKey(repo, tag), func(t *tagDoc, there bool) {
		if !there {
			t.Created = now
		}
		t.Digest, t.Updated = d.String(), now
	})
}

// deleteManifest is DELETE /v2/NAME/manifests/REFERENCE: a tag alone, or a
// manifest with all its tags.
func (p *Plane) deleteManifest(c *gate.Call) (any, error) {
	repo, ref, r := c.Params["name"], c.Params["reference"], registryOf(c)
	unlock, err := p.files.lock(r.UID, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	d, m, err := p.find(c.Context, r.UID, repo, ref)
	if err != nil {
		return nil, err
	}
	if _, byDigest := parseDigest(ref); byDigest {
		_, err = p.drop(c.Context, r.UID, repo, d, m)
	} else {
		err = p.index(r.UID).remove(c.Context, tagKey(repo, ref))
	}
	return &gate.Reply{Status: http.StatusAccepted}, err
}

// drop removes a manifest and gives the tags that it had; of the last one the
// repository goes too. The registry is locked.
func (p *Plane) drop(ctx context.Context, uid, repo string, d digest, m *manifestDoc) ([]string, error) {
	x := p.index(uid)
	tags := []string{}
	err := each(ctx, x, tagKeys+repo+":", "", func(tag string, t tagDoc) (bool, error) {
		if t.Digest == d.String() {
			tags = append(tags, tag)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		if err := x.remove(ctx, tagKey(repo, t)); err != nil {
			return nil, err
		}
	}
	if m.Subject != "" {
		if err := x.remove(ctx, referKey(repo, m.Subject, d)); err != nil {
			return nil, err
		}
	}
	if err := x.remove(ctx, maniKey(repo, d)); err != nil {
		return nil, err
	}
	left := false
	err = each(ctx, x, maniKeys+repo+":", "", func(string, manifestDoc) (bool, error) {
		left = true
		return false, nil
	})
	if err == nil && !left {
		err = x.remove(ctx, repoKeys+repo)
	}
	return tags, err
}
