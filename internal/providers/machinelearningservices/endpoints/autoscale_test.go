package endpoints_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/compute"
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

func (g *gauge) Scale(_ context.Context, _ string, _, n int) error {
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
	if err := g.Scale(t.Context(), "", 1, 4); err != nil {
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

// A deployment that can't be scaled now, since it is rolled out maybe, keeps no
// other from it, and is looked at anew when it can.
func TestAutoscale_OneHoldsNoOther(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", "")
	for _, name := range []string{"blue", "green"} {
		w.Settle(w.Want(http.StatusCreated, "PUT", path+"/deployments/"+name+v, w.deploymentBody(func(_, p map[string]any) {
			p["scaleSettings"] = map[string]any{"scaleType": "TargetUtilization", "minInstances": 1, "maxInstances": 4, "targetUtilizationPercentage": 100}
		})))
	}
	uid := map[string]string{}
	for _, d := range w.run.all() {
		uid[d.Name] = d.UID
	}
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	w.run.set(func(r *runner) {
		r.onScale = func(_ context.Context, one string) {
			if one == uid["blue"] {
				held <- struct{}{}
				<-hold
			}
		}
	})
	d := &demand{pending: 2}
	look, wait := w.svc.Glances(d, w.run, slog.New(slog.DiscardHandler))
	look(t.Context())
	<-held
	w.Eventually(func() error {
		if n := w.has(uid["green"]); n != 2 {
			return fmt.Errorf("the other has %d instances", n)
		}
		return nil
	})
	d.set(func() { d.pending = 4 })
	w.later(2 * time.Second)
	w.Eventually(func() error {
		look(t.Context())
		if n := w.has(uid["green"]); n != 4 {
			w.later(2 * time.Second)
			return fmt.Errorf("the other has %d instances", n)
		}
		return nil
	})
	// Meanwhile it was changed: what was decided before counts no longer.
	w.run.set(func(r *runner) {
		one := r.running[uid["blue"]]
		one.Instances = 3
		r.running[one.UID], r.onScale = one, nil
	})
	close(hold)
	wait()
	if n := w.has(uid["blue"]); n != 3 {
		t.Errorf("it has %d instances", n)
	}
	w.later(2 * time.Second)
	look(t.Context())
	if wait(); w.has(uid["blue"]) != 4 {
		t.Errorf("afterwards it has %d instances", w.has(uid["blue"]))
	}
}

func TestAutoscale_PausesWhereItFails(t *testing.T) {
	w := start(t)
	_, uid := w.sleeper() // looked at every other second
	var said bytes.Buffer
	look, wait := w.svc.Glances(&demand{}, w.run, slog.New(slog.NewTextHandler(&said, nil)))
	step := func(after time.Duration) (tries int) {
		w.later(after)
		w.run.set(func(r *runner) { r.tried = 0 })
		look(t.Context())
		wait()
		w.run.set(func(r *runner) { tries = r.tried })
		return tries
	}
	step(0)
	w.run.set(func(r *runner) { r.failScale = errors.New("the API server is away") })
	if step(time.Hour) != 1 {
		t.Fatal("it was not to go to zero")
	}
	tries := 0
	for range 60 {
		tries += step(2 * time.Second)
	}
	if tries < 4 || tries > 8 { // after 2, 4, 8, 16 and then each 30 seconds
		t.Errorf("%d tries in two minutes", tries)
	}
	if n := strings.Count(said.String(), "was not scaled"); n != 1 {
		t.Errorf("it was said %d times: %s", n, said.String())
	}
	w.run.set(func(r *runner) { r.failScale = errors.New("no room") })
	step(time.Minute)
	w.run.set(func(r *runner) { r.failScale = compute.ErrBusy })
	step(time.Minute) // is no failure, and has nobody pause
	if step(2*time.Second) != 1 {
		t.Error("it paused where somebody else had changed it")
	}
	w.run.set(func(r *runner) { r.failScale = nil })
	if step(2 * time.Second); w.has(uid) != 0 {
		t.Errorf("it has %d instances", w.has(uid))
	}
	if text := said.String(); strings.Count(text, "was not scaled") != 2 || strings.Count(text, "is scaled again") != 1 {
		t.Errorf("it was said: %s", text)
	}
}
