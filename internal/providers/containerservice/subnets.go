package containerservice

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const subnetKey = "vnetSubnetID"

const subnetType = "Microsoft.Network/virtualNetworks/subnets"

// checkSubnet judges the subnet of a pool's nodes: all of a cluster's are in
// one, which is there, which the caller may join, and whose network is not in
// the way of the cluster's own ranges. others are the cluster's other pools.
func (s *Service) checkSubnet(ctx context.Context, n *Network, name string, old, p Pool, others []Pool) error {
	at := "properties.agentPoolProfiles['" + name + "']." + subnetKey
	text := text(p, subnetKey)
	if old != nil && !strings.EqualFold(textOf(old), text) {
		return notAllowed(at, textOf(old), text)
	}
	for _, o := range others {
		if !strings.EqualFold(textOf(o), text) {
			return invalid(at, "the nodes of one cluster are in one subnet: '%s' is another than '%s'", text, textOf(o))
		}
	}
	if old != nil || text == "" {
		return nil
	}
	id, err := rid.Parse(text)
	if err != nil || !strings.EqualFold(id.Type(), subnetType) || id.Collection {
		return invalid(at, "'%s' is not the id of a subnet", text)
	}
	if err := arm.Authorise(ctx, subnetType+"/join/action", id); err != nil {
		return err
	}
	for _, one := range []rid.ID{id, id.Parent()} {
		e, err := s.res.Get(ctx, one)
		if errors.Is(err, store.ErrNotFound) {
			return apierr.New(apierr.BadRequest, "SubnetNotFound", "The subnet '%s' of the agent pool '%s' was not found.", id, name).WithTarget(at)
		}
		if err != nil {
			return err
		}
		if err := n.apart(e); err != nil {
			return err
		}
	}
	return nil
}

func textOf(p Pool) string { return text(p, subnetKey) }

// apart refuses the ranges of a cluster where those of the virtual network, or
// of its subnet, are the same: what is in both would be looked for in one alone.
func (n *Network) apart(network *arm.Envelope) error {
	if n == nil {
		return nil
	}
	var p struct {
		Prefix   string   `json:"addressPrefix"`
		Prefixes []string `json:"addressPrefixes"`
		Space    struct {
			Prefixes []string `json:"addressPrefixes"`
		} `json:"addressSpace"`
	}
	raw, err := json.Marshal(network.Properties)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		return err
	}
	for _, text := range append(append(p.Space.Prefixes, p.Prefixes...), p.Prefix) {
		there, err := netip.ParsePrefix(text)
		if err != nil {
			continue // "" where it has none
		}
		for _, own := range []struct{ path, flag, text string }{{"serviceCidr", "service-cidr", n.ServiceCIDR}, {"podCidr", "pod-cidr", n.PodCIDR}} {
			if r, err := netip.ParsePrefix(own.text); err == nil && r.Overlaps(there) {
				return apierr.New(apierr.BadRequest, "ServiceCidrOverlapExistingSubnetsCidr",
					"The specified %s %s conflicts with the range %s of '%s'. Choose another one, such as with --%s.", own.path, own.text, there, network.Name, own.flag).
					WithTarget("properties.networkProfile." + own.path)
			}
		}
	}
	return nil
}
