package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/web"
)

// NetworkState is a virtual network as `laz network show` draws it.
type NetworkState struct {
	Name      string            `json:"name"` // GROUP/NETWORK
	ID        string            `json:"id"`
	UID       string            `json:"uid"`
	Real      bool              `json:"real"`          // it is on the machine, and served
	Why       string            `json:"why,omitempty"` // why not
	Space     []netip.Prefix    `json:"addressSpace"`
	Resolver  netip.Addr        `json:"resolver"`
	Subnets   []SubnetState     `json:"subnets"`
	Endpoints []EndpointState   `json:"privateEndpoints"`
	Peers     []PeerState       `json:"peers"`
	Zones     []ZoneState       `json:"privateDnsZones"`
	Programs  []node.Member     `json:"programs"`
	Public    DoorState         `json:"publicSide"` // connections to the platform's address
	Refused   map[string]uint64 `json:"refusedPackets,omitempty"`
	Clusters  []JoinedCluster   `json:"clusters,omitempty"` // whose nodes are in a subnet

	// Managed is set of the managed network of a workspace, which has that
	// instead of subnets.
	Managed *ManagedState `json:"managed,omitempty"`
}

// JoinedCluster is a cluster whose nodes are in a subnet.
type JoinedCluster struct {
	ID     string `json:"id"`
	Subnet string `json:"subnet"`
}

// ManagedState is what a managed network has of its own.
type ManagedState struct {
	Isolation string       `json:"isolationMode"`
	Active    bool         `json:"active"`
	Rules     []RuleState  `json:"outboundRules"`
	Flows     []FlowRecord `json:"refusedFlows"` // newest first
}

// RuleState is an outbound rule.
type RuleState struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Category string `json:"category"`
	To       string `json:"to"`
}

// SubnetState is a subnet.
type SubnetState struct {
	Name     string         `json:"name"`
	Ranges   []netip.Prefix `json:"ranges"`
	Services []string       `json:"serviceEndpoints,omitempty"`
	Closed   bool           `json:"closed,omitempty"`
}

// EndpointState is a private endpoint.
type EndpointState struct {
	Address netip.Addr `json:"address"`
	ID      string     `json:"id"`
	Target  string     `json:"target"`
	Status  string     `json:"status"` // of its connection
	DoorState
}

// DoorState counts connections.
type DoorState struct {
	Open  int   `json:"open"`
	Total int64 `json:"total"`
}

// PeerState is a network that a network is joined with.
type PeerState struct {
	ID     string         `json:"id"`
	Space  []netip.Prefix `json:"addressSpace"`
	Joined bool           `json:"joined"`
}

// ZoneState is a private zone that a network is linked to.
type ZoneState struct {
	Name    string   `json:"name"`
	Records []string `json:"records"` // as in a zone file
}

