package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleCommand() *command {
	return &command{path: "x create", generic: true, args: []arg{
		nameOpt("Name."), groupOpt(), tagsOpt(), noWaitOpt(), yesOpt(),
		listOpt("scopes", "Scopes."), boolOpt("enable-thing", "A switch."),
		numberOpt("count", "How many."), opt("sku", "Size.").oneOf("Standard", "Premium"), opt("value", "Text."),
		positional("words", "Rest."),
	}}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		line string
		want map[string][]string
	}{
		{"--name a -g b", map[string][]string{"name": {"a"}, "resource-group": {"b"}}},
		{"--name=a -gb", map[string][]string{"name": {"a"}, "resource-group": {"b"}}},
		{"--na a --resource b", map[string][]string{"name": {"a"}, "resource-group": {"b"}}},
		{"-n a --tags a=1 b=2 --scopes x y", map[string][]string{"name": {"a"}, "tags": {"a=1", "b=2"}, "scopes": {"x", "y"}}},
		{"--tags", map[string][]string{"tags": {}}},
		{"--value=-x --value -1", map[string][]string{"value": {"-1"}}},
		{"--value= -n a", map[string][]string{"value": {""}, "name": {"a"}}},
		{"--enable-thing -n a", map[string][]string{"enable-thing": {"true"}, "name": {"a"}}},
		{"--enable-thing no", map[string][]string{"enable-thing": {"false"}}},
		{"--sku PREMIUM --count 3", map[string][]string{"sku": {"Premium"}, "count": {"3"}}},
		{"one two -- --three", map[string][]string{"words": {"one", "two", "--three"}}},
		{"-o tsv --query [0]", map[string][]string{"output": {"tsv"}, "query": {"[0]"}}},
	} {
		p, err := parseArgs(sampleCommand().options(), strings.Fields(tt.line))
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if d := cmp.Diff(tt.want, p.values); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.line, d)
		}
	}
}

func TestParse_Refusals(t *testing.T) {
	for line, want := range map[string]string{
		"--nope":                 "unrecognized arguments: --nope",
		"--nope value":           "unrecognized arguments: --nope",
		"--name":                 "argument --name/-n: expected one argument",
		"--name -g x":            "argument --name/-n: expected one argument",
		"--scopes -g x":          "argument --scopes: expected at least one argument",
		"--count many":           "argument --count: invalid int value: 'many'",
		"--sku huge":             "'huge' is not a valid value for '--sku'. Allowed values: Standard, Premium.",
		"--enable-thing perhaps": "'perhaps' is not a valid value for '--enable-thing'. Allowed values: false, true.",
		"--n x":                  "ambiguous option: --n could match --name, --no-wait",
		"--yes=1":                "argument --yes/-y: ignored explicit argument '1'",
	} {
		_, err := parseArgs(sampleCommand().options(), strings.Fields(line))
		var f *failure
		if !errors.As(err, &f) || f.status != exitUsage || f.msg != want {
			t.Errorf("%s: got %v, want %q and status 2", line, err, want)
		}
	}
}

func TestParse_MissingAreNamedAsAzDoes(t *testing.T) {
	opts := []arg{nameOpt("Name."), groupOpt()}
	p, err := parseArgs(opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := p.missing(opts)
	if want := "the following arguments are required: --name/-n, --resource-group/-g"; got == nil || got.Error() != want {
		t.Errorf("got %v, want %q", got, want)
	}
}

func TestParse_FilesOfAtArguments(t *testing.T) {
	opts := sampleCommand().options()
	p, err := parseArgs(opts, []string{"--value", "@f", "--tags", "a=@f", "b=x@f", "--name", "@", "--sku", "Standard", "--scopes", "@gone"})
	if err != nil {
		t.Fatal(err)
	}
	p.expandFiles(func(path string) ([]byte, error) {
		if path == "f" {
			return []byte("\ufeffcontent\n\n"), nil
		}
		return nil, errors.New("no such file")
	})
	want := map[string][]string{"value": {"content\n"}, "tags": {"a=content\n", "b=x@f"}, "name": {"@"}, "sku": {"Standard"}, "scopes": {"@gone"}}
	if d := cmp.Diff(want, p.values); d != "" {
		t.Error(d)
	}
}

func TestParse_GenericUpdateKeepsOrder(t *testing.T) {
	p, err := parseArgs(sampleCommand().options(), strings.Fields("--set a=1 b=2 --add l x --set c=3 --remove a"))
	if err != nil {
		t.Fatal(err)
	}
	want := []operation{{"set", []string{"a=1", "b=2"}}, {"add", []string{"l", "x"}}, {"set", []string{"c=3"}}, {"remove", []string{"a"}}}
	if d := cmp.Diff(want, p.ops, cmp.AllowUnexported(operation{})); d != "" {
		t.Error(d)
	}
}

// FuzzParse: no command line makes the parser fall over, and every value that
// it reports was typed.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"--name a -g b", "--tags a=1 b=2 --", "--set a.b=c --add x", "-yg=", "--n", "--enable-thing x y", "--output TSV", "-", "--", "--=x"} {
		f.Add(s)
	}
	opts := sampleCommand().options()
	f.Fuzz(func(t *testing.T, line string) {
		p, err := parseArgs(opts, strings.Split(line, " "))
		if err != nil {
			var fl *failure
			if !errors.As(err, &fl) || fl.status != exitUsage {
				t.Fatalf("%q: an error that is not about usage: %v", line, err)
			}
			return
		}
		for name, vals := range p.values {
			if !p.set[name] {
				t.Fatalf("%q: %s has values and isn't set", line, name)
			}
			for _, v := range vals {
				if v != "true" && v != "false" && !strings.Contains(strings.ToLower(line), strings.ToLower(v)) {
					t.Fatalf("%q: %s = %q, which nobody typed", line, name, v)
				}
			}
		}
	})
}
