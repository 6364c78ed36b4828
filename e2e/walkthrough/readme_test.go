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

// TestReadme types the commands of README's first minute.
func TestReadme(t *testing.T) {
	said := typed(t, "README.md", "\nBy hand,")
	wants(t, said, "password", "ForbiddenByRbac", "refused: app (", "hold no role at all", "laz role assignment create", `successfully got secret" secret="Hello"`, "Stopped")
	onlyFailure(t, said, "laz run --as default/app")
}

// TestOpenAIPage types the commands of the first minute of docs/openai.md.
func TestOpenAIPage(t *testing.T) {
	said := typed(t, "docs/openai.md", "\n## 60 seconds")
	wants(t, said, "PermissionDenied", "Owner at", "has no data actions", `laz role assignment create`, "Cognitive Services OpenAI User", `"completion_tokens"`, "Stopped")
	onlyFailure(t, said, "az rest --method post")
	if strings.Contains(said, "Can't derive") {
		t.Error("az rest warns of a resource that it was given")
	}
}

// typed types the first commands after a place of a page, in a cloud of its
// own, and gives what was said.
func typed(t *testing.T, page, place string) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), place)
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, _, ok := strings.Cut(rest, "```\n")
	if !ok || !strings.Contains(script, "laz explain") {
		t.Fatalf("%s has no such commands:\n%s", page, script)
	}
	cache, err := os.UserCacheDir() // make build links to what make kube has put there
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := cloud.Command(t.Context(), "bash", "-c", "trap 'echo \"FAILED: $BASH_COMMAND\"' ERR\ntrap 'bin/laz down >/dev/null' EXIT\n"+script)
	cmd.Dir, cmd.WaitDelay = root, time.Minute
	cmd.Env = append(cmd.Env, "HOME="+dir, "XDG_CACHE_HOME="+cache, "LAZ_HOME="+filepath.Join(dir, "state"), "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the commands of %s: %v", page, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(string(out))
		}
	})
	return string(out)
}

func wants(t *testing.T, said string, words ...string) {
	t.Helper()
	for _, want := range words {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said", want)
		}
	}
}

// onlyFailure says that one command failed, and that it is this one.
func onlyFailure(t *testing.T, said, command string) {
	t.Helper()
	if n := strings.Count(said, "FAILED: "); n != 1 || !strings.Contains(said, "FAILED: "+command) {
		t.Errorf("%d commands failed; only the first %s may", n, command)
	}
}
