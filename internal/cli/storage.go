package cli

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

const (
	storageType    = "Microsoft.Storage/storageAccounts"
	accountVersion = "2023-05-01"
)

func storageNoun() noun {
	return noun{name: "storage", short: "Manage storage accounts, their containers and blobs.",
		groups: map[string]string{
			"account": "Manage storage accounts.", "account keys": "Manage the keys of an account.", "account network-rule": "Manage from where an account may be reached.",
			"container": "Manage containers.", "blob": "Manage blobs.",
		},
		commands: func() []*command {
			cmds := []*command{storageCreate(), storageShow(), storageList(), storageUpdate(), storageDelete(), storageCheckName(), storageConnection()}
			cmds = append(cmds, storageKeyCommands()...)
			cmds = append(cmds, storageRuleCommands()...)
			cmds = append(cmds, storageSASCommands()...)
			cmds = append(cmds, containerCommands()...)
			return append(cmds, blobCommands()...)
		}}
}

// storageArgs name an account; the group is found where it isn't given.
func storageArgs() []arg {
	g := groupOpt()
	g.need = false
	return []arg{opt("name", "Name of the storage account.").or("-n", "--account-name").required().configured("storage-account").idPart("name"), g}
}

// stored makes a run function of one that needs the account's id.
func stored(f func(ctx context.Context, c *call, m *management, path string) (any, error)) func(context.Context, *call) (any, error) {
	return manage(func(ctx context.Context, c *call, m *management) (any, error) {
		name := c.text("name")
		if g := c.text("resource-group"); g != "" {
			return f(ctx, c, m, m.resource(g, storageType, name))
		}
		path, err := m.findByName(ctx, storageType, name)
		if e, ok := errors.AsType[*failure](err); ok && e.status == exitNotFound {
			return nil, failf("The storage account '%s' is not found in the subscription.", name)
		}
		if err != nil {
			return nil, err
		}
		return f(ctx, c, m, path)
	})
}

// renamed moves members to the names that az gives them.
func renamed(o object, names ...string) {
	for i := 0; i+1 < len(names); i += 2 {
		if v, ok := o[names[i]]; ok {
			o[names[i+1]] = v
			delete(o, names[i])
		}
	}
}

// showAccount is an account as az prints it.
func showAccount(v any) any {
	out, ok := flatten(v, "accountMigrationInProgress", "allowCrossTenantReplication", "allowedCopyScope", "azureFilesIdentityBasedAuthentication", "blobRestoreStatus",
		"customDomain", "defaultToOAuthAuthentication", "dnsEndpointType", "enableExtendedGroups", "extendedLocation", "failoverInProgress", "geoReplicationStats",
		"identity", "immutableStorageWithVersioning", "isHnsEnabled", "isLocalUserEnabled", "isSftpEnabled", "isSkuConversionBlocked", "keyPolicy", "largeFileSharesState",
		"lastGeoFailoverTime", "routingPreference", "sasPolicy", "secondaryEndpoints", "secondaryLocation", "statusOfSecondary", "storageAccountSkuConversionStatus", "tags").(object)
	if !ok {
		return v
	}
	delete(out, "systemData")
	renamed(out, "supportsHttpsTrafficOnly", "enableHttpsTrafficOnly", "networkAcls", "networkRuleSet", "isNfsV3Enabled", "enableNfsV3")
	withNulls(out, "enableNfsV3")
	showRules(out["networkRuleSet"])
	pythonTimes(out, "creationTime")
	pythonTimes(out["keyCreationTime"], "key1", "key2")
	withNulls(out["primaryEndpoints"], "dfs", "file", "internetEndpoints", "microsoftEndpoints", "queue", "table", "web")
	if e, ok := out["encryption"].(object); ok {
		renamed(e, "identity", "encryptionIdentity", "keyvaultproperties", "keyVaultProperties")
		withNulls(e, "encryptionIdentity", "keyVaultProperties")
		withNulls(e["services"], "queue", "table")
	}
	return out
}

func showRules(v any) any {
	o, ok := v.(object)
	if !ok {
		return v
	}
	withNulls(o, "resourceAccessRules")
	for _, r := range items(o["ipRules"]) {
		if m, ok := r.(object); ok {
			renamed(m, "value", "ipAddressOrRange")
		}
	}
	for _, r := range items(o["virtualNetworkRules"]) {
		if m, ok := r.(object); ok {
			renamed(m, "id", "virtualNetworkResourceId")
		}
	}
	return v
}

// storageFields are the options that create and update share.
func storageFields() []arg {
	return []arg{
		boolOpt("allow-blob-public-access", "Let containers be opened to callers without a credential."),
		boolOpt("allow-shared-key-access", "Take the account's keys, and what they sign."),
		boolOpt("allow-cross-tenant-replication", "Kept and shown; nothing is replicated."),
		boolOpt("https-only", "Refuse plain HTTP."),
		boolOpt("default-to-oauth-authentication", "Let portals use tokens by default. Kept and shown."),
		opt("access-tier", "Tier of blobs that have none of their own.").oneOf("Cool", "Hot", "Cold", "Premium"),
		opt("min-tls-version", "Least version of TLS.").oneOf("TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"),
		opt("public-network-access", "Whether it is reached from outside of private endpoints.").oneOf("Disabled", "Enabled"),
		opt("default-action", "What happens to addresses without a rule.").oneOf("Allow", "Deny"),
		listOpt("bypass", "Who passes the network rules: AzureServices, Logging, Metrics, None."), tagsOpt(),
	}
}

