package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/store"
)

// RunReplicas runs the part of the contract that is about several processes
// on one database. open gives two handles on a new, empty one.
func RunReplicas(t *testing.T, open func(t *testing.T) (a, b store.Store)) {
	for name, run := range map[string]func(t *testing.T, a, b store.Store){
		"Follow_SeesTheOthersWritesWithinASecond": seesOther,
		"Follow_OneOrderForAll":                   oneOrder,
		"Put_OneOfBothWins":                       oneOfBoth,
		"Mirror_SeesTheOthersWrites":              mirrorsOther,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t)
			run(t, a, b)
		})
	}
}

func seesOther(t *testing.T, a, b store.Store) {
	f := follow(t, b, "p/", 0)
	var want []string
	for i := range 5 {
		put(t, a, fmt.Sprint("p/", i), "x", 0)
		want = append(want, fmt.Sprintf("p/%d=x", i))
		begin := time.Now()
		eventually(t, "the other's write", func() bool { return len(f.list()) > i })
		if d := time.Since(begin); d > time.Second {
			t.Errorf("write %d took %v to arrive", i, d)
		}
	}
	put(t, b, "p/mine", "y", 0)
	if diff := cmp.Diff(append(want, "p/mine=y"), f.seen()); diff != "" {
		t.Error(diff)
	}
}

func oneOrder(t *testing.T, a, b store.Store) {
	const each = 100
	all := []*followed{follow(t, a, "", 0), follow(t, b, "", 0)}
	var wg sync.WaitGroup
	for i, s := range []store.Store{a, b} {
		for w := range 4 {
			wg.Go(func() {
				for n := range each {
					rev := put(t, s, fmt.Sprintf("%d/%d/%d", i, w, n), "", 0)
					// A write is with the followers of its own store when it returns.
					if list := all[i].list(); list[len(list)-1].Seq < rev {
						t.Errorf("followed up to %d when the write of %d returned", list[len(list)-1].Seq, rev)
					}
				}
			})
		}
	}
	wg.Wait()
	eventually(t, "all changes on both", func() bool { return len(all[0].list()) == 8*each && len(all[1].list()) == 8*each })
	if diff := cmp.Diff(all[0].list(), all[1].list()); diff != "" {
		t.Error(diff)
	}
	for i, c := range all[0].list() {
		if i > 0 && c.Seq != all[0].list()[i-1].Seq+1 {
			t.Fatalf("change %d out of order", c.Seq)
		}
	}
}

func oneOfBoth(t *testing.T, a, b store.Store) {
	rev := put(t, a, "a", "", 0)
	for range 30 {
		var wg sync.WaitGroup
		revs, errs := [2]int64{}, [2]error{}
		for i, s := range []store.Store{a, b} {
			wg.Go(func() { revs[i], errs[i] = s.Put(t.Context(), store.Doc{Key: "a", Rev: rev}) })
		}
		wg.Wait()
		lost := errors.Join(errs[0], errs[1])
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(lost, store.ErrConflict) {
			t.Fatalf("results: %v, %v", errs[0], errs[1])
		}
		rev = max(revs[0], revs[1])
	}
}

func mirrorsOther(t *testing.T, a, b store.Store) {
	m, err := store.NewMirror(t.Context(), b, "m/", decodeText, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	arrived := make(chan struct{})
	m.OnChange(func(store.Change) { close(arrived) })
	put(t, a, "m/a", "1", 0)
	select {
	case <-arrived:
	case <-ctx.Done():
		t.Fatal("not within a second")
	}
	if v, ok := m.Get("m/a"); !ok || v != "1" {
		t.Errorf("got %q, %v", v, ok)
	}
	wantErr(t, "fresh", m.Fresh(), nil)
}
