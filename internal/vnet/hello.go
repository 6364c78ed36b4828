package vnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// What a ClientHello may be.
const (
	maxRecord = 1 << 14   // bytes of a record, RFC 8446 section 5.1
	maxHello  = 64 << 10  // bytes of the whole message
	maxRaw    = 128 << 10 // bytes read until it is there: small records cost more
)

var (
	errNoHello  = errors.New("it begins with no TLS ClientHello")
	errNoSNI    = errors.New("its ClientHello names no server (no SNI)")
	errHidden   = errors.New("its ClientHello hides the server's name (encrypted ClientHello)")
	errHelloBig = errors.New("its ClientHello is too long")
)

// readHello reads a ClientHello, in however many records and segments it comes,
// and gives the name in it and all that was read.
// Source: RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3.
func readHello(r io.Reader) (name string, raw []byte, err error) {
	var message []byte
	for {
		var head [5]byte
		n, err := io.ReadFull(r, head[:])
		raw = append(raw, head[:n]...)
		if err != nil {
			return "", raw, err
		}
		size := int(binary.BigEndian.Uint16(head[3:]))
		if head[0] != 22 || head[1] != 3 || size == 0 || size > maxRecord {
			return "", raw, errNoHello
		}
		at := len(raw)
		if at+size > maxRaw {
			return "", raw, errHelloBig
		}
		raw = append(raw, make([]byte, size)...)
		if n, err := io.ReadFull(r, raw[at:]); err != nil {
			return "", raw[:at+n], err
		}
		message = append(message, raw[at:]...)
		if message[0] != 1 {
			return "", raw, errNoHello
		}
		if len(message) < 4 {
			continue
		}
		whole := 4 + int(message[1])<<16 + int(message[2])<<8 + int(message[3])
		if whole > maxHello {
			return "", raw, errHelloBig
		}
		if len(message) > whole { // nothing may follow before the server answered
			return "", raw, errNoHello
		}
		if len(message) == whole {
			name, err = serverName(message[4:])
			return name, raw, err
		}
	}
}

// The extensions that matter.
const (
	extServerName = 0
	extECH        = 0xfe0d // RFC 9849
	extESNI       = 0xffce // its drafts'
)

// fields reads what the protocol is written in.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n > len(f.b) {
		f.bad = true
		return nil
	}
	out := f.b[:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) number(size int) int {
	n := 0
	for _, c := range f.take(size) {
		n = n<<8 | int(c)
	}
	return n
}

// vector is one whose length takes so many bytes.
func (f *fields) vector(size int) []byte { return f.take(f.number(size)) }

// serverName is the name in the body of a ClientHello.
func serverName(body []byte) (string, error) {
	f := &fields{b: body}
	f.take(2 + 32) // version, random
	f.vector(1)    // session
	f.vector(2)    // suites
	f.vector(1)    // compression
	if !f.bad && len(f.b) == 0 {
		return "", errNoSNI // without extensions
	}
	ext := &fields{b: f.vector(2)}
	if f.bad || len(f.b) != 0 {
		return "", errNoHello
	}
	var sni []byte
	seen, hidden := map[int]bool{}, false
	for len(ext.b) > 0 {
		typ := ext.number(2)
		data := ext.vector(2)
		if ext.bad || seen[typ] {
			return "", errNoHello
		}
		seen[typ] = true
		switch typ {
		case extServerName:
			sni = data
		case extECH, extESNI:
			hidden = true
		}
	}
	if hidden {
		return "", errHidden
	}
	if !seen[extServerName] {
		return "", errNoSNI
	}
	list := &fields{b: sni}
	names := &fields{b: list.vector(2)}
	kind := names.number(1)
	name := names.vector(2)
	if list.bad || names.bad || len(list.b) != 0 || len(names.b) != 0 || kind != 0 { // one name, of a host
		return "", errNoHello
	}
	return hostName(string(name))
}

// hostName is a name in lower case without the dot at its end; an error where
// it is none.
func hostName(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if name == "" || len(name) > 253 {
		return "", fmt.Errorf("%.80q is no host name", s)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", fmt.Errorf("%s is an address and no name", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("%.80q is no host name", s)
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", fmt.Errorf("%.80q is no host name", s)
			}
		}
	}
	return name, nil
}
