// Package replicas_test starts several laz on one PostgreSQL, and kills them.
package replicas_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
	"lazurite.dev/internal/store/storetest/pgtest"
)

// binary is the laz under test.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "laz-e2e-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		binary, err = live.Binary(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

// replica is one laz with a state folder of its own.
type replica struct {
	t    *testing.T
	bin  string
	home string
	args []string // serve --config …, or up …
	cmd  *exec.Cmd
	log  *bytes.Buffer
	ca   string
	at   string // URL of the proxy
}

// start runs the replica and waits until it answers.
func (r *replica) start() {
	r.t.Helper()
	before := r.endpoint().PID
	r.log = &bytes.Buffer{}
	r.cmd = exec.Command(r.bin, r.args...)
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = r.env(), r.log, r.log
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	if !live.Until(20*time.Second, func() bool { return r.endpoint().PID == r.cmd.Process.Pid }) {
		r.kill()
		r.t.Fatalf("not ready (the last was %d): %s", before, r.log)
	}
	e := r.endpoint()
	r.at, r.ca = e.Proxy, e.OwnCA
}

type endpoint struct {
	PID          int
	Proxy, OwnCA string
}

func (r *replica) endpoint() endpoint {
	var e endpoint
	raw, err := os.ReadFile(filepath.Join(r.home, "run", "endpoint.json"))
	if err != nil || json.Unmarshal(raw, &e) != nil {
		return endpoint{}
	}
	return e
}

func (r *replica) env() []string {
	return append(live.Clean(os.Environ()), "HOME="+r.home, "LAZ_HOME="+r.home)
}

// kill ends the replica as a power cut would.
func (r *replica) kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill() // it may have ended
	_ = r.cmd.Wait()         // and it did not end well
	r.cmd = nil
}

// laz runs a command of az's grammar against this replica.
func (r *replica) laz(args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.bin, append(args, "--output", "tsv")...)
	cmd.Env = r.env()
	out, err := live.Exec(cmd)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log)
	}
	return strings.TrimRight(out, "\n")
}

// client is a program under this replica's environment.
func (r *replica) client() *http.Client {
	r.t.Helper()
	at, err := url.Parse(r.at)
	if err != nil {
		r.t.Fatal(err)
	}
	raw, err := os.ReadFile(r.ca)
	if err != nil {
		r.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(raw)
	t := &http.Transport{Proxy: http.ProxyURL(at), TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true}
	r.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 10 * time.Second}
}

// do sends a request and gives the status and the answer's value.
func do(ctx context.Context, c *http.Client, method, to, token, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	var a struct{ Value string }
	if resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(raw, &a)
	}
	return resp.StatusCode, a.Value, err
}

// world is a vault whose owner may write secrets, and a token of the owner's.
type world struct {
	vault, vaultID, owner, token string
}

func (r *replica) world(name string) world {
	r.t.Helper()
	var w world
	w.owner = r.laz("account", "show", "--query", "user.name")
	r.laz("group", "create", "--name", "g", "--location", "eastus")
	w.vaultID = r.laz("keyvault", "create", "--name", name, "--resource-group", "g", "--location", "eastus", "--enable-rbac-authorization", "--query", "id")
	w.vault = r.laz("keyvault", "show", "--name", name, "--query", "properties.vaultUri")
	r.laz("role", "assignment", "create", "--assignee", w.owner, "--role", "Key Vault Secrets Officer", "--scope", w.vaultID)
	w.token = r.laz("account", "get-access-token", "--resource", "https://vault.azure.net", "--query", "accessToken")
	return w
}

func (w world) secret(name string) string { return w.vault + "secrets/" + name + "?api-version=7.4" }

