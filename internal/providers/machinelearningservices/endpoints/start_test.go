package endpoints_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/providers/machinelearningservices/endpoints"
)

// demand is what a router knows of requests; the test sets it, and asks.
type demand struct {
	mu      sync.Mutex // guards what follows
	pending int
	served  uint64
	late    func() // called when the last look at what is pending is done
}

func (d *demand) Pending(string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pending
}

func (d *demand) Served(string) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.late != nil {
		d.late()
	}
	return d.served
}

func (d *demand) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// sleeper is a deployment that goes to zero, looked at every other second.
func (w *world) sleeper() (path, uid string) {
	w.t.Helper()
	w.workspace()
	path = w.endpoint("end1", "") + "/deployments/blue"
	got := w.Settle(w.Want(http.StatusCreated, "PUT", path+v, w.deploymentBody(func(_, p map[string]any) {
		p["requestSettings"] = map[string]any{"maxConcurrentRequestsPerInstance": 2}
		p["scaleSettings"] = map[string]any{"scaleType": "TargetUtilization", "minInstances": 0, "maxInstances": 3, "pollingInterval": "PT2S"}
	})))
	if got != "Succeeded" {
		w.t.Fatalf("the deployment is %s", got)
	}
	return path, w.run.all()[0].UID
}

// has is how many instances the deployment should have.
func (w *world) has(uid string) int {
	n, _, _ := w.run.Scaled(w.t.Context(), uid)
	return n
}

func TestScaleToZero_AfterIdleTimeAlone(t *testing.T) {
	w := start(t)
	path, uid := w.sleeper()
	d := &demand{served: 7}
	look := w.svc.Looks(d, w.run)
	step := func(after time.Duration, want int, what string) {
		t.Helper()
		w.later(after)
		if look(t.Context()); w.has(uid) != want {
			t.Errorf("%s: %d instances, want %d", what, w.has(uid), want)
		}
	}
	step(0, 1, "at first")
	step(119*time.Second, 1, "before sixty polling intervals")
	d.set(func() { d.served++ })
	step(2*time.Second, 1, "a request that came and went between two looks")
	step(119*time.Second, 1, "before sixty polling intervals since")
	d.set(func() { d.pending = 1 })
	step(2*time.Second, 1, "a request in progress")
	step(10*time.Minute, 1, "a request that takes long")
	d.set(func() { d.pending = 0 })
	step(119*time.Second, 1, "before sixty polling intervals after it")
	d.set(func() { d.served = 0 })
	step(2*time.Second, 0, "idle, and forgotten by the router")
	step(time.Hour, 0, "still idle")
	got := w.Want(http.StatusOK, "GET", path+v, "")
	if got.Text("properties", "provisioningState") != "Succeeded" || got.At("properties", "currentInstances") != 0.0 || got.At("properties", "scaledToZero") != true {
		t.Errorf("got %s", got.Raw)
	}
	log := w.Want(http.StatusOK, "POST", path+"/getLogs"+v, `{"containerType":"InferenceServer","tail":10}`)
	if !strings.HasPrefix(log.Text("content"), "The deployment is scaled to zero") {
		t.Errorf("got %s", log.Raw)
	}
	// Another server knows of it what is stored, and leaves it so.
	again := w.svc.Looks(d, w.run)
	if again(t.Context()); w.has(uid) != 0 {
		t.Error("a restart started it")
	}
	// The load alone starts it too, where nobody waits for a start.
	d.set(func() { d.pending = 1 })
	step(2*time.Second, 1, "with load")
	got = w.Want(http.StatusOK, "GET", path+v, "")
	if got.At("properties", "currentInstances") != 1.0 || got.At("properties", "scaledToZero") != nil {
		t.Errorf("got %s", got.Raw)
	}
	if log := w.Want(http.StatusOK, "POST", path+"/getLogs"+v, `{}`); strings.Contains(log.Text("content"), "zero") {
		t.Errorf("got %s", log.Raw)
	}
}

