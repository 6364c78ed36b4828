package router_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/providers/machinelearningservices/router"
)

func TestLimits(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) {
		d := ep.Deployments["blue"]
		d.MaxConcurrent, d.Instances, d.QueueWait = 1, 2, 5*time.Second
	})
	var busy, most atomic.Int64
	free := make(chan struct{})
	hang := func(rw http.ResponseWriter, _ *http.Request) {
		n := busy.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-free
		busy.Add(-1)
	}
	a, _ := w.runs("a", hang)
	b, _ := w.runs("b", hang)
	w.fleetOf("blue", a, b)
	answers := make(chan answer, 8)
	for range 4 {
		go func() { answers <- w.score("{}") }()
	}
	eventually(t, "two are busy", func() bool { return busy.Load() == 2 })
	eventually(t, "a fifth is refused", func() bool { return w.score("{}", "Azureml-Model-Deployment", "blue").status == 429 })
	got := w.score("{}")
	w.wants("more than twice what the deployment takes", got, 429, "too_many_pending_request")
	if got.header.Get("ms-azureml-model-error-reason") != "too_many_pending_request" || got.header.Get("Retry-After") == "" || got.header.Get("azureml-model-deployment") != "blue" {
		t.Errorf("the header of a 429: %v", got.header)
	}
	close(free)
	for range 4 {
		w.wants("those before it", <-answers, 200, "")
	}
	if most.Load() != 2 {
		t.Errorf("%d requests were with instances at once, want 2", most.Load())
	}
	if len(w.records) != 1 || !strings.Contains(w.records[0].Hops[len(w.records[0].Hops)-1].Fix, "instance_count=4") {
		t.Errorf("one refusal in a minute is kept: %+v", w.records)
	}
}

func TestQueueWait(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) {
		ep.Deployments["blue"].MaxConcurrent, ep.Deployments["blue"].QueueWait = 1, 50*time.Millisecond
	})
	began, free := make(chan struct{}, 1), make(chan struct{})
	a, _ := w.runs("a", func(http.ResponseWriter, *http.Request) {
		began <- struct{}{}
		<-free
	})
	w.fleetOf("blue", a)
	first := make(chan answer, 1)
	go func() { first <- w.score("{}") }()
	<-began
	at := time.Now()
	w.wants("what waits too long", w.score("{}"), 429, "max_queue_wait_ms")
	if d := time.Since(at); d < 40*time.Millisecond || d > time.Second {
		t.Errorf("it waited %s, want 50 ms", d)
	}
	close(free)
	w.wants("the first", <-first, 200, "")
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].QueueWait = 5 * time.Second })
	w.fleetOf("blue")
	late := make(chan answer, 1)
	go func() { late <- w.score("{}") }()
	eventually(t, "it waits", func() bool { return w.router.Waiting("uid-blue") == 1 })
	b, _ := w.runs("b", says("b"))
	w.fleetOf("blue", b)
	w.wants("what waited for an instance to come", <-late, 200, "b")
}

func TestNoInstances(t *testing.T) {
	w := newWorld(t)
	got := w.score("{}")
	w.wants("a deployment without instances", got, 424, "model_not_ready")
	if got.header.Get("ms-azureml-model-error-reason") != "model_not_ready" {
		t.Errorf("its header: %v", got.header)
	}
	a, _ := w.runs("a", says("a"))
	a.Ready = false
	w.fleetOf("blue", a)
	w.wants("an instance that is not ready", w.score("{}"), 424, "model_not_ready")
	a.Ready, a.Draining = true, true
	w.fleetOf("blue", a)
	w.wants("an instance that ends", w.score("{}"), 424, "model_not_ready")
}

func TestTimeout(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Timeout = 50 * time.Millisecond })
	gone := make(chan struct{})
	a, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http sees a client leave only then
		if r.URL.Path == "/half" {
			rw.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(rw, "half")
			_ = http.NewResponseController(rw).Flush()
		}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	w.fleetOf("blue", a)
	for _, path := range []string{"/score", "/half"} {
		got := do(w.client, w.request("POST", path, "{}"))
		w.wants("an instance that takes too long", got, 408, "request_timeout_ms")
		if got.header.Get("ms-azureml-model-error-reason") != "model_timeout" {
			t.Errorf("its header: %v", got.header)
		}
		<-gone // the instance learns it
	}
}

