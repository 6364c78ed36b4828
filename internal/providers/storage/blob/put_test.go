package blob_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/arrival"
)

func TestBlob_PutGetDelete(t *testing.T) {
	for _, auth := range []string{"key", "me"} {
		t.Run(auth, func(t *testing.T) {
			w := newWorld(t)
			w.want(404, "ContainerNotFound", auth, "PUT", "/c1x/a.txt", "hello", put, blockBlob)
			w.want(201, "", auth, "PUT", "/c1x"+container, "")
			w.want(409, "ContainerAlreadyExists", auth, "PUT", "/c1x"+container, "")
			sum := md5.Sum([]byte("hello world"))
			a := w.want(201, "", auth, "PUT", "/c1x/dir%20x/a.txt", "hello world", put, blockBlob, "Content-Type", "text/plain", "x-ms-meta-color", "blue", "Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
			tag := a.Header().Get("ETag")
			if !strings.HasPrefix(tag, `"0x8D`) || a.Header().Get("Content-MD5") == "" {
				t.Errorf("put: %v", a.Header())
			}
			a = w.want(200, "", auth, "GET", "/c1x/dir%20x/a.txt", "")
			if a.Body.String() != "hello world" || a.Header().Get("Content-Type") != "text/plain" || a.Header().Get("x-ms-meta-color") != "blue" || a.Header().Get("ETag") != tag ||
				a.Header().Get("x-ms-blob-type") != blockBlob || a.Header().Get("x-ms-version") != "2024-11-04" || a.Header().Get("x-ms-server-encrypted") != "false" {
				t.Errorf("get: %s %v", a.Body, a.Header())
			}
			a = w.want(206, "", auth, "GET", "/c1x/dir%20x/a.txt", "", "x-ms-range", "bytes=6-20", "x-ms-range-get-content-md5", "true")
			world := md5.Sum([]byte("world"))
			if a.Body.String() != "world" || a.Header().Get("Content-Range") != "bytes 6-10/11" || a.Header().Get("Content-MD5") != base64.StdEncoding.EncodeToString(world[:]) || a.Header().Get("x-ms-blob-content-md5") == "" {
				t.Errorf("range: %s %v", a.Body, a.Header())
			}
			w.want(416, "InvalidRange", auth, "GET", "/c1x/dir%20x/a.txt", "", "Range", "bytes=11-")
			a = w.want(200, "", auth, "HEAD", "/c1x/dir%20x/a.txt", "")
			if a.Header().Get("Content-Length") != "11" || a.Body.Len() != 0 || a.Header().Get("x-ms-access-tier") != "Hot" {
				t.Errorf("head: %v", a.Header())
			}
			w.want(404, "BlobNotFound", auth, "HEAD", "/c1x/none", "")
			w.want(304, "ConditionNotMet", auth, "GET", "/c1x/dir%20x/a.txt", "", "If-None-Match", tag)
			w.want(412, "ConditionNotMet", auth, "GET", "/c1x/dir%20x/a.txt", "", "If-Match", `"0x1"`)
			w.want(409, "BlobAlreadyExists", auth, "PUT", "/c1x/dir%20x/a.txt", "x", put, blockBlob, "If-None-Match", "*")
			w.want(412, "ConditionNotMet", auth, "DELETE", "/c1x/dir%20x/a.txt", "", "If-Match", `"0x1"`)
			w.want(202, "", auth, "DELETE", "/c1x/dir%20x/a.txt", "", "If-Match", tag)
			w.want(404, "BlobNotFound", auth, "DELETE", "/c1x/dir%20x/a.txt", "")
			w.want(202, "", auth, "DELETE", "/c1x"+container, "")
			w.want(404, "ContainerNotFound", auth, "HEAD", "/c1x"+container, "")
			if n := w.contents(); n != 0 {
				t.Errorf("%d contents are left", n)
			}
		})
	}
}

func TestBlob_Refusals(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "key", "PUT", "/c1x"+container, "")
	w.want(201, "", "key", "PUT", "/c1x/a", "content", put, blockBlob)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     string
	}{
		{"no type", "PUT", "/c1x/b", "x", nil, 400, "MissingRequiredHeader"},
		{"page blob", "PUT", "/c1x/b", "", []string{put, "PageBlob"}, 400, "InvalidHeaderValue"},
		{"append blob", "PUT", "/c1x/b", "", []string{put, "AppendBlob"}, 400, "InvalidHeaderValue"},
		{"wrong md5", "PUT", "/c1x/a", "x", []string{put, blockBlob, "Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "Md5Mismatch"},
		{"no md5", "PUT", "/c1x/a", "x", []string{put, blockBlob, "Content-MD5", "AAAA"}, 400, "InvalidMd5"},
		{"wrong crc", "PUT", "/c1x/a", "x", []string{put, blockBlob, "x-ms-content-crc64", "AAAAAAAAAAA="}, 400, "Crc64Mismatch"},
		{"tags", "PUT", "/c1x/a", "x", []string{put, blockBlob, "x-ms-tags", "a=b"}, 409, "BlobTagsNotSupportedForAccountType"},
		{"lease", "PUT", "/c1x/a", "x", []string{put, blockBlob, "x-ms-lease-id", "x"}, 412, "LeaseNotPresentWithBlobOperation"},
		{"key of one's own", "PUT", "/c1x/a", "x", []string{put, blockBlob, "x-ms-encryption-key", "x"}, 400, "UnsupportedHeader"},
		{"legal hold", "PUT", "/c1x/a", "x", []string{put, blockBlob, "x-ms-legal-hold", "true"}, 400, "UnsupportedHeader"},
		{"archive", "PUT", "/c1x/a", "x", []string{put, blockBlob, "x-ms-access-tier", "Archive"}, 400, "InvalidBlobTier"},
		{"metadata", "PUT", "/c1x/a", "x", []string{put, blockBlob, "x-ms-meta-a-b", "1"}, 400, "InvalidMetadata"},
		{"leases", "PUT", "/c1x/a?comp=lease", "", nil, 400, "UnsupportedQueryParameter"},
		{"snapshots", "PUT", "/c1x/a?comp=snapshot", "", nil, 400, "UnsupportedQueryParameter"},
		{"a snapshot", "GET", "/c1x/a?snapshot=2020", "", nil, 400, "UnsupportedQueryParameter"},
		{"tag set", "GET", "/c1x/a?comp=tags", "", nil, 400, "UnsupportedQueryParameter"},
		{"batch", "POST", "/?comp=batch", "", nil, 400, "UnsupportedQueryParameter"},
		{"version", "GET", "/c1x/a", "", []string{"x-ms-version", "yesterday"}, 400, "InvalidHeaderValue"},
		{"double slash", "GET", "//c1x/a", "", nil, 400, "InvalidUri"},
		{"control character", "GET", "/c1x/a%01", "", nil, 400, "InvalidUri"},
		{"block id", "PUT", "/c1x/a?comp=block&blockid=!", "x", nil, 400, "InvalidQueryParameterValue"},
		{"empty block", "PUT", "/c1x/a?comp=block&blockid=AAAA", "", nil, 400, "InvalidHeaderValue"},
		{"list of nothing there", "PUT", "/c1x/a?comp=blocklist", "<BlockList><Latest>AAAA</Latest></BlockList>", nil, 400, "InvalidBlockList"},
		{"no xml", "PUT", "/c1x/a?comp=blocklist", "<BlockList>", nil, 400, "InvalidXmlDocument"},
		{"public container", "PUT", "/c2x" + container, "", []string{"x-ms-blob-public-access", "blob"}, 409, "PublicAccessNotPermitted"},
		{"container name", "PUT", "/A" + container, "", nil, 400, "InvalidResourceName"},
		{"copy from elsewhere", "PUT", "/c1x/b", "", []string{"x-ms-copy-source", "https://other.blob.core.windows.net/c/a"}, 400, "CopyAcrossAccountsNotSupported"},
		{"uncommitted in lists", "GET", "/c1x?restype=container&comp=list&include=uncommittedblobs", "", nil, 400, "InvalidQueryParameterValue"},
		{"marker", "GET", "/c1x?restype=container&comp=list&marker=!", "", nil, 400, "InvalidQueryParameterValue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			w.want(c.status, c.code, "key", c.method, c.path, c.body, c.headers...)
		})
	}
	w.t = t
	if a := w.want(200, "", "key", "GET", "/c1x/a", ""); a.Body.String() != "content" {
		t.Errorf("what was refused has changed the blob: %q", a.Body)
	}
}

