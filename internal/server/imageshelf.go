package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"lazurite.dev/internal/durable"
	"lazurite.dev/internal/image"
	"lazurite.dev/internal/node"
)

// imageShelf keeps archives of images that every cluster gets, those too that
// are made later. DIR/SUM.tar is an archive; DIR/UID/SUM says that a cluster
// has had it, so that an image that was removed there does not come back.
type imageShelf struct {
	dir string
	mu  sync.Mutex // one at a time changes what is in dir
}

// keep puts an archive on the shelf. What has the same images and stood there
// goes. An error that is node.ErrInvalid says why it is no archive.
func (s *imageShelf) keep(archive io.Reader) (names []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(s.dir, ".part-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone when it was renamed
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), archive)
	if err = durable.Finish(f, err); err != nil {
		return nil, err
	}
	if names, err = archiveNames(f.Name()); err != nil {
		return nil, fmt.Errorf("%w: %w", node.ErrInvalid, err)
	}
	file := filepath.Join(s.dir, hex.EncodeToString(sum.Sum(nil))+".tar")
	kept, err := s.archives()
	if err != nil {
		return nil, err
	}
	// It is new to clusters that had the same archive once: they may have removed it.
	marks, err := filepath.Glob(filepath.Join(s.dir, "*", strings.TrimSuffix(filepath.Base(file), ".tar")))
	if err != nil {
		return nil, err
	}
	for _, m := range marks {
		if err := os.Remove(m); err != nil {
			return nil, err
		}
	}
	if err := durable.Rename(f.Name(), file); err != nil {
		return nil, err
	}
	for _, old := range kept {
		has, err := archiveNames(old)
		if old == file || err == nil && slices.ContainsFunc(has, func(n string) bool { return !slices.Contains(names, n) }) {
			continue
		}
		if err := os.Remove(old); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func archiveNames(file string) ([]string, error) {
	a, err := image.Open(file, "")
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), file, "the archive"))
	}
	var names []string
	for _, i := range a.Images {
		names = append(names, i.Names...)
	}
	return names, a.Close()
}

// archives are the archives, the oldest first: of images of one name the last counts.
func (s *imageShelf) archives() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.tar"))
	if err != nil {
		return nil, err
	}
	age := map[string]int64{}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		age[f] = info.ModTime().UnixNano()
	}
	slices.SortFunc(files, func(a, b string) int { return int(min(max(age[a]-age[b], -1), 1)) })
	return files, nil
}

// fill gives the cluster what it has not had.
func (s *imageShelf) fill(ctx context.Context, agent node.Agent, uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.archives()
	if err != nil || len(files) == 0 {
		return err
	}
	had := filepath.Join(s.dir, uid)
	if err := os.MkdirAll(had, 0o700); err != nil {
		return err
	}
	for _, file := range files {
		mark := filepath.Join(had, strings.TrimSuffix(filepath.Base(file), ".tar"))
		if _, err := os.Stat(mark); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := load(ctx, agent, uid, file); err != nil {
			return fmt.Errorf("loading images: %w", err)
		}
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func load(ctx context.Context, agent node.Agent, uid, file string) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = agent.LoadImage(ctx, uid, f)
	return err
}

// forget drops the marks of clusters that are no more.
func (s *imageShelf) forget(there func(uid string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && !there(e.Name()) {
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// joined is Base.Joined: the front door opens in a cluster's network, and the
// cluster gets the images that all have.
func (s *Server) joined(ctx context.Context, uid string) error {
	if err := s.networks.Join(ctx, uid); err != nil {
		return err
	}
	return s.shelf.fill(ctx, s.cfg.Nodes, uid)
}

// loadEverywhere keeps an archive and gives it to the clusters that run.
func (s *Server) loadEverywhere(ctx context.Context, archive io.Reader) (ImageAnswer, error) {
	names, err := s.shelf.keep(archive)
	if err != nil {
		return ImageAnswer{}, err
	}
	a := ImageAnswer{Names: names, Clusters: []string{}}
	all, err := s.cfg.Nodes.Status(ctx)
	if errors.Is(err, node.ErrNoAgent) {
		return a, nil // it is there for the first cluster
	}
	if err != nil {
		return a, err
	}
	if err := s.shelf.forget(func(uid string) bool {
		return slices.ContainsFunc(all, func(c node.ClusterStatus) bool { return c.UID == uid })
	}); err != nil {
		return a, err
	}
	for _, c := range all {
		if !c.Running || c.Applying {
			continue // they get it when they are ready
		}
		if err := s.shelf.fill(ctx, s.cfg.Nodes, c.UID); err != nil {
			return a, fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		a.Clusters = append(a.Clusters, c.Name)
	}
	return a, nil
}
