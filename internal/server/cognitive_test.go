package server_test

import (
	"testing"

	"lazurite.dev/internal/arm/armtest"
)

// TestCognitiveServices_Roles holds the built-in roles against what their
// holders may do with an account.
func TestCognitiveServices_Roles(t *testing.T) {
	const (
		v          = "?api-version=2024-10-01"
		deployment = `{"sku":{"name":"Standard","capacity":1},"properties":{"model":{"format":"OpenAI","name":"gpt-4o-mini","version":"2024-07-18"}}}`
	)
	for _, c := range []struct {
		name, role                       string
		read, deploy, keys, write, purge bool
	}{
		{"no role", "", false, false, false, false, false},
		{"Reader", "acdd72a7-3385-48ef-bd42-f606fba81ae7", true, false, false, false, false},
		{"Cognitive Services OpenAI User", "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd", true, false, false, false, false},
		{"Cognitive Services OpenAI Contributor", "a001fd3d-188f-4b5d-821b-7da978bf7442", true, true, false, false, false},
		{"Cognitive Services User", "a97b65f3-24c7-4388-baec-2e87135dc908", true, false, true, false, false},
		{"Cognitive Services Contributor", "25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68", true, true, true, true, false},
		{"Contributor", "b24988ac-6180-42a0-ab88-20f7382dd24c", true, true, true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := everything(t)
			account := p.Group("roles") + "/providers/Microsoft.CognitiveServices/accounts/roles"
			p.Want(201, "PUT", account+v, `{"location":"eastus","kind":"OpenAI","sku":{"name":"S0"},"properties":{}}`)
			if c.role != "" {
				p.Want(201, "PUT", account+"/providers/Microsoft.Authorization/roleAssignments/"+armtest.GUID(1)+"?api-version=2022-04-01",
					`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/`+c.role+`","principalId":"`+armtest.Nobody+`"}}`)
			}
			for _, call := range []struct {
				may                bool
				method, path, body string
			}{
				{c.read, "GET", account, ""},
				{c.read, "GET", account + "/models", ""},
				{c.deploy, "PUT", account + "/deployments/d1", deployment},
				{c.deploy, "DELETE", account + "/deployments/d1", ""},
				{c.keys, "POST", account + "/listKeys", ""},
				{c.write, "POST", account + "/regenerateKey", `{"keyName":"Key1"}`},
				{c.write, "PATCH", account, `{"properties":{"disableLocalAuth":true}}`},
				{c.purge, "DELETE", armtest.Base + "/providers/Microsoft.CognitiveServices/locations/eastus/resourceGroups/roles/deletedAccounts/roles", ""},
			} {
				a := p.Do(call.method, call.path+v, call.body, "Authorization", "Bearer "+armtest.Nobody)
				if may := a.Status/100 == 2; may != call.may || !may && a.Code() != "AuthorizationFailed" {
					t.Errorf("%s %s: %d %s, want allowed: %v", call.method, call.path, a.Status, a.Raw, call.may)
				}
			}
		})
	}
}
