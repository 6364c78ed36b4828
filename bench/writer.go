package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"time"

	"lazurite.dev/internal/inference/tinywriter"
)

// briefed is a product that a description is written for.
type briefed struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// writer measures the built-in model: how often it uses the name and all tags
// with no guard and no second try, and how many tokens a second of CPU gives.
func (s *suite) writer(ctx context.Context) error {
	w, err := tinywriter.Open()
	if err != nil {
		return err
	}
	for _, set := range []struct{ what, file, goal string }{
		{"unseen, made-up nouns and tags", "internal/inference/tinywriter/testdata/heldout.json", "≥ 90 %"},
		{"real products, written by hand", "internal/inference/tinywriter/testdata/products.json", ""},
	} {
		b, err := os.ReadFile(set.file)
		if err != nil {
			return err
		}
		var all []briefed
		if err := json.Unmarshal(b, &all); err != nil {
			return fmt.Errorf("%s: %w", set.file, err)
		}
		all = all[:min(len(all), s.n(len(all)))]
		if err := s.guarded(all, "tiny-writer, "+set.what); err != nil {
			return err
		}
		for _, temperature := range []float64{0, 0.7} {
			if err := s.unaided(ctx, w, all, temperature, "tiny-writer, "+set.what, set.goal); err != nil {
				return err
			}
		}
	}
	return s.speed(ctx, w)
}

func (s *suite) unaided(ctx context.Context, w *tinywriter.Writer, all []briefed, temperature float64, what, goal string) error {
	uses, good := 0, 0
	for i, a := range all {
		d, err := w.Draft(ctx, a.Name, a.Tags, temperature, uint64(i))
		if err != nil {
			return err
		}
		if d.Uses {
			uses++
			if d.Whole && d.Plain {
				good++
			}
		}
	}
	how := "greedy"
	if temperature > 0 {
		how = fmt.Sprintf("temperature %.1f", temperature)
	}
	share := 100 * float64(uses) / float64(len(all))
	s.add(figure{what: what + ", " + how + ": all used unaided", value: fmt.Sprintf("%.1f %% of %d", share, len(all)),
		limit: fmt.Sprintf("passes the whole guard: %.1f %%", 100*float64(good)/float64(len(all))), goal: goal, met: share >= 90})
	return nil
}

// guarded asks as a caller does, at temperature 0: how often the answer is the
// model's own, after up to four more drafts, and not a template's.
func (s *suite) guarded(all []briefed, what string) error {
	h, own := tinywriter.Handler(), 0
	for _, a := range all {
		asked, err := json.Marshal("Product name: " + a.Name + "\nTags: " + strings.Join(a.Tags, ", "))
		if err != nil {
			return err
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(`{"temperature":0,"messages":[{"role":"user","content":`+string(asked)+`}]}`)))
		if w.Code != http.StatusOK {
			return fmt.Errorf("asked for %q: %d %s", a.Name, w.Code, w.Body)
		}
		if !strings.Contains(w.Body.String(), "-template\"") && !strings.Contains(w.Body.String(), "-notice\"") {
			own++
		}
	}
	s.add(figure{what: what + ", after the guard: no template", value: fmt.Sprintf("%.1f %% of %d", 100*float64(own)/float64(len(all)), len(all))})
	return nil
}

// speed writes one text after the other on one core. It counts CPU time, reading of the prompt included.
func (s *suite) speed(ctx context.Context, w *tinywriter.Writer) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	tokens, read := 0, 0
	before := ownCPU()
	n := s.n(100)
	for i := range n {
		d, err := w.Draft(ctx, "Salty Sailor rope", []string{"dog", "toy", "rope"}, 0.7, uint64(i))
		if err != nil {
			return err
		}
		tokens, read = tokens+d.Tokens, read+d.Prompt
	}
	took := ownCPU() - before
	rate := float64(tokens) / took.Seconds()
	s.add(figure{what: "tiny-writer, tokens written a second of CPU", value: fmt.Sprintf("%.0f", rate),
		limit: fmt.Sprintf("with the prompt's: %.0f", float64(tokens+read)/took.Seconds()), goal: "> 500", met: rate > 500})
	s.add(figure{what: "tiny-writer, CPU of one description", value: ms(took / time.Duration(n))})
	return nil
}
