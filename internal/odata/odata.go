// Package odata reads the small part of OData's $filter that Azure Resource
// Manager and Microsoft Graph use: eq, ne, gt, ge, lt, le, and, or, not,
// startswith, endswith, substringof, contains, in, any, and calls such as
// atScope(). Source: OData 4.01, URL conventions, section 5.1.1.
package odata

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrSyntax is wrapped by every error of [Parse].
var ErrSyntax = errors.New("filter syntax")

const (
	maxLength = 8 << 10
	maxDepth  = 32
)

// Expr is a parsed filter.
type Expr struct {
	Op   string   // and, or, not; eq, ne, gt, ge, lt, le, in; call
	Name string   // the property, or the function of a call, as written
	Args []string // literals: one for comparisons, the arguments for calls
	Sub  []*Expr  // operands of and, or, not
}

// Parse reads a filter.
func Parse(s string) (*Expr, error) {
	if len(s) > maxLength {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrSyntax, maxLength)
	}
	toks, err := lex(s)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	e, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.pos != len(p.toks) {
		return nil, fmt.Errorf("%w: %q is left over", ErrSyntax, p.peek().text)
	}
	return e, nil
}

type token struct {
	text string
	kind byte // 'w' word, 's' string, 'p' punctuation
}

func lex(s string) ([]token, error) {
	var toks []token
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == ' ' || c == '\t':
			i++
		case c == '\'':
			text, n, err := quoted(s[i:])
			if err != nil {
				return nil, err
			}
			toks = append(toks, token{text, 's'})
			i += n
		case strings.IndexByte("(),:", c) >= 0:
			toks = append(toks, token{string(c), 'p'})
			i++
		default:
			j := i
			for j < len(s) && strings.IndexByte(" \t'(),", s[j]) < 0 && (s[j] != ':' || isTime(s[i:j])) {
				j++
			}
			toks = append(toks, token{s[i:j], 'w'})
			i = j
		}
	}
	return toks, nil
}

// isTime reports that a colon goes on a date and time, not a lambda.
func isTime(word string) bool { return word != "" && word[0] >= '0' && word[0] <= '9' }

// quoted reads a string literal; a doubled quote stands for one.
func quoted(s string) (text string, n int, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), i + 1, nil
	}
	return "", 0, fmt.Errorf("%w: a quote is not closed", ErrSyntax)
}

type parser struct {
	toks []token
	pos  int
}

func (p *parser) peek() token {
	if p.pos < len(p.toks) {
		return p.toks[p.pos]
	}
	return token{text: "the end", kind: 'e'}
}

func (p *parser) take() token { t := p.peek(); p.pos++; return t }

func (p *parser) word(w string) bool {
	if t := p.peek(); t.kind == 'w' && strings.EqualFold(t.text, w) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) punct(c string) error {
	if t := p.take(); t.kind != 'p' || t.text != c {
		return fmt.Errorf("%w: %q where %q is expected", ErrSyntax, t.text, c)
	}
	return nil
}

func (p *parser) or(depth int) (*Expr, error) {
	return p.chain("or", depth, p.and)
}

func (p *parser) and(depth int) (*Expr, error) {
	return p.chain("and", depth, p.unary)
}

func (p *parser) chain(op string, depth int, next func(int) (*Expr, error)) (*Expr, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: nested too deeply", ErrSyntax)
	}
	e, err := next(depth + 1)
	if err != nil {
		return nil, err
	}
	for p.word(op) {
		r, err := next(depth + 1)
		if err != nil {
			return nil, err
		}
		e = &Expr{Op: op, Sub: []*Expr{e, r}}
	}
	return e, nil
}

func (p *parser) unary(depth int) (*Expr, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: nested too deeply", ErrSyntax)
	}
	if p.word("not") {
		e, err := p.unary(depth + 1)
		return &Expr{Op: "not", Sub: []*Expr{e}}, err
	}
	if t := p.peek(); t.kind == 'p' && t.text == "(" {
		p.pos++
		e, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		return e, p.punct(")")
	}
	t := p.take()
	if t.kind != 'w' {
		return nil, fmt.Errorf("%w: %q where a property is expected", ErrSyntax, t.text)
	}
	if n := p.peek(); n.kind == 'p' && n.text == "(" {
		p.pos++
		return p.call(t.text, depth)
	}
	return p.comparison(t.text)
}

func (p *parser) comparison(name string) (*Expr, error) {
	op := p.take()
	switch o := strings.ToLower(op.text); {
	case op.kind != 'w':
	case o == "in":
		if err := p.punct("("); err != nil {
			return nil, err
		}
		args, err := p.args()
		return &Expr{Op: "in", Name: name, Args: args}, err
	case slices.Contains([]string{"eq", "ne", "gt", "ge", "lt", "le"}, o):
		v := p.take()
		if v.kind != 'w' && v.kind != 's' {
			return nil, fmt.Errorf("%w: %q where a value is expected", ErrSyntax, v.text)
		}
		return &Expr{Op: o, Name: name, Args: []string{v.text}}, nil
	}
	return nil, fmt.Errorf("%w: %q where an operator is expected", ErrSyntax, op.text)
}

