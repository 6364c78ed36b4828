package cli

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
)

// TestAzVerbs: what is said to exist in az alone does not exist here.
func TestAzVerbs(t *testing.T) {
	ours := map[string]bool{}
	for _, n := range nouns() {
		for _, c := range n.commands() {
			words := strings.Fields(c.path)
			for i := range words {
				ours[strings.Join(words[:i+1], " ")] = true
			}
		}
	}
	for _, v := range strings.Split(strings.ReplaceAll(azVerbs, "\n", " "), ", ") {
		if ours[v] {
			t.Errorf("%q exists here", v)
		}
	}
}

// TestGroupHelp_SaysTheProductsOwn: where a word is az's and ours, help shows both.
func TestGroupHelp_SaysTheProductsOwn(t *testing.T) {
	var out bytes.Buffer
	own := Product{Short: "Show the virtual networks of this machine.", Verbs: []string{"list", "show"}}
	status := Main(context.Background(), []string{"network", "--help"}, Env{Program: "laz", Stdout: &out, Stderr: &out, Getenv: os.Getenv, Product: map[string]Product{"network": own}})
	for _, want := range []string{"laz network list|show : Show the virtual networks of this machine.", "vnet "} {
		if status != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("status %d, no %q in\n%s", status, want, &out)
		}
	}
}

// TestConfirm_WithNobodyToAsk: /dev/null looks like a terminal, and nobody is there.
func TestConfirm_WithNobodyToAsk(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	var errs bytes.Buffer
	c := &call{session: &session{env: Env{Stdin: null, Stderr: &errs}}, args: &parsed{}}
	if err := c.confirm("Sure?"); err == nil || !strings.Contains(errs.String(), "Use --yes") {
		t.Errorf("%v, %q", err, errs.String())
	}
}
