// Package js_test runs Microsoft's JavaScript SDKs against laz: `npm ci` here
// brings them.
package js_test

import (
	"os"
	"testing"

	"lazurite.dev/e2e/live"
)

var node = live.Scripts{
	Language: "js", Command: []string{"node", "--test", "--test-reporter=tap"},
	Installed: installed(), Install: "Node.js 20 and the packages in e2e/js: run `make e2e-deps`",
}

func installed() bool {
	_, err := os.Stat("node_modules/@azure/arm-machinelearning")
	return err == nil && live.Has("node")
}

func TestMain(m *testing.M) { os.Exit(node.Main(m)) }

func TestWorkloadIdentity(t *testing.T) { node.Workload(t, "workload.test.mjs") }

func TestManagedIdentity(t *testing.T) { node.Managed(t, "managed.test.mjs") }

func TestOwner(t *testing.T) { node.Owner(t, "owner.test.mjs") }

func TestMachineLearning(t *testing.T) { node.MachineLearning(t, "machinelearning.test.mjs") }

func TestStorage(t *testing.T) { node.Storage(t, "storage.test.mjs") }
