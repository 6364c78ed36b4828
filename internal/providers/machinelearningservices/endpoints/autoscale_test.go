package endpoints_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"
)

// gauge is a load that a test sets, and the numbers that were asked for.
type gauge struct {
	mu      sync.Mutex // guards what follows
	pending int
	scaled  []int
	fail    error
}

func (g *gauge) Pending(string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pending
}

func (g *gauge) Served(string) uint64 { return 0 }

func (g *gauge) Scaled(context.Context, string) (int, bool, error) {
	n := g.last()
	return n, n > 0, nil
}

func (g *gauge) Scale(_ context.Context, _ string, n int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail != nil {
		return g.fail
	}
	g.scaled = append(g.scaled, n)
	return nil
}

func (g *gauge) set(pending int, fail error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending, g.fail = pending, fail
}

func (g *gauge) last() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.scaled) == 0 {
		return 0
	}
	return g.scaled[len(g.scaled)-1]
}

func TestAutoscale_FollowsTheLoad(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", "") + "/deployments/blue"
	w.Settle(w.Want(http.StatusCreated, "PUT", path+v, w.deploymentBody(func(_, p map[string]any) {
		p["requestSettings"] = map[string]any{"maxConcurrentRequestsPerInstance": 2}
		p["scaleSettings"] = map[string]any{"scaleType": "targetUtilization", "minInstances": 1, "maxInstances": 4, "targetUtilizationPercentage": 50}
	})))
	g := &gauge{}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.svc.Autoscale(ctx, g, g, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	await := func(n int) {
		t.Helper()
		w.Eventually(func() error {
			if g.last() != n {
				return errors.New("it is not scaled so yet")
			}
			return nil
		})
	}
	g.set(3, errors.New("not now")) // tried again
	g.set(3, nil)
	await(3)
	g.set(100, nil)
	await(4) // the most
	g.set(0, nil)
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(500 * time.Millisecond); g.last() != 1; <-tick.C {
		w.later(40 * time.Second) // calm passes
		if time.Now().After(deadline) {
			t.Fatalf("it has %d instances", g.last())
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// After a restart there are as many as there were, and too many.
	if err := g.Scale(t.Context(), "", 4); err != nil {
		t.Fatal(err)
	}
	ctx, stop = context.WithCancel(t.Context())
	go func() { done <- w.svc.Autoscale(ctx, g, g, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	deadline = time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(500 * time.Millisecond); g.last() != 1; <-tick.C {
		w.later(40 * time.Second)
		if time.Now().After(deadline) {
			t.Fatalf("after a restart it has %d instances", g.last())
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	e, err := w.svc.Find(t.Context(), "end1.westus2.inference.ml.azure.com")
	if err != nil || e.Deployments["blue"].Instances != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
}
