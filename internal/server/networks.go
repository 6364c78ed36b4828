package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/vnet"
	"lazurite.dev/internal/web"
)

// NetworkRange is where the networks of clusters have their addresses, as this
// machine sees them: the range for tests between networks of RFC 2544, which is
// nobody's.
const NetworkRange = "198.18.0.0/15"

const (
	networksLook = 2 * time.Second // between looks at the agent
	networksSoon = time.Second     // after something went wrong
	maxInside    = 4096            // connections from one network
)

// networkAgent is the part of the node agent that opens sockets inside networks.
type networkAgent interface {
	Status(ctx context.Context) ([]node.ClusterStatus, error)
	Listen(ctx context.Context, uid, network string, port int) (*os.File, error)
}

// networks serve the clusters' own networks: the front door, the resolver and
// the way out, on sockets that the node agent opens inside them. Nothing else
// of this server is reached from there.
type networks struct {
	agent   networkAgent
	owns    func(string) bool
	secure  func(net.Conn) // takes a connection that begins TLS next
	plain   func(net.Conn) // takes any other that came for the front door
	base    netip.Prefix
	offline bool
	log     *slog.Logger
	metrics *vnet.Metrics
	out     *outbound

	mu     sync.Mutex // guards what follows, and changes of it
	joined map[string]*clusterNetwork
	ended  bool
}

// clusterNetwork is one cluster's.
type clusterNetwork struct {
	name   string // "GROUP/CLUSTER"
	space  uint64 // the namespace in which the sockets are
	stop   context.CancelFunc
	serve  *errgroup.Group
	inside chan struct{} // holds a value for each connection to the front door
	out    *outlet

	mu    sync.Mutex // guards the rest
	nodes map[netip.Addr]string
	open  map[net.Conn]struct{} // to the front door
}

// Join serves the network of a cluster, if it does not yet: a driver calls it
// once the network is there. Without an agent it is an error.
func (n *networks) Join(ctx context.Context, uid string) error {
	all, err := n.agent.Status(ctx)
	if err != nil {
		return fmt.Errorf("looking for the network: %w", err)
	}
	for _, st := range all {
		if st.UID == uid {
			return n.join(ctx, st)
		}
	}
	return fmt.Errorf("cluster %s: %w", uid, node.ErrNotFound)
}

func (n *networks) join(ctx context.Context, st node.ClusterStatus) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.joined[st.UID]; w != nil && w.space != st.Space {
		n.leaveAndCut(st.UID)
	}
	if w := n.joined[st.UID]; w != nil || n.ended {
		if w != nil {
			w.know(st)
		}
		return nil
	}
	w := &clusterNetwork{name: networkName(st), space: st.Space, inside: make(chan struct{}, maxInside), open: map[net.Conn]struct{}{}}
	w.know(st)
	if err := n.open(ctx, w, st); err != nil {
		n.out.leave(w.out)
		w.close()
		return fmt.Errorf("the network of cluster %s: %w", st.Name, err)
	}
	n.joined[st.UID] = w
	n.log.Info("network joined", slog.String("network", w.name), slog.String("address", st.Address.String()))
	return nil
}

// networkName is what log and metrics call a cluster's network.
func networkName(st node.ClusterStatus) string {
	if id, err := rid.Parse(st.ResourceID); err == nil && id.ResourceGroup() != "" {
		return id.ResourceGroup() + "/" + id.Name()
	}
	return st.UID
}

