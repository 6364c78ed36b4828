package kql

import (
	"slices"
	"strings"
)

// expr is an expression.
type expr struct {
	op   string // "lit", "col", "member", "index", "call", "neg", "not"; else the operator: "and", "==", "+", "contains", "in", "between"
	at   token
	name string // of col, member and call
	val  any
	args []expr
}

type parser struct {
	text string
	toks []token
	pos  int
}

func (p *parser) peek() token {
	if p.pos < len(p.toks) {
		return p.toks[p.pos]
	}
	return token{kind: 'e', text: "the end of the query", at: len(p.text), end: len(p.text)}
}

func (p *parser) take() token { t := p.peek(); p.pos++; return t }

func (p *parser) sign(s string) bool {
	if t := p.peek(); t.kind == 'p' && t.text == s {
		p.pos++
		return true
	}
	return false
}

func (p *parser) word(w string) bool {
	if t := p.peek(); t.kind == 'w' && strings.EqualFold(t.text, w) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) fail(t token, format string, args ...any) error {
	return fail(p.text, t.at, SyntaxError, format, args...)
}

func (p *parser) want(s string) error {
	if t := p.peek(); !p.sign(s) {
		return p.fail(t, "'%s' stands where '%s' is expected.", t.text, s)
	}
	return nil
}

func (p *parser) query() (*Query, error) {
	q := &Query{text: p.text, table: p.take()}
	switch t := q.table; {
	case t.kind != 'w':
		return nil, p.fail(t, "A query begins with the name of a table: requests, traces.")
	case p.peek().text != "|" && p.peek().kind != 'e' && p.peek().text != ";":
		return nil, p.fail(t, "'%s' is not known here: a query is the name of a table and operators after it, each behind a '|'. Of those before a table, such as let and union, there is none.", strings.TrimSpace(t.text+" "+p.peek().text))
	}
	for p.sign("|") {
		s, err := p.step()
		if err != nil {
			return nil, err
		}
		if q.steps = append(q.steps, s); len(q.steps) > maxSteps {
			return nil, p.fail(s.name, "The query has more than %d operators.", maxSteps)
		}
	}
	p.sign(";")
	if t := p.peek(); t.kind != 'e' {
		return nil, p.fail(t, "'%s' stands where a '|' or the end of the query is expected.", t.text)
	}
	return q, nil
}

// operator reads the name of an operator, which may have hyphens.
func (p *parser) operator() token {
	t := p.take()
	for t.kind == 'w' && p.pos+1 < len(p.toks) && p.toks[p.pos].text == "-" && p.toks[p.pos].at == t.end && p.toks[p.pos+1].kind == 'w' && p.toks[p.pos+1].at == t.end+1 {
		t.end = p.toks[p.pos+1].end
		t.text = p.text[t.at:t.end]
		p.pos += 2
	}
	return t
}

func (p *parser) step() (step, error) {
	s := step{name: p.operator()}
	if s.name.kind != 'w' {
		return s, p.fail(s.name, "'%s' stands where an operator is expected: %s.", s.name.text, operators)
	}
	s.op = strings.ToLower(s.name.text)
	var err error
	switch s.op {
	case "where", "filter":
		s.op = "where"
		var e expr
		e, err = p.or(0)
		s.exps = []named{{e: e}}
	case "project", "extend", "distinct":
		s.exps, err = p.list()
	case "summarize":
		err = p.summarize(&s)
	case "order", "sort":
		s.op = "order"
		if !p.word("by") {
			return s, p.fail(p.peek(), "'%s' stands where 'by' is expected.", p.peek().text)
		}
		s.keys, err = p.sortKeys()
	case "take", "limit":
		s.op = "take"
		s.n, err = p.whole()
	case "top":
		if s.n, err = p.whole(); err == nil {
			if !p.word("by") {
				return s, p.fail(p.peek(), "'%s' stands where 'by' is expected.", p.peek().text)
			}
			s.keys, err = p.sortKeys()
		}
	case "count":
	default:
		return s, p.fail(s.name, "The operator '%s' is not known here. Those that are: %s.", s.name.text, operators)
	}
	return s, err
}

func (p *parser) whole() (int, error) {
	t := p.take()
	n, ok := t.val.(int64)
	if !ok || n < 0 || n > 1<<31 {
		return 0, p.fail(t, "'%s' stands where a number of rows is expected.", t.text)
	}
	return int(n), nil
}

