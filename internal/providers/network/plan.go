package network

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/vnet"
)

// Plan is what a network should be on the machine.
type Plan struct {
	UID, Name string // the name is "GROUP/NETWORK"
	ID        rid.ID
	Space     []netip.Prefix
	Subnets   []PlannedSubnet // in the order of their names
	Endpoints []PlannedEndpoint
	Peers     []PlannedPeer // those that are connected and may pass
}

// PlannedSubnet is a subnet.
type PlannedSubnet struct {
	Name     string
	ID       rid.ID
	Ranges   []netip.Prefix
	Services []string // its service endpoints
	Closed   bool     // nothing leaves it to the internet
}

// PlannedEndpoint is an address at which a private endpoint answers.
type PlannedEndpoint struct {
	Address netip.Addr
	ID      rid.ID // of the private endpoint
	Target  rid.ID // of the resource that it reaches
}

// PlannedPeer is a network that the network is joined with.
type PlannedPeer struct {
	UID   string
	ID    rid.ID
	Space []netip.Prefix
}

// view is everything at one moment.
type view struct {
	networks  map[string]*viewed // by lower-case id
	endpoints map[string]*arm.Resource[Endpoint]
	zones     map[string]vnet.Zone // by lower-case id
	links     map[string][]string  // lower-case ids of the zones that a network is linked to
	names     map[string]string    // public names of resources that have private ones
}

type viewed struct {
	id       rid.ID
	uid      string
	location string
	props    Network
	subnets  []PlannedSubnet
	remotes  map[string]string // of peerings that may pass: lower-case id of the remote network, twice
	halves   map[string]bool   // of all peerings
	claims   *claims
}

// connected reports whether both halves of a peering are there.
func (v *view) connected(a, b string) bool {
	x, y := v.networks[a], v.networks[b]
	return x != nil && y != nil && x.halves[b] && y.halves[a]
}

// view is the state as it is now; it must not be changed.
func (n *Networks) view() *view {
	now := n.version.Load()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil || n.at != now {
		n.seen, n.at = n.look(), now
	}
	return n.seen
}

func (n *Networks) look() *view {
	v := &view{
		networks: map[string]*viewed{}, endpoints: map[string]*arm.Resource[Endpoint]{}, zones: map[string]vnet.Zone{}, links: map[string][]string{}, names: map[string]string{},
	}
	var subnets []*arm.Resource[Subnet]
	var peerings []*arm.Resource[Peering]
	var records []*arm.Envelope
	n.mirror.Range(func(_ string, e *arm.Envelope) bool {
		switch {
		case strings.EqualFold(e.Type, NetworkType):
			if r, err := arm.View[Network](e); err == nil && e.State() != "Deleting" {
				v.networks[r.ID.Key()] = &viewed{id: r.ID, uid: e.Private[uidKey], location: e.Location, props: r.Properties, remotes: map[string]string{}, halves: map[string]bool{}}
			}
		case strings.EqualFold(e.Type, SubnetType):
			if r, err := arm.View[Subnet](e); err == nil {
				subnets = append(subnets, r)
			}
		case strings.EqualFold(e.Type, PeeringType):
			if r, err := arm.View[Peering](e); err == nil {
				peerings = append(peerings, r)
			}
		case strings.EqualFold(e.Type, EndpointType):
			if r, err := arm.View[Endpoint](e); err == nil {
				v.endpoints[r.ID.Key()] = r
			}
		case strings.EqualFold(e.Type, ZoneType):
			v.zones[e.RID().Key()] = vnet.Zone{Name: strings.ToLower(e.Name)}
		case strings.EqualFold(e.Type, LinkType):
			if r, err := arm.View[ZoneLink](e); err == nil {
				key := strings.ToLower(r.Properties.Network.ID)
				v.links[key] = append(v.links[key], r.ID.Parent().Key())
			}
		default:
			records = append(records, e)
		}
		return true
	})
	v.assemble(subnets, peerings)
	n.claims.Range(func(key string, c *claims) bool {
		if w := v.networks["/"+strings.TrimPrefix(key, claimPrefix)]; w != nil {
			w.claims = c
		}
		return true
	})
	for _, e := range records {
		key := e.RID().Parent().Key()
		if z, ok := v.zones[key]; ok {
			z.Records = append(z.Records, recordsOf(e, z.Name)...)
			v.zones[key] = z
		}
	}
	return v
}

