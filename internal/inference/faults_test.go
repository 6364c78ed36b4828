package inference_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/inference"
)

func TestDo_AnswerPassesUnchanged(t *testing.T) {
	p := &replay{}
	s := p.server(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("sk-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := catalog(t, inference.BackendConfig{Name: "b", URL: s.URL + "/v1", Model: "own/name", KeyFile: key, Headers: map[string]string{"X-Team": "a"}})
	call := chat()
	call.Header = http.Header{"Authorization": {"Bearer client"}, "Api-Key": {"client"}, "Cookie": {"c=1"}, "Traceparent": {"00-1"}, "X-Other": {"1"}}
	a, err := c.Do(t.Context(), "m", "", call)
	if got := text(t, a, err); got != string(recording(t, "chat.json")) || a.Status != 200 || a.Backend != "b" || a.Attempts != 1 || a.Translated {
		t.Errorf("got %s, %+v", got, a)
	}
	if p.paths[0] != "POST /v1/chat/completions" || p.seen[0]["model"] != "own/name" {
		t.Errorf("got %s %v", p.paths[0], p.seen[0])
	}
	for name, want := range map[string]string{"Authorization": "Bearer sk-1", "Api-Key": "", "Cookie": "", "Traceparent": "00-1", "X-Other": "", "X-Team": "a", "Accept-Encoding": ""} {
		if got := p.header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	a, err = c.Do(t.Context(), "M", "1", chatStream())
	if got := text(t, a, err); got != string(recording(t, "chat.sse")) {
		t.Errorf("got %s", got)
	}
	if b := backendStatus(t, c, "b"); b.InFlight != 0 || b.Calls != 2 || b.Failed != 0 {
		t.Errorf("got %+v", b)
	}
}

func TestDo_AzureBackend(t *testing.T) {
	p := &replay{}
	s := p.server(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config inference.BackendConfig
		op     inference.Operation
		want   string
	}{
		{inference.BackendConfig{}, inference.Chat, "POST /openai/v1/chat/completions"},
		{inference.BackendConfig{APIVersion: "2024-10-21"}, inference.Chat, "POST /openai/deployments/dep/chat/completions?api-version=2024-10-21"},
		{inference.BackendConfig{APIVersion: "2025-03-01-preview", Responses: true}, inference.Responses, "POST /openai/responses?api-version=2025-03-01-preview"},
	} {
		c.config.Name, c.config.URL, c.config.API, c.config.Model, c.config.KeyFile = "b", s.URL, inference.APIAzure, "dep", key
		call := chat()
		call.Operation = c.op
		a, err := catalog(t, c.config).Do(t.Context(), "m", "", call)
		_ = text(t, a, err)
		if got := p.paths[len(p.paths)-1]; got != c.want || p.header.Get("Api-Key") != "k" || p.header.Get("Authorization") != "" {
			t.Errorf("got %s, want %s; %v", got, c.want, p.header)
		}
	}
}

// TestDo_FailsOver: what breaks before the first byte is tried elsewhere.
func TestDo_FailsOver(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	hang := func(w http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	cutBefore := func(w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
		return true
	}
	nothing := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		fault   func(http.ResponseWriter, *http.Request) bool
		problem string
		stream  bool
	}{
		"connection refused": {nil, "it refuses connections", false},
		"hang":               {hang, "it did not answer in time", false},
		"hang, stream":       {hang, "it did not answer in time", true},
		"cut":                {cutBefore, "it closed the connection before it answered", true},
		"cut after headers":  {nothing, "it closed the connection before it answered", true},
		"429":                {status(429, "Retry-After", "7"), "it wants fewer calls", false},
		"500":                {status(500), "it answered HTTP 500", false},
		"503":                {status(503), "it answered HTTP 503", true},
		"401":                {status(401), "it refused the key that Lazurite has for it, or wants one (keyFile)", false},
		"302":                {status(302, "Location", "/"), "it answered HTTP 302, which sends elsewhere: the url or prefix is wrong", false},
	} {
		t.Run(name, func(t *testing.T) {
			url := nobody
			if c.fault != nil {
				url = (&replay{fault: c.fault}).server(t).URL
			}
			good := &replay{}
			cat := catalog(t, inference.BackendConfig{Name: "bad", URL: url, Timeouts: inference.Timeouts{FirstByte: 200 * time.Millisecond}, Weight: weight(1000)},
				inference.BackendConfig{Name: "good", URL: good.server(t).URL, Weight: weight(0)})
			call := chat()
			if c.stream {
				call = chatStream()
			}
			a, err := cat.Do(t.Context(), "m", "", call)
			if got := text(t, a, err); !strings.Contains(got, "Hello") || a.Backend != "good" || a.Attempts != 2 {
				t.Fatalf("got %s, %+v", got, a)
			}
			if len(a.Tried) != 1 || a.Tried[0] != (inference.Attempt{Backend: "bad", Problem: c.problem}) {
				t.Errorf("got %+v", a.Tried)
			}
			if b := backendStatus(t, cat, "bad"); b.InFlight != 0 || b.LastError == "" {
				t.Errorf("got %+v", b)
			}
		})
	}
}

func TestDo_ClientsMistakesStayWithTheFirst(t *testing.T) {
	for _, code := range []int{400, 403, 404, 408, 413, 422} {
		second := &replay{}
		c := catalog(t, inference.BackendConfig{Name: "a", URL: (&replay{fault: status(code)}).server(t).URL},
			inference.BackendConfig{Name: "b", URL: second.server(t).URL, Weight: weight(0)})
		a, err := c.Do(t.Context(), "m", "", chat())
		if got := text(t, a, err); !strings.Contains(got, "it is broken") || a.Status != code || a.Attempts != 1 || second.calls() > 0 {
			t.Errorf("%d: got %s, %+v", code, got, a)
		}
	}
}

func TestDo_LastAnswerIsTheCallers(t *testing.T) {
	c := catalog(t, inference.BackendConfig{Name: "a", URL: (&replay{fault: status(500)}).server(t).URL},
		inference.BackendConfig{Name: "b", URL: (&replay{fault: status(429, "Retry-After", "3")}).server(t).URL, Weight: weight(0)})
	a, err := c.Do(t.Context(), "m", "", chat())
	if got := text(t, a, err); a.Status != 429 || a.Header.Get("Retry-After") != "3" || a.Attempts != 2 || !strings.Contains(got, "broken") {
		t.Errorf("got %s, %+v", got, a)
	}
	// Now b wants no calls, and a is asked alone.
	if a, err = c.Do(t.Context(), "m", "", chat()); err != nil || a.Status != 500 || a.Attempts != 1 {
		t.Errorf("got %+v, %v", a, err)
	} else {
		_ = a.Body.Close()
	}
	if s := backendStatus(t, c, "b"); s.State != inference.StateLimited || s.Until == nil {
		t.Errorf("got %+v", s)
	}
}

func TestDo_NobodyAnswers(t *testing.T) {
	c := catalog(t, inference.BackendConfig{Name: "a", URL: (&replay{fault: status(401, "Www-Authenticate", "Bearer")}).server(t).URL})
	_, err := c.Do(t.Context(), "m", "", chat())
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok || e.Kind != apierr.Unavailable || !strings.Contains(e.Message, "a: it refused the key") {
		t.Errorf("got %v", err)
	}
}

// TestDo_CutMidStream: what was sent arrives, then an error; nobody else is asked.
func TestDo_CutMidStream(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"n\":1}\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	second := &replay{}
	c := catalog(t, inference.BackendConfig{Name: "a", URL: (&replay{fault: cut}).server(t).URL}, inference.BackendConfig{Name: "b", URL: second.server(t).URL, Weight: weight(0)})
	a, err := c.Do(t.Context(), "m", "", chatStream())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	got, err := io.ReadAll(a.Body)
	if string(got) != "data: {\"n\":1}\n\n" || !errors.Is(err, io.ErrUnexpectedEOF) || second.calls() > 0 {
		t.Errorf("got %q, %v", got, err)
	}
	if s := backendStatus(t, c, "a"); s.Failed != 1 || s.InFlight != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestDo_StopsMidStream(t *testing.T) {
	stop := func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.WriteString(w, "data: {\"n\":1}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}
	c := catalog(t, inference.BackendConfig{Name: "a", URL: (&replay{fault: stop}).server(t).URL, Timeouts: inference.Timeouts{Idle: 100 * time.Millisecond}})
	a, err := c.Do(t.Context(), "m", "", chatStream())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if got, err := io.ReadAll(a.Body); string(got) != "data: {\"n\":1}\n\n" || err == nil || !strings.Contains(err.Error(), "stopped in the middle") {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestDo_CancelReachesTheBackend, and nothing stays behind.
func TestDo_CancelReachesTheBackend(t *testing.T) {
	started, gone := make(chan struct{}, 100), make(chan struct{}, 100)
	hang := func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.WriteString(w, "data: {}\n\n")
		_ = http.NewResponseController(w).Flush()
		started <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
		return true
	}
	s := httptest.NewUnstartedServer(&replay{t: t, fault: hang})
	opened := make(chan net.Conn, 100)
	s.Config.ConnState = func(c net.Conn, st http.ConnState) {
		if st == http.StateClosed {
			opened <- c
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := catalog(t, inference.BackendConfig{Name: "a", URL: s.URL})
	before := goroutines()
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		a, err := c.Do(ctx, "m", "", chatStream())
		if err != nil {
			t.Fatal(err)
		}
		<-started
		if i%2 == 0 {
			cancel()
			_, err := io.ReadAll(a.Body)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		if err := a.Body.Close(); err != nil {
			t.Error(err)
		}
		<-gone
		<-opened
		cancel()
	}
	if s := backendStatus(t, c, "a"); s.InFlight != 0 || s.Failed != 0 {
		t.Errorf("got %+v", s)
	}
	eventually(t, func() bool { return goroutines() <= before+2 })
}

func TestDo_CancelBeforeAnAnswer(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	p := &replay{fault: hang}
	second := &replay{}
	c := catalog(t, inference.BackendConfig{Name: "a", URL: p.server(t).URL}, inference.BackendConfig{Name: "b", URL: second.server(t).URL, Weight: weight(0)})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, func() bool { return p.calls() > 0 })
		cancel()
	}()
	if _, err := c.Do(ctx, "m", "", chat()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := backendStatus(t, c, "a"); s.InFlight != 0 || s.Failed != 0 || second.calls() > 0 {
		t.Errorf("got %+v", s)
	}
}

func TestDo_ConnectionsAreUsedAgain(t *testing.T) {
	p := &replay{t: t}
	s := httptest.NewUnstartedServer(p)
	opened := make(chan struct{}, 100)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			opened <- struct{}{}
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := catalog(t, inference.BackendConfig{Name: "a", URL: s.URL})
	for i := range 10 {
		call := chat()
		if i%2 == 1 {
			call = chatStream()
		}
		a, err := c.Do(t.Context(), "m", "", call)
		_ = text(t, a, err)
	}
	if len(opened) != 1 {
		t.Errorf("%d connections", len(opened))
	}
}

func TestDo_PrivateAuthorityAndHTTP2(t *testing.T) {
	version := make(chan string, 2)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version <- r.Proto
		_, _ = io.WriteString(w, `{}`)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, certificatePEM(s), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := catalog(t, inference.BackendConfig{Name: "a", URL: s.URL, CAFile: ca}).Do(t.Context(), "m", "", chat())
	_ = text(t, a, err)
	if got := <-version; got != "HTTP/2.0" {
		t.Errorf("got %s", got)
	}
	_, err = catalog(t, inference.BackendConfig{Name: "a", URL: s.URL}).Do(t.Context(), "m", "", chat())
	if !apierr.Is(err, apierr.Unavailable) || !strings.Contains(err.Error(), "certificate is not trusted (caFile)") {
		t.Errorf("got %v", err)
	}
}

// TestDo_KeyIsReadAgain when its file has changed, and a file that others can
// read is not.
func TestDo_KeyIsReadAgain(t *testing.T) {
	p := &replay{}
	s := p.server(t)
	key := filepath.Join(t.TempDir(), "key")
	write := func(text string, mode os.FileMode, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(key, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(key, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	write("old", 0o600, 3*time.Hour)
	c := catalog(t, inference.BackendConfig{Name: "b", URL: s.URL, KeyFile: key})
	ask := func() string {
		t.Helper()
		a, err := c.Do(t.Context(), "m", "", chat())
		if err != nil {
			return err.Error()
		}
		_ = text(t, a, nil)
		return p.header.Get("Authorization")
	}
	if got := ask(); got != "Bearer old" {
		t.Errorf("got %s", got)
	}
	write("new", 0o600, 2*time.Hour)
	c.ForgetKey("m", "b")
	if got := ask(); got != "Bearer new" {
		t.Errorf("got %s", got)
	}
	write("open", 0o644, time.Hour)
	c.ForgetKey("m", "b")
	if got := ask(); !strings.Contains(got, "its key can't be read") || strings.Contains(got, key) {
		t.Errorf("got %s", got)
	}
}

// TestDo_LargeAnswer comes whole through small and large reads.
func TestDo_LargeAnswer(t *testing.T) {
	large := strings.Repeat(`{"embedding":[0.1,0.2]}`, 200_000)
	c, err := inference.New(inference.Config{Ollama: inference.OllamaOff, Models: []inference.ModelConfig{{Name: "e", Capabilities: &inference.Capabilities{Embeddings: true},
		Backends: []inference.BackendConfig{{Name: "b", URL: (&replay{fault: func(w http.ResponseWriter, _ *http.Request) bool { _, _ = io.WriteString(w, large); return true }}).server(t).URL}}}}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Do(t.Context(), "e", "", &inference.Call{Operation: inference.Embeddings, Body: []byte(`{"input":"x"}`)})
	if got := text(t, a, err); got != large {
		t.Errorf("got %d bytes of %d", len(got), len(large))
	}
	if _, err := c.Do(t.Context(), "e", "", chat()); !apierr.Is(err, apierr.BadRequest) || !strings.Contains(err.Error(), "capabilities.chat") {
		t.Errorf("got %v", err)
	}
}
