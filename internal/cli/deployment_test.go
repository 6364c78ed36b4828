package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestWhatIfText(t *testing.T) {
	v, err := decode([]byte(`{"properties":{"changes":[
		{"resourceId":"/subscriptions/s/resourceGroups/g/providers/A.B/c/new","changeType":"Create","after":{"apiVersion":"1","properties":{"x":[1]}}},
		{"resourceId":"/subscriptions/s/resourceGroups/g/providers/A.B/c/old","changeType":"Modify","delta":[
			{"path":"tags.a","propertyChangeType":"Delete","before":"x"},{"path":"size","propertyChangeType":"Modify","before":1,"after":2},
			{"path":"list","propertyChangeType":"Array","children":[{"path":"0","propertyChangeType":"Create","after":"\u001b[2J"}]}]},
		{"resourceId":"/subscriptions/s/resourceGroups/h","changeType":"Ignore"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	got := whatIfText(look{}, v)
	want := `Resource and property changes are indicated with these symbols:
  + Create
  ~ Modify
  * Ignore

The deployment will update the following scopes:

Scope: /subscriptions/s

  * resourceGroups/h

Scope: /subscriptions/s/resourceGroups/g

  + A.B/c/new [1]

      apiVersion:   "1"
      properties.x: [
        1
      ]

  ~ A.B/c/old
    - tags.a: "x"
    ~ size: 1 => 2
    ~ list: [
      + 0: "\u001b[2J"
      ]

Resource changes: 1 to create, 1 to modify, 1 to ignore.
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	if c := whatIfText(look{terminal: true, color: true}, v); !strings.Contains(c, "\x1b[32m+ A.B/c/new [1]\x1b[0m") || !strings.Contains(c, "\x1b[38;5;208m1\x1b[0m => \x1b[32m2\x1b[0m") {
		t.Errorf("with colour: %q", c)
	}
}

// FuzzUncommented: what is JSON stays as it is, and nothing panics.
func FuzzUncommented(f *testing.F) {
	f.Add([]byte("{\"a\": \"//\" /* x */ // y\n}"))
	f.Add([]byte(`{"a":"\"/*"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out := uncommented(in)
		if json.Valid(in) && string(out) != string(in) {
			t.Errorf("%q became %q", in, out)
		}
		if len(out) != len(in) {
			t.Errorf("%q became longer or shorter: %q", in, out)
		}
	})
}