// list reads expressions with commas between, each with a name before it or none.
func (p *parser) list() ([]named, error) {
	var out []named
	for {
		n := named{at: p.peek()}
		if t := p.peek(); t.kind == 'w' && p.pos+1 < len(p.toks) && p.toks[p.pos+1].text == "=" && p.toks[p.pos+1].kind == 'p' {
			n.name = t.text
			p.pos += 2
		}
		var err error
		if n.e, err = p.or(0); err != nil {
			return nil, err
		}
		if out = append(out, n); !p.sign(",") {
			return out, nil
		}
	}
}

func (p *parser) summarize(s *step) (err error) {
	if !p.word("by") {
		if s.aggs, err = p.list(); err != nil {
			return err
		}
		if !p.word("by") {
			return nil
		}
	}
	s.exps, err = p.list()
	return err
}

func (p *parser) sortKeys() ([]sortKey, error) {
	var out []sortKey
	for {
		e, err := p.or(0)
		if err != nil {
			return nil, err
		}
		k := sortKey{e: e}
		if p.word("asc") {
			k.asc = true
		} else {
			p.word("desc")
		}
		if p.word("nulls") {
			switch {
			case p.word("first"):
				k.nulls = "first"
			case p.word("last"):
				k.nulls = "last"
			default:
				return nil, p.fail(p.peek(), "'%s' stands where 'first' or 'last' is expected.", p.peek().text)
			}
		}
		if out = append(out, k); !p.sign(",") {
			return out, nil
		}
	}
}

func (p *parser) deep(depth int) error {
	if depth > maxDepth {
		return p.fail(p.peek(), "The expression is nested too deeply.")
	}
	return nil
}

func (p *parser) or(depth int) (expr, error) { return p.words("or", depth, p.and) }

func (p *parser) and(depth int) (expr, error) { return p.words("and", depth, p.compare) }

func (p *parser) words(op string, depth int, next func(int) (expr, error)) (expr, error) {
	if err := p.deep(depth); err != nil {
		return expr{}, err
	}
	e, err := next(depth + 1)
	for n := 0; err == nil; n++ {
		at := p.peek()
		if !p.word(op) {
			break
		}
		if n > 500 {
			return e, p.fail(at, "The expression is too long.")
		}
		var r expr
		r, err = next(depth + 1)
		if e.op == op && e.at.text == "" {
			e.args = append(e.args, r)
		} else {
			e = expr{op: op, args: []expr{e, r}}
		}
	}
	return e, err
}

// textOperators compare strings.
func textOperators() []string {
	return []string{"contains", "!contains", "contains_cs", "!contains_cs", "has", "!has", "has_cs", "!has_cs",
		"startswith", "!startswith", "startswith_cs", "!startswith_cs", "endswith", "!endswith", "endswith_cs", "!endswith_cs"}
}

func (p *parser) compare(depth int) (expr, error) {
	l, err := p.sum(depth + 1)
	if err != nil {
		return l, err
	}
	t := p.peek()
	op := strings.ToLower(t.text)
	switch {
	case t.kind == 'p' && slices.Contains([]string{"==", "!=", "<>", "<", "<=", ">", ">=", "=~", "!~"}, op):
		p.pos++
		if op == "<>" {
			op = "!="
		}
		r, err := p.sum(depth + 1)
		return expr{op: op, at: t, args: []expr{l, r}}, err
	case t.kind == 'p' && op == "=":
		return l, p.fail(t, "'=' names a column; two values are compared with '=='.")
	case t.kind == 'w' && slices.Contains(textOperators(), op):
		p.pos++
		r, err := p.sum(depth + 1)
		return expr{op: op, at: t, args: []expr{l, r}}, err
	case t.kind == 'w' && (op == "in" || op == "!in" || op == "in~" || op == "!in~"):
		p.pos++
		list, err := p.arguments(depth)
		return expr{op: op, at: t, args: append([]expr{l}, list...)}, err
	case t.kind == 'w' && (op == "between" || op == "!between"):
		p.pos++
		return p.between(l, t, op, depth)
	case t.kind == 'w' && !slices.Contains([]string{"and", "or", "asc", "desc", "nulls", "by"}, op):
		return l, p.fail(t, "The operator '%s' is not known here. Those that are: ==, !=, <, <=, >, >=, =~, !~, in, between, contains, has, startswith, endswith.", t.text)
	}
	return l, nil
}

