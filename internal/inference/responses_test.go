package inference_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/inference"
)

func responses(body string, stream bool) *inference.Call {
	return &inference.Call{Operation: inference.Responses, Body: []byte(body), Stream: stream}
}

func object(t *testing.T, s string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return m
}

func TestResponses_RequestAsChat(t *testing.T) {
	p := &replay{}
	c := catalog(t, inference.BackendConfig{Name: "b", URL: p.server(t).URL})
	a, err := c.Do(t.Context(), "m", "", responses(`{"model":"d","instructions":"Be kind.","max_output_tokens":50,"temperature":0.5,"top_k":3,"store":false,
		"input":[{"role":"user","content":[{"type":"input_text","text":"Look: "},{"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"low"}]},
			{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"function_call","call_id":"c2","name":"g","arguments":"{}"},
			{"type":"function_call_output","call_id":"c1","output":"sunny"},{"type":"reasoning","id":"rs_1","summary":[]},{"type":"message","role":"developer","content":"short"}],
		"tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true}],"tool_choice":{"type":"function","name":"f"},
		"text":{"format":{"type":"json_schema","name":"s","schema":{"type":"object"},"strict":true}},"reasoning":{"effort":"low"},"metadata":{"a":"b"}}`, false))
	got := object(t, text(t, a, err))
	want := object(t, `{"model":"m","max_tokens":50,"temperature":0.5,"top_k":3,"reasoning_effort":"low",
		"messages":[{"role":"system","content":"Be kind."},
			{"role":"user","content":[{"type":"text","text":"Look: "},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"low"}}]},
			{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]},
			{"role":"tool","tool_call_id":"c1","content":"sunny"},{"role":"system","content":"short"}],
		"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"f"}},
		"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object"},"strict":true}}}`)
	if diff := cmp.Diff(want, p.seen[0]); diff != "" || p.paths[0] != "POST /v1/chat/completions" {
		t.Errorf("%s %s", p.paths[0], diff)
	}
	if got["object"] != "response" || got["status"] != "completed" || got["model"] != "recorded" || got["instructions"] != "Be kind." || got["store"] != false || !a.Translated {
		t.Errorf("got %v", got)
	}
	if diff := cmp.Diff(object(t, `{"input_tokens":19,"input_tokens_details":{"cached_tokens":3},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":26}`), got["usage"]); diff != "" {
		t.Error(diff)
	}
	m := got["output"].([]any)[0].(map[string]any)
	if m["type"] != "message" || m["content"].([]any)[0].(map[string]any)["text"] != "Hello! How can I help?" {
		t.Errorf("got %v", m)
	}
}

// TestResponses_LimitHasTheBackendsName: OpenAI's reasoning models refuse
// max_tokens, other servers don't know max_completion_tokens. Of two backends of a
// model each gets its own.
func TestResponses_LimitHasTheBackendsName(t *testing.T) {
	yes := true
	other, modern := &replay{fault: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}}, &replay{}
	c := catalog(t, inference.BackendConfig{Name: "other", URL: other.server(t).URL}, inference.BackendConfig{Name: "modern", URL: modern.server(t).URL, MaxCompletionTokens: &yes, Weight: weight(0)})
	a, err := c.Do(t.Context(), "m", "", responses(`{"input":"hi","max_output_tokens":50}`, false))
	_ = text(t, a, err)
	for p, want := range map[*replay]string{other: "max_tokens", modern: "max_completion_tokens"} {
		if len(p.seen) != 1 || p.seen[0][want] != 50.0 {
			t.Errorf("want %s: %v", want, p.seen)
		}
		if _, both := p.seen[0]["max_tokens"]; both && want != "max_tokens" {
			t.Errorf("got both: %v", p.seen)
		}
	}
}

func TestConfig_WhoGetsMaxCompletionTokens(t *testing.T) {
	no, yes := false, true
	for _, row := range []struct {
		b    inference.BackendConfig
		want bool
	}{
		{inference.BackendConfig{URL: "http://127.0.0.1:8000"}, false},
		{inference.BackendConfig{URL: "http://127.0.0.1:8000", MaxCompletionTokens: &yes}, true},
		{inference.BackendConfig{URL: "https://API.openai.com"}, true},
		{inference.BackendConfig{URL: "https://eu.api.openai.com/v1"}, true},
		{inference.BackendConfig{URL: "https://api.openai.com.example.org"}, false},
		{inference.BackendConfig{URL: "https://api.openai.com", MaxCompletionTokens: &no}, false},
		{inference.BackendConfig{URL: "https://a.openai.azure.com", API: inference.APIAzure}, true},
		{inference.BackendConfig{URL: "https://a.openai.azure.com", API: inference.APIAzure, APIVersion: "2024-10-21"}, true},
		{inference.BackendConfig{URL: "https://a.openai.azure.com", API: inference.APIAzure, APIVersion: "2024-09-01-preview"}, true},
		{inference.BackendConfig{URL: "https://a.openai.azure.com", API: inference.APIAzure, APIVersion: "2024-06-01"}, false},
		{inference.BackendConfig{Builtin: true}, false},
	} {
		if got := inference.WantsCompletionTokens(row.b); got != row.want {
			t.Errorf("%+v: got %v", row.b, got)
		}
	}
}

