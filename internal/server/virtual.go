package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/providers/network"
	"lazurite.dev/internal/vnet"
	"lazurite.dev/internal/web"
)

// virtualNetworks make the virtual networks of the management plane real: the
// node agent makes namespaces as the plans say, and here are the sockets in
// them. It implements network.Wire.
type virtualNetworks struct {
	agent   node.Agent
	shared  bool // the database is for servers on several machines
	owns    func(string) bool
	secure  func(net.Conn)
	plain   func(net.Conn)
	base    netip.Prefix
	offline bool
	log     *slog.Logger
	metrics *vnet.Metrics
	out     *outbound
	poke    chan struct{} // holds a value when something may have changed

	turn chan struct{} // taken by who changes networks; it guards joined and plans
	nets *network.Networks

	mu     sync.Mutex // guards the rest
	joined map[string]*virtual
	states []node.NetworkStatus // as last heard
	ended  bool
}

// virtual is one network that is served.
type virtual struct {
	space uint64
	work  context.Context
	stop  context.CancelFunc
	serve *errgroup.Group

	mu    sync.Mutex // guards the rest
	plan  network.Plan
	peers []network.Plan
	names *vnet.Names
	named int64 // version of names
	doors map[netip.Addr]*door
}

// door is an address at which the front door listens in a network.
type door struct {
	stop   context.CancelFunc
	inside chan struct{}
	total  atomic.Int64

	mu   sync.Mutex // guards open
	open map[net.Conn]struct{}
}

func newVirtualNetworks(s *Server, metrics *vnet.Metrics, out *outbound) *virtualNetworks {
	return &virtualNetworks{
		agent: s.cfg.Nodes, shared: s.cfg.Store.PostgresDSNFile != "",
		owns: func(name string) bool { return s.hosts.Owns(name) }, secure: s.secure.Hand, plain: s.inside.Hand,
		base: netip.MustParsePrefix(NetworkRange), offline: s.cfg.Offline, log: s.log, metrics: metrics,
		out: out, poke: make(chan struct{}, 1), turn: make(chan struct{}, 1), joined: map[string]*virtual{},
	}
}

// knows tells what networks there should be.
func (n *virtualNetworks) knows(nets *network.Networks) {
	n.nets = nets
	nets.OnChange(func() {
		select {
		case n.poke <- struct{}{}:
		default:
		}
	})
}

// Available implements network.Wire.
func (n *virtualNetworks) Available(ctx context.Context) error {
	if n.shared {
		return cluster.Unavailable("virtual networks are on one machine, and this database is for servers on several")
	}
	info, err := n.agent.Info(ctx)
	if err != nil {
		return nodeAgent{}.reason(err)
	}
	if info.NoWires != "" {
		return cluster.Unavailable("%s", info.NoWires)
	}
	return nil
}

// Taken implements network.Wire.
func (n *virtualNetworks) Taken(uid, address string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, st := range n.states {
		if st.UID == uid {
			return slices.ContainsFunc(st.Members, func(m node.Member) bool { return m.Address.String() == address })
		}
	}
	return false
}

// Sync implements network.Wire. All networks are looked at; the error is that
// of the one with the uid.
func (n *virtualNetworks) Sync(ctx context.Context, uid string) error {
	if n.shared {
		return nil
	}
	select {
	case n.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-n.turn }()
	faults, err := n.bring(ctx)
	if err != nil {
		return nodeAgent{}.reason(err)
	}
	return faults[uid]
}

