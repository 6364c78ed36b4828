package daemon

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"lazurite.dev/internal/server"
)

const downUsage = `Stop Lazurite on this machine, with the clusters that run on it.

    laz down [--purge [--yes]]

    --purge   erase the state folder too: identities, secrets, certificates, all
    --yes     without asking
`

// stopTime is how long a server may take to stop: its own limit for requests
// in progress, and some more.
const stopTime = 20 * time.Second

func downFlags(args []string, env Env) (purge, yes bool, err error) {
	fs := flag.NewFlagSet("down", flag.ContinueOnError)
	fs.BoolVar(&purge, "purge", false, "")
	fs.BoolVar(&yes, "yes", false, "")
	fs.BoolVar(&yes, "y", false, "")
	rest, err := parse(fs, args, downUsage, env)
	if err == nil {
		err = noMore(rest)
	}
	return purge, yes, err
}

// downAsRoot starts a node agent where one was killed and left things, to take
// them away.
func downAsRoot(ctx context.Context, args []string, env Env, u invoker) (*waiting, error) {
	quiet := env
	quiet.Stdout = io.Discard
	purge, _, err := downFlags(args, quiet)
	if err != nil {
		return nil, nil // down itself says what is wrong
	}
	h, err := home(env)
	if err != nil || leftovers(h, purge) == "" {
		return nil, nil
	}
	return startAgent(ctx, h, u, env, "", true)
}

func down(ctx context.Context, args []string, env Env) error {
	purge, yes, err := downFlags(args, env)
	if err != nil {
		return err
	}
	h, err := home(env)
	if err != nil {
		return err
	}
	if purge && !yes {
		if err := confirm(h, env); err != nil {
			return err
		}
	}
	steps := []func() error{
		func() error { return stopAgent(ctx, h, purge, env) },
		func() error { return stop(ctx, h, env) },
	}
	if env.agent != nil { // it takes away what another left; a server that still ran would give it work
		slices.Reverse(steps)
	}
	for i, step := range steps {
		if i == 1 {
			env.agent.release()
		}
		// The agent goes first: a server at a terminal, when it ends, ends the
		// agent too, and would leave what purge is to take away.
		if err := step(); err != nil {
			return err
		}
	}
	if !purge {
		return nil
	}
	if _, err := os.Stat(string(h)); os.IsNotExist(err) {
		return nil
	}
	if err := h.Purge(); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "Erased %s.\n", string(h))
	return nil
}

func stop(ctx context.Context, h server.Home, env Env) error {
	pid, running, err := h.Running()
	if err != nil {
		return err
	}
	if !running {
		fmt.Fprintln(env.Stdout, "Lazurite is not running.")
		return nil
	}
	if pid <= 1 {
		return fmt.Errorf("a server has %s, and its process id is not known", string(h))
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping process %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		now, running, err := h.Running()
		if err != nil {
			return err
		}
		if !running || now != pid {
			fmt.Fprintf(env.Stdout, "Stopped (pid %d).\n", pid)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d has not stopped after %s", pid, stopTime)
		case <-tick.C:
		}
	}
}

// confirm asks the person at the terminal.
func confirm(h server.Home, env Env) error {
	fmt.Fprintf(env.Stderr, "This erases %s with everything in it, for good. Go on? [y/N] ", string(h))
	line, _ := bufio.NewReader(env.Stdin).ReadString('\n') // the end of input is a no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return fmt.Errorf("nothing was done; --yes erases without asking")
}
