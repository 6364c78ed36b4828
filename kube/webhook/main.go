// Command azure-workload-identity gives pods their workload identity: the
// webhook that injects it, and the proxy beside a pod that answers as the
// instance metadata service for programs that know only that.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "azure-workload-identity:", err)
		os.Exit(1)
	}
}

const usage = `usage: azure-workload-identity webhook|proxy|proxy-init [flags]
  webhook     mutates pods of the cluster that it runs in
  proxy       answers as the instance metadata service, beside one pod
  proxy-init  turns the pod's calls of that service to the proxy
`

// run does what the first argument says; without one that is a command it is
// the webhook, as the original.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := "webhook"
	if len(args) > 0 && (len(args[0]) == 0 || args[0][0] != '-') {
		command, args = args[0], args[1:]
	}
	switch command {
	case "webhook":
		return runWebhook(ctx, args, stdout, stderr)
	case "proxy":
		return runProxy(ctx, args, stdout, stderr)
	case "proxy-init":
		return runRedirect(args, stderr)
	case "help":
		_, err := io.WriteString(stdout, usage)
		return err
	case "version":
		return printVersion(stdout)
	}
	return fmt.Errorf("unknown command %q\n%s", command, usage)
}

func printVersion(stdout io.Writer) error {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	_, err := fmt.Fprintln(stdout, version)
	return err
}

// logger writes JSON at the original's levels: "", "warning", "info", "debug",
// "trace", "all".
func logger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	switch level {
	case "", "warning":
		l = slog.LevelWarn
	case "info":
		l = slog.LevelInfo
	case "debug", "trace", "all":
		l = slog.LevelDebug
	default:
		return nil, fmt.Errorf("invalid --log-level set: %q is none of warning, info, debug, trace and all", level)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
}
