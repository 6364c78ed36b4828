package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/web"
)

const (
	scoringKey      = "a-key-that-is-as-long-as-the-keys-of-endpoints-are"
	scoringEndpoint = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/bench/providers/Microsoft.MachineLearningServices/workspaces/bench/onlineEndpoints/bench"
)

// scoring is an endpoint whose instances are one server.
type scoring struct {
	ep   *router.Endpoint
	addr netip.AddrPort
}

// serveScoring is the router of online endpoints, with the front door's log and
// measurement around it, in front of a server.
func serveScoring(ctx context.Context, to string) (http.Handler, error) {
	addr, err := netip.ParseAddrPort(strings.TrimPrefix(to, "http://"))
	if err != nil {
		return nil, err
	}
	s := &scoring{addr: addr, ep: &router.Endpoint{
		ID: rid.MustParse(scoringEndpoint), Workspace: rid.MustParse(scoringEndpoint).Parent(), Name: "bench", Location: "eastus", Public: true, AuthMode: router.AuthKey,
		Traffic: map[string]int{"a": 70, "b": 20, "c": 9, "d": 1}, Deployments: map[string]*router.Deployment{},
		Key: func(given string) (string, bool) { return "primary", given == scoringKey },
	}}
	for name := range s.ep.Traffic {
		s.ep.Deployments[name] = &router.Deployment{
			ID: s.ep.ID.Child("deployments", name), Name: name, UID: name, Ready: true, MaxConcurrent: 100, Instances: 2,
			QueueWait: time.Second, Timeout: time.Minute, ScoringPath: "/score",
		}
	}
	r, err := router.New(router.Config{Gate: gate.Config{}, Catalog: s, Instances: s, Metrics: prometheus.NewRegistry()})
	if err != nil {
		return nil, err
	}
	go func() { _ = r.Run(ctx) }() // as long as the process
	front, err := web.NewFront(slog.New(slog.NewJSONHandler(io.Discard, nil)), prometheus.NewRegistry(), nil)
	if err != nil {
		return nil, err
	}
	surface := &web.Surface{Name: "scoring", Handler: r, IDs: web.KeyVault, MaxBody: router.MaxBody, Timeout: -1, Error: router.WriteError}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { front.Serve(surface, w, q) }), nil
}

// Find implements router.Catalog.
func (s *scoring) Find(context.Context, string) (*router.Endpoint, error) { return s.ep, nil }

// Of implements router.Instances: two, in the same place.
func (s *scoring) Of(uid string) []router.Instance {
	return []router.Instance{{ID: uid + "1", Address: s.addr, Ready: true}, {ID: uid + "2", Address: s.addr, Ready: true}}
}

// OnChange implements router.Instances: nothing changes.
func (s *scoring) OnChange(func()) {}

// Dial implements router.Instances.
func (s *scoring) Dial(ctx context.Context, i router.Instance) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", i.Address.String())
}

// router measures what the router of online endpoints adds to an instance that
// answers at once, and how exactly it divides requests.
func (s *suite) router(ctx context.Context) (err error) {
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
	ours, err := startBare(ctx, "-scoring", "-to", "http://"+fake)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	for _, k := range []int{1, 10, 100} {
		for _, two := range []bool{false, true} {
			if two && k != 10 {
				continue
			}
			if err := s.routerCosts(ctx, "http://"+fake, proxy, ours, two, k); err != nil {
				return err
			}
		}
	}
	return s.splitAccuracy(ctx, ours)
}

func (s *suite) routerCosts(ctx context.Context, fake string, proxy, ours *bareProcess, two bool, k int) error {
	n := max(s.n(5000), rounds*k)
	via := func(base string) *timed {
		return &timed{next: func(client *http.Client, _ int) error { return complete(ctx, client, base+"/score", scoringKey, false) }}
	}
	direct, proxied, routed := via(fake), via("https://"+proxy.addr), via("https://"+ours.addr)
	got, err := costs(n, target{os.Getpid(), clients(&http.Client{Transport: &http.Transport{}}, false, k), direct.request},
		target{proxy.pid, clients(proxy.client(two), two, k), proxied.request}, target{ours.pid, clients(ours.client(two), two, k), routed.request})
	if err != nil {
		return err
	}
	what := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[two] + fmt.Sprintf(", %d connections", k)
	s.add(figure{"router, CPU: a score, " + what, us(got[2]), "Go's reverse proxy, no checks " + us(got[1]), float64(got[2]) / float64(got[1]),
		"< 1.5 times the proxy", 2*got[2] < 3*got[1]})
	added := func(percent int) time.Duration { return routed.at(percent) - direct.at(percent) }
	goal, met := "p50, p99 < 1 ms", added(50) < time.Millisecond && added(99) < time.Millisecond
	if k > 1 { // who asks and who answers share the cores, so all wait: what counts is that nobody waits longer than by the proxy
		goal, met = "p99 < the proxy's + 1 ms", routed.at(99)-proxied.at(99) < time.Millisecond
	}
	s.add(figure{"   added p50 / p99", fmt.Sprintf("%+.2f / %+.2f ms", float64(added(50))/1e6, float64(added(99))/1e6),
		"directly " + ms(direct.at(50)) + " / " + ms(direct.at(99)) + "; proxy " + ms(proxied.at(50)) + " / " + ms(proxied.at(99)),
		float64(routed.at(50)) / float64(proxied.at(50)), goal, met})
	return nil
}

// splitAccuracy counts who answers.
func (s *suite) splitAccuracy(ctx context.Context, ours *bareProcess) error {
	n := s.n(100000)
	var mu sync.Mutex
	got := map[string]int{}
	all := target{ours.pid, clients(ours.client(false), false, 10), func(client *http.Client, _ int) error {
		resp, err := post(ctx, client, "https://"+ours.addr+"/score", scoringKey, chatRequest(false, "bench"))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		got[resp.Header.Get("azureml-model-deployment")]++
		return nil
	}}
	if err := all.do(0, n); err != nil {
		return err
	}
	most := 0
	for name, percent := range map[string]int{"a": 70, "b": 20, "c": 9, "d": 1} {
		most = max(most, got[name]-n*percent/100, n*percent/100-got[name])
	}
	s.add(figure{fmt.Sprintf("router, split 70/20/9/1 of %d requests", n), fmt.Sprintf("%d/%d/%d/%d", got["a"], got["b"], got["c"], got["d"]),
		"exact", 0, "off by < 1", most < 1})
	return nil
}
