package router_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/machinelearningservices/router"
)

// starter notes who asked for a start, and does what the test says.
type starter struct {
	mu    sync.Mutex // guards what follows
	asked int
	ended int  // ctx of one who asked
	awake bool // it was not scaled to zero
	do    func(ctx context.Context) error
}

func (s *starter) Start(ctx context.Context, _ string) (zero bool, err error) {
	s.mu.Lock()
	s.asked++
	do, zero := s.do, !s.awake
	s.mu.Unlock()
	err = do(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		s.ended++
	}
	return zero, err
}

func (s *starter) count() (asked, ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.ended
}

// untilGone is a start that does not come to an end.
func untilGone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// sleeping is a world whose deployment blue may go to zero, and is there.
func sleeping(t *testing.T, do func(ctx context.Context) error) (*world, *starter) {
	s := &starter{do: do}
	w := newWorld(t, func(c *router.Config) { c.Starter = s })
	w.change(func(ep *router.Endpoint) {
		d := ep.Deployments["blue"]
		d.ToZero, d.MaxConcurrent, d.Instances, d.QueueWait, d.Timeout = true, 1, 2, 20*time.Millisecond, 5*time.Second
	})
	return w, s
}

func TestZero_RequestsWaitForTheStart(t *testing.T) {
	w, s := sleeping(t, untilGone)
	i, _ := w.runs("a", says("ok"))
	all := make(chan answer)
	for range 3 {
		go func() { all <- w.score("{}") }()
	}
	eventually(t, "three wait", func() bool { asked, _ := s.count(); return asked == 3 && w.router.Pending("uid-blue") == 3 })
	w.fleetOf("blue", i)
	for range 3 {
		w.wants("waited, longer than the queue's time, for the start", <-all, 200, "ok")
	}
	eventually(t, "nobody waits for the start any more", func() bool { _, ended := s.count(); return ended == 3 })
	before := w.router.Served("uid-blue")
	w.wants("with an instance", w.score("{}"), 200, "ok")
	if asked, _ := s.count(); asked != 3 || before == 0 || w.router.Served("uid-blue") == before {
		t.Errorf("asked for %d starts; served %d, %d", asked, before, w.router.Served("uid-blue"))
	}
	i.Draining = true // as it goes to zero again
	w.fleetOf("blue", i)
	again, _ := w.runs("b", says("again"))
	go func() { all <- w.score("{}") }()
	eventually(t, "it is started again", func() bool { asked, _ := s.count(); return asked == 4 })
	w.fleetOf("blue", again)
	w.wants("after it went away", <-all, 200, "again")
}

// A request that waits for a busy instance, as that goes away, has another one
// started.
func TestZero_InLineAsItGoes(t *testing.T) {
	w, s := sleeping(t, untilGone)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].QueueWait = 500 * time.Millisecond })
	held, free := make(chan struct{}), make(chan struct{})
	i, _ := w.runs("a", func(rw http.ResponseWriter, _ *http.Request) {
		close(held)
		<-free
		_, _ = io.WriteString(rw, "first")
	})
	w.fleetOf("blue", i)
	first, second := make(chan answer), make(chan answer)
	go func() { first <- w.score("{}") }()
	<-held
	go func() { second <- w.score("{}") }()
	eventually(t, "two are pending", func() bool { return w.router.Pending("uid-blue") == 2 })
	i.Draining = true
	w.fleetOf("blue", i)
	close(free)
	w.wants("what it had begun", <-first, 200, "first")
	eventually(t, "another is started", func() bool { asked, _ := s.count(); return asked == 1 })
	next, _ := w.runs("b", says("next"))
	w.fleetOf("blue", next)
	w.wants("who was in line", <-second, 200, "next")
}

