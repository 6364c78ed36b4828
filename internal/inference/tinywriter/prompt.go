package tinywriter

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// product is what a description is written for.
type product struct {
	Name string
	Tags []string
}

const (
	maxPrompt = 16 << 10 // bytes of the message that are looked at: its end
	maxName   = 120      // bytes
	maxTag    = 60
	maxTags   = 24
)

// understand finds the product in the last message of the user: labelled lines
// ("Product name: …", "tags: …"; the last of several, for prompts that show
// examples first), JSON with name and tags, or a sentence that asks for a
// description ("a product description for 'X' with the tags 'a, b'").
func understand(messages []message) (product, bool) {
	text, about := "", false
	for _, m := range messages {
		switch m.role {
		case "user":
			text = m.text
			about = about || asks(text)
		case "system", "developer":
			about = about || asks(m.text)
		}
	}
	if len(messages) == 0 || messages[len(messages)-1].role != "user" {
		return product{}, false
	}
	text = tail(strings.ToValidUTF8(text, " "), maxPrompt)
	for _, read := range []func(string, bool) (product, bool){fromJSON, fromLabels, fromSentence} {
		if p, ok := read(text, about); ok {
			return p.clean()
		}
	}
	return product{}, false
}

var wanted = regexp.MustCompile(`(?i)\b(descri\w*|product\w*|blurb|copy ?writ\w*|tagline|advert\w*)\b`)

// asks says whether a text is about describing products.
func asks(text string) bool { return wanted.MatchString(tail(text, maxPrompt)) }

func tail(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
		for len(s) > 0 && !utf8.RuneStart(s[0]) {
			s = s[1:]
		}
	}
	return s
}

// clean trims what was found and says whether it is a product.
func (p product) clean() (product, bool) {
	name := trim(p.Name)
	var tags []string
	for _, t := range p.Tags {
		t = trim(strings.TrimLeft(strings.TrimSpace(t), "#-*• "))
		if t != "" && !slices.ContainsFunc(tags, func(o string) bool { return strings.EqualFold(o, t) }) {
			tags = append(tags, t)
		}
	}
	if name == "" || len(name) > maxName || len(tags) > maxTags || slices.ContainsFunc(tags, func(t string) bool { return len(t) > maxTag }) {
		return product{}, false
	}
	return product{name, tags}, true
}

// trim takes away quotes, brackets and stops around a term, and white space and control characters in it.
func trim(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError }), " ")
	for {
		was := s
		s = strings.TrimSpace(strings.TrimRight(strings.TrimSpace(s), ".,;:"))
		for _, q := range []string{`""`, "''", "``", "“”", "‘’", "«»", "[]", "{}", "<>", "**", "__"} {
			r := []rune(q)
			open, shut := string(r[0]), string(r[1])
			if rest, ok := strings.CutPrefix(s, open); ok && strings.HasSuffix(rest, shut) {
				s = strings.TrimSuffix(rest, shut)
			}
		}
		if s == was {
			return s
		}
	}
}

// split makes tags of a list as people write it.
func split(list string) []string {
	list = strings.TrimSpace(list)
	var tags []string
	if json.Unmarshal([]byte(list), &tags) == nil {
		return tags
	}
	list = trim(unquote(list))
	for _, none := range []string{"none", "n/a", "-", "null"} {
		if strings.EqualFold(list, none) {
			return nil
		}
	}
	seps := func(r rune) bool { return r == ',' || r == ';' || r == '|' || r == '\n' || r == '、' || r == '，' }
	tags = strings.FieldsFunc(list, seps)
	if len(tags) == 0 {
		return nil
	}
	last := tags[len(tags)-1]
	for _, and := range []string{" and ", " & "} {
		if before, after, ok := strings.Cut(" "+last, and); ok && (len(tags) > 1 || !strings.Contains(after, and)) {
			tags = append(tags[:len(tags)-1], before, after)
			break
		}
	}
	for i, t := range tags {
		tags[i] = trim(t)
	}
	return tags
}

var between = regexp.MustCompile(`['"“”‘’` + "`" + `]\s*[,;|]\s*['"“”‘’` + "`" + `]`)

// unquote takes quotes away from around each of the tags, so that those around the whole list can be told from them.
func unquote(list string) string {
	list = strings.TrimSpace(strings.Trim(strings.TrimSpace(list), "[]"))
	if !between.MatchString(list) {
		return list
	}
	return trim(between.ReplaceAllString(list, ","))
}

