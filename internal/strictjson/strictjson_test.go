package strictjson_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/strictjson"
)

const depth = 12

func TestObject_Refuses(t *testing.T) {
	for _, raw := range []string{
		``, ` `, `[]`, `"a"`, `1`, `null`, `{`, `{}}`, `{} {}`, `{"a":1,}`, `{"a" 1}`, `{a:1}`, `{"a":01}`, `{"a":+1}`, `{"a":tru}`, "{\"a\":\"\n\"}",
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"x":{"a":1,"a":1}}`, `{"x":[{"a":1,"a":1}]}`, "{\"a\":\"\xff\"}",
		`{"a":` + strings.Repeat("[", 13) + strings.Repeat("]", 13) + `}`, `{"a":"\ux"}`, `{"a":"\u12"}`, `{"a`, `{"a":"\"}`,
	} {
		if got, err := strictjson.Object([]byte(raw), depth); err == nil {
			t.Errorf("Object(%q): got %v, want a refusal", raw, got)
		}
	}
	for _, raw := range []string{`[]`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":[}`, "{\"a\":\"\xff\"}"} {
		if err := strictjson.Members([]byte(raw), func(_, _ []byte) error { return nil }); err == nil {
			t.Errorf("Members(%q): was accepted", raw)
		}
	}
}

// What is accepted is what encoding/json sees.
func FuzzObject(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { "a" : [ ] , "b":{} } `, `{"a":1e5,"b":-0.5,"c":true,"d":false,"e":null,"f":"\"\\\u00e9\ud83d\ude00\ud800","":[1,[2,{"x":""}]]}`,
		`{"a":1,"a":2}`, `{"a":"\\"}`, `{"a":[1,2`, `{"é":"é"}`, `{"a":12}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := strictjson.Object(raw, depth)
		if err != nil {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		var want map[string]any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("%q was accepted: %v", raw, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", raw, d)
		}
		members := map[string]any{}
		err = strictjson.Members(raw, func(name, value []byte) error {
			var err error
			members[string(name)], err = strictjson.Value(value, depth)
			return err
		})
		if d := cmp.Diff(want, members); err != nil || d != "" {
			t.Errorf("members of %q: %v %s", raw, err, d)
		}
	})
}

func BenchmarkObject(b *testing.B) {
	raw := []byte(`{"aud":["api://AzureADTokenExchange"],"exp":1700003600,"iat":1700000000,"iss":"https://eastus.oic.prod-aks.azure.com/a/b/","jti":"c","kubernetes.io":{"namespace":"default","serviceaccount":{"name":"bench","uid":"d"}},"nbf":1700000000,"sub":"system:serviceaccount:default:bench"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := strictjson.Object(raw, depth); err != nil {
			b.Fatal(err)
		}
	}
}
