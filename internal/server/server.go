// Package server puts the system together: one listener and its front door,
// the proxy for this machine, the admin socket, and the surfaces behind them.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/ca"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/proxy"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/web"
)

// shutdownTime is how long requests in progress may take when the server stops.
const shutdownTime = 10 * time.Second

// Server is the whole system in one process.
type Server struct {
	cfg     Config
	home    Home
	log     *slog.Logger
	started time.Time
	ready   chan struct{}

	lock    *os.File
	store   store.Store
	metrics *prometheus.Registry
	front   *web.Front
	hosts   *web.Hosts
	ca      *ca.Authority
	proxy   *proxy.Proxy
	system  *Assembly

	networks *networks
	virtual  *virtualNetworks
	shelf    *imageShelf

	secure *web.Conduit // connections that begin TLS next
	inside *web.Conduit // connections from a cluster's network that are not TLS
	plain  *web.Conduit // connections for the proxy
	listen net.Listener
	local  net.Listener // nil when it is listen, or there is none
	admin  net.Listener
}

// New takes the state folder, opens the store, builds the system and binds its
// addresses, so that what goes wrong does so before anyone is told that the
// server runs. The error is a *RunningError when another server has the folder.
// Whoever gets a Server calls Run.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Default(); err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	s := &Server{cfg: cfg, home: Home(cfg.Home), log: cfg.Log, started: time.Now(), ready: make(chan struct{})}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	err := s.home.Make()
	if err != nil {
		return err
	}
	if s.lock, err = s.home.lock(); err != nil {
		return err
	}
	if s.cfg.Nodes == nil {
		if s.cfg.Nodes, err = node.Dial(s.cfg.Home); err != nil {
			return err
		}
	}
	if err = s.bind(ctx); err != nil {
		return err
	}
	if s.store, err = openStore(ctx, &s.cfg, s.home); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	s.metrics = prometheus.NewRegistry()
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.front, err = web.NewFront(s.log, s.metrics, describe); err != nil {
		return err
	}
	// The authority asks hosts only when a client does, and by then they are known.
	s.ca, err = ca.Open(ca.Config{Dir: s.home.CA(), Roots: s.cfg.RootsFile, Owned: func(name string) bool { return s.hosts.Owns(name) }})
	if err != nil {
		return err
	}
	for _, c := range s.cfg.Certificates {
		if err := s.ca.AddCertificate(c.Cert, c.Key); err != nil {
			return err
		}
	}
	s.shelf = &imageShelf{dir: s.home.Images()}
	if s.networks, err = s.newNetworks(); err != nil {
		return err
	}
	s.system, err = assemble(ctx, &Base{Config: &s.cfg, Home: s.home, Store: s.store, Metrics: s.metrics, CA: s.ca, Joined: s.joined, Left: s.networks.Leave, Wire: s.virtual, Virtual: s.virtual.knows, Outbound: s.networks.out.knows, Refused: s.networks.out.flows.refused})
	if err != nil {
		return err
	}
	if s.hosts, err = s.cfg.hosts(s.system.Surfaces); err != nil {
		return err
	}
	s.proxy = s.newProxy()
	return nil
}

func openStore(ctx context.Context, cfg *Config, home Home) (store.Store, error) {
	if cfg.Store.PostgresDSNFile != "" {
		dsn, err := privateFile(cfg.Store.PostgresDSNFile)
		if err != nil {
			return nil, err
		}
		return sqlstore.OpenPostgres(ctx, dsn)
	}
	return sqlstore.OpenSQLite(ctx, dbPath(home))
}

// privateFile reads a secret from a file that nobody but its user may read.
func privateFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

func dbPath(home Home) string { return filepath.Join(home.Data(), "lazurite.db") }

// describe says for the log where a request came from.
func describe(ctx context.Context) []slog.Attr {
	a := arrival.From(ctx)
	if !a.Client.IsValid() {
		return nil
	}
	out := []slog.Attr{slog.String("client", a.Client.String())}
	if a.Kind != arrival.Public {
		out = append(out, slog.String("arrival", a.Kind.String()))
	}
	if a.Network != "" {
		out = append(out, slog.String("network", a.Network))
	}
	return out
}

// bind takes the addresses. A configured port 0 becomes the one that was bound.
func (s *Server) bind(ctx context.Context) error {
	var lc net.ListenConfig
	var err error
	if s.listen, err = lc.Listen(ctx, "tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("taking the address of the front door: %w", err)
	}
	shared := s.cfg.Local == s.cfg.Listen
	s.cfg.Listen = s.listen.Addr().String()
	s.secure, s.plain, s.inside = web.NewConduit(s.listen.Addr()), web.NewConduit(s.listen.Addr()), web.NewConduit(s.listen.Addr())
	switch {
	case shared:
		s.cfg.Local = s.cfg.Listen
	case s.cfg.Local != "":
		if s.local, err = lc.Listen(ctx, "tcp", s.cfg.Local); err != nil {
			return fmt.Errorf("taking the local address: %w", err)
		}
		s.cfg.Local = s.local.Addr().String()
	}
	path, done, err := s.home.SocketPath()
	if err != nil {
		return err
	}
	defer done()
	// The lock is ours, so a socket that is there is a dead server's.
	if err := os.Remove(s.home.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s.admin, err = lc.Listen(ctx, "unix", path); err != nil {
		return fmt.Errorf("making the admin socket: %w", err)
	}
	s.admin.(*net.UnixListener).SetUnlinkOnClose(false) // path may be gone by then
	return os.Chmod(s.home.Socket(), 0o600)
}

func (s *Server) newProxy() *proxy.Proxy {
	cfg := proxy.Config{
		Owns: s.hosts.Owns, Front: s.secure.Hand, Local: s.localHandler(), Offline: s.cfg.Offline, Log: s.log,
		Inside: s.networks.base,
	}
	if h := s.system.IMDS; h != nil {
		cfg.IMDS = s.wrap("imds", h)
	}
	return proxy.New(cfg)
}

// wrap is h with what the front door does for a surface.
func (s *Server) wrap(name string, h http.Handler) http.Handler {
	surface := &web.Surface{Name: name, Handler: h}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.front.Serve(surface, w, r) })
}

