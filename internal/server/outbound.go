package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/providers/network"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/vnet"
)

// outbound says what leaves which cluster's network: that of a workspace has
// the workspace's rules, that of a cluster in a subnet the private endpoints of
// its virtual network. What is not known yet lets nothing out.
type outbound struct {
	cfg   *Config
	log   *slog.Logger
	flows *flows
	poke  chan struct{} // holds a value when something may have changed

	// src is read by what a change of policies calls too, so no lock is taken for it.
	src atomic.Pointer[OutboundSources]

	mu     sync.Mutex // guards the rest; taken while policies are made, so that the last one made is the last one set
	served map[string]*outlet
}

// outlet is where one cluster's network leads out.
type outlet struct {
	uid, id  string // the cluster's, and its resource id
	gate     *vnet.Gate
	resolver *vnet.Resolver
	from     atomic.Pointer[arrival.Arrival] // of connections to the front door
	subnet   string                          // of its nodes, when that was last known
	names    *vnet.Names                     // private ones
	named    int64                           // version of names
}

// OutboundSources are what policies of networks are made from.
type OutboundSources struct {
	Workspaces *machinelearningservices.Workspaces // nil: there are none
	Networks   *network.Networks
	Links      *privatelink.Links
	Resources  *store.Mirror[*arm.Envelope] // agent pools and online endpoints
	Store      store.Store
	Record     func(trace.Trace)

	// Who names what has an address in the network of a workspace's computes:
	// "ENDPOINT/DEPLOYMENT". Nil, or "" from it, leaves it at the address.
	Who func(workspaceUID string, a netip.Addr) string
}

func newOutbound(cfg *Config) *outbound {
	o := &outbound{cfg: cfg, log: cfg.Log, poke: make(chan struct{}, 1), served: map[string]*outlet{}}
	o.flows = newFlows(o)
	return o
}

// knows tells what policies are made from.
func (o *outbound) knows(src OutboundSources) {
	o.src.Store(&src)
	changed := func() {
		select {
		case o.poke <- struct{}{}:
		default:
		}
	}
	if src.Workspaces != nil {
		src.Workspaces.OnChange(changed)
	}
	src.Networks.OnChange(changed)
	src.Resources.OnChange(func(store.Change) { changed() })
	changed()
}

// Run sets policies anew whenever something has changed, until ctx ends.
func (o *outbound) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.flows.Run(ctx)
	}()
	defer func() { <-done }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.poke:
		}
		o.mu.Lock()
		for _, w := range o.served {
			o.set(ctx, w)
		}
		o.mu.Unlock()
		o.flows.forget(o.src.Load())
	}
}

// who names clients of a workspace's network.
func (o *outbound) who(w *outlet) func(netip.Addr) string {
	ws, _ := compute.WorkspaceOf(w.uid)
	return func(a netip.Addr) string {
		src := o.src.Load()
		if src == nil || src.Who == nil {
			return ""
		}
		return src.Who(ws, a)
	}
}

// serve sets the policy of a network from now on.
func (o *outbound) serve(ctx context.Context, w *outlet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.served[w.uid] = w
	o.set(ctx, w)
}

// leave ends what serve began, unless another has taken its place.
func (o *outbound) leave(w *outlet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.served[w.uid] == w {
		delete(o.served, w.uid)
	}
}

// set makes the policy of a network and sets it. o.mu is taken.
func (o *outbound) set(ctx context.Context, w *outlet) {
	p, from := o.policy(ctx, w)
	w.from.Store(&from)
	w.resolver.SetPolicy(p)
	w.gate.SetPolicy(p)
}

// arrival is what the front door learns of a client in the network.
func (o *outbound) arrival(w *outlet, client netip.Addr) arrival.Arrival {
	a := arrival.Arrival{Network: w.id}
	if from := w.from.Load(); from != nil {
		a = *from
	}
	a.Client = client
	return a
}

// first is the policy of a network before its sources were looked at.
func (o *outbound) first(uid string) *vnet.Policy {
	return &vnet.Policy{Why: "what may leave the network " + uid + " is not known yet"}
}

func (o *outbound) policy(ctx context.Context, w *outlet) (*vnet.Policy, arrival.Arrival) {
	from := arrival.Arrival{Network: w.id}
	if ws, ok := compute.WorkspaceOf(w.uid); ok {
		from.Local = true // each workspace has the same range of addresses
		src := o.src.Load()
		if src == nil || src.Workspaces == nil {
			return o.first(w.uid), from
		}
		plan, ok := src.Workspaces.Plan(ws)
		if !ok {
			return &vnet.Policy{Why: "there is no workspace that this network belongs to"}, from
		}
		from.Network = plan.Workspace.String()
		return o.managed(ctx, w, plan), from
	}
	if o.src.Load() == nil {
		return o.first(w.uid), from
	}
	subnet, pools := o.subnetOf(w)
	if !pools { // those of a cluster that is being deleted go before it does
		subnet = w.subnet
	}
	if w.subnet = subnet; subnet == "" {
		return nil, from
	}
	return o.joined(ctx, w, subnet, from)
}