// fromJSON reads an object with name (or product, productName, title) and tags (or keywords), anywhere in the text.
func fromJSON(text string, about bool) (product, bool) {
	from, to := strings.IndexByte(text, '{'), strings.LastIndexByte(text, '}')
	if from < 0 || to < from {
		return product{}, false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text[from:to+1]), &fields) != nil {
		return product{}, false
	}
	var p product
	tagged := false
	for key, raw := range fields {
		var s string
		plain := json.Unmarshal(raw, &s) == nil
		switch strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(key)) {
		case "name", "product", "productname", "title":
			if plain {
				p.Name = s
			}
		case "tags", "keywords", "labels":
			var list []string
			if json.Unmarshal(raw, &list) == nil {
				p.Tags, tagged = list, true
			} else if plain {
				p.Tags, tagged = split(s), true
			}
		}
	}
	return p, p.Name != "" && (tagged || about)
}

var (
	nameLabel = regexp.MustCompile(`(?im)^[ \t>*#-]*(?:the )?(?:product(?:'s)? ?name|name of (?:the )?product|product|name|title|item)\**[ \t]*(?:[:=：]|\bis\b)\**[ \t]*(.+)$`)
	tagsLabel = regexp.MustCompile(`(?im)(?:^|[.;|\n][ \t]*|[ \t])[>*#-]*(?:its |the |product )?(?:tags?|keywords?|labels?)\**[ \t]*(?:\([^)\n]*\))?[ \t]*(?:[:=：]|\bare\b)\**[ \t]*(.*)$`)
)

// fromLabels reads "name: X" and "tags: a, b", on lines of their own or one behind the other.
func fromLabels(text string, about bool) (product, bool) {
	names := nameLabel.FindAllStringSubmatchIndex(text, -1)
	if len(names) == 0 {
		return product{}, false
	}
	last := names[len(names)-1]
	rest := text[last[2]:]
	line, _, _ := strings.Cut(rest, "\n")
	p := product{Name: line}
	if m := tagsLabel.FindStringSubmatchIndex(rest); m != nil {
		if m[0] < len(line) { // both on one line
			p.Name = strings.TrimRight(rest[:m[0]], " \t,;|-")
		}
		list := rest[m[2]:m[3]]
		if strings.TrimSpace(list) == "" { // a list with one tag a line
			list = bullets(rest[m[1]:])
		}
		p.Tags = split(list)
		return p, true
	}
	return p, about
}

// bullets joins the lines of a list that starts here.
func bullets(text string) string {
	var tags []string
	for line := range strings.Lines(strings.TrimLeft(text, "\n")) {
		item := strings.TrimSpace(line)
		bare := strings.TrimLeft(item, "-*•#0123456789.) ")
		if item == "" || bare == item {
			break
		}
		tags = append(tags, bare)
	}
	return strings.Join(tags, ",")
}

var (
	// The greedy first part finds the last product of a message that shows examples.
	tagged   = regexp.MustCompile(`(?is)^.*\b(?:descri(?:ption|be)|blurb|advert(?:isement)?|tagline|copy|text|sentences)\b(?:[^\n]*?\b(?:for|of|about|describing)|\b)[ \t]+(?:the |a |an |our |this |my )?(?:following )?(?:new )?(?:(?:product|item)\b[ \t]*)?(?:named |called |:[ \t]*)?(?:['"“](.+?)['"”]|(.+?))[ \t]*[,;.(]?[ \t\n]*\b(?:with|using|from|and|having|tagged|tags)?[ \t]*(?:the |its |these )?(?:following )?(?:tags?|keywords?|labels?|tagged)\b[ \t]*(?:are|as|is|with)?[ \t]*[:=：]?[ \t\n]*(.+?)[ \t)]*$`)
	untagged = regexp.MustCompile(`(?i)\b(?:descri(?:ption|be)|blurb|advert(?:isement)?|tagline)\b(?:[^\n]*?\b(?:for|of|about)|\b)[ \t]+(?:the |a |an |our |this |my )?(?:following )?(?:new )?(?:(?:product|item)\b[ \t]*)(?:named |called |:[ \t]*)?(.+)$`)
	sentence = regexp.MustCompile(`(?s)[.!?](?:\s+\S.*)?$`)
)

// fromSentence reads a sentence that asks for a description.
func fromSentence(text string, about bool) (product, bool) {
	text = strings.TrimSpace(text)
	if !about {
		return product{}, false
	}
	if m := tagged.FindStringSubmatch(text); m != nil {
		name, list := m[1]+m[2], m[3]
		for _, q := range []string{`'`, `"`} { // 'a, b'. And then more that we are told
			if rest, ok := strings.CutPrefix(list, q); ok {
				if end := strings.LastIndex(rest, q); end >= 0 {
					list = rest[:end]
				}
			}
		}
		if !strings.HasPrefix(strings.TrimSpace(list), "[") {
			list = sentence.ReplaceAllString(list, "")
		}
		return product{name, split(list)}, true
	}
	if m := untagged.FindStringSubmatch(text); m != nil {
		return product{Name: sentence.ReplaceAllString(m[1], "")}, true
	}
	return product{}, false
}