// Ready is closed when requests are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Config is the configuration in force: defaults filled, ports as bound.
func (s *Server) Config() Config { return s.cfg }

// Welcome is what the first start made, nil at every later one.
func (s *Server) Welcome() *Welcome { return s.system.Welcome }

// Run serves until ctx ends or something breaks, then lets requests in
// progress finish, and closes everything. Ending by ctx is no error.
func (s *Server) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	for _, w := range s.system.Workers {
		g.Go(func() error { return ignore(w(work), context.Canceled) })
	}
	servers := s.serve(g)
	g.Go(func() error { return s.networks.Run(gctx) })
	g.Go(func() error { return s.virtual.Run(gctx) })
	if err := s.home.writeEndpoint(s.endpoint()); err != nil {
		g.Go(func() error { return err })
	} else {
		close(s.ready)
		s.log.Info("ready", slog.String("version", Version()), slog.String("listen", s.cfg.Listen), slog.String("local", s.cfg.Local),
			slog.String("took", time.Since(s.started).String()))
	}
	g.Go(func() error {
		<-gctx.Done()
		defer stopWork()
		return s.shutdown(context.WithoutCancel(ctx), servers)
	})
	err := g.Wait()
	s.log.Info("stopped", slog.String("after", time.Since(s.started).Round(time.Second).String()))
	return errors.Join(err, s.close())
}

// door is the front door's server, on no listener yet.
func (s *Server) door() *http.Server {
	return s.front.NewServer(s.hosts, &web.Surface{Name: "none", Handler: http.HandlerFunc(s.stranger)})
}

// Handler is what stands behind TLS and HTTP: surfaces by Host, with ids,
// limits, log event and measurement. A request that did not come through a
// listener has no arrival, so network rules refuse it.
func (s *Server) Handler() http.Handler { return s.door().Handler }

// serve starts the HTTP servers on the listeners.
func (s *Server) serve(g *errgroup.Group) []*http.Server {
	door := s.door()
	door.Handler = s.onlyPlanes(s.kubeletTokens(door.Handler))
	door.ConnContext = arrival.ConnContext
	door.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: s.ca.GetCertificate,
	}
	local := web.NewServer(s.proxy, s.log)
	local.ConnContext = arrival.ConnContext
	inside := web.NewServer(s.insideHandler(), s.log)
	inside.ConnContext = arrival.ConnContext
	admin := web.NewServer(s.adminHandler(), s.log)

	start := func(srv *http.Server, ln net.Listener) {
		g.Go(func() error { return ignore(ignore(srv.Serve(ln), http.ErrServerClosed), net.ErrClosed) })
	}
	start(door, tls.NewListener(s.secure, door.TLSConfig))
	start(local, s.plain)
	start(inside, s.inside)
	start(admin, s.admin)
	switch {
	case s.cfg.Local == s.cfg.Listen:
		g.Go(func() error { return web.Split(s.listen, s.secure, s.plain) })
	default:
		g.Go(func() error { return s.acceptBalanced() })
		if s.local != nil {
			g.Go(func() error { return web.Feed(s.local, s.plain.Hand) })
		}
	}
	return []*http.Server{door, local, inside, admin}
}

func (s *Server) shutdown(ctx context.Context, servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	errs := []error{s.listen.Close()}
	if s.local != nil {
		errs = append(errs, s.local.Close())
	}
	s.proxy.Close()
	var g errgroup.Group
	for _, srv := range servers {
		g.Go(func() error {
			if err := srv.Shutdown(ctx); err != nil {
				return errors.Join(fmt.Errorf("requests were cut off: %w", err), srv.Close())
			}
			return nil
		})
	}
	return errors.Join(append(errs, g.Wait())...)
}

// close lets go of what open took, as far as it came; the lock last.
func (s *Server) close() error {
	var errs []error
	for _, l := range []net.Listener{s.listen, s.local, s.admin} {
		if l != nil {
			errs = append(errs, ignore(l.Close(), net.ErrClosed))
		}
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.lock != nil {
		if s.admin != nil {
			errs = append(errs, ignore(os.Remove(s.home.Socket()), os.ErrNotExist), ignore(os.Remove(s.home.Endpoint()), os.ErrNotExist))
		}
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func (s *Server) endpoint() Endpoint {
	e := Endpoint{
		PID: os.Getpid(), Version: Version(), Started: s.started, Listen: s.cfg.Listen, Local: s.cfg.Local,
		CA: s.ca.BundleFile(), OwnCA: s.ca.CertFile(), Kubernetes: s.cfg.Kubernetes,
	}
	if e.Local != "" {
		e.Proxy = "http://" + e.Local
	}
	return e
}

// stranger answers for names that are not ours: a balancer's probes, and
// people who typed the address.
func (s *Server) stranger(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		s.health(w, r)
		return
	}
	http.Error(w, "Lazurite answers here, but not for "+strings.ToValidUTF8(r.Host, "?")+".", http.StatusNotFound)
}
