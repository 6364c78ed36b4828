package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/server"
)

const upUsage = `Start Lazurite on this machine.

    laz up [-d] [--config FILE] [--offline] [--azure-like [--propagation TIME]] [--port N] [--names azure|own] [--domain D]
           [--clusters auto|issuer|embedded] [--mirror REGISTRY=URL]

    -d            in the background; returns when it is ready
    --config FILE the same YAML as laz serve's (docs/serve.md, docs/models.md); what
                  the other options say counts more than the file
    --offline     programs under laz's environment reach Lazurite and nothing else, nor does
                  Lazurite: of other issuers' keys none are fetched
    --azure-like  with Azure's delays, throttles and limits
    --propagation TIME
                  how long role assignments and federated credentials then take
                  to count, such as 10s or 10m (default 2m)
    --port N      of the one address on loopback; 0 chooses a free one
                  (default: the one of last time, else 4747, else a free one)
    --names KIND  the names that resources show: azure (default) or own
    --clusters K  what az aks create makes: embedded (real Kubernetes: Linux, sudo laz up,
                  make kube), issuer (keys and tokens alone), or auto (default):
                  embedded where it can be used
    --mirror REGISTRY=URL
                  nodes ask this registry first for images of that one (* is all
                  others); may come more than once
    --domain D    where own names are: login.D, NAME.vault.D (default lazurite.test)

Kubernetes is taken from the folder $LAZ_KUBE (sudo LAZ_KUBE=DIR laz up), else from the configuration's
(kubernetes:), else from kube beside laz, else from what make kube built. State is in $LAZ_HOME, else $XDG_STATE_HOME/lazurite, else ~/.local/state/lazurite.

Examples:
    laz up -d && eval "$(laz env)" && az group list
    laz up -d --config models.yaml && laz models list
`

const defaultPort = 4747

// readyFD is the environment variable that tells a background server where its
// parent waits: a file descriptor.
const readyFD = "LAZ_READY_FD"

// report is what a background server tells its parent.
type report struct {
	Error    string          `json:"error,omitempty"`
	Took     time.Duration   `json:"took,omitempty"`
	Endpoint server.Endpoint `json:"endpoint"`
	Config   pageConfig      `json:"config"`
	Welcome  *server.Welcome `json:"welcome,omitempty"`
}

type upOptions struct {
	background bool
	file       string // absolute; empty: none
	port       int    // -1: not said
	fixed      bool   // the addresses are those that were asked for, or none
	cfg        server.Config
}

func up(ctx context.Context, args []string, env Env) error {
	o, err := upFlags(args, env)
	if err != nil {
		return err
	}
	h := server.Home(o.cfg.Home)
	if pid, running, err := h.Running(); err == nil && running {
		if env.agent != nil { // the last one was killed
			env.agent.release()
			fmt.Fprintf(env.Stdout, "Lazurite is running already (pid %d); its node agent was started again.\n", pid)
			return nil
		}
		return alreadyRunning(&server.RunningError{Home: h, PID: pid})
	}
	if o.background {
		return upBackground(ctx, args, o, env)
	}
	if env.agent == nil {
		if env.agent, err = inherited(env); err != nil {
			return err
		}
	}
	tell := func(r report) error {
		return startPage(env, r, false)
	}
	farewell := env.Stdout
	if fd := env.Getenv(readyFD); fd != "" {
		n, err := strconv.Atoi(fd)
		if err != nil {
			return usage("%s: %v", readyFD, err)
		}
		syscall.CloseOnExec(n)
		pipe := os.NewFile(uintptr(n), "ready")
		defer pipe.Close()
		farewell = io.Discard
		tell = func(r report) error {
			// A parent that went away does not stop the server.
			_ = json.NewEncoder(pipe).Encode(r)
			_ = pipe.Close()
			return nil
		}
	}
	tuneMemory(env)
	ready := false
	err = upForeground(ctx, o, env.agent.begin, func(r report) error {
		ready = true
		env.agent.release()
		return tell(r)
	})
	if err == nil && env.Getenv(readyFD) == "" || !ready && env.agent != nil && env.agent.begun {
		// Whoever ends it at the terminal ends all of it; and what never was
		// there needs no agent. A server that fails later leaves the clusters alone.
		err = errors.Join(err, stopAgent(context.WithoutCancel(ctx), h, false, env))
	}
	if err != nil && env.Getenv(readyFD) != "" {
		_ = tell(report{Error: err.Error()})
	}
	if err == nil {
		fmt.Fprintln(farewell, "\nStopped.")
	}
	return err
}

// upAsRoot starts the node agent, which waits until the server is ready.
func upAsRoot(ctx context.Context, args []string, env Env, u invoker) (*waiting, error) {
	if env.Getenv(readyFD) != "" {
		return nil, nil // our parent did
	}
	o, err := upFlags(args, env)
	if err != nil || o.cfg.Clusters == server.ClustersIssuer {
		return nil, nil // up itself says what is wrong
	}
	return startAgent(ctx, server.Home(o.cfg.Home), u, env, o.cfg.Kubernetes, false)
}

