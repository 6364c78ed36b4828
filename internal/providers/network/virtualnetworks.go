package network

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Network are the properties of a virtual network.
type Network struct {
	Space      *Space         `json:"addressSpace,omitempty"`
	DHCP       *DHCP          `json:"dhcpOptions,omitempty"`
	Subnets    []SubnetEntry  `json:"subnets,omitempty"`
	Peerings   []PeeringEntry `json:"virtualNetworkPeerings,omitempty"`
	GUID       string         `json:"resourceGuid,omitempty"`
	DDoS       *bool          `json:"enableDdosProtection,omitempty"`
	DDoSPlan   *Ref           `json:"ddosProtectionPlan,omitempty"`
	Encryption *struct {
		Enabled bool `json:"enabled,omitempty"`
	} `json:"encryption,omitempty"`
	BGP *struct {
		Community string `json:"virtualNetworkCommunity,omitempty"`
	} `json:"bgpCommunities,omitempty"`
	PEPolicies string `json:"privateEndpointVNetPolicies,omitempty"`
	Flow       *int   `json:"flowTimeoutInMinutes,omitempty"`
}

// Space is a list of ranges.
type Space struct {
	Prefixes []string `json:"addressPrefixes"`
}

// DHCP names resolvers.
type DHCP struct {
	Servers []string `json:"dnsServers"`
}

// Ref points at a resource.
type Ref struct {
	ID string `json:"id,omitempty"`
}

// SubnetEntry is a subnet among the properties of its network.
type SubnetEntry struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	Type       string `json:"type,omitempty"`
	Properties Subnet `json:"properties"`
}

// PeeringEntry is a peering among the properties of its network.
type PeeringEntry struct {
	ID         string  `json:"id,omitempty"`
	Name       string  `json:"name,omitempty"`
	Type       string  `json:"type,omitempty"`
	Properties Peering `json:"properties"`
}

const (
	maxRanges  = 500
	maxSubnets = 3000
)

// uidKey is where a network keeps what names it for good.
const uidKey = "uid"

// reserved are ranges that no network has. Source: "What address ranges can I
// use in my VNets?".
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("0.0.0.0/8"),
	}
}

func networkName(what string, most int) func(string) error {
	return func(name string) error {
		ok := len(name) > 0 && len(name) <= most
		for i := range len(name) {
			c := name[i]
			alnum := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
			ok = ok && (alnum || c == '_' && i > 0 || (c == '.' || c == '-') && i > 0 && i < len(name)-1)
		}
		if !ok {
			return bad("InvalidResourceName", "name", "Resource name %s is invalid. The name of a %s can be up to %d characters long. It must begin with a word character, and it must end with a word character or with '_'. The name may contain word characters or '.', '-', '_'.", name, what, most)
		}
		return nil
	}
}

func (p *provider) networks() arm.Kind[Network] {
	return arm.Kind[Network]{
		Type: "virtualNetworks", APIVersions: versions(), Tracked: true, Name: networkName("virtual network", 80),
		ReadOnly:  []string{"resourceGuid"},
		WriteOnly: []string{"subnets", "virtualNetworkPeerings"},
		Default: func(_ context.Context, old, next *arm.Resource[Network]) error {
			if old == nil {
				next.Private[uidKey] = uuid.NewString()
				next.Properties.GUID = next.Private[uidKey]
			}
			no := false
			if next.Properties.DDoS == nil {
				next.Properties.DDoS = &no
			}
			if next.Properties.PEPolicies == "" {
				next.Properties.PEPolicies = "Disabled"
			}
			return nil
		},
		Validate: p.validateNetwork, Put: p.putNetwork, Read: p.readNetwork, Inline: p.inlineSubnets, Delete: p.deleteNetwork,
		Deletable: func(ctx context.Context, old *arm.Resource[Network]) error {
			return p.unused(ctx, old.ID, "", false)
		},
	}
}

