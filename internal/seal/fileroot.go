package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"lazurite.dev/internal/durable"
)

// ErrExposed says that others than the owner may read the root key file.
var ErrExposed = errors.New("root key file is open to others")

// maxRootFile is more than any keyset of use has.
const maxRootFile = 1 << 20

// FileRoot is a Root whose keys are in a file: a Tink keyset in JSON. The file
// is the one thing that a copy of the database can't be read without.
type FileRoot struct {
	path string

	mu     sync.Mutex // guards what follows
	handle *keyset.Handle
	aead   tink.AEAD
}

var _ Root = (*FileRoot)(nil)

// OpenFileRoot reads the root keys in the file at path, and makes the file, for
// the owner alone, if there is none. ErrExposed says that others may read it.
func OpenFileRoot(path string) (*FileRoot, error) {
	r := &FileRoot{path: path}
	err := r.read()
	if errors.Is(err, fs.ErrNotExist) {
		if err = r.create(); err == nil {
			err = r.read()
		}
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Name implements Root.
func (r *FileRoot) Name() string { return "file" }

// Wrap implements Root. It reads the file first: another process may have added
// a key, and may drop the one before it later on.
func (r *FileRoot) Wrap(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(); err != nil {
		return nil, err
	}
	return r.aead.Encrypt(plaintext, aad)
}

// Unwrap implements Root. It reads the file again if no key fits: another
// process may have added one.
func (r *FileRoot) Unwrap(_ context.Context, ciphertext, aad []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	plain, err := r.aead.Decrypt(ciphertext, aad)
	if err == nil {
		return plain, nil
	}
	if err := r.read(); err != nil {
		return nil, err
	}
	plain, err = r.aead.Decrypt(ciphertext, aad)
	if err != nil {
		return nil, fmt.Errorf("no key in %s fits: %w", r.path, ErrOpen)
	}
	return plain, nil
}

// AddKey adds a root key, which wraps from now on; the earlier ones stay for
// unwrapping. Keyring.RewrapAll, then DropOldKeys, completes a rotation.
func (r *FileRoot) AddKey() error {
	return r.change(func(m *keyset.Manager) error {
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
}

// DropOldKeys removes all root keys but the current one. Data keys that are
// still wrapped by one of them are lost.
func (r *FileRoot) DropOldKeys() error {
	return r.change(func(m *keyset.Manager) error {
		h, err := m.Handle()
		if err != nil {
			return err
		}
		info := h.KeysetInfo()
		for _, key := range info.GetKeyInfo() {
			if id := key.GetKeyId(); id != info.GetPrimaryKeyId() {
				if err := m.Delete(id); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// change replaces the file by one with the keys that fn leaves. What another
// process did to the file is read first.
func (r *FileRoot) change(fn func(*keyset.Manager) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(); err != nil {
		return err
	}
	m := keyset.NewManagerFromHandle(r.handle)
	if err := fn(m); err != nil {
		return fmt.Errorf("change the root keys: %w", err)
	}
	h, err := m.Handle()
	if err != nil {
		return fmt.Errorf("change the root keys: %w", err)
	}
	tmp, err := r.writeBeside(h)
	if err != nil {
		return err
	}
	if err := durable.Rename(tmp, r.path); err != nil {
		return errors.Join(fmt.Errorf("replace the root key file: %w", err), durable.SkipGone(os.Remove(tmp)))
	}
	return r.use(h)
}

// create writes a file with a new key, unless another process was faster.
func (r *FileRoot) create() error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("make a root key: %w", err)
	}
	tmp, err := r.writeBeside(h)
	if err != nil {
		return err
	}
	err = os.Link(tmp, r.path) // unlike a rename it replaces nothing
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err := errors.Join(err, os.Remove(tmp)); err != nil {
		return fmt.Errorf("make the root key file: %w", err)
	}
	return durable.SyncDir(filepath.Dir(r.path))
}

// writeBeside writes the keys to a new file in the same folder.
func (r *FileRoot) writeBeside(h *keyset.Handle) (path string, err error) {
	f, err := os.CreateTemp(filepath.Dir(r.path), filepath.Base(r.path)+".new*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("write the root keys: %w", err)
	}
	err = insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(f))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write the root keys: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// read takes the keys from the file.
func (r *FileRoot) read() error {
	f, err := os.Open(r.path)
	if err != nil {
		return fmt.Errorf("read the root keys: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the root keys: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("read the root keys: %s is not a file", r.path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o; chmod 600 it, and change the keys if somebody may have read them", ErrExposed, r.path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxRootFile))
	if err != nil {
		return fmt.Errorf("read the root keys: %w", err)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return fmt.Errorf("read the root keys: %s is not a Tink keyset", r.path) // the cause could quote it
	}
	return r.use(h)
}

// use makes h the keys in use.
func (r *FileRoot) use(h *keyset.Handle) error {
	a, err := aead.New(h)
	if err != nil {
		return fmt.Errorf("use the root keys in %s: %w", r.path, err)
	}
	r.handle, r.aead = h, a
	return nil
}
