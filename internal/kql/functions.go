package kql

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// functions are the scalar ones, as errors name them.
const functions = "ago, now, bin, floor, not, isempty, isnotempty, isnull, isnotnull, tostring, toint, tolong, toreal, todouble, tobool, todatetime, tolower, toupper, strlen, iff, iif"

// call binds a scalar function.
func (c *compiler) call(e expr) (bound, error) {
	name := strings.ToLower(e.name)
	if _, ok := aggregation(name); ok && name != "count" || name == "count" {
		return bound{}, c.fail(e.at, "'%s' is an aggregation: it stands alone in summarize, or with a name before it.", e.name)
	}
	args := make([]bound, len(e.args))
	for i, a := range e.args {
		var err error
		if args[i], err = c.expr(a); err != nil {
			return bound{}, err
		}
	}
	least, most := arity(name)
	if least < 0 {
		return bound{}, c.fail(e.at, "The function '%s' is not known here. Those that are: %s.", e.name, functions)
	}
	if len(args) < least || len(args) > most {
		return bound{}, c.fail(e.at, "'%s' does not take %d arguments.", e.name, len(args))
	}
	switch name {
	case "now", "ago":
		return c.moment(e, name, args)
	case "bin", "floor":
		return c.bin(e, args)
	case "iff", "iif":
		if args[0].typ != Bool || args[1].typ != args[2].typ {
			return bound{}, c.fail(e.at, "'%s' takes a condition and two values of one type.", e.name)
		}
		return bound{args[1].typ, func(row []any) any {
			if b, _ := args[0].get(row).(bool); b {
				return args[1].get(row)
			}
			return args[2].get(row)
		}}, nil
	case "not":
		if args[0].typ != Bool {
			return bound{}, c.fail(e.at, "'not' takes a condition, not a %s.", args[0].typ)
		}
	case "tolower", "toupper", "strlen":
		if args[0].typ != String && args[0].typ != Dynamic {
			return bound{}, c.fail(e.at, "'%s' takes a string, not a %s.", e.name, args[0].typ)
		}
	}
	typ, f := simple(name)
	return bound{typ, func(row []any) any { return f(args[0].get(row)) }}, nil
}

// arity is how many arguments a function takes; negative where there is none such.
func arity(name string) (least, most int) {
	switch name {
	case "now":
		return 0, 1
	case "bin", "floor":
		return 2, 2
	case "iff", "iif":
		return 3, 3
	case "ago", "not", "isempty", "isnotempty", "isnull", "isnotnull", "tostring", "toint", "tolong", "toreal", "todouble", "tobool", "todatetime", "tolower", "toupper", "strlen":
		return 1, 1
	}
	return -1, -1
}

// simple are the functions of one value.
func simple(name string) (typ string, f func(any) any) {
	switch name {
	case "not":
		return Bool, func(v any) any { b, ok := v.(bool); return ok && !b }
	case "isempty":
		return Bool, func(v any) any { return str(v) == "" }
	case "isnotempty":
		return Bool, func(v any) any { return str(v) != "" }
	case "isnull":
		return Bool, func(v any) any { return v == nil }
	case "isnotnull":
		return Bool, func(v any) any { return v != nil }
	case "toint", "tolong":
		return Long, toLong
	case "toreal", "todouble":
		return Real, toReal
	case "tobool":
		return Bool, toBool
	case "todatetime":
		return Datetime, func(v any) any {
			if t, ok := v.(time.Time); ok {
				return t
			}
			if t, ok := ParseTime(str(v)); ok {
				return t
			}
			return nil
		}
	case "tolower":
		return String, func(v any) any { return strings.ToLower(str(v)) }
	case "toupper":
		return String, func(v any) any { return strings.ToUpper(str(v)) }
	case "strlen":
		return Long, func(v any) any { return int64(len([]rune(str(v)))) }
	}
	return String, func(v any) any { return str(v) }
}

func toLong(v any) any {
	switch x := v.(type) {
	case int64:
		return x
	case bool:
		if x {
			return int64(1)
		}
		return int64(0)
	case float64:
		return fromFloat(x)
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(x), 0, 64); err == nil {
			return n
		}
		if f, err := strconv.ParseFloat(strings.TrimSpace(x), 64); err == nil {
			return fromFloat(f)
		}
	}
	return nil
}

func fromFloat(f float64) any {
	if math.IsNaN(f) || math.Abs(f) >= 1<<63 {
		return nil
	}
	return int64(f)
}

func toReal(v any) any {
	if s, ok := v.(string); ok {
		if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			return f
		}
		return nil
	}
	if f, ok := float(v); ok {
		return f
	}
	return nil
}

func toBool(v any) any {
	switch x := v.(type) {
	case bool:
		return x
	case int64:
		return x != 0
	case string:
		switch strings.ToLower(x) {
		case "true", "1":
			return true
		case "false", "0":
			return false
		}
	}
	return nil
}

