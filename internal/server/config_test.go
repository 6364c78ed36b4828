package server_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"lazurite.dev/internal/ca"
	"lazurite.dev/internal/server"
)

func TestParse_Defaults(t *testing.T) {
	t.Setenv("LAZ_HOME", "/somewhere")
	c, err := server.Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Home != "/somewhere" || c.Listen != ":8443" || c.Names != "own" || c.Local != "" {
		t.Errorf("got %+v", c)
	}
}

func TestParse_SaysEverythingThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		want       []string
	}{
		{"unknown key", "home: /x\nlitsen: :1\n", []string{"line 2", "litsen"}},
		{"all at once", "home: x\nlisten: nowhere\nlocal: 0.0.0.0:1\nnames: mine\ndomain: example\npublicPort: 70000\nlogLevel: loud\nclusters: many\nkubernetes: kube\nbalancers: [here]\ncertificates: [{cert: a}]\n",
			[]string{"home:", "listen:", "local:", "names:", "domain:", "publicPort:", "balancers:", "logLevel:", "clusters:", "kubernetes:", "certificates[0]:"}},
		{"azure's own domain", "home: /x\ndomain: mine.vault.azure.net\n", []string{"inside Azure's vault.azure.net"}},
		{"two documents", "home: /x\n---\nhome: /y\n", []string{"more than one"}},
		{"not yaml", "{", []string{"yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := server.Parse([]byte(c.yaml))
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want %q in it", err, w)
				}
			}
		})
	}
}

// TestParse_ModelsOfTheDocument: each example of docs/models.md is a configuration.
func TestParse_ModelsOfTheDocument(t *testing.T) {
	t.Setenv("LAZ_HOME", t.TempDir())
	doc, err := os.ReadFile("../../docs/models.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("sk-example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Open(ca.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	pem := filepath.Join(dir, "authority.pem")
	if err := os.WriteFile(pem, authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	if len(examples) < 6 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, e := range examples {
		text := regexp.MustCompile(`/etc/lazurite/[a-z-]+key`).ReplaceAllString(e[1], key)
		text = regexp.MustCompile(`/etc/lazurite/[a-z-]+\.pem`).ReplaceAllString(text, pem)
		if c, err := server.Parse([]byte(text)); err != nil || len(c.Models) == 0 {
			t.Errorf("%v in\n%s", err, e[1])
		}
	}
}

func TestDefaultHome(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string // "" for an error
	}{
		{map[string]string{"LAZ_HOME": "/a", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/a"},
		{map[string]string{"XDG_STATE_HOME": "/b", "HOME": "/c"}, "/b/lazurite"},
		{map[string]string{"XDG_STATE_HOME": "b", "HOME": "/c"}, "/c/.local/state/lazurite"},
		{map[string]string{}, ""},
	} {
		got, err := server.DefaultHome(func(k string) string { return c.env[k] })
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%v: got %q, %v; want %q", c.env, got, err, c.want)
		}
	}
}

func TestConfig_Host(t *testing.T) {
	azure := server.Config{Names: server.NamesAzure}
	own := server.Config{Names: server.NamesOwn, Domain: "cloud.test", Listen: "0.0.0.0:8443"}
	balanced := own
	balanced.PublicPort = 443
	for _, c := range []struct {
		cfg            server.Config
		surface, label string
		want           string
	}{
		{azure, server.KeyVault, "kv1", "kv1.vault.azure.net"},
		{azure, server.Login, "", "login.microsoftonline.com"},
		{azure, server.Scoring, "e1.westeurope", "e1.westeurope.inference.ml.azure.com"},
		{own, server.KeyVault, "kv1", "kv1.vault.cloud.test:8443"},
		{balanced, server.KeyVault, "kv1", "kv1.vault.cloud.test"},
		{own, "nothing", "", ""},
	} {
		if got := c.cfg.Host(c.surface, c.label); got != c.want {
			t.Errorf("Host(%s, %s): got %q, want %q", c.surface, c.label, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "home: /x", "certificates: [{cert: a, key: b}]", "a: &a [*a]", "--- \n---"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := server.Parse(raw)
		if err == nil && c.Validate() != nil {
			t.Errorf("accepted what is not valid: %q", raw)
		}
	})
}

func TestParse_TheExample(t *testing.T) {
	raw, err := os.ReadFile("../../examples/serve/laz.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := server.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.URL(server.KeyVault, "v"); got != "https://v.vault.cloud.example.org" {
		t.Errorf("a vault is at %s", got)
	}
}

// TestConfig_EveryKeyIsInTheReference keeps docs/serve.md complete, with
// docs/models.md and docs/environments.md.
func TestConfig_EveryKeyIsInTheReference(t *testing.T) {
	var doc []byte
	for _, name := range []string{"serve.md", "models.md", "environments.md"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		doc = append(doc, raw...)
	}
	var all func(reflect.Type)
	all = func(c reflect.Type) {
		for i := range c.NumField() {
			f := c.Field(i)
			key := f.Tag.Get("yaml")
			if key != "-" && !strings.Contains(string(doc), "`"+key+"`") && !strings.Contains(string(doc), "."+key+"`") {
				t.Errorf("none of docs/serve.md, docs/models.md and docs/environments.md speaks of %s", key)
			}
			if typ := f.Type; key != "-" && (typ.Kind() == reflect.Struct || typ.Kind() == reflect.Slice) {
				if typ.Kind() == reflect.Slice {
					typ = typ.Elem()
				}
				if typ.Kind() == reflect.Struct {
					all(typ)
				}
			}
		}
	}
	all(reflect.TypeFor[server.Config]())
}

func TestParse_ContentFilter(t *testing.T) {
	for text, want := range map[string]string{
		"contentFilter: {url: \"http://127.0.0.1:9000/v1/moderations\", keyFile: /k, model: m, strict: true}\noffline: true": "",
		"contentFilter: {url: \"https://moderation.example/v1/moderations\"}":                                                "",
		"contentFilter: {}": "not an http or https URL",
		"contentFilter: {url: \"https://user:pass@moderation.example/\"}":      "without a password",
		"contentFilter: {url: \"https://moderation.example/\"}\noffline: true": "not on this machine",
		"contentFilter: {url: \"http://localhost/\", keyFile: key}":            "not an absolute path",
		"contentFilter: {url: \"http://localhost/\", key: secret}":             "key",
		"replicas: -1": "replicas",
	} {
		_, err := server.Parse([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for given, want := range map[string]string{
		"http://127.0.0.1:9000":                "http://127.0.0.1:9000/v1/moderations",
		"http://127.0.0.1:9000/":               "http://127.0.0.1:9000/v1/moderations",
		"http://127.0.0.1:9000/v2/moderations": "http://127.0.0.1:9000/v2/moderations",
	} {
		c, err := server.Parse([]byte("contentFilter: {url: \"" + given + "\"}"))
		if err != nil || c.ContentFilter.URL != want {
			t.Errorf("%s: %+v %v", given, c.ContentFilter, err)
		}
	}
}
