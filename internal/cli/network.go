package cli

import (
	"context"
	"strings"
)

const (
	networkType       = "Microsoft.Network/virtualNetworks"
	subnetType        = networkType + "/subnets"
	peeringType       = networkType + "/virtualNetworkPeerings"
	endpointType      = "Microsoft.Network/privateEndpoints"
	zoneType          = "Microsoft.Network/privateDnsZones"
	networkVersion    = "2024-05-01"
	privateDNSVersion = "2020-06-01"
)

func networkNoun() noun {
	return noun{name: "network", short: "Manage virtual networks, private endpoints and private DNS.",
		groups: map[string]string{
			"vnet": "Manage virtual networks.", "vnet subnet": "Manage subnets.", "vnet peering": "Manage peerings of virtual networks.",
			"private-endpoint": "Manage private endpoints.", "private-endpoint dns-zone-group": "Manage the zones into which a private endpoint's names are written.",
			"private-endpoint-connection": "Approve, reject and remove connections of private endpoints.",
			"private-link-resource":       "Show what private endpoints can reach of a resource.",
			"private-dns":                 "Manage private DNS.", "private-dns zone": "Manage private DNS zones.", "private-dns link": "Manage links of zones.",
			"private-dns link vnet": "Manage links of zones to virtual networks.", "private-dns record-set": "Manage record sets.",
			"private-dns record-set a": "Manage A record sets.", "private-dns record-set aaaa": "Manage AAAA record sets.", "private-dns record-set cname": "Manage CNAME record sets.",
			"private-dns record-set mx": "Manage MX record sets.", "private-dns record-set ptr": "Manage PTR record sets.", "private-dns record-set srv": "Manage SRV record sets.",
			"private-dns record-set txt": "Manage TXT record sets.", "nic": "Show network interfaces.", "public-ip": "Manage public addresses.",
		},
		commands: func() []*command {
			var all []*command
			for _, list := range [][]*command{vnetCommands(), subnetCommands(), peeringCommands(), endpointCommands(), zoneGroupCommands(),
				connectionCommands(), nicCommands(), publicIPCommands(), zoneCommands(), zoneLinkCommands(), recordSetCommands()} {
				all = append(all, list...)
			}
			return all
		}}
}

// resourceRows are the commands of a resource type that are alike for all.
type resourceRows struct {
	path, what, typ, version string // "network vnet", "virtual network"
	parents                  []arg  // names of the resources above it, outermost first
	noGroup                  bool   // of list: the group may be left out
}

func (r resourceRows) named() arg {
	if len(r.parents) > 0 {
		return opt("name", "Name of the "+r.what+".").or("-n").required().idPart("child")
	}
	return nameOpt("Name of the " + r.what + ".")
}

// where is the id that the options name.
func (r resourceRows) where(c *call, m *management) string {
	var names []string
	for _, p := range r.parents {
		names = append(names, c.text(p.name))
	}
	if _, ok := c.defs["name"]; ok {
		names = append(names, c.text("name"))
	}
	return m.resource(c.text("resource-group"), r.typ, names...)
}

func (r resourceRows) args(more ...arg) []arg {
	return append(append([]arg{r.named(), groupOpt()}, r.parents...), more...)
}

// sample is the part of an example that names the resource.
func (r resourceRows) sample() string {
	s := " -g myGroup"
	for _, p := range r.parents {
		s += " --" + p.name + " " + "my" + strings.ToUpper(p.name[:1]) + strings.ReplaceAll(p.name[1:], "-", "")
	}
	return s
}

func (r resourceRows) show() *command {
	return &command{path: r.path + " show", short: "Show a " + r.what + ".", example: r.path + " show -n myName" + r.sample(), args: r.args(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, r.where(c, m), r.version)
			return flattenAll(v), err
		})}
}

func (r resourceRows) list() *command {
	args := append([]arg{groupOpt()}, r.parents...)
	if r.noGroup {
		args[0] = groupFilter()
	}
	return &command{path: r.path + " list", short: "List them.", example: r.path + " list" + r.sample(), args: args,
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			where := m.listPath(c.text("resource-group"), r.typ)
			if len(r.parents) > 0 {
				where = r.where(c, m)
			}
			l, err := m.list(ctx, where, r.version)
			return each(l, func(v any) any { return flattenAll(v) }), err
		})}
}

