package template_test

import (
	"encoding/json"
	"testing"

	"lazurite.dev/internal/template"
)

func TestRelaxed(t *testing.T) {
	for in, want := range map[string]string{
		`{"a": 1}`: `{"a":1}`,
		`{"properties": {"mode": "Incremental", template:{ // c
			"$schema": "http://x", /* "y" */ b: 'it"s', c: [1e5, true, null,],
			"d": "two
lines"}}}`: "{\"properties\":{\"mode\":\"Incremental\",\"template\":{\"$schema\":\"http://x\",\"b\":\"it\\\"s\",\"c\":[1e5,true,null],\"d\":\"two\\nlines\"}}}",
		`{a: "http://no.comment"}`: `{"a":"http://no.comment"}`,
		`{a`:                       "", `{a: "x`: "", `/* x`: "", `{a: b}`: "",
	} {
		got, err := template.Relaxed([]byte(in))
		if want == "" {
			if err == nil {
				t.Errorf("%s: taken as %s", in, got)
			}
			continue
		}
		var a, b any
		if err != nil || json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || string(mustJSON(t, a)) != string(mustJSON(t, b)) {
			t.Errorf("%s: got %s, %v", in, got, err)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzRelaxed(f *testing.F) {
	f.Add([]byte(`{"properties": {template:{ // c
		'a': "b", /* x */}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := template.Relaxed(in)
		if err == nil && !json.Valid(out) {
			t.Errorf("%q became %q", in, out)
		}
		if err != nil && json.Valid(in) {
			t.Errorf("%q is refused: %v", in, err)
		}
	})
}

// FuzzExpression: no expression panics, runs away or makes what JSON can't hold.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		"[concat('a', 1)]", "[json('{\"a\":[1]}').a[0]]", "[map(range(0, 3), lambda('i', lambdaVariables('i')))]", "[format('{0:N0}', 5)]",
		"[dateTimeAdd('2020-04-07 14:53:14Z', 'P3Y')]", "[cidrSubnet('::/0', 64, 9)]", "[substring('abc', 1, 1)]", "[resourceId('a/b', 'c')]",
		"[sort(createArray(2,1), lambda('a','b',less(lambdaVariables('a'), lambdaVariables('b'))))]", "[union(createObject('a', 1), createObject())]", "[[x]", "[x.?y[?0]]",
		"[replace('aaaa', 'a', padLeft('', 16000))]", "[reduce(range(0,100), 'x', lambda('a','b', concat(lambdaVariables('a'), lambdaVariables('a'))))]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		v, err := output(t, expr, "")
		if err != nil {
			return
		}
		if _, err := json.Marshal(v); err != nil {
			t.Errorf("%s gives what can't be encoded: %v", expr, err)
		}
	})
}

// FuzzTemplate: no template panics or runs away.
func FuzzTemplate(f *testing.F) {
	f.Add(`"resources":[{"type":"A.B/c","apiVersion":"1","name":"[concat('n',copyIndex())]","copy":{"name":"l","count":3,"mode":"serial"},"properties":{"copy":[{"name":"x","count":2,"input":"[copyIndex('x')]"}]}}]`)
	f.Add(`"languageVersion":"2.0","resources":{"a":{"type":"A.B/c","apiVersion":"1","name":"n"},"b":{"type":"A.B/c/d","apiVersion":"1","name":"n/m","dependsOn":["a"],"properties":{"x":"[reference('a').y]"}}}`)
	f.Add(`"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"1","name":"n","properties":{"mode":"Incremental","template":{` + schema + `,"resources":[]}}}],"outputs":{"x":{"type":"array","copy":{"count":2,"input":"[copyIndex()]"}}}`)
	f.Add(`"parameters":{"a":{"type":"int","defaultValue":1}},"variables":{"copy":[{"name":"v","count":2,"input":1}]},"functions":[{"namespace":"n","members":{"f":{"output":{"type":"int","value":1}}}}],"resources":[]`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := template.Bind([]byte("{"+schema+","+text+"}"), nil, env(), nil)
		if err != nil {
			return
		}
		p, err := d.Plan()
		if err != nil {
			return
		}
		for _, r := range p.Resources {
			if b, err := d.Body(r, world{}, true); err == nil {
				if _, err := json.Marshal(b); err != nil {
					t.Errorf("%s: %v", r.ID, err)
				}
			}
		}
		if _, err := d.Outputs(world{}); err != nil {
			return
		}
		again, err := template.Open(roundTrip(t, d.Input()))
		if err != nil {
			t.Fatalf("what was bound is not taken again: %v", err)
		}
		if q, err := again.Plan(); err != nil || len(q.Resources) != len(p.Resources) {
			t.Errorf("another plan: %v", err)
		}
	})
}

func roundTrip(t *testing.T, in template.Input) template.Input {
	t.Helper()
	var out template.Input
	if err := json.Unmarshal(mustJSON(t, in), &out); err != nil {
		t.Fatal(err)
	}
	return out
}
