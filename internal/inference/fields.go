package inference

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"lazurite.dev/internal/apierr"
)

// Fields are the members of a request's body that a gateway needs.
type Fields struct {
	Model        string // empty: not said
	Stream       bool
	IncludeUsage *bool           // stream_options.include_usage; nil: not said
	StreamOption json.RawMessage // stream_options as it was written; nil: not there
	MaxTokens    int             // the largest of max_completion_tokens, max_output_tokens and max_tokens; 0: not said
	N            int             // how many choices; 1 where it is not said, at most 128
}

// Bounds of a body.
const (
	maxDepth   = 512  // levels
	maxMembers = 1000 // of the outermost object
	maxChoices = 128  // n, as OpenAI's API has it
	maxQuoted  = 40   // bytes of a caller's text in an error, which is logged
)

// Peek reads the members of a JSON object that a gateway needs and checks all of
// it, but decodes nothing else. It refuses with BadRequest what is not one JSON
// object (RFC 8259), text that is not UTF-8, a top-level member that comes twice
// and members of the wrong type, whose name is the error's Target.
func Peek(body []byte) (Fields, error) {
	f := Fields{N: 1}
	members, _, err := scan(body)
	if err != nil {
		return f, err
	}
	for _, m := range members {
		if name, ok := misspelt(m.key); ok {
			return f, badBody("the member %q is to be written %q", m.key, name).WithTarget(name)
		}
		value := body[m.value:m.end]
		if value[0] == 'n' { // null is as good as absent
			continue
		}
		switch string(m.key) {
		case "model":
			err = decode(value, "model", "a string", &f.Model)
		case "stream":
			err = decode(value, "stream", "a boolean", &f.Stream)
		case "stream_options":
			f.StreamOption = value
			f.IncludeUsage, err = includeUsage(value)
		case "max_completion_tokens", "max_output_tokens", "max_tokens":
			var most int
			most, err = count(value, string(m.key))
			f.MaxTokens = max(f.MaxTokens, most) // backends differ in which they know
		case "n":
			if f.N, err = count(value, "n"); err == nil && f.N > maxChoices {
				err = badBody("'n' must be at most %d", maxChoices).WithTarget("n")
			}
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// includeUsage reads stream_options.
func includeUsage(options []byte) (*bool, error) {
	const what = "an object with a boolean include_usage"
	members, _, err := scan(options)
	if err != nil {
		return nil, badBody("'stream_options' must be %s", what).WithTarget("stream_options")
	}
	var out *bool
	for _, m := range members {
		if !bytes.EqualFold(m.key, []byte("include_usage")) {
			continue
		}
		if string(m.key) != "include_usage" { // a backend would not see it as we do
			return nil, badBody("the member %q of 'stream_options' is to be written %q", m.key, "include_usage").WithTarget("stream_options")
		}
		if err := decode(options[m.value:m.end], "stream_options", what, &out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// misspelt finds the name of which key is another spelling in letter case. Some
// backends take it for the same member, and would not see what a gateway sees.
func misspelt(key []byte) (string, bool) {
	for _, name := range [...]string{
		"model", "stream", "stream_options", "max_completion_tokens", "max_output_tokens", "max_tokens", "n", "store",
		"messages", "prompt", "suffix", "input", "instructions", "tools", "functions", "previous_response_id", "background", "conversation", "encoding_format",
	} {
		if bytes.EqualFold(key, []byte(name)) {
			return name, string(key) != name
		}
	}
	return "", false
}

// Member is a member of a JSON object that is to be set.
type Member struct {
	Key   string
	Value json.RawMessage // nil: it is to be taken away
}

// Set is Edit of one member.
func Set(body []byte, key string, raw json.RawMessage) ([]byte, error) {
	return Edit(body, Member{key, raw})
}

// Edit gives a copy of a JSON object in which top-level members have other values,
// in their old places or as the last ones; of those with one key the last counts.
// All else stays as it was written. It refuses what Peek refuses, and a value that
// is not one JSON value.
func Edit(body []byte, edits ...Member) ([]byte, error) {
	members, end, err := scan(body)
	if err != nil {
		return nil, err
	}
	most := len(body)
	for _, e := range edits {
		if e.Value != nil && !json.Valid(e.Value) {
			return nil, badBody("the value for %q is not JSON", e.Key)
		}
		most += len(e.Value) + len(e.Key) + 4
	}
	out, at, kept := make([]byte, 0, most), 0, 0 // what is before at is written or goes
	for i, m := range members {
		e, found := last(edits, string(m.key))
		switch {
		case !found:
			kept++
		case e.Value != nil:
			out = append(append(out, body[at:m.value]...), e.Value...)
			at = m.end
			kept++
		case kept > 0: // with the comma before it
			out = append(out, body[at:max(at, members[i-1].end)]...)
			at = m.end
		case i+1 < len(members): // with the comma after it
			out = append(out, body[at:m.start]...)
			at = members[i+1].start
		default:
			out = append(out, body[at:m.start]...)
			at = m.end
		}
	}
	out = append(out, body[at:end]...)
	for i, e := range edits {
		there := slices.ContainsFunc(members, func(m member) bool { return string(m.key) == e.Key })
		if _, again := last(edits[i+1:], e.Key); there || again || e.Value == nil {
			continue
		}
		if kept++; kept > 1 {
			out = append(out, ',')
		}
		name, err := json.Marshal(e.Key)
		if err != nil {
			return nil, badBody("%q is no name of a member", e.Key)
		}
		out = append(append(append(out, name...), ':'), e.Value...)
	}
	return append(out, body[end:]...), nil
}

// last is the last edit of a key.
func last(edits []Member, key string) (e Member, found bool) {
	for _, m := range edits {
		if m.Key == key {
			e, found = m, true
		}
	}
	return e, found
}

// badBody says what is wrong with a body, and quotes little of it: errors are
// logged, and what callers send is not to be.
func badBody(format string, args ...any) *apierr.Error {
	for i, a := range args {
		if text, ok := a.([]byte); ok {
			args[i] = quoted(text)
		}
	}
	return apierr.New(apierr.BadRequest, "BadRequest", "The request body is not valid: "+format+".", args...)
}

// quoted is the beginning of a caller's text.
func quoted(text []byte) string {
	if len(text) <= maxQuoted {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:maxQuoted]), "") + "…"
}

func decode(value []byte, name, what string, into any) error {
	if err := json.Unmarshal(value, into); err != nil {
		return badBody("'%s' must be %s", name, what).WithTarget(name)
	}
	return nil
}

func count(value []byte, name string) (int, error) {
	n, err := strconv.Atoi(string(value))
	if err != nil || n < 1 {
		return 0, badBody("'%s' must be an integer of at least 1", name).WithTarget(name)
	}
	return n, nil
}

// member is where a member of an object is.
type member struct {
	key        []byte // without escapes
	start      int    // of the name
	value, end int
}

// scan checks that b is one JSON object and finds its members; end is where its
// closing brace is.
func scan(b []byte) (members []member, end int, err error) {
	if !utf8.Valid(b) {
		return nil, 0, badBody("it is not UTF-8")
	}
	s := &scanner{b: b}
	if s.next() != '{' {
		return nil, 0, badBody("it is not a JSON object")
	}
	s.i++
	members = make([]member, 0, 12)
	var seen map[string]bool // where there are many
	ok := s.list('}', func() bool {
		m := member{start: s.i}
		if !s.text() {
			return false
		}
		m.key = plain(b[m.start:s.i])
		if s.next() != ':' {
			return false
		}
		s.i++
		s.next()
		m.value = s.i
		if !s.any(1) {
			return false
		}
		m.end = s.i
		if known(members, &seen, m.key) {
			err = badBody("the member %q comes twice", m.key).WithTarget(quoted(m.key))
			return false
		}
		if len(members) == maxMembers {
			err = badBody("it has more than %d members", maxMembers)
			return false
		}
		members = append(members, m)
		return true
	})
	end = s.i - 1
	switch {
	case err != nil:
		return nil, 0, err
	case s.deep:
		return nil, 0, badBody("it nests deeper than %d levels", maxDepth)
	case !ok || s.next() != 0 || s.i < len(b):
		return nil, 0, badBody("it is not JSON (at byte %d)", min(s.i, len(b)))
	}
	return members, end, nil
}

// known reports whether a key came before; seen serves objects with many members.
func known(members []member, seen *map[string]bool, key []byte) bool {
	const few = 32
	if len(members) < few {
		for i := range members {
			if bytes.Equal(members[i].key, key) {
				return true
			}
		}
		return false
	}
	if *seen == nil {
		*seen = map[string]bool{}
		for _, m := range members {
			(*seen)[string(m.key)] = true
		}
	}
	if (*seen)[string(key)] {
		return true
	}
	(*seen)[string(key)] = true
	return false
}

// plain is a string without quotes and escapes.
func plain(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // the scanner has checked it
	return []byte(s)
}
