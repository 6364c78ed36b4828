package network

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/miekg/dns"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// Zone are the properties of a private DNS zone.
type Zone struct {
	ID         string `json:"internalId,omitempty"`
	MaxRecords int    `json:"maxNumberOfRecordSets,omitempty"`
	Records    *int   `json:"numberOfRecordSets,omitempty"`
	MaxLinks   int    `json:"maxNumberOfVirtualNetworkLinks,omitempty"`
	Links      *int   `json:"numberOfVirtualNetworkLinks,omitempty"`
	MaxAuto    int    `json:"maxNumberOfVirtualNetworkLinksWithRegistration,omitempty"`
	Auto       *int   `json:"numberOfVirtualNetworkLinksWithRegistration,omitempty"`
}

// ZoneLink are the properties of a zone's link to a network.
type ZoneLink struct {
	Network  Ref    `json:"virtualNetwork"`
	Register *bool  `json:"registrationEnabled,omitempty"`
	Policy   string `json:"resolutionPolicy,omitempty"`
	State    string `json:"virtualNetworkLinkState,omitempty"`
}

// The limits of a zone. Source: "Azure DNS limits", private zones.
const (
	maxRecords = 25000
	maxLinks   = 1000
)

func (p *provider) zones() arm.Kind[Zone] {
	return arm.Kind[Zone]{
		Type: "privateDnsZones", APIVersions: zoneVersions(), Tracked: true, NoLocation: true, Name: checkZone,
		ReadOnly: []string{
			"internalId", "maxNumberOfRecordSets", "numberOfRecordSets", "maxNumberOfVirtualNetworkLinks", "numberOfVirtualNetworkLinks",
			"maxNumberOfVirtualNetworkLinksWithRegistration", "numberOfVirtualNetworkLinksWithRegistration",
		},
		Default: func(_ context.Context, _, next *arm.Resource[Zone]) error {
			if next.Location = arm.NormalizeLocation(next.Location); next.Location == "" {
				next.Location = "global"
			}
			if next.Location != "global" {
				return bad("BadRequest", "location", "The location of a private DNS zone is 'global', not '%s'.", next.Location)
			}
			return nil
		},
		Put: p.putZone,
		Read: func(ctx context.Context, r *arm.Resource[Zone]) error {
			list, err := p.res.List(ctx, r.ID, "", "", 0)
			links := 0
			for _, e := range list {
				if strings.EqualFold(e.Type, LinkType) {
					links++
				}
			}
			records, none := len(list)-links, 0
			r.Properties = Zone{r.Properties.ID, maxRecords, &records, maxLinks, &links, 100, &none}
			return err
		},
		Deletable: func(ctx context.Context, old *arm.Resource[Zone]) error {
			list, err := p.res.List(ctx, old.ID, LinkType, "", 1)
			if err == nil && len(list) > 0 {
				err = apierr.New(apierr.Conflict, "CannotDeleteResource", "Can not delete resource before nested resources are deleted: the zone '%s' is linked to virtual networks.", old.ID.Name())
			}
			return err
		},
	}
}

// checkZone keeps the rule of zones' names. Source: "Private DNS zone restrictions".
func checkZone(name string) error {
	labels, ok := dns.IsDomainName(name)
	if !ok || labels < 1 || labels > 34 || len(name) > 253 || strings.HasSuffix(name, ".") || strings.Contains(name, "*") || !printable(name) {
		return bad("BadRequest", "name", "The domain name '%s' is invalid. The provided private zone name must have 1 to 34 labels.", name)
	}
	return nil
}

// printable reports whether a name has only what names of hosts and services have.
func printable(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-_.*@", c) >= 0) {
			return false
		}
	}
	return !strings.Contains(name, "..") && !strings.HasPrefix(name, ".")
}

