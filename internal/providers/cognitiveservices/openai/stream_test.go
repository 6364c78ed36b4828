package openai_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/providers/cognitiveservices/openai"
	"lazurite.dev/internal/web"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	streamed = `{"messages":[{"role":"user","content":"hello"}],"stream":true}`
	word     = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"w"},"finish_reason":null}]}` + "\n\n"
	stop     = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	used     = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}` + "\n\n"
	done     = "data: [DONE]\n\n"
)

// events makes the backend send a stream.
func (w *world) events(parts ...string) {
	w.backs(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for _, p := range parts {
			_, _ = io.WriteString(rw, p)
			rw.(http.Flusher).Flush()
		}
	})
}

func TestStream_PassesAndKeepsUsageWhereNobodyAskedForIt(t *testing.T) {
	w := newWorld(t)
	key := w.standard()
	w.events(word, word, stop, used, done)
	resp, raw := w.over(key, chat, streamed)
	if string(raw) != word+word+stop+done || resp.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" || resp.Header.Get("x-ratelimit-remaining-tokens") == "" {
		t.Errorf("%v\n%s", resp.Header, raw)
	}
	if got := fmt.Sprint(w.last()["stream_options"]); got != "map[include_usage:true]" {
		t.Errorf("the backend was asked with %s", got)
	}
	asking := strings.Replace(streamed, `"stream":true`, `"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}`, 1)
	if _, raw = w.over(key, chat, asking); string(raw) != word+word+stop+used+done {
		t.Errorf("asked for usage: %s", raw)
	}
	not := strings.Replace(asking, `"include_usage":true`, `"include_usage":false`, 1)
	if _, raw = w.over(key, chat, not); string(raw) != word+word+stop+done {
		t.Errorf("asked for none: %s", raw)
	}
	if got := fmt.Sprint(w.last()["stream_options"]); got != "map[include_obfuscation:false include_usage:true]" {
		t.Errorf("the backend was asked with %s", got)
	}
	if got := w.metric("laz_openai_tokens_total", "dd"); got != 21 {
		t.Errorf("%v tokens counted", got)
	}
}

func TestStream_EachEventAsItComes(t *testing.T) {
	w := newWorld(t)
	w.standard()
	step := make(chan struct{})
	w.backs(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for _, p := range []string{word, word, stop + done} {
			_, _ = io.WriteString(rw, p)
			rw.(http.Flusher).Flush()
			select {
			case <-step:
			case <-r.Context().Done():
				return
			}
		}
	})
	lines, cancel := w.open(t, streamed)
	defer cancel()
	for range 2 {
		if line, err := lines.ReadString('\n'); err != nil || line+"\n" != word {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		step <- struct{}{} // the backend goes on only now
	}
	step <- struct{}{}
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != stop+done {
		t.Errorf("%q %v", rest, err)
	}
}

// open begins a stream that the caller reads.
func (w *world) open(t *testing.T, body string) (*bufio.Reader, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	_, path, _ := strings.Cut(strings.TrimPrefix(chat, "https://"), "/")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.front.URL+"/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "acc.openai.azure.com"
	r.Header.Set("Authorization", me)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return bufio.NewReader(resp.Body), cancel
}

func TestStream_WhoeverGoesAwayEndsTheBackendsWork(t *testing.T) {
	w := newWorld(t)
	w.standard()
	ended := make(chan struct{})
	w.backs(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, word)
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
		close(ended)
	})
	lines, cancel := w.open(t, streamed)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the backend goes on")
	}
	eventually(t, func() error {
		if w.metric("laz_openai_requests_total", "499") != 1 || w.metric("laz_openai_broken_answers_total", "client went away") != 1 {
			return errNot
		}
		return nil
	})
}

// TestStream_WhoGoesBeforeTheFirstWordPaysItsPrompt hangs up while the model
// reads: it has the prompt by then.
func TestStream_WhoGoesBeforeTheFirstWordPaysItsPrompt(t *testing.T) {
	w := newWorld(t)
	key := w.standard()
	asked := make(chan struct{})
	w.backs(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(asked)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		long := strings.Replace(streamed, `"stream":true`, `"stream":true,"user":"`+strings.Repeat("x", 4000)+`"`, 1)
		if _, _, err := w.try(ctx, key, chat, long); err == nil {
			t.Error("it was answered")
		}
	}()
	<-asked
	cancel()
	<-ended
	eventually(t, func() error {
		if got := w.metric("laz_openai_tokens_total", "dd", "prompt"); got < 1000 {
			return fmt.Errorf("%v tokens counted", got)
		}
		return nil
	})
}

