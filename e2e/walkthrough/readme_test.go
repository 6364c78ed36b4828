package walkthrough_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestReadme types the commands of README's first minute, in a cloud of its own.
func TestReadme(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "\nBy hand,")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, _, ok := strings.Cut(rest, "```\n")
	if !ok || !strings.Contains(script, "laz explain") {
		t.Fatalf("README has no such commands:\n%s", script)
	}
	dir := t.TempDir()
	cmd := cloud.Command(t.Context(), "bash", "-c", "trap 'echo \"FAILED: $BASH_COMMAND\"' ERR\ntrap 'bin/laz down >/dev/null' EXIT\n"+script)
	cmd.Dir, cmd.WaitDelay = root, time.Minute
	cmd.Env = append(cmd.Env, "HOME="+dir, "LAZ_HOME="+filepath.Join(dir, "state"), "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"))
	out, err := cmd.CombinedOutput()
	said := string(out)
	if err != nil {
		t.Errorf("README's commands: %v", err)
	}
	for _, want := range []string{"password", "ForbiddenByRbac", "refused: app (", "hold no role at all", "laz role assignment create", `successfully got secret" secret="Hello"`, "Stopped"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said", want)
		}
	}
	if n := strings.Count(said, "FAILED: "); n != 1 || !strings.Contains(said, "FAILED: laz run --as default/app") {
		t.Errorf("%d commands failed; only the first reading may", n)
	}
	if t.Failed() {
		t.Log(said)
	}
}
