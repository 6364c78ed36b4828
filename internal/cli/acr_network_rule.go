package cli

import (
	"context"
)

// acrRuleCommands manage from where a registry may be reached. Registries know
// no rules for subnets here.
func acrRuleCommands() []*command {
	address := func() []arg { return append(acrArgs(), opt("ip-address", "Address or range.").required()) }
	change := func(add bool) func(context.Context, *call) (any, error) {
		return registered(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			v, err := m.get(ctx, path, registryVersion)
			if err != nil {
				return nil, err
			}
			rules, _ := at(v, "properties", "networkRuleSet").(object)
			if rules == nil {
				rules = object{"defaultAction": "Allow"}
			}
			c.editRules(rules, "", add)
			v, err = m.patch(ctx, path, registryVersion, object{"properties": object{"networkRuleSet": rules}}, false)
			return showRegistry(v), err
		})
	}
	return []*command{
		{path: "acr network-rule list", short: "List the network rules of a registry.", example: "acr network-rule list --name myregistry", args: acrArgs(),
			run: registered(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
				v, err := m.get(ctx, path, registryVersion)
				rules, _ := showRules(at(v, "properties", "networkRuleSet")).(object)
				return object{"ipRules": items(rules["ipRules"]), "virtualNetworkRules": items(rules["virtualNetworkRules"])}, err
			})},
		{path: "acr network-rule add", short: "Let an address in.", example: "acr network-rule add --name myregistry --ip-address 192.0.2.0/24", args: address(), run: change(true)},
		{path: "acr network-rule remove", short: "Remove the rule of an address.", example: "acr network-rule remove --name myregistry --ip-address 192.0.2.0/24", args: address(), run: change(false)},
	}
}
