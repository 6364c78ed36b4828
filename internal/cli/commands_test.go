package cli

import (
	"bytes"
	"strings"
	"testing"
)

func allCommands() []*command {
	var all []*command
	for _, n := range nouns() {
		all = append(all, n.commands()...)
	}
	return all
}

func TestCommands_AreDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range allCommands() {
		if seen[c.path] {
			t.Errorf("%s: twice in the list", c.path)
		}
		seen[c.path] = true
		if c.short == "" || !strings.HasSuffix(c.short, ".") {
			t.Errorf("%s: the short text %q is not a sentence", c.path, c.short)
		}
		if c.run == nil {
			t.Errorf("%s: does nothing", c.path)
		}
		checkExample(t, c)
		checkArgs(t, c)
	}
}

func checkExample(t *testing.T, c *command) {
	t.Helper()
	rest, ok := strings.CutPrefix(c.example, c.path)
	if !ok {
		t.Errorf("%s: the example %q does not begin with the command", c.path, c.example)
		return
	}
	words := shellWords(rest)
	if i := strings.Index(rest, " | "); i >= 0 {
		words = shellWords(rest[:i])
	}
	if i := strings.Index(rest, " >> "); i >= 0 {
		words = shellWords(rest[:i])
	}
	p, err := parseArgs(c.options(), words)
	if err == nil && !p.set["ids"] {
		err = p.missing(c.options())
	}
	if err != nil && !strings.Contains(err.Error(), "--resource-group") {
		t.Errorf("%s: the example %q is refused: %v", c.path, c.example, err)
	}
}

// shellWords splits as a shell does, for the quotes that examples use.
func shellWords(s string) []string {
	var out []string
	var cur strings.Builder
	quote, open := rune(0), false
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, open = r, true
		case quote == 0 && r == ' ':
			if cur.Len() > 0 || open {
				out = append(out, cur.String())
			}
			cur.Reset()
			open = false
		default:
			cur.WriteRune(r)
		}
	}
	if cur.Len() > 0 || open {
		out = append(out, cur.String())
	}
	return out
}

func checkArgs(t *testing.T, c *command) {
	t.Helper()
	spelled := map[string]bool{}
	for _, a := range c.options() {
		if a.help == "" || !strings.HasSuffix(a.help, ".") && !strings.HasSuffix(a.help, "/") && !strings.HasSuffix(a.help, "\"") {
			t.Errorf("%s: --%s: the help %q is not a sentence", c.path, a.name, a.help)
		}
		if a.pos {
			continue
		}
		for _, s := range a.spellings() {
			if spelled[s] {
				t.Errorf("%s: %s means two things", c.path, s)
			}
			spelled[s] = true
		}
	}
}

func TestCommands_GroupsAreDescribed(t *testing.T) {
	for _, n := range nouns() {
		if n.short == "" {
			t.Errorf("%s: no short text", n.name)
		}
		for _, c := range n.commands() {
			words := strings.Fields(c.path)
			if words[0] != n.name {
				t.Errorf("%s is listed under %s", c.path, n.name)
			}
			for i := 2; i < len(words); i++ {
				if g := strings.Join(words[1:i], " "); n.groups[g] == "" {
					t.Errorf("%s: the group %q has no line of help", n.name, g)
				}
			}
		}
	}
}

func TestHelp_OfEverything(t *testing.T) {
	for _, c := range allCommands() {
		var out, errs bytes.Buffer
		env := Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }, Program: "az"}
		if got := Main(t.Context(), append(strings.Fields(c.path), "--help"), env); got != exitOK {
			t.Errorf("%s --help: status %d, %s", c.path, got, errs.String())
		}
		if !strings.Contains(out.String(), "Examples\n    az "+c.example) {
			t.Errorf("%s --help: no example in\n%s", c.path, out.String())
		}
	}
}
