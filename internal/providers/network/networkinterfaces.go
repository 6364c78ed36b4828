package network

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Interface are the properties of a network interface: those of private
// endpoints are the only ones.
type Interface struct {
	Endpoint *Ref       `json:"privateEndpoint,omitempty"`
	IPs      []IPConfig `json:"ipConfigurations,omitempty"`
	MAC      string     `json:"macAddress,omitempty"`
	GUID     string     `json:"resourceGuid,omitempty"`
	NICType  string     `json:"nicType,omitempty"`
	Forward  bool       `json:"enableIPForwarding"`
	Fast     bool       `json:"enableAcceleratedNetworking"`
	DNS      *struct {
		Servers []string `json:"dnsServers"`
		Applied []string `json:"appliedDnsServers"`
	} `json:"dnsSettings,omitempty"`
}

// IPConfig is an address of an interface.
type IPConfig struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	Type       string `json:"type,omitempty"`
	Properties struct {
		Address    string `json:"privateIPAddress,omitempty"`
		Method     string `json:"privateIPAllocationMethod,omitempty"`
		Version    string `json:"privateIPAddressVersion,omitempty"`
		Primary    bool   `json:"primary"`
		State      string `json:"provisioningState,omitempty"`
		Subnet     *Ref   `json:"subnet,omitempty"`
		Connection *Link  `json:"privateLinkConnectionProperties,omitempty"`
	} `json:"properties"`
}

// Link says which names an address stands for.
type Link struct {
	GroupID string   `json:"groupId,omitempty"`
	Member  string   `json:"requiredMemberName,omitempty"`
	FQDNs   []string `json:"fqdns"`
}

func ipConfigName(endpoint rid.ID, member string) string {
	return "privateEndpointIpConfig." + strings.ToLower(endpoint.Name()) + "." + member
}

// interfaceOf is the id of an endpoint's interface.
func (p *provider) interfaceOf(e *arm.Resource[Endpoint]) rid.ID {
	name := e.Properties.NICName
	if name == "" {
		name = e.ID.Name() + ".nic." + e.Private[guidKey]
	}
	return rid.MustParse(fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/%s/%s", e.ID.Subscription(), e.ID.ResourceGroup(), InterfaceType, name))
}

func (p *provider) interfaces() arm.Kind[Interface] {
	return arm.Kind[Interface]{
		Type: "networkInterfaces", APIVersions: versions(), Tracked: true, NoCreate: true, NoPatch: true,
		Validate: func(_ context.Context, old, _ *arm.Resource[Interface]) error {
			return bad("NetworkInterfaceOfPrivateEndpoint", "", "The network interface '%s' is a private endpoint's and cannot be changed.", old.ID.Name())
		},
		Deletable: func(_ context.Context, old *arm.Resource[Interface]) error {
			if old.Properties.Endpoint == nil {
				return nil
			}
			return apierr.New(apierr.BadRequest, "NicInUseWithPrivateEndpoint", "Network interface %s is used by the private endpoint %s and cannot be deleted.", old.ID, old.Properties.Endpoint.ID)
		},
		Read: p.readInterface,
	}
}

// writeInterface makes the interface of an endpoint.
func (p *provider) writeInterface(ctx context.Context, e *arm.Resource[Endpoint], subnet rid.ID) error {
	id := p.interfaceOf(e)
	have, err := p.get(ctx, id)
	if err != nil {
		return err
	}
	if have != nil {
		if owner, _ := have.Properties["privateEndpoint"].(map[string]any); owner == nil || !strings.EqualFold(fmt.Sprint(owner["id"]), e.ID.String()) {
			return bad("NetworkInterfaceNameInUse", "properties.customNetworkInterfaceName", "There is another network interface '%s' in the resource group.", id.Name())
		}
		return nil
	}
	m, err := asMap(Interface{Endpoint: &Ref{e.ID.String()}, GUID: e.Private[guidKey], NICType: "Standard"})
	if err != nil {
		return err
	}
	m["provisioningState"] = "Succeeded"
	out := &arm.Envelope{
		ID: id.String(), Name: id.Name(), Type: InterfaceType, Location: e.Location, Tags: e.Tags, Properties: m,
		Private: map[string]string{"endpoint": e.ID.String(), "subnet": subnet.String()},
	}
	out.System.CreatedAt, out.System.LastModifiedAt = e.System.CreatedAt, e.System.CreatedAt
	if err := p.res.Put(ctx, out); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil // made by another attempt
}

// readInterface shows the interface's addresses.
func (p *provider) readInterface(ctx context.Context, r *arm.Resource[Interface]) error {
	endpoint, err := rid.Parse(r.Private["endpoint"])
	if err != nil {
		return nil // not of an endpoint
	}
	subnet, err := rid.Parse(r.Private["subnet"])
	if err != nil {
		return nil
	}
	c, err := p.claimsOf(ctx, subnet.Parent())
	if err != nil {
		return err
	}
	e, err := p.get(ctx, endpoint)
	if err != nil || e == nil {
		return err
	}
	pe, err := arm.View[Endpoint](e)
	if err != nil {
		return err
	}
	r.Properties.IPs = []IPConfig{}
	one, _ := pe.Properties.request()
	for member, a := range c.of(endpoint) {
		ip := IPConfig{Name: ipConfigName(endpoint, member), Type: InterfaceType + "/ipConfigurations"}
		ip.ID = r.ID.Child("ipConfigurations", ip.Name).String()
		ip.Properties.Address, ip.Properties.Method, ip.Properties.Version = a, "Dynamic", "IPv4"
		ip.Properties.Primary, ip.Properties.State, ip.Properties.Subnet = true, "Succeeded", &Ref{subnet.String()}
		if len(pe.Properties.IPs) > 0 {
			ip.Properties.Method = "Static"
		}
		if target, err := rid.Parse(pe.Properties.target()); err == nil && one != nil {
			names, err := p.links.Names(ctx, target, one.Properties.GroupIDs)
			if err != nil {
				return err
			}
			link := &Link{GroupID: one.Properties.GroupIDs[0], Member: member, FQDNs: []string{}}
			for _, x := range names {
				if x.Shown {
					link.FQDNs = append(link.FQDNs, x.Public)
				}
			}
			ip.Properties.Connection = link
		}
		r.Properties.IPs = append(r.Properties.IPs, ip)
	}
	return nil
}
