package tinywriter

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// usage counts tokens of the model's own tokenizer: of the texts of all
// messages as they were sent, and of the choices as they are returned.
type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// choice is one finished answer: its tokens' texts, in order.
type choice struct {
	pieces []string
	tokens int
	finish string // "stop", or "length" where max_tokens cut it
}

// completion is what every chunk and every answer begin with.
type completion struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Created     int64  `json:"created"`
	Model       string `json:"model"`
	Fingerprint string `json:"system_fingerprint"`
	Choices     []any  `json:"choices"`
	Usage       any    `json:"usage,omitempty"`
}

// chat is POST /v1/chat/completions: https://platform.openai.com/docs/api-reference/chat/create
func (s *server) chat(w http.ResponseWriter, r *http.Request) {
	t, refusal := decode(w, r)
	if refusal != nil {
		writeError(w, refusal)
		return
	}
	choices, u, fingerprint, err := s.answer(r.Context(), t)
	switch {
	case errors.Is(err, errBusy):
		writeError(w, &apiError{status: http.StatusTooManyRequests, code: "rate_limit_exceeded", message: "Too many requests wait for the built-in model. Try again."})
		return
	case r.Context().Err() != nil:
		return // the caller has gone
	case err != nil:
		writeError(w, &apiError{status: http.StatusInternalServerError, code: "internal_error", message: "The built-in model failed."})
		return
	}
	c := completion{ID: newID(), Created: time.Now().Unix(), Model: Name, Fingerprint: fingerprint}
	if t.stream {
		stream(r.Context(), w, c, t.usage, choices, u)
		return
	}
	c.Object, c.Usage = "chat.completion", u
	for i, ch := range choices {
		c.Choices = append(c.Choices, map[string]any{
			"index": i, "finish_reason": ch.finish, "logprobs": nil,
			"message": map[string]any{"role": "assistant", "content": join(ch.pieces), "refusal": nil},
		})
	}
	writeJSON(w, http.StatusOK, c)
}

func join(pieces []string) string {
	var b bytes.Buffer
	for _, p := range pieces {
		b.WriteString(p)
	}
	return b.String()
}

func newID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "chatcmpl-" + hex.EncodeToString(b[:])
}

// stream sends the choices token by token, each chunk flushed, all choices in step.
func stream(ctx context.Context, w http.ResponseWriter, c completion, withUsage bool, choices []choice, u usage) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	c.Object = "chat.completion.chunk"
	if withUsage {
		c.Usage = json.RawMessage("null") // on every chunk but the last
	}
	send := func(choices ...any) bool {
		c.Choices = append([]any{}, choices...)
		return event(w, c) == nil && flush() == nil && ctx.Err() == nil
	}
	delta := func(i int, d map[string]any, finish any) map[string]any {
		return map[string]any{"index": i, "delta": d, "finish_reason": finish, "logprobs": nil}
	}
	most := 0
	for i, ch := range choices {
		if !send(delta(i, map[string]any{"role": "assistant", "content": "", "refusal": nil}, nil)) {
			return
		}
		most = max(most, len(ch.pieces))
	}
	for at := range most {
		for i, ch := range choices {
			if at < len(ch.pieces) && !send(delta(i, map[string]any{"content": ch.pieces[at]}, nil)) {
				return
			}
		}
	}
	for i, ch := range choices {
		if !send(delta(i, map[string]any{}, ch.finish)) {
			return
		}
	}
	if withUsage {
		c.Usage = u
		if !send() {
			return
		}
	}
	if _, err := io.WriteString(w, "data: [DONE]\n\n"); err == nil {
		_ = flush() // the caller has all of it, or has gone
	}
}

// event writes one server-sent event.
func event(w io.Writer, v any) error {
	var b bytes.Buffer
	b.WriteString("data: ")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}