// subnetOf is the id of the subnet of a cluster's nodes, "" where it has none,
// and whether the cluster has any.
func (o *outbound) subnetOf(w *outlet) (subnet string, pools bool) {
	id, err := rid.Parse(w.id)
	if err != nil {
		return "", false
	}
	o.src.Load().Resources.Range(func(_ string, e *arm.Envelope) bool {
		if strings.EqualFold(e.Type, poolType) && e.RID().Parent().Key() == id.Key() {
			subnet, _ = e.Properties["vnetSubnetID"].(string)
			pools = true
		}
		return subnet == ""
	})
	return subnet, pools
}

// managed is the policy of a workspace's network.
func (o *outbound) managed(ctx context.Context, w *outlet, plan machinelearningservices.NetworkPlan) *vnet.Policy {
	p := &vnet.Policy{Endpoints: map[netip.Addr]vnet.Endpoint{}}
	switch {
	case plan.Mode == machinelearningservices.Disabled:
		p.Mode = vnet.Internet
		return p
	case !plan.Active:
		p.Why = "the workspace's managed network is not provisioned"
		return p
	case plan.Mode == machinelearningservices.AllowAll:
		p.Mode = vnet.Internet
	case plan.Mode == machinelearningservices.AllowByRules:
		p.Mode = vnet.Approved
		p.Rules = o.rules(ctx, plan)
	default:
		p.Why = fmt.Sprintf("the workspace's isolation mode %q is not known", plan.Mode)
		return p
	}
	var zones []vnet.Zone
	aliases := map[string]string{}
	for _, e := range plan.Endpoints {
		if !e.Address.IsValid() {
			continue
		}
		p.Endpoints[e.Address] = endpointAt(e.ID.String(), arrival.Arrival{Network: plan.Workspace.String()})
		names, err := o.src.Load().Links.Names(ctx, e.Target, []string{e.Group})
		if err != nil {
			o.log.Warn("the names of a managed private endpoint can't be read", slog.String("endpoint", e.ID.String()), slog.String("error", err.Error()))
			continue
		}
		for _, n := range names {
			aliases[n.Public] = n.Private
			zones = append(zones, vnet.AddressZone(n.Private, e.Address))
		}
	}
	names := vnet.NewNames(zones, aliases)
	p.Names = func() *vnet.Names { return names }
	return p
}

func endpointAt(id string, a arrival.Arrival) vnet.Endpoint {
	a.Kind, a.Endpoint = arrival.PrivateEndpoint, id
	return vnet.Endpoint{ID: id, Arrival: func(client netip.Addr) arrival.Arrival {
		one := a
		one.Client = client
		return one
	}}
}

// rules are a plan's as gates and resolvers take them. What can't be enforced
// as it says lets nothing out: a protocol that is not TCP, a tag that stands
// for nothing here.
func (o *outbound) rules(ctx context.Context, plan machinelearningservices.NetworkPlan) []vnet.Rule {
	var out []vnet.Rule
	for _, r := range plan.Rules {
		one := vnet.Rule{Name: r.Name, Deny: strings.EqualFold(r.Action, "Deny")}
		switch r.Type {
		case machinelearningservices.RuleFQDN:
			one.Hosts = []string{strings.ToLower(strings.TrimSuffix(r.Destination, "."))}
		case machinelearningservices.RuleServiceTag:
			ports, ok := portsOf(r.Ports)
			if !ok || r.Protocol != "*" && !strings.EqualFold(r.Protocol, "TCP") {
				continue
			}
			one.Ports, one.Prefixes = ports, r.Prefixes
			if len(r.Prefixes) == 0 {
				one.Hosts, one.Owned = o.tagged(ctx, r.Tag, plan), true
			}
		default:
			continue
		}
		out = append(out, one)
	}
	return out
}

// tagged are the owned names that a service tag stands for. Of Machine Learning
// they are the workspace's own.
func (o *outbound) tagged(ctx context.Context, tag string, plan machinelearningservices.NetworkPlan) []string {
	surfaces, _ := machinelearningservices.Surfaces(tag)
	var out []string
	for _, f := range families() {
		switch {
		case !slices.Contains(surfaces, f.surface):
		case f.surface == Scoring:
			out = append(out, o.scored(plan)...)
		case f.surface == Workspace:
			out = append(out, o.itself(ctx, plan)...)
		default:
			for _, pattern := range append(slices.Clone(f.azure), f.own+"."+o.cfg.Domain) {
				out = append(out, strings.ToLower(strings.Replace(pattern, "**.", "*.", 1)))
			}
		}
	}
	return out
}

