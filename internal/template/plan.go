package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lazurite.dev/internal/rid"
)

// TypeDeployment is the type of nested deployments.
const TypeDeployment = "Microsoft.Resources/deployments"

// Plan is what a template deploys.
type Plan struct {
	Resources []*Resource // in the order of the template, copies expanded
}

// Resource is one resource of a Plan.
type Resource struct {
	ID         string
	Type       string
	Name       string // all its names: "vault/secret"
	Symbol     string // of language version 2.0
	APIVersion string
	Existing   bool  // only looked at
	Skipped    bool  // its condition is false
	DependsOn  []int // indices in the Plan, in order
	Nested     *Nested

	index int // in the plan
	copy  string
	at    int // in its copy
	whole map[string]any
	loops []loop
}

// Nested is the template of a resource of TypeDeployment.
type Nested struct {
	Template json.RawMessage
	Inner    bool // evaluated in a scope of its own
}

// batch is a serial copy.
type batch struct {
	of   []int // plan indices
	size int64
}

// planner builds a Plan.
type planner struct {
	d       *Deployment
	plan    *Plan
	batches []batch
	parents map[int]int // nested children and theirs
}

// Plan says what is deployed and in which order.
func (d *Deployment) Plan() (*Plan, error) {
	if d.plan != nil {
		return d.plan, nil
	}
	p := &planner{d: d, plan: &Plan{}, parents: map[int]int{}}
	for _, r := range d.t.resources {
		if err := p.add(r, nil, nil); err != nil {
			return nil, invalid(err)
		}
	}
	for _, step := range []func() error{p.unique, p.depend, p.acyclic} {
		if err := step(); err != nil {
			return nil, invalid(err)
		}
	}
	d.plan = p.plan
	return d.plan, nil
}

// add takes one declared resource, in all its copies, and its children.
func (p *planner) add(r declared, parent *Resource, loops []loop) error {
	m, err := foldResource(r.m)
	if err != nil {
		return err
	}
	if m["copy"] == nil {
		return p.one(r, m, parent, loops)
	}
	name, count, c, err := copyOf(m["copy"])
	if err != nil {
		return err
	}
	s := &scope{d: p.d, loops: loops}
	n, err := s.count(name, count)
	if err != nil {
		return err
	}
	size, err := batchSize(s, name, c)
	if err != nil {
		return err
	}
	b := batch{size: size}
	for i := range n {
		b.of = append(b.of, len(p.plan.Resources))
		if err := p.one(r, m, parent, append([]loop{{name, i}}, loops...)); err != nil {
			return err
		}
		made := p.plan.Resources[b.of[i]]
		made.copy, made.at = name, int(i)
	}
	if size > 0 {
		p.batches = append(p.batches, b)
	}
	return nil
}

// batchSize is 0 for a parallel copy.
func batchSize(s *scope, name string, c map[string]any) (int64, error) {
	mode, _ := c["mode"].(string)
	switch lower(mode) {
	case "", "parallel":
		return 0, nil
	case "serial":
	default:
		return 0, fmt.Errorf("the copy '%s' has the mode '%s'; expected is 'serial' or 'parallel'", name, mode)
	}
	if c["batchSize"] == nil {
		return 1, nil
	}
	v, err := s.tree(c["batchSize"])
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if !ok || n < 1 {
		return 0, fmt.Errorf("the copy '%s' has the batch size '%v'; it must be a positive number", name, v)
	}
	return n, nil
}

// foldResource gives a resource's own members their documented spelling.
func foldResource(m map[string]any) (map[string]any, error) {
	out := map[string]any{}
	for _, k := range sortedKeys(m) {
		as := k
		for _, n := range []string{
			"type", "name", "apiVersion", "condition", "copy", "dependsOn", "scope", "resources", "resourceGroup", "subscriptionId", "existing", "properties",
			"location", "tags", "identity", "sku", "kind", "plan", "zones", "comments", "metadata",
		} {
			if strings.EqualFold(n, k) {
				as = n
			}
		}
		if _, twice := out[as]; twice {
			return nil, fmt.Errorf("the member '%s' of a resource is there twice", as)
		}
		out[as] = m[k]
	}
	return out, nil
}

