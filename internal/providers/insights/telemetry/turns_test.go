package telemetry_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/kql"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/providers/insights/telemetry"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// slow is a store whose records come when they may.
type slow struct {
	store.Store
	asked chan struct{}
	may   chan struct{} // closed
}

func (s *slow) List(ctx context.Context, q store.Query) ([]store.Doc, error) {
	if strings.HasPrefix(q.Prefix, "telemetry/records/0a") {
		s.asked <- struct{}{}
		<-s.may
	}
	return s.Store.List(ctx, q)
}

const (
	component2 = group + "Microsoft.Insights/components/app2"
	component3 = group + "Microsoft.Insights/components/app3"
)

// All ways to what is collected have the same few turns, the management plane's
// too, and no component has them all.
func TestTurns(t *testing.T) {
	st := &slow{asked: make(chan struct{}, 8), may: make(chan struct{})}
	w := newWorld(t, func(c *telemetry.Config) { st.Store, c.Store = c.Store, st })
	w.resource(component2, map[string]any{"AppId": appID[:35] + "2"})
	w.resource(component3, map[string]any{"AppId": appID[:35] + "3"})
	ask := insights.Ask{Query: "requests | count"}
	var all sync.WaitGroup
	run := func(f func() error) {
		t.Helper()
		all.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
		<-st.asked
	}
	manage := func(id string) error { _, err := w.s.Query(t.Context(), rid.MustParse(id), ask); return err }
	busy := func(what string) {
		t.Helper()
		if err := manage(componentID); apierr.From(err).Kind != apierr.TooManyRequests || !strings.Contains(err.Error(), what) {
			t.Errorf("the management plane: %v", err)
		}
		for _, path := range []string{"/query?query=requests", "/events/requests", "/events/requests/x"} {
			if r := w.do("reader", "GET", "/v1/apps/"+appID+path, ""); r.status != 429 || !strings.Contains(r.text, "ThrottledError") || !strings.Contains(r.text, what) {
				t.Errorf("%s: %d %s", path, r.status, r.text)
			}
		}
	}
	run(func() error { return manage(componentID) })
	run(func() error {
		if r := w.do("reader", "GET", "/v1/apps/"+appID+"/events/requests", ""); r.status != 200 {
			return errors.New(r.text)
		}
		return nil
	})
	busy("2 queries of this component")
	run(func() error { return manage(component2) })
	run(func() error { return manage(component2) })
	if err := manage(component3); apierr.From(err).Kind != apierr.TooManyRequests || !strings.Contains(err.Error(), "4 queries") {
		t.Errorf("a third component: %v", err)
	}
	close(st.may)
	all.Wait()
	if err := manage(componentID); err != nil {
		t.Error(err)
	}
}

// A query whose time is over says so.
func TestTurns_Time(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := w.s.Query(ctx, rid.MustParse(componentID), insights.Ask{Query: "requests"})
	if e := apierr.From(err); e.Kind != apierr.BadRequest || e.Inner != kql.LimitError || !strings.Contains(e.Message, "30s") {
		t.Errorf("got %v", err)
	}
}

// reading is a client that reads its answer when it may.
type reading struct {
	*httptest.ResponseRecorder
	begun, may chan struct{}
}

func (r *reading) Write(b []byte) (int, error) {
	close(r.begun)
	<-r.may
	return r.ResponseRecorder.Write(b)
}

// Who reads slowly has its own component's turn, and nobody else's.
func TestTurns_SlowReader(t *testing.T) {
	w := newWorld(t)
	w.resource(component2, map[string]any{"AppId": appID[:35] + "2"})
	var all sync.WaitGroup
	may := make(chan struct{})
	for range 2 {
		out := &reading{httptest.NewRecorder(), make(chan struct{}), may}
		all.Go(func() {
			w.plane.ServeHTTP(out, w.request("reader", "GET", "/v1/apps/"+appID+"/query?query=requests", ""))
		})
		<-out.begun
	}
	if r := w.do("reader", "GET", "/v1/apps/"+appID+"/query?query=requests", ""); r.status != 429 {
		t.Errorf("a third query of the component: %d %s", r.status, r.text)
	}
	for range 5 {
		if _, err := w.s.Query(t.Context(), rid.MustParse(component2), insights.Ask{Query: "requests"}); err != nil {
			t.Error(err)
		}
	}
	close(may)
	all.Wait()
	w.ask("requests")
}