func upFlags(args []string, env Env) (upOptions, error) {
	o := upOptions{port: -1}
	rest, err := parse(o.flags(), args, upUsage, env)
	if err == nil {
		err = noMore(rest)
	}
	if err != nil {
		return o, err
	}
	if o.file != "" {
		if o, err = fromFile(o.file, args, env); err != nil {
			return o, err
		}
	}
	if o.port < -1 || o.port > 65535 {
		return o, usage("--port: %d is not a port", o.port)
	}
	h, err := home(env)
	if err != nil {
		return o, err
	}
	if o.cfg.Home != "" && o.cfg.Home != string(h) {
		return o, usage("home: %s says %s, and laz's state is in %s: set LAZ_HOME, so that all of laz finds it", o.file, o.cfg.Home, h)
	}
	o.cfg.Home = string(h)
	if o.cfg.RootsFile == "" {
		o.cfg.RootsFile = roots(h, env)
	}
	o.addresses()
	if err := o.cfg.Default(); err != nil {
		return o, err
	}
	if err := o.cfg.Validate(); err != nil {
		if o.file != "" {
			return o, usage("%s:\n%v", o.file, err)
		}
		return o, usage("%v", err)
	}
	return o, nil
}

// flags are o's, with what o holds as their defaults.
func (o *upOptions) flags() *flag.FlagSet {
	or := func(v, otherwise string) string {
		if v == "" {
			return otherwise
		}
		return v
	}
	fs := flag.NewFlagSet("up", flag.ContinueOnError)
	fs.BoolVar(&o.background, "d", false, "")
	fs.StringVar(&o.file, "config", o.file, "")
	fs.BoolVar(&o.cfg.Offline, "offline", o.cfg.Offline, "")
	fs.BoolVar(&o.cfg.AzureLike, "azure-like", o.cfg.AzureLike, "")
	fs.DurationVar(&o.cfg.Propagation, "propagation", o.cfg.Propagation, "")
	fs.IntVar(&o.port, "port", o.port, "")
	fs.StringVar(&o.cfg.Names, "names", or(o.cfg.Names, server.NamesAzure), "")
	fs.StringVar(&o.cfg.Domain, "domain", or(o.cfg.Domain, server.DefaultDomain), "")
	fs.StringVar(&o.cfg.Clusters, "clusters", or(o.cfg.Clusters, server.ClustersAuto), "")
	fs.Func("mirror", "", func(v string) error {
		registry, url, ok := strings.Cut(v, "=")
		if !ok {
			return fmt.Errorf("%q is not REGISTRY=URL", v)
		}
		if o.cfg.Mirrors == nil {
			o.cfg.Mirrors = map[string]string{}
		}
		o.cfg.Mirrors[registry] = url
		return nil
	})
	fs.StringVar(&o.cfg.LogLevel, "log-level", or(o.cfg.LogLevel, "info"), "")
	return fs
}

// fromFile are the options of args over the configuration in a file.
func fromFile(path string, args []string, env Env) (upOptions, error) {
	o := upOptions{port: -1}
	raw, err := os.ReadFile(path)
	if err != nil {
		return o, usage("--config: %v", err)
	}
	if o.cfg, err = server.Decode(raw); err != nil {
		return o, usage("--config: %s: %v", path, err)
	}
	if _, err := parse(o.flags(), args, upUsage, env); err != nil {
		return o, err
	}
	o.file, err = filepath.Abs(path)
	return o, err
}

// addresses sets where the server listens: one address on loopback, unless the
// file says otherwise.
func (o *upOptions) addresses() {
	c := &o.cfg
	one := net.JoinHostPort("127.0.0.1", strconv.Itoa(max(o.port, 0)))
	o.fixed = o.port >= 0 || c.Listen != "" || c.Local != ""
	switch {
	case o.port >= 0 || !o.fixed:
		c.Listen, c.Local = one, one
	case c.Listen == "":
		c.Listen = c.Local
	case c.Local == "" && server.Loopback(c.Listen):
		c.Local = c.Listen
	case c.Local == "":
		c.Local = net.JoinHostPort("127.0.0.1", strconv.Itoa(defaultPort))
	}
}

