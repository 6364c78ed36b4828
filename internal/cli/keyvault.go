package cli

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

const (
	vaultType    = "Microsoft.KeyVault/vaults"
	vaultVersion = "2023-07-01"
)

func keyvaultNoun() noun {
	return noun{name: "keyvault", short: "Manage key vaults and what is in them.",
		groups: map[string]string{
			"secret": "Manage secrets.", "key": "Manage keys.", "key rotation-policy": "Manage when a key is renewed.",
			"certificate": "Manage certificates.", "certificate pending": "Manage certificates that are being made.",
			"certificate issuer": "Manage who issues certificates.", "certificate contact": "Manage who is told of certificates.",
			"network-rule": "Manage from where a vault may be reached.", "private-endpoint-connection": "Decide about private endpoints.",
			"private-link-resource": "Show what private endpoints can reach.",
		},
		commands: func() []*command {
			cmds := []*command{vaultCreate(), vaultShow(), vaultList(), vaultUpdate(), vaultDelete(), vaultRecover(), vaultPurge(),
				vaultListDeleted(), vaultShowDeleted(), vaultCheckName(), vaultWait(), vaultSetPolicy(), vaultDeletePolicy(), vaultRewrap()}
			cmds = append(cmds, networkRuleCommands()...)
			cmds = append(cmds, vaultConnectionCommands()...)
			cmds = append(cmds, secretCommands()...)
			cmds = append(cmds, keyCommands()...)
			cmds = append(cmds, keyCryptoCommands()...)
			cmds = append(cmds, certificateCommands()...)
			return append(cmds, certificateAdminCommands()...)
		}}
}

// vaultArgs name a vault; the group is found where it isn't given.
func vaultArgs() []arg {
	g := groupOpt()
	g.need = false
	return []arg{opt("name", "Name of the vault.").or("-n").required().configured("keyvault").idPart("name"), g}
}

func showVault(v any) any {
	withNulls(v, "systemData", "tags")
	pythonTimes(at(v, "systemData"), "createdAt", "lastModifiedAt")
	withNulls(at(v, "properties"), "accessPolicies", "createMode", "enablePurgeProtection", "enableRbacAuthorization", "enableSoftDelete",
		"enabledForDeployment", "enabledForDiskEncryption", "enabledForTemplateDeployment", "hsmPoolResourceId", "networkAcls",
		"privateEndpointConnections", "provisioningState", "publicNetworkAccess", "softDeleteRetentionInDays", "vaultUri")
	return v
}

// vaultPath is the vault's id: in the group given, else wherever it is.
func (c *call) vaultPath(ctx context.Context, m *management) (string, error) {
	if g := c.text("resource-group"); g != "" {
		return m.resource(g, vaultType, c.text("name")), nil
	}
	id, err := m.findByName(ctx, vaultType, c.text("name"))
	if f, ok := errors.AsType[*failure](err); ok && f.status == exitNotFound {
		return "", failf("The Vault '%s' not found within subscription.", c.text("name"))
	}
	return id, err
}

// vaulted makes a run function of one that needs the vault's id.
func vaulted(f func(ctx context.Context, c *call, m *management, path string) (any, error)) func(context.Context, *call) (any, error) {
	return manage(func(ctx context.Context, c *call, m *management) (any, error) {
		path, err := c.vaultPath(ctx, m)
		if err != nil {
			return nil, err
		}
		return f(ctx, c, m, path)
	})
}

// vaultFields are the options that create and update share.
func vaultFields() []arg {
	return []arg{
		boolOpt("enable-rbac-authorization", "Let roles decide who may read the data, not access policies."),
		boolOpt("enable-purge-protection", "Forbid purging what was deleted. It can't be taken back."),
		boolOpt("enabled-for-deployment", "Let virtual machines read certificates."),
		boolOpt("enabled-for-disk-encryption", "Let disk encryption read keys."),
		boolOpt("enabled-for-template-deployment", "Let deployments read secrets."),
		numberOpt("retention-days", "Days for which what was deleted can be recovered: 7 to 90."),
		opt("public-network-access", "Whether it is reached from outside of private endpoints.").oneOf("Disabled", "Enabled"),
		opt("default-action", "What happens to addresses without a rule.").oneOf("Allow", "Deny"),
		opt("bypass", "Who passes the network rules.").oneOf("AzureServices", "None"),
	}
}

