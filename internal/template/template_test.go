package template_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/template"
)

const (
	schema = `"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0"`
	sub    = "11111111-1111-1111-1111-111111111111"
	group  = "/subscriptions/" + sub + "/resourceGroups/rg"
)

func env() template.Env {
	return template.Env{
		TenantID: "22222222-2222-2222-2222-222222222222", SubscriptionID: sub, SubscriptionName: "Lazurite",
		Group: &template.Group{Name: "rg", Location: "eastus", Tags: map[string]string{"a": "b"}}, Name: "d",
		Now: time.Date(2026, 4, 7, 14, 53, 14, 0, time.UTC), Seeds: []string{"33333333-3333-3333-3333-333333333333"},
	}
}

// world answers reference() and list…().
type world map[string]any

func (w world) Reference(id, version string, full bool) (any, error) {
	v, ok := w[id]
	if !ok {
		return nil, fmt.Errorf("%s is not there", id)
	}
	if full {
		return map[string]any{"apiVersion": version, "properties": v}, nil
	}
	return v, nil
}

func (w world) List(function, id, _ string, body any) (any, error) {
	return map[string]any{"function": function, "id": id, "body": body}, nil
}

// output evaluates an expression as the output of a template.
func output(t *testing.T, expression string, more string) (any, error) {
	t.Helper()
	for _, typ := range []string{"string", "int", "bool", "array", "object"} {
		e, err := json.Marshal(expression)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{%s,%s"resources":[],"outputs":{"x":{"type":"%s","value":%s}}}`, schema, more, typ, e)
		d, err := template.Bind([]byte(text), nil, env(), nil)
		if err != nil {
			return nil, err
		}
		out, err := d.Outputs(world{})
		if err != nil {
			if strings.Contains(err.Error(), "not of type") {
				continue
			}
			return nil, err
		}
		return out["x"].Value, nil
	}
	return nil, errors.New("of no type")
}

// TestExpressions holds results that Azure's documentation of each function shows.
func TestExpressions(t *testing.T) {
	for expr, want := range map[string]string{
		// strings
		`[base64('one, two, three')]`:                             `"b25lLCB0d28sIHRocmVl"`,
		`[base64ToString('b25lLCB0d28sIHRocmVl')]`:                `"one, two, three"`,
		`[base64ToJson(base64('{''one'': 1}'))]`:                  `error`,
		`[base64ToJson('eyJvbmUiOiAiYSIsICJ0d28iOiAiYiJ9')]`:      `{"one":"a","two":"b"}`,
		`[concat('prefix', '-', 'x')]`:                            `"prefix-x"`,
		`[concat(createArray('1-1'), createArray('2-1', '2-2'))]`: `["1-1","2-1","2-2"]`,
		`[contains('OneTwoThree', 'e')]`:                          `true`,
		`[contains('OneTwoThree', 'z')]`:                          `false`,
		`[contains(createObject('one', 'a'), 'ONE')]`:             `true`,
		`[contains(createArray('one', 'two'), 'two')]`:            `true`,
		`[dataUri('Hello')]`:                                      `"data:text/plain;charset=utf8;base64,SGVsbG8="`,
		`[dataUriToString('data:;base64,SGVsbG8sIFdvcmxkIQ==')]`:  `"Hello, World!"`,
		`[empty('')]`:                        `true`,
		`[empty(createArray())]`:             `true`,
		`[empty(null())]`:                    `true`,
		`[endsWith('abcdef', 'EF')]`:         `true`,
		`[startsWith('abcdef', 'A')]`:        `true`,
		`[first('One Two Three')]`:           `"O"`,
		`[first(createArray('one', 'two'))]`: `"one"`,
		`[last('One Two Three')]`:            `"e"`,
		`[format('{0}, {1}. Formatted number: {2:N0}', 'Hello', 'User', 8175133)]`: `"Hello, User. Formatted number: 8,175,133"`,
		`[format('{0:D3}|{1,4}|{1,-4}|{{}}', 7, 'a')]`:                             `"007|   a|a   |{}"`,
		`[indexOf('test', 't')]`:                                                   `0`,
		`[indexOf('abcdef', 'CD')]`:                                                `2`,
		`[indexOf('abcdef', 'z')]`:                                                 `-1`,
		`[lastIndexOf('test', 't')]`:                                               `3`,
		`[join(createArray('one','two'), ',')]`:                                    `"one,two"`,
		`[length('One Two Three')]`:                                                `13`,
		`[padLeft('123', 10, '0')]`:                                                `"0000000123"`,
		`[replace('123-123-1234', '-', '')]`:                                       `"1231231234"`,
		`[skip('one two three', 4)]`:                                               `"two three"`,
		`[take('one two three', 2)]`:                                               `"on"`,
		`[take(createArray('one','two','three'), 2)]`:                              `["one","two"]`,
		`[split('one;two,three', createArray(';', ','))]`:                          `["one","two","three"]`,
		`[split('one,two,three', ',')]`:                                            `["one","two","three"]`,
		`[string(createObject('valueA', 10, 'valueB', 'x'))]`:                      `"{\"valueA\":10,\"valueB\":\"x\"}"`,
		`[string(5)]`:                                          `"5"`,
		`[substring('one two three', 4, 3)]`:                   `"two"`,
		`[substring('one', 4)]`:                                `error`,
		`[toLower('One')]`:                                     `"one"`,
		`[toUpper('One')]`:                                     `"ONE"`,
		`[trim('    one two three   ')]`:                       `"one two three"`,
		`[uri('http://contoso.org/firstpath', 'myscript.sh')]`: `"http://contoso.org/myscript.sh"`,
		`[uri('http://contoso.org/firstpath/azuredeploy.json/', 'myscript.sh')]`:               `"http://contoso.org/firstpath/azuredeploy.json/myscript.sh"`,
		`[uriComponent('http://contoso.com/resources/nested/azuredeploy.json')]`:               `"http%3A%2F%2Fcontoso.com%2Fresources%2Fnested%2Fazuredeploy.json"`,
		`[uriComponentToString('http%3A%2F%2Fcontoso.com')]`:                                   `"http://contoso.com"`,
		`[uniqueString('/subscriptions/00000000-0000-0000-0000-000000000000', 'resource-id')]`: `"cwvxuqg24sifi"`,
		`[length(uniqueString('a'))]`:                                                          `13`,
		`[equals(uniqueString('a','b'), uniqueString('a','b'))]`:                               `true`,
		// arrays
		`[array('a')]`: `["a"]`,
		`[intersection(createArray('one','two','three'), createArray('two','three'))]`:                      `["two","three"]`,
		`[intersection(createObject('one','a','two','b'), createObject('one','a','two','c'))]`:              `{"one":"a"}`,
		`[union(createArray('one','two','three'), createArray('three','four'))]`:                            `["one","two","three","four"]`,
		`[string(union(createObject('a', createObject('b', 1)), createObject('a', createObject('c', 2))))]`: `"{\"a\":{\"b\":1,\"c\":2}}"`,
		`[range(5, 3)]`:                 `[5,6,7]`,
		`[range(0, 10001)]`:             `error`,
		`[max(createArray(0,3,2,5,4))]`: `5`,
		`[min(0,3,2,5,4)]`:              `0`,
		`[flatten(createArray(createArray(1,2), createArray(3)))]`:                                                `[1,2,3]`,
		`[skip(createArray('one','two','three'), 2)]`:                                                             `["three"]`,
		`[indexOf(createArray('a','b','a'), 'a')]`:                                                                `0`,
		`[lastIndexOf(createArray('a','b','a'), 'a')]`:                                                            `2`,
		`[filter(range(0, 10), lambda('i', greater(lambdaVariables('i'), 7)))]`:                                   `[8,9]`,
		`[map(range(0, 3), lambda('i', mul(lambdaVariables('i'), 2)))]`:                                           `[0,2,4]`,
		`[map(createArray('a'), lambda('v', 'i', format('{0}{1}', lambdaVariables('v'), lambdaVariables('i'))))]`: `["a0"]`,
		`[reduce(range(1, 4), 0, lambda('c', 'n', add(lambdaVariables('c'), lambdaVariables('n'))))]`:             `10`,
		`[sort(createArray(8, 3, 10, -13), lambda('l', 'r', less(lambdaVariables('l'), lambdaVariables('r'))))]`:  `[-13,3,8,10]`,
		`[toObject(createArray('a','b'), lambda('e', lambdaVariables('e')), lambda('e', 1))]`:                     `{"a":1,"b":1}`,
		`[groupBy(createArray('foo','bar','baz'), lambda('x', substring(lambdaVariables('x'), 0, 1)))]`:           `{"b":["bar","baz"],"f":["foo"]}`,
		`[mapValues(createObject('a', 1), lambda('v', add(lambdaVariables('v'), 1)))]`:                            `{"a":2}`,
		// objects
		`[items(createObject('b', 1, 'a', 2))]`:      `[{"key":"a","value":2},{"key":"b","value":1}]`,
		`[objectKeys(createObject('b', 1, 'a', 2))]`: `["a","b"]`,
		`[json('{"a":[1,true,null]}').a[0]]`:         `1`,
		`[json('null')]`:                             `error`, // of no output's type
		`[json('{"a":')]`:                            `error`,
		`[shallowMerge(createArray(createObject('a', 1), createObject('b', 2)))]`: `{"a":1,"b":2}`,
		`[coalesce(tryGet(createObject('a', 1), 'b'), 'default')]`:                `"default"`,
		`[tryGet(createObject('a', createArray(5)), 'a', 0)]`:                     `5`,
		`[coalesce(createObject().?a.b, 'none')]`:                                 `error`, // null has no property
		`[coalesce(createObject().?a, 'none')]`:                                   `"none"`,
		`[createObject('a', createArray(1, 2)).A[1]]`:                             `2`,
		// comparison and logic
		`[equals('a', 'A')]`:                       `false`,
		`[less(1, 2)]`:                             `true`,
		`[greaterOrEquals('b', 'a')]`:              `true`,
		`[and(bool('true'), not(bool('false')))]`:  `true`,
		`[or(equals(1, 2), bool(1))]`:              `true`,
		`[if(equals('a','a'), 'yes', fail('no'))]`: `"yes"`,
		`[if(equals('a','b'), 'yes', fail('no'))]`: `error`,
		// numbers
		`[add(5, 3)]`: `8`, `[sub(7, 3)]`: `4`, `[mul(5, 3)]`: `15`, `[div(8, 3)]`: `2`, `[mod(7, 3)]`: `1`, `[int('4')]`: `4`,
		`[div(1, 0)]`:                   `error`,
		`[add(9223372036854775807, 1)]`: `error`,
		`[mul(4611686018427387904, 2)]`: `error`,
		`[string(float('1.5'))]`:        `"1.5"`,
		// dates
		`[dateTimeAdd('2020-04-07 14:53:14Z', 'P3Y')]`:                      `"4/7/2023 2:53:14 PM"`,
		`[dateTimeAdd('2020-04-07 14:53:14Z', '-P9D')]`:                     `"3/29/2020 2:53:14 PM"`,
		`[dateTimeAdd('2020-04-07 14:53:14Z', 'PT1H')]`:                     `"4/7/2020 3:53:14 PM"`,
		`[dateTimeAdd('2020-04-07 14:53:14Z', 'PT1H', 'yyyy-MM-dd HH:mm')]`: `"2020-04-07 15:53"`,
		`[dateTimeFromEpoch(1683040573)]`:                                   `"2023-05-02T15:16:13Z"`,
		`[dateTimeToEpoch('2023-05-02T15:16:13Z')]`:                         `1683040573`,
		`[utcNow()]`:  `error`,
		`[newGuid()]`: `error`,
		// networks
		`[string(parseCidr('10.144.0.0/20'))]`:  `"{\"broadcast\":\"10.144.15.255\",\"cidr\":20,\"firstUsable\":\"10.144.0.1\",\"lastUsable\":\"10.144.15.254\",\"netmask\":\"255.255.240.0\",\"network\":\"10.144.0.0\"}"`,
		`[cidrSubnet('10.144.0.0/20', 24, 1)]`:  `"10.144.1.0/24"`,
		`[cidrSubnet('10.144.0.0/20', 24, 16)]`: `error`,
		`[cidrHost('10.144.3.0/24', 0)]`:        `"10.144.3.1"`,
		// places
		`[resourceGroup().location]`:                     `"eastus"`,
		`[resourceGroup().tags.a]`:                       `"b"`,
		`[subscription().displayName]`:                   `"Lazurite"`,
		`[deployment().name]`:                            `"d"`,
		`[tenant().tenantId]`:                            `"22222222-2222-2222-2222-222222222222"`,
		`[resourceId('Microsoft.KeyVault/vaults', 'v')]`: `"` + group + `/providers/Microsoft.KeyVault/vaults/v"`,
		`[resourceId('other', 'Microsoft.KeyVault/vaults/secrets', 'v', 's')]`:            `"/subscriptions/` + sub + `/resourceGroups/other/providers/Microsoft.KeyVault/vaults/v/secrets/s"`,
		`[resourceId('Microsoft.KeyVault/vaults', 'v', 's')]`:                             `error`,
		`[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'r')]`:        `"/subscriptions/` + sub + `/providers/Microsoft.Authorization/roleDefinitions/r"`,
		`[tenantResourceId('Microsoft.Authorization/roleDefinitions', 'r')]`:              `"/providers/Microsoft.Authorization/roleDefinitions/r"`,
		`[extensionResourceId(resourceGroup().id, 'Microsoft.Authorization/locks', 'l')]`: `"` + group + `/providers/Microsoft.Authorization/locks/l"`,
		// the language
		`[[literal]`:                  `"[literal]"`,
		`[not closed`:                 `"[not closed"`,
		`plain`:                       `"plain"`,
		`[concat('it''s')]`:           `"it's"`,
		`[CONCAT('a', ToLower('B'))]`: `"ab"`,
		`[concat('a'`:                 `"[concat('a'"`,
		`[concat('a']`:                `error`,
		`[nosuch('a')]`:               `error`,
		`[parameters('none')]`:        `error`,
		`[variables('none')]`:         `error`,
		`[copyIndex()]`:               `error`,
		`[reference('none')]`:         `error`,
		`[createObject('a', 1).b]`:    `error`,
		`[createArray(1)[1]]`:         `error`,
		`[1.5]`:                       `error`,
		`[add(1)]`:                    `error`,
		`[resourceId('a')]`:           `error`,
		`[managementGroup()]`:         `error`,
	} {
		t.Run(expr, func(t *testing.T) {
			v, err := output(t, expr, "")
			if want == "error" {
				if err == nil {
					t.Errorf("got %v", v)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestGuid wants version 5 of RFC 9562 in the namespace of Azure's guid().
func TestGuid(t *testing.T) {
	for expr, want := range map[string]string{
		`[guid('a')]`:      "3703365d-5a9f-59b4-bca7-b9681389e4c1",
		`[guid('a', 'b')]`: "2d796349-8c7e-55ec-9624-54ece82ed031",
	} {
		v, err := output(t, expr, "")
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := v.(string); !ok || s != want {
			t.Errorf("%s is %v", expr, v)
		}
	}
}

func bind(t *testing.T, text string, params map[string]any) (*template.Deployment, error) {
	t.Helper()
	return template.Bind([]byte("{"+schema+","+text+"}"), params, env(), nil)
}

func TestParameters(t *testing.T) {
	const decl = `"parameters":{"s":{"type":"string","defaultValue":"[concat(parameters('n'),'-x')]","maxLength":6},"n":{"type":"String","allowedValues":["a","b"]},
		"i":{"type":"int","defaultValue":3,"minValue":1,"maxValue":5},"at":{"type":"string","defaultValue":"[utcNow('u')]"},"id":{"type":"string","defaultValue":"[newGuid()]"},
		"p":{"type":"securestring","defaultValue":""}},"resources":[]`
	value := func(v any) map[string]any { return map[string]any{"value": v} }
	d, err := bind(t, decl, map[string]any{"N": value("a"), "p": value("hidden!")})
	if err != nil {
		t.Fatal(err)
	}
	got := d.ShownParameters()
	want := map[string]any{
		"s": map[string]any{"type": "String", "value": "a-x"}, "n": map[string]any{"type": "String", "value": "a"}, "i": map[string]any{"type": "Int", "value": int64(3)},
		"at": map[string]any{"type": "String", "value": "2026-04-07 14:53:14Z"}, "id": map[string]any{"type": "String", "value": "33333333-3333-3333-3333-333333333333"},
		"p": map[string]any{"type": "SecureString"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := d.Secrets(); len(s) != 1 || s[0] != "hidden!" {
		t.Errorf("secrets: %v", s)
	}
	for why, params := range map[string]map[string]any{
		"is not provided":        {},
		"allowed value":          {"n": value("c")},
		"only supported":         {"n": value("a"), "other": value("x")},
		"Expected a value":       {"n": value(5)},
		"maxValue":               {"n": value("a"), "i": value(9)},
		"minValue":               {"n": value("a"), "i": value(0)},
		"maxLength":              {"n": value("a"), "s": value("longer than")},
		"Key Vault":              {"n": map[string]any{"reference": map[string]any{}}},
		"must be an object with": {"n": "a"},
	} {
		if _, err := bind(t, decl, params); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if _, err := bind(t, `"parameters":{"a":{"type":"string","defaultValue":"[parameters('b')]"},"b":{"type":"string","defaultValue":"[parameters('a')]"}},"resources":[]`, nil); err == nil || !strings.Contains(err.Error(), "depends on itself") {
		t.Errorf("a cycle: %v", err)
	}
}

func TestVariablesAndFunctions(t *testing.T) {
	const more = `"variables":{"a":"x","b":{"c":"[variables('a')]"},"copy":[{"name":"list","count":3,"input":"[concat('n', copyIndex('list', 1))]"}],
		"o":{"copy":[{"name":"in","count":2,"input":{"i":"[copyIndex('in')]"}}]},"loop":"[variables('loop')]"},
		"functions":[{"namespace":"my","members":{"twice":{"parameters":[{"name":"t","type":"string"}],"output":{"type":"string","value":"[concat(parameters('t'),parameters('t'))]"}},
		"peeks":{"parameters":[],"output":{"type":"string","value":"[variables('a')]"}}}}],`
	for expr, want := range map[string]string{
		`[variables('B').c]`: `"x"`, `[variables('list')]`: `["n1","n2","n3"]`, `[string(variables('o'))]`: `"{\"in\":[{\"i\":0},{\"i\":1}]}"`,
		`[my.twice('ab')]`: `"abab"`, `[MY.Twice('a')]`: `"aa"`,
	} {
		v, err := output(t, expr, more)
		got, _ := json.Marshal(v)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s %v, want %s", expr, got, err, want)
		}
	}
	for expr, why := range map[string]string{`[my.peeks()]`: "can't see", `[my.none()]`: "not defined", `[my.twice()]`: "at least 1", `[variables('loop')]`: "depends on itself"} {
		if _, err := output(t, expr, more); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", expr, err)
		}
	}
}
