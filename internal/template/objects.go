package template

import (
	"errors"
	"fmt"
	"maps"

	"lazurite.dev/internal/strictjson"
)

func objectFunctions() map[string]builtin {
	return map[string]builtin{
		"createobject": {0, -1, createObject},
		"items": {1, 1, func(_ *scope, a []any) (any, error) {
			m, err := objectArg(a, 0)
			out := []any{}
			for _, k := range sortedKeys(m) {
				out = append(out, map[string]any{"key": k, "value": m[k]})
			}
			return out, err
		}},
		"objectkeys": {1, 1, func(_ *scope, a []any) (any, error) {
			m, err := objectArg(a, 0)
			out := []any{}
			for _, k := range sortedKeys(m) {
				out = append(out, k)
			}
			return out, err
		}},
		"json":         {1, 1, parseJSON},
		"shallowmerge": {1, 1, shallowMerge},
		"tryget":       {2, -1, tryGet},
	}
}

func createObject(_ *scope, a []any) (any, error) {
	if len(a)%2 != 0 {
		return nil, errors.New("names and values must come in pairs")
	}
	m := map[string]any{}
	for i := 0; i < len(a); i += 2 {
		k, err := textArg(a, i)
		if err != nil {
			return nil, err
		}
		m[k] = a[i+1]
	}
	return m, nil
}

func parseJSON(_ *scope, a []any) (any, error) {
	t, err := textArg(a, 0)
	if err != nil {
		return nil, err
	}
	m, err := strictjson.Object([]byte(`{"v":`+t+`}`), maxNesting)
	if err != nil || len(m) != 1 {
		return nil, errors.New("the argument is not valid JSON")
	}
	return plain(m["v"]), nil
}

func shallowMerge(_ *scope, a []any) (any, error) {
	list, err := listArg(a, 0)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for i := range list {
		m, err := objectArg(list, i)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, m)
	}
	return out, nil
}

func tryGet(_ *scope, a []any) (any, error) {
	v := a[0]
	for _, k := range a[1:] {
		switch k.(type) {
		case string, int64:
		default:
			return nil, fmt.Errorf("a %s is no name and no index", typeOf(k))
		}
		next, err := index(v, k, true)
		if err != nil || next == nil {
			return nil, nil
		}
		v = next
	}
	return v, nil
}

// lambda is a function that stands as an argument: lambda('x', expression).
type lambda struct {
	names []string
	body  *node
}

func (s *scope) lambda(n *node, i, least, most int) (lambda, error) {
	var l lambda
	at := n.args[i]
	if at.op != opCall || lower(at.text) != "lambda" || len(at.args) < 1 {
		return l, fmt.Errorf("the template function '%s' expects a lambda as its argument %d", n.text, i+1)
	}
	for j := range len(at.args) - 1 {
		name, err := s.word(at, j)
		if err != nil {
			return l, err
		}
		l.names = append(l.names, lower(name))
	}
	l.body = at.args[len(at.args)-1]
	if len(l.names) < least || len(l.names) > most {
		return l, fmt.Errorf("the lambda of the template function '%s' has %d variables; expected are %d to %d", n.text, len(l.names), least, most)
	}
	return l, nil
}

// on calls the lambda; values beyond its variables are left out.
func (l lambda) on(s *scope, values ...any) (any, error) {
	return s.local(l.names, values).eval(l.body)
}

func (s *scope) lambdaVariables(n *node) (any, error) {
	if err := arity(n, 1, 1); err != nil {
		return nil, err
	}
	name, err := s.word(n, 0)
	if err != nil {
		return nil, err
	}
	for b := s.locals; b != nil; b = b.up {
		if b.name == lower(name) {
			return b.value, nil
		}
	}
	return nil, fmt.Errorf("the lambda variable '%s' is not defined here", name)
}

// each evaluates the array and the lambda of a function and calls it for every element.
func (s *scope) each(n *node, do func(i int, v, out any) error) error {
	if err := arity(n, 2, 2); err != nil {
		return err
	}
	v, err := s.eval(n.args[0])
	if err != nil {
		return err
	}
	list, err := listArg([]any{v}, 0)
	if err != nil {
		return fmt.Errorf("the template function '%s': %w", n.text, err)
	}
	l, err := s.lambda(n, 1, 1, 2)
	if err != nil {
		return err
	}
	for i, v := range list {
		out, err := l.on(s, v, int64(i))
		if err != nil {
			return err
		}
		if err := do(i, v, out); err != nil {
			return err
		}
	}
	return nil
}

