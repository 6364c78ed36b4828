package kube

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWriteMirrors(t *testing.T) {
	dir := t.TempDir()
	read := func() map[string]string {
		t.Helper()
		got := map[string]string{}
		files, err := filepath.Glob(filepath.Join(dir, registriesFolder, "*", "hosts.toml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got[filepath.Base(filepath.Dir(f))] = string(text)
		}
		return got
	}
	const pull = "  capabilities = [\"pull\", \"resolve\"]\n"
	for _, step := range []struct {
		mirrors, want map[string]string
		authority     string
	}{
		{nil, map[string]string{}, ""},
		{
			map[string]string{"ghcr.io": "https://mirror.example.org/", "docker.io": "https://mirror.example.org/hub/", "reg.example.org:5000": "http://198.51.100.7:5000"},
			map[string]string{
				"ghcr.io":               "[host.\"https://mirror.example.org\"]\n" + pull,
				"docker.io":             "[host.\"https://mirror.example.org/v2/hub\"]\n" + pull + "  override_path = true\n",
				"reg.example.org_5000_": "[host.\"http://198.51.100.7:5000\"]\n" + pull,
			}, "",
		},
		{map[string]string{"*": "https://all.example.org"}, map[string]string{"_default": "[host.\"https://all.example.org\"]\n" + pull}, ""},
		{map[string]string{"*": "https://all.example.org"}, map[string]string{"_default": "ca = \"/ca.crt\"\n[host.\"https://all.example.org\"]\n" + pull}, "/ca.crt"},
		{map[string]string{"ghcr.io": "https://m.example.org"}, map[string]string{
			"_default": "ca = \"/ca.crt\"\n", "ghcr.io": "ca = \"/ca.crt\"\n[host.\"https://m.example.org\"]\n" + pull,
		}, "/ca.crt"},
		{nil, map[string]string{}, ""},
	} {
		if err := writeMirrors(dir, step.mirrors, step.authority); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, read()); diff != "" {
			t.Error(diff)
		}
	}
}
