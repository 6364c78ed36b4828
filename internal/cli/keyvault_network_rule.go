package cli

import (
	"context"
	"strings"
)

func networkRuleCommands() []*command {
	fields := []arg{listOpt("ip-address", "Addresses or ranges."), opt("subnet", "Id of a subnet, or its name with --vnet-name."),
		opt("vnet-name", "Name of the virtual network of the subnet."), noWaitOpt()}
	return []*command{
		{path: "keyvault network-rule list", short: "List the network rules of a vault.", example: "keyvault network-rule list --name myVault", args: vaultArgs(),
			run: vaulted(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
				v, err := m.get(ctx, path, vaultVersion)
				acls := at(v, "properties", "networkAcls")
				return withNulls(acls, "ipRules", "virtualNetworkRules"), err
			})},
		{path: "keyvault network-rule add", short: "Let an address or a subnet in.", example: "keyvault network-rule add --name myVault --ip-address 192.0.2.0/24",
			args: append(vaultArgs(), fields...),
			run: vaulted(func(ctx context.Context, c *call, m *management, path string) (any, error) {
				return c.changeRules(ctx, m, path, true)
			})},
		{path: "keyvault network-rule remove", short: "Remove the rule of an address or a subnet.", example: "keyvault network-rule remove --name myVault --ip-address 192.0.2.0/24",
			args: append(vaultArgs(), fields...),
			run: vaulted(func(ctx context.Context, c *call, m *management, path string) (any, error) {
				return c.changeRules(ctx, m, path, false)
			})},
		waitCommand("keyvault network-rule wait", "Wait until the rules of a vault hold.", "keyvault network-rule wait --name myVault --resource-group myGroup --updated",
			[]arg{nameOpt("Name of the vault."), groupOpt()},
			func(c *call, m *management) (string, string) {
				return m.resource(c.text("resource-group"), vaultType, c.text("name")), vaultVersion
			}),
	}
}

// ruleSubnet is the id that --subnet and --vnet-name give.
func (c *call) ruleSubnet(m *management, vaultPath string) (string, error) {
	s := c.text("subnet")
	if s == "" || strings.HasPrefix(s, "/") {
		return s, nil
	}
	if c.text("vnet-name") == "" {
		return "", usagef("usage error: --subnet ID | --subnet NAME --vnet-name NAME")
	}
	group := firstNonEmpty(c.text("resource-group"), strings.Split(vaultPath, "/")[4])
	return m.resource(group, "Microsoft.Network/virtualNetworks/subnets", c.text("vnet-name"), s), nil
}

func (c *call) changeRules(ctx context.Context, m *management, path string, add bool) (any, error) {
	subnet, err := c.ruleSubnet(m, path)
	if err != nil {
		return nil, err
	}
	if subnet == "" && !c.given("ip-address") {
		return nil, usagef("usage error: --subnet ID | --ip-address ADDRESS")
	}
	v, err := m.get(ctx, path, vaultVersion)
	if err != nil {
		return nil, err
	}
	acls := sub(sub(v.(object), "properties"), "networkAcls")
	if acls["defaultAction"] == nil {
		acls["defaultAction"], acls["bypass"] = "Allow", "AzureServices"
	}
	c.editRules(acls, subnet, add)
	return putVault(ctx, c, m, path, v.(object))
}

// editRules adds or removes the rules of --ip-address and of a subnet.
func (c *call) editRules(acls object, subnet string, add bool) {
	for _, ip := range c.many("ip-address") {
		acls["ipRules"] = withoutRule(items(acls["ipRules"]), "value", ip)
		if add {
			addRule(acls, "ip", ip)
		}
	}
	if subnet != "" {
		acls["virtualNetworkRules"] = withoutRule(items(acls["virtualNetworkRules"]), "id", subnet)
		if add {
			addRule(acls, "vnet", subnet)
		}
	}
}

// withoutRule drops the rule of an address or subnet; an address equals its /32.
func withoutRule(rules []any, key, value string) []any {
	out := []any{}
	for _, r := range rules {
		if !strings.EqualFold(strings.TrimSuffix(textAt(r, key), "/32"), strings.TrimSuffix(value, "/32")) {
			out = append(out, r)
		}
	}
	return out
}
