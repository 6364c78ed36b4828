package telemetry

import (
	"strings"
	"sync"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/store"
)

// index finds components by their application ids.
type index struct {
	mu    sync.RWMutex // guards what follows
	byApp map[string]component
	byKey map[string]string // application ids, by the component's key
}

// follow fills the index, and has it follow docs.
func (x *index) follow(docs *store.Mirror[*arm.Envelope]) {
	x.byApp, x.byKey = map[string]component{}, map[string]string{}
	docs.OnChange(func(c store.Change) {
		e, ok := docs.Get(c.Doc.Key)
		x.mu.Lock()
		defer x.mu.Unlock()
		x.set(c.Doc.Key, e, ok)
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	docs.Range(func(key string, e *arm.Envelope) bool {
		x.set(key, e, true)
		return true
	})
}

// set is what is at a key now. mu is held.
func (x *index) set(key string, e *arm.Envelope, there bool) {
	if app, ok := x.byKey[key]; ok {
		delete(x.byKey, key)
		delete(x.byApp, app)
	}
	if !there || !strings.EqualFold(e.Type, componentType) {
		return
	}
	if c, ok := componentOf(e); ok {
		x.byKey[key], x.byApp[c.App] = c.App, c
	}
}

func (x *index) get(app string) (component, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	c, ok := x.byApp[strings.ToLower(app)]
	return c, ok
}
