package server_test

import (
	"context"
	"path/filepath"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/providers/keyvault"
	"lazurite.dev/internal/providers/managedidentity"
	"lazurite.dev/internal/providers/resources"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

// everything runs all providers on one plane.
func everything(t *testing.T) *armtest.Plane {
	t.Helper()
	var dir *directory.Directory
	var policy *authorization.Authorizer
	rootKey := filepath.Join(t.TempDir(), "root.key")
	p := armtest.New(t, func(s store.Store) []arm.Provider {
		if dir == nil {
			var err error
			if dir, err = directory.Open(t.Context(), s, armtest.Tenant); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(dir.Close)
			if policy, err = authorization.Open(t.Context(), s, dir); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(policy.Close)
		}
		none := func(context.Context, string) error { return nil }
		list := []arm.Provider{
			policy.Provider(),
			managedidentity.New(managedidentity.Config{Store: s, Directory: dir}),
			keyvault.New(keyvault.Config{
				Store: s, Authorizer: policy, TenantID: armtest.Tenant, URI: func(n string) string { return "https://" + n + ".vault.azure.net" },
				Destroy: none, Rewrap: none, Rotate: none,
			}),
		}
		root, err := seal.OpenFileRoot(rootKey)
		if err != nil {
			t.Fatal(err)
		}
		models, err := inference.New(inference.Config{})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, cognitiveservices.New(cognitiveservices.Config{
			Store: s, Sealer: seal.NewKeyring(s, root), Catalog: models, URL: func(_ cognitiveservices.Endpoint, label string) string {
				return "https://" + label + ".openai.azure.com"
			},
		}))
		return append(list, resources.New(resources.Config{Store: s, TenantID: armtest.Tenant, Providers: list}))
	}, func(c *arm.Config) { c.Principals, c.Authorizer = dir, policy })
	people(t, dir, policy)
	return p
}

// people makes the callers of the contract, and groups to give roles to.
func people(t *testing.T, dir *directory.Directory, policy *authorization.Authorizer) {
	t.Helper()
	const owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	for _, oid := range []string{armtest.Owner, armtest.Nobody} {
		if _, err := dir.CreateUser(t.Context(), directory.User{ObjectID: oid, UPN: armtest.UPN(oid), DisplayName: oid}, "A long password 1!"); err != nil {
			t.Fatal(err)
		}
	}
	if err := policy.Assign(t.Context(), rid.ID{}, owner, armtest.Owner); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if _, err := dir.CreateGroup(t.Context(), directory.Group{ObjectID: armtest.GUID(n), DisplayName: armtest.GUID(n)}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestContract holds every type of every provider against what Azure's clients
// expect of any resource.
func TestContract(t *testing.T) {
	const (
		ai   = "{group}/providers/Microsoft.CognitiveServices/accounts/"
		auth = "{group}/providers/Microsoft.Authorization/"
		ids  = "{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"

		openAI = `{"location":"eastus","kind":"OpenAI","sku":{"name":"S0"},"properties":{}}`
	)
	armtest.Run(t, everything,
		armtest.Case{
			Type: "Microsoft.KeyVault/vaults", Path: "{group}/providers/Microsoft.KeyVault/vaults/vault{n}x",
			Body:     `{"location":"westus2","properties":{"tenantId":"` + armtest.Tenant + `","sku":{"family":"A","name":"standard"},"enableRbacAuthorization":true}}`,
			BadNames: []string{"a", "1abc", "a--b", "abc-", "a_bc", "abcdefghijklmnopqrstuvwxy"},
		},
		armtest.Case{
			Type: "Microsoft.CognitiveServices/accounts", Path: ai + "account{n}", Body: openAI, BadNames: []string{"a", "-a"},
		},
		armtest.Case{
			Type: "Microsoft.CognitiveServices/accounts/deployments", Path: ai + "parent/deployments/deployment{n}",
			Body:     `{"sku":{"name":"Standard","capacity":1},"properties":{"model":{"format":"OpenAI","name":"gpt-4o-mini","version":"2024-07-18"}}}`,
			Before:   []armtest.Step{{Path: ai + "parent", Body: openAI}},
			BadNames: []string{"-a"}, Kept: true,
		},
		armtest.Case{
			Type: "Microsoft.Authorization/roleAssignments", Path: auth + "roleAssignments/{guid}",
			Body:     `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7","principalId":"{guid}"}}`,
			BadNames: []string{"reader"}, Volatile: []string{"updatedOn"},
		},
		armtest.Case{
			Type: "Microsoft.Authorization/roleDefinitions", Path: auth + "roleDefinitions/{guid}",
			Body:     `{"properties":{"roleName":"Role {n}","permissions":[{"actions":["Microsoft.KeyVault/vaults/read"]}],"assignableScopes":["{group}"]}}`,
			BadNames: []string{"reader"}, Volatile: []string{"updatedOn"},
		},
		armtest.Case{Type: "Microsoft.ManagedIdentity/userAssignedIdentities", Path: ids + "identity{n}", Body: `{"location":"westus2"}`},
		armtest.Case{
			Type: "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials", Path: ids + "identity/federatedIdentityCredentials/fic{n}",
			Body:   `{"properties":{"issuer":"https://issuer.example/","subject":"{n}","audiences":["api://AzureADTokenExchange"]}}`,
			Before: []armtest.Step{{Path: ids + "identity", Body: `{"location":"westus2"}`}},
		},
		armtest.Case{Type: "Microsoft.Resources/resourceGroups", Path: "{sub}/resourceGroups/group{n}", Body: `{"location":"westus2"}`},
	)
}