// one takes one instance.
func (p *planner) one(decl declared, m map[string]any, parent *Resource, loops []loop) error {
	r := &Resource{Symbol: decl.symbol, index: len(p.plan.Resources), whole: m, loops: loops}
	if r.index >= maxResources {
		return fmt.Errorf("the template has more than %d resources", maxResources)
	}
	s := &scope{d: p.d, loops: loops}
	if err := p.name(s, r, parent); err != nil {
		return err
	}
	if v, ok := m["condition"]; ok {
		v, err := s.tree(v)
		if err != nil {
			return fmt.Errorf("the condition of the resource '%s': %w", r.Name, err)
		}
		b, ok := v.(bool)
		if t, is := v.(string); is && (strings.EqualFold(t, "true") || strings.EqualFold(t, "false")) {
			b, ok = strings.EqualFold(t, "true"), true
		}
		if !ok {
			return fmt.Errorf("the condition of the resource '%s' is a %s; expected is a boolean", r.Name, typeOf(v))
		}
		r.Skipped = !b
	}
	r.Existing = m["existing"] == true
	if parent != nil {
		p.parents[r.index] = parent.index
		r.Skipped = r.Skipped || parent.Skipped
	}
	if strings.EqualFold(r.Type, TypeDeployment) {
		if err := p.nested(r); err != nil {
			return err
		}
	}
	p.plan.Resources = append(p.plan.Resources, r)
	children, ok := m["resources"].([]any)
	if !ok && m["resources"] != nil {
		return fmt.Errorf("the 'resources' of the resource '%s' must be an array", r.Name)
	}
	for _, c := range children {
		cm, ok := c.(map[string]any)
		if !ok {
			return fmt.Errorf("a child of the resource '%s' must be an object", r.Name)
		}
		if err := p.add(declared{m: cm}, r, loops); err != nil {
			return err
		}
	}
	return nil
}

// texted evaluates a member that must be a string.
func (s *scope) texted(m map[string]any, name string) (string, error) {
	if m[name] == nil {
		return "", nil
	}
	v, err := s.tree(m[name])
	if err != nil {
		return "", err
	}
	t, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("the member '%s' of a resource is a %s; expected is a string", name, typeOf(v))
	}
	return t, nil
}

// name finds type, names, api-version and id.
func (p *planner) name(s *scope, r *Resource, parent *Resource) error {
	var v [6]string
	for i, n := range []string{"type", "name", "apiVersion", "scope", "resourceGroup", "subscriptionId"} {
		var err error
		if v[i], err = s.texted(r.whole, n); err != nil {
			return fmt.Errorf("unable to process template language expressions for the resource of type '%s': %w", v[0], err)
		}
	}
	typ, name, scope := v[0], v[1], p.d.in.Env.Scope()
	if typ == "" || name == "" {
		return fmt.Errorf("a template resource needs 'type' and 'name'; it has the type '%s' and the name '%s'", typ, name)
	}
	if r.APIVersion = v[2]; r.APIVersion == "" {
		return fmt.Errorf("the template resource '%s' has no 'apiVersion'", name)
	}
	switch {
	case parent != nil && strings.Contains(strings.SplitN(typ, "/", 2)[0], "."): // an extension of its parent
		scope = parent.ID
	case parent != nil:
		typ, name, scope = parent.fullType()+"/"+typ, parent.Name+"/"+name, parent.scope()
	case v[3] == "/":
		scope = ""
	case strings.HasPrefix(v[3], "/"):
		scope = strings.TrimSuffix(v[3], "/")
	case v[3] != "":
		scope += "/providers/" + v[3]
	}
	if strings.EqualFold(typ, TypeDeployment) && (v[4] != "" || v[5] != "") {
		if v[5] == "" {
			v[5] = p.d.in.Env.SubscriptionID
		}
		if scope = "/subscriptions/" + v[5]; v[4] != "" {
			scope += "/resourceGroups/" + v[4]
		}
	}
	names := strings.Split(name, "/")
	if want := strings.Count(typ, "/"); len(names) != want {
		return fmt.Errorf("the template resource '%s' of type '%s' has incorrect segment lengths. A nested resource type must have identical number of segments as its resource name; a root resource type must have segment length one greater than its resource name. Please see https://aka.ms/arm-syntax-resources for usage details", name, typ)
	}
	id, err := joinID(scope, typ, names)
	if err != nil {
		return err
	}
	at, err := rid.Parse(id)
	if err != nil {
		return fmt.Errorf("the template resource '%s' has no valid id: %w", name, err)
	}
	r.ID, r.Type, r.Name = id, at.Type(), name
	return nil
}

// fullType is the type that a child's is put behind.
func (r *Resource) fullType() string {
	segs := strings.Split(r.Type, "/")
	return strings.Join(segs[:min(len(segs), strings.Count(r.Name, "/")+2)], "/")
}

