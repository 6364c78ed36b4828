package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// iniFile is a configuration file as Python's configparser writes it: az's
// config and clouds.config. Comments are not kept by a change.
type iniFile struct {
	path     string
	sections []iniSection
}

type iniSection struct {
	name string
	keys []string
	vals map[string]string
}

// readINI reads path; a file that isn't there is empty.
func readINI(path string) (*iniFile, error) {
	f := &iniFile{path: path}
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	f.parse(string(b))
	return f, nil
}

// parse reads text; lines that are no section, key or comment are skipped.
func (f *iniFile) parse(text string) {
	section := ""
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
			f.section(section, true)
		default:
			i := strings.IndexAny(line, "=:")
			if i > 0 && section != "" {
				f.set(section, strings.ToLower(strings.TrimSpace(line[:i])), strings.TrimSpace(line[i+1:]))
			}
		}
	}
}

func (f *iniFile) section(name string, add bool) *iniSection {
	for i := range f.sections {
		if f.sections[i].name == name {
			return &f.sections[i]
		}
	}
	if !add {
		return nil
	}
	f.sections = append(f.sections, iniSection{name: name, vals: map[string]string{}})
	return &f.sections[len(f.sections)-1]
}

func (f *iniFile) get(section, key string) string {
	if s := f.section(section, false); s != nil {
		return s.vals[key]
	}
	return ""
}

func (f *iniFile) set(section, key, value string) {
	s := f.section(section, true)
	if _, ok := s.vals[key]; !ok {
		s.keys = append(s.keys, key)
	}
	s.vals[key] = value
}

// unset removes a key, and reports whether it was there.
func (f *iniFile) unset(section, key string) bool {
	s := f.section(section, false)
	if s == nil {
		return false
	}
	_, ok := s.vals[key]
	delete(s.vals, key)
	for i, k := range s.keys {
		if k == key {
			s.keys = append(s.keys[:i:i], s.keys[i+1:]...)
			break
		}
	}
	return ok
}

func (f *iniFile) removeSection(name string) bool {
	for i := range f.sections {
		if f.sections[i].name == name {
			f.sections = append(f.sections[:i:i], f.sections[i+1:]...)
			return true
		}
	}
	return false
}

func (f *iniFile) save() error {
	var b strings.Builder
	for _, s := range f.sections {
		if len(s.keys) == 0 {
			continue
		}
		fmt.Fprintf(&b, "[%s]\n", s.name)
		for _, k := range s.keys {
			fmt.Fprintf(&b, "%s = %s\n", k, oneLine(s.vals[k]))
		}
		b.WriteByte('\n')
	}
	return writePrivate(f.path, []byte(b.String()))
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

// writePrivate replaces path by a file that only the user can read, making
// its folder where needed.
func writePrivate(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the configuration folder: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(b)
	// Synced first, so that after a power cut, too, path holds the old or the new.
	if err = errors.Join(err, keepOwner(f, path), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says more
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// keepOwner gives f, in its folder, the owner of the file that it replaces: with sudo
// that may be another one than ours. What is written is a secret, and so whoever only
// put a file in a folder of others, as in /tmp, is not given it.
func keepOwner(f *os.File, path string) error {
	uid, gid, ok := ownerOf(path)
	if !ok || uid == 0 || os.Geteuid() != 0 {
		return nil
	}
	folder, _, ok := ownerOf(filepath.Dir(path))
	if ok && folder == uid || os.Getenv("SUDO_UID") == strconv.FormatUint(uint64(uid), 10) {
		return f.Chown(int(uid), int(gid))
	}
	return nil
}

func ownerOf(path string) (uid, gid uint32, ok bool) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, 0, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return st.Uid, st.Gid, true
}