// TestClientGoes: who goes away takes the request with it, and the instance is
// free again.
func TestClientGoes(t *testing.T) {
	for _, where := range []string{"before", "within"} {
		w := newWorld(t)
		began, gone := make(chan struct{}, 1), make(chan struct{})
		a, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if where == "within" {
				_, _ = io.WriteString(rw, "data: 1\n\n")
				_ = http.NewResponseController(rw).Flush()
			}
			began <- struct{}{}
			<-r.Context().Done()
			close(gone)
		})
		w.fleetOf("blue", a)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan answer, 1)
		go func() { ended <- do(w.http1(), w.request("POST", "/score", "{}").WithContext(ctx)) }()
		<-began
		cancel()
		<-gone
		if (<-ended).err == nil {
			t.Error("the client got an answer")
		}
		eventually(t, "the request was counted", func() bool { return w.metric("laz_scoring_requests_total", "deployment=blue") == 1 })
	}
}

// TestStreams: both ways at once, piece by piece.
func TestStreams(t *testing.T) {
	w := newWorld(t)
	a, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(rw)
		_ = rc.EnableFullDuplex()
		rw.Header().Set("Trailer", "X-Sum")
		_ = rc.Flush()
		n := 0
		for lines := bufio.NewScanner(r.Body); lines.Scan(); n++ {
			_, _ = fmt.Fprintf(rw, "echo %s\n", lines.Text())
			_ = rc.Flush()
		}
		rw.Header().Set("X-Sum", fmt.Sprint(n))
	})
	w.fleetOf("blue", a)
	for name, c := range map[string]*http.Client{"HTTP/2": w.client, "HTTP/1.1": w.http1()} {
		in, out := io.Pipe()
		r := w.request("POST", "/score", "")
		r.Body, r.ContentLength = in, -1
		go func() { _, _ = io.WriteString(out, "0\n") }()
		res, err := c.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lines := bufio.NewScanner(res.Body)
		for i := range 5 {
			if i > 0 {
				_, _ = fmt.Fprintf(out, "%d\n", i)
			}
			if !lines.Scan() || lines.Text() != fmt.Sprintf("echo %d", i) {
				t.Fatalf("%s, line %d: %q %v", name, i, lines.Text(), lines.Err())
			}
		}
		_ = out.Close()
		if lines.Scan() || lines.Err() != nil || res.Trailer.Get("X-Sum") != "5" {
			t.Errorf("%s, the end: %q %v, trailer %v", name, lines.Text(), lines.Err(), res.Trailer)
		}
		_ = res.Body.Close()
	}
}

