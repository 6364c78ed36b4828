package daemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUp_KilledDuringADeployment kills the whole system in the middle of a
// template, and finds all of it done by the next one.
func TestUp_KilledDuringADeployment(t *testing.T) {
	l := newLaz(t)
	pid := l.up()
	l.ok("group", "create", "-n", "g", "-l", "eastus")
	file := filepath.Join(t.TempDir(), "many.json")
	if err := os.WriteFile(file, []byte(`{"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0",
		"parameters":{"run":{"type":"string","defaultValue":"[newGuid()]"}},
		"resources":[{"type":"Microsoft.ManagedIdentity/userAssignedIdentities","apiVersion":"2023-01-31","name":"[format('many{0}', copyIndex())]","location":"eastus",
			"tags":{"run":"[parameters('run')]"},"copy":{"name":"many","count":150,"mode":"serial","batchSize":2}}],
		"outputs":{"last":{"type":"string","value":"[reference('many149').clientId]"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ok("deployment", "group", "create", "-g", "g", "-f", file, "--no-wait")
	made := func() int {
		out := strings.TrimSpace(l.run("identity", "list", "-g", "g", "--query", "[].name", "-o", "tsv").out)
		return len(strings.Fields(out))
	}
	eventually(t, "the first identities", func() bool { return made() >= 5 })
	l.kill(pid)
	l.ok("up", "-d", "--offline")
	t.Logf("%d made when it was killed", made())
	l.ok("deployment", "group", "wait", "-g", "g", "-n", "many", "--created", "--interval", "1", "--timeout", "60")
	if n := made(); n != 150 {
		t.Errorf("%d identities, want 150", n)
	}
	if runs := strings.Fields(l.ok("identity", "list", "-g", "g", "--query", "[].tags.run | sort(@) | [[0], [-1]] | []", "-o", "tsv")); len(runs) != 2 || runs[0] != runs[1] {
		t.Errorf("newGuid() gave %v", runs)
	}
	if out := l.ok("deployment", "group", "show", "-g", "g", "-n", "many", "--query", "[properties.provisioningState, properties.outputs.last.value]", "-o", "tsv"); !strings.HasPrefix(out, "Succeeded\n") || len(strings.Fields(out)) != 2 {
		t.Errorf("got %s", out)
	}
}
