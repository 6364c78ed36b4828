package openai_test

import (
	"context"
	"errors"
	"image/png"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

const js = "../js/node_modules/"

// node runs a script in e2e/js under laz run with args.
func node(t *testing.T, env []string, args ...string) {
	t.Helper()
	cmd := cloud.Command(t.Context(), cloud.Bin, append([]string{"run"}, args...)...)
	cmd.Dir = filepath.Join("..", "js")
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func installed(t *testing.T, name string) {
	t.Helper()
	_, err := os.Stat(js + name)
	live.Need(t, err == nil && live.Has("node"), "Node.js 20 and the packages in e2e/js: run `make e2e-deps`")
}

func TestNode(t *testing.T) {
	installed(t, "openai")
	env := []string{}
	for _, name := range []string{"AOAI_ENDPOINT", "AOAI_KEY", "OTHER_KEY", "FAKE"} {
		env = append(env, name+"="+cloud.Vars[name])
	}
	node(t, env, "--as", user, "--cluster", cluster, "--", "node", "--test", "--test-reporter=tap", "openai.test.mjs")
}

// TestStore opens the store's page in a browser. The three services are
// processes; the one that calls the model has a service account's identity.
func TestStore(t *testing.T) {
	installed(t, "playwright-core")
	chromium, err := exec.LookPath("chromium")
	live.Need(t, err == nil, "Debian's chromium: run `make e2e-deps`")
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./ai-service", "./product-service", "./store-admin")
	build.Dir = filepath.Join("..", "..", "examples", "store")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the store: %v\n%s", err, out)
	}
	ai := start(t, cloud.Command(context.Background(), cloud.Bin, "run", "--as", user, "--cluster", cluster, "--", bin+"/ai-service"),
		"USE_AZURE_OPENAI=True", "USE_AZURE_AD=True", "AZURE_OPENAI_ENDPOINT="+cloud.Vars["AOAI_ENDPOINT"], "AZURE_OPENAI_DEPLOYMENT_NAME=description")
	products := start(t, cloud.Command(context.Background(), bin+"/product-service"), "AI_SERVICE_URL="+ai+"/")
	store := start(t, cloud.Command(context.Background(), bin+"/store-admin"), "PRODUCT_SERVICE_URL="+products+"/")
	kept := artifacts(t, "store-description.png", "store-listed.png", "store-refused.png", "store-failed.png")
	node(t, []string{"STORE=" + store, "CHROMIUM=" + chromium, "SCREENSHOTS=" + kept, "PRINCIPAL=" + cloud.Vars["aiIdentity"], "SCOPE=" + cloud.Vars["AOAI_ID"]},
		"--", "node", "store.mjs")
	for _, name := range []string{"store-description.png", "store-listed.png", "store-refused.png"} {
		f, err := os.Open(filepath.Join(kept, name))
		if err != nil {
			t.Fatal(err)
		}
		seen, err := png.DecodeConfig(f)
		if err := errors.Join(err, f.Close()); err != nil || seen.Width < 1000 || seen.Height < 700 {
			t.Errorf("%s is no picture of the page: %d x %d, %v", f.Name(), seen.Width, seen.Height, err)
		}
		t.Logf("kept: %s", f.Name())
	}
}

// artifacts is the folder of what tests leave for people, bin/artifacts, without
// the files of an earlier run that this test makes. git ignores it; `make e2e`
// says what is in it.
func artifacts(t *testing.T, files ...string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "bin", "artifacts"))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	for _, name := range files {
		if e := os.Remove(filepath.Join(dir, name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// start starts a service on a free port until the test ends, and gives its URL.
func start(t *testing.T, cmd *exec.Cmd, env ...string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(append(cmd.Env, "PORT="+strconv.Itoa(port)), env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
		_ = log.Close()
		if out, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), out)
		}
	})
	url := "http://127.0.0.1:" + strconv.Itoa(port)
	if !live.Until(20*time.Second, func() bool {
		answer, err := http.Get(url + "/health")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}) {
		t.Fatalf("%v does not answer at %s", cmd.Args, url)
	}
	return url
}
