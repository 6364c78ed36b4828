// Package storetest is the contract of [store.Store]: what every
// implementation must do.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/store"
)

// Run runs the contract. open gives a new, empty store each time, and closes it
// when its test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"Put_ComparesAndSwaps", compareAndSwap},
		{"Delete_ComparesRev", deletes},
		{"Put_RefusesWhatIsOutsideTheLimits", limits},
		{"Put_KeepsBigAndEmptyValues", bigValues},
		{"Put_OneOfManyWins", oneWinner},
		{"Put_ManyAtOnceAllCount", manyWriters},
		{"Put_EndedContext", endedContext},
		{"List_PrefixKindPages", lists},
		{"List_RefusesBadQueries", badQueries},
		{"List_EdgesOfPrefixes", prefixes},
		{"Follow_BeforeTheWriteReturns", followsLocally},
		{"Follow_FromAnEarlierSeq", followsFromEarlier},
		{"Follow_InOrderOfCommit", followOrder},
		{"Follow_EndsWithItsFunction", followEnds},
		{"Follow_ConfirmsThatNothingIsOutstanding", followIdles},
		{"Follow_DeletionErasesHistory", erases},
		{"Close_EndsFollowersAndRefusesWrites", closes},
		{"Scoped_IsAStoreOfItsOwn", scoped},
		{"DeletePrefix", deletePrefix},
		{"Mirror_FollowsAndCallsHooks", mirrors},
		{"Mirror_RefusesWhatItCannotDecode", mirrorsBad},
		{"Model", model},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
	t.Run("Model_Scoped", func(t *testing.T) { model(t, store.Scoped(open(t), "a%_/")) })
}

// put writes and fails the test if that doesn't work.
func put(t testing.TB, s store.Store, key, value string, rev int64) int64 {
	t.Helper()
	rev, err := s.Put(t.Context(), store.Doc{Key: key, Rev: rev, Kind: "kind", Value: []byte(value)})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return rev
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func keys(docs []store.Doc) []string {
	list := []string{}
	for _, d := range docs {
		list = append(list, d.Key)
	}
	return list
}

// eventually waits up to five seconds for ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func compareAndSwap(t *testing.T, s store.Store) {
	ctx := t.Context()
	_, err := s.Get(ctx, "a")
	wantErr(t, "get of none", err, store.ErrNotFound)
	_, err = s.Put(ctx, store.Doc{Key: "a", Rev: 7})
	wantErr(t, "update of none", err, store.ErrConflict)

	first := put(t, s, "a", "1", 0)
	_, err = s.Put(ctx, store.Doc{Key: "a"})
	wantErr(t, "second create", err, store.ErrConflict)
	other := put(t, s, "A", "upper case is another key", 0)
	second := put(t, s, "a", "2", first)
	if first <= 0 || other <= first || second <= other {
		t.Errorf("revs %d, %d, %d do not grow", first, other, second)
	}
	_, err = s.Put(ctx, store.Doc{Key: "a", Rev: first})
	wantErr(t, "update of an old rev", err, store.ErrConflict)

	got, err := s.Get(ctx, "a")
	want := store.Doc{Key: "a", Rev: second, Kind: "kind", Value: []byte("2")}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("get: %v %s", err, diff)
	}
	if now, err := s.Now(ctx); err != nil || now != second {
		t.Errorf("now: %d, %v, want %d", now, err, second)
	}
}

func deletes(t *testing.T, s store.Store) {
	ctx := t.Context()
	wantErr(t, "delete of none", s.Delete(ctx, "a", 0), store.ErrNotFound)
	wantErr(t, "delete of a rev of none", s.Delete(ctx, "a", 3), store.ErrNotFound)
	old := put(t, s, "a", "1", 0)
	rev := put(t, s, "a", "2", old)
	wantErr(t, "delete of an old rev", s.Delete(ctx, "a", old), store.ErrConflict)
	wantErr(t, "delete of the rev", s.Delete(ctx, "a", rev), nil)
	_, err := s.Get(ctx, "a")
	wantErr(t, "get of a deleted one", err, store.ErrNotFound)
	_, err = s.Put(ctx, store.Doc{Key: "a", Rev: rev})
	wantErr(t, "update of a deleted one", err, store.ErrConflict)
	if again := put(t, s, "a", "3", 0); again <= rev+1 {
		t.Errorf("rev %d after a deletion that followed %d", again, rev)
	}
	wantErr(t, "delete of any rev", s.Delete(ctx, "a", 0), nil)
}

