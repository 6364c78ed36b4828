package trace_test

import (
	"fmt"
	"testing"

	"lazurite.dev/internal/trace"
)

func TestRecent_KeepsTheLast(t *testing.T) {
	r := trace.NewRecent(3)
	made := 0
	for i := range 5 {
		_, log := trace.With(t.Context())
		log.AddLate(func() trace.Hop { made++; return trace.Hop{Step: fmt.Sprint(i)} })
		r.Keep(trace.Trace{ID: fmt.Sprintf("request-%d", i), Correlation: "shared", Principal: fmt.Sprint(i % 2)}, log)
	}
	all := func(trace.Trace) bool { return true }
	if _, ok := r.Find("request-1", all); ok {
		t.Error("what is older than the last three is there")
	}
	if got, ok := r.Find("REQUEST-", all); !ok || got.ID != "request-4" || !got.Answered || len(got.Hops) != 1 || got.Hops[0].Step != "4" {
		t.Errorf("%+v", got)
	}
	if got, ok := r.Find("shared", func(t trace.Trace) bool { return t.Principal == "1" }); !ok || got.ID != "request-3" {
		t.Errorf("%+v", got)
	}
	if _, ok := r.Find("req", all); ok {
		t.Error("three characters are enough")
	}
	if made != 2 {
		t.Errorf("%d hops were made", made)
	}
	var none *trace.Recent
	none.Keep(trace.Trace{}, nil)
	if _, ok := none.Find("request-4", all); ok {
		t.Error("nothing keeps something")
	}
}
