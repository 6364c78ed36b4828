package template

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
)

func arrayFunctions() map[string]builtin {
	return map[string]builtin{
		"array":        {1, 1, func(_ *scope, a []any) (any, error) { return toArray(a[0]), nil }},
		"createarray":  {0, -1, func(_ *scope, a []any) (any, error) { return a, nil }},
		"concat":       {0, -1, func(_ *scope, a []any) (any, error) { return concat(a) }},
		"contains":     {2, 2, func(_ *scope, a []any) (any, error) { return contains(a) }},
		"empty":        {1, 1, func(_ *scope, a []any) (any, error) { n, err := length(a[0]); return n == 0, err }},
		"length":       {1, 1, func(_ *scope, a []any) (any, error) { return lengthOf(a) }},
		"first":        {1, 1, func(_ *scope, a []any) (any, error) { return end(a[0], true) }},
		"last":         {1, 1, func(_ *scope, a []any) (any, error) { return end(a[0], false) }},
		"indexof":      {2, 2, func(_ *scope, a []any) (any, error) { return indexOf(a, strings.Index, false) }},
		"lastindexof":  {2, 2, func(_ *scope, a []any) (any, error) { return indexOf(a, strings.LastIndex, true) }},
		"intersection": {2, -1, func(_ *scope, a []any) (any, error) { return intersection(a) }},
		"union":        {2, -1, func(_ *scope, a []any) (any, error) { return union(a) }},
		"range":        {2, 2, func(_ *scope, a []any) (any, error) { return numbers(a) }},
		"skip":         {2, 2, func(_ *scope, a []any) (any, error) { return part(a, true) }},
		"take":         {2, 2, func(_ *scope, a []any) (any, error) { return part(a, false) }},
		"flatten":      {1, 1, func(_ *scope, a []any) (any, error) { return flatten(a) }},
	}
}

func toArray(v any) any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

func concat(a []any) (any, error) {
	if len(a) > 0 {
		if _, ok := a[0].([]any); ok {
			out := []any{}
			for i := range a {
				l, err := listArg(a, i)
				if err != nil {
					return nil, err
				}
				out = append(out, l...)
			}
			return out, nil
		}
	}
	var b strings.Builder
	for i, v := range a {
		switch v.(type) {
		case []any, map[string]any:
			return nil, wrong(a, i, "a string")
		}
		t, err := asText(v)
		if err != nil {
			return nil, err
		}
		if b.WriteString(t); b.Len() > maxValue {
			break // refused by who counts it
		}
	}
	return b.String(), nil
}

func contains(a []any) (any, error) {
	switch c := a[0].(type) {
	case string:
		t, err := asText(a[1])
		return strings.Contains(c, t), err
	case []any:
		return slices.ContainsFunc(c, func(v any) bool { return same(v, a[1], false) }), nil
	case map[string]any:
		k, err := textArg(a, 1)
		_, ok := member(c, k)
		return ok, err
	}
	return nil, wrong(a, 0, "an array, an object or a string")
}

