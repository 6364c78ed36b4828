package kql

import (
	"fmt"
	"slices"
	"strings"
)

// stage takes rows one by one. push says whether it wants more.
type stage interface {
	push(row []any) (more bool, err error)
	end() error
}

// collect is what comes out.
type collect struct {
	rows [][]any
	b    *budget
}

func (s *collect) push(row []any) (bool, error) {
	if err := s.b.room(len(s.rows)); err != nil {
		return false, err
	}
	s.rows = append(s.rows, row)
	return true, s.b.keep(sizeOf(row))
}
func (s *collect) end() error { return nil }

// through changes or drops each row.
type through struct {
	f    func(row []any) []any // nil drops it
	next stage
}

func (s *through) push(row []any) (bool, error) {
	if row = s.f(row); row == nil {
		return true, nil
	}
	return s.next.push(row)
}
func (s *through) end() error { return s.next.end() }

// taking ends after n rows.
type taking struct {
	n    int
	next stage
}

func (s *taking) push(row []any) (bool, error) {
	if s.n == 0 {
		return false, nil
	}
	s.n--
	more, err := s.next.push(row)
	return more && s.n > 0, err
}
func (s *taking) end() error { return s.next.end() }

// sorting waits for all rows, of which it keeps n where that is not 0.
type sorting struct {
	rows [][]any
	by   func(a, b []any) int
	n    int // -1 is all
	b    *budget
	next stage
}

func (s *sorting) push(row []any) (bool, error) {
	if err := s.b.room(len(s.rows)); err != nil {
		return false, err
	}
	s.rows = append(s.rows, row)
	if err := s.b.keep(sizeOf(row)); err != nil {
		return false, err
	}
	if s.n >= 0 && s.n <= s.b.Rows/2 && len(s.rows) >= 2*s.n+1024 {
		return true, s.shrink()
	}
	return true, nil
}

func (s *sorting) shrink() error {
	slices.SortStableFunc(s.rows, func(x, y []any) int {
		if s.b.over() != nil {
			return 0 // no order is needed any more
		}
		return s.by(x, y)
	})
	if err := s.b.over(); err != nil {
		return err
	}
	for s.n >= 0 && len(s.rows) > s.n {
		if err := s.release(len(s.rows) - 1); err != nil {
			return err
		}
		s.rows = s.rows[:len(s.rows)-1]
	}
	return nil
}

// release keeps a row no longer.
func (s *sorting) release(i int) error {
	row := s.rows[i]
	s.rows[i] = nil
	return s.b.keep(-sizeOf(row))
}

func (s *sorting) end() error {
	if err := s.shrink(); err != nil {
		return err
	}
	for i, row := range s.rows {
		if err := s.b.over(); err != nil {
			return err
		}
		if err := s.release(i); err != nil {
			return err
		}
		if more, err := s.next.push(row); err != nil || !more {
			return errorOr(err, s.next)
		}
	}
	return s.next.end()
}

func errorOr(err error, next stage) error {
	if err != nil {
		return err
	}
	return next.end()
}

// group is summarize, distinct and count.
type group struct {
	keys   []bound
	aggs   []aggregate
	groups map[string]int
	rows   []groupRow
	b      *budget
	next   stage
}

type groupRow struct {
	keys   []any
	totals []total
	bytes  int
}

// aggregate is one aggregation of a summarize.
type aggregate struct {
	args []bound
	make func() total
}

func keyOf(v any) string { return typeOf(v) + ":" + str(v) }

func (s *group) push(row []any) (bool, error) {
	var b strings.Builder
	keys := make([]any, len(s.keys))
	for i, k := range s.keys {
		keys[i] = k.get(row)
		t := keyOf(keys[i])
		fmt.Fprintf(&b, "%d %s", len(t), t)
	}
	n := 0
	i, ok := s.groups[b.String()]
	if !ok {
		if err := s.b.room(len(s.rows)); err != nil {
			return false, err
		}
		i = len(s.rows)
		s.groups[b.String()] = i
		s.rows = append(s.rows, s.row(keys))
		n += sizeOf(keys) + b.Len() + 96 + 96*len(s.aggs)
	}
	for j, a := range s.aggs {
		args := make([]any, len(a.args))
		for k, one := range a.args {
			args[k] = one.get(row)
		}
		n += s.rows[i].totals[j].add(args)
	}
	s.rows[i].bytes += n
	return true, s.b.keep(n)
}

func (s *group) row(keys []any) groupRow {
	r := groupRow{keys: keys}
	for _, a := range s.aggs {
		r.totals = append(r.totals, a.make())
	}
	return r
}

