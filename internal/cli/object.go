package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"
)

// object is a JSON object. Numbers in it are json.Number, so that they are
// printed as they came.
type object = map[string]any

// decode reads JSON and keeps its numbers as written.
func decode(b []byte) (any, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("read the server's answer: %w", err)
	}
	return v, nil
}

// at follows keys into nested objects; nil where one is missing.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, ok := v.(object)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

func textAt(v any, keys ...string) string {
	s, _ := at(v, keys...).(string)
	return s
}

// sub gives o[key] as an object, making it where it is missing or null.
func sub(o object, key string) object {
	m, ok := o[key].(object)
	if !ok {
		m = object{}
		o[key] = m
	}
	return m
}

func items(v any) []any {
	l, _ := v.([]any)
	return l
}

// withNulls adds the keys that are missing, as az's models print them.
func withNulls(v any, keys ...string) any {
	if m, ok := v.(object); ok {
		for _, k := range keys {
			if _, has := m[k]; !has {
				m[k] = nil
			}
		}
	}
	return v
}

// pythonTimes rewrites the times under keys as az prints those that its clients
// know for times: as Python's datetime.isoformat does, in microseconds.
func pythonTimes(v any, keys ...string) any {
	m, ok := v.(object)
	if !ok {
		return v
	}
	for _, k := range keys {
		s, _ := m[k].(string)
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			continue
		}
		layout := "2006-01-02T15:04:05.000000+00:00"
		t = t.UTC().Truncate(time.Microsecond)
		if t.Nanosecond() == 0 {
			layout = "2006-01-02T15:04:05+00:00"
		}
		m[k] = t.Format(layout)
	}
	return v
}

// flatten lifts the members of properties to the top, as az prints the types
// whose client does so.
func flatten(v any, nulls ...string) any {
	m, ok := v.(object)
	if !ok {
		return v
	}
	props, _ := m["properties"].(object)
	out := maps.Clone(m)
	delete(out, "properties")
	for k, p := range props {
		if _, taken := m[k]; !taken {
			out[k] = p
		}
	}
	return withNulls(out, nulls...)
}

func each(v []any, f func(any) any) []any {
	out := make([]any, len(v))
	for i := range v {
		out[i] = f(v[i])
	}
	return out
}

// withoutNil drops members that are nil or an empty string: what a request
// leaves to the server.
func withoutNil(o object) object {
	for k, v := range o {
		if v == nil || v == "" {
			delete(o, k)
		}
	}
	return o
}

// setIf sets o[key] when the option was given.
func (c *call) setIf(o object, key, option string) {
	if !c.given(option) {
		return
	}
	switch c.defs[option].kind {
	case flag, boolean:
		o[key] = c.flag(option)
	case number:
		o[key] = c.number(option)
	case list:
		o[key] = c.many(option)
	case pairs:
		o[key] = c.pairs(option)
	default:
		o[key] = c.text(option)
	}
}

func groupInID() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/([^/]+)/`)
}

// addGroups adds resourceGroup beside every id that is in one, at any depth,
// as az does with all it prints.
func addGroups(v any) any { return addGroupsBy(groupInID(), v) }

func addGroupsBy(re *regexp.Regexp, v any) any {
	switch t := v.(type) {
	case []any:
		for i := range t {
			t[i] = addGroupsBy(re, t[i])
		}
	case object:
		for k := range t {
			t[k] = addGroupsBy(re, t[k])
		}
		if id, ok := t["id"].(string); ok {
			if _, has := t["resourceGroup"]; !has {
				if m := re.FindStringSubmatch(id); m != nil {
					t["resourceGroup"] = m[1]
				}
			}
		}
	}
	return v
}

// normal turns Go values that a command returned into the few types that are
// printed: object, []any, string, bool, json.Number, float64, nil.
func normal(v any) (any, error) {
	switch t := v.(type) {
	case nil, string, bool, json.Number, float64:
		return v, nil
	case int:
		return json.Number(fmt.Sprint(t)), nil
	case []any:
		for i := range t {
			n, err := normal(t[i])
			if err != nil {
				return nil, err
			}
			t[i] = n
		}
		return t, nil
	case object:
		for k := range t {
			n, err := normal(t[k])
			if err != nil {
				return nil, err
			}
			t[k] = n
		}
		return t, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("render the answer: %w", err)
	}
	return decode(b)
}

func lastSegment(s string) string {
	s = strings.TrimSuffix(s, "/")
	return s[strings.LastIndexByte(s, '/')+1:]
}
