package inference

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"lazurite.dev/internal/apierr"
)

// This file makes a request for /responses one for chat/completions.
// Source: OpenAI API reference, "Create a model response" and "Create a chat
// completion".

// raws is a JSON object whose members are not decoded.
type raws map[string]json.RawMessage

// untranslatable is the refusal of a member that chat has nothing for.
func untranslatable(member, why string) *apierr.Error {
	return apierr.New(apierr.BadRequest, "unsupported_parameter", "'%s' %s: the model's backend has chat/completions alone, and Lazurite translates what that can do. "+
		"A backend that has /responses itself is configured with responses: true (`models:`).", member, why).WithTarget(member)
}

func invalid(member, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "invalid_value", "'%s' is not valid: "+format+".", append([]any{member}, args...)...).WithTarget(member)
}

// null reports whether a member is absent, or as good as absent.
func null(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// responsesToChat is the body of a chat request that asks the same; limit is
// what max_output_tokens is called in it. Errors are BadRequest, with the member
// as Target.
func responsesToChat(body []byte, limit string) ([]byte, error) {
	var in raws
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, badBody("%s", err)
	}
	if err := refuseStateful(in); err != nil {
		return nil, err
	}
	out := raws{}
	for k, v := range in {
		if !slices.Contains(ofResponses(), k) {
			out[k] = v // shared by both, or a backend's own
		}
	}
	messages, err := chatMessages(in)
	if err != nil {
		return nil, err
	}
	if out["messages"], err = json.Marshal(messages); err != nil {
		return nil, err
	}
	if v := in["max_output_tokens"]; !null(v) {
		out[limit] = v
	}
	if err := translateText(in["text"], out); err != nil {
		return nil, err
	}
	if err := translateTools(in, out); err != nil {
		return nil, err
	}
	if err := translateReasoning(in["reasoning"], out); err != nil {
		return nil, err
	}
	if string(in["stream"]) == "true" {
		out["stream_options"] = json.RawMessage(`{"include_usage":true}`)
	}
	return json.Marshal(out)
}

// ofResponses are the members of a request that chat knows not, or otherwise.
func ofResponses() []string {
	return []string{"input", "instructions", "max_output_tokens", "text", "tools", "tool_choice", "reasoning", "store", "background", "previous_response_id", "conversation",
		"prompt", "include", "truncation", "metadata", "stream_options", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "max_tool_calls", "context_management"}
}

// refuseStateful refuses what needs memory of earlier calls, or tools of the
// service itself.
func refuseStateful(in raws) error {
	for _, m := range []string{"previous_response_id", "conversation", "prompt", "max_tool_calls", "context_management"} {
		if !null(in[m]) {
			return untranslatable(m, "can't be used here")
		}
	}
	for _, m := range []string{"store", "background"} {
		switch v := string(in[m]); {
		case v == "true":
			return untranslatable(m, "can't be true here")
		case !null(in[m]) && v != "false":
			return invalid(m, "it is not a boolean")
		}
	}
	if v := in["truncation"]; !null(v) && string(v) != `"disabled"` {
		return untranslatable("truncation", "can only be \"disabled\" here")
	}
	if v := in["include"]; !null(v) {
		var include []string
		if err := json.Unmarshal(v, &include); err != nil {
			return invalid("include", "it is not a list of strings")
		}
		for _, what := range include {
			if what != "reasoning.encrypted_content" { // there is none: nothing is left out
				return untranslatable("include", fmt.Sprintf("can't have %q here", quoted([]byte(what))))
			}
		}
	}
	return nil
}

// chatMessage is a message of chat.
type chatMessage struct {
	Role       string         `json:"role"`
	Content    any            `json:"content"` // a string, parts, or nil
	ToolCalls  []chatToolCall `json:"tool_calls,omitempty"`
	ToolCallID string         `json:"tool_call_id,omitempty"`
}

type chatToolCall struct {
	Index    int          `json:"-"`
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function chatFunction `json:"function"`
}

type chatFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// responseItem is one of the input, of the kinds that chat has.
type responseItem struct {
	Type      string          `json:"type"`
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments string          `json:"arguments"`
	Output    json.RawMessage `json:"output"`
}

func chatMessages(in raws) ([]chatMessage, error) {
	var out []chatMessage
	if v := in["instructions"]; !null(v) {
		var s string
		if json.Unmarshal(v, &s) != nil {
			return nil, untranslatable("instructions", "can only be text here")
		}
		out = append(out, chatMessage{Role: "system", Content: s})
	}
	input := in["input"]
	if null(input) {
		return nil, invalid("input", "it is missing")
	}
	var s string
	if json.Unmarshal(input, &s) == nil {
		return append(out, chatMessage{Role: "user", Content: s}), nil
	}
	var items []responseItem
	if err := json.Unmarshal(input, &items); err != nil {
		return nil, invalid("input", "it is neither text nor a list of items")
	}
	for i, item := range items {
		m, err := item.message(fmt.Sprintf("input[%d]", i))
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		if last := len(out) - 1; len(m.ToolCalls) > 0 && last >= 0 && out[last].Role == "assistant" { // chat has one message for all that the assistant did
			out[last].ToolCalls = append(out[last].ToolCalls, m.ToolCalls...)
			continue
		}
		out = append(out, *m)
	}
	return out, nil
}

