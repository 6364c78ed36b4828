package kql

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// eval gives an expression's value for a row.
type eval func(row []any) any

// bound is a compiled expression.
type bound struct {
	typ string
	get eval
}

// compiler binds expressions to the columns of a table.
type compiler struct {
	text string
	cols []Column
	now  time.Time
	b    *budget
}

func (c *compiler) fail(t token, format string, args ...any) error {
	return fail(c.text, t.at, SemanticError, format, args...)
}

func constant(typ string, v any) bound { return bound{typ, func([]any) any { return v }} }

func (c *compiler) expr(e expr) (bound, error) {
	switch e.op {
	case "lit":
		return constant(typeOf(e.val), e.val), nil
	case "col":
		i := slices.IndexFunc(c.cols, func(k Column) bool { return k.Name == e.name })
		if i < 0 {
			return bound{}, c.fail(e.at, "There is no column '%s'. There are: %s.", e.name, names(c.cols))
		}
		return bound{c.cols[i].Type, func(row []any) any { return row[i] }}, nil
	case "call":
		return c.call(e)
	}
	args := make([]bound, len(e.args))
	for i, a := range e.args {
		var err error
		if args[i], err = c.expr(a); err != nil {
			return bound{}, err
		}
	}
	switch e.op {
	case "member", "index":
		return c.member(e, args)
	case "and", "or":
		return c.logic(e, args)
	case "neg":
		if !numeric(args[0].typ) && args[0].typ != Timespan {
			return bound{}, c.fail(e.at, "'-' takes a number, not a %s.", args[0].typ)
		}
		return c.arithmetic(e, "-", constant(args[0].typ, zero(args[0].typ)), args[0])
	case "+", "-", "*", "/", "%":
		return c.arithmetic(e, e.op, args[0], args[1])
	}
	return c.comparison(e, args)
}

func names(cols []Column) string {
	var list []string
	for _, k := range cols {
		list = append(list, k.Name)
	}
	return strings.Join(list, ", ")
}

func typeOf(v any) string {
	switch v.(type) {
	case string:
		return String
	case int64:
		return Long
	case float64:
		return Real
	case bool:
		return Bool
	case time.Time:
		return Datetime
	case time.Duration:
		return Timespan
	}
	return Dynamic
}

func zero(typ string) any {
	switch typ {
	case Real:
		return 0.0
	case Timespan:
		return time.Duration(0)
	}
	return int64(0)
}

func numeric(typ string) bool { return typ == Long || typ == Real || typ == Dynamic }

// member is a value inside a dynamic one.
func (c *compiler) member(e expr, args []bound) (bound, error) {
	if args[0].typ != Dynamic {
		return bound{}, c.fail(e.at, "Only dynamic columns, such as customDimensions, have members: this is a %s.", args[0].typ)
	}
	of, name := args[0].get, func([]any) any { return e.name }
	if e.op == "index" {
		name = args[1].get
	}
	return bound{Dynamic, func(row []any) any {
		switch v := of(row).(type) {
		case map[string]any:
			k, _ := name(row).(string)
			return v[k]
		case map[string]string:
			k, _ := name(row).(string)
			if s, ok := v[k]; ok {
				return s
			}
		case []any:
			if i, ok := name(row).(int64); ok && i >= 0 && i < int64(len(v)) {
				return v[i]
			}
		}
		return nil
	}}, nil
}

func (c *compiler) logic(e expr, args []bound) (bound, error) {
	for i, a := range args {
		if a.typ != Bool && a.typ != Dynamic {
			return bound{}, c.fail(e.args[i].at, "'%s' joins conditions, and this is a %s.", e.op, a.typ)
		}
	}
	stop := e.op == "or"
	return bound{Bool, func(row []any) any {
		for _, a := range args {
			if b, _ := a.get(row).(bool); b == stop {
				return stop
			}
		}
		return !stop
	}}, nil
}

// kind is what types that can be compared have in common.
func kind(typ string) string {
	if typ == Real {
		return Long
	}
	return typ
}

