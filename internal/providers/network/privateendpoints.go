package network

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rid"
)

// Endpoint are the properties of a private endpoint.
type Endpoint struct {
	Subnet     *Ref        `json:"subnet,omitempty"`
	Auto       []LinkEntry `json:"privateLinkServiceConnections"`
	Manual     []LinkEntry `json:"manualPrivateLinkServiceConnections"`
	NICName    string      `json:"customNetworkInterfaceName,omitempty"`
	IPs        []IPEntry   `json:"ipConfigurations"`
	Interfaces []Ref       `json:"networkInterfaces,omitempty"`
	DNS        []DNSConfig `json:"customDnsConfigs,omitempty"`
	GUID       string      `json:"resourceGuid,omitempty"`
	Groups     []Ref       `json:"applicationSecurityGroups,omitempty"`
}

// LinkEntry is what an endpoint asks of a resource.
type LinkEntry struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	Type       string `json:"type,omitempty"`
	Properties struct {
		Target       string             `json:"privateLinkServiceId,omitempty"`
		GroupIDs     []string           `json:"groupIds,omitempty"`
		Message      string             `json:"requestMessage,omitempty"`
		State        *privatelink.State `json:"privateLinkServiceConnectionState,omitempty"`
		Provisioning string             `json:"provisioningState,omitempty"`
	} `json:"properties"`
}

// IPEntry asks for an address.
type IPEntry struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	Type       string `json:"type,omitempty"`
	Properties struct {
		Group   string `json:"groupId,omitempty"`
		Member  string `json:"memberName,omitempty"`
		Address string `json:"privateIPAddress,omitempty"`
	} `json:"properties"`
}

// DNSConfig is a name and its addresses.
type DNSConfig struct {
	FQDN      string   `json:"fqdn"`
	Addresses []string `json:"ipAddresses"`
}

// guidKey is where an endpoint keeps what the name of its interface hangs on.
const guidKey = "guid"

// request is the only one that an endpoint makes; nil where it makes none.
func (e *Endpoint) request() (one *LinkEntry, manual bool) {
	switch {
	case len(e.Auto) == 1 && len(e.Manual) == 0:
		return &e.Auto[0], false
	case len(e.Manual) == 1 && len(e.Auto) == 0:
		return &e.Manual[0], true
	}
	return nil, false
}

func (e *Endpoint) target() string {
	one, _ := e.request()
	if one == nil {
		return ""
	}
	return one.Properties.Target
}

func (p *provider) endpointsKind() arm.Kind[Endpoint] {
	return arm.Kind[Endpoint]{
		Type: "privateEndpoints", APIVersions: versions(), Tracked: true, Name: networkName("private endpoint", 80),
		ReadOnly: []string{"networkInterfaces", "customDnsConfigs", "resourceGuid"},
		Default: func(_ context.Context, old, next *arm.Resource[Endpoint]) error {
			if old == nil {
				next.Private[guidKey] = uuid.NewString()
			}
			n := &next.Properties
			for _, list := range []*[]LinkEntry{&n.Auto, &n.Manual} {
				if *list == nil {
					*list = []LinkEntry{}
				}
				for i := range *list {
					(*list)[i].Properties.State, (*list)[i].Properties.Provisioning = nil, "" // the resource says
				}
			}
			if n.IPs == nil {
				n.IPs = []IPEntry{}
			}
			return nil
		},
		Validate: p.validateEndpoint, Put: p.putEndpoint, Read: p.readEndpoint, Delete: p.deleteEndpoint,
	}
}

