package arrival

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// ErrHeader is wrapped by every error of ReadHeader that the sender caused.
var ErrHeader = errors.New("not a PROXY protocol header")

const (
	maxHeaderV1 = 107  // with the line's end, section 2.1
	maxHeaderV2 = 2048 // addresses and extensions; ours to choose
)

// signature begins a version 2 header, section 2.2.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// ReadHeader reads a PROXY protocol header of version 1 or 2, and not a byte
// more, and returns the client's address: invalid when the connection is the
// sender's own, or the client came by something else than TCP.
// Source: "The PROXY protocol", HAProxy, 2020-03-05.
func ReadHeader(r io.Reader) (netip.Addr, error) {
	var head [len(signature)]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return netip.Addr{}, fmt.Errorf("reading the PROXY protocol header: %w", err)
	}
	switch {
	case string(head[:]) == signature:
		return readV2(r)
	case bytes.HasPrefix(head[:], []byte("PROXY ")):
		return readV1(r, head[:])
	}
	return netip.Addr{}, ErrHeader
}

func readV2(r io.Reader) (netip.Addr, error) {
	var fixed [4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.Addr{}, fmt.Errorf("reading the PROXY protocol header: %w", err)
	}
	n := int(binary.BigEndian.Uint16(fixed[2:]))
	if n > maxHeaderV2 {
		return netip.Addr{}, fmt.Errorf("%w: %d bytes long", ErrHeader, n)
	}
	rest := make([]byte, n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.Addr{}, fmt.Errorf("reading the PROXY protocol header: %w", err)
	}
	switch fixed[0] {
	case 0x20: // LOCAL
		return netip.Addr{}, nil
	case 0x21: // PROXY
	default:
		return netip.Addr{}, fmt.Errorf("%w: version and command %#x", ErrHeader, fixed[0])
	}
	size := 0
	switch fixed[1] {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	default:
		return netip.Addr{}, nil
	}
	if n < 2*size+4 {
		return netip.Addr{}, fmt.Errorf("%w: the addresses are cut", ErrHeader)
	}
	a, _ := netip.AddrFromSlice(rest[:size]) // of one of the two sizes
	return a.Unmap(), nil
}

func readV1(r io.Reader, line []byte) (netip.Addr, error) {
	line = bytes.Clone(line)
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxHeaderV1 {
			return netip.Addr{}, fmt.Errorf("%w: the line is too long", ErrHeader)
		}
		var b [1]byte // one at a time: what follows is the client's
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return netip.Addr{}, fmt.Errorf("reading the PROXY protocol header: %w", err)
		}
		line = append(line, b[0])
	}
	f := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if len(f) >= 2 && f[1] == "UNKNOWN" {
		return netip.Addr{}, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return netip.Addr{}, fmt.Errorf("%w: %d fields", ErrHeader, len(f))
	}
	src, err := netip.ParseAddr(f[2])
	if err != nil || src.Zone() != "" || src.Is4() != (f[1] == "TCP4") {
		return netip.Addr{}, fmt.Errorf("%w: the client's address", ErrHeader)
	}
	if _, err := netip.ParseAddr(f[3]); err != nil {
		return netip.Addr{}, fmt.Errorf("%w: the server's address", ErrHeader)
	}
	for _, p := range f[4:] {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return netip.Addr{}, fmt.Errorf("%w: a port", ErrHeader)
		}
	}
	return src.Unmap(), nil
}
