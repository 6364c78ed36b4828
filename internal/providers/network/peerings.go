package network

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// Peering are the properties of a peering: one network's half of it.
type Peering struct {
	Remote       Ref    `json:"remoteVirtualNetwork"`
	Access       *bool  `json:"allowVirtualNetworkAccess,omitempty"`
	Forwarded    *bool  `json:"allowForwardedTraffic,omitempty"`
	Transit      *bool  `json:"allowGatewayTransit,omitempty"`
	UseGateways  *bool  `json:"useRemoteGateways,omitempty"`
	Complete     *bool  `json:"peerCompleteVnets,omitempty"`
	IPv6Only     *bool  `json:"enableOnlyIPv6Peering,omitempty"`
	State        string `json:"peeringState,omitempty"`
	SyncLevel    string `json:"peeringSyncLevel,omitempty"`
	Provisioning string `json:"provisioningState,omitempty"`
	Space        *Space `json:"remoteAddressSpace,omitempty"`
	Now          *Space `json:"remoteVirtualNetworkAddressSpace,omitempty"`
}

// The states of a peering.
const (
	peeringInitiated    = "Initiated"    // the other half is missing
	peeringConnected    = "Connected"    // both networks reach each other
	peeringDisconnected = "Disconnected" // the other network or its half is gone
)

func (p *provider) peerings() arm.Kind[Peering] {
	return arm.Kind[Peering]{
		Type: "virtualNetworks/virtualNetworkPeerings", APIVersions: versions(), Name: networkName("peering", 80),
		ReadOnly: []string{"peeringState", "peeringSyncLevel", "remoteAddressSpace", "remoteVirtualNetworkAddressSpace", "resourceGuid", "didLeave"},
		Default: func(_ context.Context, _, next *arm.Resource[Peering]) error {
			yes, no := true, false
			for _, b := range []struct {
				at   **bool
				what *bool
			}{{&next.Properties.Access, &yes}, {&next.Properties.Forwarded, &no}, {&next.Properties.Transit, &no}, {&next.Properties.UseGateways, &no}} {
				if *b.at == nil {
					*b.at = b.what
				}
			}
			return nil
		},
		Validate: p.validatePeering, Read: p.readPeering,
		Put: func(ctx context.Context, _, next *arm.Resource[Peering]) error {
			return p.syncNetwork(ctx, next.ID.Parent())
		},
		Delete: func(context.Context, *arm.Resource[Peering]) error { return nil },
	}
}