func (s *group) end() error {
	s.groups = nil
	if len(s.keys) == 0 && len(s.rows) == 0 { // of nothing, too, there is a count
		s.rows = append(s.rows, s.row(nil))
	}
	for i, r := range s.rows {
		if err := s.b.over(); err != nil {
			return err
		}
		row := slices.Clone(r.keys)
		for _, t := range r.totals {
			row = append(row, t.result())
		}
		s.rows[i] = groupRow{}
		if err := s.b.keep(-r.bytes); err != nil {
			return err
		}
		if more, err := s.next.push(row); err != nil || !more {
			return errorOr(err, s.next)
		}
	}
	return s.next.end()
}

// step compiles one operator: the stage that it is, and the columns after it.
func (c *compiler) step(s step) (func(stage) stage, []Column, error) {
	switch s.op {
	case "where":
		b, err := c.expr(s.exps[0].e)
		if err != nil {
			return nil, nil, err
		}
		if b.typ != Bool && b.typ != Dynamic {
			return nil, nil, c.fail(s.name, "where takes a condition, not a %s.", b.typ)
		}
		return func(next stage) stage {
			return &through{next: next, f: func(row []any) []any {
				if ok, _ := b.get(row).(bool); ok {
					return row
				}
				return nil
			}}
		}, c.cols, nil
	case "project", "extend":
		return c.project(s)
	case "take":
		return func(next stage) stage { return &taking{n: s.n, next: next} }, c.cols, nil
	case "order", "top":
		return c.order(s)
	case "count":
		return func(next stage) stage {
			return &group{aggs: []aggregate{{make: func() total { return &counter{} }}}, groups: map[string]int{}, b: c.b, next: next}
		}, []Column{{"Count", Long}}, nil
	}
	return c.group(s)
}

// project is project and extend.
func (c *compiler) project(s step) (func(stage) stage, []Column, error) {
	cols := []Column{}
	var get []bound
	if s.op == "extend" {
		cols = slices.Clone(c.cols)
		for i, k := range c.cols {
			get = append(get, bound{k.Type, func(row []any) any { return row[i] }})
		}
	}
	for _, n := range s.exps {
		b, err := c.expr(n.e)
		if err != nil {
			return nil, nil, err
		}
		name := n.name
		if name == "" {
			name = unique(cols, natural(n.e, len(cols)+1), s.op == "extend")
		}
		i := slices.IndexFunc(cols, func(k Column) bool { return k.Name == name })
		switch {
		case i >= 0 && s.op == "project":
			return nil, nil, c.fail(n.at, "There would be two columns '%s'.", name)
		case i >= 0:
			cols[i].Type, get[i] = b.typ, b
		default:
			cols, get = append(cols, Column{name, b.typ}), append(get, b)
		}
	}
	return func(next stage) stage {
		return &through{next: next, f: func(row []any) []any {
			out := make([]any, len(get))
			for i, b := range get {
				out[i] = b.get(row)
			}
			return out
		}}
	}, cols, nil
}

// natural is the name that an expression's column has by itself.
func natural(e expr, n int) string {
	switch e.op {
	case "col":
		return e.name
	case "member":
		return natural(e.args[0], n) + "_" + e.name
	case "index":
		if s, ok := e.args[1].val.(string); ok {
			return natural(e.args[0], n) + "_" + s
		}
	case "call":
		if len(e.args) > 0 && (e.args[0].op == "col" || e.args[0].op == "member" || e.args[0].op == "index") {
			return natural(e.args[0], n)
		}
	}
	return fmt.Sprintf("Column%d", n)
}

// unique is name, or another one where a column has it.
func unique(cols []Column, name string, replaces bool) string {
	taken := func(s string) bool { return slices.ContainsFunc(cols, func(k Column) bool { return k.Name == s }) }
	for i, base := 1, name; taken(name) && !replaces; i++ {
		name = fmt.Sprintf("%s%d", base, i)
	}
	return name
}

func (c *compiler) order(s step) (func(stage) stage, []Column, error) {
	var keys []bound
	for _, k := range s.keys {
		b, err := c.expr(k.e)
		if err != nil {
			return nil, nil, err
		}
		if b.typ == Dynamic {
			return nil, nil, c.fail(k.e.at, "Rows cannot be ordered by a dynamic value: tostring(), tolong() and todouble() change what it is.")
		}
		keys = append(keys, b)
	}
	by := func(x, y []any) int {
		for i, k := range keys {
			if n := s.keys[i].compare(k.get(x), k.get(y)); n != 0 {
				return n
			}
		}
		return 0
	}
	n := -1
	if s.op == "top" {
		n = s.n
	}
	return func(next stage) stage { return &sorting{by: by, n: n, b: c.b, next: next} }, c.cols, nil
}

