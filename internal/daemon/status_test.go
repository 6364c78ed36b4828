package daemon

import "testing"

func TestCountsText(t *testing.T) {
	for _, tc := range []struct {
		counts map[string]int
		want   string
	}{
		{nil, ""},
		{map[string]int{"clusters": 0}, ""},
		{map[string]int{"clusters": 1, "identities": 1, "resource groups": 2, "role assignments": 1}, "2 resource groups · 1 cluster · 1 identity · 1 role assignment"},
		{map[string]int{"role assignments": 1000, "zebras": 3}, "1000 role assignments or more · 3 zebras"},
	} {
		if got := countsText(tc.counts); got != tc.want {
			t.Errorf("%v: got %q, want %q", tc.counts, got, tc.want)
		}
	}
}
