package vnet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

const (
	maxHead  = 64 << 10 // bytes of a request's head
	maxChunk = 15       // hexadecimal digits of a chunk's size
)

// errRequest is wrapped by what is wrong with a request. A request that two
// programs could read differently is none.
var errRequest = errors.New("it is no HTTP/1 request that can be read in one way alone")

// head is the head of a request.
type head struct {
	raw    []byte // as it came, with the empty line
	host   string // in lower case, without a port
	length int64  // of the body; -1: it is chunked
}

// readHead reads the head of an HTTP/1 request.
// Source: RFC 9112 sections 2 to 7; stricter wherever that leaves a choice.
func readHead(r *bufio.Reader) (head, error) {
	var h head
	line, err := h.line(r)
	if err != nil {
		return h, err
	}
	target, version, err := requestLine(line)
	if err != nil {
		return h, err
	}
	var lengths, codings, hosts []string
	for {
		line, err := h.line(r)
		if err != nil {
			return h, unexpected(err)
		}
		if line == "" {
			break
		}
		name, value, err := field(line)
		if err != nil {
			return h, err
		}
		switch strings.ToLower(name) {
		case "content-length":
			lengths = append(lengths, value)
		case "transfer-encoding":
			codings = append(codings, value)
		case "host":
			hosts = append(hosts, value)
		}
	}
	if len(hosts) != 1 {
		return h, fmt.Errorf("%w: %d Host headers", errRequest, len(hosts))
	}
	if h.host, err = authority(hosts[0]); err != nil {
		return h, err
	}
	if rest, ok := cutPrefixFold(target, "http://"); ok {
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			rest = rest[:i]
		}
		if to, err := authority(rest); err != nil || to != h.host {
			return h, fmt.Errorf("%w: its target and its Host header differ", errRequest)
		}
	} else if target != "*" && !strings.HasPrefix(target, "/") {
		return h, fmt.Errorf("%w: its target", errRequest)
	}
	h.length, err = bodyLength(version, lengths, codings)
	return h, err
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// line reads a line and keeps it among what was read.
func (h *head) line(r *bufio.Reader) (string, error) {
	at := len(h.raw)
	for {
		part, err := r.ReadSlice('\n')
		if len(h.raw)+len(part) > maxHead {
			return "", fmt.Errorf("%w: its head is too long", errRequest)
		}
		h.raw = append(h.raw, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			if len(h.raw) > at {
				err = unexpected(err)
			}
			return "", err
		}
		break
	}
	line, ok := bytes.CutSuffix(h.raw[at:], []byte("\r\n"))
	if !ok || bytes.ContainsAny(line, "\r\x00") {
		return "", fmt.Errorf("%w: a line's end", errRequest)
	}
	return string(line), nil
}

func requestLine(line string) (target, version string, err error) {
	f := strings.Split(line, " ")
	if len(f) != 3 || !isToken(f[0]) || f[1] == "" || f[2] != "HTTP/1.1" && f[2] != "HTTP/1.0" {
		return "", "", fmt.Errorf("%w: its first line", errRequest)
	}
	for i := range len(f[1]) {
		if c := f[1][i]; c <= ' ' || c == 0x7f {
			return "", "", fmt.Errorf("%w: its target", errRequest)
		}
	}
	if f[0] == "CONNECT" {
		return "", "", fmt.Errorf("%w: CONNECT is for proxies", errRequest)
	}
	return f[1], f[2], nil
}

func field(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) { // neither folded lines nor blanks before the colon
		return "", "", fmt.Errorf("%w: a header", errRequest)
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", "", fmt.Errorf("%w: a header", errRequest)
		}
	}
	return name, strings.Trim(value, " \t"), nil
}

func isToken(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// authority is the host of a Host header.
func authority(s string) (string, error) {
	if h, port, err := net.SplitHostPort(s); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", fmt.Errorf("%w: the port of its Host header", errRequest)
		}
		s = h
	}
	return hostName(s)
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

func bodyLength(version string, lengths, codings []string) (int64, error) {
	switch {
	case len(codings) == 1 && len(lengths) == 0 && version == "HTTP/1.1" && strings.EqualFold(codings[0], "chunked"):
		return -1, nil
	case len(codings) > 0 || len(lengths) > 1:
		return 0, fmt.Errorf("%w: the length of its body", errRequest)
	case len(lengths) == 0:
		return 0, nil
	}
	for i := range len(lengths[0]) {
		if c := lengths[0][i]; c < '0' || c > '9' {
			return 0, fmt.Errorf("%w: the length of its body", errRequest)
		}
	}
	n, err := strconv.ParseInt(lengths[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: the length of its body", errRequest)
	}
	return n, nil
}

// copyBody passes the body on that belongs to a head.
func (h head) copyBody(w io.Writer, r *bufio.Reader) error {
	if h.length >= 0 {
		_, err := io.CopyN(w, r, h.length)
		return unexpected(err)
	}
	for {
		size, err := copyLine(w, r)
		if err != nil {
			return err
		}
		digits, extension, _ := strings.Cut(size, ";")
		digits = strings.TrimRight(digits, " \t")
		n, err := strconv.ParseUint(digits, 16, 63)
		if err != nil || len(digits) > maxChunk || strings.ContainsAny(digits, "+-_") || strings.ContainsFunc(extension, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return fmt.Errorf("%w: a chunk's size", errRequest)
		}
		if n == 0 {
			return copyTrailer(w, r)
		}
		if _, err := io.CopyN(w, r, int64(n)); err != nil {
			return unexpected(err)
		}
		end, err := copyLine(w, r)
		if err != nil {
			return err
		}
		if end != "" {
			return fmt.Errorf("%w: a chunk's end", errRequest)
		}
	}
}

func copyTrailer(w io.Writer, r *bufio.Reader) error {
	for total := 0; ; {
		line, err := copyLine(w, r)
		if err != nil || line == "" {
			return err
		}
		if _, _, err := field(line); err != nil {
			return err
		}
		if total += len(line); total > maxHead {
			return fmt.Errorf("%w: its trailer is too long", errRequest)
		}
	}
}

// copyLine passes one line on, once it is read and right.
func copyLine(w io.Writer, r *bufio.Reader) (string, error) {
	var h head
	line, err := h.line(r)
	if err != nil {
		return "", unexpected(err)
	}
	_, err = w.Write(h.raw)
	return line, err
}
