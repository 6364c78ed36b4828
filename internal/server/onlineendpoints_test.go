package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/server"
)

const (
	mlVersion  = "?api-version=2024-04-01"
	mlStore    = secGroup + "/providers/Microsoft.Storage/storageAccounts/mlsecstore"
	mlInsights = secGroup + "/providers/Microsoft.Insights/components/mlsec"
	mlSpace    = secGroup + "/providers/Microsoft.MachineLearningServices/workspaces/mlsec"
	mlEnd      = mlSpace + "/onlineEndpoints/mlsec-end"
)

// settled sends a request as the owner and waits for the resource to be made.
func (c *target) settled(method, path, body string) map[string]any {
	c.t.Helper()
	m := c.must(method, path, body)
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		p, _ := m["properties"].(map[string]any)
		switch state, _ := p["provisioningState"].(string); {
		case state == "Succeeded" || state == "":
			return m
		case state == "Failed" || time.Now().After(deadline):
			c.t.Fatalf("%s: %v", path, m)
		}
		<-tick.C
		m = c.must("GET", path, "")
	}
}

// learning makes a workspace with a storage account and an endpoint.
func (c *target) learning() (endpoint map[string]any) {
	c.t.Helper()
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	c.settled("PUT", mlStore+"?api-version=2023-05-01", `{"location":"eastus","kind":"StorageV2","sku":{"name":"Standard_LRS"}}`)
	c.settled("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true`))
	c.settled("PUT", mlInsights+"?api-version=2020-02-02", `{"location":"eastus","kind":"web","properties":{"Application_Type":"web"}}`)
	c.settled("PUT", mlSpace+mlVersion, `{"location":"eastus","identity":{"type":"SystemAssigned"},"properties":{"storageAccount":"`+mlStore+`","keyVault":"`+secVault+`","applicationInsights":"`+mlInsights+`"}}`)
	return c.settled("PUT", mlEnd+mlVersion, `{"location":"eastus","identity":{"type":"SystemAssigned"},"properties":{"authMode":"Key","keys":{"primaryKey":"Tr0ub4dor-and-3-endpoint"}}}`)
}

func TestOnlineEndpoints(t *testing.T) {
	c := newTarget(t, func(cfg *server.Config) { cfg.Clusters = "issuer" })
	made := c.learning()
	props, _ := made["properties"].(map[string]any)
	if props["scoringUri"] != "https://mlsec-end.eastus.inference.ml.azure.com/score" {
		t.Errorf("got %v", props)
	}
	id, _ := made["identity"].(map[string]any)
	principal, _ := id["principalId"].(string)
	at := func(scope string) int {
		list, _ := c.must("GET", scope+"/providers/Microsoft.Authorization/roleAssignments"+roleVersion+"&$filter=principalId+eq+'"+principal+"'", "")["value"].([]any)
		return len(list)
	}
	roles := func() int { return at(mlStore) }
	if n := roles(); n != 1 {
		t.Errorf("the identity of the endpoint has %d roles on the storage account", n)
	}
	// The role at the registry follows the workspace.
	for _, name := range []string{"mlseca", "mlsecb"} {
		registry := secGroup + "/providers/Microsoft.ContainerRegistry/registries/" + name
		c.settled("PUT", registry+"?api-version=2023-07-01", `{"location":"eastus","sku":{"name":"Basic"}}`)
		c.must("PATCH", mlSpace+mlVersion, `{"properties":{"containerRegistry":"`+registry+`"}}`)
		c.settled("GET", mlSpace+mlVersion, "")
		if n := at(registry); n != 1 {
			t.Errorf("the identity of the endpoint has %d roles on the registry %s", n, name)
		}
	}
	if n := at(secGroup + "/providers/Microsoft.ContainerRegistry/registries/mlseca"); n != 0 {
		t.Errorf("the identity of the endpoint has %d roles on the registry of before", n)
	}
	up := c.must("POST", mlSpace+"/codes/code/versions/1/startPendingUpload"+mlVersion, `{"pendingUploadType":"TemporaryBlobReference"}`)
	ref, _ := up["blobReferenceForConsumption"].(map[string]any)
	blob, _ := ref["blobUri"].(string)
	signed, _ := ref["credential"].(map[string]any)["sasUri"].(string)
	_, query, _ := strings.Cut(signed, "?")
	r, err := http.NewRequestWithContext(t.Context(), "PUT", blob+"/LocalUpload/h/src/score.py?"+query, strings.NewReader("def init(): pass"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-ms-blob-type", "BlockBlob")
	r.Header.Set("x-ms-version", "2023-11-03")
	res, err := c.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("upload: %d %s %v", res.StatusCode, text, err)
	}
	c.must("PUT", mlSpace+"/codes/code/versions/1"+mlVersion, `{"properties":{"codeUri":"`+blob+`/LocalUpload/h/src"}}`)
	c.must("PUT", mlSpace+"/environments/env/versions/1"+mlVersion, `{"properties":{"image":"mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference:latest"}}`)
	status, m := c.as(c.OwnerToken(t, armURL), "PUT", mlEnd+"/deployments/blue"+mlVersion,
		`{"location":"eastus","properties":{"environmentId":"azureml:env:1","codeConfiguration":{"codeId":"azureml:code:1","scoringScript":"score.py"}}}`)
	if status != http.StatusConflict || code(m) != "OperationNotAllowed" {
		t.Errorf("a deployment where nothing can run: %d %v", status, m)
	}
	if status, m := c.ARM(t, "DELETE", mlEnd+mlVersion, ""); status >= 300 {
		t.Errorf("delete: %d %v", status, m)
	}
	if n := roles(); n != 0 {
		t.Errorf("the identity of an endpoint that is gone has %d roles", n)
	}
}
