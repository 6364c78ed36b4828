package vnet

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestReadHead(t *testing.T) {
	for _, c := range []struct{ what, in, host string }{
		{"GET", "GET / HTTP/1.1\r\nHost: Name.Example\r\n\r\n", "name.example"},
		{"a port", "GET / HTTP/1.1\r\nHost: name.example:80\r\n\r\n", "name.example"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nhost:\tname.example \r\n\r\n", "name.example"},
		{"absolute", "GET http://name.example/x HTTP/1.1\r\nHost: name.example\r\n\r\n", "name.example"},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: name.example\r\n\r\n", "name.example"},
		{"a body", "POST / HTTP/1.1\r\nHost: name.example\r\nContent-Length: 3\r\n\r\n", "name.example"},
		{"chunks", "POST / HTTP/1.1\r\nHost: name.example\r\nTransfer-Encoding: Chunked\r\n\r\n", "name.example"},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", ""},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", ""},
		{"an address", "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", ""},
		{"an IPv6 address", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", ""},
		{"another target", "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", ""},
		{"a target with a user", "GET http://a.example@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", ""},
		{"an https target", "GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", ""},
		{"CONNECT", "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example\r\n\r\n", ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		{"HTTP/0.9", "GET /\r\n\r\n", ""},
		{"bare line feeds", "GET / HTTP/1.1\nHost: a.example\n\n", ""},
		{"a carriage return inside", "GET / HTTP/1.1\r\nHost: a.example\rHost: b.example\r\n\r\n", ""},
		{"a zero", "GET / HTTP/1.1\r\nHost: a.example\x00\r\n\r\n", ""},
		{"a folded header", "GET / HTTP/1.1\r\nHost: a.example\r\nX: y\r\n z\r\n\r\n", ""},
		{"a blank before the colon", "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", ""},
		{"a line first", "\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", ""},
		{"two blanks", "GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n", ""},
		{"two lengths", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", ""},
		{"a list of lengths", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3, 3\r\n\r\n", ""},
		{"a length with a sign", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +3\r\n\r\n", ""},
		{"length and chunks", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
		{"gzip and chunks", "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", ""},
		{"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
		{"a long head", "GET / HTTP/1.1\r\nHost: a.example\r\nX: " + strings.Repeat("y", maxHead) + "\r\n\r\n", ""},
	} {
		h, err := readHead(bufio.NewReader(strings.NewReader(c.in)))
		if c.host == "" {
			if !errors.Is(err, errRequest) && err == nil {
				t.Errorf("%s: got %q, %v", c.what, h.host, err)
			}
			continue
		}
		if err != nil || h.host != c.host || string(h.raw) != c.in {
			t.Errorf("%s: got %q, %v", c.what, h.host, err)
		}
	}
	for in, want := range map[string]error{"": io.EOF, "GET / HT": io.ErrUnexpectedEOF, "GET / HTTP/1.1\r\n": io.ErrUnexpectedEOF} {
		if _, err := readHead(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, want) {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

func TestCopyBody(t *testing.T) {
	for _, c := range []struct {
		what, body string
		length     int64
		ok         bool
	}{
		{"a length", "abc", 3, true},
		{"none", "", 0, true},
		{"too short", "ab", 3, false},
		{"chunks", "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", -1, true},
		{"an end alone", "0\r\n\r\n", -1, true},
		{"no size", "\r\nabc\r\n0\r\n\r\n", -1, false},
		{"a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n", -1, false},
		{"a size below zero", "-1\r\n", -1, false},
		{"a huge size", "fffffffffffffffff\r\n", -1, false},
		{"a line feed alone", "3\nabc\r\n0\r\n\r\n", -1, false},
		{"a chunk that goes on", "3\r\nabcd\r\n0\r\n\r\n", -1, false},
		{"a trailer that is none", "0\r\nGET / HTTP/1.1\r\n\r\n", -1, false},
		{"no end", "3\r\nabc\r\n", -1, false},
	} {
		var out bytes.Buffer
		r := bufio.NewReader(strings.NewReader(c.body + "more"))
		if !c.ok {
			r = bufio.NewReader(strings.NewReader(c.body))
		}
		err := head{length: c.length}.copyBody(&out, r)
		rest, _ := io.ReadAll(r)
		if c.ok && (err != nil || out.String() != c.body || string(rest) != "more") || !c.ok && err == nil {
			t.Errorf("%s: got %q, %q, %v", c.what, out.String(), rest, err)
		}
	}
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: name.example\r\n\r\nGET / HTTP/1.1\r\nHost: b.example\r\n\r\n"))
	f.Add([]byte("POST http://a.b/ HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: x\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.0\r\nHost: a.b:80\r\nContent-Length: 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		var out bytes.Buffer
		for range 8 {
			h, err := readHead(r)
			if err != nil {
				break
			}
			at := out.Len()
			out.Write(h.raw)
			err = h.copyBody(&out, r)
			if err != nil {
				break
			}
			// Another reader sees the same request.
			other, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out.Bytes()[at:])))
			if err != nil {
				continue // it is stricter
			}
			if host, err := authority(other.Host); err != nil || host != h.host {
				t.Fatalf("%q: got host %q, Go reads %q", h.raw, h.host, other.Host)
			}
			rest := bufio.NewReader(bytes.NewReader(append(bytes.Clone(out.Bytes()[at:]), "GET /next HTTP/1.1\r\nHost: x.y\r\n\r\n"...)))
			if other, err = http.ReadRequest(rest); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, other.Body); err != nil {
				continue
			}
			if next, err := http.ReadRequest(rest); err != nil || next.URL.Path != "/next" {
				t.Fatalf("%q: another reader ends it elsewhere: %v", out.Bytes()[at:], err)
			}
		}
		if !bytes.HasPrefix(in, out.Bytes()) {
			t.Fatalf("other bytes are passed on than came")
		}
	})
}
