package kube_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const hookSpace = "azure-workload-identity-system"

// proxied gives plain HTTP access to a cluster's API server while the test runs.
func (k *kube) proxied(t *testing.T, cluster string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := k.Command(ctx, k.Bin, "run", "--", "kubectl", "--kubeconfig", k.config(cluster), "proxy", "--port=0", "--reject-paths=^$")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(line[strings.LastIndex(line, " ")+1:])
}

// hooked is a pod as the API server made it, as far as these tests look at it.
type hooked struct {
	Spec struct {
		Containers []struct {
			Env []struct{ Name, Value string }
		}
	}
	Message string
}

func (h *hooked) env(name string) string {
	for _, c := range h.Spec.Containers {
		for _, e := range c.Env {
			if e.Name == name {
				return e.Value
			}
		}
	}
	return ""
}

// makePod posts a pod that asks for an identity.
func makePod(server, namespace, account, query string) (hooked, error) {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"probe-","labels":{"azure.workload.identity/use":"true","probe":"hook"}},
		"spec":{"serviceAccountName":%q,"schedulerName":"nobody","containers":[{"name":"a","image":"a"}]}}`, account)
	var pod hooked
	resp, err := http.Post(server+"/api/v1/namespaces/"+namespace+"/pods"+query, "application/json", strings.NewReader(body))
	if err != nil {
		return pod, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return pod, err
	}
	if err := json.Unmarshal(b, &pod); err != nil {
		return pod, err
	}
	if resp.StatusCode != http.StatusCreated {
		return pod, fmt.Errorf("%s: %s", resp.Status, pod.Message)
	}
	return pod, nil
}

func (k *kube) account(t *testing.T, cluster, namespace, name, client string) {
	t.Helper()
	k.apply(t, cluster, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s, annotations: {azure.workload.identity/client-id: "%[3]s"}}
`, namespace, name, client))
}

// TestWebhookRollingRestart makes pods all the while that the webhook's pods
// are replaced: none is refused, none comes in without its identity.
func TestWebhookRollingRestart(t *testing.T) {
	k := shared(t)
	k.account(t, "c1", "rolling", "r", "client")
	server := k.proxied(t, "c1")
	var stop atomic.Bool
	var made atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, 1000)
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				pod, err := makePod(server, "rolling", "r", "?dryRun=All")
				if err == nil && pod.env("AZURE_CLIENT_ID") != "client" {
					err = fmt.Errorf("a pod was missed: %+v", pod)
				}
				if err != nil {
					select {
					case errs <- err:
					default:
					}
				}
				made.Add(1)
			}
		})
	}
	k.kubectl(t, "c1", "-n", hookSpace, "rollout", "restart", "deployment/azure-wi-webhook-controller-manager")
	k.kubectl(t, "c1", "-n", hookSpace, "rollout", "status", "deployment/azure-wi-webhook-controller-manager", "--timeout=90s")
	until(t, time.Minute, "the old ones are gone", func() (string, error) {
		return k.tryKubectl("c1", "", "-n", hookSpace, "get", "pods", "-o", "name")
	}, func(s string) bool { return strings.Count(s, "\n") == 1 })
	stop.Store(true)
	wg.Wait()
	close(errs)
	n := 0
	for err := range errs {
		if n++; n <= 3 {
			t.Error(err)
		}
	}
	t.Logf("%d pods during the restart, %d refused or missed", made.Load(), n)
}

