package live

import (
	"encoding/json"
	"os"
	"testing"
)

// Scripts run the SDKs of another language against a cloud: each file is a
// program that ends with 0 when its own tests pass.
type Scripts struct {
	Language  string
	Command   []string // runs a file
	Installed bool
	Install   string // what is missing where they are not installed, and how to get it

	cloud Cloud
}

// Main starts a cloud with World for the package's tests and gives their exit
// status. Where the SDKs are not installed it starts none: the tests say what
// is missing.
func (s *Scripts) Main(m *testing.M) int {
	if os.Getenv("CI") == "" && !s.Installed {
		return m.Run()
	}
	return Main(m, &s.cloud, World)
}

// Workload runs file as a service account's workload.
func (s *Scripts) Workload(t *testing.T, file string) {
	t.Helper()
	s.run(t, file, nil, "--as", As, "--cluster", Cluster)
}

// Managed runs file with a managed identity.
func (s *Scripts) Managed(t *testing.T, file string) {
	t.Helper()
	s.run(t, file, nil, "--identity", Identity)
}

// Owner runs file as the owner, with APP_ID and APP_SECRET of an application
// that may read the vault's secrets.
func (s *Scripts) Owner(t *testing.T, file string) {
	t.Helper()
	Need(t, s.Installed, s.Install)
	out, err := s.cloud.Laz("ad", "sp", "create-for-rbac", "--name", s.Language, "--role", "Key Vault Secrets User", "--scopes", s.cloud.Vars["VAULT_ID"])
	if err != nil {
		t.Fatal(err)
	}
	var sp struct{ AppID, Password string }
	if err := json.Unmarshal([]byte(out), &sp); err != nil {
		t.Fatal(err)
	}
	s.run(t, file, []string{"APP_ID=" + sp.AppID, "APP_SECRET=" + sp.Password})
}

// MachineLearning runs file as the owner, with a workspace of machine learning
// in a group of its own: SUBSCRIPTION, ML_GROUP, ML_WORKSPACE.
func (s *Scripts) MachineLearning(t *testing.T, file string) {
	t.Helper()
	Need(t, s.Installed, s.Install)
	group, workspace := "e2e-ml-"+s.Language, "ws-"+s.Language
	for _, line := range [][]string{{"group", "create", "-n", group, "-l", "eastus"}, {"ml", "workspace", "create", "-g", group, "-n", workspace}} {
		if _, err := s.cloud.Laz(line...); err != nil {
			t.Fatal(err)
		}
	}
	s.run(t, file, []string{"SUBSCRIPTION=" + s.cloud.Vars["SUBSCRIPTION"], "ML_GROUP=" + group, "ML_WORKSPACE=" + workspace})
}

// Storage runs file as the owner, who may read and write blobs, with a storage
// account of its own: ACCOUNT, CONNECTION.
func (s *Scripts) Storage(t *testing.T, file string) {
	t.Helper()
	Need(t, s.Installed, s.Install)
	group, account := "e2e-blob-"+s.Language, "e2eblob"+s.Language
	var last string
	for _, line := range [][]string{
		{"group", "create", "-n", group, "-l", "eastus"}, {"storage", "account", "create", "-g", group, "-n", account, "--sku", "Standard_LRS"},
		{"role", "assignment", "create", "--assignee", s.cloud.Vars["OWNER"], "--role", "Storage Blob Data Contributor", "--scope", "/subscriptions/" + s.cloud.Vars["SUBSCRIPTION"] + "/resourceGroups/" + group},
		{"storage", "account", "show-connection-string", "-g", group, "-n", account, "--query", "connectionString"},
	} {
		var err error
		if last, err = s.cloud.TSV(line...); err != nil {
			t.Fatal(err)
		}
	}
	s.run(t, file, []string{"ACCOUNT=" + account, "CONNECTION=" + last})
}

// run runs file under laz run with args.
func (s *Scripts) run(t *testing.T, file string, extra []string, args ...string) {
	t.Helper()
	Need(t, s.Installed, s.Install)
	args = append(append([]string{"run"}, args...), "--")
	args = append(append(args, s.Command...), file)
	cmd := s.cloud.Command(t.Context(), s.cloud.Bin, args...)
	cmd.Env = append(cmd.Env, "SECRET_NAME="+Secret, "SECRET_VALUE="+SecretValue,
		"KEYVAULT_URL="+s.cloud.Vars["KEYVAULT_URL"], "TENANT="+s.cloud.Vars["TENANT"])
	cmd.Env = append(cmd.Env, extra...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
