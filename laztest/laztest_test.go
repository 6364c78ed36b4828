package laztest_test

import (
	"testing"

	"lazurite.dev/laztest"
)

func TestNew_ServesManagement(t *testing.T) {
	c := laztest.New(t)
	const group = "/subscriptions/{sub}/resourceGroups/Demo?api-version=2021-04-01"
	if code, m := c.ARM(t, "PUT", group, `{"location":"East US"}`); code != 201 || m["location"] != "eastus" {
		t.Fatalf("create: %d %v", code, m)
	}
	if code, m := c.ARM(t, "GET", group, ""); code != 200 || m["name"] != "Demo" {
		t.Fatalf("show: %d %v", code, m)
	}
	if code, _ := c.Send(t, "", "GET", "https://management.azure.com/subscriptions?api-version=2022-12-01", ""); code != 401 {
		t.Fatalf("without a token: %d, want 401", code)
	}
}

func TestNew_KeyVaultAsksForARole(t *testing.T) {
	c := laztest.New(t)
	const (
		group = "/subscriptions/{sub}/resourceGroups/demo"
		vault = group + "/providers/Microsoft.KeyVault/vaults/Demo-kv"
		sec   = "https://demo-kv.vault.azure.net/secrets/s?api-version=7.4"
	)
	if code, m := c.ARM(t, "PUT", group+"?api-version=2021-04-01", `{"location":"eastus"}`); code != 201 {
		t.Fatalf("group: %d %v", code, m)
	}
	body := `{"location":"eastus","properties":{"tenantId":"` + c.Tenant + `","sku":{"family":"A","name":"standard"},"enableRbacAuthorization":true}}`
	code, m := c.ARM(t, "PUT", vault+"?api-version=2023-07-01", body)
	if code != 200 && code != 201 {
		t.Fatalf("vault: %d %v", code, m)
	}
	tok := c.OwnerToken(t, "https://vault.azure.net")
	if code, m := c.Send(t, tok, "PUT", sec, `{"value":"v"}`); code != 403 {
		t.Fatalf("an owner without a data role set a secret: %d %v", code, m)
	}
	role := `{"properties":{"principalId":"` + c.OwnerID(t) + `","roleDefinitionId":"/subscriptions/` + c.Subscription + `/providers/Microsoft.Authorization/roleDefinitions/b86a8fe4-44ce-4948-aee5-eccb2c155cd7"}}`
	if code, m := c.ARM(t, "PUT", vault+"/providers/Microsoft.Authorization/roleAssignments/11111111-1111-1111-1111-111111111111?api-version=2022-04-01", role); code != 201 {
		t.Fatalf("role: %d %v", code, m)
	}
	if code, m := c.Send(t, tok, "PUT", sec, `{"value":"v"}`); code != 200 {
		t.Fatalf("set: %d %v", code, m)
	}
	if code, m := c.Send(t, tok, "GET", "https://demo-kv.vault.azure.net/secrets/s/?api-version=7.4", ""); code != 200 || m["value"] != "v" {
		t.Fatalf("get: %d %v", code, m)
	}
	if code, m := c.ARM(t, "DELETE", vault+"/providers/Microsoft.Authorization/roleAssignments/11111111-1111-1111-1111-111111111111?api-version=2022-04-01", ""); code != 200 {
		t.Fatalf("unassign: %d %v", code, m)
	}
	if code, m := c.Send(t, tok, "GET", "https://demo-kv.vault.azure.net/secrets/s/?api-version=7.4", ""); code != 403 {
		t.Fatalf("the next request after the role was removed: %d %v", code, m)
	}
	code, m = c.ARM(t, "GET", "/subscriptions/{sub}/providers/Lazurite.Explain/refusals/last?api-version=2026-01-01", "")
	if code != 200 || m["surface"] != "keyvault" {
		t.Fatalf("explain: %d %v", code, m)
	}
	t.Log(m)
}

func TestNew_TakesThePathsThatAzSends(t *testing.T) {
	c := laztest.New(t)
	if code, m := c.ARM(t, "PUT", "/subscriptions/{sub}/resourceGroups/demo?api-version=2021-04-01", `{"location":"eastus"}`); code != 201 {
		t.Fatalf("group: %d %v", code, m)
	}
	body := `{"location":"eastus","properties":{"tenantId":"` + c.Tenant + `","sku":{"family":"A","name":"standard"}}}`
	if code, m := c.ARM(t, "PUT", "/subscriptions/{sub}/resourceGroups/demo/providers/Microsoft.KeyVault/vaults/slashed?api-version=2023-07-01", body); code != 201 && code != 200 {
		t.Fatalf("vault: %d %v", code, m)
	}
	for path, want := range map[string]int{
		"/subscriptions/{sub}/resourceGroups/demo/providers/Microsoft.KeyVault//vaults/slashed?api-version=2023-07-01":          200, // az resource show
		"/subscriptions/{sub}/resourceGroups/demo/providers/Microsoft.KeyVault/%2Fvaults/slashed?api-version=2023-07-01":        400,
		"/subscriptions/{sub}/resourceGroups/demo/providers/Microsoft.KeyVault/vaults/../vaults/slashed?api-version=2023-07-01": 400,
		"/subscriptions/{sub}/providers/Microsoft.KeyVault/deletedManagedHSMs?api-version=2022-07-01":                           200, // az keyvault list-deleted
	} {
		if code, m := c.ARM(t, "GET", path, ""); code != want {
			t.Errorf("%s: %d, want %d: %v", path, code, want, m)
		}
	}
}
