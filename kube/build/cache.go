package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// cache is a folder: parts/MODULE-KEY, one folder KEY per distribution whose
// files are links to those of its parts, the link current, and lock.
type cache struct{ dir string }

// kept is how many older distributions, and parts of one module, stay: who
// goes back to another branch need not build again.
const kept = 3

func (c cache) isCurrent(key string) bool {
	target, err := os.Readlink(filepath.Join(c.dir, "current"))
	if err != nil || target != key {
		return false
	}
	_, err = os.Stat(filepath.Join(c.dir, key, "versions.json"))
	return err == nil
}

// lock waits until no other build uses the cache.
func (c cache) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Join(c.dir, "parts"), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		if !said {
			fmt.Fprintln(os.Stderr, "kube: another build is going on; waiting for it")
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(time.Second):
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func (c cache) part(p part) string { return filepath.Join(c.dir, "parts", p.module+"-"+p.key) }

func (c cache) hasPart(p part) bool {
	_, err := os.Stat(c.part(p))
	return err == nil
}

// makePart lets build fill a folder, which becomes the part when all of it is there.
func (c cache) makePart(p part, build func(dir string) error) error {
	unfinished := c.part(p) + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return err
	}
	if err := build(unfinished); err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	if err := os.RemoveAll(c.part(p)); err != nil {
		return err
	}
	return os.Rename(unfinished, c.part(p))
}

// assemble links the parts into one distribution and makes that the current one.
func (c cache) assemble(all []part, key string, force bool) error {
	unfinished, whole := filepath.Join(c.dir, key+".unfinished"), filepath.Join(c.dir, key)
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	names := map[string]string{}
	for _, p := range all {
		if err := link(c.part(p), unfinished); err != nil {
			return err
		}
		for name, version := range p.versions {
			names[name] = version
		}
	}
	text, err := json.MarshalIndent(names, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(unfinished, "versions.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if _, err := os.Stat(whole); err != nil || force {
		if err := os.RemoveAll(whole); err != nil {
			return err
		}
		if err := os.Rename(unfinished, whole); err != nil {
			return err
		}
	} else if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := c.point(key); err != nil {
		return err
	}
	return c.prune(all, key)
}

// point makes current the link to key in one step.
func (c cache) point(key string) error {
	link := filepath.Join(c.dir, "current.new")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(key, link); err != nil {
		return err
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(c.dir, key), now, now); err != nil { // the newest stays longest
		return err
	}
	return os.Rename(link, filepath.Join(c.dir, "current"))
}

// link makes to a tree whose files are those of from.
func link(from, to string) error {
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, relative), 0o755)
		}
		return os.Link(file, filepath.Join(to, relative))
	})
}

// prune takes away what has not been current for long.
func (c cache) prune(all []part, key string) error {
	groups := []string{"????????????????"}
	for _, p := range all {
		groups = append(groups, "parts/"+p.module+"-????????????????")
	}
	for i, pattern := range groups {
		found, err := filepath.Glob(filepath.Join(c.dir, pattern))
		if err != nil {
			return err
		}
		slices.SortFunc(found, func(a, b string) int { return changed(b).Compare(changed(a)) })
		for n, old := range found {
			inUse := filepath.Base(old) == key || i > 0 && old == c.part(all[i-1])
			if n < kept || inUse {
				continue
			}
			if err := os.RemoveAll(old); err != nil {
				return err
			}
		}
	}
	return nil
}

func changed(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
