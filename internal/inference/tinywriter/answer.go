package tinywriter

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

const (
	maxDraft = 192 // tokens of one draft
	resample = 4   // drafts after the first before the template takes its place
)

// answer writes the choices. The fingerprint says where they come from.
func (s *server) answer(ctx context.Context, t *task) ([]choice, usage, string, error) {
	if s.waiting.Add(1) > maxWaiting {
		s.waiting.Add(-1)
		return nil, usage{}, "", errBusy
	}
	defer s.waiting.Add(-1)
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return nil, usage{}, "", ctx.Err()
	}
	w, err := s.open()
	if err != nil {
		return nil, usage{}, "", err
	}
	texts, from, err := w.texts(ctx, t)
	if err != nil {
		return nil, usage{}, "", err
	}
	var all []choice
	var u usage
	for _, ids := range texts {
		c := t.cut(w, ids)
		u.CompletionTokens += c.tokens
		all = append(all, c)
	}
	for _, m := range t.messages {
		u.PromptTokens += len(w.tokens.encode(m.text))
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return all, u, Name + "-" + WeightsSHA256[:12] + from, nil
}

// texts makes the choices whole, as tokens.
func (w *Writer) texts(ctx context.Context, t *task) (all [][]int32, from string, err error) {
	p, ok := understand(t.messages)
	if !ok {
		for range t.n {
			all = append(all, w.tokens.encode(" "+notice))
		}
		return all, "-notice", nil
	}
	read, err := w.prefill(ctx, p)
	if err != nil {
		return nil, "", err
	}
	for i := range t.n {
		ids, good := []int32(nil), false
		if read != nil {
			if ids, good, err = w.draft(ctx, t, p, read, i); err != nil {
				return nil, "", err
			}
		}
		if !good {
			ids, from = w.tokens.encode(" "+template(p)), "-template"
		}
		all = append(all, ids)
	}
	return all, from, nil
}

// draft writes until the guard is content, at most 1+resample times. Where
// the caller asked for the likeliest text and that one is not good, it draws at
// a low temperature with a seed made of the product: the same each time.
// Where the caller asked for chance, the last try is the likeliest text.
func (w *Writer) draft(ctx context.Context, t *task, p product, read *run, index int) ([]int32, bool, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.Name + "\x00" + strings.Join(p.Tags, "\x00"))) // it never fails
	seed := h.Sum64()
	greedy := t.temperature < 1e-4 || t.topP <= 0
	if !greedy {
		seed = rand.Uint64()
		if t.seed != nil {
			seed = uint64(*t.seed)
		}
	}
	rng := rand.New(rand.NewPCG(seed, uint64(index)))
	for try := range 1 + resample {
		temperature, topP := t.temperature, t.topP
		switch {
		case greedy && try > 0:
			temperature, topP = 0.5, 1
		case !greedy && try == resample:
			temperature = 0
		}
		r := read.fork()
		ids, whole, err := w.write(ctx, r, temperature, topP, rng)
		if err != nil {
			return nil, false, err
		}
		if w.good(w.text(ids), whole, p) {
			return ids, true, nil
		}
	}
	return nil, false, nil
}

// cut ends an answer before the first stop sequence and after max tokens, and
// makes pieces of it that are valid UTF-8 each. A token that a stop sequence
// cuts through counts as one.
func (t *task) cut(w *Writer, ids []int32) choice {
	c := choice{finish: "stop"}
	text := w.text(ids)
	end := len(text)
	for _, stop := range t.stop {
		if i := strings.Index(text, stop); i >= 0 {
			end = min(end, i)
		}
	}
	at, piece := 0, ""
	for i, id := range ids {
		if at >= end && end < len(text) {
			break
		}
		if c.tokens == t.max {
			c.finish = "length"
			break
		}
		token := w.tokens.tokens[id]
		if i == 0 {
			token = strings.TrimPrefix(token, " ")
		}
		token = token[:min(len(token), end-at)]
		at += len(token)
		c.tokens++
		if piece += token; piece != "" && utf8.ValidString(piece) {
			c.pieces = append(c.pieces, piece)
			piece = ""
		}
	}
	return c
}
