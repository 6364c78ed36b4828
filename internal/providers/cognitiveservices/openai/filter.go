package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Filter is a server that judges texts: OpenAI's moderation API, which several
// programs speak. Source: OpenAI API reference, "Create moderation".
type Filter struct {
	URL    string // whole: "http://127.0.0.1:9000/v1/moderations"
	Key    string // sent as a Bearer token; "" sends none
	Model  string // "" is the server's default
	Strict bool   // nothing passes while it does not answer; else it passes marked as not filtered, as in Azure
}

const (
	filterTime   = 10 * time.Second // for one judgement
	mostVerdicts = 1 << 20          // bytes of one
	batchText    = 1000             // characters of a stream that are judged together
	mostText     = 8000             // characters before them that are judged with them
	mostFiltered = 64 << 20         // bytes of an answer that has to be judged
)

// result is one category's. Source: Azure OpenAI, "Content filtering".
type result struct {
	Filtered bool   `json:"filtered"`
	Severity string `json:"severity"`
}

// verdict is the results of one text by category; nil where the filter did not
// answer.
type verdict map[string]result

func (v verdict) filtered() bool {
	for _, r := range v {
		if r.Filtered {
			return true
		}
	}
	return false
}

// field is the name and the value of a verdict in an answer.
func (v verdict) field() (string, json.RawMessage) {
	if v == nil {
		return "content_filter_result", json.RawMessage(`{"error":{"code":"content_filter_error","message":"The contents are not filtered"}}`)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return "content_filter_results", json.RawMessage(`{}`)
	}
	return "content_filter_results", raw
}

// category is Azure's word for one of the moderation API's, which are finer.
func category(name string) string {
	word, _, _ := strings.Cut(name, "/")
	switch word {
	case "hate", "harassment":
		return "hate"
	case "self-harm", "self_harm":
		return "self_harm"
	case "sexual", "violence":
		return word
	}
	return ""
}

// severities are from which score on a text has them; medium and high are
// filtered, Azure's default.
func severity(score float64) string {
	switch {
	case score >= 0.75:
		return "high"
	case score >= 0.5:
		return "medium"
	case score >= 0.25:
		return "low"
	}
	return "safe"
}

