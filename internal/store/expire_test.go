package store_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

func TestExpire_ForgetsWhatIsOver(t *testing.T) {
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	for key, value := range map[string]any{
		"a/over":   map[string]any{"expires": now.Add(-time.Second)},
		"a/exact":  map[string]any{"expires": now},
		"a/good":   map[string]any{"expires": now.Add(time.Second)},
		"a/never":  map[string]any{"name": "x"},
		"b/others": map[string]any{"expires": now.Add(-time.Second)},
	} {
		if _, err := store.PutJSON(t.Context(), s, key, "", 0, value); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Expire(ctx, s, "a/", func() time.Time { return now }) }()
	want := []string{"a/good", "a/never", "b/others"}
	var got []string
	for end := time.Now().Add(10 * time.Second); !slices.Equal(got, want) && time.Now().Before(end); {
		got = nil
		if err := store.All(t.Context(), s, store.Query{}, func(d store.Doc) error { got = append(got, d.Key); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := store.PutJSON(t.Context(), s, "a/text", "", 0, "no object"); err != nil {
		t.Fatal(err)
	}
	if err := store.Expire(t.Context(), s, "a/", time.Now); err == nil {
		t.Error("a document that cannot be read is passed over in silence")
	}
}
