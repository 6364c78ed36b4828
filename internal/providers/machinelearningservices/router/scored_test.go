package router_test

import (
	"net/http"
	"reflect"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/rid"
)

// Each request to a deployment that wants it is told of once, with the id of its
// answer and without anything secret; of others nothing is.
func TestScored(t *testing.T) {
	var mu sync.Mutex
	var told []router.Scored
	w := newWorld(t, func(c *router.Config) {
		c.Scored = func(s router.Scored) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, s)
		}
	})
	i, _ := w.runs("a", says("ok"))
	w.fleetOf("blue", i)
	took := func() []router.Scored {
		mu.Lock()
		defer mu.Unlock()
		list := told
		told = nil
		return list
	}
	w.wants("a deployment that is not observed", w.score("{}"), 200, "ok")
	if got := took(); len(got) != 0 {
		t.Errorf("appInsightsEnabled is false, and there is %+v", got)
	}
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Insights = true })
	got := do(w.client, w.request("POST", "/score?secret=x", "{}"))
	w.wants("one that is", got, 200, "ok")
	list := took()
	if len(list) != 1 {
		t.Fatalf("told of %d requests, want 1", len(list))
	}
	s := list[0]
	if s.Duration <= 0 || s.Duration > time.Minute || time.Since(s.Time) > time.Minute {
		t.Errorf("at %v for %v", s.Time, s.Duration)
	}
	id := s.Workspace.String()
	s.Workspace = rid.ID{}
	want := router.Scored{Endpoint: "ep", Deployment: "blue", Instance: "a", RequestID: got.header.Get("X-Request-Id"), Time: s.Time, Duration: s.Duration,
		Method: http.MethodPost, Host: host, Path: "/score", Status: 200, ModelStatus: 200}
	if !reflect.DeepEqual(s, want) || id != workspace || s.RequestID == "" {
		t.Errorf("told %+v\nwant %+v", s, want)
	}
	bad, _ := w.runs("b", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) })
	w.fleetOf("blue", bad)
	w.wants("a model that fails", w.score("{}"), 424, "")
	if list = took(); len(list) != 1 || list[0].Status != 424 || list[0].ModelStatus != http.StatusTeapot {
		t.Errorf("of a model that fails: %+v", list)
	}
	w.fleetOf("blue")
	w.wants("no instance", w.score("{}"), 424, "no instance")
	if list = took(); len(list) != 1 || list[0].Status != 424 || list[0].Instance != "" {
		t.Errorf("without an instance: %+v", list)
	}
	w.wants("no key", w.score("{}", "Authorization", "Bearer nope"), 401, "")
	if list = took(); len(list) != 0 {
		t.Errorf("a refused credential is no scored request: %+v", list)
	}
}
