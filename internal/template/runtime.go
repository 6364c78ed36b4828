package template

import (
	"errors"
	"fmt"
	"strings"
)

// target is the resource that the first argument of reference() or list…()
// names, and the api-version to ask with.
func (s *scope) target(n *node) (id, version string, err error) {
	if s.rt == nil || s.fn != nil {
		return "", "", fmt.Errorf("the template function '%s' is not expected at this location. Please see https://aka.ms/arm-functions for usage details", n.text)
	}
	name, err := s.word(n, 0)
	if err != nil {
		return "", "", err
	}
	if len(n.args) > 1 {
		v, err := s.eval(n.args[1])
		if err != nil {
			return "", "", err
		}
		version, _ = v.(string)
	}
	id = name
	found := s.d.find(name)
	switch {
	case len(found) == 1:
		id = found[0].ID
		if version == "" {
			version = found[0].APIVersion
		}
	case len(found) > 1:
		return "", "", fmt.Errorf("the template function '%s' names '%s', which %d resources are called", n.text, name, len(found))
	case !strings.HasPrefix(name, "/"):
		return "", "", fmt.Errorf("the resource '%s' that the template function '%s' names is not defined in the template. Please see https://aka.ms/arm-syntax for usage details", name, n.text)
	}
	if version == "" {
		return "", "", fmt.Errorf("the resource '%s' is not defined in the template: the template function '%s' needs an api-version", id, n.text)
	}
	return id, version, nil
}

// find looks for a resource by id, symbol or name in the template, and in those around it.
func (d *Deployment) find(name string) []*Resource {
	for at := d; at != nil; at = at.outer {
		if at.plan == nil {
			continue
		}
		found := at.plan.find(name)
		var live []*Resource
		for _, r := range found {
			if !r.Skipped {
				live = append(live, r)
			}
		}
		if len(live) > 0 {
			return live
		}
		if len(found) > 0 {
			return found[:1]
		}
	}
	return nil
}

func (s *scope) reference(n *node) (any, error) {
	if err := arity(n, 1, 3); err != nil {
		return nil, err
	}
	id, version, err := s.target(n)
	if err != nil {
		return nil, err
	}
	full := false
	if len(n.args) == 3 {
		v, err := s.word(n, 2)
		if err != nil {
			return nil, err
		}
		if full = strings.EqualFold(v, "Full"); !full && v != "" {
			return nil, fmt.Errorf("the template function 'reference' has the third argument '%s'; expected is 'Full'", v)
		}
	}
	v, err := s.rt.Reference(id, version, full)
	return plain(v), err
}

// references is reference() for all copies of a symbol.
func (s *scope) references(n *node) (any, error) {
	if err := arity(n, 1, 2); err != nil {
		return nil, err
	}
	name, err := s.word(n, 0)
	if err != nil {
		return nil, err
	}
	if s.rt == nil || s.d.plan == nil {
		return nil, errors.New("the template function 'references' is not expected at this location")
	}
	full := len(n.args) == 2
	out := []any{}
	for _, r := range s.d.plan.find(name) {
		if r.copy == "" || r.Skipped {
			continue
		}
		v, err := s.rt.Reference(r.ID, r.APIVersion, full)
		if err != nil {
			return nil, err
		}
		out = append(out, plain(v))
	}
	return out, nil
}

func (s *scope) list(n *node) (any, error) {
	if err := arity(n, 2, 3); err != nil {
		return nil, err
	}
	id, version, err := s.target(n)
	if err != nil {
		return nil, err
	}
	var body any
	if len(n.args) == 3 {
		if body, err = s.eval(n.args[2]); err != nil {
			return nil, err
		}
	}
	v, err := s.rt.List(n.text, id, version, body)
	return plain(v), err
}

// Output is one output of a deployment.
type Output struct {
	Type   string
	Value  any
	Secure bool // Value is not to be shown
}

// Outputs evaluates the outputs, after the resources are there.
func (d *Deployment) Outputs(rt Runtime) (map[string]Output, error) {
	out := map[string]Output{}
	for _, name := range sortedKeys(d.t.outputs) {
		o := d.t.outputs[name]
		s := &scope{d: d, rt: rt}
		if c, ok := o["condition"]; ok {
			v, err := s.tree(c)
			if err != nil {
				return nil, invalid(fmt.Errorf("the condition of the template output '%s': %w", name, err))
			}
			if b, ok := v.(bool); !ok {
				return nil, invalid(fmt.Errorf("the condition of the template output '%s' is a %s; expected is a boolean", name, typeOf(v)))
			} else if !b {
				continue
			}
		}
		v, err := s.output(o)
		if err != nil {
			return nil, outputError(name, err)
		}
		typ, err := d.outputType(name, o)
		if err != nil {
			return nil, invalid(err)
		}
		if v != nil || o["nullable"] != true {
			if err := checkType(name, typ, v); err != nil {
				return nil, invalid(err)
			}
		}
		out[name] = Output{Type: shownType(typ), Value: v, Secure: d.t.secure(o, 0)}
	}
	return out, nil
}

func outputError(name string, err error) error {
	return invalid(fmt.Errorf("the template output '%s' is not valid: %w", name, err))
}

func (s *scope) output(o map[string]any) (any, error) {
	if o["copy"] == nil {
		v, err := s.tree(o["value"])
		return v, errors.Join(err, s.made(v))
	}
	c, _ := o["copy"].(map[string]any)
	_, count, m, err := copyOf(c)
	if err != nil {
		return nil, err
	}
	values := map[string]any{}
	err = s.copies(values, []any{map[string]any{"name": "copy", "count": count, "input": m["input"]}})
	return values["copy"], err
}

func (d *Deployment) outputType(name string, o map[string]any) (string, error) {
	typ, _ := o["type"].(string)
	if ref, ok := o["$ref"].(string); ok {
		t := d.t.types[lower(strings.TrimPrefix(ref, "#/definitions/"))]
		typ, _ = t["type"].(string)
	}
	if typ == "" {
		return "", fmt.Errorf("the template output '%s' has no 'type'", name)
	}
	return typ, nil
}

func checkType(name, typ string, v any) error {
	ok := false
	switch lower(typ) {
	case "string", "securestring":
		_, ok = v.(string)
	case "int":
		_, ok = v.(int64)
	case "bool":
		_, ok = v.(bool)
	case "array":
		_, ok = v.([]any)
	case "object", "secureobject":
		_, ok = v.(map[string]any)
	default:
		return fmt.Errorf("the template output '%s' has the unknown type '%s'", name, typ)
	}
	if !ok {
		return fmt.Errorf("the template output '%s' is not valid: its value is of type '%s' and not of type '%s'", name, typeOf(v), typ)
	}
	return nil
}
