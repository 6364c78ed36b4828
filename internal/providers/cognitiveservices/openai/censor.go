package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lazurite.dev/internal/inference"
)

// censor holds a stream's events back until what they say together was judged.
// Azure does the same: with a filter, text comes in batches.
type censor struct {
	a    *ask
	pass func([]byte)

	held  [][]byte
	fresh int            // characters in held
	said  map[int]string // by choice: what was judged and what is held, the last of it
	begun bool
	err   error // nothing passes any more
}

// event takes a whole event of the backend's.
func (s *censor) event(ev []byte) {
	if s.err != nil {
		return
	}
	if !s.begun {
		s.begun = true
		if s.a.shown != nil && s.a.row.op != inference.Responses {
			s.pass(fmt.Appendf(nil, "data: {\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",\"prompt_filter_results\":%s}\n\n", s.a.shown))
		}
	}
	s.held = append(s.held, bytes.Clone(ev))
	data, _, _ := eventData(ev)
	last := string(data) == "[DONE]"
	if len(data) > 0 && data[0] == '{' {
		last = s.listen(data)
	}
	if s.err != nil {
		s.held = nil
		return
	}
	if s.fresh >= batchText || last && s.fresh > 0 {
		s.err = s.judge()
	} else if s.fresh == 0 {
		s.release(nil)
	}
}

// mostChoices bounds the choices of a stream, as the requests' n is.
const mostChoices = 128

// listen takes in what an event says, and reports whether it ends something.
// What can't be read can't be judged, and does not pass.
func (s *censor) listen(data []byte) bool {
	if s.a.row.op == inference.Responses {
		return s.listenResponse(data)
	}
	var chunk struct {
		Choices []json.RawMessage `json:"choices"`
	}
	if json.Unmarshal(data, &chunk) != nil {
		s.err = errMalformed
		return false
	}
	ended := false
	for _, raw := range chunk.Choices {
		var c struct {
			Index  int     `json:"index"`
			Finish *string `json:"finish_reason"`
		}
		if json.Unmarshal(raw, &c) != nil || c.Index < 0 || c.Index >= mostChoices {
			s.err = errMalformed
			return false
		}
		s.add(c.Index, choiceText(raw))
		ended = ended || c.Finish != nil
	}
	return ended
}

// listenResponse is listen for the events of a response. Their whole texts come
// again at the end of what their pieces made; what was heard is not added twice.
func (s *censor) listenResponse(data []byte) bool {
	var event map[string]json.RawMessage
	var kind string
	var response struct {
		Output json.RawMessage `json:"output"`
	}
	err := json.Unmarshal(data, &event)
	if err == nil && event["type"] != nil {
		err = json.Unmarshal(event["type"], &kind)
	}
	if err == nil && event["response"] != nil {
		err = json.Unmarshal(event["response"], &response)
	}
	if err != nil {
		s.err = errMalformed
		return false
	}
	for _, text := range textsIn(event["delta"]) {
		s.add(0, text)
	}
	for _, name := range []string{"type", "delta", "response", "item_id", "obfuscation", "logprobs", "error"} {
		delete(event, name)
	}
	for _, text := range append(membersTexts(event), textsIn(response.Output)...) {
		if !strings.Contains(s.said[0], text) {
			s.add(0, text)
		}
	}
	return strings.HasSuffix(kind, ".done") || strings.HasPrefix(kind, "response.completed") || strings.HasPrefix(kind, "response.incomplete")
}

func (s *censor) add(choice int, text string) {
	if text == "" {
		return
	}
	if s.said == nil {
		s.said = map[int]string{}
	}
	all := s.said[choice] + text
	if len(all) > mostText+4*batchText && s.fresh < batchText { // the next batch; of this one all is judged
		all = strings.ToValidUTF8(all[max(0, len(all)-mostText-len(text)):], "")
	}
	s.said[choice] = all
	s.fresh += len(text)
}

// judge judges what was said, and releases what is held or puts the end in its
// place.
func (s *censor) judge() error {
	var choices []int
	for c := range s.said {
		choices = append(choices, c)
	}
	slices.Sort(choices)
	texts := make([]string, len(choices))
	for i, c := range choices {
		texts[i] = s.said[c]
	}
	list, err := s.a.judged(texts)
	if err != nil {
		return err
	}
	by := map[int]verdict{}
	for i, v := range list {
		by[choices[i]] = v
		if v.filtered() {
			s.end(choices[i], v)
			return errFiltered
		}
	}
	s.release(by)
	return nil
}

// release passes what is held, with the verdicts by choice.
func (s *censor) release(by map[int]verdict) {
	for _, ev := range s.held {
		if by != nil && s.a.row.op != inference.Responses {
			ev = annotate(ev, by)
		}
		s.pass(ev)
	}
	s.held, s.fresh = nil, 0
}

// annotate puts verdicts into the choices of an event.
func annotate(ev []byte, by map[int]verdict) []byte {
	data, from, to := eventData(ev)
	var chunk struct {
		Choices []json.RawMessage `json:"choices"`
	}
	if len(data) == 0 || data[0] != '{' || json.Unmarshal(data, &chunk) != nil || len(chunk.Choices) == 0 {
		return ev
	}
	for i, raw := range chunk.Choices {
		var c struct {
			Index int `json:"index"`
		}
		if json.Unmarshal(raw, &c) != nil {
			return ev
		}
		v, ok := by[c.Index]
		if !ok {
			continue
		}
		name, value := v.field()
		next, err := inference.Set(raw, name, value)
		if err != nil {
			return ev
		}
		chunk.Choices[i] = next
	}
	choices, err := json.Marshal(chunk.Choices)
	if err != nil {
		return ev
	}
	next, err := inference.Set(data, "choices", choices)
	if err != nil {
		return ev
	}
	return splice(ev, from, to, next)
}

// end puts the end of a filtered answer in the place of what is held.
func (s *censor) end(choice int, v verdict) {
	s.held = nil
	s.a.filtered()
	if s.a.row.op == inference.Responses {
		s.pass([]byte("event: response.incomplete\ndata: {\"type\":\"response.incomplete\",\"response\":{\"object\":\"response\",\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"content_filter\"},\"output\":[]}}\n\n"))
		return
	}
	object, delta := "chat.completion.chunk", `"delta":{}`
	if s.a.row.op == inference.Completions {
		object, delta = "text_completion", `"text":""`
	}
	_, value := v.field()
	s.pass(fmt.Appendf(nil, "data: {\"id\":\"\",\"object\":%q,\"created\":0,\"model\":\"\",\"choices\":[{\"index\":%d,%s,\"finish_reason\":\"content_filter\",\"content_filter_results\":%s}]}\n\ndata: [DONE]\n\n", object, choice, delta, value))
}

// finish is what to do where the backend's stream has ended: judge the rest.
func (s *censor) finish() error {
	if s.err == nil && len(s.held) > 0 {
		s.err = s.judge()
	}
	return s.err
}

// stopped reports whether err is that the filter let nothing more pass, and
// said so.
func stopped(err error) bool { return errors.Is(err, errFiltered) }
