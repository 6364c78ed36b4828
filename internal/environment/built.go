package environment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Built is where images that were made of build contexts are kept. The zero
// Built keeps none, and contexts are refused.
type Built struct {
	Folder string // "": none
	Most   int64  // bytes of all of them together; 0 is 20 GiB

	// Used are the names of images that something runs, or is to run; those of
	// Folder that it does not name are removed when Keep has passed since they
	// were last asked for. nil: all are used.
	Used func(ctx context.Context) ([]string, error)
	Keep time.Duration // 0 is an hour: the time between the end of a build and a rollout that is written down
}

const (
	builtBytes = 20 << 30
	builtKeep  = time.Hour
	maxPulls   = 2 // at once

	contextPrefix  = ".context-"  // a context that is copied
	buildingPrefix = ".building-" // what is not whole
	builtName      = ours + "environments/built:"
)

// shelf is Built with what is known of it.
type shelf struct {
	Built
	turn  chan struct{} // one builds at a time: each copies and writes gigabytes
	pulls chan struct{} // who has an image of a registry opened, which is hundreds of files, and reads it

	mu     sync.Mutex // guards what follows
	asked  map[string]time.Time
	claims map[string]int           // by name: how many environments that are being resolved need it
	busy   map[string]chan struct{} // by name: closed when who makes it is done
	spools int64                    // bytes that builds may write before they are images
}

func newShelf(b Built) *shelf {
	if b.Most == 0 {
		b.Most = builtBytes
	}
	if b.Keep == 0 {
		b.Keep = builtKeep
	}
	return &shelf{Built: b, turn: make(chan struct{}, 1), pulls: make(chan struct{}, maxPulls), asked: map[string]time.Time{}, claims: map[string]int{}, busy: map[string]chan struct{}{}}
}

// take waits for the turn to build.
func (s *shelf) take(ctx context.Context) (give func(), err error) { return enter(ctx, s.turn) }

// pulling waits until another image of a registry may be read. The turn is not held.
func (s *shelf) pulling(ctx context.Context) (give func(), err error) { return enter(ctx, s.pulls) }

func enter(ctx context.Context, places chan struct{}) (leave func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// alone waits until nobody else makes the image of that name.
func (s *shelf) alone(ctx context.Context, name string) (give func(), err error) {
	for {
		s.mu.Lock()
		other, is := s.busy[name]
		if !is {
			done := make(chan struct{})
			s.busy[name] = done
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.busy, name)
				close(done)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fetched copies a context into a folder of its own; done removes it. The turn is held.
func (s *shelf) fetched(ctx context.Context, b Build) (files fs.FS, done func() error, err error) {
	if err := os.MkdirAll(s.Folder, 0o700); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(s.Folder, contextPrefix)
	if err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	done = func() error { return errors.Join(root.Close(), os.RemoveAll(dir)) }
	if err := b.Fetch(ctx, root); err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return root.FS(), done, nil
}

// file is where the image of a name is kept.
func (s *shelf) file(name string) string {
	return filepath.Join(s.Folder, strings.TrimPrefix(name, builtName)+".tar")
}

// claim keeps the image, and what it is built upon, until it is released.
func (s *shelf) claim(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims[name]++
}

// release ends claims: from now on the images were asked for lately.
func (s *shelf) release(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if s.claims[name]--; s.claims[name] == 0 {
			delete(s.claims, name)
		}
		s.asked[name] = time.Now()
	}
}

// discard removes an image unless it is wanted, or was in the last Keep. Who
// claims it finds it whole afterwards, or not at all.
func (s *shelf) discard(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lately(name) {
		return nil
	}
	return os.RemoveAll(s.file(name))
}

// lately reports whether an image is wanted, or was in the last Keep. mu is held.
func (s *shelf) lately(name string) bool {
	if s.claims[name] > 0 {
		return true
	}
	at, ok := s.asked[name]
	if ok && time.Since(at) >= s.Keep {
		delete(s.asked, name)
		ok = false
	}
	return ok
}

// errFull says that there is no room for another image.
var errFull = errors.New("there is no room")

// room is nil where so many bytes more may be kept, once what nothing uses has
// gone. The turn is held.
func (s *shelf) room(ctx context.Context, more int64) error {
	sum, err := s.size()
	if err != nil || sum+more <= s.Most {
		return err
	}
	if err := s.collect(ctx, false); err != nil {
		return err
	}
	if sum, err = s.size(); err == nil && sum+more > s.Most {
		spools := s.spooled()
		err = fmt.Errorf("the images that are built here may have %d bytes together, those that are used have %d, builds that go on may take %d, and this one takes up to %d. Delete deployments whose environments were built here, or try again once other builds have ended: %w",
			s.Most, sum-spools, spools, more, errFull)
	}
	return err
}

// reserve keeps room for what a build may hand out before it is an image: those
// bytes have no name in the folder. shrink says how many there are in the end,
// free that they are gone.
func (s *shelf) reserve(ctx context.Context, most int64) (shrink func(to int64), free func(), err error) {
	give, err := s.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer give()
	if err := s.room(ctx, most); err != nil {
		return nil, nil, err
	}
	holds := int64(0)
	shrink = func(to int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.spools += to - holds
		holds = to
	}
	shrink(most)
	return shrink, func() { shrink(0) }, nil
}

// left is how many bytes more may be kept once what nothing uses has gone.
func (s *shelf) left(ctx context.Context) (int64, error) {
	give, err := s.take(ctx)
	if err != nil {
		return 0, err
	}
	defer give()
	if err := s.collect(ctx, false); err != nil {
		return 0, err
	}
	sum, err := s.size()
	return max(0, s.Most-sum), err
}

func (s *shelf) spooled() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spools
}

// size is what is kept, and what builds that go on may add to it.
func (s *shelf) size() (sum int64, err error) {
	entries, err := os.ReadDir(s.Folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	return sum + s.spooled(), nil
}

// collect removes images that nothing uses and, where no build goes on, what
// those that ended in the middle left. The turn is held.
func (s *shelf) collect(ctx context.Context, leftovers bool) error {
	entries, err := os.ReadDir(s.Folder)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	used := map[string]bool{}
	if s.Used != nil {
		names, err := s.Used(ctx)
		if err != nil {
			return fmt.Errorf("which built images are used: %w", err)
		}
		for _, n := range names {
			used[n] = true
		}
	}
	var errs []error
	for _, e := range entries {
		tag, whole := strings.CutSuffix(e.Name(), ".tar")
		name := builtName + tag
		switch {
		case leftovers && (strings.HasPrefix(e.Name(), contextPrefix) || strings.HasPrefix(e.Name(), buildingPrefix)):
			errs = append(errs, os.RemoveAll(filepath.Join(s.Folder, e.Name())))
		case whole && e.Type().IsRegular() && s.Used != nil && !used[name]:
			errs = append(errs, s.discard(name))
		}
	}
	return errors.Join(errs...)
}

// Collect removes what builds that ended in the middle left, and images built
// here that nothing uses any more.
func (c *Catalogue) Collect(ctx context.Context) error {
	if c.built.Folder == "" {
		return nil
	}
	give, err := c.built.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	return c.built.collect(ctx, true)
}
