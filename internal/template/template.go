// Package template reads Azure Resource Manager templates: it parses them,
// binds parameters, evaluates expressions, and says which resources there are
// and in which order they come. It is pure: what a template asks about the
// world (reference, list…) it asks a [Runtime], and nothing here speaks HTTP
// or keeps anything.
//
// Sources: "Understand the structure and syntax of ARM templates" and "ARM
// template functions" of Azure's documentation.
package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/strictjson"
)

// Azure's limits. Source: "Azure subscription limits", template limits, and
// "Template copy" (count).
const (
	MaxTemplate   = 4 << 20 // bytes
	maxParameters = 256
	maxVariables  = 256
	maxOutputs    = 64
	maxResources  = 800
	maxCopies     = 800
	maxExpression = 24576 // characters
	maxNesting    = 100   // of JSON, and of expressions
)

// Template is a parsed template; nothing of it has been evaluated.
type Template struct {
	Schema         string
	ContentVersion string
	symbols        bool // languageVersion 2.0: resources have symbolic names
	subscription   bool

	parameters map[string]*declaration // by lower-case name
	variables  map[string]any
	functions  map[string]*function // by lower-case namespace.name
	resources  []declared
	outputs    map[string]map[string]any
	types      map[string]map[string]any // definitions of languageVersion 2.0
}

// declaration is one parameter.
type declaration struct {
	name string
	m    map[string]any // folded: type, defaultValue, allowedValues, …
}

// function is one of the user's own.
type function struct {
	name       string
	parameters []string
	value      any
}

// declared is one resource as it is written.
type declared struct {
	symbol string
	m      map[string]any
}

var schemaPattern = regexp.MustCompile(`(?i)^https?://schema\.management\.azure\.com/schemas/(\d{4}-\d{2}-\d{2})(?:-preview)?/([A-Za-z]*deploymentTemplate)\.json#?$`)

// Parse reads a template. Errors are of code InvalidTemplate.
func Parse(b []byte) (*Template, error) {
	t, err := parse(b)
	if err != nil {
		return nil, invalid(err)
	}
	return t, nil
}

// invalid is Azure's refusal of a template.
func invalid(err error) error {
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		return e
	}
	return apierr.New(apierr.BadRequest, "InvalidTemplate", "Deployment template validation failed: '%s'.", strings.TrimSuffix(err.Error(), "."))
}

func parse(b []byte) (*Template, error) {
	if len(b) > MaxTemplate {
		return nil, apierr.New(apierr.BadRequest, "InvalidTemplate", "The template is larger than %d bytes.", MaxTemplate)
	}
	raw, err := strictjson.Object(b, maxNesting)
	if err != nil {
		return nil, fmt.Errorf("the template is not valid JSON: %w", err)
	}
	m, err := known("", plain(raw).(map[string]any), "$schema", "contentVersion", "apiProfile", "languageVersion", "metadata", "definitions",
		"parameters", "variables", "functions", "resources", "outputs", "imports", "extensions", "extensionConfigs")
	if err != nil {
		return nil, err
	}
	t := &Template{parameters: map[string]*declaration{}, functions: map[string]*function{}, outputs: map[string]map[string]any{}, types: map[string]map[string]any{}}
	for _, step := range []func(map[string]any) error{t.head, t.readParameters, t.readVariables, t.readFunctions, t.readResources, t.readOutputs} {
		if err := step(m); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Template) head(m map[string]any) error {
	t.Schema, _ = m["$schema"].(string)
	found := schemaPattern.FindStringSubmatch(t.Schema)
	if found == nil {
		return fmt.Errorf("the template's '$schema' '%s' is missing or unknown; expected is 'https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#' or the one of subscription deployments", t.Schema)
	}
	switch strings.ToLower(found[2]) {
	case "deploymenttemplate":
	case "subscriptiondeploymenttemplate":
		t.subscription = true
	default:
		return fmt.Errorf("templates of the schema '%s' are not supported: there are deployments to resource groups and to subscriptions", found[2])
	}
	if t.ContentVersion, _ = m["contentVersion"].(string); t.ContentVersion == "" {
		return fmt.Errorf("the template's 'contentVersion' is missing")
	}
	for _, name := range []string{"apiProfile", "imports", "extensions", "extensionConfigs"} {
		if v, ok := m[name]; ok && v != "" && v != nil {
			return fmt.Errorf("the template member '%s' is not supported", name)
		}
	}
	switch v := m["languageVersion"]; v {
	case nil, "1.0":
	case "2.0":
		t.symbols = true
	default:
		return fmt.Errorf("the template language version '%v' is not supported: there are '1.0' and '2.0'", v)
	}
	defs, err := objectAt(m, "definitions")
	for name, v := range defs {
		d, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("the definition '%s' must be an object", name)
		}
		t.types[strings.ToLower(name)] = d
	}
	return err
}