// open opens the sockets of a network and serves them.
func (n *networks) open(ctx context.Context, w *clusterNetwork, st node.ClusterStatus) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.stop, w.serve = cancel, &errgroup.Group{}
	w.out = &outlet{uid: st.UID, id: st.ResourceID}
	if w.out.id == "" {
		w.out.id = st.UID
	}
	who, refused := w.who, (func(vnet.Refusal))(nil)
	if _, ok := compute.WorkspaceOf(st.UID); ok {
		who, refused = n.out.who(w.out), n.out.flows.of(w.out)
	}
	resolver := vnet.NewResolver(vnet.ResolverConfig{
		Network: w.name, Owns: n.owns, Front: st.Address, Base: n.base, Offline: n.offline, Log: n.log, Metrics: n.metrics,
		Policy: n.out.first(st.UID), Refused: refused, Who: who,
	})
	gate := vnet.NewGate(vnet.GateConfig{
		Network: w.name, Base: n.base, Offline: n.offline, Log: n.log, Metrics: n.metrics, Who: who,
		Policy: n.out.first(st.UID), Refused: refused, Owns: n.owns, Resolve: resolver.Lookup,
		Front:   func(conn net.Conn, port uint16, a arrival.Arrival) { w.hand(conn, a, n.taker(port)) },
		Arrival: func(client netip.Addr) arrival.Arrival { return n.out.arrival(w.out, client) },
	})
	w.out.gate, w.out.resolver = gate, resolver
	n.out.serve(work, w.out)
	for _, s := range []struct {
		port  int
		serve func(context.Context, net.Listener) error
	}{
		{node.PortDNS, resolver.ServeStream},
		{node.PortGate, gate.Serve},
		{node.PortHTTPS, n.door(w, node.PortHTTPS)},
		{node.PortHTTP, n.door(w, node.PortHTTP)},
	} {
		ln, err := n.listener(ctx, st.UID, s.port)
		if err != nil {
			return err
		}
		n.serveIn(work, w, func() error { return s.serve(work, ln) })
	}
	pc, err := n.packets(ctx, st.UID)
	if err != nil {
		return err
	}
	n.serveIn(work, w, func() error { return resolver.ServePacket(work, pc) })
	return nil
}

// serveIn serves one socket. One that breaks is said and left: the look at the
// agent finds out whether the network is still there.
func (n *networks) serveIn(ctx context.Context, w *clusterNetwork, serve func() error) {
	w.serve.Go(func() error {
		if err := serve(); err != nil && ctx.Err() == nil {
			n.log.Error("network socket broke", slog.String("network", w.name), slog.String("error", err.Error()))
		}
		return nil
	})
}

func (n *networks) listener(ctx context.Context, uid string, port int) (net.Listener, error) {
	f, err := n.agent.Listen(ctx, uid, "tcp", port)
	if err != nil {
		return nil, fmt.Errorf("listening at port %d: %w", port, err)
	}
	ln, err := net.FileListener(f)
	return ln, errors.Join(err, f.Close())
}

func (n *networks) packets(ctx context.Context, uid string) (net.PacketConn, error) {
	f, err := n.agent.Listen(ctx, uid, "udp", node.PortDNS)
	if err != nil {
		return nil, fmt.Errorf("listening for questions: %w", err)
	}
	pc, err := net.FilePacketConn(f)
	return pc, errors.Join(err, f.Close())
}

// know takes over what the agent says of the nodes.
func (w *clusterNetwork) know(st node.ClusterStatus) {
	nodes := map[netip.Addr]string{}
	for _, one := range st.Nodes {
		nodes[one.Address] = "node " + one.Name
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = nodes
}

// who names an address of the network.
func (w *clusterNetwork) who(a netip.Addr) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[a]
}

func (w *clusterNetwork) close() {
	w.stop()
	_ = w.serve.Wait() // says itself what went wrong
}

// taker is what of the front door takes connections that came to a port.
func (n *networks) taker(port uint16) func(net.Conn) {
	if port == node.PortHTTPS {
		return n.secure
	}
	return n.plain
}

// door accepts connections for the front door, as far as the network's policy
// lets them in, and marks where they come from.
func (n *networks) door(w *clusterNetwork, port uint16) func(context.Context, net.Listener) error {
	return func(ctx context.Context, ln net.Listener) error {
		defer context.AfterFunc(ctx, func() { _ = ln.Close() })() // ends Feed
		defer ln.Close()
		return web.Feed(ln, func(conn net.Conn) {
			w.out.gate.Admit(ctx, conn, port, func(conn net.Conn) {
				w.hand(conn, n.out.arrival(w.out, arrival.Of(conn.RemoteAddr()).Client), n.taker(port))
			})
		})
	}
}

// hand gives a connection to the front door.
func (w *clusterNetwork) hand(conn net.Conn, a arrival.Arrival, take func(net.Conn)) {
	select {
	case w.inside <- struct{}{}:
	default:
		_ = conn.Close() // its client tries again
		return
	}
	w.enter(conn)
	take(arrival.Mark(&leaving{Conn: conn, leave: sync.OnceFunc(func() { w.left(conn) })}, a))
}

func (w *clusterNetwork) enter(conn net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[conn] = struct{}{}
}

func (w *clusterNetwork) left(conn net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, conn)
	<-w.inside
}

