package openai

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/web"
)

// stream passes a stream of events on as they come.
func (a *ask) stream(w http.ResponseWriter) error {
	ev := &events{responses: a.row.op == inference.Responses, hide: a.hide}
	var c *censor
	if a.p.Filter != nil {
		c = &censor{a: a}
	}
	for k, v := range a.headers() {
		w.Header()[k] = v
	}
	a.streams = true
	err, wrote := a.flow(w, eventsSize, func(p []byte, pass func([]byte) error) error { return a.events(ev, c, pass, p) }, nil)
	u, status := ev.usage, http.StatusOK
	if a.breaks(err, wrote) == reasonClient {
		status = statusGone
	}
	if !ev.found && (ev.contents > 0 || status == statusGone) {
		u = usage{Prompt: a.prompt, Completion: ev.contents}
	}
	a.finish(status, u, !ev.found)
	if errors.Is(err, errSlowClient) {
		return err
	}
	return nil
}

// Why an answer did not come to its end.
const (
	reasonClient    = "client went away"
	reasonSlow      = "client too slow"
	reasonMalformed = "malformed"
	reasonCut       = "cut by the backend"
	reasonBackend   = "failed in the backend"
	reasonFilter    = "no content filter"
)

func (a *ask) reason(err, wrote error) string {
	switch {
	case errors.Is(err, errSlowClient):
		return reasonSlow
	case a.c.Context.Err() != nil || wrote != nil:
		return reasonClient
	case errors.Is(err, errMalformed), errors.Is(err, errTooLong):
		return reasonMalformed
	case errors.Is(err, errFailed):
		return reasonBackend
	case stopped(err):
		return ""
	case apierr.Is(err, apierr.Unavailable):
		return reasonFilter
	case err != nil:
		return reasonCut
	}
	return ""
}

// breaks counts an answer that did not come to its end, and says why.
func (a *ask) breaks(err, wrote error) string {
	if a.broken = a.reason(err, wrote); a.broken != "" {
		a.p.meter.broken.WithLabelValues(a.broken).Inc()
		web.EventFrom(a.c.Context).Set("broken", a.broken)
	}
	return a.broken
}

var errFailed = errors.New("the backend said in the stream that it failed")

// events takes a piece of a stream; nil is the end.
func (a *ask) events(ev *events, c *censor, pass func([]byte) error, p []byte) error {
	var put error
	through := func(b []byte) {
		a.keep(b)
		if put == nil {
			put = pass(b)
		}
	}
	judged := through
	if c != nil {
		c.pass, judged = through, c.event
	}
	var err error
	if p == nil {
		err = ev.end(judged)
	} else {
		err = ev.feed(p, judged)
	}
	if c != nil && (p == nil || err != nil) {
		_ = c.finish() // it keeps its error
	}
	switch {
	case put != nil:
		return put
	case c != nil && c.err != nil:
		return c.err
	case err == nil && p == nil && ev.failed:
		return errFailed
	}
	return err
}

// broke is the event that says in a stream what is wrong with it; nil where
// nothing is, or it was said.
func (a *ask) broke(err error) []byte {
	text := ""
	switch {
	case !a.streams || err == nil:
		return nil
	case apierr.Is(err, apierr.Unavailable):
		text = apierr.From(err).Message
	case errors.Is(err, errMalformed), errors.Is(err, errTooLong):
		text = "The model's backend sent a malformed stream."
	case errors.Is(err, errCut):
		text = "The stream was cut by the model's backend before its end."
	default:
		return nil
	}
	return streamError(a.row.op == inference.Responses, text)
}

// keep remembers an answer whose deployment's owner wants it logged.
func (a *ask) keep(b []byte) {
	if a.dep.ContentLogging && len(a.capture) < mostCaptured {
		a.capture = append(a.capture, b[:min(len(b), mostCaptured-len(a.capture))]...)
	}
}

// headSize is how much of an answer that is no stream is awaited: most are
// shorter, and get their length told.
const headSize = 64 << 10

