package laztest_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"lazurite.dev/laztest"
)

// TestDeployment_SecretIsInNoFile deploys with a secure parameter, in nested
// templates too, and looks into every file that the cloud has.
func TestDeployment_SecretIsInNoFile(t *testing.T) {
	const (
		secret = "Correct-Horse-Battery-Staple"
		schema = `"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0"`
		nested = `{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":%q,"properties":{"mode":"Incremental",%s"template":{` + schema + `,%s"resources":[],
			"outputs":{"x":{"type":"securestring","value":"[parameters('p')]"}}}}}`
	)
	c := laztest.New(t)
	setUp(t, c)
	inner := fmt.Sprintf(nested, "inner", `"expressionEvaluationOptions":{"scope":"inner"},"parameters":{"p":{"value":"[parameters('p')]"}},`, `"parameters":{"p":{"type":"securestring"}},`)
	body := `{"properties":{"mode":"Incremental","parameters":{"p":{"value":"` + secret + `"}},"template":{` + schema + `,"parameters":{"p":{"type":"securestring"}},
		"resources":[` + inner + `,` + fmt.Sprintf(nested, "outer", "", "") + `,
		{"type":"Microsoft.ManagedIdentity/userAssignedIdentities","apiVersion":"2023-01-31","name":"[concat('bad-', substring(parameters('p'), 0, 0), '!')]","condition":false,"location":"eastus"}]}}}`
	path := group + "/providers/Microsoft.Resources/deployments/d?api-version=2022-09-01"
	if code, m := c.ARM(t, "PUT", path, body); code != 201 {
		t.Fatalf("deploy: %d %v", code, m)
	}
	for state := ""; state != "Succeeded"; {
		_, m := c.ARM(t, "GET", path, "")
		p, _ := m["properties"].(map[string]any)
		if state, _ = p["provisioningState"].(string); state == "Failed" {
			t.Fatalf("got %v", m)
		}
	}
	seen := 0
	err := filepath.WalkDir(c.Home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		seen++
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil || seen < 3 {
		t.Errorf("%d files: %v", seen, err)
	}
}
