// Package lazurite holds no code: its test keeps the house rules.
package lazurite

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const module = "lazurite.dev"

// floors says how high each package stands; imports go strictly down, or
// from a listed sub-package to its parent. A package that is missing here
// fails the test: it needs a floor before it needs code.
var floors = map[string]int{
	"internal/apierr": 0, "internal/rid": 0, "internal/strictjson": 0,

	"internal/store": 1, "internal/rbac": 1, "internal/seal": 1, "internal/web": 1, "internal/arrival": 1,
	"internal/trace": 1, "internal/ca": 1, "internal/proxy": 1, "internal/odata": 1, "internal/kql": 1,
	"internal/image": 1, "internal/template": 1, "internal/durable": 1, "internal/turns": 1,

	"internal/token": 2, "internal/directory": 2, "internal/trace/refusals": 2, "internal/ops": 2, "internal/cluster": 2, "internal/node": 2, "internal/vnet": 2, "internal/inference": 2, "internal/environment": 2,

	"internal/arm": 3, "internal/gate": 3, "internal/compute": 3,

	"internal/providers/resources": 4, "internal/providers/authorization": 4, "internal/providers/managedidentity": 4,
	"internal/providers/keyvault": 4, "internal/providers/cognitiveservices": 4, "internal/providers/containerservice": 4, "internal/providers/containerregistry": 4, "internal/providers/network": 4, "internal/providers/insights": 4, "internal/providers/machinelearningservices": 4, "internal/providers/operationalinsights": 4, "internal/providers/explain": 4, "internal/providers/storage": 4,
	"internal/entra": 4, "internal/graph": 4, "internal/imds": 4,

	"internal/server": 5,
	"internal/cli":    5, // the client tower: see clientTower
	"internal/daemon": 6,
	"laztest":         6, "cmd/laz": 7, "bench": 7,

	"kube/build": 7, "kube/pause": 7, // the rest of kube are modules of their own
}

// under are packages that belong to a parent: they may import it, stand on its
// floor, and nobody else needs to list them.
var under = regexp.MustCompile(`^(internal/store/sqlstore|internal/store/storetest(/.*)?|internal/arm/armtest|internal/arm/named|internal/arm/privatelink|internal/providers/[a-z]+/.+|internal/cli/.+|internal/entra/.+|internal/node/.+|internal/compute/.+|internal/inference/.+)$`)

// sameFloor are the pairs that may see each other although they stand on one floor, and why.
var sameFloor = map[string]string{
	"internal/seal>internal/store":      "data keys are documents",
	"internal/seal>internal/durable":    "the root keys are a file",
	"internal/ca>internal/durable":      "so is the authority's key",
	"internal/proxy>internal/web":       "the proxy hands owned names to the front door",
	"internal/proxy>internal/arrival":   "it marks the client's address",
	"internal/web>internal/arrival":     "the log event names the client",
	"internal/token>internal/directory": "federated credentials belong to directory objects",
}

func TestFloors(t *testing.T) {
	for dir, files := range packages(t) {
		if dir == "." || strings.HasPrefix(dir, "examples/") {
			continue
		}
		from, ok := floor(dir)
		if !ok {
			t.Errorf("%s has no floor: add it to the table", dir)
			continue
		}
		for _, f := range files {
			if strings.HasSuffix(f.name, "_test.go") {
				continue
			}
			for _, imp := range f.ast.Imports {
				path, _ := strconv.Unquote(imp.Path.Value)
				to, ours := strings.CutPrefix(path, module+"/")
				if !ours || to == dir || strings.HasPrefix(dir, to+"/") || sameParent(dir, to) {
					continue
				}
				if dir == "internal/cli" && !slices.Contains([]string{"internal/apierr", "internal/rid"}, to) && !strings.HasPrefix(to, "internal/cli/") {
					t.Errorf("%s imports %s: the client tower knows only words", f.name, to)
				}
				n, ok := floor(to)
				if !ok || n >= from && sameFloor[dir+">"+to] == "" {
					t.Errorf("%s (floor %d) imports %s (floor %d)", f.name, from, to, n)
				}
			}
		}
	}
}

func sameParent(a, b string) bool {
	return under.MatchString(a) && under.MatchString(b) && filepath.Dir(a) == filepath.Dir(b)
}

func floor(dir string) (int, bool) {
	if n, ok := floors[dir]; ok {
		return n, true
	}
	for d := dir; under.MatchString(d); {
		d = filepath.Dir(d)
		if n, ok := floors[d]; ok {
			return n, true
		}
	}
	return 0, false
}

func TestPackageComments(t *testing.T) {
	for dir, files := range packages(t) {
		n := 0
		for _, f := range files {
			if f.ast.Doc != nil && !strings.HasSuffix(f.name, "_test.go") {
				n++
			}
		}
		if dir != "." && n != 1 && !onlyTests(files) {
			t.Errorf("%s has %d package comments, want 1", dir, n)
		}
	}
}

func onlyTests(files []file) bool {
	return !slices.ContainsFunc(files, func(f file) bool { return !strings.HasSuffix(f.name, "_test.go") })
}

func TestNoCatchAllPackages(t *testing.T) {
	banned := []string{"util", "utils", "common", "helpers", "shared", "base", "types", "models", "manager", "misc", "impl", "pkg"}
	for dir := range packages(t) {
		if slices.Contains(banned, filepath.Base(dir)) {
			t.Errorf("%s says nothing of what is in it", dir)
		}
	}
}