func TestBlob_Blocks(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "me", "PUT", "/c1x"+container, "")
	id := func(s string) string { return url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(s))) }
	raw := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for i, s := range []string{"one ", "two ", "three"} {
		w.want(201, "", "me", "PUT", "/c1x/b?comp=block&blockid="+id(fmt.Sprint("b", i)), s)
	}
	w.want(400, "InvalidBlobOrBlock", "me", "PUT", "/c1x/b?comp=block&blockid="+id("longer"), "x")
	w.want(400, "Md5Mismatch", "me", "PUT", "/c1x/b?comp=block&blockid="+id("b9"), "x", "Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA==")
	w.want(404, "BlobNotFound", "me", "GET", "/c1x/b", "")
	list := "<?xml version=\"1.0\"?><BlockList><Latest>" + raw("b0") + "</Latest><Uncommitted>" + raw("b2") + "</Uncommitted></BlockList>"
	w.want(201, "", "me", "PUT", "/c1x/b?comp=blocklist", list, "x-ms-blob-content-type", "text/plain")
	if a := w.want(200, "", "me", "GET", "/c1x/b", ""); a.Body.String() != "one three" || a.Header().Get("Content-Type") != "text/plain" {
		t.Errorf("%q %v", a.Body, a.Header())
	}
	w.want(201, "", "me", "PUT", "/c1x/b?comp=block&blockid="+id("b1"), "2 ")
	a := w.want(200, "", "me", "GET", "/c1x/b?comp=blocklist&blocklisttype=all", "")
	var got struct {
		Committed   []struct{ Name, Size string } `xml:"CommittedBlocks>Block"`
		Uncommitted []struct{ Name, Size string } `xml:"UncommittedBlocks>Block"`
	}
	if err := xml.Unmarshal([]byte(strings.TrimPrefix(a.Body.String(), "\ufeff")), &got); err != nil || len(got.Committed) != 2 || got.Committed[1].Name != raw("b2") || len(got.Uncommitted) != 1 || got.Uncommitted[0].Size != "2" {
		t.Errorf("%v %+v", err, got)
	}
	w.want(400, "InvalidBlockList", "me", "PUT", "/c1x/b?comp=blocklist", "<BlockList><Committed>"+raw("b1")+"</Committed></BlockList>")
	list = "<BlockList><Committed>" + raw("b2") + "</Committed><Latest>" + raw("b1") + "</Latest><Latest>" + raw("b0") + "</Latest></BlockList>"
	w.want(201, "", "me", "PUT", "/c1x/b?comp=blocklist", list)
	if a := w.want(200, "", "me", "GET", "/c1x/b", ""); a.Body.String() != "three2 one " {
		t.Errorf("%q", a.Body)
	}
	if n := w.contents(); n != 2 {
		t.Errorf("%d files, want a content and its list", n)
	}
}