// compare is the order of two rows' values; missing ones come first where the
// order is ascending, if the query doesn't say otherwise.
func (k sortKey) compare(a, b any) int {
	if a == nil || b == nil {
		n := 0
		switch {
		case a == nil && b == nil:
		case a == nil:
			n = -1
		default:
			n = 1
		}
		if k.nulls == "last" || k.nulls == "" && !k.asc {
			n = -n
		}
		return n
	}
	n, _ := compare(a, b)
	if !k.asc {
		n = -n
	}
	return n
}

// group is summarize and distinct.
func (c *compiler) group(s step) (func(stage) stage, []Column, error) {
	g := group{b: c.b}
	var cols []Column
	for _, n := range s.exps {
		b, err := c.expr(n.e)
		if err != nil {
			return nil, nil, err
		}
		if b.typ == Dynamic {
			return nil, nil, c.fail(n.at, "Rows cannot be grouped by a dynamic value: tostring(), tolong() and todouble() change what it is.")
		}
		name := n.name
		if name == "" {
			name = natural(n.e, len(cols)+1)
		}
		cols, g.keys = append(cols, Column{unique(cols, name, false), b.typ}), append(g.keys, b)
	}
	for _, n := range s.aggs {
		a, typ, name, err := c.aggregate(n)
		if err != nil {
			return nil, nil, err
		}
		cols, g.aggs = append(cols, Column{unique(cols, name, false), typ}), append(g.aggs, a)
	}
	return func(next stage) stage {
		one := g
		one.groups, one.next = map[string]int{}, next
		return &one
	}, cols, nil
}

// aggregate binds one aggregation.
func (c *compiler) aggregate(n named) (a aggregate, typ, name string, err error) {
	e, known := n.e, strings.Join(aggregations(), ", ")
	fn := strings.ToLower(e.name)
	want, ok := aggregation(fn)
	if e.op != "call" || !ok {
		return a, "", "", c.fail(n.at, "summarize takes aggregations, each alone or with a name before it. Those that are known here: %s.", known)
	}
	if len(e.args) != want {
		return a, "", "", c.fail(e.at, "'%s' takes %d arguments, not %d.", e.name, want, len(e.args))
	}
	typ = Long
	for _, x := range e.args {
		b, err := c.expr(x)
		if err != nil {
			return a, "", "", err
		}
		a.args = append(a.args, b)
	}
	if name = n.name; name == "" {
		name = fn + "_"
		if want > 0 {
			name += natural(e.args[0], 1)
		}
	}
	if a.make, typ, err = c.total(fn, e, a.args); err != nil {
		return a, "", "", err
	}
	if fn == "percentile" && n.name == "" {
		name += "_" + str(e.args[1].val)
	}
	return a, typ, name, nil
}

// total is what counts for an aggregation, and the type of its result.
func (c *compiler) total(fn string, e expr, args []bound) (func() total, string, error) {
	bad := func() error { return c.fail(e.at, "'%s' is not known of a %s here.", e.name, args[0].typ) }
	switch fn {
	case "count":
		return func() total { return &counter{} }, Long, nil
	case "countif":
		if args[0].typ != Bool {
			return nil, "", bad()
		}
		return func() total { return &counter{onlyIf: true} }, Long, nil
	case "dcount":
		return func() total { return distinct{} }, Long, nil
	case "sum", "avg":
		typ := args[0].typ
		if !numeric(typ) && typ != Timespan {
			return nil, "", bad()
		}
		out := typ
		if typ == Dynamic || fn == "avg" && typ == Long {
			out = Real
		}
		return func() total { return &adder{typ: typ, avg: fn == "avg"} }, out, nil
	case "min", "max":
		if args[0].typ == Dynamic {
			return nil, "", bad()
		}
		return func() total { return &extreme{max: fn == "max"} }, args[0].typ, nil
	}
	p, ok := float(e.args[1].val)
	if !ok || p < 0 || p > 100 {
		return nil, "", c.fail(e.at, "The second argument of percentile is a number from 0 to 100.")
	}
	if t := args[0].typ; t != Long && t != Real && t != Timespan && t != Datetime {
		return nil, "", bad()
	}
	return func() total { return &percent{p: p} }, args[0].typ, nil
}
