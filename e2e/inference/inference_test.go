// Package inference_test tests the image that scores scikit-learn models: the
// inference server, by its own Python tests, with the image's own Python.
package inference_test

import (
	"archive/tar"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lazurite.dev/e2e/live"
)

// config is what counts of an image's configuration.
type config struct {
	Config struct {
		User, WorkingDir string
		Entrypoint       []string
		Labels           map[string]string
		ExposedPorts     map[string]struct{}
	}
}

// unpack unpacks the image that `make images` built.
func unpack(t *testing.T) (root string, c config) {
	t.Helper()
	archive := filepath.Join(filepath.Dir(os.Getenv("LAZ_BINARY")), "images", "azureml-sklearn.tar")
	_, err := os.Stat(archive)
	live.Need(t, os.Getenv("LAZ_BINARY") != "" && err == nil, archive+": run `make images`, with LAZ_BINARY naming bin/laz")
	root = t.TempDir()
	each(t, open(t, archive), func(h *tar.Header, r io.Reader) {
		switch {
		case strings.HasSuffix(h.Name, ".tar.gz"):
			layer, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			each(t, layer, func(h *tar.Header, r io.Reader) { write(t, root, h, r) })
		case h.Name != "manifest.json":
			if err := json.NewDecoder(r).Decode(&c); err != nil {
				t.Fatal(err)
			}
		}
	})
	return root, c
}

func open(t *testing.T, file string) io.Reader {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func each(t *testing.T, r io.Reader, do func(*tar.Header, io.Reader)) {
	t.Helper()
	for entries := tar.NewReader(r); ; {
		h, err := entries.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		do(h, entries)
	}
}

func write(t *testing.T, root string, h *tar.Header, r io.Reader) {
	t.Helper()
	path := filepath.Join(root, h.Name)
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		err = os.MkdirAll(path, 0o755)
	case tar.TypeSymlink:
		err = os.Symlink(h.Linkname, path)
	default:
		var f *os.File
		if f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, fs.FileMode(h.Mode&0o777)|0o600); err == nil {
			_, err = io.Copy(f, r)
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestImage(t *testing.T) {
	root, c := unpack(t)
	t.Run("runs as nobody special", func(t *testing.T) {
		if _, serves := c.Config.ExposedPorts["5001/tcp"]; c.Config.User != "65532:65532" || !serves || !slices.Equal(c.Config.Entrypoint, []string{"/usr/bin/azmlinfsrv"}) {
			t.Errorf("got %+v", c.Config)
		}
	})
	t.Run("says what it has", func(t *testing.T) {
		var label struct {
			Python   string
			Packages map[string]string
		}
		if err := json.Unmarshal([]byte(c.Config.Labels["dev.lazurite.packages"]), &label); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"numpy", "scipy", "scikit-learn", "joblib", "pandas", "requests", "azureml-inference-server-http"} {
			if label.Packages[p] == "" || label.Python == "" {
				t.Errorf("the label lacks %s: %+v", p, label)
			}
		}
	})
	t.Run("has the libraries that its programs need", func(t *testing.T) { libraries(t, root) })
	t.Run("python", func(t *testing.T) { pythonTests(t, root) })
}

// libraries looks for what programs and libraries name and the image lacks.
func libraries(t *testing.T, root string) {
	there, needed := map[string]bool{}, map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		there[d.Name()] = true
		if !d.Type().IsRegular() {
			if _, err := os.Stat(path); err != nil && strings.Contains(d.Name(), ".so") && !strings.HasPrefix(link(path), "/") {
				t.Errorf("%s leads nowhere", path)
			}
			return nil
		}
		f, err := elf.Open(path)
		if err != nil {
			return nil // no program
		}
		names, err := f.ImportedLibraries()
		for _, n := range names {
			needed[n] = strings.TrimPrefix(path, root)
		}
		return errors.Join(err, f.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	for n, by := range needed {
		if !there[n] {
			t.Errorf("%s needs %s", by, n)
		}
	}
	if len(needed) < 10 {
		t.Errorf("only %d libraries are needed by anything", len(needed))
	}
}

func link(path string) string {
	to, _ := os.Readlink(path) // no link leads nowhere
	return to
}

// pythonTests runs the server's own tests with the image's Python, by its own
// loader: neither root nor a container is needed.
func pythonTests(t *testing.T, root string) {
	one := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		return found[0]
	}
	tests, err := filepath.Abs("../../images/inference-server/tests")
	if err != nil {
		t.Fatal(err)
	}
	python := []string{one("usr/lib64/ld-linux*"), "--inhibit-cache", "--library-path", filepath.Dir(one("usr/lib/*/libc.so.6")), one("usr/bin/python3.[0-9]*")}
	cmd := exec.Command(python[0], append(python[1:], "-m", "unittest", "discover", "-s", tests)...)
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "PYTHONHOME=" + filepath.Join(root, "usr"), "PYTHONDONTWRITEBYTECODE=1",
		"PYTHONPATH=" + filepath.Dir(tests), "TEST_PYTHON=" + strings.Join(python, " "), "TMPDIR=" + t.TempDir(),
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
