package openai_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// fake is a server on OpenAI's API, as vLLM or llama.cpp's are one: what it
// answers is decided by what it is asked.
type fake struct {
	gone atomic.Int64 // streams whose client went away
}

type request struct {
	Model    string
	Stream   bool
	Messages []struct {
		Role    string
		Content json.RawMessage
	}
	Tools          []json.RawMessage
	ResponseFormat struct{ Type string } `json:"response_format"`
	StreamOptions  struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Input          json.RawMessage
	EncodingFormat string `json:"encoding_format"`
	N              int
}

// last is the text of the last message.
func (r *request) last() (role, text string) {
	if len(r.Messages) == 0 {
		return "", ""
	}
	m := r.Messages[len(r.Messages)-1]
	if json.Unmarshal(m.Content, &text) == nil {
		return m.Role, text
	}
	var parts []struct {
		Text     string
		ImageURL *struct{ URL string } `json:"image_url"`
	}
	_ = json.Unmarshal(m.Content, &parts) // nothing is no text
	for _, p := range parts {
		text += p.Text
		if p.ImageURL != nil {
			text += "[" + p.ImageURL.URL + "]"
		}
	}
	return m.Role, text
}

func (f *fake) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"object": "list", "data": []any{map[string]any{"id": "parrot", "object": "model"}, map[string]any{"id": "vectors", "object": "model"}}})
	})
	mux.HandleFunc("POST /v1/chat/completions", f.chat)
	mux.HandleFunc("POST /v1/embeddings", f.embeddings)
	mux.HandleFunc("GET /gone", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.gone.Load()) })
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// chat repeats what it was told. With tools it calls the first one, with a
// schema it answers with an object, and "for ever" makes a stream without end.
func (f *fake) chat(w http.ResponseWriter, r *http.Request) {
	var ask request
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask.Model != "parrot" {
		http.Error(w, `{"error":{"message":"no such model","type":"invalid_request_error"}}`, http.StatusNotFound)
		return
	}
	role, said := ask.last()
	message := map[string]any{"role": "assistant", "content": "You said: " + said}
	finish := "stop"
	switch {
	case len(ask.Tools) > 0 && role != "tool":
		finish = "tool_calls"
		message = map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{
			call(0, `{"city":"Oslo"}`), call(1, `{"city":"Bergen"}`),
		}}
	case ask.ResponseFormat.Type == "json_schema":
		message["content"] = `{"name":"rope","price":9.5}`
	}
	usage := map[string]any{"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
	if ask.Stream {
		f.stream(w, r, &ask, message, finish, usage)
		return
	}
	choices := []any{}
	for i := range max(1, ask.N) {
		choices = append(choices, map[string]any{"index": i, "message": message, "finish_reason": finish})
	}
	answer(w, map[string]any{"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "parrot", "choices": choices, "usage": usage})
}

func call(i int, arguments string) map[string]any {
	return map[string]any{"index": i, "id": fmt.Sprint("call_", i), "type": "function", "function": map[string]any{"name": "weather", "arguments": arguments}}
}

// stream sends the message word by word, and tool calls in halves, by index.
func (f *fake) stream(w http.ResponseWriter, r *http.Request, ask *request, message map[string]any, finish string, usage any) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(choices []any, usage any) {
		chunk := map[string]any{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "parrot", "choices": choices}
		if usage != nil {
			chunk["usage"] = usage
		}
		data, _ := json.Marshal(chunk)
		_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
		_ = http.NewResponseController(w).Flush()
	}
	delta := func(d map[string]any, finish any) {
		send([]any{map[string]any{"index": 0, "delta": d, "finish_reason": finish}}, nil)
	}
	delta(map[string]any{"role": "assistant", "content": ""}, nil)
	_, said := ask.last()
	for tick := time.NewTicker(20 * time.Millisecond); strings.Contains(said, "for ever"); {
		select {
		case <-r.Context().Done():
			tick.Stop()
			f.gone.Add(1)
			return
		case <-tick.C:
			delta(map[string]any{"content": "and "}, nil)
		}
	}
	if text, ok := message["content"].(string); ok {
		for _, word := range strings.SplitAfter(text, " ") {
			delta(map[string]any{"content": word}, nil)
		}
	}
	calls, _ := message["tool_calls"].([]any)
	for i, c := range calls {
		whole := c.(map[string]any)["function"].(map[string]any)["arguments"].(string)
		first := call(i, whole[:4])
		delta(map[string]any{"tool_calls": []any{first}}, nil)
		delta(map[string]any{"tool_calls": []any{map[string]any{"index": i, "function": map[string]any{"arguments": whole[4:]}}}}, nil)
	}
	delta(map[string]any{}, finish)
	if ask.StreamOptions.IncludeUsage {
		send([]any{}, usage)
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// embeddings gives each text its length, in three dimensions.
func (f *fake) embeddings(w http.ResponseWriter, r *http.Request) {
	var ask request
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask.Model != "vectors" {
		http.Error(w, `{"error":{"message":"no such model"}}`, http.StatusNotFound)
		return
	}
	var texts []string
	if json.Unmarshal(ask.Input, &texts) != nil {
		texts = []string{""}
		_ = json.Unmarshal(ask.Input, &texts[0]) // nothing is the empty text
	}
	data := []any{}
	for i, t := range texts {
		vector := []float32{float32(len(t)), 0.5, -1}
		var value any = vector
		if ask.EncodingFormat == "base64" {
			raw := []byte{}
			for _, x := range vector {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
			}
			value = base64.StdEncoding.EncodeToString(raw)
		}
		data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": value})
	}
	answer(w, map[string]any{"object": "list", "model": "vectors", "data": data, "usage": map[string]any{"prompt_tokens": 3, "total_tokens": 3}})
}