func TestBlob_PropertiesMetadataAndCopies(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "me", "PUT", "/c1x"+container, "")
	w.want(201, "", "me", "PUT", "/c1x/a", "text", put, blockBlob, "x-ms-meta-k", "v")
	w.want(200, "", "me", "PUT", "/c1x/a?comp=metadata", "", "x-ms-meta-k2", "v2")
	w.want(200, "", "me", "PUT", "/c1x/a?comp=properties", "", "x-ms-blob-content-type", "text/x", "x-ms-blob-cache-control", "no-store")
	w.want(200, "", "me", "PUT", "/c1x/a?comp=tier", "", "x-ms-access-tier", "Cool")
	w.want(404, "BlobNotFound", "me", "PUT", "/c1x/none?comp=metadata", "")
	h := w.want(200, "", "me", "HEAD", "/c1x/a", "").Header()
	if h.Get("x-ms-meta-k") != "" || h.Get("x-ms-meta-k2") != "v2" || h.Get("Content-Type") != "text/x" || h.Get("Cache-Control") != "no-store" || h.Get("x-ms-access-tier") != "Cool" {
		t.Errorf("%v", h)
	}
	if a := w.want(200, "", "me", "GET", "/c1x/a?comp=metadata", ""); a.Header().Get("x-ms-meta-k2") != "v2" || a.Body.Len() != 0 {
		t.Errorf("%v", a.Header())
	}
	src := "https://acct.blob.core.windows.net/c1x/a"
	a := w.want(202, "", "me", "PUT", "/c1x/copy", "", "x-ms-copy-source", src)
	if a.Header().Get("x-ms-copy-status") != "success" {
		t.Errorf("%v", a.Header())
	}
	w.want(202, "", "me", "DELETE", "/c1x/a", "")
	a = w.want(200, "", "me", "GET", "/c1x/copy", "")
	if a.Body.String() != "text" || a.Header().Get("x-ms-meta-k2") != "v2" || a.Header().Get("x-ms-copy-source") != src {
		t.Errorf("%q %v", a.Body, a.Header())
	}
	w.want(404, "BlobNotFound", "me", "PUT", "/c1x/copy2", "", "x-ms-copy-source", src)
	// Put Blob From URL, and Put Block From URL.
	src = "https://acct.blob.core.windows.net/c1x/copy"
	w.want(201, "", "me", "PUT", "/c1x/put", "", "x-ms-copy-source", src, put, blockBlob, "x-ms-blob-content-type", "a/b")
	if a := w.want(200, "", "me", "GET", "/c1x/put", ""); a.Body.String() != "text" || a.Header().Get("Content-Type") != "a/b" || a.Header().Get("x-ms-copy-id") != "" {
		t.Errorf("%q %v", a.Body, a.Header())
	}
	w.want(201, "", "me", "PUT", "/c1x/blocks?comp=block&blockid=AAAA", "", "x-ms-copy-source", src, "x-ms-source-range", "bytes=1-2")
	w.want(201, "", "me", "PUT", "/c1x/blocks?comp=blocklist", "<BlockList><Latest>AAAA</Latest></BlockList>")
	if a := w.want(200, "", "me", "GET", "/c1x/blocks", ""); a.Body.String() != "ex" {
		t.Errorf("%q", a.Body)
	}
	// Who may write but not read the source copies nothing.
	w.let("writer", "containers/blobs/write")
	w.want(403, "AuthorizationPermissionMismatch", "writer", "PUT", "/c1x/stolen", "", "x-ms-copy-source", src)
}