// pair is two replicas on one database, with further lines of configuration; the
// owner is signed in at both.
func pair(t *testing.T, lines ...string) (a, b *replica) {
	t.Helper()
	dsn := pgtest.Start(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "dsn"), dsn)
	var both []*replica
	for _, name := range []string{"a", "b"} {
		r := &replica{t: t, bin: binary, home: filepath.Join(dir, name)}
		config := filepath.Join(dir, name+".yaml")
		write(t, config, fmt.Sprintf("home: %s\nlisten: 127.0.0.1:0\nlocal: 127.0.0.1:0\nnames: azure\noffline: true\nrootKeyFile: %s\nstore:\n  postgresDSNFile: %s\n%s\n",
			r.home, filepath.Join(dir, "root.json"), filepath.Join(dir, "dsn"), strings.Join(lines, "\n")))
		r.args = []string{"serve", "--config", config}
		r.start()
		t.Cleanup(r.kill)
		both = append(both, r)
	}
	var first struct{ Owner, Password string }
	raw, err := os.ReadFile(filepath.Join(both[0].home, "first-owner.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &first); err != nil {
		t.Fatal(err)
	}
	for _, r := range both {
		r.laz("login", "--username", first.Owner, "--password", first.Password)
	}
	return both[0], both[1]
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A role that was removed through one replica is refused by the other within a second.
func TestRoleRemovedThroughOneIsRefusedByTheOther(t *testing.T) {
	a, b := pair(t)
	w := a.world("two-replicas")
	atB := b.client()
	status := func() int {
		t.Helper()
		s, _, err := do(t.Context(), atB, http.MethodPut, w.secret("s"), w.token, `{"value":"x"}`)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if !live.Until(time.Second, func() bool { return status() == http.StatusOK }) {
		t.Fatal("what was given through one does not count at the other")
	}
	for i := range 5 {
		a.laz("role", "assignment", "delete", "--assignee", w.owner, "--role", "Key Vault Secrets Officer", "--scope", w.vaultID)
		removed := time.Now()
		if !live.Until(time.Second, func() bool { return status() == http.StatusForbidden }) {
			t.Fatal("a role that was removed through one replica still counts at the other after a second")
		}
		t.Logf("round %d: refused by the other after %s", i, time.Since(removed).Round(time.Millisecond))
		a.laz("role", "assignment", "create", "--assignee", w.owner, "--role", "Key Vault Secrets Officer", "--scope", w.vaultID)
		if !live.Until(time.Second, func() bool { return status() == http.StatusOK }) {
			t.Fatal("what was given back through one does not count at the other")
		}
	}
}

// writers write secrets through clients until stop, and keep what was acknowledged.
type writers struct {
	mu    sync.Mutex
	acked map[string]string // name to value
	count atomic.Int64
}

func (ws *writers) run(ctx context.Context, c *http.Client, w world, prefix string) {
	for i := 0; ctx.Err() == nil; i++ {
		name, value := fmt.Sprintf("%s-%d", prefix, i%50), fmt.Sprintf("%s/%d", prefix, i)
		s, _, err := do(ctx, c, http.MethodPut, w.secret(name), w.token, fmt.Sprintf(`{"value":%q}`, value))
		ws.mu.Lock()
		if err == nil && s == http.StatusOK {
			ws.acked[name] = value
			ws.count.Add(1)
		} else if err != nil {
			// It may have been written or not: the one before and this one are both right.
			ws.acked[name] += "\n" + value
		}
		ws.mu.Unlock()
		if errors.Is(err, syscall.ECONNREFUSED) {
			return // killed
		}
	}
}

// lost lists what was acknowledged and is not there.
func (ws *writers) lost(t *testing.T, c *http.Client, w world) {
	t.Helper()
	for name, value := range ws.acked {
		s, got, err := do(t.Context(), c, http.MethodGet, w.secret(name), w.token, "")
		if err != nil {
			t.Fatal(err)
		}
		right := false
		for v := range strings.SplitSeq(value, "\n") {
			right = right || s == http.StatusOK && got == v || s == http.StatusNotFound && v == ""
		}
		if !right {
			t.Errorf("%s: %d %q, want one of %q", name, s, got, value)
		}
	}
}

// killDuring has eight writers at each of rs, kills victim in the middle, and
// gives what was acknowledged.
func killDuring(t *testing.T, w world, victim *replica, rs ...*replica) *writers {
	t.Helper()
	ws := &writers{acked: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g sync.WaitGroup
	for i, r := range rs {
		for j := range 8 {
			c, prefix := r.client(), fmt.Sprintf("w%d-%d", i, j)
			g.Go(func() { ws.run(ctx, c, w, prefix) })
		}
	}
	if !live.Until(20*time.Second, func() bool { return ws.count.Load() > 200 }) {
		t.Fatalf("only %d writes in 20 s", ws.count.Load())
	}
	victim.kill()
	at := ws.count.Load()
	if len(rs) > 1 && !live.Until(20*time.Second, func() bool { return ws.count.Load() > at+100 }) {
		t.Error("the survivor writes no more")
	}
	cancel()
	g.Wait()
	t.Logf("%d writes were acknowledged, %d of them after the kill", ws.count.Load(), ws.count.Load()-at)
	return ws
}

// Either replica is killed during writes through both: nothing acknowledged is lost.
func TestKillEitherReplica(t *testing.T) {
	a, b := pair(t)
	w := a.world("killed-replicas")
	for _, victim := range []*replica{a, b} {
		survivor := map[*replica]*replica{a: b, b: a}[victim]
		ws := killDuring(t, w, victim, a, b)
		ws.lost(t, survivor.client(), w)
		victim.start()
		ws.lost(t, victim.client(), w)
	}
}

// laz up is killed during writes: nothing acknowledged is lost, three times over.
func TestKillUp(t *testing.T) {
	r := &replica{t: t, bin: binary, home: filepath.Join(t.TempDir(), "laz"), args: []string{"up", "--offline", "--port", "0", "--clusters", "issuer"}}
	r.start()
	t.Cleanup(r.kill)
	w := r.world("killed-up")
	for range 3 {
		ws := killDuring(t, w, r, r)
		r.start()
		ws.lost(t, r.client(), w)
	}
}
