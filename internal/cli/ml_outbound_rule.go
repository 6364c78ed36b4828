package cli

import (
	"context"
	"fmt"
	"strings"
)

// Outbound rules of a workspace's managed network.

func ruleTypes() conv {
	return enum("fqdn", "FQDN", "private_endpoint", "PrivateEndpoint", "service_tag", "ServiceTag")
}

func ruleDestinations() map[string]mlFields {
	return map[string]mlFields{
		"PrivateEndpoint": {name: "PrivateEndpointDestinationSchema", fields: []mlField{
			{yaml: "service_resource_id", wire: "serviceResourceId", conv: textConv()}, {yaml: "subresource_target", wire: "subresourceTarget", conv: textConv()},
			{yaml: "spark_enabled", wire: "sparkEnabled", conv: boolConv()}, {yaml: "spark_status", wire: "sparkStatus", shown: true}}},
		"ServiceTag": {name: "ServiceTagDestinationSchema", fields: []mlField{
			{yaml: "service_tag", wire: "serviceTag", conv: textConv()}, {yaml: "protocol", wire: "protocol", conv: textConv()},
			{yaml: "port_ranges", wire: "portRanges", conv: textConv()}, {yaml: "action", wire: "action", conv: enum("allow", "Allow", "deny", "Deny")},
			{yaml: "address_prefixes", wire: "addressPrefixes"}}},
	}
}

// ruleToWire makes the wire's rule of a description's.
func ruleToWire(rule object) (any, error) {
	s := mlFields{name: "OutboundRuleSchema", also: []string{"name", "destination", "category", "status"}, fields: []mlField{{yaml: "type", wire: "type", conv: ruleTypes()}}}
	out, err := s.wire(rule)
	if err != nil {
		return nil, err
	}
	typ := textAt(out, "type")
	switch {
	case typ == "":
		return nil, fmt.Errorf("the type of the rule %q is missing", textAt(rule, "name"))
	case textAt(rule, "name") == "":
		return nil, fmt.Errorf("the name of a rule is missing")
	case rule["destination"] == nil:
		return nil, fmt.Errorf("the destination of the rule %q is missing", textAt(rule, "name"))
	}
	if fields, ok := ruleDestinations()[typ]; ok {
		d, err := nested(fields).to(rule["destination"])
		if err != nil {
			return nil, err
		}
		out["destination"] = d
	} else {
		out["destination"] = scalarText(rule["destination"])
	}
	out["category"] = "UserDefined"
	return out, nil
}

func showRule(name string, v any) any {
	typ := textAt(v, "type")
	out := object{"name": name, "type": ruleTypes().from(typ), "destination": at(v, "destination")}
	if fields, ok := ruleDestinations()[typ]; ok {
		out["destination"] = nested(fields).from(at(v, "destination"))
	}
	if s := textAt(v, "category"); s != "" {
		out["category"] = snakeCase(s)
	}
	if s := textAt(v, "status"); s != "" {
		out["status"] = s
	}
	return out
}

// showRuleResource is a rule as a resource of its own.
func showRuleResource(v any) any {
	if v == nil {
		return nil
	}
	out := showRule(textAt(v, "name"), at(v, "properties")).(object)
	out["id"] = at(v, "id")
	return out
}

// ruleOptions gives the destination that the options say.
func (c *call) ruleDestination(typ string) (any, error) {
	d := object{}
	fill := func(pairs ...string) any {
		for i := 0; i < len(pairs); i += 2 {
			c.setIf(d, pairs[i+1], pairs[i])
		}
		return d
	}
	switch typ {
	case "fqdn":
		if c.text("destination") == "" {
			return nil, usagef("argument --destination is required for rules of type fqdn: a name, such as pypi.org or *.pypi.org")
		}
		return c.text("destination"), nil
	case "private_endpoint":
		if c.text("service-resource-id") == "" || c.text("subresource-target") == "" {
			return nil, usagef("arguments --service-resource-id and --subresource-target are required for rules of type private_endpoint")
		}
		d["spark_enabled"] = false
		return fill("service-resource-id", "service_resource_id", "subresource-target", "subresource_target", "spark-enabled", "spark_enabled"), nil
	}
	if c.text("service-tag") == "" && !c.given("address-prefixes") || c.text("protocol") == "" || c.text("port-ranges") == "" {
		return nil, usagef("arguments --service-tag or --address-prefixes, --protocol and --port-ranges are required for rules of type service_tag")
	}
	return fill("service-tag", "service_tag", "protocol", "protocol", "port-ranges", "port_ranges", "address-prefixes", "address_prefixes"), nil
}

