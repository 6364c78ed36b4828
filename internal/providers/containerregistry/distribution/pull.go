package distribution

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rid"
)

const (
	maxImageConfig = 4 << 20 // bytes
	maxLayers      = 256
	maxIndexes     = 4   // that lie in each other
	maxLooked      = 200 // manifests of indexes
)

// Puller is in whose name an image is pulled without a request of its own.
type Puller struct {
	ObjectID string // of the identity whose role counts

	// Reach refuses who can't reach the registry, of which n is the firewall.
	Reach func(ctx context.Context, registry rid.ID, n gate.Network) error
}

// Opened is an image of a registry, as it was when it was asked for: what is
// taken away from the registry meanwhile stays readable. Close it.
type Opened struct {
	v1.Image
	Name  string // with its digest: acme.azurecr.io/serve@sha256:…
	Bytes int64  // of its layers and its configuration
	files []*os.File
}

// Close lets go of the image.
func (o *Opened) Close() error {
	var errs []error
	for _, f := range o.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// ours is the registry whose login server a host is, with or without a port.
func (p *Plane) ours(host string) (label string, ok bool) {
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	for _, suffix := range p.Suffixes {
		if label, ok := strings.CutSuffix(host, suffix); ok && label != "" && !strings.Contains(label, ".") {
			return label, true
		}
	}
	return "", false
}

// Pull opens the image that a reference names, for the platform of this
// machine; nil where the reference is of no registry of this cloud. Network and
// role are judged as for a request, in this order. An *apierr.Error says why the
// image can't be had, and of the registry no more than its name.
func (p *Plane) Pull(ctx context.Context, who Puller, reference string) (*Opened, error) {
	host, _, slash := strings.Cut(reference, "/")
	label, ok := p.ours(host)
	if !ok || !slash {
		return nil, nil
	}
	ref, err := name.ParseReference(strings.ToLower(host) + reference[len(host):])
	if err != nil || !validRepository(ref.Context().RepositoryStr()) {
		return nil, apierr.New(apierr.BadRequest, "NAME_INVALID", "The reference is malformed: it is REGISTRY/REPOSITORY:TAG, or REGISTRY/REPOSITORY@sha256:DIGEST.")
	}
	r, err := p.Registries.ByName(ctx, label)
	if err != nil {
		return nil, err
	}
	if p.Dir == "" {
		return nil, apierr.New(apierr.Unavailable, "UNAVAILABLE", "This server has no folder for what is in registries: 'registries' of its configuration must name one that its replicas share.")
	}
	n := r.Network
	n.Approved = p.Links.Gate(r.ID)
	if err := who.Reach(ctx, r.ID, n); err != nil {
		return nil, err
	}
	d, err := p.Gate.Authorizer.Check(ctx, who.ObjectID, actionPull, false, r.ID)
	if err != nil {
		return nil, err
	}
	if !d.Allowed {
		return nil, apierr.New(apierr.Forbidden, "DENIED",
			"The identity with the object id '%s' may not pull from the registry '%s' (%s). Give it the role: az role assignment create --assignee-object-id %s --assignee-principal-type ServicePrincipal --role AcrPull --scope $(az acr show -n %s --query id -o tsv)",
			who.ObjectID, r.ID.Name(), actionPull, who.ObjectID, r.ID.Name())
	}
	return p.open(ctx, r.UID, ref)
}

// open finds the image and opens its files, of which none is collected meanwhile.
func (p *Plane) open(ctx context.Context, uid string, ref name.Reference) (*Opened, error) {
	unlock, err := p.files.lock(uid, false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	m, err := (&search{Plane: p, uid: uid, repo: ref.Context().RepositoryStr()}).image(ctx, ref.Identifier())
	if err != nil {
		return nil, err
	}
	s, err := p.stored(uid, m)
	if err != nil {
		return nil, err
	}
	img, err := partial.CompressedToImage(s)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return &Opened{Image: img, Name: ref.Context().Name() + "@" + digestOf("sha256", m.Content).String(), Bytes: m.ImageSize, files: s.open}, nil
}

// search looks for the image for this machine among those that indexes name.
type search struct {
	*Plane
	uid, repo string
	looked    int      // for manifests of indexes
	others    []string // platforms of images that are for others
	missing   error    // the first manifest that is not there, which might have been the one
}

// look finds the image that m is or leads to; nil where there is none.
func (s *search) look(ctx context.Context, m *manifestDoc, depth int) (*manifestDoc, error) {
	if !isIndex(m.MediaType) {
		switch {
		case !types.MediaType(m.ConfigType).IsConfig():
			if depth == 0 {
				return nil, apierr.New(apierr.BadRequest, "MANIFEST_INVALID", "It is no image of a container: its configuration is of the type '%s'.", clip(m.ConfigType))
			}
			return nil, nil // an artifact beside the images
		case m.OS == "linux" && m.Arch == runtime.GOARCH:
			return m, nil
		}
		s.others = append(s.others, m.OS+"/"+m.Arch)
		return nil, nil
	}
	index, err := parseManifest(m.Content, m.MediaType)
	if err != nil {
		return nil, err
	}
	for _, d := range index.Manifests {
		if p := d.Platform; p != nil && (p.OS != "linux" || p.Architecture != runtime.GOARCH) {
			s.others = append(s.others, p.OS+"/"+p.Architecture)
			continue
		}
		if s.looked++; depth == maxIndexes || s.looked > maxLooked {
			return nil, apierr.New(apierr.BadRequest, "MANIFEST_INVALID", "Its index leads to more than %d manifests, or its indexes lie in each other too deep.", maxLooked)
		}
		_, child, err := s.find(ctx, s.uid, s.repo, d.Digest)
		if apierr.Is(err, apierr.NotFound) {
			s.missing = cmp.Or(s.missing, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		if found, err := s.look(ctx, child, depth+1); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// image finds the image that a tag or a digest means.
func (s *search) image(ctx context.Context, reference string) (*manifestDoc, error) {
	_, m, err := s.find(ctx, s.uid, s.repo, reference)
	if err != nil {
		return nil, err
	}
	if m, err = s.look(ctx, m, 0); m != nil || err != nil {
		return m, err
	}
	if s.missing != nil {
		return nil, s.missing
	}
	slices.Sort(s.others)
	if s.others = slices.Compact(s.others); len(s.others) == 0 {
		s.others = []string{"no platform at all"}
	}
	return nil, apierr.New(apierr.BadRequest, "MANIFEST_INVALID", "It is for %s, and what runs here is linux/%s.", clip(strings.Join(s.others, ", ")), runtime.GOARCH)
}

// stored is an image as the registry keeps it.
type stored struct {
	manifest []byte
	media    types.MediaType
	config   []byte
	layers   map[v1.Hash]layer
	open     []*os.File
}

// layer is a file of the registry.
type layer struct {
	v1.Descriptor
	file *os.File
}

func (s *stored) close() error { return (&Opened{files: s.open}).Close() }

// stored opens the files of an image.
func (p *Plane) stored(uid string, m *manifestDoc) (s *stored, err error) {
	s = &stored{manifest: m.Content, media: types.MediaType(m.MediaType), layers: map[v1.Hash]layer{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	parsed, err := v1.ParseManifest(strings.NewReader(string(m.Content)))
	if err != nil { // the registry takes digests and members that nothing here could run
		return s, apierr.New(apierr.BadRequest, "MANIFEST_INVALID", "Its manifest can't be read: %v.", err)
	}
	if parsed.Config.Size > maxImageConfig || len(parsed.Layers) > maxLayers {
		return s, apierr.New(apierr.BadRequest, "MANIFEST_INVALID", "Its configuration has %d bytes and it has %d layers; at most %d and %d are run here.", parsed.Config.Size, len(parsed.Layers), maxImageConfig, maxLayers)
	}
	for _, d := range append(slices.Clone(parsed.Layers), parsed.Config) {
		f, err := p.files.open(uid, digest{d.Digest.Algorithm, d.Digest.Hex})
		if errors.Is(err, fs.ErrNotExist) {
			return s, apierr.New(apierr.NotFound, "BLOB_UNKNOWN", "Its part %s is not in the registry.", d.Digest)
		}
		if err != nil {
			return s, fmt.Errorf("open a blob: %w", err)
		}
		s.open = append(s.open, f)
		s.layers[d.Digest] = layer{d, f}
	}
	s.config, err = io.ReadAll(io.NewSectionReader(s.layers[parsed.Config.Digest].file, 0, parsed.Config.Size))
	return s, err
}

// RawManifest implements partial.CompressedImageCore.
func (s *stored) RawManifest() ([]byte, error) { return s.manifest, nil }

// RawConfigFile implements partial.CompressedImageCore.
func (s *stored) RawConfigFile() ([]byte, error) { return s.config, nil }

// MediaType implements partial.CompressedImageCore.
func (s *stored) MediaType() (types.MediaType, error) { return s.media, nil }

// LayerByDigest implements partial.CompressedImageCore.
func (s *stored) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	l, ok := s.layers[h]
	if !ok {
		return nil, fmt.Errorf("there is no layer %s", h)
	}
	return l, nil
}

// Digest implements partial.CompressedLayer.
func (l layer) Digest() (v1.Hash, error) { return l.Descriptor.Digest, nil }

// Compressed implements partial.CompressedLayer.
func (l layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(l.file, 0, l.Descriptor.Size)), nil
}

// Size implements partial.CompressedLayer.
func (l layer) Size() (int64, error) { return l.Descriptor.Size, nil }

// MediaType implements partial.CompressedLayer.
func (l layer) MediaType() (types.MediaType, error) { return l.Descriptor.MediaType, nil }
