package blob_test

import (
	"os"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rid"
)

func TestFolder(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "key", "PUT", "/c1x"+container, "")
	for name, content := range map[string]string{"up/ctx/Dockerfile": "FROM a", "up/ctx/src/a.py": "a", "up/ctx/empty": "", "up/ctx2/b": "b", "bad/..x/./c": "c"} {
		w.want(201, "", "key", "PUT", "/c1x/"+name, content, put, blockBlob)
	}
	account, err := rid.Parse(accountID("acct"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if err := w.plane.Folder(t.Context(), "reader", account, "c1x", "up/ctx", root); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Dockerfile": "FROM a", "src/a.py": "a", "empty": ""} {
		if got, err := root.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := root.Stat("b"); err == nil {
		t.Error("another folder's blob was copied")
	}
	for reader, c := range map[string]string{"nobody": "c1x", "": "c1x", "reader": "c2x"} {
		if err := w.plane.Folder(t.Context(), reader, account, c, "up/ctx2", root); !apierr.Is(err, apierr.Forbidden) || !strings.Contains(err.Error(), "--role \"Storage Blob Data Reader\"") {
			t.Errorf("%q at %s: got %v", reader, c, err)
		}
	}
	w.let("reader", "containers/blobs/read c1x", "containers/blobs/read c2x")
	for _, from := range [][2]string{{"c1x", "none"}, {"c1x", "up/ct"}, {"c2x", "up/ctx"}} {
		if err := w.plane.Folder(t.Context(), "reader", account, from[0], from[1], root); !apierr.Is(err, apierr.NotFound) {
			t.Errorf("%v: got %v", from, err)
		}
	}
	if err := w.plane.Folder(t.Context(), "reader", account, "c1x", "bad", root); err == nil {
		t.Error("a name that no file has was taken")
	}
}
