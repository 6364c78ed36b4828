package openai

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// usage is what an answer cost, in tokens.
type usage struct{ Prompt, Completion int }

// tokens are a number as backends write it: whole, with a point, in quotes.
// What is no number counts as none: an answer is not broken by its bill.
type tokens int

// UnmarshalJSON implements json.Unmarshaler.
func (t *tokens) UnmarshalJSON(raw []byte) error {
	f, err := strconv.ParseFloat(string(bytes.Trim(raw, `"`)), 64)
	if err != nil || !(f > 0) { // NaN is not either
		f = 0
	}
	*t = tokens(min(f, mostTokens))
	return nil
}

// readUsage reads what an answer says that it cost; nil is nothing. Source:
// OpenAI API reference, chat completions and responses, which name the same
// differently.
func readUsage(raw []byte) *usage {
	var u *struct {
		Prompt     tokens `json:"prompt_tokens"`
		Completion tokens `json:"completion_tokens"`
		Input      tokens `json:"input_tokens"`
		Output     tokens `json:"output_tokens"`
	}
	if json.Unmarshal(raw, &u) != nil || u == nil {
		return nil
	}
	return &usage{Prompt: int(max(u.Prompt, u.Input)), Completion: int(max(u.Completion, u.Output))}
}

// mostTokens bounds what a backend's word counts for.
const mostTokens = 100_000_000

// usageScanner finds the member "usage" of the JSON object that passes by in
// pieces, and keeps nothing else of it.
type usageScanner struct {
	depth    int
	inString bool
	escaped  bool
	isKey    bool   // the string that passes is a name of the outermost object
	expect   bool   // a name may come next
	key      []byte // so far
	wanted   bool   // the value that passes is the wanted one
	value    []byte
	whole    bool
}

// mostUsage bounds the value that is kept, and mostKey the name.
const (
	mostUsage = 4 << 10
	mostKey   = 8
)

// feed looks at the next piece.
func (s *usageScanner) feed(p []byte) {
	for _, c := range p {
		if s.wanted && (s.depth > 1 || c != ',' && c != '}' || s.inString) && len(s.value) <= mostUsage {
			s.value = append(s.value, c)
		}
		if s.inString {
			s.text(c)
			continue
		}
		switch c {
		case '"':
			s.inString = true
			if s.isKey = s.expect; s.isKey {
				s.key, s.expect = s.key[:0], false
			}
		case '{', '[':
			s.depth++
			s.expect = s.depth == 1 && c == '{'
		case '}', ']':
			s.depth--
			if s.depth == 0 {
				s.end()
			}
		case ',':
			if s.depth == 1 {
				s.end()
				s.expect = true
			}
		case ':':
			if s.depth == 1 && string(s.key) == "usage" {
				s.wanted, s.value, s.key = true, s.value[:0], s.key[:0]
			}
		}
	}
}

// text looks at a character inside a string.
func (s *usageScanner) text(c byte) {
	switch {
	case s.escaped:
		s.escaped = false
	case c == '\\':
		s.escaped = true
	case c == '"':
		s.inString = false
		return
	}
	if s.isKey && len(s.key) < mostKey {
		s.key = append(s.key, c)
	}
}

func (s *usageScanner) end() {
	s.whole = s.whole || s.wanted
	s.wanted = false
}

// usage is what was found.
func (s *usageScanner) usage() (usage, bool) {
	if !s.whole {
		return usage{}, false
	}
	u := readUsage(s.value)
	if u == nil {
		return usage{}, false
	}
	return *u, true
}
