package seal_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

// newRing gives a keyring on a store and a root of its own.
func newRing(t testing.TB) (*seal.Keyring, store.Store, *seal.FileRoot) {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := seal.OpenFileRoot(filepath.Join(dir, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	return seal.NewKeyring(s, root), s, root
}

func mustSeal(t testing.TB, k *seal.Keyring, scope, text string) []byte {
	t.Helper()
	b, err := k.Seal(t.Context(), scope, []byte(text), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantText(t testing.TB, k *seal.Keyring, scope string, sealed []byte, want string) {
	t.Helper()
	got, err := k.Open(t.Context(), scope, sealed, []byte("aad"))
	if err != nil || string(got) != want {
		t.Errorf("open: %q, %v, want %q", got, err, want)
	}
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestOpen_GivesWhatWasSealed(t *testing.T) {
	k, s, root := newRing(t)
	sealed := mustSeal(t, k, "vault", "secret")
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("the plaintext shows")
	}
	wantText(t, k, "vault", sealed, "secret")
	wantText(t, seal.NewKeyring(s, root), "vault", sealed, "secret")
	if again := mustSeal(t, k, "vault", "secret"); bytes.Equal(again, sealed) {
		t.Error("the same ciphertext twice")
	}
}

func TestOpen_Refuses(t *testing.T) {
	k, _, _ := newRing(t)
	sealed := mustSeal(t, k, "vault", "secret")
	mustSeal(t, k, "other", "secret")
	altered := bytes.Clone(sealed)
	altered[len(altered)-1] ^= 1
	for name, c := range map[string]struct {
		scope  string
		sealed []byte
		aad    string
		want   error
	}{
		"another scope":   {"other", sealed, "aad", seal.ErrOpen},
		"unknown scope":   {"none", sealed, "aad", seal.ErrNoKey},
		"another aad":     {"vault", sealed, "add", seal.ErrOpen},
		"altered":         {"vault", altered, "aad", seal.ErrOpen},
		"cut":             {"vault", sealed[:10], "aad", seal.ErrOpen},
		"empty":           {"vault", nil, "aad", seal.ErrOpen},
		"another key id":  {"vault", append([]byte{1, 0, 0, 0, 9}, sealed[5:]...), "aad", seal.ErrOpen},
		"no scope at all": {"", sealed, "aad", seal.ErrNoKey},
	} {
		_, err := k.Open(t.Context(), c.scope, c.sealed, []byte(c.aad))
		wantErr(t, name, err, c.want)
	}
}

func TestDataKey_IsBoundToItsScope(t *testing.T) {
	k, s, _ := newRing(t)
	mustSeal(t, k, "mine", "x")
	sealed := mustSeal(t, k, "yours", "x")
	d, err := s.Get(t.Context(), "seal/yours")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Destroy(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	d.Key, d.Rev = "seal/mine", 0
	if _, err := s.Put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	_, err = k.Open(t.Context(), "mine", sealed, []byte("aad"))
	wantErr(t, "a key moved from another scope", err, seal.ErrOpen)
}

func TestSeal_FirstUseByManyAtOnce(t *testing.T) {
	k, s, root := newRing(t)
	var wg sync.WaitGroup
	sealed := make([][]byte, 8)
	for i := range sealed {
		wg.Go(func() { sealed[i] = mustSeal(t, seal.NewKeyring(s, root), "vault", "x") })
	}
	wg.Wait()
	for _, b := range sealed {
		wantText(t, k, "vault", b, "x")
	}
}

func TestRotate_OldStaysReadableNewIsKnownElsewhere(t *testing.T) {
	k, s, root := newRing(t)
	wantErr(t, "rotation of none", k.Rotate(t.Context(), "vault"), seal.ErrNoKey)
	before := mustSeal(t, k, "vault", "old")
	elsewhere := seal.NewKeyring(s, root)
	wantText(t, elsewhere, "vault", before, "old")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { wantErr(t, "rotate", k.Rotate(t.Context(), "vault"), nil) })
	}
	wg.Wait()
	after := mustSeal(t, k, "vault", "new")
	if bytes.Equal(before[:5], after[:5]) {
		t.Error("sealed with the same key after the rotation")
	}
	for _, ring := range []*seal.Keyring{k, elsewhere} {
		wantText(t, ring, "vault", before, "old")
		wantText(t, ring, "vault", after, "new")
	}
}

func TestDestroy_NothingOpensAnyMore(t *testing.T) {
	k, s, root := newRing(t)
	sealed := mustSeal(t, k, "vault", "x")
	stale := seal.NewKeyring(s, root)
	wantText(t, stale, "vault", sealed, "x")
	for range 2 {
		wantErr(t, "destroy", k.Destroy(t.Context(), "vault"), nil)
	}
	_, err := k.Open(t.Context(), "vault", sealed, []byte("aad"))
	wantErr(t, "open", err, seal.ErrNoKey)
	anew := mustSeal(t, stale, "vault", "y") // must not use what was destroyed
	wantText(t, k, "vault", anew, "y")
	_, err = k.Open(t.Context(), "vault", sealed, []byte("aad"))
	wantErr(t, "open with the new key", err, seal.ErrOpen)
}

func TestRewrap_RetiresARootKey(t *testing.T) {
	k, s, root := newRing(t)
	a, b := mustSeal(t, k, "a", "1"), mustSeal(t, k, "b", "2")
	path := filepath.Join(t.TempDir(), "other.json")
	other, err := seal.OpenFileRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = seal.NewKeyring(s, other).Open(t.Context(), "a", a, []byte("aad"))
	wantErr(t, "another root", err, seal.ErrOpen)

	wantErr(t, "add", root.AddKey(), nil)
	wantText(t, seal.NewKeyring(s, root), "a", a, "1")
	wantErr(t, "rewrap", k.Rewrap(t.Context(), "a"), nil)
	wantErr(t, "rewrap of none", k.Rewrap(t.Context(), "none"), seal.ErrNoKey)
	n, err := k.RewrapAll(t.Context())
	wantErr(t, "rewrap all", err, nil)
	if n != 2 {
		t.Errorf("rewrapped: %d, want 2", n)
	}
	wantErr(t, "drop", root.DropOldKeys(), nil)
	fresh := seal.NewKeyring(s, root)
	wantText(t, fresh, "a", a, "1")
	wantText(t, fresh, "b", b, "2")
}

// A replica that has not read the file since a key was added must not wrap
// under the key before, which may be dropped.
func TestFileRoot_WrapsUnderAKeyAddedElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.json")
	a, err := seal.OpenFileRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := seal.OpenFileRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "add", a.AddKey(), nil)
	w, err := b.Wrap(t.Context(), []byte("key"), nil)
	wantErr(t, "wrap", err, nil)
	wantErr(t, "drop", a.DropOldKeys(), nil)
	_, err = a.Unwrap(t.Context(), w, nil)
	wantErr(t, "unwrap after the drop", err, nil)
}

func TestFileRoot_SeesKeysAddedElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.json")
	a, err := seal.OpenFileRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := seal.OpenFileRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for range 2 {
		wantErr(t, "add", a.AddKey(), nil)
		wantErr(t, "add", b.AddKey(), nil)
	}
	w, err := b.Wrap(ctx, []byte("key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Unwrap(ctx, w, nil); err != nil || string(got) != "key" {
		t.Errorf("unwrap: %q, %v", got, err)
	}
	_, err = a.Unwrap(ctx, w, []byte("another aad"))
	wantErr(t, "unwrap with another aad", err, seal.ErrOpen)
}

func TestOpenFileRoot_Refuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "root.json")
	if _, err := seal.OpenFileRoot(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left beside it: %v, %v", files, err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := seal.OpenFileRoot(path)
		wantErr(t, mode.String(), err, seal.ErrExposed)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"primaryKeyId":1,"key":[]} secret`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenFileRoot(path); err == nil || bytes.Contains([]byte(err.Error()), []byte("secret")) {
		t.Errorf("a file that is no keyset: %v", err)
	}
	if _, err := seal.OpenFileRoot(dir); err == nil {
		t.Error("a folder was taken")
	}
	if _, err := seal.OpenFileRoot(filepath.Join(dir, "none", "root.json")); err == nil {
		t.Error("a file in no folder was made")
	}
}

func TestOpenFileRoot_ManyAtOnceAgree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.json")
	var wg sync.WaitGroup
	roots := make([]*seal.FileRoot, 8)
	for i := range roots {
		wg.Go(func() {
			var err error
			if roots[i], err = seal.OpenFileRoot(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w, err := roots[0].Wrap(t.Context(), []byte("key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roots {
		if got, err := r.Unwrap(t.Context(), w, nil); err != nil || string(got) != "key" {
			t.Errorf("unwrap: %q, %v", got, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, _, _ := newRing(f)
	f.Add(mustSeal(f, k, "vault", "x"), []byte("aad"))
	f.Add([]byte{1, 0, 0, 0, 0}, []byte(nil))
	f.Fuzz(func(t *testing.T, sealed, aad []byte) {
		plain, err := k.Open(t.Context(), "vault", sealed, aad)
		if err == nil && (string(plain) != "x" || string(aad) != "aad") {
			t.Errorf("opened %q with %q", plain, aad)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	k, _, _ := newRing(b)
	sealed := mustSeal(b, k, "vault", "a secret of some length, as they are")
	for b.Loop() {
		if _, err := k.Open(b.Context(), "vault", sealed, []byte("aad")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	k, _, _ := newRing(b)
	for b.Loop() {
		mustSeal(b, k, "vault", "a secret of some length, as they are")
	}
}
