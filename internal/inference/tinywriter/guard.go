package tinywriter

import (
	"hash/fnv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// uses says whether a text holds a term as the caller wrote it, in any case,
// and not as a part of a longer word.
func uses(text, term string) bool {
	text, term = strings.ToLower(text), strings.ToLower(term)
	if term == "" {
		return true
	}
	for at := 0; ; {
		i := strings.Index(text[at:], term)
		if i < 0 {
			return false
		}
		from, to := at+i, at+i+len(term)
		if !joined(text[:from], term) && !joined(term, text[to:]) {
			return true
		}
		at = from + 1
	}
}

// joined says whether a word goes on from the end of a to the start of b.
func joined(a, b string) bool {
	x, _ := utf8.DecodeLastRuneInString(a)
	y, _ := utf8.DecodeRuneInString(b)
	return a != "" && b != "" && wordly(x) && wordly(y)
}

func wordly(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) }

// usesAll is the guard: the text holds the name and every tag.
func usesAll(text string, p product) bool {
	if !uses(text, p.Name) {
		return false
	}
	for _, t := range p.Tags {
		if !uses(text, t) {
			return false
		}
	}
	return true
}

// template says the same as a draft would, for where no draft uses the caller's words.
func template(p product) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.Name)) // it never fails
	if len(p.Tags) == 0 {
		return []string{
			"Meet " + p.Name + ". Take a closer look at " + p.Name + " and see whether it is right for you.",
			"Say hello to " + p.Name + ". It is ready for you to try.",
		}[h.Sum32()%2]
	}
	list := enumerate(p.Tags)
	return []string{
		"Meet " + p.Name + ". If you are looking for " + list + ", this is a good place to start.",
		"Say hello to " + p.Name + ". It was chosen with these words in mind: " + list + ".",
		p.Name + " is here for everyone who searches for " + list + ". Take a closer look and see whether it is right for you.",
	}[h.Sum32()%3]
}

// enumerate writes a list as a sentence does.
func enumerate(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// notice answers whatever is not a product.
const notice = "I am tiny-writer, the small model that is built into Lazurite, and I can only draft product descriptions: " +
	"give me the name of a product and its tags. For anything else, configure a real model under `models:` in Lazurite's configuration " +
	"(see docs/models.md), or start Ollama on this machine and Lazurite finds it by itself."
