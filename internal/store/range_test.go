package store_test

import (
	"strings"
	"testing"

	"lazurite.dev/internal/store"
)

func FuzzRange(f *testing.F) {
	f.Add("a/", "", "a/b")
	f.Add("a/", "a/b", "a/b")
	f.Add("\ud7ff", "", "\ue000")
	f.Add("\U0010ffff", "b", "\U0010ffffa")
	f.Fuzz(func(t *testing.T, prefix, after, key string) {
		if (store.Doc{Key: key}).Check() != nil || (store.Query{Prefix: prefix, After: after}).Check() != nil {
			return
		}
		low, high := store.Range(prefix, after)
		got := low <= key && (high == "" || key < high)
		want := strings.HasPrefix(key, prefix) && key > after
		if got != want {
			t.Errorf("prefix %q after %q: %q in [%q, %q) is %v, want %v", prefix, after, key, low, high, got, want)
		}
	})
}
