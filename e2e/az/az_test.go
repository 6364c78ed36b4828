// Package az_test runs Debian's azure-cli, unmodified, against laz, for what
// its version 2.45.0 can do: it can't run role, keyvault secret, or the newer
// options of aks (each fails inside azure-cli, before any request).
package az_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/e2e/live"
)

const real = "/usr/bin/az"

var cloud live.Cloud

func TestMain(m *testing.M) {
	if os.Getenv("CI") == "" && !installed() {
		os.Exit(m.Run()) // the tests say what is missing
	}
	os.Exit(live.Main(m, &cloud, setup))
}

func installed() bool {
	_, err := os.Stat(real)
	return err == nil
}

// setup is the world, and an application that owns the subscription for az to sign in as.
func setup(c *live.Cloud) error {
	if err := live.World(c); err != nil {
		return err
	}
	out, err := c.Laz("ad", "sp", "create-for-rbac", "--name", "real-az", "--role", "Owner", "--scopes", "/subscriptions/"+c.Vars["SUBSCRIPTION"])
	if err != nil {
		return err
	}
	var sp struct{ AppID, Password, Tenant string }
	if err := json.Unmarshal([]byte(out), &sp); err != nil {
		return err
	}
	c.Vars["APP_ID"] = sp.AppID
	_, err = live.Exec(azure(c, "login", "--service-principal", "--username", sp.AppID, "--password", sp.Password, "--tenant", sp.Tenant))
	return err
}

// azure is Microsoft's az under laz run, with a configuration folder of its own.
func azure(c *live.Cloud, args ...string) *exec.Cmd {
	command := append([]string{"run", "--real-az", "--", "env", "AZURE_CONFIG_DIR=" + c.Dir + "/real-az", "AZURE_CORE_COLLECT_TELEMETRY=0", real}, args...)
	return c.Command(context.Background(), c.Bin, command...)
}

func az(t *testing.T, args ...string) (string, error) {
	t.Helper()
	live.Need(t, installed(), "Debian's azure-cli: run `make e2e-deps`")
	out, err := live.Exec(azure(&cloud, args...))
	return strings.TrimRight(out, "\n"), err
}

func want(t *testing.T, value string, args ...string) {
	t.Helper()
	got, err := az(t, append(args, "--output", "tsv")...)
	if err != nil {
		t.Fatal(err)
	}
	if got != value {
		t.Errorf("az %s: got %q, want %q", strings.Join(args, " "), got, value)
	}
}

// fails wants az to end with code and to say words.
func fails(t *testing.T, code int, words string, args ...string) {
	t.Helper()
	out, err := az(t, args...)
	var failed *live.CommandError
	if !errors.As(err, &failed) {
		t.Fatalf("az %s: %v, %s", strings.Join(args, " "), err, out)
	}
	if failed.Code != code || !strings.Contains(failed.Stderr, words) {
		t.Errorf("az %s: exit %d, want %d and %q: %s", strings.Join(args, " "), failed.Code, code, words, failed.Stderr)
	}
}

func TestAccount(t *testing.T) {
	want(t, cloud.Vars["SUBSCRIPTION"], "account", "show", "--query", "id")
	want(t, cloud.Vars["APP_ID"], "account", "show", "--query", "user.name")
	want(t, "", "account", "set", "--subscription", cloud.Vars["SUBSCRIPTION"])
	want(t, "Bearer", "account", "get-access-token", "--query", "tokenType")
}

func TestGroup(t *testing.T) {
	want(t, "Succeeded", "group", "create", "--name", "azure-cli", "--location", "eastus", "--tags", "a=b", "--query", "properties.provisioningState")
	want(t, "b", "group", "show", "--name", "azure-cli", "--query", "tags.a")
	want(t, "true", "group", "exists", "--name", "azure-cli")
	want(t, "azure-cli", "group", "list", "--tag", "a=b", "--query", "[].name")
	want(t, "", "group", "delete", "--name", "azure-cli", "--yes")
	want(t, "false", "group", "exists", "--name", "azure-cli")
	fails(t, 3, "ResourceGroupNotFound", "group", "show", "--name", "azure-cli")
}

