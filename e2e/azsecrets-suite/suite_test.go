// Package suite_test runs the tests that Microsoft ships inside its Go modules
// for Key Vault, in their live mode, against laz: the modules' own sources,
// unmodified, under `laz run --as` a service account that may administer the
// vault.
package suite_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

var cloud live.Cloud

func TestMain(m *testing.M) {
	os.Exit(live.Main(m, &cloud, func(c *live.Cloud) error {
		if err := live.World(c); err != nil {
			return err
		}
		_, err := c.Laz("role", "assignment", "create", "--assignee-object-id", c.Vars["PRINCIPAL_ID"], "--assignee-principal-type", "ServicePrincipal",
			"--role", "Key Vault Administrator", "--scope", c.Vars["VAULT_ID"])
		return err
	}))
}

// excluded is a test of a suite that cannot pass here, and why.
type excluded struct {
	name string
	why  string
	says string // what the refusal says; "" where the test would wait minutes before it failed
}

// Further tests of azkeys skip themselves: they ask for a managed HSM by
// AZURE_MANAGEDHSM_URL (every subtest MHSM, TestEncryptDecryptSymmetric,
// TestGetRandomBytes).
var suites = []struct {
	module string
	passes []string // tests that must be among those that ran
	cannot []excluded
}{
	{"azsecrets", []string{"TestBackupRestore", "TestCRUD", "TestListDeletedSecrets", "TestListSecrets", "TestListSecretVersions", "TestRecover"}, nil},
	{"azkeys", []string{"TestBackupRestore", "TestCRUD", "TestListKeys", "TestListKeyVersions", "TestListDeletedKeys", "TestRecoverDeletedKey", "TestSignVerify", "TestWrapUnwrap"}, []excluded{
		{"TestEncryptDecrypt", "creates a key of the type RSA-HSM: there is no hardware security module", "RSA-HSM keys live in a hardware security module"},
		{"TestImportKey", "imports with hsm set: there is no hardware security module", "no hardware security module to import the key into"},
		{"TestRotateKey", "creates a key of the type EC-HSM: there is no hardware security module", "EC-HSM keys live in a hardware security module"},
		{"TestReleaseKey", "creates a key of the type EC-HSM and releases it against an attestation service", ""},
	}},
	{"azcertificates", []string{"TestBackupRestore", "TestContactsCRUD", "TestCRUD", "TestDeleteRecover", "TestImportCertificate", "TestIssuerCRUD", "TestListCertificates", "TestListCertificateVersions", "TestMergeCertificate", "TestOperationCRUD"}, []excluded{
		{"TestUpdateCertificatePolicy", "asks for certificates on P-256K, which are not made", "certificates are not made on P-256K"},
	}},
}

func TestSuites(t *testing.T) {
	for _, s := range suites {
		t.Run(s.module, func(t *testing.T) {
			dir, bin := build(t, "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/"+s.module)
			var names []string
			for _, x := range s.cannot {
				t.Logf("left out: %s %s", x.name, x.why)
				names = append(names, x.name)
			}
			args := []string{"-test.v"}
			if len(names) > 0 {
				args = append(args, "-test.skip=^("+strings.Join(names, "|")+")$")
			}
			out, err := run(t, dir, bin, args...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, name := range s.passes {
				if !strings.Contains(out, "--- PASS: "+name+" ") {
					t.Errorf("%s did not pass:\n%s", name, out)
				}
			}
			for _, x := range s.cannot {
				if x.says == "" {
					continue
				}
				if out, err := run(t, dir, bin, "-test.run=^"+x.name+"$"); err == nil || !strings.Contains(out, x.says) {
					t.Errorf("%s is listed as one that cannot pass, because it %s; it ended with %v:\n%s", x.name, x.why, err, out)
				}
			}
		})
	}
}

// build copies the module out of the cache, which is read-only, and compiles
// its tests.
func build(t *testing.T, module string) (dir, bin string) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("finding %s: %v", module, err)
	}
	dir = filepath.Join(t.TempDir(), filepath.Base(module))
	if err := copyTree(dir, strings.TrimSpace(string(out))); err != nil {
		t.Fatal(err)
	}
	bin = dir + ".test"
	cmd := exec.Command("go", "test", "-c", "-o", bin, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the tests of %s: %v\n%s", module, err, out)
	}
	return dir, bin
}

func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("copying: %w", err)
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
}

// run runs a suite in its folder under laz run.
func run(t *testing.T, dir, bin string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := cloud.Command(ctx, cloud.Bin, append([]string{"run", "--as", live.As, "--", bin}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "AZURE_RECORD_MODE=live", "AZURE_KEYVAULT_URL="+cloud.Vars["KEYVAULT_URL"])
	out, err := cmd.CombinedOutput()
	return string(out), err
}
