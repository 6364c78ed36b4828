package environment

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/image"
)

// PackagesLabel is the label of an image that says what Python and which of its
// packages the image has: {"python":"3.11.2","packages":{"numpy":"1.24.2"}}.
const PackagesLabel = "dev.lazurite.packages"

// manifest is the value of PackagesLabel.
type manifest struct {
	Python   string            `json:"python"`
	Packages map[string]string `json:"packages"` // names as PEP 503 compares them
}

// held is an image in an archive.
type held struct {
	file     string
	digest   string
	packages *manifest // nil: the image does not say
}

// archives are the folders of docker archives. What is in a file is read once.
type archives struct {
	folders []string

	mu   sync.Mutex // guards read
	read map[string]archiveFile
}

type archiveFile struct {
	size    int64
	changed time.Time
	images  map[string]held
}

// find returns the image of a name, from the first folder that has it, and
// the archives that could not be read.
func (a *archives) find(name string) (found held, ok bool, unreadable []error) {
	for _, folder := range a.folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			if !os.IsNotExist(err) {
				unreadable = append(unreadable, err)
			}
			continue
		}
		for _, e := range entries {
			if e.IsDir() || !strings.HasSuffix(e.Name(), ".tar") || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			images, err := a.open(filepath.Join(folder, e.Name()), e)
			if err != nil {
				unreadable = append(unreadable, err)
			} else if h, has := images[name]; has {
				return h, true, unreadable
			}
		}
	}
	return held{}, false, unreadable
}

// pip is the newest pip (PEP 427: pip-VERSION-py3-none-any.whl) that is in one
// of the folders.
func (a *archives) pip() (file string, ok bool) {
	var newest version
	for _, folder := range a.folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // find says so
		}
		for _, e := range entries {
			text, wheel := strings.CutSuffix(e.Name(), "-py3-none-any.whl")
			text, is := strings.CutPrefix(text, "pip-")
			v, known := parseVersion(text)
			if wheel && is && known && e.Type().IsRegular() && (!ok || v.compare(newest) > 0) {
				file, newest, ok = filepath.Join(folder, e.Name()), v, true
			}
		}
	}
	return file, ok
}

func (a *archives) open(file string, entry fs.DirEntry) (map[string]held, error) {
	info, err := entry.Info()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, ok := a.read[file]; ok && f.size == info.Size() && f.changed.Equal(info.ModTime()) {
		return f.images, nil
	}
	opened, err := image.Open(file, "")
	if err != nil {
		return nil, err
	}
	images := map[string]held{}
	for _, i := range opened.Images {
		packages, err := parseManifest(i.Labels[PackagesLabel])
		if err != nil {
			return nil, fmt.Errorf("%s: label %s: %w", file, PackagesLabel, closing(opened, err))
		}
		for _, n := range i.Names {
			images[n] = held{file, i.Digest, packages}
		}
	}
	if a.read == nil {
		a.read = map[string]archiveFile{}
	}
	a.read[file] = archiveFile{info.Size(), info.ModTime(), images}
	return images, opened.Close()
}

func closing(a *image.Archive, err error) error {
	if closed := a.Close(); closed != nil {
		return fmt.Errorf("%w; %w", err, closed)
	}
	return err
}

func parseManifest(label string) (*manifest, error) {
	if label == "" {
		return nil, nil
	}
	var m manifest
	if err := json.Unmarshal([]byte(label), &m); err != nil {
		return nil, err
	}
	normalised := make(map[string]string, len(m.Packages))
	for name, v := range m.Packages {
		normalised[normal(name)] = v
	}
	m.Packages = normalised
	return &m, nil
}

// differences are what is asked and the image has not, or has otherwise.
func (m *manifest) differences(asked []Requirement) []Difference {
	var out []Difference
	for _, r := range asked {
		if r.plainPip() {
			continue
		}
		has := m.Packages[normal(r.Package)]
		if normal(r.Package) == "python" && !r.Pip {
			has = m.Python
		}
		if d := (Difference{r.Package, r.Asked, has}); !meets(has, r.Asked, r.Pip) && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}
