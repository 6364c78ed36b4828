package tinywriter

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Tokens that no text can hold. The prompt is <|name|> NAME<|tag|> TAG…<|text|>,
// each with a space before it as words have in a text: so a word has the same
// tokens where it is read and where it is written.
const (
	tokEnd = iota
	tokName
	tokTag
	tokText
	tokCopy // exercises in training alone
	specials
)

// maxWord is where longer words are cut before they are encoded, in bytes.
const maxWord = 64

// tokenizer is GPT-2's: words with the space before them, their bytes joined by rank.
type tokenizer struct {
	tokens []string // the bytes of each
	bytes  [256]int32
	merges map[[2]int32]int32 // pair → what it becomes; a lower token was learnt earlier
}

func newTokenizer(tokens, merges []string) (*tokenizer, error) {
	if len(tokens) != specials+256+len(merges) {
		return nil, fmt.Errorf("%d tokens and %d merges", len(tokens), len(merges))
	}
	spelt := byteNames()
	t := &tokenizer{tokens: make([]string, len(tokens)), merges: make(map[[2]int32]int32, len(merges))}
	ids := make(map[string]int32, len(tokens))
	for i, name := range tokens[specials:] {
		var b []byte
		for _, r := range name {
			c, ok := spelt[r]
			if !ok {
				return nil, fmt.Errorf("token %d has the rune %q", i+specials, r)
			}
			b = append(b, c)
		}
		id := int32(i + specials)
		t.tokens[id], ids[name] = string(b), id
		if i < 256 {
			t.bytes[b[0]] = id
		}
	}
	for i, m := range merges {
		a, b, _ := strings.Cut(m, " ")
		x, okA := ids[a]
		y, okB := ids[b]
		to, ok := ids[a+b]
		if !okA || !okB || !ok || int(to) != specials+256+i {
			return nil, errors.New("a merge joins what is no token")
		}
		t.merges[[2]int32{x, y}] = to
	}
	return t, nil
}

// byteNames is how GPT-2 writes bytes in its list of tokens.
func byteNames() map[rune]byte {
	names := make(map[rune]byte, 256)
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xA1 && r <= 0xAC || r >= 0xAE) {
			r = next
			next++
		}
		names[r] = byte(b)
	}
	return names
}

// encode makes tokens of a text; decode of them is the text again, byte by byte.
func (t *tokenizer) encode(text string) []int32 {
	var ids []int32
	for text != "" {
		n := wordLen(text)
		for at := 0; at < n; at += maxWord {
			ids = t.word(ids, text[at:min(n, at+maxWord)])
		}
		text = text[n:]
	}
	return ids
}

// word appends the tokens of one word: the pair that was learnt first is joined until none is left.
func (t *tokenizer) word(ids []int32, w string) []int32 {
	from := len(ids)
	for i := range len(w) {
		ids = append(ids, t.bytes[w[i]])
	}
	for {
		best, at := int32(1<<30), -1
		for i := from; i+1 < len(ids); i++ {
			if to, ok := t.merges[[2]int32{ids[i], ids[i+1]}]; ok && to < best {
				best, at = to, i
			}
		}
		if at < 0 {
			return ids
		}
		ids[at] = best
		ids = append(ids[:at+1], ids[at+2:]...)
	}
}

func (t *tokenizer) decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(t.tokens[id])
	}
	return b.String()
}

// prompt is what the model reads.
func (t *tokenizer) prompt(p product) []int32 {
	ids := append([]int32{tokName}, t.encode(" "+p.Name)...)
	for _, tag := range p.Tags {
		ids = append(append(ids, tokTag), t.encode(" "+tag)...)
	}
	return append(ids, tokText)
}

// wordLen is the length of the first word of a text as GPT-2 splits it:
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func wordLen(text string) int {
	for _, s := range []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(text, s) {
			return len(s)
		}
	}
	from := 0
	if text[0] == ' ' && len(text) > 1 {
		from = 1
	}
	r, _ := utf8.DecodeRuneInString(text[from:])
	if !unicode.IsSpace(r) {
		return from + span(text[from:], class(r))
	}
	n := span(text, 's')
	if n == len(text) {
		return n
	}
	_, last := utf8.DecodeLastRuneInString(text[:n]) // it belongs to the next word, if it is a space
	if n > last {
		return n - last
	}
	return n
}

func class(r rune) byte {
	switch {
	case unicode.IsLetter(r):
		return 'l'
	case unicode.IsNumber(r):
		return 'n'
	case unicode.IsSpace(r):
		return 's'
	}
	return 'o'
}

func span(text string, c byte) int {
	for i, r := range text {
		if class(r) != c {
			return i
		}
	}
	return len(text)
}
