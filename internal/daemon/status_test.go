package daemon

import (
	"strings"
	"testing"

	"lazurite.dev/internal/server"
)

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

func TestSurfaces_NamesStandBelowEachOther(t *testing.T) {
	var b strings.Builder
	surfaces(&b, style{}, &server.Status{Surfaces: []server.SurfaceStatus{
		{Title: "Key Vault", Own: "*.vault.x", Serving: true}, {Title: "Machine Learning workspaces", Own: "*.api.x", Serving: true}, {Title: "Portal", Own: "portal.x"},
	}})
	const want = `  ● Key Vault                    *.vault.x
  ● Machine Learning workspaces  *.api.x
  ○ Portal                       portal.x                           not served

`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
