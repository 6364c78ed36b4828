package inference_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/inference"
)

// replay is a backend that answers with recordings, or breaks in a way that a
// test asks for. Its zero value answers chat.
type replay struct {
	t     *testing.T
	json  string // the recordings
	sse   string
	fault func(w http.ResponseWriter, r *http.Request) bool // true: it has answered

	mu     sync.Mutex
	seen   []map[string]any // the bodies
	header http.Header      // of the last request
	paths  []string
}

func readRecording(name string) ([]byte, error) { return os.ReadFile(filepath.Join("testdata", name)) }

func recording(t *testing.T, name string) []byte {
	t.Helper()
	b, err := readRecording(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (p *replay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var body map[string]any
	_ = json.Unmarshal(raw, &body)
	p.mu.Lock()
	p.seen, p.header, p.paths = append(p.seen, body), r.Header.Clone(), append(p.paths, r.Method+" "+r.URL.RequestURI())
	p.mu.Unlock()
	if p.fault != nil && p.fault(w, r) {
		return
	}
	if strings.HasSuffix(r.URL.Path, "/models") {
		fmt.Fprint(w, `{"object":"list","data":[{"id":"recorded","object":"model"}]}`)
		return
	}
	name := func(s, or string) string {
		if s == "" {
			return or
		}
		return s
	}
	if stream, _ := body["stream"].(bool); !stream {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(recording(p.t, name(p.json, "chat.json")))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range bytes.SplitAfter(recording(p.t, name(p.sse, "chat.sse")), []byte("\n\n")) {
		if _, err := w.Write(e); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
}

func (p *replay) calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

// server starts p on loopback.
func (p *replay) server(t *testing.T) *httptest.Server {
	p.t = t
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s
}

// status breaks with a status and a header.
func status(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/models") {
			return false
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"error":{"message":"it is broken","code":"%d"}}`, code)
		return true
	}
}

// catalog has the model "m" with the backends, whose zero fields are defaults.
func catalog(t *testing.T, backends ...inference.BackendConfig) *inference.Catalog {
	t.Helper()
	c, err := inference.New(inference.Config{Models: []inference.ModelConfig{{Name: "m", Backends: backends}}, NoBuiltin: true, Ollama: inference.OllamaOff})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const chatBody = `{"model":"mine","messages":[{"role":"user","content":"hi"}]}`

func chat() *inference.Call {
	return &inference.Call{Operation: inference.Chat, Body: []byte(chatBody)}
}

func chatStream() *inference.Call {
	return &inference.Call{Operation: inference.Chat, Body: []byte(`{"messages":[{"role":"user","content":"hi"}],"stream":true}`), Stream: true}
}

// text is an answer's whole body.
func text(t *testing.T, a *inference.Answer, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func backendStatus(t *testing.T, c *inference.Catalog, name string) inference.BackendStatus {
	t.Helper()
	for _, m := range c.Status() {
		for _, b := range m.Backends {
			if b.Name == name {
				return b
			}
		}
	}
	t.Fatalf("no backend %s", name)
	return inference.BackendStatus{}
}

func weight(n int) *int { return &n }

// TestStreamOptions_CanBeLeftOut: some servers refuse what they don't know.
func TestStreamOptions_CanBeLeftOut(t *testing.T) {
	for _, knows := range []bool{true, false} {
		var got string
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got = string(body)
		}))
		t.Cleanup(server.Close)
		c := catalog(t, inference.BackendConfig{Name: "a", URL: server.URL, StreamOptions: &knows})
		call := chat()
		call.Body = []byte(`{"messages":[],"stream":true,"stream_options":{"include_usage":true}}`)
		a, err := c.Do(t.Context(), "m", "", call)
		_ = text(t, a, err)
		if strings.Contains(got, "stream_options") != knows {
			t.Errorf("knows %v: the backend got %s", knows, got)
		}
	}
}
