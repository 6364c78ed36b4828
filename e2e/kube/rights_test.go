package kube_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestStrangersAtTheAPIServer: without credentials there is health and what
// verifies tokens; a pod without rights has none beyond that.
func TestStrangersAtTheAPIServer(t *testing.T) {
	k := shared(t)
	k.pod(t, "c1", "stranger")
	server := "https://" + k.cluster(t, "c1").Address + ":6443"
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // what it answers to whom is the question
	for path, want := range map[string]string{
		"/healthz": "200", "/livez": "200", "/readyz": "200", "/version": "200", "/.well-known/openid-configuration": "200", "/openid/v1/jwks": "200",
		"/": "401", "/api": "401", "/apis": "401", "/metrics": "401", "/logs/": "401", "/debug/pprof/": "401", "/openapi/v2": "401", "/healthz/etcd": "401",
		"/api/v1/namespaces": "401", "/api/v1/secrets": "401", "/api/v1/nodes/x/proxy/pods": "401", "/apis/rbac.authorization.k8s.io/v1/clusterroles": "401",
	} {
		res, err := client.Get(server + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got := fmt.Sprint(res.StatusCode); got != want {
			t.Errorf("nobody asks for %s: got %s, want %s", path, got, want)
		}
	}
	res, err := client.Post(server+"/apis/authentication.k8s.io/v1/tokenreviews", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("nobody asks for a token review: %s", res.Status)
	}

	token, err := k.inside("c1", "stranger", "read", "/var/run/secrets/kubernetes.io/serviceaccount/token")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/secrets", "/api/v1/namespaces/kube-system/pods", "/api/v1/nodes", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "/metrics"} {
		out, err := k.inside("c1", "stranger", "ask", "GET", "https://kubernetes.default.svc"+path, "", "Authorization:Bearer "+strings.TrimSpace(token))
		if err != nil || !strings.HasPrefix(out, "403") {
			t.Errorf("a pod asks for %s: %.200s, %v", path, out, err)
		}
	}
}

// TestNodesFolders: a pod that takes a folder of its node gets that of the
// node, and nothing of the machine's or of laz's.
func TestNodesFolders(t *testing.T) {
	k := shared(t)
	k.apply(t, "c1", fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: takes, namespace: default}
spec:
  securityContext: {runAsUser: 0}
  containers: [{name: app, image: %s, args: [pause], volumeMounts: [{name: v, mountPath: /node}]}]
  volumes: [{name: v, hostPath: {path: /}}]
`, Toybox))
	t.Cleanup(func() { k.forget(t, "c1", "pod", "takes") })
	k.running(t, "c1", "default", "takes")
	for _, dir := range []string{"/run", "/tmp", "/root", "/home", "/var/lib", "/etc"} {
		out, err := k.inside("c1", "takes", "list", "/node"+dir)
		if err != nil {
			if dir == "/run" || dir == "/etc" {
				t.Errorf("the node's %s: %v", dir, err)
			}
			continue // there is none
		}
		for name := range strings.Lines(out) {
			name = strings.TrimSpace(name)
			if strings.HasPrefix(name, "lazurite-") || strings.HasPrefix(name, "laz-e2e") || name == "shadow" || name == "ssh" {
				t.Errorf("a pod sees the machine's %s/%s", dir, name)
			}
		}
	}
	for _, file := range []string{k.Home(), "/etc/shadow", "/run/lazurite-" + k.instance() + "/agent.sock"} {
		if out, err := k.inside("c1", "takes", "stat", "/node"+file); err == nil {
			t.Errorf("a pod sees the machine's %s: %s", file, out)
		}
	}
}

// secrets are what nobody but the owner of a file may read.
var secrets = regexp.MustCompile(`PRIVATE KEY-----|client-key-data:|"client-key-data"|"secret": ?"|"d": ?"[A-Za-z0-9_-]{40}`)

// TestNoKeyIsWorldReadable walks the state folder.
func TestNoKeyIsWorldReadable(t *testing.T) {
	k := shared(t)
	keys := 0
	err := filepath.WalkDir(k.Home(), func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // files come and go
		}
		if err != nil {
			return err
		}
		if d.IsDir() && strings.Contains(path, "/containerd/") {
			return fs.SkipDir // what images are made of
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > 4<<20 {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil || !secrets.Match(raw) {
			return nil
		}
		keys++
		if info.Mode()&0o077 != 0 {
			t.Errorf("%s: %s, %s", strings.TrimPrefix(path, k.Home()), info.Mode(), secrets.Find(raw))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if keys < 5 {
		t.Errorf("only %d files with keys were found: the test looks at the wrong place", keys)
	}
	for _, dir := range []string{k.Home(), filepath.Join(k.Home(), "node"), filepath.Join(k.Home(), "keys"), filepath.Join(k.Home(), "data")} {
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o077 != 0 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
}

// TestControlPlaneWithoutRoot: each of its processes is an ordinary user's, has
// no capabilities and gets none, and shows no secret in its arguments.
func TestControlPlaneWithoutRoot(t *testing.T) {
	k := shared(t)
	c := k.cluster(t, "c1")
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "lazurite-controller"} {
		pid := c.pid(name)
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, field := range []string{"Uid", "Gid"} {
			if m := regexp.MustCompile(`(?m)^` + field + `:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$`).FindSubmatch(raw); m == nil || bytes.Equal(m[1], []byte("0")) || !bytes.Equal(m[1], m[2]) || !bytes.Equal(m[2], m[3]) {
				t.Errorf("%s: %s %q", name, field, m)
			}
		}
		for _, field := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if m := regexp.MustCompile(`(?m)^` + field + `:\s+([0-9a-f]+)$`).FindSubmatch(raw); m == nil || strings.Trim(string(m[1]), "0") != "" {
				t.Errorf("%s: %s %q", name, field, m)
			}
		}
		if !regexp.MustCompile(`(?m)^NoNewPrivs:\s+1$`).Match(raw) || regexp.MustCompile(`(?m)^Groups:[ \t]+\d`).Match(raw) {
			t.Errorf("%s may get rights", name)
		}
	}
	for _, p := range k.processes(t) {
		if regexp.MustCompile(`(?i)PRIVATE KEY|password=|secret=|token=ey`).MatchString(p) {
			t.Errorf("a secret in the arguments: %.100s", p)
		}
	}
}
