package distribution

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/durable"
)

// How long what nothing needs is kept.
const (
	keepLink   = 24 * time.Hour     // a blob that no manifest of its repository has
	keepFile   = time.Hour          // a file that no repository has
	keepUpload = 7 * 24 * time.Hour // an upload that nobody goes on with
)

// Collect removes what nothing needs: blobs without a manifest, uploads that
// were given up, and what deleted registries left.
func (p *Plane) Collect(ctx context.Context) error {
	if p.Dir == "" {
		return nil
	}
	dirs, err := os.ReadDir(p.Dir)
	if err != nil {
		return durable.SkipGone(err)
	}
	uids, err := p.Registries.UIDs(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range dirs {
		if !uploadRule.MatchString(d.Name()) { // registries' ids have the form of uploads'
			continue
		}
		if slices.Contains(uids, d.Name()) {
			errs = append(errs, p.collect(ctx, d.Name()))
		} else {
			errs = append(errs, os.RemoveAll(filepath.Join(p.Dir, d.Name())))
		}
	}
	return errors.Join(errs...)
}

func (p *Plane) collect(ctx context.Context, uid string) error {
	if err := p.dropLinks(ctx, uid); err != nil {
		return fmt.Errorf("collect in registry %s: %w", uid, err)
	}
	if err := p.dropFiles(ctx, uid); err != nil {
		return fmt.Errorf("collect in registry %s: %w", uid, err)
	}
	return p.dropUploads(uid)
}

// dropLinks removes blobs from repositories none of whose manifests has them.
func (p *Plane) dropLinks(ctx context.Context, uid string) error {
	unlock, err := p.files.lock(uid, true)
	if err != nil {
		return err
	}
	defer unlock()
	x, needed := p.index(uid), map[string]bool{}
	err = each(ctx, x, maniKeys, "", func(rest string, m manifestDoc) (bool, error) {
		repo, _, _ := strings.Cut(rest, ":")
		for _, b := range m.Blobs {
			needed[repo+":"+b] = true
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	old := p.Now().Add(-keepLink)
	return each(ctx, x, linkKeys, "", func(rest string, l linkDoc) (bool, error) {
		if needed[rest] || l.Created.After(old) {
			return true, nil
		}
		return true, x.remove(ctx, linkKeys+rest)
	})
}

// dropFiles removes blobs that no repository has.
func (p *Plane) dropFiles(ctx context.Context, uid string) error {
	unlock, err := p.files.lock(uid, true)
	if err != nil {
		return err
	}
	defer unlock()
	linked := map[string]bool{}
	err = each(ctx, p.index(uid), linkKeys, "", func(rest string, _ linkDoc) (bool, error) {
		_, d, _ := strings.Cut(rest, ":")
		linked[d] = true
		return true, nil
	})
	if err != nil {
		return err
	}
	return durable.RemoveOlder(filepath.Join(p.files.registry(uid), "blobs"), p.Now().Add(-keepFile), func(path string) bool {
		return !linked[filepath.Base(filepath.Dir(filepath.Dir(path)))+":"+filepath.Base(path)]
	})
}

func (p *Plane) dropUploads(uid string) error {
	return durable.RemoveOlder(filepath.Join(p.files.registry(uid), "uploads"), p.Now().Add(-keepUpload), func(string) bool { return true })
}
