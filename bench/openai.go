package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// benchModels is how many deployments share the requests: each has the most
// capacity that there is, and a thousand requests a second are that.
const benchModels = 8

// openai measures what the gateway adds to a model's server that thinks for no
// time: CPU, wall time, and memory with many open streams.
func (s *suite) openai(ctx context.Context) (err error) {
	fake, stop, err := startFake(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	proxy, err := startBare(ctx, "-to", "http://"+fake)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.stop()) }()
	c := s.cloud("openai")
	var config strings.Builder
	config.WriteString("ollama: \"off\"\nmodels:\n")
	for i := range benchModels {
		fmt.Fprintf(&config, "- {name: m%d, backends: [{name: fake, url: \"http://%s\", healthInterval: 0s}]}\n", i, fake)
	}
	file := filepath.Join(s.dir, "models.yaml")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		return err
	}
	p, err := c.up(ctx, "--config", file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	g := gateway{c: c, p: p, proxy: proxy, fake: "http://" + fake}
	if err := g.build(ctx); err != nil {
		return err
	}
	for _, stream := range []bool{false, true} {
		for _, k := range []int{1, 10, 100} {
			for _, two := range []bool{false, true} {
				if two && k != 10 {
					continue // one of them is enough to see the difference
				}
				if err := s.gatewayCosts(ctx, &g, stream, two, k); err != nil {
					return err
				}
			}
		}
	}
	return s.openStreams(ctx, &g)
}

// gateway is what is measured: the cloud, and what it is measured against.
type gateway struct {
	c     *cloud
	p     *process
	proxy *bareProcess
	fake  string // the model's server itself
	token string
	via   *http.Client
}

// build makes an account with deployments, and a workload that may call them.
func (g *gateway) build(ctx context.Context) error {
	w, err := g.c.build(ctx)
	if err != nil {
		return err
	}
	principal, err := g.c.exec(ctx, "identity", "show", "-g", "bench", "-n", "bench-id", "--query", "principalId", "-o", "tsv")
	if err != nil {
		return err
	}
	account, err := g.c.exec(ctx, "cognitiveservices", "account", "create", "-g", "bench", "-n", "bench-ai", "-l", "eastus", "--kind", "OpenAI", "--sku", "S0",
		"--custom-domain", "bench-ai", "--yes", "--query", "id", "-o", "tsv")
	if err != nil {
		return err
	}
	if _, err := g.c.exec(ctx, "role", "assignment", "create", "--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal",
		"--role", "Cognitive Services OpenAI User", "--scope", account); err != nil {
		return err
	}
	for i := range benchModels {
		n := strconv.Itoa(i)
		if _, err := g.c.exec(ctx, "cognitiveservices", "account", "deployment", "create", "-g", "bench", "-n", "bench-ai", "--deployment-name", "d"+n,
			"--model-name", "m"+n, "--model-version", "1", "--model-format", "OpenAI", "--sku-name", "Standard", "--sku-capacity", "10000"); err != nil {
			return err
		}
	}
	assertion, err := g.c.assertion(ctx, 3600)
	if err != nil {
		return err
	}
	if g.via, err = g.c.client(); err != nil {
		return err
	}
	var a struct {
		AccessToken string `json:"access_token"`
	}
	err = send(ctx, g.via, "https://login.microsoftonline.com/"+w.tenant+"/oauth2/v2.0/token", "", strings.NewReader(url.Values{
		"client_id": {w.client}, "grant_type": {"client_credentials"}, "scope": {"https://cognitiveservices.azure.com/.default"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion},
	}.Encode()), &a)
	g.token = a.AccessToken
	return err
}

// url is one deployment's, another one for each i.
func (g *gateway) url(i int) string {
	return "https://bench-ai.openai.azure.com/openai/deployments/d" + strconv.Itoa(i%benchModels) + "/chat/completions?api-version=2024-10-21"
}

// timed keeps how long each request takes.
type timed struct {
	mu   sync.Mutex
	all  []time.Duration
	next func(*http.Client, int) error
}

func (t *timed) request(client *http.Client, i int) error {
	began := time.Now()
	err := t.next(client, i)
	d := time.Since(began)
	t.mu.Lock()
	t.all = append(t.all, d)
	t.mu.Unlock()
	return err
}

// at is a percentile, of those after the round for warmth.
func (t *timed) at(percent int) time.Duration {
	all := slices.Clone(t.all[len(t.all)/(rounds+1):])
	slices.Sort(all)
	return all[min(len(all)*percent/100, len(all)-1)]
}

