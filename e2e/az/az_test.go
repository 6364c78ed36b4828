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
