package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parsed are the values of one command line.
type parsed struct {
	values map[string][]string // by arg name; present when given
	set    map[string]bool     // given, also without a value
	stray  []string            // values that no option took
	ops    []operation         // --set, --add, --remove in the order typed
}

type operation struct {
	verb   string
	values []string
}

// optionTable finds an arg by its spelling, as Python's argparse does, whose
// rules az inherits.
type optionTable struct {
	exact map[string]arg
	longs []string // sorted
}

func newOptionTable(args []arg) *optionTable {
	t := &optionTable{exact: make(map[string]arg, 2*len(args))}
	for _, a := range args {
		if a.pos {
			continue
		}
		for _, s := range a.spellings() {
			t.exact[s] = a
			if strings.HasPrefix(s, "--") {
				t.longs = append(t.longs, s)
			}
		}
	}
	slices.Sort(t.longs)
	return t
}

// find reads one token. ok is false for a value; unknown is true for what
// looks like an option and isn't one of the command's.
func (t *optionTable) find(tok string) (a arg, value *string, ok, unknown bool, err error) {
	if len(tok) < 2 || tok[0] != '-' {
		return arg{}, nil, false, false, nil
	}
	if a, ok := t.exact[tok]; ok {
		return a, nil, true, false, nil
	}
	if strings.HasPrefix(tok, "--") {
		return t.findLong(tok)
	}
	if a, ok := t.exact[tok[:2]]; ok { // -gNAME, and -y joined with other flags
		v := strings.TrimPrefix(tok[2:], "=")
		return a, &v, true, false, nil
	}
	return arg{}, nil, false, !isNumber(tok) && !strings.Contains(tok, " "), nil
}

func (t *optionTable) findLong(tok string) (arg, *string, bool, bool, error) {
	name, v, joined := strings.Cut(tok, "=")
	var value *string
	if joined {
		value = &v
	}
	if a, ok := t.exact[name]; ok {
		return a, value, true, false, nil
	}
	var hits []string
	var hit arg
	for _, l := range t.longs {
		if strings.HasPrefix(l, name) {
			if a := t.exact[l]; len(hits) == 0 || a.name != hit.name {
				hits, hit = append(hits, l), a
			}
		}
	}
	switch {
	case len(hits) == 1:
		return hit, value, true, false, nil
	case len(hits) > 1:
		return arg{}, nil, false, false, usagef("ambiguous option: %s could match %s", name, strings.Join(hits, ", "))
	case strings.Contains(tok, " "):
		return arg{}, nil, false, false, nil
	default:
		return arg{}, nil, false, true, nil
	}
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// parseArgs reads tokens by the command's options. It does not look at the
// file system.
func parseArgs(args []arg, tokens []string) (*parsed, error) {
	p := &parser{table: newOptionTable(args), out: &parsed{values: map[string][]string{}, set: map[string]bool{}}}
	if err := p.split(tokens); err != nil {
		return nil, err
	}
	for p.i < len(p.toks) {
		t := p.toks[p.i]
		p.i++
		switch {
		case t.isOption:
			if err := p.option(t); err != nil {
				return nil, err
			}
		case t.unknown:
			p.unknown = append(p.unknown, t.text)
		default:
			p.out.stray = append(p.out.stray, t.text)
		}
	}
	if len(p.unknown) > 0 {
		return p.out, usagef("unrecognized arguments: %s", strings.Join(append(p.unknown, p.extra(args)...), " "))
	}
	return p.out, p.positionals(args)
}

type token struct {
	text     string
	arg      arg
	value    *string // joined with = or directly
	isOption bool
	unknown  bool
}

type parser struct {
	table   *optionTable
	toks    []token
	i       int
	out     *parsed
	unknown []string
}

// split classifies every token; after "--" all are values.
func (p *parser) split(tokens []string) error {
	for i, s := range tokens {
		if s == "--" {
			for _, rest := range tokens[i+1:] {
				p.toks = append(p.toks, token{text: rest})
			}
			return nil
		}
		a, v, ok, unknown, err := p.table.find(s)
		if err != nil {
			return err
		}
		p.toks = append(p.toks, token{text: s, arg: a, value: v, isOption: ok, unknown: unknown})
	}
	return nil
}

// following takes the values after an option, at most limit.
func (p *parser) following(limit int) []string {
	vals := []string{}
	for p.i < len(p.toks) && len(vals) < limit && !p.toks[p.i].isOption && !p.toks[p.i].unknown {
		vals = append(vals, p.toks[p.i].text)
		p.i++
	}
	return vals
}

func (p *parser) option(t token) error {
	a := t.arg
	var vals []string
	switch a.kind {
	case flag:
		if t.value != nil {
			return p.joinedFlags(t)
		}
		p.out.set[a.name] = true
		return nil
	case boolean:
		vals = p.following(1)
	case list, pairs, repeat:
		vals = p.following(len(p.toks))
	default:
		if t.value == nil {
			if vals = p.following(1); len(vals) == 0 {
				return usagef("argument %s: expected one argument", a.title())
			}
		}
	}
	if t.value != nil {
		if a.kind == boolean && len(vals) > 0 {
			p.i--
		}
		if a.kind == list || a.kind == pairs || a.kind == repeat {
			p.i -= len(vals) // as argparse: a joined value is the only one
		}
		vals = []string{*t.value}
	}
	return p.store(a, vals)
}

func (p *parser) store(a arg, vals []string) error {
	if len(vals) == 0 {
		switch a.kind {
		case boolean:
			vals = []string{"true"}
		case list, repeat:
			return usagef("argument %s: expected at least one argument", a.title())
		}
	}
	vals, err := checkValues(a, vals)
	if err != nil {
		return err
	}
	p.out.set[a.name] = true
	if a.kind == repeat {
		p.out.ops = append(p.out.ops, operation{a.name, vals})
		p.out.values[a.name] = append(p.out.values[a.name], vals...)
		return nil
	}
	p.out.values[a.name] = vals
	return nil
}

// joinedFlags reads -yh as -y -h, and refuses --yes=1.
func (p *parser) joinedFlags(t token) error {
	if strings.HasPrefix(t.text, "--") || strings.HasPrefix(t.text[2:], "=") || *t.value == "" {
		return usagef("argument %s: ignored explicit argument '%s'", t.arg.title(), *t.value)
	}
	p.out.set[t.arg.name] = true
	a, v, ok, _, err := p.table.find("-" + *t.value)
	if err != nil || !ok {
		return usagef("argument %s: ignored explicit argument '%s'", t.arg.title(), *t.value)
	}
	return p.option(token{text: "-" + *t.value, arg: a, value: v, isOption: true})
}

func checkValues(a arg, vals []string) ([]string, error) {
	for i, v := range vals {
		switch {
		case a.kind == number:
			if _, err := strconv.Atoi(v); err != nil {
				return nil, usagef("argument %s: invalid int value: '%s'", a.title(), v)
			}
		case a.kind == boolean:
			b, ok := parseBool(v)
			if !ok {
				return nil, &failure{status: exitUsage, ofCommand: true, msg: fmt.Sprintf("'%s' is not a valid value for '--%s'. Allowed values: false, true.", v, a.name)}
			}
			vals = []string{strconv.FormatBool(b)}
		case len(a.choices) > 0:
			j := slices.IndexFunc(a.choices, func(c string) bool { return strings.EqualFold(c, v) })
			if j < 0 {
				return nil, &failure{status: exitUsage, ofCommand: true,
					msg: fmt.Sprintf("'%s' is not a valid value for '--%s'. Allowed values: %s.", v, a.name, strings.Join(a.choices, ", "))}
			}
			vals[i] = a.choices[j]
		}
	}
	return vals, nil
}

func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true", "t", "yes", "y", "1", "on":
		return true, true
	case "false", "f", "no", "n", "0", "off":
		return false, true
	}
	return false, false
}

