package tinywriter

import (
	"context"
	_ "embed" // the weights
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"
)

// WeightsSHA256 is the SHA-256 of the weights in hexadecimal.
const WeightsSHA256 = "3f9250748ec07abbfe58ffc158c64ca88c311568f34a38e7ca6b478c91a8e8d9"

//go:embed tiny-writer.gguf
var weights string

//go:embed words.txt
var vocabulary string

//go:embed nouns.txt
var nouns string

// Writer is the model, read and ready. It is safe for concurrent use.
type Writer struct {
	model      *model
	tokens     *tokenizer
	vocabulary map[string]bool // the words that it was taught, but for names and tags
	nouns      map[string]bool // tags that are no qualities
}

// Open reads the weights, about 6 MB of memory. An error means that the binary is broken.
func Open() (*Writer, error) { return open(weights) }

func open(gguf string) (*Writer, error) {
	f, err := readGGUF(gguf)
	if err != nil {
		return nil, fmt.Errorf("reading the built-in model: %w", err)
	}
	w := &Writer{vocabulary: map[string]bool{}, nouns: map[string]bool{}}
	if w.tokens, err = newTokenizer(f.strings("tokenizer.ggml.tokens"), f.strings("tokenizer.ggml.merges")); err != nil {
		return nil, fmt.Errorf("reading the built-in model's tokenizer: %w", err)
	}
	if w.model, err = newModel(f); err != nil {
		return nil, fmt.Errorf("reading the built-in model: %w", err)
	}
	for word := range strings.FieldsSeq(vocabulary) {
		w.vocabulary[word] = true
	}
	for noun := range strings.Lines(nouns) {
		w.nouns[strings.TrimSpace(noun)] = true
	}
	return w, nil
}

// Draft is one text as the model wrote it, with nothing done to it.
type Draft struct {
	Text   string
	Tokens int  // that were written
	Prompt int  // tokens that were read
	Whole  bool // the model came to an end by itself
	Uses   bool // the name and every tag are in it
	Plain  bool // every other word is one that the model was taught: none is misspelt or made up
}

// Draft writes once, unguarded: for measuring. A temperature of 0 takes the
// likeliest token each time. The error is the context's.
func (w *Writer) Draft(ctx context.Context, name string, tags []string, temperature float64, seed uint64) (Draft, error) {
	p := product{name, tags}
	r, err := w.prefill(ctx, p)
	if err != nil || r == nil {
		return Draft{}, err
	}
	ids, whole, err := w.write(ctx, r, temperature, 1, rand.New(rand.NewPCG(seed, 0)))
	text := w.text(ids)
	return Draft{Text: text, Tokens: len(ids), Prompt: r.pos - len(ids), Whole: whole, Uses: usesAll(text, p), Plain: w.plain(text, p)}, err
}

// text is what tokens say: every text begins with a space, which is the tokenizer's affair.
func (w *Writer) text(ids []int32) string { return strings.TrimPrefix(w.tokens.decode(ids), " ") }

// prefill reads the prompt, or gives nil where it leaves no room to write.
func (w *Writer) prefill(ctx context.Context, p product) (*run, error) {
	ids := w.tokens.prompt(p)
	if len(ids)+maxDraft > w.model.context {
		return nil, nil
	}
	r := w.model.newRun(len(ids) + maxDraft)
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.read(id)
	}
	return r, nil
}

// write draws tokens until the model ends its text, which whole tells, or there is no room.
func (w *Writer) write(ctx context.Context, r *run, temperature, topP float64, rng *rand.Rand) (ids []int32, whole bool, err error) {
	s := sampler{temperature: temperature, topP: topP, rng: rng}
	for r.room() > 0 {
		if err := ctx.Err(); err != nil {
			return ids, false, err
		}
		id := s.pick(r.next())
		if id == tokEnd {
			return ids, true, nil
		}
		ids = append(ids, id)
		r.read(id)
	}
	return ids, false, nil
}

// good is the guard: a whole text of valid UTF-8 that uses the name and all tags, no word that nobody taught or asked for, and no noun as a quality.
func (w *Writer) good(text string, whole bool, p product) bool {
	return whole && utf8.ValidString(text) && usesAll(text, p) && w.plain(text, p) && w.sensible(text, p)
}

// plain says whether all words that are not the caller's are words of the corpus.
func (w *Writer) plain(text string, p product) bool {
	text = strings.ToLower(text)
	own := append([]string{p.Name}, p.Tags...)
	for i, o := range own {
		own[i] = strings.ToLower(o)
	}
	slices.SortFunc(own, func(a, b string) int { return len(b) - len(a) }) // a tag may be a part of another
	for _, o := range own {
		text = replaceTerm(text, o)
	}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !wordly(r) && r != '\'' && r != '-' }) {
		if !w.vocabulary[word] {
			return false
		}
	}
	return !doubled(text)
}

// sensible says whether no tag that is known as a noun stands where a quality belongs: "it is dog".
func (w *Writer) sensible(text string, p product) bool {
	text = strings.ToLower(text)
	for _, t := range p.Tags {
		if t = strings.ToLower(t); !w.nouns[t] {
			continue
		}
		for _, before := range []string{"is", "are", "as", "always", "being", "something", "stay", "stays", "how", "go", "wonderfully", "surprisingly", "so"} {
			if uses(text, before+" "+t) {
				return false
			}
		}
	}
	return true
}

// replaceTerm puts a stop in a term's place wherever it stands as words of its own.
func replaceTerm(text, term string) string {
	if term == "" {
		return text
	}
	var b strings.Builder
	for {
		i := strings.Index(text, term)
		if i < 0 {
			return b.String() + text
		}
		b.WriteString(text[:i])
		if to := text[i+len(term):]; joined(text[:i], term) || joined(term, to) {
			b.WriteString(term)
		} else {
			b.WriteString(".")
		}
		text = text[i+len(term):]
	}
}

// doubled says whether a word follows itself.
func doubled(text string) bool {
	before := ""
	for word := range strings.FieldsSeq(text) {
		if word == before && word != "." {
			return true
		}
		before = word
	}
	return false
}

// sampler draws the next token.
type sampler struct {
	temperature, topP float64
	rng               *rand.Rand
	order             []int32
}

// pick draws a token: the likeliest at temperature 0, else one of the smallest
// set whose share is topP. Tokens that stand for parts of a prompt are never drawn.
func (s *sampler) pick(logits []float32) int32 {
	best := int32(tokEnd)
	for i := specials; i < len(logits); i++ {
		if logits[i] > logits[best] {
			best = int32(i)
		}
	}
	if s.temperature < 1e-4 || s.topP <= 0 {
		return best
	}
	top := logits[best]
	share := func(id int32) float64 { return float64(exp((logits[id] - top) / float32(s.temperature))) }
	s.order = append(s.order[:0], tokEnd)
	total := share(tokEnd)
	for i := int32(specials); int(i) < len(logits); i++ {
		total += share(i)
		s.order = append(s.order, i)
	}
	if s.topP < 1 {
		slices.SortFunc(s.order, func(a, b int32) int {
			if logits[a] != logits[b] {
				if logits[a] > logits[b] {
					return -1
				}
				return 1
			}
			return int(a - b)
		})
		kept, n := 0.0, 0
		for n < len(s.order) && kept < s.topP*total {
			kept += share(s.order[n])
			n++
		}
		s.order, total = s.order[:n], kept
	}
	at := s.rng.Float64() * total
	for _, id := range s.order {
		if at -= share(id); at < 0 {
			return id
		}
	}
	return best
}
