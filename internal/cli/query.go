package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	jmespath "github.com/jmespath-community/go-jmespath"
	"github.com/jmespath-community/go-jmespath/pkg/functions"
	"github.com/jmespath-community/go-jmespath/pkg/interpreter"
	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

// orderKey is a member that a projection {A: a, B: b} carries while a query
// runs: the keys in the order written, which tsv and table keep.
const orderKey = "\x00order"

// ordered is an object whose members are printed in a given order by tsv and
// table; json and yaml sort them all the same.
type ordered struct {
	keys   []string
	values object
}

// query is a compiled JMESPath expression.
type query struct {
	node   parsing.ASTNode
	caller interpreter.FunctionCaller
}

// compileQuery parses a JMESPath expression (jmespath.org).
func compileQuery(expr string) (*query, error) {
	node, err := jmespath.NewParser().Parse(plainLiterals(expr))
	if err != nil {
		return nil, fmt.Errorf("parse query: %w", err)
	}
	fs := append(functions.GetDefaultFunctions(), overrides()...)
	return &query{node: rewrite(node), caller: interpreter.NewFunctionCaller(fs...)}, nil
}

// plainLiterals turns `text` into `"text"`: old documents write literals so,
// and Python's engine still takes them.
func plainLiterals(expr string) string {
	var b strings.Builder
	for i := 0; i < len(expr); {
		q := expr[i]
		end := i + 1
		if q == '\'' || q == '"' || q == '`' {
			for end < len(expr) && expr[end] != q {
				if expr[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end+1, len(expr))
		}
		part := expr[i:end]
		if q == '`' && len(part) > 1 && !json.Valid([]byte(strings.ReplaceAll(part[1:len(part)-1], "\\`", "`"))) {
			if quoted, err := json.Marshal(strings.TrimLeft(part[1:len(part)-1], " ")); err == nil {
				part = "`" + string(quoted) + "`"
			}
		}
		b.WriteString(part)
		i = end
	}
	return b.String()
}

// run evaluates the query. Projections in the result are *ordered.
func (q *query) run(v any) (any, error) {
	in := fromNumbers(v)
	out, err := interpreter.NewInterpreter(in, q.caller, nil).Execute(q.node, in)
	if err != nil {
		return nil, failf("query failed: %s", err)
	}
	return toOrdered(out), nil
}

// rewrite makes each projection remember its order and each object wildcard
// come in the order of keys.
func rewrite(n parsing.ASTNode) parsing.ASTNode {
	n.Children = slices.Clone(n.Children)
	for i := range n.Children {
		n.Children[i] = rewrite(n.Children[i])
	}
	switch n.NodeType {
	case parsing.ASTMultiSelectHash:
		var keys []string
		for _, c := range n.Children {
			keys = append(keys, c.Value.(string))
		}
		n.Children = append(n.Children, parsing.ASTNode{
			NodeType: parsing.ASTKeyValPair, Value: orderKey,
			Children: []parsing.ASTNode{{NodeType: parsing.ASTLiteral, Value: keys}},
		})
	case parsing.ASTValueProjection:
		values := parsing.ASTNode{NodeType: parsing.ASTFunctionExpression, Value: "\x00values", Children: n.Children[:1]}
		n = parsing.ASTNode{NodeType: parsing.ASTProjection, Children: []parsing.ASTNode{values, n.Children[1]}}
	}
	return n
}

func sortedKeys(m object) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		if k != orderKey {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	return keys
}

// memberKeys are m's keys in the order of its projection, else sorted.
func memberKeys(m object) []string {
	first, _ := m[orderKey].([]string)
	keys := make([]string, 0, len(m))
	for _, k := range first {
		if _, ok := m[k]; ok && !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	for _, k := range sortedKeys(m) {
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// overrides are the functions that would see orderKey, or that give members
// in a random order.
func overrides() []functions.FunctionEntry {
	object1 := []functions.ArgSpec{{Types: []functions.JpType{functions.JpObject}}}
	entries := []functions.FunctionEntry{
		{Name: "keys", Arguments: object1, Handler: jmesKeys},
		{Name: "values", Arguments: object1, Handler: jmesValues},
		{Name: "\x00values", Handler: func(a []any) (any, error) {
			if _, ok := a[0].(object); !ok {
				return nil, nil
			}
			return jmesValues(a)
		}},
		{Name: "length", Arguments: []functions.ArgSpec{{Types: []functions.JpType{
			functions.JpString, functions.JpArray, functions.JpObject}}}, Handler: nil},
		{Name: "to_string", Arguments: []functions.ArgSpec{{Types: []functions.JpType{functions.JpAny}}}, Handler: jmesToString},
	}
	for _, f := range functions.GetDefaultFunctions() {
		if f.Name == "length" {
			entries[3].Handler = func(a []any) (any, error) {
				if m, ok := a[0].(object); ok {
					return float64(len(sortedKeys(m))), nil
				}
				return f.Handler(a)
			}
		}
	}
	return entries
}

func jmesKeys(a []any) (any, error) {
	out := []any{}
	for _, k := range memberKeys(a[0].(object)) {
		out = append(out, k)
	}
	return out, nil
}

func jmesValues(a []any) (any, error) {
	m := a[0].(object)
	out := []any{}
	for _, k := range memberKeys(m) {
		out = append(out, m[k])
	}
	return out, nil
}

func jmesToString(a []any) (any, error) {
	if s, ok := a[0].(string); ok {
		return s, nil
	}
	b, err := json.Marshal(plain(toOrdered(a[0])))
	if err != nil {
		return nil, fmt.Errorf("to_string: %w", err)
	}
	return string(b), nil
}

// fromNumbers gives a copy in which numbers that a float64 holds exactly are
// float64, as the query engine wants. Greater integers stay as written.
func fromNumbers(v any) any {
	switch t := v.(type) {
	case json.Number:
		if f, err := t.Float64(); err == nil && exact(f, t.String()) {
			return f
		}
		return t
	case []any:
		out := make([]any, len(t))
		for i := range t {
			out[i] = fromNumbers(t[i])
		}
		return out
	case object:
		out := make(object, len(t))
		for k := range t {
			out[k] = fromNumbers(t[k])
		}
		return out
	}
	return v
}

func exact(f float64, s string) bool {
	if strings.ContainsAny(s, ".eE") {
		return !math.IsInf(f, 0)
	}
	return strconv.FormatFloat(f, 'f', -1, 64) == s && math.Abs(f) <= 1<<53
}

// toOrdered turns objects with an orderKey into *ordered, at any depth.
func toOrdered(v any) any {
	switch t := v.(type) {
	case []any:
		out := make([]any, len(t))
		for i := range t {
			out[i] = toOrdered(t[i])
		}
		return out
	case []string:
		out := make([]any, len(t))
		for i := range t {
			out[i] = t[i]
		}
		return out
	case object:
		_, isOrdered := t[orderKey]
		keys := memberKeys(t)
		m := make(object, len(t))
		for _, k := range keys {
			m[k] = toOrdered(t[k])
		}
		if isOrdered {
			return &ordered{keys: keys, values: m}
		}
		return m
	}
	return v
}

// plain turns *ordered back into objects, at any depth.
func plain(v any) any {
	switch t := v.(type) {
	case *ordered:
		return plain(t.values)
	case []any:
		out := make([]any, len(t))
		for i := range t {
			out[i] = plain(t[i])
		}
		return out
	case object:
		out := make(object, len(t))
		for k := range t {
			out[k] = plain(t[k])
		}
		return out
	}
	return v
}
