package blob_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBlob_Collect(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "key", "PUT", "/c1x"+container, "")
	w.want(201, "", "key", "PUT", "/c1x/a", "text", put, blockBlob)
	w.want(201, "", "key", "PUT", "/c1x/b?comp=block&blockid=AAAA", "given up")
	var content string
	_ = filepath.WalkDir(w.dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(p, "contents") {
			content = p
		}
		return nil
	})
	left := filepath.Join(filepath.Dir(content), "0f8fad5b-d9cb-469f-a165-70867728950e") // as a crash before the document leaves it
	if err := os.WriteFile(left, []byte("lost"), 0o600); err != nil {
		t.Fatal(err)
	}
	collect := func(want int) {
		t.Helper()
		if err := w.plane.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.contents(); n != want {
			t.Errorf("%d files, want %d", n, want)
		}
	}
	collect(3)
	w.ahead(2 * time.Hour)
	collect(2)
	w.ahead(8 * 24 * time.Hour)
	collect(1)
	if a := w.want(200, "", "key", "GET", "/c1x/a", ""); a.Body.String() != "text" {
		t.Errorf("%q", a.Body)
	}
}
