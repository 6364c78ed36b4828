package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"lazurite.dev/internal/server"
)

const runUsage = `Run a program that reaches Lazurite.

    laz run [--as NAMESPACE/SERVICEACCOUNT [--cluster NAME]] [--identity NAME] [--real-az] -- COMMAND [ARGUMENT…]
    sudo laz run --network VNET[/SUBNET] [--as …] [--real-az] -- COMMAND [ARGUMENT…]

    --as NS/SA       with a projected token of that service account and the four AZURE_ variables:
                     a pod's identity without a pod
    --cluster NAME   of that cluster (needed when there are several)
    --identity NAME  with a managed identity, as an App Service has it; together with --as:
                     which identity the service account stands for
    --audience A     of the token, with --as (default api://AzureADTokenExchange)
    --network VNET   inside that virtual network: NETWORK, GROUP/NETWORK or a resource id, with /SUBNET
                     for one of its subnets. It needs root, and the program is the invoking user's
    --real-az        leave the PATH alone: az is Microsoft's own

The exit status is the program's; 127 when it isn't found.

Example:
    laz run --as default/workload-identity-sa --cluster myCluster -- ./myprogram
`

// Exit statuses of a shell, POSIX.1-2024 XCU 2.8.2.
const (
	exitNotExecutable = 126
	exitNoCommand     = 127
)

type runOptions struct {
	as, cluster, identity, audience string
	network                         string
	realAz                          bool
	command                         []string
}

func runProgram(ctx context.Context, args []string, env Env) error {
	o, err := runFlags(args, env)
	if err != nil {
		return err
	}
	h, err := home(env)
	if err != nil {
		return err
	}
	e, err := endpoint(h)
	if err != nil {
		return err
	}
	if err := links(h, env); err != nil {
		return err
	}
	vars := variables(h, e)
	path := pathWith(env.Getenv("PATH"), h, !o.realAz)
	vars = append(vars, variable{"PATH", path})
	file, err := lookPath(o.command[0], path)
	if err != nil {
		return err
	}
	if o.network != "" {
		if env.inside == nil {
			return exit{exitError, "--network needs root: sudo laz run --network " + o.network + " -- …"}
		}
		vars, gone := insideVariables(vars, env.inside.at.ID)
		s := &supervised{h: h, e: e, o: o, env: env, file: file, vars: vars, gone: gone}
		if o.as == "" {
			return s.start()
		}
		return s.run(ctx)
	}
	if o.as == "" && o.identity == "" {
		err := syscall.Exec(file, o.command, withVariables(env.Environ(), vars, nil))
		return exit{exitNotExecutable, fmt.Sprintf("%s: %v", file, err)}
	}
	s := &supervised{h: h, e: e, o: o, env: env, file: file, vars: vars}
	return s.run(ctx)
}

func runFlags(args []string, env Env) (runOptions, error) {
	var o runOptions
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.StringVar(&o.as, "as", "", "")
	fs.StringVar(&o.cluster, "cluster", "", "")
	fs.StringVar(&o.identity, "identity", "", "")
	fs.StringVar(&o.audience, "audience", "", "")
	fs.BoolVar(&o.realAz, "real-az", false, "")
	fs.StringVar(&o.network, "network", "", "")
	rest, err := parse(fs, args, runUsage, env)
	if err != nil {
		return o, err
	}
	if o.network != "" && o.identity != "" {
		return o, usage("--network and --identity do not go together: the endpoint of managed identities is on this machine, which nobody in a virtual network reaches. Use --as")
	}
	ns, name, ok := strings.Cut(o.as, "/")
	if o.as != "" && (!ok || ns == "" || name == "" || strings.Contains(name, "/")) {
		return o, usage("--as: %q is not NAMESPACE/SERVICEACCOUNT", o.as)
	}
	if o.as == "" && (o.cluster != "" || o.audience != "") {
		return o, usage("--cluster and --audience go with --as")
	}
	if len(rest) == 0 {
		return o, usage("which command? laz run [options] -- COMMAND")
	}
	o.command = rest
	return o, nil
}

// lookPath finds the program in path, which is not this process's own PATH.
func lookPath(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		if file := filepath.Join(dir, name); executable(file) == nil {
			if !filepath.IsAbs(file) {
				return filepath.Abs(file)
			}
			return file, nil
		}
	}
	return "", exit{exitNoCommand, fmt.Sprintf("%s: command not found", name)}
}

