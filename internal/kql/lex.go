package kql

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// token is a word, a literal or a sign.
type token struct {
	kind byte // 'w' word, 's' string, 'n' number, 't' timespan, 'd' datetime, 'p' sign, 'e' the end
	text string
	at   int
	end  int
	val  any // of literals
}

// signs are the longest first.
var signs = [...]string{"==", "!=", "<>", "<=", ">=", "=~", "!~", "..", "|", "(", ")", "[", "]", ",", ".", "<", ">", "=", "+", "-", "*", "/", "%", ";", "{", "}", ":"}

func letter(c byte) bool { return c == '_' || c == '$' || 'a' <= c|0x20 && c|0x20 <= 'z' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }

func lex(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case strings.HasPrefix(s[i:], "//"):
			if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(s)
			}
		default:
			t, err := next(s, i)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
			i = t.end
		}
	}
	return out, nil
}

// next reads the token at i.
func next(s string, i int) (token, error) {
	c := s[i]
	switch {
	case c == '"' || c == '\'':
		return text(s, i)
	case c == '@' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\''):
		return verbatim(s, i)
	case digit(c):
		return number(s, i)
	case letter(c) || c == '!' && i+1 < len(s) && letter(s[i+1]):
		j := i + 1
		for j < len(s) && (letter(s[j]) || digit(s[j])) {
			j++
		}
		if s[i] != '!' && strings.HasPrefix(s[j:], "~") && strings.EqualFold(s[i:j], "in") || s[i] == '!' && strings.HasPrefix(s[j:], "~") {
			j++
		}
		t := token{kind: 'w', text: s[i:j], at: i, end: j}
		if word := strings.ToLower(t.text); word == "datetime" || word == "timespan" || word == "time" {
			return literal(s, t, word)
		}
		return t, nil
	}
	for _, sign := range signs {
		if strings.HasPrefix(s[i:], sign) {
			return token{kind: 'p', text: sign, at: i, end: i + len(sign)}, nil
		}
	}
	_, n := utf8.DecodeRuneInString(s[i:])
	return token{}, fail(s, i, SyntaxError, "The character %q has no meaning here.", s[i:i+n])
}

// text reads a string with escapes.
func text(s string, i int) (token, error) {
	var b strings.Builder
	for j := i + 1; j < len(s); j++ {
		switch c := s[j]; {
		case c == s[i]:
			return token{kind: 's', text: s[i : j+1], at: i, end: j + 1, val: b.String()}, nil
		case c == '\n':
			return token{}, fail(s, i, SyntaxError, "The string is not closed on its line.")
		case c != '\\':
			b.WriteByte(c)
		default:
			r, _, rest, err := strconv.UnquoteChar(s[j:], s[i])
			if err != nil {
				return token{}, fail(s, j, SyntaxError, "The escape in the string is none: \\n, \\t, \\\\, \\\" and \\uXXXX are.")
			}
			b.WriteRune(r)
			j = len(s) - len(rest) - 1
		}
	}
	return token{}, fail(s, i, SyntaxError, "The string is not closed.")
}

// verbatim reads @"…", in which a doubled quote stands for one.
func verbatim(s string, i int) (token, error) {
	q := s[i+1 : i+2]
	var b strings.Builder
	for j := i + 2; j < len(s); j++ {
		switch {
		case strings.HasPrefix(s[j:], q+q):
			b.WriteString(q)
			j++
		case s[j] == q[0]:
			return token{kind: 's', text: s[i : j+1], at: i, end: j + 1, val: b.String()}, nil
		default:
			b.WriteByte(s[j])
		}
	}
	return token{}, fail(s, i, SyntaxError, "The string is not closed.")
}

// units are those of timespans. Source: "The timespan data type".
func unit(s string) (time.Duration, bool) {
	switch s {
	case "d", "day", "days":
		return 24 * time.Hour, true
	case "h", "hour", "hours":
		return time.Hour, true
	case "m", "min", "minute", "minutes":
		return time.Minute, true
	case "s", "sec", "second", "seconds":
		return time.Second, true
	case "ms", "millisecond", "milliseconds":
		return time.Millisecond, true
	case "microsecond", "microseconds":
		return time.Microsecond, true
	case "tick", "ticks":
		return 100 * time.Nanosecond, true
	}
	return 0, false
}

