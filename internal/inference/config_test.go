package inference_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"lazurite.dev/internal/inference"
)

// parse reads a `models:` setting as the server does.
func parse(raw string) (inference.Config, error) {
	var c struct {
		Models []inference.ModelConfig `yaml:"models"`
	}
	dec := yaml.NewDecoder(bytes.NewReader([]byte(raw)))
	dec.KnownFields(true)
	err := dec.Decode(&c)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	cfg := inference.Config{Models: c.Models, Ollama: inference.OllamaOff}
	if err == nil {
		err = cfg.Validate()
	}
	return cfg, err
}

func TestConfig_SaysEverythingThatIsWrong(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte("secret-key"), 0o644); err != nil {
		t.Fatal(err)
	}
	two := filepath.Join(dir, "two")
	if err := os.WriteFile(two, []byte("secret key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for yaml, want := range map[string][]string{
		`models: [{nam: x}]`: {"nam"},
		`models: [{name: x, backends: [{url: "http://a", wieght: 1}]}]`: {"wieght"},
		`models: [{}]`: {"models[0].name: is missing", "models[0].backends: one is needed"},
		`models: [{name: "a b", format: GGUF, version: [a, A], backends: [{}]}]`:                                                      {"models[0].name", "models[0].format", "models[0].version", "models[0].backends[0].url: is missing"},
		`models: [{name: a, backends: [{url: "http://a"}]}, {name: A, backends: [{url: "http://a"}]}]`:                                {"models[1].name", "twice"},
		`models: [{name: a, backends: [{url: "http://a"}, {url: "http://a"}]}]`:                                                       {"backends[1].name", "twice"},
		`models: [{name: a, backends: [{url: "ftp://a"}]}]`:                                                                           {"url: is not http"},
		`models: [{name: a, backends: [{url: "http://me:pw-is-secret@a"}]}]`:                                                          {"url: has a user"},
		`models: [{name: a, backends: [{url: "http://a/v2", prefix: /v1}]}]`:                                                          {"prefix: the url has the path"},
		`models: [{name: a, backends: [{url: "http://a", prefix: v1}]}]`:                                                              {"prefix:"},
		`models: [{name: a, backends: [{url: "http://a", api: aws, apiVersion: "1"}]}]`:                                               {"api:", "apiVersion:"},
		`models: [{name: a, backends: [{url: "http://a", headers: {Authorization: x}}]}]`:                                             {"Authorization can't be set here"},
		`models: [{name: a, backends: [{url: "http://a", headers: {"X Y": x}}]}]`:                                                     {"no name of a header"},
		`models: [{name: a, backends: [{url: "http://a", headers: {X: "a\nb"}}]}]`:                                                    {"control characters"},
		`models: [{name: a, backends: [{url: "http://a", weight: -1, concurrency: -1, healthInterval: 1ms, timeouts: {idle: -1s}}]}]`: {"weight:", "concurrency:", "healthInterval:", "timeouts:"},
		`models: [{name: a, backends: [{url: "http://a", keyFile: key}]}]`:                                                            {"keyFile: \"key\" is not an absolute path"},
		`models: [{name: a, backends: [{url: "http://a", keyFile: /nowhere/key}]}]`:                                                   {"keyFile:", "no such file"},
		`models: [{name: a, backends: [{url: "http://a", keyFile: ` + open + `}]}]`:                                                   {"can be read by others"},
		`models: [{name: a, backends: [{url: "http://a", keyFile: ` + two + `}]}]`:                                                    {"does not hold one key"},
		`models: [{name: a, backends: [{url: "http://a", caFile: ` + open + `}]}]`:                                                    {"has no certificate"},
		`models: [{name: a, backends: [{builtin: true, maxCompletionTokens: true}]}]`:                                                 {"builtin: the built-in model takes"},
		`models: [{name: a, backends: [{builtin: true, keyFile: /x}]}]`:                                                               {"builtin: the built-in model takes"},
		`models: [{name: a, capabilities: {chat: false}, backends: [{url: "http://a"}]}]`:                                             {"capabilities: one of"},
		`models: [{name: a, capabilities: {embeddings: true, maxContext: -1}, backends: [{url: "http://a"}]}]`:                        {"not negative"},
		`models: [{name: a, capabilities: {embeddings: true}, backends: [{url: "http://a", responses: true}, {url: "http://b"}]}]`:    {"without chat nothing can be translated"},
	} {
		_, err := parse(yaml)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: got %v, want %q in it", yaml, err, w)
			}
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells a secret: %v", yaml, err)
		}
	}
}

func TestConfig_Offline(t *testing.T) {
	for url, ok := range map[string]bool{"http://127.0.0.1:8000": true, "http://localhost:1": true, "http://[::1]:1": true, "http://10.0.0.1": false, "https://api.openai.com": false} {
		c := inference.Config{Offline: true, Models: []inference.ModelConfig{{Name: "m", Backends: []inference.BackendConfig{{URL: url}}}}}
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

func TestCatalog_OfTheConfiguration(t *testing.T) {
	cfg, err := parse(`
models:
  - {name: b, version: ["2", "1"], backends: [{url: "http://127.0.0.1:1"}]}
  - {name: a, version: 2024-07-18, capabilities: {embeddings: true}, backends: [{url: "http://127.0.0.1:1/other/"}]}
  - {name: c, backends: [{builtin: true}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	c, err := inference.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range c.Models() {
		got = append(got, m.Name+" "+m.Version)
	}
	if want := "a 2024-07-18, b 2, b 1, c 1, tiny-writer 1"; strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if m, ok := c.Find("b", ""); !ok || m.Version != "2" || !m.Capabilities.Responses || m.Builtin() {
		t.Errorf("got %+v", m)
	}
	if s := backendStatus(t, c, "127.0.0.1:1"); s.URL != "http://127.0.0.1:1/other" {
		t.Errorf("got %+v", s)
	}
	cfg.NoBuiltin = true
	if err := cfg.Validate(); err == nil {
		t.Error("a backend that is switched off passed")
	}
	if c, err = inference.New(inference.Config{NoBuiltin: true, Ollama: inference.OllamaOff}); err != nil || len(c.Models()) != 0 {
		t.Errorf("got %v, %v", c.Models(), err)
	}
}

// FuzzConfig: whatever the file says, it is a catalogue or an error.
func FuzzConfig(f *testing.F) {
	f.Add("models: [{name: a, version: [x], backends: [{url: \"http://a:1/v1\", weight: 0, timeouts: {idle: 1s}}]}]")
	f.Add("models:\n  - name: b\n    backends: [{builtin: true}, {url: \"https://[::1]\", api: azure, apiVersion: x, headers: {a: b}}]\n")
	f.Fuzz(func(t *testing.T, raw string) {
		cfg, err := parse(raw)
		if err != nil {
			return
		}
		c, err := inference.New(cfg)
		if err != nil {
			t.Fatalf("%q is valid, and: %v", raw, err)
		}
		for _, m := range c.Models() {
			if _, ok := c.Find(m.Name, m.Version); !ok {
				t.Fatalf("%q: %+v is not found", raw, m)
			}
		}
		_ = c.Status()
	})
}
