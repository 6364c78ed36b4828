package environment

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"lazurite.dev/internal/image"
)

// Limits of what a build hands out, beside its bytes.
const (
	maxTreeFiles  = 200_000
	maxTreeReport = 1 << 20
	maxTreePath   = 1000
)

// tree is what was installed.
type tree struct {
	site     string // the folder in the image
	packages map[string]string
	entries  []image.Entry
	bytes    int64
}

// readable is a file that lasts as long as its entries are read.
type readable interface {
	io.ReadSeeker
	io.ReaderAt
}

// sitePattern is where Python looks for packages, in one way or another.
var sitePattern = regexp.MustCompile(`^/(?:usr|opt)(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/(?:site|dist)-packages$`)

// readTree reads the archive that install.py makes: report.json, then files
// below tree/. It comes out of an image that somebody else may have made, so
// that nothing but plain files is taken, and nothing outside the one folder.
func readTree(f readable) (tree, error) {
	var t tree
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return t, err
	}
	r := tar.NewReader(f)
	folders := map[string]bool{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return t, err
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || sparse(h) {
			return t, fmt.Errorf("%.200q is no file", h.Name)
		}
		if t.site == "" {
			if err := t.report(h, r); err != nil {
				return t, err
			}
			continue
		}
		at, err := f.Seek(0, io.SeekCurrent) // a tar.Reader reads no further than the header
		if err != nil {
			return t, err
		}
		if err := t.add(h, f, at, folders); err != nil {
			return t, err
		}
	}
	if t.site == "" {
		return t, errors.New("there is no report")
	}
	return t, nil
}

// sparse reports whether a file has holes: its size is then what it says, not
// what there is of it.
func sparse(h *tar.Header) bool {
	for name := range h.PAXRecords {
		if strings.HasPrefix(name, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// report reads what comes first.
func (t *tree) report(h *tar.Header, r io.Reader) error {
	if h.Name != "report.json" || h.Size > maxTreeReport {
		return fmt.Errorf("%.200q is no report", h.Name)
	}
	var said struct {
		Site     string            `json:"site"`
		Packages map[string]string `json:"packages"`
	}
	if err := json.NewDecoder(r).Decode(&said); err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	if said.Site != ownFolder && (!sitePattern.MatchString(said.Site) || path.Clean(said.Site) != said.Site) {
		return fmt.Errorf("%.200q is no folder of packages", said.Site)
	}
	t.site, t.packages = said.Site, said.Packages
	t.entries = append(t.entries, image.Entry{Path: t.site, Folder: true})
	return nil
}

// add takes a file, and the folders that it is in.
func (t *tree) add(h *tar.Header, f io.ReaderAt, at int64, folders map[string]bool) error {
	name, ok := strings.CutPrefix(h.Name, "tree/")
	if !ok || len(name) > maxTreePath || !fileName(name) {
		return fmt.Errorf("%.200q is no name of a file of a package", h.Name)
	}
	for dir := path.Dir(name); dir != "." && !folders[dir]; dir = path.Dir(dir) {
		folders[dir] = true
		t.entries = append(t.entries, image.Entry{Path: path.Join(t.site, dir), Folder: true})
	}
	mode := int64(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	size := h.Size
	if size > maxInstalled-t.bytes || len(t.entries) >= maxTreeFiles {
		return fmt.Errorf("it has more than %d files or %d bytes", maxTreeFiles, int64(maxInstalled))
	}
	t.bytes += size
	t.entries = append(t.entries, image.Entry{Path: path.Join(t.site, name), Mode: mode, Size: size, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, at, size)), nil
	}})
	return nil
}

// fileName reports whether a relative path stays below its folder, and means
// nothing else in a layer.
// Source: OCI image specification, "Representing Changes": whiteouts.
func fileName(name string) bool {
	if name == "" || path.IsAbs(name) || path.Clean(name) != name {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." || part == "." || strings.HasPrefix(part, ".wh.") || strings.ContainsAny(part, "\x00\n") {
			return false
		}
	}
	return true
}
