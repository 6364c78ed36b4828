package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"lazurite.dev/kube/webhook/mutate"
)

// Names of the objects, as the original's manifests have them.
const (
	ServiceName           = "azure-wi-webhook-webhook-service"
	SecretName            = "azure-wi-webhook-server-cert"
	IdentityConfiguration = "azure-wi-webhook-mutating-webhook-configuration"
	IdentityWebhook       = "mutation.azure-workload-identity.io"
	TrustConfiguration    = "lazurite-ca-bundle"
	TrustWebhook          = "labelled.ca-bundle.lazurite.dev" // pods with an identity or the label
	TrustNamespaceWebhook = "namespaces.ca-bundle.lazurite.dev"
)

// Config says how the server runs.
type Config struct {
	Options       mutate.Options
	Namespace     string // the server's own
	CertDir       string // "" : the certificate is made and rotated by the server itself
	MinTLS        uint16 // crypto/tls's number
	Addr          string // of the reviews, ":9443"
	HealthAddr    string // of /healthz and /readyz
	MetricsAddr   string // of /metrics; "0": none
	Trust         bool   // also the certificates that pods trust
	ShutdownDelay time.Duration
	Log           *slog.Logger
}

// Server is one that runs. Its addresses are those that it listens on.
type Server struct {
	cfg      Config
	api      dynamic.Interface
	accounts *cachedAccounts
	bundles  *bundles
	own      *ownCerts
	files    *fileCerts
	watches  []cache.SharedIndexInformer
	draining atomic.Bool

	main, health, metrics net.Listener
	metric                *prometheus.HistogramVec
	registry              *prometheus.Registry
	identity              *mutate.Identity
}

// New makes a server of the cluster that the client configuration names, and
// listens.
func New(cfg Config, client *rest.Config) (*Server, error) {
	identity, err := mutate.NewIdentity(cfg.Options)
	if err != nil {
		return nil, err
	}
	api, err := dynamic.NewForConfig(client)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	meta, err := metadata.NewForConfig(client)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	s := &Server{cfg: cfg, api: api, identity: identity, metric: NewMetric(), registry: prometheus.NewRegistry()}
	s.registry.MustRegister(s.metric, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.accounts, err = newAccounts(meta); err != nil {
		return nil, err
	}
	s.watches = append(s.watches, s.accounts.informer)
	if cfg.Trust {
		if s.bundles, err = newBundles(cfg.Namespace, api, meta, cfg.Log); err != nil {
			return nil, err
		}
		s.watches = append(s.watches, s.bundles.informer)
	}
	if err := s.certificates(meta); err != nil {
		return nil, err
	}
	return s, s.listen()
}

func (s *Server) certificates(meta metadata.Interface) error {
	if s.cfg.CertDir != "" {
		s.files = &fileCerts{dir: s.cfg.CertDir, every: 5 * time.Second, log: s.cfg.Log}
		return nil
	}
	s.own = &ownCerts{
		api: s.api, namespace: s.cfg.Namespace, secret: SecretName, name: ServiceName + "." + s.cfg.Namespace + ".svc",
		configurations: map[string][]string{IdentityConfiguration: {IdentityWebhook}},
		settle:         5 * time.Second, now: time.Now, log: s.cfg.Log, kicked: make(chan struct{}, 1),
	}
	if s.cfg.Trust {
		s.own.configurations[TrustConfiguration] = []string{TrustWebhook, TrustNamespaceWebhook}
	}
	none := func(string) bool { return false }
	secret, err := metadataOf(meta, secrets, s.cfg.Namespace, SecretName, none)
	if err != nil {
		return err
	}
	changing := []cache.SharedIndexInformer{secret}
	for name := range s.own.configurations {
		w, err := metadataOf(meta, webhooks, "", name, none)
		if err != nil {
			return err
		}
		changing = append(changing, w)
	}
	for _, w := range changing {
		if err := onChange(w, s.own.kick); err != nil {
			return err
		}
	}
	s.watches = append(s.watches, changing...)
	return nil
}

func (s *Server) listen() error {
	var err error
	if s.main, err = net.Listen("tcp", s.cfg.Addr); err != nil {
		return err
	}
	if s.health, err = net.Listen("tcp", s.cfg.HealthAddr); err != nil {
		return errors.Join(err, s.main.Close())
	}
	if s.cfg.MetricsAddr == "0" {
		return nil
	}
	if s.metrics, err = net.Listen("tcp", s.cfg.MetricsAddr); err != nil {
		return errors.Join(err, s.main.Close(), s.health.Close())
	}
	return nil
}

// ready says why the server can't answer reviews, nil where it can.
func (s *Server) ready() error {
	if s.draining.Load() {
		return errors.New("shutting down")
	}
	if !s.accounts.informer.HasSynced() {
		return errors.New("service accounts are not known yet")
	}
	if s.bundles != nil {
		if err := s.bundles.ready(); err != nil {
			return err
		}
	}
	if s.own != nil {
		return s.own.ready()
	}
	return s.files.ready()
}

// Run serves until ctx ends. Then it says that it is not ready, goes on
// answering for the configured time, until no API server sends it reviews any
// more, and ends when the last is answered.
func (s *Server) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx)) // it goes on while reviews are answered
	defer stop()
	for _, w := range s.watches {
		go w.RunWithContext(work)
	}
	if s.bundles != nil {
		go s.bundles.run(work)
	}
	cert := s.run(work)
	main := &http.Server{
		Handler:           &Handler{Identity: s.identity, Accounts: s.accounts, Bundles: s.trust(), Metric: s.metric, Log: s.cfg.Log},
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 3 * time.Minute,
		TLSConfig: &tls.Config{GetCertificate: cert, MinVersion: s.cfg.MinTLS},
		ErrorLog:  slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	health := plain(s.healthHandler())
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return unlessClosed(main.ServeTLS(s.main, "", "")) })
	g.Go(func() error { return unlessClosed(health.Serve(s.health)) })
	servers := []*http.Server{main, health}
	if s.metrics != nil {
		m := plain(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
		g.Go(func() error { return unlessClosed(m.Serve(s.metrics)) })
		servers = append(servers, m)
	}
	g.Go(func() error {
		<-gctx.Done()
		return s.drain(ctx, servers)
	})
	s.cfg.Log.Info("serving", "addr", s.main.Addr().String())
	return g.Wait()
}

// run starts what keeps the certificate, and gives what answers with it.
func (s *Server) run(ctx context.Context) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s.own != nil {
		go s.own.run(ctx)
		return s.own.get
	}
	go s.files.run(ctx)
	return s.files.get
}

func (s *Server) drain(ctx context.Context, servers []*http.Server) error {
	s.draining.Store(true)
	if ctx.Err() != nil { // asked to end, nothing has failed
		s.cfg.Log.Info("shutting down", "in", s.cfg.ShutdownDelay.String())
		time.Sleep(s.cfg.ShutdownDelay)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.Shutdown(end))
	}
	return errors.Join(errs...)
}

// trust avoids an interface that holds a nil.
func (s *Server) trust() Bundles {
	if s.bundles == nil {
		return nil
	}
	return s.bundles
}

func plain(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
}

func unlessClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte("ok"))
	})
	return mux
}