// show is the state of all virtual networks.
func (n *virtualNetworks) show(ctx context.Context) ([]NetworkState, error) {
	plans := n.nets.Plans()
	n.mu.Lock()
	states := n.states
	n.mu.Unlock()
	out := []NetworkState{}
	unavailable := n.Available(ctx)
	if unavailable == nil && len(plans) > 0 {
		if fresh, err := n.agent.Networks(ctx); err == nil {
			states = fresh
		}
	}
	for _, p := range plans {
		s := NetworkState{
			Name: p.Name, ID: p.ID.String(), UID: p.UID, Space: p.Space, Resolver: node.Platform(), Subnets: []SubnetState{}, Endpoints: []EndpointState{},
			Peers: []PeerState{}, Zones: []ZoneState{}, Programs: []node.Member{},
		}
		n.mu.Lock()
		w := n.joined[p.UID]
		n.mu.Unlock()
		i := slices.IndexFunc(states, func(st node.NetworkStatus) bool { return st.UID == p.UID })
		var joined []string
		switch {
		case unavailable != nil:
			s.Why = unavailable.Error()
		case i < 0 || states[i].Space == 0 || w == nil:
			s.Why = "it is being made"
		default:
			s.Real, s.Why, s.Refused, joined = states[i].Err == "", states[i].Err, states[i].Dropped, states[i].Joined
			s.Programs = append(s.Programs, states[i].Members...)
		}
		for _, x := range p.Subnets {
			s.Subnets = append(s.Subnets, SubnetState{x.Name, x.Ranges, x.Services, x.Closed})
		}
		for _, x := range p.Endpoints {
			e := EndpointState{Address: x.Address, ID: x.ID.String(), Target: x.Target.String(), Status: "Disconnected", DoorState: w.count(x.Address)}
			c, err := n.nets.Links().To(ctx, x.ID, x.Target)
			if err != nil {
				return nil, err
			}
			if c != nil {
				e.Status = c.State.Status
			}
			s.Endpoints = append(s.Endpoints, e)
		}
		for _, x := range p.Peers {
			s.Peers = append(s.Peers, PeerState{x.ID.String(), x.Space, slices.Contains(joined, x.UID)})
		}
		for _, z := range n.nets.Zones(p.ID) {
			one := ZoneState{Name: z.Name}
			for _, rr := range z.Records {
				one.Records = append(one.Records, rr.String())
			}
			slices.Sort(one.Records)
			s.Zones = append(s.Zones, one)
		}
		s.Public = w.count(node.Platform())
		s.Clusters = n.out.in(p)
		out = append(out, s)
	}
	return append(out, n.out.managedStates()...), nil
}

// count is what came to an address.
func (w *virtual) count(at netip.Addr) DoorState {
	if w == nil {
		return DoorState{}
	}
	w.mu.Lock()
	d := w.doors[at]
	w.mu.Unlock()
	if d == nil {
		return DoorState{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return DoorState{len(d.open), d.total.Load()}
}

// listNetworks answers `laz network`.
func (s *Server) listNetworks(w http.ResponseWriter, r *http.Request) {
	list, err := s.virtual.show(r.Context())
	if err != nil {
		web.EventFrom(r.Context()).Fail(err)
		web.WriteError(w, apierr.From(err))
		return
	}
	web.WriteJSON(w, http.StatusOK, list)
}

// NetworkRequest asks for a network by what people call it: "NETWORK",
// "GROUP/NETWORK" or a resource id, each with "/SUBNET" where one is meant.
type NetworkRequest struct {
	Name string `json:"name"`
}

// NetworkAnswer is the network, for the node agent.
type NetworkAnswer struct {
	UID      string     `json:"uid"`
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Subnet   string     `json:"subnet,omitempty"`
	Resolver netip.Addr `json:"resolver"`
}

// findNetwork is for `laz run --network`: the network is there when it answers.
func (s *Server) findNetwork(ctx context.Context, q NetworkRequest) (NetworkAnswer, error) {
	p, subnet, err := findPlan(s.virtual.nets.Plans(), q.Name)
	if err != nil {
		return NetworkAnswer{}, apierr.New(apierr.NotFound, "NetworkNotFound", "%s", err)
	}
	if err := s.virtual.Available(ctx); err != nil {
		return NetworkAnswer{}, apierr.New(apierr.Conflict, "NetworkNotEnforceable", "The virtual network '%s' is only written down: %s.", p.Name, err)
	}
	if err := s.virtual.Sync(ctx, p.UID); err != nil {
		return NetworkAnswer{}, err
	}
	return NetworkAnswer{UID: p.UID, ID: p.ID.String(), Name: p.Name, Subnet: subnet, Resolver: node.Platform()}, nil
}

// onlyPlanes keeps what comes through a private endpoint to the data planes:
// management and sign-in are on the public side.
func (s *Server) onlyPlanes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if arrival.From(r.Context()).Kind == arrival.PrivateEndpoint {
			host := r.Host
			if h, _, err := net.SplitHostPort(host); err == nil {
				host = h
			}
			m, ok := s.hosts.Find(host)
			if !ok || !slices.Contains([]string{KeyVault, OpenAI, Cognitive, Registry, Blob, Scoring}, m.Surface.Name) {
				http.Error(w, "A private endpoint reaches its own resource alone, and "+host+" is not that.", http.StatusMisdirectedRequest)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
