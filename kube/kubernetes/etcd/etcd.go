// Package etcd runs the one member of a cluster's etcd. Every write is
// flushed to disk before it is answered. Clients come over a unix socket that
// the file system protects, or over TLS with a certificate of the given
// authority; there is no listener without either.
package etcd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// Options are the flags of the component. Its peer listener, which a single
// member never uses, is a unix socket in the data folder.
type Options struct {
	DataDir string
	// Listen is unix:///PATH or https://HOST:PORT.
	Listen string
	// Cert and Key are the server's, CA is the authority of its clients; only for https.
	Cert, Key, CA string
	// QuotaMiB is the size at which the database refuses writes.
	QuotaMiB int64
}

// Main parses args, runs the member until SIGTERM or SIGINT, and returns the
// exit status. It says "etcd: ready" when clients may come.
func Main(args []string, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		err = Run(ctx, o, func() { fmt.Fprintln(stderr, "etcd: ready") })
	}
	if err != nil {
		fmt.Fprintln(stderr, "etcd:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (Options, error) {
	var o Options
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.DataDir, "data-dir", "", "folder of the database; made when missing")
	flags.StringVar(&o.Listen, "listen", "", "where clients come: unix:///PATH or https://HOST:PORT")
	flags.StringVar(&o.Cert, "cert-file", "", "server certificate, for https")
	flags.StringVar(&o.Key, "key-file", "", "its key")
	flags.StringVar(&o.CA, "client-ca-file", "", "authority of the clients' certificates, for https")
	flags.Int64Var(&o.QuotaMiB, "quota-mib", 2048, "size in MiB at which the database refuses writes")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, nil
}

// Run serves until ctx ends; ready is called once clients may come.
func Run(ctx context.Context, o Options, ready func()) error {
	cfg, err := config(o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return err
	}
	member, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer member.Close()
	select {
	case <-member.Server.ReadyNotify():
		ready()
	case <-member.Server.StopNotify():
		return errors.New("stopped while starting")
	case err := <-member.Err():
		return err
	case <-ctx.Done():
		return nil
	}
	select {
	case err := <-member.Err():
		return err
	case <-member.Server.StopNotify():
		return errors.New("stopped by itself")
	case <-ctx.Done():
		return nil
	}
}

func config(o Options) (*embed.Config, error) {
	if !filepath.IsAbs(o.DataDir) {
		return nil, fmt.Errorf("--data-dir %q is no absolute path", o.DataDir)
	}
	client, err := url.Parse(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	cfg := embed.NewConfig()
	switch {
	case client.Scheme == "unix" && client.Host == "" && filepath.IsAbs(client.Path):
	case client.Scheme == "https" && client.Port() != "":
		if o.Cert == "" || o.Key == "" || o.CA == "" {
			return nil, errors.New("--listen https://… needs --cert-file, --key-file and --client-ca-file")
		}
		cfg.ClientTLSInfo = transport.TLSInfo{CertFile: o.Cert, KeyFile: o.Key, TrustedCAFile: o.CA, ClientCertAuth: true}
	default:
		return nil, fmt.Errorf("--listen %q is neither unix:///PATH nor https://HOST:PORT", o.Listen)
	}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(o.DataDir, "peer.sock")}
	if longest := max(len(peer.Path), len(client.Path)); longest > 107 { // sun_path of unix(7)
		return nil, fmt.Errorf("a socket's path has %d bytes, at most 107 are possible", longest)
	}
	cfg.Name, cfg.Dir = "default", filepath.Join(o.DataDir, "member.etcd")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.QuotaBackendBytes = o.QuotaMiB << 20
	cfg.LogLevel, cfg.LogOutputs = "warn", []string{"stderr"}
	cfg.EnableGRPCGateway = false
	cfg.WarningUnaryRequestDuration = time.Second
	return cfg, nil
}