// prefixes reads ranges; what names the property.
func prefixes(list []string, what string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		r, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return nil, bad("InvalidAddressPrefixFormat", what, "Address prefix %s of resource %s is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.", text, what)
		case !r.Addr().Is4():
			return nil, bad("NotEnforced", what, "The range %s is refused: networks of this service carry IPv4 alone.", text)
		case r.Masked() != r:
			return nil, bad("InvalidCIDRNotation", what, "The address prefix %s has an invalid CIDR notation. For the given prefix length, the address prefix should be %s.", text, r.Masked())
		case r.Bits() < 8 || r.Bits() > 29:
			return nil, bad("InvalidAddressPrefixFormat", what, "The range %s must be a /8 to a /29.", text)
		}
		for _, no := range reserved() {
			if no.Overlaps(r) {
				return nil, bad("AddressPrefixNotAllowed", what, "The range %s overlaps %s, which is reserved.", text, no)
			}
		}
		for _, o := range out {
			if o.Overlaps(r) {
				return nil, bad("AddressPrefixesOverlap", what, "The ranges %s and %s overlap.", o, r)
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func (n *Network) ranges() []netip.Prefix {
	if n.Space == nil {
		return nil
	}
	out, err := prefixes(n.Space.Prefixes, "properties.addressSpace")
	if err != nil {
		return nil // it was validated
	}
	return out
}

func inside(r netip.Prefix, space []netip.Prefix) bool {
	return slices.ContainsFunc(space, func(s netip.Prefix) bool { return s.Bits() <= r.Bits() && s.Contains(r.Addr()) })
}

func (p *provider) validateNetwork(ctx context.Context, old, next *arm.Resource[Network]) error {
	n := &next.Properties
	if n.Space == nil || len(n.Space.Prefixes) == 0 || len(n.Space.Prefixes) > maxRanges {
		return bad("InvalidRequestFormat", "properties.addressSpace", "The virtual network needs 1 to %d ranges in addressSpace.addressPrefixes.", maxRanges)
	}
	space, err := prefixes(n.Space.Prefixes, "properties.addressSpace")
	if err != nil {
		return err
	}
	switch {
	case n.DDoS != nil && *n.DDoS, n.DDoSPlan != nil:
		return refuse("properties.enableDdosProtection", "nothing protects from floods here")
	case n.DHCP != nil && len(n.DHCP.Servers) > 0:
		return refuse("properties.dhcpOptions.dnsServers", "the resolver of a network is this service's: it answers for linked private DNS zones and asks the machine's resolvers for the rest")
	case n.Encryption != nil && n.Encryption.Enabled:
		return refuse("properties.encryption.enabled", "traffic inside a network stays on this machine and is not encrypted")
	case n.BGP != nil && n.BGP.Community != "":
		return refuse("properties.bgpCommunities", "there are no circuits that could learn it")
	case !strings.EqualFold(n.PEPolicies, "Disabled"):
		return refuse("properties.privateEndpointVNetPolicies", "high availability of private endpoints is not divided between zones: all are on one machine. Leave it Disabled")
	case n.Flow != nil && *n.Flow != 0:
		return refuse("properties.flowTimeoutInMinutes", "flows end when their connections do")
	}
	if err := p.validateInlinePeerings(ctx, next); err != nil {
		return err
	}
	if err := p.validatePeers(next.ID, space); err != nil {
		return err
	}
	if n.Subnets == nil && old != nil { // they stay, and must still fit
		c, err := p.claimsOf(ctx, next.ID)
		if err != nil {
			return err
		}
		for name, ranges := range c.Subnets {
			for _, r := range mustRanges(ranges) {
				if !inside(r, space) {
					return bad("InUsePrefixCannotBeDeleted", "properties.addressSpace", "IpPrefix %s on Subnet %s has active allocations and cannot be deleted.", r, name)
				}
			}
		}
		return nil
	}
	return p.validateInline(ctx, next, space)
}

// validateInline checks the subnets that come with their network.
func (p *provider) validateInline(ctx context.Context, next *arm.Resource[Network], space []netip.Prefix) error {
	if len(next.Properties.Subnets) > maxSubnets {
		return bad("SubnetLimitExceeded", "properties.subnets", "There are %d subnets; at most %d are allowed.", len(next.Properties.Subnets), maxSubnets)
	}
	seen := map[string][]netip.Prefix{}
	check := networkName("subnet", 80)
	for i := range next.Properties.Subnets {
		s := &next.Properties.Subnets[i]
		if err := check(s.Name); err != nil {
			return err
		}
		if seen[strings.ToLower(s.Name)] != nil {
			return bad("InvalidRequestFormat", "properties.subnets", "The subnet '%s' comes twice.", s.Name)
		}
		ranges, err := s.Properties.complete(s.Name)
		if err != nil {
			return err
		}
		if err := fits(s.Name, next.ID.Name(), ranges, space, seen); err != nil {
			return err
		}
		seen[strings.ToLower(s.Name)] = ranges
	}
	c, err := p.claimsOf(ctx, next.ID)
	if err != nil {
		return err
	}
	return c.keeps(next.ID, seen)
}

// keeps refuses ranges in which an address is used that would not be any more.
func (c *claims) keeps(network rid.ID, next map[string][]netip.Prefix) error {
	var all []netip.Prefix
	for _, r := range next {
		all = append(all, r...)
	}
	for text, who := range c.Addresses {
		a, err := netip.ParseAddr(text)
		if err == nil && !slices.ContainsFunc(all, func(r netip.Prefix) bool { return r.Contains(a) }) {
			return inUse(network.Name(), who.Owner)
		}
	}
	return nil
}

func inUse(subnet, by string) error {
	return apierr.New(apierr.BadRequest, "InUseSubnetCannotBeDeleted",
		"Subnet %s is in use by %s and cannot be deleted. In order to delete the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.", subnet, by)
}

// fits refuses ranges outside of the network or in another subnet.
func fits(name, network string, ranges, space []netip.Prefix, others map[string][]netip.Prefix) error {
	for _, r := range ranges {
		if !inside(r, space) {
			return bad("NetcfgInvalidSubnet", "properties.addressPrefix", "Subnet '%s' is not valid in virtual network '%s'.", name, network)
		}
		for other, list := range others {
			if strings.EqualFold(other, name) {
				continue
			}
			if slices.ContainsFunc(list, r.Overlaps) {
				return bad("NetcfgSubnetRangesOverlap", "properties.addressPrefix", "Subnet '%s' is not valid because its IP address range overlaps with that of an existing subnet in virtual network '%s'.", name, network)
			}
		}
	}
	return nil
}

func mustRanges(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if r, err := netip.ParsePrefix(s); err == nil {
			out = append(out, r)
		}
	}
	return out
}

// putNetwork writes the subnets that came with the network, and makes it.
func (p *provider) putNetwork(ctx context.Context, old, next *arm.Resource[Network]) error {
	if n := &next.Properties; n.Subnets != nil || old == nil {
		if err := p.putInline(ctx, next); err != nil {
			return err
		}
	}
	next.Properties.Subnets, next.Properties.Peerings = nil, nil
	err := p.sync(ctx, next.Private[uidKey])
	if err == nil || old != nil {
		return err
	}
	// A network that was not made leaves nothing, so that it can be tried again.
	ctx = context.WithoutCancel(ctx)
	made, lerr := p.res.List(ctx, next.ID, SubnetType, "", 0)
	err = errors.Join(err, lerr)
	for _, e := range made {
		err = errors.Join(err, p.res.Delete(ctx, e.RID()))
	}
	return errors.Join(err, p.disclaim(ctx, next.ID))
}

func (p *provider) putInline(ctx context.Context, next *arm.Resource[Network]) error {
	want := map[string]SubnetEntry{}
	for _, s := range next.Properties.Subnets {
		want[strings.ToLower(s.Name)] = s
	}
	err := p.claim(ctx, next.ID, func(c *claims) error {
		ranges := map[string][]netip.Prefix{}
		clear(c.Subnets)
		for name, s := range want {
			ranges[name] = s.Properties.ranges()
			c.Subnets[name] = texts(ranges[name])
		}
		return c.keeps(next.ID, ranges)
	})
	if err != nil {
		return err
	}
	have, err := p.res.List(ctx, next.ID, SubnetType, "", 0)
	if err != nil {
		return err
	}
	for _, e := range have {
		s, keep := want[strings.ToLower(e.Name)]
		if !keep {
			if err := p.res.Delete(ctx, e.RID()); err != nil {
				return err
			}
			continue
		}
		delete(want, strings.ToLower(e.Name))
		if err := p.writeSubnet(ctx, e, s.Properties); err != nil {
			return err
		}
	}
	for _, s := range want {
		id := next.ID.Child("subnets", s.Name)
		if err := p.writeSubnet(ctx, &arm.Envelope{ID: id.String(), Name: s.Name, Type: SubnetType}, s.Properties); err != nil {
			return err
		}
	}
	return nil
}

func (p *provider) writeSubnet(ctx context.Context, e *arm.Envelope, s Subnet) error {
	m, err := asMap(s)
	if err != nil {
		return err
	}
	if e.Properties == nil {
		e.Properties = map[string]any{}
	}
	clear(e.Properties)
	for k, v := range m {
		e.Properties[k] = v
	}
	e.Properties["provisioningState"] = "Succeeded"
	err = p.res.Put(ctx, e)
	if errors.Is(err, store.ErrConflict) {
		return apierr.New(apierr.Conflict, "AnotherOperationInProgress", "The subnet '%s' was changed by another request at the same time. Try again.", e.Name)
	}
	return err
}

func texts(list []netip.Prefix) []string {
	out := make([]string, len(list))
	for i, r := range list {
		out[i] = r.String()
	}
	return out
}

// readNetwork shows what is under a network among its properties.
func (p *provider) readNetwork(ctx context.Context, r *arm.Resource[Network]) error {
	r.Properties.Subnets, r.Properties.Peerings = []SubnetEntry{}, []PeeringEntry{}
	list, err := p.res.List(ctx, r.ID, "", "", 0)
	if err != nil {
		return err
	}
	for _, e := range list {
		switch {
		case strings.EqualFold(e.Type, SubnetType):
			s, err := arm.View[Subnet](e)
			if err != nil {
				return err
			}
			if err := p.readSubnet(ctx, s); err != nil {
				return err
			}
			s.Properties.State = "Succeeded"
			r.Properties.Subnets = append(r.Properties.Subnets, SubnetEntry{e.ID, e.Name, SubnetType, s.Properties})
		case strings.EqualFold(e.Type, PeeringType):
			s, err := arm.View[Peering](e)
			if err != nil {
				return err
			}
			if err := p.readPeering(ctx, s); err != nil {
				return err
			}
			s.Properties.Provisioning = "Succeeded"
			r.Properties.Peerings = append(r.Properties.Peerings, PeeringEntry{e.ID, e.Name, PeeringType, s.Properties})
		}
	}
	return nil
}

// unused refuses while somebody has an address in the network, or in one
// subnet of it. With elsewhere, those in the network's own group don't count:
// they go with it.
func (p *provider) unused(ctx context.Context, network rid.ID, subnet string, elsewhere bool) error {
	c, err := p.claimsOf(ctx, network)
	if err != nil {
		return err
	}
	clusters, err := p.clusters(ctx, network)
	if err != nil {
		return err
	}
	for name, ranges := range c.Subnets {
		if subnet != "" && !strings.EqualFold(name, subnet) {
			continue
		}
		users := clusters[strings.ToLower(name)]
		for _, a := range c.within(mustRanges(ranges)) {
			users = append(users, c.Addresses[a].Owner)
		}
		for _, user := range users {
			owner, err := rid.Parse(user)
			if err == nil && elsewhere && strings.EqualFold(owner.ResourceGroup(), network.ResourceGroup()) {
				continue
			}
			return inUse(name, user)
		}
	}
	return nil
}

// poolType are the nodes of clusters, which may be in a subnet.
const poolType = "Microsoft.ContainerService/managedClusters/agentPools"

// clusters are the ids of the agent pools in a network, by the name of their
// subnet, in lower case.
func (p *provider) clusters(ctx context.Context, network rid.ID) (map[string][]string, error) {
	out := map[string][]string{}
	err := store.All(ctx, p.store, store.Query{Prefix: arm.KeyPrefix + "/", Kind: strings.ToLower(poolType)}, func(d store.Doc) error {
		e, err := arm.DecodeEnvelope(d)
		if err != nil {
			return err
		}
		text, _ := e.Properties["vnetSubnetID"].(string)
		if id, err := rid.Parse(text); err == nil && id.Parent().Key() == network.Key() {
			out[strings.ToLower(id.Name())] = append(out[strings.ToLower(id.Name())], e.ID)
		}
		return nil
	})
	return out, err
}

func (p *provider) deleteNetwork(ctx context.Context, old *arm.Resource[Network]) error {
	if err := p.unused(ctx, old.ID, "", true); err != nil {
		return err
	}
	return p.disclaim(ctx, old.ID)
}

// questions are the paths that are no resources.
func (p *provider) questions() []arm.Endpoint {
	const network = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/" + NetworkType + "/{name}"
	return []arm.Endpoint{
		{Method: http.MethodGet, Path: network + "/checkIPAddressAvailability", Action: NetworkType + "/checkIpAddressAvailability/read", APIVersions: versions(), Handle: p.available},
		{Method: http.MethodGet, Path: network + "/usages", Action: NetworkType + "/usages/read", APIVersions: versions(), Handle: p.usages},
	}
}

func networkOf(r *arm.Request) rid.ID {
	return rid.MustParse(fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/%s/%s", r.Params["subscriptionId"], r.Params["resourceGroupName"], NetworkType, r.Params["name"]))
}

// available answers whether an address is free, and names some that are.
func (p *provider) available(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	id := networkOf(r)
	uid, c, err := p.known(ctx, id)
	if err != nil {
		return nil, err
	}
	taken := func(a string) bool { return p.wire != nil && p.wire.Taken(uid, a) }
	want, err := netip.ParseAddr(r.HTTP.URL.Query().Get("ipAddress"))
	if err != nil {
		return nil, bad("InvalidIPAddress", "ipAddress", "'%s' is no address.", r.HTTP.URL.Query().Get("ipAddress"))
	}
	for _, list := range c.Subnets {
		ranges := mustRanges(list)
		if !slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(want) }) {
			continue
		}
		_, used := c.Addresses[want.String()]
		ours := platforms(ranges, want)
		out := []string{}
		for len(out) < 5 {
			a, ok := c.free(ranges, func(s string) bool { return slices.Contains(out, s) || taken(s) })
			if !ok {
				break
			}
			out = append(out, a)
		}
		return &arm.Response{Body: map[string]any{"available": !used && !ours && !taken(want.String()), "availableIPAddresses": out, "isPlatformReserved": ours}}, nil
	}
	return nil, bad("PrivateIPAddressNotInAnySubnet", "ipAddress", "Private static IP address %s does not belong to the range of any subnet in virtual network %s.", want, id.Name())
}