// moment is now() and ago(), which a query sees once.
func (c *compiler) moment(e expr, name string, args []bound) (bound, error) {
	at := c.now
	if len(args) == 1 {
		if args[0].typ != Timespan {
			return bound{}, c.fail(e.at, "'%s' takes a timespan, such as 1h, not a %s.", e.name, args[0].typ)
		}
		d := args[0].get
		return bound{Datetime, func(row []any) any {
			span, ok := d(row).(time.Duration)
			if !ok {
				return nil
			}
			if name == "ago" {
				span = -span
			}
			return at.Add(span)
		}}, nil
	}
	return constant(Datetime, at), nil
}

// bin rounds down to a multiple.
func (c *compiler) bin(e expr, args []bound) (bound, error) {
	v, by := args[0].typ, args[1].typ
	typ := v
	switch {
	case (v == Datetime || v == Timespan) && by == Timespan:
	case v == Long && by == Long:
	case (v == Long || v == Real) && (by == Long || by == Real):
		typ = Real
	default:
		return bound{}, c.fail(e.at, "'%s' does not divide a %s by a %s.", e.name, v, by)
	}
	return bound{typ, func(row []any) any { return floorTo(args[0].get(row), args[1].get(row)) }}, nil
}

func floorTo(v, by any) any {
	switch x := v.(type) {
	case time.Time:
		d, ok := by.(time.Duration)
		if !ok || d <= 0 {
			return nil
		}
		if y := x.UTC().Year(); y < 1678 || y > 2261 { // beyond what has nanoseconds
			return nil
		}
		n, ok := floorInt(x.UnixNano(), int64(d))
		if !ok {
			return nil
		}
		return time.Unix(0, n).UTC()
	case time.Duration:
		d, ok := by.(time.Duration)
		if !ok || d <= 0 {
			return nil
		}
		n, ok := floorInt(int64(x), int64(d))
		if !ok {
			return nil
		}
		return time.Duration(n)
	case int64:
		if n, ok := by.(int64); ok {
			if n <= 0 {
				return nil
			}
			low, ok := floorInt(x, n)
			if !ok {
				return nil
			}
			return low
		}
	}
	x, okx := float(v)
	n, okn := float(by)
	if !okx || !okn || n <= 0 {
		return nil
	}
	return math.Floor(x/n) * n
}

// floorInt is the greatest multiple of by that is not above n; ok is false where
// there is none.
func floorInt(n, by int64) (low int64, ok bool) {
	m := n % by
	if m < 0 {
		m += by
	}
	return n - m, n >= math.MinInt64+m
}

// total is an aggregation under way.
type total interface {
	add(args []any) (bytes int) // that are kept more than before
	result() any
}

// aggregations are the names of those that are known.
func aggregations() []string {
	return []string{"count", "countif", "sum", "avg", "min", "max", "dcount", "percentile"}
}

// aggregation says how many arguments one takes.
func aggregation(name string) (args int, ok bool) {
	switch name {
	case "count":
		return 0, true
	case "percentile":
		return 2, true
	}
	return 1, slices.Contains(aggregations(), name)
}

type counter struct {
	n      int64
	onlyIf bool
}

func (t *counter) add(args []any) int {
	if b, _ := first(args).(bool); b || !t.onlyIf {
		t.n++
	}
	return 0
}
func (t *counter) result() any { return t.n }

func first(args []any) any {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

// adder is sum and avg.
type adder struct {
	typ  string
	avg  bool
	n    int64
	long int64
	real float64
}

func (t *adder) add(args []any) int {
	switch v := args[0].(type) {
	case int64:
		t.long += v
		t.real += float64(v)
	case float64:
		t.real += v
	case time.Duration:
		t.long += int64(v)
	default:
		return 0
	}
	t.n++
	return 0
}

func (t *adder) result() any {
	switch {
	case t.avg && t.n == 0:
		return nil
	case t.typ == Timespan && t.avg:
		return time.Duration(t.long / t.n)
	case t.typ == Timespan:
		return time.Duration(t.long)
	case t.avg:
		return t.real / float64(t.n)
	case t.typ == Long:
		return t.long
	}
	return t.real
}

// extreme is min and max.
type extreme struct {
	max bool
	v   any
}

func (t *extreme) add(args []any) int {
	if args[0] == nil {
		return 0
	}
	before := size(t.v)
	if n, ok := compare(args[0], t.v); t.v == nil || ok && (n > 0) == t.max && n != 0 {
		t.v = args[0]
	}
	return size(t.v) - before
}
func (t *extreme) result() any { return t.v }

// distinct is dcount; it counts exactly.
type distinct map[string]bool

func (t distinct) add(args []any) int {
	k := keyOf(args[0])
	if t[k] {
		return 0
	}
	t[k] = true
	return 48 + len(k)
}
func (t distinct) result() any { return int64(len(t)) }

// percent is percentile, by the nearest rank.
type percent struct {
	p    float64
	vals []any
}

func (t *percent) add(args []any) int {
	if args[0] == nil {
		return 0
	}
	t.vals = append(t.vals, args[0])
	return size(args[0])
}

func (t *percent) result() any {
	if len(t.vals) == 0 {
		return nil
	}
	slices.SortFunc(t.vals, func(a, b any) int { n, _ := compare(a, b); return n })
	return t.vals[max(0, min(len(t.vals)-1, int(math.Ceil(t.p/100*float64(len(t.vals))))-1))]
}
