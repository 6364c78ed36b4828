// Package python_test runs Debian's Python SDKs of Azure against laz, with the
// system's own Python.
package python_test

import (
	"os"
	"os/exec"
	"testing"

	"lazurite.dev/e2e/live"
)

const interpreter = "/usr/bin/python3" // the one that Debian's packages are installed for

var python = live.Scripts{
	Language: "python", Command: []string{interpreter, "-B"},
	Installed: installed(), Install: "Debian's python3-azure: run `make e2e-deps`",
}

func installed() bool {
	return exec.Command(interpreter, "-c", "import azure.identity, azure.keyvault.secrets, azure.keyvault.keys, azure.keyvault.certificates").Run() == nil
}

func TestMain(m *testing.M) { os.Exit(python.Main(m)) }

func TestWorkloadIdentity(t *testing.T) { python.Workload(t, "workload.py") }

func TestManagedIdentity(t *testing.T) { python.Managed(t, "managed.py") }

func TestOwner(t *testing.T) { python.Owner(t, "owner.py") }

func TestMachineLearning(t *testing.T) { python.MachineLearning(t, "machinelearning.py") }

func TestStorage(t *testing.T) { python.Storage(t, "blobs.py") }