// putZone gives a new zone its SOA.
func (p *provider) putZone(ctx context.Context, old, next *arm.Resource[Zone]) error {
	if old != nil {
		return nil
	}
	next.Properties.ID = "SW1tdXRhYmxlWm9uZUlkZW50aXR5" + uuid.NewString()
	id := next.ID.Child("SOA", "@")
	have, err := p.get(ctx, id)
	if err != nil || have != nil {
		return err
	}
	m, err := asMap(RecordSet{
		TTL: 3600, FQDN: next.ID.Name() + ".",
		SOA: &SOA{Host: "azureprivatedns.net", Email: "azureprivatedns-host.microsoft.com", Serial: 1, Refresh: 3600, Retry: 300, Expire: 2419200, Minimum: 10},
	})
	if err != nil {
		return err
	}
	return p.res.Put(ctx, &arm.Envelope{ID: id.String(), Name: "@", Type: ZoneType + "/SOA", Properties: m})
}

func (p *provider) zoneLinks() arm.Kind[ZoneLink] {
	return arm.Kind[ZoneLink]{
		Type: "privateDnsZones/virtualNetworkLinks", APIVersions: zoneVersions(), Tracked: true, NoLocation: true, Name: networkName("virtual network link", 80),
		ReadOnly: []string{"virtualNetworkLinkState"},
		Default: func(_ context.Context, _, next *arm.Resource[ZoneLink]) error {
			next.Location = "global"
			if no := false; next.Properties.Register == nil {
				next.Properties.Register = &no
			}
			return nil
		},
		Validate: p.validateLink,
		Read: func(_ context.Context, r *arm.Resource[ZoneLink]) error {
			r.Properties.State = "Completed"
			return nil
		},
	}
}

func (p *provider) validateLink(ctx context.Context, old, next *arm.Resource[ZoneLink]) error {
	n := &next.Properties
	id, err := parseID(n.Network.ID, NetworkType, "properties.virtualNetwork.id")
	if err != nil {
		return err
	}
	if *n.Register {
		return refuse("properties.registrationEnabled", "there are no virtual machines whose names could be registered. Write record sets, or give a private endpoint a zone group")
	}
	if n.Policy != "" && !strings.EqualFold(n.Policy, "Default") {
		return refuse("properties.resolutionPolicy", "a name that a linked zone has not does not exist in its networks")
	}
	if old != nil {
		if !strings.EqualFold(old.Properties.Network.ID, n.Network.ID) {
			return bad("BadRequest", "properties.virtualNetwork.id", "The virtual network of a link cannot be changed.")
		}
		return nil
	}
	if err := arm.Authorise(ctx, NetworkType+"/join/action", id); err != nil {
		return err
	}
	network, err := p.get(ctx, id)
	if err != nil {
		return err
	}
	if network == nil {
		return notFound(id, next.ID.String())
	}
	return p.soleLink(next.ID, id)
}

// soleLink refuses a network that has a zone of the same name already.
func (p *provider) soleLink(link, network rid.ID) error {
	v := p.view()
	for _, zone := range v.links[network.Key()] {
		other, err := rid.Parse(zone)
		if err != nil || !strings.EqualFold(other.Name(), link.Parent().Name()) {
			continue
		}
		return apierr.New(apierr.Conflict, "Conflict", "A virtual network cannot be linked to multiple zones with overlapping namespaces. You tried to link virtual network with '%s' and '%s' zones.", link.Parent().Name(), other.Name())
	}
	return nil
}

// relative is what a record set is called in a zone, for an absolute name; ""
// where the name is not in the zone.
func relative(name, zone string) string {
	name, zone = strings.ToLower(strings.TrimSuffix(name, ".")), strings.ToLower(zone)
	if name == zone {
		return "@"
	}
	rest, ok := strings.CutSuffix(name, "."+zone)
	if !ok {
		return ""
	}
	return rest
}

func fqdn(name, zone string) string {
	if name == "@" {
		return fmt.Sprintf("%s.", zone)
	}
	return fmt.Sprintf("%s.%s.", name, zone)
}
