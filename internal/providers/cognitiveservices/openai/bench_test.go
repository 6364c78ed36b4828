package openai_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/cognitiveservices/openai"
)

// canned answers without a network, so that what is measured is the plane's own.
type canned struct {
	*world
	contentType string
	answer      []byte
}

func (c canned) Do(context.Context, string, string, *inference.Call) (*inference.Answer, error) {
	return &inference.Answer{Status: 200, Header: http.Header{"Content-Type": {c.contentType}}, Body: io.NopCloser(&chunks{bytes.NewReader(c.answer)}), Backend: "canned"}, nil
}

// chunks gives an event at a time, as a backend does.
type chunks struct{ *bytes.Reader }

func (c *chunks) Read(p []byte) (int, error) { return c.Reader.Read(p[:min(len(p), 200)]) }

func benchmarkPlane(b *testing.B, contentType, answer, body string) {
	w := newWorld(b, func(c *openai.Config) {
		c.Models = canned{c.Models.(*world), contentType, []byte(answer)}
		at := time.Unix(1e9, 0)
		c.Now = func() time.Time { at = at.Add(time.Minute); return at }
	})
	w.standard()
	ctx := arrival.With(b.Context(), w.from)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(ctx, "POST", chat, strings.NewReader(body))
		r.Header.Set("Authorization", me)
		rec := httptest.NewRecorder()
		w.data.ServeHTTP(rec, r)
		if rec.Code != 200 {
			b.Fatal(rec.Body.String())
		}
	}
}

func BenchmarkChat(b *testing.B) {
	benchmarkPlane(b, "application/json", `{"choices":[{"message":{"content":"`+strings.Repeat("word ", 200)+`"}}],"usage":{"prompt_tokens":5,"completion_tokens":2}}`, hello)
}

func BenchmarkStream100(b *testing.B) {
	benchmarkPlane(b, "text/event-stream", strings.Repeat(word, 100)+stop+used+done, streamed)
}

// BenchmarkStream100Nulled has a backend that sends "usage":null in each chunk.
func BenchmarkStream100Nulled(b *testing.B) {
	benchmarkPlane(b, "text/event-stream", strings.Repeat(strings.Replace(word, "}\n\n", `,"usage":null}`+"\n\n", 1), 100)+stop+used+done, streamed)
}
