package template

import (
	"fmt"
	"strconv"
	"strings"
)

// node is an expression.
type node struct {
	op   op
	text string // of a literal, a call's function (as written) or a property
	num  int64
	base *node   // of a property or an index
	args []*node // of a call; the index
	safe bool    // .? and [? give null where nothing is there
}

type op int

const (
	opText op = iota
	opNumber
	opCall
	opProperty
	opIndex
)

// isExpression tells a string that is to be evaluated, and gives what is
// between the brackets; "[[…]" is a literal that begins with a bracket.
func isExpression(s string) (inner string, expr bool) {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return s, false
	}
	if s[1] == '[' {
		return s[1:], false
	}
	return s[1 : len(s)-1], true
}

// parser reads one expression.
type parser struct {
	s     string
	at    int
	depth int
}

// parseExpression reads the text between the brackets.
func parseExpression(s string) (*node, error) {
	if len(s) > maxExpression {
		return nil, fmt.Errorf("the language expression is longer than %d characters", maxExpression)
	}
	p := &parser{s: s}
	n, err := p.expression()
	if err == nil {
		if p.space(); p.at < len(p.s) {
			err = p.fail("the end of the expression is expected")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("unable to parse language expression '%s': %w", short(s), err)
	}
	return n, nil
}

// short is s for an error.
func short(s string) string {
	if len(s) <= 200 {
		return s
	}
	return strings.ToValidUTF8(s[:200], "") + "…"
}

func (p *parser) fail(what string) error {
	found := "the end"
	if p.at < len(p.s) {
		found = fmt.Sprintf("'%s'", p.s[p.at:min(p.at+1, len(p.s))])
	}
	return fmt.Errorf("at position %d: %s, found %s", p.at+1, what, found)
}

func (p *parser) space() {
	for p.at < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.at]) >= 0 {
		p.at++
	}
}

// take eats c, if it is next.
func (p *parser) take(c byte) bool {
	p.space()
	if p.at < len(p.s) && p.s[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) expression() (*node, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, fmt.Errorf("it nests deeper than %d levels", maxNesting)
	}
	defer func() { p.depth-- }()
	n, err := p.primary()
	for links := 0; err == nil; links++ {
		if links > maxNesting*4 {
			return nil, fmt.Errorf("it has more than %d accesses in a row", maxNesting*4)
		}
		switch {
		case p.take('.'):
			safe := p.at < len(p.s) && p.s[p.at] == '?'
			if safe {
				p.at++
			}
			name := p.word()
			if name == "" {
				return nil, p.fail("a property's name is expected")
			}
			n = &node{op: opProperty, base: n, text: name, safe: safe}
		case p.take('['):
			safe := p.take('?')
			var i *node
			if i, err = p.expression(); err != nil {
				return nil, err
			}
			if !p.take(']') {
				return nil, p.fail("']' is expected")
			}
			n = &node{op: opIndex, base: n, args: []*node{i}, safe: safe}
		default:
			return n, nil
		}
	}
	return nil, err
}

func (p *parser) primary() (*node, error) {
	p.space()
	if p.at == len(p.s) {
		return nil, p.fail("an expression is expected")
	}
	switch c := p.s[p.at]; {
	case c == '\'':
		return p.literal()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	default:
		return p.call()
	}
}

func (p *parser) literal() (*node, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.s); p.at++ {
		if p.s[p.at] != '\'' {
			b.WriteByte(p.s[p.at])
			continue
		}
		if p.at+1 < len(p.s) && p.s[p.at+1] == '\'' {
			b.WriteByte('\'')
			p.at++
			continue
		}
		p.at++
		return &node{op: opText, text: b.String()}, nil
	}
	return nil, p.fail("a string's closing quote is expected")
}

func (p *parser) number() (*node, error) {
	from := p.at
	for p.at++; p.at < len(p.s) && p.s[p.at] >= '0' && p.s[p.at] <= '9'; {
		p.at++
	}
	n, err := strconv.ParseInt(p.s[from:p.at], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("at position %d: '%s' is not a whole number of 64 bits", from+1, p.s[from:p.at])
	}
	return &node{op: opNumber, num: n}, nil
}

func (p *parser) word() string {
	p.space()
	from := p.at
	for p.at < len(p.s) {
		c := p.s[p.at]
		if c != '_' && c != '$' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c < 0x80 {
			break
		}
		p.at++
	}
	return p.s[from:p.at]
}

func (p *parser) call() (*node, error) {
	name := p.word()
	if name == "" {
		return nil, p.fail("a function, a string or a number is expected")
	}
	if p.at < len(p.s) && p.s[p.at] == '.' { // namespace.function
		p.at++
		name += "." + p.word()
	}
	if !p.take('(') {
		return nil, p.fail("'(' is expected after '" + short(name) + "'")
	}
	n := &node{op: opCall, text: name}
	if p.take(')') {
		return n, nil
	}
	for {
		arg, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
		if p.take(')') {
			return n, nil
		}
		if !p.take(',') {
			return nil, p.fail("',' or ')' is expected")
		}
	}
}
