package clients_test

import (
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lazurite.dev/e2e/live"
)

const sdk = "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/"

// suites are the tests that ship inside Microsoft's modules, run unchanged in
// their live mode, in which nothing is recorded or played back.
var suites = []struct {
	module string
	skip   string // tests that can't run here; see why
	why    string
}{
	{"azsecrets", "", ""},
	{"azcertificates", "^TestUpdateCertificatePolicy$", "it asks for a certificate on the curve P-256K, which is refused here: Go's X.509 has no such certificates"},
	{"azkeys", "^TestReleaseKey$|^TestEncryptDecrypt$|^TestImportKey$|^TestRotateKey$", "they need an attestation service that Microsoft runs, or keys in a hardware module, which are refused here"},
}

func TestMicrosoftsOwnSuites(t *testing.T) {
	if live.Inside() {
		return
	}
	for _, s := range suites {
		t.Run(s.module, func(t *testing.T) {
			vault := fresh("suite")
			az(t, "keyvault", "create", "--name", vault, "--resource-group", live.Group, "--location", "eastus", "--enable-rbac-authorization")
			id := az(t, "keyvault", "show", "--name", vault, "--query", "id")
			az(t, "role", "assignment", "create", "--assignee", cloud.Vars["OWNER"], "--role", "Key Vault Administrator", "--scope", id)
			out := runSuite(t, s.module, s.skip, "https://"+vault+".vault.azure.net/")
			passed := len(regexp.MustCompile(`(?m)^--- PASS: `).FindAllString(out, -1))
			t.Logf("%d of Microsoft's tests passed", passed)
			if skipped := regexp.MustCompile(`(?m)^ *--- SKIP: .*$`).FindAllString(out, -1); len(skipped) > 0 {
				t.Logf("they skipped: %s", strings.Join(skipped, "; "))
			}
			if s.skip != "" {
				t.Logf("left out: %s: %s", s.skip, s.why)
			}
			if passed == 0 {
				t.Errorf("no test ran:\n%s", out)
			}
		})
	}
}

func runSuite(t *testing.T, module, skip, vault string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), module+".test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, sdk+module)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the suite: %v\n%s", err, out)
	}
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", sdk+module).Output()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--", binary, "-test.v", "-test.timeout=5m"}
	if skip != "" {
		args = append(args, "-test.skip="+skip)
	}
	cmd := cloud.Command(t.Context(), cloud.Bin, args...)
	cmd.Dir = strings.TrimSpace(string(dir))
	cmd.Env = append(cmd.Env, "AZURE_RECORD_MODE=live", "AZURE_KEYVAULT_URL="+vault)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", path.Base(module), err, out)
	}
	return string(out)
}