// gatewayCosts measures one way of calling: directly, through Go's reverse
// proxy behind TLS, through the gateway, in turns.
func (s *suite) gatewayCosts(ctx context.Context, g *gateway, stream, two bool, k int) error {
	n := s.n(map[bool]int{false: 3000, true: 1000}[stream])
	n = max(n, rounds*k) // each client asks in each round
	direct := &timed{next: func(client *http.Client, _ int) error {
		return complete(ctx, client, g.fake+"/v1/chat/completions", "", stream)
	}}
	proxied := &timed{next: func(client *http.Client, _ int) error {
		return complete(ctx, client, "https://"+g.proxy.addr+"/v1/chat/completions", g.token, stream)
	}}
	ours := &timed{next: func(client *http.Client, i int) error { return complete(ctx, client, g.url(i), g.token, stream) }}
	got, err := costs(n, target{os.Getpid(), clients(&http.Client{Transport: &http.Transport{}}, false, k), direct.request},
		target{g.proxy.pid, clients(g.proxy.client(two), two, k), proxied.request}, target{g.p.pid, clients(g.via, two, k), ours.request})
	if err != nil {
		return err
	}
	what := map[bool]string{false: "chat", true: fmt.Sprintf("chat, stream of %d events", fakeEvents)}[stream] + map[bool]string{false: ", HTTP/1.1", true: ", HTTP/2"}[two] +
		fmt.Sprintf(", %d connections", k)
	cpu := figure{"gateway, CPU: " + what, us(got[2]), "Go's reverse proxy, no checks " + us(got[1]), float64(got[2]) / float64(got[1]), "", true}
	cpu.goal, cpu.met = "< twice the proxy", got[2] < 2*got[1]
	if !stream {
		cpu.goal, cpu.met = "< 200 µs", got[2] < 200*time.Microsecond
	}
	s.add(cpu)
	added := func(percent int) string {
		return fmt.Sprintf("%+.2f ms", float64(ours.at(percent)-direct.at(percent))/1e6)
	}
	s.add(figure{"   added p50 / p99", added(50) + " / " + added(99), "directly " + ms(direct.at(50)) + " / " + ms(direct.at(99)) + "; proxy " + ms(proxied.at(50)) + " / " + ms(proxied.at(99)),
		float64(ours.at(50)) / float64(proxied.at(50)), "p50 < 1 ms, p99 < the proxy's + 1 ms", ours.at(50)-direct.at(50) < time.Millisecond && ours.at(99)-proxied.at(99) < time.Millisecond})
	return nil
}

// openStreams measures memory with many streams open, of short prompts and of
// long ones.
func (s *suite) openStreams(ctx context.Context, g *gateway) error {
	for _, prompt := range []int{0, 100 << 10} {
		if err := s.openStreamsOf(ctx, g, prompt); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) openStreamsOf(ctx context.Context, g *gateway, prompt int) error {
	n := s.n(1000)
	body := chatRequest(true, "hold"+strings.Repeat(" word", prompt/5))
	hold := func(pid int, client *http.Client, url func(int) string) (int64, error) {
		wait(ctx, 2*time.Second)
		before, _, err := memory(pid)
		if err != nil {
			return 0, err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		open := make([]*http.Response, n)
		var eg errgroup.Group
		eg.SetLimit(20)
		all := clients(client, false, 1)[0]
		all.Timeout = 0
		for i := range open {
			eg.Go(func() (err error) {
				open[i], err = post(ctx, all, url(i), g.token, body)
				if err == nil {
					_, err = open[i].Body.Read(make([]byte, 512))
				}
				return err
			})
		}
		err = eg.Wait()
		wait(ctx, time.Second)
		after, _, errMem := memory(pid)
		cancel()
		for _, r := range open {
			if r != nil {
				_ = r.Body.Close()
			}
		}
		all.CloseIdleConnections()
		return after - before, errors.Join(err, errMem)
	}
	ours, err := hold(g.p.pid, g.via, g.url)
	if err != nil {
		return err
	}
	limit, err := hold(g.proxy.pid, g.proxy.client(false), func(int) string { return "https://" + g.proxy.addr + "/v1/chat/completions" })
	if err != nil {
		return err
	}
	f := figure{fmt.Sprintf("gateway, memory for %d open streams", n), mib(ours), "Go's reverse proxy " + mib(limit), float64(ours) / float64(limit), "< the proxy's", ours < limit}
	if prompt > 0 { // the proxy never reads a prompt; that none is held shows in less than all of them
		f.what += fmt.Sprintf(", prompts of %d KiB", prompt>>10)
		f.goal, f.met = "< half of the prompts more", ours-limit < int64(n)*int64(prompt)/2
	}
	s.add(f)
	return nil
}
