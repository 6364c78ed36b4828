package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/providers/insights/telemetry"
)

// fleet are pods that print what tests say.
type fleet struct {
	mu     sync.Mutex // guards the rest
	pods   map[string][]string
	out    map[string]chan string // by pod
	other  map[string]bool        // pods that are not asked
	asked  map[string][]time.Time // since
	wanted []telemetry.Collected
	looked int
	now    func() time.Time
}

func (f *fleet) list() []telemetry.Collected {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked++
	return f.wanted
}

func (f *fleet) Of(uid string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[uid]
}

func (f *fleet) Follow(ctx context.Context, _, pod string, since time.Time, line func(time.Time, string)) error {
	f.mu.Lock()
	f.asked[pod] = append(f.asked[pod], since)
	out, other := f.out[pod], f.other[pod]
	f.mu.Unlock()
	if other {
		return telemetry.ErrNotAsked
	}
	for {
		select {
		case s, ok := <-out:
			if !ok {
				return errors.New("its server ended")
			}
			line(f.now(), s)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fleet) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func newFleet(w *world) *fleet {
	return &fleet{
		pods: map[string][]string{"uid": {"pod-1"}}, out: map[string]chan string{"pod-1": make(chan string, 9), "pod-2": make(chan string, 9), "pod-3": make(chan string, 9)},
		other: map[string]bool{}, asked: map[string][]time.Time{}, now: w.tick,
	}
}

// tick is a moment later each time.
func (w *world) tick() time.Time {
	w.later(time.Millisecond)
	return w.clock()
}

func (w *world) collect(f *fleet) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.s.Collect(ctx, f.list, f) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

func (w *world) says(message string, n float64) bool {
	got := w.ask(fmt.Sprintf("traces | where message == %q | count", message))
	return got[0].([]any)[0] == n
}

func TestCollect(t *testing.T) {
	w := newWorld(t)
	f := newFleet(w)
	f.out["pod-1"] <- "before anybody asks"
	f.other["pod-2"] = true
	stop := w.collect(f)
	blue := telemetry.Collected{Source: source(), UID: "uid"}
	eventually(t, "it is looked what is wanted", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.looked > 1
	})
	f.change(func() {
		if len(f.asked) > 0 {
			t.Error("what nobody wants is followed")
		}
	})
	f.change(func() { f.wanted = []telemetry.Collected{blue}; f.pods["uid"] = []string{"pod-1", "pod-2"} })
	f.out["pod-1"] <- "hello"
	eventually(t, "the next line is recorded", func() bool { return w.says("hello", 1) })
	f.change(func() {
		if f.asked["pod-1"][0].IsZero() {
			t.Error("what a pod said before collecting was turned on is asked for")
		}
	})
	stop()
	f.out["pod-1"] <- "while nobody listened"
	w.collect(f) // as after a restart: it goes on where it was
	eventually(t, "what was said meanwhile is recorded", func() bool { return w.says("while nobody listened", 1) })
	f.change(func() {
		if since := f.asked["pod-1"]; since[len(since)-1].IsZero() {
			t.Error("after a restart all lines are asked for again")
		}
		f.wanted = nil
	})
	eventually(t, "it is turned off", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		select {
		case f.out["pod-1"] <- "after it was turned off":
		default: // nobody takes them any more
			return true
		}
		return false
	})
	if got := w.ask(`traces | where customDimensions.deployment == "blue" and cloud_RoleInstance == "pod-2" | count`)[0].([]any)[0]; got != 0.0 {
		t.Errorf("%v lines of a pod that was not asked", got)
	}
}

// A pod whose server ends is followed again, and not once it is gone.
func TestCollect_Again(t *testing.T) {
	w := newWorld(t)
	f := newFleet(w)
	f.wanted = []telemetry.Collected{{Source: source(), UID: "uid"}}
	f.out["pod-1"] <- "first"
	close(f.out["pod-1"])
	w.collect(f)
	eventually(t, "the line is recorded", func() bool { return w.says("first", 1) })
	f.change(func() { f.out["pod-1"] = make(chan string, 1); f.out["pod-1"] <- "again" })
	eventually(t, "it is followed again", func() bool { return w.says("again", 1) })
	f.change(func() {
		if len(f.asked["pod-1"]) < 2 || f.asked["pod-1"][1].IsZero() {
			t.Errorf("asked since %v", f.asked["pod-1"])
		}
		close(f.out["pod-1"])
		f.pods["uid"] = []string{"pod-3"}
		f.out["pod-3"] <- "of another"
	})
	eventually(t, "the next pod is followed", func() bool { return w.says("of another", 1) })
}
