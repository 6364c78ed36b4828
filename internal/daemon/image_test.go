package daemon_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/daemon"
)

func TestImageBuild(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "app"), []byte("#!/bin/sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "x.tar")
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"built":               {[]string{"build", folder, "-t", "app:v1", "--entrypoint", "/app --serve", "-o", out}, 0, "Built app:v1 in " + out},
		"no word":             {nil, 2, "say what"},
		"an unknown word":     {[]string{"push"}, 2, "there is no laz image push"},
		"no name":             {[]string{"build", folder}, 2, "say the image's name"},
		"two sources":         {[]string{"build", "-t", "a", folder, folder}, 2, "one binary or folder"},
		"a label without a =": {[]string{"build", "-t", "a", "--label", "x", folder}, 2, "is not KEY=VALUE"},
		"nothing starts":      {[]string{"build", "-t", "a", "-o", out, folder}, 1, "say what starts in it"},
		"a cluster, no load":  {[]string{"build", "-t", "a", "--cluster", "c", folder}, 2, "--cluster says where to --load"},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			env := daemon.Env{Stdin: strings.NewReader(""), Stdout: &said, Stderr: &said, Getenv: os.Getenv, Environ: os.Environ}
			if got := daemon.Commands()["image"].Run(t.Context(), tt.args, env); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if !strings.Contains(said.String(), tt.want) {
				t.Errorf("got %q, want %q in it", said.String(), tt.want)
			}
		})
	}
}