// fillVault sets the properties that were given.
func (c *call) fillVault(props object) {
	for option, key := range map[string]string{
		"enable-rbac-authorization": "enableRbacAuthorization", "enable-purge-protection": "enablePurgeProtection",
		"enabled-for-deployment": "enabledForDeployment", "enabled-for-disk-encryption": "enabledForDiskEncryption",
		"enabled-for-template-deployment": "enabledForTemplateDeployment", "retention-days": "softDeleteRetentionInDays",
		"public-network-access": "publicNetworkAccess"} {
		c.setIf(props, key, option)
	}
	for option, key := range map[string]string{"default-action": "defaultAction", "bypass": "bypass"} {
		if c.given(option) {
			acls := sub(props, "networkAcls")
			acls[key] = c.text(option)
			if option == "bypass" && acls["defaultAction"] == nil {
				acls["defaultAction"] = "Allow"
			}
			if option == "default-action" && acls["bypass"] == nil {
				acls["bypass"] = "AzureServices"
			}
		}
	}
}

func vaultCreate() *command {
	args := append([]arg{nameOpt("Name of the vault, unique in the cloud: 3 to 24 letters, digits and dashes."), groupOpt(), locationOpt(), tagsOpt(), noWaitOpt()}, vaultFields()...)
	return &command{path: "keyvault create", short: "Create a key vault.", example: "keyvault create --name myVault --resource-group myGroup",
		args: append(args, opt("sku", "Kind of vault.").oneOf("premium", "standard").byDefault("standard"),
			listOpt("network-acls-ips", "Addresses or ranges that are let in."), listOpt("network-acls-vnets", "Ids of subnets that are let in."),
			opt("network-acls", "All network rules as JSON. @FILE reads a file."),
			flagOpt("no-self-perms", "No access policy for yourself, where policies decide.")),
		run: manage(runVaultCreate)}
}

func runVaultCreate(ctx context.Context, c *call, m *management) (any, error) {
	path := m.resource(c.text("resource-group"), vaultType, c.text("name"))
	// A PUT would give a vault that is there the defaults of a new one.
	if _, err := m.get(ctx, path, vaultVersion); err == nil {
		return nil, failf("The specified vault: %s already exists", c.text("name"))
	} else if !isStatus(err, http.StatusNotFound) {
		return nil, err
	}
	loc, err := m.locationOf(ctx, c)
	if err != nil {
		return nil, err
	}
	props := object{"tenantId": m.acct.TenantID, "sku": object{"family": "A", "name": c.text("sku")}, "accessPolicies": []any{},
		"enableSoftDelete": true, "softDeleteRetentionInDays": 90, "enableRbacAuthorization": true,
		"networkAcls": object{"bypass": "AzureServices", "defaultAction": "Allow"}}
	c.fillVault(props)
	if props["enablePurgeProtection"] == false {
		delete(props, "enablePurgeProtection") // only true may be sent
	}
	if err := c.vaultRules(props); err != nil {
		return nil, err
	}
	if props["enableRbacAuthorization"] == false && !c.flag("no-self-perms") {
		oid, err := c.ownObjectID(ctx, m)
		if err != nil {
			return nil, err
		}
		props["accessPolicies"] = []any{object{"tenantId": m.acct.TenantID, "objectId": oid,
			"permissions": object{"keys": []string{"all"}, "secrets": []string{"all"}, "certificates": []string{"all"}, "storage": []string{"all"}}}}
	}
	body := object{"location": loc, "properties": props}
	c.setIf(body, "tags", "tags")
	v, err := m.put(ctx, path, vaultVersion, body, c.flag("no-wait"))
	if v == nil {
		return nil, err
	}
	return showVault(v), err
}