// bring makes what there is what there should be. faults are by uid.
func (n *virtualNetworks) bring(ctx context.Context) (faults map[string]error, err error) {
	plans := n.nets.Plans()
	have, err := n.agent.Networks(ctx)
	if err != nil {
		return nil, err
	}
	faults = map[string]error{}
	changed := false
	for _, p := range plans {
		i := slices.IndexFunc(have, func(st node.NetworkStatus) bool { return st.UID == p.UID })
		if i >= 0 && have[i].Err == "" && have[i].Space != 0 && sameNetwork(have[i].Network, specOf(p)) {
			continue
		}
		changed = true
		if err := n.agent.ApplyNetwork(ctx, specOf(p)); err != nil {
			faults[p.UID] = fmt.Errorf("the virtual network %s: %w", p.Name, err)
		}
	}
	for _, st := range have {
		if !slices.ContainsFunc(plans, func(p network.Plan) bool { return p.UID == st.UID }) {
			changed = true
			n.leave(st.UID)
			if err := n.agent.RemoveNetwork(ctx, st.UID); err != nil {
				faults[st.UID] = err
			}
		}
	}
	if changed {
		if have, err = n.agent.Networks(ctx); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	n.states = have
	n.mu.Unlock()
	for _, st := range have {
		i := slices.IndexFunc(plans, func(p network.Plan) bool { return p.UID == st.UID })
		if i < 0 || st.Space == 0 {
			continue
		}
		if err := n.join(ctx, plans[i], peersOf(plans, plans[i]), st); err != nil {
			faults[st.UID] = errors.Join(faults[st.UID], err)
		}
	}
	return faults, nil
}

func peersOf(plans []network.Plan, p network.Plan) []network.Plan {
	var out []network.Plan
	for _, o := range plans {
		if slices.ContainsFunc(p.Peers, func(x network.PlannedPeer) bool { return x.UID == o.UID }) {
			out = append(out, o)
		}
	}
	return out
}

// specOf is a plan as the node agent takes it.
func specOf(p network.Plan) node.Network {
	s := node.Network{UID: p.UID, Name: p.Name, ResourceID: p.ID.String(), Space: p.Space}
	for _, x := range p.Subnets {
		s.Subnets = append(s.Subnets, node.Subnet{Name: x.Name, Ranges: x.Ranges, Closed: x.Closed})
	}
	for _, x := range p.Endpoints {
		s.Endpoints = append(s.Endpoints, x.Address)
	}
	for _, x := range p.Peers {
		s.Peers = append(s.Peers, node.Peer{UID: x.UID, Space: x.Space})
	}
	return s
}

func sameNetwork(a, b node.Network) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && string(x) == string(y)
}

// join serves a network, or brings what is served up to date.
func (n *virtualNetworks) join(ctx context.Context, p network.Plan, peers []network.Plan, st node.NetworkStatus) error {
	n.mu.Lock()
	w, ended := n.joined[p.UID], n.ended
	n.mu.Unlock()
	if ended {
		return nil
	}
	if w != nil && w.space != st.Space {
		n.leave(p.UID)
		w = nil
	}
	if w == nil {
		w = &virtual{space: st.Space, serve: &errgroup.Group{}, plan: p, peers: peers, doors: map[netip.Addr]*door{}}
		w.work, w.stop = context.WithCancel(context.WithoutCancel(ctx))
		if err := n.open(ctx, w); err != nil {
			w.close()
			return fmt.Errorf("serving the virtual network %s: %w", p.Name, err)
		}
		n.mu.Lock()
		n.joined[p.UID] = w
		n.mu.Unlock()
		n.log.Info("virtual network joined", slog.String("network", p.Name))
	}
	return n.update(ctx, w, p, peers)
}

// open opens the sockets at the platform's address.
func (n *virtualNetworks) open(ctx context.Context, w *virtual) error {
	resolver := vnet.NewResolver(vnet.ResolverConfig{
		Network: w.plan.Name, Owns: n.owns, Front: node.Platform(), Base: n.base, Offline: n.offline, Log: n.log, Metrics: n.metrics,
		Names: func() *vnet.Names { return n.namesOf(w) },
	})
	gate := vnet.NewGate(vnet.GateConfig{Network: w.plan.Name, Base: n.base, Offline: n.offline, Public: true, Log: n.log, Metrics: n.metrics})
	for _, s := range []struct {
		port  uint16
		serve func(context.Context, net.Listener) error
	}{{node.PortDNS, resolver.ServeStream}, {node.PortGate, gate.Serve}} {
		ln, err := n.listener(ctx, w.plan.UID, netip.AddrPortFrom(node.Platform(), s.port))
		if err != nil {
			return err
		}
		n.serveIn(w, func() error { return s.serve(w.work, ln) })
	}
	f, err := n.agent.ListenNetwork(ctx, w.plan.UID, "udp", netip.AddrPortFrom(node.Platform(), node.PortDNS))
	if err != nil {
		return fmt.Errorf("listening for questions: %w", err)
	}
	pc, err := net.FilePacketConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	n.serveIn(w, func() error { return resolver.ServePacket(w.work, pc) })
	return n.openDoor(ctx, w, node.Platform())
}

