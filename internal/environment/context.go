package environment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"lazurite.dev/internal/image"
)

// Limits of what a Dockerfile copies.
const (
	maxCopied      = 10_000
	maxCopiedBytes = 2 << 30
)

// building is an image in the making: the base's configuration, changed line by
// line, and what is laid upon it.
type building struct {
	*resolving
	files    fs.FS
	config   v1.Config
	base     string // its name
	packages *manifest
	differ   []Difference
	entries  []image.Entry
	bytes    int64
	made     hash.Hash // of all that counts
}

// context makes the image of a build context and returns its name, and what it
// lacks of what would be installed. Nothing runs
// while it is made: what would be installed is compared with what the base has.
// A base of a registry is pulled once it is known, without the turn, and the
// context copied again.
func (r *resolving) context(ctx context.Context, b Build) (name string, differ []Difference, err error) {
	if r.built.Folder == "" {
		return "", nil, r.refuse("images are not built from a Dockerfile here")
	}
	name, differ, err = r.copied(ctx, b)
	away, ok := errors.AsType[*awayError](err)
	if !ok {
		return name, differ, err
	}
	h, _, ok, err := r.atHand(ctx, away.image)
	if err != nil {
		return "", nil, err
	}
	if !ok {
		return "", nil, r.notAtHand(away.image)
	}
	r.bases = map[string]held{away.from: h}
	if name, differ, err = r.copied(ctx, b); err == nil {
		return name, differ, nil
	}
	if away, ok = errors.AsType[*awayError](err); ok {
		return "", nil, r.refuse("FROM became %s while the image was pulled that it named before: the build context changes", away.from)
	}
	return "", nil, err
}

// awayError says that what FROM names may be in a registry of this cloud.
type awayError struct{ from, image string }

// Error implements error.
func (e *awayError) Error() string { return e.image + " is yet to be pulled" }

func (r *resolving) notAtHand(image string) error {
	return r.refuse("the image %s of FROM is not at hand: images are built here upon those in environments.archives and in container registries of this cloud alone", image)
}

// copied makes the image of a build context that is copied here for that.
func (r *resolving) copied(ctx context.Context, b Build) (name string, differ []Difference, err error) {
	give, err := r.built.take(ctx)
	if err != nil {
		return "", nil, err
	}
	defer give()
	files, done, err := r.built.fetched(ctx, b)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	file := b.Dockerfile
	if file == "" {
		file = "Dockerfile"
	}
	return r.follow(ctx, files, path.Clean(file))
}

// follow does what the Dockerfile says.
func (r *resolving) follow(ctx context.Context, files fs.FS, file string) (string, []Difference, error) {
	text, err := readBounded(files, file, maxDockerfile)
	if err != nil {
		return "", nil, r.refuse("the Dockerfile can't be read: %s", err)
	}
	d, err := ParseDockerfile(string(text))
	if err != nil {
		return "", nil, r.refuse("%s", err)
	}
	if _, err := fs.Stat(files, ".dockerignore"); err == nil {
		return "", nil, r.refuse("the build context has a .dockerignore, which is not read here: leave out what is not to be copied")
	}
	base, err := r.base(d.From)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = base.archive.Close() }()
	config, err := base.image.Config()
	if err != nil {
		return "", nil, err
	}
	g := &building{resolving: r, files: files, config: config, base: d.From, packages: base.packages, made: sha256.New()}
	_, _ = fmt.Fprintf(g.made, "%s\n%s\n", base.image.Digest, text)
	for _, i := range d.Instructions {
		r.say("Line %d: %s %s", i.Line, i.Name, strings.Join(i.Args, " "))
		if err := g.instruction(i); err != nil {
			var failed *BuildError
			if errors.As(err, &failed) {
				return "", nil, err
			}
			return "", nil, r.refuse("the Dockerfile, line %d: %s", i.Line, err)
		}
	}
	name, err := g.finish(ctx, base)
	return name, g.differ, err
}

type baseImage struct {
	archive  *image.Archive
	image    image.Image
	packages *manifest
	size     int64
}

// base opens the image that FROM names, or the one that the table has for it. Its
// error is an *awayError where it may have to be pulled.
func (r *resolving) base(from string) (baseImage, error) {
	if ownName(from) {
		return baseImage{}, r.refuse("%s of FROM is a name of images that were built here, which no Dockerfile asks for", from)
	}
	if h, ok := r.bases[from]; ok {
		return h.open()
	}
	name := r.image(from)
	h, _, ok := r.archived(name)
	switch {
	case ok:
		return h.open()
	case r.pull == nil:
		return baseImage{}, r.notAtHand(name)
	}
	return baseImage{}, &awayError{from, name}
}

