package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// explainText shows a decision, the answer first and then hop by hop, or a line
// for each of several.
func explainText(c *call, v any) string {
	e := explanation{look: lookOf(c.env, c.env.Stdout), program: c.env.Program}
	if l, ok := v.([]any); ok {
		e.refusals(l)
	} else {
		e.decision(v)
	}
	return e.b.String()
}

type explanation struct {
	look
	program string
	b       strings.Builder
}

func (e *explanation) line(format string, args ...any) { fmt.Fprintf(&e.b, format+"\n", args...) }

// shown is a text of v without what a terminal takes for commands, in one line.
func shown(v any, name string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(textAt(v, name)), "\n")
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(first))
}

func (e *explanation) decision(v any) {
	hops := items(at(v, "hops"))
	said := shown(v, "outcome")
	// The token service's answer ends its hops: it is what was said, not why.
	if n := len(hops); n > 0 && shown(hops[n-1], "step") == "answer" && at(hops[n-1], "ok") != true {
		if text := shown(hops[n-1], "found"); !strings.Contains(said, text) {
			said += ": " + text
		}
		hops = hops[:n-1]
	}
	allowed, ahead := at(v, "allowed").(bool)
	switch {
	case at(v, "answered") == true:
		e.headline(true, "answered", v)
	case !ahead:
		e.headline(false, "refused", v)
	case allowed:
		e.headline(true, "yes", v)
	default:
		e.headline(false, "no", v)
	}
	if said != "" {
		e.line("  %s", cut(said, e.room(2)))
	}
	if !ahead {
		meta := strings.Join([]string{shown(v, "surface"), clock(shown(v, "time")), shown(v, "correlation")}, " · ")
		e.line("  %s", e.dim(meta))
	}
	e.hops(hops)
	e.lately(items(at(v, "refusals")))
	e.fixes(hops)
}

// lately are the last refusals of whoever this is about.
func (e *explanation) lately(list []any) {
	if len(list) == 0 {
		return
	}
	e.line("\n%s", e.bold("lately refused:"))
	for _, t := range list {
		e.line("  %s  %s", clock(shown(t, "time")), cut(shown(t, "outcome"), e.room(24)))
		e.line("  %s", e.dim(cut(strings.Repeat(" ", 22)+firstNonEmpty(shown(t, "who"), "somebody")+" → "+shown(t, "what")+" · "+shown(t, "correlation"), e.room(2))))
	}
}

func (e *explanation) headline(ok bool, verdict string, v any) {
	who := firstNonEmpty(shown(v, "who"), "an unidentified caller")
	for i, l := range wrap(verdict+": "+who+" → "+shown(v, "what"), e.room(2)) {
		mark := "  "
		if i == 0 {
			mark = e.mark(ok)
			l = e.bold(verdict) + strings.TrimPrefix(l, verdict)
		}
		if !e.terminal {
			mark = ""
		}
		e.line("%s%s", mark, l)
	}
}

func (e *explanation) mark(ok bool) string {
	switch {
	case ok && e.terminal:
		return e.green("✓") + " "
	case e.terminal:
		return e.red("✗") + " "
	case ok:
		return "ok  "
	default:
		return "no  "
	}
}

// hops shows each in a line, and below one that failed what differs.
func (e *explanation) hops(hops []any) {
	width := 0
	for _, h := range hops {
		width = max(width, utf8.RuneCountInString(shown(h, "step")))
	}
	if len(hops) > 0 {
		e.line("")
	}
	before, markWidth := "", 2
	if !e.terminal {
		markWidth = 4
	}
	indent := strings.Repeat(" ", 2+markWidth+width+2)
	for _, h := range hops {
		ok, step := at(h, "ok") == true, shown(h, "step")
		head := "  " + e.mark(ok) + fmt.Sprintf("%-*s  ", width, step)
		differs := shown(h, "expected")+shown(h, "received")+shown(h, "fix") != ""
		if !ok && step == before && !differs { // something more about the same
			head = indent
		}
		before = ""
		if !ok {
			before = step
		}
		e.finding(head, indent, ok, h)
		if !ok {
			e.difference(indent, shown(h, "expected"), shown(h, "received"))
		}
	}
}

