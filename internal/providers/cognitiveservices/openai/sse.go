package openai

import (
	"bytes"
	"encoding/json"
	"errors"

	"lazurite.dev/internal/inference"
)

// mostEvent bounds one event of a stream in bytes: the last one of a response
// holds all of its text.
const mostEvent = 8 << 20

// What can be wrong with a backend's stream.
var (
	errMalformed = errors.New("an event of the stream is no JSON object")
	errTooLong   = errors.New("an event of the stream is longer than 8 MiB")
	errCut       = errors.New("the stream ended before its last event")
)

// events passes a stream of server-sent events on, event by event and byte by
// byte, and looks only at what metering needs. It decodes events that speak of
// usage, and no others. Source: WHATWG HTML, server-sent events; OpenAI API
// reference, streaming.
type events struct {
	responses bool // events are those of /responses; else of /chat/completions or /completions
	hide      bool // the client did not ask for usage

	held     []byte // of an event that is not whole yet
	scanned  int    // of held, without an end
	usage    usage
	found    bool // of usage
	contents int  // events that may hold a token
	finished bool // a choice said why it ended
	done     bool // the last event came
	failed   bool // the backend said in the stream that it failed
}

// feed takes the next piece and gives whole events to pass, whose bytes are
// good until it returns. After an error nothing more may be fed.
func (e *events) feed(p []byte, pass func([]byte)) error {
	if len(e.held) > 0 {
		e.held = append(e.held, p...)
		p = e.held
	}
	for len(p) > 0 {
		end := eventEnd(p, e.scanned)
		if end == 0 {
			break
		}
		e.scanned = 0
		if err := e.event(p[:end], pass); err != nil {
			return err
		}
		p = p[end:]
	}
	if len(p) > mostEvent {
		return errTooLong
	}
	// The last three bytes may begin the end.
	e.scanned = max(0, len(p)-3)
	e.held = append(e.held[:0], p...)
	return nil
}

// end says what a stream that ended without an error lacks, and passes what a
// lenient backend left out.
func (e *events) end(pass func([]byte)) error {
	switch {
	case e.done || e.failed:
		return nil
	case len(e.held) > 0:
		return errCut
	case e.finished && !e.responses:
		e.done = true
		pass([]byte("data: [DONE]\n\n"))
		return nil
	}
	return errCut
}

// eventEnd is the length of the first event in b, with its blank line; 0 where
// it is not whole. Bytes before from are known to have no end.
func eventEnd(b []byte, from int) int {
	if b[0] == '\n' {
		return 1
	}
	if len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
		return 2
	}
	for i := from; ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n + 1
		if i < len(b) && b[i] == '\n' {
			return i + 1
		}
		if i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n' {
			return i + 2
		}
	}
}

// event looks at one whole event.
func (e *events) event(ev []byte, pass func([]byte)) error {
	data, from, to := eventData(ev)
	switch {
	case data == nil: // a comment, or nothing
	case string(data) == "[DONE]":
		e.done = true
	case data[0] != '{' || data[len(data)-1] != '}':
		return errMalformed
	default:
		kept, err := e.object(data)
		if err != nil || kept == nil {
			return err
		}
		if len(kept) != len(data) {
			ev = splice(ev, from, to, kept)
		}
	}
	pass(ev)
	return nil
}

// splice is ev with its data replaced; data of several lines become one.
func splice(ev []byte, from, to int, data []byte) []byte {
	out := append(make([]byte, 0, len(ev)), ev[:from]...)
	return append(append(out, data...), ev[to:]...)
}

// eventData is the data of an event without its line ends, nil where it has
// none, and where it stands in the event. The lines of data of several are
// joined, and from and to are those of the first and the last.
func eventData(ev []byte) (data []byte, from, to int) {
	for i := 0; i < len(ev); {
		n := bytes.IndexByte(ev[i:], '\n')
		line := bytes.TrimSuffix(ev[i:i+n], []byte("\r")) // an event ends with a line end
		if rest, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			end := i + len(line)
			rest = bytes.TrimPrefix(rest, []byte(" "))
			if to == 0 {
				data, from = rest, end-len(rest)
			} else {
				data = append(append(append([]byte{}, data...), ' '), rest...) // where a line of JSON may end, a space may stand
			}
			to = end
		}
		i += n + 1
	}
	if data = bytes.TrimSpace(data); len(data) == 0 {
		return nil, 0, 0
	}
	return data, from, to
}

// object looks at the JSON object of an event and gives what of it is passed:
// nil is nothing.
func (e *events) object(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte(`{"error"`)) {
		e.failed = true
	}
	if e.responses {
		e.contents++
		return data, e.lastOfResponse(data)
	}
	e.finished = e.finished || bytes.Contains(data, []byte(`"finish_reason":"`)) || bytes.Contains(data, []byte(`"finish_reason": "`))
	if !bytes.Contains(data, []byte(`"usage"`)) {
		e.contents++
		return data, nil
	}
	if e.hide && onlyNull(data) {
		e.contents++
		return withoutUsage(data)
	}
	var chunk struct {
		Usage   json.RawMessage   `json:"usage"`
		Choices []json.RawMessage `json:"choices"`
	}
	if err := json.Unmarshal(data, &chunk); err != nil {
		return nil, errMalformed
	}
	said := readUsage(chunk.Usage)
	if said != nil {
		e.usage, e.found = *said, true
	}
	if len(chunk.Choices) > 0 {
		e.contents++
	} else if said != nil && e.hide {
		return nil, nil
	}
	if !e.hide {
		return data, nil
	}
	return withoutUsage(data)
}

// onlyNull reports whether what a chunk says of usage is surely that there is
// none yet, as OpenAI's servers say in each.
func onlyNull(data []byte) bool {
	return bytes.Count(data, []byte(`"usage"`)) == bytes.Count(data, []byte(`"usage":null`))
}

// withoutUsage is an object without its member "usage".
func withoutUsage(data []byte) ([]byte, error) {
	if rest, ok := bytes.CutSuffix(data, []byte(`,"usage":null}`)); ok && len(rest) > 1 {
		return append(append(make([]byte, 0, len(rest)+1), rest...), '}'), nil
	}
	kept, err := inference.Set(data, "usage", nil)
	if err != nil {
		return nil, errMalformed
	}
	return kept, nil
}

// lastOfResponse takes the usage from the event that ends a response.
func (e *events) lastOfResponse(data []byte) error {
	if !bytes.Contains(data, []byte(`"response.completed"`)) && !bytes.Contains(data, []byte(`"response.incomplete"`)) && !bytes.Contains(data, []byte(`"response.failed"`)) && !bytes.Contains(data, []byte(`"error"`)) {
		return nil
	}
	var last struct {
		Type     string `json:"type"`
		Response struct {
			Usage json.RawMessage `json:"usage"`
		} `json:"response"`
	}
	if err := json.Unmarshal(data, &last); err != nil {
		return errMalformed
	}
	switch last.Type {
	case "error":
		e.failed = true
	case "response.completed", "response.incomplete", "response.failed":
		e.done = true
		if u := readUsage(last.Response.Usage); u != nil {
			e.usage, e.found = *u, true
		}
	}
	return nil
}