func (t *Template) readParameters(m map[string]any) error {
	list, err := objectAt(m, "parameters")
	if err != nil {
		return err
	}
	if len(list) > maxParameters {
		return fmt.Errorf("the template has %d parameters; at most %d are allowed", len(list), maxParameters)
	}
	for _, name := range sortedKeys(list) {
		d, err := t.declaration(name, list[name])
		if err != nil {
			return err
		}
		if t.parameters[strings.ToLower(name)] != nil {
			return fmt.Errorf("the template parameter '%s' is there twice", name)
		}
		t.parameters[strings.ToLower(name)] = d
	}
	return nil
}

func (t *Template) declaration(name string, v any) (*declaration, error) {
	p, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the template parameter '%s' must be an object", name)
	}
	for n := 0; ; n++ { // a reference to a definition
		ref, ok := p["$ref"].(string)
		if !ok {
			break
		}
		to := t.types[strings.ToLower(strings.TrimPrefix(ref, "#/definitions/"))]
		if to == nil || n > 16 {
			return nil, fmt.Errorf("the template parameter '%s' refers to '%s', which is not defined", name, ref)
		}
		merged := map[string]any{}
		for k, x := range to {
			merged[k] = x
		}
		for k, x := range p {
			if k != "$ref" {
				merged[k] = x
			}
		}
		p = merged
	}
	p, err := known("template parameter '"+name+"'", p, "type", "defaultValue", "allowedValues", "minValue", "maxValue", "minLength", "maxLength", "metadata",
		"nullable", "items", "properties", "additionalProperties", "discriminator", "prefixItems", "sealed")
	if err != nil {
		return nil, err
	}
	typ, _ := p["type"].(string)
	if !slices.Contains([]string{"string", "securestring", "int", "bool", "object", "secureobject", "array"}, strings.ToLower(typ)) {
		return nil, fmt.Errorf("the template parameter '%s' has the type '%v'; expected is one of 'String, SecureString, Int, Bool, Object, SecureObject, Array'", name, p["type"])
	}
	return &declaration{name: name, m: p}, nil
}

func (t *Template) readVariables(m map[string]any) error {
	list, err := objectAt(m, "variables")
	if len(list) > maxVariables {
		return fmt.Errorf("the template has %d variables; at most %d are allowed", len(list), maxVariables)
	}
	t.variables = map[string]any{}
	for _, name := range sortedKeys(list) {
		if list, ok := list[name].([]any); ok && strings.EqualFold(name, "copy") {
			for _, c := range list {
				n, _, _, err := copyOf(c)
				if err != nil {
					return fmt.Errorf("variables: %w", err)
				}
				t.variables[strings.ToLower(n)] = map[string]any{"copy": []any{c}}
			}
			continue
		}
		t.variables[strings.ToLower(name)] = list[name]
	}
	return err
}

func (t *Template) readFunctions(m map[string]any) error {
	list, ok := m["functions"].([]any)
	if !ok && m["functions"] != nil {
		return fmt.Errorf("the template's 'functions' must be an array")
	}
	for _, ns := range list {
		o, _ := ns.(map[string]any)
		space, _ := o["namespace"].(string)
		members, ok := o["members"].(map[string]any)
		if !ok || space == "" {
			return fmt.Errorf("a member of the template's 'functions' needs 'namespace' and 'members'")
		}
		for _, name := range sortedKeys(members) {
			f, err := readFunction(space+"."+name, members[name])
			if err != nil {
				return err
			}
			t.functions[strings.ToLower(space+"."+name)] = f
		}
	}
	return nil
}

