package telemetry_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/apierr"
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

// All ways to what is collected have the same few turns, the management plane's too.
func TestTurns(t *testing.T) {
	st := &slow{asked: make(chan struct{}, 8), may: make(chan struct{})}
	w := newWorld(t, func(c *telemetry.Config) { st.Store, c.Store = c.Store, st })
	id, ask := rid.MustParse(componentID), insights.Ask{Query: "requests | count"}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = w.s.Query(t.Context(), id, ask)
			} else if r := w.do("reader", "GET", "/v1/apps/"+appID+"/events/requests", ""); r.status != 200 {
				t.Errorf("got %d %s", r.status, r.text)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 4 {
		<-st.asked
	}
	if _, err := w.s.Query(t.Context(), id, ask); apierr.From(err).Kind != apierr.TooManyRequests {
		t.Errorf("the management plane: %v", err)
	}
	for _, path := range []string{"/query?query=requests", "/events/requests", "/events/requests/x"} {
		if r := w.do("reader", "GET", "/v1/apps/"+appID+path, ""); r.status != 429 || !strings.Contains(r.text, "ThrottledError") {
			t.Errorf("%s: %d %s", path, r.status, r.text)
		}
	}
	close(st.may)
	all.Wait()
	if _, err := w.s.Query(t.Context(), id, ask); err != nil {
		t.Error(err)
	}
}