func (p *provider) validatePeering(ctx context.Context, old, next *arm.Resource[Peering]) error {
	n := &next.Properties
	id, err := parseID(n.Remote.ID, NetworkType, "properties.remoteVirtualNetwork.id")
	if err != nil {
		return err
	}
	switch {
	case *n.Transit || *n.UseGateways:
		return refuse("properties.allowGatewayTransit", "there are no gateways")
	case n.Complete != nil && !*n.Complete:
		return refuse("properties.peerCompleteVnets", "networks are peered whole")
	case n.IPv6Only != nil && *n.IPv6Only:
		return refuse("properties.enableOnlyIPv6Peering", "networks carry IPv4 alone")
	case id.Equal(next.ID.Parent()):
		return bad("CannotPeerToSelf", "properties.remoteVirtualNetwork.id", "The virtual network '%s' cannot be peered with itself.", id.Name())
	case old != nil && !strings.EqualFold(old.Properties.Remote.ID, n.Remote.ID):
		return bad("ChangingRemoteVirtualNetworkNotAllowed", "properties.remoteVirtualNetwork.id", "The remote virtual network of a peering cannot be changed.")
	}
	if old == nil {
		if err := arm.Authorise(ctx, NetworkType+"/peer/action", id); err != nil {
			return err
		}
	}
	remote, err := p.get(ctx, id)
	if err != nil {
		return err
	}
	if remote == nil {
		return notFound(id, next.ID.String())
	}
	mine, err := p.res.Get(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	siblings, err := p.res.List(ctx, next.ID.Parent(), PeeringType, "", 0)
	if err != nil {
		return err
	}
	for _, s := range siblings {
		o, err := arm.View[Peering](s)
		if err != nil {
			return err
		}
		if !o.ID.Equal(next.ID) && strings.EqualFold(o.Properties.Remote.ID, n.Remote.ID) {
			return bad("AnotherPeeringAlreadyReferencesRemoteVnet", "properties.remoteVirtualNetwork.id", "Peering %s already references remote virtual network %s. Cannot add another peering that references the same remote network.", o.ID.Name(), id)
		}
		if o.ID.Equal(next.ID) {
			continue
		}
		other, err := rid.Parse(o.Properties.Remote.ID)
		if err != nil {
			continue // it was validated
		}
		there, err := p.get(ctx, other)
		if err != nil {
			return err
		}
		if there == nil {
			continue // that peering is disconnected
		}
		if err := overlap(there, remote); err != nil {
			return err
		}
	}
	return overlap(mine, remote)
}

// overlap refuses two networks that have an address in common.
func overlap(a, b *arm.Envelope) error {
	va, err := arm.View[Network](a)
	if err != nil {
		return err
	}
	vb, err := arm.View[Network](b)
	if err != nil {
		return err
	}
	return disjoint(va.ID, va.Properties.ranges(), vb.ID, vb.Properties.ranges())
}

func disjoint(a rid.ID, as []netip.Prefix, b rid.ID, bs []netip.Prefix) error {
	for _, x := range as {
		for _, y := range bs {
			if x.Overlaps(y) {
				return bad("VnetAddressSpacesOverlap", "", "Cannot create or update peering. Virtual networks %s and %s cannot be peered because their address spaces overlap: %s and %s.", a, b, x, y)
			}
		}
	}
	return nil
}

// validatePeers refuses an address space that a peer of the network has too.
func (p *provider) validatePeers(id rid.ID, space []netip.Prefix) error {
	v := p.view()
	n := v.networks[id.Key()]
	if n == nil {
		return nil
	}
	for _, remote := range n.remotes {
		if r := v.networks[remote]; r != nil {
			if err := disjoint(id, space, r.id, r.props.ranges()); err != nil {
				return err
			}
		}
	}
	return nil
}

// validateInlinePeerings lets a network be sent back with the peerings that it
// was shown with, and refuses those that it hasn't: they would not be made.
func (p *provider) validateInlinePeerings(ctx context.Context, next *arm.Resource[Network]) error {
	if len(next.Properties.Peerings) == 0 {
		return nil
	}
	have, err := p.res.List(ctx, next.ID, PeeringType, "", 0)
	if err != nil {
		return err
	}
	for _, entry := range next.Properties.Peerings {
		same := false
		for _, e := range have {
			one, err := arm.View[Peering](e)
			if err != nil {
				return err
			}
			same = same || strings.EqualFold(e.Name, entry.Name) && strings.EqualFold(one.Properties.Remote.ID, entry.Properties.Remote.ID)
		}
		if !same {
			return refuse("properties.virtualNetworkPeerings", fmt.Sprintf("peerings are resources of their own, and the network has none named %q to that network: `az network vnet peering create`", entry.Name))
		}
	}
	return nil
}

// readPeering shows how the peering stands.
func (p *provider) readPeering(_ context.Context, r *arm.Resource[Peering]) error {
	v := p.view()
	n := &r.Properties
	n.State, n.SyncLevel = peeringInitiated, "LocalNotInSync"
	id, err := rid.Parse(n.Remote.ID)
	if err != nil {
		return nil // it was validated
	}
	remote := v.networks[id.Key()]
	if remote == nil {
		n.State = peeringDisconnected
		return nil
	}
	n.Space, n.Now = remote.props.Space, remote.props.Space
	if v.connected(r.ID.Parent().Key(), id.Key()) {
		n.State, n.SyncLevel = peeringConnected, "FullyInSync"
	}
	return nil
}
