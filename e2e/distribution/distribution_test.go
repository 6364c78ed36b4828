// Package distribution_test runs the conformance suite of the Open Container
// Initiative's distribution specification, the module's own program unmodified,
// against a registry of laz.
package distribution_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"lazurite.dev/e2e/live"
)

const suite = "github.com/opencontainers/distribution-spec/conformance"

var cloud live.Cloud

func TestMain(m *testing.M) {
	os.Exit(live.MainWith(m, &cloud, live.IssuersOnly, func(c *live.Cloud) error {
		c.Vars["SUITE"] = filepath.Join(c.Dir, "conformance")
		if out, err := exec.Command("go", "build", "-o", c.Vars["SUITE"], suite).CombinedOutput(); err != nil {
			return fmt.Errorf("building the suite: %w\n%s", err, out)
		}
		for _, args := range [][]string{
			{"group", "create", "--name", "oci", "--location", "eastus"},
			{"acr", "create", "--name", "conformance", "--resource-group", "oci", "--sku", "Basic", "--admin-enabled", "true"},
		} {
			if _, err := c.Laz(args...); err != nil {
				return err
			}
		}
		var err error
		c.Vars["PASSWORD"], err = c.TSV("acr", "credential", "show", "--name", "conformance", "--query", "passwords[0].value")
		return err
	}))
}

func TestConformance(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), cloud.Vars["SUITE"])
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OCI_REGISTRY=conformance.azurecr.io", "OCI_TLS=enabled", "OCI_REPO1=suite/one", "OCI_REPO2=suite/two",
		"OCI_USERNAME=conformance", "OCI_PASSWORD="+cloud.Vars["PASSWORD"], "OCI_RESULTS_DIR="+dir, "OCI_LOG=warn", "OCI_VERSION=1.1",
		"OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, bad := range []string{"FAIL", "Error"} {
		if m := regexp.MustCompile(`(?m)^ *` + bad + `\.+: +(\d+)$`).FindSubmatch(out); m == nil || string(m[1]) != "0" {
			t.Errorf("%s: %q\n%s", bad, m, out)
		}
	}
	if m := regexp.MustCompile(`(?m)^ *Pass\.+: +(\d{3,})$`).FindSubmatch(out); m == nil {
		t.Errorf("too few checks passed:\n%s", out)
	}
}