// positionals hands the stray values to the positional arguments.
func (p *parser) positionals(args []arg) error {
	for _, a := range args {
		if !a.pos || len(p.out.stray) == 0 {
			continue
		}
		n := len(p.out.stray)
		if a.kind == text {
			n = 1
		}
		if err := p.store(a, p.out.stray[:n]); err != nil {
			return err
		}
		p.out.stray = p.out.stray[n:]
	}
	if len(p.out.stray) > 0 {
		return usagef("unrecognized arguments: %s", strings.Join(p.out.stray, " "))
	}
	return nil
}

// extra are stray values that no positional argument would take.
func (p *parser) extra(args []arg) []string {
	if slices.ContainsFunc(args, func(a arg) bool { return a.pos }) {
		return nil
	}
	return p.out.stray
}

// missing checks that all that is needed is there. Where an id can stand for
// the parts of a name, that is said too.
func (p *parsed) missing(args []arg) error {
	var names, parts []string
	ids := false
	for _, a := range args {
		ids = ids || a.name == "ids"
		if a.need && !p.set[a.name] {
			names = append(names, a.title())
			if a.part != "" {
				parts = append(parts, "--"+a.name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	if ids && len(parts) == len(names) {
		return usagef("(%s | --ids) are required", strings.Join(parts, " "))
	}
	return usagef("the following arguments are required: %s", strings.Join(names, ", "))
}

// expandFiles replaces @FILE, and KEY=@FILE, by the file's content without its
// last line break. As in az, what can't be read stays as typed: it is no file.
func (p *parsed) expandFiles(read func(path string) ([]byte, error)) {
	for _, vals := range p.values {
		for i, v := range vals {
			head, path, ok := cutFile(v)
			if !ok {
				continue
			}
			if b, err := read(path); err == nil {
				vals[i] = head + strings.TrimSuffix(strings.TrimPrefix(string(b), "\ufeff"), "\n")
			}
		}
	}
}

func cutFile(v string) (head, path string, ok bool) {
	head, rest, joined := strings.Cut(v, "=")
	if !joined {
		head, rest = "", v
	} else {
		head += "="
	}
	if len(rest) < 2 || rest[0] != '@' {
		return "", "", false
	}
	return head, rest[1:], true
}
