// Package seal encrypts what is kept at rest: each scope (a vault, say) has a
// data key of its own, stored wrapped by a root key, which is in a file or in
// a KMS. Without the data key what was sealed is gone: see Keyring.Destroy.
//
// Data keys are Tink keysets of AES-256-GCM keys; what is sealed has Tink's
// format (prefix 0x01, key id, nonce, ciphertext, tag), so that its tools can
// read it.
package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"lazurite.dev/internal/store"
)

var (
	// ErrNoKey says that the scope has no data key: nothing was sealed in it,
	// or it was destroyed.
	ErrNoKey = errors.New("no data key")
	// ErrOpen says that the ciphertext is not one of this scope and this
	// associated data, or was altered.
	ErrOpen = errors.New("sealed value can't be opened")
)

// Root wraps data keys; a KMS or a file holds the root key. Its methods may be
// called at the same time.
type Root interface {
	// Wrap encrypts a data key, bound to aad.
	Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error)
	// Unwrap is the reverse, also under earlier root keys.
	Unwrap(ctx context.Context, ciphertext, aad []byte) ([]byte, error)
	// Name says which root it is, for messages.
	Name() string
}

const (
	prefix  = "seal/"   // of the documents
	kind    = "dataKey" // of them
	retries = 10        // of a change that others made at the same time

	// lease is how long a replica opens with a data key without asking
	// whether it still is: the bound on Destroy and Rotate elsewhere.
	lease = time.Second
)

// Keyring seals and opens with the data keys in a store. It keeps those in use
// in memory.
type Keyring struct {
	s    store.Store
	root Root

	mu     sync.RWMutex // guards cached
	cached map[string]*dataKey
}

// dataKey is a data key in use; only checked ever changes.
type dataKey struct {
	rev     int64 // of its document
	aead    tink.AEAD
	ids     map[uint32]bool // of its keys
	checked time.Time       // when rev was the stored one; guarded by Keyring.mu
}

// wrapped is the stored document.
type wrapped struct {
	Root string `json:"root"` // Name of the root that wrapped it
	Key  []byte `json:"key"`
}

// NewKeyring gives the keyring of the data keys that s has, wrapped by root.
func NewKeyring(s store.Store, root Root) *Keyring {
	return &Keyring{s: s, root: root, cached: map[string]*dataKey{}}
}

// Seal encrypts plaintext under the scope's data key, which the first Seal
// makes, and binds it to aad: Open needs the same.
func (k *Keyring) Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error) {
	// Always asks the store: what were sealed with a key that another replica
	// has destroyed and made anew would be lost.
	d, err := k.load(ctx, scope)
	if errors.Is(err, ErrNoKey) {
		if err = k.create(ctx, scope); err == nil {
			d, err = k.load(ctx, scope)
		}
	}
	if err != nil {
		return nil, err
	}
	sealed, err := d.aead.Encrypt(plaintext, aad)
	if err != nil {
		return nil, fmt.Errorf("seal in %s: %w", scope, err)
	}
	return sealed, nil
}

// Open decrypts what Seal made. Errors: ErrOpen, ErrNoKey, and those of the
// store and the root.
func (k *Keyring) Open(ctx context.Context, scope string, ciphertext, aad []byte) ([]byte, error) {
	d, ok := k.fresh(scope)
	if !ok || !d.knows(ciphertext) {
		var err error
		if d, err = k.load(ctx, scope); err != nil {
			return nil, err
		}
	}
	plain, err := d.aead.Decrypt(ciphertext, aad)
	if err != nil {
		return nil, fmt.Errorf("%w: scope %s", ErrOpen, scope) // Tink's own error says no more
	}
	return plain, nil
}

// Rotate gives the scope a new data key for what is sealed from now on; the
// earlier ones stay for opening. ErrNoKey if there is none yet.
func (k *Keyring) Rotate(ctx context.Context, scope string) error {
	return k.change(ctx, scope, func(h *keyset.Handle) (*keyset.Handle, error) {
		m := keyset.NewManagerFromHandle(h)
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return nil, err
		}
		if err := m.SetPrimary(id); err != nil {
			return nil, err
		}
		return m.Handle()
	})
}

// Rewrap wraps the scope's data key again, under the root's current key.
// ErrNoKey if there is none.
func (k *Keyring) Rewrap(ctx context.Context, scope string) error {
	return k.change(ctx, scope, func(h *keyset.Handle) (*keyset.Handle, error) { return h, nil })
}

// RewrapAll wraps every data key again, and says how many there are; then the
// root's earlier keys are not needed any more.
func (k *Keyring) RewrapAll(ctx context.Context) (int, error) {
	n := 0
	err := store.All(ctx, k.s, store.Query{Prefix: prefix}, func(d store.Doc) error {
		err := k.Rewrap(ctx, d.Key[len(prefix):])
		if errors.Is(err, ErrNoKey) { // destroyed in between
			return nil
		}
		n++
		return err
	})
	return n, err
}

