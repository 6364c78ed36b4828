package router

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// split divides the requests to one endpoint. Its counters outlive changes of
// the traffic, so that a change never favours anybody.
type split struct {
	requests, mirrored atomic.Uint64

	mu  sync.Mutex // guards the making of now
	now atomic.Pointer[shares]
}

// shares are an endpoint's traffic, laid out. It is not changed once made.
type shares struct {
	from   *Endpoint
	turns  []*Deployment // one after the other; nil where there is no traffic
	mirror *Deployment   // nil: none
	copies []bool        // of as many requests one after the other, which are copied
}

// of lays out what an endpoint says, once for each thing that it says.
func (s *split) of(ep *Endpoint) *shares {
	if now := s.now.Load(); now != nil && now.from == ep {
		return now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := &shares{from: ep, turns: turns(ep)}
	for _, name := range slices.Sorted(maps.Keys(ep.Mirror)) {
		d, percent := ep.deployment(name), ep.Mirror[name]
		if d == nil || percent <= 0 {
			continue
		}
		now.mirror, now.copies = d, spread(min(percent, 100))
		break
	}
	s.now.Store(now)
	return now
}

// turns has each deployment as often as its percentage says, as evenly spread as
// can be: so any hundred requests are divided exactly, and few in a row go to one.
func turns(ep *Endpoint) []*Deployment {
	type part struct {
		d             *Deployment
		weight, owing int
	}
	var parts []part
	total := 0
	for _, name := range slices.Sorted(maps.Keys(ep.Traffic)) {
		if d, weight := ep.deployment(name), ep.Traffic[name]; d != nil && weight > 0 && weight <= 100 {
			parts = append(parts, part{d: d, weight: weight})
			total += weight
		}
	}
	out := make([]*Deployment, 0, total)
	for range total {
		next := 0
		for i := range parts {
			if parts[i].owing += parts[i].weight; parts[i].owing > parts[next].owing {
				next = i
			}
		}
		parts[next].owing -= total
		out = append(out, parts[next].d)
	}
	return out
}

// spread marks percent of a hundred, evenly.
func spread(percent int) []bool {
	out := make([]bool, 100)
	for i := range out {
		out[i] = (i+1)*percent/100 > i*percent/100
	}
	return out
}

// next is whose turn it is; nil where no deployment has traffic.
func (s *split) next(now *shares) *Deployment {
	if len(now.turns) == 0 {
		return nil
	}
	return now.turns[(s.requests.Add(1)-1)%uint64(len(now.turns))]
}

// copied is the deployment that gets a copy of a request which goes to d; nil
// where it is not this one's turn.
func (s *split) copied(now *shares, d *Deployment) *Deployment {
	if now.mirror == nil || now.mirror.UID == d.UID {
		return nil
	}
	n := s.mirrored.Add(1) - 1
	// Each hundred begins elsewhere, so that copies and turns do not keep step.
	if !now.copies[(n+n/100*7)%100] {
		return nil
	}
	return now.mirror
}

// deployment finds one by its name, in any letter case.
func (ep *Endpoint) deployment(name string) *Deployment {
	if d := ep.Deployments[name]; d != nil {
		return d
	}
	for n, d := range ep.Deployments {
		if strings.EqualFold(n, name) {
			return d
		}
	}
	return nil
}
