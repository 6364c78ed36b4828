package template

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Env is what a template sees of the place where it is deployed.
type Env struct {
	TenantID         string            `json:"tenantId"`
	SubscriptionID   string            `json:"subscriptionId"`
	SubscriptionName string            `json:"subscriptionName,omitempty"`
	Group            *Group            `json:"group,omitempty"` // nil in a deployment to the subscription
	Name             string            `json:"name"`            // the deployment's
	Location         string            `json:"location,omitempty"`
	Cloud            map[string]any    `json:"cloud,omitempty"` // environment()
	Now              time.Time         `json:"now"`             // utcNow()
	Seeds            []string          `json:"seeds,omitempty"` // newGuid(), one after another
	Caller           map[string]string `json:"caller,omitempty"`
}

// Group is the resource group that a deployment goes to.
type Group struct {
	Name     string            `json:"name"`
	Location string            `json:"location"`
	Tags     map[string]string `json:"tags,omitempty"`
}

// Scope is the id under which the deployment's resources stand.
func (e Env) Scope() string {
	s := "/subscriptions/" + e.SubscriptionID
	if e.Group != nil {
		s += "/resourceGroups/" + e.Group.Name
	}
	return s
}

// Input is all that an evaluation depends on, to be kept and read again.
type Input struct {
	Template   json.RawMessage            `json:"template"`
	Parameters map[string]json.RawMessage `json:"parameters,omitempty"` // values, all resolved
	Env        Env                        `json:"env"`
	Outer      *Input                     `json:"outer,omitempty"` // whose parameters and variables a nested template with outer scope sees
}

// Deployment is a template with its parameters. It is not for use by several
// goroutines at once.
type Deployment struct {
	t        *Template
	in       Input
	outer    *Deployment
	params   map[string]*parameter // by lower-case name
	vars     map[string]*variable
	nodes    map[string]*node
	builtins map[string]builtin
	special  map[string]func(*scope, *node) (any, error)
	plan     *Plan

	steps, bytes, calls, guids int
}

type parameter struct {
	*declaration
	given  bool
	value  any
	state  int // 0 not evaluated, 1 being evaluated, 2 done
	secure bool
}

type variable struct {
	value any
	state int
}

// Bind binds parameters: the object of a parameter file, of name to {"value":
// …}. outer is the deployment whose scope a nested template sees, else nil.
func Bind(template []byte, params map[string]any, env Env, outer *Deployment) (*Deployment, error) {
	in := Input{Template: template, Env: env, Parameters: map[string]json.RawMessage{}}
	d, err := begin(in, outer)
	if err != nil {
		return nil, err
	}
	if outer == nil {
		if err := d.give(params); err != nil {
			return nil, invalid(err)
		}
	}
	for _, name := range sortedKeys(d.params) {
		v, err := d.parameter(name)
		if err != nil {
			return nil, invalid(err)
		}
		if d.in.Parameters[name], err = json.Marshal(v); err != nil {
			return nil, fmt.Errorf("encode parameter: %w", err)
		}
	}
	return d, nil
}

// Open is Bind for an Input that Bind made.
func Open(in Input) (*Deployment, error) {
	var outer *Deployment
	if in.Outer != nil {
		var err error
		if outer, err = Open(*in.Outer); err != nil {
			return nil, err
		}
	}
	d, err := begin(in, outer)
	if err != nil {
		return nil, err
	}
	for name, p := range d.params {
		v, err := Decode(d.in.Parameters[name])
		if err != nil {
			return nil, fmt.Errorf("decode parameter %s: %w", name, err)
		}
		p.value, p.state = v, 2
	}
	return d, nil
}

// Input is what Open makes the same deployment of. It holds secrets.
func (d *Deployment) Input() Input { return d.in }

