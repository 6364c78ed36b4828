package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain builds the program once: these tests are about real processes.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "laz")
	if err == nil {
		var out []byte
		out, err = exec.Command("go", "build", "-o", filepath.Join(dir, "laz"), "lazurite.dev/cmd/laz").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "building laz:", err)
	} else if err = os.Setenv("LAZ_TEST_BINARY", filepath.Join(dir, "laz")); err == nil {
		status = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// laz is the program with a state folder of its own.
type laz struct {
	t    *testing.T
	home string
	env  []string // besides PATH, HOME and LAZ_HOME
}

func newLaz(t *testing.T) *laz {
	t.Helper()
	l := &laz{t: t, home: filepath.Join(t.TempDir(), "home")}
	t.Cleanup(func() {
		if r := l.run("down"); r.status != 0 {
			t.Errorf("down: %s", r)
		}
	})
	return l
}

type result struct {
	status      int
	out, errOut string
}

func (r result) String() string { return fmt.Sprintf("status %d\n%s\n%s", r.status, r.out, r.errOut) }

func (l *laz) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(l.t.Context(), os.Getenv("LAZ_TEST_BINARY"), args...)
	if l.t.Context().Err() != nil { // in a clean-up
		cmd = exec.Command(os.Getenv("LAZ_TEST_BINARY"), args...)
	}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(l.home), "LAZ_HOME=" + l.home}, l.env...)
	return cmd
}

func (l *laz) run(args ...string) result {
	l.t.Helper()
	cmd := l.command(args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		l.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// ok runs and wants status 0.
func (l *laz) ok(args ...string) string {
	l.t.Helper()
	r := l.run(args...)
	if r.status != 0 {
		l.t.Fatalf("laz %s: %s", strings.Join(args, " "), r)
	}
	return r.out
}

// up starts in the background and returns the process id.
func (l *laz) up(args ...string) int {
	l.t.Helper()
	l.ok(append([]string{"up", "-d", "--offline", "--port", "0"}, args...)...)
	return l.pid()
}

// kill ends the server as a crash does. It returns when the state folder is
// free: until then another start is refused, and rightly.
func (l *laz) kill(pid int) {
	l.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	eventually(l.t, "not running", func() bool { return strings.Contains(l.run("status").out, "is not running") })
}

func (l *laz) pid() int {
	l.t.Helper()
	var st struct{ PID int }
	if err := json.Unmarshal([]byte(l.ok("status", "-o", "json")), &st); err != nil {
		l.t.Fatal(err)
	}
	return st.PID
}

func (r result) want(t *testing.T, status int, texts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("got %s, want status %d", r, status)
	}
	for _, s := range texts {
		if !strings.Contains(r.out+r.errOut, s) {
			t.Errorf("got %s, want %q in it", r, s)
		}
	}
}

// eventually waits for cond.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		<-tick.C
	}
}

func TestUpStatusDown(t *testing.T) {
	l := newLaz(t)
	l.run("status").want(t, 1, "not running", "laz up -d")
	l.run("down").want(t, 0, "not running")
	l.run("env").want(t, 1, "not running")
	l.run("run", "--", "true").want(t, 1, "not running")

	page := l.ok("up", "-d", "--offline", "--port", "0")
	for _, s := range []string{"Ready", `bin/laz env)"`, "laz run -- COMMAND", "laz down", "offline", "laz.log"} {
		if !strings.Contains(page, s) {
			t.Errorf("the start page lacks %q:\n%s", s, page)
		}
	}
	pid := l.pid()
	l.run("status").want(t, 0, "is running", strconv.Itoa(pid), "refused (--offline)", "management.azure.com")
	l.run("up").want(t, 1, "already", strconv.Itoa(pid))
	l.run("up", "-d").want(t, 1, "already", strconv.Itoa(pid))
	l.run("down").want(t, 0, "Stopped", strconv.Itoa(pid))
	l.run("status", "-o", "json").want(t, 1, `"running": false`)
}

func TestUp_AfterKill9(t *testing.T) {
	l := newLaz(t)
	pid := l.up()
	port := l.ok("run", "--", "sh", "-c", "echo $HTTPS_PROXY")
	l.kill(pid)
	l.ok("up", "-d", "--offline")
	if now := l.pid(); now == pid {
		t.Errorf("pid: got %d again", now)
	}
	if now := l.ok("run", "--", "sh", "-c", "echo $HTTPS_PROXY"); now != port {
		t.Errorf("the proxy moved from %s to %s: shells that had it are lost", port, now)
	}
}

