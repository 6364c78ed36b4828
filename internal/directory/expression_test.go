package directory_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"lazurite.dev/internal/directory"
)

func TestExpression_Match(t *testing.T) {
	claims := map[string]any{"sub": "repo:org/app:ref:refs/heads/main", "job_workflow_ref": "org/it's", "n": 1}
	for expr, want := range map[string]bool{
		"claims['sub'] eq 'repo:org/app:ref:refs/heads/main'":                                           true,
		"claims['sub'] eq 'repo:org/*'":                                                                 false,
		"claims['sub'] matches 'repo:org/*:ref:*'":                                                      true,
		" claims [ 'sub' ]  MATCHES 'repo:org/???:*' ":                                                  true,
		"claims['sub'] matches 'repo:ORG/*'":                                                            false,
		"claims['sub'] matches 'repo:org/*' and claims['job_workflow_ref'] eq 'org/it''s'":              true,
		"claims['sub'] matches 'repo:org/*' and claims['job_workflow_ref'] eq 'x'":                      false,
		"claims['n'] eq '1'":                                                                            false,
		"claims['none'] matches 'a*'":                                                                   false,
		"claims['sub'] matches '*main' and claims['sub'] matches 'repo*' and claims['sub'] matches '*'": true,
	} {
		x, err := directory.ParseExpression(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := x.Match(claims) == nil; got != want {
			t.Errorf("%s: match = %t, want %t", expr, got, want)
		}
	}
	x, err := directory.ParseExpression("claims['sub'] matches 'REPO:org/*'")
	if m := x.Match(claims); err != nil || m == nil || !m.CaseOnly {
		t.Errorf("a difference of case is not named: %+v, %v", m, err)
	}
}

func TestParseExpression_Refuses(t *testing.T) {
	for _, expr := range []string{
		"", "claims", "claims[sub] eq 'x'", "claims['sub'] eq x", "claims['sub'] eq 'x", "claims['sub'] like 'x'", "claims[''] eq 'x'",
		"claims['sub'] eq ''", "claims['sub'] eq 'x' or claims['a'] eq 'b'", "claims['sub'] eq 'x' and", "claims['sub'] matches '*'",
		"claims['sub'] eq 'x' claims['a'] eq 'b'", "claims['sub'] eq '" + strings.Repeat("x", 3000) + "'",
		strings.Repeat("claims['a'] eq 'b' and ", 20) + "claims['a'] eq 'b'",
	} {
		if _, err := directory.ParseExpression(expr); !errors.Is(err, directory.ErrExpression) {
			t.Errorf("%q: %v", expr, err)
		}
	}
}

func FuzzParseExpression(f *testing.F) {
	f.Add("claims['sub'] matches 'repo:org/*:ref:*' and claims['job_workflow_ref'] eq 'x'", "repo:org/a:ref:b")
	f.Add("claims['sub'] matches '?*a'", "ba")
	f.Fuzz(func(t *testing.T, expr, value string) {
		x, err := directory.ParseExpression(expr)
		if err != nil {
			if !errors.Is(err, directory.ErrExpression) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		x.Match(map[string]any{"sub": value})
	})
}

// FuzzWildcard compares with path.Match, which treats * and ? alike when
// nothing else is special.
func FuzzWildcard(f *testing.F) {
	f.Add("a*b?c", "aXXbYc")
	f.Fuzz(func(t *testing.T, pattern, value string) {
		for _, s := range []string{pattern, value} {
			for _, c := range []byte(s) {
				if c >= 0x80 || strings.IndexByte(`/[]\'^-`, c) >= 0 {
					return
				}
			}
		}
		x, err := directory.ParseExpression("claims['c'] matches '" + pattern + "'")
		if err != nil {
			return
		}
		want, err := path.Match(pattern, value)
		if err != nil {
			return
		}
		if got := x.Match(map[string]any{"c": value}) == nil; got != want {
			t.Errorf("%q against %q: %t, want %t", value, pattern, got, want)
		}
	})
}