// forbidden are things that only some packages may touch, and why.
var forbidden = []struct {
	pattern *regexp.Regexp
	allowed *regexp.Regexp
	why     string
	tests   bool // of test files alone
}{
	{regexp.MustCompile(`"database/sql"`), regexp.MustCompile(`^internal/store/sqlstore/`), "SQL is the store's business alone", false},
	{regexp.MustCompile(`\bos\.(Getenv|LookupEnv|Environ)\(`), regexp.MustCompile(`^(internal/(server|cli|daemon)/|cmd/|.*_test\.go$|internal/store/storetest/|bench/|examples/|laztest/|kube/build/)`), "configuration comes from one place", false},
	{regexp.MustCompile(`(?m)^func init\(\)`), regexp.MustCompile(`^$`), "nothing happens before main", false},
	{regexp.MustCompile(`\btime\.Sleep\(`), regexp.MustCompile(`^$`), "poll with a deadline", true},
	{regexp.MustCompile(`\bcontext\.TODO\(`), regexp.MustCompile(`^$`), "every wait has a caller", false},
	{regexp.MustCompile(`\bInsecureSkipVerify\b`), regexp.MustCompile(`^$`), "certificates are always checked", false},
	{regexp.MustCompile(`\bos\.Exit\(`), regexp.MustCompile(`^(cmd/laz/main\.go|kube/build/main\.go|.*_test\.go|bench/.*|examples/.*)$`), "only main ends the process", false},
}

func TestForbidden(t *testing.T) {
	for _, files := range packages(t) {
		for _, f := range files {
			if f.name == "arch_test.go" {
				continue
			}
			src, err := os.ReadFile(f.name)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range forbidden {
				if loc := r.pattern.FindIndex(src); loc != nil && !r.allowed.MatchString(f.name) && (!r.tests || strings.HasSuffix(f.name, "_test.go")) {
					t.Errorf("%s: %q: %s", f.name, src[loc[0]:loc[1]], r.why)
				}
			}
		}
	}
}

func TestDirectDependencies(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(mod)) {
		if strings.HasPrefix(line, "\t") && !strings.Contains(line, "// indirect") {
			n++
		}
		if strings.HasPrefix(line, "replace") {
			t.Error("go.mod has a replace")
		}
	}
	if n > 18 { // the design's list of libraries
		t.Errorf("go.mod has %d direct dependencies, at most 18 are wanted", n)
	}
}

// TestDocumentedPathsExist keeps the documents honest: what they call a path is one.
func TestDocumentedPathsExist(t *testing.T) {
	path := regexp.MustCompile("`((?:internal|cmd|laztest|examples|bench|e2e|docs|deploy|kube)/[A-Za-z0-9_./-]+)`")
	for _, doc := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"} {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range path.FindAllStringSubmatch(string(b), -1) {
			if _, err := os.Stat(m[1]); err != nil && !strings.ContainsFunc(m[1], unicode.IsUpper) { // upper case stands for a name
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
	}
}

// TestWitnessesExist keeps the table of compatibility honest: each row names
// tests that are there.
func TestWitnessesExist(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	witness := regexp.MustCompile("\\| `(e2e/[a-z-]+)` (Test[A-Za-z0-9_, ]+) \\|")
	rows := witness.FindAllStringSubmatch(string(readme), -1)
	if len(rows) < 10 {
		t.Fatalf("README.md has %d rows with witnesses", len(rows))
	}
	for _, row := range rows {
		var src []byte
		files, err := filepath.Glob(filepath.Join(row[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			src = append(src, b...)
		}
		for name := range strings.SplitSeq(row[2], ",") {
			if name = strings.TrimSpace(name); !strings.Contains(string(src), "func "+name+"(t *testing.T)") {
				t.Errorf("README.md names %s in %s, which is not there", name, row[1])
			}
		}
	}
}

// TestArchitectureNamesEveryRoom: who opens a folder finds it on the map.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	doc, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for dir := range floors {
		if provider, ok := strings.CutPrefix(dir, "internal/providers/"); ok && provider != "" {
			dir = "internal/providers"
		}
		if !strings.Contains(string(doc), "`"+dir+"`") {
			t.Errorf("ARCHITECTURE.md does not name %s", dir)
		}
	}
}

// TestExplainedTextsExist keeps docs/explain.md honest: what it says that an
// explanation says stands in the source, but for what differs each time (…).
func TestExplainedTextsExist(t *testing.T) {
	doc, err := os.ReadFile("docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, files := range packages(t) {
		for _, f := range files {
			if b, err := os.ReadFile(f.name); err != nil {
				t.Fatal(err)
			} else if !strings.HasSuffix(f.name, "_test.go") {
				source.Write(b)
			}
		}
	}
	rows := regexp.MustCompile("(?m)^\\| [a-z, ]+ \\| (`.*`) \\|").FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 20 {
		t.Errorf("docs/explain.md has %d texts", len(rows))
	}
	for _, row := range rows {
		for _, said := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			for part := range strings.SplitSeq(said[1], "…") {
				if part = strings.TrimSpace(part); len(part) > 3 && !strings.Contains(source.String(), part) {
					t.Errorf("docs/explain.md: nothing says %q", part)
				}
			}
		}
	}
}

type file struct {
	name string
	ast  *ast.File
}

// packages parses every Go file of this module, keyed by folder.
func packages(t *testing.T) map[string][]file {
	t.Helper()
	all := map[string][]file{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); path != "." && err == nil {
				return filepath.SkipDir // another module
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		all[filepath.ToSlash(filepath.Dir(path))] = append(all[filepath.ToSlash(filepath.Dir(path))], file{filepath.ToSlash(path), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
