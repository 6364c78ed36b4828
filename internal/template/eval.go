package template

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Runtime answers what expressions ask about resources. An error that wraps
// [ErrUnknown] means that it can't be known yet.
type Runtime interface {
	// Reference is the state of the resource: its properties, or, when full,
	// the whole.
	Reference(id, apiVersion string, full bool) (any, error)
	// List posts to the resource's function, such as listKeys.
	List(function, id, apiVersion string, body any) (any, error)
}

// ErrUnknown says that an expression depends on what is not there yet.
var ErrUnknown = errors.New("not known before the deployment")

const (
	maxSteps = 2_000_000 // of one Deployment's evaluation
	maxBytes = 1 << 30   // that functions took and made in it, together
	maxValue = 4 << 20   // of one value
)

// loop is a copy that the evaluation is inside of.
type loop struct {
	name  string
	index int64
}

// scope is what an expression sees.
type scope struct {
	d        *Deployment
	loops    []loop         // innermost last
	locals   *binding       // of lambdas
	fn       map[string]any // parameters of the user function; nil outside of one
	rt       Runtime        // nil before the deployment begins
	defaults bool           // in a parameter's defaultValue
	keep     bool           // what is unknown stays an expression
}

func (s *scope) with(l loop) *scope {
	c := *s
	c.loops = append(append([]loop(nil), s.loops...), l)
	return &c
}

// step counts work.
func (s *scope) step() error {
	if s.d.steps++; s.d.steps > maxSteps {
		return fmt.Errorf("the template needs more than %d steps to evaluate", maxSteps)
	}
	return nil
}

// made counts what a function made.
func (s *scope) made(v any) error {
	n := size(v, maxValue)
	if n >= maxValue {
		return fmt.Errorf("a value is larger than %d bytes", maxValue)
	}
	return s.charge(n)
}

// taken counts what a function looks at; some look longer.
func (s *scope) taken(name string, args []any) error {
	n := 0
	for _, a := range args {
		n += size(a, maxValue)
	}
	switch name {
	case "json", "base64tojson", "string", "union", "intersection", "items", "guid", "uniquestring":
		n *= 16
	}
	return s.charge(n)
}

func (s *scope) charge(n int) error {
	if s.d.bytes += n; s.d.bytes > maxBytes {
		return fmt.Errorf("the template's expressions make more than %d bytes", maxBytes)
	}
	return nil
}

// text evaluates a string of a template.
func (s *scope) text(v string) (any, error) {
	inner, expr := isExpression(v)
	if !expr {
		return inner, nil
	}
	n, err := s.d.parsed(inner)
	if err != nil {
		return nil, err
	}
	out, err := s.eval(n)
	if err != nil {
		if s.keep && errors.Is(err, ErrUnknown) {
			return v, nil
		}
		return nil, err
	}
	return out, nil
}

// tree evaluates every string in v, and expands its copies.
func (s *scope) tree(v any) (any, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case string:
		return s.text(v)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			var err error
			if out[i], err = s.tree(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, k := range sortedKeys(v) {
			if list, ok := v[k].([]any); ok && strings.EqualFold(k, "copy") && isCopies(list) {
				if err := s.copies(out, list); err != nil {
					return nil, err
				}
				continue
			}
			x, err := s.tree(v[k])
			if err != nil {
				return nil, err
			}
			if inner, expr := isExpression(k); expr { // Bicep writes such names
				if k, err = s.key(inner); err != nil {
					return nil, err
				}
			}
			out[k] = x
		}
		return out, nil
	default:
		return v, nil
	}
}

func (s *scope) key(inner string) (string, error) {
	n, err := s.d.parsed(inner)
	if err != nil {
		return "", err
	}
	v, err := s.eval(n)
	if err != nil {
		return "", err
	}
	k, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("the name '[%s]' of a property is a %s and no string", short(inner), typeOf(v))
	}
	return k, nil
}

// isCopies tells a copy of properties from a property of that name.
func isCopies(list []any) bool {
	for _, c := range list {
		m, ok := c.(map[string]any)
		if !ok {
			return false
		}
		if _, ok := member(m, "count"); !ok {
			return false
		}
	}
	return len(list) > 0
}

// copyOf reads a copy element.
func copyOf(v any) (name string, count any, m map[string]any, err error) {
	o, ok := v.(map[string]any)
	if !ok {
		return "", nil, nil, fmt.Errorf("a copy must be an object with 'name' and 'count'")
	}
	if m, err = known("copy", o, "name", "count", "input", "mode", "batchSize"); err != nil {
		return "", nil, nil, err
	}
	name, _ = m["name"].(string)
	if m["count"] == nil {
		return "", nil, nil, fmt.Errorf("the copy '%s' has no 'count'", name)
	}
	return name, m["count"], m, nil
}

// count evaluates a copy's count.
func (s *scope) count(name string, v any) (int64, error) {
	v, err := s.tree(v)
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if t, is := v.(string); is {
		var perr error
		n, perr = strconv.ParseInt(t, 10, 64)
		ok = perr == nil
	}
	if !ok || n < 0 || n > maxCopies {
		return 0, fmt.Errorf("the copy count of '%s' is %v; it must be a whole number from 0 to %d", name, v, maxCopies)
	}
	return n, nil
}

