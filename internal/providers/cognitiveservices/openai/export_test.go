package openai

import (
	"time"

	"lazurite.dev/internal/inference"
)

// FilterStream passes a stream in pieces, as the plane does, and gives what a client
// gets and the tokens that were counted.
func FilterStream(responses, hide bool, pieces ...[]byte) (out []byte, prompt, completion int, err error) {
	e := &events{responses: responses, hide: hide}
	pass := func(b []byte) { out = append(out, b...) }
	for _, p := range pieces {
		if err = e.feed(p, pass); err != nil {
			return out, e.usage.Prompt, e.usage.Completion, err
		}
	}
	return out, e.usage.Prompt, e.usage.Completion, e.end(pass)
}

// The ways in which a stream can be wrong.
var (
	ErrMalformed = errMalformed
	ErrCut       = errCut
)

// ScanUsage finds the usage of an answer that comes in pieces.
func ScanUsage(pieces ...[]byte) (prompt, completion int, found bool) {
	s := &usageScanner{}
	for _, p := range pieces {
		s.feed(p)
	}
	u, found := s.usage()
	return u.Prompt, u.Completion, found
}

// Estimate is how many tokens a body is taken for.
func Estimate(body []byte, output, n int) int { return estimate(body, output, n) }

// Quotas are limits for tests, in one deployment.
type Quotas struct {
	q quotas
	a allowance
}

// NewQuotas has so many tokens and requests a minute.
func NewQuotas(tokens, requests float64, now func() time.Time) *Quotas {
	return &Quotas{quotas{now: now}, allowance{tokens, requests}}
}

// Admit takes a request of n tokens: settle, or how long to wait.
func (q *Quotas) Admit(who string, n int) (settle func(int), wait time.Duration) {
	t, r := q.q.admit("d", who, q.a, n)
	if r != nil {
		return nil, r.wait
	}
	return t.settle, 0
}

// Verdicts reads the answer of a content filter for n texts, and counts those
// that are filtered.
func Verdicts(raw []byte, n int) (filtered int, err error) {
	list, err := verdicts(raw, n)
	for _, v := range list {
		if v.filtered() {
			filtered++
		}
	}
	return filtered, err
}

// ToBase64 converts an answer of embeddings.
func ToBase64(raw []byte) ([]byte, error) { return toBase64(raw) }

// Prompts are the texts of a request.
func Prompts(op inference.Operation, body []byte) []string {
	texts, _ := prompts(op, body)
	return texts
}

// Annotate puts a verdict on the choice 0 into an event.
func Annotate(ev []byte) []byte {
	return annotate(ev, map[int]verdict{0: {"hate": {Severity: "safe"}}})
}

// Scrub is scrub.
func Scrub(text []byte, host string) []byte { return scrub(text, host) }
