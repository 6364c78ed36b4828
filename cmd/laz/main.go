// Command laz is Lazurite: the server, the commands around it, and az's
// grammar. Called as az it is az.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"lazurite.dev/internal/cli"
	"lazurite.dev/internal/daemon"
	"lazurite.dev/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, hidden := daemon.Hidden(ctx, os.Args[1:])
	if !hidden {
		status = cli.Main(ctx, os.Args[1:], environment())
	}
	stop()
	os.Exit(status)
}

func environment() cli.Env {
	env := cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, IsTerminal: daemon.IsTerminal, Columns: daemon.Columns,
		Program: os.Args[0], Version: server.Version(), Product: map[string]cli.Product{},
	}
	for name, c := range daemon.Commands() {
		env.Product[name] = cli.Product{Short: c.Short, Usage: c.Usage, Verbs: c.Verbs, Run: func(ctx context.Context, args []string, e cli.Env) int {
			return c.Run(ctx, args, daemon.Env{
				Stdin: e.Stdin, Stdout: e.Stdout, Stderr: e.Stderr, Getenv: e.Getenv, Environ: os.Environ, IsTerminal: e.IsTerminal,
			})
		}}
	}
	return env
}