// TestWebhookKilled: its processes are killed hard, both; pods are refused, not
// missed, until they are back.
func TestWebhookKilled(t *testing.T) {
	k := shared(t)
	k.account(t, "c1", "killed", "r", "client")
	server := k.proxied(t, "c1")
	k.kubectl(t, "c1", "-n", hookSpace, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
	refused := 0
	until(t, 2*time.Minute, "pods come in again", func() (string, error) {
		pod, err := makePod(server, "killed", "r", "?dryRun=All")
		if err != nil {
			refused++
			return "", err
		}
		return pod.env("AZURE_CLIENT_ID"), nil
	}, func(s string) bool {
		if s != "client" {
			t.Fatalf("a pod was missed: %q", s)
		}
		return true
	})
	t.Logf("%d refused meanwhile", refused)
	k.kubectl(t, "c1", "-n", hookSpace, "rollout", "status", "deployment/azure-wi-webhook-controller-manager", "--timeout=90s")
}

// TestManyPods makes 200 pods at once, each of a service account that is made
// with it: all get their own identity.
func TestManyPods(t *testing.T) {
	k := shared(t)
	const pods = 200
	k.account(t, "c1", "many", "r", "client")
	server := k.proxied(t, "c1")
	t.Cleanup(func() { k.kubectl(t, "c1", "delete", "namespace", "many", "--wait=false") })
	errs := make(chan error, pods)
	start := time.Now()
	for i := range pods {
		go func() {
			account := fmt.Sprint("a", i)
			body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":%q,"annotations":{"azure.workload.identity/client-id":%q}}}`, account, account)
			resp, err := http.Post(server+"/api/v1/namespaces/many/serviceaccounts", "application/json", bytes.NewReader([]byte(body)))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				var pod hooked
				if pod, err = makePod(server, "many", account, ""); err == nil && pod.env("AZURE_CLIENT_ID") != account {
					err = fmt.Errorf("pod of %s: %+v", account, pod)
				}
			}
			errs <- err
		}()
	}
	for range pods {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d service accounts and pods in %v", pods, time.Since(start).Round(time.Millisecond))
}

// TestProxySidecar: a program that knows only the instance metadata service
// gets a token of the pod's identity from the sidecar.
func TestProxySidecar(t *testing.T) {
	k := shared(t)
	client, _, _ := identityWorld(t, k, "c1", "imds")
	k.apply(t, "c1", fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: imds, namespace: default}
spec:
  backoffLimit: 0
  template:
    metadata:
      labels: {azure.workload.identity/use: "true"}
      annotations: {azure.workload.identity/inject-proxy-sidecar: "true", azure.workload.identity/proxy-sidecar-port: "8123"}
    spec:
      restartPolicy: Never
      serviceAccountName: imds
      containers:
      - {name: app, image: %s, args: [get, "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"]}
`, Toybox))
	until(t, 2*time.Minute, "the job ends, sidecar or not", func() (string, error) {
		return k.tryKubectl("c1", "", "get", "job", "imds", "-o", "jsonpath={.status.succeeded}{.status.failed}")
	}, func(s string) bool { return s == "1" })
	out := k.kubectl(t, "c1", "logs", "job/imds", "-c", "app")
	if !strings.Contains(out, `"access_token":"ey`) || !strings.Contains(out, `"token_type":"Bearer"`) {
		t.Errorf("got %s, logs of the proxy: %s", out, k.kubectl(t, "c1", "logs", "job/imds", "-c", "azwi-proxy"))
	}
	if out := k.kubectl(t, "c1", "get", "pods", "-l", "job-name=imds", "-o", "jsonpath={.items[0].spec.initContainers[*].name} {.items[0].spec.containers[0].env[0].value}"); out != "azwi-proxy azwi-proxy-init "+client {
		t.Errorf("got %s", out)
	}
	k.kubectl(t, "c1", "delete", "job", "imds", "--wait=false")
}

// TestRefusedAtAdmission: what a pod can't have is said where it is made.
func TestRefusedAtAdmission(t *testing.T) {
	k := shared(t)
	for annotations, want := range map[string]string{
		`azure.workload.identity/service-account-token-expiration: "60"`:                                    "token expiration 60 not valid. Expected value to be between 3600 and 86400",
		`azure.workload.identity/inject-proxy-sidecar: "", azure.workload.identity/proxy-sidecar-port: "p"`: "failed to parse proxy sidecar port",
	} {
		_, err := k.tryKubectl("c1", fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: refused, namespace: default, labels: {azure.workload.identity/use: "true"}, annotations: {%s}}
spec: {containers: [{name: a, image: a}]}
`, annotations), "create", "-f", "-")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
