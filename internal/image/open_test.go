package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"lazurite.dev/internal/image"
)

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func compress(t *testing.T, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// ociLayout makes a layout that holds archive's image under the annotations.
func ociLayout(t *testing.T, archive []byte, annotations map[string]string, platform *v1.Platform) string {
	t.Helper()
	img, err := tarball.ImageFromPath(write(t, "a.tar", archive), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	options := []layout.Option{layout.WithAnnotations(annotations)}
	if platform != nil {
		options = append(options, layout.WithPlatform(*platform))
	}
	if err := p.AppendImage(img, options...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tarOf packs a folder, and a file that does not belong into it.
func tarOf(t *testing.T, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteHeader(&tar.Header{Name: "../outside", Typeflag: tar.TypeReg, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestOpen(t *testing.T) {
	archive := build(t, folder(t), image.Config{Name: "lazurite.dev/app:v2", Entrypoint: []string{"/bin/app"}})
	whole := ociLayout(t, archive, map[string]string{"io.containerd.image.name": "example.org/app:v3", "org.opencontainers.image.ref.name": "v3"}, nil)
	tagOnly := ociLayout(t, archive, map[string]string{"org.opencontainers.image.ref.name": "latest"}, nil)
	for name, tt := range map[string]struct {
		file, as, want string
	}{
		"docker archive":            {write(t, "a.tar", archive), "", "lazurite.dev/app:v2"},
		"docker archive, gzip":      {write(t, "a.tgz", compress(t, archive)), "", "lazurite.dev/app:v2"},
		"under another name":        {write(t, "a.tar", archive), "other:v1", "other:v1"},
		"OCI layout":                {whole, "", "example.org/app:v3"},
		"OCI layout in a tar":       {write(t, "oci.tar", tarOf(t, whole)), "", "example.org/app:v3"},
		"OCI layout in a tar, gzip": {write(t, "oci.tgz", compress(t, tarOf(t, whole))), "", "example.org/app:v3"},
		"OCI layout that is named":  {tagOnly, "app:v4", "app:v4"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := image.Open(tt.file, tt.as)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			}()
			var got []string
			for _, i := range a.Images {
				got = append(got, i.Names...)
			}
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
				t.Fatal(diff)
			}
			var out bytes.Buffer
			if err := a.Write(&out); err != nil {
				t.Fatal(err)
			}
			again, err := image.Open(write(t, "again.tar", out.Bytes()), "")
			if err != nil {
				t.Fatal(err)
			}
			if again.Images[0].Digest != a.Images[0].Digest {
				t.Errorf("written as %s, was %s", again.Images[0].Digest, a.Images[0].Digest)
			}
		})
	}
}

func TestOpen_Refuses(t *testing.T) {
	archive := build(t, folder(t), image.Config{Name: "lazurite.dev/app:v2", Entrypoint: []string{"/bin/app"}})
	for name, tt := range map[string]struct{ file, as, want string }{
		"no such file":          {filepath.Join(t.TempDir(), "none"), "", "no such file"},
		"a text":                {write(t, "a.txt", []byte("hello")), "", "is neither a docker archive"},
		"an empty file":         {write(t, "a", nil), "", "is neither a docker archive"},
		"an empty folder":       {t.TempDir(), "", "is no OCI layout"},
		"an image with no name": {ociLayout(t, archive, nil, nil), "", "holds an image without a name"},
		"a bad name":            {write(t, "a.tar", archive), "App:v1", "image name"},
		"another machine's":     {ociLayout(t, archive, nil, &v1.Platform{OS: "linux", Architecture: "s390x"}), "app:v1", "holds no image for linux/"},
		"half an archive":       {write(t, "half.tar", archive[:600]), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := image.Open(tt.file, tt.as)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// FuzzOpen: no archive makes Open fail in another way than with an error, or
// write outside its own folder.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("hello"))
	for _, m := range []string{
		`[{"Config":"config.json","RepoTags":["a:v1"],"Layers":["l.tar"]}]`, `[{"Config":"config.json"},{"Config":"../x"}]`, `[]`,
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, file := range [][2]string{{"manifest.json", m}, {"config.json", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`}, {"l.tar", ""}} {
			if err := w.WriteHeader(&tar.Header{Name: file[0], Typeflag: tar.TypeReg, Size: int64(len(file[1]))}); err != nil {
				f.Fatal(err)
			}
			if _, err := w.Write([]byte(file[1])); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := image.Open(write(t, "fuzz", content), "")
		if err != nil {
			return
		}
		_ = a.Write(io.Discard)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}
