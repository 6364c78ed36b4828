// Package strictjson reads JSON objects that no two readers see differently:
// UTF-8, no member twice. It builds maps several times faster than
// encoding/json, which has the last word on what is JSON at all.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Object reads one JSON object (RFC 8259) and nothing else, whose values nest
// at most depth levels deep. Numbers come as json.Number. Unlike encoding/json
// it refuses a member that comes twice and text that isn't UTF-8.
func Object(b []byte, depth int) (map[string]any, error) {
	p, err := open(b)
	if err != nil {
		return nil, err
	}
	return p.object(depth)
}

// Members calls fn with each member of one JSON object, in order, its value as
// it is written; an error of fn ends it. It refuses what Object does, but looks
// no deeper.
func Members(b []byte, fn func(name, value []byte) error) error {
	p, err := open(b)
	if err != nil {
		return err
	}
	return p.each(fn)
}

// MembersOf is Members for a value that Members gave. ok is false when the
// value is no object.
func MembersOf(value []byte, fn func(name, value []byte) error) (ok bool, err error) {
	if value[0] != '{' {
		return false, nil
	}
	p := &reader{b: value}
	return true, p.each(fn)
}

// Value reads a value that Members gave; depth is that of Object.
func Value(value []byte, depth int) (any, error) {
	p := &reader{b: value}
	return p.value(depth)
}

// Text reads a value that Members gave; ok is false when it is no string.
func Text(value []byte) (s string, ok bool) {
	if value[0] != '"' {
		return "", false
	}
	p := &reader{b: value}
	s, err := p.text()
	return s, err == nil
}

func open(b []byte) (*reader, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	if !json.Valid(b) {
		var v any
		return nil, fmt.Errorf("not JSON: %w", json.Unmarshal(b, &v))
	}
	p := &reader{b: b}
	if p.next() != '{' {
		return nil, errors.New("not a JSON object")
	}
	return p, nil
}

func doubled(name []byte) error { return fmt.Errorf("the member %q comes twice", name) }

// reader walks over JSON that is known to be valid.
type reader struct {
	b  []byte
	at int
}

// next skips white space and gives the byte behind it.
func (p *reader) next() byte {
	for {
		switch c := p.b[p.at]; c {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return c
		}
	}
}

// each is Members of the object at hand.
func (p *reader) each(fn func(name, value []byte) error) error {
	seen := make([][]byte, 0, 16)
	return p.members(func(name []byte) error {
		for _, s := range seen {
			if string(s) == string(name) {
				return doubled(name)
			}
		}
		seen = append(seen, name)
		from := p.at
		p.skip()
		return fn(name, p.b[from:p.at])
	})
}

// members calls fn with each name of the object at hand; fn reads the value.
func (p *reader) members(fn func(name []byte) error) error {
	p.at++ // the brace
	for c := p.next(); c != '}'; c = p.next() {
		if c == ',' {
			p.at++
			p.next()
		}
		name, err := p.name()
		if err != nil {
			return err
		}
		p.next()
		p.at++ // the colon
		p.next()
		if err := fn(name); err != nil {
			return err
		}
	}
	p.at++
	return nil
}

func (p *reader) object(depth int) (map[string]any, error) {
	obj := map[string]any{}
	err := p.members(func(name []byte) (err error) {
		if _, again := obj[string(name)]; again {
			return doubled(name)
		}
		obj[string(name)], err = p.value(depth - 1)
		return err
	})
	return obj, err
}

func (p *reader) list(depth int) ([]any, error) {
	list := []any{}
	p.at++ // the bracket
	for c := p.next(); c != ']'; c = p.next() {
		if c == ',' {
			p.at++
			p.next()
		}
		v, err := p.value(depth - 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	p.at++
	return list, nil
}

func (p *reader) value(depth int) (any, error) {
	if depth < 0 {
		return nil, errors.New("nested too deeply")
	}
	switch p.b[p.at] {
	case '{':
		return p.object(depth)
	case '[':
		return p.list(depth)
	case '"':
		return p.text()
	case 't':
		p.at += len("true")
		return true, nil
	case 'f':
		p.at += len("false")
		return false, nil
	case 'n':
		p.at += len("null")
		return nil, nil
	}
	from := p.at
	p.number()
	return json.Number(p.b[from:p.at]), nil
}

func (p *reader) number() {
	for ; p.at < len(p.b); p.at++ {
		switch p.b[p.at] {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return
		}
	}
}

// name reads a string into no memory of its own, if it can.
func (p *reader) name() ([]byte, error) {
	from := p.at
	if escaped := p.quoted(); !escaped {
		return p.b[from+1 : p.at-1], nil
	}
	p.at = from
	s, err := p.text()
	return []byte(s), err
}

// text reads a string, at whose opening quote the reader is.
func (p *reader) text() (s string, err error) {
	from := p.at
	if escaped := p.quoted(); !escaped {
		return string(p.b[from+1 : p.at-1]), nil
	}
	if err := json.Unmarshal(p.b[from:p.at], &s); err != nil {
		return "", fmt.Errorf("not JSON: %w", err)
	}
	return s, nil
}

// quoted goes behind a string.
func (p *reader) quoted() (escaped bool) {
	for p.at++; p.b[p.at] != '"'; p.at++ {
		if p.b[p.at] == '\\' {
			escaped = true
			p.at++
		}
	}
	p.at++
	return escaped
}

// skip goes behind a value.
func (p *reader) skip() {
	for depth := 0; ; {
		switch p.next() {
		case '{', '[':
			depth++
			p.at++
		case '}', ']':
			depth--
			p.at++
		case '"':
			p.quoted()
		case ',', ':':
			p.at++
			continue
		default:
			p.number() // or a word
		}
		if depth == 0 {
			return
		}
	}
}
