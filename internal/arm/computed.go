package arm

import (
	"slices"
	"strings"
)

// withComputed gives next what the resource is shown with and nobody stores: it
// stays what it is when next is written. shown is the resource as it is shown
// now, stored as it was written; next changes.
func withComputed(shown, stored, next map[string]any) {
	for k, was := range shown {
		kept, isStored := stored[k]
		now, isNext := next[k]
		switch {
		case !isNext && !isStored:
			next[k] = was
		case isNext:
			next[k] = computedIn(was, kept, now)
		}
	}
}

func computedIn(shown, stored, next any) any {
	switch now := next.(type) {
	case map[string]any:
		if was, ok := shown.(map[string]any); ok {
			kept, _ := stored.(map[string]any)
			withComputed(was, kept, now)
		}
	case []any:
		was, ok := shown.([]any)
		if !ok {
			return now
		}
		kept, isStored := stored.([]any)
		if !isStored { // in an order that is nobody's
			now = inOrderOf(was, now)
		}
		for i, x := range now {
			if one := sameEntry(was, now, i); one != nil {
				now[i] = computedIn(one, sameEntry(kept, now, i), x)
			}
		}
		return now
	}
	return next
}

// sameEntry is the element of list that list's element i is later: the one of
// its name, or, where elements have no names, at its place. Only objects have
// something that is computed.
func sameEntry(list, next []any, i int) any {
	name := entryName(next[i])
	for j, x := range list {
		if _, ok := x.(map[string]any); ok && (name != "" && strings.EqualFold(entryName(x), name) || name == "" && j == i) {
			return x
		}
	}
	return nil
}

func entryName(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// inOrderOf is next with the elements of was first, in their order.
func inOrderOf(was, next []any) []any {
	at := func(x any) int {
		i := slices.IndexFunc(was, func(w any) bool { return entryName(x) != "" && strings.EqualFold(entryName(w), entryName(x)) })
		if i < 0 {
			return len(was)
		}
		return i
	}
	out := slices.Clone(next)
	slices.SortStableFunc(out, func(a, b any) int { return at(a) - at(b) })
	return out
}
