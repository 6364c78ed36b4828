package privatelink

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// NamesOf are host names, or URLs, of a resource which are other names for a
// private one. The last is the one that endpoints show; doubles are left out.
func NamesOf(member, private string, public ...string) []Name {
	var out []Name
	for i, p := range public {
		if u, err := url.Parse(p); err == nil && u.Host != "" {
			p = u.Host
		}
		if host, _, err := net.SplitHostPort(p); err == nil {
			p = host
		}
		p = strings.ToLower(p)
		n := Name{Public: p, Private: private, Member: member, Shown: i == len(public)-1}
		if j := slices.IndexFunc(out, func(o Name) bool { return o.Public == p }); j >= 0 {
			out[j].Shown = out[j].Shown || n.Shown
			continue
		}
		out = append(out, n)
	}
	return out
}

// SubnetType is the type of subnets.
const SubnetType = "Microsoft.Network/virtualNetworks/subnets"

// CheckSubnets refuses virtual network rules for subnets that are not there,
// or have no service endpoint of the service, or that the caller may not use
// so. Those in known were judged before.
func CheckSubnets(ctx context.Context, s store.Store, service string, ids, known []string) error {
	for _, id := range ids {
		if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, id) }) {
			continue
		}
		if err := checkSubnet(ctx, s, service, id); err != nil {
			return err
		}
	}
	return nil
}

func checkSubnet(ctx context.Context, s store.Store, service, text string) error {
	id, err := rid.Parse(text)
	if err != nil {
		return bad("properties.networkAcls.virtualNetworkRules", "The id '%s' of a virtual network rule is malformed.", text)
	}
	const join = SubnetType + "/joinViaServiceEndpoint/action"
	if err := arm.Authorise(ctx, join, id); err != nil {
		return err
	}
	e, err := (arm.Resources{Store: s}).Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return apierr.New(apierr.BadRequest, "SubnetNotFound", "The subnet '%s' of a virtual network rule was not found.", id).WithTarget("properties.networkAcls.virtualNetworkRules")
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(ServicesOf(e), func(have string) bool { return strings.EqualFold(have, service) }) {
		return nil
	}
	return apierr.New(apierr.BadRequest, "SubnetsHaveNoServiceEndpointsConfigured",
		"Subnets %s of virtual network %s do not have ServiceEndpoints for %s resources configured. Add %s to subnet's ServiceEndpoints collection before trying to ACL %s resources to these subnets.",
		id.Name(), id.Parent(), service, service, service).WithTarget("properties.networkAcls.virtualNetworkRules")
}

// ServicesOf are the service endpoints of a subnet.
func ServicesOf(subnet *arm.Envelope) []string {
	var p struct {
		Endpoints []struct {
			Service string `json:"service"`
		} `json:"serviceEndpoints"`
	}
	raw, err := json.Marshal(subnet.Properties)
	if err != nil || json.Unmarshal(raw, &p) != nil {
		return nil
	}
	var out []string
	for _, e := range p.Endpoints {
		out = append(out, e.Service)
	}
	return out
}

// openChildren follows what under resources has names of its own.
func (l *Links) openChildren(ctx context.Context) error {
	var kinds []string
	for _, sv := range l.services {
		if sv.Children != "" {
			kinds = append(kinds, strings.ToLower(sv.Type+"/"+sv.Children))
		}
	}
	if kinds == nil {
		return nil
	}
	var err error
	l.children, err = store.NewMirror(ctx, l.store, arm.KeyPrefix+"/", func(d store.Doc) (rid.ID, error) {
		return rid.Parse(strings.TrimPrefix(d.Key, arm.KeyPrefix))
	}, maxStale, kinds...)
	return err
}

// Aliases are the names that stand for a resource's private ones in the
// resolver of a network: Names without stars, and those of what is under it.
func (l *Links) Aliases(ctx context.Context, target rid.ID, groups []string) ([]Name, error) {
	names, err := l.Names(ctx, target, groups)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(names, func(n Name) bool { return strings.HasPrefix(n.Public, "*") })
	sv, ok := l.Service(target.Type())
	if !ok || sv.Children == "" {
		return out, nil
	}
	e, err := (arm.Resources{Store: l.store}).Get(ctx, target)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l.children.Range(func(_ string, id rid.ID) bool {
		if id.Parent().Equal(target) {
			for _, g := range groups {
				out = append(out, sv.ChildNames(e, g, id.Name())...)
			}
		}
		return true
	})
	return out, nil
}