// scope is what stands before the resource's own type in its id.
func (r *Resource) scope() string {
	if i := strings.LastIndex(lower(r.ID), "/providers/"); i >= 0 {
		return r.ID[:i]
	}
	return r.ID
}

// nested reads the template of a nested deployment.
func (p *planner) nested(r *Resource) error {
	raw, _ := r.whole["properties"].(map[string]any)
	props, err := foldNested(raw)
	if err != nil {
		return err
	}
	if props["templateLink"] != nil || props["parametersLink"] != nil {
		return fmt.Errorf("the nested deployment '%s' has a 'templateLink' or 'parametersLink': nothing can be fetched here. Write the template into it ('template'), as `bicep build` does", r.Name)
	}
	t, ok := props["template"].(map[string]any)
	if !ok {
		return fmt.Errorf("the nested deployment '%s' has no 'template'", r.Name)
	}
	b, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode the nested template: %w", err)
	}
	r.Nested = &Nested{Template: b}
	if o, ok := props["expressionEvaluationOptions"].(map[string]any); ok {
		v, _ := member(o, "scope")
		scope, _ := v.(string)
		if !slices.Contains([]string{"", "notspecified", "inner", "outer"}, strings.ToLower(scope)) {
			return fmt.Errorf("the nested deployment '%s' has the scope '%s'; expected is 'inner' or 'outer'", r.Name, scope)
		}
		r.Nested.Inner = strings.EqualFold(scope, "inner")
	}
	if _, err := Parse(b); err != nil {
		return fmt.Errorf("the nested deployment '%s': %w", r.Name, err)
	}
	return nil
}

func foldNested(m map[string]any) (map[string]any, error) {
	return known("nested deployment", m, "mode", "template", "templateLink", "parameters", "parametersLink", "debugSetting", "onErrorDeployment", "expressionEvaluationOptions", "validationLevel")
}

// unique refuses a resource that is there twice.
func (p *planner) unique() error {
	seen := map[string]bool{}
	for _, r := range p.plan.Resources {
		if r.Skipped || r.Existing {
			continue
		}
		if seen[lower(r.ID)] {
			return fmt.Errorf("the resource '%s' is defined multiple times in a template. Please see https://aka.ms/arm-syntax-resources for usage details", r.ID)
		}
		seen[lower(r.ID)] = true
	}
	return nil
}

// find gives the resources that a text names: an id, a symbol, a name, a copy.
func (p *Plan) find(text string) []*Resource {
	var out []*Resource
	for _, match := range []func(r *Resource) bool{
		func(r *Resource) bool { return strings.EqualFold(r.ID, strings.TrimSuffix(text, "/")) },
		func(r *Resource) bool {
			return r.Symbol != "" && (r.Symbol == text || r.copy != "" && text == fmt.Sprintf("%s[%d]", r.Symbol, r.at))
		},
		func(r *Resource) bool { return strings.EqualFold(r.Name, text) },
		func(r *Resource) bool { return r.copy != "" && strings.EqualFold(r.copy, text) },
		func(r *Resource) bool {
			id := lower(r.ID)
			return strings.Contains(text, "/") && (strings.HasSuffix(id, "/providers/"+lower(text)) || strings.EqualFold(r.Type+"/"+r.Name, text))
		},
	} {
		for _, r := range p.Resources {
			if match(r) {
				out = append(out, r)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// depend finds what each resource waits for.
func (p *planner) depend() error {
	for _, r := range p.plan.Resources {
		on := map[int]bool{}
		if err := p.explicit(r, on); err != nil {
			return err
		}
		p.implicit(r, on)
		if parent, ok := p.parents[r.index]; ok {
			on[parent] = true
		}
		for _, b := range p.batches {
			if i := slices.Index(b.of, r.index); i >= 0 {
				first := i / int(b.size) * int(b.size)
				for _, before := range b.of[max(0, first-int(b.size)):first] {
					on[before] = true
				}
			}
		}
		for i := range p.plan.Resources {
			if on[i] && !p.plan.Resources[i].Skipped {
				r.DependsOn = append(r.DependsOn, i)
			}
		}
	}
	return nil
}

func (p *planner) explicit(r *Resource, on map[int]bool) error {
	if r.whole["dependsOn"] == nil {
		return nil
	}
	s := &scope{d: p.d, loops: r.loops}
	v, err := s.tree(r.whole["dependsOn"])
	if err != nil {
		return fmt.Errorf("the 'dependsOn' of the resource '%s': %w", r.Name, err)
	}
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("the 'dependsOn' of the resource '%s' must be an array", r.Name)
	}
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("the 'dependsOn' of the resource '%s' holds a %s; expected are strings", r.Name, typeOf(v))
		}
		found := p.plan.find(text)
		if len(found) == 0 {
			return fmt.Errorf("the resource '%s' is not defined in the template; '%s' depends on it. Please see https://aka.ms/arm-syntax for usage details", text, r.ID)
		}
		for _, f := range found {
			on[f.index] = true
		}
	}
	return nil
}

// implicit finds what is referred to by reference() and list…(). What can't be
// evaluated yet is told when it is.
func (p *planner) implicit(r *Resource, on map[int]bool) {
	s := &scope{d: p.d, loops: r.loops}
	p.d.plan = p.plan
	defer func() { p.d.plan = nil }()
	var look func(n *node)
	look = func(n *node) {
		if n == nil {
			return
		}
		name := lower(n.text)
		if n.op == opCall && len(n.args) > 0 && (name == "reference" || name == "references" || strings.HasPrefix(name, "list")) {
			if v, err := s.eval(n.args[0]); err == nil {
				if text, ok := v.(string); ok {
					for _, f := range p.plan.find(text) {
						if f.index != r.index {
							on[f.index] = true
						}
					}
				}
			}
		}
		look(n.base)
		for _, a := range n.args {
			look(a)
		}
	}
	skip := r.Nested != nil && r.Nested.Inner
	p.strings(withoutNames(r.whole), skip, func(text string) {
		if inner, expr := isExpression(text); expr {
			if n, err := p.d.parsed(inner); err == nil {
				look(n)
			}
		}
	})
}

// withoutNames is a resource without what names it and its children.
func withoutNames(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		switch k {
		case "type", "name", "apiVersion", "condition", "copy", "dependsOn", "scope", "resources", "resourceGroup", "subscriptionId", "existing", "comments", "metadata":
		default:
			out[k] = v
		}
	}
	return out
}

