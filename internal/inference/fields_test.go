package inference_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/inference"
)

func TestPeek(t *testing.T) {
	f, err := inference.Peek([]byte(` {"messages":[{"role":"user","content":"a \"b\" \u00e4 {"}],"model":"m","stream":true,
		"stream_options":{"include_usage":false},"max_tokens":5,"max_completion_tokens":7,"n":2,"temperature":0.5e-1,"stop":null} `))
	if err != nil {
		t.Fatal(err)
	}
	if f.Model != "m" || !f.Stream || f.IncludeUsage == nil || *f.IncludeUsage || f.MaxTokens != 7 || f.N != 2 || string(f.StreamOption) != `{"include_usage":false}` {
		t.Errorf("got %+v", f)
	}
	if f, err = inference.Peek([]byte(`{"model":null,"stream":null}`)); err != nil || f.Model != "" || f.Stream || f.N != 1 || f.IncludeUsage != nil {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestPeek_Refusals(t *testing.T) {
	for body, target := range map[string]string{
		``: "", `[]`: "", `{`: "", `{}{}`: "", `{"a":1,}`: "", `{"a" 1}`: "", `{"a":01}`: "", `{"a":"\x"}`: "", "{\"a\":\"\n\"}": "", "{\"a\":\"\xff\"}": "",
		`{"model":1}`: "model", `{"stream":"true"}`: "stream", `{"stream_options":[]}`: "stream_options", `{"n":0}`: "n", `{"n":1.5}`: "n", `{"n":129}`: "n",
		`{"stream_options":{"Include_Usage":true}}`: "stream_options", `{"stream_options":{"include_usage":false,"INCLUDE_USAGE":true}}`: "stream_options",
		`{"stream_options":{"include_usage":true,"include_usage":false}}`: "stream_options", `{` + members(1001) + `}`: "",
		`{"max_tokens":-1}`:         "max_tokens",
		`{"model":"a","Model":"b"}`: "model", `{"MESSAGES":[]}`: "messages", `{"tool\u017f":1}`: "tools", `{"model":"a","model":"b"}`: "model", `{"model":"a","mod\u0065l":"b"}`: "model",
		`{"a":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`: "",
	} {
		_, err := inference.Peek([]byte(body))
		if e, ok := errors.AsType[*apierr.Error](err); !ok || e.Kind != apierr.BadRequest || e.Target != target {
			t.Errorf("%.40s: got %v", body, err)
		}
	}
}

// members are so many of an object.
func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"m%d":0,`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// TestPeek_QuotesLittle refuses bodies of long names without saying all of them:
// errors are logged.
func TestPeek_QuotesLittle(t *testing.T) {
	long := strings.Repeat("secret ", 1000)
	for _, body := range []string{`{"` + long + `":1,"` + long + `":2}`, `{"stream_options":{"` + long + `":1,"` + long + `":2}}`} {
		_, err := inference.Peek([]byte(body))
		if e, ok := errors.AsType[*apierr.Error](err); !ok || len(e.Message)+len(e.Target) > 300 {
			t.Errorf("got %.400s", err)
		}
	}
}

func TestPeek_TheLargestBoundOfTheAnswerCounts(t *testing.T) {
	for _, body := range []string{`{"max_output_tokens":1,"max_tokens":100}`, `{"max_tokens":100,"max_completion_tokens":1}`} {
		if f, err := inference.Peek([]byte(body)); err != nil || f.MaxTokens != 100 {
			t.Errorf("%s: %d, %v", body, f.MaxTokens, err)
		}
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct{ body, key, raw, want string }{
		{`{"model":"a","x": [1]}`, "model", `"b"`, `{"model":"b","x": [1]}`},
		{`{"mod\u0065l" : "a" }`, "model", `"b"`, `{"mod\u0065l" : "b" }`},
		{`{}`, "model", `"b"`, `{"model":"b"}`},
		{` { "x":1 } `, "model", `{"y":1}`, ` { "x":1 ,"model":{"y":1}} `},
		{`{"a":1, "b":2, "c":3}`, "a", ``, `{"b":2, "c":3}`},
		{`{"a":1, "b":2, "c":3}`, "b", ``, `{"a":1, "c":3}`},
		{`{"a":1, "b":2, "c":3}`, "c", ``, `{"a":1, "b":2}`},
		{`{"a":1}`, "a", ``, `{}`},
		{`{"a":1}`, "b", ``, `{"a":1}`},
	} {
		var raw json.RawMessage
		if c.raw != "" {
			raw = json.RawMessage(c.raw)
		}
		got, err := inference.Set([]byte(c.body), c.key, raw)
		if err != nil || string(got) != c.want {
			t.Errorf("%s %s=%s: got %s, %v, want %s", c.body, c.key, c.raw, got, err, c.want)
		}
	}
	if _, err := inference.Set([]byte(`{}`), "a", json.RawMessage(`1 2`)); err == nil {
		t.Error("a value that is not JSON passed")
	}
	if _, err := inference.Set([]byte(`{"a":1,"a":2}`), "a", json.RawMessage(`1`)); err == nil {
		t.Error("a doubled member passed")
	}
}

func TestEdit(t *testing.T) {
	set := func(key, raw string) inference.Member { return inference.Member{Key: key, Value: json.RawMessage(raw)} }
	gone := func(key string) inference.Member { return inference.Member{Key: key} }
	for _, c := range []struct {
		body, want string
		edits      []inference.Member
	}{
		{`{"a": 1}`, `{"a": 1}`, nil},
		{`{"model":"a", "store":true, "x":1}`, `{"model":"b", "store":false, "x":1,"y":2}`, []inference.Member{set("store", "false"), set("model", `"b"`), set("y", "2")}},
		{`{"a":1, "b":2, "c":3}`, `{"c":3}`, []inference.Member{gone("a"), gone("b")}},
		{`{"a":1, "b":2, "c":3}`, `{"a":1}`, []inference.Member{gone("c"), gone("b")}},
		{`{"a":1, "b":2, "c":3}`, `{"b":4}`, []inference.Member{gone("c"), set("b", "4"), gone("a")}},
		{`{"a":1,"b":2}`, `{"z":1,"y":2}`, []inference.Member{gone("a"), gone("b"), set("z", "1"), set("y", "2")}},
		{`{}`, `{"z":2}`, []inference.Member{set("z", "1"), set("z", "2")}},
		{`{"z":0,"a":1}`, `{"a":1}`, []inference.Member{set("z", "1"), gone("z")}},
	} {
		if got, err := inference.Edit([]byte(c.body), c.edits...); err != nil || string(got) != c.want {
			t.Errorf("%s %v: got %s, %v, want %s", c.body, c.edits, got, err, c.want)
		}
	}
	if _, err := inference.Edit([]byte(`{}`), set("a", "1"), set("b", "{")); err == nil {
		t.Error("a value that is not JSON passed")
	}
}

// FuzzPeek holds Peek and Set against encoding/json.
func FuzzPeek(f *testing.F) {
	for _, s := range []string{`{}`, `{"model":"gpt","n":1}`, `{"a":[1,{"b":"\ud800"}],"c":-0.1e+7}`, `{"":null}`, `{"a":tru}`, ` {"a" : "\u12"}`, `{"stream_options":{"include_usage":true}}`, `{"\\":1,"\"":2}`} {
		f.Add([]byte(s), "model")
	}
	f.Fuzz(func(t *testing.T, body []byte, key string) {
		fields, err := inference.Peek(body)
		var object map[string]json.RawMessage
		valid := json.Valid(body) && json.Unmarshal(body, &object) == nil && object != nil && utf8.Valid(body)
		if err == nil && !valid {
			t.Fatalf("%q passed", body)
		}
		if err != nil {
			if e, ok := errors.AsType[*apierr.Error](err); !ok || e.Kind != apierr.BadRequest {
				t.Fatalf("%q: %v is no bad request", body, err)
			}
			if valid && strings.Contains(err.Error(), "not JSON") {
				t.Fatalf("%q was refused: %v", body, err)
			}
			return
		}
		if fields.N < 1 || fields.MaxTokens < 0 {
			t.Fatalf("%q: %+v", body, fields)
		}
		if !utf8.ValidString(key) {
			return
		}
		set, err := inference.Set(body, key, json.RawMessage(`"x"`))
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		var after map[string]json.RawMessage
		if err := json.Unmarshal(set, &after); err != nil || string(after[key]) != `"x"` {
			t.Fatalf("%q became %q: %v", body, set, err)
		}
		both, err := inference.Edit(body, inference.Member{Key: key}, inference.Member{Key: "b", Value: json.RawMessage("1")}, inference.Member{Key: "c", Value: json.RawMessage("2")})
		if err != nil {
			t.Fatal(err)
		}
		one := body
		for _, m := range []inference.Member{{Key: key}, {Key: "b", Value: json.RawMessage("1")}, {Key: "c", Value: json.RawMessage("2")}} {
			if one, err = inference.Set(one, m.Key, m.Value); err != nil {
				t.Fatal(err)
			}
		}
		var a, b map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(both, &a), json.Unmarshal(one, &b)); err != nil || !maps.EqualFunc(a, b, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) }) {
			t.Fatalf("%q became %q, and one by one %q: %v", body, both, one, err)
		}
		if set, err = inference.Set(set, key, nil); err != nil {
			t.Fatal(err)
		}
		after = nil
		if err := json.Unmarshal(set, &after); err != nil {
			t.Fatalf("%q: %v", set, err)
		}
		if _, there := after[key]; there {
			t.Fatalf("%q still has %q", set, key)
		}
		delete(object, key)
		if len(after) != len(object) {
			t.Fatalf("%q became %q", body, set)
		}
	})
}
