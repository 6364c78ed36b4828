package tinywriter

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

const ask = `"messages":[{"role":"system","content":"You write product descriptions."},{"role":"user","content":"Generate a product description for the product 'Salty Sailor rope' with the following tags: 'dog, toy, rope'."}]`

type answerBody struct {
	ID, Object, Model string
	Fingerprint       string `json:"system_fingerprint"`
	Choices           []struct {
		Index        int
		FinishReason *string `json:"finish_reason"`
		Message      struct{ Role, Content string }
		Delta        struct{ Role, Content string }
	}
	Usage *usage
	Error *struct{ Message, Type, Param, Code string }
}

func post(t *testing.T, h http.Handler, path, body string) (*httptest.ResponseRecorder, answerBody) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	var a answerBody
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
	}
	return w, a
}

func complete(t *testing.T, h http.Handler, body string) answerBody {
	t.Helper()
	w, a := post(t, h, "/v1/chat/completions", body)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return a
}

func TestChat_UsesNameAndTags(t *testing.T) {
	h, wr := Handler(), opened(t)
	for _, more := range []string{`"temperature":0`, `"temperature":0.7,"seed":1`, `"temperature":1.5`, `"top_p":0.5`, `"temperature":0,"unknown":{"field":1}`} {
		a := complete(t, h, `{"model":"gpt-4o-mini",`+ask+`,`+more+`}`)
		text := a.Choices[0].Message.Content
		if !usesAll(text, product{"Salty Sailor rope", []string{"dog", "toy", "rope"}}) || *a.Choices[0].FinishReason != "stop" {
			t.Errorf("%s: %q", more, text)
		}
		if !strings.HasPrefix(a.Fingerprint, "tiny-writer-"+WeightsSHA256[:12]) || a.Model != Name || a.Object != "chat.completion" {
			t.Errorf("%s: %+v", more, a)
		}
		want := len(wr.tokens.encode("You write product descriptions.")) + len(wr.tokens.encode("Generate a product description for the product 'Salty Sailor rope' with the following tags: 'dog, toy, rope'."))
		if a.Usage.PromptTokens != want || a.Usage.TotalTokens != want+a.Usage.CompletionTokens || a.Usage.CompletionTokens < 10 {
			t.Errorf("usage %+v, want %d of the prompt", a.Usage, want)
		}
	}
}

func TestChat_SeedAndChoices(t *testing.T) {
	h := Handler()
	one := complete(t, h, `{`+ask+`,"temperature":0.9,"seed":7,"n":3}`)
	two := complete(t, h, `{`+ask+`,"temperature":0.9,"seed":7,"n":3}`)
	texts := map[string]bool{}
	for i, c := range one.Choices {
		if c.Index != i || c.Message.Content != two.Choices[i].Message.Content {
			t.Errorf("choice %d: %q and %q", i, c.Message.Content, two.Choices[i].Message.Content)
		}
		texts[c.Message.Content] = true
	}
	if len(one.Choices) != 3 || len(texts) < 2 {
		t.Errorf("%d choices, %d texts", len(one.Choices), len(texts))
	}
}

func TestChat_MaxTokensAndStop(t *testing.T) {
	h := Handler()
	whole := complete(t, h, `{`+ask+`,"temperature":0}`)
	text := whole.Choices[0].Message.Content
	for _, field := range []string{"max_tokens", "max_completion_tokens"} {
		a := complete(t, h, `{`+ask+`,"temperature":0,"`+field+`":5}`)
		if got := a.Choices[0].Message.Content; a.Usage.CompletionTokens != 5 || *a.Choices[0].FinishReason != "length" || !strings.HasPrefix(text, got) || got == "" {
			t.Errorf("%s: %q, %+v, %s", field, got, a.Usage, *a.Choices[0].FinishReason)
		}
	}
	a := complete(t, h, fmt.Sprintf(`{%s,"temperature":0,"max_tokens":%d}`, ask, whole.Usage.CompletionTokens))
	if a.Choices[0].Message.Content != text || *a.Choices[0].FinishReason != "stop" {
		t.Errorf("just enough tokens: %q %s", a.Choices[0].Message.Content, *a.Choices[0].FinishReason)
	}
	a = complete(t, h, `{`+ask+`,"temperature":0,"stop":["Sailor","nowhere"]}`)
	before, _, _ := strings.Cut(text, "Sailor")
	if got := a.Choices[0].Message.Content; got != before || *a.Choices[0].FinishReason != "stop" || a.Usage.CompletionTokens >= whole.Usage.CompletionTokens {
		t.Errorf("stop: %q %+v, want %q", got, a.Usage, before)
	}
}

