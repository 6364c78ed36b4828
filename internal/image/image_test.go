package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/image"
)

// program compiles a small static program.
func program(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "hello")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { println(\"hello\") }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-o", out, source)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"usr/bin/app": "#!/bin/sh", "etc/app.conf": "a=b"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("usr/bin", filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func build(t *testing.T, source string, c image.Config) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := image.Build(t.Context(), source, c, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// member returns a file of an archive.
func member(t *testing.T, archive io.Reader, wanted func(string) bool) []byte {
	t.Helper()
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if wanted(h.Name) {
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return content
		}
	}
}

func TestBuild_Binary(t *testing.T) {
	source := program(t)
	c := image.Config{
		Name: "lazurite.dev/hello:v1", Cmd: []string{"--fast"}, Env: []string{"A=b=c"}, Labels: map[string]string{"k": "v"}, Ports: []string{"8080", "53/udp"},
	}
	archive := build(t, source, c)
	var config struct {
		Architecture, OS string
		Config           map[string]any
	}
	if err := json.Unmarshal(member(t, bytes.NewReader(archive), func(n string) bool { return strings.HasPrefix(n, "sha256:") }), &config); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"Cmd": []any{"--fast"}, "Entrypoint": []any{"/hello"}, "User": "65532:65532", "WorkingDir": "/", "Labels": map[string]any{"k": "v"},
		"Env":          []any{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b=c"},
		"ExposedPorts": map[string]any{"8080/tcp": map[string]any{}, "53/udp": map[string]any{}},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Error(diff)
	}
	if config.OS != "linux" || config.Architecture != runtime.GOARCH {
		t.Errorf("platform %s/%s", config.OS, config.Architecture)
	}
	if !bytes.Equal(archive, build(t, source, c)) {
		t.Error("the second build has other bytes")
	}
}

func TestBuild_Folder(t *testing.T) {
	archive := build(t, folder(t), image.Config{Name: "app:v2", Entrypoint: []string{"/bin/app"}, User: "0", WorkingDir: "/etc"})
	zipped, err := gzip.NewReader(bytes.NewReader(member(t, bytes.NewReader(archive), func(n string) bool { return strings.HasSuffix(n, ".tar.gz") })))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %d:%d, time %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		got = append(got, h.Name+" "+h.Linkname)
	}
	want := []string{"bin usr/bin", "etc/ ", "etc/app.conf ", "usr/ ", "usr/bin/ ", "usr/bin/app "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBuild_Refuses(t *testing.T) {
	dynamic, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	ok := image.Config{Name: "app:v1", Entrypoint: []string{"/bin/app"}}
	with := func(change func(*image.Config)) image.Config { c := ok; change(&c); return c }
	for name, tt := range map[string]struct {
		source string
		config image.Config
		want   string
	}{
		"no such file":         {filepath.Join(dir, "none"), ok, "no such file"},
		"a dynamic program":    {dynamic, ok, "is dynamically linked"},
		"a text":               {filepath.Join(dir, "etc", "app.conf"), ok, "is no Linux program"},
		"a bad name":           {dir, with(func(c *image.Config) { c.Name = "App:v1" }), "image name"},
		"nothing starts":       {dir, with(func(c *image.Config) { c.Entrypoint = nil }), "say what starts in it"},
		"no environment":       {dir, with(func(c *image.Config) { c.Env = []string{"=secret"} }), "is not KEY=VALUE"},
		"no port":              {dir, with(func(c *image.Config) { c.Ports = []string{"http"} }), `port "http"`},
		"a relative folder":    {dir, with(func(c *image.Config) { c.WorkingDir = "etc" }), "is no absolute path"},
		"a device in a folder": {"/dev", ok, "neither a file, a folder nor a link"},
		"a device":             {"/dev/null", ok, "neither a file nor a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			err := image.Build(t.Context(), tt.source, tt.config, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := image.Build(ended, dir, ok, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
