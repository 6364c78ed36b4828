package template

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

func textFunctions() map[string]builtin {
	one := func(f func(string) (any, error)) builtin {
		return builtin{1, 1, func(_ *scope, a []any) (any, error) {
			t, err := textArg(a, 0)
			if err != nil {
				return nil, err
			}
			return f(t)
		}}
	}
	two := func(f func(a, b string) any) builtin {
		return builtin{2, 2, func(_ *scope, a []any) (any, error) {
			x, err := textArg(a, 0)
			if err != nil {
				return nil, err
			}
			y, err := textArg(a, 1)
			if err != nil {
				return nil, err
			}
			return f(x, y), nil
		}}
	}
	return map[string]builtin{
		"tolower":      one(func(t string) (any, error) { return strings.ToLower(t), nil }),
		"toupper":      one(func(t string) (any, error) { return strings.ToUpper(t), nil }),
		"trim":         one(func(t string) (any, error) { return strings.TrimSpace(t), nil }),
		"startswith":   two(func(a, b string) any { return strings.HasPrefix(lower(a), lower(b)) }),
		"endswith":     two(func(a, b string) any { return strings.HasSuffix(lower(a), lower(b)) }),
		"string":       {1, 1, func(_ *scope, a []any) (any, error) { return asText(a[0]) }},
		"replace":      {3, 3, replace},
		"split":        {2, 2, split},
		"join":         {2, 2, join},
		"substring":    {2, 3, substring},
		"padleft":      {2, 3, padLeft},
		"format":       {1, -1, func(_ *scope, a []any) (any, error) { return format(a) }},
		"guid":         {1, -1, func(_ *scope, a []any) (any, error) { return guid(a) }},
		"uniquestring": {1, -1, func(_ *scope, a []any) (any, error) { return uniqueString(a) }},
		"newguid":      {0, 0, newGUID},
	}
}

func encodingFunctions() map[string]builtin {
	one := func(f func(string) (any, error)) builtin {
		return builtin{1, 1, func(_ *scope, a []any) (any, error) {
			t, err := textArg(a, 0)
			if err != nil {
				return nil, err
			}
			return f(t)
		}}
	}
	return map[string]builtin{
		"base64":         one(func(t string) (any, error) { return base64.StdEncoding.EncodeToString([]byte(t)), nil }),
		"base64tostring": one(fromBase64),
		"base64tojson": {1, 1, func(s *scope, a []any) (any, error) {
			t, err := textArg(a, 0)
			if err != nil {
				return nil, err
			}
			j, err := fromBase64(t)
			if err != nil {
				return nil, err
			}
			return parseJSON(s, []any{j})
		}},
		"datauri": one(func(t string) (any, error) {
			return "data:text/plain;charset=utf8;base64," + base64.StdEncoding.EncodeToString([]byte(t)), nil
		}),
		"datauritostring":      one(fromDataURI),
		"uricomponent":         one(func(t string) (any, error) { return uriComponent(t), nil }),
		"uricomponenttostring": one(func(t string) (any, error) { return url.PathUnescape(t) }),
		"uri": {2, 2, func(_ *scope, a []any) (any, error) {
			b, err := textArg(a, 0)
			if err != nil {
				return nil, err
			}
			r, err := textArg(a, 1)
			if err != nil {
				return nil, err
			}
			return joinURI(b, r)
		}},
	}
}

func replace(_ *scope, a []any) (any, error) {
	var t [3]string
	for i := range t {
		var err error
		if t[i], err = textArg(a, i); err != nil {
			return nil, err
		}
	}
	if t[1] == "" {
		return nil, errors.New("the text to replace is empty")
	}
	if n := strings.Count(t[0], t[1]); n*len(t[2]) > maxValue {
		return nil, fmt.Errorf("the result is larger than %d bytes", maxValue)
	}
	return strings.ReplaceAll(t[0], t[1], t[2]), nil
}

func split(_ *scope, a []any) (any, error) {
	t, err := textArg(a, 0)
	if err != nil {
		return nil, err
	}
	seps, _ := toArray(a[1]).([]any)
	rest := []string{t}
	for i := range seps {
		sep, err := textArg(seps, i)
		if err != nil {
			return nil, err
		}
		if sep == "" {
			continue
		}
		var next []string
		for _, r := range rest {
			next = append(next, strings.Split(r, sep)...)
		}
		rest = next
	}
	out := make([]any, len(rest))
	for i, r := range rest {
		out[i] = r
	}
	return out, nil
}

func join(_ *scope, a []any) (any, error) {
	l, err := listArg(a, 0)
	if err != nil {
		return nil, err
	}
	sep, err := textArg(a, 1)
	if err != nil {
		return nil, err
	}
	if len(sep)*len(l) > maxValue {
		return nil, fmt.Errorf("the result is larger than %d bytes", maxValue)
	}
	parts := make([]string, len(l))
	total := 0
	for i, v := range l {
		if parts[i], err = asText(v); err != nil {
			return nil, err
		}
		if total += len(parts[i]); total > maxValue {
			return nil, fmt.Errorf("the result is larger than %d bytes", maxValue)
		}
	}
	return strings.Join(parts, sep), nil
}

