package kube_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// show gives a value of a cluster in tsv.
func (k *kube) show(t *testing.T, cluster, query string) string {
	t.Helper()
	return k.az(t, "aks", "show", "-g", group, "-n", cluster, "--query", query, "-o", "tsv")
}

// TestPoolsAreNodes adds a pool, scales it, labels and taints it, and takes it away.
func TestPoolsAreNodes(t *testing.T) {
	k := shared(t)
	pool := func(verb string, more ...string) string {
		t.Helper()
		return k.az(t, append([]string{"aks", "nodepool", verb, "-g", group, "--cluster-name", "c1"}, more...)...)
	}
	nodes := func(columns string) string {
		t.Helper()
		return k.kubectl(t, "c1", "get", "nodes", "-l", "agentpool=two", "-o", "jsonpath={range .items[*]}"+columns+" {end}")
	}
	pool("add", "-n", "two", "-c", "1", "-s", "Standard_B2s", "--max-pods", "20", "--labels", "team=blue", "--node-taints", "only=this:NoSchedule", "-o", "none")
	if got := nodes("{.metadata.labels.team},{.spec.taints[0].key},{.status.capacity.pods}"); got != "blue,only,20 " {
		t.Errorf("got %q", got)
	}
	// Standard_B2s: 4 GiB, give or take what is rounded.
	if got, err := strconv.Atoi(strings.TrimSuffix(nodes("{.status.allocatable.memory}"), "Ki ")); err != nil || got < 3<<20 || got > 4<<20+4<<10 {
		t.Errorf("a Standard_B2s has %d KiB, %v", got, err)
	}
	pool("scale", "-n", "two", "-c", "2", "-o", "none")
	if got := strings.Fields(nodes("{.metadata.name}")); len(got) != 2 || !strings.HasPrefix(got[1], "aks-two-") || !strings.HasSuffix(got[1], "-vmss000001") {
		t.Errorf("got %q", got)
	}
	pool("update", "-n", "two", "--labels", "team=red", "--node-taints", "", "-o", "none")
	if got := nodes("{.metadata.labels.team},{.spec.taints}"); got != "red, red, " {
		t.Errorf("got %q", got)
	}
	if _, err := k.Within(time.Minute, "aks", "nodepool", "update", "-g", group, "--cluster-name", "c1", "-n", "two", "--enable-cluster-autoscaler", "--min-count", "1", "--max-count", "3"); err == nil || !strings.Contains(err.Error(), "NotSupportedByDriver") {
		t.Errorf("got %v", err)
	}
	pool("delete", "-n", "two")
	if got := nodes("{.metadata.name}"); got != "" {
		t.Errorf("got %q", got)
	}
}

// TestKeysRotate: tokens of both keys are known to all, new ones have the new key.
func TestKeysRotate(t *testing.T) {
	k := shared(t)
	kid := func() string {
		t.Helper()
		token := k.kubectl(t, "c1", "create", "token", "default", "--audience", "api://AzureADTokenExchange")
		raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
		if err != nil {
			t.Fatal(err)
		}
		var header struct{ Kid string }
		if err := json.Unmarshal(raw, &header); err != nil {
			t.Fatal(err)
		}
		return header.Kid
	}
	old := kid()
	k.az(t, "aks", "oidc-issuer", "rotate-signing-keys", "-g", group, "-n", "c1", "--yes")
	fresh := kid()
	keys := k.kubectl(t, "c1", "get", "--raw", "/openid/v1/jwks")
	if fresh == old || !strings.Contains(keys, old) || !strings.Contains(keys, fresh) {
		t.Errorf("the key %s became %s; published are %s", old, fresh, keys)
	}
	published, err := live.Exec(k.Command(t.Context(), k.Bin, "run", "--", "curl", "-sf", k.show(t, "c1", "oidcIssuerProfile.issuerUrl")+"openid/v1/jwks"))
	if err != nil || !strings.Contains(published, old) || !strings.Contains(published, fresh) {
		t.Errorf("published are %s, %v", published, err)
	}
}

