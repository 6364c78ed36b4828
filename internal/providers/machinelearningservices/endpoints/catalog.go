package endpoints

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/rid"
)

// cache keeps endpoints as the data plane wants them until something of them
// changes.
type cache struct {
	mu    sync.RWMutex // guards what follows
	round int64        // how often something was forgotten
	made  map[string]*router.Endpoint
}

func (c *cache) get(label string) (*router.Endpoint, int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.made[label], c.round
}

// put keeps an endpoint that was made of what there was in the round.
func (c *cache) put(label string, round int64, e *router.Endpoint) *router.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.made[label]; have != nil {
		return have
	}
	if c.made == nil {
		c.made = map[string]*router.Endpoint{}
	}
	if c.round == round {
		c.made[label] = e
	}
	return e
}

// forget drops the endpoints with a name, in any region.
func (c *cache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
	for label := range c.made {
		if n, _, _ := strings.Cut(label, "."); n == name {
			delete(c.made, label)
		}
	}
}

// nameIn is the name of the endpoint that a document's key is about.
func nameIn(key string) string {
	if rest, ok := strings.CutPrefix(key, claimPrefix); ok {
		return rest[strings.LastIndexByte(rest, '/')+1:]
	}
	const word = "/onlineendpoints/"
	_, rest, _ := strings.Cut(key, word)
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// Find implements router.Catalog.
func (s *Service) Find(ctx context.Context, host string) (*router.Endpoint, error) {
	label, ok := s.Label(host)
	if !ok {
		return nil, router.ErrNotFound
	}
	if err := s.fresh(); err != nil {
		return nil, err
	}
	e, round := s.cache.get(label)
	if e != nil {
		return e, nil
	}
	e, err := s.make(ctx, label)
	if err != nil {
		return nil, err
	}
	return s.cache.put(label, round, e), nil
}

func (s *Service) fresh() error {
	if err := s.names.Fresh(); err != nil {
		return fmt.Errorf("look for an endpoint: %w", err)
	}
	if err := s.docs.Fresh(); err != nil {
		return fmt.Errorf("look for an endpoint: %w", err)
	}
	return nil
}

// make reads an endpoint out of the mirrors.
func (s *Service) make(ctx context.Context, label string) (*router.Endpoint, error) {
	name, region, ok := strings.Cut(label, ".")
	if !ok {
		return nil, router.ErrNotFound
	}
	c, ok := s.names.Get(claimKey(region, name))
	if !ok || !c.Released.IsZero() {
		return nil, router.ErrNotFound
	}
	doc, ok := s.docs.Get(arm.ResourceKey(c.owner))
	if !ok || doc.Private[uidKey] != c.UID || doc.State() == "Deleting" {
		return nil, router.ErrNotFound
	}
	v, err := arm.View[Endpoint](doc)
	if err != nil {
		return nil, err
	}
	x, err := s.opened(ctx, c)
	if err != nil {
		return nil, err
	}
	p := &v.Properties
	e := &router.Endpoint{
		ID: v.ID, Workspace: v.ID.Parent(), Name: v.ID.Name(), Location: v.Location, Public: p.Public == "Enabled", AuthMode: p.AuthMode,
		Traffic: p.Traffic, Mirror: p.Mirror, Deployments: s.deployed(v.ID),
	}
	switch p.AuthMode {
	case router.AuthKey:
		e.Key = keyTest(x.Keys)
	case router.AuthAML:
		key, uid := x.Token, c.UID
		e.Token = func(_ context.Context, raw string) error { return verify(key, uid, raw, s.Now()) }
	}
	return e, nil
}

// deployed are an endpoint's deployments that were made.
func (s *Service) deployed(id rid.ID) map[string]*router.Deployment {
	prefix := arm.ResourceKey(id) + "/deployments/"
	out := map[string]*router.Deployment{}
	s.docs.Range(func(key string, e *arm.Envelope) bool {
		if !strings.HasPrefix(key, prefix) || e.State() == "Deleting" {
			return true
		}
		v, err := arm.View[Deployment](e)
		if err != nil {
			return true // as it was written by another version
		}
		if d := v.Properties.routed(v); d != nil {
			out[d.Name] = d
		}
		return true
	})
	return out
}

// Observed is a deployment whose requests and lines are recorded.
type Observed struct {
	Workspace            rid.ID
	Endpoint, Deployment string
	UID                  string // as compute.Deployment has it
}

// Observed are the deployments with appInsightsEnabled, out of memory.
func (s *Service) Observed() []Observed {
	var out []Observed
	s.docs.Range(func(_ string, e *arm.Envelope) bool {
		if on, _ := e.Properties["appInsightsEnabled"].(bool); !on || e.State() == "Deleting" || e.Private[uidKey] == "" {
			return true
		}
		if id := e.RID(); strings.EqualFold(id.Type(), DeploymentType) {
			out = append(out, Observed{Workspace: id.Parent().Parent(), Endpoint: id.Parent().Name(), Deployment: id.Name(), UID: endpointUID(e.Private[uidKey])})
		}
		return true
	})
	return out
}