// whole passes an answer that is no stream.
func (a *ask) whole() (any, error) {
	if a.base64 {
		return a.converted(mostEmbeddings, toBase64)
	}
	if a.p.Filter != nil && a.row.op != inference.Embeddings && a.row.op != inference.Images {
		return a.converted(mostFiltered, a.checkWhole)
	}
	var head bytes.Buffer
	if n, err := strconv.Atoi(a.answer.Header.Get("Content-Length")); err == nil && n > 0 && n < headSize {
		head.Grow(n + bytes.MinRead) // ReadFrom wants room to see the end
	}
	_, err := head.ReadFrom(io.LimitReader(a.answer.Body, headSize))
	a.first = time.Since(a.began)
	if err != nil {
		_ = a.answer.Body.Close()
		return nil, a.give(err)
	}
	return gate.Answer(func(w http.ResponseWriter) error { return a.rest(w, head.Bytes()) }), nil
}

// rest writes what was read of an answer, and passes on what comes after it.
func (a *ask) rest(w http.ResponseWriter, head []byte) error {
	scan := &usageScanner{}
	scan.feed(head)
	a.keep(head)
	for k, v := range a.headers() {
		w.Header()[k] = v
	}
	var err, wrote error
	if len(head) < headSize {
		w.Header().Set("Content-Length", strconv.Itoa(len(head)))
		a.begin(w)
		_, wrote = w.Write(head)
	} else {
		a.begin(w)
		err, wrote = a.flow(w, pieceSize, func(p []byte, pass func([]byte) error) error {
			if p == nil {
				return nil
			}
			scan.feed(p)
			a.keep(p)
			return pass(p)
		}, head)
	}
	_ = a.answer.Body.Close()
	u, found := scan.usage()
	if !found {
		u.Prompt = a.prompt
	}
	status := a.answer.Status
	if a.breaks(err, wrote) == reasonClient {
		status = statusGone
	}
	a.finish(status, u, !found)
	return err
}

// begin writes the backend's status; 200 comes by itself.
func (a *ask) begin(w http.ResponseWriter) {
	if a.answer.Status != http.StatusOK {
		w.WriteHeader(a.answer.Status)
	}
}

// mostEmbeddings bounds an answer that has to be converted.
const mostEmbeddings = 256 << 20

func wantsBase64(body []byte) bool {
	var b struct {
		Format string `json:"encoding_format"`
	}
	return json.Unmarshal(body, &b) == nil && b.Format == "base64"
}

// converted passes an answer of at most that many bytes as fn makes it.
func (a *ask) converted(most int, fn func([]byte) ([]byte, error)) (any, error) {
	raw, err := io.ReadAll(io.LimitReader(a.answer.Body, int64(most)+1))
	_ = a.answer.Body.Close()
	a.first = time.Since(a.began)
	if err == nil && len(raw) > most {
		err = apierr.New(apierr.Unavailable, "ServiceUnavailable", "The backend's answer is longer than the %d bytes that can be converted.", most)
	}
	if err == nil {
		raw, err = fn(raw)
	}
	if err != nil {
		return nil, a.give(err)
	}
	return gate.Answer(func(w http.ResponseWriter) error {
		scan := &usageScanner{}
		scan.feed(raw)
		a.keep(raw)
		for k, v := range a.headers() {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
		a.begin(w)
		_, wrote := w.Write(raw)
		u, found := scan.usage()
		status := a.answer.Status
		if wrote != nil {
			status = statusGone
		}
		a.finish(status, u, !found)
		return nil
	}), nil
}

// toBase64 replaces lists of numbers in the data of embeddings by base64 of
// 32-bit floats. All else stays as it was written.
func toBase64(raw []byte) ([]byte, error) {
	var list struct {
		Data []json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errors.Join(errMalformed, err)
	}
	changed := false
	for i, item := range list.Data {
		var e struct {
			Embedding json.RawMessage `json:"embedding"`
		}
		if err := json.Unmarshal(item, &e); err != nil {
			return nil, errors.Join(errMalformed, err)
		}
		if len(e.Embedding) == 0 || e.Embedding[0] != '[' {
			continue
		}
		var numbers []float32
		if err := json.Unmarshal(e.Embedding, &numbers); err != nil {
			return nil, errors.Join(errMalformed, err)
		}
		next, err := inference.Set(item, "embedding", encodeFloats(numbers))
		if err != nil {
			return nil, err
		}
		list.Data[i], changed = next, true
	}
	if !changed {
		return raw, nil
	}
	data, err := json.Marshal(list.Data)
	if err != nil {
		return nil, err
	}
	return inference.Set(raw, "data", data)
}

func encodeFloats(numbers []float32) json.RawMessage {
	b := make([]byte, 0, 4*len(numbers))
	for _, f := range numbers {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return json.RawMessage(`"` + base64.StdEncoding.EncodeToString(b) + `"`)
}
