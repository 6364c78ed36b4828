package distribution

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
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/durable"
)

var (
	errNoUpload = errors.New("no such upload")
	errBusy     = errors.New("another request is writing the upload")
	errOrder    = errors.New("the chunk does not begin where the upload ends")
	errDigest   = errors.New("the content has another digest")
)

// files are the blobs of all registries, and uploads under way:
//
//	UID/blobs/ALG/HH/HEX
//	UID/uploads/HASH-OF-REPOSITORY/UPLOAD
//	UID/lock
//
// The size of an upload's file is how far it is: what was acknowledged is
// synced, and what came after it does no harm.
type files struct {
	dir string

	mu     sync.Mutex // guards hashes
	hashes map[string]*running
}

// running is the SHA-256 of the first n bytes of an upload.
type running struct {
	hash hash.Hash
	n    int64
}

const maxRunning = 10000

func (f *files) take(path string) *running {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.hashes[path]
	delete(f.hashes, path)
	return r
}

func (f *files) keep(path string, r *running) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hashes == nil || len(f.hashes) >= maxRunning {
		f.hashes = map[string]*running{}
	}
	f.hashes[path] = r
}

func (f *files) registry(uid string) string { return filepath.Join(f.dir, uid) }

func (f *files) blob(uid string, d digest) string {
	return filepath.Join(f.dir, uid, "blobs", d.alg, d.hex[:2], d.hex)
}

// upload is the path of an upload; id has been checked.
func (f *files) upload(uid, repo, id string) string {
	sum := sha256.Sum256([]byte(repo))
	return filepath.Join(f.dir, uid, "uploads", hex.EncodeToString(sum[:16]), id)
}

// lock keeps others from the registry's links and blobs: shared for who adds
// some, exclusive for who takes some away.
func (f *files) lock(uid string, exclusive bool) (unlock func(), err error) {
	if err := durable.MakeDir(f.dir, f.registry(uid)); err != nil {
		return nil, err
	}
	l, err := os.OpenFile(filepath.Join(f.registry(uid), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock a registry: %w", err)
	}
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	if err := flock(l, how); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("lock a registry: %w", err)
	}
	return func() { _ = l.Close() }, nil // which unlocks
}

func flock(l *os.File, how int) error {
	for {
		err := syscall.Flock(int(l.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// start begins an upload.
func (f *files) start(uid, repo string) (string, error) {
	id := uuid.NewString()
	path := f.upload(uid, repo, id)
	if err := durable.MakeDir(f.dir, filepath.Dir(path)); err != nil {
		return "", err
	}
	u, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("begin an upload: %w", err)
	}
	if err := u.Close(); err != nil {
		return "", fmt.Errorf("begin an upload: %w", err)
	}
	f.keep(path, &running{hash: sha256.New()})
	return id, durable.SyncDir(filepath.Dir(path))
}

// size is how far an upload is.
func (f *files) size(uid, repo, id string) (int64, error) {
	if !uploadRule.MatchString(id) {
		return 0, errNoUpload
	}
	info, err := os.Stat(f.upload(uid, repo, id))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errNoUpload
	}
	if err != nil {
		return 0, fmt.Errorf("look at an upload: %w", err)
	}
	return info.Size(), nil
}

// hold opens an upload for one request alone.
func (f *files) hold(uid, repo, id string) (*os.File, error) {
	if !uploadRule.MatchString(id) {
		return nil, errNoUpload
	}
	u, err := os.OpenFile(f.upload(uid, repo, id), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoUpload
	}
	if err != nil {
		return nil, fmt.Errorf("open an upload: %w", err)
	}
	if err := flock(u, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = u.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errBusy
		}
		return nil, fmt.Errorf("lock an upload: %w", err)
	}
	if _, err := os.Stat(u.Name()); err != nil { // it ended in between
		_ = u.Close()
		return nil, errNoUpload
	}
	return u, nil
}

// add appends body to an upload and says how far it is then; at ≥ 0 is where
// the body must begin.
func (f *files) add(u *os.File, body io.Reader, at int64) (int64, error) {
	size, err := u.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("write an upload: %w", err)
	}
	if at >= 0 && at != size {
		return size, errOrder
	}
	var to io.Writer = u
	r := f.take(u.Name())
	if r != nil && r.n == size {
		to = io.MultiWriter(u, r.hash)
	} else {
		r = nil
	}
	n, err := io.CopyBuffer(to, struct{ io.Reader }{body}, make([]byte, 256<<10))
	if serr := u.Sync(); err == nil && serr != nil {
		err = serr
	}
	if err != nil {
		return size + n, fmt.Errorf("write an upload: %w", err)
	}
	if r != nil {
		r.n += n
		f.keep(u.Name(), r)
	}
	return size + n, nil
}

// sum is the digest of an upload by the algorithm of want.
func (f *files) sum(ctx context.Context, u *os.File, alg string) (digest, error) {
	info, err := u.Stat()
	if err != nil {
		return digest{}, fmt.Errorf("read an upload: %w", err)
	}
	if r := f.take(u.Name()); r != nil && r.n == info.Size() && alg == "sha256" {
		return digest{alg, hex.EncodeToString(r.hash.Sum(nil))}, nil
	}
	h := newHash(alg)
	from := io.NewSectionReader(u, 0, info.Size())
	for {
		n, err := io.CopyN(h, from, 16<<20)
		if n == 0 && errors.Is(err, io.EOF) {
			return digest{alg, hex.EncodeToString(h.Sum(nil))}, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return digest{}, fmt.Errorf("read an upload: %w", err)
		}
		if ctx.Err() != nil {
			return digest{}, ctx.Err()
		}
	}
}

// finish makes an upload the blob with the digest, and gives its size; link is
// called once it is there and before anything can be removed. An upload that is
// not what the digest says is gone.
func (f *files) finish(ctx context.Context, uid string, u *os.File, want digest, link func(size int64) error) error {
	got, err := f.sum(ctx, u, want.alg)
	if err != nil {
		return err
	}
	if got != want {
		_ = os.Remove(u.Name())
		return fmt.Errorf("%w: %s", errDigest, got)
	}
	info, err := u.Stat()
	if err != nil {
		return fmt.Errorf("finish an upload: %w", err)
	}
	now := time.Now()
	if err := errors.Join(u.Sync(), os.Chtimes(u.Name(), now, now)); err != nil {
		return fmt.Errorf("finish an upload: %w", err)
	}
	path := f.blob(uid, want)
	if err := durable.MakeDir(f.dir, filepath.Dir(path)); err != nil {
		return err
	}
	unlock, err := f.lock(uid, false)
	if err != nil {
		return err
	}
	defer unlock()
	if err := durable.Rename(u.Name(), path); err != nil {
		return fmt.Errorf("finish an upload: %w", err)
	}
	return link(info.Size())
}

// cancel removes an upload.
func (f *files) cancel(u *os.File) error {
	f.take(u.Name())
	if err := os.Remove(u.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cancel an upload: %w", err)
	}
	return nil
}

// open opens a blob.
func (f *files) open(uid string, d digest) (*os.File, error) { return os.Open(f.blob(uid, d)) }

// has reports whether a blob is there.
func (f *files) has(uid string, d digest) bool {
	_, err := os.Stat(f.blob(uid, d))
	return err == nil
}

// used is how many bytes the blobs of a registry have.
func (f *files) used(uid string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(filepath.Join(f.registry(uid), "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return durable.SkipGone(err)
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return durable.SkipGone(err)
	})
	return sum, err
}
