// Package live starts the real laz for the tests of strangers' clients: one
// server for a package, in a state folder of its own, with nothing but loopback
// behind its proxy. Tests run again under `laz run`, so that every client in
// them has the options it has by default.
package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const inside = "LAZ_E2E_INSIDE" // the test that runs under laz run

// Cloud is a laz that was started for a test.
type Cloud struct {
	Bin  string            // the laz binary
	Dir  string            // scratch space; removed at the end
	Vars map[string]string // what the setup found, handed to tests under laz run
	env  []string
	end  func() error // stops the server

	release func() error // gives back what Options.Disk took; may be nil
}

// keeper runs the server until its standard input ends: with the test's
// process at the latest, however that ends.
const keeper = `bin=$0 out=$1; shift
"$bin" up --offline --port 0 "$@" >"$out" 2>&1 & pid=$!
read -r _
kill "$pid"
wait "$pid"`

// background is keeper for a server in the background, which a test may kill:
// whoever runs then, and the clusters, end when its standard input does, or the
// test is told to end.
const background = `bin=$0 out=$1; shift
trap : HUP INT TERM
"$bin" up -d --offline --port 0 "$@" >"$out" 2>&1
read -r _
"$bin" down --purge --yes >>"$out" 2>&1`

// Options are of the laz that is started.
type Options struct {
	// Background is for a test that starts and ends laz itself: it is started
	// with -d, and Stop erases it.
	Background bool
	// Disk is called with an empty folder that the state folder will lie in,
	// before anything is in it: a test may mount something there, and release
	// it at the end.
	Disk func(dir string) (release func() error, err error)

	Up  []string // further words of `laz up`
	Env []string // further variables, NAME=VALUE
}

// IssuersOnly is for tests in which no pod runs: clusters have an issuer and
// nothing else, wherever the test runs.
var IssuersOnly = Options{Up: []string{"--clusters", "issuer"}}

// Start builds laz, unless LAZ_BINARY names one, and starts it.
func Start(o Options) (*Cloud, error) {
	dir, err := os.MkdirTemp("", "laz-e2e-")
	if err != nil {
		return nil, err
	}
	c := &Cloud{Dir: dir, Vars: map[string]string{}}
	if c.Bin, err = Binary(dir); err != nil {
		return c, err
	}
	for _, name := range []string{"home", "disk"} {
		if err := os.Mkdir(c.path(name), 0o700); err != nil {
			return c, err
		}
	}
	if o.Disk != nil {
		if c.release, err = o.Disk(c.path("disk")); err != nil {
			return c, err
		}
	}
	c.env = append(Clean(os.Environ()), "HOME="+c.path("home"), "LAZ_HOME="+c.Home())
	c.env = append(c.env, o.Env...)
	if o.Background {
		return c, c.up(background, o.Up)
	}
	return c, c.up(keeper, o.Up)
}

// up starts the server with a script and waits until it answers.
func (c *Cloud) up(script string, words []string) error {
	cmd := exec.Command("sh", append([]string{"-c", script, c.Bin, c.path("up.out")}, words...)...)
	cmd.Env = c.env
	alive, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("starting laz: %w", err)
	}
	c.end = func() error { return errors.Join(alive.Close(), cmd.Wait()) }
	if !Until(30*time.Second, func() bool { _, err := c.Laz("status"); return err == nil }) {
		out, _ := os.ReadFile(c.path("up.out")) // what there is of it
		return fmt.Errorf("laz up is not ready: %s", out)
	}
	return nil
}

// Binary is a laz built from the checkout that these tests belong to.
func Binary(dir string) (string, error) {
	if b := os.Getenv("LAZ_BINARY"); b != "" {
		return filepath.Abs(b)
	}
	_, here, _, _ := runtime.Caller(0)
	bin := filepath.Join(dir, "laz")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/laz")
	cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build: pods run it too
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building laz: %w\n%s", err, out)
	}
	return bin, nil
}