func TestResponses_ToolCalls(t *testing.T) {
	p := &replay{json: "tools.json"}
	a, err := catalog(t, inference.BackendConfig{Name: "b", URL: p.server(t).URL}).Do(t.Context(), "m", "", responses(`{"input":"weather?"}`, false))
	out := object(t, text(t, a, err))["output"].([]any)
	call := out[0].(map[string]any)
	if len(out) != 1 || call["type"] != "function_call" || call["call_id"] != "call_1" || call["name"] != "get_weather" || call["arguments"] != `{"location":"Paris"}` {
		t.Errorf("got %v", out)
	}
}

// event is one of a response's stream.
type event struct {
	name string
	data map[string]any
}

func stream(t *testing.T, p *replay, body string) (out []event, err error) {
	t.Helper()
	a, err := catalog(t, inference.BackendConfig{Name: "b", URL: p.server(t).URL}).Do(t.Context(), "m", "", responses(body, true))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	raw, err := io.ReadAll(a.Body)
	for e := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
		name, data, ok := strings.Cut(strings.TrimPrefix(e, "event: "), "\ndata: ")
		if !ok {
			t.Fatalf("no event: %q", e)
		}
		ev := event{name, object(t, data)}
		if ev.data["type"] != name || ev.data["sequence_number"] != float64(len(out)) {
			t.Errorf("got %v as event %d", ev, len(out))
		}
		out = append(out, ev)
	}
	return out, err
}

func names(events []event) (out []string) {
	for _, e := range events {
		out = append(out, strings.TrimPrefix(e.name, "response."))
	}
	return out
}

func TestResponses_Stream(t *testing.T) {
	p := &replay{}
	got, err := stream(t, p, `{"input":"hi","stream":true}`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"}
	if diff := cmp.Diff(want, names(got)); diff != "" {
		t.Error(diff)
	}
	if o := p.seen[0]["stream_options"].(map[string]any); o["include_usage"] != true {
		t.Errorf("got %v", o)
	}
	last := got[len(got)-1].data["response"].(map[string]any)
	item := got[len(got)-2].data["item"].(map[string]any)
	if last["status"] != "completed" || last["usage"].(map[string]any)["output_tokens"] != 2.0 || got[6].data["text"] != "Hello there" || item["status"] != "completed" {
		t.Errorf("got %v", last)
	}
	if diff := cmp.Diff(item, last["output"].([]any)[0]); diff != "" {
		t.Error(diff)
	}
}

func TestResponses_StreamOfToolCalls(t *testing.T) {
	got, err := stream(t, &replay{sse: "tools.sse"}, `{"input":"hi","stream":true}`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"created", "in_progress", "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta", "output_item.added", "function_call_arguments.delta",
		"function_call_arguments.done", "output_item.done", "function_call_arguments.done", "output_item.done", "completed"}
	if diff := cmp.Diff(want, names(got)); diff != "" {
		t.Error(diff)
	}
	if got[7].data["arguments"] != `{"location":"Paris"}` || got[9].data["output_index"] != 1.0 {
		t.Errorf("got %v", got[7:10])
	}
}

func TestResponses_BrokenStreams(t *testing.T) {
	got, err := stream(t, &replay{sse: "malformed.sse"}, `{"input":"hi","stream":true}`)
	if last := got[len(got)-1]; last.name != "response.failed" || err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("got %v, %v", last, err)
	}
}

