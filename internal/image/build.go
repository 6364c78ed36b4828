// Package image makes container images from a static binary or a folder, and
// reads images from docker archives and OCI layouts, without Docker and
// without a registry.
package image

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// DefaultUser is who a container runs as where nothing else is said: nobody
// that a binary could need to be.
const DefaultUser = "65532:65532"

// Config says what an image is called and how a container of it starts.
type Config struct {
	Name       string            // REPOSITORY[:TAG], required
	Entrypoint []string          // required for a folder; the binary itself for a binary
	Cmd        []string          // arguments where the container names none
	Env        []string          // KEY=VALUE
	User       string            // "" is DefaultUser
	WorkingDir string            // "" is /
	Labels     map[string]string //
	Ports      []string          // PORT or PORT/PROTOCOL
}

// Build writes the image of source, a static binary or a folder that becomes
// the root of the file system, to out as a docker archive. The same source and
// the same Config give the same bytes: owners are root, times are 1970.
func Build(ctx context.Context, source string, c Config, out io.Writer) error {
	tag, err := name.NewTag(c.Name)
	if err != nil {
		return fmt.Errorf("image name: %w", err)
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	arch := runtime.GOARCH
	entries := func(l *layerWriter) error { return l.folder(ctx, source) }
	switch {
	case info.Mode().IsRegular():
		if arch, err = staticBinary(source); err != nil {
			return err
		}
		program := "/" + filepath.Base(source)
		if len(c.Entrypoint) == 0 {
			c.Entrypoint = []string{program}
		}
		entries = func(l *layerWriter) error { return l.binary(source, program) }
	case info.IsDir() && len(c.Entrypoint) == 0:
		return fmt.Errorf("%s is a folder: say what starts in it (entrypoint)", source)
	case !info.IsDir():
		return fmt.Errorf("%s is neither a file nor a folder", source)
	}
	config, err := c.runtime()
	if err != nil {
		return err
	}
	layer, err := os.CreateTemp("", "laz-image-*.tar.gz")
	if err != nil {
		return err
	}
	defer func() {
		_ = layer.Close()
		_ = os.Remove(layer.Name())
	}()
	if err := writeLayer(layer, entries); err != nil {
		return err
	}
	img, err := assemble(layer.Name(), arch, config)
	if err != nil {
		return err
	}
	return tarball.Write(tag, img, out)
}

func assemble(layerFile, arch string, config v1.Config) (v1.Image, error) {
	layer, err := tarball.LayerFromFile(layerFile)
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: epoch()}, CreatedBy: "laz image build"}})
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Config = "linux", arch, v1.Time{Time: epoch()}, config
	return mutate.ConfigFile(img, file)
}

var (
	envPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*=`)
	portPattern = regexp.MustCompile(`^([1-9][0-9]{0,4})(/(tcp|udp|sctp))?$`)
)

// runtime is the config as a container reads it, checked.
func (c Config) runtime() (v1.Config, error) {
	r := v1.Config{Entrypoint: c.Entrypoint, Cmd: c.Cmd, User: c.User, WorkingDir: c.WorkingDir, Labels: c.Labels}
	if r.User == "" {
		r.User = DefaultUser
	}
	if r.WorkingDir == "" {
		r.WorkingDir = "/"
	}
	if !path.IsAbs(r.WorkingDir) {
		return r, fmt.Errorf("working folder %q is no absolute path", c.WorkingDir)
	}
	r.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, e := range c.Env {
		if !envPattern.MatchString(e) {
			return r, errors.New("an environment variable is not KEY=VALUE") // its value may be private
		}
		if strings.HasPrefix(e, "PATH=") {
			r.Env = r.Env[1:]
		}
		r.Env = append(r.Env, e)
	}
	for _, p := range c.Ports {
		m := portPattern.FindStringSubmatch(p)
		if m == nil {
			return r, fmt.Errorf("port %q is not PORT or PORT/PROTOCOL", p)
		}
		if m[2] == "" {
			p += "/tcp"
		}
		if r.ExposedPorts == nil {
			r.ExposedPorts = map[string]struct{}{}
		}
		r.ExposedPorts[p] = struct{}{}
	}
	return r, nil
}

// staticBinary returns the architecture of a Linux program that needs nothing beside itself.
func staticBinary(file string) (arch string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return "", fmt.Errorf("%s is no Linux program: %w", file, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s is dynamically linked: build it statically (Go: CGO_ENABLED=0), or give a folder that holds its libraries too", file)
		}
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("%s is for the machine %s, which is not known here", file, f.Machine)
}

func epoch() time.Time { return time.Unix(0, 0).UTC() }

// layerWriter writes files in a fixed order with fixed owners and times.
type layerWriter struct{ tar *tar.Writer }

func writeLayer(w io.Writer, entries func(*layerWriter) error) error {
	compressed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	t := tar.NewWriter(compressed)
	if err := entries(&layerWriter{t}); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return compressed.Close()
}

func (l *layerWriter) header(h tar.Header) error {
	h.ModTime, h.Format = epoch(), tar.FormatPAX
	return l.tar.WriteHeader(&h)
}

// binary writes a program and the little that programs expect around them.
func (l *layerWriter) binary(file, program string) error {
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755}, {Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
	} {
		if err := l.header(h); err != nil {
			return err
		}
	}
	if err := l.text("etc/group", "root:x:0:\nnonroot:x:65532:\n"); err != nil {
		return err
	}
	if err := l.text("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"); err != nil {
		return err
	}
	return l.file(file, strings.TrimPrefix(program, "/"), 0o755)
}

// folder writes what is in root, in the order of names.
func (l *layerWriter) folder(ctx context.Context, root string) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return errors.Join(err, ctx.Err())
		}
		relative, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		inside, mode := filepath.ToSlash(relative), permissions(info.Mode())
		switch {
		case d.IsDir():
			return l.header(tar.Header{Typeflag: tar.TypeDir, Name: inside + "/", Mode: mode})
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return l.header(tar.Header{Typeflag: tar.TypeSymlink, Name: inside, Linkname: target, Mode: 0o777})
		case d.Type().IsRegular():
			return l.file(p, inside, mode)
		}
		return fmt.Errorf("%s is neither a file, a folder nor a link: no image can hold it", p)
	})
}

// permissions are the bits of chmod(2), with those above the nine.
func permissions(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, flag := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&flag != 0 {
			mode |= bit
		}
	}
	return mode
}

func (l *layerWriter) text(inside, content string) error {
	if err := l.header(tar.Header{Typeflag: tar.TypeReg, Name: inside, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := io.WriteString(l.tar, content)
	return err
}

func (l *layerWriter) file(file, inside string, mode int64) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := l.header(tar.Header{Typeflag: tar.TypeReg, Name: inside, Mode: mode, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(l.tar, f)
	return err
}
