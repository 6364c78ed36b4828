package network

import (
	"context"
	"errors"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// ZoneGroup are the properties of a private endpoint's zone group: the zones
// into which its names are written.
type ZoneGroup struct {
	Configs []ZoneConfig `json:"privateDnsZoneConfigs"`
}

// ZoneConfig is one zone of a group.
type ZoneConfig struct {
	Name       string `json:"name,omitempty"`
	ID         string `json:"id,omitempty"`
	Properties struct {
		Zone    string        `json:"privateDnsZoneId,omitempty"`
		Records []GroupRecord `json:"recordSets,omitempty"`
	} `json:"properties"`
}

// GroupRecord is a record set that a group has written.
type GroupRecord struct {
	Type      string   `json:"recordType"`
	Name      string   `json:"recordSetName"`
	FQDN      string   `json:"fqdn"`
	TTL       int      `json:"ttl"`
	Addresses []string `json:"ipAddresses"`
	State     string   `json:"provisioningState"`
}

const (
	groupTTL = 10
	// ownerKey is where a record set keeps the group that wrote it.
	ownerKey = "zoneGroup"
)

func (p *provider) zoneGroups() arm.Kind[ZoneGroup] {
	return arm.Kind[ZoneGroup]{
		Type: "privateEndpoints/privateDnsZoneGroups", APIVersions: versions(), Name: networkName("private DNS zone group", 80),
		Validate: p.validateGroup, Put: p.putGroup, Read: p.readGroup, Delete: p.deleteGroup,
	}
}

func (p *provider) validateGroup(ctx context.Context, _, next *arm.Resource[ZoneGroup]) error {
	n := &next.Properties
	if n.Configs == nil {
		n.Configs = []ZoneConfig{}
	}
	if len(n.Configs) > 5 {
		return bad("InvalidRequestFormat", "properties.privateDnsZoneConfigs", "There are %d zones; at most 5 are allowed in a group.", len(n.Configs))
	}
	seen := map[string]bool{}
	for i := range n.Configs {
		c := &n.Configs[i]
		c.Properties.Records = nil
		id, err := parseID(c.Properties.Zone, ZoneType, "properties.privateDnsZoneConfigs.privateDnsZoneId")
		if err != nil {
			return err
		}
		if c.Name == "" || seen[strings.ToLower(c.Name)] || seen[id.Key()] {
			return bad("InvalidRequestFormat", "properties.privateDnsZoneConfigs", "The zones of a group need a name each, and neither names nor zones come twice.")
		}
		seen[strings.ToLower(c.Name)], seen[id.Key()] = true, true
		if err := arm.Authorise(ctx, ZoneType+"/join/action", id); err != nil {
			return err
		}
		zone, err := p.get(ctx, id)
		if err != nil {
			return err
		}
		if zone == nil {
			return notFound(id, next.ID.String())
		}
	}
	return nil
}

// names are the private names of the endpoint and its addresses.
func (p *provider) privateNames(ctx context.Context, endpoint rid.ID) (names, addresses []string, err error) {
	e, err := p.get(ctx, endpoint)
	if err != nil || e == nil {
		return nil, nil, err
	}
	pe, err := arm.View[Endpoint](e)
	if err != nil {
		return nil, nil, err
	}
	one, _ := pe.Properties.request()
	if one == nil {
		return nil, nil, nil
	}
	target, err := rid.Parse(one.Properties.Target)
	if err != nil {
		return nil, nil, nil
	}
	list, err := p.links.Names(ctx, target, one.Properties.GroupIDs)
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	for _, x := range list {
		if !seen[x.Private] {
			seen[x.Private] = true
			names = append(names, x.Private)
		}
	}
	addresses, err = p.addresses(ctx, pe)
	return names, addresses, err
}

// putGroup writes the endpoint's names into the zones, and takes those out of
// zones that are not in the group any more.
func (p *provider) putGroup(ctx context.Context, _, next *arm.Resource[ZoneGroup]) error {
	names, addresses, err := p.privateNames(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for i := range next.Properties.Configs {
		c := &next.Properties.Configs[i]
		c.ID = next.ID.Child("privateDnsZoneConfigs", c.Name).String()
		zone := rid.MustParse(c.Properties.Zone)
		for _, name := range names {
			label := relative(name, zone.Name())
			if label == "" || label == "@" {
				continue
			}
			id := zone.Child("A", label)
			keep[id.Key()] = true
			if err := p.writeRecord(ctx, id, next.ID, addresses); err != nil {
				return err
			}
		}
	}
	return p.dropRecords(ctx, next.ID, keep)
}

// writeRecord makes the record set of a name, or takes it over: the endpoint
// that came last is the one that the name means.
func (p *provider) writeRecord(ctx context.Context, id, group rid.ID, addresses []string) error {
	for range claimAttempts {
		e, err := p.get(ctx, id)
		if err != nil {
			return err
		}
		if e == nil {
			if other, err := p.get(ctx, id.Parent().Child("CNAME", id.Name())); err != nil || other != nil {
				return errors.Join(err, apierr.New(apierr.BadRequest, "RecordSetConflict", "The zone '%s' has a CNAME '%s', where the private endpoint's address belongs.", id.Parent().Name(), id.Name()))
			}
			e = &arm.Envelope{ID: id.String(), Name: id.Name(), Type: ZoneType + "/A"}
		} else if e.Private[ownerKey] == "" {
			if err := sameAddresses(e, addresses); err != nil {
				return err
			}
		}
		s := RecordSet{TTL: groupTTL, Metadata: map[string]string{"creator": "created by private endpoint " + group.Parent().Name()}}
		for _, a := range addresses {
			s.A = append(s.A, struct {
				Address string `json:"ipv4Address"`
			}{a})
		}
		if e.Properties, err = asMap(s); err != nil {
			return err
		}
		e.Private = map[string]string{ownerKey: group.Key()}
		if err := p.res.Put(ctx, e); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return apierr.New(apierr.Conflict, "Conflict", "The record set '%s' is changed by too many requests at once.", id)
}

// sameAddresses refuses to take over a record set that somebody wrote by hand
// and that leads elsewhere.
func sameAddresses(e *arm.Envelope, addresses []string) error {
	r, err := arm.View[RecordSet](e)
	if err != nil {
		return err
	}
	for _, a := range r.Properties.A {
		if !slices.Contains(addresses, a.Address) {
			return apierr.New(apierr.Conflict, "RecordSetConflict",
				"The zone '%s' has a record set '%s' that no zone group wrote, with the address %s. Delete it, or give it the private endpoint's address: `az network private-dns record-set a delete -g %s -z %s -n %s`.",
				e.RID().Parent().Name(), e.Name, a.Address, e.RID().ResourceGroup(), e.RID().Parent().Name(), e.Name)
		}
	}
	return nil
}

// dropRecords removes the record sets that the group wrote, but those in keep.
func (p *provider) dropRecords(ctx context.Context, group rid.ID, keep map[string]bool) error {
	q := store.Query{Prefix: arm.KeyPrefix + "/", Kind: strings.ToLower(ZoneType + "/A")}
	return store.All(ctx, p.store, q, func(d store.Doc) error {
		e, err := arm.DecodeEnvelope(d)
		if err != nil || e.Private[ownerKey] != group.Key() || keep[e.RID().Key()] {
			return err
		}
		return p.res.Delete(ctx, e.RID())
	})
}

// readGroup shows what the group has written.
func (p *provider) readGroup(ctx context.Context, r *arm.Resource[ZoneGroup]) error {
	names, addresses, err := p.privateNames(ctx, r.ID.Parent())
	if err != nil {
		return err
	}
	for i := range r.Properties.Configs {
		c := &r.Properties.Configs[i]
		c.Properties.Records = []GroupRecord{}
		zone, err := rid.Parse(c.Properties.Zone)
		if err != nil {
			continue // it was validated
		}
		for _, name := range names {
			if label := relative(name, zone.Name()); label != "" && label != "@" {
				c.Properties.Records = append(c.Properties.Records, GroupRecord{"A", label, name, groupTTL, addresses, "Succeeded"})
			}
		}
	}
	return nil
}

func (p *provider) deleteGroup(ctx context.Context, old *arm.Resource[ZoneGroup]) error {
	return p.dropRecords(ctx, old.ID, nil)
}