func (s *scope) filter(n *node) (any, error) {
	out := []any{}
	err := s.each(n, func(_ int, v, keep any) error {
		b, ok := keep.(bool)
		if !ok {
			return errors.New("the lambda of 'filter' must give a boolean")
		}
		if b {
			out = append(out, v)
		}
		return nil
	})
	return out, errors.Join(err, s.made(out))
}

func (s *scope) mapped(n *node) (any, error) {
	out := []any{}
	err := s.each(n, func(_ int, _, v any) error {
		out = append(out, v)
		return nil
	})
	return out, errors.Join(err, s.made(out))
}

func (s *scope) groupBy(n *node) (any, error) {
	out := map[string]any{}
	err := s.each(n, func(_ int, v, key any) error {
		k, ok := key.(string)
		if !ok {
			return errors.New("the lambda of 'groupBy' must give a string")
		}
		group, _ := out[k].([]any)
		out[k] = append(group, v)
		return nil
	})
	return out, errors.Join(err, s.made(out))
}

func (s *scope) mapValues(n *node) (any, error) {
	if err := arity(n, 2, 2); err != nil {
		return nil, err
	}
	v, err := s.eval(n.args[0])
	if err != nil {
		return nil, err
	}
	m, err := objectArg([]any{v}, 0)
	if err != nil {
		return nil, err
	}
	l, err := s.lambda(n, 1, 1, 1)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, k := range sortedKeys(m) {
		if out[k], err = l.on(s, m[k]); err != nil {
			return nil, err
		}
	}
	return out, s.made(out)
}

func (s *scope) toObject(n *node) (any, error) {
	if err := arity(n, 2, 3); err != nil {
		return nil, err
	}
	v, err := s.eval(n.args[0])
	if err != nil {
		return nil, err
	}
	list, err := listArg([]any{v}, 0)
	if err != nil {
		return nil, err
	}
	key, err := s.lambda(n, 1, 1, 1)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, v := range list {
		k, err := key.on(s, v)
		if err != nil {
			return nil, err
		}
		name, ok := k.(string)
		if !ok {
			return nil, errors.New("the first lambda of 'toObject' must give a string")
		}
		if len(n.args) == 3 {
			value, err := s.lambda(n, 2, 1, 1)
			if err != nil {
				return nil, err
			}
			if v, err = value.on(s, v); err != nil {
				return nil, err
			}
		}
		out[name] = v
	}
	return out, s.made(out)
}

func (s *scope) reduce(n *node) (any, error) {
	if err := arity(n, 3, 3); err != nil {
		return nil, err
	}
	v, err := s.eval(n.args[0])
	if err != nil {
		return nil, err
	}
	list, err := listArg([]any{v}, 0)
	if err != nil {
		return nil, err
	}
	sum, err := s.eval(n.args[1])
	if err != nil {
		return nil, err
	}
	l, err := s.lambda(n, 2, 2, 3)
	if err != nil {
		return nil, err
	}
	for i, v := range list {
		if sum, err = l.on(s, sum, v, int64(i)); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// sorted is a merge sort: stable, and of few calls of the lambda.
func (s *scope) sorted(n *node) (any, error) {
	if err := arity(n, 2, 2); err != nil {
		return nil, err
	}
	v, err := s.eval(n.args[0])
	if err != nil {
		return nil, err
	}
	list, err := listArg([]any{v}, 0)
	if err != nil {
		return nil, err
	}
	l, err := s.lambda(n, 1, 2, 2)
	if err != nil {
		return nil, err
	}
	out, err := s.mergeSort(list, l)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *scope) mergeSort(list []any, less lambda) ([]any, error) {
	if len(list) < 2 {
		return list, nil
	}
	a, err := s.mergeSort(list[:len(list)/2], less)
	if err != nil {
		return nil, err
	}
	b, err := s.mergeSort(list[len(list)/2:], less)
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, len(list))
	for len(a) > 0 && len(b) > 0 {
		v, err := less.on(s, b[0], a[0])
		if err != nil {
			return nil, err
		}
		first, ok := v.(bool)
		if !ok {
			return nil, errors.New("the lambda of 'sort' must give a boolean")
		}
		if first {
			out, b = append(out, b[0]), b[1:]
		} else {
			out, a = append(out, a[0]), a[1:]
		}
	}
	return append(append(out, a...), b...), nil
}
