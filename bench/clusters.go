package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/server"
)

const (
	clusterGroup = "bench"
	clusterName  = "c1"
	crowdAccount = "crowd"
	pauseImage   = "lazurite.dev/pause:3.10" // part of the distribution
)

// kubeAPI speaks to the cluster's API server as its administrator.
type kubeAPI struct {
	server string
	client *http.Client
}

// clusters measures how long a cluster takes to be of use, what it holds when
// idle, and what the webhook costs a pod.
func (s *suite) clusters(ctx context.Context) (err error) {
	kube, err := filepath.Abs(filepath.Join(filepath.Dir(s.laz), "kube"))
	if err != nil {
		return err
	}
	if _, missing := os.Stat(filepath.Join(kube, "bin", "kubernetes")); os.Geteuid() != 0 || missing != nil {
		fmt.Fprintln(s.say, "clusters are not measured: that needs root, Linux and make kube")
		return nil
	}
	c := s.cloud("clusters")
	c.env = append(c.env, "LAZ_KUBE="+kube)
	p, err := c.up(ctx, "--clusters", "embedded")
	if err != nil {
		return err
	}
	defer func() {
		_, purge := c.exec(context.WithoutCancel(ctx), "down", "--purge", "--yes")
		err = errors.Join(err, purge)
		_ = p.stop() // it has ended with that
	}()
	if _, err := c.exec(ctx, "group", "create", "--name", clusterGroup, "--location", "eastus", "--output", "none"); err != nil {
		return err
	}
	strangers := webhooks()
	k, err := s.birth(ctx, c)
	if err != nil {
		return err
	}
	if err := s.secondNode(ctx, c, k); err != nil {
		return err
	}
	if err := s.idleCluster(ctx, c); err != nil {
		return err
	}
	if err := s.crowd(ctx, k, strangers); err != nil {
		return err
	}
	return s.webhook(ctx)
}

// birth creates a cluster of one node and a pod on it, as early as each is taken.
func (s *suite) birth(ctx context.Context, c *cloud) (*kubeAPI, error) {
	began := time.Now()
	created := make(chan error, 1)
	go func() {
		_, err := c.exec(ctx, "aks", "create", "--resource-group", clusterGroup, "--name", clusterName, "--node-count", "1",
			"--enable-oidc-issuer", "--enable-workload-identity", "--no-ssh-key", "--output", "none")
		created <- err
	}()
	row := func(what string, goal time.Duration) {
		took := time.Since(began)
		f := figure{what: what, value: secs(took)}
		if goal > 0 {
			f.goal, f.met = "< "+secs(goal), took < goal
		}
		s.add(f)
	}
	var k *kubeAPI
	steps := []struct {
		what string
		goal time.Duration
		done func() bool
	}{
		{"cluster, from az aks create to API server ready", 5 * time.Second, func() bool {
			k = c.ready(ctx)
			return k != nil
		}},
		{"cluster, to node Ready", 0, func() bool { return k.readyNodes(ctx) > 0 }},
		{"cluster, to first pod Running", 12 * time.Second, func() bool {
			if phase := k.phase(ctx, "first"); phase != "" {
				return phase == "Running"
			}
			_ = k.do(ctx, http.MethodPost, "/api/v1/namespaces/default/pods", podOf("first", ""), nil) // until its service account is there
			return false
		}},
	}
	for _, step := range steps {
		if err := until(ctx, 3*time.Minute, step.what, step.done); err != nil {
			return nil, err
		}
		row(step.what, step.goal)
	}
	if err := <-created; err != nil {
		return nil, err
	}
	row("cluster, to the end of az aks create, webhook and DNS included", 0)
	return k, nil
}

func secs(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s" }

func until(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v: %s", limit, what))
	defer cancel()
	for !done() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		wait(ctx, 50*time.Millisecond)
	}
	return nil
}

// ready is the cluster's API once it answers that it is ready.
func (c *cloud) ready(ctx context.Context) *kubeAPI {
	file := filepath.Join(filepath.Dir(string(c.home)), "bench.kubeconfig")
	if _, err := c.exec(ctx, "aks", "get-credentials", "--resource-group", clusterGroup, "--name", clusterName, "--admin", "--file", file, "--overwrite-existing"); err != nil {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `yaml:"server"`
				CA     string `yaml:"certificate-authority-data"` // base64 of PEM
			} `yaml:"cluster"`
		} `yaml:"clusters"`
		Users []struct {
			User struct {
				Cert string `yaml:"client-certificate-data"` // base64 of PEM
				Key  string `yaml:"client-key-data"`
			} `yaml:"user"`
		} `yaml:"users"`
	}
	if yaml.Unmarshal(raw, &config) != nil || len(config.Clusters) == 0 || len(config.Users) == 0 {
		return nil
	}
	cert, err := base64.StdEncoding.DecodeString(config.Users[0].User.Cert)
	if err != nil {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(config.Users[0].User.Key)
	if err != nil {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil
	}
	ca, err := base64.StdEncoding.DecodeString(config.Clusters[0].Cluster.CA)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		return nil
	}
	t := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}, ForceAttemptHTTP2: true}
	k := &kubeAPI{server: config.Clusters[0].Cluster.Server, client: &http.Client{Transport: t, Timeout: 10 * time.Second}}
	if k.do(ctx, http.MethodGet, "/readyz", nil, nil) != nil {
		return nil
	}
	return k
}

func (k *kubeAPI) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.server+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, raw)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(raw, out)
	}
	return err
}

func (k *kubeAPI) readyNodes(ctx context.Context) int {
	var list struct {
		Items []struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if k.do(ctx, http.MethodGet, "/api/v1/nodes", nil, &list) != nil {
		return 0
	}
	n := 0
	for _, node := range list.Items {
		for _, c := range node.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				n++
			}
		}
	}
	return n
}

