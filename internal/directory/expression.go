package directory

import (
	"errors"
	"fmt"
	"strings"
)

// ErrExpression is wrapped by the errors of ParseExpression.
var ErrExpression = errors.New("claims matching expression")

// Expression is a parsed claims matching expression, language version 1:
//
//	claims['sub'] matches 'repo:org/*:ref:refs/heads/*' and claims['job_workflow_ref'] eq 'x'
//
// "eq" compares exactly, letter case included; in "matches", "*" stands for any
// run of characters and "?" for one. A quote inside a literal is doubled. Terms
// are joined by "and". Source: Microsoft Entra documentation, "Flexible
// federated identity credentials".
type Expression struct{ terms []term }

type term struct {
	claim, literal string
	wild           bool
}

const (
	maxExpression = 2048 // bytes
	maxTerms      = 16
)

// ParseExpression reads an expression; errors wrap ErrExpression and say where
// the mistake is. An expression that every token fulfils is refused.
func ParseExpression(s string) (*Expression, error) {
	if len(s) > maxExpression {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrExpression, maxExpression)
	}
	p := parser{in: s}
	x := &Expression{}
	for {
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		if x.terms = append(x.terms, t); len(x.terms) > maxTerms {
			return nil, fmt.Errorf("%w: more than %d comparisons", ErrExpression, maxTerms)
		}
		p.space()
		if p.pos == len(p.in) {
			break
		}
		if !p.word("and") {
			return nil, p.errorf("\"and\" or the end is expected")
		}
	}
	for _, t := range x.terms {
		if !t.wild || strings.Trim(t.literal, "*?") != "" {
			return x, nil
		}
	}
	return nil, fmt.Errorf("%w: it holds for every token of the issuer", ErrExpression)
}

type parser struct {
	in  string
	pos int
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("%w: at character %d: %s", ErrExpression, p.pos+1, fmt.Sprintf(format, args...))
}

func (p *parser) space() {
	for p.pos < len(p.in) && strings.IndexByte(" \t\r\n", p.in[p.pos]) >= 0 {
		p.pos++
	}
}

// word takes w, without case, if it is next and ends there.
func (p *parser) word(w string) bool {
	end := p.pos + len(w)
	if end > len(p.in) || !strings.EqualFold(p.in[p.pos:end], w) {
		return false
	}
	if end < len(p.in) && isLetter(p.in[end]) {
		return false
	}
	p.pos = end
	return true
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }

func (p *parser) byte(c byte) error {
	p.space()
	if p.pos == len(p.in) || p.in[p.pos] != c {
		return p.errorf("%q is expected", c)
	}
	p.pos++
	return nil
}

// text takes a quoted literal.
func (p *parser) text() (string, error) {
	if err := p.byte('\''); err != nil {
		return "", err
	}
	var b strings.Builder
	for ; p.pos < len(p.in); p.pos++ {
		switch c := p.in[p.pos]; {
		case c != '\'':
			b.WriteByte(c)
		case p.pos+1 < len(p.in) && p.in[p.pos+1] == '\'':
			b.WriteByte('\'')
			p.pos++
		default:
			p.pos++
			return b.String(), nil
		}
	}
	return "", p.errorf("the literal does not end")
}

func (p *parser) term() (term, error) {
	var t term
	p.space()
	if !p.word("claims") {
		return t, p.errorf("\"claims\" is expected")
	}
	if err := p.byte('['); err != nil {
		return t, err
	}
	var err error
	if t.claim, err = p.text(); err != nil {
		return t, err
	}
	if t.claim == "" {
		return t, p.errorf("the claim has no name")
	}
	if err := p.byte(']'); err != nil {
		return t, err
	}
	p.space()
	switch {
	case p.word("eq"):
	case p.word("matches"):
		t.wild = true
	default:
		return t, p.errorf("\"eq\" or \"matches\" is expected")
	}
	if t.literal, err = p.text(); err != nil {
		return t, err
	}
	if t.literal == "" {
		return t, p.errorf("the value is empty")
	}
	return t, nil
}

// Match gives nil when the claims fulfil x, else the first comparison that they
// do not. A claim that is missing, or is no string, fulfils nothing.
func (x *Expression) Match(claims map[string]any) *Mismatch {
	for _, t := range x.terms {
		got, ok := claims[t.claim].(string)
		if ok && (t.wild && wildcard(t.literal, got) || !t.wild && t.literal == got) {
			continue
		}
		m := differ("claims", "claims['"+t.claim+"'] "+t.literal, got)
		m.CaseOnly = ok && (t.wild && wildcard(strings.ToLower(t.literal), strings.ToLower(got)) || !t.wild && strings.EqualFold(t.literal, got))
		return &m
	}
	return nil
}

// wildcard matches s against pattern in time len(pattern) × len(s) at worst.
func wildcard(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
