package template

import "fmt"

// Delta is a change of a property. Source: Deployments - What If,
// WhatIfPropertyChange.
type Delta struct {
	Path     string  `json:"path"`
	Kind     string  `json:"propertyChangeType"` // Create, Delete, Modify or Array
	Before   any     `json:"before"`
	After    any     `json:"after"`
	Children []Delta `json:"children"`
}

// Deltas compares two objects.
func Deltas(before, after map[string]any) []Delta { return deltas("", before, after) }

func deltas(prefix string, before, after map[string]any) []Delta {
	out := []Delta{}
	names := map[string]bool{}
	for k := range before {
		names[k] = true
	}
	for k := range after {
		names[k] = true
	}
	for _, k := range sortedKeys(names) {
		path := k
		if prefix != "" {
			path = prefix + "." + k
		}
		b, had := before[k]
		a, has := after[k]
		switch {
		case !had || b == nil && a != nil:
			if a != nil {
				out = append(out, Delta{Path: path, Kind: "Create", After: a})
			}
		case !has || a == nil && b != nil:
			if b != nil {
				out = append(out, Delta{Path: path, Kind: "Delete", Before: b})
			}
		default:
			out = append(out, changed(path, plain(b), plain(a))...)
		}
	}
	return out
}

func changed(path string, b, a any) []Delta {
	if same(b, a, false) {
		return nil
	}
	bm, ok1 := b.(map[string]any)
	am, ok2 := a.(map[string]any)
	if ok1 && ok2 {
		return deltas(path, bm, am)
	}
	bl, ok1 := b.([]any)
	al, ok2 := a.([]any)
	if ok1 && ok2 {
		return []Delta{{Path: path, Kind: "Array", Before: b, After: a, Children: elements(bl, al)}}
	}
	return []Delta{{Path: path, Kind: "Modify", Before: b, After: a}}
}

// elements compares lists by position.
func elements(b, a []any) []Delta {
	var out []Delta
	for i := range max(len(b), len(a)) {
		path := fmt.Sprint(i)
		switch {
		case i >= len(b):
			out = append(out, Delta{Path: path, Kind: "Create", After: a[i]})
		case i >= len(a):
			out = append(out, Delta{Path: path, Kind: "Delete", Before: b[i]})
		case !same(b[i], a[i], false):
			bm, ok1 := b[i].(map[string]any)
			am, ok2 := a[i].(map[string]any)
			d := Delta{Path: path, Kind: "Modify", Before: b[i], After: a[i]}
			if ok1 && ok2 {
				d.Children = deltas("", bm, am)
			}
			out = append(out, d)
		}
	}
	return out
}
