package template_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/template"
)

// edges are a plan's dependencies, "b<a" for b after a, by name.
func edges(p *template.Plan) string {
	var out []string
	for _, r := range p.Resources {
		for _, i := range r.DependsOn {
			out = append(out, r.Name+"<"+p.Resources[i].Name)
		}
	}
	return strings.Join(out, " ")
}

func thing(name, more string) string {
	return fmt.Sprintf(`{"type":"Contoso.Shop/things","apiVersion":"2024-01-01","name":%q%s}`, name, more)
}

func TestPlan_Order(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"by id, name and type": {
			`"resources":[` + thing("a", "") + `,` + thing("b", `,"dependsOn":["[resourceId('Contoso.Shop/things','a')]"]`) + `,` + thing("c", `,"dependsOn":["B","Contoso.Shop/things/a"]`) + `]`,
			"b<a c<a c<b",
		},
		"by reference": {
			`"resources":[` + thing("a", `,"properties":{"x":{"y":["[concat(reference('b').z, listKeys(resourceId('Contoso.Shop/things','c'),'2024-01-01').k)]"]}}`) + `,` + thing("b", "") + `,` + thing("c", "") + `]`,
			"a<b a<c",
		},
		"a condition that is false": {
			`"resources":[` + thing("a", `,"condition":false`) + `,` + thing("b", `,"dependsOn":["a"]`) + `]`, "",
		},
		"serial copies": {
			`"resources":[` + thing("[format('t{0}', copyIndex())]", `,"copy":{"name":"many","count":5,"mode":"serial","batchSize":2}`) + `,` + thing("z", `,"dependsOn":["many"]`) + `]`,
			"t2<t0 t2<t1 t3<t0 t3<t1 t4<t2 t4<t3 z<t0 z<t1 z<t2 z<t3 z<t4",
		},
		"children": {
			`"resources":[` + thing("a", `,"resources":[{"type":"parts","apiVersion":"1","name":"p"},{"type":"Contoso.Shop/notes","apiVersion":"1","name":"n"},{"type":"providers/notes","apiVersion":"1","name":"Contoso.Shop/m"}]`) + `]`,
			"a/p<a n<a a/Contoso.Shop/m<a",
		},
		"a nested template of the outer scope": {
			`"resources":[` + thing("a", "") + `,{"type":"Microsoft.Resources/deployments","apiVersion":"1","name":"n","properties":{"mode":"Incremental","template":{` + schema + `,"resources":[` + thing("in", `,"properties":{"x":"[reference('a').y]"}`) + `]}}}]`,
			"n<a",
		},
		"symbols": {
			`"languageVersion":"2.0","resources":{"one":` + thing("a", "") + `,"two":` + thing("b", `,"dependsOn":["one"]`) + `,"three":` + thing("c", `,"properties":{"x":"[reference('two').y]"}`) + `,
				"loop":` + thing("[format('l{0}',copyIndex())]", `,"copy":{"name":"loop","count":2}`) + `,"four":` + thing("d", `,"properties":{"x":"[reference('loop[1]').y]"}`) + `,"there":` + thing("e", `,"existing":true`) + `}`,
			"d<l1 c<b b<a",
		},
	} {
		d, err := bind(t, c.text, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p, err := d.Plan()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := edges(p); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestPlan_IDs(t *testing.T) {
	d, err := bind(t, `"resources":[
		{"type":"Contoso.Shop/things/parts","apiVersion":"1","name":"a/p"},
		{"type":"Contoso.Shop/things/providers/notes","apiVersion":"1","name":"a/Contoso.Shop/n"},
		{"type":"Contoso.Shop/notes","apiVersion":"1","name":"s","scope":"Contoso.Shop/things/a"},
		{"type":"Contoso.Shop/notes","apiVersion":"1","name":"t","scope":"[subscription().id]"},
		{"type":"Microsoft.Resources/deployments","apiVersion":"1","name":"d","resourceGroup":"other","properties":{"mode":"Incremental","template":{`+schema+`,"resources":[]}}}]`, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Plan()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		group + "/providers/Contoso.Shop/things/a/parts/p", group + "/providers/Contoso.Shop/things/a/providers/Contoso.Shop/notes/n",
		group + "/providers/Contoso.Shop/things/a/providers/Contoso.Shop/notes/s", "/subscriptions/" + sub + "/providers/Contoso.Shop/notes/t",
		"/subscriptions/" + sub + "/resourceGroups/other/providers/Microsoft.Resources/deployments/d",
	}
	for i, r := range p.Resources {
		if r.ID != want[i] {
			t.Errorf("got %s, want %s", r.ID, want[i])
		}
	}
}

func TestBody(t *testing.T) {
	d, err := bind(t, `"variables":{"v":"x"},"resources":[`+thing("[concat('a', copyIndex())]", `,"copy":{"name":"c","count":2},"location":"[resourceGroup().location]","comments":"no","properties":{
		"i":"[copyIndex(10)]","lit":"[[x]","n":null,"copy":[{"name":"list","count":2,"input":{"outer":"[copyIndex()]","inner":"[copyIndex('list')]"}}],"known":"[variables('v')]","later":"[reference('/x/y','1').z]"}`)+`]`, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Plan()
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Body(p.Resources[1], world{"/x/y": map[string]any{"z": 5}}, false)
	if got, want := string(mustJSON(t, b)), `{"location":"eastus","properties":{"i":11,"known":"x","later":5,"list":[{"inner":0,"outer":1},{"inner":1,"outer":1}],"lit":"[x]","n":null}}`; err != nil || got != want {
		t.Errorf("got %s %v, want %s", got, err, want)
	}
	if _, err := d.Body(p.Resources[0], world{}, false); err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("a reference to nothing: %v", err)
	}
}

// TestLimits: what grows without end is refused, and soon.
func TestLimits(t *testing.T) {
	grow := make([]string, 0, 40)
	grow = append(grow, `"v0":"aaaaaaaaaaaaaaaa"`)
	for i := range 39 {
		grow = append(grow, fmt.Sprintf(`"v%d":"[concat(variables('v%d'),variables('v%d'))]"`, i+1, i, i))
	}
	for expr, more := range map[string]string{
		"[variables('v39')]": `"variables":{` + strings.Join(grow, ",") + `},`,
		"[string(reduce(range(0,100), createArray(1), lambda('a','b', createArray(lambdaVariables('a'), lambdaVariables('a')))))]": "",
		"[length(map(range(0,10000), lambda('a', map(range(0,10000), lambda('b', 1)))))]":                                          "",
		"[padLeft('a', 20000)]": "",
		"[" + strings.Repeat("not(", 200) + "true()" + strings.Repeat(")", 200) + "]": "",
		"[concat('" + strings.Repeat("x", 25000) + "')]":                              "",
		"[a.f()]": `"functions":[{"namespace":"a","members":{"f":{"output":{"type":"int","value":"[a.f()]"}}}}],`,
	} {
		began := time.Now()
		if v, err := output(t, expr, more); err == nil {
			t.Errorf("%.60s: gave %.60v", expr, v)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%.60s took %v", expr, took)
		}
	}
	var many []string
	for i := range 801 {
		many = append(many, thing(fmt.Sprintf("t%d", i), ""))
	}
	if d, err := bind(t, `"resources":[`+strings.Join(many, ",")+`]`, nil); err != nil {
		t.Error(err)
	} else if _, err := d.Plan(); err == nil {
		t.Error("801 resources are taken")
	}
	if _, err := template.Parse([]byte("{" + schema + `,"resources":[],"metadata":{"x":"` + strings.Repeat("x", template.MaxTemplate) + `"}}`)); err == nil {
		t.Error("more than 4 MB are taken")
	}
	for _, text := range []string{`{}`, `[]`, `{` + schema + `}`, `{` + schema + `,"resources":{}}`, `{` + schema + `,"resources":[],"other":1}`, `{` + schema + `,"resources":[],"languageVersion":"3.0"}`,
		`{` + schema + `,"resources":[1]}`, `{` + schema + `,"resources":[],"parameters":{"a":{"type":"date"}}}`, `{"$schema":"https://example.org/x","contentVersion":"1","resources":[]}`} {
		if _, err := template.Parse([]byte(text)); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
}
