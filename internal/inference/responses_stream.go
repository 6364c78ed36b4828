package inference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// responseStream is the events of a response, made of a chat's chunks as they
// come. Source: OpenAI API reference, "Streaming events".
type responseStream struct {
	t    *translation
	from io.Closer
	in   *events

	out      bytes.Buffer // not yet read
	err      error        // what comes after out
	sequence int
	text     *outMessage // the message that is being written; its words are in said until it ends
	said     strings.Builder
	size     int            // of what was written, bytes
	textAt   int            // where it is in the output
	calls    map[int]*began // by chat's index
	started  bool
}

// began is a call that is being written.
type began struct {
	call *outCall
	said *strings.Builder // its arguments, until it ends
	at   int              // in the output
}

// Read gives the next events.
func (s *responseStream) Read(p []byte) (int, error) {
	for s.out.Len() == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.step()
	}
	return s.out.Read(p)
}

// Close ends the chat.
func (s *responseStream) Close() error { return s.from.Close() }

// emit writes an event.
func (s *responseStream) emit(kind string, members map[string]any) {
	members["type"], members["sequence_number"] = kind, s.sequence
	s.sequence++
	data, err := json.Marshal(members)
	if err != nil { // only raw members of the request could be wrong, and they were read before
		s.err = err
		return
	}
	fmt.Fprintf(&s.out, "event: %s\ndata: %s\n\n", kind, data)
}

func (s *responseStream) whole(kind string) {
	s.emit(kind, map[string]any{"response": s.t.response()})
}

// step reads one event of the chat's.
func (s *responseStream) step() {
	data, err := s.in.next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // without [DONE] it was cut
		}
		s.fail("The backend's answer was cut.", err)
		return
	}
	if string(data) == "[DONE]" {
		s.end()
		return
	}
	var a chatAnswer
	if err := json.Unmarshal(data, &a); err != nil {
		s.fail("The backend's answer is malformed.", fmt.Errorf("a malformed event: %w", err))
		return
	}
	if !null(a.Error) {
		var e responseError
		_ = json.Unmarshal(a.Error, &e) // a code that is no string leaves the rest
		s.fail(e.Message, io.EOF)
		return
	}
	if s.size += len(data); s.size > maxTranslated {
		s.fail("The backend's answer is too long.", fmt.Errorf("more than %d bytes of events", maxTranslated))
		return
	}
	s.t.note(&a)
	if !s.started {
		s.started = true
		s.whole("response.created")
		s.whole("response.in_progress")
	}
	for _, c := range a.Choices {
		if c.Index != 0 {
			continue
		}
		s.delta(&c.Delta)
		if c.FinishReason != "" {
			s.t.finish(c.FinishReason)
		}
	}
}

func (s *responseStream) delta(d *chatDelta) {
	switch {
	case d.Content != "":
		s.say("output_text", d.Content)
	case d.Refusal != "":
		s.say("refusal", d.Refusal)
	}
	for _, c := range d.ToolCalls {
		b := s.calls[c.Index]
		if b == nil {
			s.endText()
			b = &began{&outCall{"function_call", newID("fc"), c.ID, c.Function.Name, "", "in_progress"}, &strings.Builder{}, len(s.t.output)}
			if s.calls == nil {
				s.calls = map[int]*began{}
			}
			s.calls[c.Index] = b
			s.t.output = append(s.t.output, b.call)
			s.emit("response.output_item.added", map[string]any{"output_index": b.at, "item": b.call})
		}
		if c.Function.Arguments == "" {
			continue
		}
		b.said.WriteString(c.Function.Arguments)
		s.emit("response.function_call_arguments.delta", map[string]any{"item_id": b.call.ID, "output_index": b.at, "delta": c.Function.Arguments})
	}
}

// say adds to the message's part of a type, which it begins where there is none.
func (s *responseStream) say(kind, delta string) {
	if s.text != nil && s.text.Content[0].Type != kind {
		s.endText()
	}
	if s.text == nil {
		s.text, s.textAt = &outMessage{"message", newID("msg"), "in_progress", "assistant", []outPart{}}, len(s.t.output)
		s.t.output = append(s.t.output, s.text)
		s.emit("response.output_item.added", map[string]any{"output_index": s.textAt, "item": s.text})
		s.text.Content = []outPart{{Type: kind}}
		s.part("response.content_part.added", map[string]any{"part": s.text.Content[0]})
	}
	s.said.WriteString(delta)
	members := map[string]any{"delta": delta}
	if kind == "output_text" {
		members["logprobs"] = []any{}
	}
	s.part("response."+kind+".delta", members)
}

// part emits an event of the message's part.
func (s *responseStream) part(kind string, members map[string]any) {
	members["item_id"], members["output_index"], members["content_index"] = s.text.ID, s.textAt, 0
	s.emit(kind, members)
}

func (s *responseStream) endText() {
	if s.text == nil {
		return
	}
	s.text.Content[0].Text = s.said.String()
	s.said.Reset()
	p := s.text.Content[0]
	if p.Type == "refusal" {
		s.part("response.refusal.done", map[string]any{"refusal": p.Text})
	} else {
		s.part("response.output_text.done", map[string]any{"text": p.Text, "logprobs": []any{}})
	}
	s.part("response.content_part.done", map[string]any{"part": p})
	s.text.Status = s.itemStatus()
	s.emit("response.output_item.done", map[string]any{"output_index": s.textAt, "item": s.text})
	s.text = nil
}

func (s *responseStream) itemStatus() string {
	if s.t.status == "incomplete" {
		return "incomplete"
	}
	return "completed"
}

// end is the end of a chat that ended well.
func (s *responseStream) end() {
	if !s.started {
		s.fail("The backend's answer is empty.", io.ErrUnexpectedEOF)
		return
	}
	if s.t.status == "in_progress" {
		s.t.finish("")
	}
	s.endText()
	for _, item := range s.t.output {
		call, ok := item.(*outCall)
		if !ok {
			continue
		}
		for _, b := range s.calls {
			if b.call == call {
				call.Status, call.Arguments = s.itemStatus(), b.said.String()
				s.emit("response.function_call_arguments.done", map[string]any{"item_id": call.ID, "output_index": b.at, "name": call.Name, "arguments": call.Arguments})
				s.emit("response.output_item.done", map[string]any{"output_index": b.at, "item": call})
			}
		}
	}
	s.whole("response." + s.t.status)
	s.finish(io.EOF)
}

// finish sets what comes after the events, and lets the backend's connection be
// used again.
func (s *responseStream) finish(err error) {
	if s.err == nil {
		s.err = err
	}
	if errors.Is(err, io.EOF) {
		_, _ = s.in.next() // the end of the body is behind [DONE]
	}
}

// flush puts the words so far into what they belong to.
func (s *responseStream) flush() {
	if s.text != nil {
		s.text.Content[0].Text = s.said.String()
	}
	for _, b := range s.calls {
		b.call.Arguments = b.said.String()
	}
}

// fail ends the response for a reason that the client sees, then err.
func (s *responseStream) fail(message string, err error) {
	s.flush()
	s.t.status, s.t.failure = "failed", &responseError{"server_error", message}
	s.whole("response.failed")
	s.err = err
}
