package template

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

func lower(s string) string { return strings.ToLower(s) }

func logicFunctions() map[string]builtin {
	return map[string]builtin{
		"not":    {1, 1, func(_ *scope, a []any) (any, error) { b, err := boolArg(a, 0); return !b, err }},
		"bool":   {1, 1, func(_ *scope, a []any) (any, error) { return toBool(a[0]) }},
		"true":   {0, 0, func(*scope, []any) (any, error) { return true, nil }},
		"false":  {0, 0, func(*scope, []any) (any, error) { return false, nil }},
		"null":   {0, 0, func(*scope, []any) (any, error) { return nil, nil }},
		"equals": {2, 2, func(_ *scope, a []any) (any, error) { return same(a[0], a[1], false), nil }},
		"less": {2, 2, func(_ *scope, a []any) (any, error) {
			n, err := compare(a[0], a[1])
			return n < 0, err
		}},
		"lessorequals": {2, 2, func(_ *scope, a []any) (any, error) {
			n, err := compare(a[0], a[1])
			return n <= 0, err
		}},
		"greater": {2, 2, func(_ *scope, a []any) (any, error) {
			n, err := compare(a[0], a[1])
			return n > 0, err
		}},
		"greaterorequals": {2, 2, func(_ *scope, a []any) (any, error) {
			n, err := compare(a[0], a[1])
			return n >= 0, err
		}},
		"fail": {1, 1, func(_ *scope, a []any) (any, error) {
			t, err := textArg(a, 0)
			return nil, errors.Join(err, errors.New(t))
		}},
	}
}

func toBool(v any) (any, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case int64:
		return v != 0, nil
	case string:
		switch lower(v) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
	}
	return nil, fmt.Errorf("the value '%v' is no boolean", v)
}

// compare orders numbers, and strings by their code points.
func compare(a, b any) (int, error) {
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), nil
		}
	}
	x, ok := number(a)
	y, ok2 := number(b)
	if !ok || !ok2 {
		return 0, fmt.Errorf("a %s can't be compared with a %s", typeOf(a), typeOf(b))
	}
	switch {
	case x < y:
		return -1, nil
	case x > y:
		return 1, nil
	}
	return 0, nil
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func boolArg(a []any, i int) (bool, error) {
	b, ok := a[i].(bool)
	if !ok {
		return false, wrong(a, i, "a boolean")
	}
	return b, nil
}

func textArg(a []any, i int) (string, error) {
	t, ok := a[i].(string)
	if !ok {
		return "", wrong(a, i, "a string")
	}
	return t, nil
}

func intArg(a []any, i int) (int64, error) {
	n, ok := a[i].(int64)
	if !ok {
		return 0, wrong(a, i, "an integer")
	}
	return n, nil
}

func listArg(a []any, i int) ([]any, error) {
	l, ok := a[i].([]any)
	if !ok {
		return nil, wrong(a, i, "an array")
	}
	return l, nil
}

func objectArg(a []any, i int) (map[string]any, error) {
	m, ok := a[i].(map[string]any)
	if !ok {
		return nil, wrong(a, i, "an object")
	}
	return m, nil
}

func wrong(a []any, i int, want string) error {
	return fmt.Errorf("the argument %d is a %s; expected is %s", i+1, typeOf(a[i]), want)
}

func numberFunctions() map[string]builtin {
	two := func(f func(x, y int64) (int64, error)) builtin {
		return builtin{2, 2, func(_ *scope, a []any) (any, error) {
			x, err := intArg(a, 0)
			if err != nil {
				return nil, err
			}
			y, err := intArg(a, 1)
			if err != nil {
				return nil, err
			}
			return f(x, y)
		}}
	}
	return map[string]builtin{
		"add": two(func(x, y int64) (int64, error) {
			if z := x + y; (z > x) == (y > 0) {
				return z, nil
			}
			return 0, errOverflow()
		}),
		"sub": two(func(x, y int64) (int64, error) {
			if z := x - y; (z < x) == (y > 0) {
				return z, nil
			}
			return 0, errOverflow()
		}),
		"mul": two(func(x, y int64) (int64, error) {
			if x == 0 || y == 0 {
				return 0, nil
			}
			z := x * y
			if z/y != x || x == -1 && y == math.MinInt64 || y == -1 && x == math.MinInt64 {
				return 0, errOverflow()
			}
			return z, nil
		}),
		"div": two(func(x, y int64) (int64, error) {
			if y == 0 || x == math.MinInt64 && y == -1 {
				return 0, errors.New("division by zero")
			}
			return x / y, nil
		}),
		"mod": two(func(x, y int64) (int64, error) {
			if y == 0 || y == -1 {
				if y == -1 {
					return 0, nil
				}
				return 0, errors.New("division by zero")
			}
			return x % y, nil
		}),
		"int":   {1, 1, func(_ *scope, a []any) (any, error) { return toInt(a[0]) }},
		"float": {1, 1, func(_ *scope, a []any) (any, error) { return toFloat(a[0]) }},
		"min":   {1, -1, func(_ *scope, a []any) (any, error) { return extreme(a, -1) }},
		"max":   {1, -1, func(_ *scope, a []any) (any, error) { return extreme(a, 1) }},
	}
}

func errOverflow() error { return errors.New("the result is not a whole number of 64 bits") }

func toInt(v any) (any, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case float64:
		if v >= math.MinInt64 && v < math.MaxInt64 {
			return int64(v), nil
		}
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			return n, nil
		}
	}
	return nil, fmt.Errorf("the value '%v' can't be converted to an integer", v)
}

func toFloat(v any) (any, error) {
	switch v := v.(type) {
	case int64:
		return float64(v), nil
	case float64:
		return v, nil
	case string:
		if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, nil
		}
	}
	return nil, fmt.Errorf("the value '%v' can't be converted to a number", v)
}

// extreme is the least or the greatest of integers, or of an array of them.
func extreme(a []any, sign int) (any, error) {
	if list, ok := a[0].([]any); ok && len(a) == 1 {
		a = list
	}
	if len(a) == 0 {
		return nil, errors.New("the array is empty")
	}
	best, err := intArg(a, 0)
	for i := 1; err == nil && i < len(a); i++ {
		var n int64
		if n, err = intArg(a, i); sign < 0 && n < best || sign > 0 && n > best {
			best = n
		}
	}
	return best, err
}