func (c *compiler) comparison(e expr, args []bound) (bound, error) {
	op, neg := e.op, false
	if o, ok := strings.CutPrefix(op, "!"); ok && op != "!=" {
		op, neg = o, true
	}
	not := func(f func(row []any) bool) bound { return bound{Bool, func(row []any) any { return f(row) != neg }} }
	if slices.Contains(textOperators(), op) {
		for i, a := range args {
			if a.typ != String && a.typ != Dynamic {
				return bound{}, c.fail(e.at, "'%s' compares strings, and its %s side is a %s: tostring() makes a string of it.", e.op, [...]string{"left", "right"}[i], a.typ)
			}
		}
		return not(func(row []any) bool { return textual(op, str(args[0].get(row)), str(args[1].get(row))) }), nil
	}
	for _, a := range args[1:] {
		if kind(a.typ) != kind(args[0].typ) && a.typ != Dynamic && args[0].typ != Dynamic {
			return bound{}, c.fail(e.at, "A %s and a %s cannot be compared: tostring(), toint(), todouble() and todatetime() change what a value is.", args[0].typ, a.typ)
		}
	}
	x := args[0].get
	switch op {
	case "between":
		return not(func(row []any) bool {
			v := x(row)
			low, ok := compare(v, args[1].get(row))
			high, ok2 := compare(v, args[2].get(row))
			return ok && ok2 && low >= 0 && high <= 0
		}), nil
	case "in", "in~":
		return not(func(row []any) bool {
			v := x(row)
			return slices.ContainsFunc(args[1:], func(a bound) bool { return equal(v, a.get(row), op == "in~") })
		}), nil
	case "~": // of !~
		op = "=~"
	}
	y := args[1].get
	if op == "=~" {
		return not(func(row []any) bool { return equal(x(row), y(row), true) }), nil
	}
	return bound{Bool, func(row []any) any {
		a, b := x(row), y(row)
		n, ok := compare(a, b)
		if !ok && op == "!=" {
			return a != nil || b != nil // two that are missing don't differ. Source: "Null values", predicates
		}
		return ok && holds(op, n)
	}}, nil
}

func holds(op string, n int) bool {
	switch op {
	case "==":
		return n == 0
	case "!=":
		return n != 0
	case "<":
		return n < 0
	case "<=":
		return n <= 0
	case ">":
		return n > 0
	}
	return n >= 0
}

func equal(a, b any, fold bool) bool {
	if x, ok := a.(string); ok && fold {
		y, ok := b.(string)
		return ok && strings.EqualFold(x, y)
	}
	n, ok := compare(a, b)
	return ok && n == 0
}

// compare orders two values; ok is false where one is missing or they are of
// different kinds.
func compare(a, b any) (n int, ok bool) {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return strings.Compare(x, y), ok
	case bool:
		y, ok := b.(bool)
		switch {
		case x == y:
			return 0, ok
		case x:
			return 1, ok
		}
		return -1, ok
	case time.Time:
		y, ok := b.(time.Time)
		return x.Compare(y), ok
	case time.Duration:
		y, ok := b.(time.Duration)
		return int(max(-1, min(1, x-y))), ok
	case int64:
		if y, ok := b.(int64); ok {
			if x < y {
				return -1, true
			}
			return int(min(1, uint64(x)-uint64(y))), true
		}
	}
	x, okx := float(a)
	y, oky := float(b)
	if !okx || !oky {
		return 0, false
	}
	switch {
	case x < y:
		return -1, true
	case x > y:
		return 1, true
	}
	return 0, x == y
}

