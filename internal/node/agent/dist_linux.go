package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// distribution is a folder that `make kube` made.
type distribution struct {
	dir      string
	versions map[string]string
}

var errNoDistribution = errors.New("there is no distribution of Kubernetes on this machine: build it with `make kube`, and start again with `sudo laz up`")

// errNotCopied says that there is one now, which was not there at the start.
var errNotCopied = errors.New("the distribution of Kubernetes was built after the node agent started, in a folder that not only root can write to: take it over with `laz down` and `sudo laz up`")

// findDistribution looks in the folders, the best first. What root runs must
// be root's: from a folder that others can write to, everything is copied into
// the folder store, when the agent starts and only then. So whoever can write
// there changes nothing that runs as root until somebody says `sudo laz up`
// again.
func findDistribution(folders []string, store string, copying bool) (distribution, error) {
	for _, dir := range folders {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		versions, err := readVersions(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return distribution{}, err
		}
		safe, err := rootsAlone(dir)
		if err != nil {
			return distribution{}, err
		}
		if safe {
			return distribution{dir, versions}, nil
		}
		if !copying {
			return distribution{}, fmt.Errorf("%w (%s)", errNotCopied, dir)
		}
		return mirror(dir, store)
	}
	return distribution{}, errNoDistribution
}

func readVersions(dir string) (map[string]string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "versions.json"))
	if err != nil {
		return nil, err
	}
	var v map[string]string
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("reading the versions of the distribution in %s: %w", dir, err)
	}
	return v, nil
}

// rootsAlone reports whether nobody but root can change anything in dir or put
// another folder in its place.
func rootsAlone(dir string) (bool, error) {
	for up := filepath.Dir(dir); ; up = filepath.Dir(up) {
		fi, err := os.Stat(up)
		if err != nil {
			return false, err
		}
		// In a sticky folder of root's, such as /tmp, nobody replaces what is root's.
		if st, ok := fi.Sys().(*syscall.Stat_t); !rootsOwn(fi) && (!ok || st.Uid != 0 || fi.Mode()&os.ModeSticky == 0) {
			return false, nil
		}
		if up == filepath.Dir(up) {
			break
		}
	}
	safe := true
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil && d.Type()&fs.ModeSymlink == 0 && !rootsOwn(fi) {
			safe = false
			return fs.SkipAll
		}
		return err
	})
	return safe, err
}

// rootsOwn reports whether root alone can write it.
func rootsOwn(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && fi.Mode().Perm()&0o022 == 0
}

// mirror copies dir into a folder of store, named for what is in it, if it is
// not there yet. Only plain files, folders and links within are taken.
func mirror(dir, store string) (distribution, error) {
	from, err := os.OpenRoot(dir) // nothing outside of it is read through a link
	if err != nil {
		return distribution{}, err
	}
	defer from.Close()
	key, err := keyOf(from.FS())
	if err != nil {
		return distribution{}, fmt.Errorf("reading the distribution in %s: %w", dir, err)
	}
	own := filepath.Join(store, key)
	if !whole(from.FS(), own) {
		tmp := own + ".new"
		if err := errors.Join(os.RemoveAll(own), os.RemoveAll(tmp), os.MkdirAll(tmp, 0o755)); err != nil {
			return distribution{}, err
		}
		err := copyTree(from, tmp)
		if err == nil {
			err = os.Rename(tmp, own)
		}
		if err != nil {
			return distribution{}, errors.Join(fmt.Errorf("copying the distribution in %s: %w", dir, err), os.RemoveAll(tmp))
		}
	}
	versions, err := readVersions(own)
	return distribution{own, versions}, err
}

// whole reports whether every file of a tree is in the copy, with its size. The
// copy is not waited for on its way to the disk: a power cut leaves shorter files.
func whole(tree fs.FS, own string) bool {
	return fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		have, err := os.Lstat(filepath.Join(own, path))
		if err == nil && have.Size() != fi.Size() {
			err = io.ErrUnexpectedEOF
		}
		return err
	}) == nil
}

// dropCopies removes all copies but the one in use.
func dropCopies(store, used string) error {
	entries, err := os.ReadDir(store)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if dir := filepath.Join(store, e.Name()); dir != used {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// keyOf names what is in a tree by names, sizes and times.
func keyOf(tree fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			fmt.Fprintf(h, "%q %d %d\n", path, fi.Size(), fi.ModTime().UnixNano())
		}
		return err
	})
	return hex.EncodeToString(h.Sum(nil)[:8]), err
}

func copyTree(from *os.Root, to string) error {
	return fs.WalkDir(from.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		to := filepath.Join(to, path)
		switch {
		case d.IsDir():
			return os.Mkdir(to, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := from.Readlink(path)
			if err != nil {
				return err
			}
			if filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(path), target)) {
				return fmt.Errorf("%s leads out of it", path)
			}
			return os.Symlink(target, to)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is no plain file", path)
		}
		return copyFile(from, path, to)
	})
}

func copyFile(from *os.Root, path, to string) error {
	in, err := from.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if fi.Mode()&0o111 != 0 {
		mode = 0o755
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
