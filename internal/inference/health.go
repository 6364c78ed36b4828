package inference

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// probeTime is how long a backend may take to list its models.
const probeTime = 5 * time.Second

// Run asks the backends for their models, as often as each one's configuration
// says, and looks for an Ollama, until ctx ends; it returns nil then.
func (c *Catalog) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, server := range c.servers() {
		g.Go(func() error {
			every(ctx, server[0].b.health, func() { probe(ctx, server) })
			return nil
		})
	}
	if c.ollama != nil {
		g.Go(func() error {
			every(ctx, ollamaInterval, func() { c.ollama.look(ctx) })
			return nil
		})
	}
	<-ctx.Done()
	return g.Wait()
}

// every calls f now and then after each d, until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

// place is a backend in its pool.
type place struct {
	p *pool
	b *backend
}

// servers are the backends that are to be asked for their health, those
// together that one question is enough for.
func (c *Catalog) servers() map[string][]place {
	out := map[string][]place{}
	for _, p := range c.pools() {
		for _, b := range p.backends {
			if b.health == 0 {
				continue
			}
			key := ""
			if b.key != nil {
				key = b.key.path
			}
			id := fmt.Sprintln(b.at(listModels), key, b.health, b.timeouts.Connect)
			out[id] = append(out[id], place{p, b})
		}
	}
	return out
}

// pools are the catalogue's pools, each once, in the models' order.
func (c *Catalog) pools() []*pool {
	var out []*pool
	seen := map[*pool]bool{}
	for _, e := range *c.models.Load() {
		if !seen[e.pool] {
			out = append(out, e.pool)
		}
		seen[e.pool] = true
	}
	return out
}

// probe asks one server for its models and tells all who have it.
func probe(ctx context.Context, at []place) {
	began := time.Now()
	err := at[0].b.ping(ctx)
	if ctx.Err() != nil {
		return
	}
	for _, at := range at {
		if errors.Is(err, errKey) { // its calls will say so if they are refused too
			at.p.note(at.b, err)
			continue
		}
		at.p.probed(at.b, err, time.Since(began))
	}
}

// ping reports whether somebody answers. A server without a list of models is one.
func (b *backend) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	r, err := b.request(ctx, http.MethodGet, listModels, nil)
	if err != nil {
		return err
	}
	resp, err := b.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<20) // so that the connection can be used again
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return errKey
	case resp.StatusCode >= 500:
		return problem(fmt.Sprintf("it answered HTTP %d when asked for its models", resp.StatusCode))
	default:
		return nil
	}
}
