package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"archive/tar"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Entry is a file or a folder of a layer.
type Entry struct {
	Path     string // absolute, clean
	Folder   bool
	Mode     int64 // bits of chmod(2); 0 is 0755 for folders, 0644 for files
	UID, GID int
	Size     int64
	Open     func() (io.ReadCloser, error) // of a file
}

// Change is what becomes of an image in Extend.
type Change struct {
	Name    string // of the new image
	Entries []Entry
	Config  func(*v1.Config)
	Comment string // what made it, for its history
	Layer   string // the file that the layer is in meanwhile; it is made anew, and removed
}

// Extend writes the image with one more layer, where c has entries, and another
// configuration to out, as a docker archive. The same image and Change give the same bytes.
func (i Image) Extend(ctx context.Context, c Change, out io.Writer) error {
	tag, err := name.NewTag(c.Name)
	if err != nil {
		return fmt.Errorf("image name: %w", err)
	}
	img := i.img
	if len(c.Entries) > 0 {
		if err := entriesLayer(ctx, c.Entries, c.Layer); err != nil {
			return err
		}
		defer func() { _ = os.Remove(c.Layer) }()
		layer, err := tarball.LayerFromFile(c.Layer)
		if err != nil {
			return err
		}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: epoch()}, CreatedBy: c.Comment}}); err != nil {
			return err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.Created = v1.Time{Time: epoch()}
	c.Config(&file.Config)
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	return tarball.Write(tag, img, out)
}

// Config is how containers of the image start.
func (i Image) Config() (v1.Config, error) {
	file, err := i.img.ConfigFile()
	if err != nil {
		return v1.Config{}, err
	}
	return file.DeepCopy().Config, nil
}

// entriesLayer writes a layer into a file that the caller removes.
func entriesLayer(ctx context.Context, entries []Entry, file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(writeLayer(f, func(l *layerWriter) error { return l.entries(ctx, entries) }), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

// entries writes entries in the order of their paths, each once: the last one counts.
func (l *layerWriter) entries(ctx context.Context, entries []Entry) error {
	last := map[string]Entry{}
	var paths []string
	for _, e := range entries {
		if !path.IsAbs(e.Path) || path.Clean(e.Path) != e.Path || e.Path == "/" {
			return fmt.Errorf("%q is no path inside an image", e.Path)
		}
		if _, is := last[e.Path]; !is {
			paths = append(paths, e.Path)
		}
		last[e.Path] = e
	}
	slices.Sort(paths)
	for _, p := range paths {
		if err := errors.Join(ctx.Err(), l.entry(last[p])); err != nil {
			return err
		}
	}
	return nil
}

func (l *layerWriter) entry(e Entry) (err error) {
	h := tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(e.Path, "/"), Mode: e.Mode, Uid: e.UID, Gid: e.GID, Size: e.Size}
	if e.Folder {
		h.Typeflag, h.Name, h.Size = tar.TypeDir, h.Name+"/", 0
	}
	if h.Mode == 0 && e.Folder {
		h.Mode = 0o755
	} else if h.Mode == 0 {
		h.Mode = 0o644
	}
	if err := l.header(h); err != nil || e.Folder {
		return err
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err = io.CopyN(l.tar, f, e.Size); err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	return nil
}