// namesOf are the private names that a network's resolver knows.
func (n *virtualNetworks) namesOf(w *virtual) *vnet.Names {
	version := n.nets.Version()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.names != nil && w.named == version {
		return w.names
	}
	aliases, err := n.nets.Aliases(w.work)
	if err != nil {
		n.log.Warn("private names can't be read", slog.String("network", w.plan.Name), slog.String("error", err.Error()))
		return w.names
	}
	w.names, w.named = vnet.NewNames(n.nets.Zones(w.plan.ID), aliases), version
	return w.names
}

// update opens and closes the doors of private endpoints.
func (n *virtualNetworks) update(ctx context.Context, w *virtual, p network.Plan, peers []network.Plan) error {
	w.mu.Lock()
	moved := !sameSubnets(w.plan.Subnets, p.Subnets)
	w.plan, w.peers = p, peers
	have := map[netip.Addr]*door{}
	for a, d := range w.doors {
		have[a] = d
	}
	w.mu.Unlock()
	if moved { // whoever is connected came from a subnet as it was
		have[node.Platform()].cut()
	}
	delete(have, node.Platform())
	var errs []error
	for _, e := range p.Endpoints {
		if have[e.Address] != nil {
			delete(have, e.Address)
			continue
		}
		errs = append(errs, n.openDoor(ctx, w, e.Address))
	}
	for a, d := range have {
		d.stop()
		d.cut()
		w.mu.Lock()
		delete(w.doors, a)
		w.mu.Unlock()
	}
	return errors.Join(errs...)
}

func sameSubnets(a, b []network.PlannedSubnet) bool {
	return slices.EqualFunc(a, b, func(x, y network.PlannedSubnet) bool {
		return x.Name == y.Name && slices.Equal(x.Ranges, y.Ranges) && slices.Equal(x.Services, y.Services)
	})
}

// openDoor opens the front door at an address.
func (n *virtualNetworks) openDoor(ctx context.Context, w *virtual, at netip.Addr) error {
	d := &door{inside: make(chan struct{}, maxInside), open: map[net.Conn]struct{}{}}
	work, stop := context.WithCancel(w.work)
	d.stop = stop
	for _, s := range []struct {
		port uint16
		take func(net.Conn)
	}{{node.PortHTTPS, n.secure}, {node.PortHTTP, n.plain}} {
		ln, err := n.listener(ctx, w.plan.UID, netip.AddrPortFrom(at, s.port))
		if err != nil {
			stop()
			return err
		}
		n.serveIn(w, func() error {
			return d.serve(work, ln, func(c net.Conn) arrival.Arrival { return w.from(at, c) }, s.take)
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doors[at] = d
	return nil
}

// from says how a connection came in at an address.
func (w *virtual) from(at netip.Addr, conn net.Conn) arrival.Arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := arrival.Arrival{Network: w.plan.ID.String(), Subnet: w.plan.ID.String(), Client: arrival.Of(conn.RemoteAddr()).Client}
	for _, p := range append([]network.Plan{w.plan}, w.peers...) {
		for _, s := range p.Subnets {
			if slices.ContainsFunc(s.Ranges, func(r netip.Prefix) bool { return r.Contains(a.Client) }) {
				a.Network, a.Subnet, a.Services = p.ID.String(), s.ID.String(), arrival.ServicesOf(s.Services)
			}
		}
	}
	if at != node.Platform() {
		a.Kind = arrival.PrivateEndpoint // whatever it is now: one that is gone is no endpoint
		for _, e := range w.plan.Endpoints {
			if e.Address == at {
				a.Endpoint = e.ID.String()
			}
		}
	}
	return a
}

func (d *door) serve(ctx context.Context, ln net.Listener, from func(net.Conn) arrival.Arrival, take func(net.Conn)) error {
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })() // ends Feed
	defer ln.Close()
	return web.Feed(ln, func(conn net.Conn) {
		select {
		case d.inside <- struct{}{}:
		default:
			_ = conn.Close() // its client tries again
			return
		}
		d.total.Add(1)
		d.mu.Lock()
		d.open[conn] = struct{}{}
		d.mu.Unlock()
		leave := sync.OnceFunc(func() {
			d.mu.Lock()
			delete(d.open, conn)
			d.mu.Unlock()
			<-d.inside
		})
		take(arrival.Mark(&leaving{Conn: conn, leave: leave}, from(conn)))
	})
}