func begin(in Input, outer *Deployment) (*Deployment, error) {
	t, err := Parse(in.Template)
	if err != nil {
		return nil, err
	}
	d := &Deployment{
		t: t, in: in, outer: outer, params: map[string]*parameter{}, vars: map[string]*variable{}, nodes: map[string]*node{},
		builtins: builtins(), special: specials(),
	}
	if outer != nil {
		t.parameters, t.variables = nil, nil // the outer one's count
		if _, err := outer.Plan(); err != nil {
			return nil, err
		}
		o := outer.in
		d.in.Outer = &o
	}
	for name, p := range t.parameters {
		d.params[name] = &parameter{declaration: p, secure: t.secure(p.m, 0)}
	}
	for name, v := range t.variables {
		d.vars[name] = &variable{value: v}
	}
	if t.subscription && in.Env.Group != nil {
		return nil, invalid(fmt.Errorf("the template's '$schema' '%s' is for deployments to a subscription, and this one is to the resource group '%s'", t.Schema, in.Env.Group.Name))
	}
	return d, nil
}

// home is the deployment whose parameters, variables and functions count.
func (d *Deployment) home() *Deployment {
	for d.outer != nil {
		d = d.outer
	}
	return d
}

// parsed parses each expression once.
func (d *Deployment) parsed(text string) (*node, error) {
	if n := d.nodes[text]; n != nil {
		return n, nil
	}
	n, err := parseExpression(text)
	if err == nil {
		d.nodes[text] = n
	}
	return n, err
}

