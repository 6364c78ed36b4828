package store

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of documents and queries.
const (
	MaxKey   = 2 << 10  // bytes of a key
	MaxKind  = 200      // bytes of a kind
	MaxValue = 16 << 20 // bytes of a value
	MaxList  = 1000     // documents that one List gives
)

// Check says whether the document is within the limits, else ErrInvalid.
func (d Doc) Check() error {
	if err := checkKey(d.Key); err != nil {
		return err
	}
	if len(d.Kind) > MaxKind || !printable(d.Kind) {
		return fmt.Errorf("%w: kind of %q is over %d bytes or not printable", ErrInvalid, d.Key, MaxKind)
	}
	if len(d.Value) > MaxValue {
		return fmt.Errorf("%w: value of %q has %d bytes, at most %d are allowed", ErrInvalid, d.Key, len(d.Value), MaxValue)
	}
	if d.Rev < 0 {
		return fmt.Errorf("%w: negative revision of %q", ErrInvalid, d.Key)
	}
	return nil
}

// Check says whether the query is within the limits, else ErrInvalid.
func (q Query) Check() error {
	if !printable(q.Prefix) || !printable(q.After) || !printable(q.Kind) {
		return fmt.Errorf("%w: prefix, after and kind must be printable UTF-8", ErrInvalid)
	}
	if q.Limit < 0 || q.Limit > MaxList {
		return fmt.Errorf("%w: limit %d is not in 0..%d", ErrInvalid, q.Limit, MaxList)
	}
	return nil
}

func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: empty key", ErrInvalid)
	case len(key) > MaxKey:
		return fmt.Errorf("%w: key of %d bytes, at most %d are allowed", ErrInvalid, len(key), MaxKey)
	case !printable(key):
		return fmt.Errorf("%w: key %q is not printable UTF-8", ErrInvalid, key)
	}
	return nil
}

// printable reports UTF-8 without control characters. Both databases can keep
// such text, and nothing sorts between a key and key+"\x01".
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Range gives the bounds of the keys that start with prefix and come after
// the key after: low <= key, and key < high unless high is "".
func Range(prefix, after string) (low, high string) {
	low = prefix
	if after != "" && after >= prefix {
		low = after + "\x01" // see printable: the least that is greater than after
	}
	return low, successor(prefix)
}

// successor is the least text that is greater than every text with this
// prefix, "" if there is none. It counts up the last character, not the last
// byte, so that it stays UTF-8, whose bytes sort as its characters do.
func successor(prefix string) string {
	p := strings.TrimRight(prefix, string(utf8.MaxRune))
	if p == "" {
		return ""
	}
	r, n := utf8.DecodeLastRuneInString(p)
	r++
	if r == 0xD800 { // no characters from here
		r = 0xE000
	}
	return p[:len(p)-n] + string(r)
}
