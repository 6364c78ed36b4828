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

	files int   // how many files and folders it may have
	most  int64 // how many bytes
}

// readable is a file that lasts as long as its entries are read.
type readable interface {
	io.ReadSeeker
	io.ReaderAt
}

// sitePattern is where Python looks for packages, in one way or another.
var sitePattern = regexp.MustCompile(`^/(?:usr|opt)(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/(?:site|dist)-packages$`)

// prefixPattern is a Python's folder of packages below the prefix that its
// commands and other files go to: PREFIX/lib/python3.N.
var prefixPattern = regexp.MustCompile(`^(/usr/local|/opt/.+)/lib(?:64)?/python3(?:\.[0-9]+)?/(?:site|dist)-packages$`)

// prefix is where files go that packages have outside of their folder, so that
// RECORD names them: it is three folders up.
// Source: Python packaging specifications, "Recording installed projects".
func prefix(site string) string {
	if m := prefixPattern.FindStringSubmatch(site); m != nil {
		return m[1]
	}
	return "/usr/local" // three folders up from ownFolder, too
}

// readTree reads the archive that install.py makes: report.json, then files
// below tree/ and beside/. It comes out of an image that somebody else may have
// made, so that nothing but plain files is taken, and nothing outside the folder
// of packages and the prefix that it is below.
func readTree(f readable) (tree, error) {
	t := tree{files: maxTreeFiles, most: maxInstalled}
	err := t.read(f)
	return t, err
}

func (t *tree) read(f readable) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := tar.NewReader(f)
	folders := map[string]bool{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || sparse(h) {
			return fmt.Errorf("%.200q is no file", h.Name)
		}
		if t.site == "" {
			if err := t.report(h, r); err != nil {
				return err
			}
			continue
		}
		at, err := f.Seek(0, io.SeekCurrent) // a tar.Reader reads no further than the header
		if err != nil {
			return err
		}
		if err := t.add(h, f, at, folders); err != nil {
			return err
		}
	}
	if t.site == "" {
		return errors.New("there is no report")
	}
	return nil
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
	into := t.site
	if !ok {
		name, ok = strings.CutPrefix(h.Name, "beside/")
		into = prefix(t.site)
	}
	if !ok || len(name) > maxTreePath || !fileName(name) {
		return fmt.Errorf("%.200q is no name of a file of a package", h.Name)
	}
	// Of the prefix no folder is named: the image has them, some as links.
	for dir := path.Dir(name); dir != "." && into == t.site && !folders[dir]; dir = path.Dir(dir) {
		folders[dir] = true
		t.entries = append(t.entries, image.Entry{Path: path.Join(t.site, dir), Folder: true})
	}
	mode := int64(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	size := h.Size
	if size > t.most-t.bytes || len(t.entries) >= t.files {
		return fmt.Errorf("it has more than %d files or %d bytes", t.files, t.most)
	}
	t.bytes += size
	t.entries = append(t.entries, image.Entry{Path: path.Join(into, name), Mode: mode, Size: size, Open: func() (io.ReadCloser, error) {
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