func TestUp_Foreground(t *testing.T) {
	l := newLaz(t)
	cmd := l.command("up", "--offline", "--port", "0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "running", func() bool { return l.run("status").status == 0 })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v, want a clean end\n%s", err, page)
	}
	if !strings.Contains(string(page), "Ctrl-C") {
		t.Errorf("the page does not say how to stop it:\n%s", page)
	}
}

func TestUp_Refusals(t *testing.T) {
	l := newLaz(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	l.run("up", "-d", "--port", port).want(t, 1, "address already in use", port)
	l.run("up", "--port", port).want(t, 1, "address already in use")
	l.run("up", "--port", "70000").want(t, 2, "not a port")
	l.run("up", "--names", "mine").want(t, 2, "names:")
	l.run("up", "--domain", "x").want(t, 2, "domain:")
	l.run("up", "--nonsense").want(t, 2, "nonsense", "laz up --help")
	l.run("up", "now").want(t, 2, `"now"`)

	l.home = filepath.Join(t.TempDir(), "documents")
	if err := os.MkdirAll(filepath.Join(l.home, "letters"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.run("up", "-d").want(t, 1, "letters", "LAZ_HOME")
	l.run("down", "--purge", "--yes").want(t, 1, "no folder of Lazurite's")
}

func TestUp_DefaultPortTaken(t *testing.T) {
	a, b := newLaz(t), newLaz(t)
	a.ok("up", "-d", "--offline")
	b.ok("up", "-d", "--offline")
	get := func(l *laz) string { return l.ok("run", "--", "sh", "-c", "echo $HTTPS_PROXY") }
	if get(a) == get(b) {
		t.Error("two servers on one port")
	}
}

func TestDown_Purge(t *testing.T) {
	l := newLaz(t)
	l.up()
	l.run("down", "--purge").want(t, 1, "for good", "--yes") // no one at the terminal to ask
	l.run("status").want(t, 0)
	l.run("down", "--purge", "--yes").want(t, 0, "Stopped", "Erased")
	if _, err := os.Stat(l.home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the folder gone", err)
	}
	l.run("down", "--purge", "--yes").want(t, 0)
}

func TestEnv_Shells(t *testing.T) {
	l := newLaz(t)
	l.home = filepath.Join(t.TempDir(), `it's a "home"`)
	l.env = []string{"HTTPS_PROXY=http://own.test:1"}
	l.up()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("%s is not on this machine", shell)
			continue
		}
		set, unset := filepath.Join(t.TempDir(), "set"), filepath.Join(t.TempDir(), "unset")
		write := func(file string, args ...string) {
			cmd := l.command(append([]string{"env", "--shell", shell}, args...)...)
			if args != nil { // with what the first one set
				cmd.Env = append(cmd.Env, "LAZ_KEPT_HTTPS_PROXY=http://own.test:1", "LAZ_KEPT_SET=1", "PATH="+filepath.Join(l.home, "bin")+":"+os.Getenv("PATH"))
			}
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, out, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(set)
		write(unset, "--unset")
		script := `. "$SET_FILE"; command -v az; echo "$SSL_CERT_FILE"; cat "$SSL_CERT_FILE" >/dev/null; . "$UNSET_FILE"; echo "$HTTPS_PROXY"; echo "($SSL_CERT_FILE)"`
		cmd := exec.CommandContext(t.Context(), path, "-c", strings.ReplaceAll(script, `. "`, `source "`))
		cmd.Env = append(l.command().Env, "SET_FILE="+set, "UNSET_FILE="+unset)
		out, err := cmd.CombinedOutput()
		want := filepath.Join(l.home, "bin", "az") + "\n" + filepath.Join(l.home, "ca", "ca-bundle.pem") + "\nhttp://own.test:1\n()\n"
		if err != nil || string(out) != want {
			t.Errorf("%s: got %v\n%s\nwant\n%s", shell, err, out, want)
		}
	}
	l.run("env", "--shell", "powershell").want(t, 0, "$env:SSL_CERT_FILE = '", "it''s a")
	l.run("env", "--shell", "fish").want(t, 0, `it\'s a`, "set -gx")
	l.run("env", "--shell", "tcsh").want(t, 2, "tcsh")
	if out := l.ok("env", "--real-az"); strings.Contains(out, "export PATH") {
		t.Errorf("--real-az touches the PATH:\n%s", out)
	}
}

func TestRun_StatusAndSignals(t *testing.T) {
	l := newLaz(t)
	l.up()
	l.run("run", "--", "sh", "-c", "exit 7").want(t, 7)
	l.run("run", "sh", "-c", "kill -TERM $$").want(t, -1) // the program is laz's process: it died of the signal
	l.run("run", "--", "no-such-program").want(t, 127, "not found")
	l.run("run", "--", "/etc/passwd").want(t, 126, "not an executable")
	l.run("run", "--", "/no/such/file").want(t, 127)
	l.run("run").want(t, 2, "which command")
	l.run("run", "--network", "v", "--", "true").want(t, 1, "network")
	l.run("run", "--network", "v", "--identity", "i", "--", "true").want(t, 2, "--network")
	l.run("run", "--as", "nonsense", "--", "true").want(t, 2, "NAMESPACE/SERVICEACCOUNT")
	l.run("run", "--cluster", "c", "--", "true").want(t, 2, "--as")
	if got := l.ok("run", "--", "sh", "-c", "command -v az"); got != filepath.Join(l.home, "bin", "az")+"\n" {
		t.Errorf("az: got %s", got)
	}
	real := l.ok("run", "--real-az", "--", "sh", "-c", "echo $PATH")
	if strings.Contains(real, l.home) {
		t.Errorf("--real-az: got PATH %s", real)
	}
}

func TestRun_ReachesOwnedNamesAndNothingElse(t *testing.T) {
	l := newLaz(t)
	l.up()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("curl is not on this machine")
		return
	}
	code := l.ok("run", "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result}", "https://kv1.vault.azure.net/")
	if !strings.HasSuffix(code, " 0") || code < "400" {
		t.Errorf("got %q, want an error status over trusted TLS", code)
	}
	l.run("run", "--", "curl", "-sS", "https://example.com/").want(t, 56, "403")
	l.run("run", "--", "curl", "-sS", "http://example.com/").want(t, 0, "--offline")
}

func TestLogs(t *testing.T) {
	l := newLaz(t)
	l.run("logs").want(t, 1, "no log")
	l.up()
	follow := l.command("logs", "-f", "-n", "0")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 1)
	go func() {
		buf := make([]byte, 4096)
		n, _ := out.Read(buf)
		seen <- string(buf[:n])
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for line := ""; line == ""; {
		l.ok("status")
		select {
		case line = <-seen:
			if !strings.Contains(line, "GET") || !strings.Contains(line, "/v1/status") {
				t.Errorf("followed: got %q", line)
			}
		case <-ctx.Done():
			t.Fatal("nothing came")
		case <-time.After(50 * time.Millisecond):
		}
	}
	_ = follow.Process.Signal(os.Interrupt)
	if err := follow.Wait(); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
	l.run("logs").want(t, 0, "ready", "/v1/status")
	l.run("logs", "-o", "json", "--since", "1h").want(t, 0, `"msg":"ready"`)
	if got := l.ok("logs", "--since", "2099-01-01T00:00:00Z"); got != "" {
		t.Errorf("since the future: got %q", got)
	}
	l.run("logs", "--since", "yesterday").want(t, 2, "yesterday")
}

func TestServe(t *testing.T) {
	l := newLaz(t)
	file := filepath.Join(t.TempDir(), "laz.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("listen: nowhere\nnames: mine\n")
	l.run("serve", "--config", file).want(t, 1, "listen:", "names:")
	l.run("serve", "--config", file+"x").want(t, 1, "no such file")

	write("listen: 127.0.0.1:0\nlocal: 127.0.0.1:0\ndomain: cloud.test\n")
	cmd := l.command("serve", "--config", file)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "running", func() bool { return l.run("status").status == 0 })
	l.run("status").want(t, 0, "login.cloud.test", "under cloud.test")
	var st struct{ Local string }
	if err := json.Unmarshal([]byte(l.ok("status", "-o", "json")), &st); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + st.Local + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(log.String(), `"msg":"ready"`) {
		t.Errorf("got %v\n%s", err, log.String())
	}
}

func TestRotate(t *testing.T) {
	l := newLaz(t)
	l.run("rotate", "token-key").want(t, 1, "not running")
	l.up()
	l.run("rotate").want(t, 2, "say what")
	l.run("rotate", "everything").want(t, 2, "say what")
	l.run("rotate", "root-key", "--now").want(t, 2, "--now is of token-key")
	l.run("rotate", "token-key", "--drop-old").want(t, 2, "--drop-old is of root-key")
	l.run("rotate", "token-key", "more").want(t, 2, "more")
	l.run("rotate", "token-key").want(t, 0, "New token key", "signs from")
	l.run("rotate", "--now", "token-key").want(t, 0, "New token key")
	l.run("rotate", "root-key").want(t, 0, "New root key", "--drop-old")
	l.run("rotate", "root-key", "--drop-old").want(t, 0, "forgotten")
	l.run("down").want(t, 0, "Stopped")
	l.ok("up", "-d", "--offline") // all that was sealed opens under the new key
}
