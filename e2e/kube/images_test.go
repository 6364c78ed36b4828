package kube_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// TestImages: what laz image build makes of a folder runs in one cluster, and
// what no cluster is named for is in all.
func TestImages(t *testing.T) {
	k := shared(t)
	root := filepath.Join(t.TempDir(), "root")
	program, err := os.ReadFile(filepath.Join(k.Dir, "toybox")) // start built it
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"bin/box": program, "etc/motto": []byte("of a folder")} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	k.az(t, "image", "build", "-t", "lazurite.dev/folder:v1", "--entrypoint", "/bin/box", "--load", "--cluster", "c1", root)
	list := k.az(t, "image", "list", "--cluster", "c1")
	for _, want := range []string{"lazurite.dev/folder:v1", Toybox, Reader, "lazurite.dev/pause:3.10"} {
		if !strings.Contains(list, want) {
			t.Errorf("laz image list does not show %s:\n%s", want, list)
		}
	}
	k.apply(t, "c1", `
apiVersion: v1
kind: Pod
metadata: {name: folder, namespace: default}
spec: {containers: [{name: box, image: "lazurite.dev/folder:v1", args: [serve]}]}
`)
	k.running(t, "c1", "default", "folder")
	k.kubectl(t, "c1", "delete", "pod", "folder", "--grace-period=1", "--wait=false")
	if _, err := k.Laz("image", "load", "--cluster", "nobody", filepath.Join(images, "msal-go.tar")); err == nil || !strings.Contains(err.Error(), "there is no cluster 'nobody'") {
		t.Errorf("loading into no cluster: %v", err)
	}
}

// TestNodePodReadsASecret: the same with Microsoft's SDKs for JavaScript.
func TestNodePodReadsASecret(t *testing.T) {
	k := shared(t)
	archive := filepath.Join(images, "msal-node.tar")
	live.Need(t, there(archive), "the example's image, of Node.js (make images)")
	k.az(t, "image", "load", archive)
	_, principal, vault := identityWorld(t, k, "c1", "noder")
	scope := k.az(t, "keyvault", "show", "-n", vault, "--query", "id", "-o", "tsv")
	k.az(t, "role", "assignment", "create", "--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal",
		"--role", "Key Vault Secrets User", "--scope", scope)
	k.apply(t, "c1", strings.Replace(reader("noder", "noder", vault, labeled), Reader, "lazurite.dev/examples/msal-node:v1", 1))
	until(t, 2*time.Minute, "the pod logs the secret", func() (string, error) {
		return k.tryKubectl("c1", "", "logs", "noder", "--tail", "40")
	}, func(s string) bool {
		return strings.Contains(s, fmt.Sprintf(`"successfully got secret" secret=%q`, "Hello"))
	})
	k.kubectl(t, "c1", "delete", "pod", "noder", "--grace-period=1", "--wait=false")
}