// give takes the parameters that come with the request.
func (d *Deployment) give(params map[string]any) error {
	var unknown []string
	for _, name := range sortedKeys(params) {
		p := d.params[strings.ToLower(name)]
		if p == nil {
			unknown = append(unknown, name)
			continue
		}
		if p.given {
			return fmt.Errorf("the template parameter '%s' is given twice", name)
		}
		o, ok := params[name].(map[string]any)
		if !ok {
			return fmt.Errorf("the template parameter '%s' must be an object with 'value'", name)
		}
		o, err := known("template parameter '"+name+"'", o, "value", "reference", "metadata", "type", "expression")
		if err != nil {
			return err
		}
		if o["reference"] != nil {
			return fmt.Errorf("the template parameter '%s' refers to a Key Vault secret, which is not supported: read the secret and pass its value", name)
		}
		if v, ok := o["value"]; ok && v != nil {
			p.given, p.value = true, plain(v)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	var names []string
	for _, p := range d.params {
		names = append(names, p.name)
	}
	slices.Sort(names)
	return fmt.Errorf("the template parameters '%s' in the parameters file are not valid; they are not present in the original template and can therefore not be provided at deployment time. The only supported parameters for this template are '%s'. Please see https://aka.ms/arm-pass-parameter-values for usage details", strings.Join(unknown, ", "), strings.Join(names, ", "))
}

// parameter gives a parameter's value, by its lower-case name.
func (d *Deployment) parameter(name string) (any, error) {
	p := d.params[name]
	switch {
	case p == nil:
		return nil, fmt.Errorf("the template parameter '%s' is not found. Please see https://aka.ms/arm-syntax-parameters for usage details", name)
	case p.state == 2:
		return p.value, nil
	case p.state == 1:
		return nil, fmt.Errorf("the default value of the template parameter '%s' depends on itself", p.name)
	}
	p.state = 1
	if !p.given {
		def, ok := p.m["defaultValue"]
		if !ok {
			if p.m["nullable"] != true {
				return nil, fmt.Errorf("the value for the template parameter '%s' is not provided. Please see https://aka.ms/arm-create-parameter-file for usage details", p.name)
			}
			p.state = 2
			return nil, nil
		}
		s := &scope{d: d, defaults: true}
		v, err := s.tree(def)
		if err != nil {
			return nil, fmt.Errorf("the default value of the template parameter '%s': %w", p.name, err)
		}
		p.value = v
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	p.state = 2
	return p.value, nil
}

func (p *parameter) check() error {
	if p.value == nil && p.m["nullable"] == true {
		return nil
	}
	typ, _ := p.m["type"].(string)
	ok, n := false, int64(-1)
	switch v := p.value.(type) {
	case string:
		ok, n = strings.EqualFold(typ, "string") || strings.EqualFold(typ, "securestring"), int64(len([]rune(v)))
	case int64:
		ok, n = strings.EqualFold(typ, "int"), v
	case bool:
		ok = strings.EqualFold(typ, "bool")
	case []any:
		ok, n = strings.EqualFold(typ, "array"), int64(len(v))
	case map[string]any:
		ok = strings.EqualFold(typ, "object") || strings.EqualFold(typ, "secureobject")
	}
	if !ok {
		return fmt.Errorf("the provided value for the template parameter '%s' is not valid. Expected a value of type '%s', but received a value of type '%s'. Please see https://aka.ms/arm-create-parameter-file for usage details", p.name, typ, typeOf(p.value))
	}
	if err := p.allowed(); err != nil {
		return err
	}
	for _, limit := range []struct {
		name string
		bad  func(limit int64) bool
	}{
		{"minValue", func(l int64) bool { return n < l }}, {"maxValue", func(l int64) bool { return n > l }},
		{"minLength", func(l int64) bool { return n < l }}, {"maxLength", func(l int64) bool { return n > l }},
	} {
		l, is := p.m[limit.name].(int64)
		if is && limit.bad(l) {
			return fmt.Errorf("the provided value for the template parameter '%s' is not valid. Its %s is %d", p.name, limit.name, l)
		}
	}
	return nil
}

func (p *parameter) allowed() error {
	list, ok := p.m["allowedValues"].([]any)
	if !ok {
		return nil
	}
	in := func(v any) bool { return slices.ContainsFunc(list, func(a any) bool { return same(a, v, true) }) }
	if in(p.value) {
		return nil
	}
	if values, ok := p.value.([]any); ok && !slices.ContainsFunc(values, func(v any) bool { return !in(v) }) {
		return nil // an array may hold any of them
	}
	text, err := encode(p.value)
	if err != nil || p.secure {
		text = "…"
	}
	all, err := encode(list)
	if err != nil {
		return err
	}
	return fmt.Errorf("the provided value '%s' for the template parameter '%s' is not valid. The parameter value is not part of the allowed value(s): '%s'", strings.Trim(text, `"`), p.name, strings.Trim(all, "[]"))
}

// variable gives a variable's value, by its lower-case name.
func (d *Deployment) variable(name string) (any, error) {
	v := d.vars[name]
	switch {
	case v == nil:
		return nil, fmt.Errorf("the template variable '%s' is not found. Please see https://aka.ms/arm-syntax-variables for usage details", name)
	case v.state == 2:
		return v.value, nil
	case v.state == 1:
		return nil, fmt.Errorf("the template variable '%s' depends on itself", name)
	}
	v.state = 1
	s := &scope{d: d}
	out, err := s.tree(v.value)
	if err != nil {
		v.state = 0
		return nil, fmt.Errorf("the template variable '%s' is not valid: %w", name, err)
	}
	if m, ok := v.value.(map[string]any); ok && len(m) == 1 { // a copy at the top
		if list, ok := m["copy"].([]any); ok && isCopies(list) {
			if n, _, _, err := copyOf(list[0]); err == nil && strings.EqualFold(n, name) {
				out = out.(map[string]any)[n]
			}
		}
	}
	v.value, v.state = out, 2
	return out, nil
}

// ShownParameters are the parameters as a deployment shows them: without the
// values of secure ones.
func (d *Deployment) ShownParameters() map[string]any {
	out := map[string]any{}
	for _, p := range d.params {
		typ, _ := p.m["type"].(string)
		m := map[string]any{"type": shownType(typ)}
		if !p.secure {
			m["value"] = p.value
		}
		out[p.name] = m
	}
	return out
}

func shownType(t string) string {
	for _, n := range []string{"String", "SecureString", "Int", "Bool", "Object", "SecureObject", "Array"} {
		if strings.EqualFold(n, t) {
			return n
		}
	}
	return t
}

// Secrets are the strings in secure parameters, the outer deployment's too:
// they must not be shown.
func (d *Deployment) Secrets() []string {
	var out []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			if len(v) > 2 {
				out = append(out, v)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	for at := d; at != nil; at = at.outer {
		for _, p := range at.params {
			if p.secure {
				walk(p.value)
			}
		}
	}
	return out
}