// strings calls fn with every string in v, but those of a nested template.
func (p *planner) strings(v any, skipTemplate bool, fn func(string)) {
	switch v := v.(type) {
	case string:
		fn(v)
	case []any:
		for _, x := range v {
			p.strings(x, skipTemplate, fn)
		}
	case map[string]any:
		for _, k := range sortedKeys(v) {
			if skipTemplate && strings.EqualFold(k, "template") {
				continue
			}
			p.strings(v[k], skipTemplate, fn)
		}
	}
}

// acyclic refuses resources that wait for each other, and names them.
func (p *planner) acyclic() error {
	state := make([]int, len(p.plan.Resources)) // 1 on the path, 2 done
	var path []int
	var visit func(i int) error
	visit = func(i int) error {
		if state[i] == 2 {
			return nil
		}
		path = append(path, i)
		if state[i] == 1 {
			var ids []string
			for _, j := range path[slices.Index(path, i):] {
				ids = append(ids, p.plan.Resources[j].ID)
			}
			return fmt.Errorf("circular dependency detected on resource: '%s'. The cycle is: %s. Please see https://aka.ms/arm-syntax-resources for usage details", p.plan.Resources[i].ID, strings.Join(ids, " -> "))
		}
		state[i] = 1
		for _, j := range p.plan.Resources[i].DependsOn {
			if err := visit(j); err != nil {
				return err
			}
		}
		state[i] = 2
		path = path[:len(path)-1]
		return nil
	}
	for i := range p.plan.Resources {
		if err := visit(i); err != nil {
			return err
		}
	}
	return nil
}

// Body is what is sent to make the resource. A nested deployment's template is
// left as it is written. keep leaves expressions whose value is not known yet.
func (d *Deployment) Body(r *Resource, rt Runtime, keep bool) (map[string]any, error) {
	s := &scope{d: d, loops: r.loops, rt: rt, keep: keep}
	m := withoutNames(r.whole)
	var nested any
	if r.Nested != nil {
		props, err := foldNested(m["properties"].(map[string]any))
		if err != nil {
			return nil, invalid(err)
		}
		nested = props["template"]
		delete(props, "template")
		m["properties"] = props
	}
	v, err := s.tree(m)
	if err == nil {
		err = s.made(v)
	}
	if err != nil {
		if errors.Is(err, ErrUnknown) {
			return nil, err
		}
		return nil, invalid(fmt.Errorf("unable to process template language expressions for resource '%s': %w", r.ID, err))
	}
	body := v.(map[string]any)
	if r.Nested != nil {
		body["properties"].(map[string]any)["template"] = nested
	}
	return body, nil
}
