package cli

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const vaultID = "/subscriptions/0cec4f33-638f-4f74-b002-295788ca1ecb/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/v"

func refusal() object {
	return object{
		"time": "2026-01-02T03:04:05.6Z", "surface": "keyvault", "correlation": "a48165cb-2fe4-42a9-ab8b-13df951e5efd",
		"who": "ada (ed73753a-4baf-4d2a-a022-8ba41aab9cf3)", "what": "GET /secrets/x on " + vaultID,
		"outcome": "Forbidden: Caller is not authorized.\r\nCaller: \x1b[31mlong\r\n",
		"hops": []any{
			object{"step": "network", "ok": true, "found": "the address is let in", "received": "127.0.0.1"},
			object{"step": "subject", "ok": false, "found": "the subject differs only in letter case", "subject": "fic",
				"expected": "system:a:Sa", "received": "system:a:sa", "fix": "az identity update --subject 'system:a:sa'"},
			object{"step": "subject", "ok": false, "found": "another is near"},
			object{"step": "answer", "ok": false, "found": "Caller is not authorized."},
		},
	}
}

func explained(l look, v any) string {
	e := explanation{look: l, program: "laz"}
	if list, ok := v.([]any); ok {
		e.refusals(list)
	} else {
		e.decision(v)
	}
	return e.b.String()
}

func TestExplain_InAPipeEverythingIsInFull(t *testing.T) {
	want := `refused: ada (ed73753a-4baf-4d2a-a022-8ba41aab9cf3) → GET /secrets/x on ` + vaultID + `
  Forbidden: Caller is not authorized.
  keyvault · 2026-01-02 03:04:05Z · a48165cb-2fe4-42a9-ab8b-13df951e5efd

  ok  network  the address is let in
  no  subject  the subject differs only in letter case  fic
               expected  system:a:Sa
               received  system:a:sa
                                  ^
               another is near

fix:
laz identity update --subject 'system:a:sa'
`
	if got := explained(look{}, refusal()); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

func TestExplain_FitsATerminalButLeavesTheFixWhole(t *testing.T) {
	v := refusal()
	items(v["hops"])[1].(object)["fix"] = "az role assignment create --scope " + vaultID
	got := explained(look{terminal: true, color: true, columns: 75}, v)
	for _, want := range []string{"…/vaults/v", "ed73753a…", "\x1b[31m✗\x1b[0m \x1b[1mrefused", "\nlaz role assignment create --scope " + vaultID + "\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	plain := strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[2m", "", "\x1b[31m", "", "\x1b[32m", "").Replace(got)
	for l := range strings.Lines(plain) {
		if l = strings.TrimRight(l, "\n"); utf8.RuneCountInString(l) > 75 && !strings.HasPrefix(l, "laz ") {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(l), l)
		}
		if strings.Contains(l, "\x1b") {
			t.Errorf("a control character: %q", l)
		}
	}
}

func TestExplain_AnswersBeforeItExplains(t *testing.T) {
	v := object{"allowed": true, "who": "sa", "what": "read", "hops": []any{object{"step": "role", "ok": true, "found": "Reader"}}}
	if got, want := explained(look{terminal: true}, v), "✓ yes: sa → read\n\n  ✓ role  Reader\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	v["allowed"] = false
	if got := explained(look{}, v); !strings.HasPrefix(got, "no: sa → read\n") {
		t.Errorf("got %q", got)
	}
}

func TestExplain_ListsALineEach(t *testing.T) {
	got := explained(look{terminal: true, columns: 80}, []any{refusal(), refusal()})
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "03:04:05Z  a48165cb  Forbidden  ada (ed73753a…) → GET") || lines[3] != "One of them: laz explain a48165cb" {
		t.Errorf("got:\n%s", got)
	}
	if got := explained(look{}, []any{}); got != "Nothing was refused.\n" {
		t.Errorf("got %q", got)
	}
}

func TestExplain_APodShowsWhatWasLatelyRefused(t *testing.T) {
	v := object{"allowed": false, "who": "sa", "what": "a token", "hops": []any{object{"step": "label", "ok": false, "found": "none", "fix": "kubectl patch"}}, "refusals": []any{refusal()}}
	want := "no: sa → a token\n\n  no  label  none\n\nlately refused:\n  2026-01-02 03:04:05Z  Forbidden: Caller is not authorized.\n"
	if got := explained(look{}, v); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\nfix:\nkubectl patch\n") {
		t.Errorf("got:\n%s", got)
	}
}