// Clean is env without what would reach a client and is not Lazurite's doing.
func Clean(env []string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		upper := strings.ToUpper(name)
		switch {
		case strings.HasPrefix(upper, "AZURE_"), strings.HasPrefix(upper, "LAZ_"), strings.HasPrefix(upper, "MSI_"), strings.HasPrefix(upper, "IDENTITY_"),
			strings.HasSuffix(upper, "_PROXY"), strings.HasPrefix(upper, "XDG_"), upper == "KUBECONFIG",
			strings.HasSuffix(upper, "CA_BUNDLE"), upper == "SSL_CERT_FILE", upper == "SSL_CERT_DIR", upper == "NODE_EXTRA_CA_CERTS", upper == "HOME":
		default:
			out = append(out, kv)
		}
	}
	return out
}

func (c *Cloud) path(name string) string { return filepath.Join(c.Dir, name) }

// Home is the state folder.
func (c *Cloud) Home() string { return c.path("disk/state") }

// Stop stops the server and removes its folder.
func (c *Cloud) Stop() error {
	var err error
	if c.end != nil {
		err = c.end()
	}
	if c.release != nil {
		err = errors.Join(err, c.release())
	}
	return errors.Join(err, os.RemoveAll(c.Dir))
}

// CommandError is a command that did not end with 0.
type CommandError struct {
	Args   []string
	Code   int
	Stdout string
	Stderr string
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s: exit %d\n%s%s", strings.Join(e.Args, " "), e.Code, e.Stdout, e.Stderr)
}

// Command is bin with args in the cloud's environment.
func (c *Cloud) Command(ctx context.Context, bin string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = c.env
	cmd.WaitDelay = 5 * time.Second // a server in the background may hold the pipes
	return cmd
}

// Exec runs cmd for its standard output. The error is a *CommandError where
// the command ended with another status than 0.
func Exec(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout.String(), &CommandError{cmd.Args, exit.ExitCode(), stdout.String(), stderr.String()}
	}
	return stdout.String(), err
}

// Laz runs laz with args for its standard output.
func (c *Cloud) Laz(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return Exec(c.Command(ctx, c.Bin, args...))
}

// TSV runs laz with args for the one value that a query of them selects.
func (c *Cloud) TSV(args ...string) (string, error) {
	out, err := c.Laz(append(args, "--output", "tsv")...)
	return strings.TrimRight(out, "\n"), err
}

// Main runs a package's tests against one cloud that setup prepared, and
// returns the exit status. Tests that run under laz run find what setup put
// into Vars.
func Main(m *testing.M, c *Cloud, setup func(*Cloud) error) int {
	return MainWith(m, c, IssuersOnly, setup)
}

// MainWith is Main with other options.
func MainWith(m *testing.M, c *Cloud, o Options, setup func(*Cloud) error) int {
	if Inside() {
		if err := json.Unmarshal([]byte(os.Getenv("LAZ_E2E_VARS")), &c.Vars); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		c.Bin = os.Getenv("LAZ_E2E_BIN")
		c.env = os.Environ()
		return m.Run()
	}
	started, err := Start(o)
	if started != nil {
		defer func() {
			if err := started.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, "e2e: stopping:", err)
			}
		}()
	}
	if err == nil {
		*c = *started
		err = setup(c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

// Inside says whether this process runs under laz run.
func Inside() bool { return os.Getenv(inside) != "" }

// Under runs the calling test once more under `laz run` with args, and says
// whether this is that run: the test goes on where it is true and returns
// where it is not.
func (c *Cloud) Under(t *testing.T, args ...string) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		return true
	}
	vars, err := json.Marshal(c.Vars)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args = append(append([]string{"run"}, args...), "--", self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3m")
	cmd := c.Command(t.Context(), c.Bin, args...)
	cmd.Env = append(cmd.Env, inside+"="+t.Name(), "LAZ_E2E_VARS="+string(vars), "LAZ_E2E_BIN="+c.Bin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("under laz %s: %v\n%s", strings.Join(args[:len(args)-4], " "), err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("the test did not run under laz run:\n%s", out)
	}
	return false
}

// Until calls f every 20 ms until it is true, and says whether it was within limit.
func Until(limit time.Duration, f func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		if f() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
