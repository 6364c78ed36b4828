package kube

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/durable"
	"lazurite.dev/internal/image"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
)

// Where a node's tree has archives of images.
const (
	viewShipped = "/run/lazurite/images/shipped" // the distribution's
	viewLoaded  = "/run/lazurite/images/loaded"  // the cluster's own
)

const (
	maxArchive  = 8 << 30  // bytes of one archive
	maxArchives = 64 << 30 // bytes of all that a cluster keeps
)

// imagesFolder has the archives that were loaded, for nodes that come later.
func (c *Cluster) imagesFolder() string { return filepath.Join(c.cfg.Dir, "images") }

// importAll puts the distribution's and the cluster's archives into the
// node's store, those that are not there yet.
func (c *Cluster) importAll(ctx context.Context, name string, space *box.Space) error {
	c.images.Lock() // what is loaded meanwhile comes after it to this node too
	defer c.images.Unlock()
	if err := c.importMissing(ctx, name, space); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores[name] = space
	return nil
}

func (c *Cluster) importMissing(ctx context.Context, name string, space *box.Space) error {
	done, err := c.imported(name)
	if err != nil {
		return err
	}
	var todo []string
	for view, dir := range map[string]string{viewShipped: filepath.Join(c.cfg.Dist, "images"), viewLoaded: c.imagesFolder()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			path, stamp := filepath.Join(view, e.Name()), stampOf(filepath.Join(dir, e.Name()))
			if strings.HasSuffix(path, ".tar") && done[path] != stamp {
				todo, done[path] = append(todo, path), stamp
			}
		}
	}
	if len(todo) == 0 {
		return nil
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, path := range todo {
		g.Go(func() error { return importArchive(gctx, space, path) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	k, err := c.kept()
	if err != nil {
		return err
	}
	for _, n := range k.Removed {
		if err := removeImage(ctx, space, n); err != nil {
			return err
		}
	}
	return c.writeImported(name, done)
}

// imported is what has been put into a node's store: by the archive's path in
// the node's tree a stamp of the file.
func (c *Cluster) imported(name string) (map[string]string, error) {
	done := map[string]string{}
	return done, jsonFile(c.nodeFolder(name, "imported.json"), &done)
}

func (c *Cluster) writeImported(name string, done map[string]string) error {
	raw, err := json.Marshal(done)
	if err != nil {
		return err
	}
	_, err = updateFile(c.nodeFolder(name, "imported.json"), raw, owner{})
	return err
}

// record notes that a loaded archive is in the node's store.
func (c *Cluster) record(name, file string) error {
	done, err := c.imported(name)
	if err != nil {
		return err
	}
	done[filepath.Join(viewLoaded, file)] = stampOf(filepath.Join(c.imagesFolder(), file))
	return c.writeImported(name, done)
}

// stampOf changes when the file is another one; it is "" when there is none.
func stampOf(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return strconv.FormatInt(fi.Size(), 10) + " " + strconv.FormatInt(fi.ModTime().UnixNano(), 10)
}

// importArchive puts an archive, as the node sees it, into its store. The
// images are pinned: nobody could bring them back if they were collected.
func importArchive(ctx context.Context, space *box.Space, path string) error {
	if _, err := ctr(ctx, space, "images", "import", "--label", "io.cri-containerd.pinned=pinned", path); err != nil {
		return fmt.Errorf("importing %s: %w", filepath.Base(path), err)
	}
	return nil
}

func ctr(ctx context.Context, space *box.Space, args ...string) ([]byte, error) {
	return space.Output(ctx, nil, ViewBin+"/ctr", append([]string{"--address", containerdSock, "--namespace", "k8s.io"}, args...)...)
}

// LoadImage puts an archive into the store of every node, and keeps it for
// nodes that come later. It returns the names of the images.
func (c *Cluster) LoadImage(ctx context.Context, archive io.Reader) ([]string, error) {
	c.images.Lock()
	defer c.images.Unlock()
	file, names, err := c.keep(archive)
	if err != nil {
		return nil, fmt.Errorf("keeping the archive: %w", err)
	}
	path := filepath.Join(c.imagesFolder(), file)
	for node, space := range c.imageStores() {
		if err := importArchive(ctx, space, filepath.Join(viewLoaded, file)); err != nil {
			return nil, errors.Join(fmt.Errorf("node %s: %w", node, err), os.Remove(path))
		}
		if err := c.record(node, file); err != nil {
			return nil, err
		}
	}
	kept, err := c.kept()
	if err != nil {
		return nil, err
	}
	kept.Archives[file] = names
	kept.Removed = slices.DeleteFunc(kept.Removed, func(n string) bool { return slices.Contains(names, n) })
	return names, c.writeKept(kept)
}

// kept says what is in the folder of archives.
type kept struct {
	Archives map[string][]string // file → names of its images
	Removed  []string            // names that are to be on no node any more
}

func (c *Cluster) keptFile() string { return filepath.Join(c.imagesFolder(), "kept.json") }

func (c *Cluster) kept() (kept, error) {
	k := kept{Archives: map[string][]string{}}
	return k, jsonFile(c.keptFile(), &k)
}

func (c *Cluster) writeKept(k kept) error {
	raw, err := json.Marshal(k)
	if err != nil {
		return err
	}
	_, err = updateFile(c.keptFile(), raw, owner{})
	return err
}

// RemoveImage takes the image called name off all nodes, and its archive out
// of what is kept once all images of that are removed.
func (c *Cluster) RemoveImage(ctx context.Context, name string) error {
	c.images.Lock()
	defer c.images.Unlock()
	for node, space := range c.imageStores() {
		if err := removeImage(ctx, space, name); err != nil {
			return fmt.Errorf("node %s: %w", node, err)
		}
	}
	k, err := c.kept()
	if err != nil {
		return err
	}
	if !slices.Contains(k.Removed, name) {
		k.Removed = append(k.Removed, name)
	}
	for file, names := range k.Archives {
		if slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(k.Removed, n) }) {
			continue
		}
		if err := os.Remove(filepath.Join(c.imagesFolder(), file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		delete(k.Archives, file)
	}
	return c.writeKept(k)
}

func removeImage(ctx context.Context, space *box.Space, name string) error {
	_, err := ctr(ctx, space, "images", "rm", "--sync", name)
	if err != nil && strings.Contains(err.Error(), "not found") {
		return nil
	}
	return err
}

// imageStores are the nodes whose stores have all that they should have.
func (c *Cluster) imageStores() map[string]*box.Space {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.stores)
}

// keep writes the archive to the cluster's folder, under the name of its
// content, and returns that and the names of the images, if it holds some.
func (c *Cluster) keep(archive io.Reader) (file string, names []string, err error) {
	dir := c.imagesFolder()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	there, err := folderSize(dir)
	if err != nil {
		return "", nil, err
	}
	f, err := os.CreateTemp(dir, "*.part")
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone when it was renamed
	limit := min(maxArchive, maxArchives-there)
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(archive, limit+1))
	if err = durable.Finish(f, err); err != nil {
		return "", nil, err
	}
	if n > limit {
		return "", nil, fmt.Errorf("%w: it has more than %d MiB, or all together more than %d", node.ErrInvalid, maxArchive>>20, maxArchives>>20)
	}
	if names, err = imageNames(f.Name()); err != nil {
		return "", nil, fmt.Errorf("%w: %w", node.ErrInvalid, err)
	}
	file = hex.EncodeToString(sum.Sum(nil)) + ".tar"
	return file, names, durable.Rename(f.Name(), filepath.Join(dir, file))
}

// imageNames reads the names of an archive's images, as containerd calls them.
func imageNames(path string) ([]string, error) {
	archive, err := image.Open(path, "")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range archive.Images {
		for _, n := range i.Names {
			names = append(names, fullName(n))
		}
	}
	return names, archive.Close()
}

// fullName is what containerd calls an image: names without a registry are
// Docker Hub's.
func fullName(name string) string {
	first, rest, found := strings.Cut(name, "/")
	switch {
	case !found:
		name = "docker.io/library/" + name
	case first == "index.docker.io":
		name = "docker.io/" + rest
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		name = "docker.io/" + name
	}
	if i := strings.LastIndexByte(name, '/'); !strings.ContainsAny(name[i:], ":@") {
		name += ":latest"
	}
	return name
}

func folderSize(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	var n int64
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			n += fi.Size()
		}
	}
	return n, err
}