func TestResponses_Refusals(t *testing.T) {
	p := &replay{}
	c := catalog(t, inference.BackendConfig{Name: "b", URL: p.server(t).URL})
	for body, target := range map[string]string{
		`{"input":"a","previous_response_id":"resp_1"}`:                                "previous_response_id",
		`{"input":"a","conversation":"conv_1"}`:                                        "conversation",
		`{"input":"a","store":true}`:                                                   "store",
		`{"input":"a","background":true}`:                                              "background",
		`{"input":"a","truncation":"auto"}`:                                            "truncation",
		`{"input":"a","include":["message.output_text.logprobs"]}`:                     "include",
		`{"input":"a","tools":[{"type":"web_search"}]}`:                                "tools[0].type",
		`{"input":"a","tool_choice":{"type":"file_search"}}`:                           "tool_choice",
		`{"input":"a","text":{"format":{"type":"grammar"}}}`:                           "text.format.type",
		`{"input":[{"type":"item_reference","id":"x"}]}`:                               "input[0].type",
		`{"input":[{"role":"user","content":[{"type":"input_file"}]}]}`:                "input[0].content[0].type",
		`{"input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]}`: "input[0].content[0].file_id",
		`{"input":[{"role":"robot","content":"a"}]}`:                                   "input[0].role",
		`{"input":[{"role":"user","content":null}]}`:                                   "input[0].content",
		`{"input":1}`:               "input",
		`{}`:                        "input",
		`{"input":"a","tools":{}}`:  "tools",
		`{"input":"a","text":"x"}`:  "text",
		`{"input":"a","store":"x"}`: "store",
	} {
		_, err := c.Do(t.Context(), "m", "", responses(body, false))
		if e, ok := errors.AsType[*apierr.Error](err); !ok || e.Kind != apierr.BadRequest || e.Target != target {
			t.Errorf("%s: got %v", body, err)
		}
	}
	if b := backendStatus(t, c, "b"); p.calls() > 0 || b.InFlight != 0 || b.Failed != 0 {
		t.Errorf("got %+v", b)
	}
}

func TestResponses_NativeBackendGetsItAsItIs(t *testing.T) {
	p := &replay{}
	c := catalog(t, inference.BackendConfig{Name: "b", URL: p.server(t).URL, Responses: true})
	a, err := c.Do(t.Context(), "m", "", responses(`{"input":"a","previous_response_id":"resp_1"}`, false))
	_ = text(t, a, err)
	if p.paths[0] != "POST /v1/responses" || p.seen[0]["previous_response_id"] != "resp_1" || a.Translated {
		t.Errorf("got %v %v", p.paths, p.seen)
	}
}

func TestResponses_ErrorsPass(t *testing.T) {
	c := catalog(t, inference.BackendConfig{Name: "b", URL: (&replay{fault: status(400)}).server(t).URL})
	a, err := c.Do(t.Context(), "m", "", responses(`{"input":"a","stream":true}`, true))
	if got := text(t, a, err); a.Status != 400 || !strings.Contains(got, "it is broken") {
		t.Errorf("got %s", got)
	}
}

// FuzzEvents holds the reader of events to its bounds, and translation with it.
func FuzzEvents(f *testing.F) {
	for _, name := range []string{"chat.sse", "tools.sse", "malformed.sse"} {
		raw, err := readRecording(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("data: a\r\ndata:b\r\n\r\n: c\nevent: x\ndata\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := inference.Events(bytes.NewReader(raw))
		if err == nil {
			t.Fatal("it never ends")
		}
		for _, e := range got {
			if len(e) > len(raw) {
				t.Fatalf("%q has the event %q", raw, e)
			}
		}
		out, err := inference.Translate([]byte(`{"input":"a"}`), bytes.NewReader(raw))
		if err == nil && !bytes.Contains(out, []byte("event: response.")) {
			t.Fatalf("%q became %q", raw, out)
		}
		if n := bytes.Count(out, []byte("\n\n")); n != bytes.Count(out, []byte("event: ")) && !bytes.Contains(raw, []byte(`event: `)) {
			t.Fatalf("%q became %q", raw, out)
		}
	})
}

// FuzzResponses: whatever is asked, what a backend gets is JSON.
func FuzzResponses(f *testing.F) {
	for _, s := range []string{`{"input":"a"}`, `{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]}],"tools":[{"type":"function","name":"f"}]}`, `{"input":[{"type":"function_call_output","output":[]}]}`, `{"text":{"format":{}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := inference.Peek(body); err != nil {
			return
		}
		chat, err := inference.ResponsesToChat(body)
		if err != nil {
			if !apierr.Is(err, apierr.BadRequest) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if _, err := inference.Peek(chat); err != nil && !strings.Contains(err.Error(), "must be") {
			t.Fatalf("%q became %q: %v", body, chat, err)
		}
	})
}

// TestResponses_AnEndlessStreamEnds: what is translated is held, so it is bounded.
func TestResponses_AnEndlessStreamEnds(t *testing.T) {
	chunk := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("word ", 1<<16) + `"}}]}` + "\n\n"
	out, err := inference.Translate([]byte(`{"model":"m","input":"hi","stream":true}`), strings.NewReader(strings.Repeat(chunk, 80)))
	if err == nil || !bytes.Contains(out, []byte("event: response.failed")) || !bytes.Contains(out, []byte("The backend's answer is too long.")) {
		t.Errorf("%v after %d bytes", err, len(out))
	}
}
