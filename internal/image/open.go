package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is one image of an Archive.
type Image struct {
	Names    []string // as they were given; a cluster knows them with docker.io in front where no registry is named
	Digest   string   // of its config: sha256:…
	Platform string   // linux/amd64
	Labels   map[string]string
	img      v1.Image
}

// Archive is an opened docker archive or OCI layout.
type Archive struct {
	Images []Image
	temp   string // folder or file that Close removes
}

// Close removes what Open unpacked.
func (a *Archive) Close() error {
	if a.temp == "" {
		return nil
	}
	return os.RemoveAll(a.temp)
}

// Open reads a docker archive, an OCI layout in a folder or in a tar; either
// tar may be compressed with gzip. Of an image for several platforms the one
// for this machine is taken. With a name, that is what the only image in it is
// called; without, an image that has none is refused.
func Open(file, as string) (*Archive, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	a := &Archive{}
	if info.IsDir() {
		err = a.layout(file)
	} else {
		err = a.tar(file)
	}
	if err == nil {
		err = a.named(file, as)
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// named gives the images their names, or says why they have none.
func (a *Archive) named(file, as string) error {
	if len(a.Images) == 0 {
		return fmt.Errorf("%s holds no image for linux/%s", file, runtime.GOARCH)
	}
	if as != "" {
		if len(a.Images) > 1 {
			return fmt.Errorf("%s holds %d images: one name does not fit them", file, len(a.Images))
		}
		a.Images[0].Names = []string{as}
	}
	for _, i := range a.Images {
		if len(i.Names) == 0 {
			return fmt.Errorf("%s holds an image without a name: say what it is called", file)
		}
		for _, n := range i.Names {
			if _, err := name.NewTag(n); err != nil {
				return fmt.Errorf("image name: %w", err)
			}
		}
	}
	return nil
}

// Of is an archive with one image, called name, that is read from elsewhere.
func Of(img v1.Image, name string) (*Archive, error) {
	a := &Archive{}
	if err := a.add(img, []string{name}); err != nil {
		return nil, err
	}
	return a, a.named(name, "")
}

// Write writes the images as one docker archive.
func (a *Archive) Write(w io.Writer) error {
	references := map[name.Reference]v1.Image{}
	for _, i := range a.Images {
		for _, n := range i.Names {
			tag, err := name.NewTag(n)
			if err != nil {
				return err
			}
			references[tag] = i.img
		}
	}
	return tarball.MultiRefWrite(references, w)
}

func (a *Archive) add(img v1.Image, names []string) error {
	digest, err := img.ConfigName()
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if config.OS != "linux" || config.Architecture != runtime.GOARCH {
		return fmt.Errorf("the image %s is for %s/%s, and nodes here are linux/%s", strings.Join(names, ", "), config.OS, config.Architecture, runtime.GOARCH)
	}
	a.Images = append(a.Images, Image{Names: names, Digest: digest.String(), Platform: config.OS + "/" + config.Architecture, Labels: config.Config.Labels, img: img})
	return nil
}

// tar reads a docker archive or an OCI layout in a tar.
func (a *Archive) tar(file string) error {
	plain, err := a.decompress(file)
	if err != nil {
		return err
	}
	opener := func() (io.ReadCloser, error) { return os.Open(plain) }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		if layoutErr := a.unpackLayout(plain); layoutErr != nil {
			return fmt.Errorf("%s is neither a docker archive (%w) nor an OCI layout (%w)", file, err, layoutErr)
		}
		return a.layout(filepath.Join(a.temp, "layout"))
	}
	for _, d := range manifest {
		one, err := json.Marshal(tarball.Manifest{d})
		if err != nil {
			return err
		}
		img, err := tarball.Image(withManifest(opener, one), nil)
		if err != nil {
			return err
		}
		if err := a.add(img, d.RepoTags); err != nil {
			return err
		}
	}
	return nil
}

// withManifest is the archive as if manifest were its manifest.json: the first
// of that name counts.
func withManifest(opener tarball.Opener, manifest []byte) tarball.Opener {
	return func() (io.ReadCloser, error) {
		rest, err := opener()
		if err != nil {
			return nil, err
		}
		var head bytes.Buffer
		t := tar.NewWriter(&head)
		if err := t.WriteHeader(&tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(manifest))}); err != nil {
			return nil, errors.Join(err, rest.Close())
		}
		if _, err := t.Write(manifest); err != nil {
			return nil, errors.Join(err, rest.Close())
		}
		if err := t.Flush(); err != nil { // no end: the archive goes on
			return nil, errors.Join(err, rest.Close())
		}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&head, rest), rest}, nil
	}
}

