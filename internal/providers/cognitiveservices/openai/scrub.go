package openai

import (
	"encoding/json"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const hidden = "***"

// patterns are what scrub looks for.
type patterns struct{ literal, secret, token *regexp.Regexp }

var scrubbed = sync.OnceValue(func() patterns {
	return patterns{
		literal: regexp.MustCompile(`"(?:[^"\\]|\\.)*"`),
		// Keys, organisations, projects and users as OpenAI writes them, and URLs.
		secret: regexp.MustCompile(`\b(?:sk|org|proj|user)[-_][A-Za-z0-9_*-]{6,}|(?i:\b[a-z][a-z0-9+.-]*://[^\s"'\\<>]+)`),
		token:  regexp.MustCompile(`[A-Za-z0-9_.:%-]+`),
	}
})

// scrub hides in a backend's refusal, a JSON text, what is its operator's: keys and
// the like, and addresses. host is the backend's own, with or without a port. What
// has nothing of that passes byte for byte.
func scrub(text []byte, host string) []byte {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.ToLower(name)
	p := scrubbed()
	return p.literal.ReplaceAllFunc(text, func(literal []byte) []byte {
		var s string
		if json.Unmarshal(literal, &s) != nil {
			return literal
		}
		clean := p.token.ReplaceAllStringFunc(p.secret.ReplaceAllString(s, hidden), func(token string) string {
			word := strings.TrimRight(token, ".:-")
			if isAddress(word, name) {
				return hidden + token[len(word):]
			}
			return token
		})
		if clean == s {
			return literal
		}
		out, err := json.Marshal(clean)
		if err != nil {
			return []byte(`"` + hidden + `"`)
		}
		return out
	})
}

// isAddress reports whether a word of a backend's text is an IP address, or the
// name of a machine that is not the whole world's: the backend's own, one beside
// it, one with a port, one of an inner network. Words are no names because they
// have dots: "messages.0.content".
func isAddress(word, own string) bool {
	if a, err := netip.ParseAddr(word); err == nil {
		return !a.Is6() || !a.IsUnspecified() // "::" is punctuation
	}
	if _, err := netip.ParseAddrPort(word); err == nil {
		return true
	}
	name, port, _ := strings.Cut(strings.ToLower(word), ":")
	if strings.ContainsAny(name, "_%") || !strings.ContainsFunc(name, func(r rune) bool { return r >= 'a' && r <= 'z' }) {
		return false
	}
	dotted := strings.Contains(name, ".")
	if _, err := strconv.ParseUint(port, 10, 16); err == nil {
		return dotted || name == own || name == "localhost" || strings.ContainsAny(name, "-0123456789")
	}
	if port != "" || !dotted {
		return false
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return slices.Contains([]string{"corp", "home", "internal", "intranet", "lan", "local", "localdomain", "private", "svc"}, last) ||
		strings.HasSuffix("."+name, "."+domain(own))
}

// domain is what the names beside own end with: what follows its first label,
// where that is more than a top-level domain.
func domain(own string) string {
	if _, rest, _ := strings.Cut(own, "."); strings.Contains(rest, ".") {
		return rest
	}
	return own
}
