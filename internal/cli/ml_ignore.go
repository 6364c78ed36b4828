package cli

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// ignoreRules are the lines of an ignore file (gitignore(5)).
type ignoreRules struct {
	rules   []ignoreRule
	negates bool // one of them takes back what another left out
}

type ignoreRule struct {
	re      *regexp.Regexp
	negate  bool
	dirOnly bool
}

// readIgnore reads a folder's .amlignore, or without one its .gitignore.
func readIgnore(dir string) (*ignoreRules, error) {
	for _, name := range []string{".amlignore", ".gitignore"} {
		b, err := readLimited(filepath.Join(dir, name), maxSpec)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return parseIgnore(string(b)), nil
	}
	return &ignoreRules{}, nil
}

// parseIgnore reads the lines of an ignore file; those that make no pattern
// match nothing.
func parseIgnore(text string) *ignoreRules {
	out := &ignoreRules{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.TrimRight(line, "\r\n"), " ")
		if line == "" || line[0] == '#' {
			continue
		}
		var r ignoreRule
		if line[0] == '!' {
			r.negate, line = true, line[1:]
		}
		if strings.HasSuffix(line, "/") {
			r.dirOnly, line = true, strings.TrimRight(line, "/")
		}
		if line == "" {
			continue
		}
		re, err := regexp.Compile(ignorePattern(line))
		if err != nil {
			continue
		}
		r.re = re
		out.negates = out.negates || r.negate
		out.rules = append(out.rules, r)
	}
	return out
}

// ignorePattern is a line of an ignore file as a regular expression.
func ignorePattern(line string) string {
	var b strings.Builder
	b.WriteByte('^')
	if rest, anchored := strings.CutPrefix(line, "/"); anchored {
		line = rest
	} else if !strings.Contains(line, "/") {
		b.WriteString("(?:.*/)?")
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case strings.HasPrefix(line[i:], "**/"):
			b.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(line[i:], "**"):
			b.WriteString(".*")
			i++
		case c == '*':
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		case c == '[' && strings.IndexByte(line[i+1:], ']') > 0:
			end := i + 1 + strings.IndexByte(line[i+1:], ']')
			set := strings.ReplaceAll(line[i+1:end], `\`, `\\`)
			if set[0] == '!' {
				set = "^" + set[1:]
			}
			b.WriteString("[" + set + "]")
			i = end
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteString(regexp.QuoteMeta(line[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(line[i : i+1]))
		}
	}
	b.WriteByte('$')
	return b.String()
}

// match reports whether rel, or a folder above it, is left out.
func (r *ignoreRules) match(rel string, dir bool) bool {
	for above := path.Dir(rel); above != "." && above != "/"; above = path.Dir(above) {
		if r.matchOne(above, true) {
			return true
		}
	}
	return r.matchOne(rel, dir)
}

func (r *ignoreRules) matchOne(rel string, dir bool) bool {
	out := false
	for _, rule := range r.rules {
		if (!rule.dirOnly || dir) && rule.re.MatchString(rel) {
			out = !rule.negate
		}
	}
	return out
}
