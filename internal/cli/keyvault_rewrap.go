package cli

import "context"

// vaultRewrap is not az's: it is an action that Lazurite's vaults have.
func vaultRewrap() *command {
	return &command{path: "keyvault rewrap", short: "Wrap the data key of a vault again, under the newest root key of Lazurite.",
		example: "keyvault rewrap --name myVault --new-data-key",
		args:    append(vaultArgs(), flagOpt("new-data-key", "Also give the vault a new data key, for what is sealed from then on.")),
		run: vaulted(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			return m.post(ctx, path+"/rewrap", vaultVersion, object{"newDataKey": c.flag("new-data-key")})
		})}
}