func (r resourceRows) delete(ask bool) *command {
	args := r.args(noWaitOpt())
	if ask {
		args = append(args, yesOpt())
	}
	example := r.path + " delete -n myName" + r.sample()
	if ask {
		example += " --yes"
	}
	return &command{path: r.path + " delete", short: "Delete a " + r.what + ".", example: example, args: args,
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if ask {
				if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
					return nil, err
				}
			}
			return nil, m.delete(ctx, r.where(c, m), r.version, c.flag("no-wait"))
		})}
}

// create makes a command that puts what body gives.
func (r resourceRows) create(example string, more []arg, body func(ctx context.Context, c *call, m *management) (object, error)) *command {
	return &command{path: r.path + " create", short: "Create a " + r.what + ".", example: r.path + " create -n myName" + r.sample() + example,
		args: r.args(append(more, noWaitOpt())...),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			b, err := body(ctx, c, m)
			if err != nil {
				return nil, err
			}
			v, err := m.put(ctx, r.where(c, m), r.version, b, c.flag("no-wait"))
			return flattenAll(v), err
		})}
}

// update makes a command that reads, changes and puts.
func (r resourceRows) update(example string, more []arg, change func(c *call, m *management, v object) error) *command {
	return &command{path: r.path + " update", short: "Change a " + r.what + ".", example: r.path + " update -n myName" + r.sample() + example,
		args: r.args(append(more, noWaitOpt())...),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, r.where(c, m), r.version)
			if err != nil {
				return nil, err
			}
			o, _ := v.(object)
			if err := change(c, m, o); err != nil {
				return nil, err
			}
			out, err := m.put(ctx, r.where(c, m), r.version, o, c.flag("no-wait"))
			return flattenAll(out), err
		})}
}

// flattenAll is flatten at every depth, as az prints what the network client gives.
func flattenAll(v any) any {
	switch t := v.(type) {
	case []any:
		for i := range t {
			t[i] = flattenAll(t[i])
		}
	case object:
		if _, inner := t["properties"].(object); inner {
			t, _ = flatten(t).(object)
		}
		for k := range t {
			t[k] = flattenAll(t[k])
		}
		return t
	}
	return v
}

// idOf is the id that text is, or that it names in the group.
func (m *management) idOf(group, typ, text string, above ...string) string {
	if text == "" || strings.HasPrefix(text, "/") {
		return text
	}
	return m.resource(group, typ, append(above, text)...)
}

func vnetCommands() []*command {
	r := resourceRows{path: "network vnet", what: "virtual network", typ: networkType, version: networkVersion, noGroup: true}
	create := r.create(" --address-prefixes 10.0.0.0/16 --subnet-name default --subnet-prefixes 10.0.0.0/24", []arg{
		locationOpt(), tagsOpt(), listOpt("address-prefixes", "Ranges of the network. Default: 10.0.0.0/16.").or("--address-prefix"),
		opt("subnet-name", "Name of a subnet to make with it."), listOpt("subnet-prefixes", "Ranges of that subnet.").or("--subnet-prefix"),
	}, func(ctx context.Context, c *call, m *management) (object, error) {
		loc, err := m.locationOf(ctx, c)
		if err != nil {
			return nil, err
		}
		space := c.many("address-prefixes")
		if len(space) == 0 {
			space = []string{"10.0.0.0/16"}
		}
		props := object{"addressSpace": object{"addressPrefixes": space}}
		if c.given("subnet-name") {
			sp := object{}
			setPrefixes(sp, c.many("subnet-prefixes"), "10.0.0.0/24")
			props["subnets"] = []any{object{"name": c.text("subnet-name"), "properties": sp}}
		}
		b := object{"location": loc, "properties": props}
		c.setIf(b, "tags", "tags")
		return b, nil
	})
	plain := create.run
	create.run = func(ctx context.Context, c *call) (any, error) {
		v, err := plain(ctx, c)
		if err != nil || v == nil {
			return v, err
		}
		return object{"newVNet": v}, nil
	}
	return []*command{create, r.show(), r.list(), r.delete(false),
		r.update(" --address-prefixes 10.0.0.0/16 10.1.0.0/16", []arg{tagsOpt(), listOpt("address-prefixes", "Ranges of the network.")}, func(c *call, _ *management, v object) error {
			if c.given("address-prefixes") {
				sub(sub(v, "properties"), "addressSpace")["addressPrefixes"] = c.many("address-prefixes")
			}
			c.setIf(v, "tags", "tags")
			return nil
		})}
}