// ruleTable shows of a resource its name, and of a tag all that it lets out.
const ruleTable = `[].{Name:name, Type:type, Category:category, Status:status, Destination:
	(type == 'private_endpoint' && join(' ', [split(destination.service_resource_id, '/')[-1], destination.subresource_target])) ||
	(type == 'service_tag' && join(' ', [destination.service_tag || join(',', destination.address_prefixes || ` + "`[]`" + `), destination.protocol, destination.port_ranges])) ||
	destination}`

func outboundRuleCommands() []*command {
	const path = "ml workspace outbound-rule "
	rule := func() arg { return opt("rule", "Name of the rule.").required() }
	return []*command{
		{path: path + "set", short: "Create or change a rule of what the managed network lets out.",
			example: path + "set -g myGroup -w myWorkspace --rule pypi --type fqdn --destination pypi.org",
			args: inWorkspace(rule(), opt("type", "Kind of rule.").required().oneOf("fqdn", "private_endpoint", "service_tag"),
				opt("destination", "Name that may be reached, for fqdn: pypi.org or *.pypi.org."),
				opt("service-resource-id", "Id of the resource, for private_endpoint."), opt("subresource-target", "Part of the resource, for private_endpoint: vault, blob."),
				boolOpt("spark-enabled", "Whether Spark may use it too, for private_endpoint."),
				opt("service-tag", "Service tag, for service_tag."), listOpt("address-prefixes", "Addresses, for service_tag, beside or in place of a tag: 203.0.113.0/24."), opt("protocol", "Protocol, for service_tag: TCP, UDP, ICMP or *."),
				opt("port-ranges", "Ports, for service_tag: 80, 443 or 8000-8100."), noWaitOpt()),
			run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
				typ := strings.ToLower(c.text("type"))
				d, err := c.ruleDestination(typ)
				if err != nil {
					return nil, err
				}
				wire, err := ruleToWire(object{"name": c.text("rule"), "type": typ, "destination": d})
				if err != nil {
					return nil, err
				}
				v, err := w.m.put(ctx, w.under("outboundRules", c.text("rule")), mlVersion, object{"properties": wire}, c.flag("no-wait"))
				return showRuleResource(v), err
			})},
		{path: path + "list", short: "List the rules of what the managed network lets out.", example: path + "list -g myGroup -w myWorkspace", args: inWorkspace(),
			table: ruleTable,
			run: workspaced(func(ctx context.Context, _ *call, w *workspace) (any, error) {
				l, err := w.list(ctx, "outboundRules")
				return each(l, showRuleResource), err
			})},
		{path: path + "show", short: "Show a rule.", example: path + "show -g myGroup -w myWorkspace --rule pypi", args: inWorkspace(rule()),
			run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
				v, err := w.get(ctx, "outboundRules", c.text("rule"))
				return showRuleResource(v), err
			})},
		{path: path + "remove", short: "Remove a rule.", example: path + "remove -g myGroup -w myWorkspace --rule pypi --yes", args: inWorkspace(rule(), yesOpt(), noWaitOpt()),
			run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
				if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
					return nil, err
				}
				if _, err := w.get(ctx, "outboundRules", c.text("rule")); err != nil {
					return nil, err
				}
				return nil, w.m.delete(ctx, w.under("outboundRules", c.text("rule")), mlVersion, c.flag("no-wait"))
			})},
	}
}
