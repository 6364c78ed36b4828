package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Subnet are the properties of a subnet.
type Subnet struct {
	Prefix     string            `json:"addressPrefix,omitempty"`
	Prefixes   []string          `json:"addressPrefixes,omitempty"`
	Services   []ServiceEndpoint `json:"serviceEndpoints,omitempty"`
	Outbound   *bool             `json:"defaultOutboundAccess,omitempty"`
	PEPolicies string            `json:"privateEndpointNetworkPolicies,omitempty"`
	PLPolicies string            `json:"privateLinkServiceNetworkPolicies,omitempty"`
	State      string            `json:"provisioningState,omitempty"`

	Endpoints []Ref `json:"privateEndpoints,omitempty"` // computed, as is the next
	Addresses []Ref `json:"ipConfigurations,omitempty"`

	// What is refused unless it says nothing.
	SecurityGroup *Ref              `json:"networkSecurityGroup,omitempty"`
	RouteTable    *Ref              `json:"routeTable,omitempty"`
	NATGateway    *Ref              `json:"natGateway,omitempty"`
	Policies      []json.RawMessage `json:"serviceEndpointPolicies,omitempty"`
	Delegations   []json.RawMessage `json:"delegations,omitempty"`
	SharingScope  string            `json:"sharingScope,omitempty"`
}

// ServiceEndpoint lets a subnet be known to a service.
type ServiceEndpoint struct {
	Service      string   `json:"service,omitempty"`
	Locations    []string `json:"locations,omitempty"`
	Provisioning string   `json:"provisioningState,omitempty"`
	Identifier   *Ref     `json:"networkIdentifier,omitempty"`
}

// services are those whose firewalls know subnets.
func services() []string {
	return []string{"Microsoft.KeyVault", "Microsoft.CognitiveServices", "Microsoft.Storage"}
}

func (p *provider) subnets() arm.Kind[Subnet] {
	return arm.Kind[Subnet]{
		Type: "virtualNetworks/subnets", APIVersions: versions(), Name: networkName("subnet", 80),
		ReadOnly: []string{"privateEndpoints", "ipConfigurations", "purpose", "resourceNavigationLinks", "serviceAssociationLinks", "ipConfigurationProfiles"},
		Default: func(_ context.Context, _, next *arm.Resource[Subnet]) error {
			_, err := next.Properties.complete(next.ID.Name())
			return err
		},
		Validate: func(ctx context.Context, _, next *arm.Resource[Subnet]) error {
			c, err := p.claimsOf(ctx, next.ID.Parent())
			if err == nil {
				err = p.subnetFits(ctx, next, c)
			}
			return err
		},
		Put: p.putSubnet, Read: p.readSubnet,
		Deletable: func(ctx context.Context, old *arm.Resource[Subnet]) error {
			return p.unused(ctx, old.ID.Parent(), old.ID.Name(), false)
		},
		Delete: p.deleteSubnet,
	}
}

// complete gives the subnet its defaults, and refuses what nobody keeps. It
// returns the subnet's ranges.
func (s *Subnet) complete(name string) ([]netip.Prefix, error) {
	if s.Prefix != "" && len(s.Prefixes) == 0 {
		s.Prefixes = nil
	}
	list := s.Prefixes
	if len(list) == 0 && s.Prefix != "" {
		list = []string{s.Prefix}
	}
	if len(list) == 0 {
		return nil, bad("InvalidRequestFormat", "properties.addressPrefix", "The subnet '%s' has no range: addressPrefix or addressPrefixes is wanted.", name)
	}
	ranges, err := prefixes(list, "properties.addressPrefix")
	if err != nil {
		return nil, err
	}
	if s.PEPolicies == "" {
		s.PEPolicies = "Disabled"
	}
	if s.PLPolicies == "" {
		s.PLPolicies = "Enabled"
	}
	for i, e := range s.Services {
		j := slices.IndexFunc(services(), func(k string) bool { return strings.EqualFold(k, e.Service) })
		if j < 0 {
			return nil, bad("NotEnforced", "properties.serviceEndpoints", "The service endpoint '%s' is refused: no firewall here knows it. Those that are known: %s.", e.Service, strings.Join(services(), ", "))
		}
		s.Services[i].Service, s.Services[i].Provisioning = services()[j], "Succeeded"
		if len(e.Locations) == 0 {
			s.Services[i].Locations = []string{"*"}
		}
	}
	return ranges, s.refused()
}

// refused reports what the subnet asks for that nothing here keeps.
func (s *Subnet) refused() error {
	set := func(r *Ref) bool { return r != nil && r.ID != "" }
	switch {
	case set(s.SecurityGroup):
		return refuse("properties.networkSecurityGroup", "security rules are not enforced")
	case set(s.RouteTable):
		return refuse("properties.routeTable", "routes of one's own are not followed")
	case set(s.NATGateway):
		return refuse("properties.natGateway", "there are no NAT gateways: every network leaves through this machine")
	case len(s.Policies) > 0:
		return refuse("properties.serviceEndpointPolicies", "policies for service endpoints are not enforced")
	case len(s.Delegations) > 0:
		return refuse("properties.delegations", "no service puts anything into a subnet that is delegated to it")
	case s.SharingScope != "":
		return refuse("properties.sharingScope", "subnets are not shared between tenants")
	case !strings.EqualFold(s.PEPolicies, "Disabled"):
		return refuse("properties.privateEndpointNetworkPolicies", "neither security groups nor route tables are enforced, so they would not count for private endpoints either. Leave it Disabled")
	}
	return nil
}