func substring(_ *scope, a []any) (any, error) {
	t, err := textArg(a, 0)
	if err != nil {
		return nil, err
	}
	r := []rune(t)
	from, err := intArg(a, 1)
	if err != nil {
		return nil, err
	}
	n := int64(len(r)) - from
	if len(a) == 3 {
		if n, err = intArg(a, 2); err != nil {
			return nil, err
		}
	}
	if from < 0 || n < 0 || from > int64(len(r)) || n > int64(len(r))-from {
		return nil, fmt.Errorf("the index and length must refer to a location within the string: index %d, length %d, of %d characters", from, n, len(r))
	}
	return string(r[from : from+n]), nil
}

func padLeft(_ *scope, a []any) (any, error) {
	t, err := asText(a[0])
	if err != nil {
		return nil, err
	}
	width, err := intArg(a, 1)
	if err != nil {
		return nil, err
	}
	pad := " "
	if len(a) == 3 {
		if pad, err = asText(a[2]); err != nil {
			return nil, err
		}
	}
	if utf8.RuneCountInString(pad) != 1 || width < 0 || width > 16384 {
		return nil, errors.New("the padding must be one character and the total length at most 16384")
	}
	return strings.Repeat(pad, max(0, int(width)-utf8.RuneCountInString(t))) + t, nil
}

// joined is what guid and uniqueString take their value of.
func joined(a []any) (string, error) {
	parts := make([]string, len(a))
	for i := range a {
		var err error
		if parts[i], err = asText(a[i]); err != nil {
			return "", err
		}
	}
	return strings.Join(parts, "-"), nil
}

// guid is a version 5 UUID (RFC 9562 section 5.5) in the namespace that
// Azure's guid() has.
func guid(a []any) (any, error) {
	t, err := joined(a)
	if err != nil {
		return nil, err
	}
	namespace := []byte{0x11, 0xfb, 0x06, 0xfb, 0x71, 0x2d, 0x4d, 0xdd, 0x98, 0xc7, 0xe7, 0x1b, 0xbd, 0x58, 0x88, 0x30}
	h := sha1.Sum(append(namespace, t...))
	h[6] = h[6]&0x0f | 0x50
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16]), nil
}

// uniqueString is a hash of 64 bits in 13 characters of base 32, the highest
// bits first. Source: values and constants of Azure/terraform-provider-azapi,
// which makes the same ones.
func uniqueString(a []any) (any, error) {
	t, err := joined(a)
	h := hash64([]byte(t))
	var out [13]byte
	for i := range out {
		out[i] = "abcdefghijklmnopqrstuvwxyz234567"[h>>59]
		h <<= 5
	}
	return string(out[:]), err
}

// hash64 is the hash of Azure's uniqueString: two lanes of MurmurHash3's 32 bits
// that take turns with four bytes each.
func hash64(data []byte) uint64 {
	const low, high = 0x239b961b, 0xab0e9789
	mix := func(first, second uint32, turn int, b []byte) uint32 {
		var k uint32
		for i, x := range b {
			k |= uint32(x) << (8 * i)
		}
		return bits.RotateLeft32(k*first, turn) * second
	}
	final := func(h uint32) uint32 {
		h = (h ^ h>>16) * 0x85ebca6b
		h = (h ^ h>>13) * 0xc2b2ae35
		return h ^ h>>16
	}
	var a, b uint32
	rest := data
	for ; len(rest) >= 8; rest = rest[8:] {
		a = (bits.RotateLeft32(a^mix(low, high, 15, rest[:4]), 19)+b)*5 + 0x561ccd1b
		b = (bits.RotateLeft32(b^mix(high, low, 17, rest[4:8]), 13)+a)*5 + 0x0bcaa747
	}
	a ^= mix(low, high, 15, rest[:min(4, len(rest))])
	b ^= mix(high, low, 17, rest[min(4, len(rest)):])
	a ^= uint32(len(data))
	b ^= uint32(len(data))
	a += b
	b += a
	a, b = final(a), final(b)
	a += b
	b += a
	return uint64(b)<<32 | uint64(a)
}

func newGUID(s *scope, _ []any) (any, error) {
	d := s.d
	if !s.defaults {
		return nil, errors.New("the template function 'newGuid' is not expected at this location: it can only be used in a parameter's default value")
	}
	if len(d.in.Env.Seeds) == 0 {
		return nil, errors.New("no new GUID is at hand")
	}
	seed := d.in.Env.Seeds[d.guids%len(d.in.Env.Seeds)]
	d.guids++
	if d.guids > len(d.in.Env.Seeds) {
		return guid([]any{seed, int64(d.guids)})
	}
	return seed, nil
}