// message is the item as one of chat's; nil for what chat needs not.
func (it responseItem) message(at string) (*chatMessage, error) {
	switch it.Type {
	case "", "message":
		if !slices.Contains([]string{"user", "assistant", "system", "developer"}, it.Role) {
			return nil, invalid(at+".role", "it is none of user, assistant, system, developer")
		}
		role := it.Role
		if role == "developer" {
			role = "system" // few servers know the other name
		}
		content, err := chatContent(it.Content, at+".content")
		return &chatMessage{Role: role, Content: content}, err
	case "function_call":
		call := chatToolCall{ID: it.CallID, Type: "function", Function: chatFunction{it.Name, it.Arguments}}
		return &chatMessage{Role: "assistant", ToolCalls: []chatToolCall{call}}, nil
	case "function_call_output":
		content, err := chatContent(it.Output, at+".output")
		return &chatMessage{Role: "tool", Content: content, ToolCallID: it.CallID}, err
	case "reasoning":
		return nil, nil // what a model thought before: chat models don't want it back
	default:
		return nil, untranslatable(at+".type", fmt.Sprintf("can't be %q here", quoted([]byte(it.Type))))
	}
}

// chatContent is text, or parts, as chat writes them.
func chatContent(raw json.RawMessage, at string) (any, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil && !null(raw) {
		return s, nil
	}
	var parts []struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		Refusal  string `json:"refusal"`
		ImageURL string `json:"image_url"`
		FileID   string `json:"file_id"`
		Detail   string `json:"detail"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil || null(raw) {
		return nil, invalid(at, "it is neither text nor a list of parts")
	}
	var out []map[string]any
	text := ""
	plain := true
	for i, p := range parts {
		switch p.Type {
		case "input_text", "output_text", "text":
			out, text = append(out, map[string]any{"type": "text", "text": p.Text}), text+p.Text
		case "refusal":
			out, text = append(out, map[string]any{"type": "text", "text": p.Refusal}), text+p.Refusal
		case "input_image":
			if p.ImageURL == "" {
				return nil, untranslatable(fmt.Sprintf("%s[%d].file_id", at, i), "can't be used here")
			}
			image := map[string]any{"url": p.ImageURL}
			if p.Detail != "" {
				image["detail"] = p.Detail
			}
			out, plain = append(out, map[string]any{"type": "image_url", "image_url": image}), false
		default:
			return nil, untranslatable(fmt.Sprintf("%s[%d].type", at, i), fmt.Sprintf("can't be %q here", quoted([]byte(p.Type))))
		}
	}
	if plain {
		return text, nil // every server takes a string
	}
	return out, nil
}

// translateText makes text.format response_format.
func translateText(raw json.RawMessage, out raws) error {
	if null(raw) {
		return nil
	}
	var text struct {
		Format    raws            `json:"format"`
		Verbosity json.RawMessage `json:"verbosity"`
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return invalid("text", "it is not an object with a format")
	}
	if !null(text.Verbosity) {
		out["verbosity"] = text.Verbosity
	}
	switch kind := string(text.Format["type"]); kind {
	case "", `"text"`:
	case `"json_object"`:
		out["response_format"] = json.RawMessage(`{"type":"json_object"}`)
	case `"json_schema"`:
		delete(text.Format, "type")
		f, err := json.Marshal(map[string]any{"type": "json_schema", "json_schema": text.Format})
		if err != nil {
			return invalid("text.format", "%s", err)
		}
		out["response_format"] = f
	default:
		return untranslatable("text.format.type", "can't be "+quoted([]byte(kind))+" here")
	}
	return nil
}

// translateTools makes functions chat's; other tools are the service's own.
func translateTools(in, out raws) error {
	var tools []raws
	if v := in["tools"]; !null(v) {
		if err := json.Unmarshal(v, &tools); err != nil {
			return invalid("tools", "it is not a list of objects")
		}
	}
	var functions []map[string]any
	for i, t := range tools {
		if kind := string(t["type"]); kind != `"function"` {
			return untranslatable(fmt.Sprintf("tools[%d].type", i), "can't be "+quoted([]byte(kind))+" here")
		}
		delete(t, "type")
		functions = append(functions, map[string]any{"type": "function", "function": t})
	}
	if len(functions) > 0 {
		raw, err := json.Marshal(functions)
		if err != nil {
			return invalid("tools", "%s", err)
		}
		out["tools"] = raw
	}
	choice := in["tool_choice"]
	switch {
	case null(choice) || len(functions) == 0 && (string(choice) == `"auto"` || string(choice) == `"none"`):
		return nil
	case bytes.HasPrefix(choice, []byte(`"`)):
		out["tool_choice"] = choice
		return nil
	}
	var one struct{ Type, Name string }
	if err := json.Unmarshal(choice, &one); err != nil || one.Type != "function" {
		return untranslatable("tool_choice", "can only be a word or a function here")
	}
	raw, err := json.Marshal(map[string]any{"type": "function", "function": map[string]string{"name": one.Name}})
	if err != nil {
		return invalid("tool_choice", "%s", err)
	}
	out["tool_choice"] = raw
	return nil
}

// translateReasoning makes reasoning.effort reasoning_effort; there are no
// summaries.
func translateReasoning(raw json.RawMessage, out raws) error {
	if null(raw) {
		return nil
	}
	var r raws
	if err := json.Unmarshal(raw, &r); err != nil {
		return invalid("reasoning", "it is not an object")
	}
	if !null(r["effort"]) {
		out["reasoning_effort"] = r["effort"]
	}
	return nil
}
