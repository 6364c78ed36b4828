package rbac_test

import (
	"testing"

	"lazurite.dev/internal/rbac"
)

func TestUnder(t *testing.T) {
	const reader = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	e := rbac.New()
	for id, a := range map[string]rbac.Assignment{
		"low":  {Scope: "/subscriptions/S/resourceGroups/g/providers/a/b/c", Principal: "low", Role: reader},
		"high": {Scope: "/", Principal: "high", Role: reader},
	} {
		if err := e.SetAssignment(id, a); err != nil {
			t.Fatal(err)
		}
	}
	rows := []struct {
		who, scope string
		want       bool
	}{
		{"low", "/subscriptions/s", true},
		{"LOW", "/subscriptions/s/resourceGroups/G", true},
		{"low", "/subscriptions/s2", false},
		{"low", "/subscriptions/s/resourceGroups/g2", false},
		{"low", "/subscriptions/s/resourceGroups/g/providers/a/b/c/d/e", true},
		{"high", "/subscriptions/s2", true},
		{"nobody", "/subscriptions/s", false},
		{"nobody", "/", false},
	}
	for _, r := range rows {
		if got := e.Under([]string{r.who}, r.scope); got != r.want {
			t.Errorf("%s at %s: got %v, want %v", r.who, r.scope, got, r.want)
		}
	}
}
