package server

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/keyvault/vaultdata"
)

var update = flag.Bool("update", false, "write docs/surface.md")

const surfaceFile = "../../docs/surface.md"

// TestSurface_IsDocumented compares docs/surface.md with what the system serves.
func TestSurface_IsDocumented(t *testing.T) {
	s, err := New(t.Context(), Config{Home: filepath.Join(t.TempDir(), "state"), Listen: "127.0.0.1:0", Names: NamesAzure})
	if err != nil {
		t.Fatal(err)
	}
	got := surfaceText(s.system)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Run(ctx); err != nil { // closes what is open
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(surfaceFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(surfaceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/surface.md is out of date (-documented +served); go test ./internal/server -run Surface -update writes it:\n%s", diff)
	}
}

// notBuilt are the endpoints that say so.
var notBuilt = regexp.MustCompile(`Microsoft.Resources/deployments/|/exportTemplate$|/(validateM|m)oveResources$`)

// versionLists gives each list of api-versions a name.
type versionLists struct{ all []string }

func (v *versionLists) name(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	text := strings.Join(list, ", ")
	i := slices.Index(v.all, text)
	if i < 0 {
		i, v.all = len(v.all), append(v.all, text)
	}
	return fmt.Sprintf("V%d", i+1)
}

// surfaceText is docs/surface.md.
func surfaceText(a *Assembly) string {
	var b strings.Builder
	var versions versionLists
	b.WriteString(`# What is served

Written by ` + "`go test ./internal/server -run Surface -update`" + ` from the tables that serve it; a test fails when it is out of date.
Lists of api-versions (V1, V2, …) are at the end, the newest first. A version newer than the newest of its list is served as that one,
and the answer says so in ` + "`x-laz-served-api-version`" + `.

## Management: resource types
Every type is listed at its scopes, too.

| type | verbs | api-versions |
|---|---|---|
`)
	providers := slices.Clone(a.Providers)
	slices.SortFunc(providers, func(x, y arm.Provider) int { return strings.Compare(x.Namespace, y.Namespace) })
	for _, p := range providers {
		for _, r := range p.Routes {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Type, strings.Join(r.Verbs(), ", "), versions.name(r.APIVersions))
		}
	}
	b.WriteString("\n## Management: what is no resource\nTemplate deployments to management groups and the tenant, exports of groups and moves are known and answer that they are not built.\n\n| method and path | action asked for | api-versions |\n|---|---|---|\n")
	for _, p := range providers {
		for _, e := range p.Endpoints {
			if notBuilt.MatchString(e.Path) {
				continue
			}
			action := e.Action
			switch {
			case action == "":
				action = "its own: shows what the caller may see, or asks by itself"
			case e.Less:
				action += "; without it, the caller's own"
			}
			fmt.Fprintf(&b, "| %s `%s` | %s | %s |\n", e.Method, e.Path, action, versions.name(e.APIVersions))
		}
	}
	vault := versions.name(vaultdata.Versions())
	b.WriteString("\n## Key Vault: data plane\nApi-versions: " + vault + ".\n\n| method and path | data action asked for |\n|---|---|\n")
	for _, op := range a.Surfaces[KeyVault].Handler.(*gate.Handler).Operations() {
		fmt.Fprintf(&b, "| %s `%s` | %s |\n", op.Method, op.Path, op.Action)
	}
	for _, plane := range []struct{ surface, title string }{{OpenAI, "Azure OpenAI"}, {Registry, "Container registry"}, {Blob, "Blob storage"}, {Insights, "Application Insights"}} {
		b.WriteString("\n## " + plane.title + ": data plane\n\n| method and path | data action asked for |\n|---|---|\n")
		for _, op := range a.Surfaces[plane.surface].Handler.(interface{ Operations() []gate.Operation }).Operations() {
			word := ""
			if restype, comp, ok := strings.Cut(op.Word, "/"); ok && op.Word != "/" {
				comp, from, _ := strings.Cut(comp, "/")
				word = fmt.Sprintf(" restype=%s comp=%s %s", restype, comp, from)
				word = strings.TrimRight(strings.NewReplacer(" restype= ", " ", "comp= ", " ", " from", " x-ms-copy-source").Replace(word), " ")
			}
			fmt.Fprintf(&b, "| %s `%s`%s | %s |\n", op.Method, op.Path, word, op.Action)
		}
	}
	b.WriteString("\n## Api-versions\n")
	for i, list := range versions.all {
		fmt.Fprintf(&b, "- **V%d** %s\n", i+1, list)
	}
	return b.String()
}
