package blob_test

import (
	"encoding/xml"
	"slices"
	"strings"
	"testing"
)

type listing struct {
	Names    []string `xml:"Blobs>Blob>Name"`
	Prefixes []string `xml:"Blobs>BlobPrefix>Name"`
	Next     string   `xml:"NextMarker"`
}

func (w *world) list(auth, query string) listing {
	w.t.Helper()
	a := w.want(200, "", auth, "GET", "/c1x?restype=container&comp=list"+query, "")
	var l listing
	if err := xml.Unmarshal([]byte(strings.TrimPrefix(a.Body.String(), "\ufeff")), &l); err != nil {
		w.t.Fatal(err)
	}
	return l
}

func TestBlob_List(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "me", "PUT", "/c1x"+container, "")
	for _, n := range []string{"a", "a/1", "a/2", "b/x/1", "b/y", "c", "A", "d%20%C3%A9", "e//f", "g/"} {
		w.want(201, "", "me", "PUT", "/c1x/"+n, n, put, blockBlob)
	}
	if got := w.list("me", "").Names; !slices.Equal(got, []string{"A", "a", "a/1", "a/2", "b/x/1", "b/y", "c", "d é", "e//f", "g/"}) {
		t.Errorf("%q", got)
	}
	l := w.list("me", "&delimiter=/")
	if !slices.Equal(l.Names, []string{"A", "a", "c", "d é"}) || !slices.Equal(l.Prefixes, []string{"a/", "b/", "e/", "g/"}) {
		t.Errorf("%+v", l)
	}
	if l := w.list("me", "&delimiter=/&prefix=b/"); !slices.Equal(l.Names, []string{"b/y"}) || !slices.Equal(l.Prefixes, []string{"b/x/"}) {
		t.Errorf("%+v", l)
	}
	var all []string
	for marker, n := "", 0; ; n++ {
		l := w.list("me", "&delimiter=/&maxresults=1&marker="+marker)
		all = append(append(all, l.Names...), l.Prefixes...)
		if marker = l.Next; marker == "" || n > 20 {
			break
		}
	}
	if !slices.Equal(all, []string{"A", "a", "a/", "b/", "c", "d é", "e/", "g/"}) {
		t.Errorf("%q", all)
	}
	if got := w.list("reader", "&prefix=a/").Names; !slices.Equal(got, []string{"a/1", "a/2"}) {
		t.Errorf("%q", got)
	}
	a := w.want(200, "", "me", "GET", "/?comp=list", "")
	if !strings.Contains(a.Body.String(), "<Name>c1x</Name>") {
		t.Errorf("%s", a.Body)
	}
}
