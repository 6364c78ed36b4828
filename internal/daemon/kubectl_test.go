package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/server"
)

func fakeProgram(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestLinkKubectl(t *testing.T) {
	dir := t.TempDir()
	h := server.Home(filepath.Join(dir, "home"))
	if err := os.MkdirAll(h.Bin(), 0o700); err != nil {
		t.Fatal(err)
	}
	own, kube, cache := filepath.Join(dir, "own"), filepath.Join(dir, "kube"), filepath.Join(dir, "cache")
	path := h.Bin()
	vars := map[string]string{"XDG_CACHE_HOME": cache}
	env := Env{Getenv: func(n string) string {
		if n == "PATH" {
			return path
		}
		return vars[n]
	}}
	link := filepath.Join(h.Bin(), "kubectl")
	step := func(what, want string) {
		t.Helper()
		if err := linkKubectl(h, env); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got, _ := os.Readlink(link); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	step("without a distribution", "")
	built := filepath.Join(cache, "lazurite", "kube", "current", "bin", "kubernetes")
	fakeProgram(t, built)
	step("with the one that was built", built)
	step("again", built)
	vars["LAZ_KUBE"] = kube
	fakeProgram(t, filepath.Join(kube, "bin", "kubernetes"))
	step("with the one that the user names", filepath.Join(kube, "bin", "kubernetes"))
	fakeProgram(t, filepath.Join(own, "kubectl"))
	path = h.Bin() + string(filepath.ListSeparator) + own
	step("with the machine's own", "")
	if err := os.Symlink("/somewhere/else", link); err != nil {
		t.Fatal(err)
	}
	step("somebody else's link stays", "/somewhere/else")
}

func TestKubectl(t *testing.T) {
	dir := t.TempDir()
	vars := map[string]string{"LAZ_HOME": dir, "LAZ_KUBE": filepath.Join(dir, "kube")}
	env := Env{Getenv: func(n string) string { return vars[n] }, Environ: func() []string { return nil }}
	if err := kubectl(t.Context(), nil, env); err == nil || !strings.Contains(err.Error(), "laz up") {
		t.Errorf("while nothing runs: %v", err)
	}
	if err := server.Home(dir).Make(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server.Home(dir).Endpoint(), []byte(`{"listen":"127.0.0.1:1","local":"127.0.0.1:1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if file, err := kubernetes(env); err != nil || file != "" {
		t.Errorf("got %q, %v", file, err)
	}
}

// TestKubernetes_Folders looks in the folder that the environment names, before
// the one of the configuration, and in no other then.
func TestKubernetes_Folders(t *testing.T) {
	dir := t.TempDir()
	place := func(name string) string {
		t.Helper()
		file := filepath.Join(dir, name, "bin", "kubernetes")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if err := server.Home(dir).Make(); err != nil {
		t.Fatal(err)
	}
	configured, named := place("configured"), place("named")
	place("cache/lazurite/kube/current")
	if err := os.WriteFile(server.Home(dir).Endpoint(), []byte(`{"kubernetes":"`+filepath.Join(dir, "configured")+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"LAZ_HOME": dir, "XDG_CACHE_HOME": filepath.Join(dir, "cache")}
	env := Env{Getenv: func(n string) string { return vars[n] }}
	for _, step := range []struct{ variable, want string }{
		{"", configured}, {filepath.Join(dir, "named"), named}, {filepath.Join(dir, "none"), ""},
	} {
		vars["LAZ_KUBE"] = step.variable
		if got, err := kubernetes(env); err != nil || got != step.want {
			t.Errorf("LAZ_KUBE=%s: got %q, %v, want %q", step.variable, got, err, step.want)
		}
	}
}