// filterClient keeps connections to the filter, asks no proxy for it, and goes
// nowhere else.
func filterClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// judge asks for the verdicts of texts.
func (f *Filter) judge(ctx context.Context, client *http.Client, texts []string) ([]verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, filterTime)
	defer cancel()
	ask := map[string]any{"input": texts}
	if f.Model != "" {
		ask["model"] = f.Model
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if f.Key != "" {
		r.Header.Set("Authorization", "Bearer "+f.Key)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("asking the content filter: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, mostVerdicts))
	if err != nil {
		return nil, fmt.Errorf("reading the content filter's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the content filter answered the status %d", resp.StatusCode)
	}
	return verdicts(raw, len(texts))
}

// verdicts reads n of them.
func verdicts(raw []byte, n int) ([]verdict, error) {
	var answer struct {
		Results []struct {
			Categories map[string]*bool    `json:"categories"`
			Scores     map[string]*float64 `json:"category_scores"`
		} `json:"results"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("the content filter's answer: %w", err)
	}
	if len(answer.Results) != n {
		return nil, fmt.Errorf("the content filter judged %d texts of %d", len(answer.Results), n)
	}
	out := make([]verdict, n)
	for i, r := range answer.Results {
		scores := map[string]float64{"hate": 0, "self_harm": 0, "sexual": 0, "violence": 0}
		for name, s := range r.Scores {
			if c := category(name); c != "" && s != nil {
				scores[c] = max(scores[c], *s)
			}
		}
		for name, yes := range r.Categories {
			if c := category(name); c != "" && yes != nil && *yes {
				scores[c] = max(scores[c], 0.5)
			}
		}
		out[i] = verdict{}
		for c, s := range scores {
			word := severity(s)
			out[i][c] = result{Filtered: word == "medium" || word == "high", Severity: word}
		}
	}
	return out, nil
}

// judged is the verdicts of texts, nil ones where the filter does not answer and
// need not.
func (a *ask) judged(texts []string) ([]verdict, error) {
	list, err := a.p.Filter.judge(a.c.Context, a.p.client, texts)
	if err == nil {
		return list, nil
	}
	a.p.Log.Warn("the content filter", "error", err)
	if a.p.Filter.Strict {
		return nil, apierr.New(apierr.Unavailable, "content_filter_error", "The content filter does not answer, and nothing passes without it.").WithCause(err)
	}
	return make([]verdict, len(texts)), nil
}

// checkPrompt judges what is asked. A reply is the refusal.
func (a *ask) checkPrompt() (*gate.Reply, error) {
	texts, err := prompts(a.row.op, a.body)
	if err != nil || len(texts) == 0 {
		return nil, err
	}
	list, err := a.judged(texts)
	if err != nil {
		return nil, err
	}
	var shown []map[string]any
	for i, v := range list {
		if v.filtered() {
			return a.refusePrompt(v), nil
		}
		name, raw := v.field()
		shown = append(shown, map[string]any{"prompt_index": i, name: raw})
	}
	a.shown, err = json.Marshal(shown)
	return nil, err
}

// refusePrompt is the answer to a prompt that the filter does not let pass.
func (a *ask) refusePrompt(v verdict) *gate.Reply {
	const text = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry. To learn more about our content filtering policies please read our documentation: https://go.microsoft.com/fwlink/?linkid=2198766"
	web.EventFrom(a.c.Context).Fail(apierr.New(apierr.BadRequest, "content_filter", "the prompt was filtered"))
	trace.Add(a.c.Context, trace.Hop{Step: "content filter", Subject: a.dep.ID.String(), Found: "the prompt was filtered"})
	a.finish(http.StatusBadRequest, usage{}, false)
	return &gate.Reply{Status: http.StatusBadRequest, Body: map[string]any{"error": map[string]any{
		"message": text, "type": nil, "param": "prompt", "code": "content_filter", "status": http.StatusBadRequest,
		"innererror": map[string]any{"code": "ResponsibleAIPolicyViolation", "content_filter_result": v},
	}}}
}

// prompts are the texts that a request has for a model. Names are taken as they
// are written, since backends do; where one comes twice in an object all its
// values count. Prompts that are lists of tokens can't be read: an error.
func prompts(op inference.Operation, body []byte) ([]string, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(body, &top); err != nil {
		return nil, err
	}
	if op == inference.Embeddings {
		return nil, nil
	}
	var list []string
	if op == inference.Completions {
		if numbersIn(top["prompt"]) {
			return nil, apierr.New(apierr.BadRequest, "BadRequest", "A prompt that is a list of tokens can't be judged by the content filter: send text.").WithTarget("prompt")
		}
		list = textsIn(top["prompt"])
		delete(top, "prompt")
	}
	// What a client says of tools, of the answer's form, and in members that only
	// some backends know, is for the model, too.
	for _, name := range []string{"model", "user", "safety_identifier", "prompt_cache_key", "metadata", "service_tier", "encoding_format"} {
		delete(top, name)
	}
	return append(list, joined(membersTexts(top))...), nil
}

// membersTexts are the texts in an object's members, by their names.
func membersTexts(members map[string]json.RawMessage) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if value := members[name]; !structural(name) || len(value) > 0 && value[0] != '"' {
			out = append(out, textsIn(value)...)
		}
	}
	return out
}

func joined(lists ...[]string) []string {
	texts := slices.Concat(lists...)
	if len(texts) == 0 {
		return nil
	}
	return []string{strings.Join(texts, "\n")}
}

// numbersIn reports whether a value has numbers in it.
func numbersIn(raw json.RawMessage) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	for {
		t, err := dec.Token()
		if err != nil {
			return false
		}
		if _, ok := t.(float64); ok {
			return true
		}
	}
}

// textsIn are all strings in a value, but for those that say what others are
// and those that are pictures, sounds and files.
func textsIn(raw json.RawMessage) []string {
	if len(raw) == 0 {
		return nil
	}
	var out []string
	dec := json.NewDecoder(bytes.NewReader(raw))
	_ = eachText(dec, false, func(text string) { out = append(out, text) }) // it was checked to be JSON
	return out
}

// eachText gives add the strings of the next value, but for one that itself is to
// be skipped: what has structure below it, such as a schema with a property
// called "data", is looked into.
func eachText(dec *json.Decoder, skip bool, add func(string)) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	if text, ok := t.(string); ok && text != "" && !skip {
		add(text)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	for dec.More() {
		under := false
		if delim == '{' {
			name, err := dec.Token()
			if err != nil {
				return err
			}
			under = structural(name)
		}
		if err := eachText(dec, under, add); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// structural reports whether what stands under a name is no text for a model.
func structural(name any) bool {
	switch name {
	case "role", "type", "id", "object", "status", "call_id", "tool_call_id", "file_id", "url", "image_url", "data", "file_data", "detail", "format":
		return true
	}
	return false
}

var errFiltered = errors.New("the answer was filtered")

// checkWhole judges an answer that is no stream and gives it with its verdicts.
func (a *ask) checkWhole(raw []byte) ([]byte, error) {
	if a.row.op == inference.Responses {
		return a.checkResponse(raw)
	}
	var answer struct {
		Choices []json.RawMessage `json:"choices"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, errors.Join(errMalformed, err)
	}
	texts := make([]string, len(answer.Choices))
	for i, c := range answer.Choices {
		texts[i] = choiceText(c)
	}
	list := make([]verdict, 0)
	var err error
	if len(texts) > 0 {
		if list, err = a.judged(texts); err != nil {
			return nil, err
		}
	}
	for i, v := range list {
		if answer.Choices[i], err = a.mark(answer.Choices[i], v); err != nil {
			return nil, err
		}
	}
	choices, err := json.Marshal(answer.Choices)
	if err != nil {
		return nil, err
	}
	if len(texts) > 0 {
		if raw, err = inference.Set(raw, "choices", choices); err != nil {
			return nil, err
		}
	}
	if a.shown == nil {
		return raw, nil
	}
	return inference.Set(raw, "prompt_filter_results", a.shown)
}

// choiceText is all that a choice says, whatever a backend calls it: content,
// refusal, reasoning, calls and their arguments.
func choiceText(raw json.RawMessage) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return ""
	}
	for _, name := range aboutChoice() {
		delete(members, name)
	}
	return strings.Join(membersTexts(members), "")
}