// TestStream_UsageInAnyForm lets backends write their bill as they do; one that
// can't be read does not break the answer.
func TestStream_UsageInAnyForm(t *testing.T) {
	w := newWorld(t)
	key := w.standard()
	before := 0.0
	for bill, want := range map[string]float64{
		`{"prompt_tokens":5.0,"completion_tokens":2}`: 7, `{"prompt_tokens":"5","completion_tokens":"2"}`: 7, `{"prompt_tokens":1e20,"completion_tokens":-3}`: 1e8,
		`"none"`: -1, `[]`: -1, `{"prompt_tokens":null}`: 0,
	} {
		w.events(word, stop, `data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":`+bill+"}\n\n", done)
		_, raw := w.over(key, chat, streamed)
		if !strings.HasSuffix(string(raw), done) || strings.Contains(string(raw), "malformed") {
			t.Errorf("%s: %s", bill, raw)
		}
		got := w.metric("laz_openai_tokens_total", "dd") - before
		before += got
		if want >= 0 && got != want || want < 0 && got <= 0 {
			t.Errorf("%s: %v tokens counted", bill, got)
		}
		w.mu.Lock()
		w.now = w.now.Add(10 * time.Minute) // no bill lasts longer
		w.mu.Unlock()
	}
}

func TestChat_IsNotStoredAtTheBackend(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.want(200, "", me, "POST", chat, strings.Replace(hello, "{", `{"store":true,`, 1))
	if got := w.last()["store"]; got != false {
		t.Errorf("the backend was asked with store %v", got)
	}
}

func TestStream_NothingIsLeftOfThoseWhoWentAway(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.backs(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, word)
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	before := runtime.NumGoroutine()
	var all []context.CancelFunc
	for range 50 {
		lines, cancel := w.open(t, streamed)
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		all = append(all, cancel)
	}
	for _, cancel := range all {
		cancel()
	}
	eventually(t, func() error {
		http.DefaultClient.CloseIdleConnections()
		w.upstream.Client().CloseIdleConnections()
		if n := runtime.NumGoroutine(); n > before+5 {
			return fmt.Errorf("%d goroutines of %d are left", n-before, before)
		}
		return nil
	})
}

func TestStream_WhatABackendBreaksIsSaid(t *testing.T) {
	w := newWorld(t)
	w.standard()
	const says = `data: {"error":{"message":"The stream was cut by the model's backend before its end.","type":"server_error","param":null,"code":"InternalServerError"}}` + "\n\n"
	const bad = `data: {"error":{"message":"The model's backend sent a malformed stream.","type":"server_error","param":null,"code":"InternalServerError"}}` + "\n\n"
	const own = `data: {"error":{"message":"out of memory"}}` + "\n\n"
	tests := []struct {
		name, want, reason string
		events             []string
	}{
		{"cut", word + says, "cut by the backend", []string{word}},
		{"cut inside an event", word + says, "cut by the backend", []string{word, word[:20]}},
		{"no JSON", word + bad, "malformed", []string{word, "data: nonsense\n\n", word}},
		{"half an object", word + bad, "malformed", []string{word, "data: {\"usage\":\n\n", done}},
		{"an error of its own", word + own, "failed in the backend", []string{word, own}},
		{"no last event after a reason to stop", word + stop + done, "", []string{word, stop}},
		{"comments and other lines", ": ping\n\n" + word + "event: x\nid: 1\n" + stop + done, "", []string{": ping\n\n", word, "event: x\nid: 1\n", stop, done}},
	}
	for _, tt := range tests {
		w.events(tt.events...)
		before := w.metric("laz_openai_broken_answers_total", tt.reason)
		if _, raw := w.over(me, chat, streamed); string(raw) != tt.want {
			t.Errorf("%s: got %s", tt.name, raw)
		}
		if got := w.metric("laz_openai_broken_answers_total", tt.reason); tt.reason != "" && got != before+1 {
			t.Errorf("%s: not counted", tt.name)
		}
	}
	w.backs(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, word)
		rw.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	if _, raw := w.over(me, chat, streamed); string(raw) != word+says {
		t.Errorf("a connection that breaks: %s", raw)
	}
}

