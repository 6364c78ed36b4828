package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/store"
)

// followed is what a Follow in progress was given.
type followed struct {
	mu      sync.Mutex // guards changes
	changes []store.Change
	idles   atomic.Int64
	done    chan error // its result
	stop    func()
}

// follow starts a Follow and waits until it has caught up.
func follow(t *testing.T, s store.Store, prefix string, seq int64) *followed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &followed{done: make(chan error, 1), stop: cancel}
	go func() {
		f.done <- s.Follow(ctx, prefix, seq, func(c store.Change) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.changes = append(f.changes, c)
			return nil
		}, func() { f.idles.Add(1) })
	}()
	eventually(t, "first confirmation", func() bool { return f.idles.Load() > 0 })
	return f
}

func (f *followed) list() []store.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.changes)
}

// seen is the changes as key=value, or -key.
func (f *followed) seen() []string {
	var list []string
	for _, c := range f.list() {
		if c.Deleted {
			list = append(list, "-"+c.Doc.Key)
		} else {
			list = append(list, c.Doc.Key+"="+string(c.Doc.Value))
		}
	}
	return list
}

func followsLocally(t *testing.T, s store.Store) {
	rev := put(t, s, "p/a", "0", 0)
	f := follow(t, s, "p/", rev)
	var want []string
	for i := 1; i < 20; i++ {
		rev = put(t, s, "p/a", fmt.Sprint(i), rev)
		put(t, s, fmt.Sprint("other", i), "", 0)
		want = append(want, fmt.Sprint("p/a=", i))
		if diff := cmp.Diff(want, f.seen()); diff != "" {
			t.Fatalf("after the write: %s", diff)
		}
	}
	wantErr(t, "delete", s.Delete(t.Context(), "p/a", 0), nil)
	last := f.list()[len(want)]
	if diff := cmp.Diff(store.Change{Seq: last.Seq, Doc: store.Doc{Key: "p/a", Kind: "kind"}, Deleted: true}, last); diff != "" {
		t.Errorf("deletion: %s", diff)
	}
	if now, err := s.Now(t.Context()); err != nil || now != last.Seq {
		t.Errorf("now %d, %v; the last change is %d", now, err, last.Seq)
	}
	f.stop()
	wantErr(t, "follow", <-f.done, context.Canceled)
	put(t, s, "p/b", "nobody listens", 0)
}

func followsFromEarlier(t *testing.T, s store.Store) {
	rev := put(t, s, "a", "1", 0)
	from := put(t, s, "b", "1", 0)
	rev = put(t, s, "a", "2", rev)
	put(t, s, "a", "3", rev)
	put(t, s, "c", "1", 0)
	f := follow(t, s, "", from)
	if diff := cmp.Diff([]string{"a=2", "a=3", "c=1"}, f.seen()); diff != "" {
		t.Errorf("history: %s", diff)
	}
	for _, c := range f.list() {
		if c.Seq != c.Doc.Rev || c.Doc.Kind != "kind" {
			t.Errorf("change %+v", c)
		}
	}
	put(t, s, "d", "1", 0)
	if diff := cmp.Diff([]string{"a=2", "a=3", "c=1", "d=1"}, f.seen()); diff != "" {
		t.Errorf("and on: %s", diff)
	}
}

func followOrder(t *testing.T, s store.Store) {
	var all []*followed
	for range 3 {
		all = append(all, follow(t, s, "", 0))
	}
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				put(t, s, fmt.Sprintf("%d/%d", w, i), "", 0)
			}
		})
	}
	wg.Wait()
	for _, f := range append(all, follow(t, s, "", 0)) {
		got := f.list()
		if len(got) != writers*each {
			t.Fatalf("%d changes, want %d", len(got), writers*each)
		}
		for i, c := range got {
			if i > 0 && c.Seq != got[i-1].Seq+1 {
				t.Fatalf("change %d after %d", c.Seq, got[i-1].Seq)
			}
		}
	}
}

