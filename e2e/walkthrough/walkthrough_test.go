// Package walkthrough_test types document 003, as far as it needs no pod, and
// runs the demo.
package walkthrough_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/e2e/live"
)

var cloud live.Cloud

func TestMain(m *testing.M) {
	os.Exit(live.Main(m, &cloud, func(*live.Cloud) error { return nil }))
}

func TestKeyVaultWithoutAPod(t *testing.T) {
	reader := filepath.Join(t.TempDir(), "keyvault-reader")
	build := exec.Command("go", "build", "-o", reader, ".")
	build.Dir = filepath.Join("..", "..", "examples", "keyvault-reader")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the reader: %v\n%s", err, out)
	}
	cmd := cloud.Command(t.Context(), cloud.Bin, "run", "--", "bash", "./keyvault_nopod.sh")
	cmd.Env = append(cmd.Env, "READER="+reader)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		t.Log(strings.TrimRight(line, "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
}