// number reads 12, 1.5, 1e3, 0x1f, and the timespans 5m and 1.5h.
func number(s string, i int) (token, error) {
	j, point := i, false
	for j < len(s) && (digit(s[j]) || s[j] == '.' && !point && j+1 < len(s) && digit(s[j+1])) {
		point = point || s[j] == '.'
		j++
	}
	k := j
	for k < len(s) && (letter(s[k]) || digit(s[k])) {
		k++
	}
	t := token{kind: 'n', text: s[i:k], at: i, end: k}
	if k > j {
		if u, ok := unit(s[j:k]); ok {
			f, err := strconv.ParseFloat(s[i:j], 64)
			d := f * float64(u)
			if err != nil || d > 1<<62 {
				return token{}, fail(s, i, SyntaxError, "The timespan '%s' is too long.", t.text)
			}
			t.kind, t.val = 't', time.Duration(d)
			return t, nil
		}
	}
	if n, err := strconv.ParseInt(t.text, 0, 64); err == nil && !strings.HasPrefix(t.text, "0o") && !strings.HasPrefix(t.text, "0b") {
		t.val = n
		if len(t.text) > 1 && t.text[0] == '0' && digit(t.text[1]) { // no octal here
			n, err = strconv.ParseInt(t.text, 10, 64)
			if t.val = n; err != nil {
				return token{}, fail(s, i, SyntaxError, "'%s' is no number.", t.text)
			}
		}
		return t, nil
	}
	f, err := strconv.ParseFloat(t.text, 64)
	if err != nil {
		return token{}, fail(s, i, SyntaxError, "'%s' is neither a number nor a timespan.", t.text)
	}
	t.val = f
	return t, nil
}

// literal reads what is in the parentheses of datetime(…) and timespan(…).
func literal(s string, t token, word string) (token, error) {
	open := t.end
	for open < len(s) && (s[open] == ' ' || s[open] == '\t') {
		open++
	}
	if open >= len(s) || s[open] != '(' {
		return t, nil
	}
	n := strings.IndexByte(s[open:], ')')
	if n < 0 {
		return token{}, fail(s, t.at, SyntaxError, "The parenthesis of %s( is not closed.", word)
	}
	inner := strings.Trim(strings.TrimSpace(s[open+1:open+n]), `"'`)
	t.text, t.end = s[t.at:open+n+1], open+n+1
	if word == "datetime" {
		v, ok := ParseTime(inner)
		if t.kind, t.val = 'd', v; !ok {
			return token{}, fail(s, t.at, SyntaxError, "'%s' is no datetime, such as 2026-01-31T08:00:00Z.", inner)
		}
		return t, nil
	}
	v, ok := parseSpan(inner)
	if t.kind, t.val = 't', v; !ok {
		return token{}, fail(s, t.at, SyntaxError, "'%s' is no timespan, such as 1h or 1.02:03:04.", inner)
	}
	return t, nil
}

// ParseTime reads a time as queries write it; without a zone it is UTC.
func ParseTime(s string) (time.Time, bool) {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// parseSpan reads 1h, 90, which is days, and 1.02:03:04.5.
func parseSpan(s string) (time.Duration, bool) {
	if len(s) > 40 || s == "" {
		return 0, false
	}
	if !strings.Contains(s, ":") {
		if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < 100_000 {
			return time.Duration(n) * 24 * time.Hour, true
		}
		if !digit(s[0]) {
			return 0, false
		}
		t, err := number(s, 0)
		d, ok := t.val.(time.Duration)
		return d, err == nil && ok && t.end == len(s)
	}
	days := 0
	if d, rest, ok := strings.Cut(s, "."); ok && strings.Contains(rest, ":") {
		n, err := strconv.Atoi(d)
		if err != nil || n < 0 || n > 100_000 {
			return 0, false
		}
		days, s = n, rest
	}
	t, err := time.Parse("15:04:05.9999999", s)
	if err != nil {
		if t, err = time.Parse("15:04", s); err != nil {
			return 0, false
		}
	}
	y, m, d := t.Date()
	return time.Duration(days)*24*time.Hour + t.Sub(time.Date(y, m, d, 0, 0, 0, 0, time.UTC)), true
}
