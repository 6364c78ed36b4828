package fetch_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/compute/fetch"
)

// account is a storage account and an identity endpoint that go wrong as told.
type account struct {
	*httptest.Server
	blobs map[string]string // by CONTAINER/NAME

	mu      sync.Mutex     // guards the rest
	trouble map[string]int // how often a path is still answered 503, or cut off with "cut "
	asked   []string
	denied  int // of the first requests, with 401
}

func newAccount(t *testing.T, blobs map[string]string) *account {
	t.Helper()
	a := &account{blobs: blobs, trouble: map[string]int{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r.URL.Path+" "+r.Header.Get("Range"))
	left := a.trouble[r.URL.Path]
	if left > 0 {
		a.trouble[r.URL.Path]--
	}
	cut := a.trouble["cut "+r.URL.Path] > 0
	if cut {
		a.trouble["cut "+r.URL.Path]--
	}
	denied := a.denied > 0 && r.URL.Path != "/msi/token"
	if denied {
		a.denied--
	}
	a.mu.Unlock()
	switch {
	case left > 0:
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case r.URL.Path == "/msi/token":
		if r.Header.Get("X-Identity-Header") != "s3cret" || r.URL.Query().Get("resource") != "https://storage.azure.com/" {
			http.Error(w, `{"error_description":"who?"}`, http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"access_token":"tok"}`)
	case denied || r.Header.Get("Authorization") != "Bearer tok" || r.Header.Get("X-Ms-Version") == "":
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Query().Get("comp") == "list":
		a.list(w, r)
	default:
		a.get(w, r, cut)
	}
}

// list gives two names a page.
func (a *account) list(w http.ResponseWriter, r *http.Request) {
	container := strings.Trim(r.URL.Path, "/")
	var names []string
	for n := range a.blobs {
		if rest, ok := strings.CutPrefix(n, container+"/"); ok && strings.HasPrefix(rest, r.URL.Query().Get("prefix")) {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	from, _ := strconv.Atoi(r.URL.Query().Get("marker"))
	next := ""
	if len(names) > from+2 {
		next = strconv.Itoa(from + 2)
	}
	fmt.Fprint(w, `<EnumerationResults><Blobs>`)
	for _, n := range names[min(from, len(names)):min(from+2, len(names))] {
		fmt.Fprint(w, "<Blob><Name>")
		_ = xml.EscapeText(w, []byte(n))
		fmt.Fprint(w, "</Name></Blob>")
	}
	fmt.Fprintf(w, `</Blobs><NextMarker>%s</NextMarker></EnumerationResults>`, next)
}

func (a *account) get(w http.ResponseWriter, r *http.Request, cut bool) {
	text, ok := a.blobs[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Etag", `"1"`)
	if cut {
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write([]byte(text[:len(text)/2]))
		return // shorter than was said
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
}

func (a *account) run(t *testing.T, patience time.Duration, list ...fetch.Download) (string, error) {
	t.Helper()
	var log bytes.Buffer
	err := fetch.Run(t.Context(), fetch.Config{
		Downloads: list, Endpoint: a.URL + "/msi/token", Secret: "s3cret", Log: &log, Patience: patience, PlainHTTP: true,
	})
	return log.String(), err
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestRun_FoldersAndBlobs(t *testing.T) {
	a := newAccount(t, map[string]string{
		"c/h/model/a.txt": "A", "c/h/model/sub/b c#?.txt": "B", "c/h/model/sub/deep/c.txt": "C", "c/h/model/sub/": "", "c/h/model2/x": "no", "c/h/one.bin": "one", "c/h/model/e.txt": "",
	})
	dir := t.TempDir()
	log, err := a.run(t, time.Second, fetch.Download{URL: a.URL + "/c/h/model", Path: dir + "/m"}, fetch.Download{URL: a.URL + "/c/h/one.bin", Path: dir + "/x/y.bin"})
	if err != nil {
		t.Fatal(err, log)
	}
	for file, want := range map[string]string{"m/a.txt": "A", "m/sub/b c#?.txt": "B", "m/sub/deep/c.txt": "C", "m/e.txt": "", "x/y.bin": "one"} {
		if got := read(t, filepath.Join(dir, file)); got != want {
			t.Errorf("%s: got %q", file, got)
		}
	}
	if _, err := os.Stat(dir + "/m/x"); err == nil {
		t.Error("a blob of another folder came along")
	}
	if !strings.Contains(log, "2 of 2 downloads done") || strings.Contains(log, "s3cret") || strings.Contains(log, "tok\n") {
		t.Errorf("log: %s", log)
	}
}

func TestRun_TriesAgain(t *testing.T) {
	text := strings.Repeat("0123456789", 10_000)
	a := newAccount(t, map[string]string{"c/big": text})
	a.trouble["/msi/token"], a.trouble["/c"], a.trouble["/c/big"], a.trouble["cut /c/big"], a.denied = 1, 2, 1, 2, 1
	dir := t.TempDir()
	log, err := a.run(t, 20*time.Second, fetch.Download{URL: a.URL + "/c/big", Path: dir + "/big"})
	if err != nil || read(t, dir+"/big") != text {
		t.Fatalf("%v\n%s", err, log)
	}
	if !strings.Contains(log, "trying again") || !slices.ContainsFunc(a.asked, func(s string) bool { return strings.HasPrefix(s, "/c/big bytes=") }) {
		t.Errorf("asked %v\n%s", a.asked, log)
	}
}

func TestRun_Refusals(t *testing.T) {
	a := newAccount(t, map[string]string{"c/esc/../../x": "evil", "c/w\\x": "evil", "c/dot/./x": "evil"})
	for name, tc := range map[string]struct{ url, want string }{
		"nothing there":  {"/c/none", "neither a blob nor a folder"},
		"empty":          {"/empty", "is empty"},
		"escapes":        {"/c/esc", "a name that no file"},
		"backslash":      {"/c", "a name that no file"},
		"no container":   {"/", "names no container"},
		"with a query":   {"/c/x?sig=secret", "no https URL"},
		"another scheme": {"", "no https URL"},
	} {
		u := a.URL + tc.url
		if tc.url == "" {
			u = "ftp://x/c"
		}
		dir := t.TempDir()
		log, err := a.run(t, 300*time.Millisecond, fetch.Download{URL: u, Path: dir + "/in/m"})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v\n%s", name, err, log)
		}
		if err != nil && strings.Contains(err.Error(), "sig=secret") {
			t.Errorf("%s: the query is in %v", name, err)
		}
		if left, _ := filepath.Glob(dir + "/*"); slices.Contains(left, dir+"/x") {
			t.Errorf("%s: a file outside", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := fetch.Run(ctx, fetch.Config{Downloads: []fetch.Download{{URL: "https://nowhere.invalid/c/x", Path: "/tmp/x"}}, Endpoint: a.URL, Log: &bytes.Buffer{}}); err == nil {
		t.Error("given up, and no error")
	}
}

// TestRun_SecretIsWrong: it is said, and not waited for long.
func TestRun_SecretIsWrong(t *testing.T) {
	a := newAccount(t, nil)
	var log bytes.Buffer
	err := fetch.Run(t.Context(), fetch.Config{
		Downloads: []fetch.Download{{URL: a.URL + "/c/x", Path: t.TempDir() + "/x"}}, Endpoint: a.URL + "/msi/token", Secret: "other", Log: &log, Patience: time.Second, PlainHTTP: true,
	})
	if err == nil || !strings.Contains(err.Error(), "identity endpoint answered 401") || strings.Contains(log.String(), "other") {
		t.Errorf("got %v\n%s", err, log.String())
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add([]byte(`<EnumerationResults><Blobs><Blob><Name>a/b</Name></Blob></Blobs><NextMarker>x</NextMarker></EnumerationResults>`))
	f.Add([]byte(`<a><!ENTITY`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		names, next, err := fetch.ParsePage(raw)
		if err != nil && (names != nil || next != "") {
			t.Error("an error, and names")
		}
	})
}

func FuzzRelative(f *testing.F) {
	f.Add("a", "a/b/../c")
	f.Add("", "/etc/passwd")
	f.Fuzz(func(t *testing.T, folder, name string) {
		rel, err := fetch.Relative(folder, name)
		if err == nil && rel != "" && !filepath.IsLocal(rel) {
			t.Errorf("%q leads out", rel)
		}
	})
}

func FuzzParseDownloads(f *testing.F) {
	f.Add(`[{"URL":"https://a/b/c","Path":"/x"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := fetch.ParseDownloads(text)
		for _, d := range list {
			if _, bad := url.Parse("file://" + d.Path); err == nil && !filepath.IsAbs(d.Path) && bad != nil {
				t.Errorf("%q", d.Path)
			}
		}
	})
}