// known gives the network's uid and claims; a NotFound where there is none.
func (p *provider) known(ctx context.Context, id rid.ID) (string, *claims, error) {
	e, err := p.get(ctx, id)
	if err != nil {
		return "", nil, err
	}
	if e == nil {
		return "", nil, apierr.New(apierr.NotFound, "ResourceNotFound", "The Resource '%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", strings.TrimPrefix(id.Type()+"/"+id.Name(), "/"), id.ResourceGroup())
	}
	c, err := p.claimsOf(ctx, id)
	return e.Private[uidKey], c, err
}

// platforms reports whether an address of a subnet is one that nobody gets: see firstFree.
func platforms(ranges []netip.Prefix, a netip.Addr) bool {
	for _, r := range ranges {
		if !r.Contains(a) {
			continue
		}
		first := r.Addr()
		for range firstFree {
			if a == first {
				return true
			}
			first = first.Next()
		}
		return !r.Contains(a.Next())
	}
	return false
}

// usages counts the addresses of each subnet.
func (p *provider) usages(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	id := networkOf(r)
	_, c, err := p.known(ctx, id)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(c.Subnets))
	for name := range c.Subnets {
		names = append(names, name)
	}
	slices.Sort(names)
	value := []any{}
	for _, name := range names {
		ranges, limit := mustRanges(c.Subnets[name]), 0
		for _, r := range ranges {
			limit += 1<<(32-r.Bits()) - firstFree - 1
		}
		value = append(value, map[string]any{
			"id": id.Child("subnets", name).String(), "currentValue": len(c.within(ranges)), "limit": limit, "unit": "Count",
			"name": map[string]any{"localizedValue": "Subnet size and usage", "value": "SubnetSpace"},
		})
	}
	return &arm.Response{Body: map[string]any{"value": value}}, nil
}
