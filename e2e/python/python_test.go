// Package python_test runs Debian's Python SDKs of Azure against laz, with the
// system's own Python.
package python_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"lazurite.dev/e2e/live"
)

const interpreter = "/usr/bin/python3" // the one that Debian's packages are installed for

var cloud live.Cloud

func TestMain(m *testing.M) {
	if os.Getenv("CI") == "" && !installed() {
		os.Exit(m.Run()) // the tests say what is missing
	}
	os.Exit(live.Main(m, &cloud, live.World))
}

func installed() bool {
	return exec.Command(interpreter, "-c", "import azure.identity, azure.keyvault.secrets, azure.keyvault.keys, azure.keyvault.certificates").Run() == nil
}

// python runs a file of tests under laz run with args.
func python(t *testing.T, file string, extra []string, args ...string) {
	t.Helper()
	live.Need(t, installed(), "Debian's python3-azure: run `make e2e-deps`")
	args = append(append([]string{"run"}, args...), "--", interpreter, "-B", file)
	cmd := cloud.Command(t.Context(), cloud.Bin, args...)
	cmd.Env = append(cmd.Env, "SECRET_NAME="+live.Secret, "SECRET_VALUE="+live.SecretValue,
		"KEYVAULT_URL="+cloud.Vars["KEYVAULT_URL"], "TENANT="+cloud.Vars["TENANT"])
	cmd.Env = append(cmd.Env, extra...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestWorkloadIdentity(t *testing.T) {
	python(t, "workload.py", nil, "--as", live.As, "--cluster", live.Cluster)
}

func TestManagedIdentity(t *testing.T) {
	python(t, "managed.py", nil, "--identity", live.Identity)
}

func TestOwner(t *testing.T) {
	live.Need(t, installed(), "Debian's python3-azure: run `make e2e-deps`")
	out, err := cloud.Laz("ad", "sp", "create-for-rbac", "--name", "python", "--role", "Key Vault Secrets User", "--scopes", cloud.Vars["VAULT_ID"])
	if err != nil {
		t.Fatal(err)
	}
	var sp struct{ AppID, Password string }
	if err := json.Unmarshal([]byte(out), &sp); err != nil {
		t.Fatal(err)
	}
	python(t, "owner.py", []string{"APP_ID=" + sp.AppID, "APP_SECRET=" + sp.Password})
}