func (p *provider) validateEndpoint(ctx context.Context, old, next *arm.Resource[Endpoint]) error {
	n := &next.Properties
	if len(n.Groups) > 0 {
		return refuse("properties.applicationSecurityGroups", "security rules are not enforced")
	}
	if n.Subnet == nil {
		return bad("InvalidRequestFormat", "properties.subnet", "The private endpoint names no subnet.")
	}
	subnet, err := parseID(n.Subnet.ID, SubnetType, "properties.subnet.id")
	if err != nil {
		return err
	}
	one, manual := n.request()
	if one == nil {
		return bad("InvalidRequestFormat", "properties.privateLinkServiceConnections", "The private endpoint needs exactly one connection: in privateLinkServiceConnections, or in manualPrivateLinkServiceConnections.")
	}
	if one.Name == "" || networkName("connection", 80)(one.Name) != nil {
		return bad("InvalidResourceName", "properties.privateLinkServiceConnections.name", "The connection's name '%s' is invalid.", one.Name)
	}
	if len(one.Properties.Message) > 140 {
		return bad("InvalidRequestFormat", "properties.privateLinkServiceConnections.requestMessage", "The request message has %d characters; at most 140 are allowed.", len(one.Properties.Message))
	}
	if old != nil {
		was, waited := old.Properties.request()
		if old.Properties.Subnet == nil || !strings.EqualFold(old.Properties.Subnet.ID, n.Subnet.ID) || was == nil || !strings.EqualFold(was.Properties.Target, one.Properties.Target) ||
			!slices.EqualFunc(was.Properties.GroupIDs, one.Properties.GroupIDs, strings.EqualFold) {
			return bad("PrivateEndpointCannotBeUpdated", "properties", "Subnet and connection of the private endpoint '%s' cannot be changed. Delete it and make it again.", next.ID.Name())
		}
		if n.NICName == "" {
			n.NICName = old.Properties.NICName
		}
		if len(n.IPs) == 0 {
			n.IPs = old.Properties.IPs
		}
		if waited != manual || !strings.EqualFold(n.NICName, old.Properties.NICName) ||
			!slices.EqualFunc(n.IPs, old.Properties.IPs, func(a, b IPEntry) bool { return a.Properties.Address == b.Properties.Address }) {
			return bad("PrivateEndpointCannotBeUpdated", "properties", "Way of approval, network interface and addresses of the private endpoint '%s' cannot be changed. Delete it and make it again.", next.ID.Name())
		}
		return nil
	}
	if err := p.validateTarget(ctx, next, one, manual); err != nil {
		return err
	}
	return p.validatePlace(ctx, next, subnet)
}

// validateTarget refuses a connection that can't come about.
func (p *provider) validateTarget(ctx context.Context, next *arm.Resource[Endpoint], one *LinkEntry, manual bool) error {
	const at = "properties.privateLinkServiceConnections.privateLinkServiceId"
	id, err := rid.Parse(one.Properties.Target)
	if err != nil {
		return bad("InvalidResourceReference", at, "The id '%s' of the resource to connect to is malformed.", one.Properties.Target)
	}
	sv, ok := p.links.Service(id.Type())
	if !ok {
		return bad("PrivateLinkServiceIdTypeNotSupported", at, "Private endpoints reach no resources of the type '%s'. Those that they reach: %s.", id.Type(), strings.Join(p.links.Types(), ", "))
	}
	target, err := p.get(ctx, id)
	if err != nil {
		return err
	}
	if target == nil {
		return notFound(id, next.ID.String())
	}
	if len(one.Properties.GroupIDs) != 1 {
		return bad("PrivateEndpointGroupIdRequired", "properties.privateLinkServiceConnections.groupIds", "The connection to '%s' needs exactly one group id. Those of the type: %s.", id.Name(), groupNames(sv))
	}
	g, ok := sv.Group(one.Properties.GroupIDs[0])
	if !ok {
		return bad("PrivateEndpointInvalidGroupId", "properties.privateLinkServiceConnections.groupIds", "'%s' is no group of '%s'. Those of the type: %s.", one.Properties.GroupIDs[0], id.Name(), groupNames(sv))
	}
	one.Properties.GroupIDs[0] = g.ID
	if len(sv.Names(target, g.ID)) == 0 {
		return bad("CustomSubDomainRequired", at, "'%s' has no name of its own, under which a private endpoint could reach it. Give it a custom subdomain.", id.Name())
	}
	if manual {
		return nil
	}
	return arm.Authorise(ctx, sv.Type+"/PrivateEndpointConnectionsApproval/action", id)
}

func groupNames(sv privatelink.Service) string {
	var out []string
	for _, g := range sv.Groups {
		out = append(out, g.ID)
	}
	return strings.Join(out, ", ")
}