func TestChat_Stream(t *testing.T) {
	srv := httptest.NewServer(Handler())
	defer srv.Close()
	want := complete(t, Handler(), `{`+ask+`,"temperature":0}`)
	res, err := http.Post(srv.URL+"/v1/chat/completions", "application/json", strings.NewReader(`{`+ask+`,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Errorf("content type %s", got)
	}
	var text, finish, last string
	var u *usage
	chunks := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if last = data; data == "[DONE]" {
			continue
		}
		var a answerBody
		if err := json.Unmarshal([]byte(data), &a); err != nil {
			t.Fatal(err)
		}
		if a.Object != "chat.completion.chunk" || a.ID == "" || a.Fingerprint != want.Fingerprint {
			t.Errorf("chunk %s", data)
		}
		if u = a.Usage; u != nil && len(a.Choices) != 0 {
			t.Errorf("usage beside choices: %s", data)
		}
		for _, c := range a.Choices {
			text += c.Delta.Content
			if c.FinishReason != nil {
				finish = *c.FinishReason
			}
			chunks++
		}
	}
	if text != want.Choices[0].Message.Content || finish != "stop" || last != "[DONE]" {
		t.Errorf("%q %s %s", text, finish, last)
	}
	if u == nil || *u != *want.Usage || chunks != u.CompletionTokens+2 {
		t.Errorf("usage %+v of %d chunks, want %+v", u, chunks, want.Usage)
	}
}

func TestChat_AnythingElseIsANotice(t *testing.T) {
	a := complete(t, Handler(), `{"messages":[{"role":"user","content":[{"type":"text","text":"What is the capital of France?"}]}]}`)
	if text := a.Choices[0].Message.Content; text != notice || !strings.HasSuffix(a.Fingerprint, "-notice") || a.Usage.CompletionTokens == 0 {
		t.Errorf("%q %s", text, a.Fingerprint)
	}
}

func TestChat_TemplateIsMarked(t *testing.T) {
	p := product{Name: strings.Repeat("Qzx ", 25) + "rope"}
	for i := range maxTags {
		p.Tags = append(p.Tags, fmt.Sprintf("zqj%dxkv%d-qqwvzx", i, i*i))
	}
	user, _ := json.Marshal("Product name: " + p.Name + "\nTags: " + strings.Join(p.Tags, ", "))
	a := complete(t, Handler(), `{"messages":[{"role":"user","content":`+string(user)+`}],"max_tokens":4000}`)
	if text := a.Choices[0].Message.Content; !usesAll(text, p) || !strings.HasSuffix(a.Fingerprint, "-template") {
		t.Errorf("%s: %q", a.Fingerprint, text)
	}
}

func TestChat_Refusals(t *testing.T) {
	h := Handler()
	for body, param := range map[string]string{
		`{` + ask + `,"tools":[{"type":"function","function":{"name":"f"}}]}`: "tools",
		`{` + ask + `,"response_format":{"type":"json_object"}}`:              "response_format",
		`{` + ask + `,"logprobs":true}`:                                       "logprobs",
		`{` + ask + `,"logit_bias":{"5":1}}`:                                  "logit_bias",
		`{` + ask + `,"presence_penalty":0.5}`:                                "presence_penalty",
		`{` + ask + `,"tool_choice":"required"}`:                              "tool_choice",
		`{` + ask + `,"modalities":["text","audio"]}`:                         "modalities",
		`{` + ask + `,"store":true}`:                                          "store",
		`{` + ask + `,"temperature":3}`:                                       "temperature",
		`{` + ask + `,"top_p":-1}`:                                            "top_p",
		`{` + ask + `,"n":0}`:                                                 "n",
		`{` + ask + `,"n":99}`:                                                "n",
		`{` + ask + `,"max_tokens":0}`:                                        "max_tokens",
		`{` + ask + `,"stop":["a","b","c","d","e"]}`:                          "stop",
		`{` + ask + `,"stop":""}`:                                             "stop",
		`{` + ask + `,"stream_options":{"include_usage":true}}`:               "stream_options",
		`{` + ask + `,"temperature":"hot"}`:                                   "temperature",
		`{"messages":[]}`:                                                     "messages",
		`{}`:                                                                  "messages",
		`{"messages":[{"role":"king","content":"x"}]}`:                        "messages[0].role",
		`{"messages":[{"role":"user","content":5}]}`:                          "messages[0].content",
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,"}}]}]}`: "messages[0].content[0].type",
		`[]`: "", `null`: "", `{`: "", ``: "",
	} {
		w, a := post(t, h, "/v1/chat/completions", body)
		if w.Code != http.StatusBadRequest || a.Error == nil || a.Error.Param != param || a.Error.Type != "invalid_request_error" || a.Error.Message == "" {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	for _, body := range []string{`"tools":[]`, `"tools":null`, `"tool_choice":"auto"`, `"response_format":{"type":"text"}`, `"logprobs":false`, `"presence_penalty":0`, `"n":null`, `"stop":null`, `"user":"me"`, `"modalities":["text"]`} {
		complete(t, h, `{`+ask+`,`+body+`}`)
	}
	if w, _ := post(t, h, "/v1/chat/completions", `{"messages":"`+strings.Repeat("x", maxBody)+`"}`); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that is too large: %d", w.Code)
	}
}

func TestOtherPaths(t *testing.T) {
	h := Handler()
	for _, tt := range []struct {
		method, path string
		status       int
		holds        string
	}{
		{"GET", "/v1/models", 200, `"tiny-writer"`}, {"GET", "/v1/models/tiny-writer", 200, `"model"`}, {"GET", "/v1/models/gpt-4o", 404, "model_not_found"},
		{"POST", "/v1/embeddings", 400, "`models:`"}, {"POST", "/v1/completions", 400, "`models:`"}, {"POST", "/v1/responses", 400, "`models:`"}, {"POST", "/v1/images/generations", 400, "`models:`"},
		{"GET", "/v1/chat/completions", 405, "invalid_request_error"}, {"POST", "/v1/models", 405, "invalid_request_error"}, {"GET", "/", 404, "unknown_url"}, {"POST", "/v1/assistants", 404, "`models:`"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader("{}")))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.holds) || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, w.Code, w.Body)
		}
	}
}