func (v *view) assemble(subnets []*arm.Resource[Subnet], peerings []*arm.Resource[Peering]) {
	for _, s := range subnets {
		w := v.networks[s.ID.Parent().Key()]
		if w == nil {
			continue
		}
		one := PlannedSubnet{Name: s.ID.Name(), ID: s.ID, Ranges: s.Properties.ranges(), Closed: s.Properties.Outbound != nil && !*s.Properties.Outbound}
		for _, e := range s.Properties.Services {
			one.Services = append(one.Services, e.Service)
		}
		w.subnets = append(w.subnets, one)
	}
	for _, w := range v.networks {
		slices.SortFunc(w.subnets, func(a, b PlannedSubnet) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	}
	for _, s := range peerings {
		if w := v.networks[s.ID.Parent().Key()]; w != nil {
			remote := strings.ToLower(s.Properties.Remote.ID)
			w.halves[remote] = true
			if s.Properties.Access == nil || *s.Properties.Access {
				w.remotes[remote] = remote
			}
		}
	}
}

// Plans are all networks as they should be, by id.
func (n *Networks) Plans() []Plan {
	v := n.view()
	var out []Plan
	for key, w := range v.networks {
		out = append(out, v.plan(key, w))
	}
	slices.SortFunc(out, func(a, b Plan) int { return strings.Compare(a.ID.Key(), b.ID.Key()) })
	return out
}

func (v *view) plan(key string, w *viewed) Plan {
	p := Plan{UID: w.uid, Name: w.id.ResourceGroup() + "/" + w.id.Name(), ID: w.id, Space: w.props.ranges(), Subnets: w.subnets}
	if w.claims != nil {
		for text, c := range w.claims.Addresses {
			a, err := netip.ParseAddr(text)
			e := v.endpoints[strings.ToLower(c.Owner)]
			if err != nil || e == nil {
				continue
			}
			target, err := rid.Parse(e.Properties.target())
			if err != nil {
				continue
			}
			p.Endpoints = append(p.Endpoints, PlannedEndpoint{a, e.ID, target})
		}
	}
	slices.SortFunc(p.Endpoints, func(a, b PlannedEndpoint) int { return a.Address.Compare(b.Address) })
	for remote := range w.remotes {
		r := v.networks[remote]
		if r == nil || r.remotes[key] == "" { // one that the other does not let pass would be open half way
			continue
		}
		p.Peers = append(p.Peers, PlannedPeer{r.uid, r.id, r.props.ranges()})
	}
	slices.SortFunc(p.Peers, func(a, b PlannedPeer) int { return strings.Compare(a.UID, b.UID) })
	return p
}

// Zones are the private zones that a network is linked to.
func (n *Networks) Zones(network rid.ID) []vnet.Zone {
	v := n.view()
	var out []vnet.Zone
	for _, key := range v.links[network.Key()] {
		if z, ok := v.zones[key]; ok {
			out = append(out, z)
		}
	}
	return out
}

// Aliases are the public names of resources that private endpoints may reach, and
// the private names behind them, in lower case.
func (n *Networks) Aliases(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, c := range n.links.All() {
		if c.State.Status != privatelink.Approved { // until then the name leads to the public side
			continue
		}
		names, err := n.links.Aliases(ctx, c.Target, c.GroupIDs)
		if err != nil {
			return nil, err
		}
		for _, x := range names {
			out[x.Public] = x.Private
		}
	}
	return out, nil
}

// OnChange calls fn after each change. fn must not write to the store.
func (n *Networks) OnChange(fn func()) {
	changed := func(store.Change) { fn() }
	n.mirror.OnChange(changed)
	n.claims.OnChange(changed)
	n.links.OnChange(fn)
}

// Links are the connections of the endpoints.
func (n *Networks) Links() *privatelink.Links { return n.links }
