package rbac_test

import (
	"testing"

	"lazurite.dev/internal/rbac"
)

func TestLeastRole(t *testing.T) {
	for action, want := range map[string]string{
		"Microsoft.KeyVault/vaults/secrets/getSecret/action":   "Key Vault Secrets User",
		"Microsoft.KeyVault/vaults/secrets/setSecret/action":   "Key Vault Secrets Officer",
		"Microsoft.KeyVault/vaults/keys/sign/action":           "Key Vault Crypto User",
		"Microsoft.KeyVault/vaults/certificates/create/action": "Key Vault Certificates Officer",
	} {
		if got, ok := rbac.LeastRole(action); !ok || got != want {
			t.Errorf("LeastRole(%s) = %q, want %q", action, got, want)
		}
	}
}