func TestIdentityAndFederatedCredential(t *testing.T) {
	in := []string{"--identity-name", "cli", "--resource-group", live.Group}
	fed := func(verb string, rest ...string) []string {
		return append(append([]string{"identity", "federated-credential", verb}, in...), rest...)
	}
	want(t, "cli", "identity", "create", "--name", "cli", "--resource-group", live.Group, "--location", "eastus", "--query", "name")
	want(t, "system:serviceaccount:default:cli", fed("create", "--name", "fed", "--issuer", cloud.Vars["ISSUER"],
		"--subject", "system:serviceaccount:default:cli", "--audiences", "api://AzureADTokenExchange", "--query", "subject")...)
	want(t, "fed", fed("list", "--query", "[].name")...)
	want(t, cloud.Vars["ISSUER"], fed("show", "--name", "fed", "--query", "issuer")...)
	want(t, "", fed("delete", "--name", "fed", "--yes")...)
	want(t, "", "identity", "delete", "--name", "cli", "--resource-group", live.Group)
	fails(t, 3, "ResourceNotFound", "identity", "show", "--name", "cli", "--resource-group", live.Group)
}

func TestResourceList(t *testing.T) {
	want(t, live.Identity, "resource", "list", "--resource-group", live.Group, "--resource-type", "Microsoft.ManagedIdentity/userAssignedIdentities",
		"--query", "[?name=='"+live.Identity+"'].name")
}

func TestCluster(t *testing.T) {
	want(t, cloud.Vars["ISSUER"], "aks", "show", "--name", live.Cluster, "--resource-group", live.Group, "--query", "oidcIssuerProfile.issuerUrl")
	want(t, "Succeeded", "aks", "create", "--name", "cli", "--resource-group", live.Group, "--enable-oidc-issuer", "--no-ssh-key", "--query", "provisioningState")
	want(t, "", "aks", "delete", "--name", "cli", "--resource-group", live.Group, "--yes")
}

func TestKeyVault(t *testing.T) {
	name := "cli-" + cloud.Vars["VAULT"]
	want(t, "https://"+name+".vault.azure.net/", "keyvault", "create", "--name", name, "--resource-group", live.Group, "--location", "eastus",
		"--enable-rbac-authorization", "true", "--query", "properties.vaultUri")
	want(t, "true", "keyvault", "show", "--name", name, "--query", "properties.enableRbacAuthorization")
	want(t, "", "keyvault", "network-rule", "list", "--name", name, "--query", "ipRules[].value")
	want(t, "", "keyvault", "delete", "--name", name)
	want(t, name, "keyvault", "list-deleted", "--resource-type", "vault", "--query", "[?name=='"+name+"'].name")
}

func TestConfigure(t *testing.T) {
	want(t, "", "configure", "--defaults", "group="+live.Group)
	want(t, live.Identity, "identity", "show", "--name", live.Identity, "--query", "name")
	want(t, "", "configure", "--defaults", "group=")
}