// vaultRules adds the network rules of the options.
func (c *call) vaultRules(props object) error {
	acls := sub(props, "networkAcls")
	if c.given("network-acls") {
		v, err := decode([]byte(c.text("network-acls")))
		m, ok := v.(object)
		if err != nil || !ok {
			return usagef("argument --network-acls: not a JSON object")
		}
		for kind, values := range m { // az's form: {"ip": [...], "vnet": [...]}
			for _, x := range items(values) {
				addRule(acls, kind, scalar(x, "", "", ""))
			}
		}
	}
	for _, ip := range c.many("network-acls-ips") {
		addRule(acls, "ip", ip)
	}
	for _, id := range c.many("network-acls-vnets") {
		addRule(acls, "vnet", id)
	}
	return nil
}

func addRule(acls object, kind, value string) {
	if kind == "ip" {
		acls["ipRules"] = append(items(acls["ipRules"]), object{"value": value})
	} else {
		acls["virtualNetworkRules"] = append(items(acls["virtualNetworkRules"]), object{"id": value})
	}
}

// ownObjectID is the object id of who is signed in, by the token's claim.
func (s *session) ownObjectID(ctx context.Context, m *management) (string, error) {
	t, err := s.accountToken(ctx, m.acct, m.acct.TenantID, m.aud, "")
	return claim(t.Token, "oid"), err
}

func vaultShow() *command {
	return &command{path: "keyvault show", short: "Show a vault.", example: "keyvault show --name myVault --query id --output tsv", args: vaultArgs(),
		run: vaulted(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
			v, err := m.get(ctx, path, vaultVersion)
			return showVault(v), err
		})}
}

func vaultList() *command {
	return &command{path: "keyvault list", short: "List vaults.", example: "keyvault list --resource-group myGroup",
		args:  []arg{groupFilter(), opt("resource-type", "What is listed.").oneOf("vault")},
		table: "[].{Location:location, Name:name, ResourceGroup:resourceGroup}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if g := c.text("resource-group"); g != "" {
				l, err := m.list(ctx, m.listPath(g, vaultType), vaultVersion)
				return each(l, showVault), err
			}
			l, err := m.list(ctx, m.subPath+"/resources", "2015-11-01", "$filter", "resourceType eq '"+vaultType+"'")
			return each(l, func(v any) any {
				if m, ok := v.(object); ok { // az shows them as resources
					for _, k := range []string{"properties", "systemData", "provisioningState"} {
						delete(m, k)
					}
				}
				return withNulls(v, "tags")
			}), err
		})}
}

func vaultUpdate() *command {
	return &command{path: "keyvault update", short: "Change a vault.", example: "keyvault update --name myVault --public-network-access Disabled", generic: true,
		args: append(append(vaultArgs(), tagsOpt(), noWaitOpt()), vaultFields()...),
		run: vaulted(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			v, err := m.get(ctx, path, vaultVersion)
			if err != nil {
				return nil, err
			}
			body := v.(object)
			c.fillVault(sub(body, "properties"))
			c.setIf(body, "tags", "tags")
			if err := c.applyGeneric(body); err != nil {
				return nil, err
			}
			return putVault(ctx, c, m, path, body)
		})}
}

// putVault writes a vault that was read, without what only the server says.
func putVault(ctx context.Context, c *call, m *management, path string, body object) (any, error) {
	props := sub(body, "properties")
	for _, k := range []string{"provisioningState", "privateEndpointConnections", "hsmPoolResourceId"} {
		delete(props, k)
	}
	v, err := m.put(ctx, path, vaultVersion, object{"location": body["location"], "tags": orNone(body["tags"]), "properties": props}, c.flag("no-wait"))
	if v == nil {
		return nil, err
	}
	return showVault(v), err
}

func orNone(v any) any {
	if v == nil {
		return object{}
	}
	return v
}

func vaultDelete() *command {
	return &command{path: "keyvault delete", short: "Delete a vault; it can be recovered while it is retained.", example: "keyvault delete --name myVault",
		args: append(vaultArgs(), noWaitOpt()),
		run: vaulted(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			return nil, m.delete(ctx, path, vaultVersion, c.flag("no-wait"))
		})}
}

