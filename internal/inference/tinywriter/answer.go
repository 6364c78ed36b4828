package tinywriter

import (
	"context"
	"strings"
)

// maxDraft is the most tokens of one draft.
const maxDraft = 160

// answer writes the choices. The fingerprint says where they come from.
func (s *server) answer(ctx context.Context, t *task) ([]choice, string, error) {
	if s.waiting.Add(1) > maxWaiting {
		s.waiting.Add(-1)
		return nil, "", errBusy
	}
	defer s.waiting.Add(-1)
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	p, ok := understand(t.messages)
	text, from := notice, "-notice"
	if ok {
		text, from = template(p), "-template"
	}
	var all []choice
	for range t.n {
		all = append(all, t.cut(pieces(text)))
	}
	return all, Name + from, nil
}

func pieces(text string) []string { return strings.SplitAfter(text, " ") }

func (s *server) count(messages []message) int {
	n := 0
	for _, m := range messages {
		n += len(pieces(m.text))
	}
	return n
}

// cut ends an answer before the first stop sequence and after max tokens.
func (t *task) cut(pieces []string) choice {
	c := choice{finish: "stop"}
	text, end := join(pieces), -1
	for _, stop := range t.stop {
		if i := strings.Index(text, stop); i >= 0 && (end < 0 || i < end) {
			end = i
		}
	}
	at := 0
	for _, p := range pieces {
		if end >= 0 && at >= end {
			break
		}
		if c.tokens == t.max {
			c.finish = "length"
			break
		}
		if end >= 0 && at+len(p) > end {
			p = p[:end-at]
		}
		c.pieces = append(c.pieces, p)
		c.tokens++
		at += len(p)
	}
	return c
}
