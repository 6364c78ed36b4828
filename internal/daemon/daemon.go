// Package daemon holds the commands that start, stop and show the server on
// this machine, and that give other programs its environment: up, down,
// status, logs, env, run, rotate, serve.
package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"lazurite.dev/internal/server"
)

// Env is the world as a command sees it. Everything but IsTerminal is required.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Environ        func() []string
	IsTerminal     func(io.Writer) bool // nil: nothing is

	agent  *waiting // that root started for this command; nil is none
	inside *inside  // the place in a network that root made for this command; nil is none
}

// Command is one product command.
type Command struct {
	Short string // one line of help
	Usage string // what --help prints
	Run   func(ctx context.Context, args []string, env Env) int
	Verbs []string // the first arguments that are its own, where az has the word too; nil: all
}

// Commands are all commands, by name.
func Commands() map[string]Command {
	return map[string]Command{
		"up":      {"Start Lazurite on this machine.", upUsage, runAfter(upAsRoot, up), nil},
		"down":    {"Stop Lazurite on this machine.", downUsage, runAfter(downAsRoot, down), nil},
		"status":  {"Show what runs here.", statusUsage, run(status), nil},
		"logs":    {"Show the log.", logsUsage, run(logs), nil},
		"env":     {"Print the environment that programs need.", envUsage, run(environment), nil},
		"run":     {"Run a program in that environment.", runUsage, runInside, nil},
		"image":   {"Make container images and bring them to clusters.", imageUsage, run(imageCommand), nil},
		"models":  {"Show and test the models and their servers.", modelsUsage, run(models), nil},
		"doctor":  {"Look for what is wrong.", doctorUsage, run(doctor), nil},
		"rotate":  {"Change the keys of this cloud.", rotateUsage, run(rotate), nil},
		"network": {"Show the virtual networks of this machine.", networkUsage, run(networkCommand), []string{"list", "show"}},
		"kubectl": {"Run the kubectl of Lazurite's Kubernetes.", kubectlUsage, run(kubectl), nil},
		"serve":   {"Run Lazurite as a service.", serveUsage, run(serve), nil},
	}
}

// The exit statuses, as az gives them.
const (
	exitError = 1
	exitUsage = 2
)

// exit is an error that says its exit status; with no text nothing is printed.
type exit struct {
	status int
	text   string
}

func (e exit) Error() string { return e.text }

func usage(format string, args ...any) error {
	return exit{exitUsage, fmt.Sprintf(format, args...)}
}

// run makes a command's function, which returns an error, into one that prints
// it and returns the exit status.
func run(f func(context.Context, []string, Env) error) func(context.Context, []string, Env) int {
	return runAfter(nil, f)
}

// runAfter is run for a command that has something to do as root first.
func runAfter(first rootWork, f func(context.Context, []string, Env) error) func(context.Context, []string, Env) int {
	return func(ctx context.Context, args []string, env Env) int {
		if env.IsTerminal == nil {
			env.IsTerminal = func(io.Writer) bool { return false }
		}
		err := asInvoker(ctx, args, env, first, f)
		if err == nil {
			return 0
		}
		e, ok := errors.AsType[exit](err)
		if !ok {
			e = exit{exitError, err.Error()}
		}
		if e.text != "" {
			fmt.Fprintf(env.Stderr, "ERROR: %s\n", e.text)
		}
		return e.status
	}
}

// parse reads flags of the command fs is named for; what is left are the
// arguments. text is the command's help, printed to stdout when asked for.
func parse(fs *flag.FlagSet, args []string, text string, env Env) ([]string, error) {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(env.Stdout, text)
		return nil, errors.Join(exit{}, err)
	}
	if err != nil {
		said := strings.Replace(err.Error(), "flag provided but not defined: -", "there is no option --", 1)
		return nil, usage("%s\nSee what there is: laz %s --help", said, fs.Name())
	}
	return fs.Args(), nil
}

// noMore refuses arguments.
func noMore(rest []string) error {
	if len(rest) > 0 {
		return usage("unexpected argument %q", rest[0])
	}
	return nil
}

func home(env Env) (server.Home, error) {
	h, err := server.DefaultHome(env.Getenv)
	return server.Home(h), err
}

// errNotRunning is what commands say that need the server.
func errNotRunning(h server.Home) error {
	return exit{exitError, fmt.Sprintf("Lazurite is not running (state folder %s). Start it with: laz up -d", string(h))}
}

// endpoint is where the running server is.
func endpoint(h server.Home) (server.Endpoint, error) {
	_, running, err := h.Running()
	if err != nil {
		return server.Endpoint{}, err
	}
	if !running {
		return server.Endpoint{}, errNotRunning(h)
	}
	e, err := h.ReadEndpoint()
	if err != nil {
		return e, fmt.Errorf("the server is starting or stopping: %w", err)
	}
	if e.Proxy == "" {
		return e, errors.New("this server has no local address: set `local:` in its configuration")
	}
	return e, nil
}
