package daemon_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUp_ConfigAndModels: the file's models are served, flags count more than
// the file, and the key of a backend is nowhere to be seen.
func TestUp_ConfigAndModels(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sk-not-to-be-seen" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"choices":[{"message":{"content":"Hello from afar."}}]}`)
	}))
	defer backend.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := write("key", "sk-not-to-be-seen\n")
	file := write("laz.yaml", fmt.Sprintf("names: own\ndomain: in-the-file.test\nollama: off\nmodels:\n- name: gpt-4o-mini\n  backends:\n  - {name: good, url: %q, keyFile: %q}\n  - {name: bad, url: %q}\n  - {name: nobody, url: \"http://127.0.0.1:1\", healthInterval: 1s}\n", backend.URL, key, backend.URL))
	l := newLaz(t)
	l.ok("up", "-d", "--port", "0", "--clusters", "issuer", "--config", file, "--domain", "from-a-flag.test")
	if out := l.ok("status"); !strings.Contains(out, "under from-a-flag.test") || !strings.Contains(out, "1 configured · builtin/tiny-writer") {
		t.Errorf("got %s", out)
	}
	if out := l.ok("models", "list"); !strings.Contains(out, "gpt-4o-mini") || !strings.Contains(out, "good") || !strings.Contains(out, backend.URL+"/v1") {
		t.Errorf("got %s", out)
	}
	r := l.run("models", "test", "gpt-4o-mini", "-o", "json")
	var tests []struct {
		Name     string
		Backends []struct {
			Backend, Text, Error string
			OK                   bool
		}
	}
	if err := json.Unmarshal([]byte(r.out), &tests); err != nil || r.status != 1 {
		t.Fatalf("%v: %s", err, r)
	}
	if b := tests[0].Backends; !b[0].OK || b[0].Text != "Hello from afar." || b[1].OK || !strings.Contains(b[1].Error, "keyFile") {
		t.Errorf("got %+v", b)
	}
	eventually(t, "the doctor says who is out", func() bool {
		return strings.Contains(l.run("doctor").out, "gpt-4o-mini's server nobody: ") && strings.Contains(l.ok("status"), "servers that are out: 1")
	})
	if r := l.run("models", "test", "gpt-9"); r.status != 1 || !strings.Contains(r.errOut, "has no model gpt-9") {
		t.Errorf("got %s", r)
	}
	if out := l.ok("models", "test", "tiny-writer"); !strings.Contains(out, "builtin/tiny-writer") {
		t.Errorf("got %s", out)
	}
	log, err := os.ReadFile(filepath.Join(l.home, "log", "laz.log"))
	if err != nil || strings.Contains(string(log), "not-to-be-seen") {
		t.Errorf("the log has the key, or: %v", err)
	}
}

func TestUp_ConfigMistakes(t *testing.T) {
	l := newLaz(t)
	dir := t.TempDir()
	for text, want := range map[string]string{
		"modles: []":          "modles",
		"home: /elsewhere":    "set LAZ_HOME",
		"models: [{name: a}]": "models[0].backends: one is needed",
		"models: [{name: a, backends: [{url: \"https://api.openai.com\"}]}]\noffline: true": "not on this machine",
	} {
		path := filepath.Join(dir, "laz.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := l.run("up", "-d", "--config", path); r.status != 2 || !strings.Contains(r.errOut, want) {
			t.Errorf("%s: got %s", text, r)
		}
	}
	if r := l.run("up", "-d", "--config", filepath.Join(dir, "nothing.yaml")); r.status != 2 || !strings.Contains(r.errOut, "no such file") {
		t.Errorf("got %s", r)
	}
	for _, args := range [][]string{{"models"}, {"models", "what"}, {"models", "list", "x"}, {"models", "test", "a", "b"}, {"models", "list", "-o", "tsv"}} {
		if r := l.run(args...); r.status == 0 {
			t.Errorf("%v: got %s", args, r)
		}
	}
}