// scored are the names of a workspace's online endpoints.
func (o *outbound) scored(plan machinelearningservices.NetworkPlan) []string {
	var out []string
	o.src.Load().Resources.Range(func(_ string, e *arm.Envelope) bool {
		if strings.EqualFold(e.Type, onlineEndpointType) && e.RID().Parent().Key() == plan.Workspace.Key() {
			for _, names := range []string{NamesAzure, NamesOwn} {
				c := *o.cfg
				c.Names = names
				host, _, _ := strings.Cut(c.Host(Scoring, e.Name+"."+e.Location), ":")
				out = append(out, strings.ToLower(host))
			}
		}
		return true
	})
	return out
}

// itself are the names of a workspace, and of the discovery of its region.
func (o *outbound) itself(ctx context.Context, plan machinelearningservices.NetworkPlan) []string {
	names, err := o.src.Load().Links.Names(ctx, plan.Workspace, []string{machinelearningservices.GroupID})
	if err != nil {
		o.log.Warn("the names of a workspace can't be read", slog.String("workspace", plan.Workspace.String()), slog.String("error", err.Error()))
		return nil
	}
	var out []string
	for _, n := range names {
		if o.cfg.surface(n.Public) != Workspace || strings.HasPrefix(n.Public, "*") {
			continue
		}
		out = append(out, strings.ToLower(n.Public))
		if region, ok := strings.CutPrefix(n.Public, plan.UID+".workspace."); ok && !slices.Contains(out, region) {
			out = append(out, region)
		}
	}
	return out
}

// portsOf reads "443", "80, 443", "8000-8100" or "*".
func portsOf(text string) ([]vnet.Ports, bool) {
	if text = strings.TrimSpace(text); text == "*" || text == "" {
		return nil, text == "*"
	}
	var out []vnet.Ports
	for one := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(strings.TrimSpace(one), "-")
		if !ranged {
			last = first
		}
		a, errA := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
		b, errB := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
		if errA != nil || errB != nil || a > b {
			return nil, false
		}
		out = append(out, vnet.Ports{First: uint16(a), Last: uint16(b)})
	}
	return out, true
}

// joined is the policy of a cluster whose nodes are in a subnet.
func (o *outbound) joined(ctx context.Context, w *outlet, subnet string, from arrival.Arrival) (*vnet.Policy, arrival.Arrival) {
	gone := &vnet.Policy{Why: "the subnet of the cluster's nodes is not there any more: " + subnet}
	id, err := rid.Parse(subnet)
	if err != nil {
		return gone, from
	}
	plans := o.src.Load().Networks.Plans()
	i := slices.IndexFunc(plans, func(p network.Plan) bool { return p.ID.Key() == id.Parent().Key() })
	if i < 0 {
		return gone, from
	}
	plan := plans[i]
	j := slices.IndexFunc(plan.Subnets, func(s network.PlannedSubnet) bool { return s.ID.Key() == id.Key() })
	if j < 0 {
		return gone, from
	}
	from.Subnet, from.Services = plan.Subnets[j].ID.String(), arrival.ServicesOf(plan.Subnets[j].Services)
	p := &vnet.Policy{Mode: vnet.Open, Endpoints: map[netip.Addr]vnet.Endpoint{}}
	if plan.Subnets[j].Closed {
		p.Mode = vnet.Private
	}
	for _, n := range append([]network.Plan{plan}, peersOf(plans, plan)...) {
		p.Inside = append(p.Inside, n.Space...)
		for _, e := range n.Endpoints {
			p.Endpoints[e.Address] = endpointAt(e.ID.String(), from)
		}
	}
	names := o.privateNames(ctx, w, plan.ID)
	p.Names = func() *vnet.Names { return names }
	return p, from
}

// privateNames are those that a virtual network's resolver knows.
func (o *outbound) privateNames(ctx context.Context, w *outlet, id rid.ID) *vnet.Names {
	version := o.src.Load().Networks.Version()
	if w.names != nil && w.named == version {
		return w.names
	}
	aliases, err := o.src.Load().Networks.Aliases(ctx)
	if err != nil {
		o.log.Warn("private names can't be read", slog.String("network", id.String()), slog.String("error", err.Error()))
		return w.names
	}
	w.names, w.named = vnet.NewNames(o.src.Load().Networks.Zones(id), aliases), version
	return w.names
}

const (
	poolType           = clusterType + "/agentPools"
	onlineEndpointType = machinelearningservices.Namespace + "/workspaces/onlineEndpoints"
)

// outboundRules tells the networks of clusters what may leave them.
func (s *system) outboundRules(ctx context.Context) error {
	if s.Outbound == nil {
		return nil
	}
	mirror, err := store.NewMirror(ctx, s.Store, arm.KeyPrefix+"/", arm.DecodeEnvelope, time.Second, strings.ToLower(poolType), strings.ToLower(onlineEndpointType))
	if err != nil {
		return err
	}
	s.ends(mirror.Close)
	s.Outbound(OutboundSources{Workspaces: s.workspaces, Who: s.compute.Who, Networks: s.networks, Links: s.links, Resources: mirror, Store: s.Store, Record: s.refusals.Record})
	return nil
}