// Images are those in the stores of the nodes.
func (c *Cluster) Images(ctx context.Context) ([]node.Image, error) {
	byDigest := map[string]*node.Image{}
	for name, space := range c.imageStores() {
		out, err := ctr(ctx, space, "images", "ls")
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", name, err)
		}
		for _, i := range parseImages(out) {
			have := byDigest[i.Digest]
			if have == nil {
				have = &i
				byDigest[i.Digest] = have
			}
			for _, n := range i.Names {
				if !slices.Contains(have.Names, n) {
					have.Names = append(have.Names, n)
				}
			}
			if !slices.Contains(have.Nodes, name) {
				have.Nodes = append(have.Nodes, name)
			}
		}
	}
	all := make([]node.Image, 0, len(byDigest))
	for _, i := range byDigest {
		slices.Sort(i.Names)
		slices.Sort(i.Nodes)
		all = append(all, *i)
	}
	slices.SortFunc(all, func(a, b node.Image) int {
		return strings.Compare(strings.Join(a.Names, " "), strings.Join(b.Names, " "))
	})
	return all, nil
}

// parseImages reads the table of `ctr images ls`: REF TYPE DIGEST SIZE UNIT ….
// Names that are only digests are left out.
func parseImages(out []byte) []node.Image {
	var all []node.Image
	for line := range bytes.Lines(out) {
		f := strings.Fields(string(line))
		if len(f) < 5 || !strings.HasPrefix(f[2], "sha256:") || strings.HasPrefix(f[0], "sha256:") {
			continue
		}
		i := node.Image{Names: []string{f[0]}, Digest: f[2]}
		if n, err := strconv.ParseFloat(f[3], 64); err == nil {
			unit := map[string]float64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[f[4]]
			i.Size = int64(n * unit)
		}
		all = append(all, i)
	}
	return all
}
