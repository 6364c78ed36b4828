package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"lazurite.dev/kube/webhook/proxy"
	"lazurite.dev/kube/webhook/redirect"
)

func runProxy(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("proxy", flag.ContinueOnError)
	f.SetOutput(stderr)
	port := f.Int("proxy-port", 8000, "Port for the proxy to listen on")
	probe := f.Bool("probe", false, "Run a readyz probe on the proxy")
	level := f.String("log-level", "", "In order of increasing verbosity: unset (empty string), info, debug, trace and all.")
	version := f.Bool("version", false, "Print version information and exit")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *version {
		return printVersion(stdout)
	}
	log, err := logger(stderr, *level)
	if err != nil {
		return err
	}
	if *probe {
		if err := proxy.Probe(ctx, *port); err != nil {
			return fmt.Errorf("failed to probe: %w", err)
		}
		return nil
	}
	tenant := os.Getenv("AZURE_TENANT_ID")
	if tenant == "" {
		return errors.New("setup: failed to create proxy: AZURE_TENANT_ID not set")
	}
	authority := envOr("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/")
	exchange, err := proxy.NewExchange(authority, tenant, os.Getenv("AZURE_FEDERATED_TOKEN_FILE"))
	if err != nil {
		return fmt.Errorf("setup: failed to create proxy: %w", err)
	}
	server := proxy.Server{Port: *port, ClientID: os.Getenv("AZURE_CLIENT_ID"), Tokens: exchange, Metadata: "http://169.254.169.254:80", Log: log}
	return server.Run(ctx)
}

func runRedirect(args []string, stderr io.Writer) error {
	f := flag.NewFlagSet("proxy-init", flag.ContinueOnError)
	f.SetOutput(stderr)
	if err := f.Parse(args); err != nil {
		return err
	}
	number := func(name, other string, most int) (int, error) {
		n, err := strconv.Atoi(envOr(name, other))
		if err != nil || n < 1 || n > most {
			return 0, fmt.Errorf("%s: %q is no number from 1 to %d", name, os.Getenv(name), most)
		}
		return n, nil
	}
	port, err := number("PROXY_PORT", "8000", 65535)
	if err != nil {
		return err
	}
	metadataPort, err := number("METADATA_PORT", "80", 65535)
	if err != nil {
		return err
	}
	uid, err := number("PROXY_UID", "1501", 1<<31-1)
	if err != nil {
		return err
	}
	return redirect.Apply(envOr("METADATA_IP", "169.254.169.254"), metadataPort, port, uid)
}