func (s *Subnet) ranges() []netip.Prefix {
	if len(s.Prefixes) > 0 {
		return mustRanges(s.Prefixes)
	}
	return mustRanges([]string{s.Prefix})
}

// subnetFits refuses a range that is not free, and one that leaves an address out.
func (p *provider) subnetFits(ctx context.Context, next *arm.Resource[Subnet], c *claims) error {
	e, err := p.res.Get(ctx, next.ID.Parent())
	if errors.Is(err, store.ErrNotFound) {
		return apierr.New(apierr.NotFound, "ParentResourceNotFound", "The virtual network '%s' was not found.", next.ID.Parent().Name())
	}
	if err != nil {
		return err
	}
	v, err := arm.View[Network](e)
	if err != nil {
		return err
	}
	all := map[string][]netip.Prefix{}
	for name, list := range c.Subnets {
		all[name] = mustRanges(list)
	}
	name := strings.ToLower(next.ID.Name())
	if err := fits(next.ID.Name(), next.ID.Parent().Name(), next.Properties.ranges(), v.Properties.ranges(), all); err != nil {
		return err
	}
	if len(all) >= maxSubnets && all[name] == nil {
		return bad("SubnetLimitExceeded", "", "The virtual network has %d subnets; at most %d are allowed.", len(all), maxSubnets)
	}
	all[name] = next.Properties.ranges()
	return c.keeps(next.ID.Parent(), all)
}

func (p *provider) putSubnet(ctx context.Context, _, next *arm.Resource[Subnet]) error {
	name := strings.ToLower(next.ID.Name())
	var before []string
	err := p.claim(ctx, next.ID.Parent(), func(c *claims) error {
		if err := p.subnetFits(ctx, next, c); err != nil {
			return err
		}
		before = c.Subnets[name]
		c.Subnets[name] = texts(next.Properties.ranges())
		return nil
	})
	if err != nil {
		return err
	}
	if err = p.syncNetwork(ctx, next.ID.Parent()); err == nil {
		return nil
	}
	// What is refused has taken nothing.
	return errors.Join(err, p.claim(context.WithoutCancel(ctx), next.ID.Parent(), func(c *claims) error {
		if c.Subnets[name] = before; before == nil {
			delete(c.Subnets, name)
		}
		return nil
	}))
}

func (p *provider) syncNetwork(ctx context.Context, network rid.ID) error {
	e, err := p.get(ctx, network)
	if err != nil || e == nil {
		return err
	}
	return p.sync(ctx, e.Private[uidKey])
}

func (p *provider) deleteSubnet(ctx context.Context, old *arm.Resource[Subnet]) error {
	if err := p.unused(ctx, old.ID.Parent(), old.ID.Name(), true); err != nil {
		return err
	}
	e, err := p.get(ctx, old.ID.Parent())
	if err != nil || e == nil {
		return err
	}
	return p.claim(ctx, old.ID.Parent(), func(c *claims) error {
		delete(c.Subnets, strings.ToLower(old.ID.Name()))
		return nil
	})
}

// readSubnet shows who has an address in the subnet.
func (p *provider) readSubnet(ctx context.Context, r *arm.Resource[Subnet]) error {
	c, err := p.claimsOf(ctx, r.ID.Parent())
	if err != nil {
		return err
	}
	r.Properties.Endpoints, r.Properties.Addresses = nil, nil
	for _, a := range c.within(r.Properties.ranges()) {
		owner := c.Addresses[a].Owner
		if !slices.ContainsFunc(r.Properties.Endpoints, func(x Ref) bool { return strings.EqualFold(x.ID, owner) }) {
			r.Properties.Endpoints = append(r.Properties.Endpoints, Ref{owner})
		}
		if id, err := rid.Parse(owner); err == nil {
			r.Properties.Addresses = append(r.Properties.Addresses, Ref{fmt.Sprintf("%s/ipConfigurations/%s", c.Addresses[a].NIC, ipConfigName(id, c.Addresses[a].Member))})
		}
	}
	return nil
}

// inlineSubnets gives a network's subnets as they are stored.
func (p *provider) inlineSubnets(ctx context.Context, r *arm.Resource[Network]) error {
	list, err := p.res.List(ctx, r.ID, SubnetType, "", 0)
	if err != nil {
		return err
	}
	for _, e := range list {
		s, err := arm.View[Subnet](e)
		if err != nil {
			return err
		}
		s.Properties.Endpoints, s.Properties.Addresses, s.Properties.State = nil, nil, ""
		r.Properties.Subnets = append(r.Properties.Subnets, SubnetEntry{Name: e.Name, Properties: s.Properties})
	}
	return nil
}

func asMap(v any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(raw, &m)
}
