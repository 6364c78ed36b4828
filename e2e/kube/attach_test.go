package kube_test

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestAttach treats a cluster as somebody else's: what the driver put there is
// taken away, and the cluster is attached by its kubeconfig. A pod in it reads
// a secret; after detaching, the cluster is as it was.
func TestAttach(t *testing.T) {
	k := alone(t)
	if err := k.create("stranger"); err != nil {
		t.Fatal(err)
	}
	k.kubectl(t, "stranger", "delete", "mutatingwebhookconfigurations", "lazurite-ca-bundle", "azure-wi-webhook-mutating-webhook-configuration")
	k.kubectl(t, "stranger", "delete", "namespace", hookSpace)
	k.kubectl(t, "stranger", "delete", "clusterrole,clusterrolebinding", "-l", "azure-workload-identity.io/system=true")
	objects := func() string {
		return k.kubectl(t, "stranger", "get", "-A", "-o", "name",
			"namespaces,deployments,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,roles,rolebindings,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations")
	}
	corefile := func() string {
		return k.kubectl(t, "stranger", "-n", "kube-system", "get", "configmap", "coredns", "-o", "jsonpath={.data.Corefile}")
	}
	before, resolver := objects(), corefile()

	server := k.kubectl(t, "stranger", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
	door, _, _ := strings.Cut(strings.TrimPrefix(server, "https://"), ":")
	k.az(t, "cluster", "attach", "mine", "--kubeconfig", k.config("stranger"), "--front-door", door)
	if out := k.az(t, "cluster", "list", "--query", "[].existingClusterProfile.server", "-o", "tsv"); out != server {
		t.Errorf("got %s", out)
	}
	if out := k.az(t, "cluster", "show", "mine"); strings.Contains(out, "kubeconfig") || strings.Contains(out, "client-key") {
		t.Errorf("the access is shown: %s", out)
	}
	if _, err := k.Laz("cluster", "attach", "again", "--kubeconfig", k.config("stranger")); err == nil || !strings.Contains(err.Error(), "attached as") {
		t.Errorf("attached twice: %v", err)
	}
	k.az(t, "cluster", "detach", "again")

	_, principal, vault := identityWorld(t, k, "stranger", "reader")
	scope := k.az(t, "keyvault", "show", "-n", vault, "--query", "id", "-o", "tsv")
	k.az(t, "role", "assignment", "create", "--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal",
		"--role", "Key Vault Secrets User", "--scope", scope)
	k.apply(t, "stranger", reader("reads", "reader", vault, labeled))
	until(t, 2*time.Minute, "the pod reads the secret", func() (string, error) {
		return k.tryKubectl("stranger", "", "logs", "reads", "--tail", "40")
	}, func(s string) bool { return strings.Contains(s, `successfully got secret" secret="Hello"`) })

	k.az(t, "cluster", "detach", "mine")
	k.kubectl(t, "stranger", "delete", "pod", "reads", "--grace-period=1")
	k.kubectl(t, "stranger", "delete", "serviceaccount", "reader")
	until(t, time.Minute, "the cluster is as it was", func() (string, error) { return objects(), nil }, func(s string) bool { return s == before })
	if got := corefile(); got != resolver {
		t.Errorf("the Corefile is another:\n%s", got)
	}
	if out := k.az(t, "cluster", "list", "-o", "tsv"); out != "" {
		t.Errorf("got %s", out)
	}
}

// TestAttachRefuses: what can't be attached is said so.
func TestAttachRefuses(t *testing.T) {
	k := shared(t)
	config, err := os.ReadFile(k.config("c1"))
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/config"
	for name, test := range map[string]struct{ old, new, want string }{
		"not ours to take": {"", "", "not by this"},
		"not checked":      {"certificate-authority-data", "insecure-skip-tls-verify: true #", "insecure-skip-tls-verify"},
		"a program":        {"client-certificate-data", "exec: {command: sh} #", "signs in with a program"},
		"nobody there":     {":6443", ":6444", "can't be attached"},
		"another context":  {"current-context", "other", "has no context"},
	} {
		if err := os.WriteFile(file, []byte(strings.Replace(string(config), test.old, test.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if test.old == "" {
			if err := os.WriteFile(file, config, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := k.Laz("cluster", "attach", "refused", "--kubeconfig", file); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	_, _ = k.Laz("cluster", "detach", "refused") // it may be there, failed
	k.kubectl(t, "c1", "-n", hookSpace, "get", "deployment", "azure-wi-webhook-controller-manager")
}