// TestStream_Pauses: a client that takes what there is is not given up because
// nothing came for long.
func TestStream_Pauses(t *testing.T) {
	w := newWorld(t, func(c *router.Config) { c.Stall = 100 * time.Millisecond })
	goOn := make(chan struct{})
	a, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for _, piece := range []string{"one ", "two ", "three"} {
			_, _ = io.WriteString(rw, piece)
			_ = http.NewResponseController(rw).Flush()
			if piece != "three" {
				<-goOn
			}
		}
	})
	w.fleetOf("blue", a)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Timeout = 10 * time.Second })
	for name, c := range map[string]*http.Client{"HTTP/2": w.client, "HTTP/1.1": w.http1()} {
		res, err := c.Do(w.request("POST", "/score", "{}"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for range 2 {
			<-time.After(300 * time.Millisecond) // three times as long as a client may take nothing
			goOn <- struct{}{}
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(b) != "one two three" || err != nil {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// TestStream_CutShort: what an instance does not bring to its end is no whole
// answer for the caller either.
func TestStream_CutShort(t *testing.T) {
	w := newWorld(t)
	a, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/hangs" {
			_, _ = io.WriteString(rw, "begin")
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
			return
		}
		if r.URL.Path == "/short" {
			rw.Header().Set("Content-Length", "100")
		}
		_, _ = io.WriteString(rw, "begin")
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
	w.fleetOf("blue", a)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Timeout = 100 * time.Millisecond })
	for _, path := range []string{"/cut", "/hangs"} {
		if got := do(w.client, w.request("POST", path, "{}")); got.err == nil || got.body != "begin" {
			t.Errorf("%s: %d %q %v", path, got.status, got.body, got.err)
		}
	}
	got := do(w.client, w.request("POST", "/short", "{}"))
	w.wants("a short answer that is cut", got, 502, "model_gone")
	if got.header.Get("ms-azureml-model-error-reason") != "model_gone" {
		t.Errorf("its header: %v", got.header)
	}
}

// TestSlowClient: one who reads slowly holds no instance, and one who sends
// slowly takes none.
func TestSlowClient(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].MaxConcurrent = 1 })
	var busy atomic.Int64
	a, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		busy.Add(1)
		defer busy.Add(-1)
		if r.URL.Path == "/long" {
			_, _ = io.WriteString(rw, strings.Repeat("x", 1<<20))
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(rw, "ok")
	})
	w.fleetOf("blue", a)
	res, err := w.http1().Do(w.request("POST", "/long", "{}"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the instance is free while the client has not read", func() bool { return busy.Load() == 0 })
	w.wants("another", w.score("{}"), 200, "ok")
	b, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if len(b) != 1<<20 || err != nil {
		t.Errorf("the slow client got %d bytes: %v", len(b), err)
	}
	in, out := io.Pipe()
	slow := w.request("POST", "/score", "")
	slow.Body, slow.ContentLength = in, 10
	ended := make(chan answer, 1)
	go func() { ended <- do(w.http1(), slow) }()
	_, _ = io.WriteString(out, "12345")
	for range 5 {
		w.wants("another, meanwhile", w.score("{}"), 200, "ok")
	}
	if busy.Load() != 0 {
		t.Error("half a body holds the instance")
	}
	_, _ = io.WriteString(out, "67890")
	_ = out.Close()
	w.wants("the slow one in the end", <-ended, 200, "ok")
	in, out = io.Pipe()
	slow = w.request("POST", "/score", "")
	slow.Body, slow.ContentLength = in, 10
	go func() { ended <- do(w.http1(), slow) }()
	_, _ = io.WriteString(out, "12345")
	w.wants("one who stops", <-ended, 408, "did not come in time")
	_ = out.Close()
}

// TestRetry: where a connection can't be made, another instance has the request;
// where something was sent, it is not sent again.
func TestRetry(t *testing.T) {
	w := newWorld(t)
	var got atomic.Int64
	good, _ := w.runs("good", says("good"))
	dead := router.Instance{ID: "dead", Address: netip.MustParseAddrPort("127.0.0.1:1"), Ready: true}
	w.fleetOf("blue", dead, good)
	for range 20 {
		w.wants("one of two is dead", w.score("{}"), 200, "good")
	}
	w.fleetOf("blue", dead)
	w.wants("all are dead", w.score("{}"), 502, "could be connected to")
	abort, _ := w.runs("abort", func(_ http.ResponseWriter, r *http.Request) {
		got.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	w.fleetOf("blue", abort, good)
	statuses := map[int]int{}
	for range 20 {
		statuses[w.score("{}").status]++
	}
	if statuses[502] != int(got.Load()) || statuses[502]+statuses[200] != 20 || statuses[502] == 0 {
		t.Errorf("%v, and the aborting one got %d", statuses, got.Load())
	}
}

// load sends requests until told to stop, and counts what was answered.
type load struct {
	mu       sync.Mutex
	statuses map[int]int
	bodies   map[string]int
	stop     chan struct{}
	all      sync.WaitGroup
}

func (w *world) load(clients int) *load {
	l := &load{statuses: map[int]int{}, bodies: map[string]int{}, stop: make(chan struct{})}
	for n := range clients {
		c := w.client
		if n%2 == 0 {
			c = w.http1()
		}
		l.all.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				a := do(c, w.request("POST", "/score", `{"data":[[1,2,3]]}`))
				l.mu.Lock()
				l.statuses[a.status]++
				if a.status != 200 {
					l.bodies[a.body]++
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

func (l *load) end() (map[int]int, map[string]int) {
	close(l.stop)
	l.all.Wait()
	return l.statuses, l.bodies
}

func (l *load) done() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, c := range l.statuses {
		n += c
	}
	return n
}

// TestRollingUpdate: instances are exchanged under load, and nothing fails.
func TestRollingUpdate(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Instances = 3 })
	slowly := func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		timer := time.NewTimer(5 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
		_, _ = io.WriteString(rw, "ok")
	}
	type running struct {
		router.Instance
		s interface{ Close() }
	}
	var fleet []running
	show := func(draining int) {
		var list []router.Instance
		for n, r := range fleet {
			r.Draining = n == draining
			list = append(list, r.Instance)
		}
		w.fleetOf("blue", list...)
	}
	next := 0
	start := func() {
		next++
		i, s := w.runs(fmt.Sprint("i", next), slowly)
		fleet = append(fleet, running{i, s})
	}
	for range 3 {
		start()
	}
	show(-1)
	l := w.load(12)
	for range 12 {
		start()
		show(-1)
		at := l.done()
		eventually(t, "requests went on", func() bool { return l.done() > at+30 })
		show(0)
		old := fleet[0]
		fleet = fleet[1:]
		eventually(t, "it has ended what it had begun, as a pod's preStop gives it time to", func() bool { return w.router.Busy("uid-blue") == 0 })
		old.s.Close()
		show(-1)
	}
	statuses, bodies := l.end()
	if len(statuses) != 1 || statuses[200] < 300 {
		t.Errorf("answers: %v %v", statuses, bodies)
	}
}

// TestInstanceKilled: requests that were with it fail, with the reason, and no
// others.
func TestInstanceKilled(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Instances = 3 })
	var with [3]atomic.Int64
	var fleet []router.Instance
	var kill func() int64
	for n := range 3 {
		i, s := w.runs(fmt.Sprint("i", n), func(rw http.ResponseWriter, r *http.Request) {
			with[n].Add(1)
			defer with[n].Add(-1)
			_, _ = io.Copy(io.Discard, r.Body)
			timer := time.NewTimer(5 * time.Millisecond)
			defer timer.Stop()
			<-timer.C
			_, _ = io.WriteString(rw, "ok")
		})
		fleet = append(fleet, i)
		if n == 0 {
			kill = func() int64 {
				_ = s.Listener.Close()
				s.CloseClientConnections()
				return 4
			}
		}
	}
	w.fleetOf("blue", fleet...)
	l := w.load(12)
	eventually(t, "there is load", func() bool { return l.done() > 100 })
	most := kill()
	at := l.done()
	eventually(t, "requests went on although nobody has said yet that it is dead", func() bool { return l.done() > at+200 })
	w.fleetOf("blue", fleet[1:]...)
	eventually(t, "and on", func() bool { return l.done() > at+300 })
	statuses, bodies := l.end()
	if failed := int64(statuses[502]); failed > most || len(statuses) > 2 || statuses[200] < 300 {
		t.Errorf("answers: %v %v, of which at most %d may have failed", statuses, bodies, most)
	}
	for text := range bodies {
		if !strings.HasPrefix(text, "model_gone: An instance of the deployment 'blue' ended") {
			t.Errorf("the reason: %q", text)
		}
	}
}

// TestLeastBusy: a slow instance gets few requests.

func TestLeastBusy(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) {
		ep.Deployments["blue"].Instances, ep.Deployments["blue"].Timeout = 2, time.Minute
	})
	until := func(n *atomic.Int64, free chan struct{}) http.HandlerFunc { // for the first two
		return func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if n.Add(1) > 2 {
				return
			}
			select {
			case <-free:
			case <-r.Context().Done():
			}
		}
	}
	var slow, fast atomic.Int64
	slowFree, fastFree := make(chan struct{}), make(chan struct{})
	a, _ := w.runs("slow", until(&slow, slowFree))
	b, _ := w.runs("fast", until(&fast, fastFree))
	w.fleetOf("blue", a, b)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { w.wants("one of four at once", w.score("{}"), 200, "") })
	}
	eventually(t, "each had two", func() bool { return slow.Load() == 2 && fast.Load() == 2 })
	close(fastFree)
	for range 100 {
		eventually(t, "one was free", func() bool { return w.router.BusyIn("uid-blue", "fast") == 0 })
		w.wants("while one is slow", w.score("{}"), 200, "")
	}
	close(slowFree)
	all.Wait()
	if slow.Load() != 2 || fast.Load() != 102 {
		t.Errorf("slow %d, fast %d, want 2 and 102", slow.Load(), fast.Load())
	}
}

