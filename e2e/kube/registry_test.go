package kube_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// push puts the toybox into a registry, as whoever is signed in.
func (k *kube) push(t *testing.T, registry, to string) {
	t.Helper()
	env := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^export ([A-Z_]+)='?([^'\n]*)'?$`).FindAllStringSubmatch(k.az(t, "env"), -1) {
		env[m[1]] = m[2]
	}
	proxy, err := url.Parse(env["HTTPS_PROXY"])
	if err != nil || proxy.Host == "" {
		t.Fatalf("laz env: %v, %v", env, err)
	}
	roots, err := os.ReadFile(env["SSL_CERT_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	img, err := crane.Load(filepath.Join(k.Dir, "toybox.tar"))
	if err != nil {
		t.Fatal(err)
	}
	// The kubelet takes what it pulled with credentials for nobody's but theirs,
	// whatever name it has: this must not be the image that was loaded.
	if img, err = mutate.CreatedAt(img, v1.Time{Time: time.Unix(1e9, 0)}); err != nil {
		t.Fatal(err)
	}
	token := k.az(t, "acr", "login", "--name", registry, "--expose-token", "--query", "accessToken", "-o", "tsv")
	err = crane.Push(img, to, crane.WithAuth(&authn.Basic{Username: "00000000-0000-0000-0000-000000000000", Password: token}),
		crane.WithTransport(&http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool}}))
	if err != nil {
		t.Fatal(err)
	}
}

// pulled is the manifest of a pod that runs an image, which is pulled each time.
func pulled(name, image string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: %s, imagePullPolicy: Always, args: [pause]}]
`, name, image)
}

// TestPullWithTheKubeletsIdentity: an attached registry's images run without
// pull secrets; once it is detached the next pull is refused, and the pod says
// why.
func TestPullWithTheKubeletsIdentity(t *testing.T) {
	k := shared(t)
	const registry, server = "kubepulls", "kubepulls.azurecr.io"
	k.az(t, "acr", "create", "--resource-group", group, "--name", registry, "--sku", "Basic")
	t.Cleanup(func() { k.az(t, "acr", "delete", "--name", registry, "--yes") })
	k.push(t, registry, server+"/toybox:v1")

	update := []string{"aks", "update", "--resource-group", group, "--name", "c1"}
	k.az(t, append(update, "--attach-acr", registry)...)
	k.apply(t, "c1", pulled("puller", server+"/toybox:v1"))
	t.Cleanup(func() { k.forget(t, "c1", "pod", "puller", "late", "nosy") })
	k.running(t, "c1", "default", "puller")

	k.az(t, append(update, "--detach-acr", registry)...)
	k.apply(t, "c1", pulled("late", server+"/toybox:v1"))
	events := until(t, 90*time.Second, "the pod says why it can't be pulled", func() (string, error) {
		return k.tryKubectl("c1", "", "get", "events", "--field-selector", "involvedObject.name=late,reason=FailedToGetImageCredentials", "-o", "jsonpath={.items[*].message}")
	}, func(s string) bool { return s != "" })
	for _, want := range []string{"403", "Microsoft.ContainerRegistry/registries/pull/read", "az aks update --name c1 --resource-group " + group + " --attach-acr " + registry} {
		if !strings.Contains(events, want) {
			t.Errorf("the event does not say %q: %s", want, events)
		}
	}
	out := until(t, time.Minute, "laz explain sees it", func() (string, error) {
		out, _ := k.Laz("explain", "pod", "default/late", "--cluster", "c1") // it says no
		return out, nil
	}, func(s string) bool { return strings.Contains(s, "image") && strings.Contains(s, "Pull") })
	for _, want := range []string{"AcrPull", "--attach-acr " + registry} {
		if !strings.Contains(out, want) {
			t.Errorf("laz explain does not say %q:\n%s", want, out)
		}
	}
	k.az(t, append(update, "--attach-acr", registry)...)
	k.kubectl(t, "c1", "delete", "pod", "late", "--grace-period=1")
	k.apply(t, "c1", pulled("late", server+"/toybox:v1"))
	k.running(t, "c1", "default", "late")

	k.noPodIsTheKubelet(t)
}

// noPodIsTheKubelet looks in all places that a pod sees, one of the node's own
// network and processes too, for what proves the kubelet's identity, and asks
// for its token with everything but that.
func (k *kube) noPodIsTheKubelet(t *testing.T) {
	t.Helper()
	pid := k.pid(t, "c1", "kubelet")
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, secret, ok := strings.Cut(string(environ), "LAZURITE_KUBELET_SECRET=")
	if secret, _, _ = strings.Cut(secret, "\x00"); !ok || len(secret) < 32 {
		t.Fatal("the kubelet has no secret: the test looks at the wrong place")
	}
	k.apply(t, "c1", fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: nosy, namespace: default}
spec:
  hostNetwork: true
  hostPID: true
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 0}
  containers: [{name: app, image: %s, args: [pause], volumeMounts: [{name: v, mountPath: /node}]}]
  volumes: [{name: v, hostPath: {path: /}}]
`, Toybox))
	k.running(t, "c1", "default", "nosy")
	for _, file := range []string{fmt.Sprintf("/proc/%d/environ", pid), fmt.Sprintf("/node/proc/%d/environ", pid)} {
		if out, err := k.inside("c1", "nosy", "read", file); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("a pod reads %s: %d bytes, %v", file, len(out), err)
		}
	}
	found, files := k.search(t, secret, "/node/run/lazurite/files", 0)
	if found != "" || files < 5 {
		t.Errorf("of %d files that a pod sees of its node, %q has the kubelet's secret", files, found)
	}
	const query = "?api-version=2019-08-01&resource=https://containerregistry.azure.net"
	for _, ask := range [][]string{
		{"http://" + k.address(t, "c1") + "/msi/token" + query, "X-IDENTITY-HEADER:guess"},
		{"https://login.microsoftonline.com/msi/token" + query, "X-IDENTITY-HEADER:guess"},
		{"https://login.microsoftonline.com/msi/token" + query},
		{"http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://containerregistry.azure.net", "Metadata:true"},
	} {
		for _, pod := range []string{"nosy", "puller"} {
			out, err := k.inside("c1", pod, append([]string{"ask", "GET", ask[0], ""}, ask[1:]...)...)
			if err == nil && (strings.HasPrefix(out, "200") || strings.Contains(out, "access_token")) {
				t.Errorf("the pod %s asks %s: %s", pod, ask[0], out)
			}
		}
	}
}

// search looks for text in the files that the pod nosy sees below dir.
func (k *kube) search(t *testing.T, text, dir string, deep int) (found string, files int) {
	t.Helper()
	list, err := k.inside("c1", "nosy", "list", dir)
	if err != nil || deep > 3 {
		return "", 0
	}
	for name := range strings.Lines(list) {
		path := dir + "/" + strings.TrimSpace(name)
		if out, err := k.inside("c1", "nosy", "read", path); err == nil {
			if files++; strings.Contains(out, text) {
				found = path
			}
			continue
		}
		f, n := k.search(t, text, path, deep+1)
		if files += n; f != "" {
			found = f
		}
	}
	return found, files
}
