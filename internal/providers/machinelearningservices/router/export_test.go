package router

import (
	"context"
	"net/http"
	"time"
)

// Splitter gives the deployment of one request after the other, and the one
// that gets a copy.
func Splitter(ep *Endpoint) func() (deployment, mirror string) {
	s := &split{}
	return func() (string, string) {
		now := s.of(ep)
		d := s.next(now)
		if c := s.copied(now, d); c != nil {
			return d.Name, c.Name
		}
		return d.Name, ""
	}
}

// Credential is credential.
func Credential(h http.Header) (string, bool) { return credential(h) }

// Passed is what of a header is passed on.
func Passed(in http.Header) http.Header {
	out := http.Header{}
	for name, values := range in {
		if kept(name) {
			out[name] = values
		}
	}
	without(out, in)
	return out
}

// Waiting is how many requests to a deployment wait in line.
func (r *Router) Waiting(uid string) int {
	p := r.pools.of(uid)
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.line)
}

// Busy is how many requests are with the instances of a deployment that end.
func (r *Router) Busy(uid string) int {
	p := r.pools.of(uid)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refresh()
	n := 0
	for _, i := range p.instances {
		if i.Draining {
			n += i.busy
		}
	}
	return n
}

// BusyIn is how many requests are with one instance of a deployment.
func (r *Router) BusyIn(uid, id string) int {
	p := r.pools.of(uid)
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, i := range p.instances {
		if i.ID == id {
			n += i.busy
		}
	}
	return n
}

// Forget is forget.
func (r *Router) Forget(now time.Time) { r.forget(context.Background(), now) }

// Occupy counts n more requests of an endpoint, and gives how many there are.
func (r *Router) Occupy(ep *Endpoint, n int64) int64 { return r.state(ep).active.Add(n) }

// Tidy drops what pools were not used until now.
func (r *Router) Tidy(now time.Time) { r.pools.tidy(now) }

// Pools is how many deployments there is a pool of.
func (r *Router) Pools() int {
	n := 0
	r.pools.all.Range(func(any, any) bool { n++; return true })
	return n
}

// LimitUploads is how long a body may take that comes while it is passed on.
func (r *Router) LimitUploads(most time.Duration) { r.upload = most }

// Spend takes of an endpoint's bandwidth.
func (r *Router) Spend(ep *Endpoint, bytes int) { r.state(ep).width.take(r.cfg.Now(), bytes) }
