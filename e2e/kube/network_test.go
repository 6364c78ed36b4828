package kube_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// tools is a pod in which toybox is called; it has no identity.
func (k *kube) tools(t *testing.T, cluster, name string) {
	t.Helper()
	k.apply(t, cluster, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default}
spec:
  containers:
  - {name: tools, image: %s, args: [pause]}
`, name, Toybox))
	k.running(t, cluster, "default", name)
}

// toybox calls toybox in a pod, and gives all that it said.
func (k *kube) toybox(cluster, pod string, args ...string) string {
	out, err := k.tryKubectl(cluster, "", append([]string{"exec", pod, "--", "/toybox"}, args...)...)
	if err != nil {
		out += err.Error()
	}
	return out
}

// log is what the server logged.
func (k *kube) log(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(k.Home(), "log", "laz.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// address is the cluster's own in its network.
func (k *kube) address(t *testing.T, cluster string) string {
	t.Helper()
	server := k.kubectl(t, cluster, "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
	m := regexp.MustCompile(`^https://([0-9.]+):6443$`).FindStringSubmatch(server)
	if m == nil {
		t.Fatalf("the API server is at %q", server)
	}
	return m[1]
}

// TestNetwork_PodsReachLazuriteAndNothingOfTheHost looks at names, the front
// door and the way out from inside a pod.
func TestNetwork_PodsReachLazuriteAndNothingOfTheHost(t *testing.T) {
	k := shared(t)
	k.tools(t, "c1", "tools")
	front := k.address(t, "c1")
	for _, name := range []string{"no-such-vault.vault.azure.net", "login.microsoftonline.com", "management.azure.com"} {
		if got := k.toybox("c1", "tools", "lookup", name); strings.TrimSpace(got) != front {
			t.Errorf("%s: got %q, want %s", name, got, front)
		}
	}
	if got := k.toybox("c1", "tools", "lookup", "kubernetes.default"); strings.TrimSpace(got) != "10.0.0.1" {
		t.Errorf("kubernetes.default: got %q", got)
	}
	if got := k.toybox("c1", "tools", "lookup", "example.com"); !strings.Contains(got, "no such host") {
		t.Errorf("a stranger's name while offline: got %q", got)
	}
	if got := k.toybox("c1", "tools", "get", "http://v.vault.azure.net/"); !strings.Contains(got, "https only") {
		t.Errorf("the front door without TLS: got %q", got)
	}
	host := strings.TrimSuffix(front, ".2") + ".1"
	for url, why := range map[string]string{
		"http://169.254.169.254/metadata/instance": "link-local", "http://203.0.113.9/": "--offline", "http://198.19.255.2:6443/": "network of Lazurite",
	} {
		begin := time.Now()
		got := k.toybox("c1", "tools", "get", url)
		if !strings.Contains(got, "reset by peer") {
			t.Errorf("%s: got %q after %s, want a reset", url, got, time.Since(begin))
		}
		if log := k.log(t); !strings.Contains(log, "outbound refused") || !strings.Contains(log, why) {
			t.Errorf("%s: the log does not say why (%s)", url, why)
		}
	}
	for _, addr := range []string{host + ":22", host + ":6443", front + ":2379", front + ":15001", front + ":10250"} {
		if got := k.toybox("c1", "tools", "dial", addr); !strings.Contains(got, "refused") && !strings.Contains(got, "prohibited") && !strings.Contains(got, "unreachable") {
			t.Errorf("%s: got %q", addr, got)
		}
	}
	for _, path := range []string{"/metrics", "/v1/status", "/msi/token?resource=https://vault.azure.net", "/device"} {
		if got := k.toybox("c1", "tools", "get", "http://"+front+path); !strings.HasPrefix(got, "404") && !strings.HasPrefix(got, "403") {
			t.Errorf("%s: got %q", path, got)
		}
	}
	k.kubectl(t, "c1", "delete", "pod", "tools", "--grace-period=1", "--wait=false")
}

// TestDoctorAndExplainPod: what is missing in a pod is named before anybody
// reads its log.
func TestDoctorAndExplainPod(t *testing.T) {
	k := shared(t)
	clientID, _, vault := identityWorld(t, k, "c1", "patient")
	k.apply(t, "c1", strings.ReplaceAll(reader("unlabelled", "patient", vault, "app: unlabelled"), Reader, Toybox))
	k.apply(t, "c1", strings.ReplaceAll(reader("labelled", "patient", vault, labeled), Reader, Toybox))
	k.running(t, "c1", "default", "unlabelled")
	k.running(t, "c1", "default", "labelled")
	out := k.az(t, "explain", "pod", "default/labelled", "--cluster", "c1")
	for _, want := range []string{"yes: system:serviceaccount:default:patient", clientID, "issuer, subject and audience match", "variables and token file in app"} {
		if !strings.Contains(out, want) {
			t.Errorf("laz explain pod does not say %q:\n%s", want, out)
		}
	}
	if out, err := k.Laz("explain", "pod", "default/unlabelled", "--cluster", "c1"); err == nil || !strings.Contains(out+err.Error(), "the pod has no label") {
		t.Errorf("laz explain pod does not miss the label: %v\n%s", err, out)
	}
	out, err := k.Laz("doctor")
	if err == nil || !strings.Contains(out+err.Error(), "default/unlabelled") || strings.Contains(out+err.Error(), "default/labelled") {
		t.Errorf("laz doctor: %v\n%s", err, out)
	}
	k.kubectl(t, "c1", "delete", "pod", "labelled", "unlabelled", "--grace-period=1")
	until(t, time.Minute, "laz doctor finds nothing", func() (string, error) { return k.Laz("doctor") }, func(s string) bool {
		return strings.Contains(s, "1 node ready") && strings.Contains(s, "All is well.")
	})
	if out := k.az(t, "status"); !strings.Contains(out, "c1") || !strings.Contains(out, "apiserver") || strings.Contains(out, "✗") {
		t.Errorf("laz status:\n%s", out)
	}
	if out := k.az(t, "image", "list", "--cluster", "c1"); !strings.Contains(out, Toybox) || !strings.Contains(out, "1 node") {
		t.Errorf("laz image list:\n%s", out)
	}
}