// The resources of a stranger: signed in, without a role.
func TestWithoutARole(t *testing.T) {
	out, err := cloud.Laz("ad", "sp", "create-for-rbac", "--name", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	var sp struct{ AppID, Password, Tenant string }
	if err := json.Unmarshal([]byte(out), &sp); err != nil {
		t.Fatal(err)
	}
	fails(t, 1, "No subscriptions found", "login", "--service-principal", "--username", sp.AppID, "--password", sp.Password, "--tenant", sp.Tenant)
	fails(t, 1, "AADSTS7000215", "login", "--service-principal", "--username", sp.AppID, "--password", "wrong", "--tenant", sp.Tenant)
}

func TestCognitiveServices(t *testing.T) {
	name := "cli-ai-" + strings.TrimPrefix(cloud.Vars["VAULT"], "e2e-")
	account := func(verb string, rest ...string) []string {
		return append(append([]string{"cognitiveservices", "account"}, strings.Fields(verb)...), append([]string{"--name", name, "--resource-group", live.Group}, rest...)...)
	}
	deployment := func(verb string, rest ...string) []string {
		return account("deployment "+verb, append([]string{"--deployment-name", "description"}, rest...)...)
	}
	want(t, "https://"+name+".openai.azure.com/", account("create", "--location", "eastus", "--kind", "OpenAI", "--sku", "s0", "--custom-domain", name, "--yes",
		"--query", "properties.endpoint")...)
	want(t, "OpenAI\tS0", account("show", "--query", "[kind, sku.name] | [@]")...)
	want(t, name, "cognitiveservices", "account", "list", "--resource-group", live.Group, "--query", "[].name")
	want(t, name, "resource", "list", "--resource-group", live.Group, "--resource-type", "Microsoft.CognitiveServices/accounts", "--query", "[0].name")
	want(t, "b", account("update", "--tags", "a=b", "--query", "tags.a")...)
	key, err := az(t, append(account("keys list", "--query", "key1"), "--output", "tsv")...)
	if err != nil || len(key) != 32 {
		t.Errorf("key of %d characters, %v", len(key), err)
	}
	want(t, key, account("keys regenerate", "--key-name", "key2", "--query", "key1")...)
	// Its older form of a deployment.
	want(t, "description", deployment("create", "--model-name", "gpt-4o-mini", "--model-version", "2024-07-18", "--model-format", "OpenAI",
		"--scale-settings-scale-type", "Standard", "--scale-settings-capacity", "3", "--query", "name")...)
	want(t, "3", deployment("show", "--query", "properties.scaleSettings.capacity")...)
	want(t, "description", account("deployment list", "--query", "[0].name")...)
	fails(t, 1, "DeploymentModelNotSupported", account("deployment create", "--deployment-name", "none", "--model-name", "no-such", "--model-version", "1",
		"--model-format", "OpenAI", "--scale-settings-scale-type", "Standard")...)
	want(t, "gpt-4o-mini", account("list-models", "--query", "[?name=='gpt-4o-mini'].name")...)
	want(t, "AIServices\nOpenAI", "cognitiveservices", "account", "list-kinds")
	want(t, "Deny", account("network-rule list", "--query", "defaultAction")...)
	want(t, "192.0.2.0/24", account("network-rule add", "--ip-address", "192.0.2.0/24", "--query", "properties.networkAcls.ipRules[].value")...)
	want(t, "", account("network-rule remove", "--ip-address", "192.0.2.0/24", "--query", "properties.networkAcls.ipRules[].value")...)
	want(t, "SystemAssigned", account("identity assign", "--query", "type")...)
	want(t, "", deployment("delete")...)
	want(t, "", account("delete")...)
	fails(t, 3, "ResourceNotFound", account("show")...)
	want(t, name, "cognitiveservices", "account", "list-deleted", "--query", "[?name=='"+name+"'].name")
	want(t, name, account("recover", "--location", "eastus", "--query", "name")...)
	want(t, "", account("delete")...)
	want(t, "", account("purge", "--location", "eastus")...)
	fails(t, 3, "ResourceNotFound", account("show-deleted", "--location", "eastus")...)
}

// TestDeployment deploys a template to a group, as a file of a script would.
func TestDeployment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "main.json")
	text := `{"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0",
		"parameters":{"name":{"type":"string"},"tag":{"type":"string","defaultValue":"one"}},
		"resources":[{"type":"Microsoft.ManagedIdentity/userAssignedIdentities","apiVersion":"2023-01-31","name":"[parameters('name')]",
			"location":"[resourceGroup().location]","tags":{"t":"[parameters('tag')]"}}],
		"outputs":{"id":{"type":"string","value":"[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities',parameters('name'))]"}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	on := []string{"--resource-group", live.Group, "--template-file", file, "--parameters", "name=az-deployed"}
	want(t, "Succeeded", append([]string{"deployment", "group", "validate", "--query", "properties.provisioningState"}, on...)...)
	want(t, "Create", append([]string{"deployment", "group", "what-if", "--no-pretty-print", "--query", "changes[?ends_with(resourceId, 'az-deployed')].changeType"}, on...)...)
	want(t, "Succeeded", append([]string{"deployment", "group", "create", "--name", "az", "--query", "properties.provisioningState"}, on...)...)
	want(t, "az-deployed", "identity", "show", "--name", "az-deployed", "--resource-group", live.Group, "--query", "name")
	want(t, "az", "deployment", "group", "list", "--resource-group", live.Group, "--query", "[?name=='az'].name")
	want(t, "az-deployed", "deployment", "operation", "group", "list", "--name", "az", "--resource-group", live.Group, "--query", "[?properties.targetResource].properties.targetResource.resourceName")
	want(t, "", "deployment", "group", "delete", "--name", "az", "--resource-group", live.Group)
	fails(t, 1, "InvalidTemplateDeployment", "deployment", "group", "create", "--resource-group", live.Group, "--template-file", file, "--parameters", "name=x")
}

func TestContainerRegistry(t *testing.T) {
	name := "cliacr" + strings.ReplaceAll(strings.TrimPrefix(cloud.Vars["VAULT"], "e2e-"), "-", "")
	want(t, "true", "acr", "check-name", "--name", name, "--query", "nameAvailable")
	want(t, name+".azurecr.io\tBasic", "acr", "create", "--name", name, "--resource-group", live.Group, "--sku", "Basic", "--query", "[loginServer, sku.name] | [@]")
	want(t, name, "acr", "list", "--resource-group", live.Group, "--query", "[].name")
	want(t, "true", "acr", "update", "--name", name, "--admin-enabled", "true", "--query", "adminUserEnabled")
	want(t, name, "acr", "credential", "show", "--name", name, "--query", "username")
	want(t, "2", "acr", "credential", "renew", "--name", name, "--password-name", "password", "--query", "length(passwords)")
	want(t, name+".azurecr.io", "acr", "login", "--name", name, "--expose-token", "--query", "loginServer")
	want(t, "", "acr", "repository", "list", "--name", name)
	want(t, "", "acr", "private-endpoint-connection", "list", "--registry-name", name, "--resource-group", live.Group)
	if _, err := az(t, "acr", "repository", "show", "--name", name, "--repository", "none"); err == nil {
		t.Error("a repository that is not there was shown")
	}
	want(t, "", "acr", "delete", "--name", name, "--yes")
}

func TestStorage(t *testing.T) {
	name := "clist" + strings.ReplaceAll(strings.TrimPrefix(cloud.Vars["VAULT"], "e2e-"), "-", "")
	want(t, "true", "storage", "account", "check-name", "--name", name, "--query", "nameAvailable")
	want(t, name+"\tStandard_LRS\tStorageV2", "storage", "account", "create", "--name", name, "--resource-group", live.Group, "--sku", "Standard_LRS", "--query", "[name, sku.name, kind] | [@]")
	want(t, "key1\nkey2", "storage", "account", "keys", "list", "--account-name", name, "--resource-group", live.Group, "--query", "[].keyName")
	want(t, "true", "storage", "container", "create", "--name", "things", "--account-name", name, "--auth-mode", "key", "--query", "created")
	file := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := az(t, "storage", "blob", "upload", "--account-name", name, "--container-name", "things", "--name", "dir/a.txt", "--file", file, "--auth-mode", "key", "--only-show-errors"); err != nil {
		t.Error(err)
	}
	want(t, "dir/a.txt\t5", "storage", "blob", "list", "--account-name", name, "--container-name", "things", "--auth-mode", "key", "--query", "[].[name, properties.contentLength]")
	if out, err := az(t, "storage", "blob", "download", "--account-name", name, "--container-name", "things", "--name", "dir/a.txt", "--file", file+".2", "--auth-mode", "key", "--only-show-errors"); err != nil {
		t.Error(err, out)
	}
	if b, err := os.ReadFile(file + ".2"); err != nil || string(b) != "hello" {
		t.Errorf("%q %v", b, err)
	}
	// This az takes every 409 for a container that is there.
	want(t, "false", "storage", "container", "create", "--name", "other", "--account-name", name, "--auth-mode", "key", "--public-access", "blob", "--query", "created")
	want(t, "false", "storage", "account", "update", "--name", name, "--resource-group", live.Group, "--allow-shared-key-access", "false", "--query", "allowSharedKeyAccess")
	want(t, "", "storage", "account", "delete", "--name", name, "--resource-group", live.Group, "--yes")
}
