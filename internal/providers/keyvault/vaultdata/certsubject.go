package vaultdata

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxSubject bounds a distinguished name in bytes.
const maxSubject = 4096

// attributeTypes are the short names of a distinguished name that Azure and
// RFC 4514 section 3 know.
func attributeTypes() map[string]asn1.ObjectIdentifier {
	return map[string]asn1.ObjectIdentifier{
		"CN": {2, 5, 4, 3}, "SERIALNUMBER": {2, 5, 4, 5}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7}, "S": {2, 5, 4, 8}, "ST": {2, 5, 4, 8},
		"STREET": {2, 5, 4, 9}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "T": {2, 5, 4, 12}, "TITLE": {2, 5, 4, 12},
		"G": {2, 5, 4, 42}, "GN": {2, 5, 4, 42}, "SN": {2, 5, 4, 4}, "I": {2, 5, 4, 43},
		"DC": {0, 9, 2342, 19200300, 100, 1, 25}, "UID": {0, 9, 2342, 19200300, 100, 1, 1},
		"E": {1, 2, 840, 113549, 1, 9, 1}, "EMAIL": {1, 2, 840, 113549, 1, 9, 1}, "EMAILADDRESS": {1, 2, 840, 113549, 1, 9, 1},
	}
}

// parseSubject reads a distinguished name such as `CN=a, O="b, c"` (RFC 4514,
// and quotes as X.500 tools write them). The order of parts is kept. "" is the
// empty name.
func parseSubject(s string) (pkix.RDNSequence, error) {
	if len(s) > maxSubject || !utf8.ValidString(s) {
		return nil, fmt.Errorf("the subject is longer than %d bytes or not UTF-8", maxSubject)
	}
	var seq pkix.RDNSequence
	rest := strings.TrimSpace(s)
	for rest != "" {
		name, value, after, err := nextAttribute(rest)
		if err != nil {
			return nil, err
		}
		oid, err := attributeOID(name)
		if err != nil {
			return nil, err
		}
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}})
		if rest = after; rest == "" {
			break
		}
		if len(seq) > 50 {
			return nil, fmt.Errorf("the subject has too many parts")
		}
	}
	return seq, nil
}

func attributeOID(name string) (asn1.ObjectIdentifier, error) {
	if oid, ok := attributeTypes()[strings.ToUpper(name)]; ok {
		return oid, nil
	}
	if dotted, ok := strings.CutPrefix(strings.ToUpper(name), "OID."); ok {
		name = dotted
	}
	oid, err := parseOID(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not an attribute of a distinguished name", clip(name))
	}
	return oid, nil
}

// nextAttribute takes one NAME=VALUE off s and the separator after it.
func nextAttribute(s string) (name, value, rest string, err error) {
	name, rest, ok := strings.Cut(s, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return "", "", "", fmt.Errorf("%q has no NAME=VALUE", clip(s))
	}
	rest = strings.TrimLeft(rest, " ")
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		value, rest, err = quotedValue(quoted)
	} else {
		value, rest, err = plainValue(rest)
	}
	if err != nil {
		return "", "", "", err
	}
	if value == "" {
		return "", "", "", fmt.Errorf("the attribute %s is empty", clip(name))
	}
	return name, value, strings.TrimLeft(rest, " "), nil
}

func quotedValue(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return "", "", fmt.Errorf("the subject ends in a backslash")
			}
			b.WriteByte(s[i])
		case '"':
			rest = strings.TrimLeft(s[i+1:], " ")
			if rest == "" {
				return b.String(), "", nil
			}
			if rest[0] != ',' && rest[0] != ';' || len(strings.TrimSpace(rest)) == 1 {
				return "", "", fmt.Errorf("a comma and another attribute must follow a quoted value")
			}
			return b.String(), rest[1:], nil
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", fmt.Errorf("a quote of the subject is not closed")
}

func plainValue(s string) (value, rest string, err error) {
	var b []byte
	kept := 0 // bytes that trailing spaces may not be trimmed into
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\':
			ch, n, err := escaped(s[i+1:])
			if err != nil {
				return "", "", err
			}
			b = append(b, ch)
			i += n
			kept = len(b)
		case ',', ';':
			if strings.TrimSpace(s[i+1:]) == "" {
				return "", "", fmt.Errorf("the subject ends in a separator")
			}
			return trimmed(b, kept), s[i+1:], nil
		case '+':
			return "", "", fmt.Errorf("attributes joined by a plus sign are not supported; a plus in a value is written \\+")
		case '"', '<', '>':
			return "", "", fmt.Errorf("the character %q must be written with a backslash", c)
		default:
			b = append(b, c)
		}
	}
	v := trimmed(b, kept)
	if !utf8.ValidString(v) {
		return "", "", fmt.Errorf("the subject is not UTF-8")
	}
	return v, "", nil
}

func trimmed(b []byte, kept int) string {
	for len(b) > kept && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return string(b)
}

// escaped reads what follows a backslash: one character or two hex digits.
func escaped(s string) (c byte, n int, err error) {
	if len(s) >= 2 {
		if h, err := hex.DecodeString(s[:2]); err == nil {
			return h[0], 2, nil
		}
	}
	if s == "" {
		return 0, 0, fmt.Errorf("the subject ends in a backslash")
	}
	return s[0], 1, nil
}
