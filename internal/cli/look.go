package cli

import (
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// look is how text for people is shown where it goes: with colour and in how
// many columns on a terminal; the zero look is a file or another program, which
// get every word in full.
type look struct {
	terminal, color bool
	columns         int // 0: unknown
}

func lookOf(env Env, w io.Writer) look {
	if !env.IsTerminal(w) {
		return look{}
	}
	l := look{terminal: true, color: env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"}
	if env.Columns != nil {
		l.columns = env.Columns(w)
	}
	return l
}

func (l look) paint(code, s string) string {
	if !l.color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (l look) bold(s string) string  { return l.paint("1", s) }
func (l look) dim(s string) string   { return l.paint("2", s) }
func (l look) green(s string) string { return l.paint("32", s) }
func (l look) red(s string) string   { return l.paint("31", s) }

// room is how many columns are left beside used ones; a large number where
// nothing limits them.
func (l look) room(used int) int {
	if l.columns == 0 {
		return 1 << 20
	}
	return max(l.columns-used, 20)
}

var (
	resourceID = regexp.MustCompile(`(?i)/subscriptions/[^\s'"]*/providers/[^/\s'"]+/`)
	groupID    = regexp.MustCompile(`(?i)/subscriptions/[^/\s'"]+(/resourceGroups/)`)
	guid       = regexp.MustCompile(`\b([0-9a-fA-F]{8})-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b`)
)

// fit shortens resource ids, then GUIDs, until s has no more than width
// columns; what is left may still be longer.
func fit(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	s = groupID.ReplaceAllString(resourceID.ReplaceAllString(s, "…/"), "…$1")
	if utf8.RuneCountInString(s) > width {
		s = guid.ReplaceAllString(s, "$1…")
	}
	return s
}

// cut is s in at most width columns, marked where something is missing.
func cut(s string, width int) string {
	if s = fit(s, width); utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
}

// wrap breaks s between words into lines of at most width columns; a longer
// word has a line of its own.
func wrap(s string, width int) []string {
	s = fit(s, width)
	if utf8.RuneCountInString(s) <= width {
		return []string{s}
	}
	var lines []string
	line := ""
	for _, w := range strings.Fields(s) {
		switch {
		case line == "":
			line = w
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) <= width:
			line += " " + w
		default:
			lines = append(lines, line)
			line = w
		}
	}
	return append(lines, line)
}