// copies expands the copy elements of an object into it.
func (s *scope) copies(out map[string]any, list []any) error {
	for _, c := range list {
		name, count, m, err := copyOf(c)
		if err != nil {
			return err
		}
		n, err := s.count(name, count)
		if err != nil {
			return err
		}
		values := make([]any, 0, n)
		for i := range n {
			v, err := s.with(loop{name, i}).tree(m["input"])
			if err != nil {
				return err
			}
			values = append(values, v)
		}
		if err := s.made(values); err != nil {
			return err
		}
		out[name] = values
	}
	return nil
}

// eval evaluates an expression.
func (s *scope) eval(n *node) (any, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	switch n.op {
	case opText:
		return n.text, nil
	case opNumber:
		return n.num, nil
	case opProperty:
		base, err := s.eval(n.base)
		if err != nil {
			return nil, err
		}
		return property(base, n.text, n.safe)
	case opIndex:
		base, err := s.eval(n.base)
		if err != nil {
			return nil, err
		}
		i, err := s.eval(n.args[0])
		if err != nil {
			return nil, err
		}
		return index(base, i, n.safe)
	default:
		return s.call(n)
	}
}

func property(base any, name string, safe bool) (any, error) {
	if base == nil && safe {
		return nil, nil
	}
	m, ok := base.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the language expression property '%s' can't be evaluated: its target is a %s and no object", name, typeOf(base))
	}
	v, ok := member(m, name)
	if !ok && !safe {
		return nil, fmt.Errorf("the language expression property '%s' doesn't exist, available properties are '%s'", name, strings.Join(sortedKeys(m), ", "))
	}
	return v, nil
}

func index(base, i any, safe bool) (any, error) {
	if name, ok := i.(string); ok {
		return property(base, name, safe)
	}
	if base == nil && safe {
		return nil, nil
	}
	list, ok := base.([]any)
	n, isInt := i.(int64)
	if !ok || !isInt {
		return nil, fmt.Errorf("the language expression can't take the element '%v' of a %s", i, typeOf(base))
	}
	if n < 0 || n >= int64(len(list)) {
		if safe {
			return nil, nil
		}
		return nil, fmt.Errorf("the language expression property array index '%d' is out of bounds", n)
	}
	return list[n], nil
}

func (s *scope) call(n *node) (any, error) {
	name := strings.ToLower(n.text)
	if strings.Contains(name, ".") {
		return s.user(name, n)
	}
	if f := s.d.special[name]; f != nil {
		return f(s, n)
	}
	if strings.HasPrefix(name, "list") && len(name) > len("list") {
		return s.list(n)
	}
	f, ok := s.d.builtins[name]
	if !ok {
		return nil, fmt.Errorf("the template function '%s' is not valid. Please see https://aka.ms/arm-functions for usage details", n.text)
	}
	if err := arity(n, f.min, f.max); err != nil {
		return nil, err
	}
	args, err := s.args(n)
	if err != nil {
		return nil, err
	}
	if err := s.taken(name, args); err != nil {
		return nil, err
	}
	v, err := f.do(s, args)
	if err != nil {
		return nil, fmt.Errorf("unable to evaluate template language function '%s': %w", n.text, err)
	}
	return v, s.made(v)
}

func (s *scope) args(n *node) ([]any, error) {
	args := make([]any, len(n.args))
	for i, a := range n.args {
		var err error
		if args[i], err = s.eval(a); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func arity(n *node, least, most int) error {
	got := len(n.args)
	switch {
	case got < least:
		return fmt.Errorf("the template function '%s' expects at least %d arguments and got %d", n.text, least, got)
	case most >= 0 && got > most:
		return fmt.Errorf("the template function '%s' expects at most %d arguments and got %d", n.text, most, got)
	}
	return nil
}

// user calls a function that the template defines.
func (s *scope) user(name string, n *node) (any, error) {
	if name2, ok := strings.CutPrefix(name, "sys."); ok { // Bicep's namespace of the built-in ones
		return s.call(&node{op: opCall, text: name2, args: n.args})
	}
	f := s.d.home().t.functions[name]
	if f == nil {
		return nil, fmt.Errorf("the template function '%s' is not defined", n.text)
	}
	if s.fn != nil && !s.d.t.symbols {
		return nil, fmt.Errorf("the user function '%s' can't be called in a user function", n.text)
	}
	if err := arity(n, len(f.parameters), len(f.parameters)); err != nil {
		return nil, err
	}
	args, err := s.args(n)
	if err != nil {
		return nil, err
	}
	inner := &scope{d: s.d, fn: map[string]any{}, rt: nil}
	for i, p := range f.parameters {
		inner.fn[p] = args[i]
	}
	if s.d.calls++; s.d.calls > maxNesting {
		return nil, fmt.Errorf("the user function '%s' calls itself", n.text)
	}
	defer func() { s.d.calls-- }()
	return inner.tree(f.value)
}

// local binds a lambda's variables.
func (s *scope) local(names []string, values []any) *scope {
	c := *s
	for i, n := range names {
		c.locals = &binding{n, values[i], c.locals}
	}
	return &c
}

// binding is a variable of a lambda.
type binding struct {
	name  string
	value any
	up    *binding
}