func TestScaleToZero_NotWithALeastOfOne(t *testing.T) {
	w := start(t)
	path, uid := w.sleeper()
	w.Settle(w.Want(http.StatusOK, "PATCH", path+v, `{"properties":{"scaleSettings":{"minInstances":1}}}`))
	look := w.svc.Looks(&demand{}, w.run)
	for range 3 {
		w.later(time.Hour)
		look(t.Context())
	}
	if w.has(uid) != 1 {
		t.Errorf("%d instances", w.has(uid))
	}
	if e, err := w.svc.Find(t.Context(), "end1.westus2.inference.ml.azure.com"); err != nil || e.Deployments["blue"].ToZero {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestScaleToZero_NotWhereSomebodyAsksInTheLastMoment(t *testing.T) {
	w := start(t)
	_, uid := w.sleeper()
	if e, err := w.svc.Find(t.Context(), "end1.westus2.inference.ml.azure.com"); err != nil || !e.Deployments["blue"].ToZero {
		t.Fatalf("got %+v, %v", e, err)
	}
	d := &demand{served: 1}
	look := w.svc.Looks(d, w.run)
	look(t.Context())
	w.later(time.Hour)
	looks := 0
	d.late = func() {
		if looks++; looks == 2 { // after it was decided
			d.pending = 1
		}
	}
	if look(t.Context()); w.has(uid) != 1 {
		t.Errorf("%d instances", w.has(uid))
	}
	d.set(func() { d.late, d.pending = nil, 0 })
	w.later(119 * time.Second)
	if look(t.Context()); w.has(uid) != 1 {
		t.Error("the idle time did not begin anew")
	}
	w.later(2 * time.Second)
	if look(t.Context()); w.has(uid) != 0 {
		t.Error("it is not at zero after the idle time")
	}
}

func TestStart_OnceForAll(t *testing.T) {
	w := start(t)
	_, uid := w.sleeper()
	look := w.svc.Looks(&demand{}, w.run)
	look(t.Context())
	w.later(time.Hour)
	if look(t.Context()); w.has(uid) != 0 {
		t.Fatal("it is not at zero")
	}
	hold := make(chan struct{})
	w.run.set(func(r *runner) { r.hold = hold })
	all := make(chan error)
	for range 8 {
		go func() {
			zero, err := w.svc.Start(t.Context(), strings.ToUpper(uid))
			if err == nil && !zero {
				err = errors.New("it is said not to have been at zero")
			}
			all <- err
		}()
	}
	gone, leave := context.WithCancelCause(t.Context())
	left := errors.New("left")
	leave(left)
	if _, err := w.svc.Start(gone, uid); !errors.Is(err, left) {
		t.Errorf("who left: %v", err)
	}
	w.Eventually(func() error {
		if w.has(uid) != 1 {
			return errors.New("it is not being started")
		}
		return nil
	})
	w.later(time.Hour)
	if look(t.Context()); w.has(uid) != 1 {
		t.Error("it went to zero while it was started")
	}
	close(hold)
	for range 8 {
		if err := <-all; err != nil {
			t.Error(err)
		}
	}
	w.run.set(func(r *runner) {
		if r.starts != 1 {
			t.Errorf("it was started %d times", r.starts)
		}
		r.failStart = []error{&compute.Failure{Code: compute.CodeNotReady, Message: "init() raised."}}
	})
	zero, err := w.svc.Start(t.Context(), uid)
	if !apierr.Is(err, apierr.Conflict) || apierr.From(err).Message != "init() raised." || zero {
		t.Errorf("a start that fails of what is not at zero: %v, %v", zero, err)
	}
}

// After a restart clusters are back later than the front door: who asks waits.
func TestStart_WaitsForWhatIsNotBackYet(t *testing.T) {
	w := start(t)
	_, uid := w.sleeper()
	look := w.svc.Looks(&demand{}, w.run)
	look(t.Context())
	w.later(time.Hour)
	if look(t.Context()); w.has(uid) != 0 {
		t.Fatal("it is not at zero")
	}
	w.run.set(func(r *runner) {
		r.gone = errors.New("the node agent does not run")
		r.failStart = []error{errors.New("no such cluster"), errors.New("connection refused")}
	})
	done := make(chan error, 1)
	go func() {
		zero, err := w.svc.Start(t.Context(), uid)
		if !zero {
			err = errors.Join(err, errors.New("it is said not to have been at zero"))
		}
		done <- err
	}()
	// Who leaves meanwhile hears what it waited for.
	w.Eventually(func() error {
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := w.svc.Start(gone, uid); !apierr.Is(err, apierr.Conflict) || !strings.Contains(err.Error(), "the node agent does not run") {
			return err
		}
		return nil
	})
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	w.run.set(func(r *runner) { r.gone = nil })
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.run.set(func(r *runner) {
		if r.starts != 3 {
			t.Errorf("it was tried %d times", r.starts)
		}
	})
}

func TestStart_EndsWithTheServer(t *testing.T) {
	w := start(t)
	_, uid := w.sleeper()
	w.run.set(func(r *runner) { r.gone = errors.New("no clusters") })
	done := make(chan error, 1)
	go func() {
		_, err := w.svc.Start(t.Context(), uid)
		done <- err
	}()
	w.Eventually(func() error {
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := w.svc.Start(gone, uid); !apierr.Is(err, apierr.Conflict) {
			return errors.New("nothing was tried yet")
		}
		return nil
	})
	w.svc.Close()
	if err := <-done; err == nil {
		t.Error("it was started")
	}
	if _, err := w.svc.Start(t.Context(), uid); !errors.Is(err, endpoints.ErrClosed) {
		t.Errorf("a start after the end: %v", err)
	}
}

func TestScaleToZero_AnUpdateIsVerified(t *testing.T) {
	w := start(t)
	path, uid := w.sleeper()
	look := w.svc.Looks(&demand{}, w.run)
	idle := func() {
		look(t.Context())
		w.later(time.Hour)
		look(t.Context())
	}
	if idle(); w.has(uid) != 0 {
		t.Fatal("it is not at zero")
	}
	w.Settle(w.Want(http.StatusOK, "PATCH", path+v, `{"properties":{"environmentVariables":{"A":"b"}}}`))
	if w.has(uid) != 1 {
		t.Errorf("after the update %d instances", w.has(uid))
	}
	if idle(); w.has(uid) != 0 {
		t.Error("it did not go to zero again")
	}
	w.run.set(func(r *runner) { r.fail = &compute.Failure{Code: compute.CodeNotReady, Message: "init() raised."} })
	if got := w.Settle(w.Want(http.StatusOK, "PATCH", path+v, `{"properties":{"environmentVariables":{"A":"c"}}}`)); got != "Failed" {
		t.Errorf("an update that does not run is %s", got)
	}
	// Where nothing can run it is refused, as every deployment is.
	w.run.set(func(r *runner) { r.gone = errors.New("no clusters") })
	w.WantError(http.StatusConflict, "OperationNotAllowed", "PATCH", path+v, `{"properties":{"environmentVariables":{"A":"d"}}}`)
}

// An update takes no instance away that the load asks for, and the load is
// followed until the rollout itself.
func TestAutoscale_InAnUpdate(t *testing.T) {
	w := start(t)
	path, uid := w.sleeper() // at most three, two requests at once, 70 percent
	d := &demand{pending: 2}
	look := w.svc.Looks(d, w.run)
	if look(t.Context()); w.has(uid) != 2 {
		t.Fatalf("%d instances", w.has(uid))
	}
	w.Settle(w.Want(http.StatusOK, "PATCH", path+v, `{"properties":{"environmentVariables":{"A":"b"}}}`))
	if w.has(uid) != 2 {
		t.Errorf("after an update %d instances", w.has(uid))
	}
	hold := make(chan struct{})
	w.run.set(func(r *runner) { r.hold = hold })
	op := w.Want(http.StatusOK, "PATCH", path+v, `{"properties":{"environmentVariables":{"A":"c"}}}`)
	d.set(func() { d.pending = 4 })
	w.Eventually(func() error {
		w.later(2 * time.Second)
		if look(t.Context()); w.has(uid) != 3 {
			return errors.New("the load is not followed")
		}
		return nil
	})
	d.set(func() { d.pending = 0 })
	for range 4 {
		w.later(time.Hour)
		if look(t.Context()); w.has(uid) == 0 {
			t.Error("it went to zero in the middle of an update")
		}
	}
	close(hold)
	w.Settle(op)
}

// What runs is scaled by its own settings until those of the update are rolled out.
func TestAutoscale_InAnUpdateOfItsSettings(t *testing.T) {
	w := start(t)
	path, uid := w.sleeper() // at most three, two requests at once, 70 percent
	d := &demand{pending: 4}
	looks := map[string]func(context.Context){"the server": w.svc.Looks(d, w.run)}
	if looks["the server"](t.Context()); w.has(uid) != 3 {
		t.Fatalf("%d instances", w.has(uid))
	}
	hold := make(chan struct{})
	w.run.set(func(r *runner) { r.hold = hold })
	op := w.Want(http.StatusOK, "PATCH", path+v, `{"properties":{"requestSettings":{"maxConcurrentRequestsPerInstance":50},"scaleSettings":{"maxInstances":2}}}`)
	looks["one that has started since"] = w.svc.Looks(d, w.run)
	for who, look := range looks {
		for range 3 {
			w.later(2 * time.Minute)
			if look(t.Context()); w.has(uid) != 3 {
				t.Errorf("%s has scaled it to %d instances", who, w.has(uid))
			}
		}
	}
	close(hold)
	w.Settle(op)
	if w.has(uid) != 2 {
		t.Errorf("after the update %d instances", w.has(uid))
	}
	for who, look := range looks {
		w.run.set(func(r *runner) {
			one := r.running[uid]
			one.Instances = 2
			r.running[uid] = one
		})
		for range 2 {
			w.later(2 * time.Minute)
			look(t.Context())
		}
		if w.has(uid) != 1 {
			t.Errorf("%s has left it at %d instances", who, w.has(uid))
		}
	}
}

// While something goes on, the log says what.
func TestLogs_SayWhatGoesOn(t *testing.T) {
	w := start(t)
	path, uid := w.sleeper()
	log := func() string {
		t.Helper()
		return w.Want(http.StatusOK, "POST", path+"/getLogs"+v, `{}`).Text("content")
	}
	hold := make(chan struct{})
	w.run.set(func(r *runner) { r.hold, r.failStart = hold, []error{errors.New("10.1.2.3: connection refused")} })
	done := make(chan error, 1)
	go func() {
		_, err := w.svc.Start(t.Context(), uid)
		done <- err
	}()
	w.Eventually(func() error {
		if text := log(); !strings.HasPrefix(text, "The deployment is being started") {
			return errors.New(text)
		}
		return nil
	})
	next := make(chan struct{})
	w.run.set(func(r *runner) { r.hold = next })
	close(hold)
	w.Eventually(func() error {
		if text := log(); !strings.Contains(text, "tried again: what it runs on does not answer.\n") || strings.Contains(text, "10.1") {
			return errors.New(text)
		}
		return nil
	})
	close(next)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text := log(); text != "inference-server 5000\n" {
		t.Errorf("afterwards: %q", text)
	}
	hold = make(chan struct{})
	w.run.set(func(r *runner) { r.hold, r.silent = hold, true })
	op := w.Want(http.StatusOK, "PATCH", path+v, `{"properties":{"environmentVariables":{"A":"c"}}}`)
	if text := log(); !strings.HasPrefix(text, "The deployment has no instance yet: it is Updating") {
		t.Errorf("in a rollout: %q", text)
	}
	close(hold)
	w.Settle(op)
}
