package inference_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"lazurite.dev/internal/inference"
)

// fixed is a transport that answers at once.
type fixed struct{}

func (fixed) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(`{"choices":[]}`))}, nil
}

// BenchmarkDo is what a call costs besides its connection.
func BenchmarkDo(b *testing.B) {
	c, err := inference.New(inference.Config{Models: []inference.ModelConfig{{Name: "m", Backends: []inference.BackendConfig{{Name: "b", URL: "http://b"}}}}, NoBuiltin: true, Ollama: inference.OllamaOff})
	if err != nil {
		b.Fatal(err)
	}
	c.SetTransport("m", "b", fixed{})
	call := chat()
	b.ReportAllocs()
	for b.Loop() {
		a, err := c.Do(b.Context(), "m", "1", call)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, a.Body)
		_ = a.Body.Close()
	}
}

// BenchmarkPeek is reading a request of 4 KiB.
func BenchmarkPeek(b *testing.B) {
	body := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("a word ", 580) + `"}],"stream":true,"model":"m"}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := inference.Peek(body); err != nil {
			b.Fatal(err)
		}
	}
}