// validatePlace refuses an endpoint that would have no place.
func (p *provider) validatePlace(ctx context.Context, next *arm.Resource[Endpoint], subnet rid.ID) error {
	if err := arm.Authorise(ctx, SubnetType+"/join/action", subnet); err != nil {
		return err
	}
	s, err := p.get(ctx, subnet)
	if err != nil {
		return err
	}
	if s == nil {
		return notFound(subnet, next.ID.String())
	}
	network, err := p.get(ctx, subnet.Parent())
	if err != nil {
		return err
	}
	if network == nil {
		return notFound(subnet.Parent(), next.ID.String())
	}
	if network.Location != next.Location {
		return bad("InvalidResourceReference", "location", "The private endpoint is in %s and its virtual network in %s; both must be in the same region.", next.Location, network.Location)
	}
	v, err := arm.View[Subnet](s)
	if err != nil {
		return err
	}
	if len(next.Properties.IPs) > 1 {
		return bad("InvalidRequestFormat", "properties.ipConfigurations", "The private endpoint asks for %d addresses, and has one, for all names of its resource.", len(next.Properties.IPs))
	}
	for _, ip := range next.Properties.IPs {
		a, err := netip.ParseAddr(ip.Properties.Address)
		if err != nil || !slices.ContainsFunc(v.Properties.ranges(), func(r netip.Prefix) bool { return assignable(r, a) }) {
			return bad("PrivateIPAddressNotInSubnet", "properties.ipConfigurations", "The address '%s' is none that the subnet '%s' can give.", ip.Properties.Address, subnet.Name())
		}
	}
	if p.wire == nil {
		return nil
	}
	if err := p.wire.Available(ctx); err != nil {
		return apierr.New(apierr.Conflict, "NetworkNotEnforceable", "A private endpoint can't be made: %s. Without it nobody would be kept out and nobody let in.", strings.TrimSuffix(err.Error(), "."))
	}
	return nil
}

// assignable reports whether a is an address of the range that somebody may have.
func assignable(r netip.Prefix, a netip.Addr) bool {
	first := r.Addr()
	for range firstFree {
		first = first.Next()
	}
	return r.Contains(a) && !a.Less(first) && r.Contains(a.Next())
}

// putEndpoint takes an address, asks the resource, and opens the endpoint.
func (p *provider) putEndpoint(ctx context.Context, old, next *arm.Resource[Endpoint]) (err error) {
	one, manual := next.Properties.request()
	target := rid.MustParse(one.Properties.Target)
	subnet := rid.MustParse(next.Properties.Subnet.ID)
	defer func() {
		if err != nil && old == nil {
			_ = p.deleteEndpoint(ctx, next) // what stays is said by err
		}
	}()
	if err := p.allot(ctx, next, subnet); err != nil {
		return err
	}
	if err := p.writeInterface(ctx, next, subnet); err != nil {
		return err
	}
	status := privatelink.Approved
	if manual {
		status = privatelink.Pending
	}
	if old == nil {
		err := p.links.Connect(ctx, privatelink.Request{
			Endpoint: next.ID, Target: target, Name: next.ID.Name(), GroupIDs: one.Properties.GroupIDs, Status: status, Message: one.Properties.Message,
		})
		if err != nil {
			return err
		}
	}
	return p.syncNetwork(ctx, subnet.Parent())
}

