package tinywriter

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const witty = "You are a helpful assistant that generates product descriptions in a witty and engaging tone."

func TestUnderstand(t *testing.T) {
	ropes := []string{"dog", "toy", "rope"}
	for _, tt := range []struct {
		what, system, user string
		name               string
		tags               []string
	}{
		{"the store's sentence", witty, "Generate a product description for the product 'Salty Sailor rope' with the following tags: 'dog, toy, rope'.", "Salty Sailor rope", ropes},
		{"an apostrophe in the name", witty, "Generate a product description for the product 'Mermaid's Mice Trio' with the following tags: 'cat, multiple, catnip'.", "Mermaid's Mice Trio", []string{"cat", "multiple", "catnip"}},
		{"no tags in the sentence", witty, "Generate a product description for the product 'Salty Sailor rope' with the following tags: ''.", "Salty Sailor rope", nil},
		{"more after the tags", witty, "Generate a product description for the product 'Salty Sailor rope' with the following tags: 'dog, toy, rope'. Keep it short.", "Salty Sailor rope", ropes},
		{"labels", "Given the name of a product and its tags, write a description.", "Name: Salty Sailor rope\nTags: dog, toy, rope", "Salty Sailor rope", ropes},
		{"our store", "You write product descriptions for an online store.", "Write a product description.\nProduct name: Salty Sailor's rope\nTags: dog, toy, rope", "Salty Sailor's rope", ropes},
		{"our store, no tags", "You write product descriptions for an online store.", "Write a product description.\nProduct name: Salty Sailor's rope", "Salty Sailor's rope", nil},
		{"the last of examples", "", "describe the following product:\nProduct name: Anchors Away\ntags: dog, teeth\n+++++\nKeep it shipshape.\n\ndescribe the following product:\nProduct name: Salty Sailor rope\ntags: dog,toy,rope\n+++++", "Salty Sailor rope", ropes},
		{"labels on a line", "", "Product: Salty Sailor rope, tags: dog, toy, rope", "Salty Sailor rope", ropes},
		{"labels and a list", "", "name: Salty Sailor rope\ntags:\n- dog\n- toy\n- rope\n", "Salty Sailor rope", ropes},
		{"markdown", witty, "**Product name:** Salty Sailor rope\n**Tags:** dog, toy and rope", "Salty Sailor rope", ropes},
		{"JSON", "", `{"name":"Salty Sailor rope","tags":["dog","toy","rope"]}`, "Salty Sailor rope", ropes},
		{"JSON in a sentence", witty, `Describe this: {"product_name": "Salty Sailor rope", "tags": "dog; toy; rope"}`, "Salty Sailor rope", ropes},
		{"JSON without tags", witty, `{"name":"Salty Sailor rope"}`, "Salty Sailor rope", nil},
		{"and", "", `Write a description for "Salty Sailor rope" with the tags dog, toy and rope.`, "Salty Sailor rope", ropes},
		{"issue's words", "", "Write two sentences describing product Salty Sailor rope with tags dog, toy, rope", "Salty Sailor rope", ropes},
		{"brackets", "", "Write a short description of Salty Sailor rope (tags: dog, toy, rope)", "Salty Sailor rope", ropes},
		{"a list", "", "Write a product description for Salty Sailor rope, tags: ['dog', 'toy', 'rope']", "Salty Sailor rope", ropes},
		{"hashes", witty, "Product name: Salty Sailor rope\nTags: #dog, #toy, #rope", "Salty Sailor rope", ropes},
		{"doubled tags", witty, "Product name: Salty Sailor rope\nTags: dog, Dog, toy, , rope", "Salty Sailor rope", ropes},
		{"a name with tags in it", witty, "Generate a product description for the product 'Steel dog tags' with the following tags: 'dog, steel'.", "Steel dog tags", []string{"dog", "steel"}},
		{"other scripts", witty, "Generate a product description for the product 'Šaltý Námořník 縄' with the following tags: '犬, jouet d’été'.", "Šaltý Námořník 縄", []string{"犬", "jouet d’été"}},
		{"no tags at all", witty, "Write a description for the product Salty Sailor rope.", "Salty Sailor rope", nil},
	} {
		t.Run(tt.what, func(t *testing.T) {
			p, ok := understand([]message{{"system", tt.system}, {"user", tt.user}})
			if !ok || p.Name != tt.name || !slices.Equal(p.Tags, tt.tags) {
				t.Errorf("got %q %q %v, want %q %q", p.Name, p.Tags, ok, tt.name, tt.tags)
			}
		})
	}
}

func TestUnderstand_NotAProduct(t *testing.T) {
	for _, messages := range [][]message{
		nil,
		{{"user", ""}},
		{{"user", "Hello, who are you?"}},
		{{"user", "What is the capital of France?"}},
		{{"user", "Write a poem about the sea."}},
		{{"system", "You are a pirate."}, {"user", "name: Jack"}},
		{{"user", `{"name":"Jack"}`}},
		{{"user", "Name: x\ntags: a"}, {"assistant", "A fine x."}},
		{{"user", "Product name: " + strings.Repeat("x", maxName+1) + "\ntags: a"}},
		{{"user", "Translate 'good morning' into French."}},
	} {
		if p, ok := understand(messages); ok {
			t.Errorf("%q: got %q", messages, p)
		}
	}
}

func FuzzUnderstand(f *testing.F) {
	f.Add(witty, "Generate a product description for the product 'a' with the following tags: 'b, c'.")
	f.Add("", "Product name: a\ntags: b, c")
	f.Add("", "name: a tags:\n- b\n- c")
	f.Add("", `{"name":"a","tags":["b"]}`)
	f.Add("product", "describe x (tags: [\"a\", 'b'])")
	f.Fuzz(func(t *testing.T, system, user string) {
		p, ok := understand([]message{{"system", system}, {"user", user}})
		if !ok {
			return
		}
		if p.Name == "" || len(p.Name) > maxName || len(p.Tags) > maxTags || !utf8.ValidString(p.Name) {
			t.Fatalf("name %q of %d tags", p.Name, len(p.Tags))
		}
		for _, tag := range p.Tags {
			if tag == "" || len(tag) > maxTag || strings.ContainsAny(tag, "\n\r\x00") {
				t.Fatalf("tag %q", tag)
			}
		}
		if text := template(p); !usesAll(text, p) {
			t.Fatalf("%q leaves something out: %q", text, p)
		}
	})
}

func TestUses(t *testing.T) {
	for _, tt := range []struct {
		text, term string
		want       bool
	}{
		{"A rope for dogs.", "dog", false}, {"A rope for a Dog.", "dog", true}, {"The doghouse of a dog", "dog", true},
		{"It is 3.5 mm wide", "3.5 mm", true}, {"a C++ book", "C++", true}, {"犬のおもちゃ", "犬", false}, {"for 犬, naturally", "犬", true}, {"", "a", false}, {"a", "", true},
	} {
		if got := uses(tt.text, tt.term); got != tt.want {
			t.Errorf("uses(%q, %q) = %v", tt.text, tt.term, got)
		}
	}
}
