package openai_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/cognitiveservices/openai"
)

func TestFilter_TakesUsageOutAsBytes(t *testing.T) {
	const nulled = `data: {"id":"c","choices":[{"delta":{"content":"\"usage\":null"}}],"usage":null}` + "\n\n"
	const kept = `data: {"id":"c","choices":[{"delta":{"content":"\"usage\":null"}}]}` + "\n\n"
	in := nulled + stop + used + done
	for cut := range len(in) {
		out, prompt, completion, err := openai.FilterStream(false, true, []byte(in[:cut]), []byte(in[cut:]))
		if string(out) != kept+stop+done || prompt != 5 || completion != 2 || err != nil {
			t.Fatalf("cut at %d: %q %d %d %v", cut, out, prompt, completion, err)
		}
	}
	crlf := strings.ReplaceAll(in, "\n", "\r\n")
	if out, _, completion, err := openai.FilterStream(false, true, []byte(crlf)); string(out) != strings.ReplaceAll(kept+stop+done, "\n", "\r\n") || completion != 2 || err != nil {
		t.Errorf("%q %d %v", out, completion, err)
	}
	// Usage beside choices, as some servers send it.
	both := strings.Replace(stop, "}\n\n", `,"usage":{"prompt_tokens":1,"completion_tokens":9}}`+"\n\n", 1)
	if out, _, completion, err := openai.FilterStream(false, true, []byte(both+done)); string(out) != stop+done || completion != 9 || err != nil {
		t.Errorf("%q %d %v", out, completion, err)
	}
	lines := "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":1}}\n\ndata: {\"usage\":null,\ndata: \"a\":1}\n\n" + done
	if out, prompt, _, err := openai.FilterStream(false, true, []byte(lines)); string(out) != "data: {\"a\":1}\n\n"+done || prompt != 1 || err != nil {
		t.Errorf("%q %d %v", out, prompt, err)
	}
	if _, _, completion, err := openai.FilterStream(false, true, []byte(strings.Replace(used, ":2,", ":-2,", 1)+done)); completion != 0 || err != nil {
		t.Errorf("%d tokens: %v", completion, err)
	}
}

func TestFilter_BoundsAnEvent(t *testing.T) {
	piece := bytes.Repeat([]byte("x"), 1<<20)
	pieces := [][]byte{[]byte("data: {")}
	for range 9 {
		pieces = append(pieces, piece)
	}
	if _, _, _, err := openai.FilterStream(false, true, pieces...); err == nil || errors.Is(err, openai.ErrCut) {
		t.Errorf("%v", err)
	}
}

// FuzzFilter: however a stream is cut into pieces, the client gets the same; a
// stream without usage passes byte for byte; what passes is whole events.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{word + stop + used + done, "data: {\"usage\":null}\r\n\r\ndata:[DONE]\n\n", ":c\n\n\n\ndata\ndata: {}\n\n", "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1}}}\n\n"} {
		f.Add([]byte(s), uint16(7), true, false)
		f.Add([]byte(s), uint16(1), false, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16, hide, responses bool) {
		whole, p1, c1, err1 := openai.FilterStream(responses, hide, bytes.Clone(in))
		var pieces [][]byte
		for rest := in; len(rest) > 0; {
			n := min(len(rest), 1+int(cut)%64)
			pieces = append(pieces, bytes.Clone(rest[:n]))
			rest = rest[n:]
		}
		parts, p2, c2, err2 := openai.FilterStream(responses, hide, pieces...)
		if !bytes.Equal(whole, parts) || p1 != p2 || c1 != c2 || (err1 == nil) != (err2 == nil) {
			t.Fatalf("whole %q %d %d %v\nparts %q %d %d %v", whole, p1, c1, err1, parts, p2, c2, err2)
		}
		if p1 < 0 || c1 < 0 {
			t.Fatalf("%d and %d tokens", p1, c1)
		}
		if err1 == nil && !hide && !bytes.Equal(bytes.TrimSuffix(whole, []byte(done)), bytes.TrimSuffix(in, []byte(done))) {
			t.Fatalf("%q became %q", in, whole)
		}
		if len(whole) > 0 && whole[len(whole)-1] != '\n' {
			t.Fatalf("half an event: %q", whole)
		}
		if hide && !responses && err1 == nil {
			for line := range bytes.Lines(whole) {
				var chunk map[string]json.RawMessage
				if data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data: ")); ok && json.Unmarshal(data, &chunk) == nil && chunk["usage"] != nil && bytes.Contains(data, []byte(`"usage"`)) && !bytes.Contains(in, []byte("\ndata")) {
					t.Fatalf("usage passed: %q of %q", data, in)
				}
			}
		}
	})
}

