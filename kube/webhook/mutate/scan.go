package mutate

import (
	"encoding/json"
	"errors"
	"fmt"
)

// maxDepth bounds nesting, as the API server's own decoder does.
const maxDepth = 1000

var errTooDeep = errors.New("nested too deeply")

// scanner reads JSON (RFC 8259) in place: what is not asked for is checked and
// passed over, and nothing is allocated for it. Member names are compared with
// their case, as the API server does.
type scanner struct {
	b     []byte
	i     int
	depth int
	err   error // the first; after it every method does nothing
}

func (s *scanner) fail(what string) {
	if s.err == nil {
		s.err = fmt.Errorf("%s at offset %d", what, s.i)
	}
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek is the next byte that is no white space, 0 at the end.
func (s *scanner) peek() byte {
	if s.err != nil {
		return 0
	}
	if s.space(); s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// open enters an object or an array and says whether it has a first element.
// A null counts as empty; anything else is an error.
func (s *scanner) open(bracket byte) bool {
	switch s.peek() {
	case bracket:
	case 'n':
		s.literal("null")
		return false
	default:
		s.fail("expected " + string(bracket))
		return false
	}
	s.i++
	if s.depth++; s.depth > maxDepth {
		s.err = errTooDeep
		return false
	}
	if s.peek() == bracket+2 { // '{'+2 == '}' and '['+2 == ']'
		s.i++
		s.depth--
		return false
	}
	return s.err == nil
}

// more goes to the next element of what open entered, and leaves after the last.
func (s *scanner) more(bracket byte) bool {
	switch s.peek() {
	case ',':
		s.i++
		return true
	case bracket + 2:
		s.i++
		s.depth--
	default:
		s.fail("expected , or " + string(bracket+2))
	}
	return false
}

// key reads a member's name and its colon. The bytes belong to the input.
func (s *scanner) key() []byte {
	k := s.string()
	if s.peek() != ':' {
		s.fail("expected :")
		return nil
	}
	s.i++
	return k
}

// raw reads a string and returns what stands between the quotes, and whether it
// holds escapes.
func (s *scanner) raw() (b []byte, escaped bool) {
	if s.peek() != '"' {
		s.fail("expected a string")
		return nil, false
	}
	s.i++
	for start := s.i; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], escaped
		case c == '\\':
			escaped = true
			if !s.escape() {
				return nil, false
			}
		case c < ' ':
			s.fail("control character in a string")
			return nil, false
		}
	}
	s.fail("unended string")
	return nil, false
}

// escape stands on a backslash and goes to the escape's last byte.
func (s *scanner) escape() bool {
	s.i++
	if s.i >= len(s.b) {
		s.fail("unended string")
		return false
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			if s.i++; s.i >= len(s.b) || !isHex(s.b[s.i]) {
				s.fail("invalid \\u escape")
				return false
			}
		}
		return true
	}
	s.fail("invalid escape")
	return false
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// string reads a string. The bytes belong to the input unless it has escapes.
func (s *scanner) string() []byte {
	b, escaped := s.raw()
	if !escaped {
		return b
	}
	var text string // rare: only then is the general decoder worth its cost
	if err := json.Unmarshal(s.b[s.i-len(b)-2:s.i], &text); err != nil {
		s.fail(err.Error())
		return nil
	}
	return []byte(text)
}

// optional reads a string or a null, which leaves empty.
func (s *scanner) optional() []byte {
	if s.peek() == 'n' {
		s.literal("null")
		return nil
	}
	return s.string()
}

// bool reads true, false, or a null, which is false.
func (s *scanner) bool() bool {
	switch s.peek() {
	case 't':
		s.literal("true")
		return s.err == nil
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.fail("expected true or false")
	}
	return false
}

func (s *scanner) literal(want string) {
	if len(s.b)-s.i < len(want) || string(s.b[s.i:s.i+len(want)]) != want {
		s.fail("expected " + want)
		return
	}
	s.i += len(want)
}

// skip passes over one value of any kind.
func (s *scanner) skip() {
	switch c := s.peek(); {
	case c == '"':
		s.raw()
	case c == '{':
		for ok := s.open('{'); ok; ok = s.more('{') {
			s.skipKey()
			s.skip()
		}
	case c == '[':
		for ok := s.open('['); ok; ok = s.more('[') {
			s.skip()
		}
	case c == 't':
		s.literal("true")
	case c == 'f':
		s.literal("false")
	case c == 'n':
		s.literal("null")
	case c == '-' || c >= '0' && c <= '9':
		s.number()
	default:
		s.fail("expected a value")
	}
}

func (s *scanner) skipKey() {
	s.raw()
	if s.peek() != ':' {
		s.fail("expected :")
		return
	}
	s.i++
}

func (s *scanner) number() {
	if s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		s.digits()
	}
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	if s.i == start {
		s.fail("expected a digit")
		return false
	}
	return true
}

// end says whether nothing but white space is left.
func (s *scanner) end() error {
	if s.err == nil {
		if s.space(); s.i < len(s.b) {
			s.fail("text after the end")
		}
	}
	return s.err
}