// setPrefixes sets a subnet's ranges.
func setPrefixes(props object, list []string, def string) {
	switch {
	case len(list) > 1:
		props["addressPrefixes"] = list
	case len(list) == 1:
		props["addressPrefix"] = list[0]
	default:
		props["addressPrefix"] = def
	}
}

func vnetOpt() arg {
	return opt("vnet-name", "Name of the virtual network.").required().idPart("name")
}

func subnetCommands() []*command {
	r := resourceRows{path: "network vnet subnet", what: "subnet", typ: subnetType, version: networkVersion, parents: []arg{vnetOpt()}}
	fields := []arg{listOpt("address-prefixes", "Ranges of the subnet.").or("--address-prefix"), listOpt("service-endpoints", "Services that know the subnet, such as Microsoft.KeyVault."),
		boolOpt("default-outbound", "Whether it reaches the internet.").or("--default-outbound-access"),
		opt("network-security-group", "Refused: security rules are not enforced.").or("--nsg"), opt("route-table", "Refused: routes of one's own are not followed."),
		boolOpt("disable-private-endpoint-network-policies", "Always true: nothing else is enforced.")}
	fill := func(c *call, m *management, p object) {
		if c.given("service-endpoints") {
			var list []any
			for _, s := range c.many("service-endpoints") {
				if s != "" {
					list = append(list, object{"service": s})
				}
			}
			p["serviceEndpoints"] = list
		}
		c.setIf(p, "defaultOutboundAccess", "default-outbound")
		for option, key := range map[string]string{"network-security-group": "networkSecurityGroup", "route-table": "routeTable"} {
			if c.given(option) {
				p[key] = object{"id": m.idOf(c.text("resource-group"), "Microsoft.Network/"+key+"s", c.text(option))}
			}
		}
		if c.given("disable-private-endpoint-network-policies") {
			p["privateEndpointNetworkPolicies"] = map[bool]string{true: "Disabled", false: "Enabled"}[c.flag("disable-private-endpoint-network-policies")]
		}
	}
	return []*command{
		r.create(" --address-prefixes 10.0.1.0/24", fields, func(_ context.Context, c *call, m *management) (object, error) {
			if !c.given("address-prefixes") {
				return nil, usagef("the following arguments are required: --address-prefixes")
			}
			p := object{}
			setPrefixes(p, c.many("address-prefixes"), "")
			fill(c, m, p)
			return object{"properties": p}, nil
		}),
		r.update(" --service-endpoints Microsoft.KeyVault", fields, func(c *call, m *management, v object) error {
			p := sub(v, "properties")
			if c.given("address-prefixes") {
				delete(p, "addressPrefixes")
				setPrefixes(p, c.many("address-prefixes"), "")
			}
			fill(c, m, p)
			return nil
		}),
		r.show(), r.list(), r.delete(false),
	}
}

func peeringCommands() []*command {
	r := resourceRows{path: "network vnet peering", what: "peering", typ: peeringType, version: networkVersion, parents: []arg{vnetOpt()}}
	return []*command{
		r.create(" --remote-vnet otherNetwork --allow-vnet-access", []arg{
			opt("remote-vnet", "Name or id of the other virtual network.").required(), boolOpt("allow-vnet-access", "Let the networks reach each other."),
			boolOpt("allow-forwarded-traffic", "Let what others forward through."), boolOpt("allow-gateway-transit", "Refused: there are no gateways."), boolOpt("use-remote-gateways", "Refused: there are no gateways."),
		}, func(_ context.Context, c *call, m *management) (object, error) {
			p := object{"remoteVirtualNetwork": object{"id": m.idOf(c.text("resource-group"), networkType, c.text("remote-vnet"))}, "allowVirtualNetworkAccess": c.flag("allow-vnet-access"),
				"allowForwardedTraffic": c.flag("allow-forwarded-traffic"), "allowGatewayTransit": c.flag("allow-gateway-transit"), "useRemoteGateways": c.flag("use-remote-gateways")}
			return object{"properties": p}, nil
		}),
		r.show(), r.list(), r.delete(false),
	}
}

