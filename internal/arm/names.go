package arm

import (
	"encoding/json"
	"reflect"
	"strings"

	"lazurite.dev/internal/apierr"
)

// names are the property names that a type knows, by lower-case name. Clients
// may write them in any letter case, as Azure allows; they are stored and
// shown as documented. Were two spellings of one name kept side by side, what
// the type's hooks judged could differ from what is shown.
type names struct {
	as    string            // as documented
	below map[string]*names // nil when nothing below is known
}

// namesOf collects the names of a property type and of dotted paths.
func namesOf(t reflect.Type, paths ...[]string) *names {
	n := typeNames(t, map[reflect.Type]*names{})
	for _, list := range paths {
		for _, p := range list {
			at := n
			for seg := range strings.SplitSeq(p, ".") {
				if at.below == nil {
					at.below = map[string]*names{}
				}
				next := at.below[strings.ToLower(seg)]
				if next == nil {
					next = &names{as: seg}
					at.below[strings.ToLower(seg)] = next
				}
				at = next
			}
		}
	}
	return n
}

func typeNames(t reflect.Type, seen map[reflect.Type]*names) *names {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	n := &names{}
	if t.Kind() != reflect.Struct {
		return n
	}
	if old := seen[t]; old != nil {
		return &names{below: old.below}
	}
	n.below = map[string]*names{}
	seen[t] = n
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if f.Anonymous && name == "" {
			for k, v := range typeNames(f.Type, seen).below {
				n.below[k] = v
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		n.below[strings.ToLower(name)] = &names{as: name, below: typeNames(f.Type, seen).below}
	}
	return n
}

// folded is a key as encoding/json compares it with names: it takes ſ for s.
func folded(key string) string { return strings.ReplaceAll(strings.ToLower(key), "ſ", "s") }

// fold renames the known keys in v, at any depth.
func (n *names) fold(v any, path string) error {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			if err := n.fold(x, path); err != nil {
				return err
			}
		}
	case map[string]any:
		for k, x := range v {
			known := n.below[folded(k)]
			if known == nil {
				continue
			}
			if k != known.as {
				if _, twice := v[known.as]; twice {
					return errTwice(path + "." + known.as)
				}
				delete(v, k)
				v[known.as] = x
			}
			if err := known.fold(x, path+"."+known.as); err != nil {
				return err
			}
		}
	}
	return nil
}

func errTwice(path string) error {
	return apierr.New(apierr.BadRequest, "InvalidRequestContent",
		"The request content was invalid: '%s' is there twice, in different letter case.", path).WithTarget(path)
}

// foldTop renames the known members of a resource.
func foldTop(m map[string]json.RawMessage) error {
	for k, v := range m {
		for _, as := range []string{
			"id", "name", "type", "location", "tags", "properties", "systemData", "etag",
			"identity", "sku", "kind", "plan", "zones", "managedBy", "extendedLocation",
		} {
			if k == as || !strings.EqualFold(k, as) {
				continue
			}
			if _, twice := m[as]; twice {
				return errTwice(as)
			}
			delete(m, k)
			m[as] = v
		}
	}
	return nil
}
