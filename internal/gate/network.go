package gate

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/trace"
)

// Network is a resource's firewall.
type Network struct {
	Public       bool // publicNetworkAccess is not Disabled
	DefaultAllow bool // networkAcls.defaultAction
	IPRules      []netip.Prefix
	Trusted      bool     // networkAcls.bypass lets trusted services in
	Endpoints    []string // approved private endpoints, lower-case resource ids
	Subnets      []string // resource ids of subnets that rules let in, where they have the service endpoint
	Service      string   // service endpoint of the resource: "Microsoft.KeyVault"

	// Approved reports whether a private endpoint may reach the resource now,
	// beside Endpoints. Nil: none.
	Approved func(ctx context.Context, endpoint string) (bool, error)
}

// Blocked says which of the network gates refused.
type Blocked int

// The network gates.
const (
	BlockedConnection Blocked = iota + 1 // public access is disabled and the arrival is public
	BlockedFirewall                      // no rule lets the client's address or subnet in
)

// network judges how the request came in; 0 lets it pass.
func (h *Handler) network(c *Call) (Blocked, error) {
	a, n := arrival.From(c.Context), c.Target.Network
	b, err := Judge(c.Context, a, n)
	id := c.Target.ID
	trace.From(c.Context).AddLate(func() trace.Hop { return h.networkHop(id, a, b) })
	return b, err
}

func (h *Handler) networkHop(id rid.ID, a arrival.Arrival, b Blocked) trace.Hop {
	hop := trace.Hop{Step: "network", Subject: id.String(), Received: a.Client.String()}
	switch b {
	case BlockedConnection:
		if a.Kind == arrival.PrivateEndpoint {
			hop.Received = a.Endpoint
			hop.Found = "the private endpoint through which the request came has no approved connection to this resource"
			hop.Fix = "az network private-endpoint-connection approve --id CONNECTION, from: az network private-endpoint-connection list --id " + id.String()
			break
		}
		hop.Found = "public network access is disabled, and the request came over no approved private endpoint"
		hop.Fix = "az resource update --ids " + id.String() + " --set properties.publicNetworkAccess=Enabled"
	case BlockedFirewall:
		hop.Found = "the default action is Deny, and no rule has the client's address"
		if a.Subnet != "" {
			hop.Received += " in " + a.Subnet
			hop.Found = "the default action is Deny, and no rule lets the subnet in with its service endpoint"
			break
		}
		if a.Local {
			hop.Received += " in " + a.Network
			hop.Found = "the default action is Deny, and the address counts in a network of its own alone: no rule can mean it, a private endpoint of that network can"
			if from, err := rid.Parse(a.Network); err == nil {
				hop.Fix = "az ml workspace outbound-rule set --workspace-name " + from.Name() + " --resource-group " + from.ResourceGroup() +
					" --rule RULE --type private_endpoint --service-resource-id " + id.String() + " --subresource-target GROUP"
			}
			break
		}
		if h.plane.OpenFirewall != nil {
			hop.Fix = h.plane.OpenFirewall(id, a.Client)
		}
	default:
		hop.OK, hop.Found = true, "the address is let in"
	}
	return hop
}

// Judge says which of the network gates refuses who arrives so; 0 is none.
func Judge(ctx context.Context, a arrival.Arrival, n Network) (Blocked, error) {
	switch {
	case a.Kind == arrival.PrivateEndpoint:
		if slices.ContainsFunc(n.Endpoints, func(e string) bool { return strings.EqualFold(e, a.Endpoint) }) {
			return 0, nil
		}
		if n.Approved != nil {
			if ok, err := n.Approved(ctx, a.Endpoint); ok || err != nil {
				return 0, err
			}
		}
		return BlockedConnection, nil
	case a.Kind == arrival.TrustedService && n.Trusted:
		return 0, nil
	case !n.Public:
		return BlockedConnection, nil
	case n.DefaultAllow:
		return 0, nil
	case a.Subnet != "": // its addresses mean nothing outside of its network, so no rule has them
		if n.Service != "" && a.Serves(n.Service) && slices.ContainsFunc(n.Subnets, func(s string) bool { return strings.EqualFold(s, a.Subnet) }) {
			return 0, nil
		}
		return BlockedFirewall, nil
	case a.Local:
		return BlockedFirewall, nil
	}
	for _, p := range n.IPRules {
		if p.Contains(a.Client.Unmap()) {
			return 0, nil
		}
	}
	return BlockedFirewall, nil
}