func endpointCommands() []*command {
	r := resourceRows{path: "network private-endpoint", what: "private endpoint", typ: endpointType, version: networkVersion, noGroup: true}
	return []*command{
		r.create(" --vnet-name myNetwork --subnet default --private-connection-resource-id ID --group-id vault --connection-name myConnection", []arg{
			locationOpt(), tagsOpt(), opt("subnet", "Name or id of the subnet.").required(), opt("vnet-name", "Name of the virtual network of the subnet."),
			opt("private-connection-resource-id", "Id of the resource to connect to.").required(), listOpt("group-id", "Part of the resource: vault, account.").or("--group-ids"),
			opt("connection-name", "Name of the connection.").required(), boolOpt("manual-request", "Wait for somebody to approve."),
			opt("request-message", "What to tell whoever approves."), opt("nic-name", "Name of the network interface."),
		}, func(ctx context.Context, c *call, m *management) (object, error) {
			if !strings.HasPrefix(c.text("subnet"), "/") && c.text("vnet-name") == "" {
				return nil, usagef("usage error: --subnet ID | --subnet NAME --vnet-name NAME")
			}
			loc, err := m.locationOf(ctx, c)
			if err != nil {
				return nil, err
			}
			kind := "privateLinkServiceConnections"
			if c.flag("manual-request") {
				kind = "manualPrivateLinkServiceConnections"
			}
			link := withoutNil(object{"privateLinkServiceId": c.text("private-connection-resource-id"), "groupIds": c.many("group-id"), "requestMessage": c.text("request-message")})
			p := withoutNil(object{"subnet": object{"id": m.idOf(c.text("resource-group"), subnetType, c.text("subnet"), c.text("vnet-name"))},
				kind: []any{object{"name": c.text("connection-name"), "properties": link}}, "customNetworkInterfaceName": c.text("nic-name")})
			b := object{"location": loc, "properties": p}
			c.setIf(b, "tags", "tags")
			return b, nil
		}),
		r.show(), r.list(), r.delete(false),
	}
}

func nicCommands() []*command {
	r := resourceRows{path: "network nic", what: "network interface", typ: "Microsoft.Network/networkInterfaces", version: networkVersion, noGroup: true}
	return []*command{r.show(), r.list()}
}

func publicIPCommands() []*command {
	r := resourceRows{path: "network public-ip", what: "public address", typ: "Microsoft.Network/publicIPAddresses", version: networkVersion, noGroup: true}
	create := r.create("", []arg{locationOpt(), tagsOpt(), opt("allocation-method", "Dynamic; Static is refused: there is no address of the internet to give.").oneOf("Dynamic", "Static"),
		opt("sku", "Name of the SKU.").oneOf("Basic", "Standard"), opt("version", "Version of IP.").oneOf("IPv4", "IPv6")}, func(ctx context.Context, c *call, m *management) (object, error) {
		loc, err := m.locationOf(ctx, c)
		if err != nil {
			return nil, err
		}
		p := object{}
		c.setIf(p, "publicIPAllocationMethod", "allocation-method")
		c.setIf(p, "publicIPAddressVersion", "version")
		b := object{"location": loc, "properties": p}
		if c.given("sku") {
			b["sku"] = object{"name": c.text("sku")}
		}
		c.setIf(b, "tags", "tags")
		return b, nil
	})
	plain := create.run
	create.run = func(ctx context.Context, c *call) (any, error) {
		v, err := plain(ctx, c)
		if err != nil || v == nil {
			return v, err
		}
		return object{"publicIp": v}, nil
	}
	return []*command{create, r.show(), r.list(), r.delete(false)}
}
