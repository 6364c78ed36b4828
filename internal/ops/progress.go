package ops

import (
	"context"
	"sync"
	"time"
)

// Progress is how far an operation has come.
type Progress struct {
	Percent int     `json:"percent"` // 0 to 100
	Phases  []Phase `json:"phases,omitempty"`
}

// Phase is a step of an operation.
type Phase struct {
	Name   string        `json:"name"`
	Detail string        `json:"detail,omitempty"`
	Done   bool          `json:"done,omitempty"`
	Took   time.Duration `json:"took,omitempty"` // nanoseconds, when done
	Err    string        `json:"error,omitempty"`
}

// maxPhases bounds what one operation tells.
const maxPhases = 250

type reportsKey struct{}

// reports is what a runner has told so far.
type reports struct {
	fresh chan struct{}

	mu  sync.Mutex // guards cur
	cur Progress
}

func newReports() *reports { return &reports{fresh: make(chan struct{}, 1)} }

func (r *reports) now() *Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cur.Phases) == 0 {
		return nil
	}
	p := r.cur
	p.Phases = append([]Phase(nil), p.Phases...)
	return &p
}

// Report tells how far the operation has come that ctx is the runner's context
// of: a phase that begins, or that is done. Elsewhere it does nothing. expected
// is how many phases there will be, as far as one knows.
func Report(ctx context.Context, p Phase, expected int) {
	r, ok := ctx.Value(reportsKey{}).(*reports)
	if !ok {
		return
	}
	r.mu.Lock()
	r.add(p)
	done := 0
	for _, one := range r.cur.Phases {
		if one.Done {
			done++
		}
	}
	r.cur.Percent = max(r.cur.Percent, min(done*100/max(expected, len(r.cur.Phases), 1), 99))
	r.mu.Unlock()
	select {
	case r.fresh <- struct{}{}:
	default: // what is there has not been looked at yet
	}
}

func (r *reports) add(p Phase) {
	for i := range r.cur.Phases {
		if r.cur.Phases[i].Name == p.Name {
			r.cur.Phases[i] = p
			return
		}
	}
	if len(r.cur.Phases) < maxPhases {
		r.cur.Phases = append(r.cur.Phases, p)
	}
}
