package template

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Relaxed turns what Azure takes for JSON into JSON: comments, names without
// quotes, text in single quotes or over several lines, and commas before a
// closing bracket. az sends the template as it stands in its file, after
// "template:" without quotes. What is JSON already comes back as it is.
func Relaxed(b []byte) ([]byte, error) {
	if json.Valid(b) {
		return b, nil
	}
	r := &relaxer{in: b}
	for r.at < len(r.in) {
		if err := r.token(); err != nil {
			return nil, err
		}
	}
	if !json.Valid(r.out) {
		return nil, invalid(fmt.Errorf("the request content is not valid JSON"))
	}
	return r.out, nil
}

type relaxer struct {
	in, out []byte
	at      int
}

func (r *relaxer) token() error {
	switch c := r.in[r.at]; {
	case c == '"' || c == '\'':
		return r.quoted(c)
	case c == '/' && strings.HasPrefix(string(r.in[r.at:min(r.at+2, len(r.in))]), "//"):
		for r.at < len(r.in) && r.in[r.at] != '\n' {
			r.at++
		}
	case c == '/' && strings.HasPrefix(string(r.in[r.at:min(r.at+2, len(r.in))]), "/*"):
		end := strings.Index(string(r.in[r.at+2:]), "*/")
		if end < 0 {
			return invalid(fmt.Errorf("a comment is not closed"))
		}
		r.at += end + 4
	case c == '}' || c == ']':
		if n := len(strings.TrimRight(string(r.out), " \t\r\n")); n > 0 && r.out[n-1] == ',' {
			r.out = r.out[:n-1]
		}
		r.out = append(r.out, c)
		r.at++
	case letter(c):
		from := r.at
		for r.at < len(r.in) && (letter(r.in[r.at]) || r.in[r.at] >= '0' && r.in[r.at] <= '9') {
			r.at++
		}
		r.word(string(r.in[from:r.at]))
	default:
		r.out = append(r.out, c)
		if r.at++; c == '-' || c >= '0' && c <= '9' { // of a number: its exponent is no word
			for r.at < len(r.in) && strings.IndexByte("+-.eE0123456789", r.in[r.at]) >= 0 {
				r.out = append(r.out, r.in[r.at])
				r.at++
			}
		}
	}
	return nil
}

func letter(c byte) bool {
	return c == '_' || c == '$' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// word is a name without quotes, or true, false and null.
func (r *relaxer) word(w string) {
	next := r.at
	for next < len(r.in) && strings.IndexByte(" \t\r\n", r.in[next]) >= 0 {
		next++
	}
	if next < len(r.in) && r.in[next] == ':' {
		w = `"` + w + `"`
	}
	r.out = append(r.out, w...)
}

// quoted is text between quotes, which may hold line breaks.
func (r *relaxer) quoted(quote byte) error {
	r.out = append(r.out, '"')
	for r.at++; r.at < len(r.in); r.at++ {
		switch c := r.in[r.at]; {
		case c == quote:
			r.out = append(r.out, '"')
			r.at++
			return nil
		case c == '\\' && r.at+1 < len(r.in):
			r.at++
			if r.in[r.at] == '\'' {
				r.out = append(r.out, '\'')
			} else {
				r.out = append(r.out, '\\', r.in[r.at])
			}
		case c == '"':
			r.out = append(r.out, '\\', '"')
		case c < ' ':
			r.out = fmt.Appendf(r.out, `\u%04x`, c)
		case c >= utf8.RuneSelf:
			ru, n := utf8.DecodeRune(r.in[r.at:])
			r.out = utf8.AppendRune(r.out, ru)
			r.at += n - 1
		default:
			r.out = append(r.out, c)
		}
	}
	return invalid(fmt.Errorf("a text is not closed"))
}