func fromBase64(t string) (any, error) {
	b, err := base64.StdEncoding.DecodeString(t)
	if err != nil {
		return nil, errors.New("the argument is not valid base64")
	}
	return strings.ToValidUTF8(string(b), "\uFFFD"), nil
}

func fromDataURI(t string) (any, error) {
	rest, ok := strings.CutPrefix(t, "data:")
	kind, data, comma := strings.Cut(rest, ",")
	if !ok || !comma {
		return nil, errors.New("the argument is no data URI")
	}
	if strings.HasSuffix(lower(kind), ";base64") {
		return fromBase64(data)
	}
	return url.PathUnescape(data)
}

// uriComponent escapes all but RFC 3986's unreserved characters.
func uriComponent(t string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(t), "+", "%20"), "%7E", "~")
}

// joinURI follows Azure: the base up to its last slash, and the rest.
func joinURI(base, rel string) (any, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme == "" {
		return nil, errors.New("the first argument is no absolute URI")
	}
	r, err := url.Parse(rel)
	if err != nil {
		return nil, errors.New("the second argument is no URI")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.ResolveReference(r).String(), nil
}

// format is .NET's composite formatting with the forms D, N, F, X and none.
func format(a []any) (any, error) {
	t, err := textArg(a, 0)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		c := t[i]
		if (c == '{' || c == '}') && i+1 < len(t) && t[i+1] == c {
			b.WriteByte(c)
			i++
			continue
		}
		if c == '}' {
			return nil, errors.New("the format string has a '}' that closes nothing")
		}
		if c != '{' {
			b.WriteByte(c)
			continue
		}
		n := strings.IndexByte(t[i:], '}')
		if n < 0 {
			return nil, errors.New("the format string has a '{' that is not closed")
		}
		item, err := formatItem(t[i+1:i+n], a[1:])
		if err != nil {
			return nil, err
		}
		if b.WriteString(item); b.Len() > maxValue {
			return nil, fmt.Errorf("the result is larger than %d bytes", maxValue)
		}
		i += n
	}
	return b.String(), nil
}

func formatItem(item string, a []any) (string, error) {
	item, spec, _ := strings.Cut(item, ":")
	at, align, aligned := strings.Cut(item, ",")
	i, err := strconv.Atoi(strings.TrimSpace(at))
	if err != nil || i < 0 || i >= len(a) {
		return "", fmt.Errorf("the format item '{%s}' has no argument", item)
	}
	text, err := formatted(a[i], spec)
	if err != nil || !aligned {
		return text, err
	}
	w, err := strconv.Atoi(strings.TrimSpace(align))
	if err != nil || w > 16384 || w < -16384 {
		return "", fmt.Errorf("the format item '{%s}' has a bad width", item)
	}
	return fmt.Sprintf("%*s", w, text), nil
}

func formatted(v any, spec string) (string, error) {
	if spec == "" {
		return asText(v)
	}
	f, ok := number(v)
	n, whole := v.(int64)
	digits, err := strconv.Atoi(spec[1:])
	if spec[1:] == "" {
		digits, err = -1, nil
	}
	if !ok || err != nil || digits > 99 {
		return "", fmt.Errorf("the format '%s' is not supported for a %s", spec, typeOf(v))
	}
	if digits < 0 && strings.ContainsAny(spec[:1], "NnFf") {
		digits = 2
	}
	switch c := spec[0]; {
	case (c == 'D' || c == 'd') && whole:
		return sign(n) + fmt.Sprintf("%0*d", max(digits, 1), magnitude(n)), nil
	case c == 'X' && whole:
		return fmt.Sprintf("%0*X", max(digits, 1), uint64(n)), nil
	case c == 'x' && whole:
		return fmt.Sprintf("%0*x", max(digits, 1), uint64(n)), nil
	case c == 'F' || c == 'f':
		return strconv.FormatFloat(f, 'f', digits, 64), nil
	case c == 'N' || c == 'n':
		if whole {
			t := sign(n) + grouped(strconv.FormatUint(magnitude(n), 10))
			if digits > 0 {
				t += "." + strings.Repeat("0", digits)
			}
			return t, nil
		}
		t := strconv.FormatFloat(f, 'f', digits, 64)
		neg := strings.HasPrefix(t, "-")
		head, tail, point := strings.Cut(strings.TrimPrefix(t, "-"), ".")
		t = grouped(head)
		if point {
			t += "." + tail
		}
		if neg {
			t = "-" + t
		}
		return t, nil
	}
	return "", fmt.Errorf("the format '%s' is not supported for a %s", spec, typeOf(v))
}

func sign(n int64) string {
	if n < 0 {
		return "-"
	}
	return ""
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

func grouped(digits string) string {
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