func TestBlob_ConcurrentWritersLoseNothing(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "key", "PUT", "/c1x"+container, "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 5 {
				body := strings.Repeat(fmt.Sprint(i, n, " "), 1000)
				if a := w.do("key", "PUT", "/c1x/a", body, put, blockBlob); a.Code != 201 {
					t.Errorf("put: %d %s", a.Code, a.code())
				}
				a := w.do("key", "GET", "/c1x/a", "")
				first, _, _ := strings.Cut(a.Body.String(), " ")
				if a.Code != 200 || a.Body.Len() < 3000 || strings.Count(a.Body.String(), first) < 1000 {
					t.Errorf("get: %d %s, %d bytes", a.Code, a.code(), a.Body.Len())
				}
			}
		})
	}
	wg.Wait()
	if n := w.contents(); n != 1 {
		t.Errorf("%d contents, want 1", n)
	}
}

func TestBlob_BodyTooLarge(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "me", "PUT", "/c1x"+container, "")
	for _, query := range []string{"", "?comp=block&blockid=AAAA"} {
		r := httptest.NewRequestWithContext(arrival.With(t.Context(), w.from), "PUT", "https://acct.blob.core.windows.net/c1x/a"+query, strings.NewReader("0123456789"))
		r.Header.Set("x-ms-version", "2024-11-04")
		r.Header.Set(put, blockBlob)
		r.Header.Set("Authorization", "Bearer h.me.s")
		rec := httptest.NewRecorder()
		r.Body = http.MaxBytesReader(rec, r.Body, 5) // as the front door does
		w.plane.ServeHTTP(rec, r)
		if rec.Code != 413 || rec.Header().Get("x-ms-error-code") != "RequestBodyTooLarge" {
			t.Errorf("%d %v", rec.Code, rec.Header())
		}
	}
	if n := w.contents(); n != 0 {
		t.Errorf("%d files are left", n)
	}
}
