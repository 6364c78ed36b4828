package openai_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"lazurite.dev/internal/providers/cognitiveservices/openai"
)

// filter is a moderation server that finds "bad" violent and "rude" a little
// hateful, and is down while it is told to be.
type filter struct {
	*httptest.Server
	down  atomic.Bool
	asked atomic.Int64
}

func newFilter(t *testing.T) *filter {
	f := &filter{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		var ask struct {
			Input []string `json:"input"`
			Model string   `json:"model"`
		}
		if f.down.Load() || json.NewDecoder(r.Body).Decode(&ask) != nil || ask.Model != "m" || r.Header.Get("Authorization") != "Bearer k" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var results []string
		for _, text := range ask.Input {
			results = append(results, fmt.Sprintf(`{"flagged":false,"categories":{"violence":%t,"harassment/threatening":false,"new":null},"category_scores":{"violence":0.01,"harassment":%g,"self-harm/intent":0}}`,
				strings.Contains(text, "bad"), map[bool]float64{true: 0.3}[strings.Contains(text, "rude")]))
		}
		_, _ = io.WriteString(w, `{"id":"x","results":[`+strings.Join(results, ",")+`]}`)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *filter) in(strict bool) func(*openai.Config) {
	return func(c *openai.Config) {
		c.Filter = &openai.Filter{URL: f.URL + "/v1/moderations", Key: "k", Model: "m", Strict: strict}
	}
}

const (
	safe = `{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}`
	rude = `{"hate":{"filtered":false,"severity":"low"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}`
	bad  = `{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":true,"severity":"medium"}}`
	down = `"content_filter_result":{"error":{"code":"content_filter_error","message":"The contents are not filtered"}}`
)

func TestFilter_PromptsAndAnswers(t *testing.T) {
	f := newFilter(t)
	w := newWorld(t, f.in(false))
	w.standard()
	a := w.want(200, "", me, "POST", chat, strings.Replace(hello, "hello", "hello rude", 1))
	if want := `"finish_reason":"stop","content_filter_results":` + safe + `}]`; !strings.Contains(string(a.Raw), want) || !strings.Contains(string(a.Raw), `"prompt_filter_results":[{"content_filter_results":`+rude+`,"prompt_index":0}]`) {
		t.Errorf("%s", a.Raw)
	}
	asked := len(w.asked)
	for _, body := range []string{
		strings.Replace(hello, "hello", "something bad", 1), `{"messages":[{"role":"user","content":[{"type":"text","text":"bad"}]}]}`,
		strings.Replace(streamed, "hello", "bad", 1),
	} {
		a = w.want(400, "content_filter", me, "POST", chat, body)
		if !strings.Contains(string(a.Raw), `"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":`+bad+`}`) || a.Text("error", "param") != "prompt" || a.At("error", "status") != 400.0 {
			t.Errorf("%s", a.Raw)
		}
	}
	// What a filter does not see, a backend must not see either.
	for _, body := range []string{
		`{"messages":[{"role":"user","content":"bad","content":"good","Content":"good"}]}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"data:bad"}]}]}`, `{"messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":"bad"}}]}]}`,
		`{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","description":"bad"}}]}`,
	} {
		w.want(400, "content_filter", me, "POST", chat, body)
	}
	w.want(400, "BadRequest", me, "POST", chat, `{"messages":[{"role":"user","content":"bad"}],"Messages":[]}`)
	w.want(400, "BadRequest", me, "POST", strings.Replace(chat, "chat/", "", 1), `{"prompt":[[1,2,3]]}`)
	w.want(400, "content_filter", me, "POST", strings.Replace(chat, "chat/", "", 1), `{"prompt":["good","bad"]}`)
	w.want(400, "content_filter", me, "POST", "https://acc.openai.azure.com/openai/v1/responses", `{"model":"dd","input":[{"role":"user","content":[{"type":"input_text","text":"bad"}]}]}`)
	if len(w.asked) != asked {
		t.Error("a filtered prompt came to the backend")
	}
	w.answers(200, "application/json", `{"choices":[{"index":0,"message":{"role":"assistant","content":"good"},"finish_reason":"stop"},{"index":1,"message":{"role":"assistant","content":"bad"},"logprobs":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`)
	a = w.want(200, "", me, "POST", chat, hello)
	if strings.Contains(string(a.Raw), `"bad"`) || !strings.Contains(string(a.Raw), `"message":{"role":"assistant"},"logprobs":null,"finish_reason":"content_filter","content_filter_results":`+bad) || !strings.Contains(string(a.Raw), `"good"`) {
		t.Errorf("%s", a.Raw)
	}
	w.answers(200, "application/json", `{"object":"response","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"bad"}]}],"usage":{"input_tokens":1,"output_tokens":2}}`)
	a = w.want(200, "", me, "POST", "https://acc.openai.azure.com/openai/v1/responses", `{"model":"dd","input":"x"}`)
	if strings.Contains(string(a.Raw), "bad") || a.Text("status") != "incomplete" || a.Text("incomplete_details", "reason") != "content_filter" {
		t.Errorf("%s", a.Raw)
	}
}

func TestFilter_Streams(t *testing.T) {
	f := newFilter(t)
	w := newWorld(t, f.in(false))
	w.standard()
	const first = `data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"content_filter_results":` + safe + `,"prompt_index":0}]}` + "\n\n"
	marked := strings.Replace(word, `"finish_reason":null}`, `"finish_reason":null,"content_filter_results":`+safe+`}`, 1)
	ended := strings.Replace(stop, `"finish_reason":"stop"}`, `"finish_reason":"stop","content_filter_results":`+safe+`}`, 1)
	w.events(word, word, stop, used, done)
	if _, raw := w.over(me, chat, streamed); string(raw) != first+marked+marked+ended+done {
		t.Errorf("got %s", raw)
	}
	// What is bad comes in two pieces, far from each other's event.
	said := func(s string) string { return strings.Replace(word, `"w"`, `"`+s+`"`, 1) }
	long := strings.Repeat("long ", 250)
	w.events(word, said(long), said("ba"), said("d "), said(long), stop, used, done)
	_, raw := w.over(me, chat, streamed)
	if s := string(raw); !strings.Contains(s, long) || strings.Contains(s, `"ba"`) || strings.Count(s, long) != 1 ||
		!strings.HasSuffix(s, `data: {"id":"","object":"chat.completion.chunk","created":0,"model":"","choices":[{"index":0,"delta":{},"finish_reason":"content_filter","content_filter_results":`+bad+`}]}`+"\n\n"+done) {
		t.Errorf("got %s", s)
	}
	const delta = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"bad\"}\n\n"
	w.events(delta, "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[\"bad\"]}}\n\n")
	if _, raw = w.over(me, "https://acc.openai.azure.com/openai/v1/responses", `{"model":"dd","input":"x","stream":true}`); strings.Contains(string(raw), "bad") || !strings.Contains(string(raw), "response.incomplete") {
		t.Errorf("got %s", raw)
	}
	if got := w.metric("laz_openai_broken_answers_total"); got != 0 {
		t.Errorf("%v answers are said to be broken", got)
	}
}

// TestFilter_JudgesAllThatIsSaid has what is bad in each place that a model may
// read or speak in.
func TestFilter_JudgesAllThatIsSaid(t *testing.T) {
	f := newFilter(t)
	w := newWorld(t, f.in(true))
	w.standard()
	for _, more := range []string{
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","description":"bad","schema":{}}}`, `"prediction":{"type":"content","content":"bad"}`,
		`"chat_template":"bad"`, `"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"data":{"description":"bad"},"url":{"enum":["bad"]}}}}}]`,
	} {
		w.want(400, "content_filter", me, "POST", chat, strings.Replace(hello, "{", "{"+more+",", 1))
	}
	const responses = "https://acc.openai.azure.com/openai/v1/responses"
	w.want(400, "content_filter", me, "POST", responses, `{"model":"dd","input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{"description":"bad"}}}}`)
	for _, said := range []string{
		`"message":{"role":"assistant","refusal":"bad"}`, `"message":{"role":"assistant","function_call":{"name":"f","arguments":"bad"}}`,
		`"message":{"role":"assistant","reasoning":"bad","content":"good"}`, `"message":{"role":"assistant","content":[{"type":"text","text":"bad"}]}`, `"text":"good","thought":"bad"`,
	} {
		w.answers(200, "application/json", `{"choices":[{"index":0,`+said+`,"finish_reason":"stop"}]}`)
		if a := w.want(200, "", me, "POST", chat, hello); strings.Contains(string(a.Raw), `"bad"`) || !strings.Contains(string(a.Raw), `"finish_reason":"content_filter"`) {
			t.Errorf("%s: %s", said, a.Raw)
		}
		piece := strings.Replace(said, `"message":{"role":"assistant",`, `"delta":{`, 1)
		w.events(`data: {"choices":[{"index":0,`+piece+`,"finish_reason":null}]}`+"\n\n", stop, done)
		if _, raw := w.over(me, chat, streamed); strings.Contains(string(raw), `"bad"`) || !strings.Contains(string(raw), `"finish_reason":"content_filter"`) {
			t.Errorf("%s in a stream: %s", said, raw)
		}
	}
	long := strings.Repeat("long ", 5000)
	for name, event := range map[string]string{
		"at the head of a long piece": `{"choices":[{"index":0,"delta":{"content":"bad` + long + `"}}]}`,
		"a choice that is none":       `{"choices":[{"index":200,"delta":{"content":"bad"}}]}`,
		"choices that are no list":    `{"choices":{"0":{"delta":{"content":"bad"}}}}`,
	} {
		w.events(word, "data: "+event+"\n\n", stop, done)
		if _, raw := w.over(me, chat, streamed); strings.Contains(string(raw), `bad`) {
			t.Errorf("%s: %.300s", name, raw)
		}
	}
	for _, event := range []string{
		`{"type":"response.output_item.done","item":{"type":"function_call","arguments":"bad"}}`, `{"type":"response.refusal.delta","delta":"bad"}`,
		`{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"bad"}]}]}}`,
	} {
		w.events("data: "+event+"\n\n", "data: {\"type\":\"response.completed\",\"response\":{\"output\":[]}}\n\n")
		if _, raw := w.over(me, responses, `{"model":"dd","input":"x","stream":true}`); strings.Contains(string(raw), "bad") {
			t.Errorf("%s: %s", event, raw)
		}
	}
}

func TestFilter_WhereItIsDown(t *testing.T) {
	f := newFilter(t)
	f.down.Store(true)
	w := newWorld(t, f.in(false))
	w.standard()
	a := w.want(200, "", me, "POST", chat, hello)
	if strings.Count(string(a.Raw), down) != 2 {
		t.Errorf("%s", a.Raw)
	}
	strict := newWorld(t, f.in(true))
	strict.standard()
	strict.want(503, "content_filter_error", me, "POST", chat, hello)
	strict.want(503, "content_filter_error", me, "POST", chat, streamed)
	if strict.last() != nil {
		t.Error("the backend was asked")
	}
	f.down.Store(false)
	strict.backs(func(rw http.ResponseWriter, _ *http.Request) {
		f.down.Store(true)
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, word+stop+done)
	})
	if _, raw := strict.over(me, chat, streamed); strings.Contains(string(raw), `"w"`) || !strings.Contains(string(raw), `data: {"error":{"message":"The content filter does not answer`) {
		t.Errorf("%s", raw)
	}
	if got := strict.metric("laz_openai_broken_answers_total", "no content filter"); got != 1 {
		t.Errorf("%v counted", got)
	}
}

func TestFilter_EmbeddingsAreNotJudged(t *testing.T) {
	f := newFilter(t)
	w := newWorld(t, f.in(true))
	w.standard()
	w.deploy("acc", "embed", "text-embedding-3-small", "1", 10, "")
	w.answers(200, "application/json", `{"data":[{"embedding":[1]}]}`)
	if a := w.want(200, "", me, "POST", "https://acc.openai.azure.com/openai/deployments/embed/embeddings"+ver, `{"input":"bad"}`); f.asked.Load() != 0 || strings.Contains(string(a.Raw), "filter") {
		t.Errorf("%s", a.Raw)
	}
}
