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
	r := newRelay(a.p.Stall)
	ended := make(chan error, 1)
	go func() {
		defer r.end()
		ended <- a.tellBroken(r, a.pump(func(p []byte) error { return a.events(ev, c, r, p) }))
	}()
	wrote := r.writeTo(w)
	r.leave()
	_ = a.answer.Body.Close() // ends the call to the backend where the client went away
	err := <-ended
	u, status := ev.usage, http.StatusOK
	if !ev.found && ev.contents > 0 {
		u = usage{Prompt: a.prompt, Completion: ev.contents}
	}
	if a.breaks(err, wrote) == reasonClient {
		status = statusGone
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
	case a.c.Context.Err() != nil || wrote != nil:
		return reasonClient
	case errors.Is(err, errSlowClient):
		return reasonSlow
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

// events passes a piece of a stream into the buffer; nil is the end.
func (a *ask) events(ev *events, c *censor, r *relay, p []byte) error {
	var put error
	pass := func(b []byte) {
		a.keep(b)
		if put == nil {
			put = r.put(b)
		}
	}
	through := pass
	if c != nil {
		c.pass, through = pass, c.event
	}
	var err error
	if p == nil {
		err = ev.end(through)
	} else {
		err = ev.feed(p, through)
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

// pump reads the backend's answer to its end; fn gets each piece, and nil at
// the end.
func (a *ask) pump(fn func([]byte) error) error {
	held := a.p.pieces.Get().(*[]byte)
	defer a.p.pieces.Put(held)
	buf := *held
	for {
		n, err := a.answer.Body.Read(buf)
		if n > 0 {
			if a.first == 0 {
				a.first = time.Since(a.began)
			}
			if e := fn(buf[:n]); e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			return fn(nil)
		}
		if err != nil {
			return errors.Join(errCut, err)
		}
	}
}

// tellBroken puts an error event at the end of a stream.
func (a *ask) tellBroken(r *relay, err error) error {
	text := ""
	switch {
	case apierr.Is(err, apierr.Unavailable):
		text = apierr.From(err).Message
	case errors.Is(err, errMalformed), errors.Is(err, errTooLong):
		text = "The model's backend sent a malformed stream."
	case errors.Is(err, errCut):
		text = "The stream was cut by the model's backend before its end."
	default:
		return err
	}
	_ = r.put(streamError(a.row.op == inference.Responses, text)) // a client that does not read it is seen elsewhere
	return err
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
		_, wrote = w.Write(head)
	} else {
		r := newRelay(a.p.Stall)
		_ = r.put(head) // it has room
		ended := make(chan error, 1)
		go func() {
			defer r.end()
			ended <- a.pump(func(p []byte) error {
				if p == nil {
					return nil
				}
				scan.feed(p)
				a.keep(p)
				return r.put(p)
			})
		}()
		wrote = r.writeTo(w)
		r.leave()
		_ = a.answer.Body.Close()
		err = <-ended
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
