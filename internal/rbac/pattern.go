package rbac

import (
	"errors"
	"fmt"
	"strings"
)

// ErrPattern is wrapped by the errors about actions that cannot be read.
var ErrPattern = errors.New("invalid action")

const (
	maxPattern = 512 // bytes
	maxStars   = 4
)

// CheckPattern reports whether p is an action or a pattern of actions:
// "*", "*/read", "Microsoft.KeyVault/vaults/*/read". Errors wrap ErrPattern.
func CheckPattern(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("%w: it is empty", ErrPattern)
	case len(p) > maxPattern:
		return fmt.Errorf("%w: longer than %d bytes", ErrPattern, maxPattern)
	case strings.Count(p, "*") > maxStars:
		return fmt.Errorf("%w: %q has more than %d wildcards", ErrPattern, p, maxStars)
	case p != "*" && !strings.Contains(p, "/"):
		return fmt.Errorf("%w: %q is not of the form Namespace/type/verb", ErrPattern, p)
	}
	for i := range len(p) {
		c := p[i]
		if c <= 0x20 || c >= 0x7f || strings.IndexByte(`"'\?#%&<>`, c) >= 0 {
			return fmt.Errorf("%w: %q has the character %q", ErrPattern, p, c)
		}
	}
	return nil
}

// glob is a compiled pattern with at least one wildcard. "*" stands for any run
// of characters, slashes too.
type glob struct {
	prefix, suffix string
	middle         []string
}

func (g *glob) match(s string) bool {
	if len(s) < len(g.prefix)+len(g.suffix) || !strings.HasPrefix(s, g.prefix) || !strings.HasSuffix(s, g.suffix) {
		return false
	}
	s = s[len(g.prefix) : len(s)-len(g.suffix)]
	for _, m := range g.middle {
		i := strings.Index(s, m)
		if i < 0 {
			return false
		}
		s = s[i+len(m):]
	}
	return true
}

// set is a compiled list of patterns.
type set struct {
	all   bool
	exact map[string]struct{}
	globs []glob
}

// compile reads patterns; they must have passed CheckPattern.
func compile(patterns []string) set {
	var s set
	for _, p := range patterns {
		for _, v := range variants(strings.ToLower(p)) {
			s.add(v)
		}
	}
	return s
}

// variants are the readings of p. Between slashes "*" may also stand for
// nothing at all: Azure's Managed Identity Operator holds
// "…/userAssignedIdentities/*/assign/action", and the action that it must
// allow is "…/userAssignedIdentities/assign/action".
func variants(p string) []string {
	i := strings.Index(p, "/*/")
	if i < 0 {
		return []string{p}
	}
	var out []string
	for _, rest := range variants(p[i+2:]) {
		out = append(out, p[:i]+"/*"+rest, p[:i]+rest)
	}
	return out
}

func (s *set) add(p string) {
	if p == "*" {
		s.all = true
		return
	}
	parts := strings.Split(p, "*")
	if len(parts) == 1 {
		if s.exact == nil {
			s.exact = map[string]struct{}{}
		}
		s.exact[p] = struct{}{}
		return
	}
	g := glob{prefix: parts[0], suffix: parts[len(parts)-1]}
	for _, m := range parts[1 : len(parts)-1] {
		if m != "" {
			g.middle = append(g.middle, m)
		}
	}
	s.globs = append(s.globs, g)
}

// match reports whether the lower-case action is in the set.
func (s *set) match(action string) bool {
	if s.all {
		return true
	}
	if _, ok := s.exact[action]; ok {
		return true
	}
	for i := range s.globs {
		if s.globs[i].match(action) {
			return true
		}
	}
	return false
}

// Match reports whether pattern allows action, without case.
func Match(pattern, action string) bool {
	s := compile([]string{pattern})
	return s.match(strings.ToLower(action))
}
