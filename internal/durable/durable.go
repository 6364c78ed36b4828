// Package durable keeps files so that what is there when a function returns is
// there after the machine has lost its power, too: a file is, once its content
// and the folder with its name are synced.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// MakeDir makes a folder below root, with mode 0700, and syncs those above it up
// to root.
func MakeDir(root, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	for d := dir; len(d) > len(root); {
		d = filepath.Dir(d)
		if err := SyncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync a folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync a folder: %w", err)
	}
	return nil
}

// Finish makes a new file durable and closes it. Where err, of writing it, is
// not nil, or it cannot be made so, the file is gone and err returned.
func Finish(w *os.File, err error) error {
	if err == nil {
		err = w.Sync()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = SyncDir(filepath.Dir(w.Name()))
	}
	if err != nil {
		_ = os.Remove(w.Name())
		return fmt.Errorf("write a file: %w", err)
	}
	return nil
}

// Rename gives a finished file another name, which replaces what had it. Where it
// fails, what had the name has it still; or where only its sync fails, the new one
// has it, and may lose it again with the machine's power. A caller that can't tell
// finds out by reading, or does it again.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("rename a file: %w", err)
	}
	return SyncDir(filepath.Dir(to))
}

// Replace puts what write writes at path, readable by its owner alone where write
// says nothing else. A reader and a power cut find what was there, or all of the
// new, and nothing else is left. Where it fails, path is as it was, but for a sync
// of the folder that fails, as with Rename.
func Replace(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write a file: %w", err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write a file: %w", err), os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// WriteFile is Replace with content, and mode, whatever the umask is.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	return Replace(path, func(f *os.File) error {
		_, err := f.Write(content)
		return errors.Join(err, f.Chmod(mode))
	})
}

// SkipGone is err, but nil where it says that a file is not there.
func SkipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveOlder calls goes for each file below dir that was not written since
// limit, and removes it where that says so. Others may do the same meanwhile.
func RemoveOlder(dir string, limit time.Time, goes func(path string) bool) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return SkipGone(err)
		}
		info, err := d.Info()
		if err != nil || info.ModTime().After(limit) || !goes(path) {
			return SkipGone(err)
		}
		return SkipGone(os.Remove(path))
	})
}
