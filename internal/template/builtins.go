package template

import (
	"fmt"
	"maps"
)

// builtin is a function of values.
type builtin struct {
	min, max int // of arguments; max -1 is any number
	do       func(s *scope, a []any) (any, error)
}

// builtins are the functions whose arguments are evaluated before they are,
// by their names in lower case.
func builtins() map[string]builtin {
	all := map[string]builtin{}
	for _, part := range []map[string]builtin{arrayFunctions(), textFunctions(), encodingFunctions(), objectFunctions(), numberFunctions(), logicFunctions(), dateFunctions(), networkFunctions(), placeFunctions()} {
		maps.Copy(all, part)
	}
	return all
}

// specials are the functions that see their arguments' expressions.
func specials() map[string]func(*scope, *node) (any, error) {
	return map[string]func(*scope, *node) (any, error){
		"if": (*scope).choose, "and": (*scope).and, "or": (*scope).or, "coalesce": (*scope).coalesce,
		"parameters": (*scope).parameters, "variables": (*scope).variables, "copyindex": (*scope).copyIndex,
		"reference": (*scope).reference, "references": (*scope).references,
		"filter": (*scope).filter, "map": (*scope).mapped, "reduce": (*scope).reduce, "sort": (*scope).sorted, "groupby": (*scope).groupBy,
		"mapvalues": (*scope).mapValues, "toobject": (*scope).toObject, "lambdavariables": (*scope).lambdaVariables,
		"list": (*scope).list,
	}
}

func (s *scope) choose(n *node) (any, error) {
	if err := arity(n, 3, 3); err != nil {
		return nil, err
	}
	yes, err := s.truth(n, n.args[0])
	if err != nil {
		return nil, err
	}
	if yes {
		return s.eval(n.args[1])
	}
	return s.eval(n.args[2])
}

func (s *scope) truth(n, arg *node) (bool, error) {
	v, err := s.eval(arg)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("the template function '%s' expects a boolean and got a %s", n.text, typeOf(v))
	}
	return b, nil
}

func (s *scope) and(n *node) (any, error) { return s.until(n, false) }
func (s *scope) or(n *node) (any, error)  { return s.until(n, true) }

// until evaluates arguments up to the one that decides.
func (s *scope) until(n *node, decides bool) (any, error) {
	if err := arity(n, 1, -1); err != nil {
		return nil, err
	}
	for _, a := range n.args {
		b, err := s.truth(n, a)
		if err != nil || b == decides {
			return b, err
		}
	}
	return !decides, nil
}

func (s *scope) coalesce(n *node) (any, error) {
	if err := arity(n, 1, -1); err != nil {
		return nil, err
	}
	for _, a := range n.args {
		if v, err := s.eval(a); err != nil || v != nil {
			return v, err
		}
	}
	return nil, nil
}

// word evaluates an argument that must be a string.
func (s *scope) word(n *node, i int) (string, error) {
	v, err := s.eval(n.args[i])
	if err != nil {
		return "", err
	}
	t, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("the template function '%s' expects a string as its argument %d and got a %s", n.text, i+1, typeOf(v))
	}
	return t, nil
}

func (s *scope) parameters(n *node) (any, error) {
	name, err := s.named(n)
	if err != nil {
		return nil, err
	}
	if s.fn != nil {
		v, ok := s.fn[name]
		if !ok {
			return nil, fmt.Errorf("the user function has no parameter '%s'; it can't see the template's", name)
		}
		return v, nil
	}
	return s.d.home().parameter(name)
}

func (s *scope) variables(n *node) (any, error) {
	name, err := s.named(n)
	if err != nil {
		return nil, err
	}
	if s.fn != nil {
		return nil, fmt.Errorf("a user function can't see the variable '%s'", name)
	}
	if s.defaults {
		return nil, fmt.Errorf("a parameter's default value can't use the variable '%s'", name)
	}
	return s.d.home().variable(name)
}

// named is the single argument of parameters() and variables(), folded.
func (s *scope) named(n *node) (string, error) {
	if err := arity(n, 1, 1); err != nil {
		return "", err
	}
	name, err := s.word(n, 0)
	return lower(name), err
}

func (s *scope) copyIndex(n *node) (any, error) {
	if err := arity(n, 0, 2); err != nil {
		return nil, err
	}
	name, offset := "", int64(0)
	for i := range n.args {
		v, err := s.eval(n.args[i])
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case string:
			name = v
		case int64:
			offset = v
		default:
			return nil, fmt.Errorf("the template function 'copyIndex' expects a loop's name and an offset")
		}
	}
	if len(s.loops) == 0 {
		return nil, fmt.Errorf("the template function 'copyIndex' is not expected at this location: it can only be used in a copy. Please see https://aka.ms/arm-copy for usage details")
	}
	if name == "" {
		return s.loops[0].index + offset, nil // the resource's; of properties in none, the outermost
	}
	for i := len(s.loops) - 1; i >= 0; i-- {
		if lower(s.loops[i].name) == lower(name) {
			return s.loops[i].index + offset, nil
		}
	}
	return nil, fmt.Errorf("the template function 'copyIndex' names the loop '%s', which is not around it", name)
}
