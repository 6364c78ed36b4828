package rbac

import "strings"

// Under reports whether any of the principals has an assignment at the scope,
// above it, or below it: whether it has any business there. That alone allows
// no action.
func (e *Engine) Under(principals []string, scope string) bool {
	key := scopeKey(scope)
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, p := range principals {
		for at, list := range e.byPrincipal[strings.ToLower(p)] {
			if len(list) > 0 && (covers(at, key) || covers(key, at)) {
				return true
			}
		}
	}
	return false
}

// covers reports that scope b is a or lies below it; both in lower case.
func covers(a, b string) bool {
	return strings.HasPrefix(b, a) && (len(a) == len(b) || a == "" || b[len(a)] == '/')
}