// cut ends the connections to the front door: a network in which a socket is
// open does not go away.
func (w *clusterNetwork) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.open {
		_ = conn.Close() // the front door sees that
	}
}

// leaving is a connection that is counted until it is closed.
type leaving struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (l *leaving) Close() error {
	l.leave()
	return l.Conn.Close()
}

// Leave stops serving the network of a cluster: it is about to be taken away,
// which open sockets would keep from ending. One that is not served is no error.
func (n *networks) Leave(uid string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaveAndCut(uid)
}

// leaveAndCut leaves a network that goes away.
func (n *networks) leaveAndCut(uid string) {
	if w := n.joined[uid]; w != nil {
		defer w.cut()
	}
	n.leave(uid)
}

func (n *networks) leave(uid string) {
	w := n.joined[uid]
	if w == nil {
		return
	}
	delete(n.joined, uid)
	n.out.leave(w.out)
	w.close()
	n.metrics.Forget(w.name)
	n.log.Info("network left", slog.String("network", w.name))
}

// Run joins the networks of clusters that run already, keeps looking whether
// they are still those in which the sockets are, and leaves all networks when
// ctx ends.
func (n *networks) Run(ctx context.Context) error {
	defer n.end()
	changes := make(chan struct{})
	go func() {
		defer close(changes)
		_ = n.out.Run(ctx) // it ends with ctx alone
	}()
	defer func() { <-changes }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := n.look(ctx)
		text := ""
		if err != nil && ctx.Err() == nil && !errors.Is(err, node.ErrNoAgent) {
			if text = err.Error(); text != said {
				n.log.Warn("networks of clusters", slog.String("error", text))
			}
		}
		said = text
		if text != "" {
			timer.Reset(networksSoon)
		} else {
			timer.Reset(networksLook)
		}
	}
}

func (n *networks) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	for uid := range n.joined {
		n.leave(uid)
	}
}

// look brings what is served and what there is together. A network may have
// been made anew since its sockets were opened.
func (n *networks) look(ctx context.Context) error {
	all, err := n.agent.Status(ctx)
	if err != nil {
		return err
	}
	n.mu.Lock()
	there := map[string]uint64{}
	for _, st := range all {
		if st.Running {
			there[st.UID] = st.Space
		}
	}
	for uid, w := range n.joined {
		if there[uid] == 0 || there[uid] != w.space {
			n.leaveAndCut(uid)
		}
	}
	n.mu.Unlock()
	var errs []error
	for _, st := range all {
		// One that is being made is joined by its driver, when its network is there.
		if st.Running && st.Space != 0 && (!st.Applying || n.has(st.UID)) {
			errs = append(errs, n.join(ctx, st))
		}
	}
	return errors.Join(errs...)
}

func (n *networks) has(uid string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.joined[uid] != nil
}

// newNetworks makes what serves networks; the owned names are asked for only
// when somebody does.
func (s *Server) newNetworks() (*networks, error) {
	metrics, err := vnet.NewMetrics(s.metrics)
	if err != nil {
		return nil, err
	}
	n := &networks{
		owns: func(name string) bool { return s.hosts.Owns(name) }, secure: s.secure.Hand, plain: s.inside.Hand,
		base: netip.MustParsePrefix(NetworkRange), offline: s.cfg.Offline, log: s.log, metrics: metrics, agent: s.cfg.Nodes, joined: map[string]*clusterNetwork{}, out: newOutbound(&s.cfg),
	}
	s.virtual = newVirtualNetworks(s, metrics, n.out)
	return n, nil
}

// insideHandler answers those who come from a cluster's network without TLS.
func (s *Server) insideHandler() http.Handler {
	none := &web.Surface{Name: "none", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !s.hosts.Owns(host) {
			s.stranger(w, r)
			return
		}
		http.Error(w, fmt.Sprintf("Lazurite answers for %s over https only.", host), http.StatusForbidden)
	})}
	identity := s.wrap("msi", s.system.MSI)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Where pods of workspaces get tokens, with their secrets: asked by address, as
		// no name is known yet. Other clusters' pods have workload identity.
		if r.URL.Path == "/msi/token" && s.system.MSI != nil && arrival.From(r.Context()).Local && byAddress(r.Host) {
			identity.ServeHTTP(w, r)
			return
		}
		s.front.Serve(none, w, r)
	})
}

// byAddress reports whether a Host header is an address.
func byAddress(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
