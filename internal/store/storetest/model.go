package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lazurite.dev/internal/store"
)

// modelRun is a random run of operations on a store, checked against a map.
// Keys are under a prefix of the run's own, so that runs can share a store.
type modelRun struct {
	t      *testing.T
	s      store.Store
	prefix string
	docs   map[string]store.Doc
	revs   []int64 // all that were ever given out
	feed   *followed
	want   []string // of feed
}

func model(t *testing.T, s store.Store) {
	runs := 0
	feed := follow(t, s, "", 0)
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m := &modelRun{t: t, s: s, prefix: fmt.Sprintf("%d/", runs), docs: map[string]store.Doc{}, revs: []int64{0}, feed: feed}
		rt.Repeat(map[string]func(*rapid.T){"put": m.put, "delete": m.remove, "list": m.list, "": m.check})
	})
}

func (m *modelRun) key(rt *rapid.T) string {
	return m.prefix + rapid.SampledFrom([]string{"a", "a/b", "a%", "a_", "ÿ", "b"}).Draw(rt, "key")
}

// rev draws one that is right as often as not.
func (m *modelRun) rev(rt *rapid.T, key string) int64 {
	if rapid.Bool().Draw(rt, "right") {
		return m.docs[key].Rev
	}
	return rapid.SampledFrom(m.revs).Draw(rt, "rev")
}

func (m *modelRun) put(rt *rapid.T) {
	key := m.key(rt)
	d := store.Doc{
		Key: key, Rev: m.rev(rt, key),
		Kind:  rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "kind"),
		Value: []byte(rapid.StringN(1, 20, -1).Draw(rt, "value")),
	}
	rev, err := m.s.Put(m.t.Context(), d)
	if d.Rev != m.docs[key].Rev {
		if !errors.Is(err, store.ErrConflict) {
			rt.Fatalf("put of rev %d over %d: %v", d.Rev, m.docs[key].Rev, err)
		}
		return
	}
	if err != nil || rev <= m.revs[len(m.revs)-1] {
		rt.Fatalf("put: rev %d after %d, %v", rev, m.revs[len(m.revs)-1], err)
	}
	d.Rev = rev
	m.docs[key] = d
	m.revs = append(m.revs, rev)
	m.want = append(m.want, key+"="+string(d.Value))
}

func (m *modelRun) remove(rt *rapid.T) {
	key := m.key(rt)
	rev := m.rev(rt, key)
	err := m.s.Delete(m.t.Context(), key, rev)
	d, ok := m.docs[key]
	switch {
	case !ok:
		if !errors.Is(err, store.ErrNotFound) {
			rt.Fatalf("delete of none: %v", err)
		}
	case rev != 0 && rev != d.Rev:
		if !errors.Is(err, store.ErrConflict) {
			rt.Fatalf("delete of rev %d, stored %d: %v", rev, d.Rev, err)
		}
	case err != nil:
		rt.Fatalf("delete: %v", err)
	default:
		delete(m.docs, key)
		m.want = append(m.want, "-"+key)
	}
}

func (m *modelRun) list(rt *rapid.T) {
	q := store.Query{
		Prefix: m.prefix + rapid.SampledFrom([]string{"", "a", "a%", "c"}).Draw(rt, "prefix"),
		Kind:   rapid.SampledFrom([]string{"", "x"}).Draw(rt, "kind"),
		Limit:  rapid.IntRange(0, 3).Draw(rt, "limit"),
	}
	if rapid.Bool().Draw(rt, "paging") {
		q.After = m.key(rt)
	}
	var want []store.Doc
	for _, d := range m.docs {
		if strings.HasPrefix(d.Key, q.Prefix) && d.Key > q.After && (q.Kind == "" || q.Kind == d.Kind) {
			want = append(want, d)
		}
	}
	slices.SortFunc(want, func(a, b store.Doc) int { return strings.Compare(a.Key, b.Key) })
	if q.Limit > 0 && len(want) > q.Limit {
		want = want[:q.Limit]
	}
	got, err := m.s.List(m.t.Context(), q)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		rt.Fatalf("list %+v: %v %s", q, err, diff)
	}
}

func (m *modelRun) check(rt *rapid.T) {
	for _, d := range m.docs {
		got, err := m.s.Get(m.t.Context(), d.Key)
		if diff := cmp.Diff(d, got); err != nil || diff != "" {
			rt.Fatalf("get: %v %s", err, diff)
		}
	}
	var seen []string
	for _, c := range m.feed.seen() {
		if strings.HasPrefix(strings.TrimPrefix(c, "-"), m.prefix) {
			seen = append(seen, c)
		}
	}
	if diff := cmp.Diff(m.want, seen); diff != "" {
		rt.Fatalf("followed: %s", diff)
	}
}
