package kube_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// prober is a toybox that waits somewhere for what to try from there. It is
// asked over its own loopback, so that nothing needs a way to it.
type prober struct {
	name   string
	pid    int
	client *http.Client
}

// word is what a prober is called with, in its variable TOYBOX: each has a
// port of its own.
func (k *kube) word(port int) string { return fmt.Sprintf("probes %d %s", port, k.instance()) }

// probers are the processes with that word.
func (k *kube) probers(t *testing.T, port int) (pids []int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		environ, _ := os.ReadFile(file) // it may have ended
		comm, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "comm"))
		if string(comm) == "toybox\n" && bytes.Contains(environ, []byte("TOYBOX="+k.word(port))) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// prober is the one with a port; the first, where there are several.
func (k *kube) prober(t *testing.T, name string, port int) *prober {
	t.Helper()
	var pids []int
	if !live.Until(90*time.Second, func() bool { pids = k.probers(t, port); return len(pids) > 0 }) {
		t.Fatalf("%s does not run", name)
	}
	p := k.proberOf(name, port, pids[0])
	until(t, 20*time.Second, name+" answers", func() (string, error) {
		res, err := p.client.Get("http://prober/")
		if err != nil {
			return "", err
		}
		return res.Status, res.Body.Close()
	}, func(s string) bool { return strings.HasPrefix(s, "200") })
	return p
}

func (k *kube) proberOf(name string, port, pid int) *prober {
	dial := func(ctx context.Context, _, _ string) (c net.Conn, err error) {
		err = within(fmt.Sprintf("/proc/%d/ns/net", pid), func() (err error) {
			c, err = (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			return err
		})
		return c, err
	}
	return &prober{name, pid, &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// ask tries targets, all at once; what became of them is by target.
func (p *prober) ask(t *testing.T, targets ...string) map[string]string {
	t.Helper()
	m := map[string]string{}
	res, err := p.client.Post("http://prober/", "text/plain", strings.NewReader(strings.Join(targets, "\n")))
	if err != nil {
		t.Errorf("asking %s: %v", p.name, err)
		return m
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("asking %s: %v", p.name, err)
	}
	for line := range strings.Lines(string(out)) {
		target, verdict, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		m[target] = verdict
	}
	return m
}

// one is ask for one target.
func (p *prober) one(t *testing.T, target string) string {
	t.Helper()
	return p.ask(t, target)[target]
}

// here is a prober on this machine: with a network, in that, as a program of
// `laz run --network`.
func (k *kube) here(t *testing.T, network string, port int) *prober {
	t.Helper()
	toybox := filepath.Join(k.Dir, "toybox")
	var cmd *exec.Cmd
	if network == "" {
		network = "host"
		cmd = k.Command(context.Background(), toybox)
	} else {
		cmd = k.Command(context.Background(), k.Bin, "run", "--network", network, "--", toybox)
	}
	cmd.Env = append(cmd.Env, "TOYBOX="+k.word(port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range k.probers(t, port) {
			kill(t, pid)
		}
		_ = cmd.Wait() // it was killed
	})
	return k.prober(t, network, port)
}

// podProber is a pod of a user's cluster that probes.
const podProber = `
apiVersion: v1
kind: Pod
metadata: {name: probe, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: ` + Toybox + `, env: [{name: TOYBOX, value: "%s"}]}]
`

// probing is a deployment that answers probes instead of scoring.
const probing = `
name: probe
endpoint_name: %[1]s
environment:
  name: probe
  version: 1
  image: ` + Toybox + `
  inference_config:
    liveness_route: {path: /, port: %[2]d}
    readiness_route: {path: /, port: %[2]d}
    scoring_route: {path: /, port: %[2]d}
environment_variables: {TOYBOX: "%[3]s"}
instance_type: Standard_F2s_v2
instance_count: %[4]d
liveness_probe: {initial_delay: 1, period: 1}
readiness_probe: {initial_delay: 1, period: 1}
`

// managed makes a workspace with a managed network that is up, and in it a
// deployment whose instances are probers.
func (k *kube) managed(name, mode string, port, instances int) error {
	file := filepath.Join(k.Dir, name+".yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, probing, name+"-probe", port, k.word(port), instances), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"workspace", "create", "-n", name, "-l", "eastus", "-m", mode},
		{"workspace", "provision-network", "-n", name},
		{"online-endpoint", "create", "-w", name, "-n", name + "-probe", "--auth-mode", "key"},
		{"online-deployment", "create", "-w", name, "-f", file},
	} {
		if _, err := k.Within(5*time.Minute, append(append([]string{"ml"}, args...), "-g", group)...); err != nil {
			return err
		}
	}
	return nil
}

// front is the front door's address in the cluster of a workspace, as its pods
// have it: their resolver.
func (p *prober) front(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/resolv.conf", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(raw))
	for i := range f {
		if f[i] == "nameserver" && i+1 < len(f) {
			return f[i+1]
		}
	}
	t.Fatalf("%s has no resolver: %s", p.name, raw)
	return ""
}

// address is the pod's own.
func (p *prober) address(t *testing.T) (address string) {
	t.Helper()
	err := within(fmt.Sprintf("/proc/%d/ns/net", p.pid), func() error {
		all, err := net.InterfaceAddrs()
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
				address = n.IP.String()
			}
		}
		return err
	})
	if err != nil || address == "" {
		t.Fatalf("%s has no address: %v", p.name, err)
	}
	return address
}
