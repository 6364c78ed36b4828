package arm

import (
	"strings"
)

// endpoints finds the Endpoint for a path. Few enough to walk.
type endpoints struct {
	list []Endpoint
	segs [][]string
}

func (t *endpoints) add(e Endpoint) {
	t.list = append(t.list, e)
	t.segs = append(t.segs, strings.Split(strings.Trim(e.Path, "/"), "/"))
}

// find gives the endpoint for method and path. known is true when the path is
// an endpoint's under any method.
func (t *endpoints) find(method, path string) (e *Endpoint, params map[string]string, known bool) {
	segs := strings.Split(strings.Trim(path, "/"), "/")
	for i := range t.list {
		p, ok := match(t.segs[i], segs)
		if !ok {
			continue
		}
		known = true
		if t.list[i].Method == method {
			return &t.list[i], p, true
		}
	}
	return nil, nil, known
}

// wholeScope is the first segment of a Path that may stand under any scope.
const wholeScope = "scope"

func match(pattern, segs []string) (map[string]string, bool) {
	if pattern[0] == "{"+wholeScope+"...}" {
		n := len(segs) - len(pattern) + 1
		if n < 0 {
			return nil, false
		}
		params, ok := match(pattern[1:], segs[n:])
		if ok {
			params[wholeScope] = "/" + strings.Join(segs[:n], "/")
		}
		return params, ok
	}
	if len(pattern) != len(segs) {
		return nil, false
	}
	for i, p := range pattern {
		if p[:min(1, len(p))] != "{" && !strings.EqualFold(p, segs[i]) || segs[i] == "" && p != "" {
			return nil, false
		}
	}
	params := map[string]string{}
	for i, p := range pattern {
		if strings.HasPrefix(p, "{") {
			params[strings.Trim(p, "{}")] = segs[i]
		}
	}
	return params, true
}