func limits(t *testing.T, s store.Store) {
	ctx := t.Context()
	for name, d := range map[string]store.Doc{
		"empty key":    {},
		"long key":     {Key: strings.Repeat("k", store.MaxKey+1)},
		"control":      {Key: "a\x01"},
		"nul":          {Key: "a\x00b"},
		"not UTF-8":    {Key: "a\xff"},
		"long kind":    {Key: "a", Kind: strings.Repeat("k", store.MaxKind+1)},
		"kind's bytes": {Key: "a", Kind: "\xff"},
		"long value":   {Key: "a", Value: make([]byte, store.MaxValue+1)},
		"negative rev": {Key: "a", Rev: -1},
	} {
		_, err := s.Put(ctx, d)
		wantErr(t, name, err, store.ErrInvalid)
	}
	_, err := s.Get(ctx, "")
	wantErr(t, "get without a key", err, store.ErrInvalid)
	wantErr(t, "delete without a key", s.Delete(ctx, "", 0), store.ErrInvalid)
	wantErr(t, "delete of a negative rev", s.Delete(ctx, "a", -1), store.ErrInvalid)
	put(t, s, strings.Repeat("é", store.MaxKey/2), "the longest key", 0)
}

func bigValues(t *testing.T, s store.Store) {
	big := bytes.Repeat([]byte("\x00\xffab"), store.MaxValue/4)
	if _, err := s.Put(t.Context(), store.Doc{Key: "big", Value: big}); err != nil {
		t.Fatal(err)
	}
	d, err := s.Get(t.Context(), "big")
	if err != nil || !bytes.Equal(d.Value, big) {
		t.Errorf("big value: %d bytes, %v", len(d.Value), err)
	}
	rev, err := s.Put(t.Context(), store.Doc{Key: "big", Rev: d.Rev})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := s.Get(t.Context(), "big"); err != nil || len(d.Value) != 0 || d.Rev != rev || d.Kind != "" {
		t.Errorf("empty value: %d bytes, rev %d, kind %q, %v", len(d.Value), d.Rev, d.Kind, err)
	}
}

func oneWinner(t *testing.T, s store.Store) {
	rev := int64(0)
	for range 10 {
		const n = 16
		var wg sync.WaitGroup
		revs, errs := make([]int64, n), make([]error, n)
		for i := range n {
			wg.Go(func() {
				revs[i], errs[i] = s.Put(t.Context(), store.Doc{Key: "a", Rev: rev, Value: []byte{byte(i)}})
			})
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil && winner < 0 {
				winner = i
			} else {
				wantErr(t, "loser", err, store.ErrConflict)
			}
		}
		if winner < 0 {
			t.Fatal("nobody won")
		}
		d, err := s.Get(t.Context(), "a")
		if err != nil || d.Value[0] != byte(winner) || d.Rev != revs[winner] {
			t.Fatalf("winner %d got rev %d, stored %+v, %v", winner, revs[winner], d, err)
		}
		rev = d.Rev
	}
}

func manyWriters(t *testing.T, s store.Store) {
	const writers, rounds = 20, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for {
				v, rev, err := store.GetJSON[int](t.Context(), s, "counter")
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
					return
				}
				if v >= rounds {
					return
				}
				if _, err := store.PutJSON(t.Context(), s, "counter", "", rev, v+1); err == nil {
					put(t, s, fmt.Sprintf("by/%d/%d", v, w), "", 0)
				}
			}
		})
	}
	wg.Wait()
	docs, err := s.List(t.Context(), store.Query{Prefix: "by/"})
	if err != nil || len(docs) != rounds {
		t.Errorf("%d steps counted, %v, want %d: %v", len(docs), err, rounds, keys(docs))
	}
}

func endedContext(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Put(ctx, store.Doc{Key: "a"})
	wantErr(t, "put", err, context.Canceled)
	_, err = s.Get(ctx, "a")
	wantErr(t, "get", err, context.Canceled)
	_, err = s.List(ctx, store.Query{})
	wantErr(t, "list", err, context.Canceled)
	_, err = s.Get(t.Context(), "a")
	wantErr(t, "get of what was never written", err, store.ErrNotFound)
}

func closes(t *testing.T, s store.Store) {
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		done <- s.Follow(t.Context(), "", 0, func(store.Change) error { return nil }, sync.OnceFunc(func() { close(ready) }))
	}()
	<-ready
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "follow", <-done, store.ErrClosed)
	_, err := s.Put(t.Context(), store.Doc{Key: "a"})
	wantErr(t, "put", err, store.ErrClosed)
	_, err = s.Get(t.Context(), "a")
	wantErr(t, "get", err, store.ErrClosed)
	wantErr(t, "second close", s.Close(), nil)
}