// call reads a function's arguments, or the lambda of any.
func (p *parser) call(name string, depth int) (*Expr, error) {
	if list, ok := strings.CutSuffix(name, "/any"); ok {
		v := p.take()
		if v.kind != 'w' {
			return nil, fmt.Errorf("%w: any() needs a variable", ErrSyntax)
		}
		if err := p.punct(":"); err != nil {
			return nil, err
		}
		e, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		rename(e, v.text, list)
		return e, p.punct(")")
	}
	args, err := p.args()
	return &Expr{Op: "call", Name: name, Args: args}, err
}

// rename makes the variable of a lambda stand for its list.
func rename(e *Expr, from, to string) {
	if e.Name == from {
		e.Name = to
	} else if rest, ok := strings.CutPrefix(e.Name, from+"/"); ok {
		e.Name = to + "/" + rest
	}
	if e.Op == "call" {
		for i, a := range e.Args {
			if a == from {
				e.Args[i] = to
			}
		}
	}
	for _, s := range e.Sub {
		rename(s, from, to)
	}
}

func (p *parser) args() ([]string, error) {
	var args []string
	for {
		t := p.take()
		switch {
		case t.kind == 'p' && t.text == ")":
			return args, nil
		case t.kind == 'p' && t.text == "," && len(args) > 0:
			t = p.take()
			fallthrough
		case len(args) == 0:
			if t.kind != 'w' && t.kind != 's' {
				return nil, fmt.Errorf("%w: %q where a value is expected", ErrSyntax, t.text)
			}
			args = append(args, t.text)
		default:
			return nil, fmt.Errorf("%w: %q where a comma is expected", ErrSyntax, t.text)
		}
	}
}

// Names are the properties that e speaks of, functions like atScope not included.
func (e *Expr) Names() []string {
	var names []string
	switch {
	case e.Op == "call":
		if n, _, ok := e.textCall(); ok {
			names = append(names, n)
		} else {
			names = append(names, e.Name+"()")
		}
	case e.Name != "":
		names = append(names, e.Name)
	}
	for _, s := range e.Sub {
		names = append(names, s.Names()...)
	}
	return names
}

// textCall splits startswith(name,'x') and its kin.
func (e *Expr) textCall() (name, value string, ok bool) {
	if e.Op != "call" || len(e.Args) != 2 {
		return "", "", false
	}
	switch strings.ToLower(e.Name) {
	case "startswith", "endswith", "contains":
		return e.Args[0], e.Args[1], true
	case "substringof":
		return e.Args[1], e.Args[0], true
	}
	return "", "", false
}

// Call finds a call of the function anywhere in e and gives its arguments.
func (e *Expr) Call(name string) (args []string, ok bool) {
	if e.Op == "call" && strings.EqualFold(e.Name, name) {
		return e.Args, true
	}
	for _, s := range e.Sub {
		if args, ok := s.Call(name); ok {
			return args, true
		}
	}
	return nil, false
}

// Required gives the value that the property must equal for e to hold.
func (e *Expr) Required(name string) (string, bool) {
	switch {
	case e.Op == "eq" && strings.EqualFold(e.Name, name):
		return e.Args[0], true
	case e.Op == "and":
		for _, s := range e.Sub {
			if v, ok := s.Required(name); ok {
				return v, true
			}
		}
	}
	return "", false
}

// Eval judges e. get gives the values of a property; a list property has
// several, and one that fits is enough. Text is compared without case. A call
// that is none of the text functions holds: whoever lists acts on it.
func (e *Expr) Eval(get func(name string) []string) (bool, error) {
	switch e.Op {
	case "and", "or":
		for _, s := range e.Sub {
			ok, err := s.Eval(get)
			if err != nil || ok == (e.Op == "or") {
				return ok, err
			}
		}
		return e.Op == "and", nil
	case "not":
		ok, err := e.Sub[0].Eval(get)
		return !ok && err == nil, err
	case "call":
		n, v, ok := e.textCall()
		if !ok {
			return true, nil
		}
		return slices.ContainsFunc(get(n), func(s string) bool { return text(e.Name, s, v) }), nil
	}
	vals := get(e.Name)
	if len(vals) == 0 {
		vals = []string{""}
	}
	return slices.ContainsFunc(vals, func(s string) bool { return compare(e.Op, s, e.Args) }), nil
}

func text(fn, s, v string) bool {
	s, v = strings.ToLower(s), strings.ToLower(v)
	switch strings.ToLower(fn) {
	case "startswith":
		return strings.HasPrefix(s, v)
	case "endswith":
		return strings.HasSuffix(s, v)
	default:
		return strings.Contains(s, v)
	}
}

func compare(op, s string, args []string) bool {
	if op == "in" {
		return slices.ContainsFunc(args, func(a string) bool { return strings.EqualFold(a, s) })
	}
	c := strings.Compare(strings.ToLower(s), strings.ToLower(args[0]))
	if args[0] == "null" && s == "" {
		c = 0
	}
	switch op {
	case "eq":
		return c == 0
	case "ne":
		return c != 0
	case "gt":
		return c > 0
	case "ge":
		return c >= 0
	case "lt":
		return c < 0
	default:
		return c <= 0
	}
}