func TestStream_Responses(t *testing.T) {
	w := newWorld(t)
	w.standard()
	const first = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"w\"}\n\n"
	const last = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":4,\"output_tokens\":3}}}\n\n"
	const url = "https://acc.openai.azure.com/openai/v1/responses"
	w.events(first, last)
	if _, raw := w.over(me, url, `{"model":"dd","input":"x","stream":true,"store":true}`); string(raw) != first+last {
		t.Errorf("%s", raw)
	}
	if w.last()["store"] != false {
		t.Errorf("the backend is to store it: %v", w.last())
	}
	if got := w.metric("laz_openai_tokens_total", "dd"); got != 7 {
		t.Errorf("%v tokens counted", got)
	}
	w.events(first)
	if _, raw := w.over(me, url, `{"model":"dd","input":"x","stream":true}`); !strings.HasPrefix(string(raw), first+"event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\"") {
		t.Errorf("cut: %s", raw)
	}
}

func TestStream_ASlowClientHoldsNoBackend(t *testing.T) {
	w := newWorld(t, func(c *openai.Config) { c.Stall = time.Second })
	w.standard()
	large := `data: {"choices":[{"delta":{"content":"` + strings.Repeat("w", 16<<10) + `"},"finish_reason":null}]}` + "\n\n"
	ended := make(chan int, 1)
	send := func(most int) {
		w.backs(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/event-stream")
			n := 0
			for ; n < most && r.Context().Err() == nil; n++ {
				if _, err := io.WriteString(rw, large); err != nil {
					break
				}
				rw.(http.Flusher).Flush()
			}
			_, _ = io.WriteString(rw, stop+done)
			ended <- n
		})
	}
	wait := func() int {
		select {
		case n := <-ended:
			return n
		case <-time.After(20 * time.Second):
			t.Fatal("the backend is held")
			return 0
		}
	}
	send(48) // less than the buffer: the backend is done before the client begins
	lines, cancel := w.open(t, streamed)
	if n := wait(); n != 48 {
		t.Errorf("the backend sent %d events", n)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) != 48*len(large)+len(stop+done) {
		t.Errorf("the client got %d bytes: %v", len(rest), err)
	}
	cancel()
	send(1 << 20) // more than any buffer
	_, cancel = w.open(t, streamed)
	defer cancel()
	if n := wait(); n == 1<<20 {
		t.Error("all was kept in memory")
	}
	eventually(t, func() error {
		if w.metric("laz_openai_broken_answers_total") == 0 {
			return errNot
		}
		return nil
	})
}

func TestContent_IsLoggedOnlyWhereTheOwnerWantsIt(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.deploy("acc", "open", "gpt-4o-mini", "2024-07-18", 10, `"laz-content-logging":"true"`)
	var log strings.Builder
	front, err := web.NewFront(slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry(), nil)
	if err != nil {
		t.Fatal(err)
	}
	plane := w.data
	w.data = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		front.Serve(&web.Surface{Name: "openai", Handler: plane}, rw, r)
	})
	secret := strings.Replace(hello, "hello", "a secret wish", 1)
	w.want(200, "", me, "POST", chat, secret)
	if s := log.String(); strings.Contains(s, "secret wish") || strings.Contains(s, `"hi"`) || strings.Contains(s, `\"hi\"`) {
		t.Errorf("logged: %s", s)
	}
	for _, want := range []string{"principal=me", "deployment=dd", "backend=fake", "prompt_tokens=5", "completion_tokens=2", "first_byte_ms=", "status=200"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, log.String())
		}
	}
	log.Reset()
	w.want(200, "", me, "POST", strings.Replace(chat, "/dd/", "/open/", 1), secret)
	if s := log.String(); !strings.Contains(s, "secret wish") || !strings.Contains(s, `\"hi\"`) {
		t.Errorf("not logged: %s", s)
	}
}