func (p *parser) between(l expr, t token, op string, depth int) (expr, error) {
	if err := p.want("("); err != nil {
		return l, err
	}
	low, err := p.sum(depth + 1)
	if err != nil {
		return l, err
	}
	if err := p.want(".."); err != nil {
		return l, err
	}
	high, err := p.sum(depth + 1)
	if err != nil {
		return l, err
	}
	return expr{op: op, at: t, args: []expr{l, low, high}}, p.want(")")
}

func (p *parser) sum(depth int) (expr, error) { return p.signs(depth, p.product, "+", "-") }

func (p *parser) product(depth int) (expr, error) { return p.signs(depth, p.unary, "*", "/", "%") }

func (p *parser) signs(depth int, next func(int) (expr, error), ops ...string) (expr, error) {
	if err := p.deep(depth); err != nil {
		return expr{}, err
	}
	e, err := next(depth + 1)
	for n := 0; err == nil; n++ {
		t := p.peek()
		if t.kind != 'p' || !slices.Contains(ops, t.text) {
			break
		}
		if n >= maxDepth { // a chain is as deep as it is long
			return e, p.fail(t, "The expression is too long.")
		}
		p.pos++
		var r expr
		r, err = next(depth + 1)
		e = expr{op: t.text, at: t, args: []expr{e, r}}
	}
	return e, err
}

func (p *parser) unary(depth int) (expr, error) {
	if err := p.deep(depth); err != nil {
		return expr{}, err
	}
	if t := p.peek(); p.sign("-") {
		e, err := p.unary(depth + 1)
		return expr{op: "neg", at: t, args: []expr{e}}, err
	}
	if p.sign("+") {
		return p.unary(depth + 1)
	}
	e, err := p.primary(depth)
	for n := 0; err == nil; n++ {
		t := p.peek()
		if n > maxDepth {
			return e, p.fail(t, "The expression is too long.")
		}
		switch {
		case p.sign("."):
			w := p.take()
			if w.kind != 'w' {
				return e, p.fail(w, "'%s' stands where the name of a member is expected.", w.text)
			}
			e = expr{op: "member", at: w, name: w.text, args: []expr{e}}
		case p.sign("["):
			var i expr
			if i, err = p.sum(depth + 1); err == nil {
				e, err = expr{op: "index", at: t, args: []expr{e, i}}, p.want("]")
			}
		default:
			return e, nil
		}
	}
	return e, err
}

func (p *parser) primary(depth int) (expr, error) {
	t := p.take()
	switch {
	case t.kind == 's' || t.kind == 'n' || t.kind == 't' || t.kind == 'd':
		return expr{op: "lit", at: t, val: t.val}, nil
	case t.kind == 'p' && t.text == "(":
		e, err := p.or(depth + 1)
		if err != nil {
			return e, err
		}
		e.at.text = "(" // a chain of and or or does not go into it
		return e, p.want(")")
	case t.kind != 'w' || strings.HasPrefix(t.text, "!"):
		return expr{}, p.fail(t, "'%s' stands where a value is expected.", t.text)
	}
	if n := p.peek(); n.kind == 'p' && n.text == "(" {
		args, err := p.arguments(depth)
		return expr{op: "call", at: t, name: t.text, args: args}, err
	}
	switch strings.ToLower(t.text) {
	case "true":
		return expr{op: "lit", at: t, val: true}, nil
	case "false":
		return expr{op: "lit", at: t, val: false}, nil
	}
	return expr{op: "col", at: t, name: t.text}, nil
}

// arguments reads (a, b, c).
func (p *parser) arguments(depth int) ([]expr, error) {
	if err := p.want("("); err != nil {
		return nil, err
	}
	if p.sign(")") {
		return nil, nil
	}
	var out []expr
	for {
		e, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if out = append(out, e); p.sign(")") {
			return out, nil
		}
		if len(out) > 1000 {
			return nil, p.fail(p.peek(), "There are too many values.")
		}
		if err := p.want(","); err != nil {
			return nil, err
		}
	}
}