func TestAzureLike(t *testing.T) {
	now := time.Now()
	w := newWorld(t, func(c *router.Config) { c.AzureLike, c.Now = true, func() time.Time { return now } })
	a, _ := w.runs("a", says("ok"))
	w.fleetOf("blue", a)
	for range 500 {
		if got := w.score("{}"); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	w.wants("more than 500 in a second", w.score("{}"), 429, "too_many_requests")
	now = now.Add(time.Second)
	w.wants("a second later", w.score("{}"), 200, "ok")
}

// TestRetry_WhatWasSentIsNotSentAgain: a model may have scored it, also of
// clients that promise that twice is as good as once.
func TestRetry_WhatWasSentIsNotSentAgain(t *testing.T) {
	for _, header := range []string{"", "Idempotency-Key", "X-Idempotency-Key"} {
		w := newWorld(t)
		var got atomic.Int64
		var broken atomic.Bool
		var saw atomic.Value
		i, _ := w.runs("abort", func(rw http.ResponseWriter, r *http.Request) {
			got.Add(1)
			saw.Store(r.Header.Get(header))
			if broken.Load() {
				panic(http.ErrAbortHandler)
			}
			_, _ = rw.Write([]byte("scored"))
		})
		w.fleetOf("blue", i)
		var headers []string
		if header != "" {
			headers = []string{header, "1"}
		}
		w.wants("the first", w.score("{}", headers...), 200, "scored")
		if header != "" && saw.Load() != "1" {
			t.Errorf("%s did not come: %v", header, saw.Load())
		}
		broken.Store(true)
		got.Store(0)
		w.wants("the second, on the same connection", w.score("{}", headers...), 502, "")
		if got.Load() != 1 {
			t.Errorf("%q: the model got it %d times", header, got.Load())
		}
	}
}

// gone is a connection that ends as it is written to: its reader has not seen it yet.
type gone struct {
	net.Conn
	ended *atomic.Bool
}

func (g gone) Write(p []byte) (int, error) {
	if g.ended.Load() {
		return 0, syscall.EPIPE
	}
	return g.Conn.Write(p)
}

// TestRetry_OnAConnectionThatHadEnded: an instance was killed, and a kept
// connection to it shows it only as a request is written; nothing of it was sent.
func TestRetry_OnAConnectionThatHadEnded(t *testing.T) {
	w := newWorld(t)
	var ended atomic.Bool
	w.mu.Lock()
	w.wrap = func(c net.Conn) net.Conn { return gone{c, &ended} }
	w.mu.Unlock()
	killed, s := w.runs("killed", says("killed"))
	w.fleetOf("blue", killed)
	w.wants("while it lives", w.score("{}"), 200, "killed")
	w.mu.Lock()
	w.wrap = nil
	w.mu.Unlock()
	good, _ := w.runs("good", says("good"))
	w.fleetOf("blue", killed, good)
	ended.Store(true)
	if err := s.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		w.wants("once it is killed", w.score("{}"), 200, "good")
	}
}