func (k *kubeAPI) phase(ctx context.Context, name string) string {
	var pod struct{ Status struct{ Phase string } }
	if k.do(ctx, http.MethodGet, "/api/v1/namespaces/default/pods/"+name, nil, &pod) != nil {
		return ""
	}
	return pod.Status.Phase
}

// podOf is a pod that waits, on no node where selector names a label that none has.
func podOf(name, selector string) map[string]any {
	meta := map[string]any{"name": name}
	spec := map[string]any{"terminationGracePeriodSeconds": 0, "containers": []any{map[string]any{"name": "c", "image": pauseImage}}}
	if selector != "" {
		meta["labels"] = map[string]any{"azure.workload.identity/use": "true"}
		spec["nodeSelector"], spec["serviceAccountName"] = map[string]any{selector: ""}, crowdAccount
	}
	return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
}

func (s *suite) secondNode(ctx context.Context, c *cloud, k *kubeAPI) error {
	began := time.Now()
	scaled := make(chan error, 1)
	go func() {
		_, err := c.exec(ctx, "aks", "scale", "--resource-group", clusterGroup, "--name", clusterName, "--node-count", "2", "--output", "none")
		scaled <- err
	}()
	if err := until(ctx, 2*time.Minute, "second node", func() bool { return k.readyNodes(ctx) == 2 }); err != nil {
		return errors.Join(err, <-scaled)
	}
	s.add(figure{what: "cluster, from az aks scale to the second node Ready", value: secs(time.Since(began))})
	return <-scaled
}

// idleCluster sums what the processes of the control plane and of one node hold.
func (s *suite) idleCluster(ctx context.Context, c *cloud) error {
	wait(ctx, 5*time.Second)
	out, err := c.exec(ctx, "status", "--output", "json")
	if err != nil {
		return err
	}
	var status server.Status
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Clusters) != 1 {
		return fmt.Errorf("laz status: %w: %.300s", err, out)
	}
	var plane, nodes int64
	for _, p := range status.Clusters[0].Processes {
		_, pss, err := memory(p.PID)
		if err != nil {
			return fmt.Errorf("memory of %s: %w", p.Name, err)
		}
		if p.Node == "" {
			plane += pss
		} else {
			nodes += pss
		}
	}
	s.add(figure{what: "idle control plane, proportional (PSS)", value: mib(plane)})
	s.add(figure{what: "idle node of two, proportional (PSS)", value: mib(nodes / 2)})
	return nil
}

// webhooks are the processes of the workload identity webhook on this machine.
func webhooks() map[int]bool {
	found := map[int]bool{}
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well-formed
	for _, file := range list {
		raw, err := os.ReadFile(file)
		args := strings.Split(string(raw), "\x00")
		if err != nil || len(args) < 2 || filepath.Base(args[0]) != "azure-workload-identity" || args[1] != "webhook" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			found[pid] = true
		}
	}
	return found
}

// crowd creates 200 labelled pods at once, and sees that each is injected.
func (s *suite) crowd(ctx context.Context, k *kubeAPI, strangers map[int]bool) error {
	ours := webhooks()
	used := func() (sum time.Duration, err error) {
		for pid := range ours {
			if !strangers[pid] {
				one, err := cpu(pid)
				if err != nil {
					return 0, err
				}
				sum += one
			}
		}
		return sum, nil
	}
	before, err := used()
	if err != nil {
		return err
	}
	account := map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": crowdAccount,
		"annotations": map[string]any{"azure.workload.identity/client-id": "00000000-0000-0000-0000-000000000001"}}}
	if err := k.do(ctx, http.MethodPost, "/api/v1/namespaces/default/serviceaccounts", account, nil); err != nil {
		return err
	}
	wait(ctx, time.Second) // the webhook's watch has it: a new account costs a read
	pods := s.n(200)
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range pods {
		g.Go(func() error {
			var pod struct {
				Spec struct {
					Containers []struct{ Env []struct{ Name string } }
				}
			}
			if err := k.do(ctx, http.MethodPost, "/api/v1/namespaces/default/pods", podOf("crowd-"+strconv.Itoa(i), "lazurite.dev/nowhere"), &pod); err != nil {
				return err
			}
			if len(pod.Spec.Containers) != 1 || len(pod.Spec.Containers[0].Env) == 0 {
				return fmt.Errorf("pod %d was not injected", i)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := used()
	if err != nil {
		return err
	}
	s.add(figure{what: fmt.Sprintf("%d labelled pods created at once, all injected", pods), value: ms(took)})
	s.add(figure{what: "webhook's processes in that, CPU per pod, both mutations", value: us((after - before) / time.Duration(pods))})
	return nil
}

// webhook compares a review with one of a webhook that decides nothing.
func (s *suite) webhook(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkWebhook$", "-benchtime", strconv.Itoa(s.n(20000))+"x", "./serve")
	cmd.Dir = filepath.Join("kube", "webhook")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("the webhook's benchmark: %w: %s", err, out)
	}
	found := map[string]float64{}
	for _, m := range regexp.MustCompile(`BenchmarkWebhook/(\w+)\S*\s.*?([\d.]+) cpu-µs/pod`).FindAllStringSubmatch(string(out), -1) {
		if found[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			return err
		}
	}
	noop, identity := found["noop"], found["identity"]
	if noop == 0 || identity == 0 {
		return fmt.Errorf("the webhook's benchmark says nothing: %s", out)
	}
	s.add(figure{"webhook, CPU per pod beyond a webhook that decides nothing", fmt.Sprintf("%.0f µs", identity-noop),
		fmt.Sprintf("that webhook, client included %.0f µs", noop), identity / noop, "< 60 µs", identity-noop < 60})
	return nil
}