// length counts elements, members or characters; of null it is 0.
func length(v any) (int64, error) {
	switch v := v.(type) {
	case nil:
		return 0, nil
	case string:
		return int64(len(utf16.Encode([]rune(v)))), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return 0, fmt.Errorf("a %s has no length", typeOf(v))
}

func lengthOf(a []any) (any, error) {
	if a[0] == nil {
		return nil, wrong(a, 0, "an array, an object or a string")
	}
	return length(a[0])
}

func end(v any, first bool) (any, error) {
	switch v := v.(type) {
	case string:
		r := []rune(v)
		switch {
		case len(r) == 0:
			return "", nil
		case first:
			return string(r[0]), nil
		}
		return string(r[len(r)-1]), nil
	case []any:
		switch {
		case len(v) == 0:
			return nil, nil
		case first:
			return v[0], nil
		}
		return v[len(v)-1], nil
	}
	return nil, fmt.Errorf("the argument is a %s; expected is an array or a string", typeOf(v))
}

// indexOf looks in strings without regard to case, as Azure does.
func indexOf(a []any, find func(s, sub string) int, backwards bool) (any, error) {
	if list, ok := a[0].([]any); ok {
		is := func(v any) bool { return same(v, a[1], false) }
		if !backwards {
			return int64(slices.IndexFunc(list, is)), nil
		}
		for i := len(list) - 1; i >= 0; i-- {
			if is(list[i]) {
				return int64(i), nil
			}
		}
		return int64(-1), nil
	}
	t, err := textArg(a, 0)
	if err != nil {
		return nil, err
	}
	sub, err := textArg(a, 1)
	if err != nil {
		return nil, err
	}
	i := find(lower(t), lower(sub))
	if i > 0 {
		i = len([]rune(lower(t)[:i]))
	}
	return int64(i), nil
}

func intersection(a []any) (any, error) {
	if m, ok := a[0].(map[string]any); ok {
		out := maps.Clone(m)
		for i := 1; i < len(a); i++ {
			o, err := objectArg(a, i)
			if err != nil {
				return nil, err
			}
			maps.DeleteFunc(out, func(k string, v any) bool {
				w, ok := o[k]
				return !ok || !same(v, w, false)
			})
		}
		return out, nil
	}
	first, err := listArg(a, 0)
	if err != nil {
		return nil, err
	}
	out := distinct(first)
	for i := 1; i < len(a); i++ {
		l, err := listArg(a, i)
		if err != nil {
			return nil, err
		}
		there := map[string]bool{}
		for _, v := range l {
			if k, err := encode([]any{v}); err == nil {
				there[k] = true
			}
		}
		out = slices.DeleteFunc(out, func(v any) bool {
			k, err := encode([]any{v})
			return err != nil || !there[k]
		})
	}
	return out, nil
}

// distinct leaves out what comes again.
func distinct(list []any) []any {
	seen := map[string]bool{}
	out := []any{}
	for _, v := range list {
		k, err := encode([]any{v})
		if err == nil && seen[k] {
			continue
		}
		seen[k] = true
		out = append(out, v)
	}
	return out
}

func union(a []any) (any, error) {
	if _, ok := a[0].(map[string]any); ok {
		out := map[string]any{}
		for i := range a {
			m, err := objectArg(a, i)
			if err != nil {
				return nil, err
			}
			out = merged(out, m)
		}
		return out, nil
	}
	var all []any
	for i := range a {
		l, err := listArg(a, i)
		if err != nil {
			return nil, err
		}
		all = append(all, l...)
	}
	return distinct(all), nil
}

// merged puts b over a, objects in them likewise.
func merged(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	for k, v := range b {
		x, ok1 := out[k].(map[string]any)
		y, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			v = merged(x, y)
		}
		out[k] = v
	}
	return out
}

func numbers(a []any) (any, error) {
	from, err := intArg(a, 0)
	if err != nil {
		return nil, err
	}
	n, err := intArg(a, 1)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > 10000 || from > 2147483647-n || from < -2147483648 {
		return nil, errors.New("the count must be from 0 to 10000, and no number larger than 2147483647")
	}
	out := make([]any, n)
	for i := range out {
		out[i] = from + int64(i)
	}
	return out, nil
}

// part is what is left after, or in, the first n.
func part(a []any, skip bool) (any, error) {
	n, err := intArg(a, 1)
	if err != nil {
		return nil, err
	}
	cut := func(have int) int { return int(max(0, min(n, int64(have)))) }
	switch v := a[0].(type) {
	case string:
		r := []rune(v)
		if i := cut(len(r)); skip {
			return string(r[i:]), nil
		} else {
			return string(r[:i]), nil
		}
	case []any:
		if i := cut(len(v)); skip {
			return v[i:], nil
		} else {
			return v[:i:i], nil
		}
	}
	return nil, wrong(a, 0, "an array or a string")
}

func flatten(a []any) (any, error) {
	l, err := listArg(a, 0)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, v := range l {
		if in, ok := v.([]any); ok {
			out = append(out, in...)
		} else {
			out = append(out, v)
		}
	}
	return out, nil
}
