package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/agent"
	"lazurite.dev/internal/node/pull"
	"lazurite.dev/internal/node/wire"
	"lazurite.dev/internal/server"
)

// agentFD is the environment variable that tells a background server where
// the node agent waits for its word: a file descriptor.
const agentFD = "LAZ_AGENT_FD"

// Times for the node agent.
const (
	agentStart = 5 * time.Second // until it answers
	agentStop  = 3 * time.Minute // until clusters have stopped
	agentEnd   = 5 * time.Second // from the end of its socket to the end of what it leaves
)

// Hidden runs the commands that are not for people: the node agent, the helper
// through which it starts programs, and what kubelets get credentials from. done is false when args are no such
// command.
func Hidden(ctx context.Context, args []string) (status int, done bool) {
	if len(args) == 1 && args[0] == compute.InitializerCommand {
		return initializeStorage(ctx), true
	}
	if len(args) == 2 && args[0] == pull.Command {
		if err := pull.Run(ctx, args[1], os.Getenv(pull.SecretVariable), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err) // in the kubelet's log
			return exitError, true
		}
		return 0, true
	}
	if len(args) == 0 || args[0] != agent.Command && args[0] != agent.ExecCommand && args[0] != insideCommand {
		return 0, false
	}
	if args[0] == insideCommand {
		err := becomeInside()
		if err == nil {
			return exitError, true
		}
		fmt.Fprintf(os.Stderr, "ERROR: %v\n", err)
		if e, ok := errors.AsType[exit](err); ok {
			return e.status, true
		}
		return exitError, true
	}
	if args[0] == agent.ExecCommand {
		if err := agent.Exec(); err != nil {
			fmt.Fprintln(os.Stderr, err) // in the log of the program that it was to become
			return exitError, true
		}
		return 0, true
	}
	if err := runAgent(ctx, args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "WARNING: no clusters can run here: the node agent: %v\n", err)
		return exitError, true
	}
	return 0, true
}

func runAgent(ctx context.Context, args []string) error {
	o := agent.Options{Version: server.Version()}
	fs := flag.NewFlagSet(agent.Command, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.Home, "home", "", "")
	fs.IntVar(&o.Owner, "owner", -1, "")
	fs.BoolVar(&o.Idle, "idle", false, "")
	kept := fs.Bool("kept", false, "") // by a keeper, which we are without
	fs.TextVar(&o.Range, "range", netip.MustParsePrefix(wire.DefaultRange), "")
	fs.Func("kube", "", func(dir string) error { o.Kube = append(o.Kube, dir); return nil })
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.Home == "" || o.Owner < 0 || fs.NArg() > 0 {
		return errors.New("it is started by `sudo laz up`")
	}
	if !*kept {
		return agent.Keep(ctx, append([]string{agent.Command, "--kept"}, args...))
	}
	return agent.Run(ctx, o)
}

// waiting is a node agent that was started and waits until the state folder is
// there; nil is none.
type waiting struct {
	link  *os.File
	begun bool
}

// startAgent starts the node agent for the user u, as root. It outlives us.
// There is nothing to start where one runs already.
// kubernetes is the configured folder of the distribution.
func startAgent(ctx context.Context, h server.Home, u invoker, env Env, kubernetes string, idle bool) (*waiting, error) {
	if runtime.GOOS != "linux" || agentAnswers(ctx, h) {
		return nil, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(string(h))
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	args := []string{agent.Command, "--home", dir, "--owner", strconv.Itoa(u.uid)}
	if idle {
		args = append(args, "--idle")
	}
	for _, dir := range kubeFolders(self, kubernetes, env) {
		args = append(args, "--kube", dir)
	}
	cmd := exec.Command(self, args...) // it outlives us
	cmd.Args[0] = "laz"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr // until it has its log
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the node agent: %w", err), ours.Close())
	}
	return &waiting{link: ours}, cmd.Process.Release()
}

// socketPair are two ends of a connection; ours has deadlines.
func socketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("a connection to the node agent: %w", err)
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, nil, fmt.Errorf("a connection to the node agent: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "agent"), os.NewFile(uintptr(fds[1]), "up"), nil
}

// kubeFolders are where the distribution of Kubernetes may be; named is the
// configuration's, "" where it names none.
func kubeFolders(self, named string, env Env) []string {
	if dir := env.Getenv("LAZ_KUBE"); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			return []string{abs}
		}
	}
	if named != "" {
		return []string{named}
	}
	var dirs []string
	if real, err := filepath.EvalSymlinks(self); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(real), "kube"))
	}
	cache := env.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(env.Getenv("HOME"), ".cache")
	}
	return append(dirs, filepath.Join(cache, "lazurite", "kube", "current"))
}

// begin lets the agent begin: the state folder is there, and ours.
func (w *waiting) begin() {
	if w == nil || w.begun {
		return
	}
	w.begun = true
	_, _ = w.link.Write([]byte{1}) // one that has ended has said why
}

// release lets the agent begin, and returns when it answers, or has ended. Then
// it has said why, and everything but clusters goes on without it.
func (w *waiting) release() {
	if w == nil {
		return
	}
	w.begin()
	_ = w.link.SetReadDeadline(time.Now().Add(agentStart))
	_, _ = w.link.Read(make([]byte, 1))
	_ = w.link.Close()
}

// inherited is the agent that a background server was told of.
func inherited(env Env) (*waiting, error) {
	fd := env.Getenv(agentFD)
	if fd == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(fd)
	if err != nil {
		return nil, usage("%s: %v", agentFD, err)
	}
	syscall.CloseOnExec(n)
	if err := syscall.SetNonblock(n, true); err != nil { // for the limit on reading
		return nil, fmt.Errorf("%s: %w", agentFD, err)
	}
	return &waiting{link: os.NewFile(uintptr(n), "agent")}, nil
}

// agentAnswers reports whether an agent has its socket open.
func agentAnswers(ctx context.Context, h server.Home) bool {
	c, err := node.Dial(string(h))
	return err == nil && c.Running(ctx)
}

// leftovers says what a node agent that was killed may have left for root to
// take away; "" is nothing.
func leftovers(h server.Home, purge bool) string {
	instance, err := node.Instance(string(h))
	if err != nil || runtime.GOOS != "linux" {
		return ""
	}
	places := []string{node.RunFolder(instance)}
	if purge {
		places = append(places, filepath.Join(string(h), "node"))
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// lastingLeftovers is leftovers, after an agent that is just ending has had
// the time to take its own away.
func lastingLeftovers(ctx context.Context, h server.Home, purge bool) string {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(agentEnd); ; {
		left := leftovers(h, purge)
		if left == "" || time.Now().After(deadline) {
			return left
		}
		select {
		case <-ctx.Done():
			return left
		case <-tick.C:
		}
	}
}

// stopAgent ends the node agent with all clusters; with purge it leaves
// nothing of them.
func stopAgent(ctx context.Context, h server.Home, purge bool, env Env) error {
	c, err := node.Dial(string(h))
	if err != nil {
		return err
	}
	if !c.Running(ctx) {
		if left := lastingLeftovers(ctx, h, purge); left != "" {
			again := "sudo laz down"
			if purge {
				again += " --purge"
			}
			return fmt.Errorf("clusters have left things on this machine (%s) that only root can remove: %s", left, again)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, agentStop)
	defer cancel()
	known, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if purge {
		err = c.Purge(ctx)
	} else {
		err = c.Stop(ctx)
	}
	if err == nil && len(known) > 0 {
		fmt.Fprintf(env.Stdout, "Stopped the clusters (%d).\n", len(known))
	}
	return err
}
