package inference

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
)

// maxTranslated bounds an answer that is translated as a whole, in bytes.
const maxTranslated = 16 << 20

// translateAnswer makes a chat's answer one of /responses. Errors pass as they
// are: both have the same form.
func translateAnswer(a *Answer, call *Call) error {
	a.Translated = true
	if a.Status != http.StatusOK {
		return nil
	}
	a.Header.Del("Content-Length")
	t, err := newTranslation(call.Body)
	if err != nil {
		return err
	}
	if call.Stream {
		a.Header.Set("Content-Type", "text/event-stream")
		a.Body = &responseStream{t: t, from: a.Body, in: newEvents(a.Body)}
		return nil
	}
	defer a.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(a.Body, maxTranslated+1))
	if err != nil {
		return apierr.New(apierr.Unavailable, "ServiceUnavailable", "The backend %s stopped in the middle of its answer.", a.Backend).WithCause(err)
	}
	if raw, err = t.whole(raw); err != nil {
		return apierr.New(apierr.Unavailable, "ServiceUnavailable", "The backend %s answered what is not a chat completion.", a.Backend).WithCause(err)
	}
	a.Header.Set("Content-Type", "application/json")
	a.Body = io.NopCloser(bytes.NewReader(raw))
	return nil
}

// translation is one response in the making.
type translation struct {
	asked   raws
	id      string
	created int64
	model   string
	output  []any // outMessage, outCall
	status  string
	reason  string // why it is incomplete
	usage   *responseUsage
	failure *responseError
}

func newTranslation(body []byte) (*translation, error) {
	t := &translation{id: newID("resp"), created: time.Now().Unix(), status: "in_progress"}
	err := json.Unmarshal(body, &t.asked)
	return t, err
}

func newID(kind string) string { return kind + "_" + strings.ToLower(rand.Text()) }

type responseError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type responseUsage struct {
	InputTokens  int `json:"input_tokens"`
	InputDetails struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	OutputTokens  int `json:"output_tokens"`
	OutputDetails struct {
		ReasoningTokens int `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	TotalTokens int `json:"total_tokens"`
}

type outMessage struct {
	Type    string    `json:"type"`
	ID      string    `json:"id"`
	Status  string    `json:"status"`
	Role    string    `json:"role"`
	Content []outPart `json:"content"`
}

// outPart is text, or with Refusal one of those.
type outPart struct {
	Type        string
	Text        string
	Annotations []any
}

// MarshalJSON writes the members of its type.
func (p outPart) MarshalJSON() ([]byte, error) {
	if p.Type == "refusal" {
		return json.Marshal(map[string]any{"type": p.Type, "refusal": p.Text})
	}
	return json.Marshal(map[string]any{"type": p.Type, "text": p.Text, "annotations": []any{}, "logprobs": []any{}})
}

type outCall struct {
	Type      string `json:"type"`
	ID        string `json:"id"`
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
	Status    string `json:"status"`
}

// chatAnswer is a chat completion, or a chunk of one.
type chatAnswer struct {
	Created int64           `json:"created"`
	Model   string          `json:"model"`
	Choices []chatChoice    `json:"choices"`
	Usage   *chatUsage      `json:"usage"`
	Error   json.RawMessage `json:"error"`
}

type chatChoice struct {
	Index        int       `json:"index"`
	Message      chatDelta `json:"message"`
	Delta        chatDelta `json:"delta"`
	FinishReason string    `json:"finish_reason"`
}

type chatDelta struct {
	Content   string `json:"content"`
	Refusal   string `json:"refusal"`
	ToolCalls []struct {
		Index    int          `json:"index"`
		ID       string       `json:"id"`
		Function chatFunction `json:"function"`
	} `json:"tool_calls"`
}

type chatUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
	PromptDetails    struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		ReasoningTokens int `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

// note takes over what a chat's answer says besides its choices.
func (t *translation) note(a *chatAnswer) {
	if a.Model != "" {
		t.model = a.Model
	}
	if a.Created != 0 {
		t.created = a.Created
	}
	if u := a.Usage; u != nil {
		t.usage = &responseUsage{InputTokens: u.PromptTokens, OutputTokens: u.CompletionTokens, TotalTokens: u.TotalTokens}
		t.usage.InputDetails.CachedTokens = u.PromptDetails.CachedTokens
		t.usage.OutputDetails.ReasoningTokens = u.CompletionDetails.ReasoningTokens
	}
}

// finish sets the status by chat's finish_reason.
func (t *translation) finish(reason string) {
	switch reason {
	case "length":
		t.status, t.reason = "incomplete", "max_output_tokens"
	case "content_filter":
		t.status, t.reason = "incomplete", "content_filter"
	default:
		t.status = "completed"
	}
}

// whole translates a chat completion.
func (t *translation) whole(raw []byte) ([]byte, error) {
	var a chatAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	if len(a.Choices) == 0 {
		return nil, fmt.Errorf("it has no choices")
	}
	t.note(&a)
	c := a.Choices[0]
	t.finish(c.FinishReason)
	if m := c.Message; m.Content != "" || m.Refusal != "" || len(m.ToolCalls) == 0 {
		part := outPart{Type: "output_text", Text: m.Content}
		if m.Refusal != "" {
			part = outPart{Type: "refusal", Text: m.Refusal}
		}
		t.output = append(t.output, &outMessage{"message", newID("msg"), t.status, "assistant", []outPart{part}})
	}
	for _, call := range c.Message.ToolCalls {
		t.output = append(t.output, &outCall{"function_call", newID("fc"), call.ID, call.Function.Name, call.Function.Arguments, t.status})
	}
	return json.Marshal(t.response())
}

// response is the response as it is now. What the request set is repeated, as
// the service does.
func (t *translation) response() map[string]any {
	r := map[string]any{
		"id": t.id, "object": "response", "created_at": t.created, "status": t.status, "error": t.failure, "incomplete_details": nil, "model": t.model,
		"output": t.output, "usage": t.usage, "previous_response_id": nil, "store": false, "background": false, "truncation": "disabled",
	}
	if t.output == nil {
		r["output"] = []any{}
	}
	if t.reason != "" {
		r["incomplete_details"] = map[string]string{"reason": t.reason}
	}
	for member, otherwise := range map[string]string{
		"instructions": `null`, "max_output_tokens": `null`, "metadata": `{}`, "parallel_tool_calls": `true`, "reasoning": `{"effort":null,"summary":null}`, "temperature": `1`,
		"text": `{"format":{"type":"text"}}`, "tool_choice": `"auto"`, "tools": `[]`, "top_p": `1`, "user": `null`, "service_tier": `"default"`,
	} {
		if v := t.asked[member]; !null(v) {
			r[member] = v
		} else {
			r[member] = json.RawMessage(otherwise)
		}
	}
	return r
}