// aboutChoice are members of a choice that say nothing of their own; the tokens
// of logprobs are those of the text.
func aboutChoice() []string { return []string{"index", "finish_reason", "stop_reason", "logprobs"} }

// mark puts a verdict into a choice; what is filtered loses its text.
func (a *ask) mark(choice json.RawMessage, v verdict) (json.RawMessage, error) {
	name, raw := v.field()
	sets := [][2]string{{name, string(raw)}}
	if v.filtered() {
		a.filtered()
		sets = append(sets, [2]string{"finish_reason", `"content_filter"`})
		var c map[string]json.RawMessage
		if err := json.Unmarshal(choice, &c); err != nil {
			return nil, errors.Join(errMalformed, err)
		}
		for member := range c {
			switch member {
			case "index", "finish_reason":
			case "text":
				sets = append(sets, [2]string{member, `""`})
			case "message":
				sets = append(sets, [2]string{member, `{"role":"assistant"}`})
			default:
				sets = append(sets, [2]string{member, "null"})
			}
		}
	}
	var err error
	for _, s := range sets {
		if choice, err = inference.Set(choice, s[0], json.RawMessage(s[1])); err != nil {
			return nil, errors.Join(errMalformed, err)
		}
	}
	return choice, nil
}

// filtered tells the log that something was.
func (a *ask) filtered() { web.EventFrom(a.c.Context).Set("filtered", "completion") }

// checkResponse judges the output of a response; what is filtered makes it
// incomplete.
func (a *ask) checkResponse(raw []byte) ([]byte, error) {
	var r struct {
		Output json.RawMessage `json:"output"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, errors.Join(errMalformed, err)
	}
	texts := joined(textsIn(r.Output))
	if len(texts) == 0 {
		return raw, nil
	}
	list, err := a.judged(texts)
	if err != nil || !list[0].filtered() {
		return raw, err
	}
	a.filtered()
	for _, s := range [][2]string{{"output", "[]"}, {"status", `"incomplete"`}, {"incomplete_details", `{"reason":"content_filter"}`}} {
		if raw, err = inference.Set(raw, s[0], json.RawMessage(s[1])); err != nil {
			return nil, err
		}
	}
	return raw, nil
}
