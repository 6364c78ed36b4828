package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/store"
)

func lists(t *testing.T, s store.Store) {
	ctx := t.Context()
	var want []string
	for i := range 25 {
		key := fmt.Sprintf("p/%02d", i)
		if _, err := s.Put(ctx, store.Doc{Key: key, Kind: fmt.Sprint("k", i%2), Value: []byte(key)}); err != nil {
			t.Fatal(err)
		}
		want = append(want, key)
	}
	put(t, s, "o", "", 0)
	put(t, s, "q", "", 0)

	var got []string
	err := store.All(ctx, s, store.Query{Prefix: "p/", Limit: 7}, func(d store.Doc) error {
		got = append(got, d.Key)
		if string(d.Value) != d.Key || d.Rev == 0 {
			t.Errorf("listed %+v", d)
		}
		return nil
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("all by pages: %v %s", err, diff)
	}
	for _, c := range []struct {
		q    store.Query
		want []string
	}{
		{store.Query{Prefix: "p/", Kind: "k1", Limit: 3}, []string{"p/01", "p/03", "p/05"}},
		{store.Query{Prefix: "p/", Kind: "k1", After: "p/20"}, []string{"p/21", "p/23"}},
		{store.Query{Prefix: "p/", Kind: "none"}, []string{}},
		{store.Query{Kind: "kind"}, []string{"o", "q"}},
		{store.Query{Kind: "kind", After: "o"}, []string{"q"}},
		{store.Query{Kind: "k0", Limit: 1}, []string{"p/00"}},
		{store.Query{Prefix: "p/", After: "p/23"}, []string{"p/24"}},
		{store.Query{Prefix: "p/", After: "p/24"}, []string{}},
		{store.Query{Prefix: "p/", After: "p/23x"}, []string{"p/24"}},
		{store.Query{Prefix: "p/", After: "z"}, []string{}},
		{store.Query{Prefix: "p/", After: "a", Limit: 1}, []string{"p/00"}},
		{store.Query{After: "p/24"}, []string{"q"}},
		{store.Query{Prefix: "p/24"}, []string{"p/24"}},
		{store.Query{Prefix: "nothing"}, []string{}},
	} {
		docs, err := s.List(ctx, c.q)
		if diff := cmp.Diff(c.want, keys(docs)); err != nil || diff != "" {
			t.Errorf("%+v: %v %s", c.q, err, diff)
		}
	}
}

func badQueries(t *testing.T, s store.Store) {
	for _, q := range []store.Query{
		{Limit: -1}, {Limit: store.MaxList + 1}, {Prefix: "\xff"}, {After: "a\x00"}, {Kind: "\xc3"},
	} {
		_, err := s.List(t.Context(), q)
		wantErr(t, fmt.Sprintf("%+v", q), err, store.ErrInvalid)
	}
	wantErr(t, "follow", s.Follow(t.Context(), "\xff", 0, nil, nil), store.ErrInvalid)
}

// edges are keys whose order and prefixes databases get wrong.
var edges = []string{
	"!", "%", "%a", "A", "B", "_", "_a", "a", "a ", "a!", "a%", "a%b", "a-b", "a/", "a/b", "a0", "aB", "a_", "a_b", "ab", "a~",
	"b", "z", "~", "~~", "ß", "ÿ", "ÿÿ", "Ā", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\uffffa",
	"\U00010000", "\U0010ffff", "\U0010ffffa", "\U0010ffff\U0010ffff", "Straße", "straße", "e\u0301", "é",
}

func prefixes(t *testing.T, s store.Store) {
	for _, k := range edges {
		put(t, s, k, "", 0)
	}
	sorted := slices.Sorted(slices.Values(edges))
	for _, prefix := range append([]string{"", "none"}, edges...) {
		for _, after := range append([]string{""}, edges...) {
			want := []string{}
			for _, k := range sorted {
				if strings.HasPrefix(k, prefix) && k > after {
					want = append(want, k)
				}
			}
			docs, err := s.List(t.Context(), store.Query{Prefix: prefix, After: after})
			if diff := cmp.Diff(want, keys(docs)); err != nil || diff != "" {
				t.Fatalf("prefix %q after %q: %v %s", prefix, after, err, diff)
			}
		}
	}
}

func scoped(t *testing.T, s store.Store) {
	put(t, s, "v", "", 0)
	put(t, s, "v0", "", 0)
	v := store.Scoped(store.Scoped(s, "v"), "/")
	rev := put(t, v, "a", "1", 0)
	put(t, v, "b", "2", 0)
	docs, err := v.List(t.Context(), store.Query{})
	if diff := cmp.Diff([]string{"a", "b"}, keys(docs)); err != nil || diff != "" {
		t.Errorf("list: %v %s", err, diff)
	}
	docs, err = v.List(t.Context(), store.Query{After: "a"})
	if diff := cmp.Diff([]string{"b"}, keys(docs)); err != nil || diff != "" {
		t.Errorf("list after: %v %s", err, diff)
	}
	if d, err := v.Get(t.Context(), "a"); err != nil || d.Key != "a" || d.Rev != rev {
		t.Errorf("get: %+v, %v", d, err)
	}
	if d, err := s.Get(t.Context(), "v/a"); err != nil || d.Rev != rev {
		t.Errorf("get outside: %+v, %v", d, err)
	}
	_, err = v.Get(t.Context(), "")
	wantErr(t, "get without a key", err, store.ErrInvalid)
	_, err = v.Put(t.Context(), store.Doc{})
	wantErr(t, "put without a key", err, store.ErrInvalid)
	wantErr(t, "delete without a key", v.Delete(t.Context(), "", 0), store.ErrInvalid)

	f := follow(t, v, "a", 0)
	wantErr(t, "delete", v.Delete(t.Context(), "a", rev), nil)
	if diff := cmp.Diff([]string{"a=1", "-a"}, f.seen()); diff != "" {
		t.Errorf("followed: %s", diff)
	}
	wantErr(t, "close of a view", v.Close(), nil)
	put(t, s, "open", "still", 0)
}

func deletePrefix(t *testing.T, s store.Store) {
	for i := range 150 {
		put(t, s, fmt.Sprintf("x/%d", i), "", 0)
	}
	put(t, s, "x", "", 0)
	put(t, s, "x0", "", 0)
	for range 2 {
		wantErr(t, "delete", store.DeletePrefix(t.Context(), s, "x/"), nil)
	}
	wantErr(t, "delete of everything", store.DeletePrefix(t.Context(), s, ""), store.ErrInvalid)
	docs, err := s.List(t.Context(), store.Query{})
	if diff := cmp.Diff([]string{"x", "x0"}, keys(docs)); err != nil || diff != "" {
		t.Errorf("left: %v %s", err, diff)
	}
}
