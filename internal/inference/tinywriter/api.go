package tinywriter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// apiError is a refusal in OpenAI's form.
type apiError struct {
	status               int
	code, param, message string
}

func (e *apiError) Error() string { return e.message }

func bad(param, code, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, code: code, param: param, message: fmt.Sprintf(format, args...)}
}

// writeError writes {"error": {…}} as https://platform.openai.com/docs/guides/error-codes has it.
func writeError(w http.ResponseWriter, e *apiError) {
	kind := "invalid_request_error"
	switch {
	case e.status == http.StatusTooManyRequests:
		kind = "requests"
		w.Header().Set("Retry-After", "1")
	case e.status >= 500:
		kind = "server_error"
	}
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	writeJSON(w, e.status, map[string]any{"error": map[string]any{"message": e.message, "type": kind, "param": null(e.param), "code": null(e.code)}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		http.Error(w, "encoding the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the caller has gone: nobody is left to tell
}

// request is a chat completion's parameters (https://platform.openai.com/docs/api-reference/chat/create)
// that this model reads. Others that change the answer are refused: see refused.
type request struct {
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Stream        bool `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	Seed                *int64          `json:"seed"`
	N                   *int            `json:"n"`
	Stop                json.RawMessage `json:"stop"`
}

// task is a request that has been understood.
type task struct {
	messages    []message
	stream      bool
	usage       bool // in a stream: its last chunk holds the usage
	max         int  // tokens of a choice
	temperature float64
	topP        float64
	seed        *int64
	n           int
	stop        []string
}

type message struct{ role, text string }

const (
	maxChoices  = 16
	maxMessages = 1024
)

// decode reads the request, or says in OpenAI's words what is wrong with it.
func decode(w http.ResponseWriter, r *http.Request) (*task, *apiError) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &apiError{status: http.StatusRequestEntityTooLarge, code: "request_too_large", message: fmt.Sprintf("The request is larger than %d bytes.", maxBody)}
	} else if err != nil {
		return nil, bad("", "", "The request could not be read.")
	}
	return parse(body)
}

func parse(body []byte) (*task, *apiError) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, bad("", "", "The body of the request is not a JSON object.")
	}
	if e := refused(fields); e != nil {
		return nil, e
	}
	var q request
	if err := json.Unmarshal(body, &q); err != nil {
		param := ""
		if kind := (*json.UnmarshalTypeError)(nil); errors.As(err, &kind) {
			param = kind.Field
		}
		return nil, bad(param, "invalid_type", "Invalid type for '%s'.", param)
	}
	t := &task{stream: q.Stream, usage: q.StreamOptions != nil && q.StreamOptions.IncludeUsage, seed: q.Seed}
	if q.StreamOptions != nil && !q.Stream {
		return nil, bad("stream_options", "invalid_value", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
	}
	if e := t.numbers(&q); e != nil {
		return nil, e
	}
	if e := t.stops(q.Stop); e != nil {
		return nil, e
	}
	return t, t.read(&q)
}

func (t *task) numbers(q *request) *apiError {
	t.temperature, t.topP, t.n, t.max = 1, 1, 1, maxDraft
	if q.Temperature != nil {
		t.temperature = *q.Temperature
	}
	if q.TopP != nil {
		t.topP = *q.TopP
	}
	if q.N != nil {
		t.n = *q.N
	}
	limit, param := q.MaxTokens, "max_tokens"
	if q.MaxCompletionTokens != nil {
		limit, param = q.MaxCompletionTokens, "max_completion_tokens"
	}
	if limit != nil {
		t.max = *limit
	}
	switch {
	case t.temperature < 0 || t.temperature > 2:
		return bad("temperature", "invalid_value", "Invalid 'temperature': it must be between 0 and 2.")
	case t.topP < 0 || t.topP > 1:
		return bad("top_p", "invalid_value", "Invalid 'top_p': it must be between 0 and 1.")
	case t.n < 1 || t.n > maxChoices:
		return bad("n", "invalid_value", "Invalid 'n': the built-in model %s writes 1 to %d choices.", Name, maxChoices)
	case t.max < 1:
		return bad(param, "integer_below_min_value", "Invalid '%s': it must be at least 1.", param)
	}
	return nil
}

// stops reads stop: null, one sequence or up to four.
func (t *task) stops(raw json.RawMessage) *apiError {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		t.stop = []string{one}
	} else if json.Unmarshal(raw, &t.stop) != nil || len(t.stop) > 4 {
		return bad("stop", "invalid_type", "Invalid 'stop': it must be a string or a list of up to 4 strings.")
	}
	for _, s := range t.stop {
		if s == "" {
			return bad("stop", "invalid_value", "Invalid 'stop': a sequence is empty.")
		}
	}
	return nil
}

func (t *task) read(q *request) *apiError {
	if len(q.Messages) == 0 || len(q.Messages) > maxMessages {
		return bad("messages", "invalid_value", "Invalid 'messages': there must be 1 to %d.", maxMessages)
	}
	for i, m := range q.Messages {
		switch m.Role {
		case "system", "developer", "user", "assistant", "tool", "function":
		default:
			return bad(fmt.Sprintf("messages[%d].role", i), "invalid_value", "Invalid value: '%s'. Supported values are: 'system', 'developer', 'user', 'assistant', 'tool' and 'function'.", clip(m.Role, 32))
		}
		text, e := content(m.Content, fmt.Sprintf("messages[%d].content", i))
		if e != nil {
			return e
		}
		t.messages = append(t.messages, message{m.Role, text})
	}
	return nil
}

// content is a message's text: a string, parts of type text or refusal, or null (an assistant that called tools).
func content(raw json.RawMessage, param string) (string, *apiError) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, nil
	}
	var parts []struct {
		Type    string `json:"type"`
		Text    string `json:"text"`
		Refusal string `json:"refusal"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return "", bad(param, "invalid_type", "Invalid type for '%s': expected a string or a list of parts.", param)
	}
	var b strings.Builder
	for i, p := range parts {
		if p.Type != "text" && p.Type != "refusal" {
			return "", bad(fmt.Sprintf("%s[%d].type", param, i), "unsupported_content", "The built-in model %s reads text only, not '%s'. %s", Name, clip(p.Type, 32), setting)
		}
		b.WriteString(p.Text + p.Refusal)
	}
	return b.String(), nil
}

// refused says which field asks for what this model can't do. Values that ask
// for nothing (null, false, 0, empty, the default) pass, and so do fields that
// don't change the answer, known or not.
func refused(fields map[string]json.RawMessage) *apiError {
	for _, f := range []struct{ name, what string }{
		{"tools", "call tools"}, {"functions", "call functions"}, {"logprobs", "return log probabilities"}, {"top_logprobs", "return log probabilities"},
		{"logit_bias", "bias tokens"}, {"presence_penalty", "apply penalties"}, {"frequency_penalty", "apply penalties"},
		{"audio", "make audio"}, {"prediction", "use predicted outputs"}, {"web_search_options", "search the web"},
		{"reasoning_effort", "reason"}, {"store", "store completions"}, {"data_sources", "read data sources"},
	} {
		if raw, ok := fields[f.name]; ok && !nothing(raw) {
			return bad(f.name, "unsupported_parameter", "Unsupported parameter: '%s'. The built-in model %s can't %s. %s", f.name, Name, f.what, setting)
		}
	}
	var format struct {
		Type string `json:"type"`
	}
	if raw, ok := fields["response_format"]; ok && string(raw) != "null" && (json.Unmarshal(raw, &format) != nil || format.Type != "text") {
		return bad("response_format", "unsupported_parameter", "Unsupported parameter: 'response_format'. The built-in model %s writes plain text only. %s", Name, setting)
	}
	for name, harmless := range map[string]string{"tool_choice": "none auto", "function_call": "none auto"} {
		var choice string
		if raw, ok := fields[name]; ok && string(raw) != "null" && (json.Unmarshal(raw, &choice) != nil || !strings.Contains(harmless, choice)) {
			return bad(name, "unsupported_parameter", "Unsupported parameter: '%s'. The built-in model %s can't call tools. %s", name, Name, setting)
		}
	}
	var modalities []string
	if raw, ok := fields["modalities"]; ok && string(raw) != "null" && (json.Unmarshal(raw, &modalities) != nil || len(modalities) != 1 || modalities[0] != "text") {
		return bad("modalities", "unsupported_parameter", "Unsupported parameter: 'modalities'. The built-in model %s writes text only. %s", Name, setting)
	}
	return nil
}

// nothing says whether a value asks for nothing.
func nothing(raw json.RawMessage) bool {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return false
	}
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// clip shortens what a caller wrote before it is quoted back.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
