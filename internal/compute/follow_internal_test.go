package compute

import (
	"encoding/json"
	"testing"
	"time"
)

func TestStamped(t *testing.T) {
	at, text, ok := stamped("2026-01-31T08:00:00.123456789Z hello world\r")
	if want := time.Date(2026, 1, 31, 8, 0, 0, 123456789, time.UTC); !ok || text != "hello world" || !at.Equal(want) {
		t.Errorf("%v %q %v", at, text, ok)
	}
	if _, text, ok = stamped("2026-01-31T08:00:00Z"); !ok || text != "" {
		t.Errorf("an empty line: %q %v", text, ok)
	}
	if _, _, ok = stamped("unable to retrieve container logs"); ok {
		t.Error("what is no line of the container is taken for one")
	}
}

func TestInsights(t *testing.T) {
	for env, want := range map[string]bool{
		`[{"name":"AML_APP_INSIGHTS_ENABLED","value":"true"}]`: true, `[{"name":"AML_APP_INSIGHTS_ENABLED","value":"false"}]`: false, `[]`: false,
	} {
		for name, mine := range map[string]bool{InferenceServer: true, StorageInitializer: false} {
			var p pod
			if err := json.Unmarshal([]byte(`{"spec":{"containers":[{"name":"`+name+`","env":`+env+`}]}}`), &p); err != nil {
				t.Fatal(err)
			}
			if got := p.insights(); got != (want && mine) {
				t.Errorf("%s %s: %v", name, env, got)
			}
		}
	}
}