func followEnds(t *testing.T, s store.Store) {
	stop := errors.New("enough")
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		done <- s.Follow(t.Context(), "", 0, func(store.Change) error { return stop }, sync.OnceFunc(func() { close(ready) }))
	}()
	<-ready
	put(t, s, "a", "", 0)
	wantErr(t, "follow", <-done, stop)
	put(t, s, "b", "", 0)
}

func followIdles(t *testing.T, s store.Store) {
	f := follow(t, s, "", 0)
	begin, n := time.Now(), f.idles.Load()
	eventually(t, "six confirmations", func() bool { return f.idles.Load() >= n+6 })
	if d := time.Since(begin); d > 4*time.Second { // 6 × 250 ms, and a busy machine
		t.Errorf("six confirmations took %v", d)
	}
}

func erases(t *testing.T, s store.Store) {
	rev := put(t, s, "a", "secret", 0)
	put(t, s, "a", "secret too", rev)
	put(t, s, "b", "stays", 0)
	wantErr(t, "delete", s.Delete(t.Context(), "a", 0), nil)
	put(t, s, "a", "new", 0)
	if diff := cmp.Diff([]string{"b=stays", "-a", "a=new"}, follow(t, s, "", 0).seen()); diff != "" {
		t.Errorf("history: %s", diff)
	}
}

func decodeText(d store.Doc) (string, error) {
	if strings.HasPrefix(string(d.Value), "bad") {
		return "", errors.New("it is bad")
	}
	return string(d.Value), nil
}

func mirrors(t *testing.T, s store.Store) {
	rev := put(t, s, "m/a", "1", 0)
	put(t, s, "other", "1", 0)
	m, err := store.NewMirror(t.Context(), s, "m/", decodeText, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var hooked []string // written before Put returns, so no lock
	m.OnChange(func(c store.Change) { hooked = append(hooked, fmt.Sprint(c.Doc.Key, " ", c.Deleted)) })
	if v, ok := m.Get("m/a"); !ok || v != "1" {
		t.Errorf("loaded %q, %v", v, ok)
	}
	put(t, s, "m/a", "2", rev)
	put(t, s, "m/b", "3", 0)
	got := map[string]string{}
	m.Range(func(k, v string) bool { got[k] = v; return true })
	if diff := cmp.Diff(map[string]string{"m/a": "2", "m/b": "3"}, got); diff != "" {
		t.Errorf("after writes: %s", diff)
	}
	wantErr(t, "delete", s.Delete(t.Context(), "m/a", 0), nil)
	if v, ok := m.Get("m/a"); ok {
		t.Errorf("after the deletion: %q", v)
	}
	if diff := cmp.Diff([]string{"m/a false", "m/b false", "m/a true"}, hooked); diff != "" {
		t.Errorf("hooks: %s", diff)
	}
	wantErr(t, "fresh", m.Fresh(), nil)
	m.Close()
	wantErr(t, "fresh after close", m.Fresh(), store.ErrStale)
}

func mirrorsBad(t *testing.T, s store.Store) {
	rev := put(t, s, "m/a", "bad", 0)
	if _, err := store.NewMirror(t.Context(), s, "m/", decodeText, time.Minute); err == nil || !strings.Contains(err.Error(), "it is bad") {
		t.Errorf("load of a bad document: %v", err)
	}
	rev = put(t, s, "m/a", "good", rev)
	m, err := store.NewMirror(t.Context(), s, "m/", decodeText, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	rev = put(t, s, "m/a", "bad", rev)
	if err := m.Fresh(); err == nil || !strings.Contains(err.Error(), "m/a: it is bad") {
		t.Errorf("fresh with a bad document: %v", err)
	}
	put(t, s, "m/a", "good", rev)
	wantErr(t, "fresh when it is good again", m.Fresh(), nil)

	never, err := store.NewMirror(t.Context(), s, "m/", decodeText, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer never.Close()
	wantErr(t, "fresh without patience", never.Fresh(), store.ErrStale)
}
