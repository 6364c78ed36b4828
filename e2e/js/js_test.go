// Package js_test runs Microsoft's JavaScript SDKs against laz: `npm ci` here
// brings them.
package js_test

import (
	"encoding/json"
	"os"
	"testing"

	"lazurite.dev/e2e/live"
)

var cloud live.Cloud

func TestMain(m *testing.M) {
	if os.Getenv("CI") == "" && !installed() {
		os.Exit(m.Run()) // the tests say what is missing
	}
	os.Exit(live.Main(m, &cloud, live.World))
}

func installed() bool {
	_, err := os.Stat("node_modules/@azure/identity")
	return err == nil && live.Has("node")
}

// node runs a file of tests under laz run with args.
func node(t *testing.T, file string, extra []string, args ...string) {
	t.Helper()
	live.Need(t, installed(), "Node.js 20 and the packages in e2e/js: run `make e2e-deps`")
	args = append(append([]string{"run"}, args...), "--", "node", "--test", "--test-reporter=tap", file)
	cmd := cloud.Command(t.Context(), cloud.Bin, args...)
	cmd.Env = append(cmd.Env, "SECRET_NAME="+live.Secret, "SECRET_VALUE="+live.SecretValue,
		"KEYVAULT_URL="+cloud.Vars["KEYVAULT_URL"], "TENANT="+cloud.Vars["TENANT"])
	cmd.Env = append(cmd.Env, extra...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestWorkloadIdentity(t *testing.T) {
	node(t, "workload.test.mjs", nil, "--as", live.As, "--cluster", live.Cluster)
}

func TestManagedIdentity(t *testing.T) {
	node(t, "managed.test.mjs", nil, "--identity", live.Identity)
}

func TestOwner(t *testing.T) {
	live.Need(t, installed(), "Node.js 20 and the packages in e2e/js: run `make e2e-deps`")
	out, err := cloud.Laz("ad", "sp", "create-for-rbac", "--name", "js", "--role", "Key Vault Secrets User", "--scopes", cloud.Vars["VAULT_ID"])
	if err != nil {
		t.Fatal(err)
	}
	var sp struct{ AppID, Password string }
	if err := json.Unmarshal([]byte(out), &sp); err != nil {
		t.Fatal(err)
	}
	node(t, "owner.test.mjs", []string{"APP_ID=" + sp.AppID, "APP_SECRET=" + sp.Password})
}
