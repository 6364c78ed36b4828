package deployments_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/resources"
	"lazurite.dev/internal/providers/resources/deployments"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

// things are what the tests deploy.
type thing struct {
	Size   int    `json:"size,omitempty"`
	Secret string `json:"secret,omitempty"` // never kept
	Of     string `json:"of,omitempty"`
	Key    string `json:"key,omitempty"` // made by Put
}

// shop is a provider whose things a test can hold up.
type shop struct {
	store store.Store
	mu    sync.Mutex // guards order
	order []string   // names, as they were made
	hold  chan struct{}
	busy  chan string
}

func (s *shop) put(ctx context.Context, _, next *arm.Resource[thing]) error {
	name := next.ID.Name()
	if strings.HasPrefix(name, "slow") {
		select {
		case s.busy <- name:
		default:
		}
		select {
		case <-s.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if strings.HasPrefix(name, "broken") {
		return apierr.New(apierr.Conflict, "ThingBroken", "The thing %s with %s is broken.", name, next.Properties.Secret)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = append(s.order, name)
	next.Properties.Key = "key-of-" + name
	return nil
}

func (s *shop) made() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.order...)
}

func (s *shop) provider() arm.Provider {
	kind := func(typ string, async bool) arm.Kind[thing] {
		return arm.Kind[thing]{
			Type: typ, APIVersions: []string{"2024-01-01"}, Tracked: true, Async: async, Put: s.put, ReadOnly: []string{"key"}, WriteOnly: []string{"secret"},
			Validate: func(ctx context.Context, _, next *arm.Resource[thing]) error {
				if id, err := rid.Parse(next.Properties.Of); err == nil && id.Namespace() != "" {
					if _, err := (arm.Resources{Store: s.store}).Get(ctx, id); err != nil {
						return apierr.New(apierr.BadRequest, "ThingMissing", "There is no %s.", id)
					}
				}
				if next.Properties.Size > 100 {
					return apierr.New(apierr.BadRequest, "ThingTooLarge", "A thing has at most the size 100.")
				}
				return nil
			},
			Actions: map[string]arm.Action[thing]{"listKeys": func(_ context.Context, r *arm.Resource[thing], _ json.RawMessage) (any, error) {
				return map[string]any{"keys": []any{map[string]any{"value": r.Properties.Key}}}, nil
			}},
		}
	}
	parts := arm.Kind[thing]{Type: "things/parts", APIVersions: []string{"2024-01-01"}, Put: s.put}
	notes := arm.Kind[thing]{Type: "notes", APIVersions: []string{"2024-01-01"}, Scopes: arm.Extension, Put: s.put}
	return arm.Provider{Namespace: "Contoso.Shop", Routes: []arm.Route{
		arm.Serve("Contoso.Shop", kind("things", false)), arm.Serve("Contoso.Shop", kind("engines", true)), arm.Serve("Contoso.Shop", parts), arm.Serve("Contoso.Shop", notes),
	}}
}

func start(t *testing.T) (*armtest.Plane, *shop, string) {
	t.Helper()
	root, err := seal.OpenFileRoot(filepath.Join(t.TempDir(), "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{hold: make(chan struct{}), busy: make(chan string, 100)}
	var service *deployments.Service
	p := armtest.New(t, func(st store.Store) []arm.Provider {
		s.store = st
		service = deployments.New(deployments.Config{Store: st, Seal: seal.NewKeyring(st, root), TenantID: armtest.Tenant, Versions: resources.Versions()})
		return []arm.Provider{s.provider(), resources.New(resources.Config{
			Store: st, TenantID: armtest.Tenant, Routes: service.Routes(), Endpoints: service.Endpoints(),
		})}
	}, func(c *arm.Config) { c.Attached = func(h *arm.Handler) { service.Attach(h) } })
	return p, s, p.Group("rg")
}

const (
	schema = `"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0"`
	v      = "?api-version=2022-09-01"
)

func at(group, name string) string {
	return group + "/providers/Microsoft.Resources/deployments/" + name
}

func body(t *testing.T, mode, template, params string) string {
	t.Helper()
	text := fmt.Sprintf(`{"properties":{"mode":%q,"template":{%s,%s},"parameters":{%s}}}`, mode, schema, template, params)
	if !json.Valid([]byte(text)) {
		t.Fatalf("the test's own JSON: %s", text)
	}
	return text
}

func thingJSON(name, more string) string {
	return fmt.Sprintf(`{"type":"Contoso.Shop/things","apiVersion":"2024-01-01","name":%q,"location":"westus2"%s}`, name, more)
}

// deploy puts a deployment and waits; it gives the deployment.
func deploy(t *testing.T, p *armtest.Plane, path, body string) *armtest.Answer {
	t.Helper()
	a := p.Do("PUT", path+v, body)
	if a.Status/100 != 2 {
		t.Fatalf("deploy: %d %s", a.Status, a.Raw)
	}
	p.Settle(a)
	return p.Want(http.StatusOK, "GET", path+v, "")
}

func TestDeploys_InOrderAndWithOutputs(t *testing.T) {
	p, s, group := start(t)
	text := body(t, "Incremental", `
		"parameters":{"prefix":{"type":"string"},"n":{"type":"int","defaultValue":2}},
		"variables":{"last":"[concat(parameters('prefix'),'-last')]"},
		"resources":[
			{"type":"Contoso.Shop/things","apiVersion":"2024-01-01","name":"[variables('last')]","location":"[resourceGroup().location]","dependsOn":["many"],
				"properties":{"of":"[reference(resourceId('Contoso.Shop/engines','engine')).key]"},
				"resources":[{"type":"parts","apiVersion":"2024-01-01","name":"wheel","properties":{"size":1}}]},
			{"type":"Contoso.Shop/things","apiVersion":"2024-01-01","name":"[concat('t',copyIndex())]","location":"westus2","copy":{"name":"many","count":"[parameters('n')]"},
				"properties":{"size":"[copyIndex(1)]"}},
			{"type":"Contoso.Shop/engines","apiVersion":"2024-01-01","name":"engine","location":"westus2","tags":{"a":"b"}},
			{"type":"Contoso.Shop/things","condition":"[equals(1,2)]","apiVersion":"2024-01-01","name":"never","location":"westus2"},
			{"type":"Contoso.Shop/notes","apiVersion":"2024-01-01","name":"note","scope":"[concat('Contoso.Shop/things/',variables('last'))]","dependsOn":["[variables('last')]"],"properties":{"size":7}}
		],
		"outputs":{"key":{"type":"string","value":"[listKeys(resourceId('Contoso.Shop/things',variables('last')),'2024-01-01').keys[0].value]"},
			"sizes":{"type":"array","copy":{"count":2,"input":"[reference(concat('t',copyIndex())).size]"}},
			"hidden":{"type":"securestring","value":"x"}}`, `"prefix":{"value":"p"}`)
	a := deploy(t, p, at(group, "d"), text)
	if a.Text("properties", "provisioningState") != "Succeeded" {
		t.Fatalf("got %s", a.Raw)
	}
	if got := a.Text("properties", "outputs", "key", "value"); got != "key-of-p-last" {
		t.Errorf("output: %q", got)
	}
	if got := fmt.Sprint(a.At("properties", "outputs", "sizes", "value")); got != "[1 2]" {
		t.Errorf("sizes: %s", got)
	}
	if _, shown := a.At("properties", "outputs", "hidden").(map[string]any)["value"]; shown {
		t.Error("a secure output is shown")
	}
	if got := p.Want(200, "GET", group+"/providers/Contoso.Shop/things/p-last?api-version=2024-01-01", "").Text("properties", "of"); got != "key-of-engine" {
		t.Errorf("reference: %q", got)
	}
	p.Want(404, "GET", group+"/providers/Contoso.Shop/things/never?api-version=2024-01-01", "")
	p.Want(200, "GET", group+"/providers/Contoso.Shop/things/p-last/parts/wheel?api-version=2024-01-01", "")
	made := strings.Join(s.made(), " ")
	if strings.Index(made, "p-last") < strings.Index(made, "engine") || strings.Index(made, "p-last") < strings.Index(made, "t1") || strings.Index(made, "note") < strings.Index(made, "p-last") {
		t.Errorf("made in the order %s", made)
	}
	list := p.Want(200, "GET", at(group, "d")+"/operations"+v, "")
	if got, _ := list.At("value").([]any); len(got) != 6 {
		t.Errorf("operations: %s", list.Raw)
	} else {
		op := got[0].(map[string]any)
		one := p.Want(200, "GET", at(group, "d")+"/operations/"+op["operationId"].(string)+v, "")
		if one.Text("properties", "provisioningState") != "Succeeded" || one.Text("properties", "targetResource", "id") == "" {
			t.Errorf("operation: %s", one.Raw)
		}
	}
	if res, _ := a.At("properties", "outputResources").([]any); len(res) != 6 {
		t.Errorf("outputResources: %s", a.Raw)
	}
	for _, k := range []string{"templateHash", "timestamp", "duration", "mode"} {
		if a.Text("properties", k) == "" {
			t.Errorf("no %s in %s", k, a.Raw)
		}
	}
	if a.At("properties", "template") != nil {
		t.Error("the template is shown")
	}
	out := p.Want(200, "POST", at(group, "d")+"/exportTemplate"+v, "")
	if out.Text("template", "contentVersion") != "1.0.0.0" {
		t.Errorf("export: %s", out.Raw)
	}
	h := p.Want(200, "POST", "/providers/Microsoft.Resources/calculateTemplateHash"+v, string(mustJSON(t, out.At("template"))))
	if h.Text("templateHash") != a.Text("properties", "templateHash") {
		t.Errorf("hash %s and %s", h.Raw, a.Text("properties", "templateHash"))
	}
	p.Want(200, "GET", group+"/providers/Microsoft.Resources/deployments"+v+"&$filter=provisioningState%20eq%20'Succeeded'", "")
	p.Want(204, "HEAD", at(group, "d")+v, "")
	p.Do("DELETE", at(group, "d")+v, "")
	p.Eventually(func() error {
		if a := p.Do("GET", at(group, "d")+v, ""); a.Status != 404 {
			return fmt.Errorf("still %d", a.Status)
		}
		return nil
	})
	for _, kind := range []string{"deployment-run", "deployment-operation"} {
		docs, err := p.Store.List(t.Context(), store.Query{Kind: kind})
		if err != nil || len(docs) != 0 {
			t.Errorf("%d documents of kind %s are left: %v", len(docs), kind, err)
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

// TestChecksWait: what another resource of the template is needed for can't be
// checked before that is made, in a module that comes after one neither.
func TestChecksWait(t *testing.T) {
	p, _, group := start(t)
	of := `,"properties":{"of":"[resourceId('Contoso.Shop/things','base')]"}`
	module := func(name, resource, more string) string {
		return `{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"` + name + `"` + more + `,"properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},"template":{` + schema + `,"resources":[` + resource + `]}}}`
	}
	for name, resources := range map[string]string{
		"plain":   thingJSON("a", of+`,"dependsOn":["base"]`) + `,` + thingJSON("base", ""),
		"modules": module("m1", thingJSON("base", ""), "") + `,` + module("m2", thingJSON("a", of), `,"dependsOn":["m1"]`),
	} {
		text := body(t, "Incremental", `"resources":[`+resources+`]`, "")
		p.Want(200, "POST", at(group, name)+"/whatIf"+v, text)
		if a := deploy(t, p, at(group, name), text); a.Text("properties", "provisioningState") != "Succeeded" {
			t.Errorf("%s: %s", name, a.Raw)
		}
		p.Want(200, "POST", at(group, name)+"/validate"+v, text)
		for _, n := range []string{"a", "base"} {
			p.Want(200, "DELETE", group+"/providers/Contoso.Shop/things/"+n+"?api-version=2024-01-01", "")
		}
	}
	p.WantError(400, "InvalidTemplateDeployment", "PUT", at(group, "x")+v, body(t, "Incremental", `"resources":[`+thingJSON("a", of)+`]`, ""))
}

func TestFailsInTheMiddle(t *testing.T) {
	p, s, group := start(t)
	a := deploy(t, p, at(group, "d"), body(t, "Incremental", `"parameters":{"p":{"type":"secureString"}},"resources":[`+thingJSON("good", "")+`,`+
		thingJSON("broken", `,"dependsOn":["good"],"properties":{"secret":"[parameters('p')]"}`)+`,`+thingJSON("after", `,"dependsOn":["broken"]`)+`,`+thingJSON("other", "")+`]`, `"p":{"value":"hidden-Value-1"}`))
	if a.Text("properties", "provisioningState") != "Failed" || a.Text("properties", "error", "code") != "DeploymentFailed" {
		t.Fatalf("got %s", a.Raw)
	}
	details, _ := a.At("properties", "error", "details").([]any)
	if len(details) != 1 || details[0].(map[string]any)["code"] != "ThingBroken" || !strings.Contains(string(a.Raw), "********") {
		t.Errorf("details: %v", details)
	}
	made := strings.Join(s.made(), " ")
	if !strings.Contains(made, "good") || !strings.Contains(made, "other") || strings.Contains(made, "after") {
		t.Errorf("made: %s", made)
	}
	status := p.Do("PUT", at(group, "d")+v, body(t, "Incremental", `"resources":[`+thingJSON("broken2", "")+`]`, ""))
	if status.Status != 200 || p.Settle(status) != "Failed" {
		t.Errorf("again: %d %s", status.Status, status.Raw)
	}
}

func TestSecrets_AreNowhere(t *testing.T) {
	p, _, group := start(t)
	const secret = "Correct-Horse-Battery"
	tmpl := `"parameters":{"p":{"type":"securestring"},"o":{"type":"secureObject"}},"resources":[` + thingJSON("a", `,"properties":{"secret":"[parameters('p')]"}`) + `,
		{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"inner","properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},
			"parameters":{"q":{"value":"[parameters('p')]"}},"template":{` + schema + `,"parameters":{"q":{"type":"securestring"}},"resources":[` + thingJSON("b", `,"properties":{"secret":"[parameters('q')]"}`) + `]}}},
		{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"outer","properties":{"mode":"Incremental","parameters":{"p":{"value":"[parameters('p')]"}},"template":{` + schema + `,"parameters":{"p":{"type":"string"}},"resources":[` + thingJSON("c", `,"properties":{"secret":"[parameters('p')]"}`) + `]}}}],
		"outputs":{"s":{"type":"securestring","value":"[parameters('p')]"}}`
	params := `"p":{"value":"` + secret + `"},"o":{"value":{"x":"` + secret + `"}}`
	what := p.Want(200, "POST", at(group, "d")+"/whatIf"+v, body(t, "Incremental", tmpl, params))
	valid := p.Want(200, "POST", at(group, "d")+"/validate"+v, body(t, "Incremental", tmpl, params))
	a := deploy(t, p, at(group, "d"), body(t, "Incremental", tmpl, params))
	if a.Text("properties", "provisioningState") != "Succeeded" {
		t.Fatalf("got %s", a.Raw)
	}
	for _, raw := range [][]byte{what.Raw, valid.Raw, a.Raw, p.Do("GET", at(group, "outer")+v, "").Raw, p.Do("POST", at(group, "outer")+"/exportTemplate"+v, "").Raw, p.Do("GET", at(group, "d")+"/operations"+v, "").Raw} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("the secret is shown: %s", raw)
		}
	}
	docs, err := p.Store.List(t.Context(), store.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if bytes.Contains(d.Value, []byte(secret)) {
			t.Errorf("%s holds the secret", d.Key)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		p.Want(200, "GET", group+"/providers/Contoso.Shop/things/"+name+"?api-version=2024-01-01", "")
	}
}

// TestSecrets_InTypesAndInEachOther hides secrets that are members of types, that
// hold one another, and that only a nested deployment has.
func TestSecrets_InTypesAndInEachOther(t *testing.T) {
	p, _, group := start(t)
	tmpl := `"languageVersion":"2.0","definitions":{"word":{"type":"securestring"},"login":{"type":"object","properties":{"user":{"type":"string"},"password":{"$ref":"#/definitions/word"}}}},
		"parameters":{"l":{"$ref":"#/definitions/login"},"a":{"type":"securestring"},"b":{"type":"securestring"}},
		"resources":{"t":` + thingJSON("a", `,"properties":{"secret":"[parameters('b')]"}`) + `,
		"n":{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"inner","properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},
			"parameters":{"q":{"value":"[toUpper(parameters('a'))]"}},"template":{` + schema + `,"parameters":{"q":{"type":"securestring"}},"resources":[` + thingJSON("b", `,"properties":{"secret":"[parameters('q')]"}`) + `]}}}},
		"outputs":{"o":{"$ref":"#/definitions/login","value":"[parameters('l')]"}}`
	params := `"l":{"value":{"user":"u","password":"type-secret"}},"a":{"value":"hush"},"b":{"value":"hush-and-more"}`
	what := p.Want(200, "POST", at(group, "d")+"/whatIf"+v, body(t, "Incremental", tmpl, params))
	a := deploy(t, p, at(group, "d"), body(t, "Incremental", tmpl, params))
	if a.Text("properties", "provisioningState") != "Succeeded" {
		t.Fatalf("got %s", a.Raw)
	}
	docs, err := p.Store.List(t.Context(), store.Query{})
	if err != nil {
		t.Fatal(err)
	}
	seen := [][]byte{what.Raw, a.Raw}
	for _, d := range docs {
		seen = append(seen, d.Value)
	}
	for _, raw := range seen {
		for _, secret := range []string{"type-secret", "and-more", "HUSH"} {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%q is in %s", secret, raw)
			}
		}
	}
}

// TestReference_ToWhatIsNoResource ends in an error of the deployment, and in
// nothing else.
func TestReference_ToWhatIsNoResource(t *testing.T) {
	p, _, group := start(t)
	a := deploy(t, p, at(group, "d"), body(t, "Incremental", `"resources":[`+thingJSON("a", `,"properties":{"secret":"[string(reference('/tenants','2022-09-01','Full'))]"}`)+`]`, ""))
	if a.Text("properties", "provisioningState") != "Failed" {
		t.Errorf("got %s", a.Raw)
	}
}

func TestComplete_DeletesTheRest(t *testing.T) {
	p, _, group := start(t)
	for _, n := range []string{"stays", "goes"} {
		p.Want(201, "PUT", group+"/providers/Contoso.Shop/things/"+n+"?api-version=2024-01-01", `{"location":"westus2"}`)
	}
	tmpl := `"resources":[` + thingJSON("stays", `,"properties":{"size":3}`) + `,{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"n","properties":{"mode":"Incremental","template":{` + schema + `,"resources":[` + thingJSON("nested", "") + `]}}}]`
	what := p.Want(200, "POST", at(group, "d")+"/whatIf"+v, body(t, "Complete", tmpl, ""))
	got := map[string]string{}
	for _, c := range what.At("properties", "changes").([]any) {
		m := c.(map[string]any)
		id := m["resourceId"].(string)
		got[id[strings.LastIndexByte(id, '/')+1:]] = m["changeType"].(string)
	}
	if fmt.Sprint(got) != "map[goes:Delete nested:Create stays:Modify]" {
		t.Errorf("whatIf: %v %s", got, what.Raw)
	}
	deploy(t, p, at(group, "d"), body(t, "Complete", tmpl, ""))
	p.Want(404, "GET", group+"/providers/Contoso.Shop/things/goes?api-version=2024-01-01", "")
	for _, n := range []string{"stays", "nested"} {
		p.Want(200, "GET", group+"/providers/Contoso.Shop/things/"+n+"?api-version=2024-01-01", "")
	}
}

func TestWhatIf(t *testing.T) {
	p, s, group := start(t)
	deploy(t, p, at(group, "d"), body(t, "Incremental", `"resources":[`+thingJSON("same", `,"properties":{"size":1}`)+`,`+thingJSON("changes", `,"tags":{"a":"b"},"properties":{"size":1}`)+`,`+thingJSON("ignored", "")+`]`, ""))
	n := len(s.made())
	next := `"resources":[` + thingJSON("same", `,"properties":{"size":1}`) + `,` + thingJSON("changes", `,"properties":{"size":2}`) + `,` + thingJSON("new", `,"properties":{"of":"[reference('same').key]"}`) + `]`
	a := p.Want(200, "POST", at(group, "x")+"/whatIf"+v, body(t, "Incremental", next, ""))
	types := map[string]string{}
	for _, c := range a.At("properties", "changes").([]any) {
		m := c.(map[string]any)
		id := m["resourceId"].(string)
		types[id[strings.LastIndexByte(id, '/')+1:]] = m["changeType"].(string)
		if m["changeType"] == "Modify" {
			if d, _ := json.Marshal(m["delta"]); string(d) != `[{"after":2,"before":1,"children":null,"path":"properties.size","propertyChangeType":"Modify"},{"after":null,"before":{"a":"b"},"children":null,"path":"tags","propertyChangeType":"Delete"}]` {
				t.Errorf("delta: %s", d)
			}
		}
	}
	if fmt.Sprint(types) != "map[changes:Modify ignored:Ignore new:Create same:NoChange]" {
		t.Errorf("got %v", types)
	}
	if len(s.made()) != n {
		t.Error("what-if made something")
	}
	p.Want(404, "GET", at(group, "x")+v, "")
	ids := p.Want(200, "POST", at(group, "x")+"/whatIf"+v, strings.Replace(body(t, "Incremental", next, ""), `"mode"`, `"whatIfSettings":{"resultFormat":"ResourceIdOnly"},"mode"`, 1))
	if strings.Contains(string(ids.Raw), "delta") || !strings.Contains(string(ids.Raw), "Deploy") {
		t.Errorf("ids only: %s", ids.Raw)
	}
}

func TestRefusals(t *testing.T) {
	p, s, group := start(t)
	res := func(r string) string { return body(t, "Incremental", `"resources":[`+r+`]`, "") }
	for name, c := range map[string]struct {
		status           int
		code, text, body string
	}{
		"no mode":         {400, "InvalidDeployment", "mode", `{"properties":{"template":{` + schema + `,"resources":[]}}}`},
		"no template":     {400, "InvalidDeployment", "template", `{"properties":{"mode":"Incremental"}}`},
		"a link":          {400, "TemplateLinkNotSupported", "template", `{"properties":{"mode":"Incremental","templateLink":{"uri":"https://example.org"}}}`},
		"on error":        {400, "OnErrorDeploymentNotSupported", "", `{"properties":{"mode":"Incremental","onErrorDeployment":{"type":"LastSuccessful"},"template":{` + schema + `,"resources":[]}}}`},
		"debug":           {400, "DebugSettingNotSupported", "", `{"properties":{"mode":"Incremental","debugSetting":{"detailLevel":"requestContent"},"template":{` + schema + `,"resources":[]}}}`},
		"another level":   {400, "InvalidDeployment", "validationLevel", `{"properties":{"mode":"Incremental","validationLevel":"ProviderNoRbac","template":{` + schema + `,"resources":[]}}}`},
		"another scope":   {400, "InvalidTemplate", "scope", res(`{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"n","properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inned"},"template":{` + schema + `,"resources":[]}}}`)},
		"a cycle":         {400, "InvalidTemplate", "The cycle is", res(thingJSON("a", `,"dependsOn":["b"]`) + `,` + thingJSON("b", `,"dependsOn":["a"]`))},
		"no such thing":   {400, "InvalidTemplate", "not defined", res(thingJSON("a", `,"dependsOn":["zzz"]`))},
		"twice":           {400, "InvalidTemplate", "multiple times", res(thingJSON("a", "") + `,` + thingJSON("A", ""))},
		"too large":       {400, "InvalidTemplateDeployment", "", res(thingJSON("a", `,"properties":{"size":101}`))},
		"unknown type":    {400, "InvalidTemplateDeployment", "", res(`{"type":"Contoso.Shop/nothings","apiVersion":"2024-01-01","name":"a"}`)},
		"segments":        {400, "InvalidTemplate", "segment", res(thingJSON("a/b", ""))},
		"nested link":     {400, "InvalidTemplate", "nothing can be fetched", res(`{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"n","properties":{"mode":"Incremental","templateLink":{"uri":"x"}}}`)},
		"api profile":     {400, "InvalidTemplate", "apiProfile", body(t, "Incremental", `"apiProfile":"latest","resources":[]`, "")},
		"parameter":       {400, "InvalidTemplate", "only supported", body(t, "Incremental", `"resources":[]`, `"x":{"value":1}`)},
		"too many copies": {400, "InvalidTemplate", "800", res(thingJSON("[concat('a',copyIndex())]", `,"copy":{"name":"c","count":801}`))},
	} {
		a := p.Do("PUT", at(group, "d")+v, c.body)
		if a.Status != c.status || a.Code() != c.code || !strings.Contains(string(a.Raw), c.text) {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	p.WantError(400, "InvalidDeploymentName", "PUT", at(group, strings.Repeat("n", 65))+v, res(""))
	p.WantError(404, "ResourceGroupNotFound", "PUT", at(armtest.Base+"/resourceGroups/none", "d")+v, res(""))
	p.WantError(403, "AuthorizationFailed", "PUT", at(group, "d")+v, res(""), "Authorization", "Bearer "+armtest.Nobody)
	p.Policy.Allow("some", "Microsoft.Resources/deployments/write")
	p.Policy.Allow("some", "Microsoft.Resources/deployments/validate/action")
	a := p.WantError(403, "InvalidTemplateDeployment", "PUT", at(group, "d")+v, res(thingJSON("a", "")), "Authorization", "Bearer some")
	if !strings.Contains(string(a.Raw), "Contoso.Shop/things/write") {
		t.Errorf("no right: %s", a.Raw)
	}
	p.WantError(403, "InvalidTemplateDeployment", "POST", at(group, "d")+"/validate"+v, res(thingJSON("a", "")), "Authorization", "Bearer some")
	if len(s.made()) != 0 {
		t.Errorf("made %v", s.made())
	}
	p.Want(404, "GET", at(group, "d")+v, "")
}

func TestGoesOnAfterACrash(t *testing.T) {
	p, s, group := start(t)
	a := p.Want(201, "PUT", at(group, "d")+v, body(t, "Incremental", `"parameters":{"at":{"type":"string","defaultValue":"[newGuid()]"}},"resources":[`+thingJSON("first", `,"properties":{"of":"[parameters('at')]"}`)+`,
		{"type":"Contoso.Shop/engines","apiVersion":"2024-01-01","name":"slow","location":"westus2","dependsOn":["first"]},`+thingJSON("last", `,"dependsOn":["slow"],"properties":{"of":"[parameters('at')]"}`)+`]`, ""))
	if a.Text("properties", "provisioningState") != "Running" {
		t.Fatalf("got %s", a.Raw)
	}
	<-s.busy
	p.WantError(409, "AnotherOperationInProgress", "PUT", at(group, "d")+v, body(t, "Incremental", `"resources":[]`, ""))
	p.Restart()
	<-s.busy
	close(s.hold)
	if got := p.Settle(a); got != "Succeeded" {
		t.Fatalf("got %s: %s", got, p.Do("GET", at(group, "d")+v, "").Raw)
	}
	if got := strings.Join(s.made(), " "); strings.Count(got, "first") != 1 || !strings.HasSuffix(got, "last") {
		t.Errorf("made %s", got)
	}
	of := func(n string) string {
		return p.Want(200, "GET", group+"/providers/Contoso.Shop/things/"+n+"?api-version=2024-01-01", "").Text("properties", "of")
	}
	if of("first") != of("last") || of("first") == "" {
		t.Errorf("newGuid() changed: %s %s", of("first"), of("last"))
	}
}

func TestCancel(t *testing.T) {
	p, s, group := start(t)
	a := p.Want(201, "PUT", at(group, "d")+v, body(t, "Incremental", `"resources":[{"type":"Contoso.Shop/engines","apiVersion":"2024-01-01","name":"slow","location":"westus2"},`+thingJSON("last", `,"dependsOn":["slow"]`)+`]`, ""))
	<-s.busy
	p.Want(204, "POST", at(group, "d")+"/cancel"+v, "")
	if got := p.Settle(a); got != "Canceled" {
		t.Errorf("got %s", got)
	}
	if got := p.Want(200, "GET", at(group, "d")+v, "").Text("properties", "provisioningState"); got != "Canceled" {
		t.Errorf("got %s", got)
	}
	p.WantError(409, "DeploymentCannotBeCancelled", "POST", at(group, "d")+"/cancel"+v, "")
	close(s.hold)
	if got := strings.Join(s.made(), " "); strings.Contains(got, "last") {
		t.Errorf("made %s", got)
	}
}

// TestHistory_IsBounded: the oldest of 800 makes room.
func TestHistory_IsBounded(t *testing.T) {
	p, _, group := start(t)
	res := arm.Resources{Store: p.Store}
	for i := range 800 {
		name := fmt.Sprintf("h%d", i)
		e := &arm.Envelope{ID: at(group, name), Name: name, Type: "Microsoft.Resources/deployments", Properties: map[string]any{"mode": "Incremental", "provisioningState": "Succeeded"}}
		e.System.LastModifiedAt = time.Date(2026, 1, 1, 0, (i+799)%800, 0, 0, time.UTC) // h1 is the oldest
		if err := res.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	deploy(t, p, at(group, "new"), body(t, "Incremental", `"resources":[]`, ""))
	p.Want(404, "GET", at(group, "h1")+v, "")
	p.Want(200, "GET", at(group, "h0")+v, "")
	p.Want(200, "GET", at(group, "h2")+v, "")
}

func TestSubscriptionScope(t *testing.T) {
	p, _, _ := start(t)
	text := fmt.Sprintf(`{"location":"westus2","properties":{"mode":"Incremental","template":{"$schema":"https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#","contentVersion":"1.0.0.0",
		"resources":[{"type":"Microsoft.Resources/resourceGroups","apiVersion":"2022-09-01","name":"made","location":"westus2","properties":{}},
		{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"in","resourceGroup":"made","dependsOn":["[subscriptionResourceId('Microsoft.Resources/resourceGroups','made')]"],
			"properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},"template":{%s,"resources":[{"type":"Contoso.Shop/things","apiVersion":"2024-01-01","name":"t","location":"[resourceGroup().location]"}],
			"outputs":{"where":{"type":"string","value":"[resourceGroup().location]"}}}}}],
		"outputs":{"where":{"type":"string","value":"[reference('in').outputs.where.value]"}}}}}`, schema)
	p.WantError(400, "LocationRequired", "PUT", at(armtest.Base, "d")+v, strings.Replace(text, `"location":"westus2","properties":{"mode"`, `"properties":{"mode"`, 1))
	p.Want(200, "POST", at(armtest.Base, "d")+"/validate"+v, text)
	p.Want(200, "POST", at(armtest.Base, "d")+"/whatIf"+v, text)
	a := deploy(t, p, at(armtest.Base, "d"), text)
	if a.Text("properties", "outputs", "where", "value") != "westus2" {
		t.Fatalf("got %s", a.Raw)
	}
	p.Want(200, "GET", armtest.Base+"/resourceGroups/made/providers/Contoso.Shop/things/t?api-version=2024-01-01", "")
	list := p.Want(200, "GET", armtest.Base+"/providers/Microsoft.Resources/deployments"+v, "")
	if got, _ := list.At("value").([]any); len(got) != 1 {
		t.Errorf("the subscription's deployments: %s", list.Raw)
	}
}
