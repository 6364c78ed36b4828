package vnet

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// hello is the ClientHello of Go's own client.
func hello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_ = tls.Client(a, cfg).HandshakeContext(context.Background())
		_ = a.Close()
	}()
	var head [5]byte
	if _, err := io.ReadFull(b, head[:]); err != nil {
		t.Fatal(err)
	}
	raw := append(head[:], make([]byte, binary.BigEndian.Uint16(head[3:]))...)
	if _, err := io.ReadFull(b, raw[5:]); err != nil {
		t.Fatal(err)
	}
	return raw
}

// records cuts the message of a record into several.
func records(raw []byte, size int) []byte {
	var out []byte
	for rest := raw[5:]; len(rest) > 0; {
		n := min(size, len(rest))
		out = binary.BigEndian.AppendUint16(append(out, raw[:3]...), uint16(n))
		out = append(out, rest[:n]...)
		rest = rest[n:]
	}
	return out
}

// with adds extensions to a ClientHello of one record.
func with(raw []byte, extension ...byte) []byte {
	out := append(bytes.Clone(raw), extension...)
	n := len(extension)
	binary.BigEndian.PutUint16(out[3:], uint16(len(out)-5))
	out[6], out[7], out[8] = byte((len(out)-9)>>16), byte((len(out)-9)>>8), byte(len(out)-9)
	at := 9 + 34 // version and random
	at += 1 + int(out[at])
	at += 2 + int(binary.BigEndian.Uint16(out[at:]))
	at += 1 + int(out[at])
	binary.BigEndian.PutUint16(out[at:], binary.BigEndian.Uint16(out[at:])+uint16(n))
	return out
}

func TestReadHello(t *testing.T) {
	plain := hello(t, &tls.Config{ServerName: "Name.Example"})
	old := hello(t, &tls.Config{ServerName: "name.example", MaxVersion: tls.VersionTLS12})
	nameless := hello(t, &tls.Config{ServerName: "192.0.2.1"})
	sni := []byte{0, 0, 0, 6, 0, 4, 0, 0, 1, 'x'}
	for _, c := range []struct {
		what string
		raw  []byte
		want string
		err  error
	}{
		{"one record", plain, "name.example", nil},
		{"TLS 1.2", old, "name.example", nil},
		{"records of one byte", records(plain, 1), "name.example", nil},
		{"records of 100 bytes", records(plain, 100), "name.example", nil},
		{"an unknown extension", with(plain, 0x7a, 0x7a, 0, 1, 5), "name.example", nil},
		{"no name", nameless, "", errNoSNI},
		{"an encrypted hello", with(plain, 0xfe, 0x0d, 0, 1, 0), "", errHidden},
		{"an encrypted name", with(plain, 0xff, 0xce, 0, 0), "", errHidden},
		{"two names", with(plain, sni...), "", errNoHello},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: name.example\r\n\r\n"), "", errNoHello},
		{"an alert", []byte{21, 3, 1, 0, 2, 2, 0}, "", errNoHello},
		{"an empty record", []byte{22, 3, 1, 0, 0}, "", errNoHello},
		{"a long record", []byte{22, 3, 1, 0xff, 0xff}, "", errNoHello},
		{"a message of a megabyte", []byte{22, 3, 1, 0, 4, 1, 0x10, 0, 0}, "", errHelloBig},
		{"another message", []byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, "", errNoHello},
		{"more than the message", append(append([]byte{22, 3, 1, 0, 0}[:3], byte((len(plain)-5+1)>>8), byte(len(plain)-5+1)), append(bytes.Clone(plain[5:]), 0)...), "", errNoHello},
		{"half of it", plain[:len(plain)/2], "", io.ErrUnexpectedEOF},
		{"nothing", nil, "", io.EOF},
		{"an address", with(nameless, 0, 0, 0, 12, 0, 10, 0, 0, 7, '1', '.', '2', '.', '3', '.', '4'), "", errAny},
		{"a blank", with(nameless, 0, 0, 0, 8, 0, 6, 0, 0, 3, 'a', ' ', 'b'), "", errAny},
		{"a list of two", with(nameless, 0, 0, 0, 10, 0, 8, 0, 0, 1, 'a', 0, 0, 1, 'b'), "", errNoHello},
		{"an empty list", with(nameless, 0, 0, 0, 2, 0, 0), "", errNoHello},
	} {
		for how, r := range map[string]io.Reader{"at once": bytes.NewReader(c.raw), "by bytes": iotest.OneByteReader(bytes.NewReader(c.raw))} {
			name, raw, err := readHello(r)
			if name != c.want || (c.err == nil) != (err == nil) || c.err != nil && c.err != errAny && !errors.Is(err, c.err) {
				t.Errorf("%s, %s: got %q, %v", c.what, how, name, err)
			}
			if !bytes.HasPrefix(c.raw, raw) || err == nil && len(raw) != len(c.raw) {
				t.Errorf("%s, %s: %d of %d bytes are given back", c.what, how, len(raw), len(c.raw))
			}
		}
	}
}

var errAny = errors.New("any")

func FuzzReadHello(f *testing.F) {
	plain := hello(f, &tls.Config{ServerName: "name.example"})
	f.Add(plain)
	f.Add(records(plain, 7))
	f.Add(with(plain, 0xfe, 0x0d, 0, 1, 0))
	f.Add(hello(f, &tls.Config{ServerName: "192.0.2.1"}))
	f.Fuzz(func(t *testing.T, in []byte) {
		name, raw, err := readHello(bytes.NewReader(in))
		if !bytes.HasPrefix(in, raw) {
			t.Fatalf("other bytes are given back than came")
		}
		if err != nil {
			if name != "" {
				t.Errorf("a name, %q, with %v", name, err)
			}
			return
		}
		if again, err := hostName(name); err != nil || again != name {
			t.Errorf("%q is no name: %v", name, err)
		}
		// Go's server must not read another name out of it.
		if other, ok := byGo(raw); ok && !strings.EqualFold(strings.TrimSuffix(other, "."), name) {
			t.Errorf("got %q, Go reads %q", name, other)
		}
	})
}

// byGo is the name that crypto/tls reads.
func byGo(raw []byte) (name string, ok bool) {
	a, b := net.Pipe()
	go func() {
		_, _ = a.Write(raw)
		_ = a.Close()
	}()
	_ = tls.Server(b, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = i.ServerName, true
		return nil, errAny
	}}).HandshakeContext(context.Background())
	_ = b.Close()
	return name, ok
}