// finding shows what was found, and where as far as there is room.
func (e *explanation) finding(head, indent string, ok bool, h any) {
	room := e.room(utf8.RuneCountInString(indent))
	found, subject := shown(h, "found"), shown(h, "subject")
	if found == "" {
		found, subject = subject, ""
	}
	if strings.Contains(found, subject) {
		subject = ""
	}
	lines := wrap(found, room)
	last := lines[len(lines)-1]
	rest := room - utf8.RuneCountInString(last) - 2
	subject = fit(subject, max(rest, 0))
	switch {
	case subject == "" || ok && utf8.RuneCountInString(subject) > rest:
	case utf8.RuneCountInString(subject) > rest:
		lines = append(lines, e.dim(cut(subject, room)))
	default:
		lines[len(lines)-1] = last + "  " + e.dim(subject)
	}
	e.line("%s%s", head, strings.Join(lines, "\n"+indent))
}

// difference sets what was expected over what came, and where they are alike but
// for letter case or a slash points at the first difference.
func (e *explanation) difference(indent, expected, received string) {
	if expected == received {
		return
	}
	room := e.room(len(indent) + 10)
	short, got := fit(expected, room), fit(received, room)
	if short == got { // the difference is in what was left out
		short, got = expected, received
	}
	if expected != "" {
		e.line("%s%s%s", indent, e.dim("expected  "), strings.Join(wrap(short, room), "\n"+indent+strings.Repeat(" ", 10)))
	}
	if received == "" {
		return
	}
	e.line("%s%s%s", indent, e.dim("received  "), strings.Join(wrap(got, room), "\n"+indent+strings.Repeat(" ", 10)))
	near := strings.EqualFold(strings.TrimSuffix(expected, "/"), strings.TrimSuffix(received, "/"))
	if near && utf8.RuneCountInString(got) <= room && utf8.RuneCountInString(short) <= room {
		e.line("%s%s%s", indent, strings.Repeat(" ", 10+common(short, got)), e.red("^"))
	}
}

// common is how many letters a and b begin with alike.
func common(a, b string) int {
	x, y := []rune(a), []rune(b)
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return i
		}
	}
	return min(len(x), len(y))
}

// fixes are the commands that mend it, each whole on a line of its own.
func (e *explanation) fixes(hops []any) {
	seen := map[string]bool{}
	for _, h := range hops {
		f := shown(h, "fix")
		if f == "" || at(h, "ok") == true || seen[f] {
			continue
		}
		if len(seen) == 0 {
			e.line("\n%s", e.bold("fix:"))
		}
		seen[f] = true
		for _, ours := range []string{"az ", "laz "} {
			if rest, ok := strings.CutPrefix(f, ours); ok {
				f = e.program + " " + rest
			}
		}
		e.line("%s", f)
	}
}

// clock is an RFC 3339 time as people read it, in UTC.
func clock(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// refusals are shown newest first, a line each.
func (e *explanation) refusals(list []any) {
	if len(list) == 0 {
		e.line("Nothing was refused.")
		return
	}
	rows := [][]string{}
	width := make([]int, 4)
	for _, t := range list {
		code, _, _ := strings.Cut(shown(t, "outcome"), ":")
		row := []string{clock(shown(t, "time")), shown(t, "correlation"), shown(t, "surface"), code,
			firstNonEmpty(shown(t, "who"), "an unidentified caller") + " → " + shown(t, "what")}
		if e.columns > 0 {
			row[1] = row[1][:min(8, len(row[1]))]
		}
		if e.columns > 0 && e.columns < 110 {
			_, row[0], _ = strings.Cut(row[0], " ") // the time of day
			row[2] = ""
		}
		for i := range width {
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
		rows = append(rows, row)
	}
	for _, r := range rows {
		head := ""
		for i, w := range width {
			if w > 0 {
				head += fmt.Sprintf("%-*s  ", w, r[i])
			}
		}
		e.line("%s%s", head, cut(r[4], e.room(utf8.RuneCountInString(head))))
	}
	if e.terminal {
		e.line("\n%s", e.dim("One of them: "+e.program+" explain "+rows[0][1]))
	}
}
