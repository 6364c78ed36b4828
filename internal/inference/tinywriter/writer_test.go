package tinywriter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func opened(t testing.TB) *Writer {
	t.Helper()
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWeightsAreTheOnesThatAreDocumented(t *testing.T) {
	sum := sha256.Sum256([]byte(weights))
	if got := hex.EncodeToString(sum[:]); got != WeightsSHA256 {
		t.Errorf("the weights are %s, want %s", got, WeightsSHA256)
	}
	readme, err := os.ReadFile("train/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), WeightsSHA256) {
		t.Error("train/README.md names other weights")
	}
}

// TestReference compares with what the trainer computed from the same weights.
func TestReference(t *testing.T) {
	w := opened(t)
	var cases []struct {
		Name           string
		Tags           []string
		Prompt, Greedy []int32
		Logits         []float64
	}
	b, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		p := product{c.Name, c.Tags}
		if got := w.tokens.prompt(p); !slices.Equal(got, c.Prompt) {
			t.Fatalf("prompt of %q: %d, want %d", c.Name, got, c.Prompt)
		}
		r, err := w.prefill(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range r.next()[:len(c.Logits)] {
			if math.Abs(float64(v)-c.Logits[i]) > 1e-3 {
				t.Fatalf("logit %d of %q is %v, want %v", i, c.Name, v, c.Logits[i])
			}
		}
		ids, whole, err := w.write(t.Context(), r.fork(), 0, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			ids = append(ids, tokEnd)
		}
		if n := min(len(ids), len(c.Greedy)); n == 0 || !slices.Equal(ids[:n], c.Greedy[:n]) {
			t.Errorf("%q goes on with %q, want %q", c.Name, w.text(ids), w.text(c.Greedy))
		}
	}
}

func FuzzTokenizer(f *testing.F) {
	w := opened(f)
	for _, s := range []string{"", " a", "The Salty Sailor's rope  costs 12.50 €\n\n", "犬 \t x", "\xff\x00 '", strings.Repeat("ab", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ids := w.tokens.encode(s)
		if got := w.tokens.decode(ids); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		for _, id := range ids {
			if id < specials {
				t.Fatalf("%q holds the special token %d", s, id)
			}
		}
	})
}

func FuzzGGUF(f *testing.F) {
	f.Add(weights[:4096])
	f.Add("GGUF\x03\x00\x00\x00")
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) < 1<<16 {
			if w, err := open(s); err == nil {
				t.Fatalf("%q opened as %d layers", s, w.model.layers)
			}
		}
	})
}

func TestOpen_CutOff(t *testing.T) {
	for _, n := range []int{0, 3, 100, 5000, len(weights) / 2, len(weights) - 64} {
		if _, err := open(weights[:n]); err == nil {
			t.Errorf("%d bytes of the weights opened", n)
		}
	}
}

func TestGuard(t *testing.T) {
	w := opened(t)
	p := product{"Zorbix rope", []string{"dog", "eco-friendly"}}
	for text, want := range map[string]bool{
		"Meet the Zorbix rope, made for every dog. It is eco-friendly.":          true,
		"Meet the Zorbix Rope, made for every Dog. It is Eco-Friendly.":          true,
		"Meet the Zorbix rope, made for every dog.":                              false, // a tag is missing
		"Meet the Zorbox rope, made for every dog. It is eco-friendly.":          false, // the name is misspelt
		"The Zorbix rope is dog, and it shows. It is eco-friendly.":              false, // a noun as a quality
		"Meet the Zorbix rope, made for every dogs. It is eco-friendly.":         false,
		"Meet the Zorbix rope, made for every dog. It is eco-friendly, Zorbox.":  false, // a word from nowhere
		"Meet the the Zorbix rope, made for every dog. It is eco-friendly.":      false, // twice
		"Meet the Zorbix rope, made for every dog. It is eco-friendly \xc3.":     false,
		"Meet the Zorbix rope, made for every dog. It is as eco-friendly as can": true,
	} {
		if got := w.good(text, true, p); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if w.good("Meet the Zorbix rope, made for every dog. It is eco-friendly.", false, p) {
		t.Error("a text without an end is good")
	}
}

func TestWrite_StopsWithItsCaller(t *testing.T) {
	w := opened(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Draft(ctx, "x", nil, 1, 1); err == nil {
		t.Error("a draft was written for nobody")
	}
}

func TestDraft_SameSeedSameText(t *testing.T) {
	w := opened(t)
	texts := map[string]bool{}
	for seed := range uint64(6) {
		var last string
		for range 2 {
			d, err := w.Draft(t.Context(), "Salty Sailor rope", []string{"dog", "toy", "rope"}, 1, seed)
			if err != nil {
				t.Fatal(err)
			}
			if last != "" && d.Text != last {
				t.Errorf("seed %d wrote %q and %q", seed, last, d.Text)
			}
			last = d.Text
		}
		texts[last] = true
	}
	if len(texts) < 3 {
		t.Errorf("six seeds wrote %d texts", len(texts))
	}
}

// TestUnaided is a floor under what `make bench` reports in full: unseen names and tags, greedy and unguarded.
func TestUnaided(t *testing.T) {
	w := opened(t)
	b, err := os.ReadFile("testdata/heldout.json")
	if err != nil {
		t.Fatal(err)
	}
	var products []product
	if err := json.Unmarshal(b, &products); err != nil {
		t.Fatal(err)
	}
	good := 0
	products = products[:30]
	for _, p := range products {
		d, err := w.Draft(t.Context(), p.Name, p.Tags, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if d.Uses && d.Whole && utf8.ValidString(d.Text) {
			good++
		}
	}
	if good*100 < len(products)*85 {
		t.Errorf("%d of %d drafts use the name and all tags", good, len(products))
	}
}

func BenchmarkWrite(b *testing.B) {
	w := opened(b)
	tokens := 0
	for b.Loop() {
		d, err := w.Draft(b.Context(), "Salty Sailor rope", []string{"dog", "toy", "rope"}, 0.7, 1)
		if err != nil {
			b.Fatal(err)
		}
		tokens += d.Tokens + d.Prompt
	}
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
}