func readFunction(name string, v any) (*function, error) {
	o, _ := v.(map[string]any)
	out, ok := o["output"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the user function '%s' needs an 'output' with 'type' and 'value'", name)
	}
	f := &function{name: name, value: out["value"]}
	params, _ := o["parameters"].([]any)
	for _, p := range params {
		pm, _ := p.(map[string]any)
		n, _ := pm["name"].(string)
		if n == "" {
			return nil, fmt.Errorf("a parameter of the user function '%s' has no name", name)
		}
		f.parameters = append(f.parameters, strings.ToLower(n))
	}
	return f, nil
}

func (t *Template) readResources(m map[string]any) error {
	switch list := m["resources"].(type) {
	case nil:
		if m["resources"] == nil && !t.symbols {
			if _, there := m["resources"]; !there {
				return fmt.Errorf("the template's 'resources' is missing")
			}
		}
	case []any:
		if t.symbols {
			return fmt.Errorf("in language version 2.0 the template's 'resources' is an object of symbolic names")
		}
		for i, v := range list {
			r, ok := v.(map[string]any)
			if !ok {
				return fmt.Errorf("the template resource at index %d must be an object", i)
			}
			t.resources = append(t.resources, declared{m: r})
		}
	case map[string]any:
		if !t.symbols {
			return fmt.Errorf("the template's 'resources' must be an array; symbolic names need 'languageVersion': '2.0'")
		}
		for _, name := range sortedKeys(list) {
			r, ok := list[name].(map[string]any)
			if !ok {
				return fmt.Errorf("the template resource '%s' must be an object", name)
			}
			t.resources = append(t.resources, declared{symbol: name, m: r})
		}
	default:
		return fmt.Errorf("the template's 'resources' must be an array")
	}
	return nil
}

// secure reports whether a declaration has a secure type anywhere in it, also in a
// definition that it refers to: then all of its value is.
func (t *Template) secure(v any, depth int) bool {
	if depth > maxTypeDepth {
		return true
	}
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, func(x any) bool { return t.secure(x, depth+1) })
	case map[string]any:
		for k, x := range v {
			if text, ok := x.(string); ok {
				if strings.EqualFold(k, "type") && strings.HasPrefix(strings.ToLower(text), "secure") {
					return true
				}
				if strings.EqualFold(k, "$ref") && t.secure(t.types[strings.ToLower(strings.TrimPrefix(text, "#/definitions/"))], depth+1) {
					return true
				}
			} else if t.secure(x, depth+1) {
				return true
			}
		}
	}
	return false
}

// maxTypeDepth is how deep types are looked into; a type that refers to itself
// goes on for ever, and is taken as secure.
const maxTypeDepth = 32

func (t *Template) readOutputs(m map[string]any) error {
	list, err := objectAt(m, "outputs")
	if len(list) > maxOutputs {
		return fmt.Errorf("the template has %d outputs; at most %d are allowed", len(list), maxOutputs)
	}
	for _, name := range sortedKeys(list) {
		o, ok := list[name].(map[string]any)
		if !ok {
			return fmt.Errorf("the template output '%s' must be an object", name)
		}
		if o, err = known("template output '"+name+"'", o, "type", "value", "condition", "copy", "metadata", "$ref", "items", "nullable",
			"properties", "additionalProperties", "minLength", "maxLength", "minValue", "maxValue", "allowedValues", "discriminator", "prefixItems"); err != nil {
			return err
		}
		t.outputs[name] = o
	}
	return err
}

// known folds the names of an object's members and refuses others.
func known(where string, m map[string]any, names ...string) (map[string]any, error) {
	out := map[string]any{}
	for _, k := range sortedKeys(m) {
		i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, k) })
		if i < 0 {
			if where == "" {
				where = "template"
			}
			return nil, fmt.Errorf("the %s has the unknown member '%s'", where, k)
		}
		if _, twice := out[names[i]]; twice {
			return nil, fmt.Errorf("the member '%s' is there twice, in different letter case", k)
		}
		out[names[i]] = m[k]
	}
	return out, nil
}

func objectAt(m map[string]any, name string) (map[string]any, error) {
	switch v := m[name].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	default:
		return nil, fmt.Errorf("the template's '%s' must be an object", name)
	}
}

// Canonical is the template without spaces and with its members in order: what
// its hash is taken of.
func Canonical(template []byte) ([]byte, error) {
	m, err := strictjson.Object(template, maxNesting)
	if err != nil {
		return nil, invalid(fmt.Errorf("the template is not valid JSON: %w", err))
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	return b, nil
}
