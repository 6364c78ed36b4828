package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"lazurite.dev/internal/apierr"
)

// maxAhead is how much of a body a client's word makes us get memory for.
const maxAhead = 64 << 10

// maxDepth is how deep JSON in a request may nest.
const maxDepth = 100

// WriteJSON answers with status and v as JSON, HTML characters unescaped. A v
// that has no JSON form is a bug of the caller; the client gets a 500.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		status = http.StatusInternalServerError
		b.Reset()
		b.WriteString(`{"error":{"code":"InternalServerError","message":"The answer could not be written."}}` + "\n")
	}
	h := w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()[:b.Len()-1]) // the client went away; the newline is the encoder's
}

type errorDetail struct {
	Code    string        `json:"code"`
	Message string        `json:"message"`
	Target  string        `json:"target,omitempty"`
	Details []errorDetail `json:"details,omitempty"`
}

func detail(e *apierr.Error) errorDetail {
	d := errorDetail{Code: e.Code, Message: e.Message, Target: e.Target}
	for i := range e.Details {
		d.Details = append(d.Details, detail(&e.Details[i]))
	}
	return d
}

func errorBody(e *apierr.Error) any {
	return struct {
		Error errorDetail `json:"error"`
	}{detail(e)}
}

// WriteError answers e in the envelope of Azure's REST guidelines,
// {"error":{code,message,target,details}}, with Retry-After where e says it.
// Surfaces with another dialect have their own writer.
func WriteError(w http.ResponseWriter, e *apierr.Error) {
	SetRetryAfter(w.Header(), e.RetryAfter)
	WriteJSON(w, e.Kind.Status(), errorBody(e))
}

// SetRetryAfter writes d, if positive, as Retry-After in seconds, rounded up
// (RFC 9110 section 10.2.3).
func SetRetryAfter(h http.Header, d time.Duration) {
	if d > 0 {
		h.Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
}

// ReadBody reads r's body of at most limit bytes; a longer one is an
// *apierr.Error of kind TooLarge.
func ReadBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	raw, err := readAll(io.LimitReader(r.Body, limit+1), int(r.ContentLength))
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(e.Limit)
	}
	if err != nil {
		return nil, apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request's body could not be read to its end.").WithCause(err)
	}
	if int64(len(raw)) > limit {
		return nil, tooLarge(limit)
	}
	return raw, nil
}

// readAll reads all of in, which is said to have so many bytes, -1 where nobody says:
// at first there is room for maxAhead of them, and then for four times what came, so
// that a long body is copied seldom and leaves little garbage.
func readAll(in io.Reader, said int) ([]byte, error) {
	raw := make([]byte, 0, min(max(said, bytes.MinRead), maxAhead)+1) // one more, to see the end
	for {
		if len(raw) == cap(raw) {
			room := 2 * cap(raw)
			if said >= len(raw) {
				room = min(2*room, said+1)
			}
			raw = append(make([]byte, 0, room), raw...)
		}
		n, err := in.Read(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+n]
		if errors.Is(err, io.EOF) {
			return raw, nil
		}
		if err != nil {
			return raw, err
		}
	}
}

func tooLarge(limit int64) *apierr.Error {
	return apierr.New(apierr.TooLarge, "RequestContentTooLarge", "The request's body is longer than the %d bytes allowed here.", limit)
}

// ReadJSON reads r's body, one JSON value of at most limit bytes, into v. Every
// error is an *apierr.Error that says what is wrong and where: too long, empty,
// not JSON, a doubled key, more after the value, or of the wrong type.
func ReadJSON(r *http.Request, limit int64, v any) error {
	raw, err := ReadBody(r, limit)
	if err != nil {
		return err
	}
	return ParseJSON(raw, v)
}

// ParseJSON is ReadJSON for bytes already read.
func ParseJSON(raw []byte, v any) error {
	if err := checkJSON(raw); err != nil {
		return apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: %v.", err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		e := apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: %v.", err).WithCause(err)
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
			e.Message = fmt.Sprintf("The property '%s' holds a %s where a %s is expected.", t.Field, t.Value, jsonName(t.Type.Kind().String()))
			e.Target = t.Field
		}
		return e
	}
	return nil
}

// jsonName is the JSON word for a Go kind.
func jsonName(kind string) string {
	switch kind {
	case "struct", "map":
		return "object"
	case "slice", "array":
		return "list"
	case "bool", "string":
		return kind
	default:
		return "number"
	}
}

// checkJSON accepts one JSON value without doubled keys, which readers
// disagree about (RFC 8259 section 4).
func checkJSON(raw []byte) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return errors.New("the body is empty")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := checkValue(dec, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("it ends in the middle of a value")
		}
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("more follows the value at byte %d", dec.InputOffset())
	}
	return nil
}

func checkValue(dec *json.Decoder, depth int) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	d, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxDepth {
		return fmt.Errorf("it nests deeper than %d levels", maxDepth)
	}
	var seen map[string]bool
	if d == '{' {
		seen = map[string]bool{}
	}
	for dec.More() {
		if seen != nil {
			k, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ := k.(string) // the decoder lets nothing else stand here
			if seen[key] {
				return fmt.Errorf("the key %q appears twice in one object", key)
			}
			seen[key] = true
		}
		if err := checkValue(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}