func TestZero_Refusals(t *testing.T) {
	failure := errors.New("10.1.2.3: connection refused")
	w, s := sleeping(t, func(context.Context) error { return failure })
	set := func(do func(context.Context) error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.do = do
	}
	got := w.score("{}")
	w.wants("a start that fails for reasons of ours", got, 424, "model_not_ready: The deployment 'blue' was scaled to zero, and could not be started: what it runs on does not answer.")
	set(func(context.Context) error {
		return apierr.New(apierr.Conflict, "ResourceNotReady", "init() raised ValueError.")
	})
	got = w.score("{}")
	w.wants("a start that fails", got, 424, "could not be started: init() raised ValueError.")
	if got.header.Get("Ms-Azureml-Model-Error-Reason") != "model_not_ready" {
		t.Errorf("got %v", got.header)
	}
	set(untilGone)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Timeout = 50 * time.Millisecond })
	got = w.score("{}")
	w.wants("a start that takes too long", got, 408, "is being started")
	if got.header.Get("Retry-After") == "" || got.header.Get("Ms-Azureml-Model-Error-Reason") != "model_timeout" {
		t.Errorf("got %v", got.header)
	}
	// What did not go to zero is not said to have.
	notYet := func(ctx context.Context) error {
		<-ctx.Done()
		return errors.Join(ctx.Err(), apierr.New(apierr.Conflict, "OperationNotAllowed", "The node agent does not run."))
	}
	set(notYet)
	w.wants("a start that is still kept from beginning", w.score("{}"), 408, "since it was scaled to zero, and did not answer within the 50 ms that its request_timeout_ms gives it. The node agent does not run. Try again")
	s.mu.Lock()
	s.awake = true
	s.mu.Unlock()
	got = w.score("{}")
	w.wants("one that is not back after a restart", got, 408, "model_timeout: The deployment 'blue' has no instance that is ready yet, and did not get one within the 50 ms of its request_timeout_ms. The node agent does not run. Try again")
	if got.header.Get("Retry-After") == "" || strings.Contains(got.body, "zero") {
		t.Errorf("got %v %s", got.header, got.body)
	}
	set(func(context.Context) error {
		return apierr.New(apierr.Conflict, "ResourceNotReady", "init() raised ValueError.")
	})
	got = w.score("{}")
	if w.wants("one whose instances fail", got, 424, "has no instance that is ready, and could not be started: init() raised ValueError."); strings.Contains(got.body, "zero") {
		t.Errorf("got %s", got.body)
	}
	set(untilGone)
	// As many may wait as for any queue: two for each instance that there may be.
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Timeout = 10 * time.Second })
	before, _ := s.count()
	all := make(chan answer)
	for range 4 {
		go func() { all <- w.score("{}") }()
	}
	eventually(t, "four wait", func() bool { n, _ := s.count(); return n == before+4 })
	w.wants("one more", w.score("{}"), 429, "too_many_pending_request")
	i, _ := w.runs("a", says("ok"))
	w.fleetOf("blue", i)
	for range 4 {
		w.wants("one of those who may wait", <-all, 200, "ok")
	}
	// One instance that stays busy is what a queue is.
	held := make(chan struct{})
	slow, _ := w.runs("slow", func(rw http.ResponseWriter, _ *http.Request) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			_, _ = io.WriteString(rw, ".")
			_ = http.NewResponseController(rw).Flush()
			select {
			case <-tick.C:
			case <-held:
				return
			}
		}
	})
	w.fleetOf("blue")
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Timeout = 2 * time.Second })
	before, _ = s.count()
	for range 2 {
		go func() { all <- w.score("{}") }()
	}
	eventually(t, "two wait", func() bool { n, _ := s.count(); return n == before+2 })
	w.fleetOf("blue", slow)
	first := <-all
	close(held)
	w.wants("who found it busy", first, 429, "too_many_pending_request: The deployment 'blue' has more requests than it can handle: it was started, and")
	w.wants("who had it", <-all, 200, ".")
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].ToZero = false })
	w.fleetOf("blue")
	before, _ = s.count()
	w.wants("one that may not go to zero", w.score("{}"), 424, "has no instance that is ready")
	if n, _ := s.count(); n != before {
		t.Error("it was started")
	}
}

// Copies of other deployments' requests start nothing, and keep nothing awake.
func TestZero_CopiesWakeNobody(t *testing.T) {
	w, s := sleeping(t, untilGone)
	green, _ := w.runs("g", says("green"))
	w.fleetOf("green", green)
	w.change(func(ep *router.Endpoint) {
		ep.Traffic, ep.Mirror = map[string]int{"green": 100}, map[string]int{"blue": 100}
	})
	w.wants("the request itself", w.score("{}"), 200, "green")
	eventually(t, "the copy is dropped", func() bool {
		return w.metric("laz_scoring_mirrored_total", "deployment=blue", "result=dropped") == 1
	})
	blue, _ := w.runs("b", says("blue"))
	served := w.router.Served("uid-blue")
	w.fleetOf("blue", blue)
	w.wants("the request itself", w.score("{}"), 200, "green")
	eventually(t, "the copy is answered", func() bool {
		return w.metric("laz_scoring_mirrored_total", "deployment=blue", "result=answered") == 1
	})
	if asked, _ := s.count(); asked != 0 || w.router.Served("uid-blue") != served || w.router.Pending("uid-blue") != 0 {
		t.Errorf("%d starts; served %d, %d", asked, served, w.router.Served("uid-blue"))
	}
}

// A pool that was not used for long is not dropped under a request whose body is
// still coming, which would hear of no instance then.
func TestZero_SlowUploadKeepsItsPool(t *testing.T) {
	w, s := sleeping(t, untilGone)
	in, out := io.Pipe()
	slow := w.request("POST", "/score", "")
	slow.Body, slow.ContentLength = in, 4
	ended := make(chan answer, 1)
	go func() { ended <- do(w.http1(), slow) }()
	_, _ = io.WriteString(out, "12")
	eventually(t, "the request is there", func() bool { return w.router.Pools() == 1 })
	w.router.Tidy(time.Now().Add(time.Hour))
	if w.router.Pools() != 1 {
		t.Error("the pool of a request was dropped")
	}
	_, _ = io.WriteString(out, "34")
	_ = out.Close()
	eventually(t, "it waits for a start", func() bool { asked, _ := s.count(); return asked == 1 && w.router.Pending("uid-blue") == 1 })
	i, _ := w.runs("a", says("ok"))
	w.fleetOf("blue", i)
	w.wants("the slow one", <-ended, 200, "ok")
	eventually(t, "the pool is dropped", func() bool { w.router.Tidy(time.Now().Add(time.Hour)); return w.router.Pools() == 0 })
	w.wants("another, with a pool of its own", w.score("{}"), 200, "ok")
}