func TestWeightsAreReadAtTheFirstCall(t *testing.T) {
	opens := 0
	h := newServer(sync.OnceValues(func() (*Writer, error) { opens++; return Open() })).routes()
	post(t, h, "/v1/embeddings", "{}")
	post(t, h, "/v1/chat/completions", "{}")
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/models", nil))
	if opens != 0 {
		t.Error("the weights were read for nothing")
	}
	complete(t, h, `{`+ask+`}`)
	complete(t, h, `{`+ask+`}`)
	if opens != 1 {
		t.Errorf("the weights were read %d times", opens)
	}
}

func TestAsManyAtOnceAsThereAreProcessors(t *testing.T) {
	w := opened(t)
	var now, most atomic.Int64
	h := newServer(func() (*Writer, error) { // it is called with a turn in hand
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		runtime.Gosched()
		now.Add(-1)
		return w, nil
	}).routes()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{`+ask+`}`)))
			if rec.Code != http.StatusOK {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		})
	}
	all.Wait()
	if int(most.Load()) > runtime.GOMAXPROCS(0) {
		t.Errorf("%d at once", most.Load())
	}
}

func TestTooManyWait(t *testing.T) {
	s := newServer(Open)
	s.waiting.Store(maxWaiting)
	w, a := post(t, s.routes(), "/v1/chat/completions", `{`+ask+`}`)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" || a.Error.Code != "rate_limit_exceeded" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := s.waiting.Load(); got != maxWaiting {
		t.Errorf("%d wait", got)
	}
}

func TestCallerLeavesWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(Open)
		for range cap(s.turns) {
			s.turns <- struct{}{}
		}
		ctx, cancel := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.routes().ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{`+ask+`}`)).WithContext(ctx))
		}()
		synctest.Wait()
		if s.waiting.Load() != 1 {
			t.Errorf("%d wait", s.waiting.Load())
		}
		cancel()
		<-done
		if s.waiting.Load() != 0 || w.Body.Len() != 0 {
			t.Errorf("%d wait; %s", s.waiting.Load(), w.Body)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(`{` + ask + `,"n":2,"stop":["x"],"stream":true}`)
	f.Add(`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"tools":[]}`)
	f.Fuzz(func(t *testing.T, body string) {
		task, refusal := parse([]byte(body))
		if refusal == nil && (len(task.messages) == 0 || task.n < 1 || task.max < 1) {
			t.Errorf("%q: %+v", body, task)
		}
		if refusal != nil && refusal.message == "" {
			t.Errorf("%q is refused without a word", body)
		}
	})
}