// fillStore sets what was given.
func (c *call) fillStore(body object) {
	props := sub(body, "properties")
	for option, key := range map[string]string{
		"allow-blob-public-access": "allowBlobPublicAccess", "allow-shared-key-access": "allowSharedKeyAccess", "allow-cross-tenant-replication": "allowCrossTenantReplication",
		"https-only": "supportsHttpsTrafficOnly", "default-to-oauth-authentication": "defaultToOAuthAuthentication", "access-tier": "accessTier",
		"min-tls-version": "minimumTlsVersion", "public-network-access": "publicNetworkAccess",
	} {
		c.setIf(props, key, option)
	}
	if c.given("default-action") {
		sub(props, "networkAcls")["defaultAction"] = c.text("default-action")
	}
	if c.given("bypass") {
		sub(props, "networkAcls")["bypass"] = strings.Join(c.many("bypass"), ", ")
	}
	c.setIf(body, "tags", "tags")
	if c.given("sku") {
		body["sku"] = object{"name": c.text("sku")}
	}
}

func storageCreate() *command {
	args := []arg{opt("name", "Name of the account, unique in the cloud: 3 to 24 lower-case letters and digits.").or("-n", "--account-name").required(), groupOpt(), locationOpt(),
		opt("sku", "Kind of redundancy; here there is one copy.").byDefault("Standard_RAGRS"), opt("kind", "Kind of account.").oneOf("BlobStorage", "BlockBlobStorage", "Storage", "StorageV2").byDefault("StorageV2")}
	return &command{path: "storage account create", short: "Create a storage account.",
		example: "storage account create --name mystore --resource-group myGroup --sku Standard_LRS", args: append(args, storageFields()...),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			loc, err := m.locationOf(ctx, c)
			if err != nil {
				return nil, err
			}
			body := object{"location": loc, "kind": c.text("kind"), "sku": object{"name": c.text("sku")}, "properties": object{}}
			c.fillStore(body)
			v, err := m.put(ctx, m.resource(c.text("resource-group"), storageType, c.text("name")), accountVersion, body, false)
			return showAccount(v), err
		})}
}

func storageShow() *command {
	return &command{path: "storage account show", short: "Show a storage account.", example: "storage account show --name mystore --resource-group myGroup", args: storageArgs(),
		run: stored(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
			v, err := m.get(ctx, path, accountVersion)
			return showAccount(v), err
		})}
}

func storageList() *command {
	return &command{path: "storage account list", short: "List storage accounts.", example: "storage account list --resource-group myGroup", args: []arg{groupFilter()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.listPath(c.text("resource-group"), storageType), accountVersion)
			return each(l, showAccount), err
		})}
}

func storageUpdate() *command {
	return &command{path: "storage account update", short: "Change a storage account.", example: "storage account update --name mystore --resource-group myGroup --allow-shared-key-access false",
		args: append(append(storageArgs(), opt("sku", "Kind of redundancy; here there is one copy.")), storageFields()...),
		run: stored(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			body := object{"properties": object{}}
			c.fillStore(body)
			v, err := m.patch(ctx, path, accountVersion, body, false)
			return showAccount(v), err
		})}
}

func storageDelete() *command {
	return &command{path: "storage account delete", short: "Delete a storage account with all that is in it.", example: "storage account delete --name mystore --resource-group myGroup --yes",
		args: append(storageArgs(), yesOpt()),
		run: stored(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			return nil, m.delete(ctx, path, accountVersion, false)
		})}
}

func storageCheckName() *command {
	return &command{path: "storage account check-name", short: "Ask whether a name is free.", example: "storage account check-name --name mystore",
		args: []arg{opt("name", "Name of the storage account.").or("-n").required()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.post(ctx, m.subPath+"/providers/Microsoft.Storage/checkNameAvailability", accountVersion, object{"name": c.text("name"), "type": storageType})
			return withNulls(v, "message", "reason"), err
		})}
}

// storageKeys are an account's keys.
func storageKeys(ctx context.Context, m *management, path string) ([]any, error) {
	v, err := m.post(ctx, path+"/listKeys", accountVersion, nil)
	return items(at(v, "keys")), err
}

func showKeys(list []any) []any {
	return each(list, func(v any) any { return pythonTimes(v, "creationTime") })
}