func float(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// str is a value as text.
func str(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case int64:
		return strconv.FormatInt(x, 10)
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(x)
	case time.Time:
		return FormatTime(x)
	case time.Duration:
		return FormatSpan(x)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

func textual(op, s, v string) bool {
	base, cs := strings.CutSuffix(op, "_cs")
	if !cs {
		s, v = strings.ToLower(s), strings.ToLower(v)
	}
	switch base {
	case "contains":
		return strings.Contains(s, v)
	case "startswith":
		return strings.HasPrefix(s, v)
	case "endswith":
		return strings.HasSuffix(s, v)
	}
	return has(s, v)
}

// has finds v as whole words. Source: "String operators", "What is a term?".
func has(s, v string) bool {
	edge := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	if v == "" {
		return true
	}
	for from := 0; ; {
		i := strings.Index(s[from:], v)
		if i < 0 {
			return false
		}
		i += from
		before, after := []rune(lastRune(s[:i])), []rune(firstRune(s[i+len(v):]))
		if (len(before) == 0 || edge(before[0])) && (len(after) == 0 || edge(after[0])) {
			return true
		}
		from = i + 1
	}
}

func firstRune(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

func lastRune(s string) string {
	if s == "" {
		return ""
	}
	tail := []rune(s[max(0, len(s)-4):])
	return string(tail[len(tail)-1])
}

func (c *compiler) arithmetic(e expr, op string, l, r bound) (bound, error) {
	typ := arithmeticType(op, l.typ, r.typ)
	if typ == "" {
		return bound{}, c.fail(e.at, "'%s' of a %s and a %s is not known here.", op, l.typ, r.typ)
	}
	return bound{typ, func(row []any) any { return apply(op, l.get(row), r.get(row)) }}, nil
}

func arithmeticType(op, l, r string) string {
	add := op == "+" || op == "-"
	switch {
	case l == Long && r == Long:
		return Long
	case numeric(l) && numeric(r):
		return Real
	case l == Datetime && r == Timespan && add, l == Timespan && r == Datetime && op == "+":
		return Datetime
	case l == Datetime && r == Datetime && op == "-", l == Timespan && r == Timespan && add:
		return Timespan
	case l == Timespan && r == Timespan && op == "/":
		return Real
	}
	return ""
}

func apply(op string, a, b any) any {
	switch x := a.(type) {
	case int64:
		if y, ok := b.(int64); ok {
			return whole(op, x, y)
		}
	case time.Time:
		switch y := b.(type) {
		case time.Time:
			return x.Sub(y)
		case time.Duration:
			if op == "-" {
				y = -y
			}
			return x.Add(y)
		}
		return nil
	case time.Duration:
		switch y := b.(type) {
		case time.Time:
			return y.Add(x)
		case time.Duration:
			switch op {
			case "+":
				return x + y
			case "-":
				return x - y
			}
			return float64(x) / float64(y)
		}
		return nil
	}
	x, okx := float(a)
	y, oky := float(b)
	if !okx || !oky {
		return nil
	}
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	case "/":
		return x / y
	}
	return math.Mod(x, y)
}

func whole(op string, x, y int64) any {
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	}
	if y == 0 || y == -1 && x == math.MinInt64 {
		return nil
	}
	if op == "/" {
		return x / y
	}
	return x % y
}

// FormatTime is a datetime as answers have it.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999Z") }

// FormatSpan is a timespan as answers have it: [-][d.]hh:mm:ss[.fffffff].
func FormatSpan(d time.Duration) string {
	sign, u := "", uint64(d)
	if d < 0 {
		sign, u = "-", -u
	}
	day := uint64(24 * time.Hour)
	s := time.Unix(0, 0).UTC().Add(time.Duration(u % day)).Format("15:04:05")
	if f := u % uint64(time.Second) / 100; f != 0 {
		s += "." + strconv.FormatUint(10_000_000+f, 10)[1:]
	}
	if n := u / day; n > 0 {
		s = strconv.FormatUint(n, 10) + "." + s
	}
	return sign + s
}

// JSON is a value as JSON has it: a number that JSON has no word for is text.
func JSON(v any) any {
	switch x := v.(type) {
	case time.Time:
		return FormatTime(x)
	case time.Duration:
		return FormatSpan(x)
	case float64:
		switch {
		case math.IsNaN(x):
			return "NaN"
		case math.IsInf(x, 1):
			return "Infinity"
		case math.IsInf(x, -1):
			return "-Infinity"
		}
	}
	return v
}
