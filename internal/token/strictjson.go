package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth is how deep a header or claims set may nest.
const maxDepth = 12

// parseObject reads one JSON object and nothing else. Unlike encoding/json it
// refuses a member that comes twice (RFC 7519 section 4 lets us), because two
// readers could otherwise see two different tokens, and text that isn't UTF-8.
// Numbers come as json.Number.
func parseObject(b []byte) (map[string]any, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	if !json.Valid(b) {
		var v any
		return nil, fmt.Errorf("not JSON: %w", json.Unmarshal(b, &v))
	}
	p := reader{b}
	if p.next() != '{' {
		return nil, errors.New("not a JSON object")
	}
	return p.object(0)
}

// reader takes values from the front of JSON that is known to be valid.
type reader struct{ rest []byte }

// next is the first byte after white space.
func (p *reader) next() byte {
	p.rest = bytes.TrimLeft(p.rest, " \t\r\n")
	return p.rest[0]
}

// sep takes the comma after a value, if it is there, else the closing bracket.
func (p *reader) sep() (more bool) {
	c := p.next()
	p.rest = p.rest[1:]
	return c == ','
}

func (p *reader) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	switch p.next() {
	case '{':
		return p.object(depth)
	case '[':
		return p.list(depth)
	case '"':
		return p.text()
	case 't':
		p.rest = p.rest[len("true"):]
		return true, nil
	case 'f':
		p.rest = p.rest[len("false"):]
		return false, nil
	case 'n':
		p.rest = p.rest[len("null"):]
		return nil, nil
	}
	n := bytes.IndexAny(p.rest, ",]} \t\r\n")
	number := json.Number(p.rest[:n])
	p.rest = p.rest[n:]
	return number, nil
}

func (p *reader) object(depth int) (map[string]any, error) {
	obj := map[string]any{}
	p.rest = p.rest[1:]
	if p.next() == '}' {
		p.rest = p.rest[1:]
		return obj, nil
	}
	for more := true; more; more = p.sep() {
		p.next()
		name, err := p.text()
		if err != nil {
			return nil, err
		}
		if _, doubled := obj[name]; doubled {
			return nil, fmt.Errorf("the member %q comes twice", name)
		}
		p.next()
		p.rest = p.rest[1:] // the colon
		if obj[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return obj, nil
}

func (p *reader) list(depth int) ([]any, error) {
	list := []any{}
	p.rest = p.rest[1:]
	if p.next() == ']' {
		p.rest = p.rest[1:]
		return list, nil
	}
	for more := true; more; more = p.sep() {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// text takes a string, at whose opening quote the rest begins.
func (p *reader) text() (s string, err error) {
	end, escaped := 1, false
	for ; p.rest[end] != '"'; end++ {
		if p.rest[end] == '\\' {
			escaped = true
			end++
		}
	}
	raw := p.rest[:end+1]
	p.rest = p.rest[end+1:]
	if !escaped {
		return string(raw[1:end]), nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("not JSON: %w", err)
	}
	return s, nil
}
