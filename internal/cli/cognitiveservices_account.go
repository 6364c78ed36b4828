package cli

import (
	"context"
	"net/url"
)

// deletedAccountArgs name a deleted account.
func deletedAccountArgs() []arg {
	return []arg{opt("name", "Name of the deleted account.").or("-n").required(), groupFilter().required(), regionOpt()}
}

func (c *call) deletedAccountPath(m *management) string {
	return m.regional(c, "resourceGroups/"+url.PathEscape(c.text("resource-group"))+"/deletedAccounts/"+url.PathEscape(c.text("name")))
}

func deletedAccountCommands() []*command {
	return []*command{
		{path: "cognitiveservices account list-deleted", short: "List deleted accounts.", example: "cognitiveservices account list-deleted",
			table: "[].{Location:location, Name:name}",
			run: manage(func(ctx context.Context, _ *call, m *management) (any, error) {
				l, err := m.list(ctx, m.cognitivePath("/deletedAccounts"), cognitiveVersion)
				return each(l, showCognitive), err
			})},
		{path: "cognitiveservices account show-deleted", short: "Show a deleted account.",
			example: "cognitiveservices account show-deleted --name myAccount --resource-group myGroup --location eastus", args: deletedAccountArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				v, err := m.get(ctx, c.deletedAccountPath(m), cognitiveVersion)
				return showCognitive(v), err
			})},
		{path: "cognitiveservices account recover", short: "Bring a deleted account back.",
			example: "cognitiveservices account recover --name myAccount --resource-group myGroup --location eastus", args: deletedAccountArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				body := object{"location": plainLocation(c.text("location")), "properties": object{"restore": true}}
				v, err := m.put(ctx, c.aiAccountPath(m), cognitiveVersion, body, false)
				return showCognitive(v), err
			})},
		{path: "cognitiveservices account purge", short: "Remove a deleted account for good.",
			example: "cognitiveservices account purge --name myAccount --resource-group myGroup --location eastus", args: deletedAccountArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return nil, m.delete(ctx, c.deletedAccountPath(m), cognitiveVersion, false)
			})},
	}
}

func aiAccountKeyCommands() []*command {
	return []*command{
		{path: "cognitiveservices account keys list", short: "List the keys of an account.",
			example: "cognitiveservices account keys list --name myAccount --resource-group myGroup --query key1 --output tsv", args: aiAccountArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return m.post(ctx, c.aiAccountPath(m)+"/listKeys", cognitiveVersion, nil)
			})},
		{path: "cognitiveservices account keys regenerate", short: "Replace a key of an account.",
			example: "cognitiveservices account keys regenerate --name myAccount --resource-group myGroup --key-name key1",
			args:    append(aiAccountArgs(), opt("key-name", "Which key.").required().oneOf("Key1", "Key2")),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return m.post(ctx, c.aiAccountPath(m)+"/regenerateKey", cognitiveVersion, object{"keyName": c.text("key-name")})
			})},
	}
}

func aiAccountRuleCommands() []*command {
	const base = "cognitiveservices account network-rule "
	fields := []arg{listOpt("ip-address", "Addresses or ranges."), opt("subnet", "Id of a subnet, or its name with --vnet-name."),
		opt("vnet-name", "Name of the virtual network of the subnet.")}
	return []*command{
		{path: base + "list", short: "List the network rules of an account.", example: base + "list --name myAccount --resource-group myGroup", args: aiAccountArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				v, err := m.get(ctx, c.aiAccountPath(m), cognitiveVersion)
				return aiAccountRules(v), err
			})},
		{path: base + "add", short: "Let an address or a subnet in.", example: base + "add --name myAccount --resource-group myGroup --ip-address 192.0.2.0/24",
			args: append(aiAccountArgs(), fields...),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return c.changeAccountRules(ctx, m, true)
			})},
		{path: base + "remove", short: "Remove the rule of an address or a subnet.", example: base + "remove --name myAccount --resource-group myGroup --ip-address 192.0.2.0/24",
			args: append(aiAccountArgs(), fields...),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return c.changeAccountRules(ctx, m, false)
			})},
	}
}

// aiAccountRules are those of an account; one without any is shown as az does,
// which denies what a first rule does not let in.
func aiAccountRules(v any) object {
	if acls, ok := at(v, "properties", "networkAcls").(object); ok {
		return acls
	}
	return object{"defaultAction": "Deny", "ipRules": []any{}, "virtualNetworkRules": []any{}}
}

func (c *call) changeAccountRules(ctx context.Context, m *management, add bool) (any, error) {
	path := c.aiAccountPath(m)
	subnet, err := c.ruleSubnet(m, path)
	if err != nil {
		return nil, err
	}
	v, err := m.get(ctx, path, cognitiveVersion)
	if err != nil {
		return nil, err
	}
	if !add && at(v, "properties", "networkAcls") == nil {
		return showCognitive(v), nil
	}
	acls := aiAccountRules(v)
	c.editRules(acls, subnet, add)
	return c.patchAIAccount(ctx, m, object{"properties": object{"networkAcls": acls}})
}

func aiAccountIdentityCommands() []*command {
	const base = "cognitiveservices account identity "
	identity := func(v any) any {
		if i := at(v, "identity"); i != nil {
			return withNulls(i, "userAssignedIdentities")
		}
		return object{}
	}
	return []*command{
		{path: base + "assign", short: "Give an account an identity of its own.", example: base + "assign --name myAccount --resource-group myGroup", args: aiAccountArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				v, err := c.patchAIAccount(ctx, m, object{"identity": object{"type": "SystemAssigned"}})
				return identity(v), err
			})},
		{path: base + "show", short: "Show the identity of an account.", example: base + "show --name myAccount --resource-group myGroup", args: aiAccountArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				v, err := m.get(ctx, c.aiAccountPath(m), cognitiveVersion)
				return identity(v), err
			})},
		{path: base + "remove", short: "Take the identity of an account away.", example: base + "remove --name myAccount --resource-group myGroup", args: aiAccountArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return c.patchAIAccount(ctx, m, object{"identity": object{"type": "None"}})
			})},
	}
}