// Destroy deletes the scope's data key: nothing that was sealed in the scope
// can be opened any more, here at once, in other replicas within a second. A
// scope without a key is no error.
func (k *Keyring) Destroy(ctx context.Context, scope string) error {
	defer k.forget(scope)
	if err := k.s.Delete(ctx, prefix+scope, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("destroy the data key of %s: %w", scope, err)
	}
	return nil
}

// fresh is the cached data key, if it needn't be checked.
func (k *Keyring) fresh(scope string) (*dataKey, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	d, ok := k.cached[scope]
	return d, ok && time.Since(d.checked) < lease
}

func (k *Keyring) forget(scope string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.cached, scope)
}

// load is the stored data key. It asks the store, and the root only about a
// document that it doesn't know.
func (k *Keyring) load(ctx context.Context, scope string) (*dataKey, error) {
	asked := time.Now()
	doc, err := k.s.Get(ctx, prefix+scope)
	if errors.Is(err, store.ErrNotFound) {
		k.forget(scope)
		return nil, fmt.Errorf("%w: scope %s", ErrNoKey, scope)
	}
	if err != nil {
		return nil, fmt.Errorf("load the data key of %s: %w", scope, err)
	}
	k.mu.Lock()
	if d := k.cached[scope]; d != nil && d.rev == doc.Rev {
		d.checked = asked
		k.mu.Unlock()
		return d, nil
	}
	k.mu.Unlock()

	h, err := k.unwrap(ctx, scope, doc)
	if err != nil {
		return nil, err
	}
	d := &dataKey{rev: doc.Rev, ids: map[uint32]bool{}, checked: asked}
	if d.aead, err = aead.New(h); err != nil {
		return nil, fmt.Errorf("use the data key of %s: %w", scope, err)
	}
	for _, info := range h.KeysetInfo().GetKeyInfo() {
		d.ids[info.GetKeyId()] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.cached[scope]; old == nil || old.rev < d.rev {
		k.cached[scope] = d
	}
	return d, nil
}

// knows says whether the ciphertext names one of the keys, in Tink's format.
func (d *dataKey) knows(ciphertext []byte) bool {
	return len(ciphertext) >= 5 && ciphertext[0] == 1 && d.ids[binary.BigEndian.Uint32(ciphertext[1:])]
}

// create makes the scope's data key, unless somebody was faster.
func (k *Keyring) create(ctx context.Context, scope string) error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("make a data key: %w", err)
	}
	if err := k.put(ctx, scope, 0, h); err != nil && !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// change replaces the data key by what fn makes of it.
func (k *Keyring) change(ctx context.Context, scope string, fn func(*keyset.Handle) (*keyset.Handle, error)) error {
	for try := 0; ; try++ {
		doc, err := k.s.Get(ctx, prefix+scope)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: scope %s", ErrNoKey, scope)
		}
		if err != nil {
			return fmt.Errorf("load the data key of %s: %w", scope, err)
		}
		h, err := k.unwrap(ctx, scope, doc)
		if err != nil {
			return err
		}
		if h, err = fn(h); err != nil {
			return fmt.Errorf("change the data key of %s: %w", scope, err)
		}
		err = k.put(ctx, scope, doc.Rev, h)
		if err == nil {
			k.forget(scope)
			return nil
		}
		if !errors.Is(err, store.ErrConflict) || try == retries {
			return err
		}
	}
}

// aad binds a wrapped data key to its scope.
func aad(scope string) []byte { return []byte("lazurite data key " + scope) }

func (k *Keyring) unwrap(ctx context.Context, scope string, doc store.Doc) (*keyset.Handle, error) {
	var w wrapped
	if err := json.Unmarshal(doc.Value, &w); err != nil {
		return nil, fmt.Errorf("decode the data key of %s: %w", scope, err)
	}
	plain, err := k.root.Unwrap(ctx, w.Key, aad(scope))
	if err != nil {
		return nil, fmt.Errorf("unwrap the data key of %s, which root %q wrapped, with root %q: %w", scope, w.Root, k.root.Name(), err)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(plain)))
	if err != nil {
		return nil, fmt.Errorf("decode the data key of %s: %w", scope, err)
	}
	return h, nil
}

func (k *Keyring) put(ctx context.Context, scope string, rev int64, h *keyset.Handle) error {
	var plain bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&plain)); err != nil {
		return fmt.Errorf("encode the data key of %s: %w", scope, err)
	}
	key, err := k.root.Wrap(ctx, plain.Bytes(), aad(scope))
	if err != nil {
		return fmt.Errorf("wrap the data key of %s with root %q: %w", scope, k.root.Name(), err)
	}
	if _, err := store.PutJSON(ctx, k.s, prefix+scope, kind, rev, wrapped{k.root.Name(), key}); err != nil {
		return fmt.Errorf("store the data key of %s: %w", scope, err)
	}
	return nil
}