// decompress returns file, or a plain copy of it where it is compressed.
func (a *Archive) decompress(file string) (plain string, err error) {
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	buffered := bufio.NewReader(in)
	magic, _ := buffered.Peek(2) // a file shorter than that is no gzip; who reads it says what it is
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return file, nil
	}
	if err := a.tempDir(); err != nil {
		return "", err
	}
	reader, err := gzip.NewReader(buffered)
	if err != nil {
		return "", err
	}
	plain = filepath.Join(a.temp, "plain.tar")
	return plain, writeFile(plain, reader)
}

func (a *Archive) tempDir() (err error) {
	if a.temp == "" {
		a.temp, err = os.MkdirTemp("", "laz-image-")
	}
	return err
}

func writeFile(file string, from io.Reader) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}

// inLayout reports whether a file is one of the few of a layout that count
// (OCI image-spec, image-layout.md).
func inLayout(file string) bool {
	file = strings.TrimPrefix(file, "./")
	digest, blob := strings.CutPrefix(file, "blobs/sha256/")
	return file == "oci-layout" || file == "index.json" || blob && len(digest) == 64 && strings.Trim(digest, "0123456789abcdef") == ""
}

// unpackLayout unpacks an OCI layout, and nothing else that may be in the tar.
func (a *Archive) unpackLayout(file string) (err error) {
	if err := a.tempDir(); err != nil {
		return err
	}
	folder := filepath.Join(a.temp, "layout")
	if err := os.MkdirAll(filepath.Join(folder, "blobs", "sha256"), 0o700); err != nil {
		return err
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	for t := tar.NewReader(in); ; {
		h, err := t.Next()
		if err == io.EOF {
			_, err := os.Stat(filepath.Join(folder, "index.json"))
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !inLayout(h.Name) {
			continue
		}
		if err := writeFile(filepath.Join(folder, filepath.FromSlash(h.Name)), t); err != nil {
			return err
		}
	}
}

// layout reads an OCI layout in a folder.
func (a *Archive) layout(folder string) error {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return fmt.Errorf("%s is no OCI layout: %w", folder, err)
	}
	return a.index(index, "", 0)
}

// The annotations that name an image in an index: OCI's may be a tag alone, containerd's is whole.
const (
	refName        = "org.opencontainers.image.ref.name"
	containerdName = "io.containerd.image.name"
)

// index adds the images of an index. name is that of the entry that led here.
func (a *Archive) index(index v1.ImageIndex, inherited string, depth int) error {
	if depth > 4 {
		return errors.New("indexes lie in each other too deep")
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		if p := d.Platform; p != nil && (p.OS != "linux" || p.Architecture != runtime.GOARCH) {
			continue // another machine's, or an attestation (unknown/unknown)
		}
		called := entryName(d.Annotations, inherited)
		switch {
		case d.MediaType.IsIndex():
			child, err := index.ImageIndex(d.Digest)
			if err != nil {
				return err
			}
			if err := a.index(child, called, depth+1); err != nil {
				return err
			}
		case d.MediaType.IsImage():
			img, err := index.Image(d.Digest)
			if err != nil {
				return err
			}
			var names []string
			if called != "" {
				names = []string{called}
			}
			if err := a.add(img, names); err != nil {
				return err
			}
		}
	}
	return nil
}

func entryName(annotations map[string]string, inherited string) string {
	if n := annotations[containerdName]; n != "" {
		return n
	}
	// A tag alone ("latest") is no name.
	if n := annotations[refName]; n != "" && strings.ContainsAny(n, ":/") {
		return n
	}
	return inherited
}