// open opens the archive that has the image.
func (h held) open() (baseImage, error) {
	info, err := os.Stat(h.file)
	if err != nil {
		return baseImage{}, err
	}
	a, err := image.Open(h.file, "")
	if err != nil {
		return baseImage{}, err
	}
	for _, i := range a.Images {
		if i.Digest == h.digest {
			return baseImage{a, i, h.packages, info.Size()}, nil
		}
	}
	return baseImage{}, errors.Join(fmt.Errorf("%s changed while it was read", h.file), a.Close())
}

func (g *building) instruction(i Instruction) error {
	c := &g.config
	switch i.Name {
	case "ENV":
		for _, p := range i.Pairs {
			g.set(p[0], p[1])
		}
	case "LABEL":
		labels := map[string]string{}
		for k, v := range c.Labels {
			labels[k] = v
		}
		for _, p := range i.Pairs {
			if p[0] == PackagesLabel {
				return fmt.Errorf("the label %s says what the base has, and can't be changed by a Dockerfile", PackagesLabel)
			}
			labels[p[0]] = p[1]
		}
		c.Labels = labels
	case "WORKDIR":
		c.WorkingDir = g.absolute(i.Args[0])
		g.entries = append(g.entries, image.Entry{Path: c.WorkingDir, Folder: true})
		if c.WorkingDir == "/" {
			g.entries = g.entries[:len(g.entries)-1]
		}
	case "USER":
		c.User = i.Args[0]
	case "EXPOSE":
		return g.expose(i.Args)
	case "ENTRYPOINT":
		c.Entrypoint, c.Cmd = i.command(), nil
	case "CMD":
		c.Cmd = i.command()
	case "COPY", "ADD":
		return g.copy(i)
	case "RUN":
		return g.run(i)
	}
	return nil
}

// command is what the exec form says, or a shell's call.
func (i Instruction) command() []string {
	if i.Exec {
		return i.Args
	}
	return []string{"/bin/sh", "-c", i.Args[0]}
}

func (g *building) set(name, value string) {
	env := make([]string, 0, len(g.config.Env)+1)
	for _, e := range g.config.Env {
		if !strings.HasPrefix(e, name+"=") {
			env = append(env, e)
		}
	}
	g.config.Env = append(env, name+"="+value)
}

func (g *building) expose(ports []string) error {
	exposed := map[string]struct{}{}
	for p := range g.config.ExposedPorts {
		exposed[p] = struct{}{}
	}
	for _, p := range ports {
		number, protocol, _ := strings.Cut(p, "/")
		if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("EXPOSE %s is no port", p)
		}
		if protocol == "" {
			protocol = "tcp"
		}
		exposed[number+"/"+protocol] = struct{}{}
	}
	g.config.ExposedPorts = exposed
	return nil
}

func (g *building) absolute(p string) string {
	if !path.IsAbs(p) {
		p = path.Join("/", g.config.WorkingDir, p)
	}
	return path.Clean(p)
}

// copy lays files of the context upon the base.
func (g *building) copy(i Instruction) error {
	uid, gid, err := owner(i.Flags["chown"])
	if err != nil {
		return err
	}
	var mode int64
	if m := i.Flags["chmod"]; m != "" {
		if mode, err = strconv.ParseInt(m, 8, 32); err != nil || mode < 0 || mode > 0o7777 {
			return fmt.Errorf("--chmod=%s is no mode in octal", m)
		}
	}
	sources, to := i.Args[:len(i.Args)-1], i.Args[len(i.Args)-1]
	into := strings.HasSuffix(to, "/") || to == "."
	var found []string
	for _, s := range sources {
		if i.Name == "ADD" && (strings.Contains(s, "://") || strings.HasPrefix(s, "git@") || packed(s)) {
			return fmt.Errorf("ADD %s: nothing is fetched or unpacked here; COPY files", s)
		}
		inside := strings.TrimPrefix(path.Clean("/"+s), "/") // never above the context
		if inside == "" {
			inside = "."
		}
		matches, err := fs.Glob(g.files, inside)
		if err != nil || len(matches) == 0 {
			return fmt.Errorf("%s is not in the build context", s)
		}
		found = append(found, matches...)
	}
	if len(found) > 1 && !into {
		return fmt.Errorf("more than one file goes into a folder: let %s end in /", to)
	}
	for _, f := range found {
		if err := g.lay(f, g.absolute(to), into, image.Entry{Mode: mode, UID: uid, GID: gid}); err != nil {
			return err
		}
	}
	return nil
}

