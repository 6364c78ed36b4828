package cli

import (
	"bytes"
	"strings"
	"testing"
)

// printed runs v through the query and the format, as a command's answer.
func printed(t *testing.T, v, query, format string) string {
	t.Helper()
	var out bytes.Buffer
	val, err := decode([]byte(v))
	if err != nil {
		t.Fatal(err)
	}
	c := &call{session: &session{env: Env{Stdout: &out, IsTerminal: nil}.complete()}, cmd: &command{}, format: format}
	if query != "" {
		if c.query, err = compileQuery(query); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.print(val); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPrint(t *testing.T) {
	const list = `[{"name":"b","id":"x","n":1,"on":true,"none":null,"l":[1,2],"o":{"a":1}},{"name":"é","n":2.5}]`
	for _, tt := range []struct{ name, in, query, format, want string }{
		{"json sorts keys", `{"b":1,"a":{"d":[],"c":{}}}`, "", "json", "{\n  \"a\": {\n    \"c\": {},\n    \"d\": []\n  },\n  \"b\": 1\n}\n"},
		{"json keeps text", `["é<>&\"\\\n\u0001"]`, "", "json", "[\n  \"é<>&\\\"\\\\\\n\\u0001\"\n]\n"},
		{"json keeps numbers", `[12345678901234567890, 1.0, 1e400, -0]`, "", "json", "[\n  12345678901234567890,\n  1.0,\n  1e400,\n  -0\n]\n"},
		{"big integers survive a query", `{"a":[12345678901234567890, 7]}`, "a", "json", "[\n  12345678901234567890,\n  7\n]\n"},
		{"json sorts a projection", `{"x":1,"y":2}`, "{b:x, a:y}", "json", "{\n  \"a\": 2,\n  \"b\": 1\n}\n"},
		{"tsv keeps a projection's order", list, "[].{z:name, a:n}", "tsv", "b\t1\né\t2.5\n"},
		{"tsv keeps it through a pipe", list, "[].{z:name, a:n} | [0]", "tsv", "b\t1\n"},
		{"tsv keeps it through sort_by", list, "sort_by([].{z:name, a:n}, &a)", "tsv", "b\t1\né\t2.5\n"},
		{"tsv of a dict in key order", list, "[0]", "tsv", "x\t2\t1\tb\tNone\t\tTrue\n"},
		{"tsv of scalars", list, "[].name", "tsv", "b\né\n"},
		{"tsv of a boolean", list, "[0].on", "tsv", "true\n"},
		{"tsv of a list of lists", list, "[].[name, on]", "tsv", "b\tTrue\né\tNone\n"},
		{"no match prints nothing", list, "[5].name", "tsv", ""},
		{"no match prints nothing in json", list, "[5].name", "json", ""},
		{"an empty list", `[]`, "[0].name", "tsv", ""},
		{"an empty list in json", `[]`, "", "json", "[]\n"},
		{"wildcards come in key order", `{"b":{"v":2},"a":{"v":1}}`, "*.v", "tsv", "1\n2\n"},
		{"length of a projection", `{"x":1}`, "length({a:x, b:x})", "tsv", "2\n"},
		{"keys of a projection", `{"x":1}`, "keys({b:x, a:x})", "tsv", "b\na\n"},
		{"to_string", `{"x":{"n":1}}`, "to_string(x)", "tsv", "{\"n\":1}\n"},
		{"table", list, "[].{Name:name, N:n}", "table", "Name    N\n------  ---\nb       1\né       2.5\n"},
		{"table without a query", `[{"name":"a","id":"i","type":"t","z":{"q":1},"location":"l"}]`, "", "table", "Location    Name\n----------  ------\nl           a\n"},
		{"yaml", `{"b":[1,"1",null],"a":{"x":true},"m":12345678901234567890}`, "", "yaml", "a:\n  x: true\nb:\n- 1\n- '1'\n- null\nm: 12345678901234567890\n"},
		{"literals without quotes", list, "[?name==`b`].n", "tsv", "1\n"},
		{"and those in other quotes stay", `{"a":"` + "`x`" + `"}`, "a=='`x`'", "json", "true\n"},
		{"none", list, "", "none", ""},
		{"the group is added", `{"id":"/subscriptions/s/resourceGroups/G/providers/a/b/c"}`, "resourceGroup", "tsv", "G\n"},
		{"but not to a group", `{"id":"/subscriptions/s/resourceGroups/G"}`, "resourceGroup", "tsv", ""},
	} {
		if got := printed(t, tt.in, tt.query, tt.format); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestQuery_Refusals(t *testing.T) {
	for _, q := range []string{"[", "a..b", "foo(", "{a}"} {
		if _, err := compileQuery(q); err == nil {
			t.Errorf("%s: taken", q)
		}
	}
	q, err := compileQuery("length(`1`)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.run(nil); err == nil || !strings.Contains(err.Error(), "query failed") {
		t.Errorf("length of a number: got %v", err)
	}
}

// FuzzQuery: no expression makes the compiler or the printer fall over.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"[].{a:b}", "*.*", "keys(@)", "a || b && !c", "`{\"x\":1}`.{y:x}", "merge({a:b},{c:d})", "let $x = a in $x"} {
		f.Add(s)
	}
	in, err := decode([]byte(`{"a":[{"b":1,"c":"x"}],"b":{"z":null,"y":true}}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		q, err := compileQuery(expr)
		if err != nil {
			return
		}
		v, err := q.run(in)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if v != nil {
			writeTSV(&b, v)
			writeJSON(&b, plain(v), 0, false)
		}
		if strings.Contains(b.String(), orderKey) {
			t.Fatalf("%q shows the order key", expr)
		}
	})
}
