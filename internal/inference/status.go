package inference

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
)

// The states of a backend.
const (
	StateReady     = "ready"
	StateFailing   = "failing"     // it failed, and is still asked
	StateOut       = "out"         // taken out, until it is tried again
	StateOutForOne = "out for one" // taken out for the one caller whose calls failed; others' are answered
	StateLimited   = "limited"     // it wants no calls for a while
)

// ModelStatus is what `laz models list` shows of one model.
type ModelStatus struct {
	Name         string          `json:"name"`
	Versions     []string        `json:"versions"` // the default one first
	Source       string          `json:"source"`
	Capabilities Capabilities    `json:"capabilities"`
	Waiting      int             `json:"waiting"` // calls that wait for a backend
	Backends     []BackendStatus `json:"backends"`
}

// BackendStatus is one backend of a model. Counts are since the start; times in
// milliseconds.
type BackendStatus struct {
	Name        string     `json:"name"`
	URL         string     `json:"url,omitempty"`   // with the prefix; empty: the built-in model
	Model       string     `json:"model"`           // the backend's own name
	State       string     `json:"state"`           // StateReady, …
	Until       *time.Time `json:"until,omitempty"` // with StateOut, StateOutForOne and StateLimited
	Weight      int        `json:"weight"`
	Concurrency int        `json:"concurrency,omitempty"` // 0: any number
	InFlight    int        `json:"inFlight"`
	Calls       uint64     `json:"calls"`
	Failed      uint64     `json:"failed"`
	FirstByte   float64    `json:"firstByteMs,omitempty"` // a moving average
	Probe       float64    `json:"probeMs,omitempty"`
	LastError   string     `json:"lastError,omitempty"`
	LastErrorAt *time.Time `json:"lastErrorAt,omitempty"`
}

// Status is every model with its backends, in the order of Models.
func (c *Catalog) Status() []ModelStatus {
	var out []ModelStatus
	for _, e := range *c.models.Load() {
		if n := len(out); n > 0 && out[n-1].Name == e.Name {
			out[n-1].Versions = append(out[n-1].Versions, e.Version)
			continue
		}
		m := ModelStatus{Name: e.Name, Versions: []string{e.Version}, Source: e.Source, Capabilities: e.Capabilities}
		m.Waiting, m.Backends = e.pool.status(time.Now())
		out = append(out, m)
	}
	return out
}

func (p *pool) status(now time.Time) (waiting int, out []BackendStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.backends {
		s := &b.state
		st := BackendStatus{
			Name: b.name, Model: b.own, State: StateReady, Weight: b.weight, Concurrency: b.concurrency, InFlight: s.inFlight, Calls: s.calls, Failed: s.failed,
			FirstByte: millis(s.firstByte), Probe: millis(s.probe), LastError: s.lastError,
		}
		if !b.builtin {
			st.URL = b.base.String()
		}
		if !s.lastErrorAt.IsZero() {
			at := s.lastErrorAt.UTC()
			st.LastErrorAt = &at
		}
		until := s.retryAt.UTC()
		switch {
		case s.open:
			st.State, st.Until = StateOutForOne, &until
			if s.many {
				st.State = StateOut
			}
		case now.Before(s.limited):
			until = s.limited.UTC()
			st.State, st.Until = StateLimited, &until
		case s.failures > 0:
			st.State = StateFailing
		}
		out = append(out, st)
	}
	return p.waiting.n, out
}

func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// TestResult is how one backend did in a test.
type TestResult struct {
	Backend string  `json:"backend"`
	OK      bool    `json:"ok"`
	Status  int     `json:"status,omitempty"` // HTTP's; 0: no answer
	Millis  float64 `json:"millis"`           // until the whole answer was there
	Text    string  `json:"text,omitempty"`   // what the model said, or how long its vector is
	Error   string  `json:"error,omitempty"`
}

const (
	testTime    = time.Minute
	maxTestBody = 1 << 20
	maxTestText = 200
)

// Test sends each backend of a model one small request, whatever their state
// and weight, and says how it went. Unlike calls it changes nobody's state.
func (c *Catalog) Test(ctx context.Context, name, version string) ([]TestResult, error) {
	e := c.find(name, version)
	if e == nil {
		return nil, apierr.New(apierr.NotFound, "ModelNotFound", "The catalogue has no model %s. `laz models list` shows what there is.", name)
	}
	op, body := Chat, `{"messages":[{"role":"user","content":"Say hello."}],"max_tokens":16}`
	switch can := e.Capabilities; {
	case can.Chat:
	case can.Completions:
		op, body = Completions, `{"prompt":"Hello","max_tokens":8}`
	case can.Embeddings:
		op, body = Embeddings, `{"input":"hello"}`
	case can.Responses:
		op, body = Responses, `{"input":"Say hello.","max_output_tokens":16}`
	default:
		return nil, apierr.New(apierr.BadRequest, "NotTestable", "The model %s neither chats nor embeds: there is no small request for it.", e.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	var out []TestResult
	for _, b := range e.pool.backends {
		asks := body
		if b.builtin { // it says little of anything else
			asks = `{"messages":[{"role":"user","content":"Describe a product: rope with tags: strong, blue"}]}`
		}
		out = append(out, b.test(ctx, op, asks))
	}
	return out, nil
}

func (b *backend) test(ctx context.Context, op Operation, body string) TestResult {
	began := time.Now()
	t := TestResult{Backend: b.name}
	fail := func(err error) TestResult {
		t.Millis, t.Error = millis(time.Since(began)), brief(err)
		return t
	}
	asked, err := Set([]byte(body), "model", b.named)
	if err != nil {
		return fail(err)
	}
	r := b.ask(ctx, op, &Call{Operation: op}, asked, func(error) {})
	if r.answer == nil {
		return fail(r.verdict.err)
	}
	defer r.answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(r.answer.Body, maxTestBody))
	if err != nil {
		return fail(err)
	}
	t.Status, t.Millis = r.answer.Status, millis(time.Since(began))
	if t.Status != http.StatusOK {
		t.Error = fmt.Sprintf("HTTP %d: %s", t.Status, clip(strings.Join(strings.Fields(string(raw)), " ")))
		if err := r.verdict.err; err != nil && t.Status < 429 {
			t.Error = err.Error()
		}
		return t
	}
	t.Text, err = said(op, raw)
	if t.OK = err == nil; err != nil {
		t.Error = err.Error()
	}
	return t
}

// said is what an answer says, on one line.
func said(op Operation, raw []byte) (string, error) {
	var a struct {
		Choices []struct {
			Text    string `json:"text"`
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
		Data []struct {
			Embedding []float64 `json:"embedding"`
		} `json:"data"`
		Output []struct {
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
		} `json:"output"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return "", fmt.Errorf("its answer is not %s's: %w", op, err)
	}
	switch {
	case op == Embeddings && len(a.Data) > 0:
		return fmt.Sprintf("a vector of %d numbers", len(a.Data[0].Embedding)), nil
	case len(a.Choices) > 0:
		return clip(strings.Join(strings.Fields(a.Choices[0].Message.Content+a.Choices[0].Text), " ")), nil
	case len(a.Output) > 0:
		for _, o := range a.Output {
			for _, c := range o.Content {
				return clip(strings.Join(strings.Fields(c.Text), " ")), nil
			}
		}
	}
	return "", fmt.Errorf("its answer has nothing of what %s gives", op)
}

// clip bounds what is shown of a backend's text.
func clip(s string) string {
	r := []rune(strings.ToValidUTF8(s, "?"))
	if len(r) <= maxTestText {
		return string(r)
	}
	return string(r[:maxTestText]) + "…"
}