func packed(name string) bool {
	for _, end := range []string{".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".tbz2", ".tar.zst"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// owner reads UID[:GID]; names are those of the image's files, which are not read.
func owner(text string) (uid, gid int, err error) {
	if text == "" || text == "root" || text == "root:root" {
		return 0, 0, nil
	}
	user, group, given := strings.Cut(text, ":")
	if !given {
		group = user
	}
	u, err1 := strconv.ParseUint(user, 10, 31)
	w, err2 := strconv.ParseUint(group, 10, 31)
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("--chown=%s: only numbers are known here, and root", text)
	}
	return int(u), int(w), nil
}

// lay adds a file, or what is in a folder, under to.
func (g *building) lay(from, to string, into bool, like image.Entry) error {
	info, err := fs.Stat(g.files, from)
	if err != nil {
		return err
	}
	if !info.IsDir() && into {
		to = path.Join(to, path.Base(from))
	}
	return fs.WalkDir(g.files, from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e := like
		e.Path = path.Clean(to + "/" + strings.TrimPrefix(strings.TrimPrefix(p, from), "/"))
		if from == "." {
			e.Path = path.Join(to, p)
		}
		if e.Path == "/" {
			return nil
		}
		if d.IsDir() {
			e.Folder, e.Mode = true, 0
			g.entries = append(g.entries, e)
			return g.count(p, e, nil)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no file", p)
		}
		if e.Mode == 0 && info.Mode()&0o111 != 0 {
			e.Mode = 0o755
		}
		e.Size, e.Open = info.Size(), func() (io.ReadCloser, error) { return g.files.Open(p) }
		g.entries = append(g.entries, e)
		return g.count(p, e, e.Open)
	})
}

// count keeps the limits, and makes what is copied part of the image's name.
func (g *building) count(p string, e image.Entry, open func() (io.ReadCloser, error)) (err error) {
	if g.bytes += e.Size; len(g.entries) > maxCopied || g.bytes > maxCopiedBytes {
		return fmt.Errorf("it copies more than %d files or %d bytes", maxCopied, int64(maxCopiedBytes))
	}
	_, _ = fmt.Fprintf(g.made, "%q %q %o %d %d %d\n", p, e.Path, e.Mode, e.UID, e.GID, e.Size)
	if open == nil {
		return nil
	}
	f, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(g.made, io.LimitReader(f, e.Size+1))
	return err
}

// finish makes the image, unless it is there.
func (g *building) finish(ctx context.Context, base baseImage) (string, error) {
	name := builtName + hex.EncodeToString(g.made.Sum(nil))[:32]
	g.claim(name)
	if _, ok, _ := g.archives.find(name); ok {
		g.say("The image %s was built before.", name)
		return name, nil
	}
	config := g.config
	err := g.write(ctx, base, written{name: name, bytes: g.bytes, change: image.Change{Entries: g.entries, Config: func(c *v1.Config) { *c = config }, Comment: "Dockerfile"}})
	if err == nil {
		g.say("Built %s: %d files and folders, %d bytes.", name, len(g.entries), g.bytes)
	}
	return name, err
}

// full is the end of a build that there is no room for, by what images may have
// or on the disk; other errors are as they were.
func (r *resolving) full(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		err = fmt.Errorf("the disk of this machine on which images are kept is full: make room there, or delete deployments whose environments were built here: %w", errFull)
	case !errors.Is(err, errFull):
		return err
	}
	r.say("ERROR: %s", err)
	return &BuildError{Message: err.Error(), Log: r.log.String(), Full: true}
}

// written is an image that is to be written.
type written struct {
	name   string
	bytes  int64 // of what is laid upon the base
	change image.Change
}

// write makes an image of a base. The turn is held.
func (r *resolving) write(ctx context.Context, base baseImage, w written) error {
	w.change.Name, w.change.Layer = w.name, filepath.Join(r.built.Folder, buildingPrefix+"layer.tar.gz")
	return r.store(ctx, w.name, base.size+2*w.bytes, func(ctx context.Context, out io.Writer) error { // the layer is written by itself first
		if err := base.image.Extend(ctx, w.change, out); err != nil {
			return fmt.Errorf("build an image: %w", err)
		}
		return nil
	})
}

func readBounded(files fs.FS, name string, most int64) (content []byte, err error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	content, err = io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return content, err
}