// TestDisableInjection: new pods get nothing, and it comes back.
func TestDisableInjection(t *testing.T) {
	k := shared(t)
	env := func() string {
		t.Helper()
		out, err := k.tryKubectl("c1", `
apiVersion: v1
kind: Pod
metadata: {name: probe, namespace: default, labels: {azure.workload.identity/use: "true"}}
spec: {containers: [{name: a, image: x}]}
`, "create", "--dry-run=server", "-f", "-", "-o", "jsonpath={.spec.containers[0].env[*].name}")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := env(); !strings.Contains(got, "AZURE_FEDERATED_TOKEN_FILE") {
		t.Errorf("got %q", got)
	}
	k.az(t, "aks", "update", "-g", group, "-n", "c1", "--disable-workload-identity", "-o", "none")
	if got := env(); got != "" {
		t.Errorf("turned off: got %q", got)
	}
	k.az(t, "aks", "update", "-g", group, "-n", "c1", "--enable-workload-identity", "-o", "none")
	if got := env(); !strings.Contains(got, "AZURE_FEDERATED_TOKEN_FILE") {
		t.Errorf("turned on again: got %q", got)
	}
}

// TestTwoAtOnce makes two clusters at the same time, one of which is deleted
// while it is made; the other refuses network policies.
func TestTwoAtOnce(t *testing.T) {
	k := shared(t)
	var wg sync.WaitGroup
	var gone, made error
	wg.Go(func() { gone = k.create("gone") })
	wg.Go(func() { made = k.create("nopolicy", "--network-policy", "none") })
	if !live.Until(time.Minute, func() bool {
		state, err := k.Within(time.Minute, "aks", "show", "-g", group, "-n", "gone", "--query", "provisioningState", "-o", "tsv")
		return err == nil && strings.TrimSpace(state) == "Creating"
	}) {
		t.Fatal("the cluster was not begun")
	}
	k.az(t, "aks", "delete", "-g", group, "-n", "gone", "--yes")
	wg.Wait()
	if gone == nil || !strings.Contains(gone.Error(), "OperationPreempted") {
		t.Errorf("the creation that was cut off: %v", gone)
	}
	if made != nil {
		t.Fatal(made)
	}
	_, err := k.tryKubectl("nopolicy", `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: default}
spec: {podSelector: {}}
`, "create", "-f", "-")
	if err == nil || !strings.Contains(err.Error(), "created with --network-policy none") {
		t.Errorf("got %v", err)
	}
	k.az(t, "aks", "delete", "-g", group, "-n", "nopolicy", "--yes")
	if out := k.az(t, "status"); strings.Contains(out, "nopolicy") || strings.Contains(out, "● gone") {
		t.Errorf("a deleted cluster is left:\n%s", out)
	}
}

// TestCredentialsMerge keeps a kubeconfig's other entries, and a broken one as it is.
func TestCredentialsMerge(t *testing.T) {
	k := shared(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	get := func(more ...string) (string, error) {
		return k.Within(time.Minute, append([]string{"aks", "get-credentials", "-g", group, "-n", "c1"}, more...)...)
	}
	if err := os.WriteFile(file, []byte("{not yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := get("--file", file); err == nil {
		t.Error("a broken file is overwritten")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "{not yaml" {
		t.Errorf("got %q, %v", b, err)
	}
	other := "apiVersion: v1\nkind: Config\nclusters: [{name: mine, cluster: {server: https://mine.example}}]\ncontexts: []\nusers: []\n"
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{{}, {"--admin"}, {"--overwrite-existing"}} {
		if _, err := get(append(more, "--file", file)...); err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(file)
	for _, want := range []string{"mine.example", "clusterUser_kube_c1", "clusterAdmin_kube_c1", "name: c1-admin", "current-context: c1\n"} {
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s is missing, %v", want, err)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	if out, err := get("--file", "-"); err != nil || !strings.HasPrefix(out, "apiVersion: v1") {
		t.Errorf("got %q, %v", out, err)
	}
}
