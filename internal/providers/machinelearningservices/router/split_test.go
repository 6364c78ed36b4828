package router_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"lazurite.dev/internal/providers/machinelearningservices/router"
)

// TestSplit_IsExact: of 10^5 requests each deployment gets as many as its
// percentage says, and in any hundred in a row too.
func TestSplit_IsExact(t *testing.T) {
	ep := &router.Endpoint{
		Traffic:     map[string]int{"a": 90, "b": 9, "c": 1, "d": 0},
		Mirror:      map[string]int{"d": 30},
		Deployments: map[string]*router.Deployment{"a": {Name: "a", UID: "a"}, "b": {Name: "b", UID: "b"}, "c": {Name: "c", UID: "c"}, "d": {Name: "d", UID: "d"}},
	}
	next := router.Splitter(ep)
	total, hundred, copies := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range 100000 {
		d, mirror := next()
		total[d]++
		hundred[d]++
		if mirror != "" {
			copies[mirror+" of "+d]++
		}
		if i%100 == 99 {
			if hundred["a"] != 90 || hundred["b"] != 9 || hundred["c"] != 1 {
				t.Fatalf("the hundred up to %d: %v", i, hundred)
			}
			clear(hundred)
		}
	}
	if total["a"] != 90000 || total["b"] != 9000 || total["c"] != 1000 || len(total) != 3 {
		t.Errorf("the split: %v", total)
	}
	n := copies["d of a"] + copies["d of b"] + copies["d of c"]
	if n != 30000 || copies["d of b"] < 2500 || copies["d of b"] > 2900 || copies["d of c"] < 250 || copies["d of c"] > 350 {
		t.Errorf("copies: %v", copies)
	}
}

func TestSplit_ManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) { ep.Traffic = map[string]int{"blue": 70, "green": 30} })
	var blue, green atomic.Int64
	count := func(n *atomic.Int64) http.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) { n.Add(1) }
	}
	b, _ := w.runs("b", count(&blue))
	g, _ := w.runs("g", count(&green))
	w.fleetOf("blue", b)
	w.fleetOf("green", g)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				w.wants("a request", w.score("{}"), 200, "")
			}
		})
	}
	all.Wait()
	if blue.Load() != 280 || green.Load() != 120 {
		t.Errorf("blue %d, green %d", blue.Load(), green.Load())
	}
}

func TestMirror(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) { ep.Mirror = map[string]int{"green": 50} })
	b, _ := w.runs("b", says("blue"))
	var mu sync.Mutex
	var got []string
	g, _ := w.runs("g", func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-A")+" "+string(body)+" "+r.Header.Get("Authorization"))
		rw.WriteHeader(500)
	})
	w.fleetOf("blue", b)
	w.fleetOf("green", g)
	for range 100 {
		w.wants("a request that is copied", w.score("body", "X-A", "1"), 200, "blue")
	}
	copies := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	eventually(t, "fifty were copied", func() bool { return copies() == 50 && w.metric("laz_scoring_mirrored_total", "result=failed") == 50 })
	if got[0] != "POST /score 1 body " {
		t.Errorf("a copy: %q", got[0])
	}
	for range 10 {
		w.wants("by name", w.score("{}", "azureml-model-deployment", "blue"), 200, "blue")
		w.wants("by name", w.score("{}", "azureml-model-deployment", "green"), 424, "")
	}
	if n := copies(); n != 60 {
		t.Errorf("requests to a deployment by name are not copied: %d came, want 60", n)
	}
	for range 2 {
		r := w.request("POST", "/score", "")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("of unknown length")), -1
		w.wants("a body of unknown length", do(w.client, r), 200, "blue")
	}
	eventually(t, "it was copied", func() bool { return copies() == 61 })
	if got[60] != "POST /score  of unknown length " {
		t.Errorf("a copy: %q", got[60])
	}
	for range 4 {
		w.wants("a body too large to be copied", w.score(strings.Repeat("x", 2<<20)), 200, "blue")
	}
	if n := w.metric("laz_scoring_mirrored_total", "deployment=green", "result=too large"); n != 2 || copies() != 61 {
		t.Errorf("%v were not copied as too large, %d came", n, copies())
	}
}

// TestMirror_NeverSlowsOrFails: copies to a deployment that hangs, and to one
// that is not there.
func TestMirror_NeverSlowsOrFails(t *testing.T) {
	w := newWorld(t)
	w.change(func(ep *router.Endpoint) {
		ep.Mirror = map[string]int{"green": 100}
		ep.Deployments["green"].MaxConcurrent = 200
		ep.Deployments["green"].Timeout = 0
	})
	b, _ := w.runs("b", says("blue"))
	var hanging atomic.Int64
	g, _ := w.runs("g", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		hanging.Add(1)
		<-r.Context().Done()
	})
	w.fleetOf("blue", b)
	w.fleetOf("green", g)
	for range 100 {
		w.wants("a request", w.score("{}"), 200, "blue")
	}
	eventually(t, "64 copies hang", func() bool { return hanging.Load() == 64 })
	eventually(t, "the others were dropped", func() bool { return w.metric("laz_scoring_mirrored_total", "result=dropped") == 36 })
	w.fleetOf("green")
	w.wants("a request whose copy has nowhere to go", w.score("{}"), 200, "blue")
}
