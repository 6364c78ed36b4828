package cli

import (
	"slices"
	"strconv"
	"strings"
)

// The generic update arguments of az: --set a.b[0].c=v, --add list k=v,
// --remove a.b [index]. Paths name members; [0] indexes; [name=x] picks.

// applyGeneric changes o by the options in the order typed.
func (c *call) applyGeneric(o object) error {
	for _, op := range c.args.ops {
		var err error
		switch op.verb {
		case "set":
			for _, pair := range op.values {
				if err = c.setPath(o, pair); err != nil {
					break
				}
			}
		case "add":
			err = c.addPath(o, op.values)
		case "remove":
			err = removePath(o, op.values)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// steps splits "a.b[0]['x.y']" into "a", "b", "[0]", "x.y".
func steps(path string) []string {
	var out []string
	var cur strings.Builder
	flush := func() {
		if cur.Len() > 0 {
			out = append(out, cur.String())
			cur.Reset()
		}
	}
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '.':
			flush()
		case '[':
			flush()
			end := strings.IndexByte(path[i:], ']')
			if end < 0 {
				cur.WriteString(path[i:])
				i = len(path)
				break
			}
			inner := path[i+1 : i+end]
			if q := strings.Trim(inner, `'"`); q != inner {
				out = append(out, q)
			} else {
				out = append(out, "["+inner+"]")
			}
			i += end
		default:
			cur.WriteByte(path[i])
		}
	}
	flush()
	return out
}

// walk goes to the value that holds the last step, making objects on the way
// where make is set.
func walk(o object, path []string, create bool) (any, string, error) {
	var cur any = o
	for _, s := range path[:max(len(path)-1, 0)] {
		next, err := child(cur, s)
		if err != nil {
			return nil, "", err
		}
		if next == nil && create {
			if m, ok := cur.(object); ok {
				next = object{}
				m[s] = next
			}
		}
		if next == nil {
			return nil, "", failf("Couldn't find '%s' in '%s'.", s, strings.Join(path, "."))
		}
		cur = next
	}
	if len(path) == 0 {
		return nil, "", usagef("an empty path")
	}
	return cur, path[len(path)-1], nil
}

func child(v any, step string) (any, error) {
	switch t := v.(type) {
	case object:
		return t[step], nil
	case []any:
		i, err := index(t, step)
		if err != nil {
			return nil, err
		}
		return t[i], nil
	}
	return nil, failf("Couldn't find '%s': its parent is neither an object nor a list.", step)
}

// index finds the element of "[2]" or "[name=x]".
func index(l []any, step string) (int, error) {
	inner := strings.TrimSuffix(strings.TrimPrefix(step, "["), "]")
	if n, err := strconv.Atoi(inner); err == nil {
		if n < 0 {
			n += len(l)
		}
		if n >= 0 && n < len(l) {
			return n, nil
		}
		return 0, failf("index %s doesn't exist", inner)
	}
	k, want, ok := strings.Cut(inner, "=")
	i := slices.IndexFunc(l, func(e any) bool { return ok && scalar(at(e, k), "None", "true", "false") == strings.Trim(want, `'"`) })
	if i < 0 {
		return 0, failf("no item matched '%s'", inner)
	}
	return i, nil
}

// typed reads v as JSON unless --force-string; what isn't JSON is text.
func (c *call) typed(v string) any {
	if c.flag("force-string") {
		return v
	}
	switch strings.ToLower(v) {
	case "true":
		return true
	case "false":
		return false
	case "null", "none":
		return nil
	}
	if j, err := decode([]byte(v)); err == nil && v != "" {
		return j
	}
	return strings.Trim(v, `'`)
}

func (c *call) setPath(o object, pair string) error {
	path, v, ok := strings.Cut(pair, "=")
	if strings.Contains(path, "[") && !strings.Contains(path, "]") { // [name=x].y=v
		if i := strings.Index(pair, "]"); i > 0 {
			if j := strings.IndexByte(pair[i:], '='); j > 0 {
				path, v = pair[:i+j], pair[i+j+1:]
			}
		}
	}
	if !ok {
		return usagef("usage error: --set property1.property2=value")
	}
	where, last, err := walk(o, steps(path), true)
	if err != nil {
		return err
	}
	val := c.typed(v)
	if steps(path)[0] == "tags" && last != "tags" {
		val = v // tags are text
	}
	switch t := where.(type) {
	case object:
		t[last] = val
	case []any:
		i, err := index(t, last)
		if err != nil {
			return err
		}
		t[i] = val
	default:
		return failf("Couldn't set '%s': its parent is neither an object nor a list.", last)
	}
	return nil
}

func (c *call) addPath(o object, values []string) error {
	where, last, err := walk(o, steps(values[0]), true)
	if err != nil {
		return err
	}
	m, ok := where.(object)
	l, isList := []any(nil), false
	if ok {
		l, isList = m[last].([]any)
	}
	if !ok || m[last] != nil && !isList || len(values) < 2 {
		return usagef("usage error: --add property.listProperty <key=value, string or JSON string>")
	}
	fields := object{}
	for _, v := range values[1:] {
		k, val, isPair := strings.Cut(v, "=")
		if isPair && !strings.HasPrefix(strings.TrimSpace(v), "{") {
			fields[k] = c.typed(val)
		} else {
			l = append(l, c.typed(v))
		}
	}
	if len(fields) > 0 {
		l = append(l, fields)
	}
	m[last] = l
	return nil
}

func removePath(o object, values []string) error {
	path := steps(values[0])
	if len(values) > 1 {
		path = append(path, "["+values[1]+"]")
	}
	where, last, err := walk(o, path, false)
	if err != nil {
		return err
	}
	switch t := where.(type) {
	case object:
		if _, ok := t[last]; !ok {
			return failf("Couldn't find '%s' in '%s'.", last, values[0])
		}
		delete(t, last)
	case []any:
		i, err := index(t, last)
		if err != nil {
			return err
		}
		holder, name, err := walk(o, path[:len(path)-1], false)
		if m, ok := holder.(object); ok && err == nil {
			m[name] = slices.Delete(slices.Clone(t), i, i+1)
		}
		return err
	}
	return nil
}
