package daemon

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"path/filepath"

	"lazurite.dev/internal/durable"
	"lazurite.dev/internal/server"
)

const serveUsage = `Run Lazurite as a service.

    laz serve [--config FILE]

It stays in the foreground and logs to stderr, one JSON object a line. Several
may share one PostgreSQL database, behind any TCP balancer.

Example configuration:
    home: /var/lib/lazurite
    listen: :8443
    names: own
    domain: cloud.example.org
    certificates:
      - {cert: /etc/lazurite/tls.crt, key: /etc/lazurite/tls.key}
    store:
      postgresDSNFile: /etc/lazurite/postgres-dsn
`

func serve(ctx context.Context, args []string, env Env) error {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	file := fs.String("config", "", "")
	rest, err := parse(fs, args, serveUsage, env)
	if err == nil {
		err = noMore(rest)
	}
	if err != nil {
		return err
	}
	var cfg server.Config
	if *file != "" {
		cfg, err = server.Load(*file)
	} else {
		cfg, err = server.Parse(nil)
	}
	if err != nil {
		return err
	}
	cfg.Log = slog.New(slog.NewJSONHandler(env.Stderr, &slog.HandlerOptions{Level: cfg.Level()}))
	if cfg.Nodes, err = nodeAgent(server.Home(cfg.Home)); err != nil {
		return err
	}
	tuneMemory(env)
	srv, err := server.New(ctx, cfg)
	if err != nil {
		return err
	}
	if err := link(server.Home(cfg.Home)); err != nil {
		cfg.Log.Warn("no links to the program", slog.String("error", err.Error()))
	}
	if err := keepWelcome(cfg, srv.Welcome()); err != nil {
		cfg.Log.Error("the first password was not written", slog.String("error", err.Error()))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go releaseMemory(ctx, srv)
	return srv.Run(ctx)
}

// keepWelcome writes the owner's first password to a file: a service's output
// is collected, and is no place for it.
func keepWelcome(cfg server.Config, w *server.Welcome) error {
	if w == nil {
		return nil
	}
	raw, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(cfg.Home, "first-owner.json")
	if err := durable.WriteFile(path, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	cfg.Log.Info("first start: the owner's name and password are in a file; remove it when you have them", slog.String("file", path))
	return nil
}
