package kube_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// identityWorld is what a pod needs to read a secret: an identity that trusts
// the service account default/SA of cluster, a vault with a secret, and the
// owner's right to write it. The identity has no role yet.
func identityWorld(t *testing.T, k *kube, cluster, sa string) (clientID, principal, vault string) {
	t.Helper()
	name := "id-" + sa
	vault = fmt.Sprintf("kube-%s-%d", sa, time.Now().UnixNano()%1e6)
	k.az(t, "identity", "create", "-g", group, "-n", name, "-l", "eastus")
	clientID = k.az(t, "identity", "show", "-g", group, "-n", name, "--query", "clientId", "-o", "tsv")
	principal = k.az(t, "identity", "show", "-g", group, "-n", name, "--query", "principalId", "-o", "tsv")
	issuer := k.az(t, "aks", "show", "-g", group, "-n", cluster, "--query", "oidcIssuerProfile.issuerUrl", "-o", "tsv")
	k.az(t, "identity", "federated-credential", "create", "-g", group, "--identity-name", name, "-n", "fed", "--issuer", issuer,
		"--subject", "system:serviceaccount:default:"+sa, "--audience", "api://AzureADTokenExchange")
	k.az(t, "keyvault", "create", "-g", group, "-n", vault, "-l", "eastus", "--enable-rbac-authorization")
	scope := k.az(t, "keyvault", "show", "-n", vault, "--query", "id", "-o", "tsv")
	owner := k.az(t, "account", "show", "--query", "user.name", "-o", "tsv")
	k.az(t, "role", "assignment", "create", "--assignee", owner, "--role", "Key Vault Secrets Officer", "--scope", scope)
	k.az(t, "keyvault", "secret", "set", "--vault-name", vault, "-n", "my-secret", "--value", "Hello")
	k.apply(t, cluster, fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: %s, namespace: default, annotations: {azure.workload.identity/client-id: "%s"}}
`, sa, clientID))
	return clientID, principal, vault
}

// reader is a pod that reads the vault's secret again and again.
func reader(name, sa, vault, label string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {%s}}
spec:
  serviceAccountName: %s
  containers:
  - name: app
    image: %s
    env: [{name: KEYVAULT_URL, value: "https://%s.vault.azure.net/"}, {name: SECRET_NAME, value: my-secret}]
`, name, label, sa, Reader, vault)
}

const (
	// Reader is the image of examples/msal-go.
	Reader  = "lazurite.dev/examples/msal-go:v1"
	labeled = `azure.workload.identity/use: "true"`
)

// TestPodReadsASecret sees each missing piece refused with its reason in the
// pod's log and in laz explain, and the secret read when all is there.
func TestPodReadsASecret(t *testing.T) {
	k := shared(t)
	_, principal, vault := identityWorld(t, k, "c1", "reader")
	scope := k.az(t, "keyvault", "show", "-n", vault, "--query", "id", "-o", "tsv")
	says := func(pod, want string) {
		t.Helper()
		until(t, 2*time.Minute, pod+" logs "+want, func() (string, error) {
			return k.tryKubectl("c1", "", "logs", pod, "--tail", "40")
		}, func(s string) bool { return strings.Contains(s, want) })
	}

	k.apply(t, "c1", reader("norole", "reader", vault, labeled))
	says("norole", "ForbiddenByRbac")
	if out := k.az(t, "explain"); !strings.Contains(out, "role assignment create") {
		t.Errorf("laz explain does not name the role to give:\n%s", out)
	}

	k.az(t, "role", "assignment", "create", "--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal",
		"--role", "Key Vault Secrets User", "--scope", scope)
	k.apply(t, "c1", reader("reads", "reader", vault, labeled))
	says("reads", `successfully got secret" secret="Hello"`)

	k.apply(t, "c1", reader("nolabel", "reader", vault, "app: nolabel"))
	says("nolabel", "failed to")
	if out := k.kubectl(t, "c1", "get", "pod", "nolabel", "-o", "jsonpath={.spec.containers[0].env[*].name}"); strings.Contains(out, "AZURE_") {
		t.Errorf("a pod without the label was injected: %s", out)
	}

	k.az(t, "identity", "federated-credential", "delete", "-g", group, "--identity-name", "id-reader", "-n", "fed", "--yes")
	k.apply(t, "c1", reader("nofed", "reader", vault, labeled))
	says("nofed", "AADSTS700")
	if out := k.az(t, "explain"); !strings.Contains(out, "federated-credential create") {
		t.Errorf("laz explain does not name the credential to make:\n%s", out)
	}
	k.kubectl(t, "c1", "delete", "pod", "norole", "reads", "nolabel", "nofed", "--grace-period=1", "--wait=false")
}