// allot takes an address for the endpoint, the one that it asks for if it asks.
func (p *provider) allot(ctx context.Context, next *arm.Resource[Endpoint], subnet rid.ID) error {
	s, err := p.get(ctx, subnet)
	if err != nil {
		return err
	}
	network, nerr := p.get(ctx, subnet.Parent())
	if nerr != nil {
		return nerr
	}
	if s == nil || network == nil {
		return notFound(subnet, next.ID.String())
	}
	v, err := arm.View[Subnet](s)
	if err != nil {
		return err
	}
	taken := func(a string) bool { return p.wire != nil && p.wire.Taken(network.Private[uidKey], a) }
	return p.claim(ctx, subnet.Parent(), func(c *claims) error {
		if len(c.of(next.ID)) > 0 {
			return nil
		}
		if _, there := c.Subnets[strings.ToLower(subnet.Name())]; !there {
			return notFound(subnet, next.ID.String())
		}
		member := "default"
		if len(next.Properties.IPs) > 0 {
			ip := next.Properties.IPs[0] // validatePlace refuses more
			if _, used := c.Addresses[ip.Properties.Address]; used || taken(ip.Properties.Address) {
				return bad("PrivateIPAddressInUse", "properties.ipConfigurations", "The address %s is in use.", ip.Properties.Address)
			}
			c.Addresses[ip.Properties.Address] = claim{next.ID.String(), member, p.interfaceOf(next).String()}
			return nil
		}
		a, ok := c.free(v.Properties.ranges(), taken)
		if !ok {
			return bad("SubnetIsFull", "properties.subnet", "Subnet %s does not have enough capacity for 1 IP addresses.", subnet.Name())
		}
		c.Addresses[a] = claim{next.ID.String(), member, p.interfaceOf(next).String()}
		return nil
	})
}

// addresses are those of an endpoint.
func (p *provider) addresses(ctx context.Context, e *arm.Resource[Endpoint]) ([]string, error) {
	if e.Properties.Subnet == nil {
		return nil, nil
	}
	subnet, err := rid.Parse(e.Properties.Subnet.ID)
	if err != nil {
		return nil, nil
	}
	c, err := p.claimsOf(ctx, subnet.Parent())
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range c.of(e.ID) {
		out = append(out, a)
	}
	slices.Sort(out)
	return out, nil
}

// readEndpoint shows what was decided, and where the endpoint answers.
func (p *provider) readEndpoint(ctx context.Context, r *arm.Resource[Endpoint]) error {
	n := &r.Properties
	n.GUID = r.Private[guidKey]
	nic := p.interfaceOf(r)
	n.Interfaces = []Ref{{nic.String()}}
	one, manual := n.request()
	if one == nil {
		return nil
	}
	kind := "privateLinkServiceConnections"
	if manual {
		kind = "manualPrivateLinkServiceConnections"
	}
	one.ID, one.Type = r.ID.Child(kind, one.Name).String(), EndpointType+"/"+kind
	one.Properties.Provisioning = "Succeeded"
	one.Properties.State = &privatelink.State{Status: privatelink.Disconnected, Description: "The connection was removed.", ActionsRequired: "None"}
	target, err := rid.Parse(one.Properties.Target)
	if err != nil {
		return nil
	}
	c, err := p.links.To(ctx, r.ID, target)
	if err != nil {
		return err
	}
	if c != nil {
		st := c.State
		one.Properties.State = &st
	}
	n.DNS = nil
	list, err := p.addresses(ctx, r)
	if err != nil {
		return err
	}
	names, err := p.links.Names(ctx, target, one.Properties.GroupIDs)
	for _, x := range names {
		if x.Shown {
			n.DNS = append(n.DNS, DNSConfig{x.Public, list})
		}
	}
	return err
}

func (p *provider) deleteEndpoint(ctx context.Context, old *arm.Resource[Endpoint]) error {
	if err := p.links.Disconnect(ctx, old.ID); err != nil {
		return err
	}
	nic, err := p.get(ctx, p.interfaceOf(old))
	if err != nil {
		return err
	}
	// One that asked for another's name and was refused has none.
	if nic != nil && strings.EqualFold(nic.Private["endpoint"], old.ID.String()) {
		if err := p.res.Delete(ctx, nic.RID()); err != nil {
			return err
		}
	}
	if old.Properties.Subnet == nil {
		return nil
	}
	subnet, err := rid.Parse(old.Properties.Subnet.ID)
	if err != nil {
		return nil
	}
	network, err := p.get(ctx, subnet.Parent())
	if err != nil || network == nil {
		return err
	}
	err = p.claim(ctx, subnet.Parent(), func(c *claims) error {
		for _, a := range c.of(old.ID) {
			delete(c.Addresses, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.sync(ctx, network.Private[uidKey])
}
