package rid_test

import (
	"errors"
	"strings"
	"testing"

	"lazurite.dev/internal/rid"
)

const sub = "/subscriptions/11111111-1111-1111-1111-111111111111"

func TestParse_ReadsParts(t *testing.T) {
	tests := []struct {
		in, typ, name, parent, scope string
		collection                   bool
	}{
		{"/", rid.TypeTenant, "", "/", "/", false},
		{"/subscriptions", rid.TypeSubscription, "", "/", "/", true},
		{sub, rid.TypeSubscription, sub[15:], "/", "/", false},
		{sub + "/resourcegroups/G", rid.TypeResourceGroup, "G", sub, sub, false},
		{sub + "/resourceGroups", rid.TypeResourceGroup, sub[15:], sub, sub, true},
		{sub + "/resourceGroups/G/providers/Microsoft.KeyVault/vaults/V", "Microsoft.KeyVault/vaults", "V", sub + "/resourceGroups/G", sub + "/resourceGroups/G", false},
		{sub + "/resourceGroups/G/providers/Microsoft.KeyVault/vaults", "Microsoft.KeyVault/vaults", "", sub + "/resourceGroups/G", sub + "/resourceGroups/G", true},
		{sub + "/resourceGroups/G/providers/M.I/u/a/f/b", "M.I/u/f", "b", sub + "/resourceGroups/G/providers/M.I/u/a", sub + "/resourceGroups/G", false},
		{sub + "/resourceGroups/G/providers/M.I/u/a/f", "M.I/u/f", "a", sub + "/resourceGroups/G/providers/M.I/u/a", sub + "/resourceGroups/G", true},
		{sub + "/resourceGroups/G/providers/M.I/u/a/providers/M.A/r/x", "M.A/r", "x", sub + "/resourceGroups/G/providers/M.I/u/a", sub + "/resourceGroups/G/providers/M.I/u/a", false},
		{"/providers/M.A/r/x", "M.A/r", "x", "/", "/", false},
	}
	for _, tt := range tests {
		id, err := rid.Parse(tt.in)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.in, err)
			continue
		}
		if id.Type() != tt.typ || id.Name() != tt.name || id.Collection != tt.collection {
			t.Errorf("Parse(%q) = type %q name %q collection %v", tt.in, id.Type(), id.Name(), id.Collection)
		}
		if id.Parent().String() != tt.parent {
			t.Errorf("Parse(%q).Parent() = %q, want %q", tt.in, id.Parent(), tt.parent)
		}
		if id.Namespace() != "" && id.Scope().String() != tt.scope {
			t.Errorf("Parse(%q).Scope() = %q, want %q", tt.in, id.Scope(), tt.scope)
		}
	}
}

func TestParse_Refuses(t *testing.T) {
	for _, in := range []string{
		"subscriptions/x", "//", "/subscriptions//resourceGroups/g", sub + "/foo", sub + "/providers",
		sub + "/resourceGroups/providers/M/t/n", "/providers/M/t/providers/M/t/n", sub + "/resourceGroups/..",
		sub + "/resourceGroups/a%2f", "/" + strings.Repeat("a", 3000),
	} {
		if id, err := rid.Parse(in); !errors.Is(err, rid.ErrInvalid) {
			t.Errorf("Parse(%q) = %q, %v; want ErrInvalid", in, id, err)
		}
	}
}

func TestContains_StopsAtSegments(t *testing.T) {
	a := rid.MustParse(sub + "/resourceGroups/g")
	for in, want := range map[string]bool{
		sub + "/resourcegroups/G":                   true,
		sub + "/resourcegroups/G/providers/M/t/n":   true,
		sub + "/resourcegroups/g2":                  false,
		sub:                                         false,
		"/subscriptions/2/resourceGroups/g":         false,
		sub + "/resourceGroups/g2/providers/M/t/n2": false,
	} {
		if got := a.Contains(rid.MustParse(in)); got != want {
			t.Errorf("Contains(%q) = %v", in, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sub + "/resourceGroups/G/providers/M.I/u/a/providers/M.A/r/x")
	f.Add("/subscriptions/")
	f.Add("/providers/M/t")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := rid.Parse(s)
		if err != nil {
			return
		}
		again, err := rid.Parse(id.String())
		if err != nil || !again.Equal(id) || again.Type() != id.Type() {
			t.Fatalf("Parse(%q) does not read itself back: %v", s, err)
		}
		for i := 0; !id.IsRoot(); i++ { // climbing ends and never panics
			if p := id.Parent(); !p.Contains(id) || i > 2*len(s) {
				t.Fatalf("parent %q of %q", p, id)
			}
			_, _ = id.Group()
			_, _ = id.SubscriptionID()
			_ = id.Scope()
			id = id.Parent()
		}
	})
}

func TestParse_FixedWordsAreASCII(t *testing.T) {
	for _, s := range []string{
		"/ſubscriptions/S/resourceGroups/G", "/subscriptions/S/resourceGroupſ/G",
		"/subscriptions/S/resourceGroups/G/providerſ/Microsoft.KeyVault/vaults/v",
	} {
		if id, err := rid.Parse(s); err == nil {
			t.Errorf("%s: got %q of type %s, want a refusal", s, id, id.Type())
		}
	}
	if a, b := rid.MustParse("/subscriptions/s"), rid.MustParse("/subscriptions/ſ"); a.Equal(b) || a.Key() == b.Key() {
		t.Error("two names are one")
	}
}
