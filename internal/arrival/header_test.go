package arrival_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"lazurite.dev/internal/arrival"
)

const sig = "\r\n\r\n\x00\r\nQUIT\n"

func TestReadHeader(t *testing.T) {
	v6 := strings.Repeat("\x00", 15) + "\x01"
	for _, c := range []struct{ name, in, want string }{
		{"v1", "PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n", "203.0.113.7"},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 1 443\r\n", "2001:db8::1"},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "invalid IP"},
		{"v2", sig + "\x21\x11\x00\x0c\xcb\x00\x71\x07\x0a\x00\x00\x01\xdc\x04\x01\xbb", "203.0.113.7"},
		{"v2 IPv6 with an extension", sig + "\x21\x21\x00\x27" + v6 + v6 + "\x00\x01\x01\xbb" + "\x04\x00\x00", "::1"},
		{"v2 local", sig + "\x20\x00\x00\x00", "invalid IP"},
		{"v2 unix", sig + "\x21\x31\x00\x02ab", "invalid IP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := strings.NewReader(c.in + "more")
			got, err := arrival.ReadHeader(r)
			if err != nil || got.String() != c.want {
				t.Errorf("got %s, %v; want %s", got, err, c.want)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "more" {
				t.Errorf("left %q, want what follows the header", rest)
			}
		})
	}
}

func TestReadHeader_Refusals(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"tls", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abc", arrival.ErrHeader},
		{"too short", "PROXY", io.ErrUnexpectedEOF},
		{"nothing", "", io.EOF},
		{"v1 without end", "PROXY TCP4 " + strings.Repeat("1", 200), arrival.ErrHeader},
		{"v1 fields", "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", arrival.ErrHeader},
		{"v1 address", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", arrival.ErrHeader},
		{"v1 family", "PROXY TCP4 ::1 ::1 1 2\r\n", arrival.ErrHeader},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", arrival.ErrHeader},
		{"v1 port", "PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r\n", arrival.ErrHeader},
		{"v2 version", sig + "\x11\x11\x00\x00", arrival.ErrHeader},
		{"v2 cut", sig + "\x21\x11\x00\x0c\xcb", io.ErrUnexpectedEOF},
		{"v2 addresses cut", sig + "\x21\x11\x00\x04\xcb\x00\x71\x07", arrival.ErrHeader},
		{"v2 long", sig + "\x21\x11\xff\xff", arrival.ErrHeader},
	} {
		if got, err := arrival.ReadHeader(strings.NewReader(c.in)); !errors.Is(err, c.want) || got.IsValid() {
			t.Errorf("%s: got %s, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(sig + "\x21\x11\x00\x0c\xcb\x00\x71\x07\x0a\x00\x00\x01\xdc\x04\x01\xbb"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if a, err := arrival.ReadHeader(bytes.NewReader(in)); err != nil && a.IsValid() {
			t.Errorf("an address with error %v", err)
		}
	})
}