func storageKeyCommands() []*command {
	account := storageArgs()
	account[0] = opt("name", "Name of the storage account.").or("-n", "--account-name").required().configured("storage-account")
	return []*command{
		{path: "storage account keys list", short: "List the keys of a storage account.", example: "storage account keys list --account-name mystore --resource-group myGroup", args: account,
			run: stored(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
				l, err := storageKeys(ctx, m, path)
				return showKeys(l), err
			})},
		{path: "storage account keys renew", short: "Replace a key of a storage account.", example: "storage account keys renew --account-name mystore --resource-group myGroup --key primary",
			args: append(append([]arg(nil), account...), opt("key", "Which key.").required().oneOf("primary", "secondary", "key1", "key2")),
			run: stored(func(ctx context.Context, c *call, m *management, path string) (any, error) {
				key := map[string]string{"primary": "key1", "secondary": "key2"}[c.text("key")]
				v, err := m.post(ctx, path+"/regenerateKey", accountVersion, object{"keyName": firstNonEmpty(key, c.text("key"))})
				return showKeys(items(at(v, "keys"))), err
			})},
	}
}

func storageConnection() *command {
	return &command{path: "storage account show-connection-string", short: "Show the connection string of a storage account.",
		example: "storage account show-connection-string --name mystore --resource-group myGroup --output tsv",
		args:    append(storageArgs(), opt("key", "Which key.").oneOf("primary", "secondary", "key1", "key2").byDefault("key1")),
		run: stored(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			v, err := m.get(ctx, path, accountVersion)
			if err != nil {
				return nil, err
			}
			keys, err := storageKeys(ctx, m, path)
			if err != nil {
				return nil, err
			}
			i := 0
			if k := c.text("key"); k == "secondary" || k == "key2" {
				i = 1
			}
			if len(keys) < 2 {
				return nil, failf("The storage account has no keys.")
			}
			suffix := "core.windows.net"
			if cl, err := c.cloud(); err == nil {
				if s, err := cl.suffix("storageEndpoint"); err == nil {
					suffix = s
				}
			}
			return object{"connectionString": "DefaultEndpointsProtocol=https;EndpointSuffix=" + suffix + ";AccountName=" + textAt(v, "name") + ";AccountKey=" + textAt(keys[i], "value") +
				";BlobEndpoint=" + textAt(v, "properties", "primaryEndpoints", "blob")}, nil
		})}
}

func storageRuleCommands() []*command {
	args := func(more ...arg) []arg {
		a := storageArgs()
		a[0] = opt("name", "Name of the storage account.").or("-n", "--account-name").required().configured("storage-account")
		return append(a, more...)
	}
	rule := func() []arg {
		return args(listOpt("ip-address", "Addresses or ranges."), opt("subnet", "Id of a subnet, or its name with --vnet-name."), opt("vnet-name", "Name of the virtual network of the subnet."),
			opt("action", "What the rule does.").oneOf("Allow").byDefault("Allow"))
	}
	return []*command{
		{path: "storage account network-rule list", short: "List the network rules of a storage account.", example: "storage account network-rule list --account-name mystore --resource-group myGroup", args: args(),
			run: stored(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
				v, err := m.get(ctx, path, accountVersion)
				rules, _ := showRules(at(v, "properties", "networkAcls")).(object)
				return object{"ipRules": items(rules["ipRules"]), "virtualNetworkRules": items(rules["virtualNetworkRules"]), "resourceAccessRules": items(rules["resourceAccessRules"])}, err
			})},
		{path: "storage account network-rule add", short: "Let an address or a subnet in.", example: "storage account network-rule add --account-name mystore --resource-group myGroup --ip-address 192.0.2.0/24", args: rule(),
			run: stored(func(ctx context.Context, c *call, m *management, path string) (any, error) {
				return c.changeStorageRules(ctx, m, path, true)
			})},
		{path: "storage account network-rule remove", short: "Remove the rule of an address or a subnet.", example: "storage account network-rule remove --account-name mystore --resource-group myGroup --ip-address 192.0.2.0/24", args: rule(),
			run: stored(func(ctx context.Context, c *call, m *management, path string) (any, error) {
				return c.changeStorageRules(ctx, m, path, false)
			})},
	}
}

func (c *call) changeStorageRules(ctx context.Context, m *management, path string, add bool) (any, error) {
	subnet, err := c.ruleSubnet(m, path)
	if err != nil {
		return nil, err
	}
	if subnet == "" && !c.given("ip-address") {
		return nil, usagef("usage error: --subnet ID | --ip-address ADDRESS")
	}
	v, err := m.get(ctx, path, accountVersion)
	if err != nil {
		return nil, err
	}
	rules, _ := at(v, "properties", "networkAcls").(object)
	if rules == nil {
		rules = object{"defaultAction": "Allow", "bypass": "AzureServices"}
	}
	c.editRules(rules, subnet, add)
	v, err = m.patch(ctx, path, accountVersion, object{"properties": object{"networkAcls": rules}}, false)
	return showAccount(v), err
}

// storageGone reports an answer that says that something is not there.
func storageGone(err error) bool {
	e, ok := errors.AsType[*remoteError](err)
	return ok && e.status == http.StatusNotFound
}
