package arm

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func object(t *testing.T, s string) map[string]any {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return m
}

func TestWithComputed(t *testing.T) {
	for name, c := range map[string]struct{ shown, stored, next, want string }{
		"shown and not stored stays":     {`{"p":{"a":1,"uri":"u"}}`, `{"p":{"a":1}}`, `{"p":{"a":1}}`, `{"p":{"a":1,"uri":"u"}}`},
		"stored and not said goes":       {`{"tags":{"a":"b"},"p":{"a":1}}`, `{"tags":{"a":"b"},"p":{"a":1}}`, `{"p":{}}`, `{"p":{}}`},
		"what is said counts":            {`{"p":{"a":1}}`, `{}`, `{"p":{"a":2,"b":3}}`, `{"p":{"a":2,"b":3}}`},
		"elements by their names":        {`{"l":[{"name":"a","id":"1"},{"name":"b","id":"2"}]}`, `{"l":[{"name":"a"},{"name":"b"}]}`, `{"l":[{"name":"B"}]}`, `{"l":[{"name":"B","id":"2"}]}`},
		"elements by their places":       {`{"l":[{"x":1,"id":"1"},{"x":2,"id":"2"}]}`, `{"l":[{"x":1},{"x":2}]}`, `{"l":[{"x":1},{"x":3},{"x":4}]}`, `{"l":[{"x":1,"id":"1"},{"x":3,"id":"2"},{"x":4}]}`},
		"a list that nobody stores":      {`{"l":[{"name":"a","id":"1"},{"name":"b","id":"2"}]}`, `{}`, `{"l":[{"name":"c"},{"name":"b"},{"name":"a"}]}`, `{"l":[{"name":"a","id":"1"},{"name":"b","id":"2"},{"name":"c"}]}`},
		"an element that goes, goes":     {`{"l":[{"name":"a","id":"1"},{"name":"b","id":"2"}]}`, `{}`, `{"l":[{"name":"b"}]}`, `{"l":[{"name":"b","id":"2"}]}`},
		"an element's property goes":     {`{"l":[{"name":"a","x":1,"id":"1"}]}`, `{"l":[{"name":"a","x":1}]}`, `{"l":[{"name":"a"}]}`, `{"l":[{"name":"a","id":"1"}]}`},
		"an order that is stored counts": {`{"l":[{"name":"a"},{"name":"b"}]}`, `{"l":[{"name":"a"},{"name":"b"}]}`, `{"l":[{"name":"b"},{"name":"a"}]}`, `{"l":[{"name":"b"},{"name":"a"}]}`},
		"another kind of value":          {`{"p":{"a":1}}`, `{"p":{"a":1}}`, `{"p":[1],"q":"s"}`, `{"p":[1],"q":"s"}`},
	} {
		t.Run(name, func(t *testing.T) {
			next := object(t, c.next)
			withComputed(object(t, c.shown), object(t, c.stored), next)
			if d := cmp.Diff(object(t, c.want), next); d != "" {
				t.Error(d)
			}
		})
	}
}