func vaultWait() *command {
	return waitCommand("keyvault wait", "Wait until a vault is there, gone or in a state.", "keyvault wait --name myVault --resource-group myGroup --created",
		[]arg{nameOpt("Name of the vault."), groupOpt()},
		func(c *call, m *management) (string, string) {
			return m.resource(c.text("resource-group"), vaultType, c.text("name")), vaultVersion
		})
}

func vaultCheckName() *command {
	return &command{path: "keyvault check-name", short: "Tell whether the name of a vault is free.", example: "keyvault check-name --name myVault",
		args: []arg{opt("name", "The name.").or("-n").required()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.post(ctx, m.subPath+"/providers/Microsoft.KeyVault/checkNameAvailability", vaultVersion,
				object{"name": c.text("name"), "type": vaultType})
			return withNulls(v, "message", "reason"), err
		})}
}

// deletedVault finds a deleted vault by name, and its region.
func (c *call) deletedVault(ctx context.Context, m *management) (any, error) {
	base := m.subPath + "/providers/Microsoft.KeyVault"
	if l := c.text("location"); l != "" {
		return m.get(ctx, base+"/locations/"+plainLocation(l)+"/deletedVaults/"+url.PathEscape(c.text("name")), vaultVersion)
	}
	all, err := m.list(ctx, base+"/deletedVaults", vaultVersion)
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		if strings.EqualFold(textAt(v, "name"), c.text("name")) {
			return v, nil
		}
	}
	return nil, notFoundf("No deleted Vault was found with name %s", c.text("name"))
}

func deletedVaultArgs() []arg {
	return []arg{opt("name", "Name of the deleted vault.").or("-n").required(), opt("location", "Region of the deleted vault.").or("-l"), noWaitOpt()}
}

func vaultRecover() *command {
	return &command{path: "keyvault recover", short: "Bring a deleted vault back.", example: "keyvault recover --name myVault",
		args: append(deletedVaultArgs(), groupFilter()),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			d, err := c.deletedVault(ctx, m)
			if err != nil {
				return nil, err
			}
			id := textAt(d, "properties", "vaultId")
			body := object{"location": textAt(d, "properties", "location"), "properties": object{"createMode": "recover",
				"tenantId": m.acct.TenantID, "sku": object{"family": "A", "name": "standard"}}}
			v, err := m.put(ctx, id, vaultVersion, body, c.flag("no-wait"))
			if v == nil {
				return nil, err
			}
			return showVault(v), err
		})}
}

func vaultPurge() *command {
	return &command{path: "keyvault purge", short: "Remove a deleted vault for good.", example: "keyvault purge --name myVault", args: deletedVaultArgs(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			d, err := c.deletedVault(ctx, m)
			if err != nil {
				return nil, err
			}
			path := m.subPath + "/providers/Microsoft.KeyVault/locations/" + plainLocation(textAt(d, "properties", "location")) +
				"/deletedVaults/" + url.PathEscape(c.text("name")) + "/purge"
			_, err = m.post(ctx, path, vaultVersion, nil)
			return nil, err
		})}
}

func vaultListDeleted() *command {
	return &command{path: "keyvault list-deleted", short: "List deleted vaults.", example: "keyvault list-deleted",
		args:  []arg{opt("resource-type", "What is listed.").oneOf("vault")},
		table: "[].{Name:name, Location:properties.location, DeletionDate:properties.deletionDate}",
		run: manage(func(ctx context.Context, _ *call, m *management) (any, error) {
			l, err := m.list(ctx, m.subPath+"/providers/Microsoft.KeyVault/deletedVaults", vaultVersion)
			return each(l, showDeletedVault), err
		})}
}

func vaultShowDeleted() *command {
	return &command{path: "keyvault show-deleted", short: "Show a deleted vault.", example: "keyvault show-deleted --name myVault", args: deletedVaultArgs()[:2],
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := c.deletedVault(ctx, m)
			return showDeletedVault(v), err
		})}
}

func showDeletedVault(v any) any {
	pythonTimes(withNulls(at(v, "properties"), "purgeProtectionEnabled"), "deletionDate", "scheduledPurgeDate")
	return v
}
