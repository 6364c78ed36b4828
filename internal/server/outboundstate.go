package server

import (
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/providers/network"
)

// in are the clusters whose nodes are in a virtual network.
func (o *outbound) in(plan network.Plan) []JoinedCluster {
	src := o.src.Load()
	if src == nil {
		return nil
	}
	var out []JoinedCluster
	src.Resources.Range(func(_ string, e *arm.Envelope) bool {
		subnet, _ := e.Properties["vnetSubnetID"].(string)
		if !strings.EqualFold(e.Type, poolType) || subnet == "" {
			return true
		}
		one := JoinedCluster{ID: e.RID().Parent().String()}
		for _, s := range plan.Subnets {
			if strings.EqualFold(s.ID.String(), subnet) {
				one.Subnet = s.Name
			}
		}
		if one.Subnet != "" && !slices.Contains(out, one) {
			out = append(out, one)
		}
		return true
	})
	slices.SortFunc(out, func(a, b JoinedCluster) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// managedStates are the managed networks of workspaces.
func (o *outbound) managedStates() []NetworkState {
	src := o.src.Load()
	if src == nil || src.Workspaces == nil {
		return nil
	}
	var out []NetworkState
	for _, p := range src.Workspaces.Plans() {
		if p.Mode != machinelearningservices.Disabled {
			out = append(out, o.managedState(p))
		}
	}
	return out
}

func (o *outbound) managedState(p machinelearningservices.NetworkPlan) NetworkState {
	uid := compute.ClusterUID(p.UID)
	o.mu.Lock()
	w := o.served[uid]
	o.mu.Unlock()
	s := NetworkState{
		Name: p.Workspace.ResourceGroup() + "/" + p.Workspace.Name(), ID: p.Workspace.String(), UID: uid, Real: w != nil, Resolver: netip.Addr{},
		Space: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/16")}, Subnets: []SubnetState{}, Endpoints: []EndpointState{}, Peers: []PeerState{}, Zones: []ZoneState{},
		Programs: []node.Member{}, Managed: &ManagedState{Isolation: p.Mode, Active: p.Active, Rules: []RuleState{}, Flows: o.flows.list(uid)},
	}
	switch {
	case !p.Active:
		s.Why = "it is not provisioned"
	case w == nil:
		s.Why = "nothing runs in it"
	}
	for _, e := range p.Endpoints {
		one := EndpointState{Address: e.Address, ID: e.ID.String(), Target: e.Target.String(), Status: "Pending"}
		if e.Approved {
			one.Status = "Approved"
		}
		s.Endpoints = append(s.Endpoints, one)
	}
	for _, r := range p.Rules {
		s.Managed.Rules = append(s.Managed.Rules, RuleState{r.Name, r.Type, r.Category, ruleTo(p, r)})
	}
	return s
}

// ruleTo is where a rule leads, for people.
func ruleTo(p machinelearningservices.NetworkPlan, r machinelearningservices.PlannedRule) string {
	switch {
	case r.Type == machinelearningservices.RuleFQDN:
		return r.Destination
	case r.Tag != "":
		return r.Tag + " " + r.Protocol + " " + r.Ports
	case len(r.Prefixes) > 0:
		var list []string
		for _, x := range r.Prefixes {
			list = append(list, x.String())
		}
		return strings.Join(list, ",") + " " + r.Protocol + " " + r.Ports
	}
	for _, e := range p.Endpoints {
		if e.Rule == r.Name {
			return e.Target.String() + " (" + e.Group + ")"
		}
	}
	return ""
}