// roots is the file of roots that the user's own environment names, not what
// `laz env` made of it.
func roots(h server.Home, env Env) string {
	for _, f := range []string{env.Getenv(kept + "SSL_CERT_FILE"), env.Getenv("SSL_CERT_FILE")} {
		if f == "" || strings.HasPrefix(f, h.CA()+"/") {
			continue
		}
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return ""
}

// alreadyRunning adds what to do.
func alreadyRunning(err error) error {
	if e, ok := errors.AsType[*server.RunningError](err); ok {
		return fmt.Errorf("%w; to see it: laz status; to stop it: laz down", e)
	}
	return err
}

// upForeground runs the server until ctx ends; ours is called when the state
// folder is this process's, tell when the server is ready.
func upForeground(ctx context.Context, o upOptions, ours func(), tell func(report) error) error {
	began := time.Now()
	h := server.Home(o.cfg.Home)
	if err := h.Make(); err != nil {
		return err
	}
	log, err := openLog(h.Log())
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer log.Close()
	o.cfg.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: o.cfg.Level()}))
	if o.cfg.Nodes, err = nodeAgent(h); err != nil {
		return err
	}
	srv, err := newServer(ctx, o, h)
	if err != nil {
		o.cfg.Log.Error("not started", slog.String("error", err.Error()))
		return alreadyRunning(err)
	}
	ours()
	if err := link(h); err != nil {
		o.cfg.Log.Warn("no links to the program", slog.String("error", err.Error()))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	go releaseMemory(ctx, srv)
	select {
	case err := <-ended:
		return err
	case <-srv.Ready():
	}
	err = writePort(h, srv.Config().Local)
	if err == nil {
		e, _ := h.ReadEndpoint() // it was written before Ready
		page := pageOf(srv.Config())
		page.Clusters = srv.ClusterNames(ctx)
		err = tell(report{Took: time.Since(began), Endpoint: e, Config: page, Welcome: srv.Welcome()})
	}
	if err != nil {
		stop()
	}
	return errors.Join(err, <-ended)
}

// nodeAgent is the agent of the state folder, whether one runs or not.
func nodeAgent(h server.Home) (node.Agent, error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	return node.Dial(string(h))
}

// newServer tries the port of last time, or the default one, before a free one;
// a port that was asked for is the only one.
func newServer(ctx context.Context, o upOptions, h server.Home) (*server.Server, error) {
	if o.fixed {
		return server.New(ctx, o.cfg)
	}
	cfg := o.cfg
	cfg.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(readPort(h)))
	cfg.Local = cfg.Listen
	srv, err := server.New(ctx, cfg)
	if errors.Is(err, syscall.EADDRINUSE) {
		return server.New(ctx, o.cfg)
	}
	return srv, err
}

func portFile(h server.Home) string { return filepath.Join(string(h), "port") }

func readPort(h server.Home) int {
	raw, err := os.ReadFile(portFile(h))
	if err != nil {
		return defaultPort
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 16)
	if err != nil || n == 0 {
		return defaultPort
	}
	return int(n)
}

// writePort keeps the port, so that shells which have it in their environment
// stay good over a restart.
func writePort(h server.Home, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	return os.WriteFile(portFile(h), []byte(port+"\n"), 0o600)
}

// link puts this program into the folder for the PATH, as laz and as az.
func link(h server.Home) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return err
	}
	for _, name := range []string{"laz", "az"} {
		path := filepath.Join(h.Bin(), name)
		if old, err := os.Readlink(path); err == nil && old == self {
			continue
		}
		if err := symlink(self, path); err != nil {
			return err
		}
	}
	return nil
}

// upBackground starts this program again, without a terminal, and waits for
// its report.
func upBackground(ctx context.Context, args []string, o upOptions, env Env) error {
	h := server.Home(o.cfg.Home)
	if err := h.Make(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(h.Log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer out.Close()
	before, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	args = append([]string{"up"}, without(args)...)
	if o.file != "" {
		args = append(args, "--config", o.file) // it has another working folder
	}
	cmd := exec.Command(self, args...) // it outlives us
	cmd.Env = append(env.Environ(), readyFD+"=3")
	cmd.Dir = string(h)
	cmd.Stdout, cmd.Stderr = out, out // what a crash prints
	cmd.ExtraFiles = []*os.File{w}
	if env.agent != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, env.agent.link)
		cmd.Env = append(cmd.Env, agentFD+"=4")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, w.Close())
	}
	_ = w.Close() // the child has its own
	if env.agent != nil {
		_ = env.agent.link.Close() // so has it of this
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	var rep report
	if err := json.NewDecoder(r).Decode(&rep); err != nil {
		_ = cmd.Wait() // its exit status says less than its last words
		return fmt.Errorf("the server ended before it was ready%s", lastWords(h.Log(), before))
	}
	if rep.Error != "" {
		_ = cmd.Wait()
		return errors.New(rep.Error)
	}
	return errors.Join(startPage(env, rep, true), cmd.Process.Release())
}

// without is args without -d.
func without(args []string) []string {
	var out []string
	for _, a := range args {
		if f := strings.TrimLeft(a, "-"); f == "d" || strings.HasPrefix(f, "d=") {
			continue
		}
		out = append(out, a)
	}
	return out
}

// lastWords is what was written to the file at path after offset from, at most
// the last lines of it.
func lastWords(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	raw, err := io.ReadAll(io.NewSectionReader(f, from, 64<<10))
	if err != nil || len(raw) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) > 20 {
		lines = lines[:20] // a panic says what happened first
	}
	return ":\n" + strings.Join(lines, "\n")
}