// cut ends the connections that are open.
func (d *door) cut() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for conn := range d.open {
		_ = conn.Close() // the front door sees that
	}
}

func (n *virtualNetworks) listener(ctx context.Context, uid string, at netip.AddrPort) (net.Listener, error) {
	f, err := n.agent.ListenNetwork(ctx, uid, "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", at, err)
	}
	ln, err := net.FileListener(f)
	return ln, errors.Join(err, f.Close())
}

// serveIn serves one socket. One that breaks is said and left: the look at the
// agent finds out whether the network is still there.
func (n *virtualNetworks) serveIn(w *virtual, serve func() error) {
	w.serve.Go(func() error {
		if err := serve(); err != nil && w.work.Err() == nil {
			n.log.Error("network socket broke", slog.String("network", w.plan.Name), slog.String("error", err.Error()))
		}
		return nil
	})
}

func (w *virtual) close() {
	w.stop()
	w.mu.Lock()
	doors := w.doors
	w.mu.Unlock()
	for _, d := range doors {
		d.cut()
	}
	_ = w.serve.Wait() // says itself what went wrong
}

func (n *virtualNetworks) leave(uid string) {
	n.mu.Lock()
	w := n.joined[uid]
	delete(n.joined, uid)
	n.mu.Unlock()
	if w == nil {
		return
	}
	w.close()
	n.metrics.Forget(w.plan.Name)
	n.log.Info("virtual network left", slog.String("network", w.plan.Name))
}

// Run keeps networks as they should be, and leaves them when ctx ends: they
// stay on the machine until the node agent stops.
func (n *virtualNetworks) Run(ctx context.Context) error {
	defer n.end()
	if n.shared {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(networksLook)
	defer tick.Stop()
	said := ""
	for {
		if err := n.look(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, node.ErrNoAgent) {
			if text := err.Error(); text != said {
				n.log.Warn("virtual networks", slog.String("error", text))
				said = text
			}
		} else {
			said = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.poke:
		}
	}
}

func (n *virtualNetworks) look(ctx context.Context) error {
	select {
	case n.turn <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-n.turn }()
	faults, err := n.bring(ctx)
	errs := []error{err}
	for _, f := range faults {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

func (n *virtualNetworks) end() {
	n.mu.Lock()
	n.ended = true
	var all []string
	for uid := range n.joined {
		all = append(all, uid)
	}
	n.mu.Unlock()
	for _, uid := range all {
		n.leave(uid)
	}
}

// find is the plan that a name or an id means: "NETWORK", "GROUP/NETWORK", a
// resource id; each may be followed by "/SUBNET", a resource id by
// "/subnets/SUBNET".
func findPlan(plans []network.Plan, name string) (p network.Plan, subnet string, err error) {
	var hits []network.Plan
	for _, p := range plans {
		for _, form := range []string{p.ID.String(), p.Name, p.ID.Name()} {
			rest, ok := cutFold(name, form)
			if !ok || rest != "" && !strings.HasPrefix(rest, "/") {
				continue
			}
			rest = strings.TrimPrefix(strings.TrimPrefix(rest, "/subnets"), "/")
			if rest != "" && !slices.ContainsFunc(p.Subnets, func(s network.PlannedSubnet) bool { return strings.EqualFold(s.Name, rest) }) {
				continue
			}
			hits, subnet = append(hits, p), rest
			break
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], subnet, nil
	case 0:
		return p, "", fmt.Errorf("there is no virtual network %q, nor a subnet of that name in one", name)
	}
	return p, "", fmt.Errorf("there are %d virtual networks %q: say GROUP/NETWORK, or a resource id", len(hits), name)
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}