// FuzzUsage holds the scanner against encoding/json.
func FuzzUsage(f *testing.F) {
	for _, s := range []string{
		`{"usage":{"prompt_tokens":1,"completion_tokens":2}}`, `{"a":{"usage":{"prompt_tokens":9}},"usage":{"prompt_tokens":3} , "b":"}"}`,
		`{"choices":[{"text":"\"usage\":{"}],"usage":{"input_tokens":4,"output_tokens":5,"d":{"x":[1,"}"]}}}`, `{"usage":null}`, `[{"usage":1}]`, `{"u":"usage","usage" : {"prompt_tokens":7}}`,
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		var pieces [][]byte
		for rest := in; len(rest) > 0; {
			n := min(len(rest), 1+int(cut)%16)
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		prompt, completion, found := openai.ScanUsage(pieces...)
		if p, c, again := openai.ScanUsage(in); p != prompt || c != completion || again != found {
			t.Fatalf("%q in pieces: %d %d %v, whole: %d %d %v", in, prompt, completion, found, p, c, again)
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(in, &want) != nil || bytes.Count(in, []byte("usage")) != 1 {
			return
		}
		var u *struct {
			Prompt int `json:"prompt_tokens"`
			Input  int `json:"input_tokens"`
		}
		raw, ok := want["usage"]
		if ok && len(raw) < 4000 && json.Unmarshal(raw, &u) == nil && u != nil && (!found || prompt < min(u.Prompt, 1) || u.Input == 0 && u.Prompt > 0 && u.Prompt < 1000 && prompt != u.Prompt) {
			t.Fatalf("%q: %d %v, want %+v", in, prompt, found, u)
		}
	})
}

// FuzzVerdicts: whatever a filter answers, it is one verdict for each text or an
// error.
func FuzzVerdicts(f *testing.F) {
	for _, s := range []string{`{"results":[{"categories":{"hate":true,"self-harm/intent":null},"category_scores":{"sexual/minors":0.9}}]}`, `{"results":[{}]}`, `{"results":[null]}`, `{"results":[{"category_scores":{"hate":1e999}}]}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := openai.Verdicts(raw, 1)
		if err == nil && !json.Valid(raw) || n > 1 || n == 1 && err != nil {
			t.Fatalf("%q: %d %v", raw, n, err)
		}
	})
}

// FuzzAnswers: what is converted stays JSON, and lists of numbers are gone from
// embeddings.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{`{"data":[{"embedding":[1,2.5e3]}]}`, `{"data":[{"embedding":"AA"},{}],"x":1}`, `{"choices":[{"index":0,"delta":{"content":"x"}}]}`, `{"messages":[{"content":[{"type":"text","text":"a"},"b"]}],"prompt":["c",[1]],"input":{"content":{"text":"d"}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if out, err := openai.ToBase64(raw); err == nil {
			var list struct {
				Data []struct {
					Embedding json.RawMessage `json:"embedding"`
				} `json:"data"`
			}
			if err := json.Unmarshal(out, &list); err != nil {
				t.Fatalf("%q became %q: %v", raw, out, err)
			}
			for _, e := range list.Data {
				if len(e.Embedding) > 0 && e.Embedding[0] == '[' {
					t.Fatalf("%q became %q", raw, out)
				}
			}
		}
		for _, op := range []inference.Operation{inference.Chat, inference.Completions, inference.Responses, inference.Images} {
			for _, text := range openai.Prompts(op, raw) {
				if text == "" {
					t.Fatalf("%s of %q: an empty text", op, raw)
				}
			}
		}
		if !bytes.ContainsAny(raw, "\r\n") && json.Valid(raw) {
			ev := append(append([]byte("data: "), raw...), "\n\n"...)
			out, ok := bytes.CutSuffix(bytes.TrimPrefix(openai.Annotate(ev), []byte("data: ")), []byte("\n\n"))
			if !ok || !json.Valid(out) {
				t.Fatalf("%q became %q", ev, out)
			}
		}
	})
}
