package inference

import "encoding/binary"

// scanner walks over JSON in one pass, without decoding it. Its methods report
// whether what they looked for is there and leave i behind it, or where it
// failed.
type scanner struct {
	b    []byte
	i    int
	deep bool // it failed for depth
}

// next skips white space and gives the byte there; 0 at the end.
func (s *scanner) next() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// list reads what is between an opening bracket, already read, and the closing one.
func (s *scanner) list(closing byte, item func() bool) bool {
	if s.next() == closing {
		s.i++
		return true
	}
	for {
		s.next()
		if !item() {
			return false
		}
		switch s.next() {
		case ',':
			s.i++
		case closing:
			s.i++
			return true
		default:
			return false
		}
	}
}

// any reads a value at depth.
func (s *scanner) any(depth int) bool {
	if depth > maxDepth {
		s.deep = true
		return false
	}
	switch c := s.next(); {
	case c == '"':
		return s.text()
	case c == '{':
		s.i++
		return s.list('}', func() bool {
			if !s.text() || s.next() != ':' {
				return false
			}
			s.i++
			return s.any(depth + 1)
		})
	case c == '[':
		s.i++
		return s.list(']', func() bool { return s.any(depth + 1) })
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	default:
		return false
	}
}

func (s *scanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

// text reads a string with its quotes.
func (s *scanner) text() bool {
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		return false
	}
	s.i++
	for s.i < len(s.b) {
		for s.i+8 <= len(s.b) && plainText(binary.LittleEndian.Uint64(s.b[s.i:])) {
			s.i += 8
		}
		if s.i >= len(s.b) {
			break
		}
		c := s.b[s.i]
		switch {
		case c == '"':
			s.i++
			return true
		case c < ' ':
			return false
		case c != '\\':
			s.i++
		case !s.escape():
			return false
		}
	}
	return false
}

// plainText reports whether none of eight bytes is a quote, a backslash or a
// control character: for each of those a byte's highest bit comes up.
func plainText(x uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, backslash := x^(ones*'"'), x^(ones*'\\')
	return ((x-ones*' ')&^x|(quote-ones)&^quote|(backslash-ones)&^backslash)&tops == 0
}

func (s *scanner) escape() bool {
	s.i++
	if s.i >= len(s.b) {
		return false
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return true
	case 'u':
		for range 4 {
			s.i++
			if s.i >= len(s.b) || !isHex(s.b[s.i]) {
				return false
			}
		}
		s.i++
		return true
	default:
		return false
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func (s *scanner) is(set string) bool {
	if s.i < len(s.b) {
		for i := range len(set) {
			if s.b[s.i] == set[i] {
				s.i++
				return true
			}
		}
	}
	return false
}

func (s *scanner) number() bool {
	s.is("-")
	if !s.is("0") && !s.digits() {
		return false
	}
	if s.is(".") && !s.digits() {
		return false
	}
	if s.is("eE") {
		s.is("+-")
		return s.digits()
	}
	return true
}
