package rbac

import (
	"slices"
	"strings"
)

// LeastRole gives the name of the narrowest built-in role that allows a data
// action or, when none does, an action; false when no role but the broad ones does.
func LeastRole(action string) (string, bool) {
	for _, data := range []bool{true, false} {
		best, width := "", 0
		for _, d := range BuiltIn() {
			if w, ok := d.width(action, data); ok && (best == "" || w < width) {
				best, width = d.Name, w
			}
		}
		if best != "" {
			return best, true
		}
	}
	return "", false
}

// width says how much a role allows, if it allows the action: what its widest
// pattern leaves open counts most, then how many patterns there are.
func (d Definition) width(action string, data bool) (int, bool) {
	widest, count, allowed := 0, 0, false
	for _, p := range d.Permissions {
		yes, no := p.Actions, p.NotActions
		if data {
			yes, no = p.DataActions, p.NotDataActions
		}
		fits := func(pattern string) bool { return Match(pattern, action) }
		if slices.ContainsFunc(yes, fits) && !slices.ContainsFunc(no, fits) {
			allowed = true
		}
		count += len(yes)
		for _, a := range yes {
			if n := strings.IndexByte(a, '*'); n >= 0 {
				widest = max(widest, 1000-n)
			}
		}
	}
	return widest*1000 + count, allowed
}
