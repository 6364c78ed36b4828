package odata_test

import (
	"errors"
	"testing"

	"lazurite.dev/internal/odata"
)

func get(name string) []string {
	return map[string][]string{
		"resourceType": {"Microsoft.KeyVault/vaults"}, "name": {"it's"}, "n": {"5"},
		"servicePrincipalNames": {"a", "b"}, "eventTimestamp": {"2026-01-02T03:04:05Z"},
	}[name]
}

func TestEval(t *testing.T) {
	for filter, want := range map[string]bool{
		"resourceType eq 'microsoft.keyvault/VAULTS'":                 true,
		"resourceType eq 'x'":                                         false,
		"resourceType ne 'x' and name eq 'it''s'":                     true,
		"resourceType eq 'x' or (name eq 'it''s' and not (n eq '6'))": true,
		"substringof('t''', name)":                                    true,
		"startswith(name,'IT')":                                       true,
		"startswith(name,'x')":                                        false,
		"servicePrincipalNames/any(c:c eq 'b')":                       true,
		"servicePrincipalNames/any(c:c eq 'z')":                       false,
		"servicePrincipalNames/any(c: startswith(c,'b'))":             true,
		"n in ('4','5')":                                              true,
		"atScope()":                                                   true,
		"eventTimestamp ge 2026-01-01T00:00:00Z and eventTimestamp le '2027-01-01'": true,
		"missing eq null": true,
		"missing eq 'x'":  false,
	} {
		e, err := odata.Parse(filter)
		if err != nil {
			t.Errorf("Parse(%q): %v", filter, err)
			continue
		}
		got, err := e.Eval(get)
		if err != nil || got != want {
			t.Errorf("%q = %v, %v; want %v", filter, got, err, want)
		}
	}
}

func TestParse_Refuses(t *testing.T) {
	for _, s := range []string{"", "a", "a eq", "a eq 'x", "a like 'x'", "(a eq 'x'", "a eq 'x' b", "and", "f(", "f(,)", "a eq )", "not"} {
		if _, err := odata.Parse(s); !errors.Is(err, odata.ErrSyntax) {
			t.Errorf("Parse(%q): %v, want ErrSyntax", s, err)
		}
	}
}

func TestRequired_OnlyUnderAnd(t *testing.T) {
	e, err := odata.Parse("resourceGroup eq 'g' and (a eq '1' or b eq '2')")
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := e.Required("RESOURCEGROUP"); !ok || v != "g" {
		t.Errorf("resourceGroup: %q %v", v, ok)
	}
	if _, ok := e.Required("a"); ok {
		t.Error("a is not required")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("resourceType eq 'x' and not (a in ('b','c') or startswith(a,'b'))")
	f.Add("l/any(c:c eq 'x')")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := odata.Parse(s)
		if err != nil {
			return
		}
		e.Names()
		e.Required("a")
		e.Call("a")
		if _, err := e.Eval(get); err != nil {
			t.Fatal(err)
		}
	})
}