func executable(file string) error {
	fi, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return exit{exitNoCommand, fmt.Sprintf("%s: no such file", file)}
	case err != nil:
		return exit{exitNotExecutable, err.Error()}
	case fi.IsDir() || fi.Mode().Perm()&0o111 == 0:
		return exit{exitNotExecutable, fmt.Sprintf("%s: not an executable file", file)}
	}
	return nil
}

// withVariables is environ with vars set and the names in gone left out.
func withVariables(environ []string, vars []variable, gone []string) []string {
	drop := map[string]bool{}
	for _, v := range vars {
		drop[v.name] = true
	}
	for _, n := range gone {
		drop[n] = true
	}
	var out []string
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); !drop[name] {
			out = append(out, kv)
		}
	}
	for _, v := range vars {
		out = append(out, v.name+"="+v.value)
	}
	return out
}

// supervised is a program that needs something kept alive beside it.
type supervised struct {
	h    server.Home
	e    server.Endpoint
	o    runOptions
	env  Env
	file string
	vars []variable
	gone []string // variables that are left out, beside other identities'
}

// identityVariables are those by which SDKs find an identity: whoever runs as
// one must not find another's from the shell around.
func identityVariables() []string {
	return []string{
		"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD",
		"AZURE_USERNAME", "AZURE_PASSWORD", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST",
		"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET",
	}
}

func (s *supervised) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the program decides when it ends
	defer cancel()
	if s.o.as != "" {
		p, err := newProjection(ctx, s)
		if err != nil {
			return err
		}
		defer p.remove()
		renewing := make(chan struct{})
		go func() {
			defer close(renewing)
			p.renew(ctx)
		}()
		defer func() {
			cancel()
			<-renewing
		}()
	} else {
		secret, err := s.managedIdentity(ctx)
		if err != nil {
			return err
		}
		defer s.end(ctx, secret)
	}
	return s.start()
}

// managedIdentity sets what an App Service sets, and credentials for the proxy
// by which the instance metadata service knows this run.
func (s *supervised) managedIdentity(ctx context.Context) (secret string, err error) {
	var a server.RunAnswer
	if err := ask(ctx, s.h, "/v1/run-secret", server.RunRequest{Identity: s.o.identity}, &a); err != nil {
		return "", err
	}
	s.vars = append(s.vars,
		variable{"IDENTITY_ENDPOINT", s.e.Proxy + "/msi/token"}, variable{"IDENTITY_HEADER", a.Secret},
		variable{"AZURE_CLIENT_ID", a.ClientID}, variable{"AZURE_TENANT_ID", a.TenantID})
	u, err := url.Parse(s.e.Proxy)
	if err != nil {
		return "", err
	}
	u.User = url.UserPassword("run", a.Secret)
	for i, v := range s.vars {
		if v.name == "HTTP_PROXY" || v.name == "http_proxy" {
			s.vars[i].value = u.String()
		}
	}
	return a.Secret, nil
}

// end makes the run's secret worthless. A server that has stopped meanwhile
// forgets it by itself, later.
func (s *supervised) end(ctx context.Context, secret string) {
	var none struct{}
	_ = ask(ctx, s.h, "/v1/run-end", server.RunEnd{Secret: secret}, &none)
}

// start runs the program to its end, passing signals on.
func (s *supervised) start() error {
	cmd, begin, err := s.process()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := begin(); err != nil {
		return exit{exitNotExecutable, err.Error()}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			// Keys of the terminal reach the program by themselves.
			if (sig == syscall.SIGINT || sig == syscall.SIGQUIT) && inForeground() {
				continue
			}
			_ = cmd.Process.Signal(sig) // it may have ended
		case err := <-ended:
			return exitOf(err)
		}
	}
}

// process is the program, and how it begins.
func (s *supervised) process() (*exec.Cmd, func() error, error) {
	gone := s.gone
	if s.o.as != "" || s.o.identity != "" {
		gone = append(gone, identityVariables()...)
	}
	environ := withVariables(s.env.Environ(), s.vars, gone)
	if in := s.env.inside; in != nil {
		dir, err := os.Getwd()
		return in.cmd, func() error {
			return in.become(insideJob{Path: s.file, Args: s.o.command, Env: environ, Dir: dir})
		}, err
	}
	cmd := exec.Command(s.file, s.o.command[1:]...) // no context: it ends when it likes
	cmd.Args[0] = s.o.command[0]
	cmd.Env = environ
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.env.Stdin, s.env.Stdout, s.env.Stderr
	return cmd, cmd.Start, nil
}

func exitOf(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exit{status: 128 + int(ws.Signal())}
	}
	return exit{status: e.ExitCode()}
}

func warn(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "WARNING: "+format+"\n", args...)
}
